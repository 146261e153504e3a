"""Files as batches of rows: CSV, TSV, JSONL and Parquet, plain or gzipped, never read whole."""

from __future__ import annotations

import gzip
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..errors import FileAccessError, InvalidRows, RowProblem
from .ingest import Source
from .item import ITEM_FIELDS
from .tables import BATCH, STANDS_FOR

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    import pyarrow as pa

_BLOCK = 1 << 20  # bytes of a CSV that are parsed together


def read_file(path: str | os.PathLike[str], columns: Mapping[str, str] | None) -> Source:
    """Return a file's rows in batches, in the format that its ending names.

    Nothing is read before the first batch is asked for, so errors of reading are raised by the batches.

    Raises:
        InvalidRows: The ending names no format that is known here.
    """
    source = Path(path)
    packed = source.suffix.lower() == ".gz"
    ending = Path(source.stem).suffix.lower() if packed else source.suffix.lower()
    unreadable: list[RowProblem] = []
    wanted = {*ITEM_FIELDS, STANDS_FOR, *(columns or {})}
    if ending in {".csv", ".tsv"}:
        batches = _csv_batches(source, "\t" if ending == ".tsv" else ",", unreadable, packed=packed)
    elif ending in {".jsonl", ".ndjson"}:
        batches = _jsonl_batches(source, wanted, unreadable, packed=packed)
    elif ending == ".parquet":
        batches = _parquet_batches(source, wanted, packed=packed)
    else:
        raise InvalidRows(
            f"{source.name!r} is none of .csv, .tsv, .jsonl and .parquet, also with .gz; convert it, or use "
            "from_pandas"
        )
    return Source(
        name=repr(source.name), batches=_name_file_in_errors(source, batches), unreadable=unreadable
    )


def _name_file_in_errors(path: Path, batches: Iterator[pa.Table]) -> Iterator[pa.Table]:
    import pyarrow as pa

    try:
        yield from batches
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileAccessError(f"cannot read {str(path)!r}: {reason}") from error
    except (pa.ArrowInvalid, gzip.zlib.error) as error:  # type: ignore[attr-defined]
        raise InvalidRows(f"cannot read {str(path)!r}: {error}") from error


@contextmanager
def _open(path: Path, *, packed: bool) -> Iterator[IO[bytes]]:
    with path.open("rb") as file:
        if not packed:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield unpacked  # type: ignore[misc]


def _csv_batches(
    path: Path, delimiter: str, unreadable: list[RowProblem], *, packed: bool
) -> Iterator[pa.Table]:
    import pyarrow as pa
    import pyarrow.csv

    def on_bad_row(row: Any) -> str:
        reason = f"has {row.actual_columns} cells where the head has {row.expected_columns}"
        number = row.number - 1 if row.number else 0
        unreadable.append(RowProblem(row=number, field="row", value=repr(row.text)[:60], reason=reason))
        return "skip"

    parse = pyarrow.csv.ParseOptions(
        delimiter=delimiter, newlines_in_values=True, invalid_row_handler=on_bad_row
    )
    # Without threads, as only then an unreadable row knows its number.
    read = pyarrow.csv.ReadOptions(use_threads=False, block_size=_BLOCK)
    with _open(path, packed=packed) as file:
        head = file.read(_BLOCK)
        if not head.strip():
            raise InvalidRows(f"{path.name!r} is empty")
        names = pyarrow.csv.open_csv(pa.BufferReader(_first_line(head)), parse_options=parse).schema.names
    # Cells stay text here: a column of prices such as "$12" and "12" must not change its type halfway.
    convert = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
    )
    unreadable.clear()
    with (
        _open(path, packed=packed) as file,
        pyarrow.csv.open_csv(file, read_options=read, parse_options=parse, convert_options=convert) as reader,
    ):
        for batch in reader:
            yield pa.Table.from_batches([batch])


def _first_line(head: bytes) -> bytes:
    # A quoted name may hold a line break: go on until the quotes are even.
    end = head.find(b"\n")
    while end != -1 and head.count(b'"', 0, end) % 2:
        end = head.find(b"\n", end + 1)
    return head if end == -1 else head[: end + 1]


def _jsonl_batches(
    path: Path, wanted: set[str], unreadable: list[RowProblem], *, packed: bool
) -> Iterator[pa.Table]:
    import orjson

    with _open(path, packed=packed) as file:
        rows: list[Mapping[str, Any]] = []
        number = 0
        for line in file:
            if not line.strip():
                continue
            number += 1
            try:
                row = orjson.loads(line.removeprefix(b"\xef\xbb\xbf"))
            except orjson.JSONDecodeError as error:
                reason = f"is not JSON ({error.msg})"
            else:
                reason = "" if isinstance(row, dict) else "is not an object"
            if reason:
                shown = repr(line.decode(errors="replace").strip())[:60]
                unreadable.append(RowProblem(row=number, field="line", value=shown, reason=reason))
                continue
            rows.append(row)
            if len(rows) == BATCH:
                yield _from_objects(rows, wanted)
                rows = []
        if rows or not number:
            yield _from_objects(rows, wanted)


def _from_objects(rows: list[Mapping[str, Any]], wanted: set[str]) -> pa.Table:
    import pyarrow as pa

    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows] if name in wanted else [None] * len(rows)
        columns[name] = _from_values(name, values)
    return pa.table(columns)


def _from_values(name: str, values: list[Any]) -> pa.Array:
    import pyarrow as pa

    numeric = all(value is None or (isinstance(value, int | float) and value is not True) for value in values)
    if numeric and not any(value is False for value in values):
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if any(isinstance(value, list | dict) for value in values):
        raise InvalidRows(f"column {name!r} holds lists or objects, not text; map another column to it")
    return pa.array([value if value is None else str(value) for value in values], pa.string())


def _parquet_batches(path: Path, wanted: set[str], *, packed: bool) -> Iterator[pa.Table]:
    import pyarrow as pa
    import pyarrow.parquet

    if packed:
        # Parquet is read from its end, which a gzip stream cannot give.
        with tempfile.TemporaryDirectory(prefix="finetune_pricer-") as folder:
            unpacked = Path(folder) / "unpacked.parquet"
            with _open(path, packed=True) as file, unpacked.open("wb") as target:
                shutil.copyfileobj(file, target)
            yield from _parquet_batches(unpacked, wanted, packed=False)
        return
    with pyarrow.parquet.ParquetFile(path, memory_map=True, pre_buffer=False) as file:
        present = [name for name in file.schema_arrow.names if name in wanted]
        if not present:
            yield file.schema_arrow.empty_table()
        for batch in file.iter_batches(batch_size=BATCH, columns=present, use_threads=False):
            yield pa.Table.from_batches([batch])
