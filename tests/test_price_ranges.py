"""Price ranges: the guarantee, the groups, and crepes as the oracle."""

import asyncio
import itertools
import json
import math
import random
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import respx
from crepes import ConformalRegressor
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_pricer import Item, Prediction, Predictor
from finetune_pricer.aio import AsyncPredictor
from finetune_pricer.errors import DataError, InvalidItem
from finetune_pricer.predict import Distribution, RangeGroup, Ranges
from finetune_pricer.predict.range_groups import By


def items_and_predictions(
    count: int, *, seed: int = 0, told: bool = False, categories: int = 1
) -> tuple[list[Item], list[Prediction]]:
    """True prices whose errors on the log scale are as large as the model says, where it says anything."""
    draw = random.Random(seed)
    items, predictions = [], []
    for number in range(count):
        middle, sigma = draw.gauss(4, 1), draw.uniform(0.1, 1.0)
        category = f"kind {number % categories}"
        truth = math.exp(middle + draw.gauss(0, sigma) * (1 + number % categories))
        items.append(Item(title=str(number), price=truth, category=category))
        distribution = None
        if told:
            prices = tuple(math.exp(middle + sigma * step) for step in (-1.3, 0, 1.3))
            distribution = Distribution(prices=prices, probabilities=(0.2, 0.6, 0.2))
        predictions.append(
            Prediction(item_id=items[-1].id, price=math.exp(middle), distribution=distribution)
        )
    return items, predictions


def coverage_of(ranges: Ranges, items: list[Item], predictions: list[Prediction]) -> float:
    held = 0
    for item, prediction in zip(items, predictions, strict=True):
        found = ranges.around(prediction, item.category)
        assert found.low is not None
        assert found.high is not None
        assert item.price is not None
        assert prediction.price is not None
        assert 0 <= found.low <= prediction.price <= found.high
        held += found.low <= item.price <= found.high
    return held / len(items)


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
def test_ranges_are_those_of_crepes(told: bool, coverage: float) -> None:
    items, predictions = items_and_predictions(157, told=told)
    ranges = Ranges.learn(predictions, items, coverage=coverage)
    truth = np.log1p([item.price or 0 for item in items])
    guess = np.log1p([prediction.price or 0 for prediction in predictions])
    sigmas = np.array(
        [1.0 if found.distribution is None else found.distribution.spread + 0.25 for found in predictions]
    )
    oracle = ConformalRegressor().fit(truth - guess, sigmas=sigmas)
    wanted = np.expm1(oracle.predict_int(guess, sigmas=sigmas, confidence=coverage))
    ours = np.array([(found.low, found.high) for found in map(ranges.around, predictions)])
    np.testing.assert_allclose(ours, np.maximum(wanted, 0), rtol=1e-9)


@pytest.mark.parametrize("by", ["category", "price"])
def test_ranges_by_group_are_those_of_crepes(by: By) -> None:
    items, predictions = items_and_predictions(240, categories=3)
    ranges = Ranges.learn(predictions, items, by=by)
    truth = np.log1p([item.price or 0 for item in items])
    guess = np.log1p([prediction.price or 0 for prediction in predictions])
    bins = np.array(
        [ranges.group_of(found, item.category) for found, item in zip(predictions, items, strict=True)]
    )
    oracle = ConformalRegressor().fit(truth - guess, bins=bins)
    wanted = np.expm1(oracle.predict_int(guess, bins=bins, confidence=0.9))
    pairs = zip(predictions, items, strict=True)
    ours = np.array([(r.low, r.high) for r in (ranges.around(found, item.category) for found, item in pairs)])
    np.testing.assert_allclose(ours, np.maximum(wanted, 0), rtol=1e-9)


@pytest.mark.parametrize("told", [False, True])
def test_the_promise_is_kept_on_average_over_new_items(told: bool) -> None:
    covered = []
    for seed in range(20):
        items, predictions = items_and_predictions(200, seed=seed, told=told)
        ranges = Ranges.learn(predictions, items, coverage=0.9)
        covered.append(coverage_of(ranges, *items_and_predictions(500, seed=1_000 + seed, told=told)))
    # One run lies between 0.864 and 0.933 in nine of ten cases; the mean of twenty much nearer.
    assert 0.885 < sum(covered) / len(covered) < 0.925


def test_groups_keep_the_promise_each() -> None:
    """Errors of the third kind are three times as large, so that one width for all would fail it."""
    items, predictions = items_and_predictions(900, categories=3)
    others = items_and_predictions(3_000, seed=1, categories=3)
    together, apart = (Ranges.learn(predictions, items, by=by) for by in (None, "category"))
    of_third = [list(itertools.islice(each, 2, None, 3)) for each in others]
    items_, predictions_ = of_third
    assert coverage_of(together, items_, predictions_) < 0.85  # type: ignore[arg-type]
    assert coverage_of(apart, items_, predictions_) > 0.87  # type: ignore[arg-type]


def test_a_surer_model_gets_a_narrower_range() -> None:
    items, predictions = items_and_predictions(300, told=True)
    ranges = Ranges.learn(predictions, items)
    found = sorted(map(ranges.around, predictions), key=lambda each: each.distribution.spread)  # type: ignore[union-attr]
    ratios = [each.high / max(each.low, 0.01) for each in found]  # type: ignore[operator, type-var]
    assert ratios[0] < ratios[-1] / 2


def calibrated_on(
    counts: dict[str | None, int],
    *,
    by: By | None = "category",
    errors: dict[str | None, float] | None = None,
) -> Ranges:
    """Ranges from so many items of each category, whose errors are of the given size (1 by default)."""
    draw = random.Random(0)
    items, predictions = [], []
    for category, count in counts.items():
        for number in range(count):
            size = (errors or {}).get(category, 1.0)
            truth = 20 * math.exp(draw.gauss(0, size))
            items.append(Item(title=f"{category} {number}", price=truth, category=category))
            predictions.append(Prediction(item_id=items[-1].id, price=20 + draw.random()))
    return Ranges.learn(predictions, items, by=by)


def names_of(ranges: Ranges) -> dict[str, int]:
    return {group.name: group.n for group in ranges.groups}


def test_small_categories_are_joined_with_each_other_and_the_joint_width_is_theirs() -> None:
    errors = {"a": 0.1, "b": 0.1, "c": 1.0, None: 1.0}
    ranges = calibrated_on({"a": 60, "c": 5, "b": 30, None: 4}, errors=errors)
    assert names_of(ranges) == {"category 'b'": 30, "category 'a'": 60, "categories unknown and 'c'": 9}
    assert ranges.groups[-1].joined == (
        "category unknown, without a distribution",
        "category 'c', without a distribution",
    )
    c, unknown, a = (
        ranges.around(Prediction(item_id="new", price=20), name).high or 0 for name in ("c", None, "a")
    )
    assert c == unknown > 1.5 * a


def test_what_is_too_small_for_any_promise_joins_the_smallest_category_that_is_not() -> None:
    ranges = calibrated_on({"a": 60, "b": 30, "c": 5})
    assert names_of(ranges) == {"category 'a'": 60, "categories 'c' and 'b'": 35}
    widths = [ranges.around(Prediction(item_id="new", price=20), name).high for name in ("b", "c")]
    assert widths[0] == widths[1]


def test_many_joined_categories_are_counted_in_the_name_and_listed_in_full() -> None:
    [group] = calibrated_on({f"kind {number}": 1 for number in range(20)}).groups
    assert group.name.startswith("categories 'kind 0', 'kind 1', 'kind 10', 'kind 11'")
    assert group.name.endswith("and 15 more")
    assert len(group.joined) == 20


def test_a_category_that_was_not_calibrated_on_gets_the_widest_width_and_no_promise() -> None:
    ranges = calibrated_on({"a": 60, "b": 30}, errors={"a": 0.1})
    new = [Item(title=name, price=20, category=name) for name in ("b", "unseen")]
    asked = [Prediction(item_id=item.id, price=20) for item in new]
    widest = ranges.around(asked[0], "b")
    assert ranges.around(asked[1], "unseen") == replace(widest, item_id=asked[1].item_id)
    b, unseen = ranges.measure(asked, new)
    assert (b.name, b.promised, unseen.name, unseen.promised) == ("category 'b'", 0.9, "others", None)
    assert str(unseen) == "others: 100.0% of 1 items held; nothing is promised for them"


def test_predictions_without_a_distribution_are_a_group_of_their_own() -> None:
    """They are one in ten, and their errors are 2.5 times as large: one width for all would fail them."""
    draw = random.Random(5)

    def draw_items(count: int) -> tuple[list[Item], list[Prediction]]:
        items, predictions = [], []
        for number in range(count):
            untold = number % 10 == 0
            distribution = Distribution(prices=(20.0, 40.0), probabilities=(0.5, 0.5))
            truth = 30 * math.exp(draw.gauss(0, 1.0 if untold else 0.4))
            items.append(Item(title=str(number), price=truth))
            told = None if untold else distribution
            predictions.append(Prediction(item_id=items[-1].id, price=30, distribution=told))
        return items, predictions

    items, predictions = draw_items(1000)
    ranges = Ranges.learn(predictions, items)
    assert names_of(ranges) == {
        "all items, with a distribution": 900,
        "all items, without a distribution": 100,
    }
    new_items, new_predictions = draw_items(5000)
    for group in ranges.measure(new_predictions, new_items):
        assert 0.84 < group.share < 0.96
    few = Ranges.learn(predictions[:80], items[:80])
    assert names_of(few) == {"all items": 80}
    assert few.groups[0].joined == ("all items, with a distribution", "all items, without a distribution")


def test_price_bands_with_too_few_items_are_joined_with_the_one_beside_them() -> None:
    ranges = calibrated_on({"a": 30}, by="price")
    edges = ranges.edges
    assert names_of(ranges) == {
        f"priced below ${edges[1]:,.2f}": 15,
        f"priced from ${edges[1]:,.2f}": 15,
    }
    assert ranges.groups[0].joined == (
        f"priced below ${edges[0]:,.2f}, without a distribution",
        f"priced from ${edges[0]:,.2f} and below ${edges[1]:,.2f}, without a distribution",
    )


def test_equal_predicted_prices_make_one_band() -> None:
    items = [Item(title=str(number), price=10.0 + number) for number in range(40)]
    predictions = [Prediction(item_id=item.id, price=25.0) for item in items]
    ranges = Ranges.learn(predictions, items, by="price")
    assert [group.n for group in ranges.groups] == [40]
    for price in (1.0, 25.0, 300.0):
        assert ranges.group_of(Prediction(item_id="new", price=price), None) in ranges.widths


@pytest.mark.parametrize(("n", "items"), [(9, 50), (100, 1000), (1000, 30)])
def test_what_can_be_expected_is_a_beta_binomial_distribution(n: int, items: int) -> None:
    from scipy.stats import betabinom

    k = math.ceil((n + 1) * 0.9 - 1e-9)
    low, high = RangeGroup(name="all items", n=n, width=1.0, coverage=0.9).expect(items)
    wanted = betabinom(items, k, n + 1 - k)
    assert low == wanted.ppf(0.05) / items
    assert high == wanted.ppf(0.95) / items


def test_ranges_say_what_is_promised_to_whom_and_what_was_joined(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "finetune_pricer")
    lines = str(calibrated_on({"a\x1b": 60, "b": 5, "c": 4})).splitlines()
    assert lines[0].startswith("90% ranges from 69 predictions. Nine times in ten they hold this share")
    assert lines[1].startswith("- category 'a\\x1b': ")
    assert lines[2].endswith("from 9 calibration items, joined because one of them has too few")
    assert "categories 'b' and 'c'" in caplog.text


def test_ranges_that_hold_too_little_say_so() -> None:
    items, predictions = items_and_predictions(200)
    ranges = Ranges.learn(predictions, items)
    new_items, new_predictions = items_and_predictions(300, seed=2)
    [as_promised] = ranges.measure(new_predictions, new_items)
    assert not as_promised.falls_short
    dearer = [Item(title=item.title, price=9 * (item.price or 0)) for item in items]
    [short] = ranges.measure(predictions, dearer)
    assert short.falls_short
    assert str(short).endswith("from 200 calibration items: fewer than by chance")


@pytest.mark.parametrize(("coverage", "needed"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_too_few_items_for_the_coverage_are_refused(coverage: float, needed: int) -> None:
    items, predictions = items_and_predictions(needed)
    Ranges.learn(predictions, items, coverage=coverage)
    with pytest.raises(DataError, match=f"at least {needed} predictions"):
        Ranges.learn(predictions[1:], items[1:], coverage=coverage)


def test_predictions_without_a_price_are_left_out_and_get_no_range() -> None:
    items, predictions = items_and_predictions(30)
    unpriced = Prediction(item_id=items[0].id, price=None, error="no price")
    ranges = Ranges.learn([unpriced, *predictions[1:]], items)
    assert ranges.n == 29
    assert ranges.around(unpriced) == unpriced


PRICES = st.floats(0.01, 1e9)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(PRICES, PRICES), min_size=9, max_size=30), st.floats(0, 4))
def test_rounding_pushes_no_price_out_of_a_range(pairs: list[tuple[float, float]], spread: float) -> None:
    """Of n items the ranges learned from them hold at least k: none is lost on the way to logs and back."""
    items = [Item(title=str(at), price=truth) for at, (truth, _) in enumerate(pairs)]
    wide = Distribution(prices=(1.0, 2 * math.exp(2 * spread) - 1), probabilities=(0.5, 0.5))
    predictions = [
        Prediction(item_id=item.id, price=price, distribution=wide)
        for item, (_, price) in zip(items, pairs, strict=True)
    ]
    share = coverage_of(Ranges.learn(predictions, items), items, predictions)
    assert share * len(items) >= math.ceil(0.9 * (len(items) + 1) - 1e-9)


@settings(max_examples=40, deadline=None)
@given(st.lists(PRICES, min_size=9, max_size=30))
def test_ranges_of_a_model_that_is_right_hold_what_is_right(prices: list[float]) -> None:
    items = [Item(title=str(at), price=price) for at, price in enumerate(prices)]
    predictions = [Prediction(item_id=item.id, price=item.price) for item in items]
    ranges = Ranges.learn(predictions, items)
    assert coverage_of(ranges, items, predictions) == 1
    for found in map(ranges.around, predictions):
        assert (found.low, found.high) == pytest.approx((found.price, found.price), rel=1e-9)


@pytest.mark.parametrize("price", [0.0, 1e-300, 1e300, 1.7976931348623157e308])
def test_ranges_around_the_smallest_and_the_largest_prices_are_ranges(price: float) -> None:
    items, predictions = items_and_predictions(30)
    found = Ranges.learn(predictions, items).around(Prediction(item_id="far", price=price))
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= price <= found.high


@pytest.mark.parametrize("price", [-0.5, -5.0, math.inf, math.nan])
def test_a_price_that_is_no_amount_of_money_is_refused_and_named(price: float) -> None:
    items, predictions = items_and_predictions(30)
    odd = Prediction(item_id="odd", price=price)
    with pytest.raises(DataError, match=r"item 'odd' was priced at .*at least 0"):
        Ranges.learn([odd, *predictions[1:]], items)
    with pytest.raises(DataError, match="item 'odd'"):
        Ranges.learn(predictions, items).around(odd)


@pytest.mark.parametrize("wrong", [{"coverage": 0}, {"coverage": 1}, {"by": "colour"}])
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    items, predictions = items_and_predictions(30)
    with pytest.raises(DataError):
        Ranges.learn(predictions, items, **wrong)  # type: ignore[arg-type]


# Through a predictor


def answers(request: httpx.Request) -> httpx.Response:
    text = json.loads(request.content)["messages"][-1]["content"]
    return httpx.Response(200, json={"choices": [{"message": {"content": f"${text.split()[-1]}.00"}}]})


PRICED = [Item(title=f"thing {10 * number}", price=10 * number * 1.2) for number in range(1, 31)]


def test_a_calibrated_predictor_gives_ranges_and_leaves_the_first_as_it_was(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    service.post("/chat/completions").mock(side_effect=answers)
    predictor = Predictor(client, "m")
    calibrated = predictor.calibrate(PRICED, coverage=0.9)
    assert predictor.ranges is None
    assert calibrated.ranges is not None
    assert calibrated.ranges.n == 30
    assert predictor.predict("thing 100").low is None
    found = calibrated.predict("thing 100")
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.high == pytest.approx(120, rel=0.01)
    assert calibrated.predict_many(["thing 100"])[0].high == found.high


def test_async_calibration_gives_the_same(service: respx.MockRouter) -> None:
    service.post("/chat/completions").mock(side_effect=answers)

    async def run() -> Prediction:
        async with openai.AsyncOpenAI(base_url="https://service.test/v1", api_key="x") as client:
            return await (await AsyncPredictor(client, "m").calibrate(PRICED)).predict("thing 100")

    with openai.OpenAI(base_url="https://service.test/v1", api_key="x") as client:
        ours = Predictor(client, "m").calibrate(PRICED).predict("thing 100")
    theirs = asyncio.run(run())
    assert (theirs.low, theirs.high) == (ours.low, ours.high)


def test_calibrating_on_an_item_without_a_price_names_its_row_and_asks_nothing(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    route = service.post("/chat/completions").mock(side_effect=answers)
    with pytest.raises(InvalidItem, match="row 2"):
        Predictor(client, "m").calibrate([PRICED[0], Item(title="a mug")])
    assert not route.called


@pytest.mark.parametrize(
    "wrong", [{"coverage": 0}, {"coverage": 1}, {"coverage": 1.5}, {"coverage": 0.95}, {"by": "colour"}]
)
def test_what_cannot_give_ranges_is_refused_before_anything_is_bought(
    service: respx.MockRouter, client: openai.OpenAI, wrong: dict[str, Any]
) -> None:
    items = [Item(title=f"thing {number}", price=5) for number in range(10)]
    with pytest.raises(DataError, match=r"coverage must be|by must be|95% need at least 19.*10 of 10"):
        Predictor(client, "m").calibrate(items, **wrong)
    assert not service.calls
