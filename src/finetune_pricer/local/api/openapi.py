"""This server's own OpenAPI document: what it accepts and returns, narrower than the official one.

It is written by hand where it describes answers; the bodies of requests come from their models.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from ..._chat_protocol import ROLES
from ..batches import ENDPOINT
from ..chat_messages import PARTS
from ..faults import PRESETS, Faults
from .requests import BatchBody, ChatBody, JobBody
from .routes.files import PURPOSES

_STRING, _NUMBER, _INTEGER, _BOOLEAN = ({"type": kind} for kind in ("string", "number", "integer", "boolean"))
_MAYBE_STRING = {"type": ["string", "null"]}
_TIME = {"type": ["integer", "null"]}
_OBJECT = {"type": "object"}


@cache
def document(bases: tuple[str, ...]) -> dict[str, Any]:
    """Return the document of a server that offers these base models; the same object each time."""
    job = "/v1/fine_tuning/jobs/{fine_tuning_job_id}"
    jobs, batches = "/v1/fine_tuning/jobs", "/v1/batches"
    paths = {
        "/health": {"get": _health()},
        "/local/faults": {
            "get": _operation(_faults(mode="serialization")),
            "post": _operation(_faults(mode="serialization"), body=_json(_faults(mode="validation"))),
        },
        "/v1/files": {
            "get": _operation(_list(_FILE), query=_cursor(10_000) | _ORDER | {"purpose": _STRING}),
            "post": _operation(_FILE, body={"multipart/form-data": {"schema": _UPLOAD}}),
        },
        "/v1/files/{file_id}": {"get": _operation(_FILE), "delete": _operation(_DELETED)},
        "/v1/files/{file_id}/content": {"get": _operation({}, kind="application/octet-stream")},
        "/v1/models": {"get": _operation(_object(object=_STRING, data={"type": "array", "items": _MODEL}))},
        "/v1/models/{model}": {"get": _operation(_MODEL), "delete": _operation(_DELETED)},
        "/v1/chat/completions": {"post": _operation(_COMPLETION, body=_json(_chat(bases)))},
        jobs: {
            "get": _operation(_list(_JOB), query=_cursor(100) | {"metadata": {"const": "null"}}),
            "post": _operation(_JOB, body=_json(_job())),
        },
        job: {"get": _operation(_JOB)},
        **{f"{job}/{move}": {"post": _operation(_JOB)} for move in ("cancel", "pause", "resume")},
        f"{job}/events": {"get": _operation(_list(_EVENT), query=_cursor(10_000))},
        f"{job}/checkpoints": {"get": _operation(_list(_CHECKPOINT), query=_cursor(100))},
        batches: {
            "get": _operation(_list(_BATCH), query=_cursor(100)),
            "post": _operation(_BATCH, body=_json(_batch())),
        },
        f"{batches}/{{batch_id}}": {"get": _operation(_BATCH)},
        f"{batches}/{{batch_id}}/cancel": {"post": _operation(_BATCH)},
    }
    _name_paths(paths)
    return {
        "openapi": "3.1.0",
        "info": {"title": "finetune_pricer: local server", "version": "1"},
        "paths": paths,
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(row: dict[str, Any]) -> dict[str, Any]:
    return _object(
        object={"const": "list"},
        data={"type": "array", "items": row},
        has_more=_BOOLEAN,
        first_id=_STRING,
        last_id=_STRING,
    )


_ERROR = _object(error=_object(message=_STRING, type=_STRING, param=_MAYBE_STRING, code=_MAYBE_STRING))


def _operation(
    answer: dict[str, Any],
    *,
    body: dict[str, Any] | None = None,
    query: dict[str, Any] | None = None,
    kind: str = "application/json",
) -> dict[str, Any]:
    made: dict[str, Any] = {
        "parameters": [
            {"name": name, "in": "query", "schema": schema} for name, schema in (query or {}).items()
        ],
        "responses": {
            "200": {"description": "Done.", "content": {kind: {"schema": answer}}},
            "4XX": {"description": "Refused.", "content": {"application/json": {"schema": _ERROR}}},
        },
    }
    if body is not None:
        made["requestBody"] = {"required": True, "content": body}
    return made


def _health() -> dict[str, Any]:
    made = _operation(_object(status={"const": "ok"}))
    schema = _object(status={"const": "failing"}, problems={"type": "array", "items": _STRING})
    content = {"application/json": {"schema": schema}}
    made["responses"]["503"] = {"description": "It cannot do its work.", "content": content}
    return made


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _name_paths(paths: dict[str, dict[str, Any]]) -> None:
    for path, operations in paths.items():
        names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        for operation in operations.values():
            operation["parameters"] += [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
                for name in names
            ]


def _cursor(most: int) -> dict[str, Any]:
    return {"after": _STRING, "limit": {"type": "integer", "minimum": 1, "maximum": most}}


_ORDER = {"order": {"enum": ["asc", "desc"]}}
_UPLOAD = {
    "type": "object",
    "properties": {
        "file": {"type": "string", "format": "binary", "minLength": 1},
        "purpose": {"enum": list(PURPOSES)},
    },
    "required": ["file", "purpose"],
}
_DELETED = _object(id=_STRING, object=_STRING, deleted={"const": True})
_FILE = _object(
    id=_STRING,
    object={"const": "file"},
    bytes=_INTEGER,
    created_at=_INTEGER,
    filename=_STRING,
    purpose={"enum": [*PURPOSES, "fine-tune-results", "batch_output"]},
)
_MODEL = _object(
    id=_STRING, object={"const": "model"}, created=_INTEGER, owned_by=_STRING, shutdown_date=_MAYBE_STRING
)
_JOB = _object(
    id=_STRING,
    object={"const": "fine_tuning.job"},
    created_at=_INTEGER,
    finished_at=_TIME,
    estimated_finish=_TIME,
    error={"type": ["object", "null"]},
    fine_tuned_model=_MAYBE_STRING,
    hyperparameters=_OBJECT,
    method=_OBJECT,
    model=_STRING,
    organization_id=_STRING,
    result_files={"type": "array", "items": _STRING},
    seed=_INTEGER,
    status=_STRING,
    trained_tokens=_TIME,
    training_file=_STRING,
    validation_file=_MAYBE_STRING,
)
_EVENT = _object(
    id=_STRING,
    object={"const": "fine_tuning.job.event"},
    created_at=_INTEGER,
    level={"enum": ["info", "warn", "error"]},
    message=_STRING,
    type={"enum": ["message", "metrics"]},
    data=_OBJECT,
)
_CHECKPOINT = _object(
    id=_STRING,
    object={"const": "fine_tuning.job.checkpoint"},
    created_at=_INTEGER,
    fine_tuned_model_checkpoint=_STRING,
    fine_tuning_job_id=_STRING,
    metrics={"type": "object", "additionalProperties": _NUMBER},
    step_number=_INTEGER,
    result_files={"type": "array", "items": _STRING},
)
_BATCH = _object(
    id=_STRING,
    object={"const": "batch"},
    endpoint=_STRING,
    input_file_id=_STRING,
    completion_window=_STRING,
    status=_STRING,
    created_at=_INTEGER,
    request_counts=_object(total=_INTEGER, completed=_INTEGER, failed=_INTEGER),
)
_COMPLETION = _object(
    id=_STRING,
    object={"const": "chat.completion"},
    created=_INTEGER,
    model=_STRING,
    choices={"type": "array", "minItems": 1, "items": _OBJECT},
    usage=_object(prompt_tokens=_INTEGER, completion_tokens=_INTEGER, total_tokens=_INTEGER),
)


_SAID = [{"role": "user", "content": "A large desk of oak"}]


def _message() -> dict[str, Any]:
    text, other = _object(type={"const": "text"}, text=_STRING), _object(type={"enum": sorted(PARTS)})
    parts = {"type": "array", "minItems": 1, "items": {"anyOf": [text, other]}}
    content: dict[str, Any] = {"anyOf": [_STRING, parts]}
    other_message = _object(role={"enum": sorted(ROLES - {"assistant"})}, content=content)
    assistant_message: dict[str, Any] = {
        "type": "object",
        "properties": {
            "role": {"const": "assistant"},
            "content": {"anyOf": [*content["anyOf"], {"type": "null"}]},
        },
        "required": ["role"],
    }
    return {"anyOf": [other_message, assistant_message]}


def _chat(bases: tuple[str, ...]) -> dict[str, Any]:
    schema = _flat(ChatBody.model_json_schema())
    # A stream is answered in another form, and is described by its chunks.
    schema["properties"] |= {
        "messages": {"type": "array", "minItems": 1, "items": _message(), "examples": [_SAID]},
        "stream": {"enum": [False, None]},
        "stream_options": {"type": "null"},
        "model": {"type": "string", "examples": list(bases)},
    }
    limits = ("max_tokens", "max_completion_tokens")
    schema["not"] = {
        "properties": {name: {"type": "integer"} for name in limits},
        "required": list(limits),
    }
    schema["if"] = {
        "properties": {"top_logprobs": {"type": "integer", "minimum": 1}},
        "required": ["top_logprobs"],
    }
    schema["then"] = {"properties": {"logprobs": {"const": True}}, "required": ["logprobs"]}
    return schema


def _job() -> dict[str, Any]:
    schema = _flat(JobBody.model_json_schema())
    method = next(each for each in schema["properties"]["method"]["anyOf"] if "properties" in each)
    method["properties"]["type"] = {"const": "supervised"}
    return schema


def _batch() -> dict[str, Any]:
    schema = _flat(BatchBody.model_json_schema())
    schema["properties"]["endpoint"] = {"const": ENDPOINT}
    return schema


def _faults(*, mode: Any) -> dict[str, Any]:
    schema = Faults.model_json_schema(mode=mode)
    if mode == "validation":
        schema["properties"]["preset"] = {"enum": [*PRESETS, None]}
    return schema


def _flat(schema: dict[str, Any]) -> dict[str, Any]:
    """Put definitions in the places that refer to them, so that the schema can stand anywhere."""
    definitions = schema.pop("$defs", {})

    def put(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return put(definitions[value["$ref"].rpartition("/")[2]])
            return {name: put(each) for name, each in value.items()}
        return [put(each) for each in value] if isinstance(value, list) else value

    flat: dict[str, Any] = put(schema)
    return flat
