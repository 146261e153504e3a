"""What strangers send: pages of other origins, text that a terminal obeys, more than is worth keeping."""

from __future__ import annotations

import json
import logging
import urllib.parse
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import orjson
import pytest
from click.testing import CliRunner

from finetune_pricer import local
from finetune_pricer.cli import cli
from finetune_pricer.local import LocalServer
from finetune_pricer.local.records import StoredModel, printable
from local_helpers import ask, eventually, finished, jsonl, products, upload

if TYPE_CHECKING:
    from finetune_pricer.local.database import Database

JSON = {"content-type": "application/json"}
FAULT = orjson.dumps({"refuse_training": True})
FORGED = "x\n12:00:00 job ftjob-forged succeeded"
UNPRINTABLE = [
    FORGED,
    "\x1b[2J",
    "a\rb",
    "a\x00b",
    "a\x7f",
    "\x9b2J",
    "a\u2028b",
    "\u202egnp.exe",
    "\ud800",
    "\u200b",
]


def root(server: LocalServer) -> str:
    return server.url.removesuffix("/v1")


def database_of(server: LocalServer) -> Database:
    assert server._runtime is not None
    return server._runtime.state.database


# Pages of other origins

FOREIGN = [
    {"origin": "https://evil.local"},
    {"origin": "http://app.corp.internal"},
    {"origin": "http://localhost:3000"},
    {"origin": "http://localhost"},
    {"origin": "https://{host}"},
    {"origin": "http://127.0.0.1:1"},
    {"origin": "http://[::1]:3000"},
    {"origin": "http://pricer.localhost"},
    {"origin": "null"},
    {"origin": "file://"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"origin": "http://{host}", "sec-fetch-site": "cross-site"},
]


def hosted(server: LocalServer, headers: dict[str, str]) -> dict[str, str]:
    host = urllib.parse.urlsplit(server.url).netloc
    return {name: value.format(host=host) for name, value in headers.items()}


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/local/faults"),
        ("POST", "/v1/fine_tuning/jobs"),
        ("POST", "/v1/fine_tuning/jobs/x/cancel"),
        ("POST", "/v1/files"),
        ("POST", "/v1/chat/completions"),
        ("DELETE", "/v1/files/file-x"),
    ],
)
def test_a_page_of_another_origin_changes_nothing(
    server: LocalServer, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = httpx2.request(
        method, root(server) + path, content=FAULT, headers=hosted(server, headers) | JSON
    )

    assert answer.status_code == 403
    assert answer.json()["error"]["code"] in ("host_not_allowed", "origin_not_allowed")
    assert server.faults == local.Faults()


@pytest.mark.parametrize(
    "headers",
    [{}, {"origin": "http://{host}"}, {"origin": "http://{host}", "sec-fetch-site": "same-origin"}],
    ids=str,
)
def test_a_program_and_a_page_of_the_servers_own_may_send(
    server: LocalServer, headers: dict[str, str]
) -> None:
    answer = httpx2.post(
        f"{root(server)}/local/faults", content=b"{}", headers=hosted(server, headers) | JSON
    )

    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ({"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}, 200),
    ],
)
def test_a_link_on_another_page_may_lead_to_the_dashboard(
    server: LocalServer, headers: dict[str, str], status: int
) -> None:
    assert httpx2.get(f"{root(server)}/", headers=headers).status_code == status


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
@pytest.mark.parametrize(
    "path", ["/local/faults", "/v1/chat/completions", "/v1/fine_tuning/jobs", "/v1/batches"]
)
def test_a_body_must_say_that_it_is_json(server: LocalServer, path: str, kind: str) -> None:
    """What else a page may send without asking first."""
    answer = httpx2.post(root(server) + path, content=FAULT, headers={"content-type": kind})

    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_content_type")
    assert server.faults == local.Faults()


def test_further_names_of_the_machine_are_answered_where_they_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with LocalServer(names=["Host.docker.internal", "pricer.local"]) as server:
        for name, status in {
            "host.docker.internal:8080": 200,
            "PRICER.local": 200,
            "a.pricer.local": 403,
            "evil.internal": 403,
        }.items():
            assert httpx2.get(f"{server.url}/models", headers={"host": name}).status_code == status
        own = {"host": "pricer.local", "origin": "http://pricer.local"} | JSON
        assert httpx2.post(f"{root(server)}/local/faults", content=b"{}", headers=own).status_code == 200
    served: dict[str, Any] = {}
    monkeypatch.setattr(local, "serve", served.update)
    done = CliRunner().invoke(cli, ["serve", "--name", "a.local", "--name", "b.local"])
    assert (done.exit_code, list(served["names"])) == (0, ["a.local", "b.local"])


# Names


@pytest.mark.parametrize("suffix", [*UNPRINTABLE, "..", "a/../b", "../../x", "a/."], ids=ascii)
def test_a_suffix_that_would_forge_lines_or_paths_is_refused(server: LocalServer, suffix: str) -> None:
    body = {"model": "pricer-base", "training_file": "file-x", "suffix": suffix}
    answer = httpx2.post(f"{server.url}/fine_tuning/jobs", content=json.dumps(body), headers=JSON)

    assert answer.status_code == 400
    # Half a pair of surrogates is no JSON for us.
    assert answer.json()["error"]["param"] == (None if suffix == "\ud800" else "suffix")


@pytest.mark.parametrize("name", ["a\x1b[2J.jsonl", "a\x00.jsonl", "a\u202e.jsonl", "a\x7f"], ids=ascii)
def test_a_file_whose_name_cannot_be_printed_is_refused(server: LocalServer, name: str) -> None:
    parts = [
        '--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n',
        f'--x\r\ncontent-disposition: form-data; name="file"; filename="{name}"\r\n\r\n{{}}\r\n--x--\r\n',
    ]
    kind = {"content-type": "multipart/form-data; boundary=x"}
    answer = httpx2.post(f"{server.url}/files", content="".join(parts).encode(), headers=kind)

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")


def test_a_model_of_an_earlier_version_with_a_line_break_in_its_name_can_be_deleted(
    server: LocalServer, client: openai.OpenAI
) -> None:
    name = f"ft:pricer-base:local:{FORGED}:abcdefgh"
    database_of(server).add_model(
        StoredModel(id=name, base="pricer-base", job="ftjob-x", created_at=1, files={})
    )

    assert client.models.retrieve(name).id == name
    assert client.models.delete(name).deleted
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(name)


@pytest.mark.parametrize("text", UNPRINTABLE, ids=ascii)
def test_what_is_logged_is_one_line_that_no_terminal_obeys(text: str) -> None:
    record = logging.LogRecord("x", logging.INFO, "x", 1, "job %s succeeded", (text,), None)

    shown = local.server._PrintableFormatter("%(asctime)s %(message)s").format(record)

    assert shown.isprintable()
    assert "succeeded" in shown


def test_a_long_name_is_cut_in_the_log() -> None:
    assert len(printable("x" * 10_000)) < 200
    assert printable("größer als 5 €") == "größer als 5 €"
    assert printable("a\nb\x1b") == r"a\nb\x1b"


def test_a_path_reaches_the_log_on_one_line(server: LocalServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="finetune_pricer.local")
    httpx2.get(f"{root(server)}/v1/x%0A12:00:00%20job%20ftjob-forged%20succeeded%1B[2J")

    eventually(lambda: "forged" in caplog.text)
    assert all(record.getMessage().isprintable() for record in caplog.records)


# More than is worth keeping


def test_a_job_keeps_of_its_integrations_what_the_specification_knows(client: openai.OpenAI) -> None:
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    secret = {"project": "p", "api_key": "wandb-secret", "more": "x" * 900_000, "deep": deep}
    job = client.fine_tuning.jobs.create(
        model="pricer-base",
        training_file=upload(client, jsonl(products(20))).id,
        integrations=[{"type": "wandb", "wandb": secret, "api_key": "another-secret"}],  # type: ignore[typeddict-item, typeddict-unknown-key]
    )
    finished(client, job.id)

    listed = client.fine_tuning.jobs.with_raw_response.list(limit=1).text
    assert "secret" not in listed
    assert len(listed) < 5_000
    assert job.integrations is not None
    assert job.integrations[0].wandb.project == "p"


@pytest.mark.parametrize("wandb", [{"project": "x" * 513}, {"project": "p", "tags": ["x"] * 101}])
def test_integrations_have_bounds(client: openai.OpenAI, wandb: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.fine_tuning.jobs.create(
            model="pricer-base", training_file="file-x", integrations=[{"type": "wandb", "wandb": wandb}]
        )
    assert (refused.value.param or "").startswith("integrations.wandb")


@pytest.mark.parametrize("depth", [300, 900, 1_020])
def test_a_role_that_is_nested_deep_is_no_role(
    server: LocalServer, client: openai.OpenAI, depth: int
) -> None:
    role = "[" * depth + "]" * depth
    message = f'{{"messages": [{{"role": {role}, "content": "x"}}]'
    answer = httpx2.post(
        f"{server.url}/chat/completions", content=f'{message}, "model": "pricer-base"}}', headers=JSON
    )
    lines = f"{message}}}\n".encode() * 12
    file = upload(client, lines)
    failed = finished(client, client.fine_tuning.jobs.create(model="pricer-base", training_file=file.id).id)

    assert answer.status_code == 400
    assert failed.error is not None
    assert "line 1: messages[0] has an unknown role" in failed.error.message


def test_many_jobs_and_batches_do_not_make_a_page_slower(server: LocalServer, client: openai.OpenAI) -> None:
    """A page reads as many rows as it shows, and no more."""
    database, read = database_of(server), []
    query = database._query
    file = upload(client, jsonl(products(20)))
    jobs = [
        client.fine_tuning.jobs.create(
            model="pricer-base", training_file=file.id, metadata={"n": str(number % 2)}
        ).id
        for number in range(5)
    ]
    for job in jobs:
        finished(client, job)
    database._query = lambda *args: read.append(args[0]) or query(*args)  # type: ignore[method-assign, func-returns-value]
    try:
        first = client.fine_tuning.jobs.list(limit=2)
        second = client.fine_tuning.jobs.list(limit=2, after=first.data[-1].id)
        odd = list(client.fine_tuning.jobs.list(limit=1, metadata={"n": "1"}))
        client.batches.list(limit=1)
    finally:
        del database._query

    assert [job.id for job in [*first.data, *second.data]] == jobs[:0:-1]
    assert [job.id for job in odd[:2]] == [jobs[3], jobs[1]]
    bodies = [each for each in read if "SELECT number, body" in each]
    assert bodies
    assert all("LIMIT 100" in each for each in bodies)
    with pytest.raises(openai.NotFoundError, match="ftjob-none"):
        client.fine_tuning.jobs.list(after="ftjob-none")
    assert ask(client, finished(client, jobs[0]).fine_tuned_model, "a lamp")
