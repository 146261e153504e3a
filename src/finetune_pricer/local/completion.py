"""One chat completion: replies cut where they must be, in one piece or streamed token by token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from .learners.sparse.reply_trie import END, Spoken
from .records import new_id, now

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .api.requests import ChatBody


@dataclass(frozen=True, slots=True)
class Choice:
    """One reply: its tokens, and why it ended."""

    tokens: list[Spoken]
    finish: str
    written: int
    """Tokens that were made, also those that a stop sequence cut off."""

    @classmethod
    def of(cls, tokens: list[Spoken], body: ChatBody) -> Choice:
        """Cut a whole reply at the token limit and at the first stop sequence."""
        limit = body.max_completion_tokens or body.max_tokens
        kept = tokens[:limit]
        stops = [body.stop] if isinstance(body.stop, str) else body.stop or []
        text = "".join(token.token for token in kept)
        ends = [place for stop in stops if stop and (place := text.find(stop)) >= 0]
        if not ends:
            return cls(kept, "stop" if len(kept) == len(tokens) else "length", len(kept))
        end, length, whole = min(ends), 0, 0
        while length < end:
            length += len(kept[whole].token)
            whole += 1
        if length > end:  # a stop sequence that begins inside a token leaves the first half of it
            last = kept[whole - 1]
            kept = [
                *kept[: whole - 1],
                Spoken(last.token[: end - length], last.logprob, last.instead),
                *kept[whole:],
            ]
        return cls(kept[:whole], "stop", len(tokens))

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

    def whole(self) -> dict[str, Any]:
        """Return it in one piece."""
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

    def streamed(self) -> Iterator[bytes]:
        """Give it as server-sent events."""
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

    def _logprobs(self, tokens: list[Spoken]) -> dict[str, Any] | None:
        if not self._body.logprobs:
            return None
        content = [
            {
                **_token(token.token, token.logprob),
                "top_logprobs": [_token(*each) for each in token.instead],
            }
            for token in tokens
        ]
        return {"content": content, "refusal": None}


def _token(token: str, logprob: float) -> dict[str, Any]:
    return {
        "token": token,
        "logprob": logprob,
        "bytes": None if token == END else list(token.encode()),
    }
