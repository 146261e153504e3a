"""Requests: bodies as the specification has them, with types and bounds, and the query of a list."""

from __future__ import annotations

import logging
import re
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ..._chat_protocol import MESSAGE_KEYS
from ..faults import as_whole
from .responses import (
    ApiError,
    body_too_large,
    cursor_not_found,
    invalid_value,
    list_object,
    missing_parameter,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.requests import Request

log: logging.Logger = logging.getLogger("finetune_pricer.local")

MAX_JSON = 4 * 2**20
"""Bytes that a JSON body may have."""
MAX_DRAINED = 2**26
"""How many bytes of a rejected body are read before closing, so that the client sees the answer."""

Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]


def _whole(value: Any) -> Any:
    # JSON knows no integers: 1.0 is one, and the specification takes it as such. Beyond 2**53 a float no
    # longer says which whole number was meant.
    return as_whole(value) if isinstance(value, float) and abs(value) <= 2**53 else value


_WHOLE = BeforeValidator(_whole)
# What a terminal obeys, what breaks a line, and what changes the direction of a text without being seen.
_CONTROLS = r"\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
# A suffix becomes part of a name that logs and terminals show, and that stands in URLs, where clients take
# dots between slashes for a way upwards.
_SUFFIX = rf"^(?!(?:.*/)?\.\.?(?:/|$))[^{_CONTROLS}]+$"


def _check_suffix(value: str) -> str:
    if not re.fullmatch(_SUFFIX, value):
        raise ValueError("a suffix holds no control characters, and no . or .. between slashes")
    return value


Suffix = Annotated[
    str,
    Field(min_length=1, max_length=64, json_schema_extra={"pattern": _SUFFIX}),
    AfterValidator(_check_suffix),
]
# Without an upper bound any float is taken: beyond 2**64 the parser gives one for whatever was written.
Count = Annotated[int, Field(ge=1), BeforeValidator(as_whole)]
Name = Annotated[str, Field(min_length=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]


class Body(BaseModel):
    """The base of all bodies: a known field must have its type, an unknown one is let through."""

    model_config: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="allow", frozen=True)


class HyperparametersBody(Body):
    """The settings of supervised training."""

    n_epochs: Annotated[int, Field(ge=1, le=50), _WHOLE] | Literal["auto"] | None = None
    batch_size: Annotated[int, Field(ge=1, le=256), _WHOLE] | Literal["auto"] | None = None
    learning_rate_multiplier: (
        Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] | Literal["auto"] | None
    ) = None


class SupervisedBody(Body):
    """What `method.supervised` holds."""

    hyperparameters: HyperparametersBody | None = None


class MethodBody(Body):
    """How to train; other types than `supervised` are refused later, with a clearer message."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: SupervisedBody | None = None
    dpo: dict[str, Any] | None = None
    reinforcement: dict[str, Any] | None = None


_Label = Annotated[str, Field(max_length=512)]


class WandbBody(Body):
    """Where an integration would report to; nothing is sent there."""

    project: _Label
    name: _Label | None = None
    entity: _Label | None = None
    tags: Annotated[list[_Label], Field(max_length=100)] | None = None


class IntegrationBody(Body):
    """A service to which the job would be reported."""

    type: Literal["wandb"]
    wandb: WandbBody

    def to_known(self) -> dict[str, Any]:
        """Return what the specification knows of it: what else was sent, perhaps a key, is not kept."""
        return {"type": self.type, "wandb": self.wandb.model_dump(include=set(WandbBody.model_fields))}


class JobBody(Body):
    """A request for a fine-tuning job."""

    model: Name
    training_file: Name
    validation_file: str | None = None
    hyperparameters: HyperparametersBody | None = None
    method: MethodBody | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1), _WHOLE] | None = None
    suffix: Suffix | None = None
    metadata: Metadata | None = None
    integrations: Annotated[list[IntegrationBody], Field(max_length=5)] | None = None

    def requested_hyperparameters(self) -> dict[str, Any]:
        """Return the hyperparameters, from `method` or from their older place."""
        body = self.hyperparameters
        if self.method is not None and self.method.supervised is not None:
            body = self.method.supervised.hyperparameters or body
        names = HyperparametersBody.model_fields
        return {} if body is None else body.model_dump(include=set(names), exclude_none=True)


class StreamOptions(Body):
    """How a reply is streamed."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class FormatBody(Body):
    """The form of a reply; it has no effect, since a model replies in the form that it was trained on."""

    type: Literal["text", "json_object", "json_schema"]


class ChatBody(Body):
    """A request for chat completions; fields that a pricing model has no use for are checked and ignored."""

    model: str
    messages: Annotated[list[Any], Field(min_length=1)]
    """Checked by `find_problem`, like the messages of a training file."""
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=128), _WHOLE] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63), _WHOLE] | None = None
    stop: str | Annotated[list[str], Field(min_length=1, max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=1_000), _WHOLE] | None = None
    """OpenAI gives 20; a thousand are all prices to $999 in whole dollars."""
    metadata: Metadata | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[int, Field(ge=-100, le=100), _WHOLE]] | None = None
    response_format: FormatBody | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    modalities: list[Literal["text", "audio"]] | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    safety_identifier: Annotated[str, Field(max_length=64)] | None = None
    user: str | None = None
    store: bool | None = None
    parallel_tool_calls: bool | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    functions: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=128)] | None = None
    function_call: str | dict[str, Any] | None = None
    audio: dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None
    web_search_options: dict[str, Any] | None = None
    moderation: dict[str, Any] | None = None


class ExpiryBody(Body):
    """When a file expires."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3_600, le=2_592_000), _WHOLE]


class BatchBody(Body):
    """A request for a batch of chat requests."""

    input_file_id: Name
    endpoint: Literal[
        "/v1/responses",
        "/v1/chat/completions",
        "/v1/embeddings",
        "/v1/completions",
        "/v1/moderations",
        "/v1/images/generations",
        "/v1/images/edits",
        "/v1/videos",
    ]
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: ExpiryBody | None = None


_Kind = TypeVar("_Kind", bound=Body)
_NAME = re.compile(r"(?!(?:int|float|str|bool)$)[a-z_]+")


async def read_body(kind: type[_Kind], request: Request, *, strict: bool) -> _Kind:
    """Return a request's body as `kind`; raise an `ApiError` that names the parameter at fault."""
    _check_content_type(request)
    content = await _read_json(request)
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"We could not parse the JSON body of your request ({error.msg}).") from error
    return parse_body(kind, value, strict=strict)


def _check_content_type(request: Request) -> None:
    """Refuse a body that does not say that it is JSON: a web page of others may send it without asking."""
    kind = request.headers.get("content-type", "application/json")
    if kind.partition(";")[0].strip().lower() != "application/json":
        message = (
            f"Unsupported content type: {kind[:80]!a}. This route takes 'application/json'; "
            "say so in the Content-Type header."
        )
        raise ApiError(415, message, code="unsupported_content_type")


async def _read_json(request: Request) -> bytes:
    declared = request.headers.get("content-length", "")
    content, size, announced = bytearray(), 0, int(declared) if declared.isdigit() else 0
    async for chunk in request.stream():
        size += len(chunk)
        if max(size, announced) <= MAX_JSON:
            content += chunk
        else:  # read on, and keep nothing: a client that is cut off while it sends never sees the answer
            content.clear()
            if size > MAX_DRAINED:
                break
    if max(size, announced) > MAX_JSON:
        raise body_too_large(MAX_JSON)
    return bytes(content)


def parse_body(kind: type[_Kind], value: Any, *, strict: bool) -> _Kind:
    """Return a JSON value as a body; raise an `ApiError` that names the parameter at fault."""
    if not isinstance(value, dict):
        raise ApiError(400, "The body of your request must be a JSON object.")
    try:
        body = kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        # pydantic adds the branch of a union to the place, which is no name of ours.
        param = ".".join(p for p in first["loc"] if isinstance(p, str) and _NAME.fullmatch(p)) or None
        if first["type"] == "missing":
            raise missing_parameter(param) from error
        code = "invalid_type" if first["type"].endswith("_type") else "invalid_value"
        raise ApiError(
            400, f"Invalid value for '{param}': {first['msg']}.", param=param, code=code
        ) from error
    report_unknown(list(_unknown_names(body)), strict=strict)
    return body


def check_file_name(name: str) -> None:
    """Raise an `ApiError` where the name of a file holds what a terminal obeys."""
    if re.search(f"[{_CONTROLS}]", name):
        raise invalid_value("The name of the file holds a control character.", "file")


def report_unknown(names: list[str], *, strict: bool) -> None:
    """Log parameters that have no effect; raise an `ApiError` for the first where the server is strict."""
    if names and strict:
        message = f"Unknown parameter: '{names[0]}'."
        raise ApiError(400, message, param=names[0], code="unknown_parameter")
    if names:
        # A name comes from outside: it may become neither a line of its own in the log nor a page of it.
        log.info("unknown parameters have no effect: %s", ", ".join(repr(name[:40]) for name in names[:10]))


def _unknown_names(body: Body, before: str = "") -> Iterator[str]:
    for name in body.model_extra or {}:
        yield before + name
    for name in body.model_fields_set & type(body).model_fields.keys():
        value = getattr(body, name)
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, Body):
                yield from _unknown_names(part, f"{before}{name}.")
            elif name == "messages" and isinstance(part, dict):
                yield from (f"messages.{key}" for key in part.keys() - MESSAGE_KEYS)


# The query of a list


def read_limit(request: Request, *, most: int, usual: int) -> int:
    """Return how many rows a request wants."""
    given = request.query_params.get("limit")
    if given is None:
        return usual
    if not given.isascii() or not given.isdigit() or len(given) > 9 or not 1 <= int(given) <= most:
        raise invalid_value(f"'limit' must be a number from 1 to {most}.", "limit")
    return int(given)


def is_ascending(request: Request) -> bool:
    """Return whether a request wants the oldest rows first."""
    order = request.query_params.get("order", "desc")
    if order not in ("asc", "desc"):
        raise invalid_value("'order' must be 'asc' or 'desc'.", "order")
    return order == "asc"


def take_page(
    request: Request,
    find: Callable[[str | None], Iterator[dict[str, Any]] | None],
    *,
    most: int,
    usual: int,
) -> dict[str, Any]:
    """Return the page that a request's cursor and limit ask for, reading no more rows than it takes.

    `find` returns the rows after a cursor, or None where there is no such row.
    """
    limit, after = read_limit(request, most=most, usual=usual), request.query_params.get("after")
    rows = find(after)
    if rows is None:
        raise cursor_not_found(str(after))
    page = list(islice(rows, limit + 1))
    return list_object(page[:limit], has_more=len(page) > limit)


def cut_page(request: Request, rows: list[dict[str, Any]], *, most: int, usual: int) -> dict[str, Any]:
    """Return the page of `rows` that a request's cursor and limit ask for."""
    limit, after = read_limit(request, most=most, usual=usual), request.query_params.get("after")
    start = 0
    if after is not None:
        places = [place for place, row in enumerate(rows) if row["id"] == after]
        if not places:
            raise cursor_not_found(after)
        start = places[0] + 1
    return list_object(rows[start : start + limit], has_more=len(rows) > start + limit)
