"""How often the 95 % intervals of metrics hold the true value, on real errors of prices."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from figures import trials
from finetune_pricer._methods.resampling import weighted_intervals
from finetune_pricer.evaluate import METRICS
from finetune_pricer.evaluate.metrics import find_intervals
from real_errors import priced

if TYPE_CHECKING:
    from figures import Figures

pytestmark = pytest.mark.statistics

TRIALS = trials(2000)
NAMES = ("mae", "median_absolute_error", "rmsle", "rmse", "mape", "r2", "bias", "within_20")
LEAST = 0.93


def coverage(size: int, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """The share of samples whose interval holds the value of all errors: as percentiles, and now."""
    _, truth, price = priced("ridge")
    functions = {name: METRICS[name].function for name in NAMES}
    true = {name: float(function(truth, price)) for name, function in functions.items()}
    held = np.zeros((2, len(NAMES)))
    for trial in range(rounds):
        rows = np.random.default_rng([size, trial]).integers(0, truth.size, size)
        columns, weights = (truth[rows], price[rows]), np.ones(size)
        of_weights = {name: partial(function, *columns) for name, function in functions.items()}
        before = weighted_intervals(of_weights, weights, rounds=500, seed=trial)
        now = find_intervals(functions, columns, weights, rounds=500, seed=trial)
        for at, name in enumerate(NAMES):
            held[0, at] += before[name][0] <= true[name] <= before[name][1]
            held[1, at] += now[name].low <= true[name] <= now[name].high
    first, second = (dict(zip(NAMES, row / rounds, strict=True)) for row in held)
    return first, second


@pytest.mark.parametrize("size", [20, 50, 200, 1000, 2000])
def test_the_intervals_cover_or_say_that_they_are_too_short(size: int, figures: Figures) -> None:
    before, now = coverage(size, TRIALS)
    noise = 2 * np.sqrt(LEAST * (1 - LEAST) / TRIALS)
    for name in NAMES:
        is_marked = size < METRICS[name].covers_from
        figures.add(
            f"95 % interval of {METRICS[name].label}, {size:,} real errors",
            asked="none: marked as too short" if is_marked else f"at least {LEAST:.0%}",
            before=f"{before[name]:.1%}",
            now=f"{now[name]:.1%} ± {noise:.1%}",
        )
    for name in NAMES:
        assert size < METRICS[name].covers_from or now[name] >= LEAST - noise, name
