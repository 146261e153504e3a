"""Rows of any origin become rows of items, batch by batch: columns found, values read, bad rows told."""

from __future__ import annotations

import logging
import math
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from ..errors import DataError, InvalidRows, RowProblem
from .item import ITEM_FIELDS, TEXT_FIELDS, as_price, content_id
from .spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_log = logging.getLogger("finetune_pricer")

OnError = Literal["raise", "skip"]
BATCH = 10_000
"""Rows that are looked at together."""

_STRINGS = ("title", "category", "summary", "full", "id")
STANDS_FOR = "stands_for"
SCHEMA = pa.schema(
    [(name, pa.float64() if name in {"price", "weight"} else pa.string()) for name in ITEM_FIELDS]
    + [(STANDS_FOR, pa.float64())]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What comes in: batches of foreign rows, and the rows that could not even be split into cells."""

    source: str
    batches: Iterable[pa.Table]
    unreadable: list[RowProblem] = field(default_factory=list)
    """Filled while the batches are read; these rows are in no batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What came of it."""

    table: pa.Table
    history: tuple[str, ...]
    skipped: tuple[RowProblem, ...]


def load(
    rows: Rows,
    *,
    columns: Mapping[str, str] | None = None,
    priced: bool = True,
    on_error: OnError = "raise",
) -> Loaded:
    """Check rows and bring them into `SCHEMA`; their memory does not grow with their number.

    Raises:
        InvalidRows: A column is missing; or, unless they are skipped, rows cannot be items: `problems` holds
            each.
    """
    if on_error not in {"raise", "skip"}:
        raise DataError(f"on_error is 'raise' or 'skip', not {on_error!r}")
    seen, problems = 0, list[RowProblem]()
    with Spool(SCHEMA) as spool:
        for batch in rows.batches:
            named = _renamed(batch, rows.source, columns or {})
            if twice := [name for name in SCHEMA.names if named.column_names.count(name) > 1]:
                raise InvalidRows(f"{rows.source} has more than one column {twice[0]!r}; keep one")
            if not seen:
                _require_columns(named, rows.source, priced=priced)
            items, bad = _item_batch(named, priced=priced, first=seen + 1)
            seen += batch.num_rows
            problems += bad
            if on_error == "skip" or not problems:
                spool.write(items)
        problems = _in_file_order(problems, rows.unreadable)
        bad_rows = len({problem.row for problem in problems})
        total = seen + len(rows.unreadable)
        if problems and on_error == "raise":
            raise InvalidRows(
                f"{bad_rows:,} of {total:,} rows of {rows.source} cannot be items:", problems=problems
            )
        history = [f"{total:,} rows read from {rows.source}"]
        if problems:
            why = Counter(problem.field for problem in problems).most_common()
            fields = ", ".join(f"{name} ({count:,})" for name, count in why)
            history.append(f"{bad_rows:,} rows skipped that cannot be items, because of their {fields}")
            _log.warning("%s: %s", rows.source, history[-1])
        return Loaded(table=spool.table(), history=tuple(history), skipped=tuple(problems))


def _in_file_order(problems: list[RowProblem], unreadable: list[RowProblem]) -> list[RowProblem]:
    # Rows were counted without those that could not be read: count these in.
    gaps = sorted(problem.row for problem in unreadable)
    gaps = [row - index for index, row in enumerate(gaps)]
    moved = [replace(each, row=each.row + bisect_right(gaps, each.row)) for each in problems]
    return sorted([*moved, *unreadable], key=lambda problem: problem.row)


def _item_batch(table: pa.Table, *, priced: bool, first: int) -> tuple[pa.Table, list[RowProblem]]:
    problems: list[RowProblem] = []
    found = {name: _text_column(table, name) for name in _STRINGS}
    found["price"] = _price_column(table, priced=priced, problems=problems)
    found["weight"] = _number_column(table, "weight")
    found[STANDS_FOR] = _number_column(table, STANDS_FOR)
    problems.extend(_without_text(found))
    found["id"] = _with_ids(found)
    made = pa.table([found[name] for name in SCHEMA.names], schema=SCHEMA)
    if problems:
        bad = {problem.row for problem in problems}
        made = made.filter(pa.array([row not in bad for row in range(1, made.num_rows + 1)], pa.bool_()))
    return made, [replace(problem, row=problem.row + first - 1) for problem in problems]


def _renamed(table: pa.Table, source: str, columns: Mapping[str, str]) -> pa.Table:
    if absent := [name for name in columns if name not in table.column_names]:
        raise InvalidRows(f"{source} has no column {absent[0]!r}; it has {listed(table.column_names)}")
    if unknown := [name for name in columns.values() if name not in ITEM_FIELDS]:
        raise InvalidRows(f"an item has no field {unknown[0]!r}; it has {listed(ITEM_FIELDS)}")
    # A foreign column that takes one of our names pushes aside what had the name before.
    kept = [name for name in table.column_names if name in columns or name not in columns.values()]
    at = [index for index, name in enumerate(table.column_names) if name in kept]
    return table.select(at).rename_columns([columns.get(name, name) for name in kept])


def _require_columns(table: pa.Table, source: str, *, priced: bool) -> None:
    names = table.column_names
    hint = "map foreign names with columns={'theirs': 'ours'}"
    if priced and "price" not in names:
        raise InvalidRows(f"{source} has no column 'price'; it has {listed(names)}; {hint}")
    if not any(name in names for name in TEXT_FIELDS):
        raise InvalidRows(
            f"{source} has none of the text columns {listed(TEXT_FIELDS)}; it has {listed(names)}; {hint}"
        )


def listed(names: Iterable[object]) -> str:
    """Name things in a message."""
    return ", ".join(repr(name) for name in names) or "no columns"


def _text_column(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        return pa.chunked_array([pa.nulls(table.num_rows, pa.string())])
    column = table[name]
    if pa.types.is_nested(column.type):
        raise InvalidRows(f"column {name!r} holds {column.type}, not text; map another column to it")
    return column.cast(pa.string())


def _number_column(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        return pa.chunked_array([pa.nulls(table.num_rows, pa.float64())])
    return pa.chunked_array([pa.array([_as_number(cell) for cell in table[name].to_pylist()], pa.float64())])


def _as_number(cell: Any) -> float | None:
    # Nothing is computed from a weight, so a weight that is no number is no reason to refuse the row.
    try:
        number = float(cell)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _price_column(table: pa.Table, *, priced: bool, problems: list[RowProblem]) -> pa.ChunkedArray:
    if "price" not in table.column_names:
        return pa.chunked_array([pa.array(_read_prices([None] * table.num_rows, priced, problems))]).cast(
            pa.float64()
        )
    column = table["price"]
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        prices = column.cast(pa.float64())
        good = pc.and_(pc.is_finite(prices), pc.greater_equal(prices, 0))
        if pc.all(good, skip_nulls=False).as_py() or (not priced and pc.all(good).as_py() is not False):
            return prices
    values = (scalar.as_py() for scalar in column)
    return pa.chunked_array([pa.array(_read_prices(values, priced, problems), pa.float64())])


def _read_prices(values: Iterable[Any], priced: bool, problems: list[RowProblem]) -> Iterator[float | None]:
    for row, value in enumerate(values, start=1):
        price = None
        try:
            price = as_price(value)
            reason = "has no price" if price is None and priced else ""
        except ValueError as error:
            reason = str(error)
        if reason:
            problems.append(RowProblem(row=row, field="price", value=repr(value)[:60], reason=reason))
        yield price


def _without_text(found: Mapping[str, pa.ChunkedArray]) -> Iterator[RowProblem]:
    filled = None
    for name in TEXT_FIELDS:
        has = pc.fill_null(pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(found[name])), 0), False)
        filled = has if filled is None else pc.or_(filled, has)
    if filled is None or pc.all(filled).as_py() is not False:
        return
    for row, has_text in enumerate(filled.to_pylist(), start=1):
        if not has_text:
            yield RowProblem(row=row, field="text", value="''", reason="has no summary, full text or title")


def _with_ids(found: Mapping[str, pa.ChunkedArray]) -> pa.ChunkedArray:
    ids = found["id"]
    if ids.null_count == 0 and pc.all(pc.not_equal(ids, "")).as_py() is not False:
        return ids
    names = ("id", "title", "category", "summary", "full", "weight")
    columns = [found[name].to_pylist() for name in names]
    rows = (dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True))
    return pa.chunked_array([pa.array([row["id"] or content_id(row) for row in rows], pa.string())])
