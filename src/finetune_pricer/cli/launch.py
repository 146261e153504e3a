"""`finetune-pricer launch`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .._durations import format_duration
from ..machines import LaunchedServer, LaunchPlan, plan_launch
from ..machines import launch as start_server
from .command import Answer, Command, note_way_on, say
from .consent import require_consent
from .options import FOLDER, spending_options
from .serve import read_base

if TYPE_CHECKING:
    from pathlib import Path

_TARGETS = ("hf-jobs", "docker", "process")


@click.command(cls=Command)
@click.option("--on", type=click.Choice(_TARGETS), required=True, help="Where it runs.")
@click.option("--name", default="pricer", show_default=True, help="By which it is found again.")
@click.option("--gpu", help="Such as l4, a100, or a machine of HF Jobs such as l4x4; none by default.")
@click.option(
    "--base",
    "bases",
    multiple=True,
    metavar="NAME=MODEL",
    help="Offer an open language model there, as `serve --base` does.",
)
@click.option("--limit", default="4h", show_default=True, help="After which it ends by itself.")
@click.option("--dir", "folder", type=FOLDER, help="For process: the server's folder.")
@click.option(
    "--volume", help="For docker: the volume, or the folder of this machine, that keeps its folder."
)
@click.option("--bucket", help="For hf-jobs: the bucket that keeps its folder, such as me/pricer.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Of this machine; a free one by default."
)
@click.option("--package", help="What is installed there, as pip takes it; this version by default.")
@click.option("--wait", default="15m", show_default=True, help="How long it may take to be ready.")
@click.option("--keep", is_flag=True, help="Leave it running when it is not ready in time.")
@click.option("--dry-run", is_flag=True, help="Show what would start and what it costs, and start nothing.")
@click.option("--write", "target", type=FOLDER, help="Write files that start it by hand, and start nothing.")
@click.option("--stop", is_flag=True, help="End the server of that name, and with it the bill.")
@spending_options
def launch(
    *,
    on: str,
    name: str,
    bases: tuple[str, ...],
    folder: Path | None,
    dry_run: bool,
    target: Path | None,
    stop: bool,
    wait: str,
    keep: bool,
    yes: bool,
    budget: float | None,
    **given: Any,
) -> Answer:
    """Start the server on a rented machine, in a container or as a process.

    The same server, with the same commands: hand its address to --base-url. It outlives this command, and
    ends by itself after --limit. Started twice, it is started once; one that has ended goes on in its old
    folder.
    """
    if stop:
        return _stop(on, name)
    settings: dict[str, Any] = {**given, "name": name, "dir": folder, "bases": dict(map(read_base, bases))}
    plan = plan_launch(on, **settings)
    if dry_run or target is not None:
        return _show(plan, target, budget)
    if (server := LaunchedServer.find(on, name=name)) is None:
        say(str(plan))
        require_consent(
            {f"{format_duration(plan.limit)} of {plan.machine or on}": plan.cost}, yes=yes, budget=budget
        )
    else:
        say(f"{name} runs already")
    note_way_on(f"`finetune-pricer launch --on {on} --name {name} --stop` ends what may have been started.")
    server = start_server(on, **settings, budget=budget, wait=wait, keep=keep)
    return _describe(server)


def _stop(on: str, name: str) -> Answer:
    server = LaunchedServer.find(on, name=name)
    if server is not None:
        server.stop()
    said = (
        f"no server {name} runs on {on}" if server is None else f"{name} on {on} is stopped; its folder stays"
    )
    return Answer(said, {"on": on, "name": name, "stopped": server is not None})


def _show(plan: LaunchPlan, folder: Path | None, budget: float | None) -> Answer:
    plan.require_budget(budget)
    say(str(plan))
    written = () if folder is None else plan.write(folder)
    content = {
        "on": plan.on,
        "name": plan.name,
        "machine": plan.machine,
        "per_hour": plan.per_hour,
        "cost": plan.cost,
        "limit": plan.limit,
        "place": plan.place,
        "script": plan.script,
        "written": list(map(str, written)),
    }
    return Answer("\n".join(map(str, written)) if written else plan.script.rstrip(), content)


def _describe(server: LaunchedServer) -> Answer:
    lines = [
        f"{server.name} on {server.on} answers at {server.url}",
        f'its key: export FINETUNE_PRICER_SERVER_KEY="$(cat {str(server.key_file)!r})"',
        f"its log: {server.log}",
        f"to end it: finetune-pricer launch --on {server.on} --name {server.name} --stop",
    ]
    content = {
        "on": server.on,
        "name": server.name,
        "id": server.id,
        "url": server.url,
        "key_file": str(server.key_file),
        "log": server.log,
    }
    return Answer("\n".join(lines), content)
