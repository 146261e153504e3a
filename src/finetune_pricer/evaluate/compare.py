"""Two models on the same items: is one better, and could these items have shown it?"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .._arguments import refuse, require_flag, require_whole
from .._display import PrintsAsPage
from .._escape import escape_line
from .._format import format_money
from .._numbers import read_number
from ..errors import EvaluationError
from .evaluation import require_evaluation
from .measurement import Metric
from .paired import adjust, align, measure_differences
from .report.format import say_p

if TYPE_CHECKING:
    import os

    from .evaluation import Evaluation
    from .paired import Difference
    from .unscored import Unscored

_LEVEL = 0.05
# Two-sided test at 5 %, power 80 %: 1.960 + 0.842 standard errors.
_POWER = 2.802
_CENT = 0.005  # less is written as $0.00


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Comparison(PrintsAsPage):
    """How two models differ on the same items. `str()` is a sentence for everybody.

    Examples:
        >>> from finetune_pricer import Evaluator, Item, compare
        >>> items = [Item(title=f"Lamp {number}", price=10.0 * number) for number in range(1, 41)]
        >>> near = Evaluator().evaluate(lambda item: item.price + 1, items, name="near")
        >>> far = Evaluator().evaluate(lambda item: item.price * 1.2, items, name="far")
        >>> comparison = compare(near, far)
        >>> print(f"{comparison.better.name} is nearer by ${-comparison.difference.value:.2f}")
        near is nearer by $40.00
        >>> comparison.p_value < 0.001, comparison.win_rate
        (True, 1.0)
    """

    a: Evaluation
    b: Evaluation
    difference: Metric
    """MAE of `a` minus MAE of `b` on the same items, in their currency: below 0 where `a` is better."""
    p_value: float
    """How often chance alone makes such a difference, 0 to 1 (sign-flip permutation test of the MAE);
    adjusted by Holm's method where several models were compared."""
    smallest_detectable: float
    """The smallest difference that this many items show four times in five; `nan` for one item.
    An estimate: a few far misses that these items lack would make it larger."""
    win_rate: float
    """Share of items on which `a` is nearer to the true price, ties counted half."""
    spread: float
    """Standard deviation of the items' differences."""
    spread_range: tuple[float, float] = (math.nan, math.nan)
    """Between what two amounts the standard deviation lies, in at least 80 of 100 cases."""
    left_out: int = 0
    """Items that only one of the two has scored, and that were left out for that."""
    filled: int = 0
    """Items where the training median stood in for a price that one of the two did not give."""
    adjusted_for: int = 1
    """For how many comparisons the p-value is adjusted, by Holm's method; 1 where there was but one."""
    further: tuple[Comparison, ...] = ()
    """`a` against each further model, where more than two were compared."""

    @property
    def n(self) -> int:
        """How many items were compared."""
        return self.difference.n

    @property
    def better(self) -> Evaluation | None:
        """The better one of the two models; None where the difference may be chance."""
        if self.p_value >= _LEVEL:
            return None
        return self.a if self.difference.value < 0 else self.b

    @property
    def smallest_detectable_range(self) -> tuple[float, float]:
        """Between what two amounts the smallest detectable difference lies, with 80 % at least."""
        low, high = (_POWER * spread / math.sqrt(self.n) for spread in self.spread_range)
        return low, high

    def items_needed(self, dollars: float) -> int:
        """Return how many items show a difference of that amount four times in five.

        An estimate, as `smallest_detectable` is; `items_needed_range` says how far it can be trusted.

        Raises:
            EvaluationError: The difference asked about is not above 0, or only one item was compared.
        """
        return self._count_items(dollars, self.spread)

    def items_needed_range(self, dollars: float) -> tuple[int, int]:
        """Return between what two numbers the items needed lie, in at least 80 of 100 cases.

        Raises:
            EvaluationError: As `items_needed`.
        """
        low, high = (self._count_items(dollars, spread) for spread in self.spread_range)
        return low, high

    def _count_items(self, dollars: float, spread: float) -> int:
        if (amount := read_number(dollars)) is None:
            raise refuse("the difference", "a number", dollars)
        if not amount > 0 or math.isnan(spread):
            raise EvaluationError(
                f"cannot plan for a difference of {dollars!r} from {self.n} items; ask for one above "
                "0, and compare at least two items"
            )
        return max(2, math.ceil((_POWER * spread / amount) ** 2))

    def __str__(self) -> str:
        return "\n".join(escape_line(one.sentence) for one in (self, *self.further))

    @property
    def sentence(self) -> str:
        """What the comparison says, for someone who never heard of a p-value."""
        gap, metric = abs(self.difference.value), self.difference
        left_out = f" {self.left_out:,} items were left out." if self.left_out else ""
        if self.filled:
            left_out += f" On {self.filled:,} items the training median stands in for a missing price."
        if math.isnan(metric.low):
            return f"One item cannot tell {self.a.name} from {self.b.name}.{left_out}"
        if (better := self.better) is not None:
            is_better = better is self.a
            low, high = (-metric.high, -metric.low) if is_better else (metric.low, metric.high)
            p = say_p(self.p_value, self.adjusted_for)
            return (
                f"{self.a.name} is {'better' if is_better else 'worse'} than {self.b.name}: "
                f"{self._money(gap)} {'nearer to' if is_better else 'further from'} the price on average "
                f"(95% CI {self._money(low)} to {self._money(high)}, {p}), nearer on "
                f"{self.win_rate:.0%} of {self.n:,} items.{left_out}"
            )
        if not self.spread and not gap:
            return (
                f"{self.a.name} and {self.b.name} cannot be told apart: they err alike on each of these "
                f"{self.n:,} items.{left_out}"
            )
        return (
            f"{self.a.name} and {self.b.name} cannot be told apart on these {self.n:,} items: they differ by "
            f"{self._money(gap)} on average (95% CI {self._money(metric.low)} to "
            f"{self._money(metric.high)}, {say_p(self.p_value, self.adjusted_for)}){self._missed}.{left_out}"
        )

    @property
    def _missed(self) -> str:
        """What could easily be missed, in words; nothing where it is less than a cent."""
        if self.smallest_detectable < _CENT:
            return ""
        low, high = self.smallest_detectable_range
        return (
            f", and less than about {self._money(self.smallest_detectable)} could easily be missed "
            f"(80% range {self._money(low)} to {self._money(high)})"
        )

    def _money(self, amount: float) -> str:
        return format_money(amount, self.a.currency, 2)

    def _repr_html_(self) -> str:
        from .report.html import render_sentences

        return render_sentences(one.sentence for one in (self, *self.further))

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write a report that needs no network: the verdict, both models, where they differ.

        Raises:
            MissingExtra: plotly or Jinja2 is not installed.
            FileAccessError: The path cannot be written; what stood there stays.
        """
        from .report.html import write_comparison

        write_comparison(self, path)


def compare(
    a: Evaluation,
    b: Evaluation,
    *more: Evaluation,
    allow_different: bool = False,
    unscored: Unscored = "fill",
    rounds: int = 10_000,
    seed: int = 42,
) -> Comparison:
    """Compare `a` with `b`, and with more, item by item.

    Two items are the same where their ids and true prices are. Where a model gave no price, the median of the
    training items stands in for it. With more than two models the p-values are adjusted for their number
    (Holm).

    Args:
        a: An evaluation.
        b: Another evaluation, of the same items.
        more: Further evaluations, compared with `a`; `further` holds those comparisons.
        allow_different: Compare on the items in common where the sets differ.
        unscored: What an item without a price counts: `"fill"` puts the training median in its place, which
            an evaluation knows by `Evaluator(baselines=train)`; `"skip"` leaves out the items that only one
            model has scored, so that silence may be an advantage.
        rounds: Resamples of the interval, and tosses of the test.
        seed: Seed of both.

    Raises:
        EvaluationError: They were not evaluated on the same items, or have none in common; or an item is
            unscored and no training median is known.
    """
    evaluations = (a, b, *more)
    for number, one in enumerate(evaluations, start=1):
        require_evaluation(one, f"argument {number}")
    require_flag("allow_different", allow_different)
    require_whole("rounds", rounds, low=1)
    require_whole("seed", seed, low=0)
    differences = measure_differences(
        align(evaluations, allow_different=allow_different, unscored=unscored),
        [(0, other) for other in range(1, len(evaluations))],
        names=[one.name for one in evaluations],
        rounds=rounds,
        seed=seed,
    )
    first, *further = (
        _to_comparison(a, other, difference, p_value, adjusted_for=len(differences))
        for other, difference, p_value in zip(evaluations[1:], differences, adjust(differences), strict=True)
    )
    return replace(first, further=tuple(further))


def _to_comparison(
    a: Evaluation, b: Evaluation, difference: Difference, p_value: float, *, adjusted_for: int
) -> Comparison:
    return Comparison(
        a=a,
        b=b,
        difference=Metric(value=difference.mean, low=difference.low, high=difference.high, n=difference.n),
        p_value=p_value,
        adjusted_for=adjusted_for,
        smallest_detectable=_POWER * difference.spread / math.sqrt(difference.n),
        win_rate=difference.win_rate,
        spread=difference.spread,
        spread_range=difference.spread_range,
        left_out=difference.left_out,
        filled=difference.filled,
    )
