"""What an interval and a p-value promise, tried on thousands of made-up evaluations."""

import numpy as np
import pytest

from evaluate_helpers import evaluated
from finetune_pricer import compare
from finetune_pricer._methods.resampling import interval, resamples, sign_flips, studentised_intervals
from finetune_pricer.evaluate import METRICS
from finetune_pricer.evaluate.metrics import TERMS, bootstrap_intervals, mean_absolute_error

STUDENT_MEAN = 2 * np.sqrt(3) / np.pi  # of |t| with 3 degrees of freedom
LOGNORMAL_MEAN = np.exp(0.5)


def errors_of(
    kind: str, size: int, random: np.random.Generator
) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.abs(random.standard_t(3, size)) if kind == "student" else random.lognormal(0, 1, size)


def covered(kind: str, size: int, trials: int) -> float:
    truth, mean = np.zeros(size), STUDENT_MEAN if kind == "student" else LOGNORMAL_MEAN
    hits = 0
    for seed in range(trials):
        errors = errors_of(kind, size, np.random.default_rng(seed))
        ends = bootstrap_intervals({"mae": mean_absolute_error}, truth, errors, rounds=1000, seed=seed)
        hits += ends["mae"][0] <= mean <= ends["mae"][1]
    return hits / trials


@pytest.mark.parametrize("kind", ["student", "lognormal"])
def test_the_interval_of_the_mae_covers_with_200_items(kind: str) -> None:
    assert 0.90 <= covered(kind, 200, 400) <= 0.98


@pytest.mark.acceptance
@pytest.mark.parametrize("kind", ["student", "lognormal"])
@pytest.mark.parametrize(("size", "least"), [(200, 0.90), (1000, 0.92)])
def test_the_interval_of_the_mae_covers_what_the_docs_state(kind: str, size: int, least: float) -> None:
    share = covered(kind, size, 3000)
    print(f"{kind}, n={size}: {share:.1%}")
    assert least <= share <= 0.97


def false_positives(size: int, trials: int, rounds: int) -> float:
    """How often two models of the same quality are called different."""
    found = 0
    for seed in range(trials):
        random = np.random.default_rng(seed)
        shared = random.lognormal(3, 1, size)  # what makes an item hard is hard for both
        a, b = (shared * random.lognormal(0, 0.5, size) for _ in range(2))
        gaps = (a - b)[:, None]
        reached = np.abs(sign_flips(gaps, rounds=rounds, seed=seed)) >= np.abs(gaps.mean())
        found += (1 + reached.sum()) / (1 + rounds) < 0.05
    return found / trials


def test_the_paired_test_calls_noise_a_difference_one_time_in_twenty() -> None:
    assert 0.04 <= false_positives(60, 3000, 499) <= 0.06


@pytest.mark.acceptance
@pytest.mark.parametrize("size", [50, 200])
def test_the_false_positive_rate_holds_at_other_sizes(size: int) -> None:
    rate = false_positives(size, 8000, 999)
    print(f"n={size}: {rate:.2%}")
    assert 0.04 <= rate <= 0.06


@pytest.mark.acceptance
def test_the_rate_holds_for_compare_itself() -> None:
    found, trials = 0, 1500
    for seed in range(trials):
        random = np.random.default_rng(seed)
        shared = random.lognormal(3, 1, 60)
        a, b = (evaluated(shared * random.lognormal(0, 0.5, 60)) for _ in range(2))
        found += compare(a, b, rounds=500, seed=seed).p_value < 0.05
    print(f"{found / trials:.2%}")
    assert 0.035 <= found / trials <= 0.065  # 2.7 standard errors of 1,500 trials around 5 %


def test_the_smallest_detectable_difference_is_found_four_times_in_five() -> None:
    size, trials, found, told = 100, 400, 0, []
    spread = 40.0
    gap = 2.802 * spread / size**0.5
    for seed in range(trials):
        gaps = np.random.default_rng(seed).normal(gap, spread, size)[:, None]
        reached = np.abs(sign_flips(gaps, rounds=500, seed=seed)) >= np.abs(gaps.mean())
        found += (1 + reached.sum()) / 501 < 0.05
        told.append(gaps.std(ddof=1) * 2.802 / size**0.5)
    assert 0.74 <= found / trials <= 0.86
    assert np.mean(told) == pytest.approx(gap, rel=0.02)


def test_the_studentised_interval_is_that_of_the_book_by_hand() -> None:
    """Efron and Tibshirani (1993), 12.5, written out for one column."""
    values, seed, rounds = np.random.default_rng(4).lognormal(0, 1, 30), 5, 400
    ratios = []
    for counts in np.concatenate(list(resamples(30, rounds=rounds, seed=seed))):
        drawn = np.repeat(values, counts.astype(int))
        ratios.append((drawn.mean() - values.mean()) / (drawn.std() / np.sqrt(30)))
    high, low = np.quantile(ratios, [0.025, 0.975])
    spread = values.std() / np.sqrt(30)
    [found] = studentised_intervals(values[:, None], np.ones((30, 1)), rounds=rounds, seed=seed)
    assert (found.low, found.high) == pytest.approx(
        (values.mean() - low * spread, values.mean() - high * spread)
    )
    assert not found.is_rough


def test_weights_count_as_so_many_copies_drawn_together() -> None:
    values, weights = np.random.default_rng(4).lognormal(0, 1, 25), (np.arange(25) % 3 + 1).astype(np.float64)
    copies = np.repeat(np.arange(25), weights.astype(int))
    [one] = studentised_intervals(values[:, None], weights[:, None], rounds=300, seed=5)
    [other] = studentised_intervals(
        values[copies][:, None], np.ones((copies.size, 1)), rounds=300, seed=5, groups=copies
    )
    assert (one.low, one.high) == pytest.approx((other.low, other.high))


def test_where_few_values_differ_from_the_rest_the_interval_is_rough_and_where_none_does_it_is_a_point() -> (
    None
):
    values = np.zeros((40, 2))
    values[0, 0] = 100
    rough, point = studentised_intervals(values, np.ones((40, 2)), rounds=200, seed=1)
    assert rough.is_rough
    assert rough.low == 0
    assert rough.high > 2.5
    assert (point.low, point.high, point.is_rough) == (0, 0, False)


def test_skewed_errors_are_covered_by_fifty_items() -> None:
    """The share of the percentile interval is 0.88 here."""
    held = 0
    for seed in range(300):
        errors = np.random.default_rng(seed).lognormal(0, 1, (50, 1))
        [found] = studentised_intervals(errors, np.ones((50, 1)), rounds=300, seed=seed)
        held += found.low <= LOGNORMAL_MEAN <= found.high
    assert held / 300 >= 0.91


@pytest.mark.parametrize("name", [name for name, info in METRICS.items() if info.function in TERMS])
def test_the_terms_of_a_metric_make_the_metric(name: str) -> None:
    truth, price = np.random.default_rng(1).lognormal(3, 1, (2, 30))
    truth[3] = 0.0
    terms = TERMS[METRICS[name].function]
    values, known = terms.of_items(truth, price)
    mean = np.average(values, weights=known)
    expected = METRICS[name].function(truth, price)
    assert (np.sqrt(mean) if terms.is_root else mean) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["mae", "rmse", "mape", "r2", "median_absolute_error"])
def test_an_interval_that_covers_too_seldom_is_marked(name: str) -> None:
    least = METRICS[name].covers_from
    errors = np.random.default_rng(2).lognormal(3, 1, least)
    enough, few = evaluated(errors), evaluated(errors[:-1])
    assert not enough.metrics[name].too_short
    assert few.metrics[name].too_short
    assert str(few.metrics[name]).endswith(", too short)") or np.isnan(few.metrics[name].low)
    assert ", too short" in few.to_markdown()


def test_a_resample_draws_as_many_items_as_there_are() -> None:
    slices = list(resamples(7, rounds=50, seed=1))
    assert np.concatenate(slices).shape == (50, 7)
    assert (np.concatenate(slices).sum(axis=1) == 7).all()
    large = next(resamples(70_000, rounds=3, seed=1))
    assert (large.sum(axis=1) == 70_000).all()
    assert large[:, 65_536:].any()


def test_slices_are_of_any_height(monkeypatch: pytest.MonkeyPatch) -> None:
    from finetune_pricer._methods import resampling

    for at_once in (1, 50 * 7, 50 * 100):
        monkeypatch.setattr(resampling, "_AT_ONCE", at_once)
        slices = list(resamples(50, rounds=100, seed=3))
        assert np.concatenate(slices).shape == (100, 50)
        assert max(len(one) for one in slices) == max(1, at_once // 50)
        assert sign_flips(np.ones((50, 2)), rounds=100, seed=3).shape == (100, 2)


def test_an_interval_of_no_numbers_is_unknown() -> None:
    assert np.isnan(interval(np.array([np.nan, np.nan]))).all()
    assert interval(np.array([1.0, np.nan, 1.0])) == (1.0, 1.0)
