"""The one module that knows openai's types: what we send, what we take from answers, what errors mean.

A request is a function of a client, so that one list of them serves `openai.OpenAI` and `openai.AsyncOpenAI`;
`send` and `asend` carry it out. Answers are taken as plain dictionaries, because services send nulls, new
words and missing lists where the client's types promise none.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ..errors import (
    AccessDenied,
    ModelNotFound,
    NotFound,
    RequestRejected,
    ServiceError,
    ServiceUnavailable,
    TrainingNotAvailable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import IO

    from openai import APIConnectionError, APIStatusError, AsyncOpenAI, OpenAI

    Client = OpenAI | AsyncOpenAI

OneOf = TypeVar("OneOf", "OpenAI", "AsyncOpenAI")

Message = dict[str, str]
"""One chat message: `role` and `content`."""

Answer = dict[str, Any]
"""What a service sent, as JSON has it."""

Request = Callable[[Any], Any]
"""What to ask: given a client, the answer or, from an async client, something to await."""

_UNAUTHORISED = {401, 403}
_SHORTEST_KEY = 12  # characters
_LATER = {408, 409, 425, 429}


@contextmanager
def translated(client: Client) -> Iterator[None]:
    """Turn the openai client's errors into ours, with the key cut out of their words.

    Raises:
        ServiceError: One of its kinds, with status, code and param where the service gave them.
    """
    import openai

    try:
        yield
    except openai.APITimeoutError as error:
        raise ServiceUnavailable(
            f"no answer from {_address(client)} in time; try again later", reached=_reached(error)
        ) from _shown(error, client)
    except openai.APIConnectionError as error:
        reason = _without(client.api_key, str(error.__cause__ or error))
        raise ServiceUnavailable(
            f"cannot reach {_address(client)} ({reason}); is the service running, and the URL right?",
            reached=_reached(error),
        ) from _shown(error, client)
    except openai.APIStatusError as error:
        raise _refusal(error, client.api_key) from _shown(error, client)
    except openai.OpenAIError as error:
        reason = _without(client.api_key, str(error))
        raise ServiceError(f"{_address(client)}: {reason}") from _shown(error, client)
    except json.JSONDecodeError as error:
        raise _not_json(client) from error


def _address(client: Client) -> str:
    # Without a name and password that may stand in it.
    return str(client.base_url.copy_with(userinfo=b""))


def _shown(error: Exception, client: Client) -> Exception | None:
    """Give the cause, for the traceback, unless the key stands in its words."""
    causes: list[BaseException] = [error]
    # An exception that is raised twice can stand in its own chain.
    while (before := causes[-1].__cause__ or causes[-1].__context__) is not None and before not in causes:
        causes.append(before)
    told = "".join(str(cause) for cause in causes)
    return None if _without(client.api_key, told) != told else error


def _reached(error: APIConnectionError) -> bool:
    # Only where no connection came about is it sure that the service has not seen the request.
    return type(error.__cause__).__name__ not in {"ConnectError", "ConnectTimeout", "PoolTimeout"}


def _not_json(client: Client) -> ServiceUnavailable:
    # A page instead of JSON: a proxy, an overloaded gateway, or a base URL that lacks /v1.
    return ServiceUnavailable(
        f"{_address(client)} answered with something that is not JSON; check the base URL"
    )


def _refusal(error: APIStatusError, key: str) -> ServiceError:
    body = error.body if isinstance(error.body, dict) else {}
    known: dict[str, Any] = {}
    # Not every service words its errors as OpenAI does; what it says instead is better than nothing.
    said = body.get("message") or f"{error.message} {error.response.text[:300]}".strip()
    text = _without(key, str(said))
    status, code = error.status_code, body.get("code")
    kind: type[ServiceError] = RequestRejected
    if code == "training_not_available":
        kind = TrainingNotAvailable
    elif status in _UNAUTHORISED:
        kind, text = AccessDenied, f"{text} (HTTP {status}; check the key and what it may do)"
    elif status == 404:
        about_model = code == "model_not_found" or body.get("param") == "model"
        kind = ModelNotFound if about_model else NotFound
    elif code == "insufficient_quota":
        kind, text = AccessDenied, f"{text} (the account has no credit left)"
    elif status in _LATER or status >= 500:
        kind, text = ServiceUnavailable, f"{text} (HTTP {status}; try again later)"
        known = {"retry_after": _seconds(error.response.headers.get("retry-after"))}
    known |= {"status": status, "code": code, "param": body.get("param"), "request_id": error.request_id}
    return kind(text, **known)


def _seconds(header: str | None) -> float | None:
    # The header may also be a date; clocks differ, and our own pauses will do.
    return float(header) if header and header.isascii() and header.isdigit() else None


def _without(key: str, text: str) -> str:
    # Stripped, since a key with a line break in it is quoted without it. What is shorter than any real key,
    # such as a local server's, is a word of the language.
    secret = key.strip()
    return text.replace(secret, "***") if len(secret) >= _SHORTEST_KEY else text


def _plain(client: Client, answer: Any) -> Answer:
    import httpx2

    if isinstance(answer, httpx2.Response):  # a thing of a service's own, in whatever form
        answer = json.loads(answer.content) if answer.content else {}
        answer = {"data": answer} if isinstance(answer, list) else answer
    elif (page := getattr(answer, "http_response", None)) is not None:
        # Pages come raw: the client cannot dress what is not JSON as one.
        answer = json.loads(page.content)
    elif isinstance(content := getattr(answer, "content", None), bytes):
        return {"content": content}
    elif hasattr(answer, "to_dict"):
        answer = answer.to_dict(mode="json", warnings=False)
    if not isinstance(answer, dict):
        raise _not_json(client)
    return answer


def send(client: OpenAI, request: Request) -> Answer:
    """Ask, and give the answer as JSON has it; the bytes of a file stand under `content`."""
    with translated(client):
        return _plain(client, request(client))


async def asend(client: AsyncOpenAI, request: Request) -> Answer:
    """Do as `send` does, with an async client."""
    with translated(client):
        return _plain(client, await request(client))


# What is paid for or kept is sent once: resent after a lost answer, it would be there twice.


def create_file(file: IO[bytes], name: str) -> Request:
    """Send a file for fine-tuning, once."""
    return lambda client: client.with_options(max_retries=0).files.create(
        file=(name, file), purpose="fine-tune"
    )


def create_job(body: Mapping[str, Any], extra: Mapping[str, Any]) -> Request:
    """Ask for a fine-tuning job, once; `extra` goes into the body beside what the client has names for."""
    return lambda client: client.with_options(max_retries=0).fine_tuning.jobs.create(
        **body, extra_body=dict(extra) or None
    )


def create_thing(path: str, body: Mapping[str, Any]) -> Request:
    """Post to a path of a service's own, once; one that begins with a slash starts at the service's root."""
    return lambda client: client.with_options(max_retries=0).post(
        _at(client, path), body=dict(body), cast_to=_response()
    )


def thing(path: str) -> Request:
    """Ask for what stands at a path of a service's own."""
    return lambda client: client.get(_at(client, path), cast_to=_response())


def delete_thing(path: str) -> Request:
    """Delete what stands at a path of a service's own."""
    return lambda client: client.delete(_at(client, path), cast_to=_response())


def _response() -> Any:
    import httpx2

    return httpx2.Response


def _at(client: Client, path: str) -> str:
    return str(client.base_url.join(path))


def file(file_id: str) -> Request:
    """Ask for a file's state."""
    return lambda client: client.files.retrieve(file_id)


def file_content(file_id: str) -> Request:
    """Ask for a file's bytes."""
    return lambda client: client.files.content(file_id)


def files(after: str | None) -> Request:
    """Ask for a page of the files for fine-tuning, newest first."""
    options = _from(after)
    return lambda client: client.files.with_raw_response.list(purpose="fine-tune", limit=1000, **options)


def delete_file(file_id: str) -> Request:
    """Ask for a file to be deleted."""
    return lambda client: client.files.delete(file_id)


def model(name: str) -> Request:
    """Ask for what is known of a model."""
    return lambda client: client.models.retrieve(name)


def delete_model(name: str) -> Request:
    """Ask for a tuned model to be deleted."""
    return lambda client: client.models.delete(name)


def job(job_id: str) -> Request:
    """Ask for a job's state."""
    return lambda client: client.fine_tuning.jobs.retrieve(job_id)


def act_on_job(job_id: str, action: str) -> Request:
    """Ask for a job to be stopped or let go on: `cancel`, `pause` or `resume`."""
    return lambda client: getattr(client.fine_tuning.jobs, action)(job_id)


def jobs(limit: int, after: str | None, metadata: Mapping[str, str] | None = None) -> Request:
    """Ask for a page of jobs, newest first; only those with this metadata, where the service can tell."""
    options = _from(after) | ({"metadata": dict(metadata)} if metadata else {})
    return lambda client: client.fine_tuning.jobs.with_raw_response.list(limit=limit, **options)


def events(job_id: str, limit: int, after: str | None) -> Request:
    """Ask for a page of a job's events, in the service's order (newest first, as a rule)."""
    options = _from(after)
    return lambda client: client.fine_tuning.jobs.with_raw_response.list_events(
        job_id, limit=limit, **options
    )


def checkpoints(job_id: str, after: str | None) -> Request:
    """Ask for a page of a job's checkpoints."""
    options = _from(after)
    return lambda client: client.fine_tuning.jobs.checkpoints.with_raw_response.list(
        job_id, limit=100, **options
    )


def _from(after: str | None) -> dict[str, Any]:
    return {} if after is None else {"after": after}


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


def _unpacked(client: Client, raw: Any) -> Reply:
    import orjson

    try:
        answer = orjson.loads(raw.http_response.content)
    except orjson.JSONDecodeError as error:
        raise _not_json(client) from error
    if not isinstance(answer, dict):
        raise _not_json(client)
    if "choices" not in answer and isinstance(problem := answer.get("error"), dict):
        # Gateways say so with HTTP 200 when the service behind them fails.
        said = _without(
            client.api_key, str(problem.get("message") or problem.get("code") or "no reason given")
        )
        raise ServiceUnavailable(f"{_address(client)} answered with an error: {said}; try again later")
    return answer, raw.headers


def headers_of(error: ServiceError) -> Mapping[str, str]:
    """Give the headers of the answer that was an error; none where no answer came."""
    headers: Mapping[str, str] = getattr(getattr(error.__cause__, "response", None), "headers", {})
    return headers


def is_async(client: object) -> bool:
    """Whether a client's answers must be awaited."""
    import openai

    return isinstance(client, openai.AsyncOpenAI)


def patient(client: OneOf, seconds: float) -> OneOf:
    """Give the client without its own retries, and with a timeout where its user chose none."""
    import openai

    chosen: Any = openai.DEFAULT_TIMEOUT
    if client.timeout == chosen:
        return client.with_options(max_retries=0, timeout=seconds)
    return client.with_options(max_retries=0)


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
