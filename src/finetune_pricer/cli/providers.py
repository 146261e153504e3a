"""`finetune-pricer providers`."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import click

from .._environment import Settings, read_settings
from ..providers import PROVIDERS, Provider
from ..providers.lookup import get_provider
from .command import Answer, Command

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.command(cls=Command)
@click.argument("name", required=False)
def providers(*, name: str | None) -> Answer:
    """Show what is known of the services, or of one of them.

    NAME is that of a service, such as nebius: its settings, models, dates and doubts are then shown. Nobody
    is asked.
    """
    settings = read_settings()
    content: dict[str, Any]
    if name is None:
        rows = list(PROVIDERS.values())
        content = {
            "providers": [
                {**one.model_dump(mode="json"), "key_is_set": _has_key(one, settings)} for one in rows
            ]
        }
        return Answer("\n".join(_write_line(one, settings) for one in rows), content)
    found = get_provider(name)
    content = {**found.model_dump(mode="json"), "key_is_set": _has_key(found, settings)}
    return Answer("\n".join([_write_line(found, settings), *_write_facts(found)]), content)


def _has_key(provider: Provider, settings: Settings) -> bool:
    return not provider.key_variable or provider.key_variable in settings


def _write_line(provider: Provider, settings: Settings) -> str:
    key = provider.key_variable or "no key needed"
    state = "" if not provider.key_variable else ": set" if _has_key(provider, settings) else ": not set"
    last = f"; no new jobs after {provider.no_new_jobs_after}" if provider.no_new_jobs_after else ""
    start = f"; start with {provider.trains[0]}" if provider.trains else ""
    return f"{provider.name:<8} {key}{state}{start}{last}"


def _write_facts(provider: Provider) -> Iterator[str]:
    yield f"  answers at    {provider.base_url or provider.base_url_variable or 'this machine'}"
    yield f"  learning rate {provider.learning_rate}"
    for ours, setting in provider.settings.items():
        ends = (f"{end:g}" if end is not None else "any" for end in (setting.low, setting.high))
        limits = ", ".join(map(str, setting.choices)) or " to ".join(ends)
        yield f"  {ours:<24} {limits}"
    if provider.recommended is not None:
        chosen = ", ".join(f"{key}={value:g}" for key, value in provider.recommended.settings.items())
        yield f"  recommended   {chosen}: {provider.recommended.why}"
    if provider.serving.cost:
        yield f"  serving       {provider.serving.cost}"
    for known in provider.retirements:
        earliest = " at the earliest" if known.is_earliest else ""
        told = f"training {known.training_ends}, answers {known.serving_ends}{earliest}"
        yield f"  ends          {told}: {', '.join(known.models)}"
    for doubt in provider.doubts:
        yield from textwrap.wrap(
            doubt.about, 100, initial_indent="  doubt         ", subsequent_indent=" " * 16
        )
    yield f"  source        {provider.source}, {provider.confirmed_on or provider.as_of}"
