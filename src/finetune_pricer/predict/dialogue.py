"""What to ask a model about one item, and what its answer means; decided here for every way of asking."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .._chat_protocol import text_of
from ..errors import PriceNotFound, ServiceError
from ..items import Item
from ..prices import PriceForm
from .decoding import ENOUGH_MASS, evidence, of_samples
from .prediction import Prediction, Usage

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from .._service.requests import Answer, Message
    from ..chat import ChatFormatter
    from ..providers.provider import Provider
    from .conformal import Ranges
    from .decoding import Decoding, Distribution

_HIGHEST = 999_999.99  # dollars, where nobody says more: the reply's budget must have an end
_THINKING = 4096  # tokens that a reasoning model may think before its reply
_REASONING = re.compile(r"(?:ft:)?(?:\w+/)?(?:o\d|gpt-[5-9](?!.*-chat))")
_REFUSED = {400, 403, 422}
_ABOUT_SIZE = re.compile(r"context|too (?:large|long|many)|exceed|maximum|minimum|at (?:least|most)|than")
_SPARE_TOKENS = 2  # one for the end, which some services count, and one for a space in front


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request's worth: the words, and the kind of answer wanted, not yet in a service's names."""

    messages: Sequence[Message]
    kind: Literal["greedy", "logprobs", "samples"] = "greedy"
    replies: int = 1
    """How many samples."""
    turn: int = 0
    """Tells questions about one item apart that ask for the same."""


class Abilities:
    """Which parameters a model takes: by its service's profile and its name, mended by what is refused."""

    def __init__(self, model: str, service: Provider) -> None:
        self.reasons = _REASONING.match(model) is not None
        self.limit = "max_completion_tokens" if self.reasons else service.reply_limit
        self.top_logprobs = 0 if self.reasons else min(service.logprobs, 20)
        self.several = True
        """Whether a request may ask for several samples."""
        self._limit_is_learned = False

    def parameters(self, question: Question, budget: int) -> dict[str, Any]:
        """Give what goes into the request beside model and messages."""
        chosen: dict[str, Any] = {self.limit: budget + (_THINKING if self.reasons else 0)}
        if not self.reasons:
            chosen["temperature"] = 1 if question.kind == "samples" else 0
        if question.kind == "logprobs" and self.top_logprobs:
            chosen |= {"logprobs": True, "top_logprobs": self.top_logprobs}
        if question.kind == "samples" and question.replies > 1 and self.several:
            chosen["n"] = question.replies
        return chosen

    def confirm(self) -> None:
        """Take from an answer that the reply's limit is called as it was."""
        self._limit_is_learned = True

    def learn(self, error: ServiceError) -> None:
        """Take from a refusal which parameter to leave out or to name otherwise from now on."""
        if error.status not in _REFUSED:
            return
        blamed = f"{error.param} {error.message}"
        if "max_tokens" in blamed or "max_completion_tokens" in blamed:
            # A prompt that leaves no room is refused by the same name, and says nothing about the others.
            if not self._limit_is_learned and not _ABOUT_SIZE.search(error.message):
                self._limit_is_learned = True
                self.limit = (
                    "max_tokens" if self.limit == "max_completion_tokens" else "max_completion_tokens"
                )
        elif "logprobs" in blamed:
            # Some services give no more than five; those that give none say so again.
            self.top_logprobs = 5 if self.top_logprobs > 5 and "top_logprobs" in blamed else 0
        elif "temperature" in blamed:
            self.reasons, self.top_logprobs = True, 0
        elif error.param == "n" or re.search(r"['\"`]n['\"`]", error.message):
            self.several = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Questioner:
    """Asks in a formatter's words and reads answers by a decoding rule; sends nothing itself."""

    formatter: ChatFormatter
    decoding: Decoding
    samples: int
    highest: float | None
    ranges: Ranges | None = None

    @property
    def budget(self) -> int:
        """Tokens that a reply may have: as many as the longest price has characters, so none is ever cut."""
        longest = self.form.write(_HIGHEST if self.highest is None else self.highest)
        return len(longest) + _SPARE_TOKENS

    @property
    def form(self) -> PriceForm:
        """How the model writes prices."""
        return PriceForm.like(self.formatter.reply)

    def key(self, model: str, question: Question) -> str:
        """Give what tells a question from others; a service's names for parameters do not count."""
        import orjson

        replies = question.replies if question.kind == "samples" else 1
        parts = [model, question.messages, question.kind, replies, question.turn, self.budget]
        return hashlib.sha256(orjson.dumps(parts)).hexdigest()

    def about(self, item: Item | str, item_id: str) -> Generator[Question, Answer, Prediction]:
        """Yield question after question, each to be answered by `send`; return what came of it.

        Raises:
            InvalidItem: The text is empty.
        """
        found = yield from self._asked(item, item_id)
        if self.ranges is None:
            return found
        return self.ranges.around(found, item.category if isinstance(item, Item) else None)

    def _asked(self, item: Item | str, item_id: str) -> Generator[Question, Answer, Prediction]:
        messages = self.formatter.prompt(item)
        if self.samples > 1 and self.decoding in {"median", "mean"}:
            return (yield from self._sampled(messages, item_id, spent=Usage()))
        answer = yield Question(messages=messages, kind="greedy" if self.decoding == "greedy" else "logprobs")
        found = self._greedy(answer, item_id)
        if found.distribution is None and self.samples > 1:
            return (yield from self._sampled(messages, item_id, spent=found.usage))
        return found

    def _greedy(self, answer: Answer, item_id: str) -> Prediction:
        choice = (_choices(answer) or [{}])[0]
        price, error = self._price_in(choice)
        seen = None
        if price is not None and self.decoding != "greedy":
            seen = evidence(choice, price, self.form, highest=self.highest)
        if seen is not None and seen.mass < ENOUGH_MASS:
            seen = None
        return _prediction(item_id, choice, self._decided(price, seen), usage_of(answer), error)

    def _sampled(
        self, messages: Sequence[Message], item_id: str, *, spent: Usage
    ) -> Generator[Question, Answer, Prediction]:
        choices: list[Mapping[str, Any]] = []
        while len(choices) < self.samples:
            wanted = self.samples - len(choices)
            answer = yield Question(messages=messages, kind="samples", replies=wanted, turn=len(choices))
            spent = spent + usage_of(answer)
            # A service that knows no `n` gives one reply a time; one that gives none is not asked for ever.
            choices += _choices(answer)[:wanted] or [{}] * wanted
        read = [self._price_in(choice) for choice in choices]
        prices = [price for price, _ in read if price is not None]
        first = next((place for place, (price, _) in enumerate(read) if price is not None), 0)
        decided = self._decided(read[first][0], of_samples(prices))
        return _prediction(item_id, choices[first], decided, spent, read[first][1])

    def _decided(
        self, price: float | None, seen: Distribution | None
    ) -> tuple[float | None, str, Distribution | None]:
        if seen is None:
            return price, "greedy", None
        if self.decoding == "mean":
            return seen.mean, "mean", seen
        return seen.median, "median", seen

    def _price_in(self, choice: Mapping[str, Any]) -> tuple[float | None, str | None]:
        text, cut = _text(choice), choice.get("finish_reason") == "length"
        if not text or text.isspace():
            said = _message(choice).get("refusal")
            return None, str(said) if said else (
                "the reply is empty: it was cut before it began" if cut else "the reply is empty"
            )
        if cut and text.rstrip()[-1:] in "0123456789.,":
            return None, f"the reply was cut inside a number: {text[-60:]!r}"
        try:
            return self.formatter.read(text), None
        except PriceNotFound as unread:
            return None, str(unread)


def usage_of(answer: Answer) -> Usage:
    """Read what an answer cost."""
    told = answer.get("usage")
    used = told if isinstance(told, dict) else {}
    prompt, completion = used.get("prompt_tokens"), used.get("completion_tokens")
    return Usage(
        prompt_tokens=prompt if isinstance(prompt, int) else 0,
        completion_tokens=completion if isinstance(completion, int) else 0,
    )


def reply_of(answer: Answer) -> str | None:
    """Read an answer's first reply; None where there is none."""
    return _text((_choices(answer) or [{}])[0])


def _choices(answer: Answer) -> list[Mapping[str, Any]]:
    found = answer.get("choices")
    return [choice for choice in found if isinstance(choice, dict)] if isinstance(found, list) else []


def _message(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    found = choice.get("message")
    return found if isinstance(found, dict) else {}


def _text(choice: Mapping[str, Any]) -> str | None:
    message = _message(choice)
    # No content at all is no reply, and not an empty one. Some services send it in parts.
    return text_of(message) if isinstance(message.get("content"), str | list) else None


def _prediction(
    item_id: str,
    choice: Mapping[str, Any],
    decided: tuple[float | None, str, Distribution | None],
    usage: Usage,
    error: str | None,
) -> Prediction:
    price, decoding, distribution = decided
    return Prediction(
        item_id=item_id,
        price=price,
        text=_text(choice),
        decoding=decoding,
        distribution=distribution,
        usage=usage,
        error=error if price is None else None,
    )
