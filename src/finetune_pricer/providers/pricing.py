"""What services charge for tokens: rows of data, each with its date and source, and no guesses."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from .._numbers import read_number
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
    """The base model; rows of a service with no model hold for its models that have no row."""
    from_billions: float | None = None
    """Of such a row: only for bases of at least so many billion parameters, as their name says."""
    below_billions: float | None = None
    """Of such a row: only for bases of fewer billion parameters, as their name says."""
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
    confirmed_on: date | None = None
    """When somebody last found that its source still says so; None where nobody has looked again."""
    source: str = "handed in"
    """Where it was read."""

    def __post_init__(self) -> None:
        for name in (*_PER_TOKEN, "hosting_per_hour"):
            amount = getattr(self, name)
            if amount is None:
                continue
            dollars = read_number(amount)
            if dollars is None or not 0 <= dollars < math.inf:
                raise DataError(f"{name} must be a number of dollars of at least 0, not {amount!r}")
            if type(amount) not in {int, float}:
                object.__setattr__(self, name, dollars)


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
    provider: str,
    dollars: Mapping[str, tuple[float, float, float, float, float]],
    as_of: date,
    source: str,
    *,
    confirmed_on: date | None = None,
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
            confirmed_on=confirmed_on,
            source=source,
        )


# Where a service charges by the size of the base: training, and billions of parameters from and below.
_NEBIUS_SIZES = ((0.4, None, 20), (2.8, 20, None))
_FIREWORKS_SIZES = ((0.5, None, 16), (3, 16, 80), (6, 80, 300), (10, 300, None))
_TOGETHER_SIZES = ((0.48, None, 16.1), (1.5, 16.1, 70), (2.9, 70, 100))


def _rows_by_size(
    provider: str,
    sizes: tuple[tuple[float, float | None, float | None], ...],
    as_of: date,
    source: str,
    *,
    bills_validation: bool = False,
) -> Iterator[TokenPricing]:
    for train, at_least, below in sizes:
        yield TokenPricing(
            provider=provider,
            from_billions=at_least,
            below_billions=below,
            train=train,
            bills_validation=bills_validation,
            as_of=as_of,
            source=source,
        )


_NEBIUS_SOURCE = (
    "https://nebius.com/token-factory/prices (training below 20B: its cookbook, 2026-07; from 20B: third "
    "parties, 2026-03; asking: litellm 1.110.2)"
)
_CRUSOE_SOURCE = "https://www.crusoe.ai/cloud/pricing (as transcribed by api-evangelist on 2026-09-20)"

TOKEN_PRICINGS = (
    *_rows(
        "openai",
        _OPENAI,
        date(2026, 11, 22),
        "https://developers.openai.com/api/docs/pricing (read in a mirror)",
        confirmed_on=date(2026, 11, 26),  # litellm 1.110.2 has the same
    ),
    *_rows("nebius", _NEBIUS, date(2026, 11, 26), _NEBIUS_SOURCE),
    *_rows_by_size("nebius", _NEBIUS_SIZES, date(2026, 11, 26), _NEBIUS_SOURCE),
    TokenPricing(
        provider="crusoe",
        model="meta-llama/Llama-3.1-8B-Instruct",
        train=0.4,
        as_of=date(2026, 9, 20),
        source=_CRUSOE_SOURCE,
    ),
    TokenPricing(
        provider="crusoe",
        model="openai/gpt-oss-120b",
        train=6,
        as_of=date(2026, 9, 20),
        source=_CRUSOE_SOURCE,
    ),
    # The next three have protocols of their own: their prices are there to be compared.
    *_rows_by_size(
        "fireworks",
        _FIREWORKS_SIZES,
        date(2026, 10, 7),
        "https://fireworks.ai/pricing (LoRA, as transcribed on 2026-10-07; a tuned model answers only on a "
        "machine of its own, USD 8 an hour for an H100)",
    ),
    *_rows_by_size(
        "together",
        _TOGETHER_SIZES,
        date(2026, 11, 26),
        "https://www.together.ai/pricing (LoRA, as transcribed by api-evangelist on 2026-05-08, and not seen "
        "since; a tuned model answers only on a machine of its own)",
        bills_validation=True,
    ),
    TokenPricing(
        provider="tinker",
        model="Qwen/Qwen3-8B",
        train=0.44,
        input=0.195,
        output=0.6,
        hosting_per_hour=0,
        as_of=date(2026, 10, 7),
        source="https://tinker-docs.thinkingmachines.ai/tinker/models/ (as transcribed on 2026-10-07; "
        "keeping weights is USD 0.10 a GB and month)",
    ),
    TokenPricing(
        provider="azure",
        hosting_per_hour=1.7,
        as_of=date(2026, 3, 5),
        confirmed_on=date(2026, 11, 22),
        source="https://learn.microsoft.com/azure/foundry/openai/how-to/fine-tuning-cost-management "
        "(standard deployments; a developer deployment of OpenAI's bases has no hosting fee)",
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
    """Return what a service charges for a base model; None where nothing is known of either.

    A row of the model itself goes before one of its size, and that before one of all the service's models.
    A size is what the name says, such as 8 billion parameters in `Llama-3.1-8B`.
    """
    rows = [row for row in TOKEN_PRICINGS if row.provider == provider]
    return next((row for row in rows if row.model == model), None) or next(
        (row for row in rows if row.model is None and _has_size(row, model)), None
    )


def _has_size(row: TokenPricing, model: str) -> bool:
    if row.from_billions is None and row.below_billions is None:
        return True
    said = re.search(r"(?<![\w.])(\d+(?:\.\d+)?)b(?![a-z0-9])", model, re.IGNORECASE)
    if said is None:
        return False
    billions = float(said[1])
    return (row.from_billions or 0) <= billions < (row.below_billions or math.inf)
