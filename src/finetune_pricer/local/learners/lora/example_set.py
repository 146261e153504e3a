"""`ExampleSet`: a training file as a base model's tokens, and what its models need to know of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...._chat_protocol import text_of
from ....errors import TrainingFileError
from ..reply_format import ReplyForm, find_number
from ..training_file import FEWEST, read_rows
from .conversation import TextLimit
from .dollar_points import DollarPoints

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from .conversation import ConversationWriter

_HIGHEST = 1e9  # dollars; a number beyond is no shop's price
_MARKS = ("$", "€", "£", "¥")  # at the end of a prompt, they are as good as in the reply
UNTRAINED = -100
"""The label of a token that teaches nothing, as torch has it."""


def read_priced(path: Path, *, fewest: int = FEWEST) -> tuple[list[list[dict[str, Any]]], int]:
    """Return the conversations of a training file that end with a price, and how many do not.

    Raises:
        TrainingFileError: Lines are wrong, there are too few of them, or no reply holds a price.
    """
    with path.open("rb") as lines:
        rows = list(read_rows(lines, fewest=fewest))
    priced = [messages for messages in rows if len(messages) > 1 and _price_of(messages) is not None]
    if not priced:
        raise TrainingFileError("No reply holds a number, from line 1 on: there is no price to learn.")
    return priced, len(rows) - len(priced)


def _price_of(messages: Sequence[dict[str, Any]]) -> float | None:
    price = find_number(text_of(messages[-1])) if messages[-1].get("weight", 1) else None
    return price if price is not None and math.isfinite(price) and price < _HIGHEST else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleSet:
    """The examples of a job in tokens, and what is kept beside the adapter that they train."""

    training: dict[str, list[list[int]]]
    """Tokens and labels of each example: only those of its reply teach."""
    validation: dict[str, list[list[int]]]
    limit: TextLimit
    form: ReplyForm
    points: DollarPoints
    notes: list[str]
    """What the user should know: what was left out, and what was cut."""

    @classmethod
    def read(
        cls, training: Path, validation: Path | None, writer: ConversationWriter, *, text_tokens: int
    ) -> ExampleSet:
        """Read the files of a job; the same files give the same examples."""
        rows, silent = read_priced(training)
        held_out, silent_held_out = read_priced(validation, fewest=1) if validation is not None else ([], 0)
        replies = [text_of(messages[-1]) for messages in rows]
        limit = TextLimit.from_prompts([text_of(messages[-2]) for messages in rows], tokens=text_tokens)
        form = ReplyForm.from_replies(replies)
        prices = [price for reply in replies if (price := form.read(reply)) is not None]
        tokens, cut = _write_rows(rows, writer, limit)
        held_out_tokens, _ = _write_rows(held_out, writer, limit)
        return cls(
            training=tokens,
            validation=held_out_tokens,
            limit=limit,
            form=form,
            points=DollarPoints.from_prices(prices, decimals=form.decimals),
            notes=[
                *_describe(len(rows), silent + silent_held_out, cut, text_tokens),
                *_describe_bare(form, rows),
            ],
        )

    @property
    def count(self) -> int:
        """How many examples there are to train on."""
        return len(self.training["input_ids"])

    @property
    def longest(self) -> int:
        """How many tokens the longest of all has."""
        return max(len(tokens) for part in (self.training, self.validation) for tokens in part["input_ids"])

    @property
    def tokens(self) -> int:
        """How many tokens they have, read once."""
        return sum(map(len, self.training["input_ids"]))


def _write_rows(
    rows: Iterable[list[dict[str, Any]]], writer: ConversationWriter, limit: TextLimit
) -> tuple[dict[str, list[list[int]]], int]:
    written: dict[str, list[list[int]]] = {"input_ids": [], "labels": []}
    cut = 0
    for messages in rows:
        prompt, is_cut = writer.write_prompt(messages[:-1], limit)
        reply = writer.write_reply(text_of(messages[-1]))
        written["input_ids"].append(prompt + reply)
        written["labels"].append([UNTRAINED] * len(prompt) + reply)
        cut += is_cut
    return written, cut


def _describe(count: int, silent: int, cut: int, text_tokens: int) -> Iterable[str]:
    if silent:
        yield f"{silent:,} example(s) without a price in the reply were left out"
    if cut:
        yield (
            f"The texts of {cut:,} of {count:,} examples were cut at {text_tokens:,} tokens, or at what the "
            "base model reads; every example keeps its price"
        )


def _describe_bare(form: ReplyForm, rows: Sequence[list[dict[str, Any]]]) -> Iterable[str]:
    """Say it where nothing tells a model that the number which comes next is a price."""
    is_bare = not form.before.strip() and not form.after.strip()
    if is_bare and not text_of(rows[0][-2]).endswith(_MARKS):
        # SmolLM2-135M, 1,000 listings, three seeds each, the same 300 items: $101.0 and $116.8.
        yield (
            "The replies are bare numbers, which a small model hardly takes for prices: with a mark before "
            "them, as in $20, one was 14 % less wrong; write the files with ChatFormatter(reply='$20')"
        )
