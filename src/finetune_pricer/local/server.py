"""`LocalServer`: the application on a port of its own, in a background thread or as a process."""

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
from .api.hosts import is_loopback
from .records import FINAL

if TYPE_CHECKING:
    from types import TracebackType

    import openai

    from .faults import Faults

log = logging.getLogger("finetune_pricer.local")

_MAX_BYTES = 512 * 2**20
_UVICORN: dict[str, Any] = {
    "log_config": None,
    "log_level": "critical",  # what goes wrong with a request, the gate logs, without its words
    "access_log": False,
    "lifespan": "off",
    "ws": "none",
    "timeout_graceful_shutdown": 5,
}


class LocalServer:
    """An OpenAI-compatible fine-tuning server on this machine, which really trains and really answers.

    `dir` keeps files, jobs and models; without one they live in a temporary folder that goes when the server
    stops. Port 0 is any free port. Nothing leaves this machine: any `host` but loopback needs a `key`, or
    `NotConfigured` is raised. `MissingExtra` is raised where the extra `local` is not installed.
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
    ) -> None:
        _require_extra()
        if not is_loopback(host) and not key:
            raise NotConfigured(
                f"A server on {host!r} can be reached from other machines, and so needs a key: pass key=..., "
                "or --key to the command."
            )
        if key is not None and not (key.isascii() and key.isprintable() and key == key.strip() != ""):
            raise NotConfigured("A key is printable ASCII that neither begins nor ends with a space.")
        if not 0 <= port <= 65_535:
            raise DataError(f"port must be from 0 to 65535, not {port}")
        self.dir = None if dir is None else Path(dir)
        self.host = host
        self.port = port
        self._key = key
        if cores is not None and cores < 1:
            raise DataError(f"cores must be at least 1, not {cores}")
        self._settings: dict[str, Any] = {
            "strict": strict,
            "cores": cores or os.cpu_count() or 1,
            "max_bytes": max_bytes,
        }
        self._faults = faults
        self._running: _Running | None = None

    @classmethod
    def shared(cls, dir: str | os.PathLike[str] | None = None) -> LocalServer:  # noqa: A002  the contract's name
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
        if self._running is None:
            raise RuntimeError("The server is not running: call start(), or use it in a with statement.")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self._running.port}/v1"

    @property
    def faults(self) -> Faults:
        """What goes wrong at present; another one may be put in its place at any time."""
        from .faults import Faults

        if self._running is not None:
            return self._running.service.weather.faults
        return self._faults or Faults()

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._faults = faults
        if self._running is not None:
            self._running.service.weather.set(faults)

    def client(self, **options: Any) -> openai.OpenAI:
        """Return an ordinary openai client of this server; `options` go to `openai.OpenAI`."""
        import openai

        return openai.OpenAI(base_url=self.url, api_key=self._key or "local", **options)

    def start(self) -> Self:
        """Start answering, and take up unfinished jobs; nothing happens if the server is running already.

        Raises `ServiceUnavailable` if the port is taken, and `FileAccessError` if the folder cannot be used.
        """
        if self._running is None:
            self._running = _Running(
                self.dir, self.host, self.port, self._key, faults=self.faults, **self._settings
            )
            atexit.register(self.stop)
        return self

    def stop(self) -> None:
        """Stop answering and training; jobs that are unfinished stay so in `dir`, for the next start."""
        running, self._running = self._running, None
        if running is not None:
            atexit.unregister(self.stop)
            left = running.unfinished() if self.dir else 0
            log.info("stopping%s", f"; {left} unfinished job(s) go on at the next start" if left else "")
            running.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"LocalServer({self.url if self._running else 'not running'})"


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
    """Run a server in the foreground until SIGINT or SIGTERM, and log what it does to stderr.

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
            kept = server.dir or "a temporary folder, which goes when it stops: --dir keeps it"
            log.info("listening on %s, keeping things in %s", server.url, kept)
            log.info("jobs and their losses are shown at %s", server.url.removesuffix("v1"))
            stopping.wait()
    finally:
        for number, action in before.items():
            signal.signal(number, action)
        log.removeHandler(handler)
        log.setLevel(level)


class _Running:
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
    ) -> None:
        import uvicorn

        from .api.app import build
        from .api.service import Service

        listening = _listen(host, port)
        self._temporary = None
        if folder is None:
            folder = self._temporary = Path(tempfile.mkdtemp(prefix="finetune-pricer-"))
        try:
            self.service = Service.open(folder, faults=faults, strict=strict, cores=cores)
        except BaseException:
            listening.close()
            raise
        self.port = int(listening.getsockname()[1])
        app = build(self.service, key=key, max_bytes=max_bytes)
        self._server = uvicorn.Server(uvicorn.Config(app, **_UVICORN))
        self._thread = threading.Thread(
            target=self._server.run, args=([listening],), name="finetune-pricer-serves", daemon=True
        )
        self.service.start()
        # The socket listens already: a client that comes before the loop runs waits a moment.
        self._thread.start()

    def unfinished(self) -> int:
        return sum(job.status not in {*FINAL, "paused"} for job in self.service.database.list_jobs())

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self.service.close()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)


def _listen(host: str, port: int) -> socket.socket:
    listening = None
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # Said to be TCP, or asyncio leaves Nagle's delay on, and every answer takes 40 ms longer.
        listening = socket.socket(family, kind, socket.IPPROTO_TCP)
        if os.name == "posix":  # elsewhere the option would let two servers share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2_048)
    except OSError as error:
        if listening is not None:
            listening.close()
        advice = "choose another port, or 0 for any free one"
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            advice = "choose an address of this machine, such as 127.0.0.1"
        raise ServiceUnavailable(f"Cannot listen on {host}:{port} ({error.strerror}); {advice}.") from error
    return listening


def _require_extra() -> None:
    for name in ("starlette", "uvicorn", "python_multipart", "scipy"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise MissingExtra(
                f"The local server needs {name}, which is not installed: pip install 'finetune-pricer[local]'"
            ) from error
