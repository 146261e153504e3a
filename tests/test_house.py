"""The rules of the house, held by tests: layers, bodies, exports, import cost."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import finetune_pricer

SOURCE = Path(finetune_pricer.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))
NAMES = "Item, ItemDataset, ChatFormatter, JsonlWriter, audit, FineTuneJob, Predictor, Evaluator"

# Data flows down this list; a room imports from its own line and from those above it.
FLOW = [
    {"errors"},
    {"_environment", "_files", "_format", "_progress", "_sqlite", "_methods", "prices", "_chat_protocol"},
    {"providers"},
    {"_service"},
    {"items"},
    {"chat"},
    {"prepare"},
    {"tune"},
    {"predict"},
    {"evaluate"},
    {"aio"},
    {"cli"},
]
LEVEL = {room: level for level, rooms in enumerate(FLOW) for room in rooms}
MAY_IMPORT_LOCAL = {"providers", "cli"}
LOCAL_MAY_IMPORT = {"errors", "prices", "_chat_protocol", "_methods"}


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def rooms_imported(path: Path) -> Iterator[str]:
    package = ["finetune_pricer", *path.relative_to(SOURCE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            full = [*base, *(node.module or "").split(".")] if node.module else base
            for name in node.names:
                parts = [part for part in [*full, name.name] if part]
                if parts[0] == "finetune_pricer" and len(parts) > 1:
                    yield parts[1]


@pytest.mark.parametrize("path", [p for p in MODULES if p.parent != SOURCE or p.stem != "__init__"], ids=str)
def test_a_room_imports_only_from_rooms_above_it(path: Path) -> None:
    room = room_of(path)
    for other in rooms_imported(path):
        if room == "local":
            assert other in LOCAL_MAY_IMPORT | {"local"}
        elif other == "local":
            assert room in MAY_IMPORT_LOCAL
        else:
            assert LEVEL[other] <= LEVEL[room], f"{room} imports {other}, which stands below it"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_a_body_holds_one_idea(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert lines <= 40, f"{path.name}: {node.name} has {lines} lines"


def test_the_public_names_are_all_there_and_each_has_one_home() -> None:
    tree = ast.parse((SOURCE / "__init__.py").read_text())
    typed = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }
    assert typed == set(finetune_pricer.__all__)
    for name in finetune_pricer.__all__:
        assert getattr(finetune_pricer, name) is not None
    assert set(finetune_pricer.__all__) <= set(dir(finetune_pricer))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Pricer'"):
        finetune_pricer.Pricer  # noqa: B018


def test_every_public_name_stands_in_the_reference() -> None:
    pages = "".join(
        page.read_text() for page in (Path(__file__).parents[1] / "docs" / "reference").glob("*.md")
    )
    missing = [name for name in finetune_pricer.__all__ if f"::: finetune_pricer.{name}\n" not in pages]
    assert not missing


def loaded_by(code: str) -> set[str]:
    program = (
        f"{code}\nimport json, sys; print(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = {"openai", "datasets", "numpy", "pandas", "sklearn", "pydantic", "pyarrow", "scipy"}
    assert not heavy & loaded_by("import finetune_pricer")


def test_importing_the_public_names_loads_nothing_heavy() -> None:
    heavy = {"openai", "datasets", "pandas", "sklearn", "pyarrow", "plotly", "scipy"}
    assert not heavy & loaded_by("from finetune_pricer import *")
    needed_later = {"asyncio", "httpx2"}
    assert not (heavy | needed_later) & loaded_by(f"from finetune_pricer import {NAMES}")


def test_the_package_knows_its_version_and_is_typed() -> None:
    from importlib.metadata import version

    assert finetune_pricer.__version__ == version("finetune-pricer")
    assert (SOURCE / "py.typed").exists()


def test_the_names_of_earlier_versions_still_work() -> None:
    assert finetune_pricer.PriceRow is finetune_pricer.TokenPricing
