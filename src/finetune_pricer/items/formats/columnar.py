"""Parquet files as batches of rows, of the columns that matter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import decompression
from ..decompression import find_limit, limit_rows, unpack_whole
from ..tables import BATCH

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa

_ROWS = 100_000  # that are unpacked together at most
_FEW = 256  # rows that are unpacked together where some may be long
_SMALL = 4  # batches of bytes, of which a group of rows may have so many without any part being too much
_BEGIN = b"PAR1"  # with which such a file begins


def read_parquet(path: Path, wanted: set[str], *, packed: bool) -> Iterator[pa.Table]:
    """Yield the rows in batches, the first one empty, with the names of all columns."""
    limit = find_limit(path.stat().st_size)
    if not packed:
        yield from _read(path, wanted, limit, path.name)
        return
    # Parquet is read from its end, which a gzip stream cannot give.
    with unpack_whole(path, _BEGIN, "Parquet") as unpacked:
        yield from _read(unpacked, wanted, limit, path.name)


def _read(path: Path, wanted: set[str], limit: int, name: str) -> Iterator[pa.Table]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path, memory_map=True, pre_buffer=False) as file:
        yield file.schema_arrow.empty_table()
        present = [column for column in file.schema_arrow.names if column in wanted]
        yield from limit_rows(_read_groups(path, file, present), limit, repr(name))


def _read_groups(path: Path, file: Any, columns: list[str]) -> Iterator[pa.Table]:
    import pyarrow as pa

    if not columns:
        return
    for group in range(file.num_row_groups):
        rows = _choose_rows(path, file, group, columns)
        for batch in file.iter_batches(rows, row_groups=[group], columns=columns, use_threads=True):
            batch.validate(full=True)  # texts of a damaged file may be no UTF-8
            yield _write_out(pa.Table.from_batches([batch]))


def _choose_rows(path: Path, file: Any, group: int, columns: list[str]) -> int:
    """Return how many rows of a group to unpack together: a few bytes may stand for one long text many times.

    The texts that bytes stand for are in a dictionary, which is read without what refers to it. What is not
    in one is as long as the file says.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet

    about = file.metadata.row_group(group)
    if about.num_rows <= _FEW:
        return _FEW
    kinds = {field.name: field.type for field in file.schema_arrow if field.name in columns}
    texts = [name for name, kind in kinds.items() if _is_text(kind)]
    is_known = all(name in texts or pa.types.is_primitive(kind) for name, kind in kinds.items())
    longest = 1
    if texts:
        with pyarrow.parquet.ParquetFile(
            path, read_dictionary=texts, memory_map=True, pre_buffer=False
        ) as probe:
            batch = next(probe.iter_batches(1, row_groups=[group], columns=texts, use_threads=True))
            longest += sum(
                pc.max(pc.binary_length(column.dictionary)).as_py() or 0
                for column in batch.columns
                if hasattr(column, "dictionary")
            )
    fitting = max(1, decompression.BATCH_BYTES // longest)
    if not is_known or about.total_byte_size > _SMALL * decompression.BATCH_BYTES:
        return min(fitting, _FEW)
    # A batch of few bytes has many rows: what is done once for each batch takes as long as thousands of rows.
    expected: int = decompression.BATCH_BYTES * about.num_rows // max(1, about.total_byte_size)
    return min(fitting, max(expected, BATCH), _ROWS)


def _write_out(table: pa.Table) -> pa.Table:
    """Return categories as the texts that they stand for, so that their bytes are counted."""
    import pyarrow as pa

    for at, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            column = table.column(at).cast(field.type.value_type)
            table = table.set_column(at, field.name, column)
    return table


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind))
