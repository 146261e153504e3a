"""A server as a process of its own: started once, found again, killed, gone on with, and stopped."""

import json
import logging
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from finetune_pricer import FineTuneJob, JsonlWriter, launch
from finetune_pricer.errors import AccessDenied, DataError, FileAccessError, ServiceUnavailable
from finetune_pricer.machines import LaunchedServer, own_process
from finetune_pricer.machines.process_identity import find_identity
from finetune_pricer.machines.server_record import ServerRecord
from finetune_pricer.providers import provider_of
from helpers import priced
from local_helpers import eventually, jsonl, products, upload

Blink = Callable[[float], None]
LONG: Any = {"n_epochs": 50, "batch_size": 1}
PROGRAM = "import sys; sys.stdin.readline(); "
DEAF = "from signal import *; signal(SIGTERM, SIG_IGN); print('deaf', flush=True); pause()"
posix = pytest.mark.skipif(os.name != "posix", reason="signals of this kind are posix")


@pytest.fixture(autouse=True)
def _none_outlives_its_test() -> Iterator[None]:
    yield
    for process in own_process._started:
        process.kill()
        process.wait()
    own_process._started.clear()


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let something else run in the place of a server, which takes a second to start."""
    return lambda code: monkeypatch.setattr(own_process, "_PROGRAM", PROGRAM + code)


@pytest.fixture
def record() -> ServerRecord:
    return ServerRecord("process", "pricer")


def pid_of(record: ServerRecord) -> int:
    return int(record.read()["pid"])


@posix
def test_a_server_is_started_once_used_killed_gone_on_with_and_stopped(
    caplog: pytest.LogCaptureFixture, record: ServerRecord, blink: Blink
) -> None:
    caplog.set_level(logging.DEBUG, "finetune_pricer")
    with ThreadPoolExecutor() as callers:
        asked = [callers.submit(launch, "process", limit="5m", sleep=blink) for _ in range(2)]
    server, other = (each.result() for each in asked)
    assert server.id == other.id
    assert (server.url, server.is_running()) == (other.url, True)
    key = record.read_key() or ""
    with server.client() as client:
        assert provider_of(client).name == "local"
        file = JsonlWriter().write(priced(20), "train.jsonl")
        job = FineTuneJob.create(client, file, model="pricer-base", epochs=1, seed=1).wait(sleep=blink)
        assert job.predictor().predict(priced(1)[0]).price is not None
        longer = client.fine_tuning.jobs.create(
            model="pricer-base", training_file=upload(client, jsonl(products(300))).id, hyperparameters=LONG
        )
        with pytest.raises(AccessDenied, match="another key than this machine"):
            launch("process", key="sk-mine", sleep=lambda _: pytest.fail("it waited"))

        shown = subprocess.run(["ps", "-ww", "-o", "args=", "-p", server.id], capture_output=True)
        assert server.id.isdecimal()
        assert shown.stdout
        for text in (
            shown.stdout.decode(),
            caplog.text,
            repr(server),
            str(vars(record)),
            record.log.read_text(),
        ):
            assert key not in text
        modes = [stat.S_IMODE(path.stat().st_mode) for path in (record.key_file, record.log, record.folder)]
        assert modes == [0o600, 0o600, 0o700]

        os.kill(int(server.id), signal.SIGKILL)
        eventually(lambda: not server.is_running())
        again = launch("process", limit="5m", sleep=blink)
        assert (again.url, again.id == server.id) == (server.url, False)
        assert record.read_key() == key
        assert client.fine_tuning.jobs.retrieve(longer.id).status not in {"failed", "cancelled"}
        assert client.fine_tuning.jobs.retrieve(job.id).status == "succeeded"

    again.stop()
    assert not again.is_running()
    assert LaunchedServer.find("process") is None
    assert (record.folder / "folder" / "server.sqlite3").exists()
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(again.url, trust_env=False)


@posix
def test_a_number_that_another_process_has_by_now_is_neither_found_nor_stopped(record: ServerRecord) -> None:
    record.write({"pid": os.getpid(), "identity": "an earlier process", "port": 8000, "settings": "x"})
    assert LaunchedServer.find("process") is None
    own_process.OwnProcess().stop("pricer", record)  # or this test would end here

    record.write({**record.read(), "identity": find_identity(os.getpid())})
    found = LaunchedServer.find("process")
    assert found is not None
    assert found.id == str(os.getpid())


def test_an_identity_is_that_of_a_running_process_only() -> None:
    assert find_identity(os.getpid()) == find_identity(os.getpid()) != find_identity(1)
    ended = subprocess.Popen([sys.executable, "-S", "-c", ""], stdin=subprocess.PIPE)
    assert ended.stdin is not None
    ended.stdin.close()
    # Not waited for: it is no process any more although it has a number still.
    eventually(lambda: find_identity(ended.pid) is None)
    ended.wait()
    assert find_identity(2**22 + 1) is None


@pytest.mark.skipif(not Path("/bin/ps").exists(), reason="there is no ps here")
def test_an_identity_is_known_without_proc_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert find_identity(os.getpid()) == find_identity(os.getpid())
    assert find_identity(os.getpid()) is not None
    assert find_identity(2**22 + 1) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "1"}', '{"pid": 1}', '{"pid": true}'])
def test_a_damaged_record_counts_as_none(record: ServerRecord, content: str) -> None:
    record.write({})
    (record.folder / "server.json").write_text(content)
    assert LaunchedServer.find("process") is None


def test_a_server_that_ends_at_once_is_told_with_what_it_said(
    record: ServerRecord, blink: Blink, program: Callable[[str], None]
) -> None:
    program("print('no base of that name', file=sys.stderr); sys.exit(3)")
    with pytest.raises(ServiceUnavailable, match="has ended; its log ends with: no base of that name"):
        launch("process", sleep=blink)
    assert LaunchedServer.find("process") is None


def test_a_server_that_never_answers_is_ended_unless_it_is_to_be_kept(
    record: ServerRecord, naps: list[float], program: Callable[[str], None]
) -> None:
    program("import time; time.sleep(60)")
    with pytest.raises(
        ServiceUnavailable, match=r"not ready after 2 seconds \(no answer.*its log: .*; it was ended"
    ):
        launch("process", wait=2, sleep=naps.append)
    assert LaunchedServer.find("process") is None
    assert max(naps) <= 0.25

    with pytest.raises(ServiceUnavailable, match=r"its log: .*server\.log$"):
        launch("process", wait=0.3, keep=True, sleep=naps.append)
    kept = LaunchedServer.find("process")
    assert kept is not None
    with pytest.raises(ServiceUnavailable, match=r"its log: .*server\.log$"):
        launch("process", wait=0.3, sleep=naps.append)  # did not start it, and does not end it
    assert kept.is_running()
    kept.stop()
    assert not kept.is_running()


@posix
def test_a_server_that_hears_no_signal_is_made_to_end(
    record: ServerRecord,
    monkeypatch: pytest.MonkeyPatch,
    naps: list[float],
    program: Callable[[str], None],
) -> None:
    program(DEAF)
    monkeypatch.setattr(own_process, "_PATIENCE", 0.1)
    with pytest.raises(ServiceUnavailable):
        launch("process", wait=0.3, keep=True, sleep=naps.append)
    eventually(lambda: "deaf" in record.log.read_text())
    found = LaunchedServer.find("process")
    assert found is not None
    found.stop()
    assert not found.is_running()


def test_an_interrupted_wait_ends_what_it_started(program: Callable[[str], None]) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    program("import time; time.sleep(60)")
    with pytest.raises(KeyboardInterrupt):
        launch("process", sleep=interrupt)
    assert LaunchedServer.find("process") is None


def test_a_process_that_could_not_be_noted_is_not_left_running(
    monkeypatch: pytest.MonkeyPatch, program: Callable[[str], None]
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    program("import time; time.sleep(60)")
    monkeypatch.setattr(ServerRecord, "write", fail)
    with pytest.raises(OSError, match="No space"):
        launch("process")
    (process,) = own_process._started
    assert process.wait(5) != 0


def test_a_port_in_use_is_said_before_anything_starts(record: ServerRecord) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            ServiceUnavailable, match=f"port {port} of this machine is in use; nothing was started"
        ):
            launch("process", port=port)
    assert not own_process._started
    assert LaunchedServer.find("process") is None


def test_a_running_server_with_other_settings_is_not_handed_out(record: ServerRecord) -> None:
    record.write({"pid": os.getpid(), "identity": find_identity(os.getpid()), "port": 1, "settings": "other"})
    record.keep_key(None)
    with pytest.raises(
        DataError, match="runs on process with another machine, other bases or another folder"
    ):
        launch("process", wait=0.1)


def test_the_port_of_last_time_is_taken_if_it_is_free(record: ServerRecord) -> None:
    from finetune_pricer.machines.loopback_port import choose_port

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert choose_port(0, port) != port
    assert choose_port(0, port) == port
    assert choose_port(0, "odd") > 0


def test_a_key_is_long_kept_and_readable_by_its_user_only(record: ServerRecord) -> None:
    key = record.keep_key(None)
    assert len(key) > 40
    assert record.keep_key(None) == key
    assert record.keep_key("sk-mine") == record.read_key() == "sk-mine"
    shutil.rmtree(record.folder)
    assert record.read_key() is None
    assert record.keep_key(None) != key
    assert json.dumps(record.read()) == "{}"


def test_somebody_who_starts_the_same_for_too_long_is_said(record: ServerRecord) -> None:
    other = ServerRecord("process", "pricer")
    with (
        record.lock(1),
        pytest.raises(ServiceUnavailable, match=r"has been starting this server for 0\.01 sec"),
        other.lock(0.01),
    ):
        pass


def test_a_state_folder_that_cannot_be_used_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FINETUNE_PRICER_HOME", str(tmp_path / "file"))
    with pytest.raises(FileAccessError, match=r"or name another by FINETUNE_PRICER_HOME"):
        launch("process")


def test_a_log_that_cannot_be_written_is_said(record: ServerRecord) -> None:
    record.log.mkdir(parents=True)
    with pytest.raises(FileAccessError, match="cannot use the folder"):
        launch("process")
    assert not own_process._started


def test_a_machine_that_starts_no_process_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(
        ServiceUnavailable, match=r"starts no further process \(No such file.*nothing was started"
    ):
        launch("process")
