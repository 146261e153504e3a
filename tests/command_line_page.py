"""Writes the help of every command into its page: `python tests/command_line_page.py`, after a change."""

import re
from collections.abc import Iterator
from pathlib import Path

import click

from finetune_pricer.cli import cli

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "command-line.md"
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


def help_of(name: str, command: click.Command) -> str:
    """What `--help` prints, as wide as the page's column."""
    names = ["-h", "--help"]
    with click.Context(
        command, info_name=name, terminal_width=78, max_content_width=78, help_option_names=names
    ) as context:
        return command.get_help(context)


def render(page: str) -> str:
    """The page with the help as it is now."""
    parts = [BEGIN]
    for name, command in commands():
        parts.append(f"## {name}\n\n```text\n{help_of(name, command)}\n```")
    written = "\n\n".join([*parts, END])
    return re.sub(f"{BEGIN}.*{END}", lambda _: written, page, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
