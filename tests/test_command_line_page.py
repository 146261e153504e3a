"""The pages on the command line hold the help of every command, as it is."""

import re
import shlex
from pathlib import Path

import click
import pytest

from command_line_page import PAGE, PAGES, commands, render
from finetune_pricer.cli import cli, command

ROOT = PAGE.parents[2]
SHELL = re.compile(r"^```(?:sh|console)\n(.*?)^```", re.DOTALL | re.MULTILINE)
TEXT = PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_page_is_in_step_with_the_commands(page: Path) -> None:
    assert render(page) == page.read_text(encoding="utf-8"), "run: python tests/command_line_page.py"


def test_every_command_stands_on_one_page() -> None:
    texts = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    found = re.findall(r"^## (finetune-pricer.*)$", texts, re.MULTILINE)
    assert sorted(found) == sorted(name for name, _ in commands())


def test_every_exit_code_is_explained_in_the_page_and_in_the_code() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)}
    here = {int(code) for code in re.findall(r"^(\d+) +\S", command.__doc__ or "", re.MULTILINE)}
    names = "BAD USAGE INPUT SERVICE MONEY SETUP BUG INTERRUPTED".split()
    assert told == here == {0, *(getattr(command, name) for name in names)}


@pytest.mark.parametrize(("name", "found"), [*commands()], ids=[name for name, _ in commands()])
def test_every_option_and_command_says_what_it_is(name: str, found: click.Command) -> None:
    assert (found.help or "")[:1].isupper(), name
    for option in found.params:
        assert isinstance(option, click.Argument) or option.help, f"{name} {option.name}"


def spell_commands() -> list[tuple[str, str]]:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [
        (page.name, line)
        for page in pages
        for block in SHELL.findall(page.read_text(encoding="utf-8"))
        for line in re.findall(r"^(?:\$ )?(finetune-pricer .*)$", block.replace("\\\n", " "), re.MULTILINE)
    ]


@pytest.mark.parametrize(("page", "line"), spell_commands())
def test_every_command_of_the_docs_is_one(page: str, line: str) -> None:
    name, *words = shlex.split(line.partition(" > ")[0], comments=True)
    command: click.Command = cli
    context = click.Context(cli, info_name=name)
    while isinstance(command, click.Group):
        found = command.get_command(context, words.pop(0))
        assert found is not None, f"{page}: {line}"
        command = found
    command.make_context(command.name, words, parent=context).close()
