"""Price ranges with a guarantee: split conformal prediction on the logarithm of the price.

From n predictions whose true prices are known, the scores |log(1 + true) - log(1 + predicted)| / spread are
sorted; the k-th smallest, k = ceil((n + 1) * coverage), tells how wide a range must be. If new items are
like those n (exchangeable with them), the range of a new one holds its true price with a probability of at
least `coverage`, and at most coverage + 1 / (n + 1), whatever the model. It is a promise for all items
together, and with groups for each group, not for a single item. Scores in dollars would keep the promise
too, but by ranges that are far too wide for cheap items and far too narrow for dear ones.
"""

from __future__ import annotations

import bisect
import math
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from ..errors import DataError
from ..items import Item, require_price

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .prediction import Prediction

By = Literal["category", "price"]
"""What the groups of items are that each keep the promise."""

_SMALLEST_SPREAD = 0.25  # added to the model's own on the log scale: a model that is sure is not always right
_BANDS = 4
# From price to logarithm and back costs some digits: without this, an item whose score decides how wide the
# ranges are would often lie just outside its own.
_ROUNDING = 1e-12
_LARGEST_LOG = 700.0  # beyond it a price is no float any more
_OTHERS = "others"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """How wide a price range must be, learned from predictions whose true prices are known."""

    coverage: float
    """Share of true prices that the ranges hold, at least."""
    by: By | None
    """What groups keep the promise each; None: all items together."""
    n: int
    """Predictions that it was learned from."""
    widths: Mapping[str, float]
    """For each group: the k-th smallest score."""
    edges: tuple[float, ...] = ()
    """Predicted prices at which one price band ends and the next begins, dollars."""

    @classmethod
    def learn(
        cls,
        predictions: Sequence[Prediction],
        items: Sequence[Item],
        *,
        coverage: float = 0.9,
        by: By | None = None,
    ) -> Ranges:
        """Learn from predictions for items whose prices are known; those without a price are left out.

        Groups with too few items for the coverage share one width.

        Raises:
            DataError: `coverage` or `by` is out of range, or there are too few predictions with a price.
            InvalidItem: An item has no price.
            DataError: A predicted price is below 0 or not finite.
        """
        check_settings(coverage, by, len(items))
        truths = [require_price(item, "calibrating", row) for row, item in enumerate(items, start=1)]
        priced = [
            (prediction, prediction.price, item.category, truth)
            for prediction, item, truth in zip(predictions, items, truths, strict=True)
            if prediction.price is not None
        ]
        _require_enough(coverage, len(priced), len(truths))
        edges = _band_edges([price for _, price, _, _ in priced]) if by == "price" else ()
        blank = cls(coverage=coverage, by=by, n=len(priced), widths={}, edges=edges)
        groups: dict[str, list[float]] = defaultdict(list)
        for prediction, price, category, truth in priced:
            score = abs(math.log1p(truth) - _log_price(prediction, price)) / _spread(prediction)
            groups[blank.group_of(prediction, category)].append(score)
        return replace(blank, widths=_widths(groups, coverage))

    def around(self, prediction: Prediction, category: str | None = None) -> Prediction:
        """Return the prediction with `low` and `high` in dollars; without a price it stays as it is."""
        price = prediction.price
        if price is None:
            return prediction
        width = self.widths.get(self.group_of(prediction, category), self.widths[_OTHERS])
        middle, reach = _log_price(prediction, price), width * _spread(prediction) + _ROUNDING
        high = math.expm1(middle + reach) if middle + reach < _LARGEST_LOG else math.inf
        low = max(0.0, math.expm1(middle - reach))
        # Whatever rounding does, a range holds its own price.
        return replace(prediction, low=min(low, price), high=max(high, price))

    def group_of(self, prediction: Prediction, category: str | None) -> str:
        """Return the group whose width a prediction gets, if there are enough of its kind."""
        if self.by == "category":
            return f"category {category}"
        if self.by == "price":
            price = prediction.price
            return _OTHERS if price is None else f"band {bisect.bisect_right(self.edges, price)}"
        # Scores are of two kinds: with the model's own spread, and without.
        return "with a distribution" if prediction.distribution is not None else "without one"


def check_settings(coverage: float, by: By | None, count: int) -> None:
    """Raise `DataError` if so many items can give no ranges of this kind, whatever is predicted for them."""
    if not 0 < coverage < 1:
        raise DataError(f"coverage must be between 0 and 1, such as 0.9, not {coverage!r}")
    if by not in {None, "category", "price"}:
        raise DataError(f"by must be 'category', 'price' or None, not {by!r}")
    _require_enough(coverage, count, count)


def _require_enough(coverage: float, count: int, of: int) -> None:
    needed = _count_needed(coverage)
    if count < needed:
        raise DataError(
            f"ranges of {100 * coverage:.6g}% need at least {needed} predictions with a price, "
            f"and there are {count} of {of}; calibrate on more items, or with a lower coverage"
        )


def _count_needed(coverage: float) -> int:
    """Return the fewest scores of which one is the k-th: fewer would make every range endless."""
    # Rounded, since 1 / (1 - 0.9) is a little more than 10.
    return max(1, math.ceil(round(1 / (1 - coverage), 9)) - 1)


def _kth_smallest(scores: Sequence[float], coverage: float) -> float:
    k = math.ceil(round((len(scores) + 1) * coverage, 9))
    return sorted(scores)[k - 1]


def _widths(groups: Mapping[str, Sequence[float]], coverage: float) -> dict[str, float]:
    needed = _count_needed(coverage)
    large = {name: scores for name, scores in groups.items() if len(scores) >= needed}
    rest = [score for name, scores in groups.items() if name not in large for score in scores]
    if len(rest) < needed:
        rest = [score for scores in groups.values() for score in scores]
    return {name: _kth_smallest(scores, coverage) for name, scores in large.items()} | {
        _OTHERS: _kth_smallest(rest, coverage)
    }


def _band_edges(prices: Sequence[float]) -> tuple[float, ...]:
    """Return the predicted prices that divide the predictions into bands of equally many items."""
    ordered = sorted(prices)
    return tuple(ordered[len(ordered) * band // _BANDS] for band in range(1, _BANDS))


def _log_price(prediction: Prediction, price: float) -> float:
    """Return log(1 + price); refuse a price that is no amount of money, which a function may have given."""
    if not 0 <= price < math.inf:
        raise DataError(
            f"item {prediction.item_id!r} was priced at {price!r}, around which there is no range; a price "
            "is a finite number of at least 0, and None where there is none"
        )
    return math.log1p(price)


def _spread(prediction: Prediction) -> float:
    return 1.0 if prediction.distribution is None else prediction.distribution.spread + _SMALLEST_SPREAD
