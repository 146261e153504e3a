"""Which of a job's checkpoints is best, on the same items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .._arguments import refuse, require_formatter, require_text
from .._display import PrintsAsPage, ShortRepr
from .._format import agree_on_currency
from ..errors import DataError, EvaluationError, NotSupported
from ..items import require_items, require_set
from .baselines import MedianBaseline
from .choice import Choice, choose
from .evaluator import Evaluator
from .metrics import METRICS
from .unscored import best_first, enter, require_unscored

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from ..chat import ChatFormatter
    from ..items import Item, ItemDataset
    from ..tune.job import FineTuneJob
    from ..tune.records import JobCheckpoint
    from .evaluation import Evaluation
    from .unscored import Unscored


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
    choice: Choice
    """How good the best one is on other items: on the test items, or corrected for the choice."""

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
            honest = f"; {self.choice.said}" if score is self.best and self.choice.said else ""
            lines.append(
                f"{mark} step {score.checkpoint.step}: {score.evaluation or 'no reply held a price'}{honest}"
            )
        return "\n".join(lines)


def best_checkpoint(
    job: FineTuneJob,
    items: Iterable[Item] | None = None,
    by: str = "mae",
    *,
    validation: Iterable[Item] | None = None,
    test: Iterable[Item] | None = None,
    baselines: ItemDataset | None = None,
    unscored: Unscored = "fill",
    formatter: ChatFormatter | None = None,
) -> BestCheckpoint:
    """Price the same items with every checkpoint of a job, and return the best one with the scores of all.

    The best of several looks better than it is on the very items that chose it. `choice` has a number that
    does not flatter: with `test`, the best checkpoint is asked about those items too; without, the number is
    corrected for the choice.

    Args:
        job: A job that keeps checkpoints.
        items: Priced items to choose on, best those of validation.
        by: The metric of `METRICS` that decides, and which of its values are better: low ones (`"mae"`), high
            ones (`"within_20"`), or those near zero (`"bias"`). Checkpoints without a value of it cannot win.
        validation: Another name of `items`, for calls that name `test` too.
        test: Priced items that have no part in the choice.
        baselines: Training items, whose median price stands in where a checkpoint gives none.
        unscored: What an item without a price counts: `"fill"` puts the training median in its place,
            `"skip"` leaves it out, so that silence may be an advantage.
        formatter: The formatter that wrote the training file.

    Raises:
        DataError: There is no such metric, or it is one of price ranges, which checkpoints do not give; or
            there are no items to choose on; nothing was asked.
        NotSupported: The job has no checkpoints, or they must be deployed before they can be asked.
        EvaluationError: No checkpoint could be scored, and `error.predictions` holds what the last one
            answered; or one left an item unscored and there are no `baselines`.
        ServiceError: The service refuses or does not answer.

    Examples:
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
    require_text("by", by)
    require_unscored(unscored)
    if formatter is not None:
        require_formatter(formatter)
    if by not in METRICS or METRICS[by].of_ranges:
        choices = ", ".join(name for name, info in METRICS.items() if not info.of_ranges)
        raise DataError(f"no metric {by!r} tells checkpoints apart; choose one of {choices}")
    if (items is None) == (validation is None):
        raise DataError("hand in the items to choose on, either as items or as validation=")
    chosen_on = items if validation is None else validation
    _require_sets(chosen_on, test, baselines)
    choosing = _to_sequence(chosen_on)
    usable = _find_usable(job)
    jury = _Jury(job, formatter, baselines, unscored)
    scores = [jury.score(checkpoint, choosing) for checkpoint in usable]
    found = [score.evaluation for score in scores if score.evaluation is not None]
    ranking = best_first(enter(found, unscored), by)
    if not ranking:
        raise EvaluationError(
            f"no checkpoint has a {by}; what the last one answered is in `error.predictions`",
            predictions=scores[-1].predictions,
        )
    best = next(score for score in scores if score.evaluation is ranking[0].evaluation)
    tested = None if test is None else jury.evaluate(best.checkpoint, _to_sequence(test))
    choice = choose(found, by, test=tested, unscored=unscored)
    return BestCheckpoint(best=best, scores=tuple(scores), by=by, choice=choice)


def _require_sets(items: object, test: object, baselines: object) -> None:
    """Refuse, before anything is asked, what are no items, and prices in different currencies."""
    require_items(items)
    if test is not None:
        require_items(test, "test")
    if baselines is not None:
        require_set(baselines, "baselines")
    named = {"the items": items, "the test items": test, "the baselines' items": baselines}
    agree_on_currency({who: getattr(one, "currency", None) for who, one in named.items()})


def _to_sequence(items: Iterable[Item] | None) -> Sequence[Item]:
    # A set of items stays one, as it knows what each of them stands for.
    return items if isinstance(items, Sequence) else list(items or ())


def _find_usable(job: FineTuneJob) -> list[JobCheckpoint]:
    checkpoints = job.checkpoints()
    usable = [checkpoint for checkpoint in checkpoints if checkpoint.model]
    if not usable:
        reason = "must be deployed before they can be asked" if checkpoints else "there are none"
        raise NotSupported(f"the checkpoints of job {job.id!r}: {reason}; evaluate the final model")
    return usable


class _Jury:
    """Scores checkpoints of a job, one like the other."""

    def __init__(
        self,
        job: FineTuneJob,
        formatter: ChatFormatter | None,
        baselines: ItemDataset | None,
        unscored: Unscored,
    ) -> None:
        self._job, self._formatter = job, formatter
        self._unscored: Unscored = unscored
        self._median = None if baselines is None else MedianBaseline.fit(baselines).price

    def score(self, checkpoint: JobCheckpoint, items: Sequence[Item]) -> CheckpointScore:
        try:
            evaluation = self.evaluate(checkpoint, items)
        except EvaluationError as error:
            # An early checkpoint may not have learned to answer with a price; that is a result, too.
            if not error.predictions:
                raise
            return CheckpointScore(checkpoint=checkpoint, evaluation=None, predictions=error.predictions)
        enter([evaluation], self._unscored)  # refused for its gaps, if so, before more is asked
        return CheckpointScore(checkpoint=checkpoint, evaluation=evaluation)

    def evaluate(self, checkpoint: JobCheckpoint, items: Sequence[Item]) -> Evaluation:
        predictor = self._job.predictor(self._formatter, model=checkpoint.model)
        evaluation = Evaluator().evaluate(predictor, items)
        return replace(evaluation, training_median=self._median)
