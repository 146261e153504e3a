"""Excel's .xlsx files as batches of rows, by python-calamine.

A sheet is held whole while it is read: Excel lets it have 1,048,576 rows. Before it is loaded, what the file
unpacks to is counted, and so are the cells up to the last one: memory is taken for all of them, empty or not.
"""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...errors import InvalidRows, MissingExtra, RowProblem
from ..cells import mixed_column, write_cell
from ..decompression import find_limit, too_large, unpack_whole
from ..item import is_unicode
from ..tables import BATCH, STANDS_FOR
from .dialect import has_columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa
    import python_calamine

    from ..ingest import Source

_BEGIN = b"PK"  # with which a zip begins
_PIECE = 1 << 20
_CELL = re.compile(rb'<(?:\w+:)?c(?:\s[^>]*?\br="([A-Z]{1,3})([0-9]{1,7})")?')
_TEXT = re.compile(rb'\bt="s"[^>]*>\s*<(?:\w+:)?v>([0-9]{1,9})<')
_LONGEST_TAG = 200
_TEXTS = "xl/sharedStrings.xml"
_ALWAYS = 4_000_000  # cells that a sheet may span, empty ones included
_SPREAD = 10  # how many times as many cells as are written a sheet may span
_LEADING = 20  # rows among which the head is looked for
_NUMBERS = {"price", "weight", STANDS_FOR}


def read_workbook(
    path: Path,
    source: Source,
    *,
    packed: bool,
    columns: Mapping[str, str],
    fields: Mapping[str, str],
    priced: bool,
) -> Iterator[pa.Table]:
    """Yield the rows of the sheet that has the columns, the first batch empty, with the names of all columns.

    Raises:
        MissingExtra: python-calamine is not installed.
        InvalidRows: The file is no workbook, or several sheets have the columns.
    """
    try:
        import python_calamine
    except ImportError:
        raise MissingExtra(
            "reading .xlsx needs python-calamine; install it: pip install 'finetune-pricer[excel]', or save "
            "the sheet as CSV"
        ) from None
    try:
        with unpack_whole(path, _BEGIN, "workbook") if packed else nullcontext(path) as whole:
            yield from _read(whole, source, columns, fields, priced=priced)
    except python_calamine.PasswordError:
        raise InvalidRows(f"{source.name} is locked by a password; save it without one") from None
    except (python_calamine.CalamineError, zipfile.BadZipFile, NotImplementedError) as error:
        raise InvalidRows(
            f"cannot read {source.name}: it is no workbook that Excel would open ({error}); save it as "
            ".xlsx or CSV again"
        ) from error


def _read(
    path: Path, source: Source, columns: Mapping[str, str], fields: Mapping[str, str], *, priced: bool
) -> Iterator[pa.Table]:
    import pyarrow as pa
    import python_calamine

    _check_size(path, source.name)
    with python_calamine.CalamineWorkbook.from_path(path) as workbook:
        sheet = _choose_sheet(workbook, source, columns, priced=priced)
    yield pa.table([pa.nulls(0)] * len(sheet.names), names=sheet.names)
    source.find_lines = sheet.find_lines
    yield from sheet.read(source, fields)


def _choose_sheet(
    workbook: python_calamine.CalamineWorkbook, source: Source, columns: Mapping[str, str], *, priced: bool
) -> _Sheet:
    """Return the only sheet with cells, else the only one that has the columns."""
    import python_calamine

    visible = [
        each.name
        for each in workbook.sheets_metadata
        if each.visible == python_calamine.SheetVisibleEnum.Visible
        and each.typ == python_calamine.SheetTypeEnum.WorkSheet
    ]
    names = visible or workbook.sheet_names
    sheets = [_Sheet(workbook.get_sheet_by_name(name), columns, priced=priced) for name in names]
    filled = [sheet for sheet in sheets if sheet.names]
    if not filled:
        raise InvalidRows(f"{source.name} is empty")
    right = [sheet for sheet in filled if sheet.is_right]
    if len(right) > 1:
        shown = " and ".join(repr(sheet.name) for sheet in right[:2])
        raise InvalidRows(
            f"{source.name} has several sheets with these columns, such as {shown}; save each as a file, "
            "and put the sets together with ItemDataset.concat"
        )
    chosen = (right or filled)[0]
    if len(filled) > 1:
        source.how.append(f"sheet {chosen.name!r}")
    return chosen


class _Sheet:
    """The rows of a sheet, behind its head."""

    def __init__(
        self, sheet: python_calamine.CalamineSheet, columns: Mapping[str, str], *, priced: bool
    ) -> None:
        self.name = sheet.name
        rows: list[list[Any]] = sheet.to_python(skip_empty_area=False) if sheet.height else []
        filled = [at for at, row in enumerate(rows) if any(cell != "" for cell in row)]
        # Above the head there may be a title, or a date.
        heads = {at: [write_cell(cell) or "" for cell in rows[at]] for at in filled[:_LEADING]}
        right = [at for at, names in heads.items() if has_columns(names, columns, priced=priced)]
        head = (right or filled or [0])[0]
        self.is_right = bool(right)
        """Whether the columns are there."""
        self._head: list[str] = heads.get(head, [])
        self._filled = [at for at in filled if at > head]
        self._rows = rows
        self._batch: list[int] = []
        self._spread_merged(sheet.merged_cell_ranges or [], head)

    @property
    def names(self) -> list[str]:
        """The columns that have a name."""
        return [name for name in self._head if name]

    def find_lines(self, rows: list[int]) -> list[int]:
        """Return the sheet's numbers of rows of the latest batch, which are counted from 1."""
        return [self._batch[row - 1] + 1 for row in rows]

    def read(self, source: Source, fields: Mapping[str, str]) -> Iterator[pa.Table]:
        """Yield the rows that hold something, of the columns that matter."""
        import pyarrow as pa

        kept = [at for at, name in enumerate(self._head) if name in fields]
        number = 0
        for start in range(0, len(self._filled), BATCH):
            columns: list[list[Any]] = [[] for _ in kept]
            self._batch = []
            for row in self._filled[start : start + BATCH]:
                number += 1
                cells = [self._rows[row][at] for at in kept]
                self._rows[row] = []  # of which nothing is needed any more
                if problem := _find_problem(cells, [self._head[at] for at in kept]):
                    source.unreadable.append(replace(problem, row=number, line=row + 1))
                    continue
                self._batch.append(row)
                for column, cell in zip(columns, cells, strict=True):
                    column.append(None if cell == "" else cell)
            yield pa.table(
                [
                    mixed_column(cells)
                    if fields[self._head[at]] in _NUMBERS
                    else pa.array([write_cell(cell) for cell in cells], pa.string())
                    for at, cells in zip(kept, columns, strict=True)
                ],
                names=[self._head[at] for at in kept],
            )

    def _spread_merged(self, ranges: Sequence[tuple[tuple[int, int], tuple[int, int]]], head: int) -> None:
        """Write what stands in cells that are merged downwards into each of their rows."""
        filled = set(self._filled)
        for (first, column), (last, _) in ranges:
            for row in range(max(first, head) + 1, min(last + 1, len(self._rows))):
                if row in filled and first > head:
                    self._rows[row][column] = self._rows[first][column]


def _find_problem(cells: Sequence[Any], names: Sequence[str]) -> RowProblem | None:
    for cell, name in zip(cells, names, strict=True):
        if isinstance(cell, str) and not is_unicode(cell):
            reason = "holds half a character (a lone surrogate)"
            return RowProblem(row=0, field=name, value=ascii(cell)[:60], reason=reason)
    return None


def _check_size(path: Path, name: str) -> None:
    """Make sure that a workbook unpacks to no more than it may: in bytes, in cells, and in texts of cells."""
    limit = find_limit(path.stat().st_size)
    left = limit
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            span = _Span()
            with archive.open(entry) as file:
                while piece := file.read(_PIECE):
                    left -= len(piece)
                    if left < 0:
                        raise too_large(name, limit)
                    if "/worksheets/" in entry.filename:
                        span.add(piece)
            if span.cells > max(_ALWAYS, _SPREAD * span.written):
                raise InvalidRows(
                    f"a sheet of {name} spans {span.cells:,} cells, of which {span.written:,} are written; "
                    "delete what stands far from the table, or save the sheet as CSV"
                )
            if span.texts and _measure_texts(archive, span.texts) > limit:
                raise too_large(name, limit)


def _measure_texts(archive: zipfile.ZipFile, used: Counter[int]) -> int:
    """Return how many bytes the texts of cells have, which a workbook holds once for all cells."""
    if _TEXTS not in archive.namelist():
        return 0
    lengths = [len(text) for text in archive.read(_TEXTS).split(b"</si>")]
    return sum(lengths[at] * count for at, count in used.items() if at < len(lengths))


class _Span:
    """How far the cells of a sheet reach, and how often each text of the workbook is used."""

    def __init__(self) -> None:
        self.written = 0
        self.texts = Counter[int]()
        self._rows = 0
        self._columns = 0
        self._rest = b""

    @property
    def cells(self) -> int:
        """How many cells there are up to the last row and column."""
        return self._rows * self._columns

    def add(self, piece: bytes) -> None:
        """Look at a piece of a sheet."""
        text = self._rest + piece
        end = 0
        for match in _CELL.finditer(text):
            self.written += 1
            if match[1]:
                column = 0
                for letter in match[1]:
                    column = column * 26 + letter - 64
                self._rows, self._columns = max(self._rows, int(match[2])), max(self._columns, column)
            end = match.end()
        self.texts.update(map(int, _TEXT.findall(text, 0, end)))
        self._rest = text[max(end, len(text) - _LONGEST_TAG) :]
