"""What an evaluation comes to, in sentences: the headline, and how the model stands beside each baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .compare import compare
from .report.markdown import dollars, interval

if TYPE_CHECKING:
    from .compare import Comparison
    from .evaluation import Evaluation


def headline(evaluation: Evaluation) -> str:
    """Say the mean error, its interval, n and what is unscored."""
    return (
        f"Off by {dollars(evaluation.mae.value)} on average (95 % interval {interval(evaluation.mae, '$')}, "
        f"{evaluation.n:,} items scored, {evaluation.unscored:,} unscored)"
    )


def beside_baselines(evaluation: Evaluation) -> tuple[Comparison, ...]:
    """Compare the model with each of its baselines, p-values adjusted for their number."""
    if not evaluation.baselines:
        return ()
    first = compare(evaluation, *evaluation.baselines, seed=evaluation.seed)
    return (first, *first.further)


def verdicts(evaluation: Evaluation) -> list[str]:
    """Say in one sentence what the model adds to the best baseline, then in one what it loses to, if any."""
    compared = beside_baselines(evaluation)
    if not compared:
        return ["No baseline stands beside it: whether a simpler method would do is not known."]
    best = min(compared, key=lambda one: one.b.mae.value)
    beaten = [one.b.name for one in compared if one.better is evaluation]
    said = [best.sentence]
    if len(beaten) == len(compared):
        said.append(f"It beats all {len(compared)} baselines beyond chance." if len(compared) > 1 else "")
    else:
        rest = ", ".join(one.b.name for one in compared if one.better is not evaluation)
        said.append(f"Not beaten beyond chance: {rest}.")
    return [line for line in said if line]
