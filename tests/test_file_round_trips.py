"""What was written is read again, by every reader, and however large the pieces are in which it is read."""

import csv
import io
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_pricer import ItemDataset
from finetune_pricer.errors import PricerError
from finetune_pricer.items import decompression
from finetune_pricer.items.formats import delimited, objects, quotes, utf8

FIELDS = ("id", "title", "price", "summary")
LETTERS = st.one_of(
    st.sampled_from(['"', ",", ";", "\n", "\r\n", "\\", "'", "|", "\t", "=", " ", "€", "ü", "木", "0"]),
    st.characters(exclude_categories=["Cs", "Cc", "Cn"]),
)
WORDS = st.lists(LETTERS, max_size=12).map(lambda letters: "x" + "".join(letters))
PRICES = st.floats(0, 1e9, allow_nan=False).map(lambda price: round(price, 2))
ROWS = st.lists(st.tuples(WORDS, WORDS, PRICES, WORDS | st.none()), min_size=1, max_size=8)


def as_csv(rows: list[tuple[Any, ...]], delimiter: str = ",") -> bytes:
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, delimiter=delimiter)
    writer.writerows([FIELDS, *(["" if cell is None else cell for cell in row] for row in rows)])
    return sink.getvalue().encode()


def as_objects(rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    return [dict(zip(FIELDS, row, strict=True)) for row in rows]


def as_jsonl(rows: list[tuple[Any, ...]]) -> bytes:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in as_objects(rows)).encode()


def as_parquet(rows: list[tuple[Any, ...]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(as_objects(rows)), sink)
    return sink.getvalue()


def as_xlsx(rows: list[tuple[Any, ...]]) -> bytes:
    book = openpyxl.Workbook()
    for row in (FIELDS, *rows):
        book.active.append(row)
    sink = io.BytesIO()
    book.save(sink)
    return sink.getvalue()


WRITERS: dict[str, Callable[[list[tuple[Any, ...]]], bytes]] = {
    "csv": as_csv,
    "tsv": lambda rows: as_csv(rows, "\t"),
    "jsonl": as_jsonl,
    "json": lambda rows: json.dumps(as_objects(rows), ensure_ascii=False, indent=1).encode(),
    "parquet": as_parquet,
    "xlsx": as_xlsx,
}


@contextmanager
def file_of(ending: str, content: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"shop.{ending}"
        path.write_bytes(content)
        yield path


def read(path: Path) -> list[tuple[Any, ...]]:
    return [(item.id, item.title, item.price, item.summary) for item in ItemDataset.from_file(path)]


@pytest.mark.parametrize("ending", WRITERS)
@settings(max_examples=8, deadline=None)
@given(rows=ROWS)
def test_what_was_written_is_read_again(ending: str, rows: list[tuple[Any, ...]]) -> None:
    if (
        ending == "xlsx"
    ):  # a cell that begins with this sign is a formula, and a sheet's text has no carriage return
        rows = [tuple(no_return(cell) for cell in row) for row in rows]
    with file_of(ending, WRITERS[ending](rows)) as path:
        assert read(path) == rows


def no_return(cell: Any) -> Any:
    return cell.replace("\r\n", "\n").replace("_x", "x") if isinstance(cell, str) else cell


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "json"])
@settings(max_examples=10, deadline=None)
@given(rows=ROWS, size=st.integers(1, 200), encoding=st.sampled_from(["utf-8", "utf-16", "utf-8-sig"]))
def test_pieces_of_any_size_give_the_same_items(
    ending: str, rows: list[tuple[Any, ...]], size: int, encoding: str
) -> None:
    content = WRITERS[ending](rows).decode().encode(encoding)
    longest = max(len(row.encode()) for row in map(str, rows)) + 50
    with pytest.MonkeyPatch.context() as patch, file_of(ending, content) as path:
        patch.setattr(delimited, "BLOCK", max(size, longest * 3))
        for module, name in ((objects, "_BLOCK"), (decompression, "_COPIED"), (utf8, "_PIECE")):
            patch.setattr(module, name, size + (4 if module is utf8 else 0))
        assert read(path) == rows


PIECES = st.lists(
    st.sampled_from([b'"', b",", b"\n", b"\r", b"a", b'""', b"\\", b"1", b"\xff", b";"]), max_size=30
)


@settings(max_examples=100, deadline=None)
@given(pieces=PIECES)
def test_rows_are_split_without_a_byte_lost(pieces: list[bytes]) -> None:
    block = b"".join(pieces)
    rows = list(quotes.split_rows(block, b","))
    assert [row.start for row in rows] == [0, *(row.end for row in rows)][: len(rows)]
    assert not rows or rows[-1].end == len(block)
    ends = {0, *(row.end for row in rows)}
    assert quotes.find_end(block, b",", last=False)[0] in ends
    if quotes.is_simple(block, b","):
        assert not any(row.torn for row in rows)


@settings(max_examples=25, deadline=None)
@given(pieces=PIECES, ending=st.sampled_from(["csv", "jsonl", "json"]))
def test_any_bytes_are_items_or_an_error_of_ours(pieces: list[bytes], ending: str) -> None:
    with file_of(ending, b"title,price\n" + b"".join(pieces)) as path:
        try:
            items = ItemDataset.from_file(path, on_error="skip")
        except PricerError:
            return
        rows = sorted({problem.row for problem in items.skipped})
        assert len(items) + len(rows) == int(items.history[0].split()[0].replace(",", ""))
