"""One product, checked when it is made."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from .._arguments import refuse, require_many
from .._display import ShortRepr
from ..errors import InvalidItem, NotAnItem, PricerError
from ..prices import parse_amount
from .text import write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ITEM_FIELDS = ("title", "category", "price", "summary", "full", "weight", "id")
TEXT_FIELDS = ("summary", "full", "title")
"""An item has a text where one of these is not blank."""
ID_FIELDS = ("title", "category", "summary", "full", "weight")
"""What the id of an item without one is made of."""
NO_PRICE = frozenset({"", "null", "none", "nan", "na", "n/a", "-"})
"""What exports write where there is no price, in small letters."""


# A dataclass and not a pydantic model, so that hundreds of thousands of them are made quickly.
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Item(ShortRepr):
    r"""One product, with its price or without.

    Attributes:
        title: The product's name.
        category: The kind of product.
        price: Dollars (or another currency's unit), finite and at least 0; None when nobody knows it.
            Text such as `"$1,299.00"` is read by `parse_amount`: one amount, no range.
        summary: The description to price the product by, if there is one.
        full: The whole listing; the description of an item without a summary.
        weight: The weight as the source gives it, in the source's unit.
        id: Text; numbers are converted. Without one, a hash of everything but the price.

    Raises:
        InvalidItem: A field has a value that it cannot have, or there is no text at all.

    Examples:
        >>> lamp = Item(title="Brass lamp", summary="A brass desk lamp with a switch.", price=59.9)
        >>> lamp.text
        'Brass lamp\nA brass desk lamp with a switch.'
        >>> Item(title="Brass lamp").price is None
        True
    """

    title: str | None = None
    category: str | None = None
    price: float | None = None
    summary: str | None = None
    full: str | None = None
    weight: float | None = None
    id: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", _read_id(self.id))
        name = f"item {(self.id or (self.title if isinstance(self.title, str) else ''))[:60]!r}"
        for field in ("title", "category", "summary", "full"):
            value = getattr(self, field)
            if value is not None and not isinstance(value, str):
                raise InvalidItem(f"{name}: {field}: must be text, not {type(value).__name__}")
            if value is not None and not is_unicode(value):
                raise InvalidItem(f"{name}: {field}: holds half a character (a lone surrogate)")
        for field, read in (("price", read_price), ("weight", _read_weight)):
            try:
                object.__setattr__(self, field, read(getattr(self, field)))
            except ValueError as error:
                raise InvalidItem(f"{name}: {field}: {error}") from error
        if not any(text and not text.isspace() for text in (self.summary, self.full, self.title)):
            raise InvalidItem(f"{name} has no text: give a summary, a full text or a title")
        if not self.id:
            object.__setattr__(self, "id", content_id(asdict(self)))

    @property
    def text(self) -> str:
        """What a model sees of the item, by default: its title above its description.

        The description is the summary, else the full listing. Where its first line holds the title already,
        the title is not said twice. `ChatFormatter(fields=)` shows other fields.
        """
        return write_text(self)

    @property
    def label(self) -> str:
        """A short name for tables and figures: the title, else the beginning of the text."""
        first = (self.title or self.text).strip().partition("\n")[0]
        return first if len(first) <= 80 else first[:77] + "..."


def read_price(value: Any, currency: str = "USD", decimal: Literal[".", ","] | None = None) -> float | None:
    """Return a cell's price, or None where the cell is empty; `ValueError` says why it is no price.

    Args:
        value: A number, or a text, of which some mean that there is no price (`NO_PRICE`).
        currency: ISO code of the currency that a text is in.
        decimal: What stands before the decimals of a text, where that is known.
    """
    if value is None or (isinstance(value, str) and value.strip().lower() in NO_PRICE):
        return None
    if type(value).__name__ in {"bool", "bool_"}:  # Python's and numpy's
        raise ValueError("a price is a number, not true or false")
    if isinstance(value, str):
        try:
            return parse_amount(value, currency, decimal=decimal)
        except PricerError as error:
            raise ValueError(str(error)) from None
    try:
        price = float(value)
    except OverflowError:
        price = math.inf
    except (TypeError, ValueError):
        raise ValueError(f"a price is a number, not {type(value).__name__}") from None
    if not math.isfinite(price) or price < 0:
        raise ValueError(f"a price must be a finite number of at least 0, not {price!r}")
    return price


def require_item(item: object, row: int | None = None, *, or_text: bool = False) -> None:
    """Make sure that a thing is an item, or with `or_text` a text.

    Raises:
        NotAnItem: It is something else; the message names its row.
    """
    if isinstance(item, Item) or (or_text and isinstance(item, str)):
        return
    name = "an item" if row is None else f"row {row}: an item"
    hint = "Item(title=..., summary=...) makes one"
    if isinstance(item, dict):
        hint = "Item(**fields) makes one of a dictionary"
    elif isinstance(item, str):
        hint = "Item(summary=text) makes one of a text"
    raise refuse(name, "an Item or a text" if or_text else "an Item", item, hint, NotAnItem)


def require_items(items: object, name: str = "items", *, or_text: bool = False) -> None:
    """Make sure that a thing holds many items, as far as that shows before they are gone through.

    Of a list or a tuple each element is looked at; of anything else whoever goes through it looks at each.

    Raises:
        WrongArgument: It is no such thing: a frame, a path, one item, all splits together.
    """
    wanted = "items or texts" if or_text else "items"
    hint = "ItemDataset.from_file, from_hub, from_pandas and from_items make them"
    if hasattr(items, "iloc"):
        hint = "ItemDataset.from_pandas(frame) makes them of a frame"
    elif isinstance(items, str | os.PathLike):
        hint = "ItemDataset.from_file(path) makes them of a file, and [text] is a list of one text"
    elif isinstance(items, Item):
        hint = "[item] is a list of one"
    elif hasattr(items, "push_to_hub") and hasattr(items, "_fields"):
        raise refuse(name, wanted, items, "choose one of its splits: .train, .validation or .test")
    if isinstance(items, Item | os.PathLike):
        raise refuse(name, wanted, items, hint)
    require_many(name, items, wanted, hint)
    if isinstance(items, list | tuple):
        for row, item in enumerate(items, start=1):
            require_item(item, row, or_text=or_text)


def require_questions(items: object) -> None:
    """Make sure that a thing holds items or texts to ask about.

    A text would be asked about letter by letter, a frame by the names of its columns; each is paid for.

    One that is neither, among others, is its own row's problem: the others are asked about all the same. A
    list of nothing else is a wrong call.

    Raises:
        WrongArgument: It is no such thing.
    """
    if not isinstance(items, list | tuple) or not any(isinstance(item, Item | str) for item in items):
        require_items(items, or_text=True)


def require_set(items: object, name: str) -> None:
    """Make sure that a thing is an `ItemDataset`.

    Raises:
        WrongArgument: It is something else, such as a list of items.
    """
    # By what it has: the class stands in a file that imports this one.
    if not hasattr(items, "table") or not hasattr(items, "history") or isinstance(items, type):
        require_items(items, name)
        raise refuse(name, "an ItemDataset", items, "ItemDataset.from_items(items) makes one")


def require_price(
    item: Item, what_for: str, row: int | None = None, zero_is: Literal["unknown", "price"] | None = "price"
) -> float:
    """Return the item's price.

    Args:
        item: The item.
        what_for: The step that needs its price, in words.
        row: Which row it stands in, from 1.
        zero_is: What its set says that a price of 0 is; unless it says `"price"`, there is none.

    Raises:
        InvalidItem: The item has no price; the message names the item, its row, and the step that needs it.
    """
    if item.price is not None and (item.price or zero_is == "price"):
        return item.price
    where = "" if row is None else f"row {row}, "
    named = f"{where}item {item.id!r} ({item.label})"
    if item.price is None:
        raise InvalidItem(f"{named} has no price, which {what_for} needs")
    raise InvalidItem(
        f"{named} has a price of 0, and {what_for} must know what that means: read the items with "
        "zero_is='price' if it costs nothing, or zero_is='unknown' if nobody knows its price"
    )


def content_id(fields: Mapping[str, Any]) -> str:
    """Return a hash of everything but the price: a product keeps its id when its price becomes known."""
    content = "\x1f".join(str(fields.get(name) or "") for name in ID_FIELDS)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _read_id(value: Any) -> str:
    try:
        text = "" if value is None else str(value)
    except ValueError:  # Python writes out no number of so many digits
        raise InvalidItem("item: id: a number of thousands of digits is no id; give a text") from None
    if not is_unicode(text):
        raise InvalidItem(f"item {text[:60]!r}: id: holds half a character (a lone surrogate)")
    return text


def _read_weight(value: Any) -> float | None:
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)
    except OverflowError:
        number = math.inf
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        shown = "inf" if isinstance(value, int) and not isinstance(value, bool) else repr(value)
        raise ValueError(f"must be a finite number, not {shown}")
    return number


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8: half of a character of two (a lone surrogate) cannot."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def build_items(columns: Iterable[Iterable[Any]]) -> Iterator[Item]:
    """Yield items from columns in the order of `ITEM_FIELDS`, whose values were checked before."""
    set_fields = [getattr(Item, name).__set__ for name in ITEM_FIELDS]  # writes to a frozen item
    for row in zip(*columns, strict=True):
        item = object.__new__(Item)
        for set_field, value in zip(set_fields, row, strict=True):
            set_field(item, value)
        yield item
