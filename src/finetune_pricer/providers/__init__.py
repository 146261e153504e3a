"""Services that speak the protocol: what is known of them, what they charge, and `connect`."""

from .connect import connect, provider_of
from .known import PROVIDERS
from .pricing import TokenPricing
from .provider import Provider, Retirement, Serving, Setting

__all__ = [
    "PROVIDERS",
    "Provider",
    "Retirement",
    "Serving",
    "Setting",
    "TokenPricing",
    "connect",
    "provider_of",
]
