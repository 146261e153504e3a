"""`connect` and `aconnect` make a client for a service, with the key from the environment or `.env`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from .._arguments import require_flag, require_path, require_text
from .._environment import Settings, read_settings
from ..errors import NotConfigured
from .lookup import get_provider, get_providers, note_that_it_ends, remember_provider

if TYPE_CHECKING:
    import os

    from openai import AsyncOpenAI, OpenAI

    from .provider import Provider

_log = logging.getLogger("finetune_pricer")


def connect(
    name: str | None = None,
    *,
    dir: str | os.PathLike[str] | None = None,  # noqa: A002 - the contract's name
    dotenv_wins: bool = False,
) -> OpenAI:
    """Make a client for a service, with the key from the environment or the nearest `.env`.

    What is taken from a `.env`, and from which, is logged at INFO. A key of the environment is not sent to an
    address from a `.env`: the file may have come with a repository that somebody else wrote.

    Args:
        name: `"local"`, `"openai"`, `"azure"`, `"nebius"` or `"crusoe"`. Without one: what
            `FINETUNE_PRICER_PROVIDER` names, else the only one whose key is set.
        dir: For `"local"`: the folder that keeps files, jobs and models. Without one they live in a temporary
            folder until the process ends.
        dotenv_wins: Whether `.env` goes before the environment, as `load_dotenv(override=True)` has it.

    Returns:
        A plain `openai.OpenAI`; use any other of your own in its place.

    Raises:
        NotConfigured: No provider, several, or an unknown one; or the named one lacks a variable; or its key
            is the environment's and its address a `.env`'s.
        MissingExtra: `"local"` without the extra `local`.
    """
    provider, options = _choose(name, dir, dotenv_wins=dotenv_wins)

    from openai import OpenAI

    client = OpenAI(**options)
    remember_provider(client, provider)
    if provider == "local" and dir is None:
        note_that_it_ends(client)
    return client


def aconnect(
    name: str | None = None,
    *,
    dir: str | os.PathLike[str] | None = None,  # noqa: A002 - the contract's name
    dotenv_wins: bool = False,
) -> AsyncOpenAI:
    """Make an async client for a service, as `connect` makes a sync one; there is nothing to await.

    Args:
        name: As in `connect`.
        dir: As in `connect`.
        dotenv_wins: As in `connect`.

    Returns:
        A plain `openai.AsyncOpenAI`; use any other of your own in its place.

    Raises:
        NotConfigured: As in `connect`.
        MissingExtra: `"local"` without the extra `local`.
    """
    provider, options = _choose(name, dir, dotenv_wins=dotenv_wins)

    from openai import AsyncOpenAI

    client = AsyncOpenAI(**options)
    remember_provider(client, provider)
    if provider == "local" and dir is None:
        note_that_it_ends(client)
    return client


def _choose(
    name: str | None, folder: str | os.PathLike[str] | None, *, dotenv_wins: bool
) -> tuple[str, dict[str, Any]]:
    """Return the name of the service that is asked for or configured, and what its client is made with."""
    require_text("name", name, or_none=True)
    require_path("dir", folder, or_none=True)
    require_flag("dotenv_wins", dotenv_wins)
    settings = read_settings(dotenv_wins=dotenv_wins)
    chosen = name or settings.get("FINETUNE_PRICER_PROVIDER") or _find_configured(settings)
    if chosen == "local":
        from ..local import LocalServer

        server = LocalServer.get_shared(folder)
        return chosen, server.client_options
    if folder is not None:
        raise NotConfigured(f"dir= belongs to the provider 'local', not to {chosen!r}")
    provider = get_provider(chosen)
    return provider.name, _read_options(provider, settings)


def _find_configured(settings: Settings) -> str:
    with_key = [provider for provider in get_providers().values() if provider.key_variable]
    names = [provider.name for provider in with_key if provider.key_variable in settings]
    if len(names) == 1:
        _log.info("using provider %r, the only one whose key is set", names[0])
        return names[0]
    if names:
        raise NotConfigured(
            f"keys of several providers are set ({', '.join(names)}); name one: connect({names[0]!r}), "
            "or set FINETUNE_PRICER_PROVIDER"
        )
    variables = ", ".join(provider.key_variable for provider in with_key)
    raise NotConfigured(
        f"no provider is configured: set one of {variables} in the environment or in .env "
        f'({_name_file(settings)}); or rehearse without a key: connect("local")'
    )


def _read_options(provider: Provider, settings: Settings) -> dict[str, Any]:
    _require_key(provider, settings)
    # Passed by hand, since .env is not put into the environment that the client would read.
    ours = provider.name == "openai"
    return {
        "base_url": _find_address(provider, settings),
        "api_key": settings.get(provider.key_variable),
        "organization": settings.get("OPENAI_ORG_ID") if ours else None,
        "project": settings.get("OPENAI_PROJECT_ID") if ours else None,
    }


def _require_key(provider: Provider, settings: Settings) -> None:
    # The key has no name here: what reports errors with the values of names would show it.
    variable = provider.key_variable
    if variable not in settings:
        raise NotConfigured(
            f"provider {provider.name!r} needs {variable}: set it in the environment or in .env "
            f'({_name_file(settings)}); or rehearse without a key: connect("local")'
        )
    if not _can_be_sent(settings.get(variable) or ""):
        raise NotConfigured(
            f"{variable} begins or ends with a space, or holds a character that no key has; "
            "copy the key again"
        )


def _can_be_sent(key: str) -> bool:
    return key.isascii() and key == key.strip()


def _find_address(provider: Provider, settings: Settings) -> str | None:
    variable = provider.base_url_variable
    if not variable or variable not in settings:
        if provider.base_url is None and provider.base_url_path:
            raise NotConfigured(f"provider {provider.name!r} needs {variable}: the address of your resource")
        return provider.base_url
    path, key = settings.file_of(variable), provider.key_variable
    if path is not None and settings.file_of(key) is None:
        raise NotConfigured(
            f"{str(path)!r} says by {variable} where the service is, but {key} is the environment's, and is "
            "not sent to an address from a file. If you trust the address, set it in the environment too, "
            "or write the key into the file and take it by connect(..., dotenv_wins=True)"
        )
    chosen = settings.get(variable) or ""
    return chosen.rstrip("/") + provider.base_url_path if provider.base_url_path else chosen


def _name_file(settings: Settings) -> str:
    return f"{str(settings.path)!r} was read" if settings.path else "there is none here"
