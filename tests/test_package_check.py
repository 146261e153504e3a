"""A release is stopped by a stray or missing file, a name that is gone, and a version nothing tells of."""

import tomllib
from pathlib import Path
from typing import Any

import griffe
import pytest

import package_check
from package_check import (
    allows_breaking,
    judge_description,
    judge_metadata,
    judge_names,
    judge_sdist,
    judge_wheel,
    list_tracked,
    main,
)

ROOT = Path(__file__).parents[1]
ABOUT = [f"finetune_pricer-9.dist-info/{name}" for name in sorted(package_check.ABOUT)]
TRACKED = ["src/finetune_pricer/__init__.py", "src/finetune_pricer/py.typed", "tests/test_x.py", "README.md"]
EXAMPLES = ["finetune_pricer/_first_job.py", "finetune_pricer/_own_weights.py"]
WHOLE = ["finetune_pricer/__init__.py", "finetune_pricer/py.typed", *EXAMPLES, *ABOUT]


def test_a_wheel_that_holds_the_package_and_nothing_else_passes() -> None:
    assert judge_wheel(WHOLE, TRACKED) == []


@pytest.mark.parametrize("name", WHOLE)
def test_a_wheel_that_lacks_a_file_is_named_with_it(name: str) -> None:
    (said,) = judge_wheel([each for each in WHOLE if each != name], TRACKED)
    assert said.startswith("the wheel lacks ")
    assert said.endswith(name.rpartition("dist-info/")[2])


@pytest.mark.parametrize(
    "name", ["tests/test_x.py", "finetune_pricer/notes.txt", "finetune_pricer/.env", "other.py"]
)
def test_a_wheel_with_a_stray_file_is_named_with_it(name: str) -> None:
    assert judge_wheel([*WHOLE, name], TRACKED) == [f"the wheel should not hold {name}"]


def test_a_description_that_links_to_a_file_is_named_with_the_link() -> None:
    metadata = "Metadata-Version: 2.4\nName: x\n\n# x\n\n[a](docs/a.md) ![b](https://x.test/b.png)\n"
    assert judge_description(metadata) == ["the description links to docs/a.md, which PyPI has not"]
    assert judge_description(metadata.replace("docs/a.md", "https://x.test/a")) == []


def test_an_sdist_holds_what_git_knows_and_its_own_facts() -> None:
    names = [f"finetune_pricer-9/{name}" for name in [*TRACKED, "PKG-INFO"]]
    assert judge_sdist(names, TRACKED) == []
    assert judge_sdist(names[1:], TRACKED) == [f"the sdist lacks {TRACKED[0]}"]
    assert judge_sdist([*names, "finetune_pricer-9/.env"], TRACKED) == ["the sdist should not hold .env"]


def package(**places: str) -> griffe.Module:
    made = griffe.Module("finetune_pricer")
    for name, code in places.items():
        made.set_member(name, griffe.visit(name, Path(f"{name}.py"), f'__all__ = ["f"]\n{code}', parent=made))
    return made


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("def f(a): ...", "def g(a): ...", "f"),
        ("def f(a, b=1): ...", "def f(a): ...", "Parameter was removed"),
        ("def f(a, b=1): ...", "def f(a, b=2): ...", "default"),
        ("def f(a): ...", "def f(a, b): ...", "required"),
    ],
)
def test_a_name_that_breaks_callers_wants_a_version_that_says_so(old: str, new: str, words: str) -> None:
    before, after = package(tune=old), package(tune=new)
    (said,) = judge_names(before, after, "v0.2.0", "0.2.1")
    assert words in said
    assert judge_names(before, after, "v0.2.0", "0.3.0") == []


def test_what_only_adds_breaks_nobody_and_a_room_that_is_gone_does() -> None:
    old = package(tune="def f(a): ...")
    assert judge_names(old, package(tune="def f(a, b=1): ...", cli="def f(): ..."), "v0.2.0", "0.2.1") == []
    assert judge_names(old, package(other="def f(a): ..."), "v0.2.0", "0.2.1") == ["tune is gone"]
    old.exports = ["connect", "login"]
    new = package(tune="def f(a): ...")
    new.exports = ["connect"]
    assert judge_names(old, new, "v0.2.0", "0.2.1") == ["login is gone"]


@pytest.mark.parametrize(
    ("tag", "version", "allowed"),
    [
        ("v0.2.0", "0.2.1", False),
        ("v0.2.0", "0.3.0", True),
        ("v1.2.0", "1.3.0", False),
        ("v1.2.0", "2.0.0", True),
    ],
)
def test_the_version_says_whether_callers_may_break(tag: str, version: str, allowed: bool) -> None:
    assert allows_breaking(tag, version) is allowed


def test_the_facts_of_this_package_are_all_there() -> None:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    named = project | {"urls": dict.fromkeys(package_check.URLS, "https://shop.test")}
    assert judge_metadata(named, changelog) == []
    assert (
        judge_metadata(project | {"urls": {}}, changelog)[0]
        == "pyproject.toml names no Changelog among its URLs"
    )
    other = judge_metadata(named | {"version": "9.9.9"}, changelog)
    assert other == ["the changelog's newest heading is not 9.9.9", "CITATION.cff is not about 9.9.9"]


def test_one_word_of_make_builds_and_looks() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "tests/package_check.py build/release" in makefile
    assert callable(main)
    assert "pyproject.toml" in list_tracked()
