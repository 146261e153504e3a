"""A process that is forked from a server's touches neither the server nor its folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from local_helpers import eventually

TESTS = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

BEFORE = """
import gc, os, signal, socket, sys, time, urllib.parse
sys.path.insert(0, {tests!r})
from finetune_pricer.local import Faults, LocalServer
from local_helpers import ask, endless, eventually, finished, jsonl, products, train, upload
server = LocalServer({folder!r}, cores=1).start()
client = server.client(max_retries=0, timeout=20)
model = train(client, jsonl(products(20)), settings={{"n_epochs": 2}}).fine_tuned_model
job = endless(client)

def fork(act):
    child = os.fork()
    if child == 0:
        act()
        sys.exit(7)
    return child

def status_of(child):
    # A child that hangs is found out by the test's own limit.
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""
AFTER = """
assert server.client().fine_tuning.jobs.retrieve(job.id).status == "running"
upload(client, b"more")
assert ask(client, model, "a lamp")
server.stop()
print("well")
"""


def run(folder: str | None, code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BEFORE.format(tests=str(TESTS), folder=folder) + code],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.returncode) == ("well\n", 0), done.stderr


@pytest.mark.parametrize("kept", [False, True])
def test_a_forked_child_that_ends_leaves_the_server_as_it_is(tmp_path: Path, *, kept: bool) -> None:
    code = """
def forget():  # what the interpreter does with objects that nobody needs any more
    LocalServer._shared.clear()
    globals().pop("server")
    gc.collect()

for end, status in [
    (lambda: None, 7),
    (server.stop, 7),
    (lambda: server.__exit__(None, None, None), 7),
    (lambda: os.kill(os.getpid(), signal.SIGTERM), -signal.SIGTERM),
    (forget, 7),
]:
    assert status_of(fork(end)) == status, end
    assert server.client().fine_tuning.jobs.retrieve(job.id).status == "running", end
"""
    run(str(tmp_path / "kept") if kept else None, code + AFTER)


def test_a_forked_child_may_talk_to_the_server_and_not_change_it(tmp_path: Path) -> None:
    code = """
def talk():
    assert LocalServer.get_shared({folder!r}) is server
    assert ask(server.client(), model, "a lamp")
    try:
        server.faults = Faults(refuse_training=True)
    except RuntimeError as error:
        assert "belongs to the process" in str(error)
        os._exit(3)

LocalServer._shared[server.dir.resolve()] = server
assert status_of(fork(talk)) == 3
"""
    run(str(tmp_path), code.format(folder=str(tmp_path)) + AFTER)


def test_what_a_living_child_has_inherited_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Neither a client whose connection the server has closed, nor one that comes when it has stopped."""
    code = """
where = urllib.parse.urlsplit(server.url)
visitor = socket.create_connection((where.hostname, where.port), timeout=20)
visitor.sendall(b"GET /health HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
answer = visitor.recv(9_999)
while b"}" not in answer:
    answer += visitor.recv(9_999)
assert b"200 OK" in answer
child = fork(lambda: time.sleep(60))
server.stop()
assert visitor.recv(9_999) == b""
try:
    socket.create_connection((where.hostname, where.port), timeout=20)
    raise SystemExit("somebody still listens")
except ConnectionRefusedError:
    pass
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
print("well")
"""
    run(str(tmp_path), code)


def test_the_training_process_ends_with_the_server_though_a_forked_child_lives_on(tmp_path: Path) -> None:
    code = """
pid = server._runtime.state.worker._slots[0]._process.pid
grand = os.fork()
if grand == 0:
    os.setsid()
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    print(pid, child, flush=True)
    os._exit(0)
os.waitpid(grand, 0)
os.kill(os.getpid(), signal.SIGKILL)
"""
    program = BEFORE.format(tests=str(TESTS), folder=str(tmp_path)) + code
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        trainer, child = map(int, process.stdout.readline().split())
        process.wait(60)
        try:
            eventually(lambda: has_ended(trainer))
        finally:
            os.kill(child, 9)


def has_ended(pid: int) -> bool:
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return listed.stdout.strip() in ("", "Z", "Zs")
