"""What services charge for tokens: rows of data, each with its date and source, and no guesses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from ..errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PER_TOKEN = ("train", "input", "output", "batch_input", "batch_output")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPricing:
    """What a service charges for a model, in dollars. None is unknown, and never means free.

    Make one of your own for a service or contract that is not listed: `TokenPricing(train=4.0, input=0.1)`.

    Raises:
        DataError: An amount is not a number of at least 0.
    """

    provider: str | None = None
    model: str | None = None
    """The base model; rows of a service with no model hold for all its models that have no row."""
    train: float | None = None
    """For a million trained tokens."""
    input: float | None = None
    """For a million tokens asked of the fine-tuned model."""
    output: float | None = None
    """For a million tokens that it answers."""
    batch_input: float | None = None
    """The same through the Batch API."""
    batch_output: float | None = None
    hosting_per_hour: float | None = None
    """For each hour that the tuned model is deployed, asked or not; 0 where nothing is charged."""
    bills_validation: bool = False
    """Whether validation examples are billed like training ones."""
    as_of: date | None = None
    """When the price was read."""
    source: str = "handed in"
    """Where it was read."""

    def __post_init__(self) -> None:
        for name in (*_PER_TOKEN, "hosting_per_hour"):
            amount = getattr(self, name)
            if amount is not None and not (_is_number(amount) and 0 <= amount < math.inf):
                raise DataError(f"{name} must be a number of dollars of at least 0, not {amount!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# Training, input, output, and by batch: input, output. Second-hand where the source says so; hand in a price
# of your own where money depends on it.
_OPENAI = {
    "gpt-4.1-2025-04-14": (25, 3, 12, 1.5, 6),
    "gpt-4.1-mini-2025-04-14": (5, 0.8, 3.2, 0.4, 1.6),
    "gpt-4.1-nano-2025-04-14": (1.5, 0.2, 0.8, 0.1, 0.4),  # shut down on 2026-10-23
    "gpt-4o-2024-08-06": (25, 3.75, 15, 2.225, 12.5),
    "gpt-4o-mini-2024-07-18": (3, 0.3, 1.2, 0.15, 0.6),
}
_NEBIUS = {
    "meta-llama/Llama-3.1-8B-Instruct": (0.4, 0.02, 0.06, 0.01, 0.03),
    "meta-llama/Llama-3.3-70B-Instruct": (2.8, 0.13, 0.4, 0.065, 0.2),
}


def _rows(
    provider: str, dollars: Mapping[str, tuple[float, float, float, float, float]], as_of: date, source: str
) -> Iterator[TokenPricing]:
    for model, (train, asked, answered, batch_asked, batch_answered) in dollars.items():
        yield TokenPricing(
            provider=provider,
            model=model,
            train=train,
            input=asked,
            output=answered,
            batch_input=batch_asked,
            batch_output=batch_answered,
            hosting_per_hour=0,
            as_of=as_of,
            source=source,
        )


TOKEN_PRICINGS = (
    *_rows(
        "openai",
        _OPENAI,
        date(2026, 11, 22),
        "https://developers.openai.com/api/docs/pricing (read in a mirror)",
    ),
    *_rows(
        "nebius",
        _NEBIUS,
        date(2026, 3, 1),
        "https://nebius.com/token-factory/prices (training: its cookbook; the rest from third parties)",
    ),
    TokenPricing(
        provider="azure",
        hosting_per_hour=1.7,
        as_of=date(2026, 3, 5),
        source="https://learn.microsoft.com/azure/foundry/openai/how-to/fine-tuning-cost-management "
        "(standard deployments; a developer deployment has no hosting fee)",
    ),
    TokenPricing(
        provider="local",
        train=0,
        input=0,
        output=0,
        batch_input=0,
        batch_output=0,
        hosting_per_hour=0,
        source="your own machine",
    ),
)


def find_pricing(provider: str | None, model: str) -> TokenPricing | None:
    """Return what a service charges for a base model; None where nothing is known of either."""
    rows = [row for row in TOKEN_PRICINGS if row.provider == provider]
    return next((row for row in rows if row.model == model), None) or next(
        (row for row in rows if row.model is None), None
    )
