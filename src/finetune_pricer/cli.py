"""The same road from a shell."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import click

from .errors import PricerError

_PLAIN = {"ignore_unknown_options": True, "allow_extra_args": True}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="finetune-pricer")
def cli() -> None:
    """Fine-tune a language model that prices products, and find out how wrong it is."""


@cli.command(context_settings=_PLAIN, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def demo(arguments: tuple[str, ...]) -> None:
    """Walk the whole road once on the local server: no key, no network, no cost.

    Runs the first example; `finetune-pricer demo --help` lists its options.
    """
    runpy.run_path(str(_first_example()))["main"](arguments)


def _first_example() -> Path:
    installed = Path(__file__).with_name("_first_job.py")
    return installed if installed.exists() else Path(__file__).parents[2] / "examples" / "01_first_job.py"


@cli.command()
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Any but a loopback address needs --key."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one."
)
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path, file_okay=False), help="Keeps files, jobs and models."
)
@click.option("--key", envvar="FINETUNE_PRICER_SERVER_KEY", help="What clients must send; none by default.")
@click.option("--cores", type=click.IntRange(min=1), help="Jobs that train at once; one per core by default.")
@click.option("--strict", is_flag=True, help="Refuse unknown parameters instead of ignoring them.")
@click.option("--faults", "preset", help="Rehearse a kind of bad day, such as flaky or wind_down.")
def serve(
    *,
    host: str,
    port: int,
    folder: Path | None,
    key: str | None,
    cores: int | None,
    strict: bool,
    preset: str | None,
) -> None:
    """Run the local fine-tuning server as a process of its own, until Ctrl-C."""
    from .local import Faults
    from .local import serve as run

    faults = Faults.preset(preset) if preset else None
    run(host=host, port=port, dir=folder, key=key, cores=cores, strict=strict, faults=faults)


def main() -> None:
    """Run the command line; an error of ours is said in one line and ends with status 1."""
    try:
        cli()
    except PricerError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
