"""The README and the docs run: every Python block, with the output that stands below it."""

import ast
import doctest
import inspect
import re
from importlib import import_module
from pathlib import Path

import griffe
import pytest

import finetune_pricer
from page_outputs import BLOCK, PAGES, ROOT, is_same, merge, run_page

# Its blocks need torch: tests/lora/test_own_weights_road.py runs them.
WITH_TORCH = ROOT / "docs" / "tutorials" / "your-own-weights.md"
FENCED = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)\n(?P<text>.*?)^(?P=indent)```", re.DOTALL | re.MULTILINE
)
# Blocks marked `py`, by their pages: tests/test_trackers.py runs them where W&B, MLflow and TensorBoard are.
RUN_ELSEWHERE = {"track-experiments.md": 3}
COLUMN = 79  # what a page shows of a line of code at 1280 pixels
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
    for block, printed in run_page(page):
        if block["output"] is not None:
            assert is_same(block["output"], printed), f"{page.name} printed\n{printed}"


def test_an_output_is_the_same_but_for_what_is_another_machines() -> None:
    stands = "ftjob-a1b2 of 2026-11-27: MAE $53.20, n=100, 54% nearer\n"
    assert is_same(stands, "ftjob-zz9 of 2027-01-02: MAE $51.07, n=100, 55% nearer\n")
    assert not is_same(stands, "ftjob-zz9 of 2027-01-02: MAE $51.07, n=101, 55% nearer\n")
    assert not is_same(stands, "MAE $53.20\n")


def test_an_output_is_renewed_and_what_a_page_leaves_out_stays_left_out() -> None:
    assert merge("MAE $...\n", "MAE $53.20\nn=100 \n") == "MAE $53.20\nn=100\n"
    assert merge("a job-...\n...\nlast\n", "1\n2\n3\n4\n") == "1\n...\n4\n"
    assert merge("first\n...\nlast\n", "1\n2\n") == "first\n...\nlast\n"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_fits_the_column(page: Path) -> None:
    for block in FENCED.finditer(page.read_text(encoding="utf-8")):
        long = [line for line in block["text"].splitlines() if len(line) > COLUMN]
        assert block["language"] == "text" or not long


def test_every_python_block_is_one_that_runs() -> None:
    """A block that is indented, or fenced otherwise, would be shown and never run."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        shown = len(re.findall(r"^ *(?:```|~~~) ?(?:python|py|pycon|ipython)", text, re.MULTILINE))
        assert shown == len(BLOCK.findall(text)) + RUN_ELSEWHERE.get(page.name, 0), page.name


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


def test_examples_in_docstrings_are_shown_as_code() -> None:
    """Without its heading an example would be shown as a quotation of a quotation of a quotation."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            told = (ast.get_docstring(node) or "") if isinstance(node, documented) else ""
            before, example, _ = told.partition(">>> ")
            assert not example or before.split()[-1] == "Examples:", f"{path.name}: {before}"


@pytest.mark.parametrize("name", MAIN_CLASSES)
def test_a_main_class_has_a_runnable_example(name: str) -> None:
    kind = getattr(finetune_pricer, name)
    assert ">>> " in (inspect.getdoc(kind) or "")
    assert kind.__module__ in CODE_MODULES
