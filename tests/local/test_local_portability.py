"""What other systems do differently, played on this one: open files, Ctrl-C, long paths, frozen programs."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import pytest

from finetune_pricer.errors import NotConfigured
from finetune_pricer.local import LocalServer, serve, signals
from local_helpers import jsonl, products, train, upload

if TYPE_CHECKING:
    from finetune_pricer.local.database import Database


def database_of(server: LocalServer) -> Database:
    assert server._runtime is not None
    return server._runtime.state.database


def test_a_content_that_is_being_sent_can_be_uploaded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows replaces no file that is open."""

    def replace(_: Path, target: Path) -> Path:
        raise PermissionError(13, "used by another process", str(target))

    with LocalServer() as server, server.client(max_retries=0) as client:
        first = upload(client, b"same\n")
        monkeypatch.setattr(Path, "replace", replace)
        second = upload(client, b"same\n")
        blobs = database_of(server).blobs
        with pytest.raises(PermissionError), database_of(server).keep_blob(b"new\n"):
            pass

        assert client.files.content(second.id).read() == b"same\n"
        client.files.delete(first.id)
        assert client.files.content(second.id).read() == b"same\n"
        assert len(blobs.list_names()) == 1


def test_a_content_that_is_being_sent_is_removed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows removes no file that is open."""
    with LocalServer(tmp_path) as server, server.client(max_retries=0) as client:
        file = upload(client, b"deleted\n")
        with monkeypatch.context() as patch:

            def unlink(path: Path, **_: Any) -> None:
                raise PermissionError(13, "used by another process", str(path))

            patch.setattr(Path, "unlink", unlink)
            assert client.files.delete(file.id).deleted
        assert len(database_of(server).blobs.list_names()) == 1
        again = upload(client, b"deleted\n")
        client.files.delete(again.id)
        assert database_of(server).blobs.list_names() == set()


def test_an_upload_that_takes_long_keeps_no_other_request_waiting(tmp_path: Path) -> None:
    begun, may_go_on = threading.Event(), threading.Event()

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            begun.set()
            may_go_on.wait(20)
            return super().read(size)

    with LocalServer(tmp_path) as server, server.client(max_retries=0, timeout=10) as client:
        content = cast("IO[bytes]", Slow(b"slow\n"))
        thread = threading.Thread(
            target=database_of(server).add_file, args=(content,), kwargs={"filename": "s", "purpose": "batch"}
        )
        thread.start()
        try:
            assert begun.wait(20)
            upload(client, b"quick\n")
        finally:
            may_go_on.set()
            thread.join()
        assert len(client.files.list().data) == 2


def test_serving_and_stopping_wait_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows, Ctrl-C interrupts no wait without an end."""
    waits: list[float | None] = []
    wait, join = threading.Event.wait, threading.Thread.join
    main = threading.main_thread()

    def noted_wait(self: threading.Event, timeout: float | None = None) -> bool:
        # A thread that starts is waited for by the standard library itself.
        if threading.current_thread() is main and sys._getframe(1).f_code.co_name == "serve":
            waits.append(timeout)
            signal.raise_signal(signal.SIGINT)
        return wait(self, timeout)

    def noted_join(self: threading.Thread, timeout: float | None = None) -> None:
        if threading.current_thread() is main:
            waits.append(timeout)
        join(self, timeout)

    monkeypatch.setattr(threading.Event, "wait", noted_wait)
    monkeypatch.setattr(threading.Thread, "join", noted_join)
    serve(port=0)

    assert len(waits) > 2
    assert all(timeout is not None and timeout <= 1 for timeout in waits)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"])
def test_each_signal_that_asks_a_program_to_end_is_known_where_there_is_one(name: str) -> None:
    assert (getattr(signal, name, None) in signals.ENDING) == hasattr(signal, name)


def test_a_program_that_handles_a_signal_itself_goes_on_doing_so() -> None:
    calls: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: calls.append(number))
    try:
        with LocalServer() as server:
            signal.raise_signal(signal.SIGTERM)
            assert server.url
    finally:
        mine = signal.signal(signal.SIGTERM, before)

    assert calls == [signal.SIGTERM]
    assert mine is not signal.SIG_DFL


def test_signals_are_as_before_when_the_last_server_has_stopped() -> None:
    before = signal.getsignal(signal.SIGTERM)
    outer, inner = LocalServer().start(), LocalServer().start()
    inner.stop()
    assert before is not signal.SIG_DFL or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    outer.stop()
    thread = threading.Thread(target=lambda: LocalServer().start().stop())
    thread.start()
    thread.join()

    assert signal.getsignal(signal.SIGTERM) is before


def test_a_long_search_path_does_not_keep_jobs_from_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """As arguments of a command, Windows would take 32,767 characters of it."""
    monkeypatch.setattr(sys, "path", [*sys.path, *(f"/none/{number}/{'x' * 100}" for number in range(2_000))])
    started: list[list[str]] = []
    popen = subprocess.Popen

    def noted(command: list[str], **options: Any) -> Any:
        started.append(command)
        return popen(command, **options)

    monkeypatch.setattr(subprocess, "Popen", noted)
    with LocalServer(cores=1) as server, server.client() as client:
        assert train(client, jsonl(products(20)), settings={"n_epochs": 1}).status == "succeeded"

    assert started
    assert all(len(" ".join(command)) < 2_000 for command in started)


def test_a_frozen_application_is_told_that_it_cannot_train(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its executable is the application, which would be started again for each job."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)

    with pytest.raises(NotConfigured, match=r"frozen application.*finetune-pricer serve"):
        LocalServer()
