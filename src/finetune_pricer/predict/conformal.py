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
import logging
import math
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from .._arguments import refuse, require_choice, require_kind, require_many, require_number
from .._display import PrintsAsPage
from .._format import agree_on_currency
from .._numbers import read_number
from ..errors import DataError
from ..items import Item, require_item, require_items, require_price
from .prediction import Prediction
from .range_groups import (
    Bands,
    By,
    GroupCoverage,
    RangeGroup,
    count_needed,
    find_rank,
    format_coverage,
    group_cells,
    measure_group,
    name_cell,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .range_groups import Cell

_SMALLEST_SPREAD = 0.25  # added to the model's own on the log scale: a model that is sure is not always right
_BANDS = 4
# From price to logarithm and back costs some digits: without this, an item whose score decides how wide the
# ranges are would often lie just outside its own.
_ROUNDING = 1e-12
_log = logging.getLogger("finetune_pricer")
_LARGEST_LOG = 700.0  # beyond it a price is no float any more
_OTHERS = "others"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Ranges(PrintsAsPage):
    """How wide a price range must be, learned from predictions whose true prices are known.

    `str()` names the groups of items for which the promise is kept, those of them that were joined, and what
    share of new items their ranges can be expected to hold.

    Examples:
        >>> from finetune_pricer import Item, Prediction
        >>> items = [Item(title=f"Lamp {n}", price=10.0 * n) for n in range(1, 101)]
        >>> predictions = [Prediction(item_id=item.id, price=item.price * 1.2) for item in items]
        >>> print(Ranges.learn(predictions, items))
        90% ranges from 100 predictions. Nine times in ten they hold this share of 1,000 new items like those:
        - all items: 84.6% to 94.7%, from 100 calibration items
    """

    coverage: float
    """Share of true prices that the ranges hold, at least."""
    by: By | None
    """What groups keep the promise each; None: all items together, those without a distribution apart."""
    n: int
    """Predictions that it was learned from."""
    groups: tuple[RangeGroup, ...]
    """For what items the promise is kept, and how wide their ranges are."""
    widths: Mapping[str, float] = field(default_factory=dict)
    """The width of each group, by its name."""
    edges: tuple[float, ...] = ()
    """Predicted prices at which one price band ends and the next begins."""
    currency: str = "USD"
    """ISO code of the currency of those prices."""
    group_names: Mapping[Cell, str] = field(default_factory=dict, repr=False)
    """The group of each kind of prediction: its part, and whether it has a distribution."""

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

        Groups with too few items for the coverage are joined with others; the log says which.

        Raises:
            DataError: `coverage` or `by` is out of range; the predictions are in another currency than the
                items; there are too few predictions with a price, or not
                one for each item; or a predicted price is below 0 or not finite.
            InvalidItem: An item has no price.
        """
        _require_pairs(predictions, items)
        coverage = check_settings(coverage, by, len(items))
        truths = [require_price(item, "calibrating", row) for row, item in enumerate(items, start=1)]
        priced = [
            (prediction, prediction.price, item.category, truth)
            for prediction, item, truth in zip(predictions, items, truths, strict=True)
            if prediction.price is not None
        ]
        _require_enough(coverage, len(priced), len(truths))
        edges = _band_edges([price for _, price, _, _ in priced]) if by == "price" else ()
        said = {"the items": getattr(items, "currency", None), "the predictions": priced[0][0].currency}
        currency = agree_on_currency(said)
        blank = cls(coverage=coverage, by=by, n=len(priced), groups=(), edges=edges, currency=currency)
        scores: dict[Cell, list[float]] = defaultdict(list)
        for prediction, price, category, truth in priced:
            score = abs(math.log1p(truth) - _log_price(prediction, price)) / _spread(prediction)
            scores[blank._cell_of(prediction, category)].append(score)
        learned = blank._with_groups(scores)
        for group in learned.groups:
            if group.joined:
                _log.info("price ranges: %s", group)
        return learned

    def around(self, prediction: Prediction, category: str | None = None) -> Prediction:
        """Return the prediction with `low` and `high` in dollars; without a price it stays as it is.

        Items of a kind that the calibration items had none of get the widest width, and no promise.
        """
        price = prediction.price
        if price is None:
            return prediction
        width = self.widths.get(self.group_of(prediction, category))
        if width is None:
            width = max(self.widths.values())
        middle, reach = _log_price(prediction, price), width * _spread(prediction) + _ROUNDING
        high = math.expm1(middle + reach) if middle + reach < _LARGEST_LOG else math.inf
        low = max(0.0, math.expm1(middle - reach))
        # Whatever rounding does, a range holds its own price.
        return replace(prediction, low=min(low, price), high=max(high, price))

    def group_of(self, prediction: Prediction, category: str | None) -> str:
        """Return the name of the group that a prediction belongs to, `others` where it belongs to none."""
        return self.group_names.get(self._cell_of(prediction, category), _OTHERS)

    def measure(self, predictions: Sequence[Prediction], items: Sequence[Item]) -> tuple[GroupCoverage, ...]:
        """Return for each group what share of new items the ranges held, beside what could be expected.

        Predictions without a price are left out, and so are groups of which there are no new items.

        Raises:
            DataError: There is not one prediction for each item.
            InvalidItem: An item has no price.
        """
        _require_pairs(predictions, items)
        held: dict[str, list[bool]] = defaultdict(list)
        for row, (prediction, item) in enumerate(zip(predictions, items, strict=True), start=1):
            truth, found = (
                require_price(item, "measuring ranges", row),
                self.around(prediction, item.category),
            )
            if found.low is not None and found.high is not None:
                held[self.group_of(prediction, item.category)].append(found.low <= truth <= found.high)
        known = {group.name: group for group in self.groups}
        names = [name for name in (*known, _OTHERS) if name in held]
        return tuple(measure_group(name, known.get(name), held[name]) for name in names)

    def __str__(self) -> str:
        head = (
            f"{format_coverage(self.coverage)} ranges from {self.n:,} predictions. Nine times in ten they "
            "hold this share of 1,000 new items like those:"
        )
        return "\n".join([head, *(f"- {group}" for group in self.groups)])

    def _cell_of(self, prediction: Prediction, category: str | None) -> Cell:
        told = prediction.distribution is not None
        if self.by == "category":
            return category, told
        if self.by == "price" and prediction.price is not None:
            return bisect.bisect_right(self.edges, prediction.price), told
        return None, told

    def _with_groups(self, scores: Mapping[Cell, Sequence[float]]) -> Ranges:
        counts = {cell: len(found) for cell, found in scores.items()}
        bands = Bands(self.edges, self.currency)
        cells_by_name = group_cells(counts, needed=count_needed(self.coverage), by=self.by, bands=bands)
        groups = []
        for name, cells in cells_by_name.items():
            pooled = sorted(score for cell in cells for score in scores.get(cell, ()))
            names = tuple(name_cell(cell, self.by, bands) for cell in cells if cell in scores)
            groups.append(
                RangeGroup(
                    name=name,
                    n=len(pooled),
                    width=pooled[find_rank(len(pooled), self.coverage) - 1],
                    coverage=self.coverage,
                    joined=names if len(names) > 1 else (),
                )
            )
        group_names = {cell: name for name, cells in cells_by_name.items() for cell in cells}
        widths = {group.name: group.width for group in groups}
        return replace(self, groups=tuple(groups), widths=widths, group_names=group_names)


def check_settings(coverage: float, by: By | None, count: int) -> float:
    """Return the coverage, of whatever type of number, as a float.

    Raises:
        DataError: So many items can give no ranges of this kind, whatever is predicted for them.
    """
    require_number("coverage", coverage)
    share = read_number(coverage)
    if share is None or not 0 < share < 1:
        raise DataError(f"coverage must be between 0 and 1, such as 0.9, not {coverage!r}")
    require_choice("by", by, ("category", "price", None))
    if by not in {None, "category", "price"}:
        raise DataError(f"by must be 'category', 'price' or None, not {by!r}")
    _require_enough(share, count, count)
    return share


def _require_enough(coverage: float, count: int, of: int) -> None:
    needed = count_needed(coverage)
    if count < needed:
        raise DataError(
            f"ranges of {100 * coverage:.6g}% need at least {needed} predictions with a price, "
            f"and there are {count} of {of}; calibrate on more items, or with a lower coverage"
        )


def _require_pairs(predictions: Sequence[Prediction], items: Sequence[Item]) -> None:
    """Refuse what are no predictions or no items, and more of one than of the other."""
    require_many("predictions", predictions, "predictions")
    require_items(items)
    for name, values in (("predictions", predictions), ("items", items)):
        if not hasattr(values, "__len__"):
            raise refuse(name, f"a sequence of {name}", values, f"list({name}) makes one")
    if len(predictions) != len(items):
        raise DataError(f"{len(items):,} items but {len(predictions):,} predictions; give one for each")
    for row, (prediction, item) in enumerate(zip(predictions, items, strict=True), start=1):
        require_kind(f"row {row}: a prediction", prediction, Prediction, "a Prediction")
        require_item(item, row)


def _band_edges(prices: Sequence[float]) -> tuple[float, ...]:
    """Return the predicted prices that divide the predictions into bands of equally many items."""
    ordered = sorted(prices)
    return tuple(sorted({ordered[len(ordered) * band // _BANDS] for band in range(1, _BANDS)}))


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
