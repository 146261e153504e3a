"""What a place must be able to do for a server to be started there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from .launch_plan import LaunchPlan
    from .server_record import ServerRecord

KEY_VARIABLE = "FINETUNE_PRICER_SERVER_KEY"
"""By which the server gets its key: a program's arguments can be read by others, its environment cannot."""
PORT = 8000
"""On which a server in a container listens."""
MOUNT = "/pricer"
"""Where a container finds what outlives it."""
IMAGE = "ghcr.io/astral-sh/uv:python3.12-bookworm"
"""A container with Python and uv, which installs this package; HF Jobs takes the same for its uv jobs."""


class Machine(NamedTuple):
    """What a server would run on."""

    name: str
    """In the target's own words, such as `l4x1`; empty where there is nothing to choose."""
    per_hour: float | None
    """Dollars; None where nobody could be asked."""
    note: str = ""
    """What else somebody who starts it should know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A server that runs, or is about to."""

    id: str
    """In the target's own words: of a process, a container or a job."""
    url: str
    """What a client takes as `base_url`."""
    settings: str
    """The fingerprint of the plan by which it was started."""
    log: str
    """Where its log is, or by which command it is read."""
    is_new: bool = False
    """Whether `start` has just started it, rather than found what somebody else had started meanwhile."""


class Target(Protocol):
    """A place at which servers are started."""

    keeps: str
    """Which argument says where the server's folder lies: `dir`, `volume` or `bucket`."""
    longest_pause: float
    """Seconds between two looks at whether it is ready."""

    def find_machine(self, gpu: str | None) -> Machine:
        """Return what a GPU means there, and what it costs; nothing is started."""
        ...

    def find_place(self, name: str, given: str | None) -> str:
        """Return where the server's folder would lie; nothing is made."""
        ...

    def find(self, name: str, record: ServerRecord) -> Instance | None:
        """Return the server of that name which runs or is about to; None where there is none."""
        ...

    def start(self, plan: LaunchPlan, key: str, record: ServerRecord) -> Instance:
        """Start one."""
        ...

    def stop(self, name: str, record: ServerRecord) -> None:
        """End every server of that name, wherever it was started from."""
        ...

    def explain_end(self, instance: Instance, record: ServerRecord) -> str:
        """Return in words why a server has ended that should run."""
        ...
