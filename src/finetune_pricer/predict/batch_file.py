"""The files of a batch, one question or answer in a line: writing questions, and reading what came back."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from .._service.answer_json import parse_json
from .._service.error_mapping import is_passing, make_error
from .._service.problem import find_missing_reply, read_problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .._service.requests import Answer, Message
    from ..errors import ServiceError

_OWN_FIELDS = {"model", "messages"}


class RequestFile(NamedTuple):
    """Questions as a file for the Batch API."""

    content: bytes
    keys: frozenset[str]


def write_line(key: str, model: str, messages: Iterable[Message], parameters: Mapping[str, Any]) -> bytes:
    """Return a question as a line, without its end."""
    import orjson

    body = {"model": model, "messages": list(messages), **parameters}
    return orjson.dumps({"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body})


def cut_into_files(
    lines: Iterable[tuple[str, bytes]], *, most_lines: int, most_bytes: int
) -> Iterator[RequestFile]:
    """Yield files of at most so many lines and bytes, given lines by their keys."""
    held: dict[str, bytes] = {}
    size = 0
    for key, line in lines:
        if held and (len(held) == most_lines or size + len(line) + 1 > most_bytes):
            yield RequestFile(b"\n".join(held.values()), frozenset(held))
            held, size = {}, 0
        held[key] = line
        size += len(line) + 1
    if held:
        yield RequestFile(b"\n".join(held.values()), frozenset(held))


def read_keys(content: bytes) -> frozenset[str]:
    """Return the keys of the questions in a file that was sent, by whomever."""
    return frozenset(row["custom_id"] for row in _read_rows(content) if isinstance(row.get("custom_id"), str))


def read_parameters(content: bytes) -> dict[str, dict[str, Any]]:
    """Return what each question was sent with beside model and messages, by its key."""
    found = {}
    for row in _read_rows(content):
        if isinstance(row.get("custom_id"), str) and isinstance(row.get("body"), dict):
            body = row["body"]
            found[row["custom_id"]] = {name: body[name] for name in body.keys() - _OWN_FIELDS}
    return found


class ResultLine(NamedTuple):
    """What came of one question; neither an answer nor an error where it may be answered if asked again."""

    key: str | None
    """None where the line does not say which question it answers."""
    answer: Answer | None = None
    error: ServiceError | None = None


def read_results(content: bytes) -> Iterator[ResultLine]:
    """Yield the lines of a result file; what is no JSON object, such as a line that was cut, is left out."""
    yield from map(read_result, _read_rows(content))


def read_result(row: Mapping[str, Any]) -> ResultLine:
    """Return what a line of a result file says."""
    named = row.get("custom_id")
    key = named if isinstance(named, str) else None
    response = _as_object(row.get("response"))
    body = _as_object(response.get("body"))
    status = response.get("status_code")
    if status == 200 and find_missing_reply(body) is None:
        return ResultLine(key, answer=body)
    return ResultLine(key, error=_read_error(status, row.get("error") or body))


def _as_object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _read_error(status: Any, said: Any) -> ServiceError | None:
    """Return the error that a line holds; None where the same question may be answered later."""
    problem = read_problem(said)
    if not isinstance(status, int) or status == 200:  # which is the gateway's, where what is behind it fails
        status = problem.status
    if status is None or status < 400:
        return None
    problem = problem._replace(message=problem.message or f"HTTP {status}", status=status)
    if is_passing(status) and not (problem.is_about_money or problem.is_about_size):
        return None
    return make_error(problem, status=status)


def _read_rows(content: bytes) -> Iterator[dict[str, Any]]:
    if content.lstrip()[:1] == b"[":  # some services send one array in place of lines
        with suppress(ValueError):
            yield from (row for row in parse_json(content) if isinstance(row, dict))
            return
    for line in content.splitlines():
        with suppress(ValueError):
            row = parse_json(line)
            if isinstance(row, dict):
                yield row
