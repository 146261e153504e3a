"""What services ask of a training file, as data."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLimits:
    """What a service asks of a training file."""

    fewest: int = 10
    """Examples that it must have."""
    largest: int = 512_000_000
    """Bytes that it may have."""
    longest: int = 65_536
    """Tokens that an example may have."""
    mark: bool = False
    """Whether the file shall begin with a byte order mark."""


# As documented by the services, read on 2026-11-22. A name that is not here gets the protocol's own limits,
# which are the first line's.
LIMITS = {
    "openai": FileLimits(),
    "azure": FileLimits(longest=64_536, mark=True),
    "nebius": FileLimits(largest=5_000_000_000, longest=131_072),
    "crusoe": FileLimits(largest=3_000_000_000),
    "local": FileLimits(),
}


def limits_of(provider: str | None) -> FileLimits:
    """Give a service's limits, or the protocol's for None.

    Raises:
        DataError: There is no such service here.
    """
    if provider is None:
        return FileLimits()
    if provider not in LIMITS:
        raise DataError(f"no limits are known for {provider!r}; known: {', '.join(LIMITS)}; or leave it out")
    return LIMITS[provider]
