"""Comparisons and leaderboards: the same items, ties as ties, and what too few items cannot say."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluate_helpers import evaluated
from finetune_pricer import Evaluator, Item, Leaderboard, compare
from finetune_pricer._methods.resampling import holm
from finetune_pricer._methods.spread import spread_ranges
from finetune_pricer.errors import EvaluationError
from finetune_pricer.evaluate import FITTED, MedianBaseline


def noisy(size: int, seed: int, scale: float = 60.0) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return scale * np.abs(np.random.default_rng(seed).standard_t(3, size))


def test_a_clear_difference_is_said_in_a_sentence() -> None:
    base = noisy(300, 1)
    found = compare(evaluated(base, name="tuned"), evaluated(base + 20, name="plain"), rounds=2000)
    assert found.difference.value == pytest.approx(-20)
    assert found.difference.low == pytest.approx(found.difference.high) == pytest.approx(-20)
    assert found.p_value < 0.001
    assert found.win_rate == 1.0
    assert found.better is found.a
    assert str(found).startswith("tuned is better than plain: $20.00 nearer to the price on average")
    assert "on 100% of 300 items" in str(found)


def test_noise_is_not_called_a_difference() -> None:
    found = compare(evaluated(noisy(200, 1), name="a"), evaluated(noisy(200, 2), name="b"))
    assert found.better is None
    assert found.difference.low < 0 < found.difference.high
    assert "cannot be told apart on these 200 items" in str(found)
    low, high = found.smallest_detectable_range
    missed = f"less than about ${found.smallest_detectable:.2f} could easily be missed"
    assert f"{missed} (80% range ${low:.2f} to ${high:.2f})." in str(found)
    spread = np.std(noisy(200, 1) - noisy(200, 2), ddof=1)
    assert found.smallest_detectable == pytest.approx(2.802 * spread / 200**0.5)
    assert found.items_needed(found.smallest_detectable) == pytest.approx(200, abs=1)
    with pytest.raises(EvaluationError, match="difference of 0 from 200 items"):
        found.items_needed(0)


def test_the_interval_is_that_of_scipys_paired_bootstrap() -> None:
    from scipy.stats import bootstrap

    a, b = noisy(150, 3), noisy(150, 4)
    found = compare(evaluated(a), evaluated(b), rounds=20_000)
    theirs = bootstrap((a - b,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    assert found.difference.low == pytest.approx(theirs.low, abs=0.5)
    assert found.difference.high == pytest.approx(theirs.high, abs=0.5)


def test_the_p_value_is_that_of_scipys_permutation_test() -> None:
    from scipy.stats import permutation_test

    a, b = noisy(80, 5), noisy(80, 6) + 9
    found = compare(evaluated(a), evaluated(b), rounds=20_000)

    def gap(x: Any, y: Any, axis: int) -> Any:
        return np.mean(x - y, axis=axis)

    theirs = permutation_test(
        (a, b), gap, permutation_type="samples", n_resamples=5000, vectorized=True, rng=1
    )
    assert found.p_value == pytest.approx(theirs.pvalue, abs=0.02)


def test_equal_models_are_a_tie_of_every_item() -> None:
    same = evaluated(noisy(20, 1))
    found = compare(same, same)
    assert (found.p_value, found.win_rate, found.difference.value) == (1.0, 0.5, 0.0)


def test_models_that_err_alike_are_said_to_and_no_sentence_speaks_of_nothing() -> None:
    same = noisy(20, 1)
    found = compare(evaluated(same, name="a"), evaluated(same, name="b"))
    assert str(found) == "a and b cannot be told apart: they err alike on each of these 20 items."
    assert found.smallest_detectable_range == (0.0, 0.0)
    nearly = compare(evaluated(same, name="a"), evaluated(same + 1e-4 * noisy(20, 2, 1.0), name="b"))
    assert "could easily be missed" not in str(nearly) or "$0.00 could" not in str(nearly)


def test_what_could_be_missed_has_a_range_that_holds_the_populations_of_heavy_tails() -> None:
    """Samples of heavy tails miss the far values: their spread is too small in most cases."""
    sigma = np.log(1 + 2.5**2) ** 0.5
    population = 2.0 * (np.exp(sigma**2) - 1) * np.exp(sigma**2)
    below, held = 0, 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        gaps = random.lognormal(0, sigma, (100, 1)) - random.lognormal(0, sigma, (100, 1))
        [(low, high)] = spread_ranges(gaps, seed=seed)
        assert low <= gaps.std(ddof=1) <= high
        held += low <= population**0.5 <= high
        below += gaps.std(ddof=1) < 0.9 * population**0.5
    assert below > 55
    assert held >= 76


def test_ranges_of_what_could_be_missed_are_finite_and_those_of_the_items_needed() -> None:
    for errors in ([1.0, 1.0, 1.0, 9.0], [0.0] * 30 + [1e6], [5.0, 6.0]):
        found = compare(evaluated(errors, name="a"), evaluated([2.0] * len(errors), name="b"), rounds=200)
        low, high = found.smallest_detectable_range
        assert 0 < low <= found.smallest_detectable <= high < np.inf
        fewest, most = found.items_needed_range(1.0)
        assert fewest <= found.items_needed(1.0) <= most


def test_one_item_tells_nothing() -> None:
    found = compare(evaluated([1.0], name="a"), evaluated([9.0], name="b"))
    assert "One item cannot tell a from b" in str(found)
    assert np.isnan(found.smallest_detectable)


def test_several_models_are_adjusted_for_their_number() -> None:
    base = noisy(100, 1)
    first = evaluated(base, name="a")
    others = [evaluated(base + noisy(100, seed, 30.0) - 30, name=f"b{seed}") for seed in (2, 3, 4)]
    alone = [compare(first, other).p_value for other in others]
    found = compare(first, *others)
    together = [one.p_value for one in (found, *found.further)]
    assert together == pytest.approx(list(holm(np.array(alone))))
    assert len(str(found).splitlines()) == 3


def test_holms_method_by_hand() -> None:
    assert holm(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([0.5, 0.9])).tolist() == [1.0, 1.0]


def test_items_that_one_has_not_scored_are_left_out_and_counted() -> None:
    items = [Item(id=str(at), title="thing", price=10.0) for at in range(10)]
    a = Evaluator().score(items, [11.0] * 10, name="a")
    b = Evaluator().score(items, [None, None, *[13.0] * 8], name="b")
    found = compare(a, b, unscored="skip")
    assert (found.n, found.left_out, found.difference.value) == (8, 2, -2.0)
    assert "2 items were left out" in str(found)


def test_different_items_are_refused_unless_told() -> None:
    a, b = evaluated(noisy(20, 1), name="a"), evaluated(noisy(20, 2), name="b", first=10)
    with pytest.raises(EvaluationError, match="10 of 30 are in both"):
        compare(a, b)
    assert compare(a, b, allow_different=True).n == 10


def test_no_item_in_common_is_refused_always() -> None:
    a, b = evaluated(noisy(20, 1), name="a"), evaluated(noisy(20, 2), name="b", first=50)
    with pytest.raises(EvaluationError, match="a and b have no scored item in common"):
        compare(a, b, allow_different=True)


def test_the_same_item_at_another_price_is_refused() -> None:
    with pytest.raises(EvaluationError, match=r"costs \$1,000.00 and \$999.00 in a and b"):
        compare(evaluated([1.0, 2.0], name="a"), evaluated([1.0, 2.0], name="b", truth=999.0))


def test_another_weight_of_the_same_item_is_refused() -> None:
    items = [Item(id=str(at), title="thing", price=10.0) for at in range(3)]
    a, b = (Evaluator().score(items, [9.0] * 3, weights=[1, 1, weight]) for weight in (1.0, 2.0))
    with pytest.raises(EvaluationError, match="counts differently"):
        compare(a, b)


def test_weights_weigh_the_difference() -> None:
    items = [Item(id=str(at), title="thing", price=10.0) for at in range(4)]
    weights = [3.0, 1.0, 1.0, 1.0]
    a = Evaluator().score(items, [12.0, 10.0, 10.0, 10.0], weights=weights)
    b = Evaluator().score(items, [10.0, 10.0, 10.0, 10.0], weights=weights)
    assert compare(a, b).difference.value == pytest.approx(1.0)


def test_ids_that_come_twice_are_paired_in_their_order() -> None:
    items = [Item(id="same", title="thing", price=10.0)] * 3
    a, b = Evaluator().score(items, [11.0, 12.0, 13.0]), Evaluator().score(items, [11.0, 12.0, 14.0])
    found = compare(a, b)
    assert found.n == 3
    assert found.difference.value == pytest.approx(-1 / 3)


def test_ranks_that_chance_could_have_given_are_shared() -> None:
    base = noisy(400, 1)
    board = Leaderboard(
        [
            evaluated(base + 30, name="worse"),
            evaluated(base, name="good"),
            evaluated(base + np.where(np.arange(400) % 2, 3.0, -3.0), name="as good"),
        ],
        rounds=2000,
    )
    assert [(one.rank, one.tied, one.evaluation.name) for one in board] == [
        (1, True, "good"),
        (1, True, "as good"),
        (3, False, "worse"),
    ]
    assert board.to_frame()["rank"].tolist() == [1, 1, 3]
    assert "1 =" in str(board)
    assert "| 1 = | good |" in board.to_markdown()
    assert board.to_frame()["p_against_first"].isna().tolist() == [True, False, False]


def test_a_leaderboard_compares_the_items_in_common_where_the_sets_may_differ() -> None:
    base = noisy(60, 1)
    board = Leaderboard(
        [evaluated(base, name="a"), evaluated(base + 50, name="b", first=20)],
        allow_different=True,
        rounds=500,
    )
    assert [one.evaluation.name for one in board] == ["a", "b"]


def test_a_leaderboards_seed_decides_its_tosses() -> None:
    evaluations = [evaluated(noisy(60, seed), name=str(seed)) for seed in (1, 2)]

    def p_value(seed: int) -> float | None:
        return list(Leaderboard(evaluations, rounds=200, seed=seed))[1].p_against_first

    assert p_value(1) == p_value(1)
    assert p_value(1) != p_value(3)


def test_a_leaderboard_escapes_names(tmp_path: Path) -> None:
    board = Leaderboard([evaluated([1.0, 2.0], name="<b>|bold|</b>")], rounds=10)
    path = tmp_path / "board.html"
    board.to_html(path)
    assert "<b>" not in path.read_text()
    assert "&lt;b&gt;" in path.read_text()
    assert "<b>" not in board.to_markdown()
    assert board.to_markdown().splitlines()[2].count(" | ") == 8


def test_a_leaderboard_refuses_what_it_cannot_rank() -> None:
    with pytest.raises(EvaluationError, match="needs an evaluation"):
        Leaderboard([])
    with pytest.raises(EvaluationError, match="the same name"):
        Leaderboard([evaluated([1.0]), evaluated([2.0])])
    with pytest.raises(EvaluationError, match="not evaluated on the same items"):
        Leaderboard([evaluated([1.0], name="a"), evaluated([2.0], name="b", first=5)])


def test_baselines_join_the_leaderboard_once() -> None:
    from evaluate_helpers import things

    evaluator = Evaluator(baselines=things(50), rounds=50)
    test = things(20, seed=3, start=100)
    found = [evaluator.evaluate(MedianBaseline(at), test, name=f"m{at}") for at in (10.0, 20.0)]
    assert len(Leaderboard(found, rounds=100)) == 2 + len(FITTED)
