"""The process that trains: reads jobs from its standard input, writes what happens to its standard output.

It is a process of its own so that a crash or a kill of the learner ends one job and not the server. When the
server goes, however it goes, the input ends, and the process with it. Nothing that it writes holds a piece of
a prompt.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import orjson

_TELL_EVERY = 0.05  # seconds; steps in between are told together


def main() -> None:
    """Train jobs, one after the other, until the input ends."""
    # A supervisor that stops the server tells all its processes; what becomes of the job, the server decides.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    jobs: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not be taken for us
    while True:
        job = orjson.loads(jobs.get())
        told = _Told(out)
        try:
            _train(job, told)
        except Exception as error:  # noqa: BLE001  whatever it is, the server must hear of it
            told({"kind": "failed", "error": type(error).__name__})
        told.flush()


def _listen(jobs: queue.Queue[bytes]) -> None:
    for line in sys.stdin.buffer:
        jobs.put(line)
    os._exit(0)  # the server has gone; the job goes on with the next one, from its last saved state


class _Told:
    """Collects what is to be told, so that thousands of short steps are not thousands of writes."""

    def __init__(self, out: Any) -> None:
        self._out = out
        self._waiting: list[dict[str, Any]] = []
        self._last = 0.0

    def __call__(self, message: dict[str, Any]) -> None:
        self._waiting.append(message)
        if message["kind"] != "step" or time.monotonic() - self._last > _TELL_EVERY:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            self._out.write(orjson.dumps(self._waiting) + b"\n")
            self._out.flush()
            self._waiting.clear()
        self._last = time.monotonic()


def _train(job: dict[str, Any], told: _Told) -> None:
    from ..._methods.network import Hyperparameters
    from ..learners.sparse.dataset import Lesson
    from ..learners.sparse.trainer import Course
    from ..learners.sparse.training_file import read_examples, tokens_in

    folder = Path(job["folder"])
    examples = read_examples(Path(job["training"]).read_bytes())
    validation = read_examples(Path(job["validation"]).read_bytes(), fewest=1) if job["validation"] else []
    tokens = sum(map(tokens_in, examples))
    lesson = Lesson.prepare(examples, validation)
    asked = {name: None if value == "auto" else value for name, value in job["asked"].items()}
    chosen = Hyperparameters.resolve(asked, examples=len(examples), hidden=job["hidden"])
    del examples, validation

    def tell(message: dict[str, Any]) -> None:
        told(message | {"tokens": tokens} if message["kind"] == "chosen" else message)

    model = Course(folder, lesson, chosen, seed=job["seed"], tell=tell).run()
    for name, content in zip(("model.npz", "model.json"), model.save(), strict=True):
        (folder / name).write_bytes(content)
    told({"kind": "done", "arrays": "model.npz", "rest": "model.json"})
