"""Chat completions: a tuned model's price in the reply form that it learned; a base model's excuse."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool

from .examples import problem_in, prompt_of, text_of
from .model import PriceModel
from .replies import tokens_of
from .store import new_id, now
from .wire import ApiError, ChatBody, model_not_found
from .worker import BASES

if TYPE_CHECKING:
    from .store import Store, StoredModel

UNTRAINED = "I have not been trained to price anything."
_LOADED = 4  # models kept in memory; one of 5,000 listings takes about 20 MB


class Answers:
    """Answers chat requests; loads a model when it is first asked, and keeps the latest few."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._loaded: OrderedDict[str, PriceModel] = OrderedDict()

    async def complete(self, body: ChatBody) -> dict[str, Any]:
        """Return a chat completion; raise an `ApiError` where the request cannot be served."""
        _refuse_unsupported(body)
        problem = problem_in(body.messages)
        if problem is not None:
            raise ApiError(
                400, f"Invalid value for 'messages': {problem}.", param="messages", code="invalid_value"
            )
        replies = await self._replies(body, prompt_of(body.messages))
        limit = body.max_completion_tokens or body.max_tokens
        cut = [tokens_of(reply)[:limit] for reply in replies]
        choices = [_choice(*pair) for pair in enumerate(zip(replies, cut, strict=True))]
        written = sum(map(len, cut))
        read = 3 + sum(3 + len(tokens_of(text_of(message))) for message in body.messages)
        return {
            "id": new_id("chatcmpl-", 29),
            "object": "chat.completion",
            "created": now(),
            "model": body.model,
            "choices": choices,
            "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written},
            "system_fingerprint": None,
        }

    def forget(self, name: str) -> None:
        """Drop a deleted model from memory."""
        with self._lock:
            self._loaded.pop(name, None)

    async def _replies(self, body: ChatBody, prompt: str) -> list[str]:
        count = body.n or 1
        if body.model in BASES:
            return [UNTRAINED] * count
        stored = self._store.model(body.model)
        if stored is None:
            raise model_not_found(body.model)
        model = self._loaded.get(stored.id)
        if model is None:
            model = await run_in_threadpool(self._load, stored)
        temperature = 1.0 if body.temperature is None else body.temperature
        seed = None if body.seed is None else body.seed % 2**63
        prices = model.draw(prompt, temperature=temperature, count=count, seed=seed)
        return [model.form.write(price) for price in prices]

    def _load(self, stored: StoredModel) -> PriceModel:
        with self._lock:
            model = self._loaded.get(stored.id)
            if model is None:
                arrays, rest = self._store.blob(stored.arrays), self._store.blob(stored.rest)
                model = self._loaded[stored.id] = PriceModel.load(arrays.read_bytes(), rest.read_bytes())
            self._loaded.move_to_end(stored.id)
            while len(self._loaded) > _LOADED:
                self._loaded.popitem(last=False)
            return model


def _choice(index: int, texts: tuple[str, list[str]]) -> dict[str, Any]:
    reply, tokens = texts
    content = "".join(tokens)
    return {
        "index": index,
        "message": {"role": "assistant", "content": content, "refusal": None},
        "logprobs": None,
        "finish_reason": "stop" if content == reply else "length",
    }


def _refuse_unsupported(body: ChatBody) -> None:
    for name in ("stream", "logprobs"):
        if getattr(body, name):
            message = f"Unsupported parameter: '{name}' is not supported with this model."
            raise ApiError(400, message, param=name, code="unsupported_parameter")
