"""Rows of any origin become rows of items, batch by batch, and every row that cannot be an item is named."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from .._format import UNNAMED
from ..errors import DataError, InvalidRows, RowProblem
from .cell_rules import CellRules
from .cells import read_numbers, read_texts
from .item import ID_FIELDS, ITEM_FIELDS, TEXT_FIELDS, content_id
from .markup import strip_column
from .price_column import OTHER_PRICE, PriceColumn
from .spool import Spool
from .tables import STANDS_FOR, item_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import pyarrow as pa

    from .cell_rules import DecimalMark, ZeroIs

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
    currency: str
    """ISO code of the prices' currency."""
    zero_is: ZeroIs | None
    """What a price of 0 means, if somebody said so."""


def ingest(
    source: Source,
    *,
    columns: Mapping[str, str] | None = None,
    priced: bool = True,
    on_error: OnError = "raise",
    rules: CellRules | None = None,
) -> IngestResult:
    """Check foreign rows and bring them into `item_schema()`; memory does not grow with their number.

    Raises:
        InvalidRows: A column is missing; or, unless they are skipped, rows cannot be items: `problems` holds
            every one; or prices have decimal points and decimal commas.
    """
    if on_error not in {"raise", "skip"}:
        raise DataError(f"on_error is 'raise' or 'skip', not {on_error!r}")
    check = _RowCheck(source, rules or CellRules(), columns or {}, priced=priced)
    with Spool(check.schema) as spool:
        for batch in source.batches:
            items = check.read(batch)
            if on_error == "skip" or not check.problems:
                spool.write(items)
        if source.names or (source.names is not None and not source.unreadable):
            _check_names(list(source.names), source.name, columns or {}, priced=priced)
        mark, open_rows = check.prices.settle()
        if mark is None:
            raise InvalidRows(
                f"the prices of {source.name} are written in two ways; mend them, or say decimal='.' or "
                "decimal=',', and the rows of the other way are told:",
                problems=_sort_by_row(open_rows, source.unreadable),
            )
        problems = _sort_by_row([*check.problems, *open_rows], source.unreadable)
        total = check.seen + _count_rows(source.unreadable)
        if problems and (on_error == "raise" or not check.seen):
            raise InvalidRows(
                f"{_count_rows(problems):,} of {total:,} rows of {source.name} cannot be items:",
                problems=problems,
            )
        return IngestResult(
            table=check.prices.write(spool.table(), mark),
            history=(*_write_history(source, total, problems), *check.history(mark)),
            skipped=tuple(problems),
            currency=check.rules.currency or UNNAMED,
            zero_is=check.rules.zero_is,
        )


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


class _RowCheck:
    """Brings one source's batches into the schema of items, and notes the rows that cannot be items."""

    def __init__(self, source: Source, rules: CellRules, columns: Mapping[str, str], *, priced: bool) -> None:
        import pyarrow as pa

        self.schema = item_schema().append(pa.field(OTHER_PRICE, pa.float64()))
        self.rules = rules
        self.seen = 0
        self.problems: list[RowProblem] = []
        self.prices = PriceColumn(rules, priced=priced)
        self._source = source
        self._columns = columns
        self._priced = priced
        self._marked_up = 0

    def read(self, batch: pa.Table) -> pa.Table:
        """Return the good rows of a batch."""
        import pyarrow as pa

        table = self._rename(batch)
        problems: list[RowProblem] = []
        read = {name: self._read_texts(table, name, problems) for name in _STRINGS}
        column = table["price"] if "price" in table.column_names else None
        read["price"], read[OTHER_PRICE] = self.prices.read(
            column, table.num_rows, self.seen + 1, problems, self._source.find_lines
        )
        read["weight"] = _number_column(table, "weight")
        read[STANDS_FOR] = _number_column(table, STANDS_FOR)
        without_text = {problem.row for problem in problems if problem.field in TEXT_FIELDS}
        problems.extend(each for each in _find_rows_without_text(read) if each.row not in without_text)
        read["id"] = _fill_ids(read)
        items = pa.table([read[name] for name in self.schema.names], schema=self.schema)
        if problems:
            bad = {problem.row for problem in problems}
            good = [row not in bad for row in range(1, items.num_rows + 1)]
            items = items.filter(pa.array(good, pa.bool_()))
        self.problems += _place_problems(problems, self.seen, self._source)
        self.seen += batch.num_rows
        return items

    def history(self, mark: DecimalMark) -> list[str]:
        """Return what was done to cells, a sentence each."""
        texts = f"{self._marked_up:,} text{'s' if self._marked_up > 1 else ''} freed of HTML"
        return [*self.prices.history(mark), *([texts] if self._marked_up else [])]

    def _rename(self, batch: pa.Table) -> pa.Table:
        if not self.seen:
            if self._source.names is None:
                _check_names(batch.column_names, self._source.name, self._columns, priced=self._priced)
            self.rules = self.rules.with_notes(self._source.name, batch.schema.metadata or {})
            self.prices = PriceColumn(self.rules, priced=self._priced)
        return _rename_columns(batch, self._source.name, self._columns)

    def _read_texts(self, table: pa.Table, name: str, problems: list[RowProblem]) -> pa.ChunkedArray:
        texts = _text_column(table, name, problems)
        if self.rules.html == "strip" and name != "id":
            texts, changed = strip_column(texts)
            self._marked_up += changed
        return texts


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
    hint = "map foreign names with columns={'theirs': 'ours'}, or in a shell with --columns theirs=ours"
    if {"prompt", "completion"} <= set(names):
        hint = (
            "these are the course's prompts with their answers, and its items are in the sets 'items_lite' "
            "and 'items_full'; to read them as they are: columns={'prompt': 'full', 'completion': 'price'}"
        )
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
