"""How often the 95 % intervals of metrics hold the true value, on real errors of prices."""

import numpy as np
import pytest

from finetune_pricer.evaluate import METRICS
from finetune_pricer.evaluate.metrics import find_intervals
from real_errors import priced

pytestmark = pytest.mark.statistics

TRIALS = 2000
PERCENTILE = {  # what the percentile interval gave for the same draws
    50: {"mae": "0.0%", "median_absolute_error": "0.0%", "rmsle": "0.0%", "rmse": "0.0%", "mape": "0.0%"},
}


def coverage(
    names: list[str], size: int, trials: int, *, kind: str = "ridge", seed: int = 7
) -> dict[str, float]:
    """The share of samples of real errors whose interval holds the value of all of them."""
    _, truth, price = priced(kind)
    functions = {name: METRICS[name].function for name in names}
    true = {name: float(function(truth, price)) for name, function in functions.items()}
    held = dict.fromkeys(names, 0)
    for trial in range(trials):
        rows = np.random.default_rng([seed, trial]).integers(0, truth.size, size)
        ends = find_intervals(functions, (truth[rows], price[rows]), np.ones(size), rounds=1000, seed=trial)
        for name, one in ends.items():
            held[name] += one.low <= true[name] <= one.high
    return {name: count / trials for name, count in held.items()}
