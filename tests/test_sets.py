"""Sets of items: how much is drawn, which positions are taken, columns, equality, files and back."""

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_pricer import Item, ItemDataset, MadeUpCatalogue
from finetune_pricer.errors import DataError


def lamps(count: int) -> ItemDataset:
    return ItemDataset.from_items(Item(title=f"Lamp {n}", price=n + 1, id=str(n)) for n in range(count))


def ids(items: ItemDataset) -> list[str]:
    return [item.id for item in items]


# What is asked for, and how many items that is; or the words of the refusal.
SAMPLES: list[tuple[object, int, int | str]] = [
    (0.1, 50, 5),
    (0.5, 3, 2),
    (Decimal("0.1"), 50, 5),
    (Fraction(1, 10), 50, 5),
    (np.float32(0.1), 50, 5),
    (np.int64(7), 50, 7),
    (7.0, 50, 7),
    (Decimal(7), 50, 7),
    (50, 50, 50),
    (0, 50, 0),
    (0.0, 50, 0),
    (0, 0, 0),
    (0.01, 50, "n=0.01 of 50 items is not one"),  # half of an item is rounded to the even number
    (0.1, 3, "n=0.1 of 3 items is not one item; give a count"),
    (0.1, 0, "n=0.1 of 0 items is not one"),
    (1e-300, 50, "is not one"),
    (1.0, 50, "write 1 for one item, or 50 for all"),
    (Decimal(1), 50, "write 1 for one item, or 50 for all"),
    (1.5, 50, "neither a share from 0 to below 1 nor a count up to 50"),
    (51, 50, "n=51 is neither"),
    (-1, 50, "n=-1 is neither"),
    (-0.1, 50, "n=-0.1 is neither"),
    (float("nan"), 50, "n=nan is neither"),
    (float("inf"), 50, "n=inf is neither"),
    (10**400, 50, "is neither"),
    (True, 50, "n must be a number, not True"),
    (np.True_, 50, "n must be a number"),
    ("5", 50, "n must be a number, not the text '5'"),
    (None, 50, "n must be a number, not None"),
    ([5], 50, "n must be a number, not a list of int"),
]


@pytest.mark.parametrize(("asked", "of", "drawn"), SAMPLES, ids=repr)
def test_a_sample_is_a_share_or_a_count_or_refused_but_never_nothing_in_silence(
    asked: Any, of: int, drawn: int | str
) -> None:
    items = lamps(of)
    if isinstance(drawn, int):
        assert len(items.sample(asked)) == drawn
    else:
        with pytest.raises(DataError, match=drawn):
            items.sample(asked)


SPLITS: list[tuple[int, dict[str, Any], list[int] | str]] = [
    (5, {}, "validation=0.1 of 5 items is not one item; give a count"),
    (9, {}, [7, 1, 1]),
    (5, {"validation": 1, "test": 1}, [3, 1, 1]),
    (5, {"validation": 0, "test": 0.4}, [3, 0, 2]),
    (5, {"validation": 0.4, "test": 0.05}, "test=0.05 of 5 items is not one"),
    (0, {}, "validation=0.1 of 0 items is not one"),
    (0, {"validation": 0, "test": 0}, [0, 0, 0]),
    (20, {"validation": np.float64(0.1), "test": np.int32(3)}, [15, 2, 3]),
    (20, {"validation": Decimal("0.1"), "test": Fraction(1, 4)}, [13, 2, 5]),
    (20, {"validation": -0.1}, "validation=-0.1 is neither"),
    (20, {"validation": 1.0}, "write 1 for one item, or 20 for all"),
    (20, {"test": float("nan")}, "test=nan is neither"),
    (20, {"test": "2"}, "test must be a number, not the text '2'"),
    (20, {"validation": 0, "test": 2, "group": [n // 2 for n in range(20)]}, [18, 0, 2]),
]


@pytest.mark.parametrize(("count", "arguments", "sizes"), SPLITS, ids=repr)
def test_a_split_has_items_in_each_part_that_was_asked_for_or_is_refused(
    count: int, arguments: dict[str, Any], sizes: list[int] | str
) -> None:
    items = lamps(count)
    if isinstance(sizes, list):
        assert [len(part) for part in items.split(**arguments)] == sizes
    else:
        with pytest.raises(DataError, match=sizes):
            items.split(**arguments)


@pytest.mark.parametrize("seed", [-1, 1.5, "42", None, True, float("nan")], ids=repr)
def test_a_seed_that_is_no_whole_number_is_refused(seed: Any) -> None:
    items = lamps(20)
    for how in (items.shuffle, lambda seed: items.sample(2, seed), lambda seed: items.split(seed=seed)):
        with pytest.raises(DataError, match="seed must be a whole number of at least 0"):
            how(seed)
    number: Any = np.int64(3)
    assert items.shuffle(number) == items.shuffle(3)


@pytest.mark.parametrize(
    "group",
    [[["a"]] * 20, (n for n in range(20)), 5, lambda _: ["a"], [{}] * 20],
    ids=["lists", "generator", "number", "function of lists", "dicts"],
)
def test_labels_that_cannot_be_compared_are_refused(group: Any) -> None:
    with pytest.raises(
        DataError, match=r"group must be a field's name|group= takes a text or a number as label of each item"
    ):
        lamps(20).split(group=group)


@pytest.mark.parametrize("count", [-1, 2.5, "3", True, None], ids=repr)
def test_made_up_products_are_counted_by_whole_numbers(count: Any) -> None:
    with pytest.raises(DataError, match="count must be a whole number of at least 0"):
        MadeUpCatalogue().items(count)
    with pytest.raises(DataError, match="validation must be a whole number of at least 0"):
        MadeUpCatalogue().splits(validation=count)


def test_a_part_that_no_group_fits_into_is_refused() -> None:
    with pytest.raises(DataError, match=r"test shall have 2 of 20 items, .* fill no more than 0"):
        lamps(20).split(validation=0, test=2, group=["all"] * 20)


CHOICES: list[tuple[object, list[str] | str]] = [
    ([0, 2], ["0", "2"]),
    ((2, 0, 2), ["2", "0", "2"]),
    ([-1, 0], ["2", "0"]),
    (range(2), ["0", "1"]),
    (np.array([2, 1]), ["2", "1"]),
    (np.array([2, 1], dtype=np.uint8), ["2", "1"]),
    (pd.Series([2, 1], index=[7, 8]), ["2", "1"]),
    (pa.array([2, 1]), ["2", "1"]),
    ([], []),
    (np.array([]), []),
    ([True, False, True], ["0", "2"]),
    (np.array([False, False, True]), ["2"]),
    ([np.False_, True, np.False_], ["1"]),
    (pd.Series([False, True, True]), ["1", "2"]),
    (pa.array([True, False, False]), ["0"]),
    ([False] * 3, []),
    ([True, False], "a mask of 2 truth values for 3 items"),
    (np.array([True] * 4), "a mask of 4 truth values for 3 items"),
    ([True, 0, 2], "True is no position"),
    (pd.array([True, None, False]), "is no position"),
    ([0, 3], "no item at position 3: there are 3"),
    ([-4], "no item at position -4"),
    ([1.5], "1.5 is no position"),
    (np.array([0.0, 1.0]), "0.0 is no position"),
    (["0"], "'0' is no position"),
    ([None], "None is no position"),
    ([[0, 1]], r"\[0, 1\] is no position"),
    (1.0, "positions or a mask, not a float"),
    (True, "positions or a mask, not a bool"),
    (None, "positions or a mask, not a NoneType"),
    ({0: 1}, "positions or a mask, not a dict"),
    ({0, 1}, "positions or a mask, not a set"),
    (b"\x00", "positions or a mask, not a bytes"),
]


@pytest.mark.parametrize(("rows", "found"), CHOICES)
@pytest.mark.parametrize("how", [ItemDataset.take, ItemDataset.__getitem__], ids=["take", "[]"])
def test_positions_and_masks_choose_items_or_are_refused(
    how: Callable[..., ItemDataset], rows: Any, found: list[str] | str
) -> None:
    if isinstance(found, list):
        assert ids(how(lamps(3), rows)) == found
    else:
        with pytest.raises(DataError, match=found):
            how(lamps(3), rows)


def test_a_generator_of_positions_is_taken() -> None:
    assert ids(lamps(3).take(n for n in (1, 2))) == ["1", "2"]


def test_a_column_comes_by_its_name() -> None:
    items = ItemDataset.from_items([Item(title="Lamp", price=5, weight=2), Item(id="m", summary="A mat")])
    assert items["price"].tolist()[0] == 5
    assert np.isnan(items["price"][1])
    assert items["weight"].dtype == np.float64
    assert items["title"] == ["Lamp", None]
    assert items["id"][1] == "m"
    with pytest.raises(DataError, match="no field 'brand'; it has title, category, price"):
        items["brand"]


def test_sets_are_equal_by_their_items_and_hash_so() -> None:
    items, same = lamps(5), lamps(2) + lamps(5)[2:]
    assert items == same == items.filter(lambda _: True) == ItemDataset.concat(items)
    assert len({items, same}) == 1
    assert items.history != same.filter(lambda _: True).history
    assert lamps(0) == items[:0]
    assert hash(lamps(0)) == hash(items[:0])


@pytest.mark.parametrize(
    "other",
    [
        lamps(4),
        lamps(5)[::-1],
        lamps(5).sample(5, seed=1),
        ItemDataset.from_items([*lamps(4), Item(title="Lamp 4", price=None, id="4")]),
        ItemDataset.from_items([*lamps(4), Item(title="Lamp 4", price=5, id="4", weight=1)]),
        list(lamps(5)),
        None,
    ],
    ids=repr,
)
def test_sets_that_differ_in_a_cell_the_order_or_what_they_stand_for_are_not_equal(other: object) -> None:
    assert lamps(5) != other


def test_a_sum_of_sets_is_their_items_one_behind_the_other() -> None:
    both = lamps(2) + lamps(1)
    assert ids(both) == ["0", "1", "0"]
    with pytest.raises(TypeError):
        _ = lamps(2) + "a mat"


# Letters, signs that CSV, JSON and spreadsheets know, and other scripts; no lone surrogates.
_TEXTS = st.text(st.sampled_from("aZ09 =+-@'\",;\t\n\r\\{}.€éß中\u2028\u00a0😀"), min_size=1, max_size=12)
_PRICES = st.none() | st.floats(0, allow_nan=False, allow_infinity=False) | st.sampled_from([1.299, 0.125])
_ITEMS = st.lists(
    st.builds(
        Item,
        title=st.none() | _TEXTS,
        category=st.none() | _TEXTS,
        summary=_TEXTS.map("text ".__add__),
        full=st.none() | _TEXTS,
        price=_PRICES,
        weight=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        id=st.just("") | _TEXTS,
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=20, deadline=None)
@given(items=_ITEMS, draw=st.booleans())
def test_a_set_is_read_back_from_jsonl_and_parquet_as_it_was_written(items: list[Item], draw: bool) -> None:
    written = ItemDataset.from_items(items)
    if draw:
        written = written.sample((len(written) + 1) // 2)
    written.to_jsonl("items.jsonl")
    written.to_parquet("items.parquet")
    for name in ("items.jsonl", "items.parquet"):
        assert ItemDataset.from_file(name, priced=False) == written


@settings(max_examples=20, deadline=None)
@given(items=_ITEMS)
def test_a_set_is_read_back_from_csv_as_it_was_written(items: list[Item]) -> None:
    written = ItemDataset.from_items(items)
    written.to_csv("items.csv")
    assert ItemDataset.from_file("items.csv", priced=False) == written


@pytest.mark.parametrize(
    ("price", "cell"),
    [
        (19.99, "19.99"),
        (5, "5.0"),
        (1.299, "1.2990"),
        (1234.567, "1234.5670"),
        (1e-7, "0.0000001"),
        (1e22, "10000000000000000000000.0"),
        (None, ""),
    ],
)
def test_a_price_in_a_csv_is_exact_and_its_point_no_thousands_sign(price: float | None, cell: str) -> None:
    ItemDataset.from_items([Item(title="Lamp", price=price, id="a")]).to_csv("items.csv")
    head, row = Path("items.csv").read_text("utf-8").splitlines()
    assert head == "title,category,price,summary,full,weight,id"
    assert row == f"Lamp,,{cell},,,,a"


def test_formulas_in_a_csv_are_disarmed_when_that_is_asked_for() -> None:
    items = ItemDataset.from_items([Item(title="=1+1", price=2, id="-3")])
    items.to_csv("items.csv", formulas="escape")
    assert Path("items.csv").read_text("utf-8").splitlines()[1] == "'=1+1,,2.0,,,,'-3"
    with pytest.raises(DataError, match="formulas is 'keep' or 'escape', not 'drop'"):
        items.to_csv("items.csv", formulas="drop")  # type: ignore[arg-type]
