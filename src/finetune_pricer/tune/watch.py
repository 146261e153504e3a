"""A bar that follows a job, where somebody looks."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .._progress import somebody_looks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .job_metrics import JobMetric
    from .records import JobRecord


@contextmanager
def bar(job_id: str) -> Iterator[Callable[[JobRecord, JobMetric | None], None] | None]:
    """Show status, step, loss and the estimated finish; gives None where nobody looks."""
    if not somebody_looks():
        yield None
        return
    from tqdm.auto import tqdm

    with tqdm(desc=job_id, unit="step") as shown:

        def show(job: JobRecord, metric: JobMetric | None) -> None:
            if metric is not None:
                shown.total, shown.n = metric.total_steps, metric.step
            shown.set_postfix_str(describe(job, metric))

        yield show


def describe(job: JobRecord, metric: JobMetric | None) -> str:
    """Put a job's state into a few words."""
    words = [job.status]
    if metric is not None and metric.train_loss is not None:
        words.append(f"loss {metric.train_loss:.3f}")
    if metric is not None and metric.valid_loss is not None:
        words.append(f"validation {metric.valid_loss:.3f}")
    if job.estimated_finish:
        words.append(f"done about {time.strftime('%H:%M', time.localtime(job.estimated_finish))}")
    return ", ".join(words)
