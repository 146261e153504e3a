"""Forecasts of 1,000 known curves: how many does the 80 % band hold, and how wide is it?"""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

from finetune_pricer.evaluate.forecast import average, to_band
from finetune_pricer.evaluate.learning_curves import draw_curves
from finetune_pricer.evaluate.paired import AlignedErrors

if TYPE_CHECKING:
    from collections.abc import Callable

    from figures import Figures

    Curve = Callable[[float], float]
    Floats = np.ndarray[tuple[int], np.dtype[np.float64]]

pytestmark = pytest.mark.statistics
KINDS = ("power law", "power law with a floor", "rectified law", "saturating", "logarithmic", "flat")
CURVES = 1_000
NOISE = 0.03


class Found(NamedTuple):
    """What became of one forecast."""

    kind: str
    held: bool
    width: float
    """As a share of the value."""


def draw_curve(kind: str, random: np.random.Generator) -> tuple[float, Curve]:
    """Draw the smallest size, and the error in dollars at each size."""
    error, first = (
        np.exp(random.uniform(np.log(60), np.log(200))),
        np.exp(random.uniform(*np.log([100, 1000]))),
    )
    if kind == "power law":
        slope = random.uniform(0.03, 0.4)
        return first, lambda n: error * (n / first) ** -slope
    if kind == "power law with a floor":
        slope, floor = random.uniform(0.1, 0.8), random.uniform(0.1, 0.8)
        return first, lambda n: error * (floor + (1 - floor) * (n / first) ** -slope)
    if kind == "rectified law":
        slope, late = random.uniform(0.2, 0.9), np.exp(random.uniform(*np.log([0.3, 30])))
        return first, lambda n: error * (1 + late) / (late + (n / first) ** slope)
    if kind == "saturating":
        floor, slow = random.uniform(0.3, 0.9), np.exp(random.uniform(*np.log([2, 60])))
        return first, lambda n: error * (floor + (1 - floor) * np.exp(-(n / first - 1) / slow))
    slope = random.uniform(0.02, 0.12) if kind == "logarithmic" else 0.0
    return first, lambda n: error * max(0.05, 1 - slope * np.log(n / first))


def evaluate(sizes: Floats, curve: Curve, random: np.random.Generator) -> AlignedErrors:
    """Make up the errors of models trained on those sizes: some items are hard for all of them."""
    items = int(np.exp(random.uniform(*np.log([200, 2000]))))
    hard = random.lognormal(0, 1, items) / np.exp(0.5)
    columns = [
        curve(size) * np.exp(random.normal(0, NOISE)) * hard * random.lognormal(0, 0.5, items) / np.exp(0.125)
        for size in sizes
    ]
    errors = np.stack(columns, axis=1)
    return AlignedErrors(errors, np.ones(items), np.zeros(errors.shape, dtype=bool), None)


@cache
def forecast_all() -> dict[int, list[Found]]:
    """Forecast 2, 4 and 10 times the largest size of each curve."""
    found = defaultdict(list)
    for seed in range(CURVES):
        random, kind = np.random.default_rng(1000 + seed), KINDS[(1000 + seed) % len(KINDS)]
        first, curve = draw_curve(kind, random)
        points, step = int(random.integers(4, 7)), random.uniform(2, 3.3)
        tried = np.round(first * step ** np.arange(points))
        aligned = evaluate(tried, curve, random)
        sizes, errors, noise = average(aligned, tried, training_noise=NOISE, rounds=200, seed=seed)
        plausible = draw_curves(sizes, errors, noise, seed=seed)
        for times in (2, 4, 10):
            size = times * sizes[-1]
            band = to_band(plausible.errors(size))
            found[times].append(Found(kind, bool(band.low <= curve(size) <= band.high), band.width))
    return dict(found)


@pytest.mark.parametrize(
    ("times", "before"),
    [
        (2, "90%, 40% wide (60 curves)"),
        (4, "88%, 58% wide (60 curves)"),
        (10, "90%, 85% wide (60 curves)"),
    ],
)
def test_the_band_of_a_forecast_holds_four_curves_in_five(times: int, before: str, figures: Figures) -> None:
    found = forecast_all()[times]
    share, width = np.mean([one.held for one in found]), np.mean([one.width for one in found])
    by_kind = {kind: np.mean([one.held for one in found if one.kind == kind]) for kind in KINDS}
    worst = min(by_kind, key=lambda kind: by_kind[kind])
    figures.add(
        f"80 % band of 1,000 curves at {times} times the largest size: held, and mean width of the value",
        asked="80% to 90%",
        before=before,
        now=f"{share:.1%}, {width:.0%} wide; of saturating ones {by_kind['saturating']:.0%}, least of a "
        f"{worst}: {by_kind[worst]:.0%}",
    )
    assert 0.8 <= share <= 0.9
