"""Which of a job's checkpoints is best, on the same items."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import DataError, EvaluationError, NotSupported
from ..predict.predictor import Predictor
from .evaluator import Evaluator
from .measurement import Metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd

    from ..chat import ChatFormatter
    from ..items import Item
    from ..tune.job import FineTuneJob
    from ..tune.records import JobCheckpoint
    from .evaluation import Evaluation

_BETTER_WHEN_HIGH = frozenset({"r2", "green"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointScore:
    """A checkpoint, and how wrong it is."""

    checkpoint: JobCheckpoint
    evaluation: Evaluation | None
    """None when no reply held a price."""
    predictions: Sequence[Any] = ()
    """What it answered, where no reply held a price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BestCheckpoint:
    """The best checkpoint, and all that it was compared with."""

    best: CheckpointScore
    scores: tuple[CheckpointScore, ...]
    """All of them, by their steps."""
    by: str
    """The metric that decided."""

    @property
    def model(self) -> str:
        """What a `Predictor` takes."""
        return self.best.checkpoint.model or ""

    def to_frame(self) -> pd.DataFrame:
        """Give a frame with one row per checkpoint: step, model, the metric with its interval, n, losses."""
        import pandas as pd

        return pd.DataFrame([self._row(score) for score in self.scores])

    def _row(self, score: CheckpointScore) -> dict[str, Any]:
        checkpoint, metric = score.checkpoint, getattr(score.evaluation, self.by, None)
        return {
            "step": checkpoint.step,
            "model": checkpoint.model,
            self.by: getattr(metric, "value", None),
            "low": getattr(metric, "low", None),
            "high": getattr(metric, "high", None),
            "n": getattr(metric, "n", 0),
            "unscored": None if score.evaluation is None else score.evaluation.unscored,
            "train_loss": checkpoint.metrics.train_loss,
            "valid_loss": checkpoint.metrics.full_valid_loss or checkpoint.metrics.valid_loss,
        }

    def __str__(self) -> str:
        lines = []
        for score in self.scores:
            mark = "*" if score is self.best else " "
            lines.append(
                f"{mark} step {score.checkpoint.step}: {score.evaluation or 'no reply held a price'}"
            )
        return "\n".join(lines)


def best_checkpoint(
    job: FineTuneJob, items: Iterable[Item], by: str = "mae", *, formatter: ChatFormatter | None = None
) -> BestCheckpoint:
    """Price the same items with every checkpoint of a job, and give the best with the table of all.

    Choose on validation items, and evaluate the chosen one on test items: the best of several looks better
    than it is on the very items that chose it.

    Args:
        job: A job that keeps checkpoints.
        items: Priced items.
        by: A metric of `Evaluation`.
        formatter: The one that wrote the training file.

    Raises:
        DataError: `Evaluation` has no such metric.
        NotSupported: The job has no checkpoints, or they must be deployed before they can be asked.
        EvaluationError: No checkpoint could be scored; `error.predictions` holds what the last one answered.
        ServiceError: The service refuses or does not answer.
    """
    items = list(items)
    checkpoints = job.checkpoints()
    usable = [checkpoint for checkpoint in checkpoints if checkpoint.model]
    if not usable:
        reason = "must be deployed before they can be asked" if checkpoints else "there are none"
        raise NotSupported(f"the checkpoints of job {job.id!r}: {reason}; evaluate the final model")
    scores = [_score(job, checkpoint, items, formatter) for checkpoint in usable]
    return BestCheckpoint(best=_best(scores, by), scores=tuple(scores), by=by)


def _score(
    job: FineTuneJob, checkpoint: JobCheckpoint, items: list[Item], formatter: ChatFormatter | None
) -> CheckpointScore:
    predictor = Predictor(job.client, checkpoint.model, formatter=formatter, provider=job.provider)
    try:
        evaluation = Evaluator().evaluate(predictor, items)
    except EvaluationError as error:
        # An early checkpoint may not have learned to answer with a price; that is a result, too.
        return CheckpointScore(checkpoint=checkpoint, evaluation=None, predictions=error.predictions)
    return CheckpointScore(checkpoint=checkpoint, evaluation=evaluation)


def _best(scores: list[CheckpointScore], by: str) -> CheckpointScore:
    sign = -1.0 if by in _BETTER_WHEN_HIGH else 1.0
    ranked = []
    for score in scores:
        if score.evaluation is None:
            continue
        metric = getattr(score.evaluation, by, None)
        if not isinstance(metric, Metric):
            raise DataError(f"there is no metric {by!r} in an evaluation; 'mae' is one")
        if not math.isnan(metric.value):
            ranked.append((sign * metric.value, score))
    if not ranked:
        raise EvaluationError(
            f"no checkpoint has a {by}; what the last one answered is in `error.predictions`",
            predictions=scores[-1].predictions,
        )
    return min(ranked, key=lambda pair: pair[0])[1]
