"""Prices of real listings by models that never saw them: the errors that simulations draw from."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

from finetune_pricer import ItemDataset
from finetune_pricer.evaluate import (
    Baseline,
    CategoryMedianBaseline,
    MedianBaseline,
    NeighborsBaseline,
    RidgeBaseline,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

KINDS: dict[str, type[Baseline]] = {
    "ridge": RidgeBaseline,
    "neighbors": NeighborsBaseline,
    "category": CategoryMedianBaseline,
    "median": MedianBaseline,
}
_FOLDS = 5


class Priced(NamedTuple):
    """Items of a data set, with what a model says of each."""

    items: ItemDataset
    truth: Floats
    """Dollars, shape `(n,)`."""
    price: Floats
    """Dollars, shape `(n,)`, each from a model that was fitted without the item."""


@cache
def priced(kind: str = "ridge", data: str = "amazon", *, most: int = 6000) -> Priced:
    """Price real items by a model fitted to four fifths of them, each fifth by the other four.

    With thousands of items they are the population: samples drawn from them have a known true error.
    """
    folder = Path(os.environ.get("FINETUNE_PRICER_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real items in {folder}; set FINETUNE_PRICER_DATA to their folder")
    every = [item for part in ItemDataset.from_hub(folder / data) for item in part]
    order = np.random.default_rng(42).permutation(len(every))[:most]
    items = ItemDataset.from_items(every[at] for at in order)
    truth, price = np.array(items.prices, dtype=np.float64), np.empty(len(items))
    for fold in range(_FOLDS):
        held = np.arange(len(items)) % _FOLDS == fold
        train = ItemDataset.from_items(items[int(at)] for at in np.flatnonzero(~held))
        asked = [items[int(at)] for at in np.flatnonzero(held)]
        price[held] = KINDS[kind].fit(train).prices(asked)
    return Priced(items, truth, price)
