"""Numbers of numpy, `Decimal` and `Fraction` count as Python's own, wherever numbers are taken."""

import json
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import openai
import pytest

from finetune_pricer import Evaluator, Item, ItemDataset, Predictor, audit, estimate_cost
from finetune_pricer.errors import DataError, EvaluationError
from finetune_pricer.evaluate import Sweep
from finetune_pricer.prepare import TokenCount
from finetune_pricer.providers import PROVIDERS, TokenPricing
from finetune_pricer.tune.cost import require_within_budget
from finetune_pricer.tune.spec import JobSpec
from helpers import priced

MODEL = "gpt-4.1-mini-2025-04-14"
MESSAGES = [[{"role": "user", "content": "Item?"}, {"role": "assistant", "content": "$5"}]]
HALVES = [0.5, Decimal("0.5"), Fraction(1, 2), np.float64(0.5), np.float32(0.5), np.float16(0.5)]
THREES = [3, np.int64(3), np.int8(3), np.uint16(3)]
NO_NUMBERS: list[Any] = ["3", True, np.True_, None, [3], float("nan"), Decimal("NaN"), -1, Decimal(-1)]


def cost(**options: Any) -> Any:
    settings: dict[str, Any] = {"epochs": 1} | options
    return estimate_cost(MESSAGES, model=MODEL, **settings)


@pytest.mark.parametrize("half", HALVES, ids=repr)
def test_a_price_of_any_type_gives_the_same_cost(half: Any) -> None:
    assert cost(price=half) == cost(price=0.5)
    own = TokenPricing(train=half, input=half, output=half, hosting_per_hour=half)
    assert own == TokenPricing(train=0.5, input=0.5, output=0.5, hosting_per_hour=0.5)
    assert {type(own.train), type(own.hosting_per_hour)} == {float}
    require_within_budget(cost(price=1000), half)


@pytest.mark.parametrize("three", THREES, ids=repr)
def test_counts_of_any_type_give_the_same_cost(three: Any) -> None:
    mine = TokenPricing(train=1, input=1, output=1)
    found = cost(price=mine, epochs=three, predictions=three, samples=three)
    assert found == cost(price=mine, epochs=3, predictions=3, samples=3)
    assert "3 epochs" in str(found)
    assert {type(found.epochs), type(found.predictions), type(found.samples)} == {int}


@pytest.mark.parametrize("name", ["epochs", "predictions", "samples"])
@pytest.mark.parametrize("value", [*NO_NUMBERS, 2.5, 3.0, np.float64(3)], ids=repr)
def test_a_count_that_is_none_is_refused(name: str, value: Any) -> None:
    with pytest.raises(DataError, match=f"{name} must be a number of at least"):
        cost(**{name: value})


@pytest.mark.parametrize("value", [value for value in NO_NUMBERS if value is not None], ids=repr)
def test_a_price_or_a_budget_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(
        DataError, match=r"price must be a number of at least 0|train must be a number of dollars"
    ):
        cost(price=value)
    with pytest.raises(DataError, match="budget must be a number of dollars"):
        require_within_budget(cost(price=1), value)


def test_a_count_that_was_made_takes_them_too() -> None:
    tokens = TokenCount(
        examples=1, billed=10, prompts=6, replies=2, longest=10, longest_line=1, exact=True, counted_by="x"
    )
    some_epochs: Any = THREES[1]
    some_price: Any = HALVES[1]
    found = estimate_cost(tokens, model=MODEL, epochs=some_epochs, price=some_price)
    assert found.training == pytest.approx(10 * 3 * 0.5 / 1e6)


@pytest.mark.parametrize("three", THREES, ids=repr)
@pytest.mark.parametrize("half", HALVES, ids=repr)
def test_settings_of_a_job_are_the_same_job_and_can_be_sent(three: Any, half: Any) -> None:
    def spec(count: Any, factor: Any) -> JobSpec:
        settings = {"epochs": count, "batch_size": count, "learning_rate_multiplier": factor, "seed": count}
        return JobSpec.make("file-1", model=MODEL, provider=PROVIDERS["openai"], **settings)

    assert spec(three, half).hash == spec(3, 0.5).hash
    sent = spec(three, half).request("file-1", None, "t")
    assert json.dumps(sent) == json.dumps(spec(3, 0.5).request("file-1", None, "t"))


PAIR = ItemDataset.from_items(priced(2))


def given(value: Any) -> Any:
    return "none" if value is None else value  # None is the default of most parameters


WRONG: list[tuple[Callable[[Any, openai.OpenAI], Any], str]] = [
    (lambda value, client: Predictor(client, "m", samples=value), "samples must be"),
    (lambda value, client: Predictor(client, "m", concurrency=given(value)), "concurrency must be"),
    (lambda value, client: Predictor(client, "m", highest=given(value)), "highest must be a number"),
    (
        lambda value, _: Evaluator(size=given(value)).draw(priced(20)),
        "size must be (at least 1|a whole number)",
    ),
    (lambda value, _: audit(PAIR, similarity=given(value)), "similarity must"),
]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
@pytest.mark.parametrize(("how", "words"), WRONG, ids=[words for _, words in WRONG])
def test_what_is_no_number_is_refused_with_the_parameters_name(
    how: Callable[[Any, openai.OpenAI], Any], words: str, value: Any, client: openai.OpenAI
) -> None:
    with pytest.raises((DataError, EvaluationError), match=words):
        how(value, client)


def test_predictors_evaluators_sweeps_and_audits_take_them(client: openai.OpenAI) -> None:
    settings: dict[str, Any] = {
        "samples": np.int64(3),
        "concurrency": np.int32(4),
        "highest": Decimal(500),
        "budget": Decimal("1.5"),
    }
    prices: dict[str, Any] = {"input": Decimal(1), "output": np.float32(2)}
    found = Predictor(client, "m", pricing=TokenPricing(**prices), **settings)
    assert found.concurrency == 4
    assert found.spent == 0.0
    size: Any = np.int64(5)
    assert Evaluator(size=size).draw(priced(20)) == Evaluator(size=5).draw(priced(20))
    items = ItemDataset.from_items(Item(title=f"a lamp of brass number {n}", price=5) for n in range(20))
    half: Any = np.float32(0.5)
    assert audit(items, similarity=half).findings == audit(items, similarity=0.5).findings
    sizes: dict[str, Any] = {"sizes": [np.int64(10)], "epochs": [np.int8(2)], "budget": Decimal(2)}
    for numbers in (sizes, {"sizes": [10], "epochs": [2], "budget": 2.0}):
        made = Sweep(clients=client, train=items, test=items, models=["m"], folder="sweep", **numbers)
        assert (made.budget, made.sizes, made.epochs) == (2.0, (10,), (2,))
        assert json.dumps(made.trials()[0].size) == "10"
