"""Files as batches of rows: CSV, TSV, JSONL and Parquet, plain or gzipped, never read whole."""

from __future__ import annotations

import gzip
import io
import tempfile
from pathlib import Path
from shutil import copyfileobj
from typing import TYPE_CHECKING, Any

from .._files import open_part
from ..errors import FileAccessError, InvalidRows, RowProblem
from .decompression import BATCH_BYTES, LONGEST_LINE, UnpackedFile, find_limit, limit_rows, read_lines
from .ingest import Source
from .item import ITEM_FIELDS
from .tables import BATCH, STANDS_FOR, mixed_array

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping

    import pyarrow as pa

_BLOCK = 1 << 20  # bytes of a CSV that are parsed together
_PARQUET_ROWS = 256  # that are unpacked together: a few bytes may stand for one long text many times
_PARQUET = b"PAR1"  # with which such a file begins
_SAME = 16  # characters by which the end of a cell is known to be that of the file
_OTHERS = 100  # columns of a JSONL that are not read, but named in messages


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
        batches = _csv_batches(source, "\t" if ending == ".tsv" else ",", unreadable)
    elif ending in {".jsonl", ".ndjson"}:
        prices = {theirs for theirs, ours in (columns or {}).items() if ours == "price"} or {"price"}
        batches = _jsonl_batches(source, wanted, prices, unreadable)
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
    except FileAccessError:
        raise
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileAccessError(f"cannot read {str(path)!r}: {reason}") from error
    except (pa.ArrowInvalid, gzip.zlib.error) as error:  # type: ignore[attr-defined]
        said = str(error)
        too_long = f"a row is longer than {_BLOCK:,} bytes, or a quote is opened and not closed"
        reason = too_long if "straddling" in said else said
        raise InvalidRows(f"cannot read {str(path)!r}: {reason}") from error


def _csv_batches(path: Path, delimiter: str, unreadable: list[RowProblem]) -> Iterator[pa.Table]:
    import pyarrow as pa
    import pyarrow.csv

    torn = list[str]()

    def on_bad_row(row: Any) -> str:
        lines = row.text.strip().count("\n") + 1
        over = f", over {lines:,} lines" if lines > 1 else ""
        reason = f"has {row.actual_columns} cells where the head has {row.expected_columns}{over}"
        number = row.number - 1 if row.number else 0
        unreadable.append(RowProblem(row=number, field="row", value=repr(row.text)[:60], reason=reason))
        torn[:] = [row.text]
        return "skip"

    parse = pyarrow.csv.ParseOptions(
        delimiter=delimiter, newlines_in_values=True, invalid_row_handler=on_bad_row
    )
    # Without threads, as only then an unreadable row knows its number.
    read = pyarrow.csv.ReadOptions(use_threads=False, block_size=_BLOCK)
    names = _read_head(path, parse)
    # Cells stay text here: a column of prices such as "$12" and "12" must not change its type halfway.
    convert = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
    )
    unreadable.clear()
    last = None
    with (
        UnpackedFile(path) as file,
        pyarrow.csv.open_csv(file, read_options=read, parse_options=parse, convert_options=convert) as reader,
    ):
        for batch in reader:
            last = batch if batch.num_rows else last
            yield pa.Table.from_batches([batch])
        _refuse_open_quote(path.name, file.end, [*torn, *_last_cell(last)])


def _read_head(path: Path, parse: Any) -> list[str]:
    import pyarrow as pa
    import pyarrow.csv

    with UnpackedFile(path) as raw, io.BufferedReader(raw) as file:
        head = file.read(_BLOCK)
    if not head.strip():
        raise InvalidRows(f"{path.name!r} is empty")
    first = pa.BufferReader(_first_line(head))
    return list(pyarrow.csv.open_csv(first, parse_options=parse).schema.names)


def _last_cell(batch: pa.RecordBatch | None) -> list[str]:
    cell = None if batch is None else batch.column(batch.num_columns - 1)[-1].as_py()
    return [cell] if cell else []


def _refuse_open_quote(name: str, end: bytes, last_texts: list[str]) -> None:
    """Refuse a file whose last cell goes over lines to the file's end without a quote that closes it.

    Nobody knows how many rows such a cell has swallowed.
    """
    tail = end.decode(errors="replace").rstrip()
    for text in map(str.strip, last_texts):
        lines = text.count("\n") + 1
        if lines > 1 and not tail.endswith('"') and text.endswith(tail[-_SAME:]):
            raise InvalidRows(
                f"in {name!r} a quote is opened and not closed: one cell holds {lines:,} lines to the file's "
                f"end, from {text[:30]!r} on"
            )


def _first_line(head: bytes) -> bytes:
    # A quoted name may hold a line break: go on until the quotes are even.
    end = head.find(b"\n")
    while end != -1 and head.count(b'"', 0, end) % 2:
        end = head.find(b"\n", end + 1)
    return head if end == -1 else head[: end + 1]


def _jsonl_batches(
    path: Path, wanted: set[str], prices: set[str], unreadable: list[RowProblem]
) -> Iterator[pa.Table]:
    with UnpackedFile(path) as raw, io.BufferedReader(raw) as file:
        rows: list[Mapping[str, Any]] = []
        number, size = 0, 0
        names: dict[str, None] = {}
        for line in read_lines(file):
            if line is not None and not line.strip():
                continue
            number += 1
            row = _read_object(line, number, unreadable)
            if row is None:
                continue
            _note_names(names, row, wanted)
            rows.append({name: value for name, value in row.items() if name in wanted})
            size += len(line or b"")
            if len(rows) == BATCH or size >= BATCH_BYTES:
                yield _from_objects(rows, names, wanted, prices)
                rows, size, names = [], 0, {}
        if rows or not number:
            yield _from_objects(rows, names, wanted, prices)


def _read_object(line: bytes | None, number: int, unreadable: list[RowProblem]) -> dict[str, Any] | None:
    import orjson

    row = None
    if line is None:
        line, reason = b"", f"is longer than {LONGEST_LINE:,} bytes"
    else:
        try:
            row = orjson.loads(line.removeprefix(b"\xef\xbb\xbf"))
        except orjson.JSONDecodeError as error:
            reason = f"is not JSON ({error.msg})"
        else:
            reason = "is not an object"
    if isinstance(row, dict):
        return row
    shown = repr(line[:200].decode(errors="replace").strip())[:60]
    unreadable.append(RowProblem(row=number, field="line", value=shown, reason=reason))
    return None


def _note_names(names: dict[str, None], row: Mapping[str, Any], wanted: set[str]) -> None:
    # A stranger's rows may have a name of their own each.
    for name in row:
        if name in wanted or len(names) < _OTHERS:
            names.setdefault(name)


def _from_objects(
    rows: list[Mapping[str, Any]], names: Iterable[str], wanted: set[str], prices: set[str]
) -> pa.Table:
    import pyarrow as pa

    columns = {
        name: _from_values(name, [row.get(name) for row in rows], is_price=name in prices)
        if name in wanted
        else pa.nulls(len(rows))
        for name in names
    }
    return pa.table(columns)


def _from_values(name: str, values: list[Any], *, is_price: bool) -> pa.Array:
    import pyarrow as pa

    numeric = all(value is None or (isinstance(value, int | float) and value is not True) for value in values)
    if numeric and not any(value is False for value in values):
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if any(isinstance(value, list | dict) for value in values):
        raise InvalidRows(f"column {name!r} holds lists or objects, not text; map another column to it")
    if is_price and not any(isinstance(value, bool) for value in values):
        # A number beside texts stays one: as text, `1.299` might be a thousand.
        return mixed_array([float(value) if isinstance(value, int) else value for value in values])
    return pa.array([value if value is None else str(value) for value in values], pa.string())


def _parquet_batches(path: Path, wanted: set[str], *, packed: bool) -> Iterator[pa.Table]:
    if not packed:
        yield from _read_parquet(path, wanted, find_limit(path.stat().st_size), path.name)
        return
    # Parquet is read from its end, which a gzip stream cannot give.
    limit = find_limit(path.stat().st_size)
    target, unpacked = open_part(Path(tempfile.gettempdir()), path.stem)
    try:
        with target:
            with UnpackedFile(path) as raw, io.BufferedReader(raw) as file:
                if not file.peek(len(_PARQUET)).startswith(_PARQUET):
                    raise InvalidRows(f"what {path.name!r} holds is no Parquet")
                copyfileobj(file, target, _BLOCK)
            target.flush()
            yield from _read_parquet(unpacked, wanted, limit, path.name)
    finally:
        unpacked.unlink(missing_ok=True)


def _read_parquet(path: Path, wanted: set[str], limit: int, name: str) -> Iterator[pa.Table]:
    import pyarrow as pa
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path, memory_map=True, pre_buffer=False) as file:
        present = [column for column in file.schema_arrow.names if column in wanted]
        if not present:
            yield file.schema_arrow.empty_table()
        batches = file.iter_batches(batch_size=_PARQUET_ROWS, columns=present, use_threads=False)
        yield from limit_rows((pa.Table.from_batches([batch]) for batch in batches), limit, repr(name))
