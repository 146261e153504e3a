"""The same asking for async code: only the awaiting."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sized
from typing import TYPE_CHECKING, Literal, Self

from .._progress import progress_bar
from .._service import requests
from .._service.driving import adrive
from ._base import Asking, priced
from .batch import AsyncBatchRun
from .prediction import Prediction, Predictions
from .runners import in_tasks

if TYPE_CHECKING:
    from openai import AsyncOpenAI  # noqa: F401 - the base's parameter

    from ..items import Item
    from ._base import Request
    from .engine import Sending


class AsyncPredictor(Asking["AsyncOpenAI"]):
    """What `Predictor` is, for `openai.AsyncOpenAI`: the same names, arguments and predictions.

    `await predictor.predict(item)`, `await predictor(item)`, `await predictor.predict_many(items)`, and
    `async for prediction in predictor.iter_predict(items)`. Cancelling the task cancels what is under way.
    """

    _awaits = True

    async def predict(self, item: Item | str) -> Prediction:
        """Ask for the price of one item, priced or not, or of a text; see `Predictor.predict`."""

        async def send(request: Request) -> requests.Answer:
            return (await requests.aask(self._client, self.model, *request))[0]

        return await adrive(self._exchange.conversation(item), send)

    async def __call__(self, item: Item | str) -> float | None:
        """Give just the price in dollars, or None where the reply holds none."""
        return (await self.predict(item)).price

    async def predict_many(self, items: Iterable[Item | str]) -> Predictions:
        """Ask for many prices at once, with a progress bar; see `Predictor.predict_many`."""
        total, failures = len(items) if isinstance(items, Sized) else None, 0
        found: list[Prediction] = []
        with progress_bar(total=total, doing="pricing") as bar:
            async for prediction in self.iter_predict(items):
                found.append(prediction)
                if prediction.price is None:
                    failures += 1
                    bar.set_postfix(failed=failures, refresh=False)
                bar.update()
        return Predictions(found)

    def iter_predict(self, items: Iterable[Item | str]) -> AsyncIterator[Prediction]:
        """Do the same one after the other as answers come, in order; see `Predictor.iter_predict`."""
        client = self._patient()

        async def send(sending: Sending) -> requests.Reply:
            return await requests.aask(client, self.model, sending.messages, sending.parameters)

        return in_tasks(self._engine(), items, send, self._most)

    async def calibrate(
        self, items: Iterable[Item], *, coverage: float = 0.9, by: Literal["category", "price"] | None = None
    ) -> Self:
        """Give a predictor whose predictions have price ranges; see `Predictor.calibrate`."""
        known = priced(items, coverage, by)
        return self._calibrated(await self.predict_many(known), known, coverage, by)

    async def predict_batch(self, items: Iterable[Item | str]) -> AsyncBatchRun:
        """Hand the questions to the Batch API; see `Predictor.predict_batch`."""
        return await AsyncBatchRun(self._client, self._exchange, items).submit()
