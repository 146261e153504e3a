"""A small file of a stranger fills neither the disk nor the memory."""

import gzip
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finetune_pricer import ItemDataset
from finetune_pricer.errors import FileAccessError, InvalidRows, NotConfigured
from finetune_pricer.items import decompression, file_formats
from finetune_pricer.items.spool import Spool
from finetune_pricer.items.tables import item_schema

LIMIT = "FINETUNE_PRICER_UNPACKED_BYTES"
ROWS = [{"title": f"thing {n}", "price": n} for n in range(2000)]


def pack(name: str, content: bytes) -> Path:
    Path(name).write_bytes(gzip.compress(content))
    return Path(name)


def content_of(ending: str) -> bytes:
    if ending == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    if ending == "csv":
        return ("title,price\n" + "".join(f"{row['title']},{row['price']}\n" for row in ROWS)).encode()
    pq.write_table(pa.Table.from_pylist(ROWS), "plain.parquet")
    return Path("plain.parquet").read_bytes()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder, with nothing in it."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_a_packed_file_unpacks_as_far_as_the_setting_says(
    monkeypatch: pytest.MonkeyPatch, temporary: Path, ending: str
) -> None:
    content = content_of(ending)
    path = pack(f"shop.{ending}.gz", content)
    monkeypatch.setenv(LIMIT, str(len(content) - 1))
    with pytest.raises(InvalidRows, match=rf"'shop\.{ending}\.gz' unpacks to more than .*set {LIMIT}"):
        ItemDataset.from_file(path)
    assert not list(temporary.iterdir())
    monkeypatch.setenv(LIMIT, "1000000")
    assert len(ItemDataset.from_file(path)) == len(ROWS)
    monkeypatch.delenv(LIMIT)
    assert len(ItemDataset.from_file(path)) == len(ROWS)
    assert not list(temporary.iterdir())


def test_without_the_setting_a_file_unpacks_to_a_hundred_times_its_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert decompression.find_limit(10) == 256 * 2**20
    assert decompression.find_limit(2**30) == 100 * 2**30
    monkeypatch.setattr(decompression, "_ALWAYS", 1000)
    path = pack("shop.jsonl.gz", b"\n" * 200_000 + content_of("jsonl"))
    assert path.stat().st_size * 100 > 200_000
    assert len(ItemDataset.from_file(path)) == len(ROWS)
    with pytest.raises(InvalidRows, match="unpacks to more than"):
        ItemDataset.from_file(pack("bomb.jsonl.gz", b"\n" * 10_000_000))


@pytest.mark.parametrize("words", ["a lot", "-5", "1e9"])
def test_a_setting_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    monkeypatch.setenv(LIMIT, words)
    with pytest.raises(NotConfigured, match=f"{LIMIT} is a number of bytes, not '{words}'"):
        ItemDataset.from_file(pack("shop.csv.gz", content_of("csv")))


def test_a_parquet_whose_rows_repeat_one_text_unpacks_as_far_as_the_setting_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = pa.table({"title": ["x" * 10_000] * 4000, "price": [1.0] * 4000})
    pq.write_table(table, "shop.parquet", compression="zstd")
    assert Path("shop.parquet").stat().st_size < 2000
    monkeypatch.setenv(LIMIT, "10000000")
    with pytest.raises(InvalidRows, match=r"'shop\.parquet' unpacks to more than 10,000,000 bytes"):
        ItemDataset.from_file("shop.parquet")
    monkeypatch.setenv(LIMIT, "100000000")
    assert len(ItemDataset.from_file("shop.parquet")) == 4000


def test_long_texts_come_in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decompression, "BATCH_BYTES", 100_000)
    text = "x" * 10_000
    pq.write_table(pa.table({"title": [text] * 1000, "price": [1.0] * 1000}), "shop.parquet")
    Path("shop.jsonl").write_text((json.dumps({"title": text, "price": 1}) + "\n") * 1000)
    for path in ("shop.parquet", "shop.jsonl"):
        sizes = [batch.nbytes for batch in file_formats.read_file(path, None).batches]
        assert sum(sizes) > 1000 * len(text)
        assert max(sizes) < 257 * len(text)


def test_small_pages_come_in_large_batches() -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), "shop.parquet", row_group_size=10)
    batches = file_formats.read_file("shop.parquet", None).batches
    assert [batch.num_rows for batch in batches if batch.num_rows] == [2000]


def test_short_rows_come_in_batches_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 120_000
    table = pa.table({"title": [f"thing {n}" for n in range(count)], "price": [1.0] * count})
    pq.write_table(table, "shop.parquet")

    def sizes() -> list[int]:
        batches = file_formats.read_file("shop.parquet", None).batches
        return [batch.num_rows for batch in batches if batch.num_rows]

    assert sizes() == [100_000, 20_000]
    monkeypatch.setattr(decompression, "BATCH_BYTES", table.nbytes // 4)
    assert len(sizes()) >= 3


def test_a_line_that_is_too_long_is_a_bad_row_and_the_others_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decompression, "LONGEST_LINE", 1000)
    lines = [json.dumps(row).encode() for row in ROWS[:6]]
    lines[1] = json.dumps({"title": "x" * 1000, "price": 1}).encode()
    lines[4] = b"x" * 5000
    pack("shop.jsonl.gz", b"\n".join(lines))
    with pytest.raises(InvalidRows, match=r"row 2: line = '': is longer than 1,000 bytes"):
        ItemDataset.from_file("shop.jsonl.gz")
    items = ItemDataset.from_file("shop.jsonl.gz", on_error="skip")
    assert [item.title for item in items] == ["thing 0", "thing 2", "thing 3", "thing 5"]
    assert [problem.row for problem in items.skipped] == [2, 5]


BOMB = """
import resource, sys
from finetune_pricer import ItemDataset
from finetune_pricer.errors import InvalidRows
ItemDataset.from_file("small.jsonl.gz")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    ItemDataset.from_file(sys.argv[1])
except InvalidRows as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is Linux's")
@pytest.mark.parametrize("kind", ["line", "columns", "cells"])
def test_a_bomb_takes_little_memory(kind: str) -> None:
    pack("small.jsonl.gz", content_of("jsonl"))
    path = "bomb.jsonl.gz"
    if kind == "line":
        pack(path, b'{"title": "' + b"x" * 200_000_000 + b'", "price": 1}\n')
    elif kind == "columns":  # as lines of a name each had one column each, of all rows
        rows = (b'{"title": "a", "price": 1, "%d": "%s"}\n' % (n, b"x" * 100) for n in range(10_000))
        pack(path, b"".join(rows))
    else:
        path = "bomb.parquet"
        table = pa.table({"title": ["x" * 100_000] * 2000, "price": [1.0] * 2000})
        pq.write_table(table, path, compression="zstd")
    made = subprocess.run([sys.executable, "-c", BOMB, path], capture_output=True, text=True, check=True)
    *_, megabytes = made.stdout.split()
    assert int(megabytes) < 150, made.stdout


def test_what_is_no_parquet_is_not_unpacked(temporary: Path) -> None:
    pack("shop.parquet.gz", b"\0" * 10_000_000)
    with pytest.raises(InvalidRows, match="is no Parquet"):
        ItemDataset.from_file("shop.parquet.gz")
    assert not list(temporary.iterdir())


def make_folder(name: str, content: bytes) -> None:
    Path("hub").mkdir()
    for split in ("train", "validation", "test"):
        pack(f"hub/{split}.{name}", content)


def test_a_folder_in_the_hubs_layout_unpacks_as_far_as_the_setting_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_folder("jsonl.gz", content_of("jsonl"))
    assert [len(split) for split in ItemDataset.from_hub("./hub")] == [2000] * 3
    monkeypatch.setenv(LIMIT, "10000")
    with pytest.raises(InvalidRows, match=r"'test\.jsonl\.gz' unpacks to more than 10,000 bytes"):
        ItemDataset.from_hub("./hub")


def test_a_line_that_is_too_long_refuses_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decompression, "LONGEST_LINE", 1000)
    make_folder("jsonl.gz", json.dumps({"title": "x" * 1000, "price": 1}).encode())
    with pytest.raises(InvalidRows, match=r"test\.jsonl\.gz' has a line of more than"):
        ItemDataset.from_hub("./hub")


def test_a_torn_packed_file_of_a_folder_is_named() -> None:
    make_folder("jsonl.gz", content_of("jsonl"))
    Path("hub/test.jsonl.gz").write_bytes(Path("hub/test.jsonl.gz").read_bytes()[:-20])
    with pytest.raises((InvalidRows, FileAccessError), match=r"test\.jsonl\.gz"):
        ItemDataset.from_hub("./hub")


# A quote that nobody closes.


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize(
    "torn", ['thing,"9', '"thing open,9'], ids=["in the last cell", "in a cell before the last"]
)
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_quote_that_is_not_closed_does_not_swallow_the_rest_in_silence(
    torn: str, packed: str, on_error: str
) -> None:
    lines = ["title,price", *(f"thing {n},{n}" for n in range(2000))]
    lines[10] = torn
    content = "\n".join(lines).encode() + b"\n"
    Path(f"shop.csv{packed}").write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(
        InvalidRows,
        match=r"a quote is opened and not closed: one cell holds 1,991 lines to .* from line 11 on",
    ):
        ItemDataset.from_file(f"shop.csv{packed}", on_error=on_error)  # type: ignore[arg-type]


def test_a_quote_that_swallows_more_than_a_block_is_named() -> None:
    lines = ["title,price", 'thing,"9', *(f"thing {n},{n}" for n in range(200_000))]
    Path("shop.csv").write_text("\n".join(lines))
    with pytest.raises(
        InvalidRows,
        match=r"row on line 2 is longer than 1,048,576 bytes, or a quote is opened and not closed",
    ):
        ItemDataset.from_file("shop.csv", on_error="skip")


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_a_cell_of_several_lines_at_the_end_is_read(end: str) -> None:
    Path("shop.csv").write_text('price,title\n5,"a lamp\nof brass"' + end)
    assert ItemDataset.from_file("shop.csv")[0].title == "a lamp\nof brass"


def test_a_row_that_swallowed_lines_says_how_many() -> None:
    Path("shop.csv").write_text('title,price\n"a,1\nb,2\nc",x,y\nd,4\n')
    items = ItemDataset.from_file("shop.csv", on_error="skip")
    assert [problem.reason for problem in items.skipped] == ["has 3 cells where the head has 2, over 3 lines"]
    assert [item.title for item in items] == ["d"]


# What a killed reader leaves.

KILLED = """
import os, signal, sys, tempfile
import pyarrow as pa
from finetune_pricer.items.spool import Spool
from finetune_pricer.items.tables import item_schema
tempfile.tempdir = sys.argv[1]
with Spool(item_schema(), in_memory=0) as spool:
    spool.write(pa.table({name: [None] for name in item_schema().names}, schema=item_schema()))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_what_a_killed_reader_left_in_the_temporary_folder_is_swept_by_the_next(temporary: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, temporary], check=False)
    (left,) = temporary.iterdir()
    assert re.fullmatch(r"\.rows\.[0-9a-f]{8}\.finetune_pricer\.part", left.name)
    with Spool(item_schema(), in_memory=0) as spool:
        spool.write(pa.table({name: [None] for name in item_schema().names}, schema=item_schema()))
        assert not left.exists()
        assert len(list(temporary.iterdir())) == 1
    assert not list(temporary.iterdir())
    assert tempfile.gettempdir() == str(temporary)
