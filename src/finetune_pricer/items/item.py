"""One product, checked when it is made."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..errors import InvalidItem, PricerError
from ..prices import parse_amount

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

TEXT_FIELDS = ("summary", "full", "title")
ITEM_FIELDS = ("title", "category", "price", "summary", "full", "weight", "id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One product, with its price or without.

    A plain frozen dataclass, and not a pydantic model, so that importing it costs no more than it must and
    hundreds of thousands of them are made quickly; what comes in is checked all the same.

    Attributes:
        title: What it is called.
        category: What kind of thing it is.
        price: Dollars (or another currency's unit), finite and at least 0; None when nobody knows it.
            Text such as `"$1,299.00"` is read as `parse_amount` reads it: one amount, no range.
        summary: The text to price it by, if there is one.
        full: The whole listing.
        weight: As the source gives it.
        id: Text; numbers are converted. Without one, a hash of everything but the price.

    Raises:
        InvalidItem: A field cannot be what it should be, or there is no text at all.
    """

    title: str | None = None
    category: str | None = None
    price: float | None = None
    summary: str | None = None
    full: str | None = None
    weight: float | None = None
    id: str = ""

    def __post_init__(self) -> None:
        name = f"item {str(self.id or self.title or '')[:60]!r}"
        for field in ("title", "category", "summary", "full"):
            value = getattr(self, field)
            if value is not None and not isinstance(value, str):
                raise InvalidItem(f"{name}: {field}: must be text, not {type(value).__name__}")
            if value is not None and not _is_unicode(value):
                raise InvalidItem(f"{name}: {field}: holds half a character (a lone surrogate)")
        object.__setattr__(self, "id", "" if self.id is None else str(self.id))
        for field, read in (("price", as_price), ("weight", _as_weight)):
            try:
                object.__setattr__(self, field, read(getattr(self, field)))
            except ValueError as error:
                raise InvalidItem(f"{name}: {field}: {error}") from error
        if not self.text:
            raise InvalidItem(f"{name} has no text: give a summary, a full text or a title")
        if not self.id:
            object.__setattr__(self, "id", content_id(asdict(self)))

    @property
    def text(self) -> str:
        """What the price is asked for: the summary, else the full text, else the title."""
        if (text := self.summary) and not text.isspace():
            return text
        if (text := self.full) and not text.isspace():
            return text
        if (text := self.title) and not text.isspace():
            return text
        return ""

    @property
    def label(self) -> str:
        """A short name for tables and figures: the title, else the beginning of the text."""
        first = (self.title or self.text).strip().partition("\n")[0]
        return first if len(first) <= 80 else first[:77] + "..."


def as_price(value: Any) -> float | None:
    """Turn a cell into a price, or None where it is empty; `ValueError` says why it cannot be one."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if type(value).__name__ in {"bool", "bool_"}:  # Python's and numpy's
        raise ValueError("a price is a number, not true or false")
    if isinstance(value, str):
        try:
            return parse_amount(value)
        except PricerError as error:
            raise ValueError(str(error)) from None
    try:
        price = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"a price is a number, not {type(value).__name__}") from None
    if not math.isfinite(price) or price < 0:
        raise ValueError(f"a price must be a finite number of at least 0, not {price!r}")
    return price


def require_price(item: Item, what_for: str, row: int | None = None) -> float:
    """Give the item's price, or raise `InvalidItem` naming the item, its row and the step that needs it."""
    if item.price is None:
        where = "" if row is None else f"row {row}, "
        raise InvalidItem(f"{where}item {item.id!r} ({item.label}) has no price, which {what_for} needs")
    return item.price


def content_id(fields: Mapping[str, Any]) -> str:
    """Hash everything but the price, so that a product keeps its id when its price becomes known."""
    content = "\x1f".join(
        str(fields.get(name) or "") for name in ("title", "category", *TEXT_FIELDS[:2], "weight")
    )
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _as_weight(value: Any) -> float | None:
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"must be a finite number, not {value!r}")
    return number


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def trusted_items(columns: Iterable[Iterable[Any]]) -> Iterator[Item]:
    """Make items of columns that were checked when their table was read, in the order of `Item`'s fields."""
    put = [getattr(Item, name).__set__ for name in ITEM_FIELDS]  # the way past `frozen`, found once
    for row in zip(*columns, strict=True):
        item = object.__new__(Item)
        for set_field, value in zip(put, row, strict=True):
            set_field(item, value)
        yield item
