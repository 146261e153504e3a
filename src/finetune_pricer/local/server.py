"""`LocalServer`: the application on its own port, in a background thread or as a process."""

from __future__ import annotations

import atexit
import errno
import importlib
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ..errors import DataError, MissingExtra, NotConfigured, ServiceUnavailable
from .faults import Faults
from .learners import describe_learner
from .records import FINAL

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    import openai

    from .learners import Learner

log = logging.getLogger("finetune_pricer.local")

_MAX_BYTES = 512 * 2**20
_UVICORN: dict[str, Any] = {
    "log_config": None,
    "log_level": "critical",  # the middleware logs failed requests, without their content
    "access_log": False,
    "lifespan": "off",
    "ws": "none",
    "timeout_graceful_shutdown": 5,
}


class LocalServer:
    """An OpenAI-compatible fine-tuning server on this machine, which really trains and really answers.

    Nothing leaves this machine: any `host` but loopback needs a `key`.

    Args:
        dir: The folder that keeps files, jobs and models. Without one they live in a temporary folder, which
            is removed when the server stops.
        host: The address to listen on.
        port: The port to listen on; 0 takes any free one.
        key: What clients must send as their API key; without one, none is needed.
        faults: What goes wrong at first; see `Faults`.
        strict: Whether unknown parameters of requests are refused; otherwise they are ignored and logged.
        cores: How many jobs train at once; as many as the machine has cores if it is not given.
        max_bytes: How many bytes the body of a request may have.
        bases: Further base models to offer: for each name, the learner that trains it.

    Raises:
        NotConfigured: The host needs a key, or the key is one that no header could carry.
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
        max_bytes: int = _MAX_BYTES,
        bases: Mapping[str, Learner] | None = None,
    ) -> None:
        _require_extra()
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
        if not 0 <= port <= 65_535:
            raise DataError(f"port must be from 0 to 65535, not {port}; 0 takes any free port")
        if cores is not None and cores < 1:
            raise DataError(f"cores must be at least 1, not {cores}")
        for learner in (bases or {}).values():
            describe_learner(learner)  # raises where a training process could not make it
        self.dir = None if dir is None else Path(dir)
        self.host = host
        self.port = port
        self._key = key
        self._settings: dict[str, Any] = {
            "strict": strict,
            "cores": cores or os.cpu_count() or 1,
            "max_bytes": max_bytes,
            "bases": bases or {},
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
        """What a client takes as `base_url`; raises RuntimeError while the server is not running."""
        if self._runtime is None:
            raise RuntimeError("the server is not running: call start(), or use it in a with statement")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self._runtime.port}/v1"

    @property
    def faults(self) -> Faults:
        """What goes wrong at present; it may be replaced at any time."""
        return self._faults if self._runtime is None else self._runtime.state.injector.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._faults = faults
        if self._runtime is not None:
            self._runtime.state.injector.set(faults)

    def client(self, **options: Any) -> openai.OpenAI:
        """Return an ordinary openai client of this server; `options` go to `openai.OpenAI`."""
        import openai

        return openai.OpenAI(base_url=self.url, api_key=self._key or "local", **options)

    def start(self) -> Self:
        """Start answering, and take up unfinished jobs; nothing happens if the server is running already.

        Raises `ServiceUnavailable` if the port is taken, and `FileAccessError` if the folder cannot be used.
        """
        if self._runtime is None:
            self._runtime = _Runtime(
                self.dir, self.host, self.port, self._key, faults=self._faults, **self._settings
            )
            atexit.register(self.stop)
        return self

    def stop(self) -> None:
        """Stop answering and training; jobs that are unfinished stay so in `dir`, for the next start."""
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            atexit.unregister(self.stop)
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
) -> None:
    """Run a server in the foreground until SIGINT or SIGTERM, and log to stderr.

    The parameters are those of `LocalServer`.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    stopping = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stopping.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        with LocalServer(dir, host, port, key, faults=faults, strict=strict, cores=cores) as server:
            kept = server.dir or "a temporary folder, removed when it stops: --dir keeps it"
            log.info("listening on %s, keeping things in %s", server.url, kept)
            log.info("jobs and their losses are shown at %s", server.url.removesuffix("v1"))
            stopping.wait()
    finally:
        for number, action in before.items():
            signal.signal(number, action)
        log.removeHandler(handler)
        log.setLevel(level)


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
    ) -> None:
        import uvicorn

        from .api.app import ServerState, build_app  # needs the extra

        listener = _listen(host, port)
        self._temporary = None
        if folder is None:
            folder = self._temporary = Path(tempfile.mkdtemp(prefix="finetune-pricer-"))
        try:
            self.state = ServerState.open(folder, bases, faults=faults, strict=strict, cores=cores)
        except BaseException:
            listener.close()
            raise
        self.port = int(listener.getsockname()[1])
        app = build_app(self.state, key=key, max_bytes=max_bytes)
        self._server = uvicorn.Server(uvicorn.Config(app, **_UVICORN))
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="finetune-pricer-serves", daemon=True
        )
        self.state.start()
        # The socket listens already: a client that comes before the loop runs waits a moment.
        self._thread.start()

    def count_unfinished(self) -> int:
        """Return how many jobs go on at the next start."""
        return sum(job.status not in {*FINAL, "paused"} for job in self.state.database.list_jobs())

    def stop(self) -> None:
        """Stop answering and training, and remove a temporary folder."""
        self._server.should_exit = True
        self._thread.join()
        self.state.close()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)


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


def _require_extra() -> None:
    for name in ("starlette", "uvicorn", "python_multipart", "scipy", "jinja2"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise MissingExtra(
                f"the local server needs {name}, which is not installed; pip install 'finetune-pricer[local]'"
            ) from error
