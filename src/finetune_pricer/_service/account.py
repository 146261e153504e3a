"""Whose things a client sees: the service that it asks, and the account that it asks with."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from .error_mapping import address_of

if TYPE_CHECKING:
    from .error_mapping import Client


def service_of(client: Client) -> str:
    """Return a client's base URL without user, password, query and final slash."""
    return address_of(client).rstrip("/")


def account_of(client: Client) -> str:
    """Return a client's project, or its organization and a hash of its key, or that hash alone."""
    if client.project:
        return f"project {client.project}"
    # The hash of a random key tells nobody the key; a key that a function gives anew each time has none.
    key = "" if getattr(client, "_api_key_provider", None) else client.api_key
    digest = hashlib.sha256(f"{client.base_url}\n{key}".encode()).hexdigest()[:16]
    return f"organization {client.organization}, key {digest}" if client.organization else f"key {digest}"


def owner_of(client: Client) -> str:
    """Return what of the account outlives a rotated key: its project or organization, else the key's hash."""
    account = account_of(client)
    return account.partition(", key ")[0]
