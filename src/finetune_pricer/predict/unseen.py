"""What an answer leaves unseen: it lists the likeliest tokens, which may hold a tenth of the probability.

These are no fair draw of all. From $10 to $20 there are ten dollar tokens, from $100 to $200 a hundred, each
a tenth as likely: dear prices are the last to be seen. But in the form `$1,199.99` all prices from $1,000 to
$1,999 begin with one token, which is seen first. So the median of what is seen is too low, or far too high.

A bell over log(1 + price) completes it. It is the one under which all that is known is the most likely, found
by expectation and maximisation (Dempster, Laird and Rubin, 1977, section 4.2, on grouped observations):

- What is seen lies where it lies. A token that may be read two ways is shared out between its readings, as
  the bell stands over them.
- What is not seen lies under the bell where no seen token is. No unseen token is likelier than the least
  likely one that is seen, which keeps the bell from being too narrow.
- All that, with its weights, has the mean and the spread of the next bell, until it stands still.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.floating[Any]]
    Weighted = list[tuple[float, float]]
    """Prices and their weights."""

_PIECES = 10  # over which the thousand from $1,000 on is spread; those above, which are narrower, over fewer
_CELLS, _REACH = 40, 3.5  # in which the bell is laid out, and how many spreads it reaches
_NARROWEST, _WIDEST, _FIRST = (
    0.02,
    3.0,
    0.1,
)  # spreads of a bell in log(1 + price), and the least to begin with
_STILL = 2e-3  # of the spread, by which a bell moves that stands still
_MOST_ROUNDS = 60
_FILLINGS = 6  # of cells that are full, until what is left fits into the others
_HARDLY = 1e-3  # a share that is not worth a reading of its own
_NEVER = 1e-9  # a share that no bell goes below, as what a model likes is no bell
_HIGHEST = 1e6  # dollars, where nobody says more


@dataclass(frozen=True, slots=True)
class Span:
    """The amounts that begin with the same digits: $119 alone, or those from $1,190 to $1,199."""

    lowest: int
    middle: float
    """The price that stands for them all."""
    dollars: int = 1
    """How many they are."""

    @property
    def edges(self) -> tuple[float, float]:
        """The prices between which they lie."""
        return max(self.middle - self.dollars / 2, 0.0), self.middle + self.dollars / 2

    def spread(self, weight: float) -> Iterator[tuple[float, float]]:
        """Yield prices that share the weight: so many that none stands for more than a tenth of itself."""
        pieces = min(_PIECES, math.ceil(_PIECES * self.dollars / max(self.lowest, 1)))
        if self.dollars == 1 or pieces == 1:
            yield self.middle, weight
            return
        for piece in range(pieces):
            yield self.lowest + self.dollars * (piece + 0.5) / pieces, weight / pieces


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What an answer tells of a model's prices, and how much it leaves unseen."""

    told: Weighted
    """Amounts of which it is sure what they are."""
    own: Sequence[tuple[Sequence[Span], float]]
    """What the reply's own token may stand for, each length of an amount by itself, and its weight."""
    readings: Sequence[tuple[Sequence[Span], float]]
    """What each other token may stand for, and its weight."""
    seen: Sequence[Span]
    """All that tokens which are seen might stand for."""
    least: float
    """No unseen token is likelier."""
    unseen: float
    """What all of them weigh."""
    grouped: bool
    """Whether a token may stand for all amounts of a thousand."""
    highest: float | None

    def judge(self, found: Weighted) -> float:
        """Return how likely all that is known is under the bell over these prices, as a logarithm."""
        import numpy as np

        prices, weights = np.array(found).T
        centre, spread = _measure(np.log1p(prices), weights)
        rows = [*self.own, *self.readings]
        edges = np.log1p(_pad([[edge for span in spans for edge in span.edges] for spans, _ in rows]))
        below = _below((edges - centre) / max(spread, _NARROWEST))
        shares = np.nansum(below[:, 1::2] - below[:, ::2], axis=1)
        logs = np.log(np.maximum(shares, _NEVER))
        seen = math.fsum(weight * log for (_, weight), log in zip(rows, logs.tolist(), strict=True))
        return seen + self.unseen * math.log(max(1 - float(shares.sum()), _NEVER))

    def complete(self, nearest: Weighted) -> Weighted:
        """Return all prices with their weights, of which `nearest` are a first reading of what is seen."""
        import numpy as np

        prices, weights = np.array(nearest).T
        centre, spread = _measure(np.log1p(prices), weights)
        told = np.array(self.told).reshape(-1, 2)
        gaps = _Gaps.beside(self)
        rows = np.log1p(_pad([[span.middle for span in spans] for spans, _ in self.readings]))
        weighs = np.array([weight for _, weight in self.readings])[:, None]
        spread, rounds = max(spread, _FIRST), 0
        while True:
            shares = _share_out(rows, centre, spread) * weighs
            cells, filled = gaps.fill(centre, spread)
            logs = np.concatenate([np.log1p(told[:, 0]), np.nan_to_num(rows).ravel(), cells])
            before = centre, spread
            centre, spread = _measure(logs, np.concatenate([told[:, 1], shares.ravel(), filled]))
            spread = min(max(spread, _NARROWEST), _WIDEST)
            rounds += 1
            moved = max(abs(centre - before[0]), abs(spread - before[1]))
            if moved < _STILL * spread or rounds == _MOST_ROUNDS:
                break
        found = [*self.told, *zip(np.expm1(cells).tolist(), filled.tolist(), strict=True)]
        for (spans, _), row in zip(self.readings, shares.tolist(), strict=True):
            for span, weight in zip(spans, row, strict=False):
                found += span.spread(weight) if weight else ()
        return found


@dataclass(frozen=True, slots=True)
class _Gaps:
    """Where no seen token is, on the scale of log(1 + price)."""

    edges: Floats
    below: Floats
    """How much room there is below each edge."""
    evidence: Evidence

    @classmethod
    def beside(cls, evidence: Evidence) -> _Gaps:
        import numpy as np

        top = math.log1p(evidence.highest or _HIGHEST)
        edges, below = [0.0], [0.0]
        for span in sorted(evidence.seen, key=lambda span: span.middle):
            low, high = (math.log1p(max(span.middle + side * span.dollars / 2, 0.0)) for side in (-1, 1))
            for edge, room in ((max(low, edges[-1]), True), (max(high, edges[-1]), False)):
                below.append(below[-1] + (min(edge, top) - min(edges[-1], top)) * room)
                edges.append(edge)
        if edges[-1] < top:
            below.append(below[-1] + top - edges[-1])
            edges.append(top)
        return cls(np.array(edges), np.array(below), evidence)

    def fill(self, centre: float, spread: float) -> tuple[Floats, Floats]:
        """Return the places of the bell's cells, and how much of what is unseen lies in each."""
        import numpy as np

        borders, heights = _lay_out()
        room = np.diff(np.interp(centre + spread * borders, self.edges, self.below))
        places = np.maximum(centre + spread * (borders[1:] + borders[:-1]) / 2, 0.0)
        weights = heights * room
        if not weights.any():
            return places, weights
        weights *= self.evidence.unseen / weights.sum()
        most = self.evidence.least * room / self._width(np.expm1(places))
        for _ in range(_FILLINGS):
            full = weights > most
            weights = np.where(full, most, weights)
            left, rest = self.evidence.unseen - weights[full].sum(), weights[~full].sum()
            if not full.any() or rest <= 0 or left <= rest:
                break
            weights = np.where(full, weights, weights * left / rest)
        return places, weights

    def _width(self, amounts: Floats) -> Floats:
        """Return how wide one token's amounts are on the scale, at each amount."""
        import numpy as np

        digits = np.floor(np.log10(np.maximum(amounts, 1.0))) + 1
        missing = np.maximum(digits - 3, 0)  # a token has three
        dollars = np.where(missing > 0, 1000.0, 1.0) if self.evidence.grouped else 10.0**missing
        return np.asarray(dollars / (1 + amounts))


def _measure(logs: Floats, weights: Floats) -> tuple[float, float]:
    """Return the mean and the spread of weighted places."""
    total = weights.sum()
    centre = float((logs * weights).sum() / total)
    return centre, math.sqrt(float(((logs - centre) ** 2 * weights).sum() / total))


def _share_out(rows: Floats, centre: float, spread: float) -> Floats:
    """Return how a bell shares out each row's weight among the places in it; NaN is none."""
    import numpy as np

    if not len(rows):
        return rows
    far = ((rows - centre) / spread) ** 2
    shares = np.nan_to_num(np.exp(-0.5 * (far - np.nanmin(far, axis=1, keepdims=True))))
    shares[shares < _HARDLY] = 0.0
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _pad(rows: Sequence[Sequence[float]]) -> Floats:
    """Return rows of prices as one array, filled up with NaN."""
    import numpy as np

    padded = np.full((len(rows), max(map(len, rows), default=0)), math.nan)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return padded


def _below(places: Floats) -> Floats:
    """Return how much of a standard bell lies below each place."""
    import numpy as np

    # numpy has no error function, and scipy is not among what everybody installs.
    return np.array([[(1 + math.erf(place / math.sqrt(2))) / 2 for place in row] for row in places.tolist()])


@cache
def _lay_out() -> tuple[Floats, Floats]:
    """Return the borders of a standard bell's cells, and its mean height in each."""
    import numpy as np

    borders = np.linspace(-_REACH, _REACH, _CELLS + 1)
    return borders, np.diff(_below(borders[None])[0]) / np.diff(borders)
