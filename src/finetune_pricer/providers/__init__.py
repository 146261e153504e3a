"""Services that speak the protocol: what is known of them, what they charge, and `connect`."""

from typing import TYPE_CHECKING

from .._lazy import resolve_late
from .connect import aconnect, connect
from .lookup import provider_of
from .pricing import TokenPricing

if TYPE_CHECKING:
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

__getattr__ = resolve_late(
    __name__,
    {"PROVIDERS": "known"}
    | dict.fromkeys(
        ("Doubt", "Provider", "Recommendation", "Retirement", "Serving", "Setting", "Thinking"), "provider"
    ),
)
