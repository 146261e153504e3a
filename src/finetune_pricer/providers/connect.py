"""`connect` makes a client for a service; `provider_of` recognises the service of a client."""

from __future__ import annotations

import logging
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from .._environment import settings
from ..errors import NotConfigured
from .known import PROVIDERS, get_provider
from .provider import Provider

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from openai import AsyncOpenAI, OpenAI

_log = logging.getLogger("finetune_pricer")

# Clients that `connect` made, and for which service: an address alone does not say that a server is ours.
_PROVIDERS_OF_CLIENTS: WeakKeyDictionary[object, Provider] = WeakKeyDictionary()


def provider_of(client: OpenAI | AsyncOpenAI, known: str | Provider | None = None) -> Provider:
    """Return what is known of a client's service: as handed in, else by `connect`, else by its address.

    A service at an unknown address, such as a loopback one, is taken to keep to the protocol.

    Raises:
        NotConfigured: There is no provider of that name.
    """
    if known is not None:
        return get_provider(known)
    if (made := _PROVIDERS_OF_CLIENTS.get(client)) is not None:
        return made
    host = urlsplit(str(client.base_url)).hostname or ""
    for provider in PROVIDERS.values():
        if any(fnmatchcase(host, pattern) for pattern in provider.hosts):
            return provider
    return Provider(name=host or "unknown")


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
    found = settings(dotenv_wins=dotenv_wins)
    chosen = name or found.get("FINETUNE_PRICER_PROVIDER") or _find_configured(found)
    if chosen == "local":
        from ..local import LocalServer

        return _remember("local", LocalServer.shared(dir).client())
    if dir is not None:
        raise NotConfigured(f"dir= belongs to the provider 'local', not to {chosen!r}")
    return _make_client(chosen, found)


def _find_configured(found: Mapping[str, str]) -> str:
    with_key = [provider for provider in PROVIDERS.values() if provider.key_variable]
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
    _PROVIDERS_OF_CLIENTS[client] = PROVIDERS[name]
    return client
