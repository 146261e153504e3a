"""The process that trains, and both ends of the pipe to it.

A job trains in a process of its own so that a crash or a kill of the learner ends one job and not the server.
Orders go to its standard input, messages come from its standard output, each a line of JSON. When the server
goes, however it goes, the input ends, and the process with it. No message holds a piece of a prompt.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from typing import IO, TYPE_CHECKING, Annotated, ClassVar, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ...errors import PricerError
from ..learners import LearnerSpec, Report, TrainingJob, make_learner
from ..shortage import describe_shortage
from ..signals import ENDING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping


class TrainerOrder(BaseModel):
    """An order to train: which learner, and what."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, strict=True, extra="forbid")

    learner: LearnerSpec
    job: TrainingJob


class TrainingDone(BaseModel):
    """The last message of a training that went well."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, strict=True, extra="forbid")

    kind: Literal["done"] = "done"
    files: dict[str, str]
    """The files of the model, as `CheckpointSaved` has them."""


class TrainingFailed(BaseModel):
    """The last message of a training that went wrong."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, strict=True, extra="forbid")

    kind: Literal["failed"] = "failed"
    error: str
    """The name of the error's class."""
    reason: str | None = None
    """What the user should know; None where the learner did not say."""
    shortage: str | None = None
    """What the machine had too little of, where that was the cause."""


Message = Report | TrainingDone | TrainingFailed
"""What a training process sends."""

_MESSAGES: TypeAdapter[list[Message]] = TypeAdapter(list[Annotated[Message, Field(discriminator="kind")]])


class BadMessage(Exception):
    """A training process sent something that is not a list of messages; the text says what is wrong."""


def encode_messages(messages: list[Message]) -> bytes:
    """Return messages as a line."""
    return b"[" + b",".join(message.model_dump_json().encode() for message in messages) + b"]\n"


def decode_messages(line: bytes) -> list[Message]:
    """Return the messages of a line, at least one; raise `BadMessage` where it is something else."""
    try:
        messages = _MESSAGES.validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        # Without the number of the message in the line, which says nothing to a reader.
        where = ".".join(str(part) for part in first["loc"][1:])
        raise BadMessage(f"{where}: {first['msg']}" if where else first["msg"]) from error
    if not messages:
        raise BadMessage("a line without a message")
    return messages


# The server's end

# The search path comes as a line of the input: as arguments it may be longer than Windows lets a command be.
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.buffer.readline()); "
    "from finetune_pricer.local.jobs.trainer_process import main; main()"
)


class TrainerProcess:
    """A process that trains one job at a time, until it is killed."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment: dict[str, str] = dict(environment)
        # Not multiprocessing: it would run the user's script once more, which may have no main guard.
        self._process = subprocess.Popen(  # noqa: S603  our own program
            [sys.executable, "-P", "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # A traceback could hold a piece of a prompt; the name of an error comes as a message.
            stderr=subprocess.DEVNULL,
            env=os.environ | self.environment,
            # Out of the terminal's reach: Ctrl-C is for the server, whose next start goes on with the job.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        # Both are pipes, as was asked for.
        self._orders = cast("IO[bytes]", self._process.stdin)
        self._messages = cast("IO[bytes]", self._process.stdout)
        with contextlib.suppress(OSError):  # it is dead already, as the first order will find
            self._orders.write(json.dumps(sys.path).encode() + b"\n")
            self._orders.flush()

    @property
    def descriptors(self) -> list[int]:
        """The file descriptors of both pipes, as far as they are open."""
        return [pipe.fileno() for pipe in (self._orders, self._messages) if not pipe.closed]

    @property
    def pid(self) -> int:
        """The operating system's number for it."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it can take another order."""
        return self._process.poll() is None

    def run(self, order: TrainerOrder) -> Iterator[list[Message]]:
        """Carry out an order, and yield the messages as they come; ends early when the process dies.

        Raises:
            BadMessage: The process sent something else than messages.
        """
        try:
            self._orders.write(order.model_dump_json().encode() + b"\n")
            self._orders.flush()
        except OSError:
            return  # dead before it began
        for line in self._messages:
            if not line.endswith(b"\n"):
                return
            messages = decode_messages(line)
            yield messages
            if is_last(messages[-1]):
                return

    def kill(self) -> None:
        """End it at once, with what it has started, and wait until it has gone."""
        if hasattr(os, "killpg") and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # it leads the group of its own session
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Kill it and close its pipes; nothing may be called afterwards."""
        self.kill()
        for pipe in (self._orders, self._messages):
            with contextlib.suppress(BrokenPipeError):  # what was still to be sent has no reader
                pipe.close()


def is_last(message: Message) -> bool:
    """Return whether no message of the same training comes after this one."""
    return isinstance(message, TrainingDone | TrainingFailed)


def _is_sound_after(message: Message) -> bool:
    """Return whether a process may train again: after an accident, a GPU that was lost stays lost to it."""
    return isinstance(message, TrainingDone) or (
        isinstance(message, TrainingFailed) and message.reason is not None
    )


class TrainerSlot:
    """Room for one training at a time, in a process that is kept for the next one while it lives."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._job: str | None = None
        self._process: TrainerProcess | None = None
        self._closed = False
        self.is_interrupted = False
        """Whether the last training was ended from outside."""

    def run(
        self,
        job_id: str,
        order: TrainerOrder,
        environment: Mapping[str, str],
        goes_on: Callable[[], bool],
    ) -> Generator[list[Message], None, None]:
        """Train a job, and yield the messages of its process until it is done, dead or interrupted."""
        with self._lock:
            self.is_interrupted = self._closed
            if self._closed:
                return
            process = self._process = self._ready_process(environment)
            self._job = job_id
        done = False
        try:
            # Who stopped the job before this line found no training to interrupt.
            if not goes_on():
                done = True
                return
            for messages in process.run(order):
                done = _is_sound_after(messages[-1])
                yield messages
        finally:
            with self._lock:
                self._job = None
                # Nobody listens any more, and the next job needs a process with nothing to say and its wits.
                if not done:
                    process.kill()

    def _ready_process(self, environment: Mapping[str, str]) -> TrainerProcess:
        process = self._process
        if process is not None and process.is_alive and process.environment == environment:
            return process
        if process is not None:
            process.close()
        return TrainerProcess(environment)

    def interrupt(self, job_id: str | None = None) -> None:
        """Kill the process if it trains this job; without a job, kill it for good."""
        with self._lock:
            self._closed = self._closed or job_id is None
            if self._process is not None and (job_id is None or self._job == job_id):
                self.is_interrupted = True
                self._process.kill()

    def close(self) -> None:
        """Let go of the process."""
        if self._process is not None:
            self._process.close()

    @property
    def descriptors(self) -> list[int]:
        """The file descriptors that lead to the process."""
        return [] if self._process is None else self._process.descriptors


# The training process's end

_FLUSH_EVERY = 0.05  # seconds; steps in between are sent together


def main() -> None:
    """Carry out orders, one after the other, until the input ends."""
    # A supervisor that stops the server signals all its processes; the server decides what the job becomes.
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o077)  # what it saves holds what it was trained on
    orders: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_read_orders, args=(orders,), daemon=True).start()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not be taken for us
    while True:
        order = TrainerOrder.model_validate_json(orders.get())
        outbox = _Outbox(out)
        outbox.send(_train(order, outbox.send))


def _read_orders(orders: queue.Queue[bytes]) -> None:
    for line in sys.stdin.buffer:
        orders.put(line)
    os._exit(0)  # the server has gone; the job goes on with the next one, from its last saved state


def _train(order: TrainerOrder, report: Callable[[Report], None]) -> TrainingDone | TrainingFailed:
    try:
        files = make_learner(order.learner).train(order.job, report)
    except PricerError as error:
        return TrainingFailed(error=type(error).__name__, reason=error.message)
    except Exception as error:  # noqa: BLE001  whatever it is, the server must hear of it
        return TrainingFailed(error=type(error).__name__, shortage=describe_shortage(error))
    return TrainingDone(files=dict(files))


class _Outbox:
    """Collects messages, so that thousands of short steps are not thousands of writes."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._waiting: list[Message] = []
        self._flushed_at = 0.0

    def send(self, message: Message) -> None:
        """Send a message; a step may wait a moment for others."""
        self._waiting.append(message)
        if message.kind != "step" or time.monotonic() - self._flushed_at > _FLUSH_EVERY:
            self._out.write(encode_messages(self._waiting))
            self._out.flush()
            self._waiting.clear()
            self._flushed_at = time.monotonic()
