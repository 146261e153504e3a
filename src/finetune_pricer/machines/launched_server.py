"""A server that was started: its client, whether it runs, and how it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from .._arguments import require_choice
from .._lazy import resolve_late
from ..errors import NotConfigured
from ..providers.lookup import remember_provider
from .server_record import ServerRecord

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    import openai

    from .target import Instance, Target

_TARGETS = {"hf-jobs": "HfJobs", "docker": "Docker", "process": "OwnProcess"}
# Each is imported when it is asked for: all three cost as much as a tenth of all public names.
_find_class = resolve_late(
    __package__ or __name__.rpartition(".")[0],
    {"HfJobs": "hf_jobs", "Docker": "docker", "OwnProcess": "own_process"},
)


class LaunchedServer:
    """A server that `launch` has started, or has found running; it outlives this object and this process.

    In a `with` statement it is stopped in the end, and with it the bill.

    Examples:
        >>> from finetune_pricer.machines import LaunchedServer
        >>> print(LaunchedServer.find("process"))  # none was started here
        None
    """

    def __init__(self, on: str, name: str, instance: Instance, key: str | None) -> None:
        self.on = on
        """`hf-jobs`, `docker` or `process`."""
        self.name = name
        """By which it is found again."""
        self.url: str = instance.url
        """What a client takes as `base_url`."""
        self.log: str = instance.log
        """Where its log is, or by which command it is read."""
        self.id: str = instance.id
        """Of its process, container or job."""
        self._key = key
        self._record = ServerRecord(on, name)

    @classmethod
    def find(cls, on: str, *, name: str = "pricer") -> LaunchedServer | None:
        """Return the server of that name, if it runs or is about to; nothing is started.

        Args:
            on: `"hf-jobs"`, `"docker"` or `"process"`.
            name: As it was given to `launch`.

        Returns:
            It may have been started by another process, on HF Jobs also from another machine.

        Raises:
            NotConfigured: There is no Hub token, or no docker here.
            ServiceError: The Hub or docker refuses to say.
        """
        record = ServerRecord(on, name)
        instance = find_target(on).find(name, record)
        return None if instance is None else cls(on, name, instance, record.read_key())

    @property
    def key_file(self) -> Path:
        """Where this machine keeps the key that clients send; only its user can read it."""
        return self._record.key_file

    def client(self, **options: Any) -> openai.OpenAI:
        """Return an ordinary openai client of this server; `options` go to `openai.OpenAI`.

        Raises:
            NotConfigured: It was started from another machine, where its key is.
        """
        import openai

        client = openai.OpenAI(**{**self.client_options, **options})
        remember_provider(client, "local")
        return client

    @property
    def client_options(self) -> dict[str, Any]:
        """What a client of this server is made with: `openai.AsyncOpenAI(**server.client_options)`."""
        if self._key is None:
            raise NotConfigured(
                f"{self.name!r} on {self.on} was started from another machine, which has its key; hand "
                "that in by launch(key=...), or stop it and start it from here"
            )
        return {"base_url": self.url, "api_key": self._key}

    def is_running(self) -> bool:
        """Return whether it runs or is about to, by asking where it was started; nothing is started."""
        found = find_target(self.on).find(self.name, self._record)
        return found is not None and found.id == self.id

    def stop(self) -> None:
        """Stop it, and with it the bill; its folder stays, and unfinished jobs go on at the next start.

        Raises:
            ServiceError: It could not be stopped, and may still cost money.
        """
        # Without the lock, which whoever waits until it is ready holds: a bill must not wait for its end.
        find_target(self.on).stop(self.name, self._record)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"LaunchedServer({self.name} on {self.on} at {self.url})"


def find_target(on: str) -> Target:
    """Return what starts servers there.

    Raises:
        WrongArgument: There is no such target.
    """
    require_choice("on", on, _TARGETS)
    target: Target = _find_class(_TARGETS[on])()
    return target
