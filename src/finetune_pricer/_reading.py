"""Tables of any origin become tables of items: columns found, values converted, bad rows reported."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from ._settings import settings
from .errors import AccessDenied, FileAccessError, HubError, InvalidRows, RowProblem
from .items import TEXT_FIELDS, as_price, content_id

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    import pandas as pd

_STRINGS = ("title", "category", "summary", "full", "id")
SCHEMA = pa.schema(
    [
        ("title", pa.string()),
        ("category", pa.string()),
        ("price", pa.float64()),
        ("summary", pa.string()),
        ("full", pa.string()),
        ("weight", pa.float64()),
        ("id", pa.string()),
    ]
)
_SPLITS = {"train": ("train",), "validation": ("validation", "val", "valid", "dev"), "test": ("test",)}


def item_table(
    table: pa.Table, source: str, *, columns: Mapping[str, str] | None = None, priced: bool = True
) -> pa.Table:
    """Check a table and bring it into `SCHEMA`.

    Raises:
        InvalidRows: A column is missing, or rows cannot be items; `problems` holds each.
    """
    table = _renamed(table, source, columns or {})
    if twice := [name for name in SCHEMA.names if table.column_names.count(name) > 1]:
        raise InvalidRows(f"{source} has more than one column {twice[0]!r}; keep one")
    _require_columns(table, source, priced=priced)
    problems: list[RowProblem] = []
    found = {name: _text_column(table, name) for name in _STRINGS}
    found["price"] = _price_column(table, priced=priced, problems=problems)
    found["weight"] = _weight_column(table)
    problems.extend(_without_text(found))
    if problems:
        problems.sort(key=lambda problem: problem.row)
        rows = len({problem.row for problem in problems})
        raise InvalidRows(
            f"{rows:,} of {table.num_rows:,} rows of {source} cannot be items:", problems=problems
        )
    found["id"] = _with_ids(found)
    return pa.table([found[name] for name in SCHEMA.names], schema=SCHEMA)


def _renamed(table: pa.Table, source: str, columns: Mapping[str, str]) -> pa.Table:
    if absent := [name for name in columns if name not in table.column_names]:
        raise InvalidRows(f"{source} has no column {absent[0]!r}; it has {_listed(table.column_names)}")
    if unknown := [name for name in columns.values() if name not in SCHEMA.names]:
        raise InvalidRows(f"an item has no field {unknown[0]!r}; it has {_listed(SCHEMA.names)}")
    # A foreign column that takes one of our names pushes aside what had the name before.
    kept = [name for name in table.column_names if name in columns or name not in columns.values()]
    at = [index for index, name in enumerate(table.column_names) if name in kept]
    return table.select(at).rename_columns([columns.get(name, name) for name in kept])


def _require_columns(table: pa.Table, source: str, *, priced: bool) -> None:
    names = table.column_names
    hint = "map foreign names with columns={'theirs': 'ours'}"
    if priced and "price" not in names:
        raise InvalidRows(f"{source} has no column 'price'; it has {_listed(names)}; {hint}")
    if not any(name in names for name in TEXT_FIELDS):
        raise InvalidRows(
            f"{source} has none of the text columns {_listed(TEXT_FIELDS)}; it has {_listed(names)}; {hint}"
        )


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names) or "no columns"


def _text_column(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        return pa.chunked_array([pa.nulls(table.num_rows, pa.string())])
    column = table[name]
    if pa.types.is_nested(column.type):
        raise InvalidRows(f"column {name!r} holds {column.type}, not text; map another column to it")
    return column.cast(pa.string())


def _weight_column(table: pa.Table) -> pa.ChunkedArray:
    cells = table["weight"].to_pylist() if "weight" in table.column_names else [None] * table.num_rows
    return pa.chunked_array([pa.array([_as_number(cell) for cell in cells], pa.float64())])


def _as_number(cell: Any) -> float | None:
    # Nothing is computed from a weight, so a weight that is no number is no reason to refuse the row.
    try:
        number = float(cell)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _price_column(table: pa.Table, *, priced: bool, problems: list[RowProblem]) -> pa.ChunkedArray:
    if "price" not in table.column_names:
        return pa.chunked_array([pa.nulls(table.num_rows, pa.float64())])
    column = table["price"]
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        prices = column.cast(pa.float64())
        good = pc.and_(pc.is_finite(prices), pc.greater_equal(prices, 0))
        if pc.all(good, skip_nulls=False).as_py() or (not priced and pc.all(good).as_py() is not False):
            return prices
    return pa.chunked_array([pa.array(_read_prices(column, priced, problems), pa.float64())])


def _read_prices(column: pa.ChunkedArray, priced: bool, problems: list[RowProblem]) -> Iterator[float | None]:
    for row, scalar in enumerate(column, start=1):
        value, price = scalar.as_py(), None
        try:
            price = as_price(value)
            reason = "has no price" if price is None and priced else ""
        except ValueError as error:
            reason = str(error)
        if reason:
            problems.append(RowProblem(row=row, field="price", value=repr(value)[:60], reason=reason))
        yield price


def _without_text(found: Mapping[str, pa.ChunkedArray]) -> Iterator[RowProblem]:
    filled = None
    for name in TEXT_FIELDS:
        has = pc.fill_null(pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(found[name])), 0), False)
        filled = has if filled is None else pc.or_(filled, has)
    for row, has_text in enumerate(filled.to_pylist() if filled is not None else [], start=1):
        if not has_text:
            yield RowProblem(row=row, field="text", value="''", reason="has no summary, full text or title")


def _with_ids(found: Mapping[str, pa.ChunkedArray]) -> pa.ChunkedArray:
    ids = found["id"]
    if ids.null_count == 0 and pc.all(pc.not_equal(ids, "")).as_py() is not False:
        return ids
    names = ("id", "title", "category", "summary", "full", "weight")
    columns = [found[name].to_pylist() for name in names]
    rows = (dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True))
    return pa.chunked_array([pa.array([row["id"] or content_id(row) for row in rows], pa.string())])


def frame_table(
    frame: pd.DataFrame, *, columns: Mapping[str, str] | None = None, priced: bool = True
) -> pa.Table:
    """Bring the rows of a frame into `SCHEMA`; what pandas calls missing (NaN, NA, NaT) is no value."""
    names = [str(name) for name in frame.columns]
    arrays = [_frame_column(name, frame.iloc[:, at]) for at, name in enumerate(names)]
    return item_table(pa.table(arrays, names=names), "the frame", columns=columns, priced=priced)


def _frame_column(name: str, column: pd.Series[Any]) -> pa.Array:
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


def file_table(
    path: str | os.PathLike[str], *, columns: Mapping[str, str] | None = None, priced: bool = True
) -> pa.Table:
    """Read a file by its ending and bring it into `SCHEMA`."""
    source = Path(path)
    try:
        table = _read_file(source)
    except OSError as error:
        raise FileAccessError(f"cannot read {str(source)!r}: {error.strerror or error}") from error
    except pa.ArrowInvalid as error:
        raise InvalidRows(f"cannot read {str(source)!r}: {error}") from error
    return item_table(table, repr(source.name), columns=columns, priced=priced)


def _read_file(path: Path) -> pa.Table:
    ending = path.suffix.lower()
    if ending in {".csv", ".tsv"}:
        import pyarrow.csv

        # Cells stay text here: a column of prices such as "$12" and "12" must not change type half way.
        with path.open("rb") as file:
            names = pyarrow.csv.open_csv(file, parse_options=_delimited(ending)).schema.names
        convert = pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
        )
        return pyarrow.csv.read_csv(path, parse_options=_delimited(ending), convert_options=convert)
    if ending in {".jsonl", ".ndjson"}:
        import pyarrow.json

        return pyarrow.json.read_json(path)
    if ending == ".parquet":
        import pyarrow.parquet

        return pyarrow.parquet.read_table(path)
    raise InvalidRows(
        f"{path.name!r} is none of .csv, .tsv, .jsonl and .parquet; convert it, or use from_pandas"
    )


def _delimited(ending: str) -> Any:
    from pyarrow.csv import ParseOptions

    return ParseOptions(delimiter="\t" if ending == ".tsv" else ",", newlines_in_values=True)


def hub_tables(name: str, *, token: str | None, revision: str | None) -> list[pa.Table]:
    """Load the three splits of a Hub repository or of a local folder, each brought into `SCHEMA`."""
    found = _load(name, token or settings().get("HF_TOKEN"), revision)
    tables = []
    for split, names in _SPLITS.items():
        present = next((candidate for candidate in names if candidate in found), None)
        if present is None:
            raise HubError(
                f"{name!r} has no split {split!r}; it has {_listed(found)}; split it first, or load files"
            )
        tables.append(_split_table(name, split, found[present]))
    return tables


def _split_table(name: str, split: str, data: Any) -> pa.Table:
    try:
        return item_table(data.with_format("arrow")[:], f"split {split!r} of {name!r}")
    except InvalidRows as error:
        if error.problems:
            raise
        raise HubError(str(error)) from error


def _load(name: str, token: str | None, revision: str | None) -> Mapping[str, Any]:
    import datasets
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # A path that is meant as a folder must not be looked up on the Hub when it is missing.
    path = Path(name).expanduser()
    looks_local = path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1
    if looks_local and not path.is_dir():
        raise HubError(
            f"there is no folder {name!r}; give a folder that exists, or a Hub id such as 'owner/name'"
        )
    try:
        loaded = datasets.load_dataset(str(path) if path.is_dir() else name, token=token, revision=revision)
    except (datasets.exceptions.DatasetNotFoundError, HfHubHTTPError) as error:
        raise HubError(
            f"cannot load {name!r} from the Hub: {_first_line(error)}; check the name, and for a private "
            "or gated one set HF_TOKEN or call login()"
        ) from error
    except (OSError, ValueError, HFValidationError, datasets.exceptions.DatasetsError) as error:
        raise HubError(f"cannot load {name!r}: {_first_line(error)}") from error
    if not isinstance(loaded, datasets.DatasetDict):
        raise HubError(f"{name!r} has no splits")
    return dict(loaded)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def hub_login(token: str | None, *, add_to_git_credential: bool) -> None:
    """Save a Hub login, by token or by asking."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    try:
        huggingface_hub.login(
            token or settings().get("HF_TOKEN"), add_to_git_credential=add_to_git_credential
        )
    except (ValueError, HfHubHTTPError) as error:
        raise AccessDenied(
            f"the Hub does not accept this token ({_first_line(error)}); make a new one there"
        ) from None
    except OSError as error:
        raise HubError(f"cannot reach the Hub: {_first_line(error)}; try again later") from error
