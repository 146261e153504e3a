"""A fine-tuning job: asked for, found again, followed, waited for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

from .. import _wire
from ..errors import DataError, JobCancelled, JobFailed, JobTimeout, ServiceError, ServiceUnavailable
from ._polling import poll_until
from .files import upload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from openai import OpenAI

    from ..prepare.jsonl import TrainingFile
    from .events import JobEvent
    from .records import JobProblem, JobRecord, UploadedFile

Setting = int | Literal["auto"]
"""A hyperparameter that the service may choose."""

# A word that is not here means "not finished": services have words of their own, such as `paused`.
_FINAL = frozenset({"succeeded", "failed", "cancelled"})
_LONGEST_SUFFIX = 64  # characters, by the protocol


class FineTuneJob:
    """A fine-tuning job at a service, as it was when it was last looked at.

    Make one with `create`, find one with `attach` or `list`. Nothing is lost when the process ends: the job
    goes on at the service, and `FineTuneJob.attach(client, job_id)` finds it.
    """

    def __init__(self, client: OpenAI, record: JobRecord) -> None:
        self._client = client
        self.record = record
        """Everything the service said about it."""

    @classmethod
    def create(
        cls,
        client: OpenAI,
        training: TrainingFile | UploadedFile,
        *,
        model: str,
        validation: TrainingFile | UploadedFile | None = None,
        epochs: Setting | None = None,
        batch_size: Setting | None = None,
        learning_rate_multiplier: float | Literal["auto"] | None = None,
        seed: int | None = None,
        suffix: str | None = None,
    ) -> FineTuneJob:
        """Upload the files, if they are not there yet, and ask for a supervised fine-tuning job.

        The request is sent once and never again by itself: one whose answer was lost may have been accepted,
        and a second one would be paid for.

        Args:
            client: Any `openai.OpenAI`.
            training: What `JsonlWriter.write` or `upload` returned.
            model: The base model. There is no default: services retire models, and prices differ.
            validation: Examples whose loss is measured meanwhile.
            epochs: Passes over the examples, at least 1.
            batch_size: Examples per step, at least 1.
            learning_rate_multiplier: Factor on the service's learning rate, above 0.
            seed: For the same result with the same request, as far as the service can.
            suffix: Becomes part of the tuned model's name, at most 64 characters.

        Raises:
            DataError: A setting is out of range; nothing was uploaded.
            TrainingFileError: A file has changed since it was written, or the service cannot use it.
            ServiceError: The service refuses the job, or does not answer.
        """
        from .records import UploadedFile

        hyperparameters = {
            "n_epochs": _at_least_one("epochs", epochs),
            "batch_size": _at_least_one("batch_size", batch_size),
            "learning_rate_multiplier": _above_zero("learning_rate_multiplier", learning_rate_multiplier),
        }
        if suffix is not None and not 0 < len(suffix) <= _LONGEST_SUFFIX:
            raise DataError(f"suffix must have 1 to {_LONGEST_SUFFIX} characters, not {len(suffix)}")
        if not model:
            raise DataError("model is empty; name a base model that the service can tune")
        files = [file for file in (training, validation) if file is not None]
        for file in files:
            if not isinstance(file, UploadedFile):
                file.verify()
        ids = [(file if isinstance(file, UploadedFile) else upload(client, file)).id for file in files]
        chosen = {name: value for name, value in hyperparameters.items() if value is not None}
        request: dict[str, Any] = {"training_file": ids[0], "model": model}
        request["method"] = {"type": "supervised", "supervised": {"hyperparameters": chosen}}
        optional = {"validation_file": ids[1] if validation else None, "seed": seed, "suffix": suffix}
        request |= {name: value for name, value in optional.items() if value is not None}
        return cls(client, _record(_wire.create_job(client, request)))

    @classmethod
    def attach(cls, client: OpenAI, job_id: str) -> FineTuneJob:
        """Find a job by its id, from any process.

        Raises:
            NotFound: The service has no such job.
            ServiceError: The service refuses or does not answer.
        """
        if not job_id:
            raise DataError("job_id is empty; FineTuneJob.list(client) gives the newest jobs")
        return cls(client, _record(_wire.retrieve_job(client, job_id)))

    @classmethod
    def list(cls, client: OpenAI, *, limit: int = 20) -> list[FineTuneJob]:
        """Give the newest jobs of this key's project, newest first.

        Raises:
            ServiceError: The service refuses or does not answer.
        """
        return [cls(client, _record(job)) for job in _wire.list_jobs(client, limit)]

    @property
    def id(self) -> str:
        """The service's name for the job, such as `ftjob-...`."""
        return self.record.id

    @property
    def status(self) -> str:
        """The service's word: `validating_files`, `queued`, `running`, `succeeded`, `failed`, ..."""
        return self.record.status

    @property
    def is_final(self) -> bool:
        """Whether nothing will happen to it any more. A word that we do not know is not final."""
        return self.status in _FINAL

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

    def refresh(self) -> FineTuneJob:
        """Look at the service again; returns the job itself.

        Raises:
            ServiceError: The service refuses or does not answer.
        """
        self.record = _record(_wire.retrieve_job(self._client, self.id))
        return self

    def wait(
        self, timeout: float | None = None, *, sleep: Callable[[float], Any] = time.sleep
    ) -> FineTuneJob:
        """Wait until the job has succeeded; returns the job itself.

        A lost connection or an overloaded service does not end the waiting. Interrupting the waiting does not
        end the job.

        Args:
            timeout: Seconds; None waits as long as it takes.
            sleep: How to pause between questions.

        Raises:
            JobFailed: With the service's code, message and param.
            JobCancelled: Somebody cancelled it.
            JobTimeout: The time is up; the job goes on.
            ServiceError: The service refuses to tell.
        """
        if not self.is_final:
            poll_until(
                self.refresh,
                done=lambda job: job.is_final,
                timeout=timeout,
                sleep=sleep,
                late=self._late(timeout),
            )
        if self.status == "failed":
            raise self._failure()
        if self.status == "cancelled":
            raise JobCancelled(f"job {self.id!r} was cancelled", job_id=self.id)
        return self

    def _failure(self) -> JobFailed:
        if self.error is None:
            return JobFailed(f"job {self.id!r} failed; the service gave no reason", job_id=self.id)
        message, code, param = self.error.message, self.error.code, self.error.param
        words = [f"{name} {word!r}" for name, word in (("code", code), ("param", param)) if word]
        where = f" ({', '.join(words)})" if words else ""
        return JobFailed(
            f"job {self.id!r} failed: {message or 'no message'}{where}",
            job_id=self.id,
            code=code,
            param=param,
        )

    def _late(self, timeout: float | None) -> Callable[[], JobTimeout]:
        return lambda: JobTimeout(
            f"job {self.id!r} is {self.status!r} after {timeout:g} s and goes on; find it again with "
            f"FineTuneJob.attach(client, {self.id!r})",
            job_id=self.id,
        )

    def stream_events(self, *, sleep: Callable[[float], Any] = time.sleep) -> Iterator[JobEvent]:
        """Give the job's events as they happen, oldest first, each once.

        Ends when the job has ended and nothing is left. Does not raise when the job failed: `wait` does.

        Raises:
            ServiceError: The service refuses to tell.
        """
        seen: set[str] = set()
        ended = False
        while not ended:
            # The status is asked for first: events that come after a final one are then in the list.
            fresh, ended = poll_until(
                lambda: self._look(seen),
                done=lambda found: bool(found[0]) or found[1],
                timeout=None,
                sleep=sleep,
                late=lambda: ServiceUnavailable("unreachable: without a timeout there is no end"),
            )
            yield from fresh

    def _look(self, seen: set[str]) -> tuple[Sequence[JobEvent], bool]:
        from .events import unseen

        ended = self.refresh().is_final
        return unseen(_wire.event_pages(self._client, self.id), seen), ended

    def cancel(self) -> FineTuneJob:
        """Ask the service to stop the job; returns the job itself.

        Raises:
            RequestRejected: It has ended already.
            ServiceError: The service refuses or does not answer.
        """
        self.record = _record(_wire.cancel_job(self._client, self.id))
        return self

    def __repr__(self) -> str:
        model = f", model={self.fine_tuned_model!r}" if self.fine_tuned_model else ""
        return f"FineTuneJob({self.id!r}, status={self.status!r}{model})"


def _at_least_one(name: str, value: Setting | None) -> Setting | None:
    if isinstance(value, int) and (isinstance(value, bool) or value < 1):
        raise DataError(f"{name} must be at least 1 or 'auto', not {value!r}")
    return value


def _above_zero(name: str, value: float | Literal["auto"] | None) -> float | Literal["auto"] | None:
    if value is not None and value != "auto" and not value > 0:
        raise DataError(f"{name} must be above 0 or 'auto', not {value!r}")
    return value


def _record(answer: _wire.Answer) -> JobRecord:
    from .records import JobRecord

    try:
        return JobRecord.model_validate(answer)
    except ValueError as error:
        raise ServiceError(f"the service's answer is no job: {str(answer)[:200]}") from error
