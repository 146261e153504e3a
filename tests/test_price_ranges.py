"""Price ranges: the guarantee, the groups, and crepes as the oracle."""

import asyncio
import itertools
import json
import math
import random
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
from finetune_pricer.predict import Distribution, Ranges
from finetune_pricer.predict.conformal import By


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


def test_small_and_unknown_groups_share_a_width() -> None:
    items, predictions = items_and_predictions(60, categories=1)
    rare = [Item(title=f"r{number}", price=5, category="rare") for number in range(3)]
    guesses = [Prediction(item_id=item.id, price=5) for item in rare]
    ranges = Ranges.learn([*predictions, *guesses], [*items, *rare], by="category")
    assert set(ranges.widths) == {"category kind 0", "others"}
    rare_one, unseen = (ranges.around(guesses[0], name) for name in ("rare", "unseen"))
    assert (rare_one.low, rare_one.high) == (unseen.low, unseen.high)


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


@settings(max_examples=40)
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


@settings(max_examples=40)
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
