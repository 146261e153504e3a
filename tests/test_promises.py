"""The page of promises names tests that exist."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "explanation" / "what-is-promised.md").read_text(encoding="utf-8")
HEAD = ["promise", "limit", "test"]
ROWS = [
    [cell.strip() for cell in line.strip("|\n").split(" |")]
    for line in PAGE.splitlines()
    if line.startswith("|") and not line.startswith("|---")
]
PROMISES = [row for row in ROWS if row != HEAD]
EXISTING = {
    name
    for path in TESTS.rglob("test_*.py")
    for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
}


@pytest.mark.parametrize("row", PROMISES, ids=[row[0][:60] for row in PROMISES])
def test_each_promise_names_its_limit_and_tests_that_exist(row: list[str]) -> None:
    assert len(row) == len(HEAD)
    named = re.findall(r"`(test_\w+)`", row[2])
    assert named
    assert not set(named) - EXISTING
    assert not re.sub(r"`test_\w+`,? ?", "", row[2])


def test_each_simulation_has_its_figures_on_the_page_and_no_other_has() -> None:
    page = (TESTS.parent / "docs" / "explanation" / "how-the-numbers-were-checked.md").read_text()
    simulations = {
        name
        for path in (TESTS / "statistics").glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert set(re.findall(r"\| `(test_\w+)` \|$", page, re.MULTILINE)) == simulations
