"""The README and the docs run: every Python block, with the output that stands below it."""

import contextlib
import doctest
import inspect
import io
import re
import warnings
from importlib import import_module
from pathlib import Path

import griffe
import pytest

import finetune_pricer

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Its blocks need torch: tests/lora/test_own_weights_road.py runs them.
WITH_TORCH = ROOT / "docs" / "tutorials" / "your-own-weights.md"
BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```$)?", re.DOTALL | re.MULTILINE
)
SOURCE = ROOT / "src"
CODE_MODULES = [
    ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    for path in sorted(SOURCE.rglob("*.py"))
    if ">>> " in path.read_text()
]
MAIN_CLASSES = """
    ChatFormatter Evaluation Evaluator FineTuneJob Item ItemDataset JsonlWriter Leaderboard Predictor Sweep
""".split()


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page != WITH_TORCH and BLOCK.search(page.read_text())],
    ids=lambda page: page.name,
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


def test_the_reference_shows_functions_and_classes_and_not_the_files_of_the_same_name() -> None:
    package = griffe.load("finetune_pricer", search_paths=[ROOT / "src"], resolve_aliases=True)
    files = [name for name in finetune_pricer.__all__ if package[name].kind is griffe.Kind.MODULE]
    assert not files


def test_the_readme_shows_its_two_commands_on_the_first_screen() -> None:
    first_screen = (ROOT / "README.md").read_text().splitlines()[:25]
    assert any(line.startswith("make demo") for line in first_screen)
    assert any(line.startswith("make test") for line in first_screen)


@pytest.mark.parametrize("name", CODE_MODULES)
def test_examples_in_docstrings_are_true(name: str) -> None:
    result = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("name", MAIN_CLASSES)
def test_a_main_class_has_a_runnable_example(name: str) -> None:
    kind = getattr(finetune_pricer, name)
    assert ">>> " in (inspect.getdoc(kind) or "")
    assert kind.__module__ in CODE_MODULES
