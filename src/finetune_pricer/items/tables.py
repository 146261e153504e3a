"""Arrow tables of items: their schema, and what is done with whole tables, without holding them twice."""

from __future__ import annotations

from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from .._files import replacing
from .item import ITEM_FIELDS, require_item
from .spool import Spool

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

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


def write_parquet(table: pa.Table, path: str | os.PathLike[str]) -> None:
    """Write a table as Parquet, in batches."""
    import pyarrow.parquet

    with replacing(path) as file, pyarrow.parquet.ParquetWriter(file, item_schema()) as writer:
        for start in range(0, table.num_rows, BATCH):
            writer.write_table(table.slice(start, BATCH))
