"""Baselines: fitted in one line, asked like a predictor, and hard enough to beat."""

import logging
import sys
import warnings
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, cast

import openai
import pytest
import respx

from evaluate_helpers import evaluated, things
from finetune_pricer import ChatFormatter, Ensemble, Evaluation, Evaluator, Item, ItemDataset
from finetune_pricer.errors import (
    DataError,
    EvaluationError,
    InvalidItem,
    MissingExtra,
    NotAnItem,
    WrongArgument,
)
from finetune_pricer.evaluate import (
    FITTED,
    Baseline,
    CategoryMedianBaseline,
    MedianBaseline,
    NeighborsBaseline,
    NetworkBaseline,
    RidgeBaseline,
    fit_baselines,
    prompting_baselines,
)
from finetune_pricer.evaluate.baselines import warn_of_end
from finetune_pricer.evaluate.report.verdict import reach_verdict
from finetune_pricer.providers import PROVIDERS


def always(price: float, _: Item) -> float:
    return price


TRAIN, TEST = things(400), things(100, seed=1, start=1000)


@pytest.mark.parametrize("kind", FITTED)
def test_a_baseline_is_asked_like_a_predictor(kind: type[Baseline]) -> None:
    baseline = kind.fit(TRAIN)
    many = baseline.predict_many([*TEST[:3], "A desk of size giant"])
    assert [one.item_id for one in many][:3] == [item.id for item in TEST[:3]]
    assert baseline(TEST[0]) == baseline.predict(TEST[0]).price == many[0].price
    assert many[3].price is not None
    assert len(baseline.predict_many([])) == 0


@pytest.mark.parametrize("kind", [MedianBaseline, NeighborsBaseline])
def test_a_calibrated_baseline_gives_ranges_and_leaves_the_first_as_it_was(kind: type[Baseline]) -> None:
    baseline = kind.fit(TRAIN)
    known, new = things(200, seed=2, start=2_000), things(400, seed=3, start=3_000)
    ranged = baseline.calibrate(known, coverage=0.8)
    found = Evaluator(rounds=100).evaluate(ranged, new)
    assert found.coverage is not None
    assert 0.7 < found.coverage.value < 0.9
    assert baseline.predict(TEST[0]).low is None
    assert baseline.predict(TEST[0]).price == ranged.predict(TEST[0]).price
    with pytest.raises(InvalidItem, match="row 2"):
        baseline.calibrate([TEST[0], Item(title="a mug"), *TEST[1:20]])
    with pytest.raises(DataError, match="coverage"):
        baseline.calibrate(known, coverage=1.5)


def test_items_in_another_currency_are_neither_priced_nor_calibrated_on() -> None:
    dollars, euros = (ItemDataset.from_items(TRAIN, currency=code) for code in ("USD", "EUR"))
    baseline = MedianBaseline.fit(dollars)
    known: list[Any] = [baseline, Ensemble([baseline]).fit(things(20, seed=2, start=2_000))]
    for pricer in known:
        for ask in (pricer.predict_many, pricer.calibrate):
            with pytest.raises(DataError, match="items are in EUR and those of the pricer in USD"):
                ask(euros)
    with pytest.raises(WrongArgument, match="items must be items, not 5"):
        baseline.calibrate(cast("Any", 5))
    with pytest.raises(NotAnItem, match="row 1"):
        baseline.calibrate(cast("Any", ["a mug"] * 20))


def test_an_evaluation_shows_what_ranges_held_beside_what_could_be_expected(tmp_path: Path) -> None:
    known, new = things(60, seed=2, start=2_000), things(300, seed=3, start=3_000)
    rare = [replace(item, category="rare") for item in known[:4]]
    ranged = MedianBaseline.fit(TRAIN).calibrate([*rare, *known[4:]], by="category")
    found = Evaluator(rounds=100).evaluate(ranged, [*new, replace(new[0], id="odd", category="unseen")])
    *groups, unseen = found.range_groups
    assert ranged.ranges is not None
    assert [group.name for group in groups] == [group.name for group in ranged.ranges.groups]
    assert any("'rare' and" in group.name for group in groups)
    assert sum(group.n for group in groups) == 300
    assert (unseen.name, unseen.n, unseen.promised) == ("others", 1, None)
    report = found.to_markdown()
    assert "| held | of items | promised | expected | calibration items |" in report
    assert f"| {groups[0].share:.1%} | {groups[0].n} | 90% |" in report
    found.save(tmp_path / "found.json")
    assert Evaluation.load(tmp_path / "found.json").range_groups == found.range_groups
    found.to_html(tmp_path / "found.html")
    assert "What price ranges held" in (tmp_path / "found.html").read_text()
    dearer = [replace(item, price=20 * (item.price or 0)) for item in new]
    assert "fewer than by chance" in Evaluator(rounds=100).evaluate(ranged, dearer).to_markdown()


def test_what_reads_the_text_beats_what_does_not() -> None:
    maes = [
        Evaluator(rounds=100).evaluate(kind.fit(TRAIN), TEST).mae.value
        for kind in (MedianBaseline, CategoryMedianBaseline, NeighborsBaseline, RidgeBaseline)
    ]
    assert maes[1] < maes[0]
    assert max(maes[2:]) < 0.6 * min(maes[:2])


def test_a_category_never_seen_gets_the_median_of_all() -> None:
    baseline = CategoryMedianBaseline.fit(TRAIN)
    assert baseline(Item(title="x", category="new")) == MedianBaseline.fit(TRAIN).price


def test_neighbours_of_a_known_text_are_the_items_with_that_text() -> None:
    train = ItemDataset.from_items(
        [Item(title="red mug", price=8.0)] * 10 + [Item(title="oak desk", price=200.0)] * 10
    )
    assert NeighborsBaseline.fit(train)("red mug") == pytest.approx(8.0)


def test_a_few_training_items_are_enough() -> None:
    for baseline in fit_baselines(things(2)):
        assert baseline("A mug") > 0


@pytest.mark.parametrize("kind", FITTED)
def test_items_without_prices_teach_nothing(kind: type[Baseline]) -> None:
    with pytest.raises(EvaluationError, match="have no prices"):
        kind.fit(ItemDataset.from_items([Item(title="a")]))


def test_all_of_them_stand_beside_every_model_on_the_same_items() -> None:
    evaluator = Evaluator(baselines=TRAIN, rounds=100)
    first, second = (evaluator.evaluate(partial(always, price), TEST) for price in (10.0, 20.0))
    assert [one.name for one in first.baselines] == [kind.name for kind in FITTED]
    assert first.baselines is second.baselines  # asked once for the same items
    assert {one.manifest["items hash"] for one in (first, *first.baselines)} == {first.manifest["items hash"]}


def test_without_scikit_learn_the_others_remain_and_the_log_warns_of_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with caplog.at_level(logging.WARNING, "finetune_pricer"):
        assert [baseline.name for baseline in fit_baselines(TRAIN)] == [
            kind.name for kind in (MedianBaseline, CategoryMedianBaseline, NeighborsBaseline, NetworkBaseline)
        ]
    (record,) = caplog.records
    assert record.getMessage().startswith("not compared: ridge on words; they cost nothing")
    assert "finetune-pricer[evaluate]" in record.getMessage()
    with pytest.raises(MissingExtra):
        RidgeBaseline.fit(TRAIN)


def test_a_free_method_that_is_not_installed_is_named_in_the_manifest_and_the_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    everything = Evaluator(baselines=TRAIN, rounds=50).evaluate(partial(always, 10.0), TEST)
    assert everything.left_out == {}
    assert "not compared" not in everything.to_markdown()
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    found = Evaluator(baselines=TRAIN, rounds=50).evaluate(partial(always, 10.0), TEST)
    assert [*found.left_out] == ["ridge on words"]
    assert "pip install 'finetune-pricer[evaluate]'" in found.manifest["left out: ridge on words"]
    said = "Left out, and so not compared: ridge on words; the last table says why."
    assert reach_verdict(found).evidence[-1] == said
    assert said in found.to_markdown()


def test_without_scipy_the_medians_remain(monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("scipy", "scipy.sparse", "sklearn.linear_model"):
        monkeypatch.setitem(sys.modules, part, None)
    monkeypatch.delitem(sys.modules, "finetune_pricer._methods.features", raising=False)
    assert [baseline.name for baseline in fit_baselines(TRAIN)] == [
        kind.name for kind in (MedianBaseline, CategoryMedianBaseline)
    ]
    with pytest.raises(MissingExtra, match=r"needs scipy.*finetune-pricer\[evaluate\]"):
        NetworkBaseline.fit(TRAIN)


def test_the_untuned_model_is_asked_with_and_without_solved_examples(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    route = service.post("/chat/completions").respond(
        json={"choices": [{"message": {"content": "$12"}}], "usage": {"prompt_tokens": 9}}
    )
    beside = prompting_baselines(client, "base-1", TRAIN, shots=5)
    evaluator = Evaluator(beside=beside, rounds=50)
    found = evaluator.evaluate(lambda _: 10.0, TEST[:4])
    evaluator.evaluate(lambda _: 11.0, TEST[:4])
    assert [one.name for one in found.baselines] == [
        "base-1, not tuned, zero-shot",
        "base-1, not tuned, 5 solved examples",
    ]
    assert route.call_count == 8  # once per item and baseline, however many models stand beside them
    assert found.baselines[1].manifest["solved examples in the prompt"] == "5"
    shots = beside[1].formatter.shots
    quarters = sorted(shot.price or 0 for shot in shots)
    assert quarters[-1] > 200
    assert quarters[0] < 25  # cheap and dear ones, not five of a kind
    assert beside[1].formatter == prompting_baselines(client, "base-1", TRAIN, shots=5)[1].formatter


def test_the_solved_examples_are_chosen_by_the_seed_and_written_by_the_formatter(
    client: openai.OpenAI,
) -> None:
    formatter = ChatFormatter("How dear is it?")
    plain, solved = prompting_baselines(client, "base-1", TRAIN, formatter=formatter, seed=1)
    assert plain.formatter == formatter
    assert solved.formatter.instruction == formatter.instruction
    assert len(solved.formatter.shots) == 8
    _, other = prompting_baselines(client, "base-1", TRAIN, formatter=formatter, seed=2)
    assert other.formatter.shots != solved.formatter.shots


def test_too_few_items_for_the_solved_examples_are_refused(client: openai.OpenAI) -> None:
    with pytest.raises(EvaluationError, match="8 solved examples out of 3"):
        prompting_baselines(client, "base-1", TRAIN[:3])


def test_a_baseline_that_gives_no_price_does_not_cost_the_evaluation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def silent(_: Item) -> None:
        return None

    found = Evaluator(beside=[silent], rounds=50).evaluate(lambda _: 10.0, TEST[:5])
    assert found.n == 5
    assert found.baselines == ()
    assert "not one of 5" in found.manifest["left out: silent"]
    assert "error.predictions" not in found.manifest["left out: silent"]  # there is no error to look into
    assert "silent" in caplog.text
    assert evaluated([1.0]).baselines == ()


@pytest.mark.parametrize(
    ("model", "today", "warned"),
    [
        ("gpt-5-mini", date(2026, 9, 11), False),
        ("gpt-5-mini", date(2026, 9, 12), True),
        ("gpt-5-mini-2025-08-07", date(2027, 1, 1), True),
        ("gpt-5.1", date(2027, 3, 1), True),
        ("gpt-5.2", date(2027, 3, 1), False),
    ],
)
def test_an_untuned_model_that_soon_stops_answering_is_warned_of(
    model: str, today: date, warned: bool
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_end(PROVIDERS["openai"], model, today)
    assert [("stops answering at 'openai' on" in str(each.message)) for each in caught] == [True] * warned
