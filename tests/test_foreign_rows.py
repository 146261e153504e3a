"""Rows in memory: records, pandas frames of every kind, and whatever speaks Arrow."""

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_pricer import ItemDataset
from finetune_pricer.errors import DataError, InvalidRows
from finetune_pricer.items import foreign_rows

FRAME = pd.DataFrame({"title": ["Lamp", "Mat"], "price": [1.5, 2.0]})


def titles_and_prices(items: ItemDataset) -> list[tuple[str | None, float | None]]:
    return [(item.title, item.price) for item in items]


PRICES: dict[str, Any] = {
    "integers": [1, 2],
    "small integers": np.array([1, 2], dtype="uint8"),
    "half floats": np.array([1, 2], dtype="float16"),
    "nullable integers": pd.array([1, 2], dtype="Int64"),
    "nullable floats": pd.array([1, 2], dtype="Float32"),
    "decimals": [Decimal("1.00"), Decimal(2)],
    "texts": ["$1", "2.00"],
    "string": pd.array(["1", "2"], dtype="string"),
    "categories of numbers": pd.Categorical([1, 2]),
    "categories of texts": pd.Categorical(["$1", "$2"]),
    "sparse": pd.arrays.SparseArray([1.0, 2.0]),
    "Arrow's": pd.array([1, 2], dtype=pd.ArrowDtype(pa.int32())),
    "Arrow's decimals": pd.array([Decimal(1), Decimal(2)], dtype=pd.ArrowDtype(pa.decimal128(9, 2))),
    "mixed": ["$1", 2],
    "numpy's": [np.float32(1), np.int8(2)],
}


@pytest.mark.parametrize("prices", PRICES.values(), ids=PRICES)
def test_a_frames_prices_may_be_of_any_type(prices: Any) -> None:
    frame = pd.DataFrame({"title": ["Lamp", "Mat"], "price": prices})
    assert titles_and_prices(ItemDataset.from_pandas(frame)) == [("Lamp", 1.0), ("Mat", 2.0)]


OTHERS: dict[str, Any] = {
    "arrays of dates": [np.array(["2024-01-01"], dtype="datetime64[D]"), None],
    "lists": [[1], {"a": 2}],
    "sets": [{1}, object()],
    "times with zones": pd.to_datetime(["2024-01-01", None], utc=True),
    "periods": pd.period_range("2024", periods=2),
    "intervals": pd.interval_range(0, 2),
    "complex": [1j, 2j],
    "bytes": [b"\xff", b""],
    "half characters": ["\ud800", "x"],
    "huge": [10**400, 1],
    "booleans": [True, None],
}


@pytest.mark.parametrize("cells", OTHERS.values(), ids=OTHERS)
def test_a_column_that_no_item_has_is_not_looked_at(cells: Any) -> None:
    frame = FRAME.assign(seen=pd.Series(cells, dtype=object) if isinstance(cells, list) else cells)
    rows = frame.to_dict("records")
    assert list(ItemDataset.from_pandas(frame)) == list(ItemDataset.from_pandas(FRAME))
    assert list(ItemDataset.from_records(rows)) == list(ItemDataset.from_pandas(FRAME))


TEXTS: dict[str, tuple[Any, str | None]] = {
    "a long number": (4006381333931, "4006381333931"),
    "a long float": (4006381333931.0, "4006381333931"),
    "numpy's": (np.int64(4006381333931), "4006381333931"),
    "a float": (1.5, "1.5"),
    "a decimal": (Decimal("1E+3"), "1000"),
    "leading zeros": ("0012345678905", "0012345678905"),
    "a boolean": (True, "True"),
    "a date": (dt.date(2024, 1, 2), "2024-01-02"),
    "nothing": (None, None),
    "nan": (float("nan"), None),
    "NA": (pd.NA, None),
    "NaT": (pd.NaT, None),
    "an empty list": ([], None),
}


@pytest.mark.parametrize(("cell", "text"), TEXTS.values(), ids=TEXTS)
def test_what_stands_in_a_text_column_becomes_its_text(cell: Any, text: str | None) -> None:
    rows = [{"title": "x", "category": cell, "price": 1}, {"title": "y", "category": "other", "price": 1}]
    assert ItemDataset.from_records(rows)[0].category == text
    assert ItemDataset.from_pandas(pd.DataFrame(rows))[0].category == text


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (["a", "b"], "category = .*holds a list, not text"),
        ({"a": 1}, "holds an object, not text"),
        (np.array([1, 2]), "holds a ndarray, not text"),
        (b"\xff", "is not UTF-8"),
        ("\ud800", "half a character"),
        (10**5000, "thousands of digits"),
    ],
    ids=["list", "dict", "array", "bytes", "half a character", "a huge number"],
)
def test_a_cell_that_is_no_text_is_its_own_rows_problem(cell: Any, words: str) -> None:
    rows = [{"title": "x", "category": "c", "price": 1}, {"title": "y", "category": cell, "price": 1}]
    for read in (
        ItemDataset.from_records,
        lambda rows, **said: ItemDataset.from_pandas(pd.DataFrame(rows, dtype=object), **said),
    ):
        with pytest.raises(InvalidRows, match=f"row 2: .*{words}"):
            read(rows)
        assert [item.title for item in read(rows, on_error="skip")] == ["x"]


ARROW: dict[str, Callable[[], Any]] = {
    "polars": lambda: pl.DataFrame({"title": ["Lamp", "Mat"], "price": [1.5, 2], "tags": [[1], []]}),
    "polars' categories and decimals": lambda: pl.DataFrame(
        {"title": ["Lamp", "Mat"], "price": [1.5, 2]}
    ).with_columns(pl.col("title").cast(pl.Categorical), pl.col("price").cast(pl.Decimal(10, 2))),
    "duckdb": lambda: duckdb.sql("select 'Lamp' title, 1.5::decimal(9, 3) price union all select 'Mat', 2"),
    "pyarrow": lambda: pa.table({"title": ["Lamp", "Mat"], "price": [1.5, 2]}),
    "a record batch": lambda: pa.record_batch({"title": ["Lamp", "Mat"], "price": [1.5, 2]}),
    "a reader": lambda: pa.table({"title": ["Lamp", "Mat"], "price": [1.5, 2]}).to_reader(1),
    "large texts": lambda: pa.table(
        {
            "title": pa.array(["Lamp", "Mat"], pa.large_string()),
            "price": pa.array(["$1.5", "2"], pa.string_view()),
        }
    ),
    "a dictionary": lambda: pa.table(
        {"title": pa.array(["Lamp", "Mat"]).dictionary_encode(), "price": pa.array([1.5, 2])}
    ),
    "pandas": lambda: FRAME,
}


@pytest.mark.parametrize("make", ARROW.values(), ids=ARROW)
def test_whatever_speaks_arrow_is_read(make: Callable[[], Any]) -> None:
    assert titles_and_prices(ItemDataset.from_arrow(make())) == [("Lamp", 1.5), ("Mat", 2.0)]


def test_arrow_rows_are_told_by_their_number_through_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign_rows, "BATCH", 2)
    table = pa.table(
        {
            "name": ["a", "b", "c", None, "e"],
            "price": ["1", "x", "3", "4", "5"],
            "category": [[], [], ["c"], [], []],
        }
    )
    items = ItemDataset.from_arrow(table, columns={"name": "title"}, on_error="skip")
    assert [item.title for item in items] == ["a", "e"]
    told = [(problem.row, problem.field) for problem in items.skipped]
    assert told == [(2, "price"), (3, "category"), (4, "text")]


def test_json_in_arrow_is_read_as_what_it_says() -> None:
    cells = pa.ExtensionArray.from_storage(pa.json_(), pa.array(['"Lamp"', "1984"]))
    table = pa.table({"title": cells, "price": [1, 2]})
    assert [item.title for item in ItemDataset.from_arrow(table)] == ["Lamp", "1984"]


def test_records_may_lack_keys_and_come_from_a_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign_rows, "BATCH", 2)
    rows: list[Any] = [
        {"title": "a", "price": 1, "descr": "x"},
        {"price": 2, "title": "b"},
        "c",
        {"title": "d", "price": 4},
    ]
    items = ItemDataset.from_records(iter(rows), columns={"descr": "summary"}, on_error="skip")
    assert [(item.title, item.summary) for item in items] == [("a", "x"), ("b", None), ("d", None)]
    [problem] = items.skipped
    assert (problem.row, problem.reason) == (3, "is of type str, and no dict")


def test_no_rows_are_an_empty_set() -> None:
    assert len(ItemDataset.from_records([])) == 0
    assert len(ItemDataset.from_pandas(FRAME[:0])) == 0
    assert len(ItemDataset.from_arrow(pl.DataFrame(FRAME[:0].to_dict("list")))) == 0


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (
            lambda: ItemDataset.from_records({"title": "x"}),  # type: ignore[dict-item]
            "from_records takes rows, .*not dict",
        ),
        (
            lambda: ItemDataset.from_records("x"),  # type: ignore[arg-type]
            "from_records takes rows, .*not str",
        ),
        (
            lambda: ItemDataset.from_records(5),  # type: ignore[arg-type]
            "from_records takes rows, .*not int",
        ),
        (lambda: ItemDataset.from_records(FRAME), "not DataFrame; from_pandas and from_arrow take tables"),
        (
            lambda: ItemDataset.from_pandas([{}]),
            "a pandas.DataFrame, not a list of dict; .*from_records takes dicts",
        ),
        (
            lambda: ItemDataset.from_pandas(pl.DataFrame()),
            "not a DataFrame; from_arrow takes tables of polars",
        ),
        (
            lambda: ItemDataset.from_arrow([{}]),
            "Arrow C stream protocol .*not list; from_records takes dicts",
        ),
        (lambda: ItemDataset.from_arrow(pl.DataFrame().lazy()), r"not LazyFrame; collect\(\) it first"),
    ],
)
def test_what_is_no_table_of_that_kind_is_named_with_the_way_that_takes_it(
    read: Callable[[], Any], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        read()


words = st.text(st.characters(codec="utf-8", exclude_characters="<&\x00"), min_size=1, max_size=12).filter(
    str.strip
)
prices = st.none() | st.floats(0, 1e6, allow_subnormal=False) | st.integers(0, 10**6)
records = st.lists(
    st.fixed_dictionaries(
        {"title": words, "price": prices},
        optional={
            "summary": words,
            "category": words,
            "weight": st.floats(0, 9, allow_subnormal=False),
            "id": words,
        },
    ),
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(records, st.integers(1, 4))
def test_the_same_rows_give_the_same_items_by_every_road(rows: list[dict[str, Any]], size: int) -> None:
    expected = ItemDataset.from_records(rows, priced=False)
    for row, item in zip(rows, expected, strict=True):
        for name, value in row.items():
            assert getattr(item, name) == value, name
    names = sorted({"title", "price", *(name for row in rows for name in row)})
    table = pa.table(
        {name: [row.get(name) for row in rows] for name in names if name != "price"}
        | {
            "price": pa.array(
                [row["price"] if row["price"] is None else float(row["price"]) for row in rows], pa.float64()
            )
        }
    )
    if rows:
        frame = pd.DataFrame(rows)
        for kind in (
            frame,
            frame.astype(object),
            frame.convert_dtypes(),
            frame.astype({"title": "category"}),
        ):
            assert list(ItemDataset.from_pandas(kind, priced=False)) == list(expected)
        batches = table.to_batches(max_chunksize=size)
        reader = pa.RecordBatchReader.from_batches(table.schema, batches)
        for each in (table, reader, pl.from_arrow(table)):
            assert list(ItemDataset.from_arrow(each, priced=False)) == list(expected)
        assert list(ItemDataset.from_pandas(expected.to_pandas(), priced=False)) == list(expected)
        assert list(ItemDataset.from_arrow(expected.table, priced=False)) == list(expected)
