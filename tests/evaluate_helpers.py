"""Items and evaluations of known errors, for the tests of evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from finetune_pricer import Evaluation, Evaluator, Item, ItemDataset

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

KINDS = ("lamp", "desk", "mug", "tent")


def things(count: int, *, seed: int = 0, start: int = 0) -> ItemDataset:
    """Products whose text tells much of their price."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(start, start + count):
        kind, size = int(random.integers(4)), int(random.integers(1, 5))
        price = (20, 200, 8, 120)[kind] * size * float(np.exp(random.normal(0, 0.2)))
        text = f"A {KINDS[kind]} of size {'small medium large giant'.split()[size - 1]}, model {number % 17}"
        made.append(
            Item(id=f"thing-{number}", title=text, category="home" if kind < 2 else "other", price=price)
        )
    return ItemDataset.from_items(made)


def evaluated(
    errors: Sequence[float] | Floats, *, name: str = "model", truth: float = 1000.0, first: int = 0
) -> Evaluation:
    """An evaluation whose signed errors are given; ids count from `first`."""
    items = [
        Item(id=f"item-{at}", title=f"Thing {at}", price=truth) for at in range(first, first + len(errors))
    ]
    prices = [truth + float(error) for error in errors]
    return Evaluator(rounds=200).score(items, prices, name=name)
