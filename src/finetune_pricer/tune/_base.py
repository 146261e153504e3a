"""What is known of a job, and what can be done with it: the half that both doors share."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .._service import requests
from .._service.flow import Flow, ask
from .._service.polling import polled
from ..errors import (
    DataError,
    JobCancelled,
    JobError,
    JobFailed,
    JobTimeout,
    NotFound,
    NotSupported,
    RequestRejected,
    ServiceError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..providers.provider import Provider
    from .checkpoints import JobCheckpoint
    from .deployment import Deployment
    from .events import JobEvent
    from .job_metrics import JobMetric, JobMetrics
    from .records import JobProblem, JobRecord

# A word that is not here means "not finished": services have words of their own, such as `paused`.
_FINAL = frozenset({"succeeded", "failed", "cancelled"})


class ResultFile:
    """A file that a job made, such as the table of its losses."""

    def __init__(self, id_: str, content: bytes) -> None:
        self.id = id_
        self.content = content

    def __repr__(self) -> str:
        return f"ResultFile({self.id!r}, {len(self.content):,} bytes)"


class JobFacts:
    """A job as it was when it was last looked at, and the steps of everything that can be done with it."""

    def __init__(self, record: JobRecord, provider: Provider) -> None:
        self.record = record
        """Everything the service said about it."""
        self.provider = provider
        """What is known of the service."""

    @property
    def id(self) -> str:
        """The service's name for the job, such as `ftjob-...`."""
        return self.record.id

    @property
    def status(self) -> str:
        """The service's word: `validating_files`, `queued`, `running`, `succeeded`, `failed`, ..."""
        return self.record.status

    @property
    def _state(self) -> str:
        return self.provider.statuses.get(self.status, self.status)

    @property
    def is_final(self) -> bool:
        """Whether nothing will happen to it any more. A word that we do not know is not final."""
        return self._state in _FINAL

    @property
    def fine_tuned_model(self) -> str | None:
        """The tuned model's name, once the job has succeeded."""
        return self.record.fine_tuned_model

    @property
    def trained_tokens(self) -> int | None:
        """Tokens that were trained on (and billed), once the job has ended."""
        return self.record.trained_tokens

    @property
    def error(self) -> JobProblem | None:
        """Why it failed, in the service's words."""
        return self.record.error

    def __repr__(self) -> str:
        model = f", model={self.fine_tuned_model!r}" if self.fine_tuned_model else ""
        return f"{type(self).__name__}({self.id!r}, status={self.status!r}{model})"

    # Flows: each is carried out by a method of the same meaning in both doors.

    def _refreshing(self) -> Flow[JobRecord]:
        self.record = yield from read_job(requests.job(self.id))
        return self.record

    def _ended(self) -> Flow[bool]:
        yield from self._refreshing()
        return self.is_final

    def _waiting(self, timeout: float | None, poll: float) -> Flow[None]:
        if not self.is_final:
            from .watch import bar

            with bar(self.id) as show:
                yield from polled(
                    lambda: self._looking(show),
                    done=lambda ended: ended,
                    timeout=timeout,
                    late=lambda: self._late(timeout),
                    poll=poll,
                )
        if self._state == "failed":
            raise self._failure()
        if self._state == "cancelled":
            raise JobCancelled(f"job {self.id!r} was cancelled", job_id=self.id)

    def _looking(self, show: Callable[[JobRecord, JobMetric | None], None] | None) -> Flow[bool]:
        ended = yield from self._ended()
        if show is not None:
            show(self.record, (yield from self._newest_metric()))
        return ended

    def _newest_metric(self) -> Flow[JobMetric | None]:
        from .events import JobEvent
        from .job_metrics import metric_in

        try:
            page = yield from ask(requests.events(self.id, 20, None))
        except ServiceError:
            return None  # a bar is not worth an error
        metrics = [metric_in(JobEvent.read(row)) for row in page.get("data") or []]
        return max((m for m in metrics if m is not None), key=lambda m: m.step, default=None)

    def _failure(self) -> JobFailed:
        if self.error is None:
            return JobFailed(f"job {self.id!r} failed; the service gave no reason", job_id=self.id)
        message, code, param = self.error.message, self.error.code, self.error.param
        known = (("code", code), ("param", param), ("line", self.error.line))
        words = [f"{name} {word!r}" for name, word in known if word]
        where = f" ({', '.join(words)})" if words else ""
        return JobFailed(
            f"job {self.id!r} failed: {message or 'no message'}{where}",
            job_id=self.id,
            code=code,
            param=param,
        )

    def _late(self, timeout: float | None) -> JobTimeout:
        return JobTimeout(
            f"job {self.id!r} is {self.status!r} after {timeout or 0:g} s and goes on; "
            f"{self._how_to_attach()}",
            job_id=self.id,
        )

    def _how_to_attach(self) -> str:
        return f"find it again with {type(self).__name__}.attach(client, {self.id!r})"

    def _left_alone(self, error: BaseException) -> None:
        """Say, to somebody who has interrupted the waiting, that the job goes on."""
        import logging

        message = f"job {self.id!r} goes on; {self._how_to_attach()}"
        error.add_note(message)
        logging.getLogger("finetune_pricer").warning("stopped waiting: %s", message)

    def _streaming(self, after: str | None) -> Flow[None]:
        from .events import streamed

        return streamed(self.id, look=self._ended, in_order=self.provider.events_in_order, after=after)

    def _events(self) -> Flow[list[JobEvent]]:
        from .events import read_all

        found: list[JobEvent] = []
        yield from read_all(self.id, found.append, in_order=self.provider.events_in_order)
        return found

    def _deploying(self, name: str | None, timeout: float | None) -> Flow[Deployment]:
        from .deployment import deployed

        if self._state != "succeeded":
            yield from self._refreshing()
        if self._state != "succeeded":
            raise JobError(
                f"job {self.id!r} is {self.status!r}; there is nothing to deploy until it has succeeded",
                job_id=self.id,
            )
        return (yield from deployed(self.record, self.provider, name=name, timeout=timeout))

    def _undeploying(self, name: str | None) -> Flow[None]:
        from .deployment import undeployed

        return undeployed(self.record, self.provider, name=name)

    def _acting(self, action: str) -> Flow[JobRecord]:
        if action != "cancel" and not self.provider.pause:
            raise NotSupported(f"{self.provider.name!r} cannot {action} a job; cancel() stops it for good")
        self.record = yield from read_job(requests.act_on_job(self.id, action))
        return self.record

    def _measuring(self) -> Flow[JobMetrics]:
        from .job_metrics import JobMetrics

        sources: dict[str, Callable[[], Flow[list[JobMetric]]]] = {
            "events": self._metrics_of_events,
            "result_files": self._metrics_of_files,
            "endpoint": self._metrics_of_endpoint,
            "checkpoints": self._metrics_of_checkpoints,
        }
        for name in self.provider.metrics_from:
            found = yield from sources[name]()
            if found:
                return JobMetrics(found)
        return JobMetrics([])

    def _metrics_of_events(self) -> Flow[list[JobMetric]]:
        from .events import read_all
        from .job_metrics import metric_in

        found: list[JobMetric] = []

        def keep(event: Any) -> None:
            metric = metric_in(event)
            if metric is not None:
                found.append(metric)

        yield from read_all(self.id, keep, in_order=self.provider.events_in_order)
        return found

    def _metrics_of_files(self) -> Flow[list[JobMetric]]:
        from .job_metrics import metrics_in_file

        for file in (yield from self._results()):
            found = metrics_in_file(file.content)
            if found:
                return found
        return []

    def _metrics_of_endpoint(self) -> Flow[list[JobMetric]]:
        from .job_metrics import metrics_in_answer

        if self.provider.metrics_path is None:
            return []
        try:
            answer = yield from ask(requests.thing(self.provider.metrics_path.format(job=self.id)))
        except NotFound:
            return []
        return metrics_in_answer(answer)

    def _metrics_of_checkpoints(self) -> Flow[list[JobMetric]]:
        return [checkpoint.metrics for checkpoint in (yield from self._checkpoints())]

    def _checkpoints(self) -> Flow[list[JobCheckpoint]]:
        from .checkpoints import listed

        return (yield from listed(self.id, self.provider))

    def _results(self) -> Flow[list[ResultFile]]:
        yield from self._refreshing()
        found = []
        for id_ in self.record.result_files:
            answer = yield from ask(requests.file_content(id_))
            found.append(ResultFile(id_, answer["content"]))
        return found

    def _deleting(self, *, files: bool, model: bool) -> Flow[list[str]]:
        """Delete what was asked for; gives the names of what is gone now."""
        yield from self._refreshing()
        if not self.is_final:
            raise RequestRejected(
                f"job {self.id!r} is {self.status!r}; cancel() it before deleting its things"
            )
        job, gone = self.record, []
        wanted: list[tuple[str, requests.Request]] = []
        if files:
            names = [job.training_file, job.validation_file, *job.result_files]
            wanted += [(name, requests.delete_file(name)) for name in names if name]
        if model and job.fine_tuned_model:
            wanted.append((job.fine_tuned_model, requests.delete_model(job.fine_tuned_model)))
        for name, request in wanted:
            with suppress(NotFound):  # gone already, which is what was wanted
                yield from ask(request)
            gone.append(name)
        return gone


def found_by_id(job_id: str) -> Flow[JobRecord]:
    """Find a job by its id."""
    if not job_id:
        raise DataError("job_id is empty; FineTuneJob.list(client) gives the newest jobs")
    return (yield from read_job(requests.job(job_id)))


def read_job(request: requests.Request) -> Flow[JobRecord]:
    """Ask for something that is answered with a job."""
    from .records import JobRecord

    return JobRecord.read((yield from ask(request)))
