"""A container of this machine, by the `docker` command; the folder is in a volume, which outlives it."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import NotConfigured, ServiceUnavailable
from .loopback_port import HOST, choose_port
from .target import KEY_VARIABLE, MOUNT, PORT, Instance, Machine

if TYPE_CHECKING:
    from .launch_plan import LaunchPlan
    from .server_record import ServerRecord

_PREFIX = "finetune-pricer"
_SETTINGS = "finetune-pricer-settings"
_PATIENCE = 120.0  # seconds for a command
_PULLING = 1_800.0  # seconds for the one that may download an image of some hundred megabytes
_STOPPING = 30  # seconds in which a server closes what is open
# One field a line, and not all of it: the container's environment holds the key.
_FIELDS = "{{.Id}}\n{{json .State.Running}}\n{{json .Config.Labels}}\n{{json .NetworkSettings.Ports}}"
_MOST_LINES = 2_000  # of a log that is kept


class Docker:
    """Runs the server in a container."""

    keeps = "volume"
    longest_pause = 1.0

    def find_machine(self, gpu: str | None) -> Machine:
        """Return this machine; it costs nothing more."""
        note = "docker gives the container all GPUs of this machine; gpu= chooses none of them" if gpu else ""
        return Machine("all GPUs" if gpu else "", 0.0, note)

    def find_place(self, name: str, given: str | None) -> str:
        """Return the name of a volume, or a folder of this machine."""
        if given and ("/" in given or "\\" in given):
            return str(Path(given).expanduser().absolute())
        return given or f"{_PREFIX}-{name}"

    def find(self, name: str, record: ServerRecord) -> Instance | None:  # noqa: ARG002  docker knows them
        """Return the container of that name, if it runs."""
        found = _inspect(name)
        return found[1] if found is not None and found[0] else None

    def start(self, plan: LaunchPlan, key: str, record: ServerRecord) -> Instance:
        """Start a container; one that has ended is removed first, its log kept.

        Raises:
            ServiceUnavailable: Docker refuses; or another has started one of that name meanwhile, and it
                has ended already.
        """
        port = choose_port(plan.port, record.read().get("port"))
        if _inspect(plan.name) is not None:
            _keep_log(plan.name, record)
            _run_docker("rm", "--force", _container_of(plan.name))
        try:
            _run_docker(*_start_arguments(plan, port), key=key, patience=_PULLING)
        except ServiceUnavailable:
            # Docker gives a name once: somebody else's container may have it since the question above.
            if (found := self.find(plan.name, record)) is not None:
                return found
            raise
        if (found := self.find(plan.name, record)) is None:
            raise ServiceUnavailable(f"the container {_container_of(plan.name)} ended as soon as it ran")
        record.write({"id": found.id, "port": port, "settings": plan.settings})
        return replace(found, is_new=True)

    def stop(self, name: str, record: ServerRecord) -> None:
        """Stop the container, keep its log, and remove it; the volume stays."""
        if _inspect(name) is None:
            return
        _run_docker("stop", "-t", str(_STOPPING), _container_of(name))
        _keep_log(name, record)
        _run_docker("rm", "--force", _container_of(name))

    def explain_end(self, instance: Instance, record: ServerRecord) -> str:
        """Return where its log is."""
        return f"its log is in {str(record.log)!r}, or in `{instance.log}`"


def _container_of(name: str) -> str:
    return f"{_PREFIX}-{name}"


def _start_arguments(plan: LaunchPlan, port: int) -> list[str]:
    return [
        *("run", "--detach", "--init", "--name", _container_of(plan.name)),
        *("--label", f"{_PREFIX}={plan.name}", "--label", f"{_SETTINGS}={plan.settings}"),
        # The name alone: docker takes the value from its own environment, which others cannot read.
        *("--env", KEY_VARIABLE),
        *("--publish", f"{HOST}:{port}:{PORT}", "--volume", f"{plan.place}:{MOUNT}"),
        *(("--gpus", "all") if plan.gpu else ()),
        plan.image,
        *plan.container_command(),
    ]


def _inspect(name: str) -> tuple[bool, Instance] | None:
    """Return whether a container runs, and what it is; None where there is none of that name."""
    answer = _ask_docker("container", "inspect", "--format", _FIELDS, _container_of(name))
    if answer.returncode:
        if "no such" in answer.stderr.lower():
            return None
        raise _refuse("container inspect", answer)
    try:
        identity, running, labels, ports = answer.stdout.strip().splitlines()
        labels, bound = json.loads(labels), json.loads(ports) or {}
        port = next(iter(bound.get(f"{PORT}/tcp") or [{}])).get("HostPort")
        settings = str((labels or {}).get(_SETTINGS))
    except (ValueError, AttributeError) as error:
        raise ServiceUnavailable(f"docker describes {_container_of(name)} in an unknown way") from error
    return running == "true", Instance(
        id=identity,
        url=f"http://{HOST}:{port}/v1",
        settings=settings,
        log=f"docker logs {_container_of(name)}",
    )


def _keep_log(name: str, record: ServerRecord) -> None:
    answer = _ask_docker("logs", "--tail", str(_MOST_LINES), _container_of(name))
    record.keep_log(answer.stdout + answer.stderr)


def _run_docker(*arguments: str, key: str | None = None, patience: float = _PATIENCE) -> None:
    answer = _ask_docker(*arguments, key=key, patience=patience)
    if answer.returncode:
        raise _refuse(arguments[0], answer)


def _ask_docker(
    *arguments: str, key: str | None = None, patience: float = _PATIENCE
) -> subprocess.CompletedProcess[str]:
    environment: dict[str, Any] = os.environ | ({} if key is None else {KEY_VARIABLE: key})
    try:
        return subprocess.run(  # noqa: S603  arguments are passed as they are, by no shell
            ["docker", *arguments],  # noqa: S607  whichever docker the user has
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="replace",
            env=environment,
            stdin=subprocess.DEVNULL,
            timeout=patience,
        )
    except FileNotFoundError:
        raise NotConfigured(
            "there is no docker command here; install Docker, or start the server by on='process'"
        ) from None
    except subprocess.TimeoutExpired:
        raise ServiceUnavailable(f"docker {arguments[0]} has not answered for {patience:g} seconds") from None
    except OSError as error:
        raise NotConfigured(f"cannot run docker: {error.strerror or error}") from error


def _refuse(command: str, answer: subprocess.CompletedProcess[str]) -> ServiceUnavailable:
    lines = [line.strip() for line in answer.stderr.splitlines() if line.strip()]
    return ServiceUnavailable(f"docker {command} failed: {lines[0] if lines else 'it does not say why'}")
