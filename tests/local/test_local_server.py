from __future__ import annotations

import http.client
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest

from finetune_pricer import local
from finetune_pricer.errors import MissingExtra, NotConfigured
from finetune_pricer.local import LocalServer
from finetune_pricer.local.jobs.trainer_process import TrainerOrder, TrainerSlot
from finetune_pricer.local.learners import LearnerSpec, RequestedHyperparameters, TrainingJob
from local_helpers import ask, endless, events, eventually, finished, jsonl, products, train, upload

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob


TESTS = Path(__file__).parents[1]


def call(
    server: LocalServer, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, Any]:
    """Speak HTTP without a client, which would fix the request first."""
    address = urllib.parse.urlsplit(server.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


# Files and models


def test_a_file_is_stored_shown_listed_read_back_and_deleted(client: openai.OpenAI) -> None:
    file = client.files.create(file=("../../odd name.jsonl", b"{}\n"), purpose="fine-tune")

    assert (file.filename, file.bytes, file.status) == ("odd name.jsonl", 3, "processed")
    assert client.files.retrieve(file.id) == file
    assert client.files.list().data[0] == file
    assert client.files.list(purpose="vision").data == []
    assert client.files.content(file.id).read() == b"{}\n"
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError, match="No such File"):
        client.files.retrieve(file.id)


def test_deleting_a_file_leaves_another_with_the_same_content(client: openai.OpenAI) -> None:
    one, other = (upload(client, b"same\n") for _ in range(2))

    client.files.delete(one.id)

    assert client.files.content(other.id).read() == b"same\n"


def test_files_are_listed_in_pages(client: openai.OpenAI) -> None:
    ids = [upload(client, b"x\n").id for _ in range(3)]

    listed = [file.id for file in client.files.list(limit=2, order="asc")]

    assert listed[-3:] == ids
    with pytest.raises(openai.NotFoundError):
        client.files.list(after="file-none")
    with pytest.raises(openai.BadRequestError):
        client.files.list(limit=0)


def test_a_file_with_another_purpose_or_without_content_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as purpose:
        client.files.create(file=("a", b"x"), purpose="vision")
    with pytest.raises(openai.BadRequestError, match="empty"):
        client.files.create(file=("a", b""), purpose="fine-tune")

    assert purpose.value.param == "purpose"


@pytest.mark.parametrize("path", ["..%2f..%2fetc%2fpasswd", "file-none", "%00", "a'%20OR%201=1"])
def test_an_unknown_or_crafted_file_id_is_not_found(server: LocalServer, path: str) -> None:
    status, body = call(server, "GET", f"/v1/files/{path}/content")

    assert status == 404
    assert body["error"]["type"] == "invalid_request_error"


def test_models_are_listed_shown_and_a_tuned_one_can_be_deleted(client: openai.OpenAI) -> None:
    name = train(client, jsonl(products(20)), suffix="a/b").fine_tuned_model or ""
    ask(client, name, "a lamp")

    assert {"pricer-base", "pricer-base-mini", name} <= {model.id for model in client.models.list()}
    assert client.models.retrieve(name).id == name
    assert client.models.retrieve("pricer-base").owned_by == "finetune-pricer"
    assert client.models.delete(name).deleted
    for move in (client.models.retrieve, client.models.delete):
        with pytest.raises(openai.NotFoundError):
            move(name)
    with pytest.raises(openai.NotFoundError):
        ask(client, name, "a lamp")


def test_a_base_model_cannot_be_deleted(client: openai.OpenAI) -> None:
    with pytest.raises(openai.PermissionDeniedError):
        client.models.delete("pricer-base")


# The protocol's errors


@pytest.mark.parametrize("body", [b"{", b"[]", b"", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_refused(server: LocalServer, body: bytes) -> None:
    for path in ("/v1/chat/completions", "/v1/fine_tuning/jobs"):
        status, answer = call(server, "POST", path, body)

        assert status == 400
        assert set(answer["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "kind", ["application/json", "multipart/form-data", "multipart/form-data; boundary=x"]
)
def test_an_upload_that_is_no_form_is_refused(server: LocalServer, kind: str) -> None:
    status, answer = call(server, "POST", "/v1/files", b"nonsense", **{"Content-Type": kind})

    assert status == 400
    assert answer["error"]["message"]


def test_an_unknown_route_and_a_wrong_method_are_refused(server: LocalServer) -> None:
    assert call(server, "GET", "/v1/embeddings")[0] == 404
    status, answer = call(server, "DELETE", "/v1/chat/completions")
    assert (status, answer["error"]["type"]) == (405, "invalid_request_error")


def test_a_body_over_the_limit_is_refused(server: LocalServer, client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        upload(client, b"x" * 2**21)

    assert refused.value.status_code == 413
    chunks = [b"x" * 2**18] * 8
    address = urllib.parse.urlsplit(server.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    try:
        connection.request(
            "POST",
            "/v1/chat/completions",
            iter(chunks),
            encode_chunked=True,
            headers={"Transfer-Encoding": "chunked"},
        )
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # closed while we sent on: refused as well
    finally:
        connection.close()
    assert call(server, "GET", "/health")[0] == 200


def test_a_client_that_goes_away_in_the_middle_is_no_failure(
    server: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="finetune_pricer.local")
    address = urllib.parse.urlsplit(server.url)
    with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
        connection.sendall(b"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{")

    eventually(lambda: any("POST /v1/batches" in record.getMessage() for record in caplog.records))
    assert all(record.levelno < logging.WARNING for record in caplog.records)


def test_with_a_key_every_route_but_health_asks_for_it() -> None:
    with LocalServer(key="sk-right") as server:
        with server.client() as client:
            assert client.models.list().data
        with (
            openai.OpenAI(base_url=server.url, api_key="sk-wrong", max_retries=0) as client,
            pytest.raises(openai.AuthenticationError) as wrong,
        ):
            client.models.list()
        status, missing = call(server, "GET", "/v1/models")

        assert wrong.value.code == "invalid_api_key"
        assert "sk-" not in str(wrong.value)
        assert (status, missing["error"]["code"]) == (401, "invalid_api_key")
        assert call(server, "GET", "/health") == (200, {"status": "ok"})
        assert "sk-right" not in repr(server)


def test_every_answer_carries_a_request_id(client: openai.OpenAI) -> None:
    assert (client.models.list()._request_id or "").startswith("req_")


def test_neither_key_nor_prompt_reaches_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), LocalServer(key="sk-secret") as server, server.client() as client:
        job = train(client, jsonl(products(20)))
        ask(client, job.fine_tuned_model, "a very private lamp")

    ours = [record for record in caplog.records if record.name.startswith("finetune_pricer")]
    assert any("succeeded" in record.getMessage() for record in ours)
    for word in ("sk-secret", "private", "lamp"):
        assert not any(word in record.getMessage() for record in ours)


# Starting and stopping


def test_it_starts_fast_and_leaves_no_thread_and_no_folder() -> None:
    before = set(threading.enumerate())
    started = time.perf_counter()

    with LocalServer() as server:
        assert call(server, "GET", "/health")[0] == 200
        assert time.perf_counter() - started < 1.5
        assert server._runtime is not None
        folder = server._runtime.state.database.blobs.path("x").parents[1]
        assert folder.exists()

    assert not folder.exists()
    # A thread of anyio's pool ends by itself a moment after its loop.
    assert {t for t in set(threading.enumerate()) - before if "AnyIO" not in t.name} == set()


def test_starting_and_stopping_twice_is_harmless() -> None:
    server = LocalServer()
    with pytest.raises(NotConfigured, match="not running"):
        _ = server.url

    url = server.start().url
    assert server.start().url == url
    server.stop()
    server.stop()

    assert repr(server) == "LocalServer(not running)"


def test_a_finished_model_outlives_the_server_and_answers_the_same(tmp_path: Path) -> None:
    with LocalServer(tmp_path) as server, server.client() as client:
        job = train(client, jsonl(products(40)))
        before = ask(client, job.fine_tuned_model, "A small lamp of oak")
    with LocalServer(dir=tmp_path) as server, server.client() as client:
        after = client.fine_tuning.jobs.retrieve(job.id)

        assert after == job
        assert ask(client, job.fine_tuned_model, "A small lamp of oak") == before
        assert client.files.content(job.training_file).read() == jsonl(products(40))


def test_stopping_ends_a_training_soon_and_the_next_start_takes_it_up(tmp_path: Path) -> None:
    with LocalServer(tmp_path, cores=1) as server, server.client() as client:
        job = endless(client)
        waiting = client.fine_tuning.jobs.create(
            model="pricer-base", training_file=upload(client, jsonl(products(20))).id
        )
        started = time.perf_counter()
        server.stop()
        assert time.perf_counter() - started < 3
    with LocalServer(tmp_path, cores=1) as server, server.client() as client:
        assert client.fine_tuning.jobs.retrieve(job.id).status in ("queued", "running")
        assert any("restarted" in event.message for event in events(client, job.id))
        client.fine_tuning.jobs.cancel(job.id)
        assert finished(client, waiting.id).status == "succeeded"


def test_a_crash_of_the_learner_fails_the_job_and_not_the_server(server: LocalServer) -> None:
    with server.client() as client:
        job = endless(client)
        assert server._runtime is not None
        (slot,) = server._runtime.state.worker._slots
        assert slot._process is not None
        os.kill(slot._process.pid, signal.SIGKILL)
        failed = finished(client, job.id)

        assert failed.status == "failed"
        assert failed.error is not None
        assert failed.error.code == "server_error"
        assert train(client, jsonl(products(20))).status == "succeeded"


def test_a_job_stopped_just_before_its_training_is_not_trained(tmp_path: Path) -> None:
    slot = TrainerSlot()
    job = TrainingJob(
        training=tmp_path / "none",
        validation=None,
        hyperparameters=RequestedHyperparameters(),
        seed=1,
        folder=tmp_path,
    )
    order = TrainerOrder(learner=LearnerSpec(path="none:None", options={}), job=job)
    try:
        assert list(slot.run("ftjob-1", order, {}, lambda: False)) == []
        assert slot._process is not None
        assert slot._process.is_alive
    finally:
        slot.close()


def test_the_training_process_ends_with_its_server(tmp_path: Path) -> None:
    code = f"""if True:
        import os, sys, time
        sys.path.insert(0, {str(TESTS)!r})
        from finetune_pricer.local import LocalServer
        from local_helpers import endless
        server = LocalServer({str(tmp_path)!r}).start()
        job = endless(server.client())
        print([s._process.pid for s in server._runtime.state.worker._slots if s._process][0], flush=True)
        os.kill(os.getpid(), 9)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    pid = int(done.stdout)

    def gone() -> bool:
        try:
            return "Z" in Path(f"/proc/{pid}/stat").read_text().split(")")[1][:3]
        except (FileNotFoundError, ProcessLookupError):
            return True

    eventually(gone)


def test_the_shared_server_is_one_per_folder_and_starts_again_after_a_stop(tmp_path: Path) -> None:
    one = LocalServer.get_shared(tmp_path)
    try:
        assert LocalServer.get_shared(str(tmp_path)) is one
        one.stop()
        assert LocalServer.get_shared(tmp_path).url
    finally:
        one.stop()


def test_a_missing_library_is_named_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)

    with pytest.raises(MissingExtra, match=r"uvicorn.*pip install 'finetune-pricer\[local\]'"):
        LocalServer()


def test_without_the_extra_the_room_can_be_imported_and_a_server_says_what_is_missing() -> None:
    extra = ["starlette", "uvicorn", "python_multipart", "scipy", "jinja2", "numpy"]
    code = f"""if True:
        import sys
        sys.modules.update(dict.fromkeys({extra!r}))
        from finetune_pricer.errors import MissingExtra
        from finetune_pricer.local import Faults, LocalServer
        try:
            LocalServer(faults=Faults(latency=1))
        except MissingExtra as error:
            print(error)
    """

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )

    assert "starlette, which is not installed; pip install 'finetune-pricer[local]'" in done.stdout


def test_a_server_that_nobody_stopped_ends_with_its_process() -> None:
    code = (
        "from finetune_pricer.local import LocalServer\nwith LocalServer.get_shared().client() as client:\n"
    )
    code += "    print(client.models.list())"

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=30, check=True
    )

    assert "pricer-base" in done.stdout
    assert done.stderr == ""


def test_the_room_offers_six_names() -> None:
    assert local.__all__ == ["AdapterPricer", "Faults", "Learner", "LocalServer", "LoraLearner", "serve"]
    assert all(hasattr(local, name) for name in local.__all__)


def test_a_job_that_runs_is_shared_between_clients(server: LocalServer, tuned: FineTuningJob) -> None:
    with server.client() as another:
        assert another.fine_tuning.jobs.retrieve(tuned.id).fine_tuned_model == tuned.fine_tuned_model
