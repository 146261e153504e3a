"""Metrics agree with scikit-learn where it has them, and with rows worked by hand where it has not."""

import dataclasses
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from finetune_pricer import Evaluation
from finetune_pricer.errors import EvaluationError
from finetune_pricer.evaluate import METRICS, metrics

Oracle = Callable[..., Any]
PAIRS: list[tuple[Oracle, Oracle]] = [
    (metrics.mean_absolute_error, sklearn.metrics.mean_absolute_error),
    (metrics.median_absolute_error, sklearn.metrics.median_absolute_error),
    (metrics.mean_squared_error, sklearn.metrics.mean_squared_error),
    (metrics.root_mean_squared_error, sklearn.metrics.root_mean_squared_error),
    (metrics.root_mean_squared_log_error, sklearn.metrics.root_mean_squared_log_error),
    (metrics.mean_absolute_percentage_error, sklearn.metrics.mean_absolute_percentage_error),
    (metrics.r2, sklearn.metrics.r2_score),
    (partial(metrics.pinball_loss, quantile=0.9), partial(sklearn.metrics.mean_pinball_loss, alpha=0.9)),
    (partial(metrics.pinball_loss, quantile=0.1), partial(sklearn.metrics.mean_pinball_loss, alpha=0.1)),
]
TAKES_A_PRICE = [
    metrics.mean_absolute_error,
    metrics.median_absolute_error,
    metrics.mean_squared_error,
    metrics.root_mean_squared_error,
    metrics.root_mean_squared_log_error,
    metrics.mean_absolute_percentage_error,
    metrics.median_absolute_percentage_error,
    metrics.symmetric_mean_absolute_percentage_error,
    metrics.r2,
    metrics.bias,
    metrics.share_within,
    metrics.green_share,
    metrics.orange_share,
    metrics.red_share,
    metrics.pinball_loss,
]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@pytest.mark.parametrize("size", [2, 3, 50, 1001])
def test_a_metric_agrees_with_scikit_learn(ours: Oracle, theirs: Oracle, size: int) -> None:
    random = np.random.default_rng(size)
    truth, price = random.lognormal(4, 1, size), random.lognormal(4, 1, size)
    assert float(ours(truth, price)) == pytest.approx(theirs(truth, price), rel=1e-9, abs=1e-9)
    weights = random.integers(1, 5, size).astype(float)
    expected = theirs(truth, price, sample_weight=weights)
    assert float(ours(truth, price, weights)) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(st.integers(0, 10_000))
def test_a_weight_of_k_is_the_item_k_times(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth, price = random.lognormal(4, 1, 12).round(), random.lognormal(4, 1, 12).round()
    weights = random.integers(0, 4, 12)
    weights[0] += 1
    many = np.repeat(np.arange(12), weights)
    for metric in TAKES_A_PRICE:
        with np.errstate(invalid="ignore"):
            expected = float(metric(truth[many], price[many]))
        assert float(metric(truth, price, weights)) == pytest.approx(expected, nan_ok=True, abs=1e-9)


@pytest.mark.parametrize("metric", TAKES_A_PRICE)
def test_a_row_of_weights_gives_a_row_of_numbers(metric: metrics.MetricFunction) -> None:
    random = np.random.default_rng(7)
    truth, price, weights = random.lognormal(size=9), random.lognormal(size=9), random.random((4, 9))
    together = metric(truth, price, weights)
    assert together.shape == (4,)
    assert together == pytest.approx([float(metric(truth, price, row)) for row in weights])


def test_rows_worked_by_hand() -> None:
    truth, price = [100.0, 50.0, 0.0, 10.0], [90.0, 75.0, 5.0, 10.0]
    assert float(metrics.bias(truth, price)) == (-10 + 25 + 5 + 0) / 4
    assert float(metrics.symmetric_mean_absolute_percentage_error(truth, price)) == pytest.approx(
        (20 / 190 + 50 / 125 + 2 + 0) / 4
    )
    assert float(metrics.mean_absolute_percentage_error(truth, price)) == pytest.approx((0.1 + 0.5 + 0) / 3)
    assert float(metrics.median_absolute_percentage_error(truth, price)) == pytest.approx(0.1)
    assert float(metrics.share_within(truth, price, share=0.1)) == 0.5
    assert float(metrics.share_within(truth, price, share=0.4)) == 0.5
    assert float(metrics.interval_coverage(truth, [90, 60, 0, 0], [110, 70, 0, 9])) == 0.5
    assert float(metrics.mean_width([90, 60], [110, 70])) == 15


def test_the_courses_thresholds_are_strict() -> None:
    truth = np.array([100.0, 100.0, 500.0, 500.0, 500.0, 500.0])
    price = truth + np.array([39.99, 40.0, 99.9, 100.0, 199.9, 200.0])
    assert metrics.hit_colours(truth, price).tolist() == [
        "green",
        "orange",
        "green",
        "orange",
        "orange",
        "red",
    ]
    shares = [
        float(share(truth, price)) for share in (metrics.green_share, metrics.orange_share, metrics.red_share)
    ]
    assert shares == pytest.approx([2 / 6, 3 / 6, 1 / 6])


@pytest.mark.parametrize("metric", TAKES_A_PRICE)
@pytest.mark.parametrize(
    ("truth", "price", "said"),
    [
        ([], [], "truth is empty"),
        ([1.0, 2.0], [1.0], "truth has 2 values but price has 1"),
        ([1.0, 2.0], [1.0, float("nan")], "price has nan at position 1"),
        ([float("inf"), 2.0], [1.0, 2.0], "truth has inf at position 0"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(
    metric: metrics.MetricFunction, truth: list[float], price: list[float], said: str
) -> None:
    with pytest.raises(EvaluationError, match=said):
        metric(truth, price)


def test_ranges_and_weights_are_refused_by_name() -> None:
    with pytest.raises(EvaluationError, match="high has inf"):
        metrics.interval_coverage([1.0], [0.0], [float("inf")])
    with pytest.raises(EvaluationError, match="low has 1 values but high has 2"):
        metrics.mean_width([1.0], [2.0, 3.0])
    with pytest.raises(EvaluationError, match="weights must be at least 0"):
        metrics.bias([1.0, 1.0], [1.0, 2.0], [1.0, -1.0])
    with pytest.raises(EvaluationError, match="truth has 2 values but weights has 1"):
        metrics.bias([1.0, 1.0], [1.0, 2.0], [1.0])
    with pytest.raises(EvaluationError, match="quantile"):
        metrics.pinball_loss([1.0], [1.0], quantile=1.1)
    with pytest.raises(EvaluationError, match="below 0"):
        metrics.root_mean_squared_log_error([-1.0], [1.0])


def test_equal_truths_and_zeros_give_no_false_number() -> None:
    assert np.isnan(metrics.r2([5.0, 5.0], [4.0, 6.0]))
    assert np.isnan(metrics.mean_absolute_percentage_error([0.0], [3.0]))
    assert np.isnan(metrics.median_absolute_percentage_error([0.0], [3.0]))


def test_every_metric_says_what_it_does_and_shows_it() -> None:
    for name, function in inspect.getmembers(metrics, inspect.isfunction):
        if function.__module__ == metrics.__name__ and not name.startswith("_"):
            assert function.__doc__, name


def test_the_table_of_metrics_has_the_metrics_of_an_evaluation_and_each_has_a_direction() -> None:
    kinds = {field.name: field.type for field in dataclasses.fields(Evaluation)}
    measured = [name for name, kind in kinds.items() if kind in ("Metric", "Metric | None")]
    assert measured == list(METRICS)
    assert [name for name in measured if kinds[name] != "Metric"] == [
        name for name, info in METRICS.items() if info.of_ranges
    ]
    assert {info.best for info in METRICS.values()} == {"low", "high", "zero"}
    assert all(info.label and info.unit in {"$", "%", ""} for info in METRICS.values())


@pytest.mark.parametrize("name", METRICS)
def test_no_prices_are_better_than_the_true_ones(name: str) -> None:
    truth, info = np.linspace(300, 900, 50), METRICS[name]

    def sort_key(factor: float, width: float) -> float:
        price = factor * truth
        columns = {"truth": truth, "price": price, "low": price - width, "high": price + width}
        return info.sort_key(float(info.function(*(columns[column] for column in info.columns))))

    true = sort_key(1.0, 0.0)
    others = [sort_key(factor, width=5.0) for factor in (0.2, 0.7, 1.3, 5.0)]
    assert true <= min(others)
    assert true < max(others)
