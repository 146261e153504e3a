"""The same road from a shell: one file for each group of commands."""

from __future__ import annotations

import sys

import click

from ..errors import PricerError
from .demo import demo
from .serve import serve

__all__ = ["cli", "main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="finetune-pricer")
def cli() -> None:
    """Fine-tune a language model that prices products, and find out how wrong it is."""


cli.add_command(demo)
cli.add_command(serve)


def main() -> None:
    """Run the command line; an error of ours is said in one line and ends with status 1."""
    try:
        cli()
    except PricerError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
