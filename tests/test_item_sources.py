"""Rows come from anywhere, in batches, and every one that cannot be an item is named."""

import gzip
import json
import os
import re
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finetune_pricer import Item, ItemDataset
from finetune_pricer.errors import DataError, FileAccessError, InvalidRows
from finetune_pricer.items.spool import Spool
from finetune_pricer.items.tables import item_schema

CSV = 'sku,name,cost\na,Lamp,"$1,299.00"\nb,"Mat, ""door""",19.50\n'
COLUMNS = {"sku": "id", "name": "title", "cost": "price"}


def write(name: str, content: bytes) -> Path:
    path = Path(name)
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def parquet(name: str = "items.parquet") -> bytes:
    pq.write_table(
        pa.table({"sku": ["a", "b"], "name": ["Lamp", 'Mat, "door"'], "cost": [1299.0, 19.5]}), name
    )
    return Path(name).read_bytes()


def jsonl() -> bytes:
    rows = [
        {"sku": "a", "name": "Lamp", "cost": "$1,299.00"},
        {"sku": "b", "name": 'Mat, "door"', "cost": 19.5},
    ]
    return "\n".join(map(json.dumps, rows)).encode()


@pytest.mark.parametrize(
    ("ending", "content"),
    [
        ("csv", CSV.encode()),
        ("tsv", b'sku\tname\tcost\na\tLamp\t$1,299.00\nb\t"Mat, ""door"""\t19.50\n'),
        ("jsonl", jsonl()),
        ("ndjson", jsonl()),
        ("parquet", None),
    ],
)
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_every_ending_gives_the_same_items(ending: str, content: bytes | None, packed: str) -> None:
    path = write(f"shop.{ending}{packed}", content or parquet())
    items = ItemDataset.from_file(path, columns=COLUMNS)
    assert [(item.id, item.title, item.price) for item in items] == [
        ("a", "Lamp", 1299.0),
        ("b", 'Mat, "door"', 19.5),
    ]
    assert items.history == (f"2 rows read from {path.name!r}",)


def test_a_file_longer_than_a_batch_is_read_whole_and_in_order() -> None:
    write("long.csv", ("title,price\n" + "".join(f"thing {n},{n}\n" for n in range(25_001))).encode())
    items = ItemDataset.from_file("long.csv")
    assert len(items) == 25_001
    assert [items[at].title for at in (0, 10_000, 25_000)] == ["thing 0", "thing 10000", "thing 25000"]


def test_skipped_rows_are_counted_and_shown_with_their_row(caplog: pytest.LogCaptureFixture) -> None:
    write("shop.csv", b"title,price\nLamp,12\nMat,call us\nRug\n,5\nPan,7\nBed,\n")
    items = ItemDataset.from_file("shop.csv", on_error="skip")
    assert [item.title for item in items] == ["Lamp", "Pan"]
    problems = [(problem.row, problem.field) for problem in items.skipped]
    assert problems == [(2, "price"), (3, "row"), (4, "text"), (6, "price")]
    assert repr(items) == "ItemDataset(2 items, 4 rows skipped)"
    assert "4 rows of the source could not be items" in str(items.describe())
    assert items.history[1] == (
        "4 rows skipped that cannot be items, because of their price (2), row (1), text (1)"
    )
    assert "4 rows skipped" in caplog.text


def test_by_default_the_same_rows_are_refused_together() -> None:
    write("shop.csv", b"title,price\nLamp,12\nMat,call us\nRug\n,5\n")
    with pytest.raises(InvalidRows, match=r"3 of 4 rows of 'shop.csv' cannot be items") as caught:
        ItemDataset.from_file("shop.csv")
    assert [problem.row for problem in caught.value.problems] == [2, 3, 4]
    assert "has 1 cells where the head has 2" in str(caught.value)


def test_a_range_is_no_price_in_a_file_a_frame_or_a_hub_folder() -> None:
    rows = [{"title": f"Lamp {n}", "price": price} for n, price in enumerate(["$5", "5-7", "$10 to $20"])]
    frame = pd.DataFrame(rows)
    frame.to_csv("shop.csv", index=False)
    frame.to_json("shop.jsonl", orient="records", lines=True)
    Path("hub/data").mkdir(parents=True)
    for split in ("train", "validation", "test"):
        frame.to_parquet(f"hub/data/{split}-00000-of-00001.parquet")
    sources = (
        partial(ItemDataset.from_file, "shop.csv"),
        partial(ItemDataset.from_file, "shop.jsonl"),
        partial(ItemDataset.from_pandas, frame),
        partial(ItemDataset.from_hub, "hub"),
    )
    for load in sources:
        with pytest.raises(InvalidRows) as caught:
            load()
        assert [(problem.row, problem.value) for problem in caught.value.problems] == [
            (2, "'5-7'"),
            (3, "'$10 to $20'"),
        ]
        assert re.search(r"row 2( \(line 3\))?: price = '5-7': a range is not a price", str(caught.value))


def test_rows_are_numbered_through_batches_and_past_rows_that_cannot_be_read() -> None:
    lines = [json.dumps({"title": "x", "price": 1})] * 30_000
    lines[4], lines[20_004] = "{broken", json.dumps({"title": "x", "price": "none"})
    write("items.jsonl", "\n".join(lines).encode())
    items = ItemDataset.from_file("items.jsonl", on_error="skip")
    assert [(problem.row, problem.field) for problem in items.skipped] == [(5, "line"), (20_005, "price")]
    assert len(items) == 29_998


def test_a_jsonl_column_may_hold_numbers_and_text_and_be_absent_from_rows() -> None:
    rows = [{"id": 7, "title": "a", "price": 3}, {"title": "b", "price": "$4"}, {"title": 5, "price": 5.5}]
    write("items.jsonl", "\n".join(map(json.dumps, rows)).encode())
    items = ItemDataset.from_file("items.jsonl")
    assert [item.price for item in items] == [3.0, 4.0, 5.5]
    assert [item.title for item in items] == ["a", "b", "5"]
    assert items[0].id == "7"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("items.jsonl", b'{"title": ["a"], "price": 1}', "row 1: title = .*: holds a list, not text"),
        ("items.xls", b"", "is none of .csv"),
        ("items.csv", b"", "is empty"),
        ("items.csv.gz", b"\x1f\x8b\x08\x00broken", "cannot read"),
        ("items.parquet", b"no parquet", "cannot read"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(name: str, content: bytes, message: str) -> None:
    Path(name).write_bytes(content)
    with pytest.raises((InvalidRows, FileAccessError), match=message):
        ItemDataset.from_file(name)


def test_a_damaged_text_is_noticed_when_the_file_is_read() -> None:
    pq.write_table(pa.table({"title": ["Lamp"], "price": [5.0]}), "items.parquet")
    damaged = Path("items.parquet").read_bytes().replace(b"Lamp", b"L\xdfmp")
    Path("items.parquet").write_bytes(damaged)
    with pytest.raises(InvalidRows, match=r"cannot read .*UTF8"):
        ItemDataset.from_file("items.parquet")


def test_a_missing_file_is_a_file_error() -> None:
    with pytest.raises(FileAccessError, match="No such file"):
        ItemDataset.from_file("nowhere.csv")


def test_products_without_prices_are_read_when_they_may_lack_one() -> None:
    write("shop.csv", b"title\nLamp\nMat\n")
    assert [item.price for item in ItemDataset.from_file("shop.csv", priced=False)] == [None, None]
    with pytest.raises(InvalidRows, match="no column 'price'"):
        ItemDataset.from_file("shop.csv")


def test_an_unknown_way_with_errors_is_refused() -> None:
    with pytest.raises(DataError, match="'raise' or 'skip'"):
        ItemDataset.from_file(write("a.csv", CSV.encode()), columns=COLUMNS, on_error="ignore")  # type: ignore[arg-type]


def test_a_large_set_lies_in_a_temporary_file_that_has_no_name_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    table = pa.table({name: [None] * 1000 for name in item_schema().names}, schema=item_schema())
    text = pa.array([f"text {n} " * 20 for n in range(1000)])
    table = table.set_column(item_schema().names.index("summary"), "summary", text)
    before = pa.total_allocated_bytes()
    with Spool(item_schema(), in_memory=table.nbytes * 2) as spool:
        for _ in range(5):
            spool.write(table)
        assert len(list(tmp_path.iterdir())) == 1
        whole = spool.table()
    if os.name == "posix":
        assert list(tmp_path.iterdir()) == []
    assert whole.num_rows == 5000
    assert whole["summary"][4321].as_py() == "text 321 " * 20
    assert pa.total_allocated_bytes() - before < table.nbytes


def test_columns_without_values_take_no_room_until_one_has_its_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def rows(**columns: list[object]) -> pa.Table:
        [count] = set(map(len, columns.values()))
        empty: list[object] = [None] * count
        return pa.table(
            {name: columns.get(name, empty) for name in item_schema().names}, schema=item_schema()
        )

    parts = [
        rows(title=["a", None]),
        rows(title=["b"] * 1000),
        rows(weight=[None, 2.0], title=["c", "d"]),
        rows(id=["1"]),
        rows(title=[None, "e"]),
    ]
    with Spool(item_schema(), in_memory=0) as spool:
        for part in parts[:2]:
            spool.write(part)
        [file] = tmp_path.iterdir()
        assert file.stat().st_size < 8000  # a weight for each row would be as much
        for part in parts[2:]:
            spool.write(part)
        whole = spool.table()
    assert whole.schema == item_schema()
    assert whole.to_pylist() == pa.concat_tables(parts).to_pylist()
    before = pa.total_allocated_bytes()
    with Spool(item_schema(), in_memory=0) as spool:
        for _ in range(50):
            spool.write(parts[1])
        whole = spool.table()
    assert whole["weight"].null_count == 50_000
    assert pa.total_allocated_bytes() - before < 50_000


def test_a_spool_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    table, foreign = (
        pa.table({name: [None] for name in item_schema().names}, schema=item_schema()),
        pa.table({"a": [1]}),
    )
    spool = Spool(item_schema(), in_memory=0)
    spool.write(table)
    with pytest.raises(KeyError), spool:
        spool.write(foreign)
    assert list(tmp_path.iterdir()) == []


def test_a_full_temporary_folder_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    table = pa.table({name: [None] * 10 for name in item_schema().names}, schema=item_schema())
    spool = Spool(item_schema(), in_memory=0)
    with pytest.raises(FileAccessError, match="set TMPDIR"):
        spool.write(table)


def test_what_is_written_as_parquet_is_read_again() -> None:
    items = ItemDataset.from_items(
        [Item(title="a", price=1.5, category="x"), Item(summary="b", weight=2.0), Item(full="c", price=0.0)]
    )
    items.to_parquet("made/new/items.parquet")
    assert list(ItemDataset.from_file("made/new/items.parquet", priced=False)) == list(items)


def test_a_generator_of_items_is_gathered_in_batches() -> None:
    items = ItemDataset.from_items(Item(title=f"thing {n}", price=n) for n in range(10_001))
    assert len(items) == 10_001
    assert items[-1] == Item(title="thing 10000", price=10_000)
    assert len(ItemDataset.from_items([])) == 0
