"""Services that speak the protocol, as data, and `connect`, which makes a client for one of them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from ._settings import settings
from .errors import NotConfigured

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from openai import OpenAI

_log = logging.getLogger("finetune_pricer")


class Provider(BaseModel):
    """What must be known to reach a service."""

    model_config = ConfigDict(frozen=True)

    name: str
    key_variable: str
    """The environment variable with the key; a provider is configured when it is set."""
    base_url: str | None = None
    """Where the service answers; None where each user has an address of their own."""
    base_url_variable: str | None = None
    """The environment variable that says where, or overrides it."""
    base_url_path: str = ""
    """Added to what `base_url_variable` says, where it names a resource and not the API."""


# Addresses as the services document them, read on 2026-11-22.
PROVIDERS = {
    provider.name: provider
    for provider in (
        Provider(
            name="openai",
            key_variable="OPENAI_API_KEY",
            base_url="https://api.openai.com/v1/",
            base_url_variable="OPENAI_BASE_URL",
        ),
        Provider(
            name="azure",
            key_variable="AZURE_OPENAI_API_KEY",
            base_url_variable="AZURE_OPENAI_ENDPOINT",
            base_url_path="/openai/v1/",
        ),
        Provider(
            name="nebius", key_variable="NEBIUS_API_KEY", base_url="https://api.tokenfactory.nebius.com/v1/"
        ),
        Provider(
            name="crusoe",
            key_variable="CRUSOE_API_KEY",
            base_url="https://api.intelligence.crusoecloud.com/v1",
        ),
    )
}


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
    chosen = name or found.get("FINETUNE_PRICER_PROVIDER") or _only_configured(found)
    if chosen == "local":
        from .local import LocalServer

        return LocalServer.shared(dir).client()
    if dir is not None:
        raise NotConfigured(f"dir= belongs to the provider 'local', not to {chosen!r}")
    return _client(chosen, found)


def _only_configured(found: Mapping[str, str]) -> str:
    names = [provider.name for provider in PROVIDERS.values() if found.get(provider.key_variable)]
    if len(names) == 1:
        _log.info("using provider %r, the only one whose key is set", names[0])
        return names[0]
    if names:
        raise NotConfigured(
            f"keys of several providers are set ({', '.join(names)}); name one: connect({names[0]!r}), "
            "or set FINETUNE_PRICER_PROVIDER"
        )
    variables = ", ".join(provider.key_variable for provider in PROVIDERS.values())
    raise NotConfigured(
        f"no provider is configured: set one of {variables} in the environment or in .env; "
        'or rehearse without a key: connect("local")'
    )


def _client(name: str, found: Mapping[str, str]) -> OpenAI:
    provider = PROVIDERS.get(name)
    if provider is None:
        known = ", ".join([*PROVIDERS, "local"])
        raise NotConfigured(
            f"there is no provider {name!r}; known: {known}; or make an openai.OpenAI of your own"
        )
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
    if provider.base_url_variable and (said := found.get(provider.base_url_variable)):
        base_url = said.rstrip("/") + provider.base_url_path if provider.base_url_path else said
    if base_url is None and provider.base_url_path:
        raise NotConfigured(
            f"provider {name!r} needs {provider.base_url_variable}: the address of your resource"
        )

    from openai import OpenAI

    if name != "openai":
        return OpenAI(api_key=key, base_url=base_url)
    # Passed by hand, since .env is not put into the environment that the client would read.
    return OpenAI(
        api_key=key,
        base_url=base_url,
        organization=found.get("OPENAI_ORG_ID"),
        project=found.get("OPENAI_PROJECT_ID"),
    )
