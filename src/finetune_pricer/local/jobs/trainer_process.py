"""The seam between the server and a process that trains."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[1:]; from finetune_pricer.local.jobs.training import main; main()"
)
# The work is bound by memory, and one thread is as fast as two; jobs side by side use the cores.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class TrainingProcess:
    """A process that trains one job at a time, until it is killed."""

    def __init__(self) -> None:
        # Not multiprocessing: it would run the user's script once more, which may have no main guard.
        self._process = subprocess.Popen(  # noqa: S603  our own program
            [sys.executable, "-P", "-c", _PROGRAM, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # A traceback could hold a piece of a prompt; the kind of an error comes as a message.
            stderr=subprocess.DEVNULL,
            env=os.environ | _ONE_THREAD,
            # Out of the terminal's reach: Ctrl-C is for the server, whose next start goes on with the job.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )

    @property
    def pid(self) -> int:
        """The operating system's number for it."""
        return self._process.pid

    def run(self, job: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
        """Train a job, giving what is told as it comes; ends early when the process dies."""
        process = self._process
        if process.stdin is None or process.stdout is None:
            return
        try:
            process.stdin.write(orjson.dumps(job) + b"\n")
            process.stdin.flush()
        except OSError:
            return  # dead before it began
        for line in process.stdout:
            if not line.endswith(b"\n"):
                return
            told = orjson.loads(line)
            yield told
            if told[-1]["kind"] in ("done", "failed"):
                return

    @property
    def alive(self) -> bool:
        """Whether it can take another job."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it at once, and wait until it has gone."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Kill it and close its pipes; nothing may be called afterwards."""
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # what was still to be sent has no reader
                    pipe.close()
