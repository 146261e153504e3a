"""What the price texts of a whole column mean: currencies, decimals, and words for no price."""

import gzip
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_pricer import Item, ItemDataset, ItemSplits
from finetune_pricer.errors import DataError, InvalidRows
from finetune_pricer.items import ingest
from finetune_pricer.items.cell_rules import CellRules

BATCHES = [1, 2, 10_000]


def read(prices: list[Any], size: int = 10_000, **said: Any) -> list[float | None]:
    """Read a column of prices in batches of so many rows."""
    import pyarrow as pa

    parts = [prices[at : at + size] for at in range(0, len(prices), size)]
    batches = [pa.table({"title": ["x"] * len(part), "price": part}) for part in parts]
    priced = said.pop("priced", True)
    result = ingest.ingest(ingest.Source(name="it", batches=batches), priced=priced, rules=CellRules(**said))
    found: list[float | None] = result.table["price"].to_pylist()
    return found


COLUMNS: dict[str, tuple[str, list[str], list[float]]] = {
    "euros": ("EUR", ["6,85 €", "12 €"], [6.85, 12]),
    "a point that groups": ("EUR", ["1.299,00", "1.299"], [1299, 1299]),
    "a point that groups, seen late": ("EUR", ["1.299", "17", "12,50"], [1299, 17, 12.5]),
    "a point before decimals": ("EUR", ["1.299", "12.50"], [1.299, 12.5]),
    "a comma that groups": ("EUR", ["1,299", "€12.50"], [1299, 12.5]),
    "two groups show the mark": ("EUR", ["1.299", "1.299.000"], [1299, 1_299_000]),
    "a decimal comma in dollars": ("USD", ["1,299", "12,50"], [1.299, 12.5]),
    "dollars": ("USD", ["$1,299", "1.299"], [1299, 1.299]),
    "thin gaps": ("PLN", ["1 299,00 zł", "1.299"], [1299, 1299]),
    "Swiss": ("CHF", ["1'299.50", "1,299"], [1299.5, 1299]),
    "Indian groups": ("INR", ["12,34,567", "1,299"], [1_234_567, 1299]),
    "one digit behind the comma": ("EUR", ["12,5", "1.299"], [12.5, 1299]),
}


@pytest.mark.parametrize("size", BATCHES)
@pytest.mark.parametrize(("currency", "texts", "prices"), COLUMNS.values(), ids=COLUMNS)
def test_a_column_decides_what_stands_before_decimals(
    currency: str, texts: list[str], prices: list[float], size: int
) -> None:
    assert read(texts, size, currency=currency) == prices
    assert read(texts[::-1], size, currency=currency) == prices[::-1]


@pytest.mark.parametrize("size", BATCHES)
@pytest.mark.parametrize(
    ("currency", "texts"),
    [
        ("EUR", ["12,50", "12.50"]),
        ("USD", ["$1,299.00", "7", "7,50"]),
        ("EUR", ["1.299,00", "1,299.00"]),
        ("INR", ["12,34,567", "1.299,00"]),
        ("PLN", ["1.299.000", "0.99"]),
    ],
)
def test_a_column_that_shows_both_marks_is_refused_with_a_row_of_each(
    currency: str, texts: list[str], size: int
) -> None:
    with pytest.raises(InvalidRows, match=r"written in two ways.*decimal='\.' or decimal=','") as caught:
        read(texts, size, currency=currency)
    assert [problem.row for problem in caught.value.problems] == [1, len(texts)]


@pytest.mark.parametrize("size", BATCHES)
@pytest.mark.parametrize("texts", [["1.299"], ["7", "1,299 €", "8"], ["€1.299", "2.499"]])
def test_a_price_of_which_nothing_shows_the_meaning_is_a_question(texts: list[str], size: int) -> None:
    with pytest.raises(InvalidRows, match=r"€1.299 with decimal='\.' and €1.299 with decimal=','") as caught:
        read(texts, size, currency="EUR")
    asked = [row for row, text in enumerate(texts, start=1) if "299" in text or "499" in text]
    assert [problem.row for problem in caught.value.problems] == asked


def test_whoever_says_the_mark_is_asked_nothing() -> None:
    assert read(["1.299", "7"], currency="EUR", decimal=",") == [1299, 7]
    assert read(["1.299", "7"], currency="EUR", decimal=".") == [1.299, 7]
    with pytest.raises(InvalidRows, match="1 of 2 rows of it") as caught:
        read(["1.299,00", "7.50"], currency="EUR", decimal=",")
    assert [problem.row for problem in caught.value.problems] == [2]


def test_an_open_question_can_be_skipped_as_any_bad_row() -> None:
    rows: list[dict[str, Any]] = [{"title": "Lamp", "price": "1.299"}, {"title": "Mug", "price": "7"}]
    items = ItemDataset.from_records(rows, currency="EUR", on_error="skip")
    assert ([item.title for item in items], [problem.row for problem in items.skipped]) == (["Mug"], [1])


def test_numbers_beside_texts_need_no_mark_and_show_none(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"title": "a", "price": 1.299}, {"title": "b", "price": "1.299,00 €"}]
    assert ItemDataset.from_records(rows, currency="EUR").prices.tolist() == [1.299, 1299]
    assert ItemDataset.from_pandas(pd.DataFrame(rows), currency="EUR").prices.tolist() == [1.299, 1299]
    path = tmp_path / "a.jsonl"
    for cost in ("1.299,00 €", "1.299 €"):
        path.write_text(f'{{"title":"a","cost":12.5}}\n{{"title":"b","cost":"{cost}"}}\n', encoding="utf-8")
        columns = {"cost": "price"}
        if "," in cost:
            assert ItemDataset.from_file(path, columns=columns, currency="EUR").prices.tolist() == [
                12.5,
                1299,
            ]
            continue
        with pytest.raises(InvalidRows, match="no other price of the column shows which"):
            ItemDataset.from_file(path, columns=columns, currency="EUR")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 10**7).map(lambda cents: cents / 100), min_size=1, max_size=8),
    st.sampled_from([",", "."]),
    st.integers(1, 9),
    st.sampled_from(["EUR", "USD", "CHF"]),
)
def test_a_column_in_one_way_of_writing_is_read_back_in_batches_of_any_size(
    prices: list[float], mark: str, size: int, currency: str
) -> None:
    group = {",": ".", ".": ","}[mark]
    swap = str.maketrans(".,", mark + group)
    texts = [f"{price:,.2f}".translate(swap) for price in prices]
    assert read(texts, size, currency=currency) == prices


@pytest.mark.parametrize("word", ["null", "None", "NaN", "N/A", "na", "-", " n/a ", "", "NULL"])
def test_words_for_nothing_are_no_price_wherever_prices_are_read(tmp_path: Path, word: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"title,price\nLamp,{word}\nMug,3\n")
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(
        gzip.compress(f'{{"title":"Lamp","price":"{word}"}}\n{{"title":"Mug","price":3}}'.encode())
    )
    frame = {"title": ["Lamp", "Mug"], "price": [word, "3"]}
    found = [
        ItemDataset.from_file(path, priced=False),
        ItemDataset.from_file(packed, priced=False),
        ItemDataset.from_pandas(pd.DataFrame(frame), priced=False),
        ItemDataset.from_arrow(pl.DataFrame(frame), priced=False),
        ItemDataset.from_records(
            [{"title": "Lamp", "price": word}, {"title": "Mug", "price": "3"}], priced=False
        ),
    ]
    assert [[item.price for item in items] for items in found] == [[None, 3.0]] * 5
    assert Item(title="Lamp", price=word).price is None  # type: ignore[arg-type]
    with pytest.raises(InvalidRows, match=r"row 1 .*has no price"):
        ItemDataset.from_file(path)


def test_a_price_in_another_currency_is_refused() -> None:
    with pytest.raises(InvalidRows, match="the price is in USD, not in EUR"):
        read(["$12"], currency="EUR")


def test_a_set_remembers_its_currency_in_whatever_is_made_of_it(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"title": f"Lamp {n}", "price": f"{n},50 €", "category": "x"} for n in range(1, 21)
    ]
    items = ItemDataset.from_records(rows, currency="EUR", zero_is="price")
    made = [
        items[:3],
        items[::2],
        items.take([0]),
        items.sample(3, by="price"),
        items.shuffle(),
        items.filter(lambda item: item.id != ""),
        *items.split(),
        ItemDataset.concat(items, items[:1]),
    ]
    assert {(each.currency, each.zero_is) for each in made} == {("EUR", "price")}
    assert "€1.50" in str(items.describe())
    assert "$" not in str(items.describe())
    items.to_parquet(tmp_path / "a.parquet")
    back = ItemDataset.from_file(tmp_path / "a.parquet")
    assert (back.currency, back.zero_is, list(back)) == ("EUR", "price", list(items))
    with pytest.raises(DataError, match=r"are in EUR, as it says itself, and not in USD"):
        ItemDataset.from_file(tmp_path / "a.parquet", currency="USD")


def test_two_currencies_are_never_joined() -> None:
    euros, dollars = (
        ItemDataset.from_items([Item(title="Lamp", price=1)], currency=code) for code in ("EUR", "USD")
    )
    with pytest.raises(DataError, match="prices in EUR and USD cannot stand in one set"):
        ItemDataset.concat(euros, dollars)
    with pytest.raises(DataError, match="prices in EUR and USD cannot stand in one data set"):
        ItemSplits(euros, dollars, dollars).push_to_hub("a/b")


@pytest.mark.parametrize("size", BATCHES)
def test_a_price_of_0_is_what_somebody_says_that_it_is(size: int) -> None:
    assert read(["0", "0.00", "7"], size) == [0, 0, 7]
    assert read(["0", "0.00", "7"], size, zero_is="price") == [0, 0, 7]
    assert read(["0", "$0.00", "7"], size, zero_is="unknown", priced=False) == [None, None, 7]
    assert read([0.0, 7.0], size, zero_is="unknown", priced=False) == [None, 7]
    with pytest.raises(InvalidRows, match=r"has no price \(0 is unknown\)"):
        read(["0", "7"], size, zero_is="unknown")


def test_zeros_that_are_unknown_stand_in_the_history() -> None:
    rows: list[dict[str, Any]] = [{"title": "Lamp", "price": 0}, {"title": "Mug", "price": "5"}]
    items = ItemDataset.from_records(rows, zero_is="unknown", priced=False)
    assert items.history[-1] == "1 price of 0 read as unknown"
    made = ItemDataset.from_items(
        [Item(title="Lamp", price=0), Item(title="Mug", price=5)], zero_is="unknown"
    )
    assert [item.price for item in made] == [None, 5]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"currency": "€"}, "currency must be an ISO code such as 'USD' or 'EUR', not '€'"),
        ({"currency": "eur"}, "ISO code"),
        ({"currency": 5}, "ISO code"),
        ({"decimal": ";"}, r"decimal is '\.' or ',', not ';'"),
        ({"zero_is": "free"}, "zero_is is 'unknown' or 'price', not 'free'"),
        ({"html": None}, "html is 'strip' or 'keep', not None"),
    ],
)
def test_what_is_said_of_cells_must_be_known(said: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        ItemDataset.from_records([], **said)
