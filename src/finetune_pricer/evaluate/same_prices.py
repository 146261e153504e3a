"""Evaluations of the very same prices: one line of a table, under all their names.

An ensemble whose weight lies on one member prices as that member; without categories, the median of an item's
category is the median of all. Side by side they look like two findings, and each costs the other a part of
its p-value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .evaluation import Evaluation


class NamedOnce(NamedTuple):
    """An evaluation, and what it and those with the same prices are called."""

    evaluation: Evaluation
    names: tuple[str, ...]
    """The first one first, each once."""

    @property
    def label(self) -> str:
        """All names in one: `always the training median = category's median`."""
        return " = ".join(self.names)


def name_once(evaluations: Iterable[Evaluation]) -> list[NamedOnce]:
    """Return evaluations in their order, those that gave each item the same price as one."""
    found: dict[object, list[Evaluation]] = {}
    for one in evaluations:
        found.setdefault(tuple((each.item_id, each.price) for each in one.records), []).append(one)
    return [NamedOnce(same[0], tuple(dict.fromkeys(one.name for one in same))) for same in found.values()]
