"""Figures of simulations: a test adds rows, and they become one table.

`tests/statistics/conftest.py` prints it. `FINETUNE_PRICER_FIGURES` names a page whose table is then brought
up to date, as `make statistics` does.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = Path(__file__).parent / "statistics"
HEAD = ("case", "asked for", "before", "now", "test")
Row = tuple[str, ...]


def trials(count: int) -> int:
    """Give how often to simulate: `count` times, or the share of it that FINETUNE_PRICER_TRIALS names."""
    return max(20, round(count * float(os.environ.get("FINETUNE_PRICER_TRIALS", "1"))))


class Figures:
    """What one test measured."""

    def __init__(self, test: str, note: Callable[[str, object], None]) -> None:
        self._test, self._note = test, note

    def add(self, case: str, *, asked: str, before: str, now: str) -> None:
        """Add a row: what was simulated, what is promised, and how it came out before and comes out now.

        Call it before asserting anything, so that a figure out of its bounds is seen too.
        """
        self._note("figure", (case, asked, before, now, f"`{self._test}`"))


def render_table(rows: list[Row]) -> list[str]:
    """Give the lines of a Markdown table whose rows stand in the order of the tests in their files."""
    order = [
        f"`{name}`"
        for path in sorted(FOLDER.glob("test_*.py"))
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    known = sorted((row for row in rows if row[-1] in order), key=lambda row: order.index(row[-1]))
    return [f"| {' | '.join(cells)} |" for cells in (HEAD, ["---"] * len(HEAD), *known)]


def write_table(page: Path, measured: list[Row]) -> None:
    """Replace the page's rows of the tests that ran; those of other tests stay, those of no test go."""
    lines = page.read_text(encoding="utf-8").splitlines()
    at = [number for number, line in enumerate(lines) if line.startswith("|")]
    ran = {row[-1] for row in measured}
    kept = [tuple(cell.strip() for cell in lines[number].strip("|").split(" | ")) for number in at[2:]]
    table = render_table([*(row for row in kept if row[-1] not in ran), *measured])
    page.write_text("\n".join([*lines[: at[0]], *table, *lines[at[-1] + 1 :], ""]), encoding="utf-8")
