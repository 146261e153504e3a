"""A progress bar where somebody looks: a terminal or a notebook."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")


def somebody_looks() -> bool:
    """Whether there is a terminal or a notebook."""
    # A notebook's error stream is no terminal, and yet there is somebody.
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def track(
    things: Iterable[T], *, total: int | None, doing: str, failed: Callable[[T], bool] | None = None
) -> Iterator[T]:
    """Pass things through, showing how many have gone by, how fast, and how many of them had failed."""
    bar = progress_bar(total=total, doing=doing)
    failures = 0
    with bar:
        for thing in things:
            if failed is not None and failed(thing):
                failures += 1
                bar.set_postfix(failed=failures, refresh=False)
            bar.update()
            yield thing


def progress_bar(*, total: int | None, doing: str) -> Any:
    """Return a tqdm bar; a silent one where nobody looks."""
    from tqdm.auto import tqdm

    return tqdm(total=total, desc=doing, disable=not somebody_looks())
