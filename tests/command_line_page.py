"""Writes the help of every command into its page: `python tests/command_line_page.py`, after a change."""

import re
from collections.abc import Iterator
from pathlib import Path

import click

from finetune_pricer.cli import cli

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
PAGE = FOLDER / "command-line.md"
ON_FILES = FOLDER / "commands-on-files.md"
PAGES = (PAGE, ON_FILES)
# What takes a file of products, of training lines or of results; all else stands on the first page.
_WORDS_ON_FILES = {"audit", "check", "compare", "estimate", "evaluate", "price", "sweep", "train"}
BEGIN, END = "<!-- help of all commands -->", "<!-- end of the help -->"


def commands(group: click.Group = cli, name: str = "finetune-pricer") -> Iterator[tuple[str, click.Command]]:
    """Every command with its whole name, groups before their commands."""
    yield name, group
    context = click.Context(group, info_name=name)
    for word in group.list_commands(context):
        command = group.get_command(context, word)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command


def page_of(name: str) -> Path:
    """The page that the command with this whole name stands on."""
    return ON_FILES if name.split()[1:2] and name.split()[1] in _WORDS_ON_FILES else PAGE


def help_of(name: str, command: click.Command) -> str:
    """What `--help` prints, as wide as the page's column."""
    names = ["-h", "--help"]
    with click.Context(
        command, info_name=name, terminal_width=78, max_content_width=78, help_option_names=names
    ) as context:
        return command.get_help(context)


def render(path: Path) -> str:
    """The page with the help as it is now."""
    parts = [BEGIN]
    for name, command in commands():
        if page_of(name) == path:
            parts.append(f"## {name}\n\n```text\n{help_of(name, command)}\n```")
    written = "\n\n".join([*parts, END])
    return re.sub(f"{BEGIN}.*{END}", lambda _: written, path.read_text(encoding="utf-8"), flags=re.DOTALL)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(render(page), encoding="utf-8")
