"""A port of this machine for a server that answers this machine only."""

from __future__ import annotations

import os
import socket

from ..errors import ServiceUnavailable

HOST = "127.0.0.1"
_MOST_PORT = 65_535


def choose_port(asked: int, last: object) -> int:
    """Return a port that is free at the moment.

    Args:
        asked: The one that it must be; 0 for any.
        last: The one that it would best be, if it is free, so that clients of last time go on.

    Raises:
        ServiceUnavailable: The one that was asked for is in use.
    """
    if asked:
        if not _is_free(asked):
            raise ServiceUnavailable(
                f"port {asked} of this machine is in use; nothing was started: choose another, or 0 for a "
                "free one"
            )
        return asked
    if isinstance(last, int) and 0 < last <= _MOST_PORT and _is_free(last):
        return last
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        if os.name == "posix":  # as the server does, which may follow another that has just ended
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
