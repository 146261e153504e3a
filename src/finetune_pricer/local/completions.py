"""Chat: a tuned model's price in the reply form that it learned; a base model's excuse."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np
from starlette.concurrency import run_in_threadpool

from .._chat_protocol import text_of
from .api.responses import invalid_value, model_not_found
from .completion import Choice, Completion
from .jobs.worker import BASES
from .learners.sparse.model import PriceModel
from .learners.sparse.reply_format import tokens_of
from .learners.sparse.reply_trie import GREEDY_BELOW, Spoken
from .learners.sparse.training_file import CONTEXT, problem_in, prompt_of

if TYPE_CHECKING:
    from .api.requests import ChatBody
    from .database import Database
    from .faults import FaultInjector

UNTRAINED = "I have not been trained to price anything."
_LOADED = 4  # models kept in memory; one of 5,000 listings takes about 40 MB


class Answers:
    """Answers chat requests; loads a model when it is first asked, and keeps the latest few."""

    def __init__(self, database: Database, injector: FaultInjector) -> None:
        self._database = database
        self._injector = injector
        self._lock = threading.Lock()
        self._loaded: OrderedDict[str, PriceModel] = OrderedDict()

    async def complete(self, body: ChatBody) -> Completion:
        """Return a completion; raise an `ApiError` where the request cannot be served."""
        if body.model in self._loaded or body.model in BASES:
            return self.answer(body)
        return await run_in_threadpool(self.answer, body)

    def answer(self, body: ChatBody) -> Completion:
        """Do the same, loading the model in this thread if that must be done."""
        problem = problem_in(body.messages)
        if problem is not None:
            raise invalid_value(f"Invalid value for 'messages': {problem}.", "messages")
        _refuse_contradictions(body)
        model = self._model(body.model)
        read = tokens_read(body)
        if read > CONTEXT:
            message = (
                f"This model's maximum context length is {CONTEXT} tokens. However, your messages resulted "
                f"in {read} tokens. Please reduce the length of the messages."
            )
            raise invalid_value(message, "messages", code="context_length_exceeded")
        choices = [Choice.of(tokens, body) for tokens in _replies(body, model)]
        return Completion(body, choices, read)

    def forget(self, name: str) -> None:
        """Drop a deleted model from memory."""
        with self._lock:
            self._loaded.pop(name, None)

    def _model(self, name: str) -> PriceModel | None:
        if self._injector.is_shut_down():
            raise model_not_found(name)
        if name in BASES:
            return None
        # Looked up each time: it may have been deleted, also as a checkpoint that newer ones replaced.
        stored = self._database.find_model(name)
        if stored is None:
            raise model_not_found(name)
        with self._lock:
            model = self._loaded.get(name)
            if model is None:
                arrays, rest = (self._database.blobs.path(sha256) for sha256 in stored.files.values())
                model = PriceModel.load(arrays.read_bytes(), rest.read_bytes()).warm()
                self._loaded[name] = model
            self._loaded.move_to_end(name)
            while len(self._loaded) > _LOADED:
                self._loaded.popitem(last=False)
        return model


def _refuse_contradictions(body: ChatBody) -> None:
    if body.top_logprobs and not body.logprobs:
        raise invalid_value("'top_logprobs' is only allowed when 'logprobs' is enabled.", "top_logprobs")
    if body.stream_options is not None and not body.stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise invalid_value(message, "stream_options")
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        message = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
        raise invalid_value(message, "max_tokens", code="invalid_parameter_combination")


def tokens_read(body: ChatBody) -> int:
    """Return how many tokens a request's messages have; an estimate, but for prices and digits."""
    return 3 + sum(4 + len(tokens_of(text_of(message))) for message in body.messages)


def _replies(body: ChatBody, model: PriceModel | None) -> list[list[Spoken]]:
    count = body.n or 1
    if model is None:
        return [[Spoken(token, 0.0, [(token, 0.0)]) for token in tokens_of(UNTRAINED)]] * count
    talk = model.talk(prompt_of(body.messages))
    temperature = 1.0 if body.temperature is None else body.temperature
    alternatives = (body.top_logprobs or 0) if body.logprobs else 0
    if temperature < GREEDY_BELOW:
        return [talk.say(temperature=0, alternatives=alternatives)] * count
    random = np.random.default_rng(None if body.seed is None else body.seed % 2**63)
    top_p = 1.0 if body.top_p is None else body.top_p
    return [
        talk.say(temperature=temperature, top_p=top_p, random=random, alternatives=alternatives)
        for _ in range(count)
    ]
