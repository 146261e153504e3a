"""A made-up catalogue whose prices follow a stated rule, so that the best possible error is known.

Nothing in it exists: kinds, brands and prices are invented. Use it to rehearse and to test, not to price
real products.

The rule. Each product is a kind of thing with features, and its middle price is

    base(kind) x brand x material x size x condition x pack^0.9

with a factor for every word that names a feature. The price asked is the middle price times a lognormal
noise, `exp(noise * z)` with z standard normal, rounded to cents. Nobody can know z, so the best guess for
absolute error is the middle price, and its expected absolute error is

    middle * exp(noise²/2) * erf(noise / √2)

(the mean absolute deviation of a lognormal variable from its median).
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._arguments import require_number, require_whole
from .._numbers import read_whole
from ..errors import DataError
from ..items import Item, ItemDataset, ItemSplits, require_item, require_items

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    category: str
    base: float
    sizes: tuple[str, ...]
    uses: tuple[str, ...]


_KINDS = (
    _Kind("desk lamp", "Home", 32, ("compact", "full-size"), ("reading corners", "late work", "small desks")),
    _Kind("wool blanket", "Home", 58, ("single", "double", "king"), ("cold evenings", "guest rooms")),
    _Kind("wall clock", "Home", 24, ("20 cm", "30 cm", "45 cm"), ("kitchens", "hallways", "studios")),
    _Kind("espresso machine", "Kitchen", 210, ("one-cup", "two-cup"), ("morning coffee", "small offices")),
    _Kind(
        "frying pan", "Kitchen", 36, ("20 cm", "26 cm", "32 cm"), ("gas and induction", "everyday cooking")
    ),
    _Kind("chef's knife", "Kitchen", 64, ("15 cm", "20 cm", "25 cm"), ("fine slicing", "home cooks")),
    _Kind(
        "stand mixer", "Kitchen", 165, ("3-litre", "5-litre", "7-litre"), ("bread dough", "weekend baking")
    ),
    _Kind("cordless drill", "Tools", 88, ("12-volt", "18-volt", "36-volt"), ("light repairs", "masonry")),
    _Kind("socket set", "Tools", 52, ("24-piece", "56-piece", "120-piece"), ("garages", "bicycle work")),
    _Kind("tape measure", "Tools", 11, ("3-metre", "5-metre", "8-metre"), ("site work", "sewing rooms")),
    _Kind(
        "acoustic guitar",
        "Music",
        190,
        ("half-size", "three-quarter", "full-size"),
        ("beginners", "stage use"),
    ),
    _Kind("digital piano", "Music", 430, ("61-key", "76-key", "88-key"), ("practice at night", "lessons")),
    _Kind("violin bow", "Music", 75, ("half-size", "full-size"), ("students", "orchestras")),
    _Kind("trail backpack", "Outdoor", 92, ("20-litre", "40-litre", "65-litre"), ("day walks", "long treks")),
    _Kind("camping stove", "Outdoor", 47, ("one-burner", "two-burner"), ("winter camps", "family trips")),
    _Kind("rain jacket", "Outdoor", 70, ("light", "lined"), ("commuting", "mountain weather")),
    _Kind(
        "bluetooth speaker", "Electronics", 60, ("pocket", "tabletop", "party-size"), ("picnics", "kitchens")
    ),
    _Kind(
        "noise-cancelling headphones", "Electronics", 145, ("on-ear", "over-ear"), ("flights", "open offices")
    ),
    _Kind(
        "computer monitor", "Electronics", 180, ("22-inch", "27-inch", "32-inch"), ("spreadsheets", "games")
    ),
    _Kind("phone charger", "Electronics", 19, ("20-watt", "45-watt", "100-watt"), ("travel", "laptops")),
)
_BRANDS = {
    "Harlow & Pine": 1.0,
    "Nordvik": 1.45,
    "Basiq": 0.7,
    "Maison Orfel": 2.1,
    "Tamarack": 1.2,
    "Ozzo": 0.55,
}
_MATERIALS = {"plastic": 0.7, "aluminium": 1.0, "oak": 1.25, "stainless steel": 1.15, "carbon fibre": 1.8}
_CONDITIONS = {"new": 1.0, "refurbished": 0.72, "used, with scratches": 0.5, "limited edition": 1.6}
_SIZE_STEP = 1.35
_PACKS = (1, 1, 1, 1, 2, 3, 6)
_SHAPES = (
    "{brand} {size} {kind} in {material}, {condition}{pack}. Made for {use}. {extra}",
    "{size} {kind} by {brand}{pack}. Body of {material}; suits {use}. Condition: {condition}. {extra}",
    "A {condition} {kind} from {brand}: {size}, {material}, good for {use}{pack}. {extra}",
)
_EXTRAS = (
    "Ships in plain cardboard.",
    "With a two-year guarantee.",
    "Easy to clean and to store.",
    "Customers like how quiet it is.",
    "Colour may differ from the picture.",
    "Comes with a printed guide in five languages.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeUpCatalogue:
    """A seeded generator of made-up products; the same seed gives the same products.

    Args:
        seed: Of products and noise.
        noise: Standard deviation of the log price around its rule; 0 makes every price exact.

    Raises:
        DataError: The noise is negative or not finite.
    """

    seed: int = 42
    noise: float = 0.2

    def __post_init__(self) -> None:
        require_whole("seed", self.seed)
        require_number("noise", self.noise, low=0)

    def splits(self, train: int = 2000, validation: int = 200, test: int = 200) -> ItemSplits:
        """Make that many products for each split; no product is in two of them.

        Raises:
            DataError: A number is negative, or not whole.
        """
        sizes = [
            _read_count(name, size)
            for name, size in (("train", train), ("validation", validation), ("test", test))
        ]
        starts = (0, sizes[0], sizes[0] + sizes[1])
        return ItemSplits(*(self.items(size, start=start) for start, size in zip(starts, sizes, strict=True)))

    def items(self, count: int, *, start: int = 0) -> ItemDataset:
        """Make `count` products, from number `start` on.

        Raises:
            DataError: A number is negative, or not whole.
        """
        count, start = _read_count("count", count), _read_count("start", start)
        return ItemDataset.from_items(self._item(number) for number in range(start, start + count))

    def middle_price(self, item: Item) -> float:
        """Return the price in dollars that the rule gives one of this catalogue's products, before noise.

        Raises:
            DataError: The item is not of this catalogue.
        """
        require_item(item)
        number = item.id.removeprefix("made-up-")
        if not number.isdecimal() or self._item(int(number)).text != item.text:
            raise DataError(f"item {item.id!r} is not of this made-up catalogue")
        return self._draw(int(number))[1]

    def best_possible_mae(self, items: Iterable[Item]) -> float:
        """Return the MAE in dollars that a guesser must expect who knows the rule, but not the noise.

        Raises:
            DataError: An item is not of this catalogue, or there is none.
        """
        require_items(items)
        floor = math.exp(self.noise**2 / 2) * math.erf(self.noise / math.sqrt(2))
        middles = [self.middle_price(item) for item in items]
        if not middles:
            raise DataError("no items: there is no error to expect")
        return floor * sum(middles) / len(middles)

    def _item(self, number: int) -> Item:
        words, middle, noise = self._draw(number)
        text = words.pop("shape").format(**words)
        return Item(
            id=f"made-up-{number}",
            title=f"{words['brand']} {words['kind']} (made up)",
            category=words["category"],
            price=max(0.01, round(middle * noise, 2)),
            summary=text,
        )

    def _draw(self, number: int) -> tuple[dict[str, str], float, float]:
        # A random generator per product: any product can be made again without the ones before it.
        draw = random.Random(f"{self.seed}/{number}")  # noqa: S311 - no secret
        kind = draw.choice(_KINDS)
        brand, material, condition = (
            draw.choice(list(table)) for table in (_BRANDS, _MATERIALS, _CONDITIONS)
        )
        size, pack = draw.randrange(len(kind.sizes)), draw.choice(_PACKS)
        middle = kind.base * _BRANDS[brand] * _MATERIALS[material] * _CONDITIONS[condition]
        middle *= _SIZE_STEP**size * pack**0.9
        words = {
            "kind": kind.name,
            "category": kind.category,
            "brand": brand,
            "material": material,
            "condition": condition,
            "size": kind.sizes[size],
            "pack": "" if pack == 1 else f", pack of {pack}",
            "use": draw.choice(kind.uses),
            "extra": draw.choice(_EXTRAS),
            "shape": draw.choice(_SHAPES),
        }
        return words, middle, math.exp(self.noise * draw.gauss(0, 1))


def _read_count(name: str, asked: object) -> int:
    count = read_whole(asked)
    if count is None or count < 0:
        raise DataError(f"{name} must be a whole number of at least 0, not {asked!r}")
    return count
