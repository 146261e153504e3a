"""Looking at items before money is spent on them: twins, leaks between splits, prices in texts, odd rows."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from .._methods import duplicates
from ..items import ItemDataset, ItemSplits
from . import leakage
from .findings import KINDS, AuditReport, Finding, Kind, Place, Split

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

_LONG = 8_000  # characters; what stands behind them is rarely about the product
_SHORT = 2  # words
_BACKWARDS: tuple[Split, ...] = ("test", "validation", "train")


def audit(
    train: ItemDataset,
    *,
    validation: ItemDataset | None = None,
    test: ItemDataset | None = None,
    similarity: float | None = 0.6,
    currency: str = "USD",
) -> AuditReport:
    """Look for what spoils training and judging: twins, leaks between splits, prices in texts, odd rows.

    Args:
        train: What is to be learned from.
        validation: What is watched meanwhile.
        test: What is judged by in the end.
        similarity: From which share of common word triples on texts are near-twins; None leaves them out.
        currency: Of the prices.

    Raises:
        MissingExtra: Near-twins need the extra `audit`.
        DataError: The similarity is out of range.
    """
    none = ItemDataset.from_items([])
    splits = ItemSplits(train, none if validation is None else validation, none if test is None else test)
    look = _Look(splits, currency)
    found = [*look.twins(), *look.texts(), *look.prices(), *look.categories()]
    pairs = [] if similarity is None else [*look.near_twins(similarity)]
    found += [look.near_finding(*pair) for pair in pairs]
    ordered = sorted(found, key=lambda finding: KINDS.index(finding.kind))
    return AuditReport(
        splits=splits,
        findings=tuple(ordered),
        chance=look.chance,
        reply=leakage.fitting_reply(train.prices),
        labels=look.labels([(first, second) for first, second, _ in pairs]),
    )


class _Look:
    """The items of all splits in one row, test first, and what is looked at again and again.

    Test stands first so that of two twins it is the one on the training side that is told to go.
    """

    def __init__(self, splits: ItemSplits, currency: str) -> None:
        self.currency = currency
        self.splits = splits
        self.sizes = [len(items) for items in reversed(splits)]
        self.ends = np.cumsum(self.sizes)
        items = ItemDataset.concat(*reversed(splits))
        self.prices_of = items.prices
        self.texts_of = [item.text for item in items]
        self.ids: list[str] = items.table["id"].to_pylist()
        self.kinds: list[str | None] = items.table["category"].to_pylist()
        self.words = [duplicates.words_of(text) for text in self.texts_of]
        # A text of signs only has no words; it is its own key.
        keys = [" ".join(words) or text for words, text in zip(self.words, self.texts_of, strict=True)]
        self.same = duplicates.group_ids(keys)
        self.chance = 0.0

    def place(self, row: int) -> Place:
        """Say where a row of all splits stands in its own."""
        part = int(np.searchsorted(self.ends, row, side="right"))
        price = float(self.prices_of[row])
        return Place(
            split=_BACKWARDS[part],
            row=row - int(self.ends[part]) + self.sizes[part] + 1,
            id=self.ids[row],
            price=None if np.isnan(price) else price,
        )

    def twins(self) -> Iterator[Finding]:
        """Find texts that say the same but for case, spacing and punctuation."""
        first_of: dict[int, int] = {}
        for row, key in enumerate(self.same.tolist()):
            first = first_of.setdefault(key, row)
            if first == row:
                continue
            one, other = self.place(row), self.place(first)
            how = "the very same text" if self.texts_of[row] == self.texts_of[first] else "but for its form"
            if one.split != other.split:
                yield Finding(kind="twin across splits", place=one, other=other, detail=how)
            if one.price != other.price:
                yield Finding(kind="conflicting prices", place=one, other=other, detail=how)
            elif one.split == other.split:
                yield Finding(kind="twin", place=one, other=other, detail=how)

    def near_twins(self, similarity: float) -> list[tuple[int, int, float]]:
        """Find pairs that are nearly the same, one text of each set of twins standing for all of them."""
        _, firsts = np.unique(self.same, return_index=True)
        rows = np.sort(firsts)
        shingles = duplicates.Shingles(self.words[row] for row in rows)
        pairs = duplicates.near_pairs(shingles, similarity)
        found = [(int(rows[one]), int(rows[other]), share) for one, other, share in pairs]
        return sorted(found, key=lambda pair: (-pair[2], pair[0], pair[1]))

    def near_finding(self, first: int, second: int, share: float) -> Finding:
        """Tell of a pair of near-twins, the one on the training side first."""
        one, other = self.place(second), self.place(first)
        kind: Kind = "near-twin" if one.split == other.split else "near-twin across splits"
        return Finding(kind=kind, place=one, other=other, similarity=share)

    def texts(self) -> Iterator[Finding]:
        """Find texts that give their price away, or are hardly any or too much text."""
        for row, (text, words) in enumerate(zip(self.texts_of, self.words, strict=True)):
            price = float(self.prices_of[row])
            if not np.isnan(price) and (shown := leakage.own_price_in_text(text, price, self.currency)):
                yield Finding(kind="own price in text", place=self.place(row), detail=f"says {shown!r}")
            if len(words) <= _SHORT:
                yield Finding(kind="short text", place=self.place(row), detail=f"{len(words)} words")
            if len(text) > _LONG:
                yield Finding(kind="long text", place=self.place(row), detail=f"{len(text):,} characters")

    def prices(self) -> Iterator[Finding]:
        """Find prices far from their kind's, and bare numbers that equal the price."""
        for row, middle in leakage.outliers(self.prices_of, self.kinds):
            detail = f"the median of {self.kinds[row] or 'all'} is ${middle:,.2f}"
            yield Finding(kind="outlying price", place=self.place(row), detail=detail)
        numbers = leakage.bare_numbers(self.texts_of)
        self.chance = leakage.by_chance(numbers, self.prices_of)
        for row in leakage.equal_to_price(numbers, self.prices_of):
            yield Finding(kind="number equal to price", place=self.place(row))

    def categories(self) -> Iterator[Finding]:
        """Find categories that only one of several splits has."""
        kinds_of = {
            name: Counter(items.table["category"].to_pylist())
            for name, items in self.splits._asdict().items()
            if len(items)
        }
        for name, kinds in kinds_of.items() if len(kinds_of) > 1 else ():
            others = set[str | None]().union(*(kinds_of[other] for other in kinds_of if other != name))
            for kind in sorted(kind for kind in kinds.keys() - others if kind):
                detail = f"{kind!r}: {kinds[kind]:,} items, all in {name}"
                yield Finding(kind="category in one split", detail=detail)

    def labels(self, near: Sequence[tuple[int, int]]) -> npt.NDArray[np.int64]:
        """Give the group of each row, in the order training, validation, test."""
        first_of: dict[int, int] = {}
        same = [(first_of.setdefault(key, row), row) for row, key in enumerate(self.same.tolist())]
        groups = duplicates.connected_groups(len(self.same), [*same, *near])
        return np.concatenate(np.split(groups, self.ends[:-1])[::-1])
