"""Arrow tables of items: their schema, and what is done with whole tables, without holding them twice."""

from __future__ import annotations

from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from .._csv_file import write_csv
from .._files import replacing
from .item import ITEM_FIELDS, require_item
from .spool import Spool

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from .._csv_file import Formulas
    from .item import Item

BATCH = 10_000
"""How many rows are worked on at a time."""
STANDS_FOR = "stands_for"
"""The column that says how many items of the natural mix a row stands for; empty where nothing was drawn."""

_fields_of = attrgetter(*ITEM_FIELDS)


@cache
def item_schema() -> pa.Schema:
    """Return the columns of a table of items: the fields of `Item`, and `STANDS_FOR`."""
    import pyarrow as pa

    numbers = {"price", "weight", STANDS_FOR}
    names = (*ITEM_FIELDS, STANDS_FOR)
    return pa.schema([(name, pa.float64() if name in numbers else pa.string()) for name in names])


def from_items(items: Iterable[Item]) -> pa.Table:
    """Put items into a table."""
    with Spool(item_schema()) as spool:
        rows: list[tuple[Any, ...]] = []
        for row, item in enumerate(items, start=1):
            require_item(item, row)
            rows.append(_fields_of(item))
            if len(rows) == BATCH:
                spool.write(_from_rows(rows))
                rows = []
        if rows:
            spool.write(_from_rows(rows))
        return spool.table()


def _from_rows(rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    import pyarrow as pa

    schema = item_schema()
    columns: dict[str, Any] = dict(zip(ITEM_FIELDS, zip(*rows, strict=True), strict=True))
    columns[STANDS_FOR] = [None] * len(rows)
    return pa.table({name: pa.array(columns[name], schema.field(name).type) for name in schema.names})


def concat(tables: Sequence[pa.Table]) -> pa.Table:
    """Put tables one behind the other; nothing is copied."""
    import pyarrow as pa

    return pa.concat_tables([item_schema().empty_table(), *tables])


def take(table: pa.Table, rows: npt.NDArray[np.int64]) -> pa.Table:
    """Return the rows at these places, in this order."""
    import pyarrow as pa

    with Spool(item_schema()) as spool:
        for start in range(0, len(rows), BATCH):
            spool.write(table.take(pa.array(rows[start : start + BATCH])).combine_chunks())
        return spool.table()


def numbers_of(table: pa.Table, column: str) -> npt.NDArray[np.float64]:
    """Return a column of numbers as an array, `nan` where a row has none."""
    import numpy as np

    return np.asarray(table[column].to_numpy(zero_copy_only=False), dtype=np.float64)


def with_weights(table: pa.Table, stands_for: npt.NDArray[np.float64]) -> pa.Table:
    """Return the table with how many items each row stands for."""
    import pyarrow as pa

    at = table.column_names.index(STANDS_FOR)
    return table.set_column(at, STANDS_FOR, pa.array(stands_for, pa.float64()))


def write_parquet(table: pa.Table, path: str | os.PathLike[str], notes: Mapping[bytes, bytes]) -> None:
    """Write a table as Parquet, in batches, with notes on its rows in the file's metadata."""
    import pyarrow.parquet

    schema = item_schema().with_metadata(notes)
    with replacing(path) as file, pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for start in range(0, table.num_rows, BATCH):
            writer.write_table(table.slice(start, BATCH).replace_schema_metadata(notes))


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds texts."""
    import pyarrow as pa

    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def write_rows_as_csv(table: pa.Table, path: str | os.PathLike[str], formulas: Formulas) -> None:
    """Write a table as CSV, in batches; prices so that no reader takes their point for a thousands sign."""
    names = _written_columns(table)
    price = names.index("price")
    rows = ([*row[:price], _write_amount(row[price]), *row[price + 1 :]] for row in _rows_of(table, names))
    write_csv(path, names, rows, formulas=formulas)


def write_jsonl(table: pa.Table, path: str | os.PathLike[str]) -> None:
    """Write a table as JSON objects, one a line, in batches."""
    import orjson

    names = _written_columns(table)
    with replacing(path) as file:
        for row in _rows_of(table, names):
            file.write(orjson.dumps(dict(zip(names, row, strict=True)), option=orjson.OPT_APPEND_NEWLINE))


def _written_columns(table: pa.Table) -> list[str]:
    drawn = table[STANDS_FOR].null_count < table.num_rows
    return [*ITEM_FIELDS, *([STANDS_FOR] if drawn else [])]


def _rows_of(table: pa.Table, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    for start in range(0, table.num_rows, BATCH):
        part = table.slice(start, BATCH)
        yield from zip(*(part[name].to_pylist() for name in names), strict=True)


def _write_amount(price: float | None) -> str | None:
    """Return a price with all its digits: `0.1`, `1000000000000000000000000.0`, `1.2990`.

    Three decimals would be taken for thousands where a comma is the decimal mark.
    """
    if price is None:
        return None
    text = repr(price)
    if "e" in text:
        import numpy as np

        text = np.format_float_positional(price, trim="0")
    return f"{text}0" if len(text) - text.index(".") == 4 else text
