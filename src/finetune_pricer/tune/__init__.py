"""From a training file to a model: what it costs, the job, its events and metrics, and its deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._lazy import resolve_late
from ._base import ResultFile
from .cost import CostEstimate, estimate_cost
from .deployment import Deployment, deployments
from .job import FineTuneJob
from .job_metrics import JobMetric, JobMetrics
from .purchase import upload
from .spec import JobSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from .records import JobCheckpoint, JobEvent, JobProblem, JobRecord, UploadedFile

__all__ = [
    "CostEstimate",
    "Deployment",
    "FineTuneJob",
    "JobCheckpoint",
    "JobEvent",
    "JobMetric",
    "JobMetrics",
    "JobProblem",
    "JobRecord",
    "JobSpec",
    "ResultFile",
    "UploadedFile",
    "deployments",
    "estimate_cost",
    "upload",
]

__getattr__: Callable[[str], Any] = resolve_late(
    __name__,
    dict.fromkeys(("JobCheckpoint", "JobEvent", "JobProblem", "JobRecord", "UploadedFile"), "records"),
)
