"""What services ask of a training file, taken from their profiles."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import DataError

FEWEST = 10
"""Examples that the protocol wants; a service that says nothing of it is taken to want as many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLimits:
    """What a service asks of a training file."""

    fewest: int
    """Examples that it must have."""
    largest: int
    """Bytes that it may have."""
    longest: int
    """Tokens that an example may have."""
    mark: bool
    """Whether the file shall begin with a byte order mark."""


def limits_of(provider: str | None) -> FileLimits:
    """Give a service's limits, or the protocol's for None.

    Raises:
        DataError: There is no such service here.
    """
    from ..providers.known import PROVIDERS
    from ..providers.provider import Provider  # pydantic costs more to import than all else here

    if provider is not None and provider not in PROVIDERS:
        known = ", ".join(PROVIDERS)
        raise DataError(f"no limits are known for {provider!r}; known: {known}; or leave it out")
    service = Provider(name="protocol") if provider is None else PROVIDERS[provider]
    return FileLimits(
        fewest=max(FEWEST, service.min_examples),
        largest=service.max_file_bytes,
        longest=service.max_example_tokens,
        mark=service.file_encoding == "utf-8-sig",
    )
