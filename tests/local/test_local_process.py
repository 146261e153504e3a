"""The server as a process: where it listens, what keeps it from starting, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import urllib.parse
from typing import TYPE_CHECKING

import httpx2
import openai
import pytest

from finetune_pricer.errors import DataError, FileAccessError, NotConfigured, ServiceUnavailable
from finetune_pricer.local import LocalServer
from finetune_pricer.local import serve as serve_here
from local_helpers import endless, events, eventually, finished, jsonl, logprob, products, upload

if TYPE_CHECKING:
    from pathlib import Path

STARTED = "Fine-tuning job started"
ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP] if os.name == "posix" else []
posix = pytest.mark.skipif(os.name != "posix", reason="signals of this kind are posix")


def serve(folder: Path) -> subprocess.Popen[str]:
    code = f"from finetune_pricer.local import serve\nserve(port=0, dir={str(folder)!r}, key='sk-x', cores=1)"
    return subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def children_of(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = [row.split() for row in listed.stdout.splitlines()]
    return [int(child) for child, parent in pairs if int(parent) == pid]


@posix
@pytest.mark.parametrize("number", ENDING)
def test_serve_runs_until_a_signal_and_logs_where_it_listens(tmp_path: Path, number: signal.Signals) -> None:
    with serve(tmp_path) as process:
        assert process.stderr is not None
        first, second = process.stderr.readline(), process.stderr.readline()
        process.send_signal(number)
        rest = process.stderr.read()

    assert "listening on http://127.0.0.1:" in first
    assert re.search(r"shown at http://127\.0\.0\.1:\d+/\n", second)
    assert "stopping" in rest
    assert "sk-x" not in first + second + rest
    assert process.returncode == 0
    sqlite3.connect(tmp_path / "server.sqlite3").close()


@posix
@pytest.mark.parametrize("number", ENDING)
def test_a_signal_to_all_of_its_processes_leaves_a_job_for_the_next_start(
    tmp_path: Path, number: signal.Signals
) -> None:
    """As a terminal sends Ctrl-C, and a supervisor its SIGTERM."""
    with serve(tmp_path) as process:
        assert process.stderr is not None
        url = process.stderr.readline().split()[3].rstrip(",")
        with openai.OpenAI(base_url=url, api_key="sk-x") as client:
            job = endless(client)
        (trainer,) = children_of(process.pid)
        os.kill(trainer, number)
        os.killpg(process.pid, number)
        rest = process.stderr.read()

    assert process.returncode == 0
    assert "stopping; 1 unfinished job(s) go on at the next start" in rest
    with LocalServer(tmp_path, cores=1) as server, server.client() as client:
        assert client.fine_tuning.jobs.retrieve(job.id).status in ("queued", "running")
        assert all(event.level != "error" for event in events(client, job.id))
        client.fine_tuning.jobs.cancel(job.id)


def test_a_folder_serves_one_server_at_a_time(tmp_path: Path) -> None:
    with LocalServer(tmp_path), pytest.raises(FileAccessError, match="another server is using"):
        LocalServer(tmp_path).start()


def test_a_folder_that_cannot_be_used_is_refused_and_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "odd" / "server.sqlite3").mkdir(parents=True)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "server.sqlite3").write_text("no database at all, and long enough to be looked into")

    for name in ("file", "odd", "text"):
        with pytest.raises(FileAccessError, match=rf"{name}.*[Tt]ake"):
            LocalServer(tmp_path / name).start()


@pytest.mark.parametrize("name", ["blobs", "training"])
def test_a_folder_in_which_others_keep_things_is_refused_and_left_as_it_is(tmp_path: Path, name: str) -> None:
    theirs = tmp_path / name / "mine" / "weights.bin"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"dear")

    with pytest.raises(FileAccessError, match=f"'{name}' in it that is not this server's"):
        LocalServer(tmp_path).start()

    assert theirs.read_bytes() == b"dear"
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("version", [0, 2, 4])
def test_a_folder_of_another_version_is_refused_and_left_as_it_is(tmp_path: Path, version: int) -> None:
    database = sqlite3.connect(tmp_path / "server.sqlite3")
    database.executescript(f"CREATE TABLE jobs (number INTEGER); PRAGMA user_version = {version};")
    database.close()

    with pytest.raises(FileAccessError, match=f"its format is {version}, not"):
        LocalServer(tmp_path).start()

    database = sqlite3.connect(tmp_path / "server.sqlite3")
    assert database.execute("PRAGMA user_version").fetchone() == (version,)
    assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("jobs",)]
    database.close()


def test_a_paused_job_rests_over_a_restart_and_ends_with_the_same_model(
    tmp_path: Path,
) -> None:
    def order(client: openai.OpenAI) -> str:
        return client.fine_tuning.jobs.create(
            model="pricer-base",
            training_file=upload(client, jsonl(products(200))).id,
            validation_file=upload(client, jsonl(products(60, seed=5))).id,
            hyperparameters={"n_epochs": 30, "batch_size": 4},
            seed=2,
        ).id

    with LocalServer(tmp_path, cores=1) as server, server.client() as client:
        straight = finished(client, order(client)).fine_tuned_model
        job_id = order(client)
        eventually(lambda: len(client.fine_tuning.jobs.list_events(job_id, limit=100).data) > 40)
        client.fine_tuning.jobs.pause(job_id)
    with LocalServer(tmp_path, cores=1) as server, server.client() as client:
        assert client.fine_tuning.jobs.retrieve(job_id).to_dict()["status"] == "paused"
        client.fine_tuning.jobs.resume(job_id)
        rested = finished(client, job_id).fine_tuned_model

        prompts = [item.prompt for item in products(5, seed=99)]
        assert [logprob(client, rested, each) for each in prompts] == [
            logprob(client, straight, each) for each in prompts
        ]


def test_waiting_jobs_train_in_order_of_arrival_also_after_a_restart(tmp_path: Path) -> None:
    with LocalServer(tmp_path, cores=1) as server, server.client() as client:
        running = endless(client)
        file = upload(client, jsonl(products(20)))
        waiting = [
            client.fine_tuning.jobs.create(model="pricer-base", training_file=file.id).id for _ in range(4)
        ]
        eventually(lambda: client.fine_tuning.jobs.retrieve(waiting[-1]).status == "queued")
    with LocalServer(tmp_path, cores=1) as server, server.client() as client:
        client.fine_tuning.jobs.cancel(running.id)
        finished(client, waiting[-1])
        database = server._runtime.state.database._connection if server._runtime else None
        assert database is not None
        started = [
            row["job"]
            for row in database.execute("SELECT job FROM events WHERE message = ? ORDER BY number", [STARTED])
        ]

    assert started == [running.id, *waiting]


def test_a_port_that_is_taken_or_is_none_is_named(server: LocalServer) -> None:
    port = urllib.parse.urlsplit(server.url).port or 0

    with pytest.raises(ServiceUnavailable, match=rf":{port} .*choose another port"):
        LocalServer(port=port).start()
    with pytest.raises(DataError, match="70000"):
        LocalServer(port=70_000)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.org", "::"])
def test_another_host_than_loopback_needs_a_key(host: str) -> None:
    for key in (None, ""):
        with pytest.raises(NotConfigured, match="needs a key"):
            LocalServer(host=host, key=key)


def test_an_address_of_another_machine_is_refused_with_advice() -> None:
    with pytest.raises(ServiceUnavailable, match=r"192\.0\.2\.1.*an address of this machine"):
        LocalServer(host="192.0.2.1", key="sk-x").start()


@pytest.mark.parametrize("key", ["", " ", "sk-x ", "sk-\n", "schlüssel"])
def test_a_key_that_no_header_could_carry_is_refused(key: str) -> None:
    with pytest.raises(NotConfigured, match="printable ASCII") as refused:
        LocalServer(key=key)

    assert not key.strip() or key.strip() not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("host", "localhost:1", 200),
        ("host", "[::1]:8080", 200),
        ("host", "pricer.localhost", 200),
        ("host", "127.8.9.1", 200),
        ("host", "host.docker.internal:8080", 403),
        ("host", "pricer.local", 403),
        ("host", "rebound.example:8080", 403),
        ("host", "localhost.example", 403),
        ("host", "[", 403),
        ("origin", "http://localhost:3000", 200),
        ("origin", "https://example.org", 403),
        ("origin", "http://pricer.local", 403),
        ("origin", "null", 403),
    ],
)
def test_without_a_key_a_web_page_of_others_is_kept_out(
    server: LocalServer, name: str, value: str, status: int
) -> None:
    answer = httpx2.get(f"{server.url}/models", headers={name: value})

    assert answer.status_code == status
    if status == 403:
        assert answer.json()["error"]["code"] == "host_not_allowed"


def test_with_a_key_any_name_will_do() -> None:
    headers = {"host": "models.example", "origin": "https://example.org", "authorization": "Bearer sk-x"}
    with LocalServer(key="sk-x") as locked:
        assert httpx2.get(f"{locked.url}/models", headers=headers).status_code == 200


def test_serve_stops_by_itself_at_its_limit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "finetune_pricer.local")
    serve_here(port=0, dir=tmp_path, limit=0.05)
    assert caplog.messages[-2:] == ["the time limit is reached", "stopping"]
    with LocalServer(tmp_path):
        pass
