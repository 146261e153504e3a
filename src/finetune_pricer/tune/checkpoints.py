"""Models that a job kept on its way, as the service lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from .._service import requests
from .._service.flow import Flow, ask
from .job_metrics import JobMetric, metric_of
from .records import Said

if TYPE_CHECKING:
    from ..providers.provider import Provider


class JobCheckpoint(Said):
    """A model that a job kept after some step; further fields are kept."""

    noun = "checkpoint"

    id: str
    step: int = 0
    """After how many steps."""
    model: str | None = None
    """The name by which it can be asked; None where the service must deploy it first."""
    metrics: JobMetric = JobMetric(step=0)
    """What was measured then."""
    created_at: int | None = None
    result_files: list[str] = Field(default_factory=list)
    """Files of its weights, where the service gives them out."""


def listed(job_id: str, provider: Provider) -> Flow[list[JobCheckpoint]]:
    """Give all checkpoints by their steps, the first step first."""
    found: dict[str, JobCheckpoint] = {}
    after: str | None = None
    while True:
        page = yield from ask(requests.checkpoints(job_id, after))
        rows = [_read(row, provider) for row in page.get("data") or [] if isinstance(row, dict)]
        fresh = [row for row in rows if row.id not in found]
        found |= {row.id: row for row in fresh}
        if not fresh or not page.get("has_more"):
            return sorted(found.values(), key=lambda checkpoint: checkpoint.step)
        after = rows[-1].id


def _read(row: dict[str, Any], provider: Provider) -> JobCheckpoint:
    names = [row[field] for field in provider.checkpoint_model_fields if isinstance(row.get(field), str)]
    measured = row.get("metrics") if isinstance(row.get("metrics"), dict) else {}
    step = row.get("step_number") or row.get("step") or (measured or {}).get("step") or 0
    metrics = metric_of({**(measured or {}), "step": step}) or JobMetric(step=0)
    model = names[0] if names else None
    return JobCheckpoint.read({**row, "step": metrics.step, "model": model, "metrics": metrics})
