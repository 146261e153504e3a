"""What can be wrong with a line of a training file, and the fixes that need no judgement.

The local server has a checker of its own (`local/learners/sparse/training_file.py`), so that each of the two
can find the other's errors; both stand on the facts of `_chat_protocol`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from .._chat_protocol import CALLS, LINE_KEYS, MESSAGE_KEYS, ROLES, SPECIAL_TOKEN, text_of
from ..errors import PriceNotFound
from ..prices import parse_price
from .jsonl import find_special_token
from .tokens import tokens_of

if TYPE_CHECKING:
    from ..providers import Provider

Level = Literal["error", "warning"]
Line = dict[str, Any]
"""A line of a training file: the messages, and what stands beside them."""

_WEIGHTS = {True: 1, False: 0, "0": 0, "1": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """One kind of thing that can be wrong with a training file."""

    level: Level
    """`"error"`: a service refuses the file, or learns something else. `"warning"`: worth a look."""
    what: str
    """What is wrong."""
    fix: str
    """What to do about it."""


ISSUES = {
    "unreadable": Issue(level="error", what="is not UTF-8", fix="save the file as UTF-8"),
    "json": Issue(level="error", what="is not JSON", fix="write each line with a JSON library"),
    "object": Issue(level="error", what="is not an object", fix='write {"messages": [...]}'),
    "blank": Issue(level="warning", what="is blank", fix="remove the line"),
    "messages": Issue(level="error", what="missing, not a list, or empty", fix="give at least two messages"),
    "key": Issue(level="error", what="unknown key", fix="remove the key"),
    "message": Issue(level="error", what="is not an object", fix='write {"role": ..., "content": ...}'),
    "role": Issue(level="error", what="unknown role", fix="use system, developer, user, assistant or tool"),
    "content": Issue(
        level="error",
        what="is not text",
        fix="give a string, or a list of text parts, and of images from the user",
    ),
    "last": Issue(
        level="error", what="the last message is not the assistant's", fix="end with the reply to learn"
    ),
    "empty": Issue(level="error", what="the reply is empty", fix="give the price as the reply"),
    "price": Issue(
        level="warning", what="the reply holds no price", fix="write the price in the form of the formatter"
    ),
    "weight": Issue(level="error", what="is neither 0 nor 1", fix="write 0 or 1, or leave it out"),
    "special": Issue(
        level="error",
        what="special token of the tokenizer in the text",
        fix="take it out; jobs fail on it after the upload",
    ),
    "long": Issue(
        level="error",
        what="more tokens than the service reads",
        fix="shorten the text; it is cut at the end, where the price stands",
    ),
    "duplicate": Issue(level="warning", what="the same example again", fix="keep one of them"),
    "systems": Issue(
        level="warning", what="a system message unlike the first line's", fix="use one for all examples"
    ),
    "mark": Issue(level="warning", what="byte order mark", fix="write it as the service asks"),
    "few": Issue(level="error", what="too few examples", fix="add examples"),
    "large": Issue(level="error", what="the file is too large", fix="use fewer or shorter examples"),
}


class Occurrence(NamedTuple):
    """An issue at one place."""

    code: str
    """Its key in `ISSUES`."""
    path: str = ""
    """The JSON path within the line, such as `messages[1].content`."""
    detail: str = ""


def check_line(line: bytes, service: Provider, currency: str) -> tuple[Line | None, list[Occurrence]]:
    """Return what a line holds, or None where its messages cannot be told apart, and all that is wrong."""
    import orjson

    found: list[Occurrence] = []
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return None, [_explain_unreadable(line, error.msg)]
    if not isinstance(row, dict):
        return None, [Occurrence("object", "", type(row).__name__)]
    if len(row) != 1:
        found += [Occurrence("key", key) for key in row.keys() - LINE_KEYS]
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        return None, [*found, Occurrence("messages", "messages")]
    before = len(found)
    for place, message in enumerate(messages):
        _check_message(place, message, found)
    if len(found) > before and any(each.code in {"message", "role", "content"} for each in found):
        return None, found
    _check_reply(len(messages) - 1, messages[-1], currency, found)
    # A token has at least one byte, so most lines need no counting. Of images nobody knows the tokens.
    most = service.max_example_tokens
    if len(line) > most and (tokens := tokens_of([_text_only(message) for message in messages])) > most:
        found.append(Occurrence("long", "messages", f"{tokens:,} of {most:,}"))
    return row, found


def key_of(row: Line) -> int:
    """Return a hash that is the same for lines that say the same, in whatever order of their keys."""
    import orjson

    if any(isinstance(message.get("content"), list) for message in row["messages"]):
        row = row | {"messages": [_join_parts(message) for message in row["messages"]]}
    return hash(orjson.dumps(row, option=orjson.OPT_SORT_KEYS))


def _join_parts(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    is_text = isinstance(content, list) and all(part.get("type") == "text" for part in content)
    return message | {"content": text_of(message)} if is_text else message


def _text_only(message: dict[str, Any]) -> dict[str, Any]:
    return message | {"content": text_of(message)}


def _explain_unreadable(line: bytes, reason: str) -> Occurrence:
    if not line.strip():
        return Occurrence("blank")
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return Occurrence("unreadable", "", f"byte {line[error.start]:#04x} at column {error.start + 1}")
    return Occurrence("json", "", reason)


def _check_message(place: int, message: Any, found: list[Occurrence]) -> None:
    if not isinstance(message, dict):
        found.append(Occurrence("message", f"messages[{place}]", type(message).__name__))
        return
    role, content = message.get("role"), message.get("content")
    if len(message) != 2:
        _check_keys(place, message, found)
    if not isinstance(role, str) or role not in ROLES:
        found.append(Occurrence("role", f"messages[{place}].role", repr(role)[:40]))
    if isinstance(content, str):
        text = content
    elif content is None and role == "assistant" and any(call in message for call in CALLS):
        text = ""
    elif (wrong := _find_wrong_part(content, role)) is None:
        text = text_of(message)
    else:
        at, what = wrong
        found.append(Occurrence("content", f"messages[{place}].content{at}", what))
        return
    if "<|" in text and (token := find_special_token(text)):
        found.append(Occurrence("special", f"messages[{place}].content", token))


def _check_keys(place: int, message: dict[str, Any], found: list[Occurrence]) -> None:
    found += [Occurrence("key", f"messages[{place}].{key}") for key in message.keys() - MESSAGE_KEYS]
    if "weight" in message and (isinstance(message["weight"], bool) or message["weight"] not in (0, 1)):
        found.append(Occurrence("weight", f"messages[{place}].weight", repr(message["weight"])[:40]))


def _find_wrong_part(content: Any, role: Any) -> tuple[str, str] | None:
    """Return where in a content something is no text, nor an image that a user shows, and what; or None."""
    if not isinstance(content, list):
        return "", type(content).__name__
    if not content:
        return "", "an empty list"
    for place, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            continue
        image = part.get("image_url") if kind == "image_url" and role == "user" else None
        if not isinstance(image, dict) or not isinstance(image.get("url"), str):
            return f"[{place}]", f"a part of the type {str(kind)[:40]!r}"
    return None


def _check_reply(place: int, message: dict[str, Any], currency: str, found: list[Occurrence]) -> None:
    if message["role"] != "assistant":
        found.append(Occurrence("last", f"messages[{place}].role", repr(message["role"])))
        return
    text = text_of(message)
    if not text.strip():
        if any(message.get(call) for call in CALLS):  # which a service learns as well as any text
            found.append(Occurrence("price", f"messages[{place}]", "it calls a function"))
        else:
            found.append(Occurrence("empty", f"messages[{place}].content"))
        return
    try:
        parse_price(text, currency)
    except PriceNotFound:
        found.append(Occurrence("price", f"messages[{place}].content", repr(text[:40])))


def fix_line(line: bytes) -> bytes:
    """Return a line with everything fixed that needs no judgement.

    Unknown keys are removed, weights become 0 or 1, and special tokens are broken up by spaces. A line that
    is no JSON, or in which there is nothing to fix, is returned as it is.
    """
    import orjson

    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return line
    if not isinstance(row, dict) or not isinstance(row.get("messages"), list):
        return line
    fixed = {key: value for key, value in row.items() if key in LINE_KEYS}
    fixed["messages"] = [
        _fix_message(message) if isinstance(message, dict) else message for message in row["messages"]
    ]
    return line if fixed == row and not _has_boolean_weight(row) else orjson.dumps(fixed)


def _has_boolean_weight(row: dict[str, Any]) -> bool:
    # To Python `true` equals 1, so that the comparison does not see the fix; a service refuses `true`.
    return any(isinstance(m, dict) and isinstance(m.get("weight"), bool) for m in row["messages"])


def _fix_message(message: dict[str, Any]) -> dict[str, Any]:
    fixed = {key: value for key, value in message.items() if key in MESSAGE_KEYS}
    weight = fixed.get("weight")
    if isinstance(weight, bool | str) and weight in _WEIGHTS:
        fixed["weight"] = _WEIGHTS[weight]
    content = fixed.get("content")
    if isinstance(content, str):
        fixed["content"] = _break_up_special_tokens(content)
    elif isinstance(content, list):
        fixed["content"] = [_fix_part(part) for part in content]
    return fixed


def _fix_part(part: Any) -> Any:
    is_text = isinstance(part, dict) and isinstance(part.get("text"), str)
    return part | {"text": _break_up_special_tokens(part["text"])} if is_text else part


def _break_up_special_tokens(text: str) -> str:
    return SPECIAL_TOKEN.sub(lambda token: f"< {token.group()[1:-1]} >", text) if "<|" in text else text
