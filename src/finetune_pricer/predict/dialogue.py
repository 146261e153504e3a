"""The dialogue with one model about one item: what to ask, which answers are kept, and what a reply means.

It is decided here for every way of asking: one question, many at once, and batches. A model's reasoning is
never its price: it is cut off here, by `cut_reasoning`.
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from .._chat_protocol import SPECIAL_TOKEN, text_of
from .._reasoning import BEGIN, END, Reply, cut_reasoning
from .._service.flow import Flow, Pause, ask
from .._service.requests import ask_model
from ..errors import PriceNotFound, ServiceError, ServiceUnavailable
from ..items import Item, require_item
from ..prices import PriceForm
from . import leases
from .answer_store import StoredAnswer
from .budget import may_be_billed
from .completion import read_choices, read_message, read_usage
from .decoding import distribution_from_logprobs, distribution_from_samples, writes_single_digits
from .prediction import Prediction, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from .._service.requests import Answer, Message, Request
    from ..chat import ChatFormatter
    from ..providers.provider import Provider
    from .answer_store import AnswerStore
    from .budget import Budget
    from .completion import Choice
    from .conformal import Ranges
    from .decoding import Decoding, Distribution
    from .parameters import ModelParameters

_HIGHEST = 999_999.99  # dollars, where nobody says more: the reply's budget must have an end
_CUT, _FILTERED = "length", "content_filter"  # why a reply has ended
_BLOCK_TOKENS = 8  # of an empty think block, which a model that learned it may repeat
_SPARE_TOKENS = 2  # one for the end, which some services count, and one for a space in front


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The words of one request, and the kind of answer wanted; not yet in a service's names."""

    messages: Sequence[Message]
    kind: Literal["greedy", "logprobs", "samples"] = "greedy"
    replies: int = 1
    """How many samples."""
    turn: int = 0
    """Distinguishes questions about one item that ask for the same."""


@dataclass(frozen=True, kw_only=True)
class Dialogue:
    """Asks one model in a formatter's words and reads its answers by a decoding rule; sends nothing itself.

    `questions` is the heart of it: a generator that yields one question after the other about an item, is
    sent the answers, and returns the prediction.
    """

    model: str
    provider: Provider
    formatter: ChatFormatter
    decoding: Decoding
    samples: int
    highest: float | None
    parameters: ModelParameters
    store: AnswerStore | None = None
    asked_of: tuple[str, str] = ("", "")
    """The service and the account: the same words asked of others are other questions."""
    budget: Budget | None = None
    ranges: Ranges | None = None

    @cached_property
    def form(self) -> PriceForm:
        """How the model writes prices."""
        return PriceForm.like(self.formatter.reply)

    @cached_property
    def reply_tokens(self) -> int:
        """Tokens that a reply may have: as many as the longest price has characters, so none is ever cut."""
        longest = self.form.write(_HIGHEST if self.highest is None else self.highest)
        return len(longest) + _SPARE_TOKENS + (_BLOCK_TOKENS if self.formatter.think_block else 0)

    def ask(self, item: Item | str) -> Flow[Prediction]:
        """Ask about one item until there is a prediction.

        Answers that are kept are not asked for, and new ones are kept.

        Raises:
            InvalidItem: The text is empty, or it is no item.
            ServiceError: The service refuses or does not answer, and nothing can be learned from that.
        """
        item_id = id_of(item)
        questions, latency = self.questions(item, item_id), 0.0
        question = next(questions)
        while True:
            key = self.key_of(question)
            stored = (yield from self._await_lease(key)) or (yield from self.ask_once(question, key, item_id))
            latency += stored.latency
            try:
                question = questions.send(stored.answer)
            except StopIteration as end:
                prediction: Prediction = end.value
                return replace(prediction, latency=latency)

    def _await_lease(self, key: str) -> Flow[StoredAnswer | None]:
        """Return the answer that is kept, or that somebody else gets meanwhile; None when we are to ask."""
        waited = 0.0
        while (stored := self.find_answer(key)) is None:
            if self.take_lease(key):
                # Somebody else may have had the answer between the two.
                if (stored := self.find_answer(key)) is not None:
                    self.give_back_lease(key)
                return stored
            if waited >= leases.LONGEST_WAIT:
                raise make_waiting_error()
            yield Pause(leases.PAUSE)
            waited += leases.PAUSE
        return stored

    def ask_once(self, question: Question, key: str, item_id: str) -> Flow[StoredAnswer]:
        """Ask a question, whose lease is taken, until there is an answer that nothing can be learned from.

        Raises:
            OverBudget: It does not fit into the budget any more.
            ServiceError: The service refuses or does not answer, and nothing can be learned from that.
        """
        try:
            while True:
                request, chosen = self.make_request(question)
                reserved = 0.0 if self.budget is None else self.budget.reserve_or_raise(self, question)
                began = time.perf_counter()
                try:
                    answer = yield from ask(request)
                except BaseException as error:
                    self.settle_error(reserved, error)
                    if not isinstance(error, ServiceError) or not self.learn(question, chosen, error):
                        raise
                else:
                    self.settle_answer(reserved, answer)
                    if self.learn_from_answer(question, chosen, answer):
                        continue
                    stored = StoredAnswer(answer, time.perf_counter() - began)
                    self.keep_answer(key, item_id, stored)
                    self.flush()
                    return stored
        except BaseException:
            self.give_back_lease(key)
            raise

    def make_request(self, question: Question) -> tuple[Request, dict[str, Any]]:
        """Return the request of a question, and the parameters that were chosen for it."""
        chosen = self.choose_parameters(question)
        return ask_model(self.model, question.messages, chosen), chosen

    def choose_parameters(self, question: Question) -> dict[str, Any]:
        """Return what goes into the request beside model and messages."""
        return self.parameters.choose(question, self.reply_tokens)

    def learn(self, question: Question, sent: Mapping[str, Any], error: ServiceError) -> bool:
        """Learn from a refusal; return whether to ask again, with other parameters than were sent."""
        prompt = "\n".join(message["content"] for message in question.messages)
        return self.parameters.learn(error, sent, prompt) and self.choose_parameters(question) != sent

    def learn_from_answer(self, question: Question, sent: Mapping[str, Any], answer: Answer) -> bool:
        """Learn from an answer whether the model thinks first.

        Returns:
            Whether to ask again, with other parameters than were sent: the answer was cut in its thinking.
        """
        choices, parameters = read_choices(answer), self.parameters
        if self.is_real(answer):
            parameters.has_replied = True
        replies = [self.read_reply(choice) for choice in choices]
        was_cut = bool(replies) and all(reply.is_unfinished for reply in replies)
        # A reply that is cut before its price may be a thought without a mark, or a hidden one.
        is_short = bool(choices) and all(self._is_cut_before_price(choice) for choice in choices)
        if (was_cut or is_short) and self.choose_parameters(question) != sent:
            return True  # learned meanwhile
        was_cut = was_cut or (is_short and not parameters.has_replied)
        if not (was_cut or any(reply.has_thought for reply in replies)):
            return False
        if any(_quotes_reasoning(message["content"]) for message in question.messages):
            return False  # the reply may repeat the product's own text
        parameters.learn_to_think(was_cut=was_cut)
        return was_cut and self.choose_parameters(question) != sent

    def _is_cut_before_price(self, choice: Choice) -> bool:
        is_cut = choice.get("finish_reason") == _CUT and not read_message(choice).get("refusal")
        return is_cut and self._read_price(choice)[0] is None

    def key_of(self, question: Question) -> str:
        """Return a hash that is equal for equal questions; a service's names for parameters do not count."""
        import orjson

        replies = question.replies if question.kind == "samples" else 1
        parts: list[Any] = [self.model, question.messages, question.kind]
        parts += [replies, question.turn, self.reply_tokens]
        if self.parameters.theirs:
            parts.append(sorted(self.parameters.theirs.items()))
        return hashlib.sha256(orjson.dumps(parts)).hexdigest()

    def place_of(self, key: str) -> str:
        """Return where the store keeps the answer to a question: asked of another, it is another's answer."""
        return hashlib.sha256("\n".join((*self.asked_of, key)).encode()).hexdigest()

    def find_answer(self, key: str) -> StoredAnswer | None:
        """Return the answer to a question that was received before; None where there is none.

        Raises:
            FileAccessError: The store cannot be read.
        """
        stored = None if self.store is None else self.store.find(self.place_of(key))
        # Earlier versions kept replies that were cut or filtered too: these are asked for again.
        if stored is None or not self.is_real(stored.answer):
            return None
        self.parameters.note_model(stored.answer, kept=True)
        return stored

    def is_real(self, answer: Answer) -> bool:
        """Whether an answer is one: a whole reply is, with a price or without, or a cut one with its price.

        What is empty, filtered or cut before its price is none, and is asked for again in another run.
        """
        return any(self._is_real_choice(choice) for choice in read_choices(answer))

    def _is_real_choice(self, choice: Choice) -> bool:
        if choice.get("finish_reason") == _CUT:
            return self._read_price(choice)[0] is not None
        text = self.read_reply(choice).text
        has_text = bool(text and not text.isspace()) or bool(read_message(choice).get("refusal"))
        return has_text and choice.get("finish_reason") != _FILTERED

    def find_stored(self, key: str) -> Answer | None:
        """Return the kept answer alone; None where there is none."""
        stored = self.find_answer(key)
        return None if stored is None else stored.answer

    def take_lease(self, key: str) -> bool:
        """Take a question for oneself before it is asked; return False while somebody else asks it."""
        return self.store is None or self.store.take(self.place_of(key))

    def give_back_lease(self, key: str) -> None:
        """Let others ask a question that came to nothing."""
        if self.store is not None:
            self.store.give_back(self.place_of(key))

    def keep_answer(self, key: str, item_id: str, received: StoredAnswer) -> None:
        """Take note of an answer; it is on disk, where there is a store, after `flush`."""
        self.parameters.confirm()
        if self.store is None:
            return
        if self.is_real(received.answer):
            self.parameters.note_model(received.answer, kept=False)
            service, _ = self.asked_of
            self.store.keep(
                self.place_of(key), self.model, item_id, received.answer, received.latency, service=service
            )
        else:
            self.store.give_back(self.place_of(key))

    def flush(self) -> None:
        """Put on disk what was kept since the last time; what cannot be written is held in memory."""
        if self.store is not None:
            self.store.commit()

    def settle_answer(self, reserved: float, answer: Answer) -> None:
        """Count what an answer cost in place of the most that it could have cost."""
        if self.budget is not None:
            self.budget.settle(reserved, self.budget.cost_of(read_usage(answer), reserved))

    def settle_error(self, reserved: float, error: BaseException) -> None:
        """Count a question that came to nothing; one that may have arrived may be billed."""
        if self.budget is not None:
            self.budget.settle(reserved, reserved if may_be_billed(error) else 0.0)

    def questions(self, item: Item | str, item_id: str) -> Generator[Question, Answer, Prediction]:
        """Yield question after question, each to be answered by `send`; return the prediction.

        Raises:
            InvalidItem: The text is empty.
        """
        prediction = yield from self._ask_by_decoding(item, item_id)
        if self.ranges is None:
            return prediction
        return self.ranges.around(prediction, item.category if isinstance(item, Item) else None)

    def replay(
        self, item: Item | str, item_id: str, find: Callable[[Question, str], Answer | None]
    ) -> Prediction | Question:
        """Return the prediction that answers give which are there, or the first question that has none.

        `find` is asked for the answer to a question, which it gets with its key.

        Raises:
            InvalidItem: The text is empty.
        """
        questions = self.questions(item, item_id)
        question = next(questions)
        while (answer := find(question, self.key_of(question))) is not None:
            try:
                question = questions.send(answer)
            except StopIteration as end:
                prediction: Prediction = end.value
                return prediction
        return question

    def _ask_by_decoding(self, item: Item | str, item_id: str) -> Generator[Question, Answer, Prediction]:
        messages = self.formatter.prompt(item)
        if self.samples > 1 and self.decoding in {"median", "mean"}:
            return (yield from self._sample(messages, item_id, spent=Usage()))
        answer = yield Question(messages=messages, kind="greedy" if self.decoding == "greedy" else "logprobs")
        prediction = self._read_greedy(answer, item_id)
        if prediction.distribution is None and self.samples > 1:
            return (yield from self._sample(messages, item_id, spent=prediction.usage))
        return prediction

    def _read_greedy(self, answer: Answer, item_id: str) -> Prediction:
        choice = (read_choices(answer) or [{}])[0]
        price, error = self._read_price(choice)
        distribution = None
        if price is not None and self.decoding != "greedy":
            shown = _leave_out_thoughts(choice, self.read_reply(choice))
            distribution = distribution_from_logprobs(shown, price, self.form, highest=self.highest)
            if distribution is None and self.samples == 1 and writes_single_digits(shown):
                self.parameters.warn_of_single_digits()
        return self._decide(item_id, choice, distribution, price=price, usage=read_usage(answer), error=error)

    def _sample(
        self, messages: Sequence[Message], item_id: str, *, spent: Usage
    ) -> Generator[Question, Answer, Prediction]:
        choices: list[Choice] = []
        while len(choices) < self.samples:
            wanted = self.samples - len(choices)
            answer = yield Question(messages=messages, kind="samples", replies=wanted, turn=len(choices))
            spent = spent + read_usage(answer)
            # A service that knows no `n` gives one reply a time; one that gives none is not asked for ever.
            choices += read_choices(answer)[:wanted] or [{}] * wanted
        read = [self._read_price(choice) for choice in choices]
        prices = [price for price, _ in read if price is not None]
        first = next((place for place, (price, _) in enumerate(read) if price is not None), 0)
        price, error = read[first]
        distribution = distribution_from_samples(prices)
        return self._decide(item_id, choices[first], distribution, price=price, usage=spent, error=error)

    def _decide(
        self,
        item_id: str,
        choice: Choice,
        distribution: Distribution | None,
        *,
        price: float | None,
        usage: Usage,
        error: str | None,
    ) -> Prediction:
        decoding = "greedy"
        if distribution is not None:
            decoding = "mean" if self.decoding == "mean" else "median"
            price = distribution.mean if decoding == "mean" else distribution.median
        return Prediction(
            item_id=item_id,
            price=price,
            text=self.read_reply(choice).text,
            decoding=decoding,
            distribution=distribution,
            usage=usage,
            error=error if price is None else None,
            currency=self.formatter.currency,
        )

    def read_reply(self, choice: Choice) -> Reply:
        """Return a reply without the model's reasoning, wherever that stands."""
        message, is_cut = read_message(choice), choice.get("finish_reason") == _CUT
        text = _read_spoken(message)
        thoughts = [words for name in _THOUGHT_FIELDS if (words := _words_of(message.get(name)))]
        thoughts += [" "] * _has_thought_part(message)
        found = cut_reasoning(text or "", is_cut=is_cut)
        said = found.text
        for words in thoughts:  # some services put them into both
            said = (said or "").lstrip().removeprefix(words.strip()) if words.strip() else said
        is_blank = not (said or "").strip()
        return Reply(
            None if text is None else said,
            has_thought=found.has_thought or bool(thoughts),
            is_unfinished=found.is_unfinished or (is_blank and is_cut and bool(thoughts)),
        )

    def _read_price(self, choice: Choice) -> tuple[float | None, str | None]:
        """Return the price in a reply, or why there is none."""
        reply, is_cut = self.read_reply(choice), choice.get("finish_reason") == _CUT
        text = reply.text
        if reply.is_unfinished or not text or text.isspace() or choice.get("finish_reason") == _FILTERED:
            return None, self._explain_emptiness(choice, reply, is_cut=is_cut)
        if is_cut and text.rstrip()[-1:] in "0123456789.,":
            return None, f"the reply was cut inside a number: {text[-60:]!r}"
        if is_cut and not self._begins_with_price(text):
            return None, f"the reply was cut before it came to a price: {text[-60:]!r}"
        try:
            return self.formatter.read(text), None
        except PriceNotFound as error:
            return None, str(error)

    def _explain_emptiness(self, choice: Choice, reply: Reply, *, is_cut: bool) -> str:
        if choice.get("finish_reason") == _FILTERED:
            return "the service's content filter has stopped the reply"
        if refusal := read_message(choice).get("refusal"):
            return str(refusal)
        if reply.is_unfinished:
            return f"the reply was cut while the model was thinking; {self._advise()}"
        if is_cut:
            return f"the reply is empty: it was cut before it began; where the model thinks, {self._advise()}"
        if reply.has_thought:
            return f"the reply holds the model's reasoning and no answer; {self._advise()}"
        return "the reply is empty"

    def _advise(self) -> str:
        return f"switch that off, as by {self.parameters.hint}"

    def _begins_with_price(self, text: str) -> bool:
        """Whether a reply that was cut says its price first, and is not a thought on the way to one."""
        before = re.split(r"\d", text, maxsplit=1)[0]
        words = re.findall(r"[^\W\d_]+", before.removeprefix(self.form.prefix))
        return len(words) <= 1 and all(word.isupper() and len(word) <= 3 for word in words)  # as in `USD 20`


_THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking", "thought", "thoughts", "reasoning_details")
_THOUGHT_PARTS = {
    "thinking",
    "reasoning",
    "reasoning_text",
    "reasoning_content",
    "thought",
    "redacted_thinking",
}


def _quotes_reasoning(text: str) -> bool:
    """Whether a question's own words hold marks of reasoning, which a reply may repeat."""
    return bool(BEGIN.search(text) or END.search(text) or "<|channel|>" in text)


def _read_spoken(message: Mapping[str, Any]) -> str | None:
    """Return a message's content without the parts that are thoughts; None where there is none."""
    content = message.get("content")
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict)]
        return text_of({"content": [part for part in parts if not _is_thought(part)]})
    return content if isinstance(content, str) else None


def _has_thought_part(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return any(isinstance(part, dict) and _is_thought(part) for part in parts)


def _is_thought(part: Mapping[str, Any]) -> bool:
    return part.get("type") in _THOUGHT_PARTS or bool(part.get("thought"))


def _words_of(value: Any) -> str:
    """Return thoughts as a text, whatever form they have; empty where there are none."""
    if isinstance(value, str):
        return value if value.strip() else ""
    return " " if isinstance(value, list | dict) and value else ""


def _leave_out_thoughts(choice: Choice, reply: Reply) -> Choice:
    """Return a choice whose token probabilities are those of what was said, as far as that can be told."""
    logprobs = choice.get("logprobs")
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(tokens, list) or not all(isinstance(token, dict) for token in tokens):
        return choice
    said, heard = (reply.text or "").strip(), ""
    for place in range(len(tokens) - 1, -1, -1):
        heard = f"{tokens[place].get('token') or ''}{heard}"
        if SPECIAL_TOKEN.sub("", heard).strip() == said:
            return {**choice, "logprobs": {"content": tokens[place:]}}
    return {**choice, "logprobs": None} if reply.has_thought else choice


def make_waiting_error() -> ServiceUnavailable:
    """Return the error for a question that somebody else has been asking for too long."""
    return ServiceUnavailable(
        "another thread or process asks this question too, and has no answer after "
        f"{leases.LONGEST_WAIT:g} s; ask again when it has ended"
    )


def id_of(item: Item | str) -> str:
    """Return the item's id; a text has that of an item with this title.

    Raises:
        InvalidItem: It is neither an item nor a text.
    """
    if isinstance(item, Item):
        return item.id
    require_item(item, or_text=True)
    return Item(title=item).id if item.strip() else ""
