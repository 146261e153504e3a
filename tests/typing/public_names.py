"""Does a type checker know the type of every public name? `make typing` asks pyright.

`pyright --verifytypes` counts every file without an underscore as public. Here a name is public that stands
in the `__all__` of the package or of a room, and with a class its attributes and methods: all of these must
be known and unambiguous. What other packages leave unknown, such as pandas without its stubs, does not count.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SOURCE = Path(__file__).resolve().parents[2] / "src"
PACKAGE = "finetune_pricer"
PLACES = """
    aio errors evaluate integrations items local predict prepare prices providers testing tune
""".split()


def find_public_names() -> set[str]:
    """The full name of everything public, by the file in which it is defined, and of its bases of ours."""
    names = set[str]()
    for place in (PACKAGE, *(f"{PACKAGE}.{place}" for place in PLACES)):
        module = importlib.import_module(place)
        shown = getattr(module, "__all__", None) or [
            name for name, value in vars(module).items() if getattr(value, "__module__", None) == place
        ]
        for name in shown:
            value = getattr(module, name)
            kinds = inspect.getmro(value) if inspect.isclass(value) else (value,)
            names |= {
                f"{kind.__module__}.{kind.__qualname__}"
                for kind in kinds
                if getattr(kind, "__module__", "").startswith(PACKAGE) and hasattr(kind, "__qualname__")
            }
            names.add(f"{place}.{name}")
    return names


def is_public(name: str, public: set[str]) -> bool:
    """Whether it is a public name, or an attribute of one that has no underscore."""
    parts = name.split(".")
    for end in range(len(parts), 1, -1):
        if ".".join(parts[:end]) in public:
            return not any(part.startswith("_") and not part.startswith("__") for part in parts[end:])
    return False


def judge(symbols: Iterable[Mapping[str, Any]], public: set[str]) -> tuple[int, str]:
    """The exit status, and what to print: what is not known, and how many names were looked at."""
    looked_at = [symbol for symbol in symbols if is_public(symbol["name"], public)]
    vague = [each for each in looked_at if not each["isTypeKnown"] or each.get("isTypeAmbiguous")]
    lines = []
    for symbol in vague:
        why = [problem["message"].replace("\n", " ") for problem in symbol["diagnostics"]]
        lines.append(f"{symbol['name']}: {'; '.join(why) or 'one of its attributes or methods'}")
    share = 1 - len(vague) / len(looked_at) if looked_at else 0.0
    lines.append(f"{len(looked_at):,} public names and attributes looked at, {share:.2%} have a known type")
    return int(bool(vague) or not looked_at), "\n".join(lines)


def main() -> int:
    """Ask pyright, print, and return the exit status."""
    asked = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--verifytypes", PACKAGE]
    done = subprocess.run(
        [*asked, "--ignoreexternal", "--outputjson"],
        cwd=SOURCE,
        env=os.environ | {"PYTHONPATH": str(SOURCE)},  # pyright follows no editable install
        capture_output=True,
        text=True,
        check=False,
    )
    if not done.stdout.startswith("{"):
        print(done.stdout, done.stderr, "pyright gave no answer", sep="\n")
        return 1
    status, said = judge(json.loads(done.stdout)["typeCompleteness"]["symbols"], find_public_names())
    print(said)
    return status


if __name__ == "__main__":
    sys.exit(main())
