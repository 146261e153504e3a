"""The smallest detectable difference: how near is it to the truth where errors have heavy tails?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from finetune_pricer._methods.resampling import sign_flips
from finetune_pricer._methods.spread import spread_ranges
from real_errors import priced

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from figures import Figures

    Floats = npt.NDArray[np.float64]
    Draw = Callable[[np.random.Generator, int], Floats]

pytestmark = pytest.mark.statistics
SIZES = (50, 200, 1000)
SAMPLES = 400
SIGMA = float(np.log(1 + 2.5**2) ** 0.5)  # of lognormal errors whose standard deviation is 2.5 times the mean


def draw_lognormal(random: np.random.Generator, size: int) -> Floats:
    return random.lognormal(0, SIGMA, size) - random.lognormal(0, SIGMA, size)


def make_draw_of_real_pairs() -> tuple[Draw, float]:
    one, other = priced("ridge"), priced("category")
    gaps = abs(one.price - one.truth) - abs(other.price - other.truth)
    return (lambda random, size: random.choice(gaps - gaps.mean(), size)), float(gaps.std())


def power(draw: Draw, size: int, gap: float, *, trials: int = 600) -> float:
    """How often a difference is found by the test that `compare` uses."""
    found = 0
    for seed in range(trials):
        gaps = (draw(np.random.default_rng(seed), size) + gap)[:, None]
        reached = np.abs(sign_flips(gaps, rounds=199, seed=seed)) >= np.abs(gaps.mean())
        found += (1 + reached.sum()) / 200 < 0.05
    return found / trials


def find_gap(draw: Draw, size: int, spread: float) -> float:
    """The difference that the test really finds four times in five."""
    tried = np.array([0.6, 0.75, 0.9, 1.05]) * 2.802 * spread / size**0.5
    return float(np.interp(0.8, [power(draw, size, gap) for gap in tried], tried))


@pytest.mark.data
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["lognormal, sd 2.5 times the mean", "real errors of two models"])
def test_the_range_of_what_could_be_missed_holds_the_truth(kind: str, size: int, figures: Figures) -> None:
    draw: Draw = draw_lognormal
    spread = float(np.sqrt(2 * (np.exp(SIGMA**2) - 1) * np.exp(SIGMA**2)))
    if kind.startswith("real"):
        draw, spread = make_draw_of_real_pairs()
    by_spread, by_test = 2.802 * spread / size**0.5, find_gap(draw, size, spread)
    points, held = [], []
    for seed in range(SAMPLES):
        gaps = draw(np.random.default_rng(10_000 + seed), size)[:, None]
        [(low, high)] = (np.array(spread_ranges(gaps, seed=seed)) * 2.802 / size**0.5).tolist()
        points.append(2.802 * gaps.std(ddof=1) / size**0.5)
        held.append((low <= by_spread <= high, low <= by_test <= high))
    share_by_spread, share_by_test = np.mean(held, axis=0)
    off = np.median(points) / by_spread - 1
    figures.add(
        f"smallest detectable difference, {kind}, n = {size}: range of 80 % holds that of the population's "
        "spread, and what the test finds four times in five",
        asked="at least 80%",
        before=f"no range; {off:+.0%} in the median, within 10 % in {within(points, by_spread):.0%}",
        now=f"{share_by_spread:.0%}, {share_by_test:.0%}",
    )
    assert min(share_by_spread, share_by_test) >= 0.8


def within(points: list[float], truth: float) -> float:
    return float(np.mean(np.abs(np.array(points) / truth - 1) <= 0.1))
