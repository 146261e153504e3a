"""Items that err alike count as one: intervals, tests and choices draw whole groups."""

from pathlib import Path

import numpy as np
import pytest

from finetune_pricer import Evaluation, Evaluator, Item, ItemDataset, audit, compare
from finetune_pricer.errors import EvaluationError
from finetune_pricer.evaluate import choose

KINDS = "oak pine birch maple cherry walnut ash elm beech teak cedar larch".split()
ROOMS = "kitchen bedroom hall study garage".split()


def variants(kinds: int, of_each: int) -> ItemDataset:
    """Products in variants whose texts differ by one word."""
    names = [f"{kind} {room}" for kind in KINDS for room in ROOMS][:kinds]
    return ItemDataset.from_items(
        Item(
            id=f"{name}-{size}",
            title=f"{name} shelf of {name} wood that was grown in {name} and sold as {name} in size {size}",
            price=100.0,
        )
        for name in names
        for size in range(of_each)
    )


def off_by(errors: np.ndarray[tuple[int], np.dtype[np.float64]], copies: int, name: str) -> Evaluation:
    """An evaluation of items that come in copies, each of which is as wrong as the others."""
    items = [Item(id=str(at), title=f"Thing {at}", price=1000.0) for at in range(copies * len(errors))]
    groups = np.repeat(np.arange(len(errors)), copies)
    prices = (1000 + np.repeat(errors, copies)).tolist()
    return Evaluator(rounds=300).score(items, prices, name=name, groups=groups if copies > 1 else None)


ERRORS = np.random.default_rng(3).lognormal(3, 1, (2, 40))


def test_copies_of_items_tell_no_more_than_the_items() -> None:
    once, five_times = off_by(ERRORS[0], 1, "a"), off_by(ERRORS[0], 5, "a")
    for name in ("mae", "median_absolute_error", "rmsle", "within_20", "r2"):
        one, other = once.metrics[name], five_times.metrics[name]
        assert (one.low, one.high) == pytest.approx((other.low, other.high), nan_ok=True), name
    assert (once.groups, five_times.groups) == (None, 40)
    assert "n=200, in 40 groups, 0 unscored" in str(five_times)


def test_copies_of_items_make_no_difference_surer() -> None:
    once = compare(off_by(ERRORS[0], 1, "a"), off_by(ERRORS[1], 1, "b"), rounds=500)
    five_times = compare(off_by(ERRORS[0], 5, "a"), off_by(ERRORS[1], 5, "b"), rounds=500)
    assert five_times.n == 200
    assert five_times.p_value == once.p_value
    assert (five_times.difference.low, five_times.difference.high) == pytest.approx(
        (once.difference.low, once.difference.high)
    )
    assert five_times.smallest_detectable == pytest.approx(once.smallest_detectable)
    assert once.better is five_times.better is None


def test_copies_of_items_make_no_choice_surer() -> None:
    once = choose([off_by(one, 1, str(at)) for at, one in enumerate(ERRORS)], rounds=300)
    five_times = choose([off_by(one, 5, str(at)) for at, one in enumerate(ERRORS)], rounds=300)
    assert five_times.metric.value == pytest.approx(once.metric.value)
    assert five_times.metric.low == pytest.approx(once.metric.low)


def test_near_twins_are_groups_by_default_where_more_than_a_tenth_have_one() -> None:
    items = variants(30, 4)
    found = Evaluator(rounds=50).evaluate(lambda item: 90.0, items)
    assert found.groups == 30
    assert "n=120, in 30 groups" in str(found)
    assert (
        "120 of 120 items have a near-twin among them: intervals and tests count 30 groups."
        in found.to_markdown()
    )
    few = ItemDataset.concat(items.take(range(0, 120, 4)), items.take([1]))
    assert Evaluator(rounds=50).evaluate(lambda item: 90.0, few).groups is None


def test_too_few_groups_are_said_and_not_drawn_from() -> None:
    found = Evaluator(rounds=50).evaluate(lambda item: 90.0, variants(5, 10))
    assert found.groups is None
    assert "5 groups are too few to draw from, so the intervals may be far too short" in found.to_markdown()


def test_the_groups_of_an_audit_fit_in_and_live_in_the_file(tmp_path: Path) -> None:
    train, test = variants(60, 1), variants(25, 2)
    labels = audit(train, test=test).groups("test")
    found = Evaluator(rounds=50).score(test, [90.0] * 50, groups=labels)
    assert found.groups == 25
    assert "count 25 groups of items, as told" in found.to_markdown()
    found.save(tmp_path / "kept.json")
    assert Evaluation.load(tmp_path / "kept.json").records == found.records
    drawn = Evaluator(rounds=50, size=30, seed=1).evaluate(lambda item: 90.0, test, groups=labels)
    assert drawn.groups is not None
    assert drawn.groups < 30


def test_labels_that_do_not_fit_are_refused_and_one_group_has_no_interval() -> None:
    items = variants(3, 1)
    with pytest.raises(EvaluationError, match="3 items but 2 groups"):
        Evaluator().score(items, [90.0] * 3, groups=["a", "b"])
    found = Evaluator(rounds=50).score(items, [90.0, 80.0, 70.0], groups=["a"] * 3)
    assert np.isnan(found.mae.low)
    assert compare(found, found, rounds=50).p_value == 1


def test_items_without_a_price_leave_their_group() -> None:
    items = variants(3, 2)
    found = Evaluator(rounds=50).score(items, [90.0, 80.0, None, None, 70.0, 60.0], groups=[*"aabbcc"])
    assert found.groups == 2
    assert not np.isnan(found.mae.low)
