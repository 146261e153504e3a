"""Rows in memory -> batches of foreign rows: records, pandas frames, and whatever speaks Arrow.

Only the columns that an item has are looked at. A column of one kind stays as it is; of the others each cell
is read by its value, so that `12.5` beside `"€12"` stays a number, and a cell that is none of both is its own
row's problem.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..errors import DataError, RowProblem
from .cells import mixed_column, read_number, unwrap_cell, write_cell
from .ingest import Source
from .item import ITEM_FIELDS, is_unicode, read_price
from .tables import BATCH, STANDS_FOR, is_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd
    import pyarrow as pa

_NUMBERS = ("price", "weight", STANDS_FOR)
_OTHERS = 100  # columns that are not read, but named in messages


def read_records(records: Iterable[Mapping[str, Any]], columns: Mapping[str, str] | None) -> Source:
    """Return the rows of dicts in batches.

    Raises:
        DataError: What was handed in is no iterable of rows.
    """
    no_rows = isinstance(records, str | bytes | Mapping) or hasattr(records, "columns")
    if no_rows or not isinstance(records, Iterable):
        raise DataError(
            "from_records takes rows, such as [{'title': 'Lamp', 'price': 12}], not "
            f"{type(records).__name__}; from_pandas and from_arrow take tables"
        )
    unreadable: list[RowProblem] = []
    roles = Roles(columns)

    def batches() -> Iterator[pa.Table]:
        rows, names, first = iter(records), dict[str, None](), 1
        while part := list(islice(rows, BATCH)):
            good = _keep_mappings(part, first, unreadable)
            for row in good.values():
                for name in row:
                    if name in roles or len(names) < _OTHERS:
                        names.setdefault(name)
            columns = [
                (str(name), [row.get(name) for row in good.values()] if name in roles else None)
                for name in names
            ]
            yield _table_of(columns, list(good), roles, unreadable)
            first += len(part)

    return Source(name="the list of records", batches=batches(), unreadable=unreadable)


def read_frame(frame: pd.DataFrame, columns: Mapping[str, str] | None) -> Source:
    """Return a frame's rows in batches."""
    unreadable: list[RowProblem] = []
    roles = Roles(columns)

    def batches() -> Iterator[pa.Table]:
        for start in range(0, max(len(frame), 1), BATCH):
            part = frame.iloc[start : start + BATCH]
            yield _table_of_frame(part, start, roles, unreadable)

    return Source(name="the frame", batches=batches(), unreadable=unreadable)


def read_arrow(table: object, columns: Mapping[str, str] | None, name: str = "the table") -> Source:
    """Return the rows of whatever has the Arrow C stream protocol, in batches.

    Raises:
        DataError: It has not.
    """
    import pyarrow as pa

    if not hasattr(table, "__arrow_c_stream__"):
        hint = "; collect() it first" if hasattr(table, "collect") else ""
        raise DataError(
            f"from_arrow takes a table with the Arrow C stream protocol (polars, duckdb, pyarrow), not "
            f"{type(table).__name__}{hint}; from_records takes dicts"
        )
    unreadable: list[RowProblem] = []
    roles = Roles(columns)

    def batches() -> Iterator[pa.Table]:
        reader = pa.RecordBatchReader.from_stream(table)
        first = 1
        for batch in reader:
            for start in range(0, batch.num_rows, BATCH):
                part = batch.slice(start, BATCH)
                yield clean_table(pa.Table.from_batches([part]), first, roles, unreadable)
                first += part.num_rows
        if first == 1:
            yield clean_table(reader.schema.empty_table(), first, roles, unreadable)

    return Source(name=name, batches=batches(), unreadable=unreadable)


class Roles:
    """Which field of an item each foreign column becomes."""

    def __init__(self, columns: Mapping[str, str] | None) -> None:
        self._roles = {name: name for name in (*ITEM_FIELDS, STANDS_FOR)} | dict(columns or {})

    def __contains__(self, name: object) -> bool:
        return name in self._roles

    def __getitem__(self, name: str) -> str:
        return self._roles[name]


def clean_table(table: pa.Table, first: int, roles: Roles, unreadable: list[RowProblem]) -> pa.Table:
    """Return a table whose wanted columns are texts and numbers, less the rows with other cells."""
    columns: list[tuple[str, Any]] = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        wanted = name in roles
        columns.append((name, _clean_column(column, roles[name]) if wanted else None))
    numbers = range(first, first + table.num_rows)
    return _table_of(columns, numbers, roles, unreadable).replace_schema_metadata(table.schema.metadata)


def _clean_column(column: pa.ChunkedArray, role: str) -> pa.ChunkedArray | list[Any]:
    import pyarrow as pa

    types = pa.types
    kind = column.type
    if is_text(kind) or types.is_integer(kind) or types.is_null(kind):
        return column
    if role in _NUMBERS and types.is_floating(kind):
        return column
    if types.is_temporal(kind) and role not in _NUMBERS:
        return column.cast(pa.string())
    cells: list[Any] = column.to_pylist()
    if getattr(kind, "extension_name", "") == "arrow.json":
        cells = [None if cell is None else json.loads(cell) for cell in cells]
    return cells


def _table_of_frame(frame: pd.DataFrame, start: int, roles: Roles, unreadable: list[RowProblem]) -> pa.Table:
    columns: list[tuple[str, Any]] = []
    for at, name in enumerate(map(str, frame.columns)):
        columns.append((name, _frame_cells(frame.iloc[:, at], roles[name]) if name in roles else None))
    return _table_of(columns, range(start + 1, start + len(frame) + 1), roles, unreadable)


def _frame_cells(column: pd.Series, role: str) -> Any:
    import numpy as np
    import pyarrow as pa

    if role in _NUMBERS and isinstance(column.dtype, np.dtype) and column.dtype.kind in "iuf":
        return pa.array(column.to_numpy(), from_pandas=True)  # nan is null
    # What pandas calls missing (NaN, NA, NaT) is no value.
    return [None if missing else cell for cell, missing in zip(column, column.isna(), strict=True)]


def _table_of(
    columns: Iterable[tuple[str, Any]], numbers: Sequence[int], roles: Roles, unreadable: list[RowProblem]
) -> pa.Table:
    """Return a table of columns that are Arrow's, lists of cells, or None where nobody wants them.

    Args:
        columns: Their names and what they hold.
        numbers: The number of each row.
        roles: What each column becomes.
        unreadable: Where the rows are noted that have a cell of no use; they are left out of the table.
    """
    import pyarrow as pa

    bad: dict[int, RowProblem] = {}
    read: list[tuple[str, Any]] = []
    for name, cells in columns:
        role = roles[name] if isinstance(cells, list) else ""
        read.append(
            (name, _read_cells(name, cells, _READERS.get(role, write_cell), numbers, bad) if role else cells)
        )
    good = [at for at in range(len(numbers)) if at not in bad]
    unreadable += bad.values()
    arrays = []
    for _, cells in read:
        if isinstance(cells, list):
            arrays.append(mixed_column([cells[at] for at in good]))
        elif cells is None:
            arrays.append(pa.nulls(len(good)))
        else:
            arrays.append(cells.take(pa.array(good, pa.int64())) if bad else cells)
    return pa.table(arrays, names=[name for name, _ in read])


def _read_cells(
    name: str,
    cells: list[Any],
    read: Callable[[Any], Any],
    numbers: Sequence[int],
    bad: dict[int, RowProblem],
) -> list[Any]:
    if set(map(type, cells)) <= {str, type(None)} and all(map(is_unicode, filter(None, cells))):
        return cells
    found: list[Any] = []
    for at, cell in enumerate(cells):
        value = None
        try:
            value = read(cell)
        except ValueError as error:
            problem = RowProblem(row=numbers[at], field=name, value=_show(cell), reason=str(error))
            bad.setdefault(at, problem)
        found.append(value)
    return found


def _read_price_cell(cell: Any) -> str | float | None:
    cell = unwrap_cell(cell)
    if not isinstance(cell, str):
        return read_price(cell)
    if not is_unicode(cell):
        raise ValueError("holds half a character (a lone surrogate)")
    return cell


_READERS: dict[str, Callable[[Any], Any]] = {
    "price": _read_price_cell,
    "weight": read_number,
    STANDS_FOR: read_number,
}


def _show(cell: Any) -> str:
    try:
        return repr(cell)[:60]
    except ValueError:
        return type(cell).__name__


def _keep_mappings(part: list[Any], first: int, unreadable: list[RowProblem]) -> dict[int, Mapping[str, Any]]:
    """Return the rows that are mappings, by their number."""
    good: dict[int, Mapping[str, Any]] = {}
    for number, row in enumerate(part, start=first):
        if isinstance(row, Mapping):
            good[number] = row
        else:
            reason = f"is of type {type(row).__name__}, and no dict"
            unreadable.append(RowProblem(row=number, field="row", value=_show(row), reason=reason))
    return good
