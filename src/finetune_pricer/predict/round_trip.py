"""The round trip after a deployment: a served model is asked what its job was validated on.

It finds what no status shows: another chat template than in training, the wrong adapter, the base model in
the tuned one's place. It is a hint and no measurement: twenty answers, and a loss that is turned into an
error by rule of thumb. `Evaluator` measures.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, NamedTuple

from .._chat_protocol import text_of
from .._service.flow import Flow, ask
from .._service.requests import ask_model
from ..chat import ChatFormatter
from ..errors import NotSupported, PriceNotFound, ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .._service.requests import Message
    from ..items import Item
    from ..providers.provider import Provider
    from .prediction import Prediction

MOST_ASKED = 20
"""Examples that are asked, at most."""
_FEWEST = 5  # answers from which anything is concluded
_SHORT_REPLY = 16  # tokens
_FAR = 3.0  # times the error that the validation loss suggests
_WORSE_THAN_GUESSING = 1.5  # times the error of one price for all
_SMALLEST = math.log(1.1)  # an error of a tenth is nothing to speak of
# Half of a normal distribution lies within 0.67 standard deviations; its entropy is ln(sd) + 1.42.
_HALF, _ENTROPY = 0.6745, 0.5 * math.log(2 * math.pi * math.e)
_DIGIT_BY_DIGIT = re.compile(r"qwen|gemma|mistral|ministral|deepseek|llama-?2", re.IGNORECASE)


class Example(NamedTuple):
    """One line of a validation file: the question, and the price that is its answer."""

    messages: list[Message]
    reply: str
    price: float


@dataclass(frozen=True, slots=True)
class RecordedQuestions(ChatFormatter):
    """Asks in the very words of a file; an item is the number of its line."""

    examples: Sequence[Example] = field(default=(), kw_only=True)

    def prompt(self, item: Item | str) -> list[Message]:
        """Return the messages of the example of that number."""
        return list(self.examples[int(str(item))].messages)


def read_examples(content: bytes, formatter: ChatFormatter) -> list[Example]:
    """Return the first examples of a training file whose replies are prices; others are passed over."""
    found = list[Example]()
    for line in content.decode("utf-8-sig", errors="replace").splitlines():
        found += _read_example(line, formatter)
        if len(found) == MOST_ASKED:
            break
    return found


def _read_example(line: str, formatter: ChatFormatter) -> Iterator[Example]:
    try:
        messages = json.loads(line)["messages"]
        reply = text_of(messages[-1])
        if messages[-1]["role"] == "assistant" and len(messages) > 1 and (price := formatter.read(reply)) > 0:
            yield Example(messages[:-1], reply, price)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, PriceNotFound):
        return


def ask_name(model: str, provider: Provider, question: Sequence[Message]) -> Flow[str | None]:
    """Ask one short question, and return by which name the model answers; None where it does not say."""
    try:
        answer = yield from ask(ask_model(model, question, {provider.reply_limit: _SHORT_REPLY}))
    except (ServiceError, NotSupported):
        return None
    name = answer.get("model")
    return name if isinstance(name, str) and name else None


def judge_name(asked: str, answered: str | None) -> str | None:
    """Return what is wrong with the name under which a model answers; None where nothing is."""
    if answered is None or asked.lower() in answered.lower():
        return None
    return (
        f"{asked!r} was asked, and {answered!r} answers: where that is the base model, its prices are not "
        "those of the tuned one"
    )


def judge_errors(
    examples: Sequence[Example], predictions: Sequence[Prediction], *, loss: float | None, base: str
) -> str | None:
    """Return what is wrong with a served model's prices; None where nothing is, or nothing can be said.

    Args:
        examples: What was asked.
        predictions: What was answered, in the same order.
        loss: The job's validation loss for each token, in nats; None where it shows none.
        base: The base model's name, for how its tokens cut a number.
    """
    answered = [
        (example, prediction.price)
        for example, prediction in zip(examples, predictions, strict=True)
        if prediction.text is not None
    ]
    if len(answered) < _FEWEST:
        return _judge_silence(predictions)
    unread = [p for p in predictions if p.text is not None and not (p.price and p.price > 0)]
    if 2 * len(unread) > len(answered):
        # The replies are not shown: they may quote what was asked.
        return (
            f"{len(unread)} of {len(answered)} replies hold no price; job.predictor(formatter).predict(item) "
            "shows one"
        )
    misses = [abs(math.log(price / example.price)) for example, price in answered if price and price > 0]
    usual = median(example.price for example in examples)
    guessing = median(abs(math.log(usual / example.price)) for example in examples)
    limit, words = _WORSE_THAN_GUESSING * guessing, f"one price for all, {usual:,.2f},"
    if loss is not None and (suggested := _FAR * _suggest_error(examples, loss, base)) < limit:
        limit, words = suggested, f"the job's validation loss of {loss:.3g}"
    if median(misses) <= max(limit, _SMALLEST):
        return None
    return (
        f"half of its prices for {len(misses)} validation examples miss by a factor of "
        f"{math.exp(median(misses)):.2f} or more, where {words} lets expect {math.exp(limit):.2f} at most"
    )


def _judge_silence(predictions: Sequence[Prediction]) -> str | None:
    """Return what a model that gives no prices says instead; None where the service is away."""
    errors = Counter(each.error for each in predictions if each.error and "think" in each.error)
    if 2 * errors.total() <= len(predictions):
        return None
    return f"{errors.total()} of {len(predictions)} questions got no price: {errors.most_common(1)[0][0]}"


def _suggest_error(examples: Sequence[Example], loss: float, base: str) -> float:
    """Return the median error, as a logarithm of a factor, that goes with a loss for each token.

    As if prices were spread log-normally about the right one: the loss of a whole reply is then the entropy
    of that spread in steps of the smallest amount that carries news.
    """
    replies = [example.reply for example in examples]
    pattern = r"." if _DIGIT_BY_DIGIT.search(base) else r"\d{1,3}|\D"
    tokens = fmean(len(re.findall(pattern, reply)) + 1 for reply in replies)  # one for the end
    cents = Counter(round(100 * example.price) % 100 for example in examples)
    news = -sum(n / len(examples) * math.log(n / len(examples)) for n in cents.values())
    level = fmean(math.log(example.price) for example in examples) + news
    return _HALF * math.exp(min(loss * tokens - level - _ENTROPY, 50.0))


def pick_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a predictor's settings that say how the model is to be asked, and not what for."""
    return {name: settings[name] for name in ("provider", "answer_parameters") if name in settings}
