"""`finetune-pricer jobs`: list, show, watch and cancel."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from ..tune import FineTuneJob
from .command import Answer, Command, note_way_on, say
from .options import Service, service_options


@click.group()
def jobs() -> None:
    """List, show, watch and cancel the fine-tuning jobs of a service."""


@jobs.command("list", cls=Command)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many, at most.")
@service_options
def list_jobs(*, limit: int, service: Service) -> Answer:
    """List the newest jobs, the newest first."""
    found = FineTuneJob.list(service.connect(), limit=limit)
    lines = [_write_line(job) for job in found] or ["no jobs"]
    return Answer("\n".join(lines), {"jobs": [describe_job(job) for job in found]})


@jobs.command("show", cls=Command)
@click.argument("job_id")
@service_options
def show(*, job_id: str, service: Service) -> Answer:
    """Show a job: its settings, what became of it, its losses and checkpoints."""
    job = FineTuneJob.attach(service.connect(), job_id)
    metrics, checkpoints = job.metrics(), job.checkpoints()
    content = describe_job(job) | {
        "metrics": list(metrics),
        "checkpoints": [one.model for one in checkpoints],
    }
    settings = ", ".join(f"{name}={value}" for name, value in job.hyperparameters.items())
    lines = [_write_line(job), f"  settings     {settings or 'none told'}"]
    if metrics:
        lines.append(f"  last metrics {_write_metric(metrics[-1])}")
    lines += [f"  checkpoint   step {one.step:,}: {one.model or one.id}" for one in checkpoints]
    lines += [f"  error        {job.error.message}"] if job.error else []
    return Answer("\n".join(lines), content)


@jobs.command("watch", cls=Command)
@click.argument("job_id")
@click.option("--timeout", type=click.FloatRange(min=0), help="Seconds to wait for its end.")
@service_options
def watch(*, job_id: str, timeout: float | None, service: Service) -> Answer:
    """Tell what happens to a job until it ends.

    Its events go to stderr. Ends with 1 where the job failed or was cancelled; interrupting it, or its
    --timeout, does not end the job.
    """
    job = FineTuneJob.attach(service.connect(), job_id)
    note_way_on(f"The job goes on; `jobs watch {job_id}` finds it again.")
    if timeout is None:
        for event in job.stream_events():
            say(str(event))
    job.wait(timeout)
    return Answer(_write_line(job), describe_job(job))


@jobs.command("cancel", cls=Command)
@click.argument("job_id")
@service_options
def cancel(*, job_id: str, service: Service) -> Answer:
    """Stop a job for good."""
    job = FineTuneJob.attach(service.connect(), job_id).cancel()
    return Answer(_write_line(job), describe_job(job))


def describe_job(job: FineTuneJob) -> dict[str, Any]:
    """Return what a service says about a job, for programs."""
    return {
        "id": job.id,
        "status": job.status,
        "is_final": job.is_final,
        "model": job.model,
        "fine_tuned_model": job.fine_tuned_model,
        "trained_tokens": job.trained_tokens,
        "created_at": job.created_at,
        "hyperparameters": job.hyperparameters,
        "error": None if job.error is None else job.error.message,
        "provider": job.provider.name,
    }


def _write_line(job: FineTuneJob) -> str:
    asked = (
        "" if job.created_at is None else f"{datetime.fromtimestamp(job.created_at, UTC):%Y-%m-%d %H:%M} UTC"
    )
    names = f"{job.model or ''}{f' -> {job.fine_tuned_model}' if job.fine_tuned_model else ''}"
    return f"{job.id}  {job.status:<16}  {asked:<20}  {names}".rstrip()


def _write_metric(metric: Any) -> str:
    told = {
        "step": metric.step,
        "training loss": metric.train_loss,
        "validation loss": metric.full_valid_loss or metric.valid_loss,
    }
    return ", ".join(f"{name} {value:.4g}" for name, value in told.items() if value is not None)
