"""Price points: the prices that shops ask, and how a guess spreads over them.

A network says how likely each price bin is. Shops do not ask any price in a bin, but some of them: $19.99,
$20, $24.95. `PricePoints` holds the prices that occurred in training, weighted by how often they did, and
fills the gaps between them with prices that end alike.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]

SPREADS = (0.0, 0.03, 0.06, 0.1, 0.15, 0.2, 0.25, 0.3, 0.38, 0.45, 0.6, 0.8)
"""How far a guess may be widened, in units of log(1 + price)."""
USUAL_SPREAD = 0.3
"""The spread where too few examples can be held out to measure one."""
_GAP = 0.06  # of log(1 + price): about 6 % between neighbours, which few people would call another price
_ENDINGS = 3  # how many of the commonest endings fill a gap
_BANDWIDTH = 0.15  # of log(1 + price), over which the density of prices is measured
_CELLS = 1_024
_APART = 6  # points lie at least this part of the spread apart, which moves no median by as much


@dataclass(frozen=True, slots=True, kw_only=True)
class PricePoints:
    """Prices in rising order, and the weight of each beside its neighbours, whatever the product."""

    prices: Floats
    weights: Floats

    @classmethod
    def from_prices(cls, prices: npt.ArrayLike, *, decimals: int) -> PricePoints:
        """Count the prices of a training file, rounded as its replies write them, and fill the gaps."""
        rounded = np.round(np.asarray(prices, dtype=np.float64), min(decimals, 15))
        points, counts = np.unique(rounded, return_counts=True)
        added = _fill_gaps(points, counts, decimals)
        places = np.concatenate([points, added])
        # A filler is as likely as a price that one in ten shops would ask.
        weights = np.concatenate([counts, np.full(len(added), 0.1)])
        order = np.argsort(places, kind="stable")
        places, weights = places[order], weights[order]
        # Divided by how dense prices lie around it: how common a price range is, the network says itself.
        return cls(prices=places, weights=weights / _density(np.log1p(places), weights))

    def kernel(self, edges: Floats, spread: float) -> Floats:
        """Return how the probability of each bin is shared out among the points: one row for each bin.

        Points that lie closer together than a guess can tell get none of it, but for the most liked: an
        answer lists the likeliest tokens only, and of a probability in small change it would hold a third.
        """
        centres, widths = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
        reach = np.sqrt(spread**2 + (widths / 2) ** 2)[:, None]
        logs = np.log1p(self.prices)
        kept = _most_liked(logs, self.weights, spread / _APART)
        far = ((logs - centres[:, None]) / reach) ** 2
        # The nearest point of each bin counts as 1 before it is weighted, so that no row is all zeros.
        nearest = far[:, kept].min(axis=1, keepdims=True)
        heights = np.where(kept, np.exp(-0.5 * np.maximum(far - nearest, 0.0)) * self.weights, 0.0)
        shares: Floats = (heights / heights.sum(axis=1, keepdims=True)).astype(np.float32)
        return shares


def _most_liked(logs: Floats, weights: Floats, gap: float) -> npt.NDArray[np.bool_]:
    """Return which points to keep so that none lies within `gap` of another: the heaviest come first."""
    kept = np.zeros(len(logs), dtype=np.bool_)
    lows, highs = np.searchsorted(logs, logs - gap, side="right"), np.searchsorted(logs, logs + gap)
    for place in np.argsort(-weights, kind="stable").tolist():
        kept[place] = not kept[lows[place] : highs[place]].any()
    return kept


def _fill_gaps(points: Floats, counts: npt.NDArray[np.int64], decimals: int) -> Floats:
    if points[-1] > 1e9:
        return np.empty(0)  # no shop's prices; a float has no cents left there
    unit = 10.0 ** -min(decimals, 15)
    endings: Counter[float] = Counter()
    for point, count in zip(points, counts, strict=True):
        endings[round(float(point % 1), min(decimals, 15))] += int(count)
    logs = np.log1p(points)
    wanted = np.arange(max(logs[0] - 0.2, np.log1p(unit)), logs[-1] + 0.2, _GAP / 2)
    places = np.clip(np.searchsorted(logs, wanted), 1, max(len(logs) - 1, 1))
    nearest = np.minimum(
        np.abs(logs[np.minimum(places, len(logs) - 1)] - wanted), np.abs(logs[places - 1] - wanted)
    )
    alone = np.expm1(wanted[nearest > _GAP / 2])
    tails = [ending for ending, _ in endings.most_common(_ENDINGS)]
    made = [np.round(np.floor(alone) + tail, min(decimals, 15)) for tail in tails]
    return np.setdiff1d(np.concatenate(made), np.append(points, 0.0))


def _density(logs: Floats, weights: Floats) -> Floats:
    low, high = logs[0] - 4 * _BANDWIDTH, logs[-1] + 4 * _BANDWIDTH
    cells = np.linspace(low, high, _CELLS)
    width = cells[1] - cells[0]
    counted = np.histogram(logs, bins=_CELLS, range=(low - width / 2, high + width / 2), weights=weights)[0]
    reach = np.arange(1 - _CELLS // 2, _CELLS // 2) * width
    bell = np.exp(-0.5 * (reach / _BANDWIDTH) ** 2)
    smooth = np.convolve(counted, bell, mode="same")
    density: Floats = np.maximum(np.interp(logs, cells, smooth), 1e-9)
    return density


def widen(probabilities: Floats, edges: Floats, spread: float) -> Floats:
    """Return rows of bin probabilities, spread over neighbouring bins."""
    if not spread:
        return probabilities
    centres, widths = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    kernel = np.exp(-0.5 * ((centres - centres[:, None]) / spread) ** 2) * widths
    wide: Floats = probabilities @ (kernel / kernel.sum(axis=1, keepdims=True)).astype(np.float32)
    return wide


def find_best_spread(probabilities: Floats, edges: Floats, bins: npt.NDArray[np.int64]) -> float:
    """Return the spread under which the true bins are the least surprising."""
    rows = np.arange(len(bins))
    surprises = [-np.log(widen(probabilities, edges, spread)[rows, bins] + 1e-9).mean() for spread in SPREADS]
    return SPREADS[int(np.argmin(surprises))]
