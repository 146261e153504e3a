"""What is to be started where, what it costs, and the files by which anybody can start it by hand."""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._arguments import require_path
from .._display import ShortRepr
from .._durations import format_duration
from .._files import replacing
from .._format import format_dollars
from ..errors import FileAccessError, MissingExtra, OverBudget
from .target import KEY_VARIABLE, MOUNT, PORT

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

_FILES = {"process": "process.sh", "docker": "docker.sh", "hf-jobs": "hf-jobs.sh", "skypilot": "sky.yaml"}
_GRACE = 60.0  # seconds before the end of the rent in which the server stops by itself
_GRACE_SHARE = 0.1  # of a rent that is shorter than ten times that
_HOUR = 3_600.0
_LOCAL_PORT = 8080  # in a file; who starts a server gets a free one


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LaunchPlan(ShortRepr):
    """What `launch` would start; made by `plan_launch`, which starts nothing.

    `str(plan)` says it in words with what it costs, `plan.script` is the file that starts it by hand, and
    `plan.write(folder)` writes such a file for every target, and one for SkyPilot.
    """

    on: str
    """`hf-jobs`, `docker` or `process`."""
    name: str
    """By which it is found again."""
    gpu: str | None
    """What was asked for."""
    machine: str
    """What that means there, such as `l4x1`; empty where there is nothing to choose."""
    per_hour: float | None
    """Dollars; None where nobody could be asked."""
    limit: float
    """Seconds after which it ends by itself."""
    bases: Mapping[str, str]
    """Open language models that it offers."""
    place: str
    """Where its folder lies: a folder, a volume of docker's, a bucket of the Hub."""
    port: int
    """Of this machine; 0 takes a free one."""
    package: str
    """What is installed there."""
    image: str
    """Of the container in which it runs."""
    notes: tuple[str, ...] = ()
    """What else somebody who starts it should know."""

    @property
    def cost(self) -> float | None:
        """Dollars that it costs at most; None where nobody could be asked."""
        return None if self.per_hour is None else self.per_hour * self.limit / _HOUR

    @property
    def settings(self) -> str:
        """What tells it from another server of the same name: machine, bases, and where its folder lies."""
        facts = [self.on, self.machine, sorted(self.bases.items()), self.place]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    @property
    def serving_time(self) -> int:
        """Seconds after which a server in a container stops, so that its folder is closed before the end."""
        return max(int(self.limit - min(_GRACE, _GRACE_SHARE * self.limit)), 1)

    @property
    def script(self) -> str:
        """The file that starts it by hand; it takes the key from the environment, and holds none.

        Raises:
            MissingExtra: Jinja2 is not installed.
        """
        return self._render(_FILES[self.on])

    def require_budget(self, budget: float | None) -> None:
        """Make sure that all of the time limit can be paid for.

        Raises:
            OverBudget: It would cost more than the budget, or there is one and the cost is not known.
        """
        if budget is None:
            return
        if self.cost is None:
            raise OverBudget(
                f"what {self.machine} costs is not known, so that no budget can be held; nothing was started",
                budget=budget,
            )
        if self.cost > budget:
            raise OverBudget(
                f"{format_duration(self.limit)} of {self.machine} cost {format_dollars(self.cost)}, above "
                f"the budget of {format_dollars(budget)}; nothing was started: take a shorter limit",
                cost=self.cost,
                budget=budget,
            )

    def write(self, folder: str | os.PathLike[str]) -> tuple[Path, ...]:
        """Write a file for every target, and one for SkyPilot, each to be read and kept; none holds a key.

        Args:
            folder: Where they go; files of the same names are replaced.

        Returns:
            Their paths.

        Raises:
            FileAccessError: The folder cannot be written.
            MissingExtra: Jinja2 is not installed.
        """
        require_path("folder", folder)
        place = Path(folder).expanduser()
        if place.exists() and not place.is_dir():
            raise FileAccessError(f"{str(place)!r} is a file; name a folder for the files")
        written = {place / name: self._render(name) for name in _FILES.values()}
        for path, text in written.items():
            with replacing(path) as file:
                file.write(text.encode())
        return tuple(written)

    def __str__(self) -> str:
        where = f"{self.on} ({self.machine})" if self.machine else self.on
        hour = "unknown" if self.per_hour is None else f"{format_dollars(self.per_hour)} an hour"
        lines = [
            f"{self.name} on {where}, its folder in {self.place}",
            f"price: {hour if self.per_hour != 0 else 'nothing'}",
            f"ends by itself after {format_duration(self.limit)}"
            + (f", so that it costs at most {format_dollars(self.cost)}" if self.cost else ""),
            *(f"offers {name}: {model}" for name, model in self.bases.items()),
            *self.notes,
        ]
        return "\n".join(lines)

    def serve_arguments(self, *, host: str, port: int, folder: str) -> list[str]:
        """Return the arguments of `finetune-pricer` that start the server."""
        arguments = ["serve", "--host", host, "--port", str(port), "--dir", folder]
        for name, model in self.bases.items():
            arguments += ["--base", f"{name}={model}"]
        return arguments

    def container_command(self, host: str = "0.0.0.0") -> list[str]:  # noqa: S104  there is a key
        """Return what a container runs: it installs this package, and serves until just before the limit."""
        serve = self.serve_arguments(host=host, port=PORT, folder=f"{MOUNT}/{self.name}")
        ending = ["timeout", "--kill-after=60", str(self.serving_time)]
        return [*ending, "uv", "run", "--with", self.package, "finetune-pricer", *serve]

    def _render(self, file: str) -> str:
        places = dict.fromkeys(_FILES, f"finetune-pricer-{self.name}") | {self.on: self.place}
        process = self.serve_arguments(
            host="127.0.0.1", port=self.port or _LOCAL_PORT, folder=places["process"]
        )
        values: dict[str, Any] = {
            "name": self.name,
            "settings": self.settings,
            "key": KEY_VARIABLE,
            "port": self.port or _LOCAL_PORT,
            "inner_port": PORT,
            "mount": MOUNT,
            "volume": places["docker"],
            "bucket": places["hf-jobs"],
            "image": self.image,
            "has_gpu": self.gpu is not None,
            "flavor": self.machine if self.on == "hf-jobs" else guess_flavor(self.gpu),
            "accelerator": guess_accelerator(self.gpu),
            "seconds": int(self.limit),
            "process": ["finetune-pricer", *process, "--limit", f"{int(self.limit)}s"],
            "container": self.container_command(),
            "tunnelled": shlex.join(self.container_command("127.0.0.1")),
        }
        return str(_find_template(file).render(values))


def guess_flavor(gpu: str | None) -> str:
    """Return what HF Jobs most likely calls a GPU, for a file that is written without asking it."""
    return "cpu-basic" if gpu is None else f"{gpu}x1"


def guess_accelerator(gpu: str | None) -> str:
    """Return what SkyPilot calls a GPU: `L4:1`; `l4x4` is four of them."""
    kind, _, count = (gpu or "").rpartition("x")
    if not (kind and count.isdecimal()):
        kind, count = gpu or "", "1"
    return f"{kind.partition('-')[0].upper()}:{count}" if kind else ""


def _find_template(file: str) -> Any:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtra(
            "files that start a server need Jinja2; install it: pip install 'finetune-pricer[local]'"
        ) from error
    # Neither is HTML. Whatever a template shows is quoted for its language, so that none can forget it.
    environment = Environment(  # noqa: S701
        loader=PackageLoader(__package__ or __name__.rpartition(".")[0]),
        undefined=StrictUndefined,
        finalize=_quote_for_shell if file.endswith(".sh") else json.dumps,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(file)


def _quote_for_shell(value: object) -> str:
    return shlex.join(map(str, value)) if isinstance(value, list) else shlex.quote(str(value))
