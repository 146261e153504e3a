"""What a list of chat messages must be, in a request as in a training file."""

from __future__ import annotations

from typing import Any

from .._chat_protocol import ROLES

PARTS = frozenset({"image_url", "input_audio", "file", "refusal"})
"""Parts of a message that are not text."""


def find_problem(messages: Any) -> str | None:
    """Return what keeps a value from being a list of chat messages, or None where nothing does."""
    if not isinstance(messages, list) or not messages:
        return "'messages' must be a list with at least one message"
    for place, message in enumerate(messages):
        if not isinstance(message, dict):
            return f"messages[{place}] is not an object"
        role = message.get("role")
        if not isinstance(role, str):  # not shown: it may be nested deeper than can be written
            return f"messages[{place}] has an unknown role, which is not text"
        if role not in ROLES:
            return f"messages[{place}] has the unknown role {role!r:.40}"
        if not _is_content(message.get("content"), role):
            return f"messages[{place}].content is not text"
    return None


def _is_content(content: Any, role: str) -> bool:
    if isinstance(content, list):
        return bool(content) and all(map(_is_part, content))
    return isinstance(content, str) or (content is None and role == "assistant")


def _is_part(part: Any) -> bool:
    kind = part.get("type") if isinstance(part, dict) else None
    return isinstance(part.get("text"), str) if kind == "text" else isinstance(kind, str) and kind in PARTS
