"""The best of several models, and how good it is on other items: its own number flatters it.

The best of several equal models is the luckiest on the items that chose it. So its number comes from other
items, or it is corrected: on each bootstrap resample the best model is chosen anew, and is scored on the
items that the resample left out, which had no part in choosing it. The mean of those scores is what a model
that was chosen in this way is worth. Its interval is as wide as that of a middling one of the models that
chance might have put first, as the winner's own errors are less spread out than they will be.

Sources: Tibshirani and Tibshirani, Annals of Applied Statistics 3 (2009), 822-829, for the bias; Tsamardinos,
Greasidou and Borboudakis, Machine Learning 107 (2018), 1895-1922, for choosing anew on each resample.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from .._arguments import require_many, require_text, require_whole
from .._display import PrintsAsPage
from .._escape import escape_line
from .._methods.resampling import resamples_of_items
from ..errors import DataError, EvaluationError
from .evaluation import require_evaluation
from .measurement import Metric, measure_one, number_groups
from .metrics import METRICS
from .paired import pair_records
from .report.format import format_interval, format_number
from .unscored import best_first, enter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np
    import numpy.typing as npt

    from .evaluation import Evaluation
    from .measurement import Record
    from .unscored import Entrant, Unscored

    Floats = npt.NDArray[np.float64]

_LEAST = 0.025
"""Share of resamples on which a model must be as good as the winner to have a chance against it."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Choice(PrintsAsPage):
    """The best of several evaluations, and how good the model is on other items. `str()` is one line."""

    best: Evaluation
    """The evaluation that won, with the numbers of the items that chose it."""
    by: str
    """The metric that decided."""
    among: int
    """Of how many evaluations it is the best."""
    metric: Metric
    """The winner's metric: on test items where there are some, or else corrected for the choice."""
    on_choosing: Metric
    """The winner's metric on the very items that chose it: better than it is."""
    test: Evaluation | None = None
    """The winner on items that had no part in the choice; None where there were none."""

    def __str__(self) -> str:
        return escape_line(f"{self.best.name}: {self._written}{self._where}")

    @property
    def said(self) -> str:
        """What to add to a line with the winner's own number; empty where that does not flatter it."""
        return f"{self._written}{self._where}" if self._where else ""

    @property
    def _written(self) -> str:
        info = METRICS[self.by]
        interval = format_interval(self.metric, info.unit, self.best.currency)
        value = format_number(self.metric.value, info.unit, self.best.currency)
        return f"{info.label_in(self.best.currency)} {value} (95% CI {interval})"

    @property
    def _where(self) -> str:
        if self.test is not None:
            return f" on {len(self.test.records):,} items that had no part in choosing it"
        if self.among == 1:
            return ""
        chose = format_number(self.on_choosing.value, METRICS[self.by].unit, self.best.currency)
        return f", corrected for the choice among {self.among} ({chose} on the items that chose it)"


def choose(
    evaluations: Iterable[Evaluation],
    by: str = "mae",
    *,
    test: Evaluation | None = None,
    unscored: Unscored = "fill",
    rounds: int = 2000,
    seed: int = 42,
) -> Choice:
    """Return the best of several evaluations of the same items, with a number that does not flatter it.

    Args:
        evaluations: At least one.
        by: The metric of `METRICS` that decides; evaluations without a value of it cannot win.
        test: The winner's evaluation on items that had no part in the choice, where there is one.
        unscored: What an item without a price counts: `"fill"` puts the training median in its place,
            `"skip"` leaves it out, so that silence may be an advantage.
        rounds: Resamples on which the best one is chosen anew.
        seed: Of the resampling.

    Raises:
        DataError: There is no such metric, or their prices are in different currencies.
        EvaluationError: No evaluation has a value of it; an item is unscored and no training median is known;
            or the evaluations are not of the same items.

    Examples:
        >>> from finetune_pricer import Evaluator, MadeUpCatalogue
        >>> from finetune_pricer.evaluate import choose
        >>> items = MadeUpCatalogue().items(200)
        >>> guesses = [[50.0 + 7 * ((row * seed) % 11) for row in range(200)] for seed in range(1, 9)]
        >>> found = choose(Evaluator().score(items, one, name=f"model {one[1]}") for one in guesses)
        >>> found.metric.value > found.on_choosing.value
        True
    """
    rivals = _require_rivals(evaluations, test)
    require_text("by", by)
    require_whole("rounds", rounds, low=1)
    require_whole("seed", seed, low=0)
    if by not in METRICS:
        raise DataError(f"there is no metric {by!r}; choose one of {', '.join(METRICS)}")
    entrants = best_first(enter(rivals, unscored), by)
    if not entrants:
        raise EvaluationError(f"no evaluation has a {by} to choose by; hand in at least one that has")
    best = entrants[0]
    on_choosing = _measure(best.records, by, seed, rounds)
    metric = on_choosing
    if test is not None:
        metric = _measure(enter([test, best.evaluation], unscored)[0].records, by, seed, rounds)
    elif len(entrants) > 1:
        metric = _correct(entrants, by, rounds=rounds, seed=seed)
    return Choice(
        best=best.evaluation,
        by=by,
        among=len(entrants),
        metric=metric,
        on_choosing=on_choosing,
        test=test,
    )


def _require_rivals(evaluations: Iterable[Evaluation], test: Evaluation | None) -> list[Evaluation]:
    require_many("evaluations", evaluations, "a list of evaluations")
    rivals = list(evaluations)
    for number, one in enumerate(rivals, start=1):
        require_evaluation(one, f"evaluation {number}")
    if test is not None:
        require_evaluation(test, "test")
    return rivals


def _measure(records: Sequence[Record], by: str, seed: int, rounds: int) -> Metric:
    metric = measure_one(records, by, seed=seed, rounds=rounds)
    if metric is None:
        raise EvaluationError(
            f"there is no {by} of the chosen model on these items; choose by another metric"
        )
    return metric


def _correct(entrants: Sequence[Entrant], by: str, *, rounds: int, seed: int) -> Metric:
    """Return the first entrant's metric, corrected for having been chosen as the best."""
    import numpy as np

    paired = pair_records(entrants)
    size, values = len(paired[0]), _value_function(by, paired)
    observed = values(np.ones((1, size)))[0]
    drawn = [
        (values(counts), values((counts == 0).astype(np.float64)))
        for counts in resamples_of_items(size, number_groups(paired[0]), rounds=rounds, seed=seed)
    ]
    inside, outside = (np.concatenate(part) for part in zip(*drawn, strict=True))
    keys = np.vectorize(METRICS[by].sort_key)(inside)
    keys = np.where(np.isnan(keys), np.inf, keys)
    chosen = keys.argmin(axis=1)
    scores = outside[np.arange(len(outside)), chosen]
    if np.isnan(scores).all():  # a handful of items: each resample holds all, or leaves none with a value
        return _measure(entrants[0].records, by, seed, rounds)
    corrected = entrants[0].value(by) + float(np.nanmean(scores)) - float(observed[0])
    rivals = np.flatnonzero((keys <= keys[:, :1]).mean(axis=0) >= _LEAST)
    middling = paired[int(rivals[len(rivals) // 2])]  # they stand in the order of their values
    interval = _measure(middling, by, seed, rounds)
    shift = corrected - interval.value
    return Metric(value=corrected, low=interval.low + shift, high=interval.high + shift, n=interval.n)


def _value_function(by: str, paired: Sequence[Sequence[Record]]) -> Callable[[Floats], Floats]:
    """Return a function from how often each item counts, `(rounds, items)`, to values, `(rounds, models)`."""
    import numpy as np

    info = METRICS[by]
    weights = np.array([one.weight for one in paired[0]])
    functions = [
        partial(info.function, *([getattr(one, name) for one in records] for name in info.columns))
        for records in paired
    ]

    def of_counts(counts: Floats) -> Floats:
        with np.errstate(all="ignore"):  # a resample without weight has no value, which is nan
            return np.stack([function(counts * weights) for function in functions], axis=1)

    return of_counts
