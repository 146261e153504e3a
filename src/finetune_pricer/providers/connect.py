"""`connect` makes a client for a service, with the key from the environment or `.env`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .._environment import read_settings
from ..errors import NotConfigured
from .lookup import get_provider, get_providers, remember_provider

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from openai import OpenAI

_log = logging.getLogger("finetune_pricer")


def connect(
    name: str | None = None,
    *,
    dir: str | os.PathLike[str] | None = None,  # noqa: A002 - the contract's name
    dotenv_wins: bool = False,
) -> OpenAI:
    """Make a client for a service, with the key from the environment or the nearest `.env`.

    Args:
        name: `"local"`, `"openai"`, `"azure"`, `"nebius"` or `"crusoe"`. Without one: what
            `FINETUNE_PRICER_PROVIDER` names, else the only one whose key is set.
        dir: For `"local"`: the folder that keeps files, jobs and models. Without one they live in a temporary
            folder until the process ends.
        dotenv_wins: Whether `.env` goes before the environment, as `load_dotenv(override=True)` has it.

    Returns:
        A plain `openai.OpenAI`; use any other of your own in its place.

    Raises:
        NotConfigured: No provider, several, or an unknown one; or the named one lacks a variable.
        MissingExtra: `"local"` without the extra `local`.
    """
    found = read_settings(dotenv_wins=dotenv_wins)
    chosen = name or found.get("FINETUNE_PRICER_PROVIDER") or _find_configured(found)
    if chosen == "local":
        from ..local import LocalServer

        return _remember("local", LocalServer.get_shared(dir).client())
    if dir is not None:
        raise NotConfigured(f"dir= belongs to the provider 'local', not to {chosen!r}")
    return _make_client(chosen, found)


def _find_configured(found: Mapping[str, str]) -> str:
    with_key = [provider for provider in get_providers().values() if provider.key_variable]
    names = [provider.name for provider in with_key if found.get(provider.key_variable)]
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
        f"no provider is configured: set one of {variables} in the environment or in .env; "
        'or rehearse without a key: connect("local")'
    )


def _make_client(name: str, found: Mapping[str, str]) -> OpenAI:
    provider = get_provider(name)
    key = found.get(provider.key_variable)
    if not key:
        raise NotConfigured(
            f"provider {name!r} needs {provider.key_variable}: set it in the environment or in .env; "
            'or rehearse without a key: connect("local")'
        )
    if not key.isascii() or key != key.strip():
        raise NotConfigured(
            f"{provider.key_variable} begins or ends with a space, or holds a character that no key has; "
            "copy the key again"
        )
    base_url = provider.base_url
    if provider.base_url_variable and (chosen := found.get(provider.base_url_variable)):
        base_url = chosen.rstrip("/") + provider.base_url_path if provider.base_url_path else chosen
    if base_url is None and provider.base_url_path:
        raise NotConfigured(
            f"provider {name!r} needs {provider.base_url_variable}: the address of your resource"
        )

    from openai import OpenAI

    # Passed by hand, since .env is not put into the environment that the client would read.
    ours = name == "openai"
    client = OpenAI(
        api_key=key,
        base_url=base_url,
        organization=found.get("OPENAI_ORG_ID") if ours else None,
        project=found.get("OPENAI_PROJECT_ID") if ours else None,
    )
    return _remember(name, client)


def _remember(name: str, client: OpenAI) -> OpenAI:
    remember_provider(client, name)
    return client
