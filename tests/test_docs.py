"""The README and the docs run: every Python block, with the output that stands below it."""

import contextlib
import doctest
import io
import re
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```$)?", re.DOTALL | re.MULTILINE
)
CODE_MODULES = [
    "finetune_pricer.prices",
    "finetune_pricer.evaluate.metrics",
    "finetune_pricer.local.faults",
    "finetune_pricer.local.server",
]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if BLOCK.search(page.read_text())], ids=lambda page: page.name
)
def test_every_python_block_runs_and_prints_what_stands_below_it(page: Path) -> None:
    namespace: dict[str, object] = {"__name__": "__main__"}
    text = page.read_text()
    for block in BLOCK.finditer(text):
        line = text[: block.start()].count("\n") + 2
        code = compile("\n" * (line - 1) + block["code"], str(page), "exec", dont_inherit=True)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), warnings.catch_warnings():
            warnings.simplefilter("error")
            exec(code, namespace)
        if block["output"] is not None:
            same = doctest.OutputChecker().check_output(block["output"], printed.getvalue(), doctest.ELLIPSIS)
            assert same, f"{page.name}:{line} printed\n{printed.getvalue()}"


def test_the_readme_shows_its_two_commands_on_the_first_screen() -> None:
    first_screen = (ROOT / "README.md").read_text().splitlines()[:25]
    assert any(line.startswith("make demo") for line in first_screen)
    assert any(line.startswith("make test") for line in first_screen)


@pytest.mark.parametrize("name", CODE_MODULES)
def test_examples_in_docstrings_are_true(name: str) -> None:
    from importlib import import_module

    result = doctest.testmod(import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
