"""Training files: the examples in one, or which of its lines are wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import orjson

from ...._chat_protocol import LINE_KEYS, MESSAGE_KEYS, ROLES, SPECIAL_TOKEN, text_of
from ....errors import TrainingFileError
from .reply_format import number_in, tokens_of

FEWEST = 10
"""How many examples a job needs at least."""
PARTS = frozenset({"image_url", "input_audio", "file", "refusal"})
"""Parts of a message that are no text, and that the learner passes over."""
CONTEXT = 65_536
"""Tokens that a prompt or an example may have."""
_NAMED = 5  # wrong lines whose faults are told


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """What the learner sees of one line: the text that was asked, and the reply with its number."""

    prompt: str
    reply: str
    price: float | None
    """None where the reply holds no number; such an example teaches nothing."""


def read_examples(content: bytes, *, fewest: int = FEWEST) -> list[Example]:
    """Return the examples of a JSONL file; raise `TrainingFileError` naming the lines that are wrong."""
    # Not splitlines(): JSON may hold U+2028 and its like unescaped, and those do not end a line.
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    examples, wrong = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            examples.append(_read(line))
        except ValueError as error:
            wrong.append(f"line {number}: {error}")
    if wrong:
        more = f"; and {len(wrong) - _NAMED:,} more lines" if len(wrong) > _NAMED else ""
        raise TrainingFileError(f"Invalid file format: {'; '.join(wrong[:_NAMED])}{more}.")
    if len(examples) < fewest:
        raise TrainingFileError(
            f"The file has {len(examples)} example(s), but must have at least {fewest} to be trained on."
        )
    if all(example.price is None for example in examples):
        raise TrainingFileError("No reply holds a number, from line 1 on: there is no price to learn.")
    return examples


def prompt_of(messages: list[dict[str, Any]]) -> str:
    """Return the text of the user's messages, which is all that the model goes by."""
    return "\n".join(text_of(message) for message in messages if message["role"] == "user")


def tokens_in(example: Example) -> int:
    """Return about how many tokens an example costs to train on once."""
    # Three around each message, and a start.
    return len(tokens_of(example.prompt)) + len(tokens_of(example.reply)) + 9


def problem_in(messages: Any) -> str | None:
    """Return what keeps a value from being a list of chat messages, or None where nothing does."""
    if not isinstance(messages, list) or not messages:
        return "'messages' must be a list with at least one message"
    for place, message in enumerate(messages):
        if not isinstance(message, dict):
            return f"messages[{place}] is not an object"
        role = message.get("role")
        if not isinstance(role, str) or role not in ROLES:
            return f"messages[{place}] has the unknown role {role!r:.40}"
        if not _readable(message.get("content"), role):
            return f"messages[{place}].content is not text"
    return None


def _readable(content: Any, role: str) -> bool:
    if isinstance(content, list):
        return bool(content) and all(map(_is_part, content))
    return isinstance(content, str) or (content is None and role == "assistant")


def _is_part(part: Any) -> bool:
    kind = part.get("type") if isinstance(part, dict) else None
    return isinstance(part.get("text"), str) if kind == "text" else isinstance(kind, str) and kind in PARTS


def _read(line: bytes) -> Example:
    """Return the example of a line; raise ValueError saying what is wrong with it."""
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8, byte {line[error.start]:#04x} cannot be read") from error
    try:
        row = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not valid JSON ({error.msg})") from error
    if not isinstance(row, dict) or "messages" not in row:
        raise ValueError("there is no 'messages'")
    messages = row["messages"]
    problem = _unknown(row, LINE_KEYS) or problem_in(messages) or _problem_in_training(messages)
    if problem is not None:
        raise ValueError(problem)
    reply = text_of(messages[-1])
    example = Example(prompt=prompt_of(messages), reply=reply, price=number_in(reply))
    is_cut = len(line) > CONTEXT and tokens_in(example) > CONTEXT  # at its end, where the price stands
    # A number of 400 digits is infinite as a float, and teaches nothing.
    is_number = example.price is not None and math.isfinite(example.price)
    if is_number and not is_cut and messages[-1].get("weight", 1):
        return example
    return replace(example, price=None)


def _problem_in_training(messages: list[dict[str, Any]]) -> str | None:
    """Return what may stand in a chat, and not in a training file."""
    for place, message in enumerate(messages):
        weight = message.get("weight", 1)
        if isinstance(weight, bool) or weight not in (0, 1):
            return f"messages[{place}].weight is neither 0 nor 1"
        problem = _unknown(message, MESSAGE_KEYS)
        if special := SPECIAL_TOKEN.search(text_of(message)):
            problem = f"the text holds the special token {special[0]}"
        if problem is not None:
            return f"messages[{place}]: {problem}"
    if messages[-1]["role"] != "assistant":
        return "the last message must be from the assistant"
    if not text_of(messages[-1]).strip() and not messages[-1].keys() & {"tool_calls", "function_call"}:
        return "the last message is empty"
    return None


def _unknown(given: dict[str, Any], known: frozenset[str]) -> str | None:
    names = sorted(given.keys() - known)
    return f"unknown key {names[0]!r:.40}" if names else None
