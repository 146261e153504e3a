"""Jobs and files that are bought once.

A purchase, from top to bottom:

1. The files are hashed: they must be those that were written.
2. A lock keeps other processes that ask for the same job waiting until it is settled.
3. The journal may hold an open entry: a request whose answer was lost. The service is searched for what it
   made.
4. A job of the same spec is returned where there is one: by the journal, else by its metadata at the service.
5. The preflight checks everything that can be checked before money or data leave.
6. The files are sent, each by steps 2, 3 and 7 of its own.
7. The request is noted in the journal, sent once, and completed in the journal. Where its answer is lost, the
   service is searched before the request is sent again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from .._service.flow import LONGEST_RETRY_AFTER, Flow, Pages, Pause, Work, ask, run
from .._service.requests import create_job, delete_file, get_job, list_jobs
from ..errors import (
    NotFound,
    PricerError,
    RequestRejected,
    ServiceError,
    ServiceUnavailable,
    TrainingNotAvailable,
)
from ..prepare.jsonl import TrainingFile
from ..providers.lookup import provider_of
from .journal import Journal
from .preflight import name_alternatives, preflight
from .queries import ask_job, next_jobs
from .spec import SPEC_KEY, TOKEN_KEY
from .upload import UPLOAD_TIMEOUT, FileCopy, find_file, get_usable_file, send_file, wait_until_usable

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from openai import OpenAI

    from ..providers.provider import Provider
    from .journal import Account, Entry
    from .records import JobRecord, UploadedFile
    from .spec import JobSpec

_log = logging.getLogger("finetune_pricer")

_JOB, _FILE = "job", "file"
_GRACE = (0.0, 2.0, 4.0, 8.0, 16.0)  # seconds before each look: a slow gateway may pass a request on late
_MOST_SENDS = 3
_MOST_PAGES = 10
_CAME_TO_NOTHING = frozenset({"failed", "cancelled"})


def upload(
    client: OpenAI,
    training_file: TrainingFile,
    *,
    timeout: float = UPLOAD_TIMEOUT,
    provider: str | Provider | None = None,
    journal: str | os.PathLike[str] | None = None,
    sleep: Callable[[float], Any] = time.sleep,
) -> UploadedFile:
    """Send a training file to the service, if it is not there yet, and wait until it can be used.

    Args:
        client: Any `openai.OpenAI`.
        training_file: What `JsonlWriter.write` returned. It is compared with its hash first.
        timeout: Seconds to wait for the service to process it.
        provider: What is known of the service; by default it is recognised by its address.
        journal: Path of the journal of what was sent; by default it is in `FINETUNE_PRICER_HOME`, else in
            the user's state folder.
        sleep: How to wait between questions.

    Raises:
        TrainingFileError: The file has changed since it was written, or the service cannot use it.
        FileAccessError: The file cannot be read, or the journal cannot be written.
        ServiceUnavailable: The file is not usable in time, or the service cannot be reached; calling again
            goes on with the same file.
        ServiceError: The service refuses the file.
    """
    copy = FileCopy(training_file, provider_of(client, provider))
    with Journal(journal) as ledger:
        return run(client, _upload(ledger.for_client(client), copy, timeout), sleep)


def _upload(account: Account, copy: FileCopy, timeout: float) -> Flow[UploadedFile]:
    yield Work(copy.file.verify)
    return (yield from buy_file(account, copy, timeout)).file


def buy_job(
    account: Account, spec: JobSpec, *, again: bool, force: bool, budget: float | None
) -> Flow[JobRecord]:
    """Return the job of this spec: the one that exists, unless `again`, else a new one."""
    for file in dict.fromkeys(spec.local_files):
        yield Work(file.verify)
    with (yield from account.lock(_JOB, spec.hash)):
        existing = yield from _find_existing_job(account, spec, again=again)
        if existing is not None:
            _log.info(
                "job %r of the same spec exists (%s); again=True buys another", existing.id, existing.status
            )
            return existing
        yield from preflight(spec, force=force, budget=budget)
        files = list[BoughtFile]()
        for file in spec.local_files:
            files += [(yield from buy_file(account, FileCopy(file, spec.provider)))]
        ids = _FileIds.of(spec, {bought.sha256: bought.file.id for bought in files})
        send, find = partial(_send_job, spec, ids), partial(_find_lost_job, account, spec, ids)
        try:
            return (yield from send_once(account, _JOB, spec.hash, send=send, find=find))
        except TrainingNotAvailable as error:
            for bought in files:
                if bought.is_new:
                    yield from _remove_file(account, bought.file)
            raise _explain_not_available(error, spec.provider) from error


def _find_existing_job(account: Account, spec: JobSpec, *, again: bool) -> Flow[JobRecord | None]:
    """Return a job of this spec that runs or has succeeded; None where one is to be bought.

    With `again`, a job that is known to be there does not count, but one does whose request was sent before
    and never answered: it is the one that was asked for.
    """
    entry, was_open = account.find(_JOB, spec.hash), False
    if entry is not None and entry.is_open:
        was_open, ids = True, _read_file_ids(account, spec)
        entry = yield from _settle(account, entry, partial(_find_lost_job, account, spec, ids))
    if entry is not None and entry.id is not None and (was_open or not again):
        try:
            job = yield from ask_job(get_job(entry.id))
        except NotFound:
            _log.warning("the service no longer knows job %r; asking for a new one", entry.id)
        else:
            if not _came_to_nothing(job, spec):
                return job
    if again:
        return None
    elsewhere = yield from _find_matching(
        lambda job: spec.describes(job) and not _came_to_nothing(job, spec), spec
    )
    if elsewhere is not None:  # asked for on another machine, or before a journal was lost
        account.add(_JOB, spec.hash, elsewhere.id)
    return elsewhere


def find_job(account: Account, spec: JobSpec) -> Flow[JobRecord]:
    """Return the newest job of this spec, whatever became of it.

    Raises:
        NotFound: There is none.
    """
    entry = account.find(_JOB, spec.hash)
    if entry is not None and entry.id is not None:
        with suppress(NotFound):
            return (yield from ask_job(get_job(entry.id)))
    elif entry is not None:
        lost = yield from _find_lost_job(account, spec, _read_file_ids(account, spec), entry)
        if lost is not None:
            return lost
    job = yield from _find_matching(spec.describes, spec)
    if job is None:
        raise NotFound("the service has no job of this spec; FineTuneJob.create makes one")
    return job


def _came_to_nothing(job: JobRecord, spec: JobSpec) -> bool:
    return spec.provider.statuses.get(job.status, job.status) in _CAME_TO_NOTHING


def _send_job(spec: JobSpec, ids: _FileIds, entry: Entry) -> Flow[JobRecord]:
    body, extra = spec.request(ids.training, ids.validation, entry.token)
    return (yield from ask_job(create_job(body, extra, entry.token)))


def _find_lost_job(
    account: Account, spec: JobSpec, ids: _FileIds | None, entry: Entry
) -> Flow[JobRecord | None]:
    """Return the job that one request made: by its token in the metadata, else by its files and settings."""
    job = yield from _find_matching(lambda job: bool(job.metadata.get(TOKEN_KEY) == entry.token), spec)
    if job is not None or ids is None:
        return job
    # A job that another request bought is not the one that was lost.
    return (yield from _find_matching(lambda job: spec.looks_like(job, *ids) and not account.has_id(job.id)))


def _find_matching(
    is_wanted: Callable[[JobRecord], bool], spec: JobSpec | None = None
) -> Flow[JobRecord | None]:
    """Return the newest job that is wanted, among the newest thousand.

    With a spec, a service that can filter its list is asked for the jobs that carry the spec in their
    metadata.
    """
    if spec is not None:
        of_spec = Pages(partial(list_jobs, metadata={SPEC_KEY: spec.hash}), most=_MOST_PAGES)
        with suppress(RequestRejected):  # by a service that cannot
            return (yield from _find_in(of_spec, is_wanted))
    return (yield from _find_in(Pages(list_jobs, most=_MOST_PAGES), is_wanted))


def _find_in(pages: Pages, is_wanted: Callable[[JobRecord], bool]) -> Flow[JobRecord | None]:
    while jobs := (yield from next_jobs(pages)):
        for job in jobs:
            if is_wanted(job):
                return job
    return None


class _FileIds(NamedTuple):
    """The service's names for a job's files."""

    training: str
    validation: str | None

    @classmethod
    def of(cls, spec: JobSpec, sent: Mapping[str, str]) -> _FileIds:
        """Return the ids of a spec's files, given those of the sent ones by their content's hash."""
        ids = [sent[file.sha256] if isinstance(file, TrainingFile) else file.id for file in spec.files]
        return cls(ids[0], ids[1] if len(ids) > 1 else None)


def _read_file_ids(account: Account, spec: JobSpec) -> _FileIds | None:
    """Return the ids of a spec's files by the journal; None where it does not know them all."""
    sent = {}
    for file in spec.local_files:
        entry = account.find(_FILE, FileCopy(file, spec.provider).key)
        if entry is None or entry.id is None:
            return None
        sent[file.sha256] = entry.id
    return _FileIds.of(spec, sent)


class BoughtFile(NamedTuple):
    """A file at the service, and whether it was sent now."""

    file: UploadedFile
    sha256: str
    is_new: bool


def buy_file(account: Account, copy: FileCopy, timeout: float = UPLOAD_TIMEOUT) -> Flow[BoughtFile]:
    """Send a file, if it is not at the service yet, and wait until it can be used."""
    sent = list["UploadedFile"]()

    def send(entry: Entry) -> Flow[UploadedFile]:
        sent.append((yield from send_file(copy, entry.token)))
        return sent[-1]

    def find(_: Entry) -> Flow[UploadedFile | None]:
        return find_file(copy)

    with (yield from account.lock(_FILE, copy.key)):
        entry = account.find(_FILE, copy.key)
        if entry is not None and entry.is_open:
            entry = yield from _settle(account, entry, find)
        file = None
        if entry is not None and entry.id is not None:
            file = yield from get_usable_file(entry.id)
        if file is None:
            file = yield from send_once(account, _FILE, copy.key, send=send, find=find)
    file = yield from wait_until_usable(copy, file, timeout)
    return BoughtFile(file, copy.file.sha256, is_new=bool(sent))


def _remove_file(account: Account, file: UploadedFile) -> Flow[None]:
    try:
        yield from ask(delete_file(file.id))
    except ServiceError as error:
        _log.warning("file %r could not be removed from the service: %s", file.id, error)
    account.forget_id(file.id)


def _explain_not_available(error: TrainingNotAvailable, provider: Provider) -> TrainingNotAvailable:
    return error.with_message(
        f"{error}: this account may not train at {provider.name!r} any more, with any key or file; the files "
        f"just sent were removed. {name_alternatives(provider)}"
    )


class Record(Protocol):
    """What a service made of a request."""

    @property
    def id(self) -> str:
        """The service's name for it."""


T = TypeVar("T", bound=Record)
Send = Callable[["Entry"], Flow[T]]
"""Sends the request of an entry."""
Find = Callable[["Entry"], Flow[T | None]]
"""Searches the service for what the request of an entry made."""


def send_once(account: Account, kind: str, what: str, *, send: Send[T], find: Find[T]) -> Flow[T]:
    """Note a request, send it, and note what the service made; search where the answer is lost.

    It is sent again only after the search has found nothing. A late gateway may still pass on what was lost:
    whatever the later answers are, the entry of such a request stays open, so that calling again searches
    first.

    Raises:
        ServiceUnavailable: No answer came, and nothing was found.
        ServiceError: The service refuses.
    """
    entry, sends, was_lost = account.begin(kind, what), 0, False
    while True:
        sends += 1
        try:
            made = yield from send(entry)
        except ServiceUnavailable as error:
            is_lost = error.reached and error.status != 429  # or the service has not taken it
            was_lost = was_lost or is_lost
            found = (yield from _find_lost(entry, error, find)) if is_lost else None
            if found is None and sends < _MOST_SENDS:
                yield Pause(min(error.retry_after or 1.0, LONGEST_RETRY_AFTER))
                continue
            if found is None:
                if not was_lost:
                    account.forget(entry)
                raise _explain_unsettled(entry, error) from error
            made = found
        except ServiceError:
            if not was_lost:
                account.forget(entry)
            raise
        account.complete(entry, made.id)
        return made


def _find_lost(entry: Entry, error: ServiceUnavailable, find: Find[T]) -> Flow[T | None]:
    _log.info("no answer to the request for a %s (%s); looking for what came of it", entry.kind, error)
    try:
        return (yield from _look_repeatedly(find, entry))
    except PricerError as second:
        raise _explain_unsettled(entry, error) from second


def _settle(account: Account, entry: Entry, find: Find[T]) -> Flow[Entry | None]:
    """Find out what became of a request that an earlier process sent, or meant to send."""
    made = yield from _look_repeatedly(find, entry)
    if made is None:
        account.forget(entry)
        return None
    return account.complete(entry, made.id)


def _look_repeatedly(find: Find[T], entry: Entry) -> Flow[T | None]:
    for pause in _GRACE:
        if pause:
            yield Pause(pause)
        found = yield from find(entry)
        if found is not None:
            return found
    return None


def _explain_unsettled(entry: Entry, error: ServiceUnavailable) -> ServiceUnavailable:
    return error.with_message(
        f"{error}; call again with the same arguments: it looks for the {entry.kind} before it asks for one"
    )
