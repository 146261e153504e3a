"""Which of a job's checkpoints is best, on the same items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._arguments import refuse, require_formatter, require_text
from .._display import PrintsAsPage, ShortRepr
from ..errors import DataError, EvaluationError, NotSupported
from ..items import require_items
from .evaluation import best_first
from .evaluator import Evaluator
from .metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd

    from ..chat import ChatFormatter
    from ..items import Item
    from ..tune.job import FineTuneJob
    from ..tune.records import JobCheckpoint
    from .evaluation import Evaluation


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CheckpointScore(ShortRepr):
    """A checkpoint, and how wrong it is."""

    checkpoint: JobCheckpoint
    evaluation: Evaluation | None
    """None when no reply held a price."""
    predictions: Sequence[Any] = ()
    """The answers of the checkpoint, where no reply held a price."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BestCheckpoint(PrintsAsPage):
    """The best checkpoint, and all checkpoints that it was compared with. `str()` is a line for each."""

    best: CheckpointScore
    scores: tuple[CheckpointScore, ...]
    """All checkpoints, by their steps."""
    by: str
    """The metric that decided."""

    @property
    def model(self) -> str:
        """The best checkpoint's name, as a `Predictor` takes it."""
        return self.best.checkpoint.model or ""

    def to_frame(self) -> pd.DataFrame:
        """Return one row per checkpoint: step, model, the metric with its interval, n, losses."""
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
    """Price the same items with every checkpoint of a job, and return the best one with the scores of all.

    Choose on validation items, and evaluate the chosen checkpoint on test items: the best of several looks
    better than it is on the very items that chose it.

    Args:
        job: A job that keeps checkpoints.
        items: Priced items.
        by: The metric of `METRICS` that decides, and which of its values are better: low ones (`"mae"`), high
            ones (`"within_20"`), or those near zero (`"bias"`). Checkpoints without a value of it cannot win.
        formatter: The formatter that wrote the training file.

    Raises:
        DataError: There is no such metric, or it is one of price ranges, which checkpoints do not give;
            nothing was asked.
        NotSupported: The job has no checkpoints, or they must be deployed before they can be asked.
        EvaluationError: No checkpoint could be scored; `error.predictions` holds what the last one answered.
        ServiceError: The service refuses or does not answer.

    >>> import tempfile
    >>> from finetune_pricer import FineTuneJob, JsonlWriter, MadeUpCatalogue, best_checkpoint
    >>> from finetune_pricer.local import LocalServer
    >>> train, validation, _ = MadeUpCatalogue().splits(train=60, validation=20)
    >>> with tempfile.TemporaryDirectory() as folder, LocalServer() as server:
    ...     file = JsonlWriter().write(train, f"{folder}/train.jsonl")
    ...     job = FineTuneJob.create(server.client(), file, model="pricer-base", epochs=3)
    ...     found = best_checkpoint(job.wait(), validation, by="within_20")
    >>> [score.checkpoint.step for score in found.scores], found.model.startswith("ft:pricer-base")
    ([8, 16, 24], True)
    """
    if not all(hasattr(job, each) for each in ("checkpoints", "predictor")) or isinstance(job, type):
        raise refuse("job", "a FineTuneJob", job, "FineTuneJob.attach(client, id) finds one")
    require_items(items)
    require_text("by", by)
    if formatter is not None:
        require_formatter(formatter)
    if by not in METRICS or METRICS[by].of_ranges:
        choices = ", ".join(name for name, info in METRICS.items() if not info.of_ranges)
        raise DataError(f"no metric {by!r} tells checkpoints apart; choose one of {choices}")
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
    predictor = job.predictor(formatter, model=checkpoint.model)
    try:
        evaluation = Evaluator().evaluate(predictor, items)
    except EvaluationError as error:
        # An early checkpoint may not have learned to answer with a price; that is a result, too.
        return CheckpointScore(checkpoint=checkpoint, evaluation=None, predictions=error.predictions)
    return CheckpointScore(checkpoint=checkpoint, evaluation=evaluation)


def _best(scores: list[CheckpointScore], by: str) -> CheckpointScore:
    ranking = best_first((score.evaluation for score in scores if score.evaluation is not None), by)
    if not ranking:
        raise EvaluationError(
            f"no checkpoint has a {by}; what the last one answered is in `error.predictions`",
            predictions=scores[-1].predictions,
        )
    return next(score for score in scores if score.evaluation is ranking[0])
