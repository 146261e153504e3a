"""Files as batches of rows: CSV, TSV, JSONL, JSON, Parquet and .xlsx, plain or gzipped."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError, FileAccessError, InvalidRows
from . import formats
from .ingest import Source
from .item import ITEM_FIELDS
from .tables import STANDS_FOR

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    import pyarrow as pa

_DELIMITERS = {".csv": ",", ".tsv": "\t"}  # that these endings stand for
_JSON = {".jsonl", ".ndjson", ".json"}


def read_file(
    path: str | os.PathLike[str],
    columns: Mapping[str, str] | None,
    *,
    encoding: str | None = None,
    delimiter: str | None = None,
    priced: bool = True,
) -> Source:
    """Return a file's rows in batches, in the format that its ending names.

    Nothing is read before the first batch is asked for, so errors of reading are raised by the batches.

    Raises:
        InvalidRows: The ending names no format that is known here.
        DataError: A delimiter or an encoding was given that is none, or to a format that has none.
    """
    whole = Path(path)
    packed = whole.suffix.lower() == ".gz"
    ending = Path(whole.stem).suffix.lower() if packed else whole.suffix.lower()
    mapping = dict(columns or {})
    # The columns that matter, with the field that each becomes; a foreign one pushes ours aside.
    ours = {name: name for name in (*ITEM_FIELDS, STANDS_FOR) if name not in mapping.values()}
    fields = ours | mapping
    _check_settings(whole.name, ending, encoding, delimiter)
    source = Source(name=repr(whole.name), batches=())
    if ending in _DELIMITERS:
        batches = formats.read_delimited(
            whole,
            source,
            usual=_DELIMITERS[ending],
            delimiter=delimiter,
            encoding=encoding,
            columns=mapping,
            wanted=set(fields),
            priced=priced,
        )
    elif ending in _JSON:
        read = formats.read_json if ending == ".json" else formats.read_jsonl
        batches = read(whole, source, encoding=encoding, fields=fields)
    elif ending == ".parquet":
        batches = formats.read_parquet(whole, set(fields), packed=packed)
    else:
        batches = formats.read_workbook(
            whole, source, packed=packed, columns=mapping, fields=fields, priced=priced
        )
    source.batches = _name_file_in_errors(whole, batches)
    return source


def _check_settings(name: str, ending: str, encoding: str | None, delimiter: str | None) -> None:
    if ending not in {*_DELIMITERS, *_JSON, ".parquet", ".xlsx"}:
        raise InvalidRows(
            f"{name!r} is none of .csv, .tsv, .jsonl, .json, .parquet and .xlsx, also with .gz; convert it, "
            "or use from_pandas"
        )
    if delimiter is not None:
        if ending not in _DELIMITERS:
            raise DataError(f"{name!r} has no delimiter; leave delimiter= out")
        formats.check_delimiter(delimiter)
    if encoding is not None:
        if ending not in {*_DELIMITERS, *_JSON}:
            raise DataError(f"{name!r} says itself how its texts are encoded; leave encoding= out")
        formats.find_codec(encoding)


def _name_file_in_errors(path: Path, batches: Iterator[pa.Table]) -> Iterator[pa.Table]:
    import pyarrow as pa

    try:
        yield from batches
    except FileAccessError:
        raise
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileAccessError(f"cannot read {str(path)!r}: {reason}") from error
    except (pa.ArrowException, gzip.zlib.error) as error:  # type: ignore[attr-defined]
        raise InvalidRows(f"cannot read {str(path)!r}: {error}") from error
