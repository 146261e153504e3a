"""`Tracker`: the numbers of jobs and evaluations, written to whatever tracker of experiments somebody uses.

The trackers themselves are not imported, but for MLflow, whose run cannot write by itself: a run or a writer
is known by what it has.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from .._arguments import refuse, require_text, require_whole
from ..errors import DataError
from ..evaluate import Evaluation
from ..tune._base import BaseJob
from ..tune.job_metrics import JobMetric, JobMetrics, read_event_metric

if TYPE_CHECKING:
    from ..tune.records import JobEvent

WriteNumbers = Callable[[Mapping[str, float], int | None], object]
"""A function of numbers by their names, and of the step that they belong to, where there is one."""


class _Destination(Protocol):
    """One tracker: where numbers and facts go."""

    def write_numbers(self, name: str, numbers: Mapping[str, float], step: int | None) -> None: ...

    def write_facts(self, name: str, facts: Mapping[str, str | float]) -> None: ...


class Tracker:
    """A callback that writes the numbers of jobs and evaluations to a tracker of experiments.

    Call it with an event of a job, with `job.metrics()`, with a job, or with an evaluation; what has no
    numbers, such as an event that is a sentence, is passed over. A number that was written for a step is not
    written again, so `tracker(job.metrics())` after the events adds only what they did not hold.

    | what it is called with | what is written |
    |---|---|
    | an event, `job.metrics()`, one of them | `job/train_loss`, `job/valid_loss`, ... at their steps |
    | a job | its id, models, settings and metadata, as facts of the run; `job/trained_tokens` |
    | an evaluation | `evaluation/mae`, `evaluation/mae_low`, ..., see `Evaluation.to_dict` |

    Args:
        target: A run of Weights & Biases (`wandb.init(...)`), a run of MLflow (`mlflow.start_run()`), a
            `SummaryWriter` of TensorBoard (of torch or tensorboardX), or a function of numbers by their names
            and a step. Facts are not handed to a function.

    Raises:
        WrongArgument: The target is nothing of these.

    Examples:
        >>> from finetune_pricer import Evaluator, Item
        >>> from finetune_pricer.integrations import Tracker
        >>> items = [Item(title="Lamp", price=20), Item(title="Desk", price=90)]
        >>> evaluation = Evaluator().score(items, [25, 80])
        >>> tracker = Tracker(lambda numbers, step: print(numbers["evaluation/mae"], step))
        >>> tracker(evaluation)
        7.5 None
    """

    def __init__(self, target: Any) -> None:
        self._destination = _find_destination(target)
        self._written: dict[tuple[str, int], float] = {}

    def __call__(
        self,
        found: JobEvent | JobMetric | JobMetrics | BaseJob | Evaluation,
        *,
        name: str | None = None,
        step: int | None = None,
    ) -> None:
        """Write the numbers of something.

        Args:
            found: What has the numbers.
            name: What their names begin with, in the place of `job` or `evaluation`: tell two evaluations, or
                two jobs, of one run apart.
            step: The step that an evaluation belongs to, such as a checkpoint's.

        Raises:
            WrongArgument: It is something else.
        """
        require_text("name", name, or_none=True)
        require_whole("step", step, low=0, or_none=True)
        if name == "":
            raise DataError("name is empty; leave it out for 'job' and 'evaluation'")
        if isinstance(found, Evaluation):
            self._write(name or "evaluation", found.to_dict(), step)
        elif isinstance(found, BaseJob):
            self._write_job(name or "job", found)
        else:
            for metric in _read_metrics(found):
                numbers = {key: value for key, value in metric.to_dict().items() if key != "step"}
                self._write(name or "job", numbers, metric.step)

    def __repr__(self) -> str:
        return (
            f"Tracker({type(self._destination).__name__.strip('_')}, {len(self._written):,} numbers at steps)"
        )

    def _write_job(self, name: str, job: BaseJob) -> None:
        facts = _facts_of(job)
        self._destination.write_facts(name, {f"{name}/{key}": value for key, value in facts.items()})
        if job.trained_tokens is not None:
            self._write(name, {"trained_tokens": float(job.trained_tokens)}, None)

    def _write(self, name: str, numbers: Mapping[str, float], step: int | None) -> None:
        named = {f"{name}/{key}": value for key, value in numbers.items()}
        if step is not None:
            named = {key: value for key, value in named.items() if self._written.get((key, step)) != value}
            self._written |= {(key, step): value for key, value in named.items()}
        if named:
            self._destination.write_numbers(name, named, step)


def _read_metrics(found: object) -> Iterable[JobMetric]:
    if isinstance(found, JobMetric):
        return [found]
    if isinstance(found, JobMetrics):
        return found
    if hasattr(found, "data") and hasattr(found, "message"):
        event: Any = found
        metric = read_event_metric(event)
        return [] if metric is None else [metric]
    raise refuse("what a tracker is called with", "an event, a job, its metrics or an evaluation", found)


def _facts_of(job: BaseJob) -> dict[str, str | float]:
    """Return what is known of a job and will not change any more: nothing that is yet to be chosen."""
    known: dict[str, Any] = {"id": job.id, "model": job.model, "fine_tuned_model": job.fine_tuned_model}
    known |= {f"hyperparameters/{key}": value for key, value in job.hyperparameters.items()}
    known |= {f"metadata/{key}": value for key, value in job.metadata.items()}
    return {
        key: value if isinstance(value, int | float) else str(value)
        for key, value in known.items()
        if value not in (None, "auto", -1)
    }


def _find_destination(target: Any) -> _Destination:
    # By what they have, for nobody needs all of these libraries to be installed.
    if not isinstance(target, type):
        if hasattr(target, "define_metric") and hasattr(target, "log"):
            return _WandbRun(target)
        if hasattr(getattr(target, "info", None), "run_id"):
            return _MlflowRun(target)
        if hasattr(target, "add_scalar") and hasattr(target, "add_text"):
            return _SummaryWriter(target)
        if callable(target):
            return _Function(target)
    hint = "mlflow.start_run() gives one" if getattr(target, "__name__", "") == "mlflow" else ""
    wanted = "a run of Weights & Biases or MLflow, a SummaryWriter, or a function of numbers and a step"
    raise refuse("target", wanted, target, hint)


class _WandbRun:
    """A run of Weights & Biases. Its own count of steps only grows, so ours is a number beside the others."""

    def __init__(self, run: Any) -> None:
        self._run = run
        self._defined: set[str] = set()

    def write_numbers(self, name: str, numbers: Mapping[str, float], step: int | None) -> None:
        if step is None:
            self._run.log(dict(numbers))
            return
        if name not in self._defined:
            self._defined.add(name)
            self._run.define_metric(f"{name}/*", step_metric=f"{name}/step")
        self._run.log({**numbers, f"{name}/step": step})

    def write_facts(self, name: str, facts: Mapping[str, str | float]) -> None:  # noqa: ARG002 - as the others
        self._run.config.update(dict(facts), allow_val_change=True)


class _MlflowRun:
    """A run of MLflow, by its id: it need not be the active one."""

    def __init__(self, run: Any) -> None:
        from mlflow import MlflowClient

        self._id = run.info.run_id
        self._client = MlflowClient()

    def write_numbers(self, name: str, numbers: Mapping[str, float], step: int | None) -> None:  # noqa: ARG002
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(key, value, now, step or 0) for key, value in numbers.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def write_facts(self, name: str, facts: Mapping[str, str | float]) -> None:  # noqa: ARG002 - as the others
        from mlflow.entities import Param

        self._client.log_batch(self._id, params=[Param(key, str(value)) for key, value in facts.items()])


class _SummaryWriter:
    """A writer of TensorBoard's files, of torch or of tensorboardX."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def write_numbers(self, name: str, numbers: Mapping[str, float], step: int | None) -> None:  # noqa: ARG002
        for key, value in numbers.items():
            self._writer.add_scalar(key, value, step or 0)

    def write_facts(self, name: str, facts: Mapping[str, str | float]) -> None:
        rows = [f"| {key} | {value} |" for key, value in facts.items()]
        self._writer.add_text(name, "\n".join(["| fact | value |", "|---|---|", *rows]), 0)


class _Function:
    """A function of somebody's own, for any other tracker."""

    def __init__(self, write: WriteNumbers) -> None:
        self._function = write

    def write_numbers(self, name: str, numbers: Mapping[str, float], step: int | None) -> None:  # noqa: ARG002
        self._function(dict(numbers), step)

    def write_facts(self, name: str, facts: Mapping[str, str | float]) -> None:
        """Pass over them: a function takes numbers."""
