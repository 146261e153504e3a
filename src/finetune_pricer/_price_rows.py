"""What services charge, as rows of data: each with its date and source, and nothing that is not known."""

from __future__ import annotations

from datetime import date

from pydantic import BaseModel, ConfigDict, Field


class PriceRow(BaseModel):
    """What a service charges for a model, in dollars. None is unknown, and never means free.

    Make one of your own for a service or contract that is not listed: `PriceRow(train=4.0, input=0.1)`.
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

# Second-hand where the source says so; hand in a price of your own where money depends on it.
PRICE_ROWS = (
    PriceRow(
        model="gpt-4.1-2025-04-14",
        train=25,
        input=3,
        output=12,
        batch_input=1.5,
        batch_output=6,
        **_OPENAI,
    ),
    PriceRow(
        model="gpt-4.1-mini-2025-04-14",
        train=5,
        input=0.8,
        output=3.2,
        batch_input=0.4,
        batch_output=1.6,
        **_OPENAI,
    ),
    # Shut down on 2026-10-23; kept to work out what was paid.
    PriceRow(
        model="gpt-4.1-nano-2025-04-14",
        train=1.5,
        input=0.2,
        output=0.8,
        batch_input=0.1,
        batch_output=0.4,
        **_OPENAI,
    ),
    PriceRow(
        model="gpt-4o-2024-08-06",
        train=25,
        input=3.75,
        output=15,
        batch_input=2.225,
        batch_output=12.5,
        **_OPENAI,
    ),
    PriceRow(
        model="gpt-4o-mini-2024-07-18",
        train=3,
        input=0.3,
        output=1.2,
        batch_input=0.15,
        batch_output=0.6,
        **_OPENAI,
    ),
    PriceRow(
        model="meta-llama/Llama-3.1-8B-Instruct",
        train=0.4,
        input=0.02,
        output=0.06,
        batch_input=0.01,
        batch_output=0.03,
        **_NEBIUS,
    ),
    PriceRow(
        model="meta-llama/Llama-3.3-70B-Instruct",
        train=2.8,
        input=0.13,
        output=0.4,
        batch_input=0.065,
        batch_output=0.2,
        **_NEBIUS,
    ),
    PriceRow(
        provider="azure",
        hosting_per_hour=1.7,
        as_of=date(2026, 3, 5),
        source="https://learn.microsoft.com/azure/foundry/openai/how-to/fine-tuning-cost-management "
        "(standard deployments; a developer deployment has no hosting fee)",
    ),
    PriceRow(
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


def price_row(provider: str | None, model: str) -> PriceRow | None:
    """Find what a service charges for a base model; None where nothing is known of either."""
    rows = [row for row in PRICE_ROWS if row.provider == provider]
    return next((row for row in rows if row.model == model), None) or next(
        (row for row in rows if row.model is None), None
    )
