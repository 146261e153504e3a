"""`launch`: start the server somewhere once, wait until it answers, and hand out its client."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .._arguments import (
    require_flag,
    require_mapping,
    require_number,
    require_path,
    require_text,
    require_whole,
)
from .._durations import parse_duration
from ..errors import AccessDenied, DataError, NotConfigured, PricerError, ServiceUnavailable
from .launch_plan import LaunchPlan
from .launched_server import LaunchedServer, find_target
from .server_record import ServerRecord, require_server_name
from .target import IMAGE, MOUNT

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    import httpx2

    from .target import Instance, Target

_log = logging.getLogger("finetune_pricer")
_FIRST_PAUSE = 0.05  # seconds; each further one is longer, up to what the target has
_LENGTHEN = 1.5
_PATIENCE = 10.0  # seconds for one question whether it answers
_LONGEST_LIMIT = 30 * 86_400.0  # seconds: more is a slip of the pen, and a large bill


def launch(
    on: str,
    *,
    name: str = "pricer",
    gpu: str | None = None,
    bases: Mapping[str, str] | None = None,
    limit: str | float = "4h",
    budget: float | None = None,
    dir: str | os.PathLike[str] | None = None,  # noqa: A002 - the contract's name
    volume: str | None = None,
    bucket: str | None = None,
    port: int = 0,
    key: str | None = None,
    package: str | None = None,
    image: str = IMAGE,
    wait: str | float = "15m",
    keep: bool = False,
    sleep: Callable[[float], Any] = time.sleep,
) -> LaunchedServer:
    """Start the local server on another machine, or find it there, and wait until it answers.

    Whatever works with `connect("local")` works with the client of what is returned. Asked for again, by this
    process or another, the server that runs already is given back: one for each name and target. One that has
    ended is started again in its old folder, and goes on with its jobs.

    Args:
        on: `"hf-jobs"`, a job of the Hugging Face Hub, billed by the minute; `"docker"`, a container of this
            machine; `"process"`, a process of this machine that outlives the one that started it.
        name: By which it is found again: small letters, digits and hyphens.
        gpu: Which, such as `"l4"` or `"a100"`, or one of HF Jobs' own names, such as `"l4x4"`; without one,
            the smallest machine without a GPU.
        bases: Open language models to offer, as `LocalServer(bases=...)` takes them as text.
        limit: How long it may run: `"4h"`, or seconds. It ends by itself then, whatever becomes of this
            process; a later call starts it again.
        budget: Dollars. Where all of `limit` would cost more, nothing is started.
        dir: For `"process"`: the server's folder; one in the user's state folder by default.
        volume: For `"docker"`: the volume, or the folder of this machine, in which the server's folder lies.
        bucket: For `"hf-jobs"`: the bucket in which the server's folder lies, such as `"me/pricer"`; made
            private where there is none.
        port: Of this machine; 0 takes a free one. HF Jobs gives an address of its own.
        key: What clients must send; by default one is made, and kept where only the user can read it.
        package: What is installed in a container or job, as pip takes it; this version by default.
        image: The container, which must have uv and coreutils.
        wait: How long it may take to be ready: `"15m"`, or seconds.
        keep: Whether a server that was started here and is not ready in time is left running.
        sleep: How to pause between questions.

    Raises:
        DataError: An argument is not what it should be, or a running server of the name has other settings.
        OverBudget: The limit may cost more than the budget.
        NotConfigured: There is no Hub token, or no docker here.
        AccessDenied: The Hub refuses, or the account has no credit; or a running server has another key.
        ServiceUnavailable: It is not ready in time, and was ended; or the Hub or docker does not answer.
    """
    _check_key(key)
    require_number("budget", budget, low=0, or_none=True)
    require_flag("keep", keep)
    patience = parse_duration("wait", wait)
    plan = plan_launch(
        on,
        name=name,
        gpu=gpu,
        bases=bases,
        limit=limit,
        dir=dir,
        volume=volume,
        bucket=bucket,
        port=port,
        package=package,
        image=image,
    )
    target, record = find_target(on), ServerRecord(on, name)
    with record.lock(patience):
        instance = target.find(name, record) or _start(target, plan, record, key=key, budget=budget)
        if instance.settings != plan.settings:
            raise DataError(
                f"{name!r} runs on {on} with another machine, other bases or another folder; stop it first, "
                "or give this one another name"
            )
        server = LaunchedServer(on, name, instance, key or record.read_key())
        try:
            _wait_until_ready(server, instance, target, record, patience=patience, sleep=sleep)
        except BaseException as error:
            if keep or not instance.is_new:
                raise
            ended = _end(target, server, record)
            if isinstance(error, PricerError):
                raise error.with_message(f"{error.message}; {ended}") from error
            raise
    return server


def plan_launch(
    on: str,
    *,
    name: str = "pricer",
    gpu: str | None = None,
    bases: Mapping[str, str] | None = None,
    limit: str | float = "4h",
    dir: str | os.PathLike[str] | None = None,  # noqa: A002 - the contract's name
    volume: str | None = None,
    bucket: str | None = None,
    port: int = 0,
    package: str | None = None,
    image: str = IMAGE,
) -> LaunchPlan:
    """Return what `launch` would start and what that costs; nothing is started.

    The Hub is asked for prices, and needs no token for that; where it cannot be asked, they are not known.

    Args:
        on: As in `launch`.
        name: As in `launch`.
        gpu: As in `launch`.
        bases: As in `launch`.
        limit: As in `launch`.
        dir: As in `launch`.
        volume: As in `launch`.
        bucket: As in `launch`.
        port: As in `launch`.
        package: As in `launch`.
        image: As in `launch`.

    Raises:
        DataError: An argument is not what it should be.
        AccessDenied: The Hub does not accept the token.
    """
    target = find_target(on)
    require_server_name(name)
    _check_texts(gpu=gpu, volume=volume, bucket=bucket, package=package, image=image)
    require_path("dir", dir, or_none=True)
    require_whole("port", port, low=0, high=65_535)
    models = _read_bases(bases, on)
    seconds = parse_duration("limit", limit)
    if seconds > _LONGEST_LIMIT:
        raise DataError(
            f"limit must be at most 30 days, not {limit!r}; a later call goes on in the same folder"
        )
    given = _choose_place(target, dir=dir, volume=volume, bucket=bucket)
    machine = target.find_machine(gpu)
    return LaunchPlan(
        on=on,
        name=name,
        gpu=gpu,
        machine=machine.name,
        per_hour=machine.per_hour,
        limit=seconds,
        bases=models,
        place=target.find_place(name, given),
        port=port,
        package=package or _name_package(models),
        image=image,
        notes=(machine.note,) if machine.note else (),
    )


def _start(
    target: Target, plan: LaunchPlan, record: ServerRecord, *, key: str | None, budget: float | None
) -> Instance:
    plan.require_budget(budget)
    if plan.per_hour is None:
        raise ServiceUnavailable(f"{plan.notes[-1]}; nothing was started: try again later", reached=False)
    for line in str(plan).splitlines():
        _log.info("%s", line)
    try:
        return target.start(plan, record.keep_key(key), record)
    except Exception:
        raise
    except BaseException:  # interrupted: whatever has that name now was started here
        with suppress(PricerError):
            target.stop(plan.name, record)
        raise


def _wait_until_ready(
    server: LaunchedServer,
    instance: Instance,
    target: Target,
    record: ServerRecord,
    *,
    patience: float,
    sleep: Callable[[float], Any],
) -> None:
    import httpx2

    pause, waited = _FIRST_PAUSE, 0.0
    with httpx2.Client(timeout=_PATIENCE) as client:
        while True:
            began = time.monotonic()
            answer = _look(client, server, instance, target, record)
            if answer is None:
                return
            waited += time.monotonic() - began + pause
            if waited > patience:
                raise ServiceUnavailable(
                    f"{server.name!r} on {server.on} was not ready after {patience:g} seconds ({answer}); "
                    f"its log: {server.log}"
                )
            sleep(pause)
            pause = min(pause * _LENGTHEN, target.longest_pause)


def _look(
    client: httpx2.Client, server: LaunchedServer, instance: Instance, target: Target, record: ServerRecord
) -> str | None:
    """Return None if it is ready, else what is the case instead; raise where it will never be."""
    try:
        found = target.find(server.name, record)
    except ServiceUnavailable as error:  # nobody can say at the moment, which is no reason to end it
        return str(error)
    if found is None or found.id != instance.id:
        why = _explain(target, instance, record)
        raise ServiceUnavailable(f"{server.name!r} on {server.on} has ended; {why}")
    return _ask(client, server)


def _ask(client: httpx2.Client, server: LaunchedServer) -> str | None:
    """Return None if the server answers as ours does, else what came instead."""
    import httpx2

    headers = {"Authorization": f"Bearer {server.client_options['api_key']}"}
    try:
        answer = client.get(f"{server.url}/models", headers=headers)
    except httpx2.HTTPError as error:
        return f"no answer: {type(error).__name__}"
    try:
        content = answer.json()
    except ValueError:
        return f"HTTP {answer.status_code}, and no server of ours"
    if not isinstance(content, dict):
        return "no server of ours"
    problem = content.get("error")
    if isinstance(problem, dict) and problem.get("code") == "invalid_api_key":
        raise AccessDenied(
            f"{server.name!r} on {server.on} has another key than this machine; hand in the right one by "
            "key=, or stop it and start it again",
            status=answer.status_code,
        )
    return (
        None
        if answer.status_code == 200 and content.get("object") == "list"
        else f"HTTP {answer.status_code}"
    )


def _explain(target: Target, instance: Instance, record: ServerRecord) -> str:
    with suppress(PricerError):
        return target.explain_end(instance, record)
    return f"its log: {instance.log}"


def _end(target: Target, server: LaunchedServer, record: ServerRecord) -> str:
    try:
        target.stop(server.name, record)
    except PricerError as failure:
        return f"it could not be ended, and may still cost money: {failure}"
    is_kept = record.log.exists() and str(record.log) != server.log
    return "it was ended" + (f", and its log kept in {str(record.log)!r}" if is_kept else "")


def _check_key(key: str | None) -> None:
    require_text("key", key, or_none=True)
    if key is not None and not (key.isascii() and key.isprintable() and key == key.strip() != ""):
        raise NotConfigured("key must be printable ASCII that neither begins nor ends with a space")


def _check_texts(**given: str | None) -> None:
    for name, value in given.items():
        require_text(name, value, or_none=name != "image")
        if value is not None and not (value.strip() and value.isprintable()):
            raise DataError(f"{name} must be a line of text, not {value!r}; leave it out for the default")


def _choose_place(target: Target, **given: str | os.PathLike[str] | None) -> str | None:
    for name, value in given.items():
        if value is not None and name != target.keeps:
            raise DataError(
                f"{name}= belongs to another target; this one keeps its folder by {target.keeps}="
            )
    chosen = given[target.keeps]
    return None if chosen is None else str(chosen)


def _read_bases(bases: Mapping[str, str] | None, on: str) -> dict[str, str]:
    if bases is None:
        return {}
    require_mapping("bases", bases, "a dictionary of names and models")
    for name, model in bases.items():
        require_text(f"the base {name!r}", model)
        if not name or "=" in name or not model or not (name + model).isprintable():
            raise DataError(f"a base needs a name without = and a model, not {name!r}: {model!r}")
        is_path = model.startswith(("/", ".", "~")) or "\\" in model
        if on != "process" and is_path and not model.startswith(f"{MOUNT}/"):
            raise DataError(
                f"the base {name!r} is a path of this machine, {model!r}, which is not there; name a "
                f"model of the Hub, or a path under {MOUNT}, where the server's volume or bucket is"
            )
    return dict(bases)


def _name_package(bases: Mapping[str, str]) -> str:
    from importlib.metadata import version

    return f"finetune-pricer[{'lora' if bases else 'local'}]=={version('finetune-pricer')}"
