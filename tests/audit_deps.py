"""Ask pip-audit about the lowest versions that `pyproject.toml` allows; `make audit-deps` runs it.

It ends with status 1 where a version has a known hole. Where pip-audit's data cannot be had, wholly or for
some packages, it says so, and that is no failure: nobody's build must stop because a server is away.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ROOT = Path(__file__).parents[1]
WORK_ONLY = {"dev", "docs"}  # extras of those who work on the package, not of those who use it


def read_requirements() -> list[Requirement]:
    """Everything that users install, from the project's own file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [lines for name, lines in project["optional-dependencies"].items() if name not in WORK_ONLY]
    words = dict.fromkeys([*project["dependencies"], *(line for lines in extras for line in lines)])
    return [needed for needed in map(Requirement, words) if needed.name != project["name"]]


def lowest_version(needed: Requirement) -> str:
    """The lowest version that a requirement allows."""
    (floor,) = [part.version for part in needed.specifier if part.operator == ">="]
    return floor


def judge(report: Mapping[str, Any] | None, said: str) -> tuple[int, str]:
    """The exit status and what to print, given pip-audit's JSON report (None without one) and its words."""
    if report is None:
        last = (said.strip().splitlines() or ["it said nothing"])[-1]
        return 0, f"skipped: pip-audit's data cannot be had here ({last})"
    packages = report["dependencies"]
    unknown = [each["name"] for each in packages if "skip_reason" in each]
    holes = [
        f"{each['name']} {each['version']}: {hole['id']}, fixed in {', '.join(hole['fix_versions'])}"
        for each in packages
        for hole in each.get("vulns", ())
    ]
    if len(unknown) == len(packages):
        return 0, f"skipped: pip-audit's data cannot be had here, for none of {len(packages)} packages"
    lines = [*holes, f"{len(packages) - len(unknown)} lowest versions asked about, {len(holes)} known holes"]
    if unknown:
        lines.append(f"skipped, as there was no answer about them: {', '.join(unknown)}")
    return int(bool(holes)), "\n".join(lines)


def audit(pins: Iterable[str]) -> tuple[int, str]:
    """Run pip-audit over `name==version` lines."""
    with tempfile.TemporaryDirectory() as folder:
        wanted, report = Path(folder, "lowest.txt"), Path(folder, "report.json")
        wanted.write_text("\n".join(pins) + "\n")
        options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
        command = [sys.executable, "-m", "pip_audit", *options, "-r", str(wanted), "-o", str(report)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        return judge(json.loads(report.read_text()) if report.exists() else None, made.stderr)


def main() -> int:
    """Ask, print, and return the exit status."""
    status, words = audit(f"{needed.name}=={lowest_version(needed)}" for needed in read_requirements())
    print(words)
    return status


if __name__ == "__main__":
    sys.exit(main())
