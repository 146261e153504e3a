"""A metric formats, rounds, compares and computes as its value."""

import copy
import math
import pickle

import numpy as np
import pytest

from finetune_pricer.evaluate import Metric


def metric(value: float, n: int = 200) -> Metric:
    return Metric(value=value, low=value - 1, high=value + 1, n=n)


MAE = metric(67.754)

EXPECTED = {
    "two decimals": (f"{MAE:.2f}", "67.75"),
    "a width": (f"{MAE:>8.1f}", "    67.8"),
    "no format": (f"{MAE}", "67.75 (95% CI 66.75 to 68.75)"),
    "rounded": (round(MAE), 68),
    "rounded to cents": (round(MAE, 2), 67.75),
    "as an integer": (int(MAE), 67),
    "ceiling": (math.ceil(MAE), 68),
    "below a number": (MAE < 100, True),
    "a number above": (MAE < 100, True),
    "at most itself": (metric(67.754) >= MAE, True),
    "above": (metric(60.0) < MAE, True),
    "at least": (MAE >= 67.754, True),
    "equal to its value": (MAE == 67.754, True),
    "equal to one of the same value": (metric(67.754, n=3) == MAE, True),
    "unequal": (metric(5.0) != MAE, True),
    "unlike a text": (MAE == "67.754", False),
    "found in a set of numbers": (len({MAE, 67.754, 5.0}), 2),
    "magnitude": (abs(metric(-3.5)), 3.5),
    "negative": (-metric(3.5), -3.5),
    "sum": (sum([metric(1.5), metric(2.0)]), 3.5),
    "difference": (metric(5.0) - metric(2.0), 3.0),
    "subtracted from": (10 - metric(2.0), 8.0),
    "product": (2 * metric(4.0) * metric(0.5), 4.0),
    "quotient": (metric(5.0) / metric(2.0), 2.5),
    "divided by": (10 / metric(4.0), 2.5),
    "the best of several": (min([metric(5.0), metric(2.0)], key=None), metric(2.0)),
    "sorted": (sorted([metric(3.0), metric(1.0), metric(2.0)]), [1.0, 2.0, 3.0]),
    "mean by numpy": (float(np.mean([metric(5.0), metric(2.0)])), 3.5),
    "as an array": (np.asarray([metric(5.0)], dtype=float).tolist(), [5.0]),
    "a copy": (copy.deepcopy(MAE).high, MAE.high),
    "pickled": (pickle.loads(pickle.dumps(MAE)).n, 200),
}


@pytest.mark.parametrize(("found", "expected"), EXPECTED.values(), ids=EXPECTED)
def test_a_metric_counts_as_its_value(found: object, expected: object) -> None:
    assert found == expected
    assert type(found) is type(expected)


def test_nothing_is_above_or_below_an_unknown_metric() -> None:
    unknown = metric(math.nan)
    assert not any((unknown < 5, unknown > 5, unknown <= 5, unknown >= 5, unknown == 5))


@pytest.mark.parametrize("other", ["5", None, [1]])
def test_a_metric_is_not_compared_with_what_is_no_number(other: object) -> None:
    with pytest.raises(TypeError):
        assert other > MAE  # type: ignore[operator]
    with pytest.raises(TypeError):
        MAE + other  # type: ignore[operator]
