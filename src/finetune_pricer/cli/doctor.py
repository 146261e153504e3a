"""`finetune-pricer doctor`."""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from datetime import UTC, date, datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from .._environment import Settings, find_state_folder, read_settings
from ..errors import PricerError
from ..prepare.tokens import find_vocabulary
from ..providers import PROVIDERS, Provider, connect
from ..tune import FineTuneJob
from .command import BAD, Answer, Command, paint, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

PURPOSES = {
    "local": "the local server: rehearsals, and models without a service",
    "evaluate": "all methods that cost nothing, beside which a model is judged",
    "plots": "reports and figures",
    "audit": "near-duplicates in audits",
    "excel": "reading .xlsx files",
    "index": "neighbours among more than some 50,000 vectors",
    "lora": "fine-tuning open models on this machine",
    "sklearn": "a regressor for scikit-learn's pipelines",
    "tracking": "metrics in experiment trackers",
    "notebook": "bars and figures in notebooks",
}
"""What each extra is for."""
_NOT_FOR_USERS = {"all", "dev", "docs"}
_NEED = re.compile(r"^(?P<name>[\w.-]+).*;\s*extra == ['\"](?P<extra>[\w-]+)['\"]$")
_PATIENCE = 10.0  # seconds for each service


class Key(NamedTuple):
    """Whether the key of a service is set; never the key."""

    provider: str
    variable: str
    source: str | None
    """`environment`, or the path of the `.env`; None where it is not set."""
    problem: str | None
    """Why no client can be made with it."""
    answers: str | None = None
    """What the service said when it was asked; None where nobody asked."""


class Extra(NamedTuple):
    """An optional part of this package."""

    name: str
    purpose: str
    missing: tuple[str, ...]
    """Packages that are not installed."""


class Ending(NamedTuple):
    """When models stop."""

    provider: str
    models: tuple[str, ...]
    training_ends: date | None
    serving_ends: date | None
    is_earliest: bool
    source: str


@click.command(cls=Command)
@click.option(
    "--ask", is_flag=True, help="Ask each service whose key is set for its newest job; this goes out."
)
def doctor(*, ask: bool) -> Answer:
    """Look at what is set up here: keys, extras, and what will stop working.

    Nothing leaves this machine without --ask, and no key is ever shown. Ends with 1 where a key that is set
    cannot be used, the state folder cannot be written to, or a service that was asked gave no answer.
    """
    settings, today = read_settings(), datetime.now(UTC).date()
    keys = [_ask(key) if ask else key for key in _find_keys(settings)]
    extras, endings, state = list(find_extras()), list(_find_endings(today)), _look_at_state()
    vocabulary = find_vocabulary()
    problems = [f"{key.variable}: {key.problem}" for key in keys if key.problem]
    problems += [f"{key.provider}: {key.answers}" for key in keys if key.answers not in {None, _ANSWERED}]
    problems += [state["problem"]] if state["problem"] else []
    content = {
        "version": version("finetune-pricer"),
        "python": platform.python_version(),
        "provider": settings.get("FINETUNE_PRICER_PROVIDER"),
        "keys": [key._asdict() for key in keys],
        "extras": [extra._asdict() for extra in extras],
        "endings": [ending._asdict() for ending in endings],
        "vocabulary": vocabulary,
        "state": state,
        "problems": problems,
    }
    lines = [f"finetune-pricer {content['version']}, Python {content['python']}, {platform.system()}"]
    lines += ["", "keys", *map(_write_key, keys), *_write_provider(settings)]
    lines += ["", "extras", *map(_write_extra, extras)]
    lines += ["", "models that stop", *(_write_ending(ending, today) for ending in endings)]
    lines += ["", "the rest", _write_vocabulary(vocabulary), f"  state folder {state['folder']}"]
    lines += ["", *(f"{paint('Problem:', fg='red')} {problem}" for problem in problems)]
    return Answer("\n".join(lines).rstrip(), plain(content), BAD if problems else 0)


_ANSWERED = "answers"


def _find_keys(settings: Settings) -> Iterator[Key]:
    for provider in PROVIDERS.values():
        if not provider.key_variable:
            continue
        variable = provider.key_variable
        if variable not in settings:
            yield Key(provider.name, variable, None, None)
            continue
        file = settings.file_of(variable)
        yield Key(
            provider.name, variable, "environment" if file is None else str(file), _try_to_connect(provider)
        )


def _try_to_connect(provider: Provider) -> str | None:
    """Return why no client can be made; a client asks nothing by itself."""
    try:
        connect(provider.name).close()
    except PricerError as error:
        return str(error)
    return None


def _ask(key: Key) -> Key:
    if key.source is None or key.problem:
        return key
    try:
        with connect(key.provider).with_options(timeout=_PATIENCE, max_retries=0) as client:
            FineTuneJob.list(client, limit=1, provider=key.provider)
    except PricerError as error:
        return key._replace(answers=str(error))
    return key._replace(answers=_ANSWERED)


def find_extras() -> Iterator[Extra]:
    """Yield the extras of the package that is installed, and which of their packages are not."""
    needs: dict[str, list[str]] = {}
    for line in requires("finetune-pricer") or []:
        if (found := _NEED.match(line)) and found["extra"] not in _NOT_FOR_USERS:
            needs.setdefault(found["extra"], []).append(found["name"])
    for name in sorted(needs, key=lambda name: [*PURPOSES, name].index(name)):
        missing = tuple(package for package in needs[name] if not _is_installed(package))
        yield Extra(name, PURPOSES.get(name, ""), missing)


def _is_installed(package: str) -> bool:
    with suppress(PackageNotFoundError):
        return bool(version(package))
    return False


def _find_endings(today: date) -> Iterator[Ending]:
    """Yield what ends today or later, the next first."""
    known = [
        Ending(
            provider.name,
            one.models,
            one.training_ends,
            one.serving_ends,
            one.is_earliest,
            one.source,
        )
        for provider in PROVIDERS.values()
        for one in provider.retirements
    ]
    known += [
        Ending(provider.name, ("every new job",), provider.no_new_jobs_after, None, False, provider.source)
        for provider in PROVIDERS.values()
        if provider.no_new_jobs_after
    ]
    ends = {ending: [end for end in (ending.training_ends, ending.serving_ends) if end] for ending in known}
    yield from sorted(
        (ending for ending, dates in ends.items() if dates and max(dates) >= today),
        key=lambda ending: (max(ends[ending]), ending.provider, ending.models),
    )


def _look_at_state() -> dict[str, str | None]:
    folder = find_state_folder()
    nearest = next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
    problem = None
    if not os.access(nearest, os.W_OK):
        problem = (
            f"{str(folder)!r} cannot be written to: what is bought cannot be noted; set FINETUNE_PRICER_HOME"
        )
    return {"folder": str(folder), "problem": problem}


def _write_key(key: Key) -> str:
    if key.source is None:
        return f"  {key.provider:<8} {key.variable} is not set"
    state = "cannot be used" if key.problem else "is set"
    said = f"; {'it ' if key.answers == _ANSWERED else ''}{key.answers}" if key.answers else ""
    return f"  {key.provider:<8} {key.variable} {state} ({key.source}){said}"


def _write_provider(settings: Settings) -> Iterator[str]:
    if chosen := settings.get("FINETUNE_PRICER_PROVIDER"):
        yield f"  FINETUNE_PRICER_PROVIDER chooses {chosen}"


def _write_extra(extra: Extra) -> str:
    if not extra.missing:
        return f"  {extra.name:<9} is there: {extra.purpose}"
    return (
        f"  {extra.name:<9} lacks {', '.join(extra.missing)}: {extra.purpose}; "
        f"pip install 'finetune-pricer[{extra.name}]'"
    )


def _write_ending(ending: Ending, today: date) -> str:
    told = {"training": ending.training_ends, "answers": ending.serving_ends}
    dates = ", ".join(
        f"{what} until {end} ({(end - today).days:,} days)" if end >= today else f"{what} ended {end}"
        for what, end in told.items()
        if end
    )
    earliest = ", no earlier" if ending.is_earliest else ""
    return f"  {ending.provider:<8} {dates}{earliest}: {', '.join(ending.models)}"


def _write_vocabulary(vocabulary: str | None) -> str:
    if vocabulary is None:
        return "  vocabulary   not here: tiktoken fetches it once (2 MB), else tokens are estimated"
    return (
        f"  vocabulary   here ({vocabulary}): tokens of the gpt-4o and gpt-4.1 families are counted exactly"
    )
