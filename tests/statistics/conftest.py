"""The end of a run of simulations prints what they measured as one table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from figures import Figures, render_table, write_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from figures import Row


@pytest.fixture
def figures(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Figures:
    return Figures(request.function.__name__, record_property)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    passed, failed = ([*find_rows(terminalreporter, kind)] for kind in ("passed", "failed"))
    if passed or failed:
        terminalreporter.section("figures")
        terminalreporter.write_line("\n".join(render_table([*passed, *failed])))
    if page := os.environ.get("FINETUNE_PRICER_FIGURES"):
        write_table(Path(page), passed)


def find_rows(reporter: pytest.TerminalReporter, outcome: str) -> Iterator[Row]:
    for report in reporter.getreports(outcome):
        if report.when == "call":
            yield from (tuple(row) for name, row in report.user_properties if name == "figure")
