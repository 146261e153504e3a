"""The dashboard at `/`: jobs with their losses, models, batches and faults, as HTML without any script."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..records import FINAL, UNFINISHED_JOBS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import jinja2

    from ..records import StoredJob
    from .app import ServerState

_MAX_ROWS = 20  # of jobs, models and batches
_MAX_POINTS = 180  # of a curve
_WIDTH, _HEIGHT = 330, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The losses of a job, as points of a drawing `_WIDTH` wide and `_HEIGHT` high."""

    training: list[tuple[float, float]]
    validation: list[tuple[float, float]]
    low: float
    high: float
    last_training_loss: float
    last_validation_loss: float | None

    @classmethod
    def from_steps(cls, steps: Sequence[dict[str, Any]]) -> Curve | None:
        """Return the curve of a job's steps, or None where there are fewer than two."""
        if len(steps) < 2:
            return None
        losses = [step["train_loss"] for step in steps]
        # Each the mean of its neighbourhood: the loss of a single small batch jumps.
        near = [losses[max(0, place - 4) : place + 5] for place in range(len(losses))]
        training = [(step["step"], sum(part) / len(part)) for step, part in zip(steps, near, strict=True)]
        validation = [(step["step"], step["valid_loss"]) for step in steps if "valid_loss" in step]
        shown = [loss for _, loss in [*training, *validation]]
        low, high = min(shown), max(shown)
        margin = (high - low) / 20 or 0.5  # so that no curve lies on the frame
        across, down = _WIDTH / steps[-1]["total_steps"], _HEIGHT / (high - low + 2 * margin)

        def place(points: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
            return [
                (round(across * step, 1), round(down * (high + margin - loss), 1)) for step, loss in points
            ]

        return cls(
            training=place(training),
            validation=place(validation),
            low=low,
            high=high,
            last_training_loss=training[-1][1],
            last_validation_loss=validation[-1][1] if validation else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCard:
    """A job, and what the dashboard shows beside its record."""

    job: StoredJob
    settings: dict[str, Any]
    last_step: dict[str, Any] | None
    note: str | None
    """The last event of a job that has not begun to train."""
    curve: Curve | None


def render_dashboard(state: ServerState) -> str:
    """Return the page as it stands; it asks for itself again, sooner as long as a job is unfinished."""
    database = state.database
    active = database.count_jobs(*(status for status in UNFINISHED_JOBS if status != "paused"))
    return _template().render(
        refresh=2 if active else 15,
        faults=state.injector.faults.model_dump(exclude_defaults=True),
        jobs=[_job_card(state, job) for job in islice(database.iterate_jobs() or (), _MAX_ROWS)],
        job_count=database.count_jobs(),
        bases=state.bases,
        models=database.list_models(),
        batches=list(islice(database.iterate_batches() or (), _MAX_ROWS)),
        batch_count=database.count_batches(),
        max_rows=_MAX_ROWS,
        width=_WIDTH,
        height=_HEIGHT,
    )


def _job_card(state: ServerState, job: StoredJob) -> JobCard:
    steps = state.database.sample_metrics(job.id, _MAX_POINTS)
    note = None
    if not steps and job.status not in FINAL:
        events = state.database.list_events(job.id, limit=1, after=None)
        note = events[0].message if events else None
    return JobCard(
        job=job,
        settings={"n_epochs": "auto", "batch_size": "auto"} | (job.hyperparameters or job.requested),
        last_step=steps[-1] if steps else None,
        note=note,
        curve=Curve.from_steps(steps),
    )


@cache
def _template() -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["when"] = _format_time
    return environment.get_template("dashboard.html")


def _format_time(seconds: int) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M:%S}"
