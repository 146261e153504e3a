"""Requests as the specification has them: which fields there are, of which types, and within which bounds."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ..._chat_protocol import MESSAGE_KEYS
from ..faults import as_whole
from .refusals import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("finetune_pricer.local")

Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]


def _whole(value: Any) -> Any:
    # JSON knows no integers: 1.0 is one, and the specification takes it as such. Beyond 2**53 a float no
    # longer says which whole number was meant.
    return as_whole(value) if isinstance(value, float) and abs(value) <= 2**53 else value


_WHOLE = BeforeValidator(_whole)
# Without an upper bound any float is taken: beyond 2**64 the parser gives one for whatever was written.
Count = Annotated[int, Field(ge=1), BeforeValidator(as_whole)]
Name = Annotated[str, Field(min_length=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]


class Request(BaseModel):
    """What all requests have in common: what is known must have its type, what is not is let through."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)


class HyperparametersBody(Request):
    """The settings of supervised training."""

    n_epochs: Annotated[int, Field(ge=1, le=50), _WHOLE] | Literal["auto"] | None = None
    batch_size: Annotated[int, Field(ge=1, le=256), _WHOLE] | Literal["auto"] | None = None
    learning_rate_multiplier: (
        Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] | Literal["auto"] | None
    ) = None


class SupervisedBody(Request):
    """What `method.supervised` holds."""

    hyperparameters: HyperparametersBody | None = None


class MethodBody(Request):
    """How to train; other types than `supervised` are refused later, with a clearer word."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: SupervisedBody | None = None
    dpo: dict[str, Any] | None = None
    reinforcement: dict[str, Any] | None = None


class WandbBody(Request):
    """Where an integration would report to; nothing is sent there."""

    project: str
    name: str | None = None
    entity: str | None = None
    tags: list[str] | None = None


class IntegrationBody(Request):
    """A service that would be told of the job."""

    type: Literal["wandb"]
    wandb: WandbBody


class JobBody(Request):
    """A request for a fine-tuning job."""

    model: Name
    training_file: Name
    validation_file: str | None = None
    hyperparameters: HyperparametersBody | None = None
    method: MethodBody | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1), _WHOLE] | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    metadata: Metadata | None = None
    integrations: Annotated[list[IntegrationBody], Field(max_length=5)] | None = None

    def asked(self) -> dict[str, Any]:
        """Return the hyperparameters, from `method` or from their older place."""
        body = self.hyperparameters
        if self.method is not None and self.method.supervised is not None:
            body = self.method.supervised.hyperparameters or body
        names = HyperparametersBody.model_fields
        return {} if body is None else body.model_dump(include=set(names), exclude_none=True)


class StreamOptions(Request):
    """How a reply is streamed."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class FormatBody(Request):
    """The form of a reply that was asked for; the only one there is, is the trained one."""

    type: Literal["text", "json_object", "json_schema"]


class ChatBody(Request):
    """A request for chat completions; what a pricing model has no use for is checked and has no effect."""

    model: str
    messages: Annotated[list[Any], Field(min_length=1)]
    """Its messages are checked by `examples.problem_in`, like those of a training file."""
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
    top_logprobs: Annotated[int, Field(ge=0, le=20), _WHOLE] | None = None
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


class ExpiryBody(Request):
    """When a file goes by itself."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3_600, le=2_592_000), _WHOLE]


class BatchBody(Request):
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


_Body = TypeVar("_Body", bound=Request)
_NAME = re.compile(r"(?!(?:int|float|str|bool)$)[a-z_]+")


def read_body(kind: type[_Body], content: bytes, *, strict: bool) -> _Body:
    """Return a request's body as `kind`; raise an `ApiError` that names the parameter at fault."""
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"We could not parse the JSON body of your request ({error.msg}).") from error
    return read_value(kind, value, strict=strict)


def read_value(kind: type[_Body], value: Any, *, strict: bool) -> _Body:
    """Do the same with a body that has been parsed already."""
    if not isinstance(value, dict):
        raise ApiError(400, "The body of your request must be a JSON object.")
    try:
        body = kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        # pydantic adds the branch of a union to the place, which is no name of ours.
        param = ".".join(p for p in first["loc"] if isinstance(p, str) and _NAME.fullmatch(p)) or None
        if first["type"] == "missing":
            message = f"Missing required parameter: '{param}'."
            raise ApiError(400, message, param=param, code="missing_required_parameter") from error
        code = "invalid_type" if first["type"].endswith("_type") else "invalid_value"
        raise ApiError(
            400, f"Invalid value for '{param}': {first['msg']}.", param=param, code=code
        ) from error
    tell_unknown(list(_unknown(body)), strict=strict)
    return body


def tell_unknown(names: list[str], *, strict: bool) -> None:
    """Log parameters that have no effect; raise an `ApiError` for the first where the server is strict."""
    if names and strict:
        message = f"Unknown parameter: '{names[0]}'."
        raise ApiError(400, message, param=names[0], code="unknown_parameter")
    if names:
        log.info("unknown parameters have no effect: %s", ", ".join(map(_printable, names[:10])))


def _unknown(body: Request, before: str = "") -> Iterator[str]:
    for name in body.model_extra or {}:
        yield before + name
    for name in body.model_fields_set & type(body).model_fields.keys():
        value = getattr(body, name)
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, Request):
                yield from _unknown(part, f"{before}{name}.")
            elif name == "messages" and isinstance(part, dict):
                yield from (f"messages.{key}" for key in part.keys() - MESSAGE_KEYS)


def _printable(name: str) -> str:
    # A name comes from outside: neither a line of its own in the log nor a page of it.
    return repr(name[:40])
