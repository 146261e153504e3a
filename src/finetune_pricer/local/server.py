"""`LocalServer`: the application on its own port, in a background thread or as a process."""

from __future__ import annotations

import atexit
import contextlib
import errno
import importlib
import logging
import math
import os
import shutil
import signal
import socket
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ..errors import DataError, MissingExtra, NotConfigured, NotSupported, ServiceUnavailable
from .adapters import adopt_adapters, check_adapters
from .faults import Faults
from .learners import describe_learner, read_base
from .records import printable
from .signals import ENDING, do_at_end, leave_undone, restore_signals
from .temporary_folder import keep_folder, make_temporary_folder

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from types import TracebackType

    import openai

    from .learners import Learner

log: logging.Logger = logging.getLogger("finetune_pricer.local")


class LocalServer:
    """An OpenAI-compatible fine-tuning server on this machine, which really trains and really answers.

    Nothing leaves this machine: any `host` but loopback needs a `key`. What it keeps is readable by its user
    only. A process that is forked from this one may talk to the server, and cannot stop or change it.

    Args:
        dir: The folder that keeps files, jobs and models. Without one they live in a temporary folder, which
            is removed when the server stops, also by SIGTERM or SIGHUP; after a SIGKILL by the next server
            that is given no folder.
        host: The address to listen on.
        port: The port to listen on; 0 takes any free one.
        key: What clients must send as their API key; without one, none is needed.
        faults: What goes wrong at first; see `Faults`.
        strict: Whether unknown parameters of requests are refused; otherwise they are ignored and logged.
        cores: How many jobs train at once; as many as the machine has cores if it is not given.
        max_bytes: How many bytes the body of a request may have.
        bases: Further base models to offer: for each name, the learner that trains it, or as text an open
            language model and its options; see `LoraLearner`.
        adapters: Models that were trained elsewhere: for each name, the base and where the adapter is, as
            `smol:FOLDER` or `smol:ORGANISATION/NAME@REVISION` of the Hub. They stay in `dir`.
        names: Further names by which clients may call a server without a key, such as
            `host.docker.internal`; who answers for such a name in your network can reach the server.

    Raises:
        NotConfigured: The host needs a key, the key is one that no header could carry, or this is a frozen
            application, which has no Python to train with.
        DataError: A port or a number of cores is out of range, or a training process could not make one of
            the learners.
        MissingExtra: The extra `local` is not installed.

    Examples:
        >>> from finetune_pricer.local import LocalServer
        >>> with LocalServer() as server, server.client() as client:
        ...     print([model.id for model in client.models.list()])
        ['pricer-base', 'pricer-base-mini']
    """

    _shared: ClassVar[dict[Path | None, LocalServer]] = {}
    _sharing: ClassVar[threading.Lock] = threading.Lock()

    def __init__(
        self,
        dir: str | os.PathLike[str] | None = None,  # noqa: A002  the contract's name
        host: str = "127.0.0.1",
        port: int = 0,
        key: str | None = None,
        *,
        faults: Faults | None = None,
        strict: bool = False,
        cores: int | None = None,
        max_bytes: int = 512 * 2**20,
        bases: Mapping[str, Learner | str] | None = None,
        adapters: Mapping[str, str] | None = None,
        names: Collection[str] = (),
    ) -> None:
        _require_extra()
        _check_access(host, key)
        if not 0 <= port <= 65_535:
            raise DataError(f"port must be from 0 to 65535, not {port}; 0 takes any free port")
        if cores is not None and cores < 1:
            raise DataError(f"cores must be at least 1, not {cores}")
        learners = {name: read_base(base) for name, base in (bases or {}).items()}
        for learner in learners.values():
            describe_learner(learner)  # raises where a training process could not make it
        check_adapters(learners, adapters or {})
        self.dir: Path | None = None if dir is None else Path(dir)
        self.host = host
        self.port = port
        self._key = key
        self._settings: dict[str, Any] = {
            "strict": strict,
            "cores": cores or os.cpu_count() or 1,
            "max_bytes": max_bytes,
            "bases": learners,
            "adapters": dict(adapters or {}),
            "names": [names] if isinstance(names, str) else list(names),
        }
        self._faults = faults or Faults()
        self._runtime: _Runtime | None = None

    @classmethod
    def get_shared(cls, dir: str | os.PathLike[str] | None = None) -> LocalServer:  # noqa: A002  the contract's name
        """Return this process's one server for a folder: started at the first call, stopped at exit."""
        place = None if dir is None else Path(dir).resolve()
        with cls._sharing:
            server = cls._shared.get(place)
            if server is None:
                server = cls._shared[place] = cls(place)
            return server.start()

    @property
    def url(self) -> str:
        """What a client takes as `base_url`.

        Raises:
            NotConfigured: The server has not been started, or was stopped.
        """
        if self._runtime is None:
            raise NotConfigured("the server is not running: call start(), or use it in a with statement")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self._runtime.port}/v1"

    @property
    def faults(self) -> Faults:
        """What goes wrong at present; it may be replaced at any time."""
        return self._faults if self._runtime is None else self._runtime.state.injector.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        if self._runtime is not None and self._runtime.is_foreign:
            raise NotSupported(
                "the server belongs to the process from which this one was forked; change it there"
            )
        self._faults = faults
        if self._runtime is not None:
            self._runtime.state.injector.set(faults)

    def client(self, **options: Any) -> openai.OpenAI:
        """Return an ordinary openai client of this server; `options` go to `openai.OpenAI`."""
        import openai

        return openai.OpenAI(**{**self.client_options, **options})

    @property
    def client_options(self) -> dict[str, Any]:
        """What a client of this server is made with: `openai.AsyncOpenAI(**server.client_options)`."""
        return {"base_url": self.url, "api_key": self._key or "local"}

    def start(self) -> Self:
        """Start answering, and take up unfinished jobs; nothing happens if the server is running already.

        Raises `ServiceUnavailable` if the port is taken, and `FileAccessError` if the folder cannot be used
        or is not whole.
        """
        if self._runtime is None:
            self._runtime = _Runtime(
                self.dir, self.host, self.port, self._key, faults=self._faults, **self._settings
            )
            atexit.register(self.stop)
            if self.dir is None:
                do_at_end(self.stop)
        return self

    def stop(self) -> None:
        """Stop answering and training; jobs that are unfinished stay so in `dir`, for the next start.

        In a process that was forked from the server's, nothing happens.
        """
        if self._runtime is not None and self._runtime.is_foreign:
            return
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            atexit.unregister(self.stop)
            if self.dir is None:
                leave_undone(self.stop)
            unfinished = runtime.count_unfinished() if self.dir else 0
            log.info(
                "stopping%s",
                f"; {unfinished} unfinished job(s) go on at the next start" if unfinished else "",
            )
            runtime.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"LocalServer({self.url if self._runtime else 'not running'})"


def serve(
    host: str = "127.0.0.1",
    port: int = 8080,
    dir: str | os.PathLike[str] | None = None,  # noqa: A002  the contract's name
    key: str | None = None,
    *,
    faults: Faults | None = None,
    strict: bool = False,
    cores: int | None = None,
    bases: Mapping[str, Learner | str] | None = None,
    adapters: Mapping[str, str] | None = None,
    names: Collection[str] = (),
    limit: float | None = None,
) -> None:
    """Run a server in the foreground until Ctrl-C, SIGTERM, SIGHUP or Windows' Ctrl-Break, and log to stderr.

    The parameters are those of `LocalServer`; `limit` is how many seconds it runs before it stops by itself.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_PrintableFormatter("%(asctime)s %(message)s", "%H:%M:%S"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    stopping = threading.Event()
    before = {number: signal.signal(number, lambda *_: stopping.set()) for number in ENDING}
    try:
        server = LocalServer(
            dir,
            host,
            port,
            key,
            faults=faults,
            strict=strict,
            cores=cores,
            bases=bases,
            adapters=adapters,
            names=names,
        )
        with server:
            kept = server.dir or "a temporary folder, removed when it stops: --dir keeps it"
            log.info("listening on %s, keeping things in %s", server.url, kept)
            log.info("jobs and their losses are shown at %s", server.url.removesuffix("v1"))
            end = time.monotonic() + (math.inf if limit is None else limit)
            # In slices: on Windows, Ctrl-C cannot interrupt a longer wait.
            while not stopping.wait(max(min(0.5, end - time.monotonic()), 0)):
                if time.monotonic() >= end:
                    log.info("the time limit is reached")
                    break
    finally:
        for number, action in before.items():
            signal.signal(number, action)
        log.removeHandler(handler)
        log.setLevel(level)


class _PrintableFormatter(logging.Formatter):
    """Writes each record on one line, and nothing that a terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), most=2_000)


class _Runtime:
    """What exists between start and stop."""

    def __init__(
        self,
        folder: Path | None,
        host: str,
        port: int,
        key: str | None,
        *,
        faults: Faults,
        strict: bool,
        cores: int,
        max_bytes: int,
        bases: Mapping[str, Learner],
        adapters: Mapping[str, str],
        names: Collection[str],
    ) -> None:
        from .api.app import ServerState, build_server  # needs the extra

        self._process = os.getpid()
        with contextlib.ExitStack() as undo:
            self._listener = undo.enter_context(contextlib.closing(_listen(host, port)))
            self.port = int(self._listener.getsockname()[1])
            self._temporary: Path | None = None
            if folder is None:
                folder = make_temporary_folder()
                undo.callback(shutil.rmtree, folder, ignore_errors=True)
                self._temporary = folder
            else:
                keep_folder(folder)
            self.state = ServerState.open(folder, bases, faults=faults, strict=strict, cores=cores)
            undo.callback(self.state.close)
            adopt_adapters(self.state.database, self.state.bases, adapters)
            self._server = build_server(self.state, key=key, max_bytes=max_bytes, names=names)
            self._thread = threading.Thread(
                target=self._server.run, args=([self._listener],), name="finetune-pricer-serves", daemon=True
            )
            self.state.start()
            # The socket listens already: a client that comes before the loop runs waits a moment.
            self._thread.start()
            undo.pop_all()
        _running.add(self)

    @property
    def is_foreign(self) -> bool:
        """Whether this process was forked from the server's, and has none of its threads."""
        return os.getpid() != self._process

    def count_unfinished(self) -> int:
        """Return how many jobs go on at the next start."""
        return sum(job.status != "paused" for job in self.state.database.list_unfinished_jobs())

    def stop(self) -> None:
        """Stop answering and training, and remove a temporary folder."""
        self._server.should_exit = True
        while self._thread.is_alive():
            self._thread.join(0.5)  # in slices, which Ctrl-C can interrupt on Windows too
        self.state.close()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def let_go(self) -> None:
        """Give up, in a forked process, what would keep clients and trainers waiting for a dead server.

        The descriptors are copies of the server's: its clients would not see that it has closed them. They
        come to lead nowhere and are not closed, since objects that do not know of it will close them.
        """
        nowhere = os.open(os.devnull, os.O_RDWR)
        answering = [each for learner in self.state.bases.values() for each in learner.descriptors]
        descriptors = [
            *self._server.descriptors,
            *self.state.worker.descriptors,
            *answering,
            self._listener.fileno(),
        ]
        for descriptor in descriptors:
            if descriptor >= 0:
                os.dup2(nowhere, descriptor, inheritable=False)
        os.close(nowhere)
        self.state.database.let_go()


_running: weakref.WeakSet[_Runtime] = weakref.WeakSet()


def _let_go_in_child() -> None:
    restore_signals()
    LocalServer._sharing = threading.Lock()  # noqa: SLF001  another thread may have held it
    for runtime in list(_running):
        runtime.let_go()
    _running.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)


def _listen(host: str, port: int) -> socket.socket:
    listener = None
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # Said to be TCP, or asyncio leaves Nagle's delay on, and every answer takes 40 ms longer.
        listener = socket.socket(family, kind, socket.IPPROTO_TCP)
        if os.name == "posix":  # elsewhere the option would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2_048)
    except OSError as error:
        if listener is not None:
            listener.close()
        advice = "choose another port, or 0 for any free one"
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            advice = "choose an address of this machine, such as 127.0.0.1"
        raise ServiceUnavailable(f"cannot listen on {host}:{port} ({error.strerror}); {advice}") from error
    return listener


def _check_access(host: str, key: str | None) -> None:
    from .api.middleware import is_loopback  # needs the extra

    if not is_loopback(host) and not key:
        raise NotConfigured(
            f"a server on {host!r} can be reached from other machines, and so needs a key; pass key=..., "
            "or --key to the command"
        )
    if key is not None and not (key.isascii() and key.isprintable() and key == key.strip() != ""):
        raise NotConfigured(
            "the server's key must be printable ASCII that neither begins nor ends with a space; "
            "choose another key"
        )


def _require_extra() -> None:
    if getattr(sys, "frozen", False):
        raise NotConfigured(
            "a frozen application has no Python to train with; run `finetune-pricer serve` outside of it"
        )
    for name in ("starlette", "uvicorn", "python_multipart", "scipy", "jinja2"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise MissingExtra(
                f"the local server needs {name}, which is not installed; pip install 'finetune-pricer[local]'"
            ) from error
