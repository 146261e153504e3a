"""What an item's text is: which of its fields a model sees, and in which form.

It is decided here and nowhere else, for training and asking, baselines and audits.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from .._arguments import require_many
from .._lazy import compile_late
from .._methods.duplicates import words_of
from ..errors import DataError, InvalidItem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SHOWN_FIELDS = ("title", "summary")
"""What a model sees of an item where nobody says otherwise."""
_DESCRIPTIONS = {"summary", "full"}
_CHOICE = ("title", "category", "summary", "full")
_TITLE_LINE = compile_late(r"[\W_]{0,20}title[\W_]{0,20}?:", re.IGNORECASE)


class HasText(Protocol):
    """What has the texts of an item."""

    @property
    def id(self) -> str:
        """Its id."""
        ...

    @property
    def title(self) -> str | None:
        """Its name."""

    @property
    def category(self) -> str | None:
        """Its kind."""

    @property
    def summary(self) -> str | None:
        """The description to price it by."""

    @property
    def full(self) -> str | None:
        """The whole listing."""


def write_text(item: HasText, fields: tuple[str, ...] = SHOWN_FIELDS) -> str:
    """Return an item's text: its fields, each below the one before; an empty text where it has none of them.

    `summary` is the description: the whole listing (`full`) of an item that has no summary. The title is left
    out where the first line of the description holds it already.
    """
    shown = _find_shown(item, fields)
    if len(shown) > 1 and "title" in shown:
        description = _find_description(shown)
        if description is not None and holds_title(description, shown["title"]):
            del shown["title"]
    # Byte for byte where there is one; what stands above another line ends where its words end.
    *above, last = shown.values() or [""]
    return "\n".join([*map(str.strip, above), last]) if above else last


def lacks_title(item: HasText, fields: tuple[str, ...] = SHOWN_FIELDS) -> bool:
    """Whether an item has a title that the first line of its description does not hold."""
    description = _find_description(_find_shown(item, fields))
    title = item.title or ""
    return description is not None and bool(title.strip()) and not holds_title(description, title)


def _find_shown(item: HasText, fields: tuple[str, ...]) -> dict[str, str]:
    shown = {}
    for name in fields:
        text = getattr(item, name)
        if name == "summary" and (not text or text.isspace()) and "full" not in fields:
            text = item.full
        if text and not text.isspace():
            shown[name] = text
    return shown


def _find_description(shown: Mapping[str, str]) -> str | None:
    for name in shown:
        if name in _DESCRIPTIONS:
            return shown[name]
    return None


def holds_title(description: str, title: str) -> bool:
    """Whether the first line of a description says the title, whatever its case, spacing and punctuation.

    A first line such as `Title: Brass lamp` is one that says the title, in whatever words.
    """
    # Every item that is written or asked about comes by here, so the cheap questions are asked first.
    text = description.lstrip() if description[:1].isspace() else description
    end = text.find("\n")
    first = text if end < 0 else text[:end]
    if first == title or first.startswith(f"{title} "):
        return True
    if "title" in first[:40].lower() and _TITLE_LINE.match(first):
        return True
    words = words_of(title)
    if not words:
        return title.strip() in first
    if first.isascii():
        low = first.lower()
        for word in words:
            if word not in low:
                return False
    return f" {' '.join(words)} " in f" {' '.join(words_of(first))} "


def require_item_text(item: HasText, fields: tuple[str, ...] = SHOWN_FIELDS, row: int | None = None) -> str:
    """Return an item's text.

    Raises:
        InvalidItem: The item has none of the fields; the message names the item and its row.
    """
    if text := write_text(item, fields):
        return text
    where = "" if row is None else f"row {row}, "
    raise InvalidItem(f"{where}item {item.id!r} has no text: it has none of the fields {_quote(fields)}")


def check_fields(fields: Iterable[str]) -> tuple[str, ...]:
    """Return the names of fields that make an item's text.

    Raises:
        DataError: They are none, one stands twice, or one is no text.
    """
    if isinstance(fields, str):
        raise DataError(f"fields are several: fields=({fields!r},)")
    require_many("fields", fields, "names of fields, such as ('title', 'summary')")
    names = tuple(fields)
    if unknown := [name for name in names if not isinstance(name, str) or name not in _CHOICE]:
        raise DataError(f"an item's text cannot show {unknown[0]!r}; it shows some of {_quote(_CHOICE)}")
    if not names or len(set(names)) < len(names):
        raise DataError(f"fields must name at least one of {_quote(_CHOICE)}, and each once, not {names!r}")
    return names


def _quote(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
