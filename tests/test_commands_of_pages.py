"""What pages tell people to type: commands that exist, a script for the night, and Dockerfiles."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from finetune_pricer.cli import cli
from finetune_pricer.evaluate import MedianBaseline
from finetune_pricer.local import LocalServer

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NIGHTLY, DOCKER = (ROOT / "docs" / "how-to" / name for name in ("nightly-run.md", "docker.md"))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each of our commands in a page's shell blocks, without what the shell does with it."""
    for block in [*blocks(page, "console"), *blocks(page, "sh")]:
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            for program in ("finetune-pricer", "pricer"):  # the image of the page on containers
                if program in words and (program == words[0] or words[:2] == ["docker", "run"]):
                    asked = words[words.index(program) + 1 :]
                    ends = (n for n, word in enumerate(asked) if word[:1] in {">", "|", "&"})
                    yield asked[: next(ends, None)]


def parse(words: list[str]) -> None:
    """Let click read a command, and run nothing."""
    group, context = cli.make_context("finetune-pricer", words[:]), None
    while isinstance(group.command, click.Group):
        name, command, rest = group.command.resolve_command(group, [*group._protected_args, *group.args])
        assert name is not None
        assert command is not None
        context = command.make_context(name, rest, parent=group)
        group = context


SHOWN = {page: found for page in PAGES if (found := [*commands(page)])}


@pytest.mark.parametrize("page", SHOWN, ids=lambda page: page.stem)
def test_every_command_of_a_page_can_be_typed(page: Path) -> None:
    for words in SHOWN[page]:
        if words and words != ["--help"]:
            parse(words)


def test_a_command_that_cannot_be_typed_is_found() -> None:
    assert len(SHOWN) > 5
    with pytest.raises(click.UsageError):
        parse(["price", "a.csv", "--pricers", "x"])


# The script of the night


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A folder with the page's script, a pricer, and our command on the path; today is a day of its own."""
    (tmp_path / "nightly.sh").write_text(blocks(NIGHTLY, "sh")[0], encoding="utf-8")
    MedianBaseline(19.5).save(tmp_path / "pricer")
    places = tmp_path / "bin"
    places.mkdir()
    for name, runs in {
        "finetune-pricer": f'exec {shlex.quote(sys.executable)} -m finetune_pricer "$@"',
        "date": "echo 2026-03-01",
    }.items():
        (places / name).write_text(f"#!/bin/sh\n{runs}\n", encoding="utf-8")
        (places / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    return os.environ | {"PATH": f"{places}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_the_script_of_the_night_prices_what_is_new_and_says_when_to_look(night: dict[str, str]) -> None:
    def run() -> tuple[int, str]:
        done = subprocess.run(["sh", "nightly.sh"], env=night, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout

    Path("export-2026-03-01.csv").write_text("title\nA brass lamp\n", encoding="utf-8")
    assert run() == (0, "2026-03-01: done\n")
    assert json.loads(Path("run-2026-03-01.json").read_bytes())["products"] == 1
    kept = Path("priced-2026-03-01.csv").read_bytes()

    assert run() == (3, "2026-03-01: look at run-2026-03-01.json\n")
    assert "is there already" in json.loads(Path("run-2026-03-01.json").read_bytes())["error"]["message"]
    assert Path("priced-2026-03-01.csv").read_bytes() == kept


# Containers


def joined(page: Path) -> str:
    """A page with the lines of a command as one."""
    return page.read_text(encoding="utf-8").replace("\\\n", " ")


def test_dockerfiles_name_extras_and_variables_that_exist() -> None:
    files = blocks(DOCKER, "dockerfile")
    assert len(files) == 2
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    variables = (ROOT / "docs" / "reference" / "environment.md").read_text(encoding="utf-8")
    for file in files:
        for named in re.findall(r"finetune-pricer\[([\w,]+)\]", file):
            assert set(named.split(",")) <= extras["optional-dependencies"].keys()
        for variable in re.findall(r"^ENV (\w+)=", file, re.MULTILINE):
            assert f"`{variable}`" in variables
        assert "USER pricer" in file  # nothing here needs to be root


def test_what_a_container_runs_can_be_typed() -> None:
    ran = [json.loads(found) for found in re.findall(r"^CMD (\[.*\])$", joined(DOCKER), re.MULTILINE)]
    assert [words[0] for words in ran] == ["doctor", "finetune-pricer"]
    for words in ran:
        parse([word for word in words if word != "finetune-pricer"])


def test_the_health_check_of_the_container_asks_a_server_with_a_key_without_one() -> None:
    (check,) = re.findall(r"^HEALTHCHECK CMD (.*)$", joined(DOCKER), re.MULTILINE)
    program = shlex.split(check)[-1]
    with LocalServer(key="sk-of-the-container") as server:
        asked = program.replace("http://127.0.0.1:8080", server.url.removesuffix("/v1"))
        assert asked != program
        exec(asked, {})
    with pytest.raises(OSError, match="refused"):
        exec(asked, {})
