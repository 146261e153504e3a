"""A process of this machine, with a folder and a key of its own, which outlives the one that started it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from .._environment import find_state_folder
from ..errors import ServiceUnavailable
from .loopback_port import HOST, choose_port
from .process_identity import find_identity
from .target import KEY_VARIABLE, Instance, Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .launch_plan import LaunchPlan
    from .server_record import ServerRecord

_PATIENCE = 20.0  # seconds in which a server closes what is open
_PAUSE = 0.02  # seconds between two looks at whether it has
_LAST_LINES = 5
# The search path comes as a line of the input: the package may have been found by a path that only this
# process knows, and as an argument it may be longer than Windows lets a command be.
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.buffer.readline()); "
    "from finetune_pricer.cli import main; main(sys.argv[1:])"
)
# Kept, since Python warns of a process that runs on when nothing holds it any more; to run on is its purpose.
_started: list[subprocess.Popen[bytes]] = []


class OwnProcess:
    """Starts `finetune-pricer serve` in a session of its own."""

    keeps = "dir"
    longest_pause = 0.25

    def find_machine(self, gpu: str | None) -> Machine:
        """Return this machine; it costs nothing more."""
        note = "a process uses whatever GPU this machine has; gpu= chooses none" if gpu else ""
        return Machine("", 0.0, note)

    def find_place(self, name: str, given: str | None) -> str:
        """Return a folder."""
        own = find_state_folder() / "servers" / f"process-{name}" / "folder"
        return str(Path(given or own).expanduser().absolute())

    def find(self, name: str, record: ServerRecord) -> Instance | None:  # noqa: ARG002  the record is its
        """Return the process that is noted, if it is still that one and no other of the same number."""
        facts = record.read()
        pid, identity = facts.get("pid"), facts.get("identity")
        if not isinstance(pid, int) or identity is None or find_identity(pid) != identity:
            return None
        return _describe(facts, record)

    def start(self, plan: LaunchPlan, key: str, record: ServerRecord) -> Instance:
        """Start it, at the port of last time if that is free, so that clients of last time go on.

        Raises:
            ServiceUnavailable: The port that was asked for is in use.
        """
        port = choose_port(plan.port, record.read().get("port"))
        arguments = plan.serve_arguments(host=HOST, port=port, folder=plan.place)
        process = _start_server([*arguments, "--limit", f"{plan.limit}s"], key, record)
        identity = find_identity(process.pid)
        facts = {"pid": process.pid, "identity": identity, "port": port, "settings": plan.settings}
        try:
            record.write(facts)
        except BaseException:
            process.kill()  # nobody would find it again
            raise
        return replace(_describe(facts, record), is_new=True)

    def stop(self, name: str, record: ServerRecord) -> None:
        """Ask it to end, and make it end if it does not; its unfinished jobs go on at the next start.

        Raises:
            ServiceUnavailable: It runs on all the same.
        """
        for number in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
            end = time.monotonic() + _PATIENCE
            if (instance := self.find(name, record)) is not None:
                os.kill(int(instance.id), number)
            while self.find(name, record) is not None and time.monotonic() < end:
                time.sleep(_PAUSE)
        _forget_ended()
        if (instance := self.find(name, record)) is not None:
            raise ServiceUnavailable(f"the server's process {instance.id} does not end; end it by hand")

    def explain_end(self, instance: Instance, record: ServerRecord) -> str:  # noqa: ARG002
        """Return the last lines of its log."""
        text = record.log.read_text(encoding="utf-8", errors="replace") if record.log.exists() else ""
        lines = [line for line in text.splitlines() if line.strip()]
        return "its log ends with: " + " / ".join(lines[-_LAST_LINES:]) if lines else "its log is empty"


def _start_server(arguments: list[str], key: str, record: ServerRecord) -> subprocess.Popen[bytes]:
    _forget_ended()
    with record.open_log() as output, _explaining():
        process = subprocess.Popen(  # noqa: S603  our own program
            [sys.executable, "-P", "-c", _PROGRAM, *arguments],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=os.environ | {KEY_VARIABLE: key},
            # Out of the terminal's reach: neither Ctrl-C nor a closed window ends it.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
    _started.append(process)
    # It may be dead already, as the first look will find.
    with contextlib.suppress(OSError), cast("IO[bytes]", process.stdin) as orders:
        orders.write(json.dumps(sys.path).encode() + b"\n")
    return process


@contextlib.contextmanager
def _explaining() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ServiceUnavailable(
            f"this machine starts no further process ({error.strerror or error}); nothing was started",
            reached=False,
        ) from error


def _forget_ended() -> None:
    _started[:] = [process for process in _started if process.poll() is None]


def _describe(facts: dict[str, Any], record: ServerRecord) -> Instance:
    return Instance(
        id=str(facts["pid"]),
        url=f"http://{HOST}:{facts['port']}/v1",
        settings=str(facts.get("settings")),
        log=str(record.log),
    )
