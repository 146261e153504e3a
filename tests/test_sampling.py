"""Sets are filtered, shuffled, sampled, split and joined; what was drawn remembers what it stands for."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_pricer import Item, ItemDataset
from finetune_pricer.errors import DataError, InvalidItem


def catalogue(prices: Sequence[float | None], categories: list[str] | None = None) -> ItemDataset:
    kinds = categories or ["thing"] * len(prices)
    return ItemDataset.from_items(
        Item(title=f"thing {n}", price=price, category=kind, id=str(n))
        for n, (price, kind) in enumerate(zip(prices, kinds, strict=True))
    )


def ids(items: ItemDataset) -> list[str]:
    return [item.id for item in items]


HUNDRED = catalogue([float(n) for n in range(100)])


def test_a_filter_keeps_order_and_says_what_it_kept() -> None:
    cheap = HUNDRED.filter(lambda item: (item.price or 0) < 3)
    assert ids(cheap) == ["0", "1", "2"]
    assert cheap.history[-1] == "filtered: 3 of 100 kept"


def test_shuffling_is_a_permutation_that_the_seed_decides() -> None:
    shuffled = HUNDRED.shuffle(seed=1)
    assert sorted(ids(shuffled)) == sorted(ids(HUNDRED))
    assert ids(shuffled) != ids(HUNDRED)
    assert ids(shuffled) == ids(HUNDRED.shuffle(seed=1)) != ids(HUNDRED.shuffle(seed=2))


def test_a_plain_sample_is_without_putting_back_and_each_stands_for_its_share() -> None:
    drawn = HUNDRED.sample(25, seed=3)
    assert len(set(ids(drawn))) == 25
    assert drawn.stands_for.tolist() == [4.0] * 25
    assert HUNDRED.stands_for.tolist() == [1.0] * 100


def test_a_sample_by_price_draws_evenly_from_the_range_of_log_prices() -> None:
    rng = np.random.default_rng(0)
    skewed = catalogue([float(price) for price in rng.lognormal(3, 1.2, 5000)])
    logs = np.log1p(skewed.prices)
    edges = np.linspace(logs.min(), logs.max(), 11)
    drawn = skewed.sample(400, seed=5, by="price")
    per_stratum, _ = np.histogram(np.log1p(drawn.prices), edges)
    there, _ = np.histogram(logs, edges)
    # Where a stratum has enough it gives as many as any other, and where not, all it has.
    most = per_stratum.max()
    assert all(got in {have, most, most - 1} for got, have in zip(per_stratum, there, strict=True))


def test_weights_of_a_sample_give_the_metric_of_the_natural_mix() -> None:
    rng = np.random.default_rng(0)
    skewed = catalogue([float(price) for price in rng.lognormal(3, 1.2, 5000)])
    drawn = skewed.sample(1000, seed=5, by="price")
    assert drawn.stands_for.sum() == pytest.approx(5000)
    natural = np.log1p(skewed.prices).mean()
    weighted = np.average(np.log1p(drawn.prices), weights=drawn.stands_for)
    assert abs(np.log1p(drawn.prices).mean() - natural) > 0.15
    assert weighted == pytest.approx(natural, abs=0.03)


def test_weights_live_through_slices_filters_second_samples_and_files() -> None:
    drawn = catalogue([1.0] * 90 + [2.0] * 10, ["a"] * 90 + ["b"] * 10).sample(20, by="category")
    assert Counter(item.category for item in drawn) == {"a": 10, "b": 10}
    kept = drawn.filter(lambda item: item.category == "a")[2:5]
    assert kept.stands_for.tolist() == [9.0] * 3
    assert drawn.sample(10).stands_for.sum() == pytest.approx(100, rel=0.5)
    drawn.to_parquet("drawn.parquet")
    assert ItemDataset.from_file("drawn.parquet").stands_for.tolist() == drawn.stands_for.tolist()


def test_a_sample_by_price_refuses_an_item_without_one_and_names_it() -> None:
    with pytest.raises(InvalidItem, match=r"row 2, item '1'"):
        catalogue([1.0, None, 3.0]).sample(2, by="price")


@pytest.mark.parametrize("n", [-1, 101])
def test_a_sample_larger_than_the_set_is_refused(n: int) -> None:
    with pytest.raises(DataError, match="n="):
        HUNDRED.sample(n)


def test_sampling_by_something_unknown_is_refused() -> None:
    with pytest.raises(DataError, match="'price' or 'category'"):
        HUNDRED.sample(3, by="brand")  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_a_sample_by_category_is_as_even_as_it_can_be(sizes: list[int], share: float, seed: int) -> None:
    kinds = [str(kind) for kind, size in enumerate(sizes) for _ in range(size)]
    items = catalogue([1.0] * len(kinds), kinds)
    n = round(share * len(kinds))
    drawn = items.sample(n, seed, by="category")
    assert len(set(ids(drawn))) == len(drawn) == n
    counts = Counter(item.category for item in drawn)
    most = max(counts.values(), default=0)
    assert all(counts[str(kind)] in {size, most, most - 1} for kind, size in enumerate(sizes))


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 12), min_size=1, max_size=80),
    validation=st.floats(0, 0.4),
    test=st.floats(0, 0.4),
    seed=st.integers(0, 2**31),
)
def test_a_split_is_a_partition_with_groups_together(
    labels: list[int], validation: float, test: float, seed: int
) -> None:
    items = catalogue([1.0] * len(labels))
    asked = [round(validation * len(items)), round(test * len(items))]
    if any(share and not size for share, size in zip((validation, test), asked, strict=True)):
        with pytest.raises(DataError, match="is not one item"):
            items.split(validation=validation, test=test, seed=seed, group=labels)
        return
    try:
        splits = items.split(validation=validation, test=test, seed=seed, group=labels)
    except DataError as error:
        assert "whole groups fill no more than" in str(error)  # noqa: PT017 - some draws cannot be split
        return
    found = [set(ids(split)) for split in splits]
    assert sum(map(len, splits)) == len(items)
    assert set.union(*found) == set(ids(items))
    sides: dict[int, set[int]] = {}
    for side, names in enumerate(found):
        for name in names:
            sides.setdefault(labels[int(name)], set()).add(side)
    assert all(len(where) == 1 for where in sides.values())
    for part, wanted in zip((splits.validation, splits.test), asked, strict=True):
        assert 0.9 * wanted <= len(part) <= wanted
    again = items.split(validation=validation, test=test, seed=seed, group=labels)
    assert [ids(split) for split in again] == [ids(split) for split in splits]


def test_a_split_that_groups_cannot_fill_is_refused_with_the_reason_and_what_to_do() -> None:
    labels = [0] * 80 + [*range(1, 21)]  # texts of one template, and some others
    with pytest.raises(
        DataError, match=r"test shall have 30 of 100 items, .* no more than 20: .* of 80 items"
    ) as said:
        HUNDRED.split(validation=0, test=0.3, group=labels)
    assert "audit(similarity=0.8)" in str(said.value)
    with pytest.raises(DataError, match="no more than 0"):
        HUNDRED.split(test=0.2, group=[0] * 100)
    assert [len(part) for part in HUNDRED.split(validation=0.1, test=0.1, group=labels)] == [80, 10, 10]


def test_of_a_few_large_groups_those_are_taken_that_fill_a_part_best() -> None:
    sizes = (26, 23, 21, 17, 13)  # 13 + 17 = 30, whatever stands first
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    for seed in range(5):
        assert len(HUNDRED.split(validation=0, test=0.3, seed=seed, group=labels).test) == 30


def test_without_groups_a_split_has_exactly_the_sizes_asked_for() -> None:
    assert [len(split) for split in HUNDRED.split(validation=7, test=0.25)] == [68, 7, 25]
    assert [len(split) for split in HUNDRED.split(validation=0, test=100)] == [0, 0, 100]
    assert ids(HUNDRED.split(seed=1).test) != ids(HUNDRED.split(seed=2).test)


def test_a_split_groups_by_field_or_by_function() -> None:
    items = catalogue([1.0] * 40, ["abcd"[n % 4] for n in range(40)])
    for splits in (
        items.split(validation=10, test=10, group="category"),
        items.split(validation=10, test=10, group=lambda item: item.category),
    ):
        assert [len({item.category for item in split}) for split in splits] == [2, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"validation": 60, "test": 60}, "take 120 of 100"),
        ({"validation": -1}, "validation=-1"),
        ({"test": 1.5}, "test=1.5"),
        ({"group": [1, 2]}, "2 group labels for 100"),
        ({"group": "brand"}, "no field 'brand'"),
    ],
)
def test_a_split_that_cannot_be_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        HUNDRED.split(**arguments)  # type: ignore[arg-type]


def test_joined_sets_keep_their_order_and_what_was_done_to_them() -> None:
    both = ItemDataset.concat(HUNDRED[:2], catalogue([5.0]), HUNDRED[3:4])
    assert ids(both) == ["0", "1", "0", "3"]
    assert both.history == ("made in Python",)
    assert len(ItemDataset.concat()) == 0


def test_a_description_counts_and_draws() -> None:
    items = catalogue([1.0, 10.0, 10.0, 100.0, None], [*"abbbc"])
    said = items.describe()
    assert (said.n, said.priced, said.prices["50 %"], said.prices["max"]) == (5, 4, 10.0, 100.0)
    assert dict(said.categories) == {"b": 3, "a": 1, "c": 1}
    assert sum(count for *_, count in said.histogram) == 4
    page = str(said)
    assert "5 items, 4 with a price" in page
    assert "3 categories: b 3, a 1, c 1" in page
    assert "\n      $1.00 to " in page
    assert str(ItemDataset.from_items([]).describe()) == "0 items, 0 with a price"
    assert str(catalogue([3.0]).describe()).startswith("1 items, 1 with a price")


def test_a_description_of_a_catalogue_without_prices_shows_the_lengths_of_its_texts() -> None:
    assert str(catalogue([None, None]).describe()) == (
        "2 items, 0 with a price\n\n"
        "characters min 7  5 % 7  25 % 7  50 % 7  75 % 7  95 % 7  max 7\n\n"
        "1 categories: thing 2"
    )
