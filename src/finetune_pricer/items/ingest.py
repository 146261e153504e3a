"""Rows of any origin become rows of items, batch by batch, and every row that cannot be an item is named."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from ..errors import DataError, InvalidRows, RowProblem
from .cells import is_mixed, read_numbers, read_plain_numbers, read_texts, unmix
from .item import ID_FIELDS, ITEM_FIELDS, TEXT_FIELDS, content_id, is_unicode, read_price
from .spool import Spool
from .tables import BATCH, STANDS_FOR, item_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import pandas as pd
    import pyarrow as pa

_log = logging.getLogger("finetune_pricer")

OnError = Literal["raise", "skip"]
"""What happens to rows that cannot be items: the source is refused, or they are left out."""

_STRINGS = ("title", "category", "summary", "full", "id")


@dataclass(slots=True, kw_only=True)
class Source:
    """Batches of foreign rows, and what is found out while they are read."""

    name: str
    """What messages call it."""
    batches: Iterable[pa.Table]
    unreadable: list[RowProblem] = field(default_factory=list)
    """Rows that could not be split into cells: filled while the batches are read, and in no batch; one
    problem for each row."""
    names: dict[str, None] | None = None
    """The columns seen so far, where each row has its own: a missing one is known of at the end."""
    how: list[str] = field(default_factory=list)
    """How the source was read, where that had to be found out."""
    find_lines: Callable[[list[int]], list[int]] | None = None
    """Gives the file's lines on which rows of the latest batch begin; rows and lines are counted from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestResult:
    """The accepted rows, their history, and the rejected rows."""

    table: pa.Table
    history: tuple[str, ...]
    skipped: tuple[RowProblem, ...]


def ingest(
    source: Source,
    *,
    columns: Mapping[str, str] | None = None,
    priced: bool = True,
    on_error: OnError = "raise",
) -> IngestResult:
    """Check foreign rows and bring them into `item_schema()`; memory does not grow with their number.

    Raises:
        InvalidRows: A column is missing; or, unless they are skipped, rows cannot be items: `problems` holds
            every one.
    """
    if on_error not in {"raise", "skip"}:
        raise DataError(f"on_error is 'raise' or 'skip', not {on_error!r}")
    mapping = columns or {}
    seen, problems = 0, list[RowProblem]()
    with Spool(item_schema()) as spool:
        for batch in source.batches:
            if not seen and source.names is None:
                _check_names(batch.column_names, source.name, mapping, priced=priced)
            items, bad = _check_batch(_rename_columns(batch, source.name, mapping), priced=priced)
            problems += _place_problems(bad, seen, source)
            seen += batch.num_rows
            if on_error == "skip" or not problems:
                spool.write(items)
        if source.names or (source.names is not None and not source.unreadable):
            _check_names(list(source.names), source.name, mapping, priced=priced)
        problems = _sort_by_row(problems, source.unreadable)
        total = seen + _count_rows(source.unreadable)
        if problems and (on_error == "raise" or not seen):
            raise InvalidRows(
                f"{_count_rows(problems):,} of {total:,} rows of {source.name} cannot be items:",
                problems=problems,
            )
        history = _write_history(source, total, problems)
        return IngestResult(table=spool.table(), history=history, skipped=tuple(problems))


def _place_problems(problems: list[RowProblem], seen: int, source: Source) -> list[RowProblem]:
    """Return a batch's problems with the numbers of their rows and lines in the whole source."""
    if not problems:
        return []
    rows = sorted({problem.row for problem in problems})
    found = source.find_lines(rows) if source.find_lines else [None] * len(rows)
    lines = dict(zip(rows, found, strict=True))
    return [replace(each, row=each.row + seen, line=lines[each.row]) for each in problems]


def _write_history(source: Source, total: int, skipped: list[RowProblem]) -> tuple[str, ...]:
    how = f" ({', '.join(source.how)})" if source.how else ""
    read = f"{total:,} rows read from {source.name}{how}"
    if how:
        _log.info("%s is read with %s", source.name, ", ".join(source.how))
    if not skipped:
        return (read,)
    why = Counter(problem.field for problem in skipped).most_common()
    fields = ", ".join(f"{name} ({count:,})" for name, count in why)
    left_out = f"{_count_rows(skipped):,} rows skipped that cannot be items, because of their {fields}"
    _log.warning("%s: %s", source.name, left_out)
    return read, left_out


def _count_rows(problems: list[RowProblem]) -> int:
    return len({problem.row for problem in problems})


def _sort_by_row(problems: list[RowProblem], unreadable: list[RowProblem]) -> list[RowProblem]:
    # So far the unreadable rows were not counted: shift the rows behind them.
    gaps = sorted({problem.row for problem in unreadable})
    gaps = [row - index for index, row in enumerate(gaps)]
    moved = [replace(each, row=each.row + bisect_right(gaps, each.row)) for each in problems]
    return sorted([*moved, *unreadable], key=lambda problem: problem.row)


def _check_batch(table: pa.Table, *, priced: bool) -> tuple[pa.Table, list[RowProblem]]:
    """Return the rows that can be items, and the problems of the others, rows counted from 1."""
    import pyarrow as pa

    schema = item_schema()
    problems: list[RowProblem] = []
    read = {name: _text_column(table, name, problems) for name in _STRINGS}
    read["price"] = _price_column(table, priced=priced, problems=problems)
    read["weight"] = _number_column(table, "weight")
    read[STANDS_FOR] = _number_column(table, STANDS_FOR)
    without_text = {problem.row for problem in problems if problem.field in TEXT_FIELDS}
    problems.extend(each for each in _find_rows_without_text(read) if each.row not in without_text)
    read["id"] = _fill_ids(read)
    items = pa.table([read[name] for name in schema.names], schema=schema)
    if problems:
        bad = {problem.row for problem in problems}
        items = items.filter(pa.array([row not in bad for row in range(1, items.num_rows + 1)], pa.bool_()))
    return items, problems


def _check_names(names: list[str], source: str, columns: Mapping[str, str], *, priced: bool) -> None:
    """Make sure that the columns are there that are mapped, and those that items need."""
    for theirs, ours in columns.items():
        if theirs in names and ours in ITEM_FIELDS:
            continue
        if theirs in ITEM_FIELDS and ours in names:
            raise InvalidRows(
                f"columns= says {{'theirs': 'ours'}}, theirs first: columns={{{ours!r}: {theirs!r}}}"
            )
        if theirs not in names:
            raise InvalidRows(f"{source} has no column {theirs!r}; it has {quote_names(names)}")
        raise InvalidRows(f"an item has no field {ours!r}; it has {quote_names(ITEM_FIELDS)}")
    fields = {*(name for name in names if name not in columns), *columns.values()}
    hint = "map foreign names with columns={'theirs': 'ours'}"
    if priced and "price" not in fields:
        raise InvalidRows(f"{source} has no column 'price'; it has {quote_names(names)}; {hint}")
    if not any(name in fields for name in TEXT_FIELDS):
        raise InvalidRows(
            f"{source} has none of the text columns {quote_names(TEXT_FIELDS)}; "
            f"it has {quote_names(names)}; {hint}"
        )


def _rename_columns(table: pa.Table, source: str, columns: Mapping[str, str]) -> pa.Table:
    # A foreign column that takes one of our names replaces the column that had the name before.
    kept = [name for name in table.column_names if name in columns or name not in columns.values()]
    at = [index for index, name in enumerate(table.column_names) if name in kept]
    renamed = table.select(at).rename_columns([columns.get(name, name) for name in kept])
    if twice := [name for name in item_schema().names if renamed.column_names.count(name) > 1]:
        raise InvalidRows(f"{source} has more than one column {twice[0]!r}; keep one")
    return renamed


def quote_names(names: Iterable[object]) -> str:
    """Return names as a message shows them."""
    return ", ".join(repr(name) for name in names) or "no columns"


def _text_column(table: pa.Table, name: str, problems: list[RowProblem]) -> pa.ChunkedArray:
    import pyarrow as pa

    if name not in table.column_names:
        return pa.chunked_array([pa.nulls(table.num_rows, pa.string())])
    column = table[name]
    if pa.types.is_nested(column.type):
        raise InvalidRows(f"column {name!r} holds {column.type}, not text; map another column to it")
    texts, reasons = read_texts(column)
    for row, reason in reasons.items():
        shown = repr(column[row].as_py())[:60]
        problems.append(RowProblem(row=row + 1, field=name, value=shown, reason=reason))
    return texts


def _number_column(table: pa.Table, name: str) -> pa.ChunkedArray:
    import pyarrow as pa

    if name not in table.column_names:
        return pa.chunked_array([pa.nulls(table.num_rows, pa.float64())])
    return read_numbers(table[name])


def _price_column(table: pa.Table, *, priced: bool, problems: list[RowProblem]) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as pc

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
    if is_mixed(column.type):
        values = iter(unmix(column))
    elif pa.types.is_string(column.type):
        return _read_price_texts(column, priced, problems)
    else:
        values = (scalar.as_py() for scalar in column)
    return pa.chunked_array([pa.array(_read_prices(values, priced, problems), pa.float64())])


def _read_price_texts(column: pa.ChunkedArray, priced: bool, problems: list[RowProblem]) -> pa.ChunkedArray:
    """Read digits with a point all at once, and every other text as people write prices."""
    import pyarrow as pa

    numbers = read_plain_numbers(column)
    if numbers.null_count == 0:
        return numbers
    prices, texts = numbers.to_pylist(), column.to_pylist()
    left = [row for row, price in enumerate(prices) if price is None]
    found = list[RowProblem]()
    for row, price in zip(left, _read_prices((texts[row] for row in left), priced, found), strict=True):
        prices[row] = price
    problems.extend(replace(each, row=left[each.row - 1] + 1) for each in found)
    return pa.chunked_array([pa.array(prices, pa.float64())])


def _read_prices(values: Iterable[Any], priced: bool, problems: list[RowProblem]) -> Iterator[float | None]:
    for row, value in enumerate(values, start=1):
        price = None
        try:
            price = read_price(value)
            reason = "has no price" if price is None and priced else ""
        except ValueError as error:
            reason = str(error)
        if reason:
            problems.append(RowProblem(row=row, field="price", value=repr(value)[:60], reason=reason))
        yield price


def _find_rows_without_text(columns: Mapping[str, pa.ChunkedArray]) -> Iterator[RowProblem]:
    import pyarrow.compute as pc

    filled = None
    for name in TEXT_FIELDS:
        texts = columns[name]
        if texts.null_count == len(texts):
            continue
        blank = pc.or_(pc.utf8_is_space(texts), pc.equal(texts, ""))
        has = pc.fill_null(pc.invert(blank), False)
        filled = has if filled is None else pc.or_(filled, has)
        if pc.all(filled).as_py() is not False:
            return
    rows = len(columns["title"])
    for row, has_text in enumerate([False] * rows if filled is None else filled.to_pylist(), start=1):
        if not has_text:
            yield RowProblem(row=row, field="text", value="''", reason="has no summary, full text or title")


def _fill_ids(columns: Mapping[str, pa.ChunkedArray]) -> pa.ChunkedArray:
    """Return the ids, and a hash of the content where a row has none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    ids = columns["id"]
    if ids.null_count == 0 and pc.all(pc.not_equal(ids, "")).as_py() is not False:
        return ids
    names = [name for name in ID_FIELDS if columns[name].null_count < len(ids)]
    values = zip(*(columns[name].to_pylist() for name in names), strict=True)
    fields = (
        (dict(zip(names, row, strict=True)) for row in values) if names else ({} for _ in range(len(ids)))
    )
    filled = [given or content_id(row) for given, row in zip(ids.to_pylist(), fields, strict=True)]
    return pa.chunked_array([pa.array(filled, pa.string())])


def read_frame(frame: pd.DataFrame) -> Source:
    """Return a frame's rows in batches."""
    unreadable: list[RowProblem] = []

    def batches() -> Iterator[pa.Table]:
        for start in range(0, max(len(frame), 1), BATCH):
            part = frame.iloc[start : start + BATCH]
            try:
                yield _frame_table(part)
            except UnicodeEncodeError:
                problems = _find_unwritable_rows(part)
                unreadable.extend(replace(each, row=each.row + start) for each in problems)
                bad = {problem.row - 1 for problem in problems}
                yield _frame_table(part.iloc[[row for row in range(len(part)) if row not in bad]])

    return Source(name="the frame", batches=batches(), unreadable=unreadable)


def _frame_table(frame: pd.DataFrame) -> pa.Table:
    import pyarrow as pa

    names = [str(name) for name in frame.columns]
    arrays = [_frame_column(name, frame.iloc[:, at]) for at, name in enumerate(names)]
    return pa.table(arrays, names=names)


def _find_unwritable_rows(frame: pd.DataFrame) -> list[RowProblem]:
    """Return a problem for each row with half a character in a cell, which nothing can be written with."""
    problems: dict[int, RowProblem] = {}
    for at, name in enumerate(frame.columns):
        for row, cell in enumerate(frame.iloc[:, at], start=1):
            if isinstance(cell, str) and not is_unicode(cell):
                value, reason = repr(cell)[:60], "holds half a character (a lone surrogate)"
                problems.setdefault(row, RowProblem(row=row, field=str(name), value=value, reason=reason))
    return list(problems.values())


def _frame_column(name: str, column: pd.Series[Any]) -> pa.Array:
    import pyarrow as pa

    # What pandas calls missing (NaN, NA, NaT) is no value.
    cells = [None if missing else cell for cell, missing in zip(column, column.isna(), strict=True)]
    try:
        return pa.array(cells)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        # Cells of mixed types, such as "$12" and 12, are read as text.
        try:
            return pa.array([None if cell is None else str(cell) for cell in cells], pa.string())
        except UnicodeEncodeError:
            raise
        except ValueError:
            raise InvalidRows(f"column {name!r} of the frame cannot be read: {error}") from error
