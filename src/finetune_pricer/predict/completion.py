"""A chat completion as services send it: its choices, their texts, and what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._chat_protocol import text_of
from .prediction import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._service.requests import Answer

    Choice = Mapping[str, Any]

_MOST_TOKENS = 10**9  # of one answer


def read_choices(answer: Answer) -> list[Choice]:
    """Return the replies of an answer; an empty list where it has none that can be read."""
    found = answer.get("choices")
    return [choice for choice in found if isinstance(choice, dict)] if isinstance(found, list) else []


def read_first_text(answer: Answer) -> str | None:
    """Return the text of an answer's first reply; None where there is none."""
    return read_text((read_choices(answer) or [{}])[0])


def read_text(choice: Choice) -> str | None:
    """Return a reply's text; None where it has no content at all, which is not the same as an empty one."""
    message = read_message(choice)
    # Some services send the content in parts.
    return text_of(message) if isinstance(message.get("content"), str | list) else None


def read_message(choice: Choice) -> Mapping[str, Any]:
    """Return a reply's message; empty where there is none."""
    found = choice.get("message")
    return found if isinstance(found, dict) else {}


def read_usage(answer: Answer) -> Usage:
    """Return the tokens that an answer cost; 0 where the service does not say."""
    found = answer.get("usage")
    usage = found if isinstance(found, dict) else {}
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return Usage(prompt_tokens=_read_tokens(prompt), completion_tokens=_read_tokens(completion))


def _read_tokens(value: object) -> int:
    # A number that no answer can have costs no budget and fits no column: the service has not said it.
    return value if isinstance(value, int) and 0 <= value <= _MOST_TOKENS else 0
