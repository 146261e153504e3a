"""Audits of items before money is spent on them: duplicates, leaks, prices in texts, odd rows."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Literal, get_args

from .._arguments import require_choice, require_number, require_text
from .._display import PrintsAsPage, ShortRepr
from .._escape import escape_line
from .._format import agree_on_currency, format_money, mark_of
from .._methods.duplicates import Shingles, group_alike, near_pairs, words_of
from ..errors import InvalidItem
from ..items import (
    SHOWN_FIELDS,
    ItemDataset,
    ItemSplits,
    check_fields,
    lacks_title,
    require_item_text,
    require_set,
)
from ..items.markup import has_markup
from .leakage import count_expected_by_chance, find_numbers, find_own_price, rows_with_own_price

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from ..items import Item

    Prices = npt.NDArray[np.float64]

Split = Literal["train", "validation", "test"]
Kind = Literal[
    "duplicate across splits",
    "own price in text",
    "conflicting prices",
    "duplicate",
    "price of another magnitude",
    "price of 0",
    "near-duplicate across splits",
    "near-duplicate",
    "title not in description",
    "markup in text",
    "short text",
    "long text",
    "outlying price",
    "category in one split",
    "number equal to price",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
_ERRORS = frozenset({"duplicate across splits", "own price in text"})
_BACKWARDS: tuple[Split, ...] = ("test", "validation", "train")
_SHOWN = 3  # findings of a kind that the report spells out

_LONG = 8_000  # characters; what stands behind them is rarely about the product
_SHORT = 2  # words
_FAR = 4 * 1.4826  # four robust standard deviations, in median absolute deviations
_MAGNITUDE = 9.99  # ten but for rounding: how many times a twin's price is no matter of size or colour
_ENOUGH = 20  # items of a category; in a smaller one nothing is called an outlier


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Place(ShortRepr):
    """Where an item stands."""

    split: Split
    row: int
    """Counted from 1."""
    id: str
    price: float | None
    """In the currency's unit; None where it is unknown."""
    currency: str = "USD"
    """Its ISO code."""

    def __str__(self) -> str:
        price = "no price" if self.price is None else format_money(self.price, self.currency)
        return f"{self.split} row {self.row:,} (id {self.id[:24]!r}, {price})"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Finding(ShortRepr):
    """One thing that the audit found."""

    kind: Kind
    place: Place | None = None
    """The item; of a pair, the one on the side that is learned from. None for a whole category."""
    other: Place | None = None
    """The second of a pair; of duplicates, the first item with that text."""
    similarity: float | None = None
    """Of near-duplicates: the share of common word triples."""
    detail: str = ""

    def __str__(self) -> str:
        parts = [str(self.place)] if self.place else []
        parts += [f"and {self.other}"] if self.other else []
        parts += [f"share {self.similarity:.0%} of their word triples"] if self.similarity is not None else []
        detail = escape_line(self.detail)
        return " ".join(parts) + (f": {detail}" if detail and parts else detail)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AuditReport(PrintsAsPage):
    """What `audit` found; `str()` of it is worth reading before paying for a job."""

    splits: ItemSplits
    findings: tuple[Finding, ...]
    """Everything, the gravest kinds first."""
    chance: float
    """How many texts would hold a number equal to their price if prices were dealt out at random."""
    reply: str
    """Which form of a reply fits the training prices."""
    labels: npt.NDArray[np.int64]
    """A number for each item of all splits in their order, equal for duplicates and near-duplicates."""

    @property
    def ok(self) -> bool:
        """Whether nothing leaks: between the splits, or from the price into the text."""
        return not any(finding.kind in _ERRORS for finding in self.findings)

    def of(self, kind: Kind) -> tuple[Finding, ...]:
        """Return the findings of one kind."""
        return tuple(finding for finding in self.findings if finding.kind == kind)

    def groups(self, split: Split = "train") -> npt.NDArray[np.int64]:
        """Return a label for each item of a split, equal for duplicates and near-duplicates of all splits.

        For `ItemDataset.split(group=)`, and for `Evaluator.evaluate(groups=)`, whose intervals must not count
        near-duplicates as independent. All texts of a group are nearly the same as one of them; texts that
        only a chain of others connects are not in one group.
        """
        require_choice("split", split, ItemSplits._fields)
        index = ItemSplits._fields.index(split)
        start = sum(map(len, self.splits[:index]))
        return self.labels[start : start + len(self.splits[index])]

    def clean(self) -> ItemSplits:
        """Return the splits without the rows that spoil them; each set's `history` says how many and why.

        Rows are taken from the side that is learned from: training rows with the text of a validation or test
        row, validation rows with the text of a test row, repetitions at the same price, and training rows
        whose text gives their price. Near-duplicates stay, as their prices usually differ: keep them on one
        side with `split(group=report.groups())`.
        """
        reasons: dict[tuple[str, int], str] = {}
        for finding in self.findings:
            if (reason := _reason_to_remove(finding)) and finding.place is not None:
                reasons.setdefault((finding.place.split, finding.place.row), reason)
        return ItemSplits(*(_without(items, name, reasons) for name, items in self.splits._asdict().items()))

    def to_frame(self) -> pd.DataFrame:
        """Return the findings as a frame, one row each."""
        import pandas as pd

        def cells(prefix: str, place: Place | None) -> dict[str, object]:
            fields = ("split", "row", "id", "price")
            return {f"{prefix}{field}": getattr(place, field) if place else None for field in fields}

        return pd.DataFrame(
            [
                dict[str, object](kind=each.kind, error=each.kind in _ERRORS)
                | cells("", each.place)
                | cells("other_", each.other)
                | {"similarity": each.similarity, "detail": each.detail}
                for each in self.findings
            ]
        )

    def __str__(self) -> str:
        sizes = ", ".join(f"{name} {len(items):,}" for name, items in self.splits._asdict().items())
        counts = Counter(finding.kind for finding in self.findings)
        lines = [f"{'ok' if self.ok else 'NOT OK'}: {sizes}"]
        for kind in KINDS:
            if not counts[kind]:
                continue
            level = "error" if kind in _ERRORS else "note"
            by_chance = f" ({self.chance:.1f} by chance)" if kind == "number equal to price" else ""
            lines.append(f"{level}: {kind}: {counts[kind]:,}{by_chance}")
            lines += [f"    {finding}" for finding in self.of(kind)[:_SHOWN]]
        grouped = len(self.labels) - len(set(self.labels.tolist()))
        lines.append(f"groups for split(group=): {grouped:,} items stand in a group with an earlier one")
        return "\n".join([*lines, f"reply form: {self.reply}"])


def _reason_to_remove(finding: Finding) -> str:
    if finding.place is None or finding.place.split == "test":
        return ""
    if finding.kind == "duplicate across splits" and finding.other is not None:
        return f"say the same as a {finding.other.split} row"
    if finding.kind == "duplicate":
        return "say the same as an earlier row, at the same price"
    if finding.kind == "own price in text" and finding.place.split == "train":
        return "give their own price in the text"
    return ""


def _without(items: ItemDataset, split: str, reasons: Mapping[tuple[str, int], str]) -> ItemDataset:
    counts = Counter(reason for (name, _), reason in reasons.items() if name == split)
    if not counts:
        return items
    kept = items.take([row for row in range(len(items)) if (split, row + 1) not in reasons])
    done = [f"audit removed {count:,} rows that {reason}" for reason, count in counts.most_common()]
    return ItemDataset(
        kept.table,
        history=(*items.history, *done),
        skipped=items.skipped,
        currency=items.currency,
        zero_is=items.zero_is,
    )


def audit(
    train: ItemDataset,
    *,
    validation: ItemDataset | None = None,
    test: ItemDataset | None = None,
    similarity: float | None = 0.6,
    currency: str | None = None,
    fields: Sequence[str] = SHOWN_FIELDS,
) -> AuditReport:
    """Look for what spoils training and evaluation: duplicates, leaks, prices in texts, odd rows.

    Only what a model sees of an item is looked at, so that a price in a field that is not shown is no leak.

    Args:
        train: What a model is to learn from.
        validation: What is watched meanwhile.
        test: What the model is judged by in the end.
        similarity: The share of common word triples from which on texts are near-duplicates; None leaves
            near-duplicates out.
        currency: Of the prices; None takes the items'.
        fields: What a model sees of an item, as `ChatFormatter(fields=)` names it.

    Raises:
        DataError: The items' prices are in another currency, or in several.
        MissingExtra: Near-duplicates need the extra `audit`.
        InvalidItem: An item has none of the fields; the message names its row.
        DataError: The similarity is out of range, or `fields` names what is no text.

    Examples:
        >>> from finetune_pricer import Item, ItemDataset
        >>> shelf = Item(id="a", summary="An oak shelf of four boards", price=80)
        >>> lamp = Item(id="b", summary="A brass lamp, list price $45.00", price=45)
        >>> again = Item(id="c", summary="an OAK shelf of four boards.", price=75)
        >>> train, test = ItemDataset.from_items([shelf, lamp]), ItemDataset.from_items([again])
        >>> report = audit(train, test=test)
        >>> report.ok
        False
        >>> print(report.of("duplicate across splits")[0])
        train row 1 (id 'a', $80.00) and test row 1 (id 'c', $75.00): but for its form
        >>> print(report.of("own price in text")[0])
        train row 2 (id 'b', $45.00): says '$45.00'
        >>> [len(items) for items in report.clean()]
        [0, 0, 1]
    """
    require_set(train, "train")
    for name, items in (("validation", validation), ("test", test)):
        if items is not None:
            require_set(items, name)
    require_number("similarity", similarity, low=0, high=1, or_none=True)
    require_text("currency", currency, or_none=True)
    said = {"the training items": train, "the validation items": validation, "the test items": test}
    currency = agree_on_currency(
        {who: getattr(items, "currency", None) for who, items in said.items()} | {"currency=": currency}
    )
    none = ItemDataset.from_items([], currency=currency)
    splits = ItemSplits(train, none if validation is None else validation, none if test is None else test)
    auditor = _Auditor(splits, currency, check_fields(fields))
    pairs = [] if similarity is None else auditor.find_near_pairs(similarity)
    findings = [
        *auditor.find_duplicates(),
        *auditor.check_texts(),
        *auditor.check_forms(),
        *auditor.check_prices(),
        *auditor.check_categories(),
        *auditor.check_magnitudes([(first, second) for first, second, _ in pairs]),
        *(auditor.near_duplicate(*pair) for pair in pairs),
    ]
    return AuditReport(
        splits=splits,
        findings=tuple(sorted(findings, key=lambda finding: KINDS.index(finding.kind))),
        chance=auditor.expected_by_chance(),
        reply=_advise_reply(train.prices, currency),
        labels=auditor.group_items([(first, second) for first, second, _ in pairs]),
    )


class _Auditor:
    """All splits concatenated (test, validation, train), with texts, words and numbers computed once.

    Test stands first, so that of two duplicates the one on the side that is learned from is the second one,
    which is removed.
    """

    def __init__(self, splits: ItemSplits, currency: str, fields: tuple[str, ...]) -> None:
        self._splits = splits
        self._currency = currency
        self._fields = fields
        self._sizes = [len(items) for items in reversed(splits)]
        self._ends = list(accumulate(self._sizes))
        items = ItemDataset.concat(*reversed(splits))
        self._prices = items.prices
        self._ids: list[str] = items.table["id"].to_pylist()
        self._texts, self._untitled = list[str](), dict[int, str]()
        for row, item in enumerate(items):
            self._texts.append(self._text_of(item, row))
            if lacks_title(item, fields):
                self._untitled[row] = item.title or ""
        self._categories: list[str | None] = items.table["category"].to_pylist()
        self._words = [words_of(text) for text in self._texts]
        self._numbers = find_numbers(self._texts)
        # A text of signs only has no words; it is its own key.
        keys = (" ".join(words) or text for words, text in zip(self._words, self._texts, strict=True))
        first_rows: dict[str, int] = {}
        self._first_rows = [first_rows.setdefault(key, row) for row, key in enumerate(keys)]
        """For each row the first one with the same words."""

    def _text_of(self, item: Item, row: int) -> str:
        try:
            return require_item_text(item, self._fields)
        except InvalidItem as error:
            place = self._place(row)
            raise error.with_message(f"{place.split} row {place.row:,}: {error}") from None

    def find_duplicates(self) -> Iterator[Finding]:
        """Yield texts that are the same but for case, spacing and punctuation."""
        for row, first in enumerate(self._first_rows):
            if first == row:
                continue
            one, other = self._place(row), self._place(first)
            detail = "the very same text" if self._texts[row] == self._texts[first] else "but for its form"
            if one.split != other.split:
                yield Finding(kind="duplicate across splits", place=one, other=other, detail=detail)
            if one.price != other.price:
                yield Finding(kind="conflicting prices", place=one, other=other, detail=detail)
            elif one.split == other.split:
                yield Finding(kind="duplicate", place=one, other=other, detail=detail)

    def find_near_pairs(self, similarity: float) -> list[tuple[int, int, float]]:
        """Return pairs of nearly the same texts, each by its first row, the most similar pair first."""
        rows = sorted(set(self._first_rows))
        shingles = Shingles(self._words[row] for row in rows)
        pairs = [(rows[one], rows[other], share) for one, other, share in near_pairs(shingles, similarity)]
        return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))

    def near_duplicate(self, first: int, second: int, share: float) -> Finding:
        """Return the finding of a pair of rows, the one on the training side first."""
        one, other = self._place(second), self._place(first)
        kind: Kind = "near-duplicate" if one.split == other.split else "near-duplicate across splits"
        return Finding(kind=kind, place=one, other=other, similarity=share)

    def check_texts(self) -> Iterator[Finding]:
        """Yield texts that give their price away, and texts that are very short or very long."""
        prices = self._prices.tolist()
        for row, (text, words, price) in enumerate(zip(self._texts, self._words, prices, strict=True)):
            if not math.isnan(price) and (shown := find_own_price(text, price, self._currency)):
                yield Finding(kind="own price in text", place=self._place(row), detail=f"says {shown!r}")
            if len(words) <= _SHORT:
                yield Finding(kind="short text", place=self._place(row), detail=f"{len(words)} words")
            if len(text) > _LONG:
                yield Finding(kind="long text", place=self._place(row), detail=f"{len(text):,} characters")

    def check_forms(self) -> Iterator[Finding]:
        """Yield texts that hold markup, and descriptions that do not name the product."""
        shown = "title" in self._fields
        what = "stands above the description" if shown else "is not shown; name 'title' among the fields"
        for row, title in self._untitled.items():
            detail = f"{title.strip()[:60]!r} {what}"
            yield Finding(kind="title not in description", place=self._place(row), detail=detail)
        for row, text in enumerate(self._texts):
            if has_markup(text):
                yield Finding(kind="markup in text", place=self._place(row))

    def check_magnitudes(self, near: Iterable[tuple[int, int]]) -> Iterator[Finding]:
        """Yield prices at least ten times those of the item's twins, or at most a tenth of them.

        Twins are duplicates and near-duplicates. Of two items alone nobody knows which price is wrong: the
        pair is one finding. Of more, each is compared with the median of them all.
        """
        told = set[frozenset[int]]()
        for members, twins in _list_twins(self._first_rows, near, self._prices):
            prices = self._prices[twins]
            middle = float(sorted(prices.tolist())[len(twins) // 2])
            by_distance = [twins[at] for at in abs(prices - middle).argsort(kind="stable").tolist()]
            for row in reversed(members):
                other = next(each for each in by_distance if each != row)
                pair = frozenset({row, other})
                if len(twins) == 2 and pair in told:
                    continue
                told.add(pair)
                one, base = float(self._prices[row]), middle if len(twins) > 2 else float(self._prices[other])
                times = max(one / base, base / one)
                if times >= _MAGNITUDE:
                    whose = "its twin's price" if len(twins) == 2 else f"the median of {len(twins):,} twins"
                    of = f"{times:,.0f} times"
                    detail = f"{of} {whose}" if one > base else f"{whose} is {of} this one"
                    kind: Kind = "price of another magnitude"
                    yield Finding(kind=kind, place=self._place(row), other=self._place(other), detail=detail)

    def check_prices(self) -> Iterator[Finding]:
        """Yield prices of 0, far from those of their category, or equal to a number in their text."""
        for row in (self._prices == 0).nonzero()[0].tolist():
            detail = "many exports write 0 where the price is not known"
            yield Finding(kind="price of 0", place=self._place(row), detail=detail)
        for row, median in _find_outliers(self._prices, self._categories):
            detail = (
                f"the median of {self._categories[row] or 'all'} is {format_money(median, self._currency)}"
            )
            yield Finding(kind="outlying price", place=self._place(row), detail=detail)
        for row in rows_with_own_price(self._numbers, self._prices):
            yield Finding(kind="number equal to price", place=self._place(row))

    def expected_by_chance(self) -> float:
        """Return how many texts would hold a number equal to their price by chance."""
        return count_expected_by_chance(self._numbers, self._prices)

    def check_categories(self) -> Iterator[Finding]:
        """Yield categories that only one of several splits has."""
        counts_of = {
            name: Counter(items.table["category"].to_pylist())
            for name, items in self._splits._asdict().items()
            if len(items)
        }
        for name, counts in counts_of.items() if len(counts_of) > 1 else ():
            others = set[str | None]().union(*(counts_of[other] for other in counts_of if other != name))
            for category in sorted(category for category in counts.keys() - others if category):
                detail = f"{category!r}: {counts[category]:,} items, all in {name}"
                yield Finding(kind="category in one split", detail=detail)

    def group_items(self, near: Iterable[tuple[int, int]]) -> npt.NDArray[np.int64]:
        """Return the group of each item, in the order training, validation, test."""
        import numpy as np

        groups = group_alike(len(self._first_rows), near)[self._first_rows]
        return np.concatenate(np.split(groups, self._ends[:-1])[::-1])

    def _place(self, row: int) -> Place:
        part = bisect_right(self._ends, row)
        price = float(self._prices[row])
        return Place(
            split=_BACKWARDS[part],
            row=row - self._ends[part] + self._sizes[part] + 1,
            id=self._ids[row],
            price=None if math.isnan(price) else price,
            currency=self._currency,
        )


def _list_twins(
    first_rows: Sequence[int], near: Iterable[tuple[int, int]], prices: Prices
) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the rows of one text, and these with the rows of nearly the same texts, the last texts first.

    Rows without a price, or with one of 0, are left out, and what then has no twin.
    """
    rows_of: dict[int, list[int]] = {}
    for row, first in enumerate(first_rows):
        if prices[row] > 0:
            rows_of.setdefault(first, []).append(row)
    near_to: dict[int, list[int]] = {}
    for one, other in near:
        near_to.setdefault(one, []).append(other)
        near_to.setdefault(other, []).append(one)
    for first in sorted(rows_of, reverse=True):
        others = (rows_of.get(other, []) for other in near_to.get(first, []))
        twins = [*rows_of[first], *chain.from_iterable(others)]
        if len(twins) > 1:
            yield rows_of[first], twins


def _find_outliers(prices: Prices, categories: Sequence[str | None]) -> Iterator[tuple[int, float]]:
    """Yield rows whose log price lies far from their category's median, and that median."""
    import numpy as np

    rows_of: dict[str | None, list[int]] = {}
    for row, category in enumerate(categories):
        if not np.isnan(prices[row]):
            rows_of.setdefault(category, []).append(row)
    for rows in rows_of.values():
        logs = np.log1p(prices[rows])
        median = np.median(logs)
        spread = np.median(np.abs(logs - median))
        if len(rows) >= _ENOUGH and spread > 0:
            for at in np.flatnonzero(np.abs(logs - median) > _FAR * spread).tolist():
                yield rows[at], float(np.expm1(median))


def _advise_reply(prices: Prices, currency: str) -> str:
    """Return which form of a reply fits these prices, and why."""
    import numpy as np

    known = prices[~np.isnan(prices)]
    if not len(known):
        return "no prices are known, so no form of a reply can be advised"
    form = f"'{mark_of(currency)}1,199.99' (the default)"
    above = float((known >= 999.995).mean())
    if above == 0:
        return f"{form}: all prices are below {mark_of(currency)}1,000, so the dollars of each are one token"
    return f"{form}: {above:.1%} of the prices have thousands, which so are a token of their own"
