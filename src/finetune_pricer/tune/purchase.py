"""Jobs and files that are bought once.

A purchase, from top to bottom:

1. The files are hashed: they must be those that were written.
2. A lock keeps other processes that ask for the same job waiting until it is settled.
3. The journal may hold open entries: requests whose answers were lost. The service is searched for what they
   made. An open entry is never struck out because time has passed.
   Where a call leaves settings to the recommendation of the profile, 2 to 4 look for what the same call asked
   for before that was recommended, too.
4. A job of the same spec is returned where there is one: by the journal, else by its metadata at the service,
   else, at a service that drops metadata, by its files and settings.
5. Where there is none, but an entry is still open, the purchase stops: the user decides, by `again=True`.
6. The preflight checks everything that can be checked before money or data leave.
7. The files are sent, each by steps 2, 3 and 8 of its own. A file costs nothing: an upload that cannot be
   found is repeated. Where there is a budget, a service that says what a job would cost is asked now, since
   it wants to know the files.
8. The request is noted in the journal, sent once, and completed in the journal. Where its answer is lost, the
   service is searched, and the purchase stops where nothing is found. It is sent again only where it is sure
   that nothing arrived, or to a service that is known to honour the idempotency key.
9. The service's list is read once more: where another machine asked for the same job at the same instant, the
   older of the two is kept.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from .._arguments import require_client, require_flag, require_kind, require_number
from .._service.error_mapping import may_have_been_taken
from .._service.flow import (
    Flow,
    Pages,
    Work,
    ask,
    ask_twice,
    look_repeatedly,
    pause_before_repeating,
    run,
)
from .._service.requests import act_on_job, create_job, delete_file, get_job, list_jobs
from .._service.statuses import read_status
from ..errors import (
    AccessDenied,
    DataError,
    FileAccessError,
    NotFound,
    OverBudget,
    PricerError,
    RequestRejected,
    ServiceError,
    ServiceUnavailable,
    TrainingNotAvailable,
)
from ..prepare.jsonl import TrainingFile
from ..providers.lookup import provider_of
from .cost import require_amount
from .journal import Journal
from .preflight import check_estimate, name_alternatives, name_model, preflight
from .queries import ask_job, next_jobs
from .spec import SPEC_KEY, TOKEN_KEY, explain_same_file
from .upload import (
    UPLOAD_TIMEOUT,
    FileCopy,
    find_file,
    get_usable_file,
    list_file_names,
    send_file,
    wait_until_usable,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from openai import OpenAI

    from .._service.requests import Request
    from ..providers.provider import Provider
    from .journal import Account, Entry
    from .records import JobRecord, UploadedFile
    from .spec import JobSpec

_log = logging.getLogger("finetune_pricer")

_JOB, _FILE = "job", "file"
DEPLOYMENT = "deployment"
"""The kind of an entry that asks for a deployment."""
_MOST_SENDS = 3
_MOST_PAGES = 10  # that are read after a purchase
_LONGEST_RACE = 60.0  # seconds in which a job that was just bought may be cancelled for an older one
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
    require_client(client, training_file)
    hint = "check_jsonl(path).training_file() makes one of a file, JsonlWriter().write(items, path) of items"
    require_kind("training_file", training_file, TrainingFile, "what JsonlWriter.write returned", hint)
    require_number("timeout", timeout, low=0)
    copy = FileCopy(training_file, provider_of(client, provider))
    with Journal(journal) as ledger:
        return run(client, _upload(ledger.for_client(client), copy, timeout), sleep)


def _upload(account: Account, copy: FileCopy, timeout: float) -> Flow[UploadedFile]:
    yield Work(copy.file.verify)
    return (yield from buy_file(account, copy, timeout)).file


def require_purchase(*, budget: object, again: object, force: object) -> None:
    """Make sure, before anything is asked, that what decides about money is what it looks like.

    Raises:
        WrongArgument: Such as `again="no"`, which would count as yes.
    """
    require_number("budget", budget, low=0, or_none=True)
    require_flag("again", again)
    require_flag("force", force)


def buy_job(
    account: Account, spec: JobSpec, *, again: bool, force: bool, budget: float | None
) -> Flow[JobRecord]:
    """Return the job of this spec: the one that exists, unless `again`, else a new one."""
    spec.require_validation_of_its_own()
    budget = None if budget is None else require_amount(budget)
    for file in dict.fromkeys(spec.local_files):
        yield Work(file.verify)
    spec = yield from name_model(spec)
    same = (spec, *spec.earlier)
    with ExitStack() as locks:
        for key in sorted(each.hash for each in same):
            locks.enter_context((yield from account.lock(_JOB, key)))
        still_open, existing = yield from _find_any_existing_job(account, same, again=again)
        if existing is not None:
            return existing
        if still_open and not again:
            raise _explain_open(still_open[0])
        yield from preflight(spec, force=force, budget=budget)
        job = yield from _buy_new_job(account, spec, again=again, budget=budget)
        for entry in still_open:
            yield Work(partial(account.forget, entry))  # the user asked for another in its place
        return job


def _buy_new_job(account: Account, spec: JobSpec, *, again: bool, budget: float | None) -> Flow[JobRecord]:
    files = list[BoughtFile]()
    for file in spec.local_files:
        files += [(yield from buy_file(account, FileCopy(file, spec.provider)))]
    ids = _FileIds.of(spec, {bought.sha256: bought.file.id for bought in files})
    if ids.training == ids.validation:
        raise explain_same_file(f"file {ids.training!r}")
    send, find = partial(_send_job, spec, ids), partial(_find_lost_job, account, spec)
    if budget is not None:
        try:
            body = spec.body_without_metadata(ids.training, ids.validation)
            yield from check_estimate(spec, body, budget)
        except (OverBudget, DataError):
            yield from _remove_new_files(account, files)
            raise
    began = time.monotonic()
    try:
        job = yield from send_once(
            account, _JOB, spec.hash, send=send, find=find, may_repeat=spec.provider.idempotency
        )
    except TrainingNotAvailable as error:
        yield from _remove_new_files(account, files)
        raise _explain_not_available(error, spec.provider) from error
    if again:
        return job
    return (yield from _keep_oldest(account, spec, job, began))


def _find_any_existing_job(
    account: Account, same: Sequence[JobSpec], *, again: bool
) -> Flow[tuple[list[Entry], JobRecord | None]]:
    """Do as `_find_existing_job` does for what a call asks for, and for what it asked for earlier."""
    still_open = list["Entry"]()
    for spec in same:
        entries, job = yield from _find_existing_job(account, spec, again=again)
        still_open += entries
        if job is not None:
            _say_that_it_exists(job, same[0], is_earlier=spec is not same[0])
            return still_open, job
    return still_open, None


def _say_that_it_exists(job: JobRecord, spec: JobSpec, *, is_earlier: bool) -> None:
    if not is_earlier:
        _log.info("job %r of the same spec exists (%s); again=True buys another", job.id, job.status)
        return
    settings = [f"{name}={value:g}" for name, value in spec.recommended.items()] or ["the service's own"]
    _log.warning(
        "job %r (%s) was bought with other settings than those that this call takes by itself today (%s), "
        "and is given back, so that nothing is bought twice; again=True buys one with them",
        job.id,
        job.status,
        ", ".join(settings),
    )


def _find_existing_job(
    account: Account, spec: JobSpec, *, again: bool
) -> Flow[tuple[list[Entry], JobRecord | None]]:
    """Return the entries that stay open, and a job of this spec that runs or has succeeded.

    With `again`, a job that is known to be there does not count, but one does whose request was sent before
    and never answered: it is the one that was asked for.
    """
    still_open, noted = list["Entry"](), list["Entry"]()
    for entry in (yield Work(partial(account.find_all, _JOB, spec.hash))):
        if not entry.is_open:
            noted.append(entry)
            continue
        lost = yield from _settle(account, entry, partial(_find_lost_job, account, spec))
        if lost is None:
            still_open.append(entry)
        elif not _came_to_nothing(lost, spec):
            return [], lost
    if again:
        return still_open, None
    for entry in noted:
        job = yield from _ask_noted_job(entry)
        if job is not None and not _came_to_nothing(job, spec):
            return still_open, job
    elsewhere = yield from _find_elsewhere(account, spec, lambda job: not _came_to_nothing(job, spec))
    if elsewhere is not None:  # asked for on another machine, or before a journal was lost
        yield Work(partial(account.add, _JOB, spec.hash, elsewhere.id))
    return still_open, elsewhere


def _ask_noted_job(entry: Entry) -> Flow[JobRecord | None]:
    """Return the job of an entry; None where the service says twice that it has no such job."""
    try:
        return (yield from ask_twice(lambda: ask_job(get_job(entry.id or ""))))
    except NotFound:
        if entry.is_of_this_key:
            _log.warning("the service no longer knows job %r", entry.id)
    except AccessDenied:
        if entry.is_of_this_key:
            raise
    return None  # gone, or of another account


def find_job(account: Account, spec: JobSpec) -> Flow[JobRecord]:
    """Return the newest job of this spec, whatever became of it.

    Raises:
        NotFound: There is none.
    """
    spec = yield from name_model(spec)
    for same in (spec, *spec.earlier):
        for entry in (yield Work(partial(account.find_all, _JOB, same.hash))):
            if entry.is_open:
                job = yield from _find_lost_job(account, same, entry)
            else:
                job = yield from _ask_noted_job(entry)
            if job is not None:
                return job
        job = yield from _find_elsewhere(account, same, lambda _: True)
        if job is not None:
            return job
    raise NotFound("the service has no job of this spec; FineTuneJob.create makes one")


def _came_to_nothing(job: JobRecord, spec: JobSpec) -> bool:
    return read_status(job.status, spec.provider.statuses) in _CAME_TO_NOTHING


def _send_job(spec: JobSpec, ids: _FileIds, entry: Entry) -> Flow[JobRecord]:
    body, extra = spec.request(ids.training, ids.validation, entry.token)
    return (yield from ask_job(create_job(body, extra, entry.token)))


def _find_lost_job(account: Account, spec: JobSpec, entry: Entry) -> Flow[JobRecord | None]:
    """Return the job that one request made: by its token in the metadata, else by its files and settings."""
    job = yield from _find_by_metadata(lambda job: bool(job.metadata.get(TOKEN_KEY) == entry.token), spec)
    if job is not None:
        return job
    # A job that the journal knows was bought by another request.
    return (yield from _find_by_files(account, spec, lambda job: account.what_is(job.id) is None))


def _find_elsewhere(
    account: Account, spec: JobSpec, is_wanted: Callable[[JobRecord], bool]
) -> Flow[JobRecord | None]:
    """Return the newest job of this spec that is wanted, without the journal's help."""
    job = yield from _find_by_metadata(lambda job: spec.describes(job) and is_wanted(job), spec)
    if job is not None:
        return job
    known = {None, spec.hash}  # or it is known to be another job
    job = yield from _find_by_files(
        account, spec, lambda job: is_wanted(job) and account.what_is(job.id) in known
    )
    if job is not None:
        _log.warning(
            "job %r has these files, this model, and every setting that the service shows: it is taken for "
            "the one that was asked for; again=True buys another",
            job.id,
        )
    return job


def _find_by_metadata(is_wanted: Callable[[JobRecord], bool], spec: JobSpec) -> Flow[JobRecord | None]:
    """Return the newest job that is wanted.

    A service that can filter its list is asked for the jobs that carry the spec in their metadata.
    """
    with suppress(RequestRejected):  # by a service that cannot
        return (yield from _find_in(Pages(_jobs_of(spec)), is_wanted))
    return (yield from _find_in(Pages(list_jobs), is_wanted))


def _jobs_of(spec: JobSpec) -> Callable[[str | None], Request]:
    return partial(list_jobs, metadata={SPEC_KEY: spec.hash})


def _find_by_files(
    account: Account, spec: JobSpec, is_wanted: Callable[[JobRecord], bool]
) -> Flow[JobRecord | None]:
    """Return the newest job that is wanted, without our metadata, and with a spec's files and settings."""
    pages, jobs = Pages(list_jobs), list["JobRecord"]()
    while page := (yield from next_jobs(pages)):
        jobs += [job for job in page if SPEC_KEY not in job.metadata and is_wanted(job)]
    if not jobs:
        return None
    names = (yield from list_file_names()) if spec.local_files else []
    training_ids = yield from _ids_of(account, spec, spec.training, names)
    validation_ids = set[str]()
    if spec.validation is not None:
        validation_ids = yield from _ids_of(account, spec, spec.validation, names)
    return next((job for job in jobs if spec.looks_like(job, training_ids, validation_ids)), None)


def _ids_of(
    account: Account, spec: JobSpec, file: TrainingFile | UploadedFile, names: list[tuple[str, str]]
) -> Flow[set[str]]:
    """Return the service's names for files of this content: by their names there, and by the journal."""
    if not isinstance(file, TrainingFile):
        return {file.id}
    copy = FileCopy(file, spec.provider)
    noted = yield Work(partial(account.find_all, _FILE, copy.key))
    return {id_ for id_, name in names if copy.is_named(name)} | {entry.id for entry in noted if entry.id}


def _find_in(pages: Pages, is_wanted: Callable[[JobRecord], bool]) -> Flow[JobRecord | None]:
    while jobs := (yield from next_jobs(pages)):
        for job in jobs:
            if is_wanted(job):
                return job
    return None


def _keep_oldest(account: Account, spec: JobSpec, job: JobRecord, began: float) -> Flow[JobRecord]:
    """Return the oldest living job of the spec; where that is not the new one, cancel the new one.

    Machines that ask for the same job at the same instant do not see each other's before they ask. Only the
    job that was made just now is ever cancelled, within a minute of asking for it.
    """
    oldest = yield from _find_oldest(spec, job)
    if oldest.id == job.id or time.monotonic() - began > _LONGEST_RACE:
        return job
    try:
        yield from ask_job(act_on_job(job.id, "cancel"))
    except ServiceError as error:
        _log.warning(
            "job %r of the same spec was asked for elsewhere at the same time; job %r, just bought, could "
            "not be cancelled (%s): cancel one of them",
            oldest.id,
            job.id,
            error,
        )
        return job
    _log.warning(
        "job %r of the same spec was asked for elsewhere at the same time and is older; job %r, just bought, "
        "was cancelled",
        oldest.id,
        job.id,
    )
    yield Work(partial(account.add, _JOB, spec.hash, oldest.id))
    return oldest


def _find_oldest(spec: JobSpec, job: JobRecord) -> Flow[JobRecord]:
    jobs = {job.id: job}
    pages = Pages(_jobs_of(spec), most=_MOST_PAGES)
    try:
        while page := (yield from next_jobs(pages)):
            jobs |= {
                each.id: each for each in page if spec.describes(each) and not _came_to_nothing(each, spec)
            }
    except ServiceError as error:
        _log.info("cannot see whether job %r was asked for elsewhere at the same time: %s", job.id, error)
    # Of the same second, or of no known time, the one with the lower name counts as older: whatever order a
    # list has, and whichever jobs it lacks, no two machines take each other's.
    is_dated = all(each.created_at is not None for each in jobs.values())
    return min(jobs.values(), key=lambda each: ((each.created_at or 0) if is_dated else 0, each.id))


class _FileIds(NamedTuple):
    """The service's names for a job's files."""

    training: str
    validation: str | None

    @classmethod
    def of(cls, spec: JobSpec, sent: Mapping[str, str]) -> _FileIds:
        """Return the ids of a spec's files, given those of the sent ones by their content's hash."""
        ids = [sent[file.sha256] if isinstance(file, TrainingFile) else file.id for file in spec.files]
        return cls(ids[0], ids[1] if len(ids) > 1 else None)


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
        file = yield from _find_existing_file(account, copy, find)
        if file is None:
            file = yield from send_once(account, _FILE, copy.key, send=send, find=find, may_repeat=True)
    file = yield from wait_until_usable(copy, file, timeout)
    return BoughtFile(file, copy.file.sha256, is_new=bool(sent))


def _find_existing_file(
    account: Account, copy: FileCopy, find: Find[UploadedFile]
) -> Flow[UploadedFile | None]:
    for entry in (yield Work(partial(account.find_all, _FILE, copy.key))):
        if entry.is_open:
            file = yield from _settle(account, entry, find)
            if file is None:
                yield Work(partial(account.forget, entry))  # a file costs nothing
        else:
            file = yield from get_usable_file(entry.id or "")
        if file is not None:
            return file
    return None


def _remove_new_files(account: Account, files: Iterable[BoughtFile]) -> Flow[None]:
    for id_ in [bought.file.id for bought in files if bought.is_new]:
        try:
            yield from ask(delete_file(id_))
        except ServiceError as error:
            _log.warning("file %r could not be removed from the service: %s", id_, error)
        account.forget_id(id_)


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
        ...


T = TypeVar("T", bound=Record)
Send = Callable[["Entry"], Flow[T]]
"""Sends the request of an entry."""
Find = Callable[["Entry"], Flow[T | None]]
"""Searches the service for what the request of an entry made."""


def send_once(
    account: Account, kind: str, what: str, *, send: Send[T], find: Find[T], may_repeat: bool
) -> Flow[T]:
    """Note a request, send it, and note what the service made; search where the answer is lost.

    A request that is lost and not found stays open in the journal: a late gateway may still pass it on.

    Args:
        account: Where it is noted.
        kind: `job`, `file` or `deployment`.
        what: The hash of what is asked for.
        send: Sends the request.
        find: Searches for what it made.
        may_repeat: Whether a request whose answer was lost and which cannot be found may be sent again,
            because it costs nothing or the service honours its idempotency key.

    Raises:
        ServiceUnavailable: No answer came, and nothing was found.
        ServiceError: The service refuses.
        FileAccessError: The journal cannot be written; the message names what was bought, if anything was.
    """
    entry: Entry = yield Work(partial(account.begin, kind, what))
    sends, was_lost = 0, False
    while True:
        sends += 1
        try:
            made = yield from send(entry)
        except PricerError as error:
            is_lost = may_have_been_taken(error)
            was_lost = was_lost or is_lost
            found = (yield from _find_lost(entry, error, find)) if is_lost else None
            if found is None:
                may_be_sent = sends < _MOST_SENDS and (may_repeat or not was_lost)
                if may_be_sent and isinstance(error, ServiceUnavailable):
                    yield pause_before_repeating(error)
                    continue
                if was_lost:
                    raise _explain_lost(entry, error) from error
                yield Work(partial(account.forget, entry))  # refused, or never sent
                raise
            made = found
        yield from _complete(account, entry, made.id)
        return made


def _complete(account: Account, entry: Entry, id_: str) -> Flow[None]:
    try:
        yield Work(partial(account.complete, entry, id_))
    except FileAccessError as error:
        raise error.with_message(
            f"{entry.kind} {id_!r} was bought and could not be noted: {error}"
        ) from error


def _find_lost(entry: Entry, error: PricerError, find: Find[T]) -> Flow[T | None]:
    _log.info("no answer to the request for a %s (%s); looking for what came of it", entry.kind, error)
    try:
        return (yield from look_repeatedly(lambda: find(entry)))
    except PricerError as second:
        raise _explain_lost(entry, error) from second


def _settle(account: Account, entry: Entry, find: Find[T]) -> Flow[T | None]:
    """Find what an earlier request made, and note it; None, and the entry stays open, where that fails."""
    made = yield from look_repeatedly(lambda: find(entry))
    if made is not None:
        yield from _complete(account, entry, made.id)
    return made


def _explain_lost(entry: Entry, error: PricerError) -> PricerError:
    return error.with_message(f"{error}; {_how_to_go_on(entry)}")


def _explain_open(entry: Entry) -> ServiceUnavailable:
    return ServiceUnavailable(
        f"whether the service made a {entry.kind} is not known, and it is not in its list; "
        f"{_how_to_go_on(entry)}"
    )


def _how_to_go_on(entry: Entry) -> str:
    words = (
        f"the {entry.kind} was asked for at {entry.noted_at} UTC: call again with the same arguments to look"
    )
    if entry.kind != _JOB:
        return f"{words} for it, and to send it again where it is not there"
    return f"{words} for it, which buys nothing; again=True asks anew, once you are sure that it is not there"
