"""Asking for a job: checked first, bought once, found again by its spec."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from .._service import requests
from .._service.flow import Flow, Work, ask
from ..errors import NotFound, RequestRejected, ServiceError, TrainingNotAvailable
from .once import once
from .preflight import alternatives, preflight
from .records import JobRecord, UploadedFile
from .spec import SPEC_KEY, TOKEN_KEY
from .upload import FileOrder

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..prepare.jsonl import TrainingFile
    from .journal import Account, Entry
    from .spec import JobSpec

_log = logging.getLogger("finetune_pricer")

_MOST_PAGES = 10
_SPENT = frozenset({"failed", "cancelled"})


def ordered(
    account: Account, spec: JobSpec, *, again: bool, force: bool, budget: float | None = None
) -> Flow[JobRecord]:
    """Give the job of this spec: the one that exists, unless `again`, else a new one."""
    for file in (spec.training, spec.validation):
        if file is not None and not isinstance(file, UploadedFile):
            yield Work(file.verify)
    return (yield from once(account, JobOrder(account, spec, force=force, budget=budget), again=again))


def found(account: Account, spec: JobSpec) -> Flow[JobRecord]:
    """Give the newest job of this spec, whatever became of it.

    Raises:
        NotFound: There is none.
    """
    order = JobOrder(account, spec, force=False)
    entry = account.find(order.kind, order.what)
    if entry is not None and entry.id is not None:
        with suppress(NotFound):
            return JobRecord.read((yield from ask(requests.job(entry.id))))
    job = (yield from order.look(entry)) if entry is not None and entry.id is None else None
    job = job or (yield from order.matching(spec.describes, filtered=True))
    if job is None:
        raise NotFound("the service has no job of this spec; FineTuneJob.create makes one")
    return job


def newest(limit: int) -> Flow[list[JobRecord]]:
    """Give the newest jobs of whatever spec, newest first, at most `limit`."""
    rows: list[JobRecord] = []
    after: str | None = None
    while len(rows) < limit:
        page = yield from ask(requests.jobs(min(limit, 100), after))
        known = {row.id for row in rows}
        fresh = [JobRecord.read(row) for row in page.get("data") or [] if row.get("id") not in known]
        rows += fresh
        if not fresh or not page.get("has_more"):
            break
        after = rows[-1].id
    return rows[:limit]


class JobOrder:
    """One job of a spec at a service."""

    kind = "job"

    def __init__(self, account: Account, spec: JobSpec, *, force: bool, budget: float | None = None) -> None:
        self._account = account
        self._spec = spec
        self._force = force
        self._budget = budget
        self.what = spec.hash
        self._files: dict[str, UploadedFile] = {}
        self._orders: list[FileOrder] = []

    def kept(self, id_: str) -> Flow[JobRecord | None]:
        """Give the job that was made before, unless it came to nothing or is gone."""
        try:
            job = JobRecord.read((yield from ask(requests.job(id_))))
        except NotFound:
            _log.warning("the service no longer knows job %r; asking for a new one", id_)
            return None
        return None if self._spent(job) else self._taken(job)

    def elsewhere(self) -> Flow[JobRecord | None]:
        """Find the same job by its metadata, asked for on another machine, or before a journal was lost."""
        wanted = self._spec.describes
        job = yield from self.matching(lambda job: wanted(job) and not self._spent(job), filtered=True)
        return None if job is None else self._taken(job)

    def look(self, entry: Entry) -> Flow[JobRecord | None]:
        """Find the job that one request made: by its word in the metadata, else by what it was made of."""
        job = yield from self.matching(lambda job: job.metadata.get(TOKEN_KEY) == entry.token, filtered=True)
        if job is not None:
            return job
        training, validation = self._id_of(self._spec.training), self._id_of(self._spec.validation)
        if training is None:
            return None
        return (
            yield from self.matching(
                lambda job: (
                    self._spec.resembles(job, training, validation) and not self._account.knows(job.id)
                ),
                filtered=False,
            )
        )

    def prepare(self) -> Flow[None]:
        """Check everything, then see to it that the files are at the service."""
        yield from preflight(self._spec, force=self._force, budget=self._budget)
        for file in (self._spec.training, self._spec.validation):
            if file is not None and not isinstance(file, UploadedFile):
                order = FileOrder(self._account, file, self._spec.provider)
                self._orders.append(order)
                self._files[file.sha256] = yield from order.usable()

    def send(self, entry: Entry) -> Flow[JobRecord]:
        """Ask for the job."""
        training = self._id_of(self._spec.training)
        assert training is not None  # noqa: S101 - prepare has sent it
        body, extra = self._spec.request(training, self._id_of(self._spec.validation), entry.token)
        try:
            return JobRecord.read((yield from ask(requests.create_job(body, extra))))
        except TrainingNotAvailable as error:
            yield from self._take_back()
            raise TrainingNotAvailable(
                f"{error}: this account may not train at {self._spec.provider.name!r} any more, with any key "
                f"or file; the files just sent were removed. {alternatives(self._spec.provider)}",
                status=error.status,
                code=error.code,
                param=error.param,
                request_id=error.request_id,
            ) from error

    def matching(self, wanted: Callable[[JobRecord], bool], *, filtered: bool) -> Flow[JobRecord | None]:
        """Give the newest job that is wanted, among the newest thousand."""
        metadata = {SPEC_KEY: self.what} if filtered else None
        after: str | None = None
        for _ in range(_MOST_PAGES):
            try:
                page = yield from ask(requests.jobs(100, after, metadata))
            except RequestRejected:
                if metadata is None:
                    raise
                metadata = None  # a service that cannot filter: we do
                continue
            rows = [JobRecord.read(row) for row in page.get("data") or []]
            for job in rows:
                if wanted(job):
                    return job
            if not rows or not page.get("has_more"):
                break
            after = rows[-1].id
        return None

    def _id_of(self, file: TrainingFile | UploadedFile | None) -> str | None:
        if file is None or isinstance(file, UploadedFile):
            return None if file is None else file.id
        if sent := self._files.get(file.sha256):
            return sent.id
        entry = self._account.find("file", FileOrder(self._account, file, self._spec.provider).what)
        return None if entry is None else entry.id

    def _take_back(self) -> Flow[None]:
        for order in self._orders:
            file = self._files.get(order.file.sha256)
            if order.fresh and file is not None:
                try:
                    yield from ask(requests.delete_file(file.id))
                except ServiceError as error:
                    _log.warning("file %r could not be removed from the service: %s", file.id, error)
                self._account.forget_id(file.id)

    def _spent(self, job: JobRecord) -> bool:
        return self._spec.provider.statuses.get(job.status, job.status) in _SPENT

    def _taken(self, job: JobRecord) -> JobRecord:
        _log.info("job %r of the same spec exists (%s); again=True buys another", job.id, job.status)
        return job
