"""What a model must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import EvaluationError

if TYPE_CHECKING:
    from ..items import Item, ItemDataset


class MedianBaseline:
    """Always says the median price of the training items: of all constants, the one with the lowest MAE."""

    name = "always the training median"

    def __init__(self, price: float) -> None:
        self.price = price

    @classmethod
    def fit(cls, train: ItemDataset) -> MedianBaseline:
        """Take the median of the known prices.

        Raises:
            EvaluationError: No item has a price.
        """
        import numpy as np

        prices = train.prices
        known = prices[~np.isnan(prices)]
        if not known.size:
            raise EvaluationError("the training items of a baseline have no prices")
        return cls(float(np.median(known)))

    def __call__(self, item: Item) -> float:  # noqa: ARG002 - a constant looks at nothing
        """Give the median, whatever the item."""
        return self.price
