"""What the jobs of a sweep cost by the prices that are known here, for want of a function that says it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..prepare.tokens import count_tokens
from ..providers.pricing import find_pricing
from ..tune.cost import estimate_cost

if TYPE_CHECKING:
    from ..prepare.jsonl import TrainingFile
    from ..prepare.tokens import TokenCount


class KnownPrices:
    """The prices of one service; each file is counted once."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._counts: dict[tuple[str, str], TokenCount] = {}

    def dollars(
        self, training: TrainingFile, validation: TrainingFile | None, *, model: str, epochs: int | None
    ) -> float | None:
        """Give what training costs, or None where the price or the epochs are not known."""
        price = find_pricing(self._provider, model)
        if price is None or price.train is None:
            return None
        if price.train == 0:  # however often, and nothing needs to be counted
            return 0.0
        if epochs is None:
            return None
        watched = validation if price.bills_validation else None
        return estimate_cost(
            self._counted(training, model),
            model=model,
            epochs=epochs,
            validation=None if watched is None else self._counted(watched, model),
            price=price,
        ).training

    def why_unknown(self, model: str) -> str:
        """Say why `dollars` gave None for a model, and what to do."""
        price = find_pricing(self._provider, model)
        if price is None or price.train is None:
            return (
                f"no price of {model!r} at {self._provider!r} is known here; hand in "
                "cost_of=lambda file, trial: <dollars>"
            )
        return "its service chooses the epochs; set epochs="

    def _counted(self, file: TrainingFile, model: str) -> TokenCount:
        # Trials that differ in their settings alone have the same files.
        key = (file.sha256, model)
        if key not in self._counts:
            self._counts[key] = count_tokens(file, model=model)
        return self._counts[key]
