"""Everything that can be wrong with one line of a training file, and the mends that need no judgement."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from .._chat_protocol import LINE_KEYS, MESSAGE_KEYS, ROLES, SPECIAL_TOKEN, text_of
from ..errors import PriceNotFound
from ..prices import parse_price
from .jsonl import special_token_in
from .tokens import tokens_of

if TYPE_CHECKING:
    from ..providers.provider import Provider

_SURELY_A_PRICE = re.compile(r"\$?\d+(?:\.\d\d)?\Z")  # what nearly all replies are; the rest is parsed
_WEIGHTS = {True: 1, False: 0, "0": 0, "1": 1}

Messages = list[dict[str, Any]]


class Flaw(NamedTuple):
    """One fault at one place."""

    code: str
    path: str = ""
    detail: str = ""


def look_at(line: bytes, service: Provider, currency: str) -> tuple[Messages | None, list[Flaw]]:
    """Find what is wrong with a line; the messages come too, unless they cannot be told apart."""
    from orjson import JSONDecodeError, loads

    flaws: list[Flaw] = []
    try:
        row = loads(line)
    except JSONDecodeError as error:
        return None, [_unreadable(line, error.msg)]
    if not isinstance(row, dict):
        return None, [Flaw("object", "", type(row).__name__)]
    if len(row) != 1:
        flaws += [Flaw("key", key) for key in row.keys() - LINE_KEYS]
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        return None, [*flaws, Flaw("messages", "messages")]
    before = len(flaws)
    for place, message in enumerate(messages):
        _look_at_message(place, message, flaws)
    if len(flaws) > before and any(flaw.code in {"message", "role", "content"} for flaw in flaws):
        return None, flaws
    _look_at_reply(len(messages) - 1, messages[-1], currency, flaws)
    # A token has at least one byte, so most lines need no counting.
    most = service.max_example_tokens
    if len(line) > most and (tokens := tokens_of(messages)) > most:
        flaws.append(Flaw("long", "messages", f"{tokens:,} of {most:,}"))
    return messages, flaws


def _unreadable(line: bytes, reason: str) -> Flaw:
    if not line.strip():
        return Flaw("blank")
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return Flaw("unreadable", "", f"byte {line[error.start]:#04x} at column {error.start + 1}")
    return Flaw("json", "", reason)


def _look_at_message(place: int, message: Any, flaws: list[Flaw]) -> None:
    if not isinstance(message, dict):
        flaws.append(Flaw("message", f"messages[{place}]", type(message).__name__))
        return
    role, content = message.get("role"), message.get("content")
    if len(message) != 2:
        _look_at_keys(place, message, flaws)
    if not isinstance(role, str) or role not in ROLES:
        flaws.append(Flaw("role", f"messages[{place}].role", repr(role)[:40]))
    if isinstance(content, str):
        text = content
    elif _is_parts(content) or (content is None and role == "assistant" and "tool_calls" in message):
        text = text_of(message)
    else:
        flaws.append(Flaw("content", f"messages[{place}].content", type(content).__name__))
        return
    if "<|" in text and (token := special_token_in(text)):
        flaws.append(Flaw("special", f"messages[{place}].content", token))


def _look_at_keys(place: int, message: dict[str, Any], flaws: list[Flaw]) -> None:
    flaws += [Flaw("key", f"messages[{place}].{key}") for key in message.keys() - MESSAGE_KEYS]
    if "weight" in message and (isinstance(message["weight"], bool) or message["weight"] not in (0, 1)):
        flaws.append(Flaw("weight", f"messages[{place}].weight", repr(message["weight"])[:40]))


def _is_parts(content: Any) -> bool:
    return isinstance(content, list) and all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
        for part in content
    )


def _look_at_reply(place: int, message: dict[str, Any], currency: str, flaws: list[Flaw]) -> None:
    if message["role"] != "assistant":
        flaws.append(Flaw("last", f"messages[{place}].role", repr(message["role"])))
        return
    text = text_of(message)
    if _SURELY_A_PRICE.match(text):
        return
    if not text.strip():
        flaws.append(Flaw("empty", f"messages[{place}].content"))
        return
    try:
        parse_price(text, currency)
    except PriceNotFound:
        flaws.append(Flaw("price", f"messages[{place}].content", repr(text[:40])))


def mended(line: bytes) -> bytes:
    """Mend what needs no judgement: unknown keys go, weights become 0 or 1, special tokens are broken up.

    A line that cannot be read, or in which nothing is to be mended, stays as it is.
    """
    from orjson import JSONDecodeError, dumps, loads

    try:
        row = loads(line)
    except JSONDecodeError:
        return line
    if not isinstance(row, dict) or not isinstance(row.get("messages"), list):
        return line
    new = {key: value for key, value in row.items() if key in LINE_KEYS}
    new["messages"] = [
        _mended_message(message) if isinstance(message, dict) else message for message in row["messages"]
    ]
    return line if new == row and not _true_for_one(row) else dumps(new)


def _true_for_one(row: dict[str, Any]) -> bool:
    # To Python `true` equals 1, to a service it does not.
    return any(isinstance(m, dict) and isinstance(m.get("weight"), bool) for m in row["messages"])


def _mended_message(message: dict[str, Any]) -> dict[str, Any]:
    new = {key: value for key, value in message.items() if key in MESSAGE_KEYS}
    weight = new.get("weight")
    if isinstance(weight, bool | str) and weight in _WEIGHTS:
        new["weight"] = _WEIGHTS[weight]
    content = new.get("content")
    if isinstance(content, str):
        new["content"] = _broken_up(content)
    elif _is_parts(content):
        new["content"] = [part | {"text": _broken_up(part["text"])} for part in new["content"]]
    return new


def _broken_up(text: str) -> str:
    return SPECIAL_TOKEN.sub(lambda token: f"< {token.group()[1:-1]} >", text) if "<|" in text else text
