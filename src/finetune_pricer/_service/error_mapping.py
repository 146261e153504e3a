"""The openai client's errors become ours here, with the key cut out of their words."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from .._escape import escape_line
from ..errors import (
    AccessDenied,
    ModelNotFound,
    NotFound,
    PricerError,
    RequestRejected,
    ServiceError,
    ServiceUnavailable,
    TrainingNotAvailable,
)
from .answer_json import parse_json
from .headers import read_retry_after
from .problem import Problem, read_problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openai import APIConnectionError, APIStatusError, AsyncOpenAI, OpenAI

    Client: TypeAlias = "OpenAI | AsyncOpenAI"

_UNAUTHORISED = {401, 403}
_SHORTEST_KEY = 12  # characters of a key that is cut out wherever it stands
_SHORTEST_WORD = 4  # characters of one that is cut out where it is a whole word
_LATER = {408, 409, 425, 429}
_ABSENT = {405, 501}  # what a service does not have, by whatever method
_NO_MODEL = {"model_not_found", "model_decommissioned"}
_SOON = 1.0  # seconds; a shorter wait in a service's words is not worth a clock


@contextmanager
def translate_errors(client: Client) -> Iterator[None]:
    """Turn the openai client's errors into ours, with the key cut out of their words.

    Raises:
        ServiceError: One of its kinds, with status, code and param where the service gave them.
    """
    import openai

    try:
        yield
    except openai.APITimeoutError as error:
        raise ServiceUnavailable(
            f"no answer from {address_of(client)} in time; try again later", reached=_may_have_arrived(error)
        ) from _cause_without_key(error, client)
    except openai.APIConnectionError as error:
        reason = without_key(client.api_key, str(error.__cause__ or error))
        raise ServiceUnavailable(
            f"cannot reach {address_of(client)} ({reason}); is the service running, and the URL right?",
            reached=_may_have_arrived(error),
        ) from _cause_without_key(error, client)
    except openai.APIStatusError as error:
        raise _error_of_status(error, client.api_key) from _cause_without_key(error, client)
    except openai.OpenAIError as error:
        reason = without_key(client.api_key, str(error))
        raise ServiceError(f"{address_of(client)}: {reason}") from _cause_without_key(error, client)
    except json.JSONDecodeError as error:
        raise not_json(client) from error


def address_of(client: Client) -> str:
    """Return a client's base URL, without the name, the password and the query that may stand in it."""
    return str(client.base_url.copy_with(userinfo=b"", query=None, fragment=None))


def _cause_without_key(error: Exception, client: Client) -> Exception | None:
    """Return the cause, for the traceback, unless the key stands in its words."""
    causes: list[BaseException] = [error]
    # An exception that is raised twice can stand in its own chain.
    while (before := causes[-1].__cause__ or causes[-1].__context__) is not None and before not in causes:
        causes.append(before)
    words = "".join(str(cause) for cause in causes)
    return None if without_key(client.api_key, words) != words else error


def _may_have_arrived(error: APIConnectionError) -> bool:
    # Only where no connection came about is it sure that the service has not seen the request.
    return type(error.__cause__).__name__ not in {"ConnectError", "ConnectTimeout", "PoolTimeout"}


def not_json(client: Client) -> ServiceUnavailable:
    """Return the error for an answer that is no JSON object.

    A page stands in its place at a proxy, an overloaded gateway, or a base URL that lacks /v1.
    """
    return ServiceUnavailable(
        f"{address_of(client)} answered with something that is not JSON; check the base URL"
    )


def not_a_reply(client: Client) -> NotFound:
    """Return the error for an answer that is a stream of events where JSON was asked for."""
    return NotFound(
        f"{address_of(client)} answered with a stream of events (text/event-stream), which is not read here; "
        "a proxy or a setting may have switched streaming on"
    )


def make_hidden_error(client: Client, problem: Problem) -> ServiceError:
    """Return the error that an answer of HTTP 200 holds, as gateways send it when what they ask fails."""
    said = escape_line(without_key(client.api_key, problem.message or problem.code or "no reason given"))
    message = f"{address_of(client)} answered with an error: {said}"
    if problem.is_about_path:
        return NotFound(f"{message}; check the base URL", code=problem.code)
    if problem.status is None and not problem.is_about_money:
        return ServiceUnavailable(f"{message}; try again later", code=problem.code, retry_after=problem.wait)
    return make_error(problem._replace(message=message), status=problem.status or 402)


def _error_of_status(error: APIStatusError, key: str) -> ServiceError:
    # Not every service words its errors as OpenAI does; what it says instead is better than nothing.
    problem = read_problem(_read_body(error), error.status_code)
    message = problem.message or f"{error.message} {error.response.text[:300]}".strip()
    return make_error(
        problem._replace(message=escape_line(without_key(key, message))),
        status=error.status_code,
        request_id=error.request_id,
        retry_after=read_retry_after(error.response.headers),
    )


def _read_body(error: APIStatusError) -> Any:
    try:
        return parse_json(error.response.content)
    except ValueError:
        return None  # a page, such as a proxy's


def make_error(
    problem: Problem,
    *,
    status: int,
    request_id: str | None = None,
    retry_after: float | None = None,
) -> ServiceError:
    """Return the error that an HTTP status and the service's words mean; the kind says who must act."""
    problem = problem._replace(status=status)
    code, message = problem.code, problem.message
    known: dict[str, Any] = {"status": status, "code": code, "param": problem.param, "request_id": request_id}
    if code == "training_not_available":
        return TrainingNotAvailable(message, **known)
    if retry_after is not None and problem.wait is None:
        problem = problem._replace(wait=retry_after)
    if (is_empty := problem.is_about_money) or status in _UNAUTHORISED:
        hint = "the account's credit or quota is used up" if is_empty else "check the key and what it may do"
        return AccessDenied(f"{message} (HTTP {status}; {hint})", out_of_credit=is_empty, **known)
    if code in _NO_MODEL or (status == 404 and problem.param == "model"):
        return ModelNotFound(message, **known)
    if status == 404 or status in _ABSENT:
        hint = "" if status == 404 else f" (HTTP {status}; this service has no such thing)"
        return NotFound(f"{message}{hint}", **known)
    if is_passing(status) and not problem.is_about_size:
        if retry_after is None and problem.wait is not None:
            retry_after = max(_SOON, problem.wait)
        message = f"{message} (HTTP {status}; try again later)"
        return ServiceUnavailable(message, retry_after=retry_after, **known)
    return RequestRejected(message, **known)


def is_passing(status: int) -> bool:
    """Whether the same request may be answered later."""
    return status in _LATER or (status >= 500 and status not in _ABSENT)


def may_have_been_taken(error: PricerError) -> bool:
    """Whether a request that failed may have been carried out, so that sent again it would be done twice."""
    if isinstance(error, ServiceUnavailable):
        return error.reached and error.status != 429
    # No refusal: an answer came and could not be read, such as one that has no end.
    return type(error) is ServiceError


def without_key(key: str, text: str) -> str:
    """Return the text with `***` in place of the key.

    A key of a few letters, such as a local server's `local`, is a word of the language, and stays.
    """
    # Stripped, since a key with a line break in it is quoted without it.
    secret = key.strip()
    if len(secret) >= _SHORTEST_KEY:
        return text.replace(secret, "***")
    if len(secret) < _SHORTEST_WORD or secret.isalpha():
        return text
    return re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
