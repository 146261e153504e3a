"""Which names and addresses mean this machine and no other."""

from __future__ import annotations

import ipaddress
import urllib.parse

# Top-level names that the public DNS never has: what ends so, no stranger can point at this machine.
_PRIVATE = (".localhost", ".local", ".internal")


def is_loopback(host: str) -> bool:
    """Return whether a host can be reached from this machine only."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def names_neighbour(given: str) -> bool:
    """Return whether a Host or Origin header names this machine, or one that only its own network knows."""
    try:
        found = urllib.parse.urlsplit(given if "//" in given else f"//{given}").hostname
    except ValueError:
        return False
    return found is not None and (is_loopback(found) or found.endswith(_PRIVATE))
