"""The learner's data: examples read from a training file, and those examples as rows and bins.

The learner reads the text of the user's messages and the number in each reply, and nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...._chat_protocol import text_of
from ...._methods.network import Data, price_bins, soft_labels, softness
from ....errors import TrainingFileError
from ..reply_format import ReplyForm, find_number, tokenize
from ..training_file import FEWEST, read_rows
from .companions import Companions
from .model import PriceModel, prompt_of
from .price_points import PricePoints
from .prompt_features import PromptFeatures, PromptTemplate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ...._methods.network import Floats, Ints, Network
    from .pool import Pool

CONTEXT = 65_536
"""Tokens that a prompt or an example may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """What the learner sees of one conversation: the text that was asked, and the reply with its number."""

    prompt: str
    reply: str
    price: float | None
    """As the reply says it by itself, without the others; None where it holds no number: such an example
    teaches nothing."""

    @classmethod
    def from_messages(cls, messages: Sequence[dict[str, Any]]) -> Example:
        """Return the example of a conversation whose last message is the reply."""
        prompt, reply = prompt_of(messages), text_of(messages[-1])
        price = find_number(reply)
        # A number of 400 digits is infinite as a float, and teaches nothing.
        is_number = price is not None and math.isfinite(price)
        # An example over the context is cut at its end, where the price stands.
        length = len(prompt) + len(reply)  # no text has more tokens than letters
        is_cut = length > CONTEXT - _FRAMING and count_tokens(prompt, reply) > CONTEXT
        teaches = is_number and not is_cut and messages[-1].get("weight", 1)
        return cls(prompt=prompt, reply=reply, price=price if teaches else None)


_FRAMING = 9  # tokens of an example beside its texts: three around each message, and a start


def count_tokens(prompt: str, reply: str) -> int:
    """Return about how many tokens an example costs to train on once."""
    return len(tokenize(prompt)) + len(tokenize(reply)) + _FRAMING


def read_examples(lines: Iterable[bytes], *, fewest: int = FEWEST) -> list[Example]:
    """Return the examples of a training file.

    Raises:
        TrainingFileError: Lines are wrong, there are too few of them, or no reply holds a number.
    """
    examples = [Example.from_messages(messages) for messages in read_rows(lines, fewest=fewest)]
    if all(example.price is None for example in examples):
        raise TrainingFileError("No reply holds a number, from line 1 on: there is no price to learn.")
    return examples


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSet:
    """What a training file holds for the learner, and a validation file beside it."""

    form: ReplyForm
    points: PricePoints
    edges: Floats
    features: PromptFeatures
    training: Data
    logs: Floats
    """The training examples' log(1 + price)."""
    validation: Data
    tokens: int
    """Tokens of the training examples, read once."""

    @classmethod
    def prepare(cls, examples: Sequence[Example], validation: Sequence[Example]) -> TrainingSet:
        """Read the examples whose replies hold a number; the same examples give the same training set."""
        template = PromptTemplate.from_prompts([example.prompt for example in examples])
        form = ReplyForm.from_replies([example.reply for example in examples])
        logs = _log_prices(examples, form)
        edges = price_bins(logs)
        width = softness(edges, logs)
        prompts = [example.prompt for example in examples if example.price is not None]
        features = PromptFeatures.fit(prompts, template, form)
        held_out = [example for example in validation if example.price is not None]
        return cls(
            form=form,
            points=PricePoints.from_prices(np.expm1(logs), decimals=form.decimals),
            edges=edges,
            features=features,
            training=Data(features.transform(prompts), *soft_labels(logs, edges, width)),
            logs=logs,
            validation=Data(
                features.transform([example.prompt for example in held_out]),
                *soft_labels(_log_prices(held_out, form), edges, width),
            ),
            tokens=sum(count_tokens(example.prompt, example.reply) for example in examples),
        )

    def fit_companions(self, examples: Ints | None = None) -> Companions:
        """Fit what speaks beside the network to the training examples, or to some of them."""
        rows, logs = self.training.rows, self.logs
        if examples is not None:
            rows, logs = rows[examples], logs[examples]
        return Companions.fit(rows, logs, self.features.words)

    def model(self, network: Network, companions: Companions | None, pool: Pool) -> PriceModel:
        """Return the model that a network and its companions make of this training set."""
        return PriceModel(
            features=self.features,
            network=network,
            companions=None if companions is None else companions.needed_by(pool),
            pool=pool,
            edges=self.edges,
            points=self.points,
            form=self.form,
        )


def _log_prices(examples: Sequence[Example], form: ReplyForm) -> Floats:
    prices = [form.read(example.reply) for example in examples if example.price is not None]
    return np.log1p(np.array(prices, dtype=np.float64))
