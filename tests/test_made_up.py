"""The made-up catalogue: the same every time, and no better than its noise lets it be."""

import numpy as np
import pytest

from finetune_pricer import MadeUpCatalogue
from finetune_pricer.errors import DataError
from helpers import priced


def test_the_same_seed_gives_the_same_products_and_another_gives_others() -> None:
    assert list(MadeUpCatalogue(seed=1).items(20)) == list(MadeUpCatalogue(seed=1).items(20))
    assert list(MadeUpCatalogue(seed=1).items(20)) != list(MadeUpCatalogue(seed=2).items(20))


def test_the_sizes_of_the_splits_are_as_asked_and_no_product_stands_in_two() -> None:
    splits = MadeUpCatalogue().splits(train=50, validation=10, test=5)
    assert [len(split) for split in splits] == [50, 10, 5]
    assert len({item.id for split in splits for item in split}) == 65


def test_a_larger_training_split_begins_with_the_smaller_one() -> None:
    assert list(MadeUpCatalogue().items(5)) == list(MadeUpCatalogue().items(50)[:5])


def test_every_product_is_priced_and_said_to_be_made_up() -> None:
    for item in MadeUpCatalogue().items(200):
        assert item.price is not None
        assert item.price >= 0.01
        assert "made up" in (item.title or "")
        assert item.id.startswith("made-up-")
        assert item.summary


def test_products_vary() -> None:
    items = MadeUpCatalogue().items(500)
    assert len({item.text for item in items}) > 450
    assert len({item.category for item in items}) == 6
    assert items.prices.max() / items.prices.min() > 50


@pytest.mark.parametrize("noise", [0.05, 0.2, 0.6])
def test_who_knows_the_rule_errs_as_much_as_the_best_possible_mae_says(noise: float) -> None:
    catalogue = MadeUpCatalogue(noise=noise)
    items = catalogue.items(8000)
    middles = np.array([catalogue.middle_price(item) for item in items])
    errors = np.abs(items.prices - middles)
    expected = catalogue.best_possible_mae(items)
    assert abs(errors.mean() - expected) < 4 * errors.std() / np.sqrt(errors.size)


@pytest.mark.parametrize("factor", [0.9, 0.95, 1.05, 1.1])
def test_no_shift_of_the_rule_errs_less(factor: float) -> None:
    catalogue = MadeUpCatalogue(noise=0.3)
    items = catalogue.items(4000)
    middles = np.array([catalogue.middle_price(item) for item in items])
    errors = np.abs(items.prices - middles).mean()
    assert np.abs(items.prices - factor * middles).mean() > errors


def test_without_noise_every_price_is_the_rules() -> None:
    catalogue = MadeUpCatalogue(noise=0)
    for item in catalogue.items(50):
        assert item.price == pytest.approx(catalogue.middle_price(item), abs=0.006)
    assert catalogue.best_possible_mae(catalogue.items(50)) == 0


def test_a_foreign_item_has_no_rule() -> None:
    with pytest.raises(DataError, match="'item-0' is not of this made-up catalogue"):
        MadeUpCatalogue().middle_price(priced(1)[0])
    with pytest.raises(DataError, match="not of this made-up catalogue"):
        MadeUpCatalogue(seed=1).best_possible_mae(MadeUpCatalogue(seed=2).items(3))
    with pytest.raises(DataError, match="no items"):
        MadeUpCatalogue().best_possible_mae([])


@pytest.mark.parametrize("noise", [-0.1, float("nan"), float("inf")])
def test_noise_that_is_none_is_refused(noise: float) -> None:
    with pytest.raises(DataError, match="noise must be a number of at least 0"):
        MadeUpCatalogue(noise=noise)
