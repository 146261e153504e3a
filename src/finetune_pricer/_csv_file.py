"""CSV files as this package writes them: UTF-8, and formulas kept for programs or disarmed for people."""

from __future__ import annotations

import codecs
import csv
from typing import TYPE_CHECKING, Any, Literal

from ._escape import escape_formula
from ._files import replacing
from .errors import DataError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

Formulas = Literal["keep", "escape"]
"""What becomes of texts that a spreadsheet would run: they stay, or get a `'` before them."""


def write_csv(
    path: str | os.PathLike[str],
    columns: Sequence[str],
    rows: Iterable[Iterable[Any]],
    *,
    formulas: Formulas = "keep",
) -> None:
    r"""Write rows below the names of their columns; None is an empty cell.

    Half a character (a lone surrogate), which UTF-8 does not have, is written as `\ud83d`.

    Args:
        path: Where to write.
        columns: Their names.
        rows: The cells of each row, in the order of the columns.
        formulas: `"keep"` writes each text as it is; `"escape"` puts a `'` before what begins a formula.

    Raises:
        DataError: `formulas` is something else.
        FileAccessError: The path cannot be written; what stood there stays.
    """
    if not isinstance(formulas, str) or formulas not in {"keep", "escape"}:
        raise DataError(f"formulas is 'keep' or 'escape', not {formulas!r}")
    with replacing(path) as file:
        writer = csv.writer(codecs.getwriter("utf-8")(file, "backslashreplace"))
        writer.writerow(columns)
        writer.writerows(rows if formulas == "keep" else map(_escape_formulas, rows))


def _escape_formulas(row: Iterable[Any]) -> list[Any]:
    return [escape_formula(cell) if isinstance(cell, str) else cell for cell in row]
