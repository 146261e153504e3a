"""Silence is never an advantage: one rule for every line, comparison, ranking and choice."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluate_helpers import things
from finetune_pricer import Evaluation, Evaluator, Item, ItemDataset, Leaderboard, compare
from finetune_pricer.errors import EvaluationError, WrongArgument
from finetune_pricer.evaluate import choose

MEDIAN = 40.0


def score(
    items: list[Item], answers: Sequence[float | None], name: str, median: float | None = MEDIAN
) -> Evaluation:
    """An evaluation that knows the median of training items, without fitting the baselines that told it."""
    return replace(Evaluator(rounds=50).score(items, answers, name=name), training_median=median)


def priced_by(name: str, *, silent_above: float = np.inf, median: float | None = MEDIAN) -> Evaluation:
    """Products of skewed prices, wrong by a share, and without a price where the true one is high."""
    random = np.random.default_rng(1)
    truths = random.lognormal(3.6, 1.2, 200)
    items = [Item(id=str(at), title=f"Thing {at}", price=float(truth)) for at, truth in enumerate(truths)]
    guesses = truths * np.exp(0.5 * random.normal(size=200))
    answers = [
        float(guess) if truth <= silent_above else None for guess, truth in zip(guesses, truths, strict=True)
    ]
    return score(items, answers, name, median)


SILENT = priced_by("silent", silent_above=200.0)
OTHER = priced_by("other")


def test_the_line_of_a_silent_model_has_both_errors_and_the_share() -> None:
    found = SILENT
    filled = found.mae_filled
    assert filled is not None
    by_hand = [abs((MEDIAN if one.price is None else one.price) - one.truth) for one in found.records]
    assert filled.value == pytest.approx(np.mean(by_hand))
    assert filled.value > 1.1 * found.mae.value
    assert filled.n == 200
    said = (
        "9 unscored; WARNING: 4.5% of the items are unscored; with the training median $40.00 in their place"
    )
    assert str(found).endswith(f"{said} MAE ${filled}")


def test_without_training_items_the_line_says_the_share_alone() -> None:
    found = priced_by("silent", silent_above=200.0, median=None)
    assert found.mae_filled is None
    assert str(found).endswith("WARNING: 4.5% of the items are unscored")


def test_nothing_is_filled_where_nothing_is_missing() -> None:
    assert OTHER.mae_filled is OTHER.mae
    assert OTHER.warning is None


def test_an_evaluator_with_training_items_tells_their_median() -> None:
    train = ItemDataset.from_items(
        [Item(title=f"Lamp {n}", price=price) for n, price in enumerate((20, 40, 60))]
    )
    found = Evaluator(baselines=train, rounds=10).score([Item(title="Lamp", price=10.0)] * 2, [None, 12.0])
    assert found.training_median == 40
    assert {one.training_median for one in found.baselines} == {40}
    assert found.mae_filled is not None
    assert found.mae_filled.value == pytest.approx((30 + 2) / 2)


@pytest.mark.parametrize("seed", range(8))
def test_who_is_silent_on_the_dearest_never_ranks_above_the_same_model_that_answers(
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    truths = random.lognormal(3.6, 1.2, 120)
    items = [Item(id=str(at), title=f"Thing {at}", price=float(truth)) for at, truth in enumerate(truths)]
    dear = truths >= np.quantile(truths, 0.95)
    # On the dear ones a little better than the median is, which is still very wrong.
    answers = np.where(
        dear, MEDIAN + 0.05 * (truths - MEDIAN), truths * np.exp(0.5 * random.normal(size=120))
    )
    honest = score(items, answers.tolist(), "honest")
    gaps = [None if is_dear else float(answer) for answer, is_dear in zip(answers, dear, strict=True)]
    silent = score(items, gaps, "silent")
    assert silent.mae.value < honest.mae.value  # what it looks like
    board = [one.evaluation.name for one in Leaderboard([silent, honest], rounds=200)]
    assert board.index("honest") < board.index("silent")
    ranks = {one.evaluation.name: one.rank for one in Leaderboard([silent, honest], rounds=200)}
    assert ranks["honest"] <= ranks["silent"]
    assert compare(silent, honest, rounds=200).difference.value > 0
    assert choose([silent, honest], rounds=50).best.name == "honest"


def test_a_comparison_says_how_many_prices_were_filled() -> None:
    silent, other = SILENT, OTHER
    found = compare(silent, other, rounds=200)
    assert (found.n, found.left_out, found.filled) == (200, 0, silent.unscored)
    assert f"On {silent.unscored} items the training median stands in for a missing price." in str(found)
    skipped = compare(silent, other, unscored="skip", rounds=200)
    assert (skipped.n, skipped.left_out, skipped.filled) == (200 - silent.unscored, silent.unscored, 0)


def test_where_no_training_median_is_known_a_silent_model_is_refused_unless_told() -> None:
    silent = priced_by("silent", silent_above=200.0, median=None)
    other = priced_by("other", median=None)
    refusal = r"9 of 200 items are unscored in 'silent'.*Evaluator\(baselines=train\).*unscored='skip'"
    for ask in (
        lambda: compare(silent, other),
        lambda: Leaderboard([other, silent]),
        lambda: choose([other, silent]),
    ):
        with pytest.raises(EvaluationError, match=refusal):
            ask()
    assert compare(silent, other, unscored="skip", rounds=50).left_out == 9
    board = Leaderboard([other, silent], unscored="skip", rounds=50)
    assert "may be an advantage" in str(board)
    assert choose([other, silent], unscored="skip", rounds=50).best.name == "silent"
    with pytest.raises(WrongArgument, match="unscored must be 'fill' or 'skip', not the text 'zero'"):
        compare(silent, other, unscored="zero")  # type: ignore[arg-type]


def test_the_median_of_one_evaluation_stands_in_for_those_that_know_none() -> None:
    silent, other = priced_by("silent", silent_above=200.0, median=None), OTHER
    assert compare(silent, other, rounds=50).filled == 9
    lines = {one.evaluation.name: one.evaluation for one in Leaderboard([silent, other], rounds=50)}
    assert lines["silent"].mae_filled is not None


def test_a_leaderboard_shows_both_errors_the_share_and_what_they_mean(
    tmp_path: Path,
) -> None:
    silent, other = SILENT, OTHER
    board = Leaderboard([silent, other], rounds=50)
    assert board.to_markdown().startswith("| rank | model | MAE | 95 % interval | MAE, all | median error |")
    assert "| 9 (4.5%) |" in board.to_markdown()
    board.to_html(tmp_path / "board.html")
    for text in (str(board), board.to_markdown(), (tmp_path / "board.html").read_text(), board._repr_html_()):
        assert "the training median in the place of each price that is missing" in " ".join(text.split())
    frame = board.to_frame().set_index("model")
    assert frame.loc["silent", "mae_filled"] > frame.loc["silent", "mae"]
    assert frame.loc["silent", "share_unscored"] == pytest.approx(0.045)
    assert "MAE, all" not in str(Leaderboard([other], rounds=50))


def test_p_stands_against_the_first_line_also_where_it_has_not_the_smallest_raw_error() -> None:
    items = [Item(id=str(at), title=f"Thing {at}", price=100.0) for at in range(60)]
    honest = score(items, [101.0] * 50 + [190.0] * 10, "h")
    silent = score(items, [102.0] * 50 + [None] * 10, "s")
    board = Leaderboard([silent, honest], unscored="skip", rounds=500)
    assert [(one.evaluation.name, one.rank) for one in board] == [("h", 1), ("s", 2)]
    first, second = board.to_frame()["p_against_first"]
    assert np.isnan(first)
    assert second < 0.05
    assert "<0.001" in str(Leaderboard([silent, honest], unscored="skip"))


def test_nobody_ranks_above_a_model_with_a_smaller_error() -> None:
    # "close" is beaten beyond chance; "wild" has a larger error, and is too noisy to be beaten.
    random = np.random.default_rng(0)
    items = [Item(id=str(at), title=f"Thing {at}", price=1000.0) for at in range(200)]
    base = random.exponential(20, 200)
    errors = {"best": base, "close": base + 3, "wild": base + 4 + 150 * random.normal(size=200) * (base > 40)}
    board = Leaderboard(
        [score(items, (1000 + error).tolist(), name) for name, error in errors.items()],
        rounds=500,
    )
    ordered = [(one.rank, one.evaluation.mae.value) for one in board]
    assert ordered == sorted(ordered)


def test_a_rival_that_is_silent_is_not_the_best_baseline() -> None:
    train, test = things(60), things(40, seed=2, start=100)
    dearest = float(np.quantile(test.prices, 0.5))

    def shy(item: Item) -> float | None:
        return item.price if (item.price or 0) < dearest else None

    found = Evaluator(baselines=train, beside=[shy], rounds=50).evaluate(lambda item: item.price, test)
    assert found.to_markdown().count("is better than shy") == 0
    alone = Evaluator(beside=[shy], rounds=50).evaluate(lambda item: item.price, test)
    assert "Not compared: 20 of 40 items are unscored in 'shy'" in alone.to_markdown().replace("\\", "")


def test_the_training_median_is_kept_in_the_file(tmp_path: Path) -> None:
    found = SILENT
    found.save(tmp_path / "kept.json")
    again = Evaluation.load(tmp_path / "kept.json")
    assert (again.training_median, again.mae_filled) == (MEDIAN, found.mae_filled)
