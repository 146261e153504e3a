"""What an audit found, and the items without the rows that spoil them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from ..items import ItemDataset, ItemSplits

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    import pandas as pd

Split = Literal["train", "validation", "test"]
Kind = Literal[
    "twin across splits",
    "own price in text",
    "conflicting prices",
    "twin",
    "near-twin across splits",
    "near-twin",
    "short text",
    "long text",
    "outlying price",
    "category in one split",
    "number equal to price",
]
_ERRORS = frozenset({"twin across splits", "own price in text"})
KINDS: tuple[Kind, ...] = get_args(Kind)
_SHOWN = 3  # findings of a kind that the report spells out


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an item stands."""

    split: Split
    row: int
    """Counted from 1."""
    id: str
    price: float | None

    def __str__(self) -> str:
        price = "no price" if self.price is None else f"${self.price:,.2f}"
        return f"{self.split} row {self.row:,} (id {self.id[:24]!r}, {price})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that the audit found."""

    kind: Kind
    place: Place | None = None
    other: Place | None = None
    """The second of a pair; of twins the first one that says the same."""
    similarity: float | None = None
    """Of near-twins: the share of common word triples."""
    detail: str = ""

    def __str__(self) -> str:
        parts = [str(self.place)] if self.place else []
        parts += [f"and {self.other}"] if self.other else []
        parts += [f"share {self.similarity:.0%} of their word triples"] if self.similarity is not None else []
        return " ".join(parts) + (f": {self.detail}" if self.detail and parts else self.detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What `audit` found; `str()` of it is worth reading before paying for a job."""

    splits: ItemSplits
    findings: tuple[Finding, ...]
    """Everything, the gravest kinds first."""
    chance: float
    """How many texts would hold a number equal to their price if prices were dealt out at random."""
    reply: str
    """Which form of a reply fits the training prices."""
    labels: npt.NDArray[np.int64]
    """A number for each item of all splits in their order; twins and near-twins have the same."""

    @property
    def ok(self) -> bool:
        """Whether nothing leaks: between the splits, or from the price into the text."""
        return not any(finding.kind in _ERRORS for finding in self.findings)

    def of(self, kind: Kind) -> tuple[Finding, ...]:
        """Give the findings of one kind."""
        return tuple(finding for finding in self.findings if finding.kind == kind)

    def groups(self, split: Split = "train") -> npt.NDArray[np.int64]:
        """Give one label for each item of a split, equal for twins and near-twins, also across splits.

        For `ItemDataset.split(group=)`, and for intervals that must not count near-twins as independent.
        """
        index = ItemSplits._fields.index(split)
        start = sum(map(len, self.splits[:index]))
        return self.labels[start : start + len(self.splits[index])]

    def clean(self) -> ItemSplits:
        """Give the splits without the rows that spoil them; each set's `history` says how many went and why.

        Rows go from the side that is learned from: training rows that say the same as a validation or test
        row, validation rows that say the same as a test row, repetitions at the same price, and training
        rows whose text gives their price. Near-twins stay, as their prices usually differ: keep them on one
        side with `split(group=report.groups())`.
        """
        why: dict[tuple[str, int], str] = {}
        for finding in self.findings:
            if (reason := _reason_to_remove(finding)) and finding.place is not None:
                why.setdefault((finding.place.split, finding.place.row), reason)
        return ItemSplits(
            *(_without(items, name, why) for name, items in zip(ItemSplits._fields, self.splits, strict=True))
        )

    def to_frame(self) -> pd.DataFrame:
        """Give the findings as a frame, one row each."""
        import pandas as pd

        def cells(name: str, place: Place | None) -> dict[str, object]:
            fields = ("split", "row", "id", "price")
            return {f"{name}{field}": getattr(place, field) if place else None for field in fields}

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
        sizes = ", ".join(
            f"{name} {len(items):,}" for name, items in zip(ItemSplits._fields, self.splits, strict=True)
        )
        counts = Counter(finding.kind for finding in self.findings)
        lines = [f"{'ok' if self.ok else 'NOT OK'}: {sizes}"]
        for kind in KINDS:
            if not counts[kind]:
                continue
            mark = "error" if kind in _ERRORS else "note"
            by_chance = f" ({self.chance:.1f} by chance)" if kind == "number equal to price" else ""
            lines.append(f"{mark}: {kind}: {counts[kind]:,}{by_chance}")
            lines += [f"    {finding}" for finding in self.of(kind)[:_SHOWN]]
        grouped = len(self.labels) - len(np.unique(self.labels))
        lines.append(f"groups for split(group=): {grouped:,} items stand in a group with an earlier one")
        return "\n".join([*lines, f"reply form: {self.reply}"])


def _reason_to_remove(finding: Finding) -> str:
    if finding.place is None or finding.place.split == "test":
        return ""
    if finding.kind == "twin across splits" and finding.other is not None:
        return f"say the same as a {finding.other.split} row"
    if finding.kind == "twin":
        return "say the same as an earlier row, at the same price"
    if finding.kind == "own price in text" and finding.place.split == "train":
        return "give their own price in the text"
    return ""


def _without(items: ItemDataset, split: str, why: Mapping[tuple[str, int], str]) -> ItemDataset:
    reasons = Counter(reason for (name, _), reason in why.items() if name == split)
    if not reasons:
        return items
    kept = items.take([row for row in range(len(items)) if (split, row + 1) not in why])
    done = [f"audit removed {count:,} rows that {reason}" for reason, count in reasons.most_common()]
    return ItemDataset(kept.table, history=(*items.history, *done), skipped=items.skipped)
