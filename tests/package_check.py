"""Does a built package hold what it should and nothing else, and does it break what users call?

`make release-check` builds the sdist and the wheel and runs this: `python tests/package_check.py FOLDER`.

- The wheel holds the files of `src/finetune_pricer` that git knows, the first example under the name by
  which `finetune-pricer demo` runs it, and what a wheel says about itself. The sdist holds what it takes to
  run the tests from it.
- The public names are compared with those of the last tag that is a version. A name, a parameter or a default
  that is gone or different breaks callers, and wants the first or, before 1.0, the second number to go up.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import griffe

if TYPE_CHECKING:
    from collections.abc import Iterable

_COLOUR = re.compile("\x1b\\[[0-9;]*m")
ROOT = Path(__file__).parents[1]
PACKAGE = "finetune_pricer"
EXAMPLES = {f"{PACKAGE}/_first_job.py", f"{PACKAGE}/_own_weights.py"}
ABOUT = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
URLS = {"Changelog", "Documentation", "Issues", "Repository"}
"""What PyPI shows beside a package. Nobody can guess them: a release waits until somebody has named them."""


def judge_wheel(names: Iterable[str], tracked: Iterable[str]) -> list[str]:
    """What a wheel lacks, or has too much."""
    ours = {name.removeprefix("src/") for name in tracked if name.startswith(f"src/{PACKAGE}/")} | EXAMPLES
    found = {re.sub(rf"^{PACKAGE}-[^/]+\.dist-info/", "dist-info/", name) for name in names}
    return compare("the wheel", found, ours | {f"dist-info/{name}" for name in ABOUT})


def judge_sdist(names: Iterable[str], tracked: Iterable[str]) -> list[str]:
    """What an sdist lacks, or has too much, beside what git knows."""
    found = {name.partition("/")[2] for name in names}
    return compare("the sdist", found, {*tracked, "PKG-INFO"})


def compare(what: str, found: set[str], wanted: set[str]) -> list[str]:
    """Sentences about the difference of two sets of files."""
    lacks = [f"{what} lacks {name}" for name in sorted(wanted - found)]
    return lacks + [f"{what} should not hold {name}" for name in sorted(found - wanted)]


def find_relative_links(text: str) -> list[str]:
    """The links and pictures of a Markdown text that lead somewhere only beside its own folder."""
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(
        r"""(?:href|src|srcset)=["']([^"']+)["']""", text
    )
    return [link for link in links if not link.startswith(("https://", "mailto:"))]


def judge_description(metadata: str) -> list[str]:
    """What would be dead on the package's page at PyPI."""
    description = metadata.partition("\n\n")[2]
    return [
        f"the description links to {link}, which PyPI has not" for link in find_relative_links(description)
    ]


def judge_names(old: griffe.Module, new: griffe.Module, tag: str, version: str) -> list[str]:
    """What breaks callers since a tag, where the version does not say so."""
    if allows_breaking(tag, version):
        return []
    gone = [
        f"{name} is gone" for name in sorted({*map(str, old.exports or ())} - {*map(str, new.exports or ())})
    ]
    rooms, today = find_rooms(old), find_rooms(new)
    gone += [f"{name} is gone" for name in sorted(rooms.keys() - today.keys())]
    changes = [
        _COLOUR.sub("", change.explain(griffe.ExplanationStyle.ONE_LINE))
        for name in sorted(rooms.keys() & today.keys())
        for change in griffe.find_breaking_changes(rooms[name], today[name])
    ]
    return gone + changes


def find_rooms(package: griffe.Module) -> dict[str, griffe.Module]:
    """The rooms that list their names: whatever else changes in a file is nobody's interface."""
    return {name: room for name, room in package.modules.items() if room.exports and name[0] != "_"}


def allows_breaking(tag: str, version: str) -> bool:
    """Whether a version says, by Semantic Versioning, that it may break callers of a tag's."""
    old, new = ([int(part) for part in re.findall(r"\d+", text)[:3]] for text in (tag, version))
    return new[0] > old[0] or (old[0] == new[0] == 0 and new[1] > old[1])


def last_tag() -> str | None:
    """The newest tag that is a version; None where there is none yet."""
    asked = ["git", "-C", str(ROOT), "tag", "--list", "v*", "--sort=-version:refname"]
    tags = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
    return tags[0] if tags else None


def judge_metadata(project: dict[str, object], changelog: str) -> list[str]:
    """What is missing about the package, and whether the changelog is about this version."""
    urls = project.get("urls")
    lacks = URLS - (urls.keys() if isinstance(urls, dict) else set())
    wrong = [f"pyproject.toml names no {name} among its URLs" for name in sorted(lacks)]
    newest = re.search(r"^## \[(.+?)\]", changelog, re.MULTILINE)
    if newest is None or newest[1] != project["version"]:
        wrong.append(f"the changelog's newest heading is not {project['version']}")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    if f"version: {project['version']}\n" not in citation:
        wrong.append(f"CITATION.cff is not about {project['version']}")
    return wrong


def list_tracked(*folders: str) -> list[str]:
    """The files that git knows, in some folders or in all."""
    asked = ["git", "-C", str(ROOT), "ls-files", "-z", "--", *folders]
    return [
        name
        for name in subprocess.run(asked, capture_output=True, check=True).stdout.decode().split("\0")
        if name
    ]


def main(folder: Path) -> int:
    """Look at what was built, print, and return the exit status."""
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, packed = settings["project"], settings["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    with zipfile.ZipFile(wheel) as opened:
        wrong = judge_wheel(opened.namelist(), list_tracked())
        metadata = next(name for name in opened.namelist() if name.endswith(".dist-info/METADATA"))
        wrong += judge_description(opened.read(metadata).decode())
    with tarfile.open(sdist) as archive:
        names = [member.name for member in archive.getmembers() if member.isfile()]
    wrong += judge_sdist(names, list_tracked("pyproject.toml", ".gitignore", *packed))
    wrong += judge_metadata(project, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    said = f"{wheel.name} and {sdist.name} looked at"
    if (tag := last_tag()) is None:
        said += "; there is no tag yet, so no names to compare with"
    else:
        old = griffe.load_git(PACKAGE, ref=tag, repo=ROOT, search_paths=["src"])
        new = griffe.load(PACKAGE, search_paths=[ROOT / "src"])
        assert isinstance(old, griffe.Module)
        assert isinstance(new, griffe.Module)
        wrong += judge_names(old, new, tag, project["version"])
        said += f"; names compared with {tag}"
    print(*wrong, f"{said}, {len(wrong)} to mend", sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
