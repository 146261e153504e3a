"""`finetune-pricer demo`."""

from __future__ import annotations

import runpy
from pathlib import Path

import click

_PLAIN = {"ignore_unknown_options": True, "allow_extra_args": True}


@click.command(context_settings=_PLAIN, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def demo(arguments: tuple[str, ...]) -> None:
    """Walk the whole road once on the local server: no key, no network, no cost.

    Runs the first example; `finetune-pricer demo --help` lists its options.
    """
    runpy.run_path(str(_first_example()))["main"](arguments)


def _first_example() -> Path:
    # The wheel carries the example beside the package's files; a checkout has it in its own folder.
    here = Path(__file__)
    installed = here.parents[1] / "_first_job.py"
    return installed if installed.exists() else here.parents[3] / "examples" / "01_first_job.py"
