"""The async predictor: the same names, parameters and predictions as the sync one."""

import asyncio
import inspect

import openai
import pytest

from finetune_pricer import Predictor
from finetune_pricer.aio import AsyncPredictor
from stub_service import StubService

NAMES = [*sorted(name for name in vars(Predictor) if not name.startswith("_")), "__call__", "__init__"]


def shape(function: object) -> list[tuple[str, object, object]]:
    assert callable(function)
    parameters = inspect.signature(function).parameters.values()
    # Who awaits sleeps otherwise.
    return [(each.name, each.kind, each.default if each.name != "sleep" else None) for each in parameters]


def test_both_have_the_same_names() -> None:
    assert [name for name in dir(Predictor) if not name.startswith("_")] == [
        name for name in dir(AsyncPredictor) if not name.startswith("_")
    ]


@pytest.mark.parametrize("name", NAMES)
def test_each_name_takes_the_same_parameters(name: str) -> None:
    assert shape(getattr(AsyncPredictor, name)) == shape(getattr(Predictor, name))


def test_both_give_the_same_predictions_for_the_same_items() -> None:
    items = [f"thing number {number}" for number in range(60)]

    async def theirs(url: str) -> list[object]:
        async with openai.AsyncOpenAI(base_url=url, api_key="x") as client:
            predictor = AsyncPredictor(client, "m")
            many = list(await predictor.predict_many(items))
            streamed = [prediction async for prediction in predictor.iter_predict(items)]
            assert [found.price for found in streamed] == [found.price for found in many]
            assert await predictor(items[0]) == (await predictor.predict(items[0])).price == many[0].price
            return [(found.item_id, found.price, found.text, found.usage) for found in many]

    with StubService() as service:
        with openai.OpenAI(base_url=service.url, api_key="x") as client:
            ours = Predictor(client, "m").predict_many(items)
        found = asyncio.run(theirs(service.url))
    assert found == [(each.item_id, each.price, each.text, each.usage) for each in ours]


def test_a_client_of_the_other_kind_is_refused_at_once() -> None:
    from finetune_pricer.errors import DataError

    with pytest.raises(DataError, match="AsyncPredictor"):
        Predictor(openai.AsyncOpenAI(api_key="x"), "m")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="AsyncOpenAI"):
        AsyncPredictor(openai.OpenAI(api_key="x"), "m")  # type: ignore[arg-type]
