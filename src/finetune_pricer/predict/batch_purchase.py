"""Batches that are bought once: found by their questions, and asked for only where there is none.

A question is known by its key, which stands in a batch's file as `custom_id`. A purchase, from top to bottom:

1. The journal names the batches that hold a question without an answer. Each is asked for at the service; one
   that failed or was cancelled does not count, but what it has answered does.
2. The journal may hold an open entry: a request whose answer was lost. The service is searched for the batch
   that it made: by the request's word in the metadata, else by the name of its file. Where there is none, the
   purchase stops; only the user may ask anew.
3. The service's list may hold batches that the journal does not know, from another machine or from before it
   was lost: known by a mark in the metadata, else by the name of the file. Their questions are read from the
   file, and noted.
4. What none of these holds is sent. The request is noted in the journal, sent once, and completed there.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol

from .._lazy import compile_late
from .._service.error_mapping import may_have_been_taken
from .._service.flow import Flow, Pages, Pause, Work, ask, look_repeatedly, pause_before_repeating
from .._service.requests import create_batch, get_file, get_file_content, list_batch_files, list_batches
from ..errors import (
    AccessDenied,
    ModelNotFound,
    NotFound,
    NotSupported,
    PricerError,
    RequestRejected,
    ServiceError,
    ServiceUnavailable,
)
from ..tune.queries import ask_file, next_files
from ..tune.spec import TOKEN_KEY
from .batch_file import read_keys
from .batch_record import BatchRecord, ask_batch, ask_batch_twice, unwrap

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..providers.provider import Provider
    from ..tune.journal import Account, NotedBatch

_log = logging.getLogger("finetune_pricer")

MARK_KEY = "finetune_pricer_batch"
"""Under this key a batch's metadata says which model it asks."""
_TOO_EARLY = (1.0, 2.0, 4.0, 8.0, 15.0)  # seconds before a new file is named again that is not there yet
_MOST_SENDS = 3
_MOST_NAMES = 50  # files whose name is asked for one by one, at most
_NO_FILE_YET = compile_late(
    r"(?:no such|unknown) file|"
    r"file\b.*\b(?:not (?:be )?found|not exist|processing|being processed|not (?:yet )?(?:ready|processed))",
    re.IGNORECASE | re.DOTALL,
)


class LostRequest(Exception):
    """The answer to a request was lost, and what it made cannot be found; nothing more must be sent.

    It carries the error for the user, and does not leave this room.
    """

    def __init__(self, error: ServiceUnavailable) -> None:
        super().__init__(str(error))
        self.error = error


class Waited(Protocol):
    """A batch that the present run waits for, or has waited for."""

    @property
    def is_collected(self) -> bool:
        """Whether all that it holds was fetched."""
        ...


TakeUp = Callable[[BatchRecord, frozenset[str]], Flow[frozenset[str]]]
"""Take up a batch with these questions; returns which of them need not be asked for."""


def mark_of(model: str) -> str:
    """Return the word by which the batches and files that ask a model are known."""
    return hashlib.sha256(model.encode()).hexdigest()[:12]


def name_file(model: str, content: bytes) -> str:
    """Return the name of a file of questions, by which it is known as ours."""
    return f"finetune-pricer-{mark_of(model)}-{hashlib.sha256(content).hexdigest()[:12]}.jsonl"


class BatchSearch:
    """Looks for batches that hold certain questions, in the journal and at the service.

    Args:
        account: The journal's part for the service.
        model: Which model is asked.
        provider: What is known of the service.
        run: The batches of the present run, by their ids.
        take_up: What to do with another one that is found.
        wanted: The keys of the questions.
    """

    def __init__(
        self,
        account: Account,
        *,
        model: str,
        provider: Provider,
        run: Mapping[str, Waited],
        take_up: TakeUp,
        wanted: Iterable[str],
    ) -> None:
        self._account = account
        self._mark = mark_of(model)
        self._provider = provider
        self._run = run
        self._take_up = take_up
        self.missing = set(wanted)
        """The questions that are in no batch."""
        self.given_up: list[NotedBatch] = []
        """Requests that are not to be found, and whose questions are asked for anew."""

    def find(self, *, again: bool) -> Flow[None]:
        """Take up what is found; with `again`, questions of a request that is lost count as missing.

        Raises:
            LostRequest: A request for some of the questions was lost, and not `again`.
            ServiceError: The service refuses or does not answer; nothing was sent.
        """
        noted = yield Work(partial(self._account.find_batches, self.missing))
        for batch in noted:
            if batch.id is not None and self._holds_missing(batch.keys):
                yield from self._check_noted(batch, batch.id)
        lost = [batch for batch in noted if batch.id is None and self._holds_missing(batch.keys)]
        if lost:
            yield from self._settle(lost, again=again)
        yield from self._search_list()

    def _holds_missing(self, keys: frozenset[str]) -> bool:
        return not self.missing.isdisjoint(keys)

    def _check_noted(self, batch: NotedBatch, id_: str) -> Flow[None]:
        if id_ in self._run:
            if not self._run[id_].is_collected:
                self.missing -= batch.keys
            return
        try:
            record = yield from ask_batch_twice(id_, self._provider)
        except NotFound:
            if batch.is_of_this_key:
                _log.warning("the service no longer knows batch %r; asking for its questions anew", id_)
            return
        except AccessDenied:
            if batch.is_of_this_key:
                raise
            return  # of another account
        yield from self._consider(record, batch.file_id, batch.keys)

    def _consider(self, record: BatchRecord, file_id: str, keys: frozenset[str]) -> Flow[None]:
        # A gateway may show another file than the one that it was given.
        self.missing -= yield from self._take_up(replace(record, input_file_id=file_id), keys)

    def _settle(self, lost: list[NotedBatch], *, again: bool) -> Flow[None]:
        """Find out what became of requests whose answers were lost."""
        self.given_up = list(lost)
        are_settled = yield from look_repeatedly(self._look_for_given_up)
        if not are_settled and not again:
            raise LostRequest(ServiceUnavailable(_explain_lost(self.given_up[0])))

    def _look_for_given_up(self) -> Flow[Literal[True] | None]:
        """Take up what is found; return whether none of the others holds a question that is missing."""
        for batch, record in (yield from find_lost(self._provider, self.given_up)):
            yield Work(partial(self._account.complete_batch, batch.token, record.id))
            self.given_up.remove(batch)
            yield from self._consider(record, batch.file_id, batch.keys)
        self.given_up = [batch for batch in self.given_up if self._holds_missing(batch.keys)]
        return None if self.given_up else True

    def _search_list(self) -> Flow[None]:
        """Look for batches that the journal does not know, the newest first."""
        pages, names = Pages(list_batches), _FileNames()
        while self.missing and (records := (yield from _next_records(pages, self._provider))) is not None:
            for record in records:
                if not self.missing:
                    return
                if record.id in self._run or self._account.has_batch(record.id):
                    continue
                if not record.is_empty and record.input_file_id and (yield from self._is_ours(record, names)):
                    yield from self._read_and_note(record, record.input_file_id)

    def _is_ours(self, record: BatchRecord, names: _FileNames) -> Flow[bool]:
        if MARK_KEY in record.metadata:
            return bool(record.metadata[MARK_KEY] == self._mark)
        name = yield from names.find(record.input_file_id or "")
        return name is not None and f"finetune-pricer-{self._mark}-" in name

    def _read_and_note(self, record: BatchRecord, file_id: str) -> Flow[None]:
        try:
            file = yield from ask(get_file_content(file_id))
        except (NotFound, RequestRejected, AccessDenied) as error:
            _log.warning("the questions of batch %r cannot be read any more: %s", record.id, error)
            return
        keys = yield Work(partial(read_keys, file.get("content") or b""))
        yield Work(partial(self._account.add_batch, file_id, record.id, keys))
        if self._holds_missing(keys):
            _log.info("batch %r holds some of the questions; it is not in the journal", record.id)
            yield from self._consider(record, file_id, keys)


class _FileNames:
    """The names of the files of requests, from one list, or one by one where it lacks them."""

    def __init__(self) -> None:
        self._names: dict[str, str | None] | None = None
        self._asked = 0

    def find(self, file_id: str) -> Flow[str | None]:
        """Return a file's name; None where the service does not tell."""
        if self._names is None:
            self._names = yield from self._read_list()
        if file_id not in self._names and self._asked < _MOST_NAMES:
            self._asked += 1
            try:
                self._names[file_id] = (yield from ask_file(get_file(file_id))).filename
            except (NotFound, RequestRejected, AccessDenied, NotSupported):
                self._names[file_id] = None
        return self._names.get(file_id)

    def _read_list(self) -> Flow[dict[str, str | None]]:
        pages, names = Pages(list_batch_files), dict[str, "str | None"]()
        try:
            while files := (yield from next_files(pages)):
                names |= {file.id: file.filename for file in files}
        except (ServiceError, NotSupported) as error:
            _log.info("the service does not list its files of requests: %s", error)
        return names


def find_lost(provider: Provider, lost: list[NotedBatch]) -> Flow[list[tuple[NotedBatch, BatchRecord]]]:
    """Return the batches that requests made whose answers were lost, as far as the service lists them.

    Raises:
        ServiceUnavailable: The service does not answer.
    """
    found, pages, left = list[tuple["NotedBatch", BatchRecord]](), Pages(list_batches), list(lost)
    while left and (records := (yield from _next_records(pages, provider))) is not None:
        for record in records:
            for batch in left:
                # No two batches are made of one file.
                if batch.token == record.metadata.get(TOKEN_KEY) or batch.file_id == record.input_file_id:
                    found.append((batch, record))
                    left.remove(batch)
                    break
    return found


def _next_records(pages: Pages, provider: Provider) -> Flow[list[BatchRecord] | None]:
    """Return the batches of the next page; None at the end, or where the service has no such list."""
    try:
        rows = yield from pages.read_next()
    except (NotFound, RequestRejected, NotSupported) as error:
        _log.info("the service does not list its batches: %s", error)
        return None
    if not rows:
        return None
    return [BatchRecord.read(row, provider) for row in rows if unwrap(row).get("id")]


def buy_batch(
    account: Account, *, model: str, provider: Provider, file_id: str, keys: frozenset[str]
) -> Flow[BatchRecord]:
    """Note the request for a batch, send it, and note the batch.

    It is sent again only where the service has surely not taken it: no connection came about, the service was
    too busy, or it does not see the file yet.

    Raises:
        LostRequest: The answer was lost, and the service lists no such batch.
        ServiceUnavailable: The service did not take it.
        ServiceError: The service refuses.
    """
    early, busy = iter(_TOO_EARLY), iter(range(1, _MOST_SENDS))
    while True:
        noted = yield Work(partial(account.begin_batch, file_id, keys))
        try:
            record = yield from _send_request(model, provider, noted)
        except PricerError as error:
            yield Work(partial(account.forget_batch, noted.token))
            if isinstance(error, ServiceUnavailable) and next(busy, None):
                yield pause_before_repeating(error)
            elif _is_too_early(error) and (pause := next(early, None)):
                yield Pause(pause)
            else:
                raise
            continue
        try:
            yield Work(partial(account.complete_batch, noted.token, record.id))
        except BaseException as error:
            error.add_note(f"batch {record.id!r} was bought; predict_batch finds it")
            raise
        return record


def _send_request(model: str, provider: Provider, noted: NotedBatch) -> Flow[BatchRecord]:
    """Send a request once, and look for what it made where the answer is lost.

    Raises:
        LostRequest: The answer was lost, and the service lists no such batch.
        PricerError: The service has surely not taken it.
    """
    metadata = {MARK_KEY: mark_of(model), TOKEN_KEY: noted.token}
    try:
        return (yield from ask_batch(create_batch(noted.file_id, metadata, noted.token), provider))
    except PricerError as error:
        if not may_have_been_taken(error):
            raise
        return (yield from _find_after_loss(provider, noted, error))


def _is_too_early(error: PricerError) -> bool:
    if not isinstance(error, NotFound | RequestRejected) or isinstance(error, ModelNotFound):
        return False
    is_about_file = isinstance(error, NotFound) and error.param == "input_file_id"
    return is_about_file or _NO_FILE_YET.search(str(error)) is not None


def _find_after_loss(provider: Provider, noted: NotedBatch, error: PricerError) -> Flow[BatchRecord]:
    _log.info("no answer to the request for a batch (%s); looking for what came of it", error)
    lost = ServiceUnavailable(f"{error}; {_explain_lost(noted)}")
    try:
        record = yield from look_repeatedly(lambda: _find_made(provider, noted))
    except PricerError as second:
        raise LostRequest(lost) from second
    if record is None:
        raise LostRequest(lost) from error
    return record


def _find_made(provider: Provider, noted: NotedBatch) -> Flow[BatchRecord | None]:
    """Return the batch that a request made; None where the service lists none."""
    found = yield from find_lost(provider, [noted])
    return found[0][1] if found else None


def _explain_lost(noted: NotedBatch) -> str:
    return (
        f"a batch of {len(noted.keys):,} questions was asked for at {noted.noted_at} UTC (file "
        f"{noted.file_id!r}), its answer was lost, and the service does not list it; call predict_batch with "
        "the same items to look again, or with again=True to ask anew, which buys them twice if the first "
        "request was taken after all"
    )
