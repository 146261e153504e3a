"""An ensemble: weights of unseen items, never worse than its best member beyond chance, and honest."""

import asyncio
import logging
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, cast

import httpx
import numpy as np
import openai
import pytest
import respx

from evaluate_helpers import things
from finetune_pricer import (
    ChatFormatter,
    Ensemble,
    Evaluator,
    Item,
    ItemDataset,
    Leaderboard,
    Prediction,
    Predictor,
    TokenPricing,
    aio,
    compare,
)
from finetune_pricer._methods.blend import Guesses, combine, learn_blend, learn_weights
from finetune_pricer.errors import (
    DataError,
    InvalidItem,
    ModelNotFound,
    NotAnItem,
    OverBudget,
    WrongArgument,
)
from finetune_pricer.evaluate import Baseline, CategoryMedianBaseline, MedianBaseline
from finetune_pricer.predict import Distribution, Usage

N = 240


def catalogue(count: int = N, *, seed: int = 0, least: float = 0.0) -> ItemDataset:
    random = np.random.default_rng(seed)
    prices = least + np.exp(random.normal(4, 1, count))
    return ItemDataset.from_items(
        Item(id=f"{seed}-{number}", title=f"Thing {seed}-{number}", price=float(price))
        for number, price in enumerate(prices)
    )


class Guesser:
    """A member that answers by a function of the item, and a number that is the item's own."""

    def __init__(self, name: str, answer: Callable[[float, float], Any]) -> None:
        self.name, self._answer = name, answer
        self.asked = 0

    def predict_many(self, items: Iterable[Any]) -> list[Prediction]:
        return [self._predict(item) for item in items]

    def _predict(self, item: Item) -> Prediction:
        self.asked += 1
        random = np.random.default_rng([*f"{self.name} {item.id}".encode()])
        found = self._answer(item.price or 0.0, float(random.normal()))
        if isinstance(found, Prediction):
            return replace(found, item_id=item.id)
        return Prediction(item_id=item.id, price=found, error="it says nothing" if found is None else None)


def wrong_by(error: float) -> Callable[[float, float], float]:
    return lambda price, z: price * math.exp(error * z)


FITTED_ON, TEST = catalogue(seed=1), catalogue(seed=2)


def three() -> list[Guesser]:
    return [Guesser("a", wrong_by(0.4)), Guesser("b", wrong_by(0.45)), Guesser("c", wrong_by(0.5))]


def mae(model: Any, items: ItemDataset = TEST) -> float:
    found = zip(model.predict_many(items), items, strict=True)
    return float(np.mean([abs(one.price - (item.price or 0)) for one, item in found]))


# What it is for.


def test_of_independent_errors_the_ensemble_is_better_than_its_best_member() -> None:
    members = three()
    ensemble = Ensemble(members).fit(FITTED_ON)
    judge = Evaluator(rounds=500)
    best = min((judge.evaluate(member, TEST) for member in members), key=lambda one: one.mae.value)
    found = compare(judge.evaluate(ensemble, TEST), best)
    assert found.difference.high < 0
    assert found.p_value < 0.01
    assert ensemble.weights["a"] > ensemble.weights["c"] > 0.1
    assert sum(ensemble.weights.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(6))
def test_with_a_few_items_it_is_not_far_from_its_best_member(seed: int) -> None:
    members = [
        Guesser(f"good {seed}", wrong_by(0.3)),
        Guesser("poor", wrong_by(1)),
        Guesser("bad", wrong_by(2)),
    ]
    ensemble = Ensemble(members).fit(catalogue(12, seed=10 + seed))
    assert mae(ensemble) < 1.15 * mae(members[0])


def test_the_mean_is_taken_of_logarithms_or_of_prices_as_the_items_say() -> None:
    opposite = [
        Guesser(f"times {sign}", lambda price, _, sign=sign: price * math.exp(sign * math.sin(1e4 * price)))  # type: ignore[misc]
        for sign in (1, -1)
    ]
    ensemble = Ensemble(opposite).fit(FITTED_ON)
    assert ensemble.space == "log"
    assert mae(ensemble) < 0.2 * mae(opposite[0])
    shifted = [Guesser("low", lambda price, _: price - 40), Guesser("high", lambda price, _: price + 40)]
    ensemble = Ensemble(shifted).fit(catalogue(least=50.0))
    assert ensemble.space == "linear"
    assert mae(ensemble, catalogue(seed=3, least=50.0)) < 4


# What it says.


def test_members_that_add_nothing_are_not_asked_and_it_says_that_it_is_its_best_member() -> None:
    good, noise = Guesser("good", wrong_by(0.1)), Guesser("noise", wrong_by(2.0))
    ensemble = Ensemble([noise, good]).fit(FITTED_ON)
    asked = noise.asked
    found = ensemble.predict_many(TEST)
    assert noise.asked == asked == N
    assert [one.price for one in found] == [one.price for one in good.predict_many(TEST)]
    assert ensemble.weights == {"noise": 0.0, "good": 1.0}
    assert ensemble.name == "ensemble of 2 (good alone)"
    first = str(ensemble).splitlines()[0]
    assert first.startswith(
        f"{ensemble.name}: by cross-validation on 240 items the members' mean came no nearer"
    )
    assert first in repr(ensemble)


def test_members_that_are_all_the_same_are_one_of_them() -> None:
    ensemble = Ensemble([Guesser("same", wrong_by(0.4)) for _ in range(3)]).fit(FITTED_ON)
    assert ensemble.weights == {"same": 1.0, "same (2)": 0.0, "same (3)": 0.0}
    assert "came no nearer" in str(ensemble)


def test_of_one_member_it_is_that_member() -> None:
    ensemble = Ensemble(three()[:1]).fit(FITTED_ON)
    assert ensemble.predict(TEST[0]).price == three()[0].predict_many(TEST[:1])[0].price
    assert str(ensemble).startswith("ensemble of 1 (a alone), on 240 items")
    distribution = ensemble.predict(TEST[0]).distribution
    assert distribution is not None
    assert distribution.quantile(0.1) < (ensemble(TEST[0]) or 0) < distribution.quantile(0.9)


def test_the_one_member_that_is_left_gives_no_price_that_is_none() -> None:
    odd = Guesser("odd", lambda price, _: -1.0 if price > 150 else price)
    ensemble = Ensemble([odd]).fit(FITTED_ON)
    found = [one for one in ensemble.predict_many(TEST) if one.price is None]
    assert len(found) == sum((item.price or 0) > 150 for item in TEST)
    assert {one.error for one in found} == {"no amount of money: -1.0"}


def test_it_prints_as_a_table_of_weights_errors_and_costs_with_intervals() -> None:
    ensemble = Ensemble(three()).fit(FITTED_ON)
    text = str(ensemble)
    assert text.startswith("ensemble of 3: MAE $")
    assert "by cross-validation" in text
    assert "nearer than a alone" in text
    assert "chance" not in text.splitlines()[0]
    rows = [line for line in text.splitlines() if line.startswith(("| a", "| b", "| c"))]
    assert [row.split(" | ")[0] for row in rows] == ["| a", "| b", "| c"]
    assert all("95% CI" in row for row in rows)
    assert "1,000 items cost unknown" in text
    assert len(text) < 2_000
    assert "<pre>" in ensemble._repr_html_()


def test_the_page_of_many_members_with_long_names_fits_on_a_screen() -> None:
    members = [Guesser(f"{'long | <b>name</b> ' * 20}{number}", wrong_by(0.4)) for number in range(12)]
    ensemble = Ensemble(members).fit(FITTED_ON[:40])
    assert len(str(ensemble)) < 2_000
    assert len(repr(ensemble)) < 2_000
    assert "6 more" in str(ensemble)
    assert "\\|" in str(ensemble) or "&#124;" in str(ensemble)


def test_a_gain_that_chance_may_give_is_called_so() -> None:
    members = [
        Guesser("a", wrong_by(0.4)),
        Guesser("much like it", lambda p, z: p * math.exp(0.4 * z + 0.01)),
    ]
    texts = [str(Ensemble(members).fit(catalogue(12, seed=seed))).splitlines()[0] for seed in range(20, 30)]
    assert any("which chance alone may give" in text for text in texts)


def test_a_gain_of_less_than_half_a_standard_error_is_not_worth_asking_several() -> None:
    for seed in range(40):
        blend = learn_blend(guesses(40, (0.5, 0.52), seed), seed=1, rounds=200)
        error = (blend.gain_interval.high - blend.gain_interval.low) / 3.92
        assert blend.is_member == (blend.gain <= 0.5 * error)
    members = [Guesser("a", wrong_by(0.4)), Guesser("like it", lambda p, z: p * math.exp(0.4 * z + 0.01))]
    texts = [str(Ensemble(members).fit(catalogue(12, seed=seed))).splitlines()[0] for seed in range(20, 40)]
    only = [text for text in texts if " the members' mean came only $" in text]
    assert only
    assert all("alone): by cross-validation on 12 items" in text for text in only)


def test_an_ensemble_without_weights_says_what_to_do() -> None:
    ensemble = Ensemble(three())
    assert str(ensemble) == "ensemble of 3, not fitted yet: fit(items) learns the weights"
    for use in (
        lambda: ensemble.predict(TEST[0]),
        lambda: ensemble.predict_many(TEST),
        lambda: ensemble.calibrate(TEST),
        lambda: ensemble.save("folder"),
        lambda: ensemble.weights,
        lambda: Ensemble([ensemble]),
    ):
        with pytest.raises(DataError, match=r"Ensemble\(members\).fit\(validation\)"):
            use()


def test_fitting_and_calibrating_leave_the_first_as_it_was() -> None:
    plain = Ensemble(three())
    fitted = plain.fit(FITTED_ON)
    ranged = fitted.calibrate(TEST)
    assert plain._fit is None
    assert fitted.ranges is None
    assert ranged.ranges is not None
    assert fitted.predict(TEST[0]).low is None
    assert ranged.predict(TEST[0]).price == fitted.predict(TEST[0]).price
    assert ranged.fit(TEST).ranges is None


# Items that it must not learn on.


def test_items_that_a_baseline_was_fitted_to_are_refused_before_anybody_is_asked() -> None:
    train, other = things(60), Guesser("other", wrong_by(0.3))
    ensemble = Ensemble([other, MedianBaseline.fit(train)])
    mixed = ItemDataset.concat(things(40, seed=5, start=900), train[7:10])
    with pytest.raises(
        DataError, match=r"3 of 43 items \(the first is row 41\).*'always the training median'"
    ):
        ensemble.fit(mixed)
    assert not other.asked
    fitted = ensemble.fit(things(40, seed=5, start=900))
    with pytest.raises(
        DataError, match=r"60 of 60 items.*price ranges are learned on items that it has not seen"
    ):
        fitted.calibrate(train)


def test_items_of_its_own_weights_are_refused_for_ranges_and_for_an_ensemble_of_ensembles() -> None:
    inner = Ensemble(three()).fit(FITTED_ON)
    with pytest.raises(DataError, match=r"240 of 240 items.*'ensemble of 3'"):
        inner.calibrate(FITTED_ON)
    with pytest.raises(DataError, match=r"240 of 240 items.*'ensemble of 3'"):
        Ensemble([inner, Guesser("d", wrong_by(0.4))]).fit(FITTED_ON)
    train = things(60)
    deep = Ensemble([MedianBaseline.fit(train), CategoryMedianBaseline.fit(train)]).fit(things(30, start=500))
    with pytest.raises(DataError, match="always the training median"):
        Ensemble([deep]).fit(train)


def test_rows_of_two_files_may_have_the_same_numbers_and_the_same_words() -> None:
    train = ItemDataset.from_items(Item(id=f"{n}", title=f"Mug {n}", price=5.0 + n) for n in range(20))
    others = ItemDataset.from_items(Item(id=f"{n}", title=f"Pot {n}", price=9.0 + n) for n in range(20))
    twins = ItemDataset.from_items(Item(id=f"x{n}", title=f"Mug {n}", price=5.0 + n) for n in range(20))
    for items in (others, twins):
        Ensemble([MedianBaseline.fit(train)]).fit(items)


def test_too_few_items_unpriced_ones_and_other_currencies_are_refused_before_anybody_is_asked() -> None:
    members = three()
    euros = ItemDataset.from_items(FITTED_ON, currency="EUR")
    unpriced = [*FITTED_ON[:20], Item(title="no price")]
    refused: list[tuple[Any, type[Exception], str]] = [
        (FITTED_ON[:2], DataError, "at least 10 items, and there are 2"),
        ([], DataError, "there are 0"),
        (unpriced, InvalidItem, "row 21"),
        ([Item(title=f"{n}", price=0.0) for n in range(20)], InvalidItem, "price of 0"),
        (["a lamp"] * 20, NotAnItem, "row 1"),
    ]
    for items, kind, words in refused:
        with pytest.raises(kind, match=words):
            Ensemble(members).fit(items)
    with pytest.raises(DataError, match="EUR"):
        Ensemble([*members, MedianBaseline.fit(ItemDataset.from_items(things(20), currency="USD"))]).fit(
            euros
        )
    dollars, others = ChatFormatter(), ChatFormatter(currency="EUR")
    client = openai.OpenAI(api_key="sk-x", base_url="https://service.test/v1")
    with pytest.raises(DataError, match="USD and those of"):
        Ensemble([Predictor(client, "m", formatter=each) for each in (dollars, others)])
    assert not any(member.asked for member in members)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([], "members must be at least one predictor, not an empty list"),
        ([len], "member 1 must be a predictor or whatever else has predict_many"),
        (["gpt"], "member 1 must be"),
        ([Guesser], "the class Guesser itself"),
        (5, "members must be a list of predictors"),
        ("gpt", "members must be a list of predictors"),
    ],
)
def test_what_is_no_member_is_refused(members: Any, words: str) -> None:
    with pytest.raises(WrongArgument, match=words):
        Ensemble(members)


def test_a_predictor_of_async_code_is_no_member_and_the_ensemble_runs_in_a_thread() -> None:
    client = openai.AsyncOpenAI(api_key="sk-x", base_url="https://service.test/v1")
    with pytest.raises(WrongArgument, match=r"asyncio.to_thread"):
        Ensemble([aio.AsyncPredictor(client, "m")])  # type: ignore[list-item]
    ensemble = Ensemble(three()).fit(FITTED_ON)
    found = asyncio.run(asyncio.to_thread(ensemble.predict_many, TEST[:3]))
    assert list(found) == list(ensemble.predict_many(TEST[:3]))


# Members without a price.


def silent_above(limit: float, error: float) -> Callable[[float, float], float | None]:
    return lambda price, z: None if price > limit else price * math.exp(error * z)


def test_what_a_member_leaves_out_the_others_price_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shy = Guesser("shy", silent_above(150, 0.4))
    ensemble = Ensemble([shy, *three()[1:]]).fit(FITTED_ON)
    dear = next(item for item in TEST if (item.price or 0) > 150)
    with caplog.at_level(logging.WARNING, "finetune_pricer"):
        found = ensemble.predict_many(TEST)
    assert all(one.price is not None for one in found)
    assert f"shy had no price for {sum((i.price or 0) > 150 for i in TEST)} of 240 items" in caplog.text
    b, c = (member.predict_many([dear])[0].price or 0 for member in three()[1:])
    price = ensemble.predict(dear).price
    assert price is not None
    assert min(b, c) <= price <= max(b, c)
    assert next(one for one in ensemble.members if one.name == "shy").unpriced > 0


def test_silence_is_no_advantage_the_median_counts_where_a_member_says_nothing() -> None:
    shy, honest = Guesser("honest", silent_above(150, 0.4)), Guesser("honest", wrong_by(0.4))
    ensemble = Ensemble([shy, honest]).fit(FITTED_ON)
    first, second = ensemble.members
    assert first.unpriced > 0
    assert first.mae > second.mae
    # Errors that are the same where both speak: alone, the one that speaks always is better.
    assert ensemble.weights[second.name] == 1.0


def test_where_nobody_has_a_price_the_item_has_none_and_all_reasons() -> None:
    half = [Guesser(name, silent_above(150, 0.4)) for name in "ab"]
    ensemble = Ensemble(half).fit(FITTED_ON)
    dear = next(item for item in TEST if (item.price or 0) > 150)
    found = ensemble.predict(dear)
    assert found.price is None
    assert found.error == "no member has a price; a: it says nothing; b: it says nothing"
    assert found.distribution is None


@pytest.mark.parametrize("odd", [math.nan, math.inf, -5.0, None], ids=str)
def test_what_is_no_amount_of_money_is_no_price(odd: float | None) -> None:
    strange = Guesser("strange", lambda price, _: odd if price > 60 else price)
    ensemble = Ensemble([strange, *three()]).fit(FITTED_ON)
    assert all(one.price is not None and 0 <= one.price < math.inf for one in ensemble.predict_many(TEST))
    assert ensemble.members[0].unpriced == sum((item.price or 0) > 60 for item in FITTED_ON)


def test_members_of_which_none_has_any_price_make_no_ensemble() -> None:
    with pytest.raises(DataError, match="no member priced any of 240 items; the first: it says nothing"):
        Ensemble([Guesser("mute", lambda *_: None)]).fit(FITTED_ON)


def test_a_mute_member_among_others_has_no_weight(caplog: pytest.LogCaptureFixture) -> None:
    ensemble = Ensemble([Guesser("mute", lambda *_: None), *three()]).fit(FITTED_ON)
    assert "mute priced not one of 240 items" in caplog.text
    assert mae(ensemble) < mae(three()[0])


def test_a_price_too_high_for_a_number_ends_in_no_error() -> None:
    dear = Guesser("dear", lambda price, z: 1.7e308 if price == 1 else wrong_by(0.4)(price, z))
    ensemble = Ensemble([dear, *three()]).fit(FITTED_ON)
    assert ensemble.weights["dear"] > 0
    found = ensemble.predict(Item(title="Thing", price=1.0))
    assert found.distribution is not None
    assert math.isfinite(found.distribution.median)


class Gives:
    name = "strange"

    def __init__(self, found: Any) -> None:
        self._found = found

    def predict_many(self, items: Iterable[Any]) -> Any:
        return self._found(list(items))


STRANGE: dict[str, tuple[Callable[[list[Item]], Any], str]] = {
    "nothing": (lambda items: None, "what strange.predict_many returns must be a list of predictions"),
    "numbers": (lambda items: [5.0 for _ in items], "what strange gives for an item must be a Prediction"),
    "texts as prices": (
        lambda items: [Prediction(item_id="", price=cast("Any", "20")) for _ in items],
        "the price that strange gives must be a number or None, not the text '20'",
    ),
}


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_no_prediction_is_refused_in_our_words(name: str) -> None:
    found, words = STRANGE[name]
    with pytest.raises(WrongArgument, match=re.escape(words)):
        Ensemble([*three(), Gives(found)]).fit(FITTED_ON)


def test_prices_that_are_given_in_another_currency_are_neither_learned_from_nor_mixed() -> None:
    euros = [Prediction(item_id="", price=20.0, currency="EUR")]
    with pytest.raises(DataError, match="are in USD and those of strange in EUR; nothing is converted"):
        Ensemble([Gives(lambda items: euros * len(items)), Dollars()]).fit(FITTED_ON)
    changing = Guesser("changing", lambda price, z: euros[0] if price == 1 else wrong_by(0.4)(price, z))
    ensemble = Ensemble([Dollars(), changing, *three()]).fit(FITTED_ON)
    with pytest.raises(DataError, match="are in USD and those of changing in EUR; nothing is converted"):
        ensemble.predict(Item(title="Thing", price=1.0))


class Dollars(Guesser):
    currency = "USD"

    def __init__(self) -> None:
        super().__init__("dollars", wrong_by(0.4))


class Miscounting:
    name = "miscounting"

    def predict_many(self, items: Iterable[Any]) -> list[Prediction]:
        return [Prediction(item_id=item.id, price=5.0) for item in list(items)[1:]]


def test_a_member_that_gives_too_few_predictions_or_those_of_other_items_is_refused() -> None:
    with pytest.raises(DataError, match="miscounting gave 239 predictions for 240 items"):
        Ensemble([Miscounting()]).fit(FITTED_ON)
    swapped = Guesser("swapped", wrong_by(0.1))
    swapped._predict = lambda item: Prediction(item_id="another", price=5.0)  # type: ignore[method-assign]
    with pytest.raises(DataError, match="swapped gave no prediction for item '1-0'"):
        Ensemble([swapped]).fit(FITTED_ON)


# Services.


def answer(price: str = "$20.00", **usage: int) -> httpx.Response:
    message = {"role": "assistant", "content": price}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return httpx.Response(200, json={"id": "c", "model": "m", "choices": [choice], "usage": usage})


def test_usage_is_summed_and_costs_are_shown(client: openai.OpenAI, service: respx.MockRouter) -> None:
    service.post("/chat/completions").mock(return_value=answer(prompt_tokens=100, completion_tokens=5))
    pricing = TokenPricing(input=1.0, output=2.0)
    models = [Predictor(client, name, pricing=pricing) for name in ("one", "two")]
    items = ItemDataset.from_items(Item(title=f"Lamp {n}", price=15.0 + n) for n in range(10))
    base = MedianBaseline.fit(things(20))
    ensemble = Ensemble([*models, base]).fit(items)
    one, _, free = ensemble.members
    assert (one.tokens, free.tokens) == (105.0, 0.0)
    assert one.cost == pytest.approx(1_000 * (100 * 1.0 + 5 * 2.0) / 1e6)
    assert free.cost == 0.0
    assert "| one | 1.00 |" in str(ensemble)
    assert "1,000 items cost $0.11" in str(ensemble)
    opposite = Guesser("opposite", lambda price, _: 2 * price - 20.0)
    both = Ensemble([models[0], opposite, models[1]]).fit(items)
    asked = sum(both.weights[name] > 0 for name in ("one", "two"))
    assert asked
    assert both.predict(items[0]).usage == Usage(prompt_tokens=100 * asked, completion_tokens=5 * asked)
    assert both.cost is None  # what the other costs, nobody knows


def test_weights_are_not_learned_of_a_member_whose_budget_is_used_up(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    service.post("/chat/completions").mock(return_value=answer(prompt_tokens=100, completion_tokens=5))
    items = ItemDataset.from_items(Item(title=f"Lamp {n}", price=15.0 + n) for n in range(12))
    pricing = TokenPricing(input=1.0, output=1.0)
    poor = Predictor(client, "m", budget=0.0007, pricing=pricing)
    with pytest.raises(OverBudget):
        Ensemble([poor, Guesser("free", wrong_by(0.2))]).fit(items)


def test_a_member_whose_service_fails_is_left_out_and_the_log_says_so(
    client: openai.OpenAI, service: respx.MockRouter, caplog: pytest.LogCaptureFixture
) -> None:
    route = service.post("/chat/completions").mock(return_value=answer("$20.00"))
    items = ItemDataset.from_items(Item(title=f"Lamp {n}", price=18.0 + n / 3) for n in range(20))
    low = Guesser("low", lambda price, _: 2 * price - 20.0)
    ensemble = Ensemble([Predictor(client, "gone"), low]).fit(items)
    assert all(ensemble.weights.values())
    gone = {"error": {"message": "The model `gone` does not exist", "code": "model_not_found"}}
    route.mock(return_value=httpx.Response(404, json=gone))
    found = ensemble.predict_many(items)
    assert [one.price for one in found] == [one.price for one in low.predict_many(items)]
    assert "gone cannot be asked, and the other members price without it" in caplog.text
    # Weights and ranges of an ensemble that is not whole would be those of another.
    again = Ensemble([Predictor(client, "gone"), low])
    for learn in (partial(again.fit, items), partial(ensemble.calibrate, TEST)):
        with pytest.raises(ModelNotFound):
            learn()
    alone = Ensemble([Predictor(client, "gone")])
    alone._restore(replace(ensemble._require_fit(), members=ensemble.members[:1]), alone._members, None)
    with pytest.raises(ModelNotFound):
        alone.predict_many(items)


def test_members_that_ask_services_are_asked_side_by_side(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    asked: list[str] = []

    def reply(request: httpx.Request) -> httpx.Response:
        asked.append("one" if b'"one"' in request.content else "two")
        return answer("$20.00" if asked[-1] == "one" else "$30.00")

    service.post("/chat/completions").mock(side_effect=reply)
    items = ItemDataset.from_items(Item(title=f"Lamp {n}", price=20.0 + n / 2) for n in range(20))
    models = [Predictor(client, name, concurrency=1) for name in ("one", "two")]
    ensemble = Ensemble(models).fit(items)
    assert all(ensemble.weights.values())
    asked.clear()
    stream = ensemble.iter_predict(iter([f"Table {n}" for n in range(200)]))
    assert next(stream).price is not None
    assert set(asked[:12]) == {"one", "two"}
    stream.close()  # type: ignore[attr-defined]
    assert len(asked) < 100  # when the caller stops, nothing more is asked


# Distributions and ranges.


def test_the_distribution_is_a_mixture_around_the_price_and_its_quantiles_hold() -> None:
    told = Guesser(
        "told",
        lambda price, z: Prediction(
            item_id="",
            price=price * math.exp(0.4 * z),
            distribution=Distribution.of(
                ((price * math.exp(0.4 * z + 0.4 * step), 0.2) for step in (-1.3, -0.5, 0.0, 0.5, 1.3)),
                source="samples",
            ),
        ),
    )
    ensemble = Ensemble([told, *three()[1:]]).fit(FITTED_ON)
    found = ensemble.predict_many(TEST)
    held = 0
    for one, item in zip(found, TEST, strict=True):
        assert one.distribution is not None
        assert one.decoding == "ensemble"
        assert one.distribution.source == "mixture"
        assert sum(one.distribution.probabilities) == pytest.approx(1.0)
        assert one.distribution.median == pytest.approx(one.price, rel=0.05)
        low, high = one.distribution.quantile(0.1), one.distribution.quantile(0.9)
        held += low <= (item.price or 0) <= high
    # Members that err independently are less sure together than their mean is right: never too narrow.
    assert 0.8 <= held / N <= 0.99


def test_ranges_hold_what_they_promise() -> None:
    ensemble = Ensemble(three()).fit(FITTED_ON).calibrate(catalogue(seed=5))
    found = Evaluator(rounds=20).evaluate(ensemble, catalogue(600, seed=6))
    assert found.coverage is not None
    assert 0.85 < found.coverage.value < 0.95
    assert found.range_groups


def test_a_member_without_a_distribution_is_as_sure_as_its_errors_were() -> None:
    sure, unsure = (
        Ensemble([Guesser("x", wrong_by(error)), Guesser("y", wrong_by(error))]) for error in (0.1, 0.8)
    )
    spreads = []
    for ensemble in (sure, unsure):
        found = ensemble.fit(FITTED_ON).predict(TEST[0]).distribution
        assert found is not None
        spreads.append(found.spread)
    assert spreads[0] < 0.3 < spreads[1]


# Taken as any other.


def test_evaluator_leaderboard_compare_and_other_ensembles_take_it_as_any() -> None:
    train = things(100)
    validation, test = things(60, seed=3, start=1_000), things(80, seed=4, start=2_000)
    medians: list[Baseline] = [MedianBaseline.fit(train), CategoryMedianBaseline.fit(train)]
    inner = Ensemble([*medians, *three()[:2]]).fit(validation)
    outer = Ensemble([inner, three()[2]]).fit(things(60, seed=6, start=3_000))
    models: list[Ensemble | Baseline] = [inner, outer, *medians]
    evaluations = [Evaluator(rounds=50).evaluate(model, test) for model in models]
    board = Leaderboard(evaluations, rounds=50)
    assert {standing.evaluation.name for standing in board.standings} >= {inner.name, outer.name}
    assert evaluations[0].name == "ensemble of 4"
    beside = Evaluator(rounds=50, beside=[inner]).evaluate(lambda _: 20.0, test)
    assert [one.name for one in beside.baselines] == ["ensemble of 4"]
    assert inner(test[0]) == inner.predict(test[0]).price
    with pytest.raises(NotAnItem):
        inner.predict(5)  # type: ignore[arg-type]


def test_items_of_an_even_sample_count_for_what_they_stand_for() -> None:
    cheap = [Item(title=f"cheap {n}", price=10.0 + n / 100) for n in range(300)]
    dear = [Item(title=f"dear {n}", price=500.0 + n) for n in range(30)]
    sample = ItemDataset.from_items([*cheap, *dear]).sample(60, by="price", seed=1)
    of_cheap = Guesser("cheap", lambda price, _: price if price < 100 else 0.9 * price)
    of_dear = Guesser("dear", lambda price, _: price if price > 100 else 2.0 * price)
    assert len(set(sample.stands_for)) > 1
    errors = {member.name: member.mae for member in Ensemble([of_cheap, of_dear]).fit(sample).members}
    share = 300 / 330
    assert errors["dear"] == pytest.approx(share * 11.5, rel=0.1)


def test_groups_are_held_out_as_a_whole() -> None:
    labels = [number // 2 for number in range(N)]
    found = Ensemble(three()).fit(FITTED_ON, groups=labels)
    assert found.members[0].low < found.members[0].mae < found.members[0].high
    with pytest.raises(DataError, match="a label for each of 240 items"):
        Ensemble(three()).fit(FITTED_ON, groups=[1, 2])
    with pytest.raises(DataError, match="gives all items one label"):
        Ensemble(three()).fit(FITTED_ON, groups=["a"] * N)


def test_the_same_items_and_seed_give_the_same_weights() -> None:
    first, second = (Ensemble(three()).fit(FITTED_ON, seed=7).weights for _ in range(2))
    assert first == second
    with pytest.raises(WrongArgument, match="seed"):
        Ensemble(three()).fit(FITTED_ON, seed=-1)


# The weights themselves.


def guesses(count: int, errors: tuple[float, ...], seed: int = 0) -> Guesses:
    random = np.random.default_rng(seed)
    truths = np.exp(random.normal(4, 1, count))
    prices = np.stack([truths * np.exp(random.normal(0, error, count)) for error in errors], axis=1)
    return Guesses(prices, truths, np.ones(count), float(np.median(truths)))


@pytest.mark.parametrize("count", [2, 3, 10, 300])
@pytest.mark.parametrize("in_logs", [True, False])
def test_weights_are_never_negative_and_sum_to_one(count: int, *, in_logs: bool) -> None:
    weights = learn_weights(guesses(count, (0.2, 0.5, 1.0, 2.0)), in_logs=in_logs, seed=1)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1.0)


def test_fewer_items_leave_weights_nearer_to_equal_ones() -> None:
    few, many = (
        np.mean(
            [learn_weights(guesses(count, (0.3, 0.6), seed), in_logs=True, seed=1) for seed in range(10)],
            axis=0,
        )
        for count in (10, 500)
    )
    assert few[0] < many[0]


def test_equal_models_gain_nothing_and_the_choice_is_honest_about_it() -> None:
    """The error by cross-validation is that on other items, and no smaller."""
    inside, outside = [], []
    for seed in range(12):
        known, new = guesses(60, (0.5, 0.5, 0.5), seed), guesses(2_000, (0.5, 0.5, 0.5), 100 + seed)
        blend = learn_blend(known, seed=1, rounds=10)
        inside.append(blend.mean_error / known.truths.mean())
        found = combine(new.prices, blend.weights, in_logs=blend.in_logs)
        outside.append(np.abs(found - new.truths).mean() / new.truths.mean())
    assert np.mean(inside) > 0.93 * np.mean(outside)


def test_where_a_member_has_no_price_the_other_weights_are_scaled() -> None:
    prices = np.array([[10.0, np.nan], [10.0, 20.0], [np.nan, np.nan]])
    found = combine(prices, np.array([0.5, 0.5]), in_logs=False)
    assert found[:2].tolist() == [10.0, 15.0]
    assert math.isnan(found[2])
