"""Writes what the examples print into their index, and the notebook's outputs into it, from real runs.

python tests/example_outputs.py         # all that need no torch, after something that they show has changed
python tests/example_outputs.py 03 10   # some of them
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from finetune_pricer.cli.demo import EXAMPLES

FOLDER = Path(__file__).parents[1] / "examples"
INDEX = FOLDER / "README.md"
SECTION = re.compile(
    r"^## (?P<name>\S+)\n\n(?P<shows>[^\n]+)\n\n(?P<rest>.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE
)
HEAD = """# Examples

Each is a program of one screen or two, flat, to be read from top to bottom and changed.
They run as they are on the package's own server: no key, no network, no cost; `08` alone fetches weights.
`finetune-pricer demo --list` names them, and `--help` of each says what else it takes.
What stands below a command is what a run of it printed; another run prints other ids, times and letters.
`python tests/example_outputs.py` writes this page.
"""
ARGUMENTS = {
    "01": "--train 1000 --test 100 --epochs 3",
    "03": "--sizes 50 100 200 --target 600 --test 200",
    "04": "--train 300",
    "05": "--make 500 catalogue.csv priced.csv",
    "06": "--train 200 --products 60",
    "07": "--train 300 --test 100",
}
"""What an example is run with, by its number; nothing for the others."""
_NEEDS_TORCH = {"08"}
_SHORT = 40  # lines of what was printed
_FIRST = 10  # of them, where there are more
_WIDE = 120  # characters of a line


def write_index(numbers: list[str]) -> None:
    """Run examples, and write what they print; the others' sections stay as they are."""
    known = read_index()
    parts = [HEAD]
    for name, shows in EXAMPLES.items():
        rest = known.get(name, ("", ""))[1].strip()
        if name[:2] in numbers or not (numbers or name[:2] in _NEEDS_TORCH):
            print(f"running {name}", flush=True)
            rest = run_notebook_anew(FOLDER / name) if name.endswith(".ipynb") else run_example(name)
        parts.append(f"## {name}\n\n{shows}\n\n{rest}\n")
    INDEX.write_text("\n".join(parts), encoding="utf-8")


def read_index() -> dict[str, tuple[str, str]]:
    """Return what the index says of each example: what it shows, and what it printed."""
    text = INDEX.read_text(encoding="utf-8") if INDEX.exists() else ""
    return {found["name"]: (found["shows"], found["rest"]) for found in SECTION.finditer(text)}


def run_example(name: str) -> str:
    """Return an example's command with what it printed."""
    words = shlex.split(ARGUMENTS.get(name[:2], ""))
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(FOLDER / name), *words],
            cwd=folder,
            env=os.environ | {"FINETUNE_PRICER_HOME": folder},
            capture_output=True,
            text=True,
            check=True,
        )
    lines = [cut(line.rstrip()) for line in done.stdout.strip().splitlines()]
    if len(lines) > _SHORT:
        lines = [*lines[:_FIRST], "...", *lines[_FIRST - _SHORT :]]
    command = " ".join(["python", f"examples/{name}", *words])
    return "\n".join(["```console", f"$ {command}", "```", "", "```text", *lines, "```"])


def cut(line: str) -> str:
    return line if len(line) <= _WIDE else f"{line[: _WIDE - 3].rstrip()}..."


def run_notebook(path: Path, folder: Path) -> Any:
    """Return a notebook as it is after all of its cells have run, from top to bottom, in a folder."""
    nbformat, nbclient = import_module("nbformat"), import_module("nbclient")
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=where, store_widget_state=False).execute()
    return notebook


def run_notebook_anew(path: Path) -> str:
    """Write a notebook's outputs into it, without what only a live one shows; return what to say of it."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FINETUNE_PRICER_HOME"] = folder
        notebook = run_notebook(path, Path(folder))
    for cell in notebook.cells:
        cell.metadata.clear()  # when it ran
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if not is_of_the_moment(one)]
    import_module("nbformat").write(notebook, path)
    return "Open it in Jupyter or VS Code: its outputs are saved in it."


def is_of_the_moment(output: dict[str, Any]) -> bool:
    """Whether an output is a progress bar, or was written beside the results."""
    is_bar = any("widget" in kind for kind in output.get("data", {}))
    return is_bar or output.get("name") == "stderr"


if __name__ == "__main__":
    write_index(sys.argv[1:])
