"""How a model stands beside simpler methods: always from the model's side, in words and then in numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..._format import format_money
from ...errors import EvaluationError
from ..compare import compare
from ..same_prices import NamedOnce, name_once
from ..unscored import best_first, enter
from .format import say_p

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..compare import Comparison
    from ..evaluation import Evaluation

_CENT = 0.005  # less is written as $0.00


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a report says first of a model beside its baselines."""

    summary: str
    """For everybody: which of them the model beats, and which it does not."""
    evidence: tuple[str, ...]
    """The numbers: against the best of them, and what these items could not have shown."""
    comparisons: tuple[Comparison, ...]
    """The model against each of them, p-values adjusted for their number."""

    @property
    def sentences(self) -> tuple[str, ...]:
        """All of it."""
        return (self.summary, *self.evidence)


def reach_verdict(evaluation: Evaluation) -> Verdict:
    """Compare a model with each of its baselines; those with the same prices are one."""
    found = _compare(evaluation)
    if not (missing := tuple(evaluation.left_out)):
        return found
    said = f"Left out, and so not compared: {_join(missing)}; the last table says why."
    return replace(found, evidence=(*found.evidence, said))


def _compare(evaluation: Evaluation) -> Verdict:
    first, *rivals = name_once((evaluation, *evaluation.baselines))
    same = first.names[1:]
    evidence = (f"It gives the very same prices as {_join(same)}.",) if same else ()
    if not rivals:
        summary = "No other method stands beside it: whether a simpler one would do is not known."
        return Verdict(summary=summary, evidence=evidence, comparisons=())
    try:
        found = compare(evaluation, *(one.evaluation for one in rivals), seed=evaluation.seed)
    except EvaluationError as error:  # a report of a silent model is still a report
        return Verdict(summary=f"Not compared: {error}.", evidence=evidence, comparisons=())
    comparisons = (found, *found.further)
    best = best_first(enter([one.evaluation for one in rivals], "fill"))[0].evaluation
    decisive, label = next(
        (pair, one.label) for pair, one in zip(comparisons, rivals, strict=True) if pair.b is best
    )
    return Verdict(
        summary=_summarise(rivals, comparisons),
        evidence=(*evidence, *_give_evidence(decisive, label, among=len(rivals))),
        comparisons=comparisons,
    )


def _summarise(rivals: Sequence[NamedOnce], comparisons: Sequence[Comparison]) -> str:
    labels: dict[str, list[str]] = {"worse": [], "open": [], "better": []}
    for rival, pair in zip(rivals, comparisons, strict=True):
        grade = "open" if pair.better is None else "better" if pair.better is pair.a else "worse"
        labels[grade].append(rival.label)
    if len(labels["better"]) == len(rivals) > 1:
        return f"This model is better than each of the {len(rivals)} methods beside it."
    parts = [
        words.format(_join(labels[grade]))
        for grade, words in (
            ("worse", "is worse than {}"),
            ("open", "cannot be told apart from {}"),
            ("better", "is better than {}"),
        )
        if labels[grade]
    ]
    return f"This model {'; it '.join(parts)}."


def _give_evidence(pair: Comparison, label: str, *, among: int) -> Iterable[str]:
    metric, currency = pair.difference, pair.a.currency
    rival = f"the best of them, {label}" if among > 1 else label
    if math.isnan(metric.low):
        yield "One item tells nothing."
        return
    is_nearer = metric.value < 0
    low, high = (-metric.high, -metric.low) if is_nearer else (metric.low, metric.high)
    amounts = [format_money(amount, currency, 2) for amount in (abs(metric.value), low, high)]
    yield (
        f"Against {rival}: {amounts[0]} {'nearer to' if is_nearer else 'further from'} the price on average "
        f"(95 % interval {amounts[1]} to {amounts[2]}; {say_p(pair.p_value, pair.adjusted_for)}, "
        f"sign-flip permutation test), nearer on {pair.win_rate:.0%} of {pair.n:,} items."
    )
    if pair.better is None and pair.smallest_detectable >= _CENT:
        smallest = format_money(pair.smallest_detectable, currency, 2)
        yield f"A difference of less than about {smallest} could easily be missed with these items."
    if pair.left_out:
        yield f"{pair.left_out:,} items were left out."
    if pair.filled:
        yield f"On {pair.filled:,} items the training median stands in for a missing price."


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
