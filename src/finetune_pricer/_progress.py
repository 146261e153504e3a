"""A progress bar where somebody looks: a terminal or a notebook."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")


def somebody_looks() -> bool:
    """Whether there is a terminal or a notebook."""
    # A notebook's error stream is no terminal, and yet there is somebody.
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def track(things: Iterable[T], *, total: int | None, doing: str) -> Iterator[T]:
    """Pass things through, showing how many have gone by."""
    from tqdm.auto import tqdm

    bar: Iterator[T] = iter(tqdm(things, total=total, desc=doing, disable=not somebody_looks()))
    yield from bar
