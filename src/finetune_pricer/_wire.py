"""The one module that knows openai's types: what we send, what we take from answers, what errors mean.

Sending is strict and typed by the client; answers are taken as plain dictionaries, because services send
nulls, new words and missing lists where the client's types promise none.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

from .errors import (
    AccessDenied,
    ModelNotFound,
    NotFound,
    RequestRejected,
    ServiceError,
    ServiceUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from openai import APIStatusError, AsyncOpenAI, OpenAI

Client = TypeVar("Client", "OpenAI", "AsyncOpenAI")

Message = dict[str, str]
"""One chat message: `role` and `content`."""

Answer = dict[str, Any]
"""What a service sent, as JSON has it."""

Page = TypeVar("Page")

_UNAUTHORISED = {401, 403}
_LATER = {408, 409, 425, 429}


@contextmanager
def translated(client: OpenAI | AsyncOpenAI) -> Iterator[None]:
    """Turn the openai client's errors into ours, with the key cut out of their words.

    Raises:
        ServiceError: One of its kinds, with status, code and param where the service gave them.
    """
    import openai

    try:
        yield
    except openai.APITimeoutError as error:
        raise ServiceUnavailable(f"no answer from {client.base_url} in time; try again later") from error
    except openai.APIConnectionError as error:
        reason = _without(client.api_key, str(error.__cause__ or error))
        raise ServiceUnavailable(
            f"cannot reach {client.base_url} ({reason}); is the service running, and the URL right?"
        ) from error
    except openai.APIStatusError as error:
        raise _refusal(error, client.api_key) from error
    except openai.OpenAIError as error:
        raise ServiceError(f"{client.base_url}: {_without(client.api_key, str(error))}") from error
    except json.JSONDecodeError as error:
        raise _no_json(client) from error


def _refusal(error: APIStatusError, key: str) -> ServiceError:
    body = error.body if isinstance(error.body, dict) else {}
    # Not every service words its errors as OpenAI does; what it says instead is better than nothing.
    said = body.get("message") or f"{error.message} {error.response.text[:300]}".strip()
    text = _without(key, str(said))
    status, code = error.status_code, body.get("code")
    kind: type[ServiceError] = RequestRejected
    if status in _UNAUTHORISED:
        kind, text = AccessDenied, f"{text} (HTTP {status}; check the key and what it may do)"
    elif status == 404:
        about_model = code == "model_not_found" or body.get("param") == "model"
        kind = ModelNotFound if about_model else NotFound
    elif code == "insufficient_quota":
        kind, text = AccessDenied, f"{text} (the account has no credit left)"
    elif status in _LATER or status >= 500:
        kind, text = ServiceUnavailable, f"{text} (HTTP {status}; try again later)"
    return kind(text, status=status, code=code, param=body.get("param"), request_id=error.request_id)


def _without(key: str, text: str) -> str:
    # Stripped, since a key with a line break in it is quoted without it.
    return text.replace(key.strip(), "***") if key.strip() else text


def _no_json(client: OpenAI | AsyncOpenAI) -> ServiceUnavailable:
    return ServiceUnavailable(
        f"{client.base_url} answered with something that is not JSON; check the base URL"
    )


def _page(client: OpenAI, ask: Callable[[], Page]) -> Page:
    try:
        return ask()
    except AttributeError as error:  # the client dresses whatever came as a page, and a str takes no dress
        raise _no_json(client) from error


def _plain(client: OpenAI | AsyncOpenAI, answer: Any) -> Answer:
    # A page instead of JSON comes through the client as a str: a proxy, or a base URL that lacks /v1.
    if not hasattr(answer, "to_dict"):
        raise _no_json(client)
    return cast("Answer", answer.to_dict(mode="json", warnings=False))


def upload_file(client: OpenAI, path: Path) -> Answer:
    """Send a file for fine-tuning."""
    with translated(client), path.open("rb") as file:
        return _plain(client, client.files.create(file=file, purpose="fine-tune"))


def retrieve_file(client: OpenAI, file_id: str) -> Answer:
    """Ask for a file's state."""
    with translated(client):
        return _plain(client, client.files.retrieve(file_id))


def create_job(client: OpenAI, request: Mapping[str, Any]) -> Answer:
    """Ask for a fine-tuning job, once: a resent request whose answer was lost would buy a second one."""
    with translated(client):
        return _plain(client, client.with_options(max_retries=0).fine_tuning.jobs.create(**request))


def retrieve_job(client: OpenAI, job_id: str) -> Answer:
    """Ask for a job's state."""
    with translated(client):
        return _plain(client, client.fine_tuning.jobs.retrieve(job_id))


def cancel_job(client: OpenAI, job_id: str) -> Answer:
    """Ask for a job to be cancelled."""
    with translated(client):
        return _plain(client, client.fine_tuning.jobs.cancel(job_id))


def list_jobs(client: OpenAI, limit: int) -> list[Answer]:
    """Ask for the newest jobs, newest first, at most `limit`."""
    with translated(client):
        page = _page(client, lambda: client.fine_tuning.jobs.list(limit=min(limit, 100)))
        found: dict[Any, Answer] = {}
        for job in page:
            answer = _plain(client, job)
            # A service that ignores `after` sends its first page for ever.
            if len(found) >= limit or answer.get("id") in found:
                break
            found[answer.get("id")] = answer
        return list(found.values())


def event_pages(client: OpenAI, job_id: str) -> Iterator[list[Answer]]:
    """Ask for a job's events page by page, in the service's order (newest first, as a rule)."""
    with translated(client):
        page = _page(client, lambda: client.fine_tuning.jobs.list_events(job_id, limit=100))
        for each in page.iter_pages():
            yield [_plain(client, event) for event in each.data or []]


Reply = tuple[Answer, "Mapping[str, str]"]
"""An answer and the headers that came with it."""


def ask(client: OpenAI, model: str, messages: Sequence[Message], parameters: Mapping[str, Any]) -> Reply:
    """Ask a model once; gives the headers too, and spares the making of typed objects."""
    with translated(client):
        completions = client.chat.completions.with_raw_response
        raw = completions.create(model=model, messages=cast("Any", messages), **parameters)
        return _unpacked(client, raw)


async def aask(
    client: AsyncOpenAI, model: str, messages: Sequence[Message], parameters: Mapping[str, Any]
) -> Reply:
    """Do the same with an async client."""
    with translated(client):
        completions = client.chat.completions.with_raw_response
        raw = await completions.create(model=model, messages=cast("Any", messages), **parameters)
        return _unpacked(client, raw)


def _unpacked(client: OpenAI | AsyncOpenAI, raw: Any) -> Reply:
    import orjson

    try:
        answer = orjson.loads(raw.http_response.content)
    except orjson.JSONDecodeError as error:
        raise _no_json(client) from error
    if not isinstance(answer, dict):
        raise _no_json(client)
    return answer, raw.headers


def headers_of(error: ServiceError) -> Mapping[str, str]:
    """Give the headers of the answer that was an error; none where no answer came."""
    headers: Mapping[str, str] = getattr(getattr(error.__cause__, "response", None), "headers", {})
    return headers


def is_async(client: object) -> bool:
    """Whether a client's answers must be awaited."""
    import openai

    return isinstance(client, openai.AsyncOpenAI)


def patient(client: Client, seconds: float) -> Client:
    """Give the client without its own retries, and with a timeout where its user chose none."""
    import openai

    chosen: Any = openai.DEFAULT_TIMEOUT
    if client.timeout == chosen:
        return client.with_options(max_retries=0, timeout=seconds)
    return client.with_options(max_retries=0)


Request = Callable[[Any], Any]
"""What to ask: given a client, the answer or, from an async client, something to await."""


def upload_requests(name: str, content: bytes) -> Request:
    """Send a file of requests for the Batch API."""
    return lambda client: client.files.create(file=(name, content), purpose="batch")


def create_batch(file_id: str, metadata: Mapping[str, str]) -> Request:
    """Ask for a batch, once: a resent request whose answer was lost would buy a second one."""
    return lambda client: client.with_options(max_retries=0).batches.create(
        input_file_id=file_id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata=dict(metadata),
    )


def retrieve_batch(batch_id: str) -> Request:
    """Ask for a batch's state."""
    return lambda client: client.batches.retrieve(batch_id)


def cancel_batch(batch_id: str) -> Request:
    """Ask for a batch to be cancelled."""
    return lambda client: client.batches.cancel(batch_id)


def list_batches(after: str | None) -> Request:
    """Ask for a page of the newest batches."""
    if after is None:
        return lambda client: client.batches.with_raw_response.list(limit=100)
    return lambda client: client.batches.with_raw_response.list(limit=100, after=after)


def file_content(file_id: str) -> Request:
    """Ask for what is in a file."""
    return lambda client: client.files.content(file_id)


def unpacked(client: OpenAI | AsyncOpenAI, answer: Any) -> Answer:
    """Give an answer as JSON has it; the bytes of a file stand under `content`."""
    if hasattr(answer, "http_response"):
        return _unpacked(client, answer)[0]
    if isinstance(content := getattr(answer, "content", None), bytes):
        return {"content": content}
    return _plain(client, answer)
