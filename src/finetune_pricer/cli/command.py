"""What all commands share: one place where errors become words and exit codes, and answers become output.

A command's function returns an `Answer`, and this file writes it: its text for people, or with `--json` one
object for programs. Nothing else is written to stdout; what happens meanwhile is said on stderr.

```text
0    done
1    done, and what was looked at is bad: a file with errors, items that leak, a job that failed
2    wrong usage: an option or argument is missing, unknown or of the wrong kind
3    the input is refused: a file, a row, a number, a saved pricer; or what would be replaced is there already
4    the service refuses, does not answer, or the model is shut down
5    it would cost more than the budget, or nobody has agreed to the cost
6    something is not set up here: a key, an extra, what a service cannot do
70   a fault of ours
130  interrupted
```
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from .._numbers import to_plain
from ..errors import (
    InvalidRows,
    JobError,
    JobTimeout,
    MissingExtra,
    ModelRetired,
    NotConfigured,
    NotSupported,
    OverBudget,
    PricerError,
    ServiceError,
)

if TYPE_CHECKING:
    from typing import NoReturn

BAD, USAGE, INPUT, SERVICE, MONEY, SETUP, BUG, INTERRUPTED = 1, 2, 3, 4, 5, 6, 70, 130

# The first that fits counts.
_CODES: tuple[tuple[type[PricerError], int], ...] = (
    (OverBudget, MONEY),
    (JobTimeout, SERVICE),
    (JobError, BAD),
    (ServiceError, SERVICE),
    (ModelRetired, SERVICE),
    (NotConfigured, SETUP),
    (MissingExtra, SETUP),
    (NotSupported, SETUP),
    (PricerError, INPUT),
)
_GOES_ON = "finetune_pricer.goes_on"
_JSON = "as_json"


class Answer(NamedTuple):
    """What a command has found."""

    text: str
    """For people; nothing is written where it is empty."""
    content: Mapping[str, Any]
    """For programs."""
    code: int = 0
    """The exit code: 0, or `BAD`."""


class NotAgreed(click.ClickException):
    """Something costs money, and nobody has agreed to it; nothing was bought."""

    exit_code = MONEY

    def show(self, file: Any = None) -> None:  # noqa: ARG002 - click's signature
        """Say it in one line."""
        say_error(self.format_message())


class Command(click.Command):
    """A command that has `--json`, whose errors are a line and an exit code."""

    def __init__(self, *arguments: Any, with_json: bool = True, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        if with_json:
            said = "Write one JSON object to stdout, and nothing else there."
            self.params.append(click.Option([f"--{_JSON[3:]}", _JSON], is_flag=True, help=said))

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Read the arguments; also of a wrong usage a program gets its object."""
        wants_json = "--json" in args
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            if wants_json:
                _write_problem(type(error).__name__, error.format_message(), error.exit_code)
            raise

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments, of which some options take several."""
        return super().parse_args(ctx, spread(args))

    def invoke(self, ctx: click.Context) -> None:
        """Run the command, write its answer, and end with its exit code."""
        as_json = bool(ctx.params.pop(_JSON, False))
        try:
            answer = super().invoke(ctx)
        except PricerError as error:
            _end_with_error(ctx, error, as_json=as_json)
        except click.ClickException as error:
            if as_json:
                _write_problem(type(error).__name__, error.format_message(), error.exit_code)
            raise
        except KeyboardInterrupt:
            say(f"\nInterrupted. {ctx.meta.get(_GOES_ON, 'Nothing was changed.')}")
            ctx.exit(INTERRUPTED)
        if answer is None:
            return
        if as_json:
            write_json(answer.content)
        elif answer.text:
            click.echo(answer.text)
        ctx.exit(answer.code)


def spread(arguments: list[str]) -> list[str]:
    """Return arguments in which `--columns` stands before each of its values: it may take several.

    Examples:
        >>> spread(["a.csv", "--columns", "Name=title", "Price=price", "--out", "pricer"])
        ['a.csv', '--columns', 'Name=title', '--columns', 'Price=price', '--out', 'pricer']
    """
    wide, before, in_columns = list[str](), "", False
    for number, argument in enumerate(arguments):
        if argument == "--":
            return [*wide, *arguments[number:]]
        follows = in_columns and "=" in argument and not argument.startswith("-")
        if follows and before != "--columns":
            wide.append("--columns")
        in_columns = follows or argument == "--columns" or argument.startswith("--columns=")
        wide.append(argument)
        before = argument
    return wide


def say(text: str) -> None:
    """Say on stderr what is going on."""
    click.echo(text, err=True)


def say_error(text: str) -> None:
    """Say on stderr what is wrong."""
    click.echo(f"{paint('Error:', fg='red', bold=True)} {text}", err=True)


def paint(text: str, **style: Any) -> str:
    """Return a text in colour, but for `NO_COLOR`; click takes it out where there is no terminal."""
    return text if os.environ.get("NO_COLOR") else click.style(text, **style)


def note_way_on(text: str) -> None:
    """Note what is said when somebody interrupts the command from now on."""
    click.get_current_context().meta[_GOES_ON] = text


def code_of(error: PricerError) -> int:
    """Return the exit code of an error."""
    return next(code for kind, code in _CODES if isinstance(error, kind))


def write_json(content: Mapping[str, Any]) -> None:
    """Write one object to stdout, in ASCII: no terminal's encoding stands in its way."""
    click.echo(json.dumps(plain(content), indent=2, allow_nan=False))


def plain(value: Any) -> Any:
    """Return what JSON can hold: fields of dataclasses by name, no NaN and no infinity."""
    if value is None or isinstance(value, str | bool):
        return str(value) if isinstance(value, str) else value
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, date):
        return value.isoformat()
    number = to_plain(value)
    if isinstance(number, int | float):
        return number if math.isfinite(number) else None
    return [plain(each) for each in value] if isinstance(value, Iterable) else str(value)


def _end_with_error(ctx: click.Context, error: PricerError, *, as_json: bool) -> NoReturn:
    code = code_of(error)
    say_error(str(error))
    if as_json:
        problems = [str(each) for each in error.problems] if isinstance(error, InvalidRows) else None
        _write_problem(type(error).__name__, str(error), code, problems)
    ctx.exit(code)


def _write_problem(kind: str, message: str, code: int, problems: list[str] | None = None) -> None:
    told = {"kind": kind, "message": message, "exit_code": code}
    write_json({"error": told if problems is None else {**told, "problems": problems}})
