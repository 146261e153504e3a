"""Two models on the same items: is one better, and could these items have told?"""

from __future__ import annotations

import html
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import EvaluationError
from .measurement import Metric

if TYPE_CHECKING:
    import os

    from .evaluation import Evaluation
    from .paired import Difference

_ROUNDS = 10_000
_LEVEL = 0.05
# Two-sided test at 5 %, power 80 %: 1.960 + 0.842 standard errors.
_POWER = 2.802


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How two models differ on the items that both have scored. `str()` is a sentence for everybody."""

    a: Evaluation
    b: Evaluation
    difference: Metric
    """MAE of `a` minus MAE of `b` on the same items, dollars: below 0 where `a` is better."""
    p_value: float
    """How often chance alone gives such a difference, 0 to 1 (sign-flip permutation test of the MAE);
    adjusted by Holm's method where several models were compared."""
    smallest_detectable: float
    """The smallest difference in dollars that this many items show four times in five; `nan` for one item."""
    win_rate: float
    """Share of items on which `a` is nearer, ties counted half."""
    spread: float
    """Standard deviation of the items' differences, dollars."""
    left_out: int = 0
    """Items that only one of the two has scored."""
    further: tuple[Comparison, ...] = ()
    """`a` against each further model, where more than two were compared."""

    @property
    def n(self) -> int:
        """How many items both have scored."""
        return self.difference.n

    @property
    def better(self) -> Evaluation | None:
        """The better of the two; None where the difference may be chance."""
        if self.p_value >= _LEVEL:
            return None
        return self.a if self.difference.value < 0 else self.b

    def items_needed(self, dollars: float) -> int:
        """How many items show a difference of that many dollars four times in five.

        Raises:
            EvaluationError: The difference asked about is not above 0, or one item tells no spread.
        """
        if not dollars > 0 or math.isnan(self.spread):
            raise EvaluationError(f"cannot plan for a difference of {dollars!r} dollars from {self.n} items")
        return max(2, math.ceil((_POWER * self.spread / dollars) ** 2))

    def __str__(self) -> str:
        return "\n".join(one.sentence for one in (self, *self.further))

    @property
    def sentence(self) -> str:
        """What the comparison says, for someone who never heard of a p-value."""
        gap, metric = abs(self.difference.value), self.difference
        left_out = f" {self.left_out:,} items were left out." if self.left_out else ""
        if math.isnan(metric.low):
            return f"One item cannot tell {self.a.name} from {self.b.name}.{left_out}"
        if (better := self.better) is not None:
            worse = self.b if better is self.a else self.a
            won = self.win_rate if better is self.a else 1 - self.win_rate
            low, high = (metric.low, metric.high) if better is self.b else (-metric.high, -metric.low)
            return (
                f"{better.name} is better than {worse.name}: ${gap:,.2f} nearer to the price on average "
                f"(95% CI {_signed(low)} to {_signed(high)}, p{_p(self.p_value)}), nearer on {won:.0%} of "
                f"{self.n:,} items.{left_out}"
            )
        return (
            f"{self.a.name} and {self.b.name} cannot be told apart on these {self.n:,} items: they differ by "
            f"${gap:,.2f} on average (95% CI {_signed(metric.low)} to {_signed(metric.high)}, "
            f"p{_p(self.p_value)}), "
            f"and less than ${self.smallest_detectable:,.2f} could easily be missed.{left_out}"
        )

    def _repr_html_(self) -> str:
        return "".join(f"<p>{html.escape(one.sentence)}</p>" for one in (self, *self.further))

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write a report that needs no network: the verdict, both models, where they differ.

        Raises:
            MissingExtra: plotly is not installed.
            FileAccessError: The path cannot be written; what stood there stays.
        """
        from .report.html import write_comparison

        write_comparison(self, path)


def compare(
    a: Evaluation,
    b: Evaluation,
    *more: Evaluation,
    allow_different: bool = False,
    rounds: int = _ROUNDS,
    seed: int = 42,
) -> Comparison:
    """Compare `a` with `b`, and with more, item by item.

    Items are the same where id and true price are. Those that only one has scored are left out and counted.
    With more than two the p-values are adjusted for their number (Holm).

    Args:
        a: An evaluation.
        b: Another, on the same items.
        more: Further ones, compared with `a`: they stand in `further`.
        allow_different: Compare on the items in common where the sets differ.
        rounds: Resamples of the interval, and tosses of the test.
        seed: Of both.

    Raises:
        EvaluationError: They were not evaluated on the same items, or have none in common.
    """
    from .paired import adjusted, differences, side_by_side

    evaluations = (a, b, *more)
    found = differences(
        side_by_side(evaluations, allow_different=allow_different),
        [(0, other) for other in range(1, len(evaluations))],
        names=[one.name for one in evaluations],
        rounds=rounds,
        seed=seed,
    )
    first, *further = (
        _comparison(a, other, one, p)
        for other, one, p in zip(evaluations[1:], found, adjusted(found), strict=True)
    )
    return replace(first, further=tuple(further))


def _comparison(a: Evaluation, b: Evaluation, found: Difference, p_value: float) -> Comparison:
    return Comparison(
        a=a,
        b=b,
        difference=Metric(value=found.mean, low=found.low, high=found.high, n=found.n),
        p_value=p_value,
        smallest_detectable=_POWER * found.spread / math.sqrt(found.n),
        win_rate=found.win_rate,
        spread=found.spread,
        left_out=found.left_out,
    )


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"={value:.3f}"


def _signed(dollars: float) -> str:
    return f"-${-dollars:,.2f}" if dollars < 0 else f"${dollars:,.2f}"
