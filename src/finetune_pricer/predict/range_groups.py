"""Groups of items that share the width of their price ranges, and what those can be expected to hold.

The promise is kept for a group of items, and a group needs enough calibration items to be promised anything:
9 for 90 %. What is smaller is joined with others into one group, which then all have the joint width and of
which the joint promise holds. Who is joined with whom depends on how many items there are and never on their
errors, or the promise would not hold (Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World,
2005, section 4.5: the taxonomy must not know the scores).

Predictions with a distribution and those without have scores of two kinds, and are groups of their own.
Within a kind, price bands are joined with the one beside them; small categories with each other, and where
those are still too few, with the smallest category that is large enough.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, NamedTuple

from .._arguments import require_number, require_whole
from .._display import PrintsAsPage
from .._escape import escape_line
from .._format import format_money

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Part = str | int | None
    """A category, the number of a price band, or None where all items are one part."""
    Cell = tuple[Part, bool]
    """A part, and whether its predictions have a distribution."""

By = Literal["category", "price"]
"""What the groups of items are that each keep the promise."""

_NAMED = 5  # categories of a group whose names stand in the group's own; `joined` has them all
_KINDS = {True: ", with a distribution", False: ", without a distribution"}


class Bands(NamedTuple):
    """Where price bands lie."""

    edges: Sequence[float]
    """Predicted prices between which they lie."""
    currency: str
    """ISO code of the currency of those prices."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RangeGroup(PrintsAsPage):
    """Items that share a width, and for which the promise is kept. `str()` says what can be expected."""

    name: str
    """The kinds of items in words; of several, all were joined because one had too few calibration items."""
    n: int
    """How many calibration items the width was learned from."""
    width: float
    """The k-th smallest score of those."""
    coverage: float
    """Share of true prices that the ranges hold, at least, on average over calibration sets."""
    joined: tuple[str, ...] = ()
    """The kinds of items, where several were joined."""

    def expect(self, items: int = 1_000, *, times: float = 0.9) -> tuple[float, float]:
        """Return the two shares between which ranges hold that many new items, nine times in ten by default.

        The true share varies with the calibration set, and the share of so many items varies around it: both
        together are a beta-binomial distribution (Vovk, Conditional validity of inductive conformal
        predictors, 2012).

        Args:
            items: How many new items.
            times: In which share of cases, 0 to 1.
        """
        require_whole("items", items, low=1)
        require_number("times", times, low=0, high=1)
        items, times = int(items), float(times)
        rank = find_rank(self.n, self.coverage)
        # The logarithm of P(j + 1 held) / P(j held).
        steps = (
            math.log((items - j) / (j + 1) * (j + rank) / (items - j + self.n - rank)) for j in range(items)
        )
        logs = list(accumulate(steps, initial=0.0))
        top, tails = max(logs), ((1 - times) / 2, (1 + times) / 2)
        below = list(accumulate(math.exp(one - top) for one in logs))
        ends = (next(j for j, sum_ in enumerate(below) if sum_ >= q * below[-1]) for q in tails)
        low, high = (held / items for held in ends)
        return low, high

    def __str__(self) -> str:
        low, high = self.expect()
        why = ", joined because one of them has too few" if self.joined else ""
        return escape_line(f"{self.name}: {low:.1%} to {high:.1%}, from {self.n:,} calibration items{why}")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class GroupCoverage(PrintsAsPage):
    """How many true prices of a group's new items the ranges held. `str()` is a sentence."""

    name: str
    """The group's; see `RangeGroup`."""
    n: int
    """How many new items there are."""
    held: int
    """How many of their true prices lie in their range."""
    promised: float | None
    """The share that is promised; None for items of a kind that the calibration items had none of."""
    low: float | None
    """In nine cases of ten the share is at least this, if new items are like the calibration items."""
    high: float | None
    """In nine cases of ten the share is at most this."""
    calibrated_on: int = 0
    """How many calibration items there were."""
    falls_short: bool = False
    """Whether chance gives so few less than once in two hundred: these items are hardly like those that were
    calibrated on."""

    @property
    def share(self) -> float:
        """The share of true prices that lie in their range."""
        return self.held / self.n

    def __str__(self) -> str:
        measured = f"{self.name}: {self.share:.1%} of {self.n:,} items held"
        if self.promised is None or self.low is None or self.high is None:
            return escape_line(f"{measured}; nothing is promised for them")
        short = ": fewer than by chance" if self.falls_short else ""
        return escape_line(
            f"{measured}; {format_coverage(self.promised)} promised, {self.low:.1%} to {self.high:.1%} to be "
            f"expected from {self.calibrated_on:,} calibration items{short}"
        )


def measure_group(name: str, group: RangeGroup | None, held: Sequence[bool]) -> GroupCoverage:
    """Return what ranges held of a group's new items; `group` is None where nothing was promised for them."""
    if group is None:
        return GroupCoverage(name=name, n=len(held), held=sum(held), promised=None, low=None, high=None)
    low, high = group.expect(len(held))
    return GroupCoverage(
        name=name,
        n=len(held),
        held=sum(held),
        promised=group.coverage,
        low=low,
        high=high,
        calibrated_on=group.n,
        falls_short=sum(held) / len(held) < group.expect(len(held), times=0.99)[0],
    )


def format_coverage(share: float) -> str:
    """Return a share as it was asked for: 0.9 is `90%`, 0.995 is `99.5%`."""
    return f"{100 * share:.6g}%"


def count_needed(coverage: float) -> int:
    """Return the fewest scores of which one is the k-th: fewer would make every range endless."""
    # Rounded, since 1 / (1 - 0.9) is a little more than 10.
    return max(1, math.ceil(round(1 / (1 - coverage), 9)) - 1)


def find_rank(n: int, coverage: float) -> int:
    """Return k: the k-th smallest of n scores is the width."""
    return math.ceil(round((n + 1) * coverage, 9))


def group_cells(
    counts: Mapping[Cell, int], *, needed: int, by: By | None, bands: Bands
) -> dict[str, list[Cell]]:
    """Return the cells of each group, by the group's name.

    Args:
        counts: How many calibration items each cell has.
        needed: How many a group must have.
        by: What the parts are.
        bands: The price bands.
    """
    of_kind: Counter[bool] = Counter()
    for (_, told), count in counts.items():
        of_kind[told] += count
    # Of too few of one kind nothing could be promised: then both kinds are one.
    kinds = [{True}, {False}] if len(of_kind) == 2 and min(of_kind.values()) >= needed else [{True, False}]
    groups: dict[str, list[Cell]] = {}
    for kind in kinds:
        of_part: Counter[Part] = Counter()
        for (part, told), count in counts.items():
            if told in kind:
                of_part[part] += count
        for parts in _partition(of_part, needed, by, len(bands.edges) + 1):
            name = _name_parts(parts, by, bands)
            name += "" if len(kinds) == 1 else _KINDS[min(kind)]
            groups[name] = [(part, told) for part in parts for told in sorted(kind, reverse=True)]
    return groups


def name_cell(cell: Cell, by: By | None, bands: Bands) -> str:
    """Return in words what items a cell has."""
    part, told = cell
    return _name_parts([part], by, bands) + _KINDS[told]


def _partition(counts: Mapping[Part, int], needed: int, by: By | None, bands: int) -> list[list[Part]]:
    if by == "price":
        return [list(run) for run in _join_bands([counts.get(band, 0) for band in range(bands)], needed)]
    whole = sorted(
        (part for part in counts if counts[part] >= needed), key=lambda part: (counts[part], str(part))
    )
    small = sorted((part for part in counts if counts[part] < needed), key=str)
    while small and whole and sum(counts[part] for part in small) < needed:
        small.append(whole.pop(0))
    return [*([part] for part in whole), *([small] if small else [])]


def _join_bands(counts: Sequence[int], needed: int) -> list[range]:
    """Return runs of bands that each have enough items, if all together have."""
    runs = [range(band, band + 1) for band in range(len(counts))]

    def size(run: range) -> int:
        return sum(counts[run.start : run.stop])

    while len(runs) > 1 and size(smallest := min(runs, key=size)) < needed:
        at = runs.index(smallest)
        other = min(
            (beside for beside in (at - 1, at + 1) if 0 <= beside < len(runs)), key=lambda n: size(runs[n])
        )
        first = min(at, other)
        runs[first : first + 2] = [range(runs[first].start, runs[first + 1].stop)]
    return runs


def _name_parts(parts: Sequence[Part], by: By | None, bands: Bands) -> str:
    if by is None:
        return "all items"
    if by == "price":
        first, last = int(parts[0] or 0), int(parts[-1] or 0)
        ends = [f"from {_write_edge(bands, first - 1)}"] if first else []
        ends += [f"below {_write_edge(bands, last)}"] if last < len(bands.edges) else []
        return f"priced {' and '.join(ends)}" if ends else "all prices"
    names = ["unknown" if part is None else repr(part) for part in parts]
    if len(names) > _NAMED + 1:
        names[_NAMED:] = [f"{len(names) - _NAMED} more"]
    return f"categories {', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else f"category {names[0]}"


def _write_edge(bands: Bands, at: int) -> str:
    return format_money(bands.edges[at], bands.currency, 2)
