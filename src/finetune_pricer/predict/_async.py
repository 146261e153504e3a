"""The same asking for async code: only the awaiting."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Sized
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Self

from .. import _wire
from .._progress import progress_bar
from ..errors import ServiceError
from .asking import Asking, priced
from .batch import AsyncBatchRun
from .engine import id_of
from .prediction import Prediction, Predictions
from .running import in_tasks

if TYPE_CHECKING:
    from openai import AsyncOpenAI  # noqa: F401 - the base's parameter

    from ..items import Item
    from .engine import Sending
    from .questions import Question


class AsyncPredictor(Asking["AsyncOpenAI"]):
    """What `Predictor` is, for `openai.AsyncOpenAI`: the same names, arguments and predictions.

    `await predictor.predict(item)`, `await predictor(item)`, `await predictor.predict_many(items)`, and
    `async for prediction in predictor.iter_predict(items)`. Cancelling the task cancels what is under way.
    """

    _awaits = True

    async def predict(self, item: Item | str) -> Prediction:
        """Ask for the price of one item, priced or not, or of a text; see `Predictor.predict`."""
        dialogue, latency = self._exchange.dialogue(item), 0.0
        question = next(dialogue)
        while True:
            answer, took = await self._asked(question, item)
            latency += took
            try:
                question = dialogue.send(answer)
            except StopIteration as done:
                found: Prediction = done.value
                return replace(found, latency=latency)

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

        async def send(sending: Sending) -> _wire.Reply:
            return await _wire.aask(client, self.model, sending.messages, sending.parameters)

        return in_tasks(self._engine(), items, send)

    async def calibrate(
        self, items: Iterable[Item], *, coverage: float = 0.9, by: Literal["category", "price"] | None = None
    ) -> Self:
        """Give a predictor whose predictions have price ranges; see `Predictor.calibrate`."""
        known = priced(items)
        return self._calibrated(await self.predict_many(known), known, coverage, by)

    async def predict_batch(self, items: Iterable[Item | str]) -> AsyncBatchRun:
        """Hand the questions to the Batch API; see `Predictor.predict_batch`."""
        return await AsyncBatchRun(self._client, self._exchange, items).submit()

    async def _asked(self, question: Question, item: Item | str) -> tuple[_wire.Answer, float]:
        if kept := self._exchange.kept(question):
            return kept
        while True:
            parameters = self._exchange.parameters(question)
            asked = time.perf_counter()
            try:
                answer, _ = await _wire.aask(self._client, self.model, question.messages, parameters)
            except ServiceError as error:
                if not self._exchange.learned(question, parameters, error):
                    raise
            else:
                took = time.perf_counter() - asked
                self._exchange.keep(question, id_of(item), answer, took)
                return answer, took
