"""What the two predictors share: settings that are checked, and the parts that decide."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, get_args

from .._service import requests
from ..chat import ChatFormatter
from ..errors import DataError, ServiceError
from ..items import Item, require_price
from .conformal import Ranges, check_settings
from .decoding import Decoding
from .dialogue import Abilities, Question, Questioner
from .engine import Engine, id_of
from .rate_limit import MOST, Pace

if TYPE_CHECKING:
    import os
    from collections.abc import Generator, Iterable, Sequence

    from openai import AsyncOpenAI, OpenAI

    from .._service.requests import Answer, Message
    from ..providers.provider import Provider
    from .answer_store import Kept, KeptAnswers
    from .conformal import By
    from .prediction import Prediction

Client = TypeVar("Client", "OpenAI", "AsyncOpenAI")

Request = tuple["Sequence[Message]", dict[str, Any]]
"""What to send: messages, and parameters beside them and the model."""

_MOST_SAMPLES = 128  # by the protocol
_TIMEOUT = 60.0  # seconds; a reply of a dozen tokens that takes longer is not on its way any more
_THINKING_TIMEOUT = 600.0


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """What to ask one model, what was learned about it, and what it said already."""

    model: str
    questioner: Questioner
    abilities: Abilities
    service: Provider
    store: KeptAnswers | None

    def dialogue(self, item: Item | str) -> Generator[Question, Answer, Prediction]:
        """Yield the questions to ask about an item, take their answers, and return the prediction."""
        return self.questioner.about(item, id_of(item))

    def conversation(self, item: Item | str) -> Generator[Request, Answer, Prediction]:
        """Yield the requests that an item needs, take the answers or errors, and return the prediction.

        Answers that are kept are not asked for, and new ones are kept.

        Raises:
            InvalidItem: The text is empty.
            ServiceError: What was thrown in, where nothing can be learned from it.
        """
        dialogue, latency = self.dialogue(item), 0.0
        question = next(dialogue)
        while True:
            answer, took = self.kept(question) or (yield from self._asked(question, id_of(item)))
            latency += took
            try:
                question = dialogue.send(answer)
            except StopIteration as done:
                found: Prediction = done.value
                return replace(found, latency=latency)

    def _asked(self, question: Question, item_id: str) -> Generator[Request, Answer, Kept]:
        from .answer_store import Kept

        while True:
            parameters, asked = self.parameters(question), time.perf_counter()
            try:
                answer = yield question.messages, parameters
            except ServiceError as error:
                if not self.learned(question, parameters, error):
                    raise
            else:
                took = time.perf_counter() - asked
                self.abilities.confirm()
                self.keep(question, item_id, answer, took)
                return Kept(answer, took)

    def key(self, question: Question) -> str:
        """Give what tells a question from others."""
        return self.questioner.key(self.model, question)

    def kept(self, question: Question) -> Kept | None:
        """Give the answer that is there already."""
        return None if self.store is None else self.store.find(self.key(question))

    def keep(self, question: Question, item_id: str, answer: Answer, took: float) -> None:
        """Keep an answer, if there is a store."""
        if self.store is not None and answer.get("choices"):
            self.store.keep(self.key(question), self.model, item_id, answer, took)
            self.store.commit()

    def parameters(self, question: Question) -> dict[str, Any]:
        """Give what goes into the request beside model and messages."""
        return self.abilities.parameters(question, self.questioner.budget)

    def learned(self, question: Question, parameters: dict[str, Any], error: ServiceError) -> bool:
        """Learn from a refusal; say whether to ask again, with other parameters."""
        self.abilities.learn(error)
        return self.parameters(question) != parameters


class Asking(Generic[Client]):
    """A client, a model, and how to ask it; the public classes describe the arguments."""

    _awaits: ClassVar[bool]

    def __init__(
        self,
        client: Client,
        model: str | None,
        *,
        formatter: ChatFormatter | None = None,
        decoding: Decoding = "auto",
        samples: int = 1,
        highest: float | None = None,
        concurrency: int | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        store: str | os.PathLike[str] | None = None,
        provider: str | Provider | None = None,
    ) -> None:
        if not model:
            raise DataError(
                "a predictor needs a model; job.fine_tuned_model is None until job.wait() has returned"
            )
        if requests.is_async(client) is not self._awaits:
            raise DataError("Predictor takes an openai.OpenAI, aio.AsyncPredictor an openai.AsyncOpenAI")
        if decoding not in get_args(Decoding):
            raise DataError(f"decoding must be one of {', '.join(get_args(Decoding))}, not {decoding!r}")
        if not 1 <= samples <= _MOST_SAMPLES:
            raise DataError(f"samples must be 1 to {_MOST_SAMPLES}, not {samples}")
        if concurrency is not None and concurrency < 1:
            raise DataError(f"concurrency must be at least 1, not {concurrency}")
        _above_zero(highest=highest, requests_per_minute=requests_per_minute)
        _above_zero(tokens_per_minute=tokens_per_minute)
        from ..providers.connect import provider_of

        service = provider_of(client, provider)
        self._client: Client = client
        self.model = model
        self.formatter = formatter or ChatFormatter()
        self.concurrency = concurrency
        self._limits = {"requests_per_minute": requests_per_minute, "tokens_per_minute": tokens_per_minute}
        self._exchange = Exchange(
            model=model,
            questioner=Questioner(
                formatter=self.formatter, decoding=decoding, samples=samples, highest=highest
            ),
            abilities=Abilities(model, service),
            service=service,
            store=None if store is None else _opened(store),
        )

    @property
    def ranges(self) -> Ranges | None:
        """What gives predictions their `low` and `high`; None before `calibrate`."""
        return self._exchange.questioner.ranges

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r}, decoding={self._exchange.questioner.decoding!r})"

    @property
    def _most(self) -> int:
        return self.concurrency or MOST

    def _engine(self) -> Engine:
        pace = Pace(most=self.concurrency, **self._limits)
        ours = self._exchange
        return Engine(self.model, ours.questioner, ours.abilities, pace, store=ours.store)

    def _patient(self) -> Client:
        seconds = _THINKING_TIMEOUT if self._exchange.abilities.reasons else _TIMEOUT
        patient: Client = requests.patient(self._client, seconds)
        return patient

    def _calibrated(
        self, predictions: Sequence[Prediction], items: Sequence[Item], coverage: float, by: By | None
    ) -> Self:
        ranges = Ranges.learn(predictions, items, coverage=coverage, by=by)
        made = copy.copy(self)
        questioner = replace(self._exchange.questioner, ranges=ranges)
        made._exchange = replace(self._exchange, questioner=questioner)  # noqa: SLF001 - of the same class
        return made


def _opened(path: str | os.PathLike[str]) -> KeptAnswers:
    from .answer_store import KeptAnswers

    return KeptAnswers(path)


def priced(items: Iterable[Item], coverage: float, by: By | None) -> list[Item]:
    """Give the items, or raise before anything is asked what calibrating on them would raise after it.

    Raises:
        InvalidItem: An item has no price.
        DataError: A setting is out of range, or there are too few items for it.
    """
    found = list(items)
    for row, item in enumerate(found, start=1):
        require_price(item, "calibrating", row)
    check_settings(coverage, by, len(found))
    return found


def _above_zero(**settings: float | None) -> None:
    for name, value in settings.items():
        if value is not None and not 0 < value < math.inf:
            raise DataError(f"{name} must be a number above 0, not {value!r}")
