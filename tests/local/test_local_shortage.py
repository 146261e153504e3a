"""A disk that fills for a moment, threads that die, and what `/health` says of it."""

from __future__ import annotations

import errno
import os
import queue
import re
import sqlite3
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import pytest

from finetune_pricer.errors import FileAccessError
from finetune_pricer.local import Faults, LocalServer, queue_thread, shortage
from finetune_pricer.local.api.health import Health
from finetune_pricer.local.queue_thread import QueueThread
from finetune_pricer.local.shortage import Patience, Shortage, describe_shortage
from local_helpers import ask, endless, eventually, finished, jsonl, products, train, upload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from finetune_pricer.local.database import Database

NO_SPACE = "no space left on the server's disk"
URL: Any = "/v1/chat/completions"


def full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(autouse=True)
def _no_long_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_thread, "_PAUSE", 0.02)
    monkeypatch.setattr("finetune_pricer.local.api.health._FRESH", 0.0)


def database_of(server: LocalServer) -> Database:
    assert server._runtime is not None
    return server._runtime.state.database


def health(server: LocalServer) -> tuple[int, dict[str, Any]]:
    answer = httpx2.get(f"{server.url.removesuffix('/v1')}/health", timeout=20)
    return answer.status_code, answer.json()


# What a shortage is


def locked_out() -> sqlite3.Error:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (x)")
    connection.execute("PRAGMA max_page_count = 2")
    try:
        connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
    except sqlite3.Error as error:
        return error
    finally:
        connection.close()
    raise AssertionError("it fitted")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (full(), NO_SPACE),
        (OSError(errno.EDQUOT, "quota"), NO_SPACE),
        (OSError(errno.EFBIG, "too big"), NO_SPACE),
        (OSError(errno.EMFILE, "files"), "the server has too many open files"),
        (OSError(errno.EAGAIN, "fork"), "the machine has no room for another process"),
        (locked_out(), NO_SPACE),
        (Shortage("no paper"), "no paper"),
        (OSError(errno.EIO, "broken"), None),
        (FileNotFoundError(errno.ENOENT, "gone"), None),
        (OSError("without a number"), None),
        (sqlite3.ProgrammingError("closed"), None),
        (MemoryError(), None),
        (ValueError("no space left"), None),
    ],
)
def test_a_shortage_is_told_from_other_errors(error: BaseException, words: str | None) -> None:
    assert describe_shortage(error) == words


def test_patience_ends_and_begins_anew_when_the_work_went_on() -> None:
    clock = [0.0]
    patience = Patience(lambda: clock[0])

    assert patience.allows("job")
    clock[0] = 599
    assert patience.allows("job")
    clock[0] = 601
    assert not patience.allows("job")
    assert patience.allows("another")
    patience.end("job")
    patience.end("unheard of")
    assert patience.allows("job")


# A thread with a queue


class Work:
    """Does what it is told, and raises what it is told to the first times."""

    def __init__(self, **errors: list[BaseException]) -> None:
        self.done: list[str] = []
        self._errors = errors

    def __call__(self, name: str) -> None:
        if self._errors.get(name):
            raise self._errors[name].pop(0)
        self.done.append(name)


@pytest.fixture
def run() -> Iterator[Callable[[Work, queue.Queue[str | None]], QueueThread]]:
    started: list[QueueThread] = []

    def start(work: Work, waiting: queue.Queue[str | None]) -> QueueThread:
        thread = QueueThread("works", waiting, work)
        thread.start()
        started.append(thread)
        return thread

    yield start
    for thread in started:
        thread.stop()
        thread.join()


def waiting_for(*names: str) -> queue.Queue[str | None]:
    waiting: queue.Queue[str | None] = queue.Queue()
    for name in names:
        waiting.put(name)
    return waiting


def test_what_meets_a_shortage_is_done_first_and_what_meets_another_error_last(run: Any) -> None:
    work = Work(a=[full(), full()], b=[ValueError("b"), SystemExit()])
    thread = run(work, waiting_for("a", "b", "c"))

    eventually(lambda: len(work.done) == 3)

    assert work.done == ["a", "c", "b"]
    eventually(lambda: thread.problem is None)


def test_a_thread_says_what_keeps_it_from_its_work(run: Any) -> None:
    work = Work(a=[full()] * 10_000)
    thread = run(work, waiting_for("a"))

    eventually(lambda: thread.problem == NO_SPACE)


def test_a_thread_that_dies_is_replaced_and_says_nothing_of_stopping(run: Any) -> None:
    class Deadly(queue.Queue[str | None]):
        deaths = 2

        def get(self, *args: Any) -> str | None:
            if self.deaths:
                self.deaths -= 1
                raise SystemExit
            return super().get(*args)

    work, waiting = Work(), Deadly()
    thread = run(work, waiting)
    waiting.put("a")

    eventually(lambda: work.done == ["a"] and thread.problem is None)
    thread.stop()
    thread.join()
    assert thread.problem is None


def test_a_thread_that_dies_before_its_start_is_over_does_not_hide_the_one_that_lives(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Deadly(queue.Queue[str | None]):
        deaths = 2

        def get(self, *args: Any) -> str | None:
            self.deaths -= 1
            if self.deaths >= 0:
                raise SystemExit
            return super().get(*args)

    slowness = iter((0, 0.2))
    start = threading.Thread.start

    def start_slowly(thread: threading.Thread) -> None:
        start(thread)
        time.sleep(next(slowness, 0))

    monkeypatch.setattr(threading.Thread, "start", start_slowly)
    work = Work()
    thread = run(work, waiting_for("a"))

    eventually(lambda: work.done == ["a"] and next(slowness, None) is None)
    time.sleep(0.25)
    assert thread.problem is None


def test_health_sees_a_dead_thread_and_starts_it_again(tmp_path: Path) -> None:
    work, waiting = Work(), waiting_for()
    thread = QueueThread("works", waiting, work)
    thread.start()
    dead = threading.Thread(target=lambda: None)
    dead.start()
    dead.join()
    waiting.put(None)
    eventually(lambda: thread.is_dead)
    with LocalServer(tmp_path) as server:
        found = Health(database_of(server), [thread])

        assert found.find_problems() == ["the thread that works has died"]
        assert found.find_problems() == []
    thread.stop()
    thread.join()


def test_health_is_looked_at_once_for_many_who_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune_pricer.local.api.health._FRESH", 0.5)
    clock, looks = [0.0], []
    with LocalServer(tmp_path) as server:
        database = database_of(server)
        monkeypatch.setattr(database, "check", lambda: looks.append(1))
        found = Health(database, [], lambda: clock[0])
        for clock[0] in (0.0, 0.1, 0.4, 0.6, 0.7):
            assert found.find_problems() == []

    assert len(looks) == 2


# A full disk


def order(client: openai.OpenAI, **settings: Any) -> str:
    file = upload(client, jsonl(products(60)))
    return client.fine_tuning.jobs.create(
        model="pricer-base", training_file=file.id, hyperparameters={"n_epochs": 30, "batch_size": 1}
    ).id


def submit_batch(client: openai.OpenAI, count: int) -> str:
    body = '{"model": "pricer-base", "messages": [{"role": "user", "content": "A lamp"}]}'
    lines = [
        f'{{"custom_id": "{n}", "method": "POST", "url": "{URL}", "body": {body}}}' for n in range(count)
    ]
    file = client.files.create(file=("b.jsonl", "\n".join(lines).encode()), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=URL, completion_window="24h").id


def test_a_database_that_is_full_for_a_while_costs_no_job_and_no_batch() -> None:
    with LocalServer(cores=2, faults=Faults(chat_pause=0.01)) as server, server.client() as client:
        jobs = [order(client) for _ in range(3)]
        batch = submit_batch(client, 20)
        database = database_of(server)
        (pages,) = database._query("PRAGMA page_count")[0]
        database._query(f"PRAGMA max_page_count = {pages}")
        eventually(lambda: health(server)[0] == 503)
        told = health(server)
        refused = None
        with server.client(max_retries=0) as hasty:
            for _ in range(200):
                try:
                    upload(hasty, b"one more\n" * 100)
                except openai.APIStatusError as error:
                    refused = error
                    break
        database._query("PRAGMA max_page_count = 1000000")

        assert told == (503, {"status": "failing", "problems": [NO_SPACE]})
        assert refused is not None
        assert (refused.status_code, refused.code) == (503, "insufficient_storage")
        assert [finished(client, job).status for job in jobs] == ["succeeded"] * 3
        eventually(lambda: client.batches.retrieve(batch).status == "completed")
        eventually(lambda: health(server) == (200, {"status": "ok"}))
        for job in jobs:
            steps = [
                event.data["step"]  # type: ignore[index]
                for event in client.fine_tuning.jobs.list_events(job, limit=10_000)
                if event.type == "metrics"
            ]
            assert steps == sorted(set(steps), reverse=True)


def test_blobs_that_find_no_room_for_a_while_cost_no_job_and_no_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_full = threading.Event()
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if is_full.is_set():
            raise full()
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with LocalServer(cores=1) as server, server.client(max_retries=0) as client:
        job, batch = order(client), submit_batch(client, 3)
        is_full.set()
        with pytest.raises(openai.InternalServerError, match="no effect: no space left"):
            upload(client, b"one more")
        eventually(lambda: NO_SPACE in health(server)[1].get("problems", []))
        is_full.clear()

        assert finished(client, job).status == "succeeded"
        eventually(lambda: client.batches.retrieve(batch).status == "completed")
        assert health(server) == (200, {"status": "ok"})
        names = database_of(server).blobs.list_names()
        assert not [name for name in names if name.startswith("partial-")]


def test_a_job_that_finds_no_room_for_too_long_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortage, "_PATIENCE", 0.2)
    with LocalServer(cores=1) as server, server.client() as client:
        file = upload(client, jsonl(products(20)))
        batch_file = submit_batch(client, 1)
        eventually(lambda: client.batches.retrieve(batch_file).status == "completed")

        def write(*_: Any) -> tuple[str, int]:
            raise full()

        monkeypatch.setattr(database_of(server).blobs, "write", write)
        job = client.fine_tuning.jobs.create(model="pricer-base", training_file=file.id)
        failed = finished(client, job.id)

        assert failed.error is not None
        assert failed.error.message == f"The job failed: {NO_SPACE}."


def test_a_trainer_without_room_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The training process, too, writes: its saved state."""
    from finetune_pricer.local.jobs import trainer_process

    ran: list[int] = []
    run_order = trainer_process.TrainerProcess.run

    def run(self: Any, order: Any) -> Any:
        ran.append(1)
        if len(ran) < 3:
            return iter([[trainer_process.TrainingFailed(error="OSError", shortage=NO_SPACE)]])
        return run_order(self, order)

    monkeypatch.setattr(trainer_process.TrainerProcess, "run", run)
    with LocalServer(cores=1) as server, server.client() as client:
        job = train(client, jsonl(products(20)))
        told = [event.message for event in client.fine_tuning.jobs.list_events(job.id, limit=1_000)]

    assert job.status == "succeeded"
    assert sum("by a shortage on the server" in message for message in told) == 2


def test_a_job_in_the_queue_twice_is_trained_once() -> None:
    """Paused and resumed while it waits, it stands there twice."""
    with LocalServer(cores=2) as server, server.client() as client:
        blocking = [endless(client), endless(client)]
        job = order(client)
        eventually(lambda: client.fine_tuning.jobs.retrieve(job).status == "queued")
        client.fine_tuning.jobs.pause(job)
        client.fine_tuning.jobs.resume(job)
        for each in blocking:
            client.fine_tuning.jobs.cancel(each.id)
        done = finished(client, job)
        told = [event.message for event in client.fine_tuning.jobs.list_events(job, limit=10_000)]

    assert done.status == "succeeded"
    assert told.count("Fine-tuning job started") == 1


def test_a_server_that_cannot_take_up_its_jobs_says_why_and_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalServer(tmp_path, cores=1) as server, server.client() as client:
        endless(client)
    before = set(threading.enumerate())
    with monkeypatch.context() as patch:
        patch.setattr("finetune_pricer.local.jobs.worker.Worker._take_back", lambda *_: throw(full()))
        with pytest.raises(FileAccessError, match=f"{NO_SPACE}.*make room"):
            LocalServer(tmp_path).start()

    assert set(threading.enumerate()) <= before
    LocalServer(tmp_path).start().stop()


def throw(error: BaseException) -> None:
    raise error


@pytest.mark.skipif(sys.platform != "linux", reason="limits another process from outside")
def test_a_disk_that_fills_under_a_server_costs_no_job(tmp_path: Path) -> None:
    """No file of the server may grow, as on a full disk; room is made when it has been told."""
    import resource

    code = f"from finetune_pricer.local import serve\nserve(port=0, dir={str(tmp_path)!r}, cores=2)"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = re.search(r"http://\S+/v1", process.stderr.readline())
        assert found is not None
        threading.Thread(target=process.stderr.read, daemon=True).start()
        try:
            with openai.OpenAI(base_url=found[0], api_key="local", max_retries=0) as client:
                jobs = [order(client) for _ in range(3)]
                kept = train(client, jsonl(products(20)), settings={"n_epochs": 2}).fine_tuned_model
                unlimited = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, unlimited[1]))
                root = found[0].removesuffix("/v1")
                eventually(lambda: httpx2.get(f"{root}/health", timeout=20).status_code == 503)
                with pytest.raises(openai.InternalServerError, match="had no effect"):
                    upload(client, b"x" * 100_000)
                assert ask(client, kept, "a lamp")
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, unlimited)

                assert [finished(client, job).status for job in jobs] == ["succeeded"] * 3
                eventually(lambda: httpx2.get(f"{root}/health", timeout=20).status_code == 200)
        finally:
            process.terminate()
    assert process.returncode == 0
