"""Parquet files as batches of rows, of the columns that matter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..decompression import find_limit, limit_rows, unpack_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa

_ROWS = 256  # that are unpacked together: a few bytes may stand for one long text many times
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
    import pyarrow as pa
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path, memory_map=True, pre_buffer=False) as file:
        yield file.schema_arrow.empty_table()
        present = [column for column in file.schema_arrow.names if column in wanted]
        batches = file.iter_batches(batch_size=_ROWS, columns=present, use_threads=False)
        yield from limit_rows((pa.Table.from_batches([batch]) for batch in batches), limit, repr(name))
