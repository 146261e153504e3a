"""The dashboard: an overview at `/` and a page for each job, as HTML without any script.

Everything is computed here; the pages in `pages/` lay it out, and Jinja2 escapes what others wrote.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..records import FINAL, UNFINISHED_JOBS
from .curve import HEIGHT, WIDTH, Curve

if TYPE_CHECKING:
    from collections.abc import Iterable

    import jinja2

    from ..database import Database
    from ..records import StoredCheckpoint, StoredJob, StoredModel
    from .app import ServerState

_MAX_ROWS = 20  # of jobs, models and batches
_MAX_EVENTS = 50
_MAX_POINTS = 180  # of a curve
_SOON, _LATER = 2, 15  # seconds after which a page asks for itself again

# A sign beside the colour: not everybody sees those.
_STATES = {
    "validating_files": ("waits", "…"),
    "queued": ("waits", "…"),
    "running": ("goes", "▶"),
    "paused": ("waits", "‖"),
    "succeeded": ("good", "✓"),
    "failed": ("bad", "✗"),
    "cancelled": ("off", "■"),
    "validating": ("waits", "…"),
    "in_progress": ("goes", "▶"),
    "finalizing": ("goes", "▶"),
    "completed": ("good", "✓"),
    "expired": ("bad", "✗"),
    "cancelling": ("off", "■"),
}
_UNKNOWN = ("waits", "?")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCard:
    """A job, and what the dashboard shows beside its record."""

    job: StoredJob
    settings: dict[str, Any]
    last_step: dict[str, Any] | None
    note: str | None
    """The last event of a job that has not begun to train."""
    curve: Curve | None

    @property
    def title(self) -> str:
        """What its owner called it: the suffix, or else the base model."""
        return self.job.suffix or self.job.model

    @property
    def advice(self) -> str | None:
        """What to do about the state that the job is in, where there is something to do."""
        return _advise(self.job)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelGroup:
    """The model of a job, and the checkpoints on the way to it."""

    job: str
    model: StoredModel | None
    """None where the job has not ended well, or its model was deleted."""
    made_at: int
    checkpoints: list[StoredCheckpoint]
    """Those on the way, the newest first."""


def render_overview(state: ServerState, *, url: str, has_key: bool) -> str:
    """Return the page as it stands; it asks for itself again, sooner as long as a job is unfinished.

    Args:
        state: The server's components.
        url: Under what the page was asked for, without a slash at its end.
        has_key: Whether clients must send a key; the page never shows it.
    """
    database = state.database
    by_job = _group_by_job(database.list_models())
    active = database.count_jobs(*(status for status in UNFINISHED_JOBS if status != "paused"))
    return render(
        "overview.html",
        state,
        refresh=_SOON if active else _LATER,
        url=url,
        has_key=has_key,
        jobs=[_job_card(state, job) for job in islice(database.iterate_jobs() or (), _MAX_ROWS)],
        job_count=database.count_jobs(),
        bases=state.bases,
        groups=[_describe_models(database, *pair) for pair in islice(by_job.items(), _MAX_ROWS)],
        group_count=len(by_job),
        batches=list(islice(database.iterate_batches() or (), _MAX_ROWS)),
        batch_count=database.count_batches(),
        max_rows=_MAX_ROWS,
    )


def render_job(state: ServerState, job: StoredJob, *, url: str, has_key: bool) -> str:
    """Return the page of a job: its losses, settings, files, checkpoints and events."""
    database = state.database
    named = {"training": job.training_file, "validation": job.validation_file}
    files = [(kind, id_, database.find_file(id_)) for kind, id_ in named.items() if id_]
    files += [("result", id_, database.find_file(id_)) for id_ in job.result_files]
    is_over = job.status in FINAL or job.status == "paused"
    return render(
        "job.html",
        state,
        refresh=None if is_over else _SOON,
        url=url,
        has_key=has_key,
        card=_job_card(state, job),
        files=files,
        checkpoints=database.list_checkpoints(job.id),
        events=database.list_messages(job.id, limit=_MAX_EVENTS),
        max_events=_MAX_EVENTS,
    )


def render(page: str, state: ServerState, **content: Any) -> str:
    """Return one of the pages in `pages/`, which all show the faults in force."""
    faults = state.injector.faults.model_dump(mode="json", exclude_defaults=True)
    template = _environment().get_template(page)
    return template.render(faults=faults, width=WIDTH, height=HEIGHT, **content)


def _group_by_job(models: Iterable[StoredModel]) -> dict[str, list[StoredModel]]:
    by_job: dict[str, list[StoredModel]] = {}
    for model in models:
        by_job.setdefault(model.job, []).append(model)
    return by_job


def _describe_models(database: Database, job_id: str, made: list[StoredModel]) -> ModelGroup:
    steps = {one.model: one for one in database.list_checkpoints(job_id)}
    job = database.find_job(job_id)
    final = next((one for one in made if job is not None and one.id == job.fine_tuned_model), None)
    on_the_way = [steps[one.id] for one in made if one is not final and one.id in steps]
    return ModelGroup(job=job_id, model=final, made_at=made[0].created_at, checkpoints=on_the_way)


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


def _advise(job: StoredJob) -> str | None:
    error = job.error or {}
    if job.status == "paused":
        return "It goes on where it stopped: client.fine_tuning.jobs.resume(id)."
    if "(a fault)" in error.get("message", ""):
        return "A fault in force did this. End the faults, and create the job again."
    if str(error.get("code", "")).startswith("invalid_"):
        return (
            "check_jsonl(path) of finetune_pricer names each wrong line and its fix. Upload the mended file, "
            "and create the job again: this one stays as it is."
        )
    if error:
        return "The server's log says more. When its reason is gone, create the job again."
    return None


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("pages")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "when": _format_time,
        "long": _format_duration,
        "state_of": _state_of,
    }
    return environment


def _state_of(status: str) -> tuple[str, str]:
    return _STATES.get(status, _UNKNOWN)


def _format_time(seconds: int) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M:%S %Z}"


def _format_duration(seconds: int) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
