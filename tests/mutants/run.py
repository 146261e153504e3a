"""Break the code that buys, in one place at a time, and see whether a test notices.

`make mutants` runs this with mutmut, in an environment of its own; `[tool.mutmut]` in `pyproject.toml` names
the files and the tests. mutmut breaks what stands in functions. It leaves alone what stands outside of them,
and in functions with a decorator: that is broken here, by the same operators.

A survivor is a mutant that no test notices. It wants a test, or simpler code; or, where nobody could see a
difference, a reason in `explained.toml`.

A word on the command line is a pattern of mutants' names, such as `'*.x_send_once*'`: only those are tried.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from difflib import unified_diff
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

import libcst as cst
from mutmut.__main__ import cli
from mutmut.configuration import config
from mutmut.mutation import mutators
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files
from mutmut.utils.format_utils import orig_function_and_class_names_from_key
from operators import OPERATORS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PLACE = ROOT / "build" / "mutants" / "work"
WORKERS = os.cpu_count() or 2
LONGEST = 120  # seconds for the tests of one mutant outside functions; whole ones take a tenth of that
NOTICED = {"killed", "timeout"}


class Mutant(NamedTuple):
    """A change: where it is, the lines that go, and the lines that come in their place."""

    where: str
    was: str
    becomes: str

    @classmethod
    def read(cls, where: str, diff: Iterable[str]) -> Mutant:
        lines = [line for line in diff if not line.startswith(("---", "+++", "@@"))]
        was, becomes = ("\n".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+")
        return cls(where, was, becomes)

    def __str__(self) -> str:
        was, becomes = (text.replace("\n", "\n      ") for text in (self.was, self.becomes))
        return f"{self.where}\n    - {was}\n    + {becomes}"


Verdict = tuple[Mutant, bool]
"""A mutant, and whether a test noticed it."""


def lay_out(place: Path) -> Path:
    """Make a folder with the source, the tests and the settings."""
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", place)
    return place


def try_in_functions(patterns: list[str]) -> Iterator[Verdict]:
    """Let mutmut try its mutants."""
    mutators.mutation_operators[:] = OPERATORS
    cli(["run", "--max-children", str(WORKERS), *patterns], standalone_mode=False)
    for path in walk_mutatable_files():
        results = SourceFileMutationData(path=path)
        results.load()
        for name, code in results.exit_code_by_key.items():
            if code is not None:
                function, of_class = orig_function_and_class_names_from_key(name)
                where = ".".join(filter(None, [path.stem, of_class, function]))
                diff = get_diff_for_mutant(name, path=path).splitlines()
                yield Mutant.read(where, diff), status_by_exit_code[code] in NOTICED


def try_outside_functions(places: list[Path]) -> Iterator[Verdict]:
    """Try the mutants that mutmut does not make, as many at once as there are places."""
    changes = [(path, code) for path in walk_mutatable_files() for code in change_outside_functions(path)]
    free = SimpleQueue[Path]()
    for place in places:
        free.put(place)

    def is_noticed(change: tuple[Path, str]) -> bool:
        path, code = change
        place = free.get()
        (place / path).write_text(code)
        try:
            return are_tests_failing(place)
        finally:
            shutil.copy(path, place / path)
            free.put(place)

    with ThreadPoolExecutor(len(places)) as pool:
        for number, noticed in enumerate(pool.map(is_noticed, changes), start=1):
            print(f"\r{number}/{len(changes)} outside of functions", end="", flush=True)
            path, code = changes[number - 1]
            diff = unified_diff(path.read_text().splitlines(), code.splitlines(), lineterm="", n=0)
            yield Mutant.read(path.stem, diff), noticed


def are_tests_failing(place: Path) -> bool:
    command = [sys.executable, "-m", "pytest", "-x", "-q", *config().pytest_add_cli_args_test_selection]
    surroundings = {**os.environ, "PYTHONPATH": str(place / "src")}
    try:
        done = subprocess.run(command, cwd=place, env=surroundings, capture_output=True, timeout=LONGEST)
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


def change_outside_functions(path: Path) -> Iterator[str]:
    module = cst.parse_module(path.read_text())
    for node in walk_outside_functions(module):
        for kind, operator in OPERATORS:
            for changed in operator(node) if isinstance(node, kind) else ():
                yield module.deep_replace(node, changed).code


def walk_outside_functions(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    for child in node.children:
        match child:
            case cst.FunctionDef(decorators=[] | [cst.Decorator(cst.Name("classmethod"))]):
                continue  # mutmut's part
            case cst.Annotation() | cst.Decorator() | cst.If(test=cst.Name("TYPE_CHECKING")):
                continue
            case cst.SimpleStatementLine([cst.Assign(value=cst.Subscript() | cst.Call(cst.Name("TypeVar")))]):
                continue  # a type
        yield child
        yield from walk_outside_functions(child)


def main(patterns: list[str]) -> int:
    started_at = time.monotonic()
    shutil.rmtree(PLACE, ignore_errors=True)
    outside = [lay_out(PLACE / f"outside-{number}") for number in range(WORKERS)]
    os.chdir(lay_out(PLACE / "inside"))
    verdicts = list(try_in_functions(patterns))
    if not patterns:
        if are_tests_failing(outside[0]):
            sys.exit("the tests fail with nothing broken")
        verdicts += try_outside_functions(outside)
    survivors = [mutant for mutant, is_noticed in verdicts if not is_noticed]
    explained = read_explained()
    unexplained = [mutant for mutant in survivors if mutant not in explained]
    needless = [mutant for mutant in explained if mutant not in survivors and not patterns]
    for title, mutants in (
        ("no test notices this, and nothing explains it", unexplained),
        ("explained, and yet noticed or not there any more", needless),
    ):
        for mutant in mutants:
            print(f"\n{title}: {mutant}")
    minutes = (time.monotonic() - started_at) / 60
    print(
        f"\n{len(verdicts)} mutants, {len(verdicts) - len(survivors)} noticed, {len(survivors)} survived, "
        f"{len(unexplained)} of them unexplained; {minutes:.1f} minutes"
    )
    return 1 if unexplained or needless else 0


def read_explained() -> list[Mutant]:
    groups = tomllib.loads((HERE / "explained.toml").read_text())
    return [Mutant(*mutant) for group in groups.values() for mutant in group["mutants"]]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
