"""Products: what can be one, and how many of them are kept."""

import dataclasses
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest

from finetune_pricer import Item, ItemDataset, ItemSplits
from finetune_pricer.errors import InvalidItem, InvalidRows
from helpers import priced


def test_without_an_id_the_content_makes_one_that_the_price_does_not_change() -> None:
    unpriced = Item(title="Lamp", summary="A lamp.", weight=2)
    assert unpriced.id
    assert unpriced.id == Item(title="Lamp", summary="A lamp.", weight=2.0, price=5).id
    others = [Item(title="Lamp", full="A lamp."), Item(title="Lamp A lamp.", weight=2), Item(title="Lamp")]
    assert len({item.id for item in [unpriced, *others]}) == 4


def test_a_number_for_an_id_becomes_text() -> None:
    number: Any = 17
    assert Item(id=number, title="Lamp").id == "17"


@pytest.mark.parametrize(
    ("price", "read"),
    [
        ("$1,299.00", 1299.0),
        ("20", 20.0),
        (" ", None),
        (None, None),
        (0, 0.0),
        (Decimal("2.5"), 2.5),
        (np.float32(2.5), 2.5),
        (np.int64(3), 3.0),
    ],
    ids=repr,
)
def test_a_price_is_a_number_or_a_text_with_one_or_none(price: Any, read: float | None) -> None:
    assert Item(title="Lamp", price=price).price == read


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"title": "Lamp", "price": -1}, r"'Lamp': price: .*at least 0, not -1\.0"),
        ({"title": "Lamp", "price": float("nan")}, "at least 0, not nan"),
        ({"title": "Lamp", "price": float("inf")}, "not inf"),
        ({"title": "Lamp", "price": "free"}, "no price in 'free'"),
        ({"title": "Lamp", "price": "€20"}, "in EUR, not in USD"),
        ({"title": "Lamp", "price": True}, "not true or false"),
        ({"title": "Lamp", "price": np.True_}, "not true or false"),
        ({"title": "Lamp", "price": "5-7"}, "'Lamp': price: a range is not a price: '5-7'"),
        ({"title": "Lamp", "price": [1]}, "not list"),
        ({"title": "Lamp", "weight": "heavy"}, "weight: must be a finite number, not 'heavy'"),
        ({"title": "Lamp", "weight": [1]}, r"weight: must be a finite number, not \[1\]"),
        ({"title": 5}, "title: must be text, not int"),
        ({"title": "\ud83d"}, "title: holds half a character"),
        ({"title": "Lamp", "id": "a\ud83d"}, r"item 'a\\ud83d': id: holds half a character"),
        ({"title": "Lamp", "id": 10**5000}, "id: a number of thousands of digits is no id"),
        (
            {"title": "Lamp", "price": 10**400},
            "price: a price must be a finite number of at least 0, not inf",
        ),
        ({"title": "Lamp", "price": Fraction(10**400)}, "price: a price must be a finite number"),
        ({"title": "Lamp", "price": 10**5000}, "price: a price must be a finite number"),
        ({"title": "Lamp", "weight": 10**400}, "weight: must be a finite number, not inf"),
        ({"title": "Lamp", "weight": -(10**5000)}, "weight: must be a finite number, not inf"),
        ({}, "has no text: give a summary, a full text or a title"),
        ({"id": "x-1", "title": " ", "summary": "", "full": "\n"}, "item 'x-1' has no text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "item",
)
def test_what_cannot_be_an_item_is_named_with_its_field(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidItem, match=words):
        Item(**fields)


def test_an_item_is_frozen_and_equal_to_its_like() -> None:
    item = Item(title="Lamp", price=5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        item.price = 6  # type: ignore[misc]
    assert item == Item(title="Lamp", price=5)
    assert hash(item) == hash(Item(title="Lamp", price=5))


def test_the_text_is_the_title_above_the_summary_else_the_listing() -> None:
    assert Item(title="t", full="f", summary="s").text == "t\ns"
    assert Item(title="t", full="f", summary=" ").text == "t\nf"
    assert Item(title="t").text == "t"


def test_the_label_is_the_first_line_and_short() -> None:
    assert Item(title="Lamp\nwith shade").label == "Lamp"
    assert Item(summary="x" * 200).label == "x" * 77 + "..."


@pytest.fixture
def dataset() -> ItemDataset:
    return ItemDataset.from_items(priced(10))


@pytest.mark.parametrize(
    "part",
    [
        slice(3),
        slice(2, 5),
        slice(-3, None),
        slice(None, None, 3),
        slice(None, None, -1),
        slice(5, 2),
        slice(99),
    ],
    ids=str,
)
def test_a_slice_is_a_dataset_of_the_same_items_as_a_lists(dataset: ItemDataset, part: slice) -> None:
    found = dataset[part]
    assert isinstance(found, ItemDataset)
    assert list(found) == priced(10)[part]
    assert len(found) == len(priced(10)[part])


def test_an_index_counts_from_either_end_and_ends_with_an_error(dataset: ItemDataset) -> None:
    numpys: Any = np.int64(2)
    assert (dataset[0], dataset[-1], dataset[numpys]) == (priced(10)[0], priced(10)[9], priced(10)[2])
    for beyond in (10, -11):
        with pytest.raises(IndexError, match=f"item {beyond} of 10"):
            dataset[beyond]


def test_a_dataset_is_a_sequence_of_the_items_it_was_made_of(dataset: ItemDataset) -> None:
    assert list(dataset) == priced(10)
    assert list(reversed(dataset)) == priced(10)[::-1]
    assert priced(10)[3] in dataset
    assert dataset.index(priced(10)[3]) == 3
    assert repr(dataset) == "ItemDataset(10 items)"
    assert list(ItemDataset.from_items(iter(dataset))) == priced(10)


def test_every_field_comes_back_from_a_dataset() -> None:
    item = Item(id="a", title="t", category="c", price=1.5, summary="s", full="f", weight=2.5)
    bare = Item(title="bare")
    assert list(ItemDataset.from_items([item, bare])) == [item, bare]


def test_prices_are_an_array_with_nan_where_unknown() -> None:
    dataset = ItemDataset.from_items([Item(title="a", price=2), Item(title="b")])
    np.testing.assert_array_equal(dataset.prices, [2.0, np.nan])
    assert dataset[1:].prices.shape == (1,)
    assert ItemDataset.from_items([]).prices.shape == (0,)


def test_a_frame_comes_in_and_goes_out() -> None:
    frame = pd.DataFrame({"name": ["Lamp", "Mug"], "cost": ["$12", 3], "shape": [1, 2]}, index=[7, 7])
    dataset = ItemDataset.from_pandas(frame, columns={"name": "title", "cost": "price"})
    assert [(item.title, item.price) for item in dataset] == [("Lamp", 12.0), ("Mug", 3.0)]
    assert list(ItemDataset.from_pandas(dataset.to_pandas())) == list(dataset)


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT], ids=repr)
def test_what_pandas_calls_missing_is_no_value(missing: Any) -> None:
    frame = pd.DataFrame({"title": ["Lamp", "Mug"], "summary": ["A lamp.", missing], "price": [1.0, missing]})
    lamp, mug = ItemDataset.from_pandas(frame, priced=False)
    assert (lamp.summary, lamp.price) == ("A lamp.", 1.0)
    assert (mug.summary, mug.price) == (None, None)
    with pytest.raises(InvalidRows, match="row 2: price = None: has no price"):
        ItemDataset.from_pandas(frame)


def test_a_frame_with_a_column_twice_is_refused() -> None:
    frame = pd.DataFrame([["a", 1, 2]], columns=["title", "price", "price"])
    with pytest.raises(InvalidRows, match="the frame has more than one column 'price'"):
        ItemDataset.from_pandas(frame)


def test_all_bad_rows_are_listed_together_with_their_numbers() -> None:
    frame = pd.DataFrame({"title": ["a", "b", " ", "d", "e"], "price": [1, -2, 3, "free", None]})
    with pytest.raises(InvalidRows, match=r"4 of 5 rows of the frame cannot be items:\n  row 2: ") as caught:
        ItemDataset.from_pandas(frame)
    assert [(problem.row, problem.field) for problem in caught.value.problems] == [
        (2, "price"),
        (3, "text"),
        (4, "price"),
        (5, "price"),
    ]
    assert caught.value.problems[2].value == "'free'"


def test_half_a_character_in_a_frame_is_a_bad_row_like_any_other() -> None:
    titles = [f"thing {n}" for n in range(10_010)]
    titles[3] = titles[10_003] = "half \ud83d"
    frame = pd.DataFrame({"title": pd.Series(titles, dtype=object), "price": 5.0})
    frame.loc[10_005, "price"] = -1.0
    with pytest.raises(InvalidRows, match=r"3 of 10,010 rows of the frame") as caught:
        ItemDataset.from_pandas(frame)
    assert "row 4: title = 'half \\ud83d': holds half a character" in str(caught.value)
    items = ItemDataset.from_pandas(frame, on_error="skip")
    assert [problem.row for problem in items.skipped] == [4, 10_004, 10_006]
    assert [item.title for item in items][-2:] == ["thing 10008", "thing 10009"]


@pytest.mark.parametrize("price", [10**400, "9" * 400], ids=["a number", "a text"])
def test_a_price_that_no_computer_holds_is_a_bad_row(price: Any) -> None:
    columns = {"title": ["Lamp", "Mat"], "price": [price, 5], "weight": [1, 10**400]}
    frame = pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in columns.items()})
    items = ItemDataset.from_pandas(frame, on_error="skip")
    assert [(item.title, item.price, item.weight) for item in items] == [("Mat", 5.0, None)]


def test_three_splits_unpack() -> None:
    parts = [ItemDataset.from_items(priced(count)) for count in (3, 2, 1)]
    train, validation, test = ItemSplits(*parts)
    assert (len(train), len(validation), len(test)) == (3, 2, 1)
