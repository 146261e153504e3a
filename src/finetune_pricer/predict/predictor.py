"""Asking a model for prices: one item, or many at once."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sized
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

from .. import _wire
from .._progress import track
from ..chat import ChatFormatter
from ..errors import AccessDenied, DataError, ModelNotFound, PricerError, ServiceError
from ..items import Item
from .decoding import Decoding
from .prediction import Prediction, Predictions
from .questions import Abilities, Questioner

if TYPE_CHECKING:
    from openai import OpenAI

    from .questions import Question

__all__ = ["Prediction", "Predictions", "Predictor"]

_CONCURRENCY = 8
_MOST_SAMPLES = 128  # by the protocol


class _Halt:
    """The error after which asking on is useless, once it has come."""

    error: PricerError | None = None


class Predictor:
    """Asks a model for prices, in the words that it was trained on.

    Args:
        client: Any `openai.OpenAI`.
        model: A tuned model's name, such as `job.fine_tuned_model`, or any chat model.
        formatter: The one that wrote the training file.
        decoding: How to take the price from what the model knows. `auto` asks for one reply and its token
            probabilities, and gives their median where they tell amounts (see the how-to page "better prices
            without more training"), else the reply. `median` and `mean` give those of the token
            probabilities, with `samples` those of the samples; where there is no evidence, the reply.
            `greedy` is always the most likely reply.
        samples: How many replies to buy for each item where more than one is needed: with `median` and `mean`
            always, with `auto` for items whose token probabilities tell nothing. With 1 none are bought.
        highest: The highest price that a reply may name, in dollars. Keeps replies short, and below $1,000
            says that a token of three digits is the whole amount.
        concurrency: How many questions are under way at once in `predict_many`.

    Raises:
        DataError: `model` is empty, as `job.fine_tuned_model` is before the job has succeeded, or a setting
            is out of range.
    """

    def __init__(
        self,
        client: OpenAI,
        model: str | None,
        *,
        formatter: ChatFormatter | None = None,
        decoding: Decoding = "auto",
        samples: int = 1,
        highest: float | None = None,
        concurrency: int | None = None,
    ) -> None:
        if not model:
            raise DataError(
                "a predictor needs a model; job.fine_tuned_model is None until job.wait() has returned"
            )
        if decoding not in get_args(Decoding):
            raise DataError(f"decoding must be one of {', '.join(get_args(Decoding))}, not {decoding!r}")
        if not 1 <= samples <= _MOST_SAMPLES:
            raise DataError(f"samples must be 1 to {_MOST_SAMPLES}, not {samples}")
        if highest is not None and not 0 < highest < float("inf"):
            raise DataError(f"highest must be a price above 0, not {highest!r}")
        if concurrency is not None and concurrency < 1:
            raise DataError(f"concurrency must be at least 1, not {concurrency}")
        self._client = client
        self.model = model
        self.formatter = formatter or ChatFormatter()
        self.concurrency = concurrency or _CONCURRENCY
        self._questioner = Questioner(
            formatter=self.formatter, decoding=decoding, samples=samples, highest=highest
        )
        self._abilities = Abilities(model)

    def predict(self, item: Item | str) -> Prediction:
        """Ask for the price of one item, priced or not, or of a text.

        A reply without a price is a `Prediction` whose price is None and whose `error` says why.

        Raises:
            InvalidItem: The text is empty.
            ServiceError: The service refuses (such as `ModelNotFound`) or does not answer.
        """
        asked = time.perf_counter()
        questions = self._questioner.about(item, _id_of(item))
        question = next(questions)
        while True:
            answer = self._asked(question)
            try:
                question = questions.send(answer)
            except StopIteration as done:
                found: Prediction = done.value
                return replace(found, latency=time.perf_counter() - asked)

    def _asked(self, question: Question) -> _wire.Answer:
        while True:
            parameters = self._abilities.parameters(question, self._questioner.budget)
            try:
                return _wire.chat(self._client, self.model, question.messages, **parameters)
            except ServiceError as error:
                self._abilities.learn(error)
                if self._abilities.parameters(question, self._questioner.budget) == parameters:
                    raise

    def __call__(self, item: Item | str) -> float | None:
        """Give just the price in dollars, or None where the reply holds none."""
        return self.predict(item).price

    def predict_many(self, items: Iterable[Item | str]) -> Predictions:
        """Ask for many prices at once, with a progress bar; the order is kept.

        An item that fails carries its error and does not touch the others.

        Raises:
            ServiceError: The model does not exist or the key is refused, and not one answer was received.
                After the first answer such an error is kept with the items that it struck.
        """
        total = len(items) if isinstance(items, Sized) else None
        return Predictions(track(self.iter_predict(items), total=total, doing="pricing"))

    def iter_predict(self, items: Iterable[Item | str]) -> Iterator[Prediction]:
        """Do the same one after the other as answers come, in order; memory does not grow with the items."""
        from concurrent.futures import Future, ThreadPoolExecutor

        halt, answered = _Halt(), False
        pending: deque[Future[Prediction]] = deque()
        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="finetune-pricer")
        try:
            waiting = iter(items)
            while True:
                # A few more than are under way, so that one slow answer at the head does not idle the others.
                while len(pending) < 4 * self.concurrency and (item := next(waiting, None)) is not None:
                    pending.append(pool.submit(self._kept, item, halt))
                if not pending:
                    return
                prediction = pending.popleft().result()
                answered = answered or prediction.text is not None
                if halt.error is not None and not answered:
                    raise halt.error
                yield prediction
        finally:
            pool.shutdown(cancel_futures=True)

    def _kept(self, item: Item | str, halt: _Halt) -> Prediction:
        if halt.error is not None:
            return Prediction(item_id=_id_of(item), price=None, error=str(halt.error))
        try:
            return self.predict(item)
        except PricerError as error:
            if isinstance(error, AccessDenied | ModelNotFound):
                halt.error = error
            return Prediction(item_id=_id_of(item), price=None, error=str(error))


def _id_of(item: Item | str) -> str:
    if isinstance(item, Item):
        return item.id
    return Item(title=item).id if item.strip() else ""
