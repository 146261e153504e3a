"""Training files: the examples in one, or which of its lines is wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import orjson

from ..errors import TrainingFileError
from .replies import number_in, tokens_of

FEWEST = 10
"""How many examples a job needs at least."""
PARTS = frozenset({"image_url", "input_audio", "file", "refusal"})
"""Parts of a message that are no text, and that the learner passes over."""
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """What the learner sees of one line: the text that was asked, and the reply with its number."""

    prompt: str
    reply: str
    price: float | None
    """None where the reply holds no number; such an example teaches nothing."""


def read_examples(content: bytes, *, fewest: int = FEWEST) -> list[Example]:
    """Return the examples of a JSONL file; raise `TrainingFileError` naming the first line that is wrong."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise TrainingFileError(
            f"The file is not UTF-8: line {line} holds a byte that cannot be read."
        ) from error
    # Not splitlines(): JSON may hold U+2028 and its like unescaped, and those do not end a line.
    lines = text.split("\n")
    examples = [_read(line, number) for number, line in enumerate(lines, 1) if line.strip()]
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


def text_of(message: dict[str, Any]) -> str:
    """Return a message's text: its content, or the text parts of it."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content or [] if part.get("type") == "text")


def problem_in(messages: Any) -> str | None:
    """Return what keeps a value from being a list of chat messages, or None where nothing does."""
    if not isinstance(messages, list) or not messages:
        return "'messages' must be a list with at least one message"
    for place, message in enumerate(messages):
        if not isinstance(message, dict):
            return f"messages[{place}] is not an object"
        role = message.get("role")
        if not isinstance(role, str) or role not in ROLES:
            return f"messages[{place}] has the unknown role {role!r}"
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


def _read(line: str, number: int) -> Example:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise TrainingFileError(
            f"Invalid file format: line {number} is not valid JSON ({error.msg})."
        ) from error
    if not isinstance(row, dict) or "messages" not in row:
        raise TrainingFileError(f"Invalid file format: line {number} has no 'messages'.")
    messages = row["messages"]
    problem = problem_in(messages)
    if problem is None and messages[-1]["role"] != "assistant":
        problem = "the last message must be from the assistant"
    if problem is not None:
        raise TrainingFileError(f"Invalid file format: line {number}: {problem}.")
    reply = text_of(messages[-1])
    price = number_in(reply)
    if price is not None and not math.isfinite(price):
        price = None  # a number of 400 digits is infinite as a float, and teaches nothing
    return Example(prompt=prompt_of(messages), reply=reply, price=price)
