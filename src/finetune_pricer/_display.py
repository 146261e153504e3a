"""How things show themselves where nobody printed them: in a console, a log, a debugger, a notebook.

Decided here for all of the package:

- A `repr` fits on a screen. A record shows its fields, long ones cut and many values counted; a thing that
  prints as a page shows the first line of that page.
- What prints well shows in a notebook as it prints, and many things of one kind show as a table of the first.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ._escape import escape_html, escape_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Value = TypeVar("Value")

FIRST = 5
"""How many rows stand in a notebook's table."""
_MOST_FIELDS = 1_500  # characters of a record
_MOST_VALUE = 100  # characters of a text in it
_MOST_OTHER = 300  # characters of anything else in it
_MOST_LINE = 300  # characters of a page's first line
_MOST_CELL = 80  # characters of a cell
_FEW = 3  # values that are shown; more are counted


class ShortRepr:
    """A dataclass whose `repr` shows its fields, each of them short. To be declared with `repr=False`."""

    __slots__ = ()

    def __repr__(self) -> str:
        # A field that is declared with `repr=False` is left out, as a dataclass's own `repr` has it.
        names = [entry.name for entry in fields(cast("Any", self)) if entry.repr]
        return _write_fields(self, ((name, getattr(self, name)) for name in names))


class ShortModelRepr:
    """The same for a pydantic model: the fields that were given, for there may be dozens of others."""

    def __repr__(self) -> str:
        model: Any = self
        hidden = {name for name, field in type(model).model_fields.items() if not field.repr}
        given: set[str] = model.model_fields_set - hidden
        return _write_fields(self, ((name, value) for name, value in model if name in given))


class NamedValues(dict[str, Value]):
    """A table of many values by name, whose `repr` is the names."""

    def __repr__(self) -> str:
        return _cut(f"<{len(self):,} values: {', '.join(self)}>", _MOST_FIELDS)


class PrintsAsPage:
    """A thing whose `str` is worth reading: its `repr` is the first line, and a notebook shows it all."""

    __slots__ = ()

    def __repr__(self) -> str:
        first, _, more = str(self).partition("\n")
        return f"<{type(self).__name__}: {_cut(first, _MOST_LINE)}{' ...' if more else ''}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002 - IPython's signature
        lines = str(self).split("\n")
        for line in lines[:-1]:
            printer.text(line)
            printer.break_()
        printer.text(lines[-1])

    def _repr_html_(self) -> str:
        return render_text(str(self))


def _write_fields(thing: object, values: Iterable[tuple[str, object]]) -> str:
    shown = ", ".join(f"{name}={shorten(value)}" for name, value in values)
    return f"{type(thing).__name__}({_cut(shown, _MOST_FIELDS)})"


def shorten(value: object) -> str:
    """Return the `repr` of a value, in which long texts are cut, and many values are counted."""
    if isinstance(value, str | bytes) and len(value) > _MOST_VALUE:
        return f"{value[:_MOST_VALUE]!r}..."
    if isinstance(value, list | tuple | set | frozenset | dict) and len(value) > _FEW:
        return f"<{len(value):,} values>"
    return _cut(repr(value), _MOST_OTHER)


def render_text(text: str) -> str:
    """Return a part of a page for notebooks: text as it stands, line for line."""
    return f"<pre>{escape_html(text)}</pre>"


def render_first(head: Sequence[str], rows: Iterable[Sequence[object]], note: str) -> str:
    """Return a part of a page for notebooks: a table of the rows that are handed in, and a note on them all.

    Args:
        head: Names of the columns.
        rows: Cells of any kind; None is an empty cell, and a float has two decimals.
        note: What stands below.
    """
    lines = ["<table>", _render_row("th", head), *(_render_row("td", row) for row in rows), "</table>"]
    return "\n".join([*lines, f"<p>{escape_html(note)}</p>"])


def _render_row(tag: str, cells: Iterable[object]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape_html(_write_cell(cell))}</{tag}>" for cell in cells) + "</tr>"


def _write_cell(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:,.2f}"
    return escape_line(_cut(" ".join(str(cell).split()), _MOST_CELL))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
