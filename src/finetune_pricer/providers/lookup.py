"""Finding what is known of a service: by its name, or by a client.

What is known are pydantic models. They are imported when they are looked for, since importing pydantic costs
as much as importing all else here.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary, WeakSet

from .._arguments import require_client, require_kind
from ..errors import NotConfigured

if TYPE_CHECKING:
    from collections.abc import Mapping

    from openai import AsyncOpenAI, OpenAI

    from .provider import Provider

SOON = 90
"""Days before the end of a model in which users are warned of it."""

# Clients that `connect` made, and for which service: an address alone does not say that a server is ours.
_PROVIDERS_OF_CLIENTS: WeakKeyDictionary[object, Provider] = WeakKeyDictionary()
_ENDING: WeakSet[object] = WeakSet()


def get_providers() -> Mapping[str, Provider]:
    """Return the services that we know, by name."""
    from .known import PROVIDERS

    return PROVIDERS


def get_provider(known: str | Provider | None) -> Provider:
    """Return what is known of a service, by its name; the protocol itself for None.

    A `Provider` is returned as it is.

    Raises:
        NotConfigured: There is no provider of that name.
    """
    from .known import PROTOCOL

    if known is None:
        return PROTOCOL
    if not isinstance(known, str):
        from .provider import Provider

        require_kind("provider", known, Provider, "a provider's name or a Provider")
        return known
    providers = get_providers()
    if known not in providers:
        raise NotConfigured(
            f"there is no provider {known!r}; known: {', '.join(providers)}; or make a "
            "Provider, or an openai.OpenAI, of your own"
        )
    return providers[known]


def provider_of(client: OpenAI | AsyncOpenAI, known: str | Provider | None = None) -> Provider:
    """Return what is known of a client's service: as handed in, else by `connect`, else by its address.

    A service at an unknown address, such as a loopback one, is taken to keep to the protocol.

    Raises:
        NotConfigured: There is no provider of that name.
    """
    from .provider import Provider

    if known is not None:
        return get_provider(known)
    require_client(client, awaits=None)
    if (made := _PROVIDERS_OF_CLIENTS.get(client)) is not None:
        return made
    host = urlsplit(str(client.base_url)).hostname or ""
    for provider in get_providers().values():
        if any(fnmatchcase(host, pattern) for pattern in provider.hosts):
            return provider
    return Provider(name=host or "unknown")


def remember_provider(client: OpenAI | AsyncOpenAI, name: str) -> None:
    """Take note that a client was made for a service."""
    _PROVIDERS_OF_CLIENTS[client] = get_provider(name)


def note_that_it_ends(client: OpenAI | AsyncOpenAI) -> None:
    """Take note that a client's service ends with this process, and all that it holds."""
    _ENDING.add(client)


def ends_with_process(client: OpenAI | AsyncOpenAI) -> bool:
    """Whether a client's service surely ends with this process."""
    return client in _ENDING
