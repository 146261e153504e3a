"""What services charge for tokens: rows of data, each with its date and source, and no guesses."""

from __future__ import annotations

from datetime import date

from pydantic import BaseModel, ConfigDict, Field


class TokenPricing(BaseModel):
    """What a service charges for a model, in dollars. None is unknown, and never means free.

    Make one of your own for a service or contract that is not listed: `TokenPricing(train=4.0, input=0.1)`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    provider: str | None = None
    model: str | None = None
    """The base model; rows of a service with no model hold for all its models that have no row."""
    train: float | None = Field(default=None, ge=0)
    """For a million trained tokens."""
    input: float | None = Field(default=None, ge=0)
    """For a million tokens asked of the fine-tuned model."""
    output: float | None = Field(default=None, ge=0)
    """For a million tokens that it answers."""
    batch_input: float | None = Field(default=None, ge=0)
    """The same through the Batch API."""
    batch_output: float | None = Field(default=None, ge=0)
    hosting_per_hour: float | None = Field(default=None, ge=0)
    """For each hour that the tuned model is deployed, asked or not; 0 where nothing is charged."""
    bills_validation: bool = False
    """Whether validation examples are billed like training ones."""
    as_of: date | None = None
    """When the price was read."""
    source: str = "handed in"
    """Where it was read."""


_OPENAI = {
    "provider": "openai",
    "hosting_per_hour": 0,
    "as_of": date(2026, 11, 22),
    "source": "https://developers.openai.com/api/docs/pricing (read in a mirror)",
}
_NEBIUS = {
    "provider": "nebius",
    "hosting_per_hour": 0,
    "as_of": date(2026, 3, 1),
    "source": "https://nebius.com/token-factory/prices (training: its cookbook; the rest from third parties)",
}

# Training, input, output, and by batch: input, output. Second-hand where the source says so; hand in a price
# of your own where money depends on it.
_PER_MODEL = (
    (_OPENAI, "gpt-4.1-2025-04-14", (25, 3, 12, 1.5, 6)),
    (_OPENAI, "gpt-4.1-mini-2025-04-14", (5, 0.8, 3.2, 0.4, 1.6)),
    (_OPENAI, "gpt-4.1-nano-2025-04-14", (1.5, 0.2, 0.8, 0.1, 0.4)),  # shut down on 2026-10-23
    (_OPENAI, "gpt-4o-2024-08-06", (25, 3.75, 15, 2.225, 12.5)),
    (_OPENAI, "gpt-4o-mini-2024-07-18", (3, 0.3, 1.2, 0.15, 0.6)),
    (_NEBIUS, "meta-llama/Llama-3.1-8B-Instruct", (0.4, 0.02, 0.06, 0.01, 0.03)),
    (_NEBIUS, "meta-llama/Llama-3.3-70B-Instruct", (2.8, 0.13, 0.4, 0.065, 0.2)),
)
_PER_TOKEN = ("train", "input", "output", "batch_input", "batch_output")

TOKEN_PRICINGS = (
    *(
        TokenPricing.model_validate(service | {"model": model} | dict(zip(_PER_TOKEN, prices, strict=True)))
        for service, model, prices in _PER_MODEL
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
    """Find what a service charges for a base model; None where nothing is known of either."""
    rows = [row for row in TOKEN_PRICINGS if row.provider == provider]
    return next((row for row in rows if row.model == model), None) or next(
        (row for row in rows if row.model is None), None
    )
