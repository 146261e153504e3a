"""Options that several commands take: how to read a file of items, and which service to ask."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from .._environment import read_settings
from .._files import replacing
from ..errors import DataError, InvalidRows
from ..items import ItemDataset
from ..items.item import ITEM_FIELDS
from ..providers import connect
from .command import Answer, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from openai import OpenAI

    Run = Callable[..., Answer]

_SHOWN = 3  # rows that could not be read
_KEY = "FINETUNE_PRICER_SERVER_KEY"
_READING = "reading.json"
_PIECE = 1 << 20  # characters that are read at a time
FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


def _read_columns(
    ctx: click.Context,  # noqa: ARG001 - click's signature
    param: click.Parameter,  # noqa: ARG001
    values: tuple[str, ...],
) -> dict[str, str]:
    columns = {}
    for value in values:
        theirs, _, ours = value.rpartition("=")
        if not theirs or ours not in ITEM_FIELDS:
            raise click.BadParameter(
                f"{value!r} is not THEIRS=OURS, such as Name=title; ours is one of {', '.join(ITEM_FIELDS)}"
            )
        columns[theirs] = ours
    return columns


def read_list(kind: Callable[[str], Any]) -> Callable[..., tuple[Any, ...] | None]:
    """Return the callback of an option that takes several values with commas between them."""

    def read(
        ctx: click.Context,  # noqa: ARG001 - click's signature
        param: click.Parameter,  # noqa: ARG001
        value: str | None,
    ) -> tuple[Any, ...] | None:
        try:
            return None if value is None else tuple(kind(part.strip()) for part in value.split(","))
        except ValueError:
            raise click.BadParameter(f"{value!r} is not a list such as 100,300") from None

    return read


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a file of items is read: what `ItemDataset.from_file` takes; None is what it does by itself."""

    columns: dict[str, str] = field(default_factory=dict)
    currency: str | None = None
    decimal: Literal[".", ","] | None = None
    delimiter: str | None = None
    encoding: str | None = None
    html: Literal["strip", "keep"] | None = None
    zero_is: Literal["unknown", "price"] | None = None
    strict: bool = False

    def read(self, path: Path) -> ItemDataset:
        """Read a file, priced or not; say which rows could not be items."""
        items = ItemDataset.from_file(
            path,
            columns=self.columns or None,
            priced=False,
            currency=self.currency,
            decimal=self.decimal,
            delimiter=self.delimiter,
            encoding=self.encoding,
            html=self.html or "strip",
            zero_is=self.zero_is or "unknown",
            on_error="raise" if self.strict else "skip",
        )
        rows = {problem.row: problem for problem in items.skipped}
        for problem in [*rows.values()][:_SHOWN]:
            say(f"  left out: {problem}")
        if len(rows) > _SHOWN:
            say(f"  ... and {len(rows) - _SHOWN:,} more rows; --strict refuses such a file")
        if any(problem.reason.startswith("the price is in ") for problem in items.skipped):
            say(f"  prices are read in {items.currency}; another currency is named so: --currency EUR")
        if rows and not items:
            raise DataError(f"no row of {str(path)!r} can be an item")
        return items

    def read_known(self, path: Path) -> ItemDataset:
        """Read the products of a file whose price is known; say how many are left out."""
        items = self.read(path)
        known = items.filter(lambda item: item.price is not None)
        if len(known) < len(items):
            say(f"{len(items) - len(known):,} products of {str(path)!r} have no price, and are left out")
        return known

    def read_new(self, path: Path) -> ItemDataset:
        """Read a file that may have no column of prices, although one is named."""
        try:
            return self.read(path)
        except InvalidRows as error:
            others = {theirs: ours for theirs, ours in self.columns.items() if ours != "price"}
            if error.problems or others == self.columns:  # a row's problem, not a column's
                raise
            return replace(self, columns=others).read(path)

    def save(self, folder: Path) -> None:
        """Keep it beside a pricer, so that further files are read the same way."""
        with replacing(folder / _READING) as file:
            file.write(json.dumps(asdict(self), indent=2).encode())

    @classmethod
    def load(cls, folder: Path) -> Reading:
        """Return what `save` kept; nothing said where nothing was kept."""
        path = folder / _READING
        if not path.exists():
            return cls()
        try:
            return cls(**json.loads(path.read_bytes()))
        except (ValueError, TypeError) as error:
            raise DataError(
                f"{str(path)!r} is damaged: {error}; remove it, and name --columns again"
            ) from None

    def over(self, other: Reading, path: Path) -> Reading:
        """Return this, with what another says, which was of another file, where this says nothing.

        A file in UTF-8 is read as that, whatever encoding the other one had.
        """
        said = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        taken = replace(other, **{name: value for name, value in said.items() if value})
        return replace(taken, encoding=None) if self.encoding is None and _is_utf8(path) else taken


def _is_utf8(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            while file.read(_PIECE):
                pass
    except (OSError, UnicodeDecodeError):
        return False
    return True


_READING_OPTIONS = (
    click.option(
        "--columns",
        callback=_read_columns,
        multiple=True,
        metavar="THEIRS=OURS...",
        help="Which column is which: title, category, summary, full, price, weight or id.",
    ),
    click.option("--currency", help="Of the prices, such as EUR; what the file says, else USD."),
    click.option("--decimal", type=click.Choice([".", ","]), help="What stands before the cents; found out."),
    click.option("--delimiter", help="What stands between cells of a CSV; found out."),
    click.option("--encoding", help="Of a text file, such as cp1252; found out."),
    click.option(
        "--html",
        type=click.Choice(["strip", "keep"]),
        help="Whether HTML in texts is taken out; strip by default.",
    ),
    click.option(
        "--zero-is",
        type=click.Choice(["unknown", "price"]),
        help="What a price of 0 means; unknown by default.",
    ),
    click.option(
        "--strict", is_flag=True, help="Refuse a file of which a row cannot be read, and leave none out."
    ),
)


def reading_options(run: Run) -> Run:
    """Add the options that say how a file of items is read; the command gets a `Reading`."""

    @functools.wraps(run)
    def run_with_reading(**given: Any) -> Answer:
        settings = {entry.name: given.pop(entry.name) for entry in fields(Reading)}
        return run(reading=Reading(**settings), **given)

    return _add(run_with_reading, _READING_OPTIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Which service is asked."""

    provider: str | None = None
    base_url: str | None = None
    folder: Path | None = None

    @property
    def is_local(self) -> bool:
        """Whether it is the local server of this process."""
        return self.base_url is None and self.provider == "local"

    def at(self, folder: Path) -> Service:
        """Return the local server whose folder that is."""
        return replace(self, provider="local", folder=folder)

    def connect(self) -> OpenAI:
        """Return a client."""
        if self.base_url is None:
            return connect(self.provider, dir=self.folder)
        from openai import OpenAI

        return OpenAI(base_url=self.base_url, api_key=read_settings().get(_KEY) or "none")


_SERVICE_OPTIONS = (
    click.option(
        "--provider", help="openai, azure, nebius, crusoe or local; else the one that is configured."
    ),
    click.option(
        "--base-url",
        help=f"Any service of this protocol, such as `finetune-pricer serve`; its key is {_KEY}.",
    ),
    click.option(
        "--dir", "folder", type=FOLDER, help="Of the local server: the folder that keeps its jobs and models."
    ),
)


def service_options(run: Run) -> Run:
    """Add the options that say which service is asked; the command gets a `Service`."""

    @functools.wraps(run)
    def run_with_service(
        *, provider: str | None, base_url: str | None, folder: Path | None, **given: Any
    ) -> Answer:
        if base_url is not None and provider is not None:
            raise click.UsageError("--base-url and --provider name two services; give one")
        if provider == "local" and folder is None:
            raise click.UsageError(
                "--provider local needs --dir, the folder of its jobs and models; of a server that runs, "
                "give --base-url"
            )
        service = Service(provider=provider, base_url=base_url, folder=folder)
        return run(service=service, **given)

    return _add(run_with_service, _SERVICE_OPTIONS)


def spending_options(run: Run) -> Run:
    """Add `--yes` and `--budget`."""
    return _add(
        run,
        (
            click.option("--yes", is_flag=True, help="Agree to what it costs, without being asked."),
            click.option(
                "--budget", type=click.FloatRange(min=0), help="Dollars that it may cost, all in all."
            ),
        ),
    )


def _add(run: Run, options: tuple[Callable[[Run], Run], ...]) -> Run:
    for option in reversed(options):
        run = option(run)
    return run
