"""The promise of price ranges, group by group: replies of two kinds, small categories, real errors."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

from figures import Figures, trials
from finetune_pricer import Item, Prediction
from finetune_pricer.predict import Distribution, Ranges
from real_errors import priced

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetune_pricer.predict.range_groups import By

    Pairs = list[tuple[Item, Prediction]]
    Draw = Callable[[np.random.Generator], tuple[Pairs, Pairs]]
    NameGroup = Callable[[Ranges, Item, Prediction], str]

pytestmark = pytest.mark.statistics
TOLD = Distribution(prices=(20.0, 40.0), probabilities=(0.5, 0.5))
ENOUGH = 10  # calibration items of a group that is promised something, for 90 %


class Kind(NamedTuple):
    """Items of one kind: how many of them are calibrated on, and how large the errors of their prices are."""

    name: str
    known: int
    error: float
    told: bool = False

    def make(self, total: int) -> Pairs:
        """Make a population."""
        random = np.random.default_rng(self.known)
        prices = np.exp(random.normal(4, 1, total))
        truths = prices * np.exp(self.error * random.standard_t(4, total))
        told = TOLD if self.told else None
        return [
            (
                Item(id=f"{self.name} {at}", title="thing", category=self.name, price=float(truth)),
                Prediction(item_id=f"{self.name} {at}", price=float(price), distribution=told),
            )
            for at, (truth, price) in enumerate(zip(truths, prices, strict=True))
        ]


class Coverage(NamedTuple):
    """What ranges of 90 % held of a group, on average over calibration sets."""

    share: float
    error: float
    """Two standard errors of it."""
    most: float
    """What the method holds at most, k / (n + 1)."""

    @property
    def is_kept(self) -> bool:
        # Three standard errors: more than thirty groups are looked at, of which one or two lie beyond two by
        # chance. Joined groups, whose parts have fixed sizes here, hold a little more than k / (n + 1).
        return 0.9 - 1.5 * self.error <= self.share <= self.most + 1.5 * self.error + 0.005

    def __str__(self) -> str:
        return f"{self.share:.1%} ± {self.error:.1%}"


def draw_made_up(kinds: tuple[Kind, ...]) -> Draw:
    made = [kind.make(5_000) for kind in kinds]

    def draw(random: np.random.Generator) -> tuple[Pairs, Pairs]:
        known: Pairs = []
        new: Pairs = []
        for kind, pairs in zip(kinds, made, strict=True):
            drawn = random.choice(len(pairs), 2 * kind.known, replace=False)
            known += [pairs[at] for at in drawn[: kind.known]]
            new += [pairs[at] for at in drawn[kind.known :]]
        return known, new

    return draw


def draw_real(known: int, new: int) -> Draw:
    """Draw real items, and what a ridge regression that never saw them says of them."""
    found = priced("ridge")
    pairs = [
        (item, Prediction(item_id=item.id, price=float(price)))
        for item, price in zip(found.items, found.price, strict=True)
    ]

    def draw(random: np.random.Generator) -> tuple[Pairs, Pairs]:
        drawn = random.permutation(len(pairs))[: known + new]
        return [pairs[at] for at in drawn[:known]], [pairs[at] for at in drawn[known:]]

    return draw


def measure(draw: Draw, name_group: NameGroup, *, by: By | None, rounds: int) -> dict[str, Coverage]:
    """Measure the coverage of each group that has enough calibration items, over many calibration sets."""
    shares, most = defaultdict(list), defaultdict(list)
    for seed in range(rounds):
        known, new = draw(np.random.default_rng(seed))
        ranges = Ranges.learn([one for _, one in known], [item for item, _ in known], by=by)
        sizes = Counter(name_group(ranges, *pair) for pair in known)
        held: dict[str, list[bool]] = defaultdict(list)
        for item, prediction in new:
            found = ranges.around(prediction, item.category)
            inside = (found.low or 0) <= (item.price or 0) <= (found.high or 0)
            held[name_group(ranges, item, prediction)].append(inside)
        for name, inside_ranges in held.items():
            if (n := sizes[name]) >= ENOUGH:
                shares[name].append(float(np.mean(inside_ranges)))
                most[name].append(math.ceil((n + 1) * 0.9 - 1e-9) / (n + 1))
    return {
        name: Coverage(
            float(np.mean(found)),
            2 * float(np.std(found, ddof=1)) / len(found) ** 0.5,
            float(np.mean(most[name])),
        )
        for name, found in sorted(shares.items())
        if len(found) > rounds / 2
    }


# The rare kinds have errors of 2.5 or 4 times the size. Where one is too small for a promise, the promise is
# that of what it is joined with: the last column says which kinds count as one.
MADE_UP: dict[str, tuple[tuple[Kind, ...], By | None, tuple[str, ...], tuple[str, ...]]] = {
    "of 400 items 20 have no distribution": (
        (Kind("told", 380, 0.4, told=True), Kind("untold", 20, 1.0)),
        None,
        (),
        ("90.1% ± 0.3%", "90.5% ± 1.0%"),
    ),
    "of 200 items 10 have no distribution": (
        (Kind("told", 190, 0.4, told=True), Kind("untold", 10, 1.0)),
        None,
        (),
        ("89.7% ± 0.3%", "90.1% ± 1.4%"),
    ),
    "of 100 items 5 have no distribution": (
        (Kind("told", 95, 0.4, told=True), Kind("untold", 5, 2.0)),
        None,
        ("told", "untold"),
        ("88.6% ± 0.2%",),
    ),
    "by category, 90 and 10 items": (
        (Kind("large", 90, 0.3), Kind("small", 10, 1.2)),
        "category",
        (),
        ("89.8% ± 0.5%", "91.5% ± 1.3%"),
    ),
    "by category, 60, 34 and 6 items": (
        (Kind("large", 60, 0.3), Kind("middle", 34, 0.3), Kind("small", 6, 1.2)),
        "category",
        ("small", "middle"),
        ("90.0% ± 0.6%", "84.0% ± 0.7%"),
    ),
    "by category, 90, 5 and 5 items": (
        (Kind("large", 90, 0.3), Kind("small", 5, 1.2), Kind("smaller", 5, 1.2)),
        "category",
        ("small", "smaller"),
        ("89.8% ± 0.5%", "90.2% ± 1.4%"),
    ),
}


@pytest.mark.parametrize("case", MADE_UP)
def test_ranges_keep_their_promise_in_each_group(case: str, figures: Figures) -> None:
    kinds, by, joined, before = MADE_UP[case]

    def name_group(ranges: Ranges, item: Item, prediction: Prediction) -> str:
        return " and ".join(joined) if item.category in joined else item.category or ""

    found = measure(draw_made_up(kinds), name_group, by=by, rounds=trials(3000))
    for (name, coverage), old in zip(found.items(), before, strict=True):
        figures.add(
            f"90 % ranges {case}: {name}",
            asked=f"90.0% to {coverage.most:.1%}",
            before=old,
            now=str(coverage),
        )
    assert [name for name, one in found.items() if not one.is_kept] == []


def name_category(ranges: Ranges, item: Item, prediction: Prediction) -> str:
    return item.category or ""


def name_band(ranges: Ranges, item: Item, prediction: Prediction) -> str:
    names = [ranges.group_of(Prediction(item_id="", price=edge), None) for edge in (0.0, *ranges.edges)]
    return f"band {names.index(ranges.group_of(prediction, item.category)) + 1}"


@pytest.mark.data
@pytest.mark.parametrize(
    ("known", "by", "before"),
    [
        (600, "category", "89.7% ± 1.3%, 95.4% ± 1.8%"),
        (600, "price", "89.7% ± 0.8%, 90.1% ± 0.9%"),
        (60, "price", "93.2% ± 1.3%, 95.4% ± 1.1%"),
    ],
)
def test_ranges_of_real_errors_keep_their_promise_in_each_group(
    known: int, by: By, before: str, figures: Figures
) -> None:
    name_group = name_category if by == "category" else name_band
    found = measure(draw_real(known, 300), name_group, by=by, rounds=trials(3000))
    worst, best = (choose(found.values(), key=lambda one: one.share) for choose in (min, max))
    figures.add(
        f"90 % ranges by {by}, real errors, {known} items: the worst and the best of {len(found)} groups",
        asked=f"90.0% to {best.most:.1%}",
        before=before,
        now=f"{worst}, {best}",
    )
    assert [name for name, one in found.items() if not one.is_kept] == []
