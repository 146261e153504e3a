"""Evaluations: bad input, parts, weights, ranges, cost, and files."""

import json
from importlib import import_module
from inspect import isfunction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluate_helpers import evaluated, things
from finetune_pricer import Evaluation, Evaluator, Item, Prediction
from finetune_pricer.errors import EvaluationError, FileAccessError, InvalidItem
from finetune_pricer.evaluate.metrics import r2
from finetune_pricer.predict import Usage


def test_whatever_a_function_gives_is_scored_or_counted_with_its_reason() -> None:
    given: list[Any] = [
        np.float32(7),
        np.array(8.0),
        "about $9.50",
        None,
        "no idea",
        True,
        np.True_,
        object(),
    ]
    given += [float("inf"), float("nan"), -3, 10**400]
    items = [Item(id=str(at), title=f"thing {at}", price=10.0) for at in range(len(given))]
    found = Evaluator(workers=1).evaluate(lambda item: given[int(item.id)], items)
    assert [record.price for record in found.records if record.price is not None] == [7.0, 8.0, 9.5, -3.0]
    assert found.unscored == 8
    assert sum(found.unscored_reasons.values()) == 8
    assert any("true or false" in reason for reason in found.unscored_reasons)
    assert found.negative == 1
    assert "67% of the items are unscored" in str(found)
    assert "1 below $0" in str(found)


def test_predictions_made_elsewhere_are_taken_as_leniently_as_a_functions() -> None:
    items = [Item(id=str(at), title="thing", price=10.0) for at in range(3)]
    found = Evaluator().score(items, [object(), 9.0, "$8"])  # type: ignore[list-item]
    assert [record.price for record in found.records] == [None, 9.0, 8.0]


@pytest.mark.filterwarnings("error")
def test_amounts_that_nobody_can_compute_with_are_unscored_or_refused_and_named() -> None:
    items = [Item(id=str(at), title=f"thing {at}", price=10.0 + at) for at in range(5)]
    found = Evaluator(rounds=50).score(items, [1e308, -1e200, 1e99, 11.0, 12.0])
    assert found.unscored_reasons == {"no amount of money: 1e+308": 1, "no amount of money: -1e+200": 1}
    assert all(np.isfinite(metric.value) for metric in found.metrics.values())
    dear = [*items, Item(title="dear", price=1e308)]
    with pytest.raises(EvaluationError, match=r"truth has 1e\+308 at position 5"):
        Evaluator(rounds=50).score(dear, [1.0] * 6)


def test_r2_sees_differences_of_a_dollar_between_prices_of_a_billion() -> None:
    from sklearn.metrics import r2_score

    truth = 1e9 + np.arange(20)
    guesses = truth + np.where(np.arange(20) % 2, 0.2, -0.2)
    assert float(r2(truth, guesses)) == pytest.approx(r2_score(truth, guesses), abs=1e-9)
    assert np.isnan(r2([0.1] * 10, [0.2] * 10))
    assert np.isnan(r2([1.0, 1000.0, 3.0], [1.0, 2.0, 3.0], np.array([[0.0, 7.0, 0.0]]))).all()


def test_one_item_has_a_value_and_no_interval() -> None:
    found = evaluated([5.0])
    assert found.mae.value == 5.0
    assert np.isnan(found.mae.low)
    assert "unknown" in str(found)
    assert np.isnan(found.r2.value)


def test_nothing_is_refused() -> None:
    with pytest.raises(EvaluationError, match="no items"):
        Evaluator().evaluate(lambda _: 1.0, [])
    with pytest.raises(EvaluationError, match="not one of 1 items could be scored"):
        Evaluator().evaluate(lambda _: None, [Item(title="a", price=1.0)])
    with pytest.raises(InvalidItem, match="row 2"):
        Evaluator().evaluate(lambda _: 1.0, [Item(title="a", price=1.0), Item(title="b")])
    with pytest.raises(EvaluationError, match="size must be at least 1"):
        Evaluator(size=0).evaluate(lambda _: 1.0, [Item(title="a", price=1.0)])


def test_prices_of_zero_and_equal_prices_are_evaluated() -> None:
    found = evaluated([1.0, -2.0, 3.0], truth=0.0)
    assert found.mae.value == 2.0
    assert np.isnan(found.mape.value)
    assert [part.label for part in found.by_price_band()] == ["$0 and above"]


def test_parts_add_up_to_the_whole() -> None:
    items = things(300)
    found = Evaluator(rounds=100).evaluate(lambda item: 1.1 * (item.price or 0), items)
    for parts in (found.by_category(), found.by_price_band(), found.by_price_band([50.0, 100.0])):
        assert sum(part.n for part in parts) == 300
        total = sum(part.n * part.mae.value for part in parts if part.mae is not None)
        assert total / 300 == pytest.approx(found.mae.value)
    bands = found.by_price_band([50.0, 100.0])
    assert [part.label for part in bands] == ["below $50", "$50 to $100", "$100 and above"]
    assert [part.median_ape.value for part in bands if part.median_ape] == pytest.approx([0.1] * 3)
    assert {part.label for part in found.by_category()} == {"home", "other"}


def test_the_worst_misses_come_first() -> None:
    found = evaluated([1.0, -900.0, 30.0, 2.0])
    assert [record.item_id for record in found.worst(2)] == ["item-1", "item-2"]


def test_weights_count_items_more_and_say_so() -> None:
    items = [Item(id=str(at), title="thing", price=10.0) for at in range(2)]
    found = Evaluator().score(items, [11.0, 14.0], weights=[3.0, 1.0])
    assert found.mae.value == pytest.approx((3 * 1 + 4) / 4)
    assert ", weighted" in str(found)
    with pytest.raises(EvaluationError, match="2 items but 1 weights"):
        Evaluator().score(items, [11.0, 14.0], weights=[3.0])
    with pytest.raises(EvaluationError, match="row 2: a weight must be finite"):
        Evaluator().score(items, [11.0, 14.0], weights=[3.0, float("nan")])
    with pytest.raises(EvaluationError, match="weight above 0"):
        Evaluator().score(items, [11.0, 14.0], weights=[0.0, 0.0])


def test_price_ranges_have_a_coverage_and_a_width() -> None:
    items = [Item(id=str(at), title="thing", price=10.0) for at in range(4)]
    ranges = [(8.0, 12.0), (9.0, 10.0), (11.0, 15.0), (0.0, 9.0)]
    given = [
        Prediction(item_id=item.id, price=10.0, low=low, high=high)
        for item, (low, high) in zip(items, ranges, strict=True)
    ]
    found = Evaluator().score(items, given)
    assert found.coverage is not None
    assert found.width is not None
    assert (found.coverage.value, found.width.value) == (0.5, 4.5)
    assert Evaluator().score(items, [1.0] * 4).coverage is None


def test_an_unbounded_range_covers_and_has_no_mean_width(tmp_path: Path) -> None:
    item = Item(id="a", title="thing", price=10.0)
    given = Prediction(item_id="a", price=9.0, low=0.0, high=float("inf"))
    found = Evaluator().score([item], [given])
    assert found.coverage is not None
    assert found.coverage.value == 1.0
    assert found.width is None
    found.save(tmp_path / "kept.json")
    assert Evaluation.load(tmp_path / "kept.json").records == found.records


def test_tokens_dollars_and_seconds_are_counted_or_unknown() -> None:
    item = Item(id="a", title="thing", price=10.0)

    def asked(item: Item) -> Prediction:
        return Prediction(item_id=item.id, price=9.0, usage=Usage(prompt_tokens=1_000, completion_tokens=100))

    found = Evaluator(dollars_per_million=(2.0, 10.0)).evaluate(asked, [item])
    assert (found.prompt_tokens, found.completion_tokens) == (1_000, 100)
    assert found.dollars == pytest.approx(0.003)
    assert found.seconds is not None
    unknown = Evaluator(dollars_per_million=(2.0, 10.0)).evaluate(lambda _: 9.0, [item])
    assert (unknown.prompt_tokens, unknown.dollars) == (None, None)
    assert Evaluator().evaluate(asked, [item]).dollars is None


def test_a_sample_is_seeded_and_says_so() -> None:
    items = things(100)
    found = Evaluator(size=10, seed=5).evaluate(lambda _: 1.0, items)
    again = Evaluator(size=10, seed=5).evaluate(lambda _: 1.0, items)
    other = Evaluator(size=10, seed=6).evaluate(lambda _: 1.0, items)
    assert found.sample == "10 of 100 items, seed 5"
    assert found.records == again.records != other.records
    assert found.mae == again.mae


def test_an_evaluation_comes_back_from_its_file(tmp_path: Path) -> None:
    train, test = things(100), things(30, seed=1, start=200)
    found = Evaluator(baselines=train, rounds=100).evaluate(lambda item: len(item.text) * 2.0, test)
    found.save(tmp_path / "new" / "kept.json")
    assert Evaluation.load(tmp_path / "new" / "kept.json") == found


def test_a_file_that_is_no_evaluation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    evaluated([1.0, 2.0]).save(path)
    content = json.loads(path.read_text())
    for text, said in [
        ("{", "not a saved evaluation"),
        ("[]", "not a saved evaluation"),
        (json.dumps(content | {"format": 2}), "has format 2"),
        (json.dumps(content | {"evaluation": {}}), "damaged"),
        (json.dumps(content | {"evaluation": content["evaluation"] | {"new": 1}}), "damaged"),
    ]:
        path.write_text(text)
        with pytest.raises(EvaluationError, match=said):
            Evaluation.load(path)
    with pytest.raises(FileAccessError, match="cannot read"):
        Evaluation.load(tmp_path / "nothing.json")


def test_the_manifest_tells_the_items_apart_and_keeps_the_prompt_out() -> None:
    one, two = evaluated([1.0, 2.0]), evaluated([1.0, 2.0], truth=999.0)
    assert one.manifest["items hash"] == evaluated([5.0, 6.0]).manifest["items hash"]
    assert one.manifest["items hash"] != two.manifest["items hash"]
    assert {"evaluated", "finetune-pricer", "python", "model", "seed", "items"} <= one.manifest.keys()


def test_functions_that_have_a_file_of_their_own_name_are_the_rooms_functions() -> None:
    import finetune_pricer
    from finetune_pricer import evaluate

    for name in ("best_checkpoint", "compare", "forecast"):
        import_module(f"finetune_pricer.evaluate.{name}")
        assert isfunction(getattr(evaluate, name))
        assert getattr(evaluate, name) is getattr(finetune_pricer, name)
