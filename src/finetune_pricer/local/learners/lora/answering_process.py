"""The process that answers with a base model and its adapters, and the server's end of the pipe to it.

The server itself never loads torch. Orders go to the process's standard input, results come from its standard
output, each a line of JSON with the number of its order. When the server goes, however it goes, the input
ends, and the process with it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import Future
from typing import IO, TYPE_CHECKING, Any, cast

import orjson

from .... import errors
from ....errors import PricerError, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.buffer.readline()); "
    "from finetune_pricer.local.learners.lora.answering_loop import main; main()"
)


class AnsweringProcess:
    """Answers with one base model; started at the first order, and again after it has died.

    Its methods may be called from several threads, whose orders it carries out together.
    """

    def __init__(self, options: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self._options = dict(options)
        self._environment = dict(environment)
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._child: _Child | None = None
        self._is_closed = False
        self.problem: str | None = None
        """What keeps it from answering, until an answer comes again."""

    @property
    def descriptors(self) -> list[int]:
        """The file descriptors that lead to the process."""
        return [] if self._child is None else self._child.descriptors

    @property
    def pid(self) -> int | None:
        """The operating system's number for it, while it lives."""
        return None if self._child is None or self._child.is_dead else self._child.pid

    def order(self, kind: str, adapter: tuple[str, Path] | None, **more: Any) -> Any:
        """Have an order carried out, and return its result; an adapter is loaded first where that is needed.

        Raises:
            PricerError: The process could not do it; `ServiceUnavailable` where it died.
        """
        child = self._ready_child()
        if adapter is not None:
            key, folder = adapter
            child.load(key, folder, next(self._numbers))
        order = {"kind": kind, "adapter": None if adapter is None else adapter[0], **more}
        try:
            result = child.send(next(self._numbers), order).result()
        except ServiceUnavailable as error:
            self.problem = error.message
            raise
        self.problem = None
        return result

    def drop(self, adapter: str) -> None:
        """Let go of an adapter; nobody waits for it."""
        child = self._child
        if child is not None and not child.is_dead and child.forget(adapter):
            child.send(next(self._numbers), {"kind": "drop", "adapter": adapter})

    def close(self) -> None:
        """End the process; the next order starts another."""
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            child.close()
        self.problem = None

    def _ready_child(self) -> _Child:
        with self._lock:
            if self._child is None or self._child.is_dead:
                if self._child is not None:
                    self._child.close()
                self._child = _Child(self._options, self._environment)
            return self._child


class _Child:
    """One process, until it dies."""

    def __init__(self, options: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        # Entered again where a model is dropped, and so let go of, by the thread that is sending.
        self._lock = threading.RLock()
        self._loading = threading.Lock()
        self._loaded: set[str] = set()
        self._waiting: dict[int, Future[Any]] = {}
        self.is_dead = False
        self._process = subprocess.Popen(  # noqa: S603  our own program
            [sys.executable, "-P", "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # A traceback could hold a piece of a prompt; the name of an error comes as a result.
            stderr=subprocess.DEVNULL,
            env=os.environ | environment,
            # Out of the terminal's reach: Ctrl-C is for the server.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self._orders = cast("IO[bytes]", self._process.stdin)
        self._results = cast("IO[bytes]", self._process.stdout)
        with contextlib.suppress(OSError):  # it is dead already, as the first order will find
            self._orders.write(json.dumps(sys.path).encode() + b"\n" + orjson.dumps(options) + b"\n")
            self._orders.flush()
        threading.Thread(target=self._read, name="finetune-pricer-answers", daemon=True).start()

    @property
    def descriptors(self) -> list[int]:
        return [pipe.fileno() for pipe in (self._orders, self._results) if not pipe.closed]

    @property
    def pid(self) -> int:
        return self._process.pid

    def load(self, key: str, folder: Path, number: int) -> None:
        """Load an adapter if it is not loaded; who asks for the same one waits."""
        with self._loading:
            if key not in self._loaded:
                self.send(number, {"kind": "load", "adapter": key, "folder": str(folder)}).result()
                self._loaded.add(key)

    def forget(self, key: str) -> bool:
        """Return whether an adapter was loaded, and count it as not loaded from now on."""
        was = key in self._loaded
        self._loaded.discard(key)
        return was

    def send(self, number: int, order: dict[str, Any]) -> Future[Any]:
        """Send an order, and return its result to come."""
        future: Future[Any] = Future()
        line = orjson.dumps(order | {"number": number}) + b"\n"
        with self._lock:
            if self.is_dead:
                future.set_exception(self._describe_death())
                return future
            self._waiting[number] = future
            # What cannot be written has no reader: `_read` finds the same.
            with contextlib.suppress(OSError, ValueError):
                self._orders.write(line)
                self._orders.flush()
        return future

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in self._results:
                result = orjson.loads(line)
                with self._lock:
                    future = self._waiting.pop(result["number"])
                if "error" in result:
                    future.set_exception(make_error(result["error"], result["message"]))
                else:
                    future.set_result(result["result"])
        with self._lock:
            self.is_dead = True
            waiting, self._waiting = self._waiting, {}
        self._process.kill()
        self._process.wait()
        for future in waiting.values():
            future.set_exception(self._describe_death())

    def _describe_death(self) -> ServiceUnavailable:
        return ServiceUnavailable(
            "the process that answers has died, perhaps for want of memory; it is started again at the next "
            "request"
        )

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._orders, self._results):
            with contextlib.suppress(OSError, ValueError):
                pipe.close()


def make_error(name: str, message: str) -> PricerError:
    """Return the error of that name, which another process met."""
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, PricerError):
        return kind(message)
    return ServiceUnavailable(message)
