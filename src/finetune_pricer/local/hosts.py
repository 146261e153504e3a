"""Which names and addresses mean this machine and no other."""

from __future__ import annotations

import ipaddress
import urllib.parse


def is_loopback(host: str) -> bool:
    """Return whether a host can be reached from this machine only."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def names_loopback(given: str) -> bool:
    """Return whether a Host or Origin header names this machine."""
    try:
        found = urllib.parse.urlsplit(given if "//" in given else f"//{given}").hostname
    except ValueError:
        return False
    return found is not None and is_loopback(found)
