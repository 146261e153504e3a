"""What `Predictor` and `AsyncPredictor` share: settings that are checked, and the dialogue with the model."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sized
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, get_args

from .._arguments import (
    looks_like_key,
    require_choice,
    require_client,
    require_formatter,
    require_mapping,
    require_number,
    require_path,
    require_text,
    require_whole,
)
from .._display import shorten
from .._format import agree_on_currency
from .._numbers import to_plain
from .._progress import track
from .._service.account import owner_of, service_of
from .._service.requests import note_process, without_retries
from ..chat import ChatFormatter
from ..errors import DataError, FileAccessError, NotConfigured
from ..items import Item, require_item, require_items, require_price, require_questions
from ..providers.connect import aconnect, connect
from ..providers.lookup import get_providers, provider_of
from .answer_store import AnswerStore
from .budget import find_pricing_of, make_budget
from .conformal import Ranges, check_settings
from .decoding import Decoding
from .dialogue import Dialogue
from .engine import FEW, Engine
from .parameters import ModelParameters
from .plain_forms import formatter_from_plain, formatter_to_plain, require_plain_formatter
from .prediction import Predictions
from .question_file import read_answers, write_questions
from .rate_limit import MAX_IN_FLIGHT, RateLimit
from .saved_pricer import SavedPricer

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from openai import AsyncOpenAI, OpenAI

    from ..providers.pricing import TokenPricing
    from ..providers.provider import Provider
    from .prediction import Prediction, Usage
    from .question_file import Paths
    from .range_groups import By
    from .saved_pricer import Access

Client = TypeVar("Client", "OpenAI", "AsyncOpenAI")

_CARRIERS = ("extra_headers", "extra_query")  # the parameters in which keys are sent
_MAY_BE_KEY = re.compile("auth|cookie|key|pass|secret|sig|token", re.IGNORECASE)  # in the name of one
_MOST_SAMPLES = 128  # by the protocol
_TIMEOUT = 60.0  # seconds; a reply of a dozen tokens that takes longer is not on its way any more
_THINKING_TIMEOUT = 600.0


class BasePredictor(SavedPricer, Generic[Client]):
    """A client, a model, and the dialogue with it; the public classes describe the arguments."""

    _awaits: ClassVar[bool]
    _kind: ClassVar[str] = "Predictor"

    model: str
    """Its name at the service."""

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
        budget: float | None = None,
        pricing: TokenPricing | None = None,
        answer_parameters: Mapping[str, Any] | None = None,
    ) -> None:
        require_client(client, model, awaits=self._awaits)
        require_number("budget", budget, low=0, or_none=True)
        hint = "job.fine_tuned_model is the model of a job" if hasattr(model, "fine_tuned_model") else ""
        require_text("model", model, hint, or_none=True)
        if not model:
            raise DataError(
                "a predictor needs a model; job.fine_tuned_model is None until job.wait() has returned"
            )
        if formatter is not None:
            require_formatter(formatter)
        require_choice("decoding", decoding, get_args(Decoding))
        require_whole("samples", samples, low=1, high=_MOST_SAMPLES)
        require_whole("concurrency", concurrency, low=1, or_none=True)
        require_number("highest", highest, above=0, or_none=True)
        require_number("requests_per_minute", requests_per_minute, above=0, or_none=True)
        require_number("tokens_per_minute", tokens_per_minute, above=0, or_none=True)
        require_path("store", store, or_none=True)
        if answer_parameters is not None:
            require_mapping("answer_parameters", answer_parameters, "parameters of a request by their names")
        samples, concurrency, highest = map(to_plain, (samples, concurrency, highest))
        service = provider_of(client, provider)
        note_process(client)
        self._client: Client = client
        self.model, self._pricing = model, pricing
        self.formatter: ChatFormatter = formatter or ChatFormatter()
        self.concurrency = concurrency
        limits = {"requests_per_minute": requests_per_minute, "tokens_per_minute": tokens_per_minute}
        self._limits = {name: to_plain(limit) for name, limit in limits.items()}
        self._dialogue = Dialogue(
            model=model,
            provider=service,
            formatter=self.formatter,
            decoding=decoding,
            samples=samples,
            highest=highest,
            parameters=ModelParameters(model, service, answer_parameters),
            store=None if store is None else _open_store(store),
            asked_of=(service_of(client), owner_of(client)),
            budget=make_budget(budget, model, service.name, pricing),
        )

    @property
    def ranges(self) -> Ranges | None:
        """What gives predictions their `low` and `high`; None before `calibrate`."""
        return self._dialogue.ranges

    @property
    def service(self) -> str:
        """The name of the service that is asked, as `connect` knows it; of an unknown one its host."""
        return self._dialogue.provider.name

    @property
    def spent(self) -> float | None:
        """Dollars that the questions of this predictor cost by now; None without `budget=`."""
        budget = self._dialogue.budget
        return None if budget is None else budget.spent

    def most_for(self, items: Iterable[Item]) -> float | None:
        """Return the most dollars that one question about each item can cost; None without `budget=`."""
        budget = self._dialogue.budget
        return None if budget is None else budget.most_for_items(self._dialogue, items)

    def require_budget_left(self) -> None:
        """Make sure that no question was left out for want of dollars.

        Raises:
            OverBudget: One was.
        """
        budget = self._dialogue.budget
        if budget is not None and budget.problem is not None:
            raise budget.problem

    def __repr__(self) -> str:
        return f"{type(self).__name__}({shorten(self.model)}, decoding={self._dialogue.decoding!r})"

    @property
    def _max_in_flight(self) -> int:
        return self.concurrency or MAX_IN_FLIGHT

    def _make_engine(self, items: object = ()) -> Engine:
        require_questions(items)
        require_currency_of(items, self.formatter)
        rate_limit = RateLimit(most=self.concurrency, **self._limits)
        is_catalogue = not isinstance(items, Sized) or len(items) > FEW
        return Engine(self._dialogue, rate_limit, asks_one_first=is_catalogue)

    def _client_for_one(self) -> Client:
        # What the client sends again by itself is in no budget.
        if self._dialogue.budget is None:
            return self._client
        client: Client = self._client.with_options(max_retries=0)
        return client

    def _clients_for_many(self) -> Callable[[], Client]:
        """Return what gives the client for the next question: a patient one where the model thinks first."""
        # The engine repeats requests itself: only so it sees the refusals, and keeps under a limit.
        quick: Client = without_retries(self._client, _TIMEOUT)
        patient: Client = without_retries(self._client, _THINKING_TIMEOUT)
        return lambda: patient if self._dialogue.parameters.takes_long else quick

    def _write_batch(self, items: Iterable[Item | str], path: str | os.PathLike[str]) -> int:
        require_questions(items)
        require_currency_of(items, self.formatter)
        return write_questions(self._dialogue, items, path)

    def _read_batch(self, items: Iterable[Item | str], path: Paths) -> Predictions:
        require_questions(items)
        require_currency_of(items, self.formatter)
        total = len(items) if isinstance(items, Sized) else None
        return Predictions(track(read_answers(self._dialogue, items, path), total=total, doing="reading"))

    def price_usage(self, usage: Usage) -> float | None:
        """Return the dollars that so many tokens of this model cost; None where nobody knows."""
        pricing = self._pricing or find_pricing_of(self.model, self.service)
        if pricing is None or pricing.input is None or pricing.output is None:
            return None
        return (usage.prompt_tokens * pricing.input + usage.completion_tokens * pricing.output) / 1_000_000

    def _require_savable(self) -> None:
        require_plain_formatter(self.formatter)
        _require_no_key(self._dialogue.parameters.theirs)

    def _to_saved(self, parts: Path) -> dict[str, Any]:
        dialogue = self._dialogue
        return {
            "model": self.model,
            "provider": self.service,
            "name": getattr(self, "name", None),
            "decoding": dialogue.decoding,
            "samples": dialogue.samples,
            "highest": dialogue.highest,
            "concurrency": self.concurrency,
            **self._limits,
            "answer_parameters": dialogue.parameters.theirs or None,
            "formatter": formatter_to_plain(self.formatter, parts),
        }

    @classmethod
    def _from_saved(cls, content: dict[str, Any], parts: Path, access: Access) -> Self:
        settings = dict(content)
        provider, name = settings.pop("provider"), settings.pop("name")
        client = access.client
        if client is None or (access.of_several and provider_of(client).name != provider):
            client = _connect(cls, provider)
        settings["formatter"] = formatter_from_plain(settings["formatter"], parts, access.embed)
        made = cls.__new__(cls)  # its own kind may take other arguments
        BasePredictor.__init__(
            made,
            client,
            provider=access.provider,
            store=access.store,
            budget=access.budget,
            pricing=access.pricing,
            **settings,
        )
        if name is not None:
            vars(made)["name"] = name  # which some kinds have
        return made

    def _set_ranges(self, ranges: Ranges) -> None:
        self._dialogue = replace(self._dialogue, ranges=ranges)

    def _with_ranges(
        self, predictions: Sequence[Prediction], items: Sequence[Item], coverage: float, by: By | None
    ) -> Self:
        ranges = Ranges.learn(predictions, items, coverage=coverage, by=by)
        made = copy.copy(self)
        made._set_ranges(ranges)  # noqa: SLF001 - of the same class
        return made


def _connect(wanted: type[BasePredictor[Any]], provider: str) -> Any:
    """Return a client of a saved predictor's service.

    Raises:
        NotConfigured: Nobody knows the service, or its key is not set.
    """
    if provider not in get_providers():
        raise NotConfigured(
            f"this predictor asked a service at {provider!r}, which connect() does not know; hand in the "
            "client: load(folder, client)"
        )
    return aconnect(provider) if wanted._awaits else connect(provider)  # noqa: SLF001 - of this file


def _require_no_key(parameters: Mapping[str, Any]) -> None:
    """Refuse to write down what looks like a key, or goes where keys go."""
    carried = [name for place in _CARRIERS for name in parameters.get(place) or ()]
    if any(map(_MAY_BE_KEY.search, map(str, carried))) or any(map(looks_like_key, _list_texts(parameters))):
        raise DataError(
            "answer_parameters hold a text that looks like a key, and keys are not saved; make the "
            "predictor without it, and let the client carry the key"
        )


def _list_texts(value: object) -> Iterator[str]:
    """Yield all texts in what JSON can hold, wherever they stand."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from _list_texts(name)
            yield from _list_texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _list_texts(each)


def _open_store(path: str | os.PathLike[str]) -> AnswerStore:
    store = AnswerStore(path)
    if store.is_read_only:
        raise FileAccessError(
            f"cannot keep answers in {str(path)!r}: it is read-only; AnswerStore reads it, a predictor needs "
            "one that it can write to"
        )
    return store


def require_currency_of(items: object, pricer: ChatFormatter | SavedPricer) -> None:
    """Make sure that items have their prices in the currency in which a formatter or a pricer gives them.

    Raises:
        DataError: They say another.
    """
    name = "the pricer" if isinstance(pricer, SavedPricer) else "the formatter"
    said = {"the items": getattr(items, "currency", None), name: getattr(pricer, "currency", None)}
    agree_on_currency(said)


def check_calibration_items(
    items: Iterable[Item], pricer: ChatFormatter | SavedPricer, coverage: float, by: By | None
) -> list[Item]:
    """Return the items; raise, before anything is asked, what calibrating on them would raise after it.

    Raises:
        InvalidItem: An item has no price, or one of 0 of which nobody said what it means.
        DataError: A setting is out of range, or there are too few items for it, or their prices are in
            another currency than the pricer's.
    """
    require_items(items)
    require_currency_of(items, pricer)
    zero_is, found = getattr(items, "zero_is", None), list(items)
    for row, item in enumerate(found, start=1):
        require_item(item, row)
        require_price(item, "calibrating", row, zero_is)
    check_settings(coverage, by, len(found))
    return found
