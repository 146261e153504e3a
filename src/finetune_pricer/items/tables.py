"""Tables of items, made, joined, taken from and written, without holding them twice."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from .._files import replacing
from ..errors import InvalidRows
from .ingest import BATCH, SCHEMA, STANDS_FOR, Rows
from .item import ITEM_FIELDS
from .spool import Spool

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from .item import Item

_fields = attrgetter(*ITEM_FIELDS)


def gathered(items: Iterable[Item]) -> pa.Table:
    """Put items into a table."""
    with Spool(SCHEMA) as spool:
        rows: list[tuple[Any, ...]] = []
        for item in items:
            rows.append(_fields(item))
            if len(rows) == BATCH:
                spool.write(_table(rows))
                rows = []
        if rows:
            spool.write(_table(rows))
        return spool.table()


def _table(rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    columns: dict[str, Any] = dict(zip(ITEM_FIELDS, zip(*rows, strict=True), strict=True))
    columns[STANDS_FOR] = [None] * len(rows)
    return pa.table({name: pa.array(columns[name], SCHEMA.field(name).type) for name in SCHEMA.names})


def frame_rows(frame: pd.DataFrame) -> Rows:
    """Give a frame's rows in batches."""

    def batches() -> Iterator[pa.Table]:
        for start in range(0, max(len(frame), 1), BATCH):
            part = frame.iloc[start : start + BATCH]
            names = [str(name) for name in part.columns]
            arrays = [_frame_column(name, part.iloc[:, at]) for at, name in enumerate(names)]
            yield pa.table(arrays, names=names)

    return Rows(source="the frame", batches=batches())


def _frame_column(name: str, column: pd.Series[Any]) -> pa.Array:
    # What pandas calls missing (NaN, NA, NaT) is no value.
    cells = [None if missing else cell for cell, missing in zip(column, column.isna(), strict=True)]
    try:
        return pa.array(cells)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        # A column of prices such as "$12" and 12; what is of no kind that a table holds is read as text.
        texts = [None if cell is None else str(cell) for cell in cells]
        try:
            return pa.array(texts, pa.string())
        except ValueError:
            raise InvalidRows(f"column {name!r} of the frame cannot be read: {error}") from error


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Put tables one behind the other; nothing is copied."""
    return pa.concat_tables([SCHEMA.empty_table(), *tables])


def taken(table: pa.Table, rows: npt.NDArray[np.int64]) -> pa.Table:
    """Give the rows at these places, in this order."""
    with Spool(SCHEMA) as spool:
        for start in range(0, len(rows), BATCH):
            spool.write(table.take(pa.array(rows[start : start + BATCH])).combine_chunks())
        return spool.table()


def weighted(table: pa.Table, stands_for: npt.NDArray[np.float64]) -> pa.Table:
    """Say of each row how many it stands for."""
    at = table.column_names.index(STANDS_FOR)
    return table.set_column(at, STANDS_FOR, pa.array(stands_for, pa.float64()))


def write_parquet(table: pa.Table, path: str | os.PathLike[str]) -> None:
    """Write a table as Parquet, in batches."""
    import pyarrow.parquet

    with replacing(path) as file, pyarrow.parquet.ParquetWriter(file, SCHEMA) as writer:
        for start in range(0, table.num_rows, BATCH):
            writer.write_table(table.slice(start, BATCH))
