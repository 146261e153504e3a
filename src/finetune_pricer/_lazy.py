"""Names of a room that are resolved when they are first used (PEP 562).

For names whose file needs pydantic, which costs as much to import as all else here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def resolve_late(room: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a room's `__getattr__`.

    Args:
        room: Its `__name__`.
        homes: For each late name the file in which it stands.
    """

    def resolve(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        return getattr(import_module(f"{room}.{homes[name]}"), name)

    return resolve
