"""Services that speak the protocol: what is known of them, what they charge, and `connect`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._lazy import resolve_late
from .connect import aconnect, connect
from .lookup import provider_of
from .pricing import TokenPricing

if TYPE_CHECKING:
    from collections.abc import Callable

    from .known import PROVIDERS
    from .provider import Doubt, Provider, Recommendation, Retirement, Serving, Setting, Thinking

__all__ = [
    "PROVIDERS",
    "Doubt",
    "Provider",
    "Recommendation",
    "Retirement",
    "Serving",
    "Setting",
    "Thinking",
    "TokenPricing",
    "aconnect",
    "connect",
    "provider_of",
]

__getattr__: Callable[[str], Any] = resolve_late(
    __name__,
    {"PROVIDERS": "known"}
    | dict.fromkeys(
        ("Doubt", "Provider", "Recommendation", "Retirement", "Serving", "Setting", "Thinking"), "provider"
    ),
)
