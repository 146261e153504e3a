"""What `FineTuneJob` and `AsyncFineTuneJob` share: the facts of a job, and a flow for each of its methods."""

from __future__ import annotations

import logging
import time
import warnings
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from .._arguments import (
    refuse,
    require_client,
    require_formatter,
    require_number,
    require_path,
    require_text,
    require_whole,
)
from .._files import temporary_folder
from .._progress import somebody_looks
from .._service.account import service_of
from .._service.flow import Flow, Pages, Work, ask, poll
from .._service.requests import (
    act_on_job,
    delete_file,
    delete_model,
    get_file_content,
    get_job,
    get_path,
    list_events,
    list_jobs,
    note_process,
)
from .._service.statuses import read_status
from ..chat import ChatFormatter
from ..errors import (
    DataError,
    JobCancelled,
    JobError,
    JobFailed,
    JobTimeout,
    NotFound,
    NotSupported,
    PricerError,
    RequestRejected,
    ServiceError,
    ServiceUnavailable,
)
from ..providers.lookup import ends_with_process, provider_of
from .deployment import deploy, is_at_home, undeploy
from .events import read_events, says_that_there_are_none, stream_events
from .job_metrics import (
    JobMetric,
    JobMetrics,
    read_event_metric,
    read_metrics_answer,
    read_metrics_file,
)
from .old_job import fetch_spec
from .published_model import publish_adapter, require_publication
from .queries import ask_checkpoints, ask_job, next_events, next_jobs
from .spec import FORMATTER_KEY, OUR_KEYS, read_nested_hyperparameters
from .weights import download_weights

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .._service.error_mapping import Client
    from .._service.requests import Request
    from ..providers.provider import Provider
    from .deployment import Deployment
    from .journal import Account
    from .records import JobCheckpoint, JobEvent, JobProblem, JobRecord
    from .spec import JobSpec

    Show = Callable[[JobRecord, JobMetric | None], None]

_log = logging.getLogger("finetune_pricer")

_UNDEPLOY_TIMEOUT = 120.0  # seconds
# A word that is not here means "not finished": services have words of their own, such as `paused`.
_FINAL = frozenset({"succeeded", "failed", "cancelled"})


class ResultFile:
    """A file that a job made, such as the table of its losses."""

    def __init__(self, id_: str, content: bytes) -> None:
        self.id = id_
        self.content = content

    def __repr__(self) -> str:
        return f"ResultFile({self.id!r}, {len(self.content):,} bytes)"


class BaseJob:
    """A job as it was when it was last looked at, and a flow for everything that can be done with it."""

    _awaits: ClassVar[bool] = False

    def __init__(self, client: Client, record: JobRecord, provider: str | Provider | None = None) -> None:
        require_client(client, record, awaits=self._awaits)
        if not hasattr(record, "fine_tuned_model"):
            raise refuse(
                "record", "a JobRecord", record, f"{type(self).__name__}.attach(client, id) finds a job"
            )
        self.record: JobRecord = record
        """Everything that the service says about it."""
        self.provider: Provider = provider_of(client, provider)
        """What is known of the service."""
        self._written_by: str | None = None  # the formatter of the file that this job was asked for with
        self._deployment: Deployment | None = None
        self._service = service_of(client)
        self._ends_with_process = ends_with_process(client)
        note_process(client)

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
        return read_status(self.status, self.provider.statuses)

    @property
    def is_final(self) -> bool:
        """Whether nothing will happen to it any more. A word that we do not know is not final."""
        return self._state in _FINAL

    @property
    def model(self) -> str | None:
        """The base model that is trained."""
        return self.record.model

    @property
    def fine_tuned_model(self) -> str | None:
        """The tuned model's name, once the job has succeeded."""
        return self.record.fine_tuned_model

    @property
    def trained_tokens(self) -> int | None:
        """Tokens that were trained on (and billed), once the job has ended."""
        return self.record.trained_tokens

    @property
    def created_at(self) -> int | None:
        """When it was asked for, as Unix time in seconds; None where the service does not say."""
        return self.record.created_at

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Its settings under the service's names, as the service shows them: those it chose itself, too."""
        return self.record.hyperparameters or read_nested_hyperparameters(self.record.model_extra or {})

    @property
    def metadata(self) -> dict[str, Any]:
        """What was noted on it by `metadata=`, as the service shows it, without this library's own notes."""
        return {name: value for name, value in self.record.metadata.items() if name not in OUR_KEYS}

    @property
    def error(self) -> JobProblem | None:
        """Why it failed, in the service's words."""
        return self.record.error

    def __repr__(self) -> str:
        model = f", model={self.fine_tuned_model!r}" if self.fine_tuned_model else ""
        return f"{type(self).__name__}({self.id!r}, status={self.status!r}{model})"

    def _note_formatter(self, fingerprint: str | None) -> Self:
        """Take note of which formatter wrote the file that this job was asked for with."""
        self._written_by = fingerprint
        return self

    def _check_formatter(self, formatter: ChatFormatter | None) -> ChatFormatter:
        """Return the formatter to ask with; warn where another one wrote the training file."""
        if formatter is not None:
            require_formatter(formatter)
        formatter = formatter or ChatFormatter()
        # Two formatters can have written the same bytes, which are the same job: either of them is right.
        trained = {self.record.metadata.get(FORMATTER_KEY), self._written_by} - {None}
        if trained and formatter.fingerprint not in trained:
            known = ", ".join(sorted(map(str, trained)))
            warnings.warn(
                f"job {self.id!r} was trained on examples of a formatter with the fingerprint {known}, and "
                f"this one has {formatter.fingerprint}: the model is asked in other words than it was trained"
                " on, and its prices will be worse; hand in the formatter that wrote the training file",
                UserWarning,
                stacklevel=3,
            )
        return formatter

    def _find_answering_model(self, model: str | None) -> str:
        """Return the name by which the tuned model can be asked.

        Raises:
            JobError: The job has not succeeded, or its model does not answer yet.
        """
        require_text("model", model, or_none=True)
        if model:
            return model
        if self._state != "succeeded":
            raise JobError(
                f"job {self.id!r} is {self.status!r}: it has no model until job.wait() has returned",
                job_id=self.id,
            )
        answers = self.fine_tuned_model
        if self.provider.serving.how != "at_once":
            answers = None if self._deployment is None else self._deployment.model
        if not answers:
            raise JobError(
                f"nothing says by which name the model of job {self.id!r} answers at {self.provider.name!r}: "
                "call job.deploy() first, which also finds what is deployed already; or hand in the name: "
                "job.predictor(formatter, model=...)",
                job_id=self.id,
            )
        return answers

    def _answers_at(self) -> str | None:
        """Return where the tuned model answers, where that is another address of the service's own."""
        place = self.provider.serving.answers_at
        return place if place and is_at_home(self.provider, self._service) else None

    # Flows: each is carried out by the method of the same name in both classes.

    def _refresh_flow(self) -> Flow[JobRecord]:
        self.record = yield from ask_job(get_job(self.id))
        return self.record

    def _is_final_flow(self) -> Flow[bool]:
        yield from self._refresh_flow()
        return self.is_final

    def _wait_flow(self, timeout: float | None, longest_pause: float) -> Flow[None]:
        require_number("timeout", timeout, low=0, or_none=True)
        require_number("poll", longest_pause, above=0)
        if not self.is_final:
            with _show_progress(self.id) as show:
                yield from poll(
                    lambda: self._look_flow(show),
                    done=lambda ended: ended,
                    timeout=timeout,
                    late=lambda: self._late(timeout),
                    longest_pause=longest_pause,
                )
        if self._state == "failed":
            raise self._failure()
        if self._state == "cancelled":
            raise JobCancelled(f"job {self.id!r} was cancelled", job_id=self.id)

    def _look_flow(self, show: Show | None) -> Flow[bool]:
        ended = yield from self._is_final_flow()
        if show is not None:
            show(self.record, (yield from self._newest_metric()))
        return ended

    def _newest_metric(self) -> Flow[JobMetric | None]:
        try:
            events = yield from next_events(Pages(partial(list_events, self.id, limit=20), most=1))
        except (ServiceError, NotSupported):
            return None  # a bar is not worth an error
        metrics = [read_event_metric(event) for event in events]
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
        told = f"find it again with {type(self).__name__}.attach(client, {self.id!r})"
        if self._ends_with_process:
            told += (
                ", while this process runs: its server ends with it, and connect('local', dir=...) keeps it"
            )
        return told

    def _say_that_it_goes_on(self, error: BaseException) -> None:
        """Tell somebody who has interrupted the waiting that the job goes on."""
        message = f"job {self.id!r} goes on; {self._how_to_attach()}"
        error.add_note(message)
        _log.warning("stopped waiting: %s", message)

    def _stream_events_flow(self, after: str | None) -> Flow[None]:
        require_text("after", after, "give the id of an event", or_none=True)
        return stream_events(
            self.id, look=self._is_final_flow, in_order=self.provider.events_in_order, after=after
        )

    def _events_flow(self) -> Flow[list[JobEvent]]:
        return read_events(self.id, in_order=self.provider.events_in_order)

    def _deploy_flow(self, account: Account, name: str | None, timeout: float | None) -> Flow[Deployment]:
        require_text("name", name, or_none=True)
        require_number("timeout", timeout, low=0, or_none=True)
        if self._state != "succeeded":
            yield from self._refresh_flow()
        if self._state != "succeeded":
            raise JobError(
                f"job {self.id!r} is {self.status!r}; there is nothing to deploy until it has succeeded",
                job_id=self.id,
            )
        self._deployment = yield from deploy(
            account,
            self.record,
            self.provider,
            service=self._service,
            name=name,
            timeout=timeout,
        )
        return self._deployment

    def _undeploy_flow(self, name: str | None) -> Flow[None]:
        require_text("name", name, or_none=True)
        yield from undeploy(self.record, self.provider, service=self._service, name=name)
        self._deployment = None

    def _take_down_flow(self) -> Flow[None]:
        """Take down all that is deployed of this job, with patience for a service that is away."""

        def late() -> ServiceUnavailable:
            return ServiceUnavailable(
                f"what is deployed of job {self.id!r} could not be taken down, and may be billed: call "
                f"job.undeploy(), or take it down in the console of {self.provider.name!r}"
            )

        yield from poll(
            lambda: self._undeploy_flow(None), done=lambda _: True, timeout=_UNDEPLOY_TIMEOUT, late=late
        )

    def _require_deployable(self, max_hours: float) -> None:
        require_number("max_hours", max_hours, above=0)
        if self.provider.serving.how == "by_hand":
            raise NotSupported(
                f"{self.provider.name!r} deploys through a control plane of its own: print(job.deploy()) "
                "shows the steps, and job.predictor(formatter, model=...) asks the deployment"
            )

    def _say_that_time_is_up(self, max_hours: float) -> None:
        _log.warning("job %r was deployed for %g hours; it is taken down", self.id, max_hours)

    @property
    def _is_checked_after_deploying(self) -> bool:
        return self.provider.serving.how in {"custom_models", "loras"}

    def _validation_flow(self) -> Flow[tuple[bytes, float | None]]:
        """Return the content of the validation file and the last validation loss, as far as there are any."""
        content, loss = b"", None
        if self.record.validation_file is not None:
            with suppress(ServiceError, NotSupported):
                content = (yield from ask(get_file_content(self.record.validation_file)))["content"]
        if content:
            with suppress(ServiceError, NotSupported):
                losses = [m.full_valid_loss or m.valid_loss for m in (yield from self._metrics_flow())]
                loss = next((each for each in reversed(losses) if each is not None), None)
        return content, loss

    def _say_that_it_is_not_checked(self, error: PricerError) -> None:
        # It is deployed all the same: who asks it hears of the error again.
        _log.warning("the deployed model of job %r could not be checked: %s", self.id, error)

    def _say_what_is_wrong(self, *problems: str | None) -> None:
        for problem in problems:
            if problem is not None:
                _log.warning(
                    "the deployed model of job %r does not look like the one that was trained: %s. Is it "
                    "another chat template, or the wrong adapter? Evaluate it before you rely on it",
                    self.id,
                    problem,
                )

    def _act_flow(self, action: Literal["cancel", "pause", "resume"]) -> Flow[JobRecord]:
        if action != "cancel" and not self.provider.pause:
            raise NotSupported(f"{self.provider.name!r} cannot {action} a job; cancel() stops it for good")
        self.record = yield from ask_job(act_on_job(self.id, action))
        return self.record

    def _metrics_flow(self) -> Flow[JobMetrics]:
        sources: dict[str, Callable[[], Flow[list[JobMetric]]]] = {
            "events": self._metrics_of_events,
            "result_files": self._metrics_of_files,
            "endpoint": self._metrics_of_endpoint,
            "checkpoints": self._metrics_of_checkpoints,
        }
        problem: PricerError | None = None
        for name in self.provider.metrics_from:
            try:
                found = yield from sources[name]()
            except (ServiceError, NotSupported) as error:
                # Another place may have them; a place that is not there is no error at all.
                problem = problem if says_that_there_are_none(error) else error
                continue
            if found:
                return JobMetrics(found)
        if problem is not None:
            raise problem
        return JobMetrics([])

    def _metrics_of_events(self) -> Flow[list[JobMetric]]:
        events = yield from self._events_flow()
        return [metric for event in events if (metric := read_event_metric(event)) is not None]

    def _metrics_of_files(self) -> Flow[list[JobMetric]]:
        for file in (yield from self._result_files_flow()):
            found = read_metrics_file(file.content)
            if found:
                return found
        return []

    def _metrics_of_endpoint(self) -> Flow[list[JobMetric]]:
        if self.provider.metrics_path is None:
            return []
        try:
            answer = yield from ask(get_path(self.provider.metrics_path.format(job=self.id)))
        except NotFound:
            return []
        return read_metrics_answer(answer)

    def _metrics_of_checkpoints(self) -> Flow[list[JobMetric]]:
        return [checkpoint.metrics for checkpoint in (yield from self._checkpoints_flow())]

    def _checkpoints_flow(self) -> Flow[list[JobCheckpoint]]:
        return ask_checkpoints(self.id, self.provider)

    def _result_files_flow(self) -> Flow[list[ResultFile]]:
        yield from self._refresh_flow()
        found = []
        for id_ in self.record.result_files:
            answer = yield from ask(get_file_content(id_))
            found.append(ResultFile(id_, answer["content"]))
        return found

    def _fetch_spec_flow(self, folder: str | os.PathLike[str]) -> Flow[JobSpec]:
        require_path("folder", folder)
        return fetch_spec(self.record, self.provider, folder)

    def _download_flow(
        self, path: str | os.PathLike[str], checkpoint: JobCheckpoint | None
    ) -> Flow[list[Path]]:
        require_path("path", path)
        if checkpoint is not None and not hasattr(checkpoint, "step"):
            raise refuse("checkpoint", "one of job.checkpoints()", checkpoint)
        return download_weights(self.record, self.provider, path, checkpoint)

    def _push_flow(
        self,
        repo: str,
        evaluation: Any,
        *,
        checkpoint: JobCheckpoint | None,
        **settings: Any,
    ) -> Flow[str]:
        """Download the adapter, and upload it with its card; `settings` are those of `publish_adapter`."""
        require_publication(repo, evaluation, **settings)
        with temporary_folder("push") as folder:
            yield from self._download_flow(folder, checkpoint)
            where: str = yield Work(
                partial(publish_adapter, folder, self.record, repo, evaluation, **settings)
            )
        return where

    def _delete_flow(self, *, files: bool, model: bool) -> Flow[list[str]]:
        """Delete the files and the model; return the names of those that are gone now."""
        yield from self._refresh_flow()
        if not self.is_final:
            raise RequestRejected(
                f"job {self.id!r} is {self.status!r}; cancel() it before deleting its things"
            )
        job, gone = self.record, []
        wanted: list[tuple[str, Request]] = []
        if files:
            names = [job.training_file, job.validation_file, *job.result_files]
            wanted += [(name, delete_file(name)) for name in names if name]
        if model and job.fine_tuned_model:
            wanted.append((job.fine_tuned_model, delete_model(job.fine_tuned_model)))
        for name, request in wanted:
            with suppress(NotFound):  # gone already, which is what was wanted
                yield from ask(request)
            gone.append(name)
        return gone


def get_job_by_id(job_id: str) -> Flow[JobRecord]:
    """Return the job of an id.

    Raises:
        DataError: The id is empty.
        NotFound: The service has no such job.
    """
    require_text("job_id", job_id, "job.id is a job's own" if hasattr(job_id, "id") else "")
    if not job_id:
        raise DataError("job_id is empty; FineTuneJob.list(client) gives the newest jobs")
    return (yield from ask_job(get_job(job_id)))


def list_newest_jobs(limit: int) -> Flow[list[JobRecord]]:
    """Return the newest jobs of whatever spec, newest first, at most `limit`."""
    require_whole("limit", limit, low=1)
    pages, jobs = Pages(partial(list_jobs, limit=min(limit, 100))), list["JobRecord"]()
    while len(jobs) < limit and (page := (yield from next_jobs(pages))):
        jobs += page
    return jobs[:limit]


@contextmanager
def _show_progress(job_id: str) -> Iterator[Show | None]:
    """Show status, step, loss and the estimated finish in a bar; yield None where nobody looks."""
    if not somebody_looks():
        yield None
        return
    from tqdm.auto import tqdm

    with tqdm(desc=job_id, unit="step") as bar:

        def show(job: JobRecord, metric: JobMetric | None) -> None:
            if metric is not None:
                bar.total, bar.n = metric.total_steps, metric.step
            bar.set_postfix_str(_describe(job, metric))

        yield show


def _describe(job: JobRecord, metric: JobMetric | None) -> str:
    words = [job.status]
    if metric is not None and metric.train_loss is not None:
        words.append(f"loss {metric.train_loss:.3f}")
    if metric is not None and metric.valid_loss is not None:
        words.append(f"validation {metric.valid_loss:.3f}")
    if job.estimated_finish:
        words.append(f"done about {time.strftime('%H:%M', time.localtime(job.estimated_finish))}")
    return ", ".join(words)
