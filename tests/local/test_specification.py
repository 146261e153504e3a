"""The official specification, path by path: every answer fits it, and so does what is refused."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import jsonschema
import openai
import pytest
import yaml

from finetune_pricer.local import Faults, LocalServer
from local_helpers import endless, eventually, finished, jsonl, products, upload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openai.types.fine_tuning import FineTuningJob

pytestmark = pytest.mark.data

# What the specification has and a rehearsal of pricing has no use for.
NOT_SERVED = {
    "/chat/completions GET",
    "/fine_tuning/alpha/graders/run POST",
    "/fine_tuning/alpha/graders/validate POST",
    "/fine_tuning/checkpoints/{fine_tuned_model_checkpoint}/permissions GET",
    "/fine_tuning/checkpoints/{fine_tuned_model_checkpoint}/permissions POST",
    "/fine_tuning/checkpoints/{fine_tuned_model_checkpoint}/permissions/{permission_id} DELETE",
    "/uploads POST",
    "/uploads/{upload_id}/cancel POST",
    "/uploads/{upload_id}/complete POST",
    "/uploads/{upload_id}/parts POST",
}
MESSAGES: Any = [{"role": "user", "content": "A large desk of oak"}]


class Specification:
    def __init__(self, path: Path) -> None:
        self._document = _with_nulls(yaml.safe_load(path.read_text()))
        # The live service pauses jobs; the document's list of words has not followed.
        job = self._document["components"]["schemas"]["FineTuningJob"]
        job["properties"]["status"]["enum"].append("paused")
        self.paths: dict[str, Any] = self._document["paths"]

    @property
    def operations(self) -> set[str]:
        return {f"{path} {method.upper()}" for path, methods in self.paths.items() for method in methods}

    def template(self, url: str) -> str:
        """The most literal path that an address fits."""
        fitting = [
            path
            for path in self.paths
            if re.fullmatch(re.sub(r"\{\w+\}", r"[^/]+", path), url.removeprefix("/v1"))
        ]
        return min(fitting, key=lambda path: path.count("{"))

    def validator(self, schema: Any) -> jsonschema.protocols.Validator:
        root = schema | {"components": self._document["components"]}
        return jsonschema.Draft202012Validator(root)

    def check(self, method: str, url: str, status: int, body: Any) -> str:
        path = self.template(url)
        if status >= 400:
            self.validator({"$ref": "#/components/schemas/ErrorResponse"}).validate(body)
        else:
            content = self.paths[path][method.lower()]["responses"][str(status)]["content"]
            self.validator(content["application/json"]["schema"]).validate(body)
        return f"{path} {method}"

    def queries(self) -> Iterator[tuple[str, str, Any]]:
        """Each parameter of each query: the path, the parameter's name, and its schema."""
        for path, methods in self.paths.items():
            for parameter in methods.get("get", {}).get("parameters", []):
                if parameter["in"] == "query":
                    yield path, parameter["name"], parameter["schema"]

    def request_schema(self, path: str) -> Any:
        return self.paths[path]["post"]["requestBody"]["content"]["application/json"]["schema"]

    def properties(self, schema: Any) -> set[str]:
        if "$ref" in schema:
            schema = self._document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        names = set(schema.get("properties", {}))
        return names.union(*(self.properties(part) for part in schema.get("allOf", [])))


def _with_nulls(value: Any) -> Any:
    """Write the older `nullable: true` as JSON Schema has it."""
    if isinstance(value, list):
        return [_with_nulls(each) for each in value]
    if not isinstance(value, dict):
        return value
    made = {name: _with_nulls(each) for name, each in value.items() if name != "nullable"}
    return {"anyOf": [made, {"type": "null"}]} if value.get("nullable") is True else made


@pytest.fixture(scope="module")
def specification() -> Specification:
    beside = os.environ.get("FINETUNE_PRICER_DATA", Path(__file__).parents[3] / "shared" / "data")
    usual = Path(beside).parent / "reference" / "openai-fine-tuning.openapi.yaml"
    path = Path(os.environ.get("FINETUNE_PRICER_SPECIFICATION", usual))
    if not path.is_file():
        pytest.skip(f"no specification at {path}; set FINETUNE_PRICER_SPECIFICATION to OpenAI's document")
    return Specification(path)


class Recorder:
    """Checks every answer against the specification while it passes."""

    def __init__(self, specification: Specification) -> None:
        self._specification = specification
        self.seen: set[str] = set()
        """Operations that were served."""
        self.refused: set[int] = set()
        """Statuses of refusals that fitted."""

    def listening(self) -> httpx2.Client:
        return httpx2.Client(event_hooks={"response": [self]})

    def __call__(self, response: httpx2.Response) -> None:
        response.read()
        kind, status = response.headers["content-type"], response.status_code
        method, path = response.request.method, response.request.url.path
        operation = f"{self._specification.template(path)} {method}"
        if kind == "application/json":
            self._specification.check(method, path, status, response.json())
        elif kind.startswith("text/event-stream"):
            chunks = [line[6:] for line in response.text.splitlines() if line.startswith("data: {")]
            validator = self._specification.validator(
                {"$ref": "#/components/schemas/CreateChatCompletionStreamResponse"}
            )
            for chunk in chunks:
                validator.validate(json.loads(chunk))
        if status < 400:
            self.seen.add(operation)
        else:
            self.refused.add(status)


@pytest.fixture
def recorder(specification: Specification) -> Recorder:
    return Recorder(specification)


@pytest.fixture
def strict_client(server: LocalServer, recorder: Recorder) -> Iterator[openai.OpenAI]:
    http = recorder.listening()
    with server.client(max_retries=0, _strict_response_validation=True, http_client=http) as client:
        yield client


def walk_files_and_models(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    file = client.files.create(
        file=("a.jsonl", b"{}\n"),
        purpose="user_data",
        expires_after={"anchor": "created_at", "seconds": 3_600},
    )
    assert file.expires_at == file.created_at + 3_600
    client.files.retrieve(file.id)
    assert client.files.content(file.id).read() == b"{}\n"
    list(client.files.list(limit=3))
    assert client.files.delete(file.id).deleted
    client.models.list()
    client.models.retrieve(tuned.fine_tuned_model or "")
    (old,) = (
        each.fine_tuned_model_checkpoint
        for each in client.fine_tuning.jobs.checkpoints.list(tuned.id).data
        if each.step_number == 304
    )
    assert client.models.delete(old).deleted


def walk_jobs(client: openai.OpenAI) -> None:
    job = endless(client)
    waiting = client.fine_tuning.jobs.create(
        model="pricer-base",
        training_file=upload(client, jsonl(products(20))).id,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": "auto"}}},
        integrations=[{"type": "wandb", "wandb": {"project": "prices", "tags": ["a"]}}],
        metadata={"a": "b"},
        suffix="walk",
        seed=1,
    )
    list(client.fine_tuning.jobs.list(limit=2, metadata={"a": "b"}))
    client.fine_tuning.jobs.cancel(job.id)
    done = finished(client, waiting.id)
    client.fine_tuning.jobs.list_events(done.id)
    client.fine_tuning.jobs.checkpoints.list(done.id)


def walk_chat(client: openai.OpenAI, model: str) -> None:
    ask = client.chat.completions
    for name in (model, "pricer-base"):
        ask.create(model=name, messages=MESSAGES, n=2, logprobs=True, top_logprobs=20, stop=["."])
        ask.create(model=name, messages=MESSAGES, max_tokens=2)
        options: Any = {"include_usage": True}
        for _ in ask.create(
            model=name, messages=MESSAGES, logprobs=True, stream=True, stream_options=options
        ):
            pass


def walk_batches(client: openai.OpenAI, model: str) -> None:
    body = {"model": model, "messages": MESSAGES}
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}
    for content in (json.dumps(line), "no json"):
        file = client.files.create(file=("b.jsonl", content.encode()), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        eventually(lambda id_=batch.id: client.batches.retrieve(id_).status in ("completed", "failed"))  # type: ignore[misc]
        with pytest.raises(openai.ConflictError):
            client.batches.cancel(batch.id)
    client.batches.list(limit=1)


def test_every_answer_of_every_path_fits_the_specification_and_the_clients_types(
    specification: Specification,
    recorder: Recorder,
    strict_client: openai.OpenAI,
    server: LocalServer,
    tuned: FineTuningJob,
) -> None:
    walk_files_and_models(strict_client, tuned)
    walk_jobs(strict_client)
    walk_chat(strict_client, tuned.fine_tuned_model or "")
    walk_batches(strict_client, tuned.fine_tuned_model or "")

    # A job that rests has a status that the client's types do not know.
    with server.client(http_client=recorder.listening()) as client:
        job = endless(client)
        client.fine_tuning.jobs.pause(job.id)
        client.fine_tuning.jobs.resume(job.id)
        client.fine_tuning.jobs.cancel(job.id)
    with (
        LocalServer(faults=Faults(chat_pause=5)) as slow,
        slow.client(http_client=recorder.listening()) as client,
    ):
        file = client.files.create(file=("b.jsonl", BATCH), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        assert client.batches.cancel(batch.id).status == "cancelling"

    assert recorder.seen == specification.operations - NOT_SERVED


BATCH = json.dumps(
    {
        "custom_id": "1",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "pricer-base", "messages": MESSAGES},
    }
).encode()


def test_what_is_not_served_says_so_in_the_protocols_form(
    specification: Specification, server: LocalServer
) -> None:
    with httpx2.Client() as http:
        for operation in NOT_SERVED:
            path, method = operation.split()
            answer = http.request(method, server.url + re.sub(r"\{\w+\}", "x", path))

            assert answer.status_code in (404, 405)
            specification.check(method, f"/v1{path}", answer.status_code, answer.json())


def test_every_kind_of_refusal_fits_the_specification(recorder: Recorder, server: LocalServer) -> None:
    ask: Any = {"model": "pricer-base", "messages": MESSAGES}
    bad_days = {
        403: Faults(refuse_training=True),
        429: Faults(tokens_per_minute=1),
        500: Faults(server_error_rate=1),
    }
    with LocalServer(key="sk-right", max_bytes=2**12) as locked, recorder.listening() as http:
        http.get(f"{locked.url}/models")
        http.headers["authorization"] = "Bearer sk-right"
        http.post(f"{locked.url}/files", content=b"x" * 2**13)
        http.post(f"{locked.url}/chat/completions", content=b"{")
        http.get(f"{locked.url}/models/none")
        http.put(f"{locked.url}/models/none")
        file = http.post(f"{locked.url}/files", files={"file": ("b", b"x")}, data={"purpose": "batch"}).json()
        order = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        batch = f"{locked.url}/batches/{http.post(f'{locked.url}/batches', json=order).json()['id']}"
        eventually(lambda: http.get(batch).json()["status"] == "failed")
        http.post(f"{batch}/cancel")
        for status, faults in bad_days.items():
            locked.faults = faults
            job = {"model": "pricer-base", "training_file": "file-none"}
            path, body = ("fine_tuning/jobs", job) if status == 403 else ("chat/completions", ask)
            answers = [http.post(f"{locked.url}/{path}", json=body).status_code for _ in range(20)]
            assert status in answers

    assert recorder.refused >= {400, 401, 403, 404, 405, 409, 413, 429, 500}


def test_query_parameters_of_a_wrong_type_or_out_of_range_are_refused(
    specification: Specification, server: LocalServer, tuned: FineTuningJob
) -> None:
    wrong = {
        "limit": ["x", "1.5", "0", "-1", "1000000", "", "٣"],
        "order": ["up", "ASC", ""],
        "metadata": ["x"],
    }
    tried = set()
    with httpx2.Client() as http:
        for path, name, schema in specification.queries():
            if f"{path} GET" in NOT_SERVED:
                continue
            url = server.url + path.replace("{fine_tuning_job_id}", tuned.id)
            for value in wrong.get(name, []):
                answer = http.get(url, params={name: value})
                assert answer.status_code == 400, (path, name, value)
                assert answer.json()["error"]["param"] == name
            if name == "after":
                answer = http.get(url, params={name: "no-such-id"})
                assert (answer.status_code, answer.json()["error"]["param"]) == (404, name), path
            elif name not in wrong:  # any text will do
                assert schema == {"type": "string"}
                assert http.get(url, params={name: "x"}).json()["data"] == []
            tried.add((path, name))
    assert len(tried) == 13


def test_uploads_of_a_wrong_purpose_or_expiry_are_refused(
    specification: Specification, server: LocalServer
) -> None:
    upload = specification.paths["/files"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    validator = specification.validator(upload)
    expiries: list[Any] = [None]
    for anchor in ("created_at", "last_active_at", None):
        for seconds in (3_599, 3_600, 2_592_000, 2_592_001, "x", 4e3 + 0.5, None):
            given = {"anchor": anchor, "seconds": seconds}
            expiries.append({name: value for name, value in given.items() if value is not None})
    outcomes = set()
    with httpx2.Client() as http:
        for purpose in ("fine-tune", "batch", "user_data", "magic", "", None):
            for expiry in expiries:
                fields: dict[str, Any] = {} if purpose is None else {"purpose": purpose}
                as_json = {"file": "x", **fields} | ({"expires_after": expiry} if expiry else {})
                sent = fields | {f"expires_after[{name}]": str(v) for name, v in (expiry or {}).items()}
                answer = http.post(f"{server.url}/files", files={"file": ("a", b"x")}, data=sent)
                assert answer.status_code == (200 if validator.is_valid(as_json) else 400), as_json
                outcomes.add(answer.status_code)
        assert http.post(f"{server.url}/files", data={"purpose": "batch"}).status_code == 400
    assert outcomes == {200, 400}


CANDIDATES: list[Any] = [
    *(5, -1, -3, 0, 1.5, 10**6, 2**40, True, "x", "", "x" * 513, [], [5], [[]], {}, {"a": 5}, {"type": "x"}),
    *({"type": "wandb"}, {"n_epochs": 0}, {"n_epochs": 51}, {"batch_size": 257}, {"batch_size": "x"}),
    *({"learning_rate_multiplier": 0}, [{"type": "x"}], [{"role": "pirate", "content": "x"}], ["a"] * 5),
    *({"anchor": "created_at", "seconds": 1}, {"anchor": "now", "seconds": 3_600}, {"a": "x" * 513}),
    {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 51}}},
]
# What the specification refuses inside of fields that have no effect here: their inside is not looked at.
NOT_LOOKED_INTO = {
    *("audio", "function_call", "functions", "moderation", "prediction", "prompt_cache_options"),
    *("response_format", "tool_choice", "tools", "web_search_options"),
}


@pytest.mark.parametrize(
    ("path", "valid"),
    [
        ("/fine_tuning/jobs", {"model": "pricer-base", "training_file": "file-none"}),
        ("/chat/completions", {"model": "pricer-base", "messages": MESSAGES}),
        (
            "/batches",
            {
                "input_file_id": "file-none",
                "endpoint": "/v1/chat/completions",
                "completion_window": "24h",
            },
        ),
    ],
)
def test_wrong_types_and_values_out_of_range_are_refused(
    specification: Specification, server: LocalServer, path: str, valid: dict[str, Any]
) -> None:
    schema = specification.request_schema(path)
    validator = specification.validator(schema)
    assert validator.is_valid(valid)
    refused = 0
    with httpx2.Client() as http:
        for name in sorted(specification.properties(schema)):
            for wrong in CANDIDATES:
                if validator.is_valid(valid | {name: wrong}):
                    continue
                if name in NOT_LOOKED_INTO and isinstance(wrong, dict | list | str):
                    continue
                answer = http.post(f"{server.url}{path}", json=valid | {name: wrong})
                assert answer.status_code == 400, (name, wrong, answer.text)
                assert str(answer.json()["error"]["param"]).startswith(name), (name, wrong, answer.text)
                refused += 1
        for name in valid:
            answer = http.post(f"{server.url}{path}", json={k: v for k, v in valid.items() if k != name})
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)
    assert refused > 40
