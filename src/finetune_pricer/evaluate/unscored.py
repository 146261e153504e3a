"""What an unscored item counts: one rule for every comparison, ranking and choice.

A model that leaves the items unpriced that it finds hard has a small error on the others. So where models
are compared, ranked or chosen, the training median stands in for each price that is missing, as somebody who
needs a price would have to guess it. Where no training median is known, such a model is refused. Only
`unscored="skip"` leaves the items out.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from .._arguments import require_choice
from .._format import agree_on_currency
from ..errors import EvaluationError
from .measurement import measure_value
from .metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .evaluation import Evaluation
    from .measurement import Record

Unscored = Literal["fill", "skip"]
"""What an unscored item counts: `"fill"` puts the training median in its place, `"skip"` leaves it out."""


class Entrant(NamedTuple):
    """An evaluation as it enters a comparison, a ranking or a choice."""

    evaluation: Evaluation
    records: tuple[Record, ...]
    """The records that count: with `"fill"`, all of them have a price."""

    @property
    def name(self) -> str:
        """The evaluation's name."""
        return self.evaluation.name

    @property
    def currency(self) -> str:
        """ISO code of the currency of the evaluation's prices."""
        return self.evaluation.currency

    @property
    def is_filled(self) -> bool:
        """Whether the training median stands in for prices of this model."""
        return self.records is not self.evaluation.records

    def value(self, by: str) -> float:
        """Return the value of a metric on the records that count; `nan` where it has none."""
        if not self.is_filled:
            metric = self.evaluation.metrics.get(by)
            return float("nan") if metric is None else metric.value
        return measure_value(self.records, by)


def enter(evaluations: Sequence[Evaluation], unscored: Unscored) -> list[Entrant]:
    """Return the evaluations as they enter a comparison: this is the rule.

    The median is that of the evaluation's own training items, or else that of the first other one that knows
    it: all are of the same products.

    Raises:
        DataError: Their prices are in different currencies.
        EvaluationError: An item is unscored, no evaluation knows a training median, and `unscored` is
            `"fill"`.
        WrongArgument: `unscored` is something else than the two.
    """
    require_unscored(unscored)
    # Two may have one name, and still be in two currencies.
    agree_on_currency({f"{one.name} ({at})": one.currency for at, one in enumerate(evaluations, start=1)})
    known = [one.training_median for one in evaluations if one.training_median is not None]
    return [_enter(one, known[0] if known else None, unscored) for one in evaluations]


def require_unscored(value: object) -> None:
    """Make sure that a value says what an unscored item counts.

    Raises:
        WrongArgument: It is something else.
    """
    require_choice("unscored", value, get_args(Unscored))


def fill(records: Sequence[Record], price: float) -> tuple[Record, ...]:
    """Return the records with a price in the place of each one that is missing."""
    return tuple(replace(one, price=price) if one.price is None else one for one in records)


def _enter(evaluation: Evaluation, median_of_others: float | None, unscored: Unscored) -> Entrant:
    if not evaluation.unscored or unscored == "skip":
        return Entrant(evaluation, evaluation.records)
    own = evaluation.training_median
    median = median_of_others if own is None else own
    if median is None:
        raise EvaluationError(
            f"{evaluation.unscored:,} of {len(evaluation.records):,} items are unscored in "
            f"{evaluation.name!r}, and leaving them out would make it look better than it is; evaluate with "
            "Evaluator(baselines=train), and the training median stands in for them, or say unscored='skip'"
        )
    return Entrant(replace(evaluation, training_median=median), fill(evaluation.records, median))


def best_first(entrants: Sequence[Entrant], by: str = "mae") -> list[Entrant]:
    """Return the entrants that have a value of a metric, the best first; equal ones keep their order."""
    values = [(one.value(by), one) for one in entrants]
    known = [(value, one) for value, one in values if not math.isnan(value)]
    return [one for _, one in sorted(known, key=lambda pair: METRICS[by].sort_key(pair[0]))]
