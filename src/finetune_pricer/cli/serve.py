"""`finetune-pricer serve`."""

from __future__ import annotations

from pathlib import Path

import click

from .._durations import parse_duration
from .command import Command


@click.command(cls=Command, with_json=False)
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
@click.option(
    "--name",
    "names",
    multiple=True,
    help="Another name of this machine, for clients without a key.",
)
@click.option(
    "--base",
    "bases",
    multiple=True,
    metavar="NAME=MODEL",
    help="Offer an open language model: a folder, a GGUF file or a Hub id with @REVISION, perhaps with "
    "options such as ,rank=8 behind it. Needs the extra lora.",
)
@click.option("--limit", help="Stop by itself after this time, such as 4h.")
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    metavar="NAME=BASE:ADAPTER",
    help="Offer a model that was trained elsewhere on a declared base: a folder, or a Hub id with @REVISION.",
)
@click.option("--faults", "preset", help="Rehearse a kind of bad day, such as flaky or wind_down.")
def serve(
    *,
    host: str,
    port: int,
    folder: Path | None,
    key: str | None,
    cores: int | None,
    strict: bool,
    names: tuple[str, ...],
    bases: tuple[str, ...],
    limit: str | None,
    adapters: tuple[str, ...],
    preset: str | None,
) -> None:
    """Run the local fine-tuning server as a process of its own, until Ctrl-C."""
    # The server's own packages are an extra, and take a while to import.
    from .. import local

    declared = dict(map(read_base, bases))
    trained = dict(_read_pair(each, "--adapter", "NAME=BASE:ADAPTER") for each in adapters)
    faults = local.Faults.preset(preset) if preset else None
    local.serve(
        host=host,
        port=port,
        dir=folder,
        key=key,
        cores=cores,
        strict=strict,
        faults=faults,
        bases=declared,
        adapters=trained,
        names=names,
        limit=None if limit is None else parse_duration("--limit", limit),
    )


def read_base(text: str) -> tuple[str, str]:
    """Return the name of a base and what it is, as `--base` says both."""
    return _read_pair(text, "--base", "NAME=MODEL, such as smol=HuggingFaceTB/SmolLM2-135M-Instruct")


def _read_pair(text: str, option: str, form: str) -> tuple[str, str]:
    name, equals, model = text.partition("=")
    if not (name and equals and model):
        raise click.BadParameter(f"{text!r} names no model; write {form}", param_hint=option)
    return name, model
