"""A process that is killed at any instant buys one job and keeps one copy of each file."""

import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from finetune_pricer.local import LocalServer
from killed import What, When, started
from local_helpers import eventually

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")

POINTS: list[When] = ["before send", "after send", "after answer"]


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer() as server:
        yield server


class Ledger:
    """What a server holds more than when this was made."""

    def __init__(self, server: LocalServer) -> None:
        self._client = server.client()
        self._before = self._now()

    def _now(self) -> tuple[set[str], set[str]]:
        jobs = {job.id for job in self._client.fine_tuning.jobs.list(limit=100)}
        return jobs, {file.id for file in self._client.files.list(purpose="fine-tune")}

    @property
    def jobs(self) -> set[str]:
        return self._now()[0] - self._before[0]

    @property
    def files(self) -> set[str]:
        return self._now()[1] - self._before[1]


def run_to_the_end(server: LocalServer, folder: Path, number: int) -> str:
    process = started(server.url, folder, number)
    process.join(60)
    assert process.exitcode == 0
    return (folder / f"done-{number}").read_text()


def kill_and_restart(server: LocalServer, folder: Path, number: int, when: When, what: What) -> None:
    ledger = Ledger(server)
    process = started(server.url, folder, number, when, what)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    job = run_to_the_end(server, folder, number)
    assert ledger.jobs == {job}
    assert len(ledger.files) == 2


@pytest.mark.parametrize("what", get_args(What))
@pytest.mark.parametrize("when", POINTS)
def test_killed_around_a_request_and_started_again_there_is_one_job_and_one_copy(
    server: LocalServer, tmp_path: Path, when: When, what: What
) -> None:
    kill_and_restart(server, tmp_path, 0, when, what)


@pytest.mark.acceptance
@pytest.mark.parametrize("what", get_args(What))
@pytest.mark.parametrize("when", POINTS)
def test_killed_around_a_request_ten_times_it_is_always_one(
    server: LocalServer, tmp_path: Path, when: When, what: What
) -> None:
    for number in range(10):
        kill_and_restart(server, tmp_path, number, when, what)


def test_killed_while_a_server_that_took_the_job_does_not_answer_it_is_still_one(
    server: LocalServer, tmp_path: Path
) -> None:
    ledger = Ledger(server)
    process = started(server.url, tmp_path, 0, "no answer", "fine_tuning/jobs")
    eventually(lambda: bool(ledger.jobs))
    process.kill()
    process.join()
    job = run_to_the_end(server, tmp_path, 0)
    assert ledger.jobs == {job}
    assert len(ledger.files) == 2


def killed_at_random(server: LocalServer, folder: Path, times: int) -> None:
    ledger, instants = Ledger(server), random.Random(1)
    started_at = time.monotonic()
    run_to_the_end(server, folder, 100)
    whole = time.monotonic() - started_at
    jobs = {(folder / "done-100").read_text()}
    for number in range(times):
        process = started(server.url, folder, number)
        time.sleep(instants.uniform(0, whole))
        if process.pid is not None and process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        jobs.add(run_to_the_end(server, folder, number))
    assert ledger.jobs == jobs
    assert len(jobs) == times + 1
    assert len(ledger.files) == 2 * (times + 1)


def test_killed_at_random_instants_it_is_always_one(server: LocalServer, tmp_path: Path) -> None:
    killed_at_random(server, tmp_path, 2)


@pytest.mark.acceptance
def test_killed_at_twenty_random_instants_it_is_always_one(server: LocalServer, tmp_path: Path) -> None:
    killed_at_random(server, tmp_path, 20)


def test_processes_that_ask_for_the_same_at_once_buy_one_job(server: LocalServer, tmp_path: Path) -> None:
    ledger = Ledger(server)
    processes = [started(server.url, tmp_path, 0) for _ in range(4)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert len(ledger.jobs) == 1
    assert len(ledger.files) == 2
