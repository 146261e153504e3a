"""A batch as services describe it: read leniently, in whatever words and shapes they have for it."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._lazy import compile_late
from .._service.flow import Flow, ask, ask_twice
from .._service.problem import Problem, read_problem
from .._service.requests import get_batch
from .._service.statuses import read_end, read_status
from ..errors import RequestRejected, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._service.requests import Answer, Request
    from ..errors import ServiceError
    from ..providers.provider import Provider

_log = logging.getLogger("finetune_pricer")

_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
_UNDER_WAY = frozenset({"validating", "queued", "pending", "running", "in_progress", "finalizing"})
_TOO_MUCH = compile_late(
    r"enqueued|token.?limit.?(?:exceeded|reached)|too.?many.{0,30}(?:tasks|batches)"
    r"|queue.{0,20}(?:full|limit)|batch(?:es)?.?limit.?(?:exceeded|reached)"
    r"|(?:max\w*|limit).{0,40}(?:\bbatches|in.progress)",
    re.IGNORECASE,
)
_COMPLETED = ("completed", "succeeded", "success", "successful", "done")
_FAILED = ("failed", "errored", "error", "errors")
_PROBLEMS = ("errors", "error", "error_message", "failure_reason", "status_details", "message")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRecord:
    """What a service says of a batch, in the protocol's words."""

    id: str
    status: str
    """`completed`, `failed`, `expired`, `cancelled`, `cancelling`; else it is under way."""
    input_file_id: str | None = None
    result_files: tuple[str, ...] = ()
    """The files of its answers and of its errors, as far as there are any yet."""
    completed: int = 0
    """How many of its questions are answered; 0 too where the service does not say."""
    failed: int = 0
    """How many were refused or ended in an error; likewise."""
    is_counted: bool = False
    """Whether the service says how many."""
    problem: RequestRejected | None = None
    """Why it failed."""
    metadata: Mapping[str, Any]

    @classmethod
    def read(cls, answer: Answer, provider: Provider) -> BatchRecord:
        """Return the record of an answer.

        Raises:
            ServiceUnavailable: It lacks even an id.
        """
        batch = unwrap(answer)
        id_ = batch.get("id")
        if not isinstance(id_, str | int) or not str(id_):
            raise ServiceUnavailable(
                f"the service's answer is no batch: {str(answer)[:200]}; try again later"
            )
        status = _read_status(batch.get("status"), provider)
        counts = batch.get("request_counts")
        counts = counts if isinstance(counts, dict) else {}
        completed, failed = (_find_count(counts, names) for names in (_COMPLETED, _FAILED))
        files = [batch.get(name) for name in ("output_file_id", "error_file_id")]
        metadata = batch.get("metadata")
        return cls(
            id=str(id_),
            status=status,
            input_file_id=str(batch["input_file_id"]) if batch.get("input_file_id") else None,
            result_files=tuple(dict.fromkeys(str(file) for file in files if file)),
            completed=completed or 0,
            failed=failed or 0,
            is_counted=completed is not None,
            problem=_read_problem(str(id_), batch) if status == "failed" else None,
            metadata=metadata if isinstance(metadata, dict) else {},
        )

    @property
    def done(self) -> int:
        """How many of its questions are done, one way or the other; 0 too where the service does not say."""
        return self.completed + self.failed

    @property
    def has_ended(self) -> bool:
        """Whether nothing will happen to it any more. A word that we do not know means that it goes on."""
        return self.status in _ENDED

    @property
    def is_empty(self) -> bool:
        """Whether it ended before its time, and surely without an answer."""
        if self.result_files or self.done or self.status not in _ENDED - {"completed"}:
            return False
        return self.status == "failed" or self.is_counted

    @property
    def lacks_room(self) -> bool:
        """Whether it was refused because too much is under way already, and may be taken later."""
        return self.problem is not None and says_no_room(self.problem)


def says_no_room(error: ServiceError) -> bool:
    """Whether a batch is refused because too much is under way already."""
    return _TOO_MUCH.search(f"{error.code} {error.message}") is not None


def ask_batch(request: Request, provider: Provider) -> Flow[BatchRecord]:
    """Send a request that is answered with a batch."""
    return BatchRecord.read((yield from ask(request)), provider)


def ask_batch_twice(batch_id: str, provider: Provider) -> Flow[BatchRecord]:
    """Ask for a batch's state, and once more where it is not found.

    Raises:
        NotFound: The service has no such batch.
    """
    return ask_twice(lambda: ask_batch(get_batch(batch_id), provider))


def unwrap(answer: Answer) -> Answer:
    """Return the batch of an answer: some services put it into an envelope, beside a warning."""
    if not answer.get("id"):
        for name in ("batch", "job", "data"):
            if isinstance(answer.get(name), dict):
                inner: Answer = answer[name]
                return inner
    return answer


def _read_status(raw: Any, provider: Provider) -> str:
    status = read_status(raw, provider.statuses)
    if status not in _UNDER_WAY:
        status = read_end(status) or status
    status = "completed" if status == "succeeded" else status
    if status not in _ENDED | _UNDER_WAY | {"cancelling"}:
        _log.info("a batch's status is %r, a word that we do not know; it counts as under way", raw)
    return status


def _find_count(counts: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return next((_read_count(counts[name]) for name in names if counts.get(name) is not None), None)


def _read_count(value: Any) -> int:
    try:
        return max(0, int(value))
    except (TypeError, ValueError, OverflowError):
        return 0


def _read_problem(batch_id: str, batch: Answer) -> RequestRejected:
    """Return why a batch failed; services say so as a text, an object, or a list of these."""
    told = (_find_problem(batch.get(name)) for name in _PROBLEMS)
    found = next((each for each in told if each is not None), Problem())
    return RequestRejected(
        f"batch {batch_id!r} was not accepted: {found.message or found.code or 'no reason given'}",
        code=found.code,
        param=found.param,
    )


def _find_problem(found: Any) -> Problem | None:
    """Return the first reason in what stands under one of a batch's names; None where there is none."""
    if isinstance(found, list):
        return next((problem for each in found if (problem := _find_problem(each)) is not None), None)
    if not found:
        return None
    problem = read_problem(found)
    if problem.message or problem.code:
        return problem
    # A list with a name of its own, or one reason for each line.
    return _find_problem(found.get("data") or list(found.values())) if isinstance(found, dict) else None
