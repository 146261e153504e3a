"""Training files: the conversations in one, or which of its lines are wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from ..._chat_protocol import LINE_KEYS, MESSAGE_KEYS, SPECIAL_TOKEN, text_of
from ...errors import TrainingFileError
from ..chat_messages import find_problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FEWEST = 10
"""How many examples a job needs at least."""
_NAMED = 5  # how many wrong lines are spelled out


def read_rows(lines: Iterable[bytes], *, fewest: int = FEWEST) -> Iterator[list[dict[str, Any]]]:
    """Yield the messages of each example; `lines` is an open file, or anything else that yields its lines.

    Raises:
        TrainingFileError: Some lines are wrong, which the message names, or there are too few. It is raised
            when all lines have been read.
    """
    count, wrong = 0, []
    for number, line in enumerate(lines, 1):
        content = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if not content.strip():
            continue
        try:
            messages = _read_row(content)
        except ValueError as error:
            wrong.append(f"line {number}: {error}")
        else:
            count += 1
            yield messages
    if wrong:
        more = f"; and {len(wrong) - _NAMED:,} more lines" if len(wrong) > _NAMED else ""
        raise TrainingFileError(f"Invalid file format: {'; '.join(wrong[:_NAMED])}{more}.")
    if count < fewest:
        raise TrainingFileError(
            f"The file has {count} example(s), but must have at least {fewest} to be trained on."
        )


def _read_row(line: bytes) -> list[dict[str, Any]]:
    """Return the messages of a line; raise ValueError saying what is wrong with it."""
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
    messages: list[dict[str, Any]] = row["messages"]
    problem = _find_unknown(row, LINE_KEYS) or find_problem(messages) or _find_training_problem(messages)
    if problem is not None:
        raise ValueError(problem)
    return messages


def _find_training_problem(messages: list[dict[str, Any]]) -> str | None:
    """Return what is allowed in a chat but not in a training file, or None."""
    for place, message in enumerate(messages):
        weight = message.get("weight", 1)
        if isinstance(weight, bool) or weight not in (0, 1):
            return f"messages[{place}].weight is neither 0 nor 1"
        problem = _find_unknown(message, MESSAGE_KEYS)
        if special := SPECIAL_TOKEN.search(text_of(message)):
            problem = f"the text holds the special token {special[0]}"
        if problem is not None:
            return f"messages[{place}]: {problem}"
    if messages[-1]["role"] != "assistant":
        return "the last message must be from the assistant"
    if not text_of(messages[-1]).strip() and not messages[-1].keys() & {"tool_calls", "function_call"}:
        return "the last message is empty"
    return None


def _find_unknown(given: dict[str, Any], known: frozenset[str]) -> str | None:
    names = sorted(given.keys() - known)
    return f"unknown key {names[0]!r:.40}" if names else None
