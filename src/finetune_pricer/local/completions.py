"""Chat completions: a model's replies, cut where they must be, in one piece or streamed token by token."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from starlette.concurrency import run_in_threadpool

from ..errors import DataError, NotSupported, PricerError
from .api.responses import ApiError, invalid_value, model_not_found
from .chat_messages import find_problem
from .learners import END, Reply, SampledToken, Sampling
from .records import new_id, now

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from .api.requests import ChatBody
    from .database import Database
    from .faults import FaultInjector
    from .learners import Learner, Model

_LOADED = 4  # models kept in memory; a sparse one of 5,000 listings takes about 40 MB


class ChatService:
    """Answers chat requests; loads a model when it is first asked, and keeps the last few."""

    def __init__(self, database: Database, bases: Mapping[str, Learner], injector: FaultInjector) -> None:
        self._database = database
        self._bases = bases
        self._injector = injector
        self._lock = threading.Lock()
        self._loaded: OrderedDict[str, Model] = OrderedDict()
        self._loading: dict[str, threading.Lock] = {}

    async def complete(self, body: ChatBody) -> Completion:
        """Return a completion; raise an `ApiError` where the request cannot be served."""
        model = self._loaded.get(body.model)
        if model is not None and model.is_quick:
            return self.answer(body)
        return await run_in_threadpool(self.answer, body)

    def answer(self, body: ChatBody) -> Completion:
        """Do the same in this thread, however long it takes."""
        problem = find_problem(body.messages)
        if problem is not None:
            raise invalid_value(f"Invalid value for 'messages': {problem}.", "messages")
        _refuse_contradictions(body)
        try:
            return self._answer(body)
        except PricerError as error:
            raise _describe_refusal(error) from error

    def _answer(self, body: ChatBody) -> Completion:
        learner, model = self._find_model(body.model)
        read = model.count_tokens(body.messages)
        if read > learner.context:
            message = (
                f"This model's maximum context length is {learner.context} tokens. However, your messages "
                f"resulted in {read} tokens. Please reduce the length of the messages."
            )
            raise invalid_value(message, "messages", code="context_length_exceeded")
        choices = [Choice.cut(reply, body) for reply in model.reply(body.messages, _read_sampling(body))]
        return Completion(body, choices, read)

    def forget(self, name: str) -> None:
        """Drop a deleted model from memory."""
        with self._lock:
            self._loaded.pop(name, None)

    def _find_model(self, name: str) -> tuple[Learner, Model]:
        if self._injector.is_shut_down():
            raise model_not_found(name)
        if name in self._bases:
            return self._bases[name], self._load(name, self._bases[name], None)
        # Looked up each time: it may have been deleted, also as a checkpoint that newer ones replaced.
        stored = self._database.find_model(name)
        if stored is None:
            raise model_not_found(name)
        if stored.base not in self._bases:
            message = (
                f"The model `{name}` was made of the base model `{stored.base}`, which this server does not "
                "offer. Start the server with that base model."
            )
            raise ApiError(404, message, code="model_not_found")
        return self._bases[stored.base], self._load(name, self._bases[stored.base], stored.files)

    def _load(self, name: str, learner: Learner, hashes: Mapping[str, str] | None) -> Model:
        with self._lock:
            if name in self._loaded:
                self._loaded.move_to_end(name)
                return self._loaded[name]
            loading = self._loading.setdefault(name, threading.Lock())
        # Loading may take long: who asks for another model need not wait for it.
        with loading:
            if (model := self._loaded.get(name)) is None:
                model = learner.load_base() if hashes is None else self._read(name, learner, hashes)
            with self._lock:
                self._loading.pop(name, None)
                self._loaded[name] = model
                while len(self._loaded) > _LOADED:
                    self._loaded.popitem(last=False)
        return model

    def _read(self, name: str, learner: Learner, hashes: Mapping[str, str]) -> Model:
        """Load a tuned model; a deletion in the meantime leaves its files until they are read."""
        with contextlib.ExitStack() as lent:
            files: dict[str, Path] = {}
            for file, sha256 in hashes.items():
                path = lent.enter_context(self._database.lend_blob(sha256))
                if path is None:
                    raise model_not_found(name)
                files[file] = path
            return learner.load(files)


def _describe_refusal(error: PricerError) -> ApiError:
    """Return what a learner's error is in the protocol: the request's fault, or the server's."""
    if isinstance(error, DataError | NotSupported):
        return ApiError(400, error.message, code="model_cannot_answer")
    return ApiError(503, error.message, type_="server_error", code="model_not_ready")


def _refuse_contradictions(body: ChatBody) -> None:
    if body.top_logprobs and not body.logprobs:
        raise invalid_value("'top_logprobs' is only allowed when 'logprobs' is enabled.", "top_logprobs")
    if body.stream_options is not None and not body.stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise invalid_value(message, "stream_options")
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        message = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
        raise invalid_value(message, "max_tokens", code="invalid_parameter_combination")


def _read_sampling(body: ChatBody) -> Sampling:
    return Sampling(
        n=body.n or 1,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        seed=body.seed,
        alternatives=(body.top_logprobs or 0) if body.logprobs else 0,
        max_tokens=body.max_completion_tokens or body.max_tokens,
        stop=_read_stops(body),
    )


def _read_stops(body: ChatBody) -> tuple[str, ...]:
    stops = [body.stop] if isinstance(body.stop, str) else body.stop or []
    return tuple(stop for stop in stops if stop)


@dataclass(frozen=True, slots=True)
class Choice:
    """One reply as it is sent: its tokens, and why it ended."""

    tokens: Sequence[SampledToken]
    finish: str
    written: int
    """How many tokens were made, including those that a stop sequence cut off."""

    @classmethod
    def cut(cls, reply: Reply, body: ChatBody) -> Choice:
        """Cut a reply at the token limit and before the first stop sequence."""
        tokens = reply.tokens
        kept = tokens[: body.max_completion_tokens or body.max_tokens]
        text = "".join(token.token for token in kept)
        ends = [place for stop in _read_stops(body) if (place := text.find(stop)) >= 0]
        if not ends:
            is_complete = reply.is_complete and len(kept) == len(tokens)
            return cls(kept, "stop" if is_complete else "length", len(kept))
        end, length, whole = min(ends), 0, 0
        while length < end:
            length += len(kept[whole].token)
            whole += 1
        kept = kept[:whole]
        if length > end:  # a stop sequence that begins inside a token leaves the first half of it
            last = kept[-1]
            kept = [*kept[:-1], SampledToken(last.token[: end - length], last.logprob, last.alternatives)]
        return cls(kept, "stop", len(tokens))

    @property
    def text(self) -> str:
        """The reply."""
        return "".join(token.token for token in self.tokens)


class Completion:
    """The answer to a chat request."""

    def __init__(self, body: ChatBody, choices: list[Choice], read: int) -> None:
        self._body = body
        self._choices = choices
        self._head = {"id": new_id("chatcmpl-", 29), "created": now(), "model": body.model}
        written = sum(choice.written for choice in choices)
        self.usage: dict[str, Any] = {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the answer in one piece."""
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": choice.text, "refusal": None},
                "logprobs": self._logprobs(choice.tokens),
                "finish_reason": choice.finish,
            }
            for index, choice in enumerate(self._choices)
        ]
        return {
            **self._head,
            "object": "chat.completion",
            "choices": choices,
            "usage": self.usage,
            "service_tier": "default",
            "system_fingerprint": "fp_local",
        }

    def stream(self) -> Iterator[bytes]:
        """Yield the answer as server-sent events."""
        options = self._body.stream_options
        with_usage = bool(options and options.include_usage)
        for index, choice in enumerate(self._choices):
            yield self._chunk(index, {"role": "assistant", "content": "", "refusal": None}, None, with_usage)
            for token in choice.tokens:
                delta = {"content": token.token}
                yield self._chunk(index, delta, None, with_usage, self._logprobs([token]))
            yield self._chunk(index, {}, choice.finish, with_usage)
        if with_usage:
            yield self._event({"choices": [], "usage": self.usage})
        yield b"data: [DONE]\n\n"

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        finish: str | None,
        with_usage: bool,
        logprobs: dict[str, Any] | None = None,
    ) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return self._event({"choices": [choice], **({"usage": None} if with_usage else {})})

    def _event(self, body: dict[str, Any]) -> bytes:
        head = self._head | {"object": "chat.completion.chunk", "system_fingerprint": "fp_local"}
        return b"data: " + orjson.dumps(head | body) + b"\n\n"

    def _logprobs(self, tokens: Sequence[SampledToken]) -> dict[str, Any] | None:
        if not self._body.logprobs:
            return None
        content = [
            {
                **_token_object(token.token, token.logprob),
                "top_logprobs": [_token_object(*pair) for pair in token.alternatives],
            }
            for token in tokens
        ]
        return {"content": content, "refusal": None}


def _token_object(token: str, logprob: float) -> dict[str, Any]:
    return {
        "token": token,
        "logprob": logprob,
        "bytes": None if token == END else list(token.encode()),
    }
