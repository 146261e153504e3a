"""The same road from a shell: one file for each group of commands.

```text
command      what all commands share: errors, exit codes, `--json`, and what an interruption says
options      options that several commands take: how to read a file of items, which service to ask
consent      what a command will cost, and whether it may
```

Each command is a few lines over the public names. Its file is imported when it is run: `--help` costs no more
than click does.
"""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

import click

from .._escape import escape_text
from .command import BUG, say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["cli", "main"]


class _Place(NamedTuple):
    """Where a command stands, and what a list of commands says of it."""

    file: str
    says: str


# The order is that of the road. A test holds the lines against the commands' own first sentences.
_COMMANDS = {
    "demo": _Place("demo", "Walk the whole road once on the local server: no key, no network, no cost."),
    "train": _Place("train", "Learn prices from a file of products, and keep the pricer in a folder."),
    "price": _Place("price", "Price the products of a file that have no price."),
    "evaluate": _Place("evaluate", "Find out how wrong a pricer is on products whose price is known."),
    "compare": _Place("compare", "Find out whether one of several evaluations is better."),
    "audit": _Place("audit", "Look for what spoils training: duplicates, leaks, prices in texts."),
    "check": _Place("check", "Find everything that is wrong with a training file."),
    "estimate": _Place("estimate", "Work out what a job costs, and what asking its model costs."),
    "jobs": _Place("jobs", "List, show, watch and cancel the fine-tuning jobs of a service."),
    "sweep": _Place("sweep", "Train and evaluate every combination of settings, under one budget."),
    "export": _Place("export", "Take a trained adapter elsewhere, alone or with a program for bulk prices."),
    "serve": _Place("serve", "Run the local fine-tuning server as a process of its own, until Ctrl-C."),
    "launch": _Place("launch", "Start the server on a rented machine, in a container or as a process."),
    "providers": _Place("providers", "Show what is known of the services, or of one of them."),
    "doctor": _Place("doctor", "Look at what is set up here: keys, extras, and what will stop working."),
}


class _LateGroup(click.Group):
    """Imports a command's file when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if (place := _COMMANDS.get(cmd_name)) is None:
            return None
        found: click.Command = getattr(import_module(f"{__name__}.{place.file}"), cmd_name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.says) for name, place in _COMMANDS.items()])


@click.group(cls=_LateGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="finetune-pricer")
@click.option("-v", "--verbose", is_flag=True, help="Say on stderr also what was found out on the way.")
@click.pass_context
def cli(ctx: click.Context, *, verbose: bool) -> None:
    """Fine-tune a language model that prices products, and find out how wrong it is.

    Results go to stdout, all else to stderr; with --json a command writes one JSON object. Exit status:
    0 done, 1 what was looked at is bad, 2 wrong usage, 3 input refused, 4 the service refuses or is away,
    5 over the budget or not agreed to, 6 a key or an extra is missing.
    """
    ctx.call_on_close(_show_log(logging.INFO if verbose else logging.WARNING))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process."""
    warnings.showwarning = _show_warning
    try:
        cli(arguments)
    except Exception:  # noqa: BLE001 - a fault of ours must not end like a finding
        traceback.print_exc()
        sys.exit(BUG)


class _SayOnce(logging.Handler):
    """Says what is logged, and what is logged again not again."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._said = set[str]()

    def emit(self, record: logging.LogRecord) -> None:
        if (text := self.format(record)) not in self._said:
            self._said.add(text)
            say(text)


def _show_log(least: int) -> Callable[[], None]:
    log, handler = logging.getLogger("finetune_pricer"), _SayOnce(least)
    level = log.level
    log.addHandler(handler)
    log.setLevel(least)

    def undo() -> None:
        log.removeHandler(handler)
        log.setLevel(level)

    return undo


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    say(f"Warning: {escape_text(str(message))}")
