"""Numbers, held against scikit-learn and against hand-worked rows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as theirs

from finetune_pricer._methods import resampling
from finetune_pricer.evaluate import metrics

Function = Callable[[Any, Any], Any]
RANDOM = np.random.default_rng(7)
TRUTH = np.round(RANDOM.lognormal(4, 1, 500), 2)
PRICE = np.round(TRUTH * RANDOM.lognormal(0, 0.5, 500), 2)


@pytest.mark.parametrize(
    ("ours", "sklearns"),
    [
        (metrics.mean_absolute_error, theirs.mean_absolute_error),
        (metrics.median_absolute_error, theirs.median_absolute_error),
        (metrics.root_mean_squared_error, theirs.root_mean_squared_error),
        (metrics.root_mean_squared_log_error, theirs.root_mean_squared_log_error),
        (metrics.r2, theirs.r2_score),
    ],
)
def test_each_metric_is_scikit_learns(ours: Function, sklearns: Function) -> None:
    assert float(ours(TRUTH, PRICE)) == pytest.approx(float(sklearns(TRUTH, PRICE)), rel=1e-9)


def test_metrics_by_hand() -> None:
    truth, price = np.array([100.0, 10.0, 0.0, 50.0]), np.array([130.0, 0.0, 60.0, 150.0])
    assert metrics.mean_absolute_error(truth, price) == 50
    assert metrics.median_absolute_error(truth, price) == 45
    assert metrics.root_mean_squared_error(truth, price) == pytest.approx(np.sqrt(14600 / 4))
    assert metrics.r2(truth, price) == pytest.approx(1 - 14600 / 6200)
    assert metrics.green_share(truth, price) == 0.5
    assert metrics.orange_share(truth, price) == 0.25
    assert metrics.red_share(truth, price) == 0.25


BOUNDARY = {
    # truth, price: colour. Below $40 or 20 % is green, below $80 or 40 % orange.
    (10.0, 49.99): "green",
    (10.0, 50.0): "orange",
    (10.0, 89.99): "orange",
    (10.0, 90.0): "red",
    (1000.0, 1199.99): "green",
    (1000.0, 1200.0): "orange",
    (1000.0, 800.0): "orange",
    (1000.0, 800.01): "green",
    (1000.0, 1400.0): "red",
    (1000.0, 1399.99): "orange",
    (0.0, 39.99): "green",
    (0.0, 40.0): "orange",
    (5.0, 5.0): "green",
}


@pytest.mark.parametrize(("pair", "colour"), BOUNDARY.items(), ids=str)
def test_the_courses_thresholds_are_exclusive(pair: tuple[float, float], colour: str) -> None:
    truth, price = (np.array([value]) for value in pair)
    assert metrics.hit_colours(truth, price).tolist() == [colour]
    shares = [metrics.green_share, metrics.orange_share, metrics.red_share]
    assert [float(share(truth, price)) for share in shares] == [
        float(colour == name) for name in ("green", "orange", "red")
    ]


def test_r2_is_unknown_where_all_truths_are_equal() -> None:
    assert np.isnan(metrics.r2(np.array([5.0, 5.0]), np.array([5.0, 6.0])))


def test_a_price_below_zero_counts_as_zero_in_logs() -> None:
    assert metrics.root_mean_squared_log_error(np.array([0.0]), np.array([-3.0])) == 0


MAE = {"mae": metrics.mean_absolute_error}


def test_an_interval_holds_the_value_and_is_the_same_for_the_same_seed() -> None:
    low, high = metrics.bootstrap_intervals(MAE, TRUTH, PRICE)["mae"]
    assert low < metrics.mean_absolute_error(TRUTH, PRICE) < high
    assert metrics.bootstrap_intervals(MAE, TRUTH, PRICE)["mae"] == (low, high)
    assert metrics.bootstrap_intervals(MAE, TRUTH, PRICE, seed=1)["mae"] != (low, high)


def test_an_interval_is_as_wide_as_theory_has_it() -> None:
    errors = np.abs(TRUTH - PRICE)
    half = 1.96 * errors.std() / np.sqrt(errors.size)
    low, high = metrics.bootstrap_intervals(MAE, TRUTH, PRICE)["mae"]
    assert (high - low) / 2 == pytest.approx(half, rel=0.1)


def test_slicing_the_resamples_does_not_change_their_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = metrics.bootstrap_intervals(MAE, TRUTH, PRICE)["mae"]
    monkeypatch.setattr(resampling, "_AT_ONCE", 5000)
    assert metrics.bootstrap_intervals(MAE, TRUTH, PRICE)["mae"] == pytest.approx(whole, rel=0.02)


def test_one_item_says_nothing_about_the_spread() -> None:
    assert np.isnan(metrics.bootstrap_intervals(MAE, TRUTH[:1], PRICE[:1])["mae"]).all()
