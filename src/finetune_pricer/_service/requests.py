"""Every question that a service can be asked, and the sending of it.

A `Request` holds a function of a client, so that one list of them serves `openai.OpenAI` and
`openai.AsyncOpenAI`; `send` and `asend` carry it out. Answers are taken as plain dictionaries, because
services send nulls, new words and missing lists where the client's types promise none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping  # noqa: TC003 - a NamedTuple's fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from ..errors import ServiceError, ServiceUnavailable
from .answer_json import parse_json
from .error_mapping import address_of, make_hidden_error, not_a_reply, not_json, translate_errors
from .problem import find_hidden_problem, find_missing_reply

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO

    from openai import AsyncOpenAI, OpenAI

    from .error_mapping import Client

OneOf = TypeVar("OneOf", "OpenAI", "AsyncOpenAI")

Message = dict[str, str]
"""One chat message: `role` and `content`."""

Answer = dict[str, Any]
"""What a service sent, as JSON has it."""

_ROWS = ("data", "items", "results", "jobs", "batches", "files", "events", "checkpoints")
"""Where services have the rows of a list."""


class Request(NamedTuple):
    """A question to a service."""

    call: Callable[[Any], Any]
    """Given a client, returns the raw response or, from an async client, something to await."""
    wanted: Literal["object", "list", "anything", "bytes", "completion"] = "object"
    """What the answer must be: a JSON object; a list, whose rows are put under `data`; any JSON or nothing;
    a file's content; a chat completion."""


class Reply(NamedTuple):
    """An answer and the headers that came with it."""

    answer: Answer
    headers: Mapping[str, str]


def send(client: OpenAI, request: Request) -> Reply:
    """Send a request and return the answer; the bytes of a file stand under `content`.

    The client's timeout is for the whole answer, and an answer that is too large is not read to its end.

    Raises:
        ServiceError: The service refuses, cannot be reached, answers with something else, or too late.
        DataError: The client's connections are those of the process that this one was forked from.
    """
    from .connections import guard_client

    with translate_errors(client):
        return _read(client, request, request.call(guard_client(client)))


async def asend(client: AsyncOpenAI, request: Request) -> Reply:
    """Do as `send` does, with an async client."""
    from .connections import guard_client

    with translate_errors(client):
        return _read(client, request, await request.call(guard_client(client)))


def _read(client: Client, request: Request, raw: Any) -> Reply:
    from .connections import CUT

    response = getattr(raw, "http_response", raw)
    content: bytes = response.content
    if most := response.extensions.get(CUT):
        # Not asked again: it was paid for, and would be as large.
        raise ServiceError(f"{address_of(client)} answered with more than {most / 2**20:,.0f} MiB; not read")
    if request.wanted == "bytes":
        return Reply({"content": content}, response.headers)
    if request.wanted == "anything" and not content:
        return Reply({}, response.headers)
    answer = _parse(client, request, response)
    problem = find_missing_reply(answer) if request.wanted == "completion" else find_hidden_problem(answer)
    if problem is not None:
        raise make_hidden_error(client, problem)
    if request.wanted == "list":
        answer = _require_rows(client, answer)
    return Reply(answer, response.headers)


def _parse(client: Client, request: Request, response: Any) -> Answer:
    try:
        answer = parse_json(response.content)
    except ValueError as error:
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            raise not_a_reply(client) from error
        raise not_json(client) from error
    if request.wanted in {"anything", "list"} and isinstance(answer, list):
        answer = {"data": answer}
    if not isinstance(answer, dict):
        raise not_json(client)
    return answer


def _require_rows(client: Client, answer: Answer) -> Answer:
    # What has no rows is no empty list: something would be bought again that the list holds.
    found = _find_rows(answer)
    if found is None:
        raise ServiceUnavailable(f"{address_of(client)} answered with something that is no list")
    return found


def _find_rows(answer: Any) -> Answer | None:
    """Put the rows of a list under `data`, wherever the service has them; None where there are none."""
    if isinstance(answer, list):
        return {"data": answer}
    if not isinstance(answer, dict):
        return None
    for name in _ROWS:
        if isinstance(answer.get(name), list | dict) and (found := _find_rows(answer[name])) is not None:
            return answer | found
    is_empty = any(answer.get(name, answer) is None for name in _ROWS)
    return answer | {"data": []} if is_empty else None


def is_async(client: object) -> bool:
    """Whether a client's answers must be awaited."""
    import openai

    return isinstance(client, openai.AsyncOpenAI)


def note_process(client: OpenAI | AsyncOpenAI) -> None:
    """Take note that a client is this process's: in one that is forked it gets connections of its own."""
    from .connections import note_home

    note_home(client)


def without_retries(client: OneOf, timeout: float) -> OneOf:
    """Return the client without its own retries, and with a timeout in seconds where its user chose none."""
    import openai

    from .connections import guard_client

    default: Any = openai.DEFAULT_TIMEOUT
    if client.timeout == default:
        return guard_client(client.with_options(max_retries=0, timeout=timeout))
    return guard_client(client.with_options(max_retries=0))


# Files.


def create_file(file: IO[bytes], name: str, token: str) -> Request:
    """Send a file for fine-tuning, once: resent after a lost answer, it could be there twice."""
    return Request(
        lambda client: client.with_options(max_retries=0).files.with_raw_response.create(
            file=(name, file), purpose="fine-tune", extra_headers=_idempotent(token)
        )
    )


def create_batch_file(name: str, content: bytes) -> Request:
    """Send a file of requests for the Batch API."""
    return Request(
        lambda client: client.files.with_raw_response.create(file=(name, content), purpose="batch")
    )


def get_file(file_id: str) -> Request:
    """Ask for a file's state."""
    return Request(lambda client: client.files.with_raw_response.retrieve(file_id))


def get_file_content(file_id: str) -> Request:
    """Ask for a file's bytes."""
    return Request(lambda client: client.files.with_raw_response.content(file_id), "bytes")


def list_files(after: str | None) -> Request:
    """Ask for a page of the files for fine-tuning, newest first."""
    options = _from(after)
    return Request(
        lambda client: client.files.with_raw_response.list(purpose="fine-tune", limit=1000, **options),
        "list",
    )


def delete_file(file_id: str) -> Request:
    """Ask for a file to be deleted."""
    return Request(lambda client: client.files.with_raw_response.delete(file_id), "anything")


# Models.


def get_model(name: str) -> Request:
    """Ask for what is known of a model."""
    return Request(lambda client: client.models.with_raw_response.retrieve(name))


def delete_model(name: str) -> Request:
    """Ask for a tuned model to be deleted."""
    return Request(lambda client: client.models.with_raw_response.delete(name), "anything")


# Fine-tuning jobs.


def create_job(body: Mapping[str, Any], extra: Mapping[str, Any], token: str) -> Request:
    """Ask for a fine-tuning job, once: resent after a lost answer, it would be paid twice.

    Args:
        body: What the openai client has names for.
        extra: What goes into the body beside it.
        token: Names this one request; a service that knows `Idempotency-Key` makes one job of it, however
            often it arrives.
    """
    return Request(
        lambda client: client.with_options(max_retries=0).fine_tuning.jobs.with_raw_response.create(
            **body, extra_body=dict(extra) or None, extra_headers=_idempotent(token)
        )
    )


def _idempotent(token: str) -> dict[str, str]:
    return {"Idempotency-Key": token}


def get_job(job_id: str) -> Request:
    """Ask for a job's state."""
    return Request(lambda client: client.fine_tuning.jobs.with_raw_response.retrieve(job_id))


def act_on_job(job_id: str, action: Literal["cancel", "pause", "resume"]) -> Request:
    """Ask for a job to be stopped, held, or let go on."""
    return Request(lambda client: getattr(client.fine_tuning.jobs.with_raw_response, action)(job_id))


def list_jobs(after: str | None, *, limit: int = 100, metadata: Mapping[str, str] | None = None) -> Request:
    """Ask for a page of jobs, newest first; only those with this metadata, where the service can tell."""
    options = _from(after) | ({"metadata": dict(metadata)} if metadata else {})
    return Request(
        lambda client: client.fine_tuning.jobs.with_raw_response.list(limit=limit, **options),
        "list",
    )


def list_events(job_id: str, after: str | None, *, limit: int = 100) -> Request:
    """Ask for a page of a job's events, in the service's order (newest first, as a rule)."""
    options = _from(after)
    return Request(
        lambda client: client.fine_tuning.jobs.with_raw_response.list_events(job_id, limit=limit, **options),
        "list",
    )


def list_checkpoints(job_id: str, after: str | None) -> Request:
    """Ask for a page of a job's checkpoints."""
    options = _from(after)
    return Request(
        lambda client: client.fine_tuning.jobs.checkpoints.with_raw_response.list(
            job_id, limit=100, **options
        ),
        "list",
    )


# Chat, and the Batch API.


def ask_model(model: str, messages: Sequence[Message], parameters: Mapping[str, Any]) -> Request:
    """Ask a model once; the parameters go into the body as they are, also those that OpenAI does not know."""
    return Request(
        lambda client: client.chat.completions.with_raw_response.create(
            model=model, messages=messages, extra_body=dict(parameters)
        ),
        "completion",
    )


def create_batch(file_id: str, metadata: Mapping[str, str], token: str) -> Request:
    """Ask for a batch, once: resent after a lost answer, it would be paid twice.

    Args:
        file_id: The service's name for the file of its questions.
        metadata: What the batch is to be known by.
        token: Names this one request, for a service that knows `Idempotency-Key`.
    """
    return Request(
        lambda client: client.with_options(max_retries=0).batches.with_raw_response.create(
            input_file_id=file_id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata=dict(metadata),
            extra_headers=_idempotent(token),
        )
    )


def get_batch(batch_id: str) -> Request:
    """Ask for a batch's state."""
    return Request(lambda client: client.batches.with_raw_response.retrieve(batch_id))


def cancel_batch(batch_id: str) -> Request:
    """Ask for a batch to be cancelled."""
    return Request(lambda client: client.batches.with_raw_response.cancel(batch_id))


def list_batches(after: str | None) -> Request:
    """Ask for a page of batches, newest first; some services answer with a bare array."""
    options = _from(after)
    return Request(lambda client: client.batches.with_raw_response.list(limit=100, **options), "list")


def list_batch_files(after: str | None) -> Request:
    """Ask for a page of the files of requests, newest first; some services answer with a bare array."""
    options = _from(after)
    return Request(
        lambda client: client.files.with_raw_response.list(purpose="batch", limit=1000, **options), "list"
    )


# Paths that only some services have. One that begins with a slash starts at the service's root.


def get_path(path: str) -> Request:
    """Ask for what stands at a path of a service's own."""
    return Request(lambda client: client.get(_at(client, path), cast_to=_response()), "anything")


def post_path(path: str, body: Mapping[str, Any]) -> Request:
    """Post to a path of a service's own, once."""
    return Request(
        lambda client: client.with_options(max_retries=0).post(
            _at(client, path), body=dict(body), cast_to=_response()
        ),
        "anything",
    )


def delete_path(path: str) -> Request:
    """Delete what stands at a path of a service's own."""
    return Request(lambda client: client.delete(_at(client, path), cast_to=_response()), "anything")


def _response() -> Any:
    import httpx2

    return httpx2.Response


def _at(client: Client, path: str) -> str:
    return str(client.base_url.join(path))


def _from(after: str | None) -> dict[str, Any]:
    return {} if after is None else {"after": after}
