"""What a job and the predictions after it will cost, worked out before anything is bought."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .._arguments import require_number, require_text
from .._display import PrintsAsPage
from .._format import format_dollars
from .._numbers import read_number, read_whole
from ..errors import DataError, OverBudget
from ..prepare.jsonl import TrainingFile
from ..prepare.tokens import TokenCount, count_tokens
from ..providers.lookup import get_providers
from ..providers.pricing import TokenPricing, find_pricing
from .spec import mean_tokens_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    Example = Sequence[Mapping[str, Any]] | Mapping[str, Any]
    Training = TrainingFile | TokenCount | str | os.PathLike[str] | Iterable[Example]

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CostEstimate(PrintsAsPage):
    """Dollars and tokens of a job; None is a price that nobody knows, and never means free."""

    model: str
    provider: str | None
    epochs: int
    tokens: TokenCount
    """Of one epoch, and whether they were counted exactly."""
    validation_tokens: int | None
    """Tokens of the validation file, billed or not; None without one."""
    trained_tokens: int
    """Tokens that training is billed for: those of all epochs."""
    training: float | None
    """Dollars for the job."""
    training_at_most: float | None
    """The most that it can cost: with tokens that were not counted exactly, as many as bytes."""
    predictions: int
    """How many items are to be priced."""
    samples: int
    """Replies asked for each of them."""
    chat: float | None
    """Dollars to price these items one request at a time."""
    batch: float | None
    """Dollars to price them through the Batch API."""
    hosting_per_hour: float | None
    """Dollars for each hour that the tuned model is deployed."""
    price: TokenPricing | None
    """The row that the dollars come from, with its date and source."""
    recommended: Mapping[str, float] = field(default_factory=dict)
    """Settings that a job of this file gets there where its user names none, by the service's profile."""

    def __str__(self) -> str:
        about = "" if self.tokens.exact else "about "
        passes = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        where = f" at {self.provider}" if self.provider else ""
        job = f"{self.tokens.examples:,} examples, {passes}, {about}{self.trained_tokens:,} tokens"
        most = "" if self.tokens.exact or not self.training else f", {self._most}"
        lines = [
            f"{self.model}{where}: {job}",
            f"  training            {format_dollars(self.training)}{most}",
        ]
        if self.recommended:
            named = ", ".join(f"{name}={value:g}" for name, value in self.recommended.items())
            lines.append(f"  settings            {named}, where you name none")
        if self.predictions:
            replies = "" if self.samples == 1 else f", {self.samples} replies each"
            lines.append(f"  {f'{self.predictions:,} predictions':<19} {format_dollars(self.chat)}{replies}")
            lines.append(f"  {'by batch':<19} {format_dollars(self.batch)}")
        lines.append(f"  hosting per hour    {format_dollars(self.hosting_per_hour)}")
        if self.price is None:
            lines.append("  no price is known here; hand one in: price=<dollars per million trained tokens>")
        else:
            dated = f", {self.price.as_of}" if self.price.as_of else ""
            lines.append(f"  prices: {self.price.source}{dated}")
        return "\n".join(lines)

    @property
    def _most(self) -> str:
        return f"at most {format_dollars(self.training_at_most)}"


def estimate_cost(
    training: Training,
    *,
    model: str,
    epochs: int,
    validation: Training | None = None,
    provider: str | None = None,
    predictions: int = 0,
    samples: int = 1,
    price: TokenPricing | float | None = None,
) -> CostEstimate:
    """Work out what a fine-tuning job costs, and what asking the tuned model costs afterwards.

    Args:
        training: What `JsonlWriter.write` returned, a path, examples (lists of messages, or rows that have
            them under `messages`), or a `TokenCount` of them.
        model: The base model.
        epochs: Passes over the examples; an `"auto"` that the service chooses cannot be worked out.
        validation: Examples whose loss is measured meanwhile. Few services bill them.
        provider: Whose prices, such as `"openai"`; None knows none.
        predictions: How many items shall be priced afterwards. Their prompts and replies are taken to be as
            long as the training file's, on average.
        samples: Replies for each of them; the prompt is billed once, the replies each.
        price: A price of your own: dollars per million trained tokens, or a whole `TokenPricing`.

    Raises:
        DataError: A number is out of range, or is none.
        FileAccessError: A file cannot be read.
        TrainingFileError: A line is no chat example, or holds an image, whose tokens nobody can count here.
    """
    require_text("model", model)
    require_text("provider", provider, or_none=True)
    epochs, predictions = _read_count("epochs", epochs, 1), _read_count("predictions", predictions, 0)
    samples = _read_count("samples", samples, 1)
    own = None if price is None else _read_pricing(price)
    tokens = _count(training, model)
    watching = None if validation is None else _count(validation, model)
    watched = None if watching is None else watching.billed
    row = own or find_pricing(provider, model)
    known = row or TokenPricing()
    billed = tokens.billed * epochs
    validated = (watched or 0) * epochs if known.bills_validation else 0
    most = _most_of(tokens) + (_most_of(watching) if watching and known.bills_validation else 0)
    asked, answered = _share(tokens.prompts, tokens, predictions), _share(tokens.replies, tokens, predictions)
    return CostEstimate(
        model=model,
        provider=provider,
        epochs=epochs,
        tokens=tokens,
        validation_tokens=watched,
        trained_tokens=billed,
        training=_cost((billed + validated, known.train)),
        training_at_most=_cost((most * epochs, known.train)),
        predictions=predictions,
        samples=samples,
        chat=_cost((asked, known.input), (answered * samples, known.output)),
        batch=_cost((asked, known.batch_input), (answered * samples, known.batch_output)),
        hosting_per_hour=known.hosting_per_hour,
        price=row,
        recommended=_find_recommended(training, tokens, provider),
    )


def _read_count(name: str, value: object, least: int) -> int:
    count = read_whole(value)
    if count is None or count < least:
        raise DataError(f"{name} must be a number of at least {least} to work out a cost, not {value!r}")
    return count


def _read_pricing(price: object) -> TokenPricing:
    if isinstance(price, TokenPricing):
        return price
    require_number("price", price, low=0)
    if read_number(price) is None:
        raise DataError(f"price is dollars per million trained tokens, or a TokenPricing, not {price!r}")
    return TokenPricing(train=price)  # type: ignore[arg-type]


def require_within_budget(estimate: CostEstimate, budget: float) -> None:
    """Make sure that a job costs no more than a budget in dollars.

    Where its tokens could not be counted exactly, the most that it can cost must fit in.

    Raises:
        OverBudget: It costs more, or may; the message and `over` say by how much.
        DataError: The budget is no amount, or the price of training is not known.
    """
    budget = require_amount(budget)
    cost = estimate.training_at_most
    if estimate.training is None or cost is None:
        where = f" at {estimate.provider!r}" if estimate.provider else ""
        first = "" if estimate.provider else "hand in provider=, or "
        raise DataError(
            f"the price of training {estimate.model!r}{where} is not known, so no budget can be held: {first}"
            "compare estimate_cost(..., price=<dollars per million tokens>).training yourself and leave out "
            "budget="
        )
    if cost > budget:
        about = ""
        if not estimate.tokens.exact:
            about = (
                f"costs about {format_dollars(estimate.training)} and, since its tokens cannot be counted "
                "exactly here, at most "
            )
        raise OverBudget(
            f"training {estimate.model!r} {explain_over_budget(cost, budget, about or 'costs ')}; use fewer "
            "examples or epochs, or raise the budget",
            cost=cost,
            budget=budget,
        )


def require_amount(budget: float) -> float:
    """Return a budget in dollars, of whatever type of number, as a float.

    Raises:
        DataError: It is no amount.
    """
    dollars = read_number(budget)
    if dollars is None or not dollars >= 0:
        raise DataError(f"budget must be a number of dollars of at least 0, not {budget!r}")
    return dollars


def explain_over_budget(cost: float, budget: float, costs: str = "costs ") -> str:
    """Return in words by how much a cost in dollars is over a budget."""
    return (
        f"{costs}{format_dollars(cost)}, {format_dollars(cost - budget)} over the budget of "
        f"{format_dollars(budget)}"
    )


def _find_recommended(training: Training, tokens: TokenCount, provider: str | None) -> dict[str, float]:
    known = get_providers().get(provider) if provider is not None else None
    if known is None:
        return {}
    mean = mean_tokens_of(training) if isinstance(training, TrainingFile) else None
    if mean is None and tokens.examples:
        mean = tokens.billed / tokens.examples
    found = known.recommend(mean)
    return {} if found is None else found.settings


def _count(training: Training, model: str) -> TokenCount:
    return training if isinstance(training, TokenCount) else count_tokens(training, model=model)


def _most_of(tokens: TokenCount) -> int:
    if tokens.exact:
        return tokens.billed
    # A count that does not say was made by somebody else; the estimate has a token for each four bytes.
    return 4 * tokens.billed if tokens.most is None else max(tokens.most, tokens.billed)


def _share(total: int, tokens: TokenCount, predictions: int) -> float:
    return total / tokens.examples * predictions if tokens.examples else 0.0


def _cost(*parts: tuple[float, float | None]) -> float | None:
    dollars = 0.0
    for tokens, price in parts:
        if price is None:
            return None
        dollars += tokens * price / _MILLION
    return dollars
