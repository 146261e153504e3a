"""From a training file to a model: what it costs, the job, its events and metrics, and its deployment."""

from .cost import CostEstimate, estimate_cost
from .deployment import Deployment
from .events import JobEvent
from .job import FineTuneJob
from .job_metrics import JobMetric, JobMetrics
from .purchase import upload
from .records import JobCheckpoint, JobProblem, JobRecord, ResultFile, UploadedFile

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
    "ResultFile",
    "UploadedFile",
    "estimate_cost",
    "upload",
]
