"""The Batch API: many questions in files, answered within a day at about half the price.

A batch is found again by its questions, so a run that is started again after a crash buys nothing twice, and
needs nothing but the same items; `batch_purchase.py` tells how.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from .._arguments import require_flag
from .._format import agree_on_currency
from .._progress import progress_bar
from .._service.flow import Flow, Work, ask, poll, run
from .._service.requests import cancel_batch, create_batch_file, get_file_content
from ..chat import look_ahead
from ..errors import (
    AccessDenied,
    JobTimeout,
    NotFound,
    NotSupported,
    OverBudget,
    RequestRejected,
    ServiceError,
    ServiceUnavailable,
)
from ..items import require_questions
from ..tune.journal import BATCH, Journal
from ..tune.queries import ask_file
from .answer_store import StoredAnswer
from .batch_file import RequestFile, cut_into_files, read_parameters, read_results, write_line
from .batch_purchase import BatchSearch, LostRequest, buy_batch, name_file
from .batch_record import ask_batch_twice, says_no_room
from .dialogue import id_of
from .prediction import Prediction, Predictions, make_failure

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from openai import OpenAI

    from .._service.error_mapping import Client
    from .._service.requests import Answer
    from ..items import Item
    from ..tune.journal import Account
    from .batch_record import BatchRecord
    from .dialogue import Dialogue, Question

_log = logging.getLogger("finetune_pricer")

_TRIES = 3
_LONGEST_PAUSE = 60.0  # seconds between two looks at the batches
# How often a batch that has ended is looked at again for results that are not there yet. The pauses between
# looks grow to a minute: twenty take ten minutes or more.
_MOST_LOOKS = 20
_FEW_LOOKS = 8  # where the service does not say how many results there are, or deletes them after a while
_ROOM_LOOKS = 5  # before questions that there was no room for are sent again, if nothing of ours ends
_ROOM_TRIES = 5
_FEW_IDS = 3  # that a `repr` names
_CATALOGUE = 50  # questions of which one is asked before a batch of them is bought


class PendingQuestion(NamedTuple):
    """A question without an answer."""

    place: int
    """The index of the first item that asks it."""
    item_id: str
    question: Question


@dataclass(slots=True, kw_only=True)
class SentBatch:
    """A batch that a run waits for, or has waited for."""

    id: str
    keys: frozenset[str]
    """All its questions, also those of other runs."""
    file_id: str | None
    is_ending: bool = False
    """Whether it was cancelled or ended early before this run found it: what it lacks is bought anew."""
    is_collected: bool = False
    """Whether all that it holds was fetched."""
    done: int = 0
    """How many of its questions the service has done."""
    looks: int = 0
    """How often it was looked at since it has ended."""


@dataclass(slots=True)
class _Results:
    """What the result files of a batch hold."""

    lines: int = 0
    answers: int = 0
    keys: set[str] = field(default_factory=set)
    has_text: bool = False
    is_gone: bool = False
    """Whether a file was named and not found."""
    refusals: dict[str, ServiceError] = field(default_factory=dict)
    unreal: dict[str, Answer] = field(default_factory=dict)
    """Answers that are cut, filtered or empty: asked otherwise, there may be a real one."""

    def count_looks(self, record: BatchRecord) -> int:
        """Return how many more looks it is worth to wait for what is missing."""
        if record.status == "failed" and not record.result_files:
            return 0  # whatever it counts
        if self.is_gone:
            return _FEW_LOOKS
        if record.done > self.lines or (self.keys and record.completed > self.answers):
            return _MOST_LOOKS
        is_unlikely = record.status == "completed" and not record.done
        return _FEW_LOOKS if is_unlikely or not record.is_counted else 0


class _HeldBack:
    """Questions that the service had no room for: when they are to be sent again."""

    def __init__(self) -> None:
        self.is_waiting = False
        self._tries = 0
        self._looks = 0

    def note(self) -> None:
        """Take note of a refusal."""
        if not self.is_waiting:
            self._tries += 1
            self._looks = _ROOM_LOOKS * 2 ** (self._tries - 1)
        self.is_waiting = True

    @property
    def is_hopeless(self) -> bool:
        """Whether they were refused again and again while nothing of ours was under way."""
        return self._tries >= _ROOM_TRIES and not self.is_waiting

    def is_due(self, *, some_ended: bool, is_alone: bool) -> bool:
        """Whether to send them again: when a batch has ended, and else after some looks."""
        if some_ended:
            self._tries = 0
        elif is_alone:
            self._looks -= 1
        due = some_ended or (is_alone and self._looks <= 0)
        self.is_waiting = self.is_waiting and not due
        return due


class BaseBatch:
    """What is known about the questions of a run, and a flow for each of its methods."""

    def __init__(
        self,
        client: Client,
        dialogue: Dialogue,
        items: Iterable[Item | str],
        *,
        journal: str | os.PathLike[str] | None = None,
        again: bool = False,
    ) -> None:
        if not dialogue.provider.batch_api:
            raise NotSupported(f"{dialogue.provider.name!r} has no Batch API; ask with predict_many")
        require_questions(items)
        require_flag("again", again)
        self._client: Any = client
        self._dialogue = dialogue
        said = {"the items": getattr(items, "currency", None), "the formatter": dialogue.formatter.currency}
        agree_on_currency(said)
        self._items = list(items)
        self._journal = journal
        self._again = again
        self._open: dict[str, PendingQuestion] = {}  # as of the last time that something was sent
        self._answers: dict[str, Answer] = {}
        self._errors: dict[str, ServiceError | OverBudget] = {}
        self._tries: Counter[str] = Counter()
        self._batches: dict[str, SentBatch] = {}
        self._refusals: list[ServiceError | OverBudget] = []  # raised when the others have ended
        self._stop: ServiceError | None = None  # why nothing more is sent
        self._held_back = _HeldBack()
        self._unused_files: dict[str, str] = {}  # sent, and no batch made of them

    @property
    def ids(self) -> tuple[str, ...]:
        """The service's names for the batches."""
        return tuple(self._batches)

    def predictions(self) -> Predictions:
        """Return what was received by now; an item without an answer says so in its `error`."""
        return Predictions(self._replay()[0])

    def __repr__(self) -> str:
        named = ", ".join(self.ids[:_FEW_IDS])
        more = len(self.ids) - _FEW_IDS
        return f"{type(self).__name__}({named}{f' and {more:,} more' if more > 0 else ''})"

    def _replay(self) -> tuple[list[Prediction], dict[str, PendingQuestion]]:
        """Return predictions as far as there are answers, and the open questions by key."""
        found: list[Prediction] = []
        pending: dict[str, PendingQuestion] = {}
        for place, item in enumerate(look_ahead(self._dialogue.formatter, self._items)):
            item_id = ""
            try:
                item_id = id_of(item)
                found.append(self._follow(item, item_id, place, pending))
            except Exception as error:  # noqa: BLE001 - an item that cannot be asked about touches no other
                found.append(make_failure(item_id, error))
        return found, pending

    def _follow(
        self, item: Item | str, item_id: str, place: int, pending: dict[str, PendingQuestion]
    ) -> Prediction:
        found = self._dialogue.replay(item, item_id, self._find)
        if isinstance(found, Prediction):
            return found
        pending.setdefault(self._dialogue.key_of(found), PendingQuestion(place, item_id, found))
        return Prediction(item_id=item_id, price=None, error="not answered yet")

    def _find(self, _: Question, key: str) -> Answer | None:
        if key in self._errors:
            raise self._errors[key]
        return self._answers.get(key) or self._dialogue.find_stored(key)

    # Sending.

    def _start_flow(self) -> Flow[None]:
        self._stop = None
        yield from self._submit_flow()
        if self._stop is not None:
            raise self._stop

    def _submit_flow(self) -> Flow[None]:
        """Find the batches that hold open questions, and send what none of them holds."""
        pending = self._open = self._replay()[1]
        if not pending:
            return
        dialogue = self._dialogue
        with (yield Work(partial(Journal, self._journal))) as ledger:
            account = ledger.for_client(self._client)
            with (yield from account.lock(BATCH, dialogue.model)):
                search = BatchSearch(
                    account,
                    model=dialogue.model,
                    provider=dialogue.provider,
                    run=self._batches,
                    take_up=self._take_up,
                    wanted=pending,
                )
                try:
                    yield from search.find(again=self._again)
                    missing = {key: each for key, each in pending.items() if key in search.missing}
                    yield from self._ask_first(missing)
                    unsent = yield from self._send(account, missing)
                except LostRequest as lost:
                    self._stop = lost.error
                    return
                for batch in search.given_up:
                    bought = batch.keys & (missing.keys() - unsent)
                    yield Work(partial(account.forget_questions, batch.token, bought))

    def _ask_first(self, missing: dict[str, PendingQuestion]) -> Flow[None]:
        """Ask one question of a catalogue directly, and up to three until a real answer comes.

        So no catalogue of answers is bought that are cut while the model thinks. Without a store the question
        stays in the batch, where another run finds it.

        Raises:
            RequestRejected: The model never comes to an answer.
        """
        dialogue = self._dialogue
        if len(missing) < _CATALOGUE or dialogue.parameters.has_replied:
            return
        for key in list(missing)[:_TRIES]:
            _, item_id, question = missing[key]
            if not dialogue.take_lease(key):
                return  # somebody else asks it, and hears what there is to learn
            try:
                answer = (yield from dialogue.ask_once(question, key, item_id)).answer
            except (ServiceError, OverBudget) as error:
                _log.info("no question could be asked before the batch: %s", error)
                return
            if dialogue.store is not None and dialogue.is_real(answer):
                self._answers[key] = answer
                del missing[key]
            if dialogue.parameters.has_replied:
                return
            if dialogue.parameters.is_hopeless:
                raise dialogue.parameters.make_thinking_error()

    def _take_up(self, record: BatchRecord, keys: frozenset[str]) -> Flow[frozenset[str]]:
        """Wait for a batch that was found; return which of its questions need not be asked for."""
        is_over = record.has_ended and record.status != "completed"
        if record.is_empty:
            return frozenset()
        batch = SentBatch(
            id=record.id,
            keys=keys,
            file_id=record.input_file_id,
            is_ending=is_over or record.status == "cancelling",
        )
        self._batches[record.id] = batch
        if is_over:  # what it has answered is paid for
            yield from self._collect(batch, record)
        if not batch.is_collected:
            return keys
        return frozenset(key for key in keys if key in self._answers or key in self._errors)

    def _send(self, account: Account, missing: Mapping[str, PendingQuestion]) -> Flow[set[str]]:
        """Buy batches for what is missing; return the questions that were not taken.

        This is the one place where batches are bought, one file after the other. With nothing under way an
        error is raised; else it must not keep anybody from waiting for the others.
        """
        if not self._fits_into_budget(missing):
            return set(missing)
        unsent = set(missing)
        for file in self._write_files(missing):
            try:
                batch = yield from self._buy(account, file)
            except ServiceError as error:
                if not self._under_way():
                    raise
                if isinstance(error, ServiceUnavailable) or says_no_room(error):
                    _log.warning("the service takes no more batches now (%s); wait() sends the rest", error)
                    self._held_back.note()
                    break
                self._leave(error, file.keys)
            else:
                self._batches[batch.id] = batch
                unsent -= file.keys
        return unsent

    def _fits_into_budget(self, missing: Mapping[str, PendingQuestion]) -> bool:
        """Count what is sent now; where it does not fit in and nothing has been sent, that is an error."""
        budget = self._dialogue.budget
        if budget is None or not missing:
            return True
        try:
            budget.spend_on_batch(self._dialogue, {key: each.question for key, each in missing.items()})
        except OverBudget as error:
            if not self._batches:
                raise
            self._leave(error, missing)
            return False
        return True

    def _buy(self, account: Account, file: RequestFile) -> Flow[SentBatch]:
        dialogue, content = self._dialogue, hashlib.sha256(file.content).hexdigest()
        file_id = self._unused_files.pop(content, None)
        if file_id is None:
            name = name_file(dialogue.model, file.content)
            file_id = (yield from ask_file(create_batch_file(name, file.content))).id
        try:
            record = yield from buy_batch(
                account, model=dialogue.model, provider=dialogue.provider, file_id=file_id, keys=file.keys
            )
        except ServiceUnavailable:
            self._unused_files[content] = file_id
            raise
        return SentBatch(id=record.id, keys=file.keys, file_id=file_id)

    def _write_files(self, missing: Mapping[str, PendingQuestion]) -> Iterator[RequestFile]:
        dialogue = self._dialogue
        lines = (
            (
                key,
                write_line(key, dialogue.model, question.messages, dialogue.choose_parameters(question)),
            )
            for key, (_, _, question) in missing.items()
        )
        most_lines, most_bytes = dialogue.provider.batch_requests, dialogue.provider.batch_bytes
        return cut_into_files(lines, most_lines=most_lines, most_bytes=most_bytes)

    # Looking, and fetching.

    def _under_way(self) -> list[SentBatch]:
        return [batch for batch in self._batches.values() if not batch.is_collected]

    def _open_questions(self, batch: SentBatch) -> dict[str, PendingQuestion]:
        """Return the questions of a batch that have neither an answer nor an error."""
        known = self._answers.keys() | self._errors.keys()
        return {key: self._open[key] for key in batch.keys & self._open.keys() if key not in known}

    def _look_flow(self, *, is_waiting: bool = False) -> Flow[int]:
        """Ask for the state of each batch, fetch the answers of those that have ended; return how many."""
        problem, ended = None, 0
        for batch in self._under_way():
            try:
                record = yield from ask_batch_twice(batch.id, self._dialogue.provider)
                batch.done = record.done
                if record.has_ended:
                    batch.looks += is_waiting  # who looks by hand may look as often as he likes
                    yield from self._collect(batch, record)
                    ended += batch.is_collected and not record.lacks_room
            except NotFound as error:
                self._give_up(batch, _explain_loss(batch.id, error))
            except RequestRejected as error:
                self._give_up(batch, error)
            except ServiceUnavailable as error:
                problem = problem or error
        if problem is not None:  # only now: what the other batches hold is paid for
            raise problem
        return ended

    def _refresh_flow(self) -> Flow[None]:
        yield from self._look_flow()
        self._raise_refusal()

    def _raise_refusal(self) -> None:
        for error in (self._stop, *self._refusals):
            if error is not None:
                raise error

    def _give_up(self, batch: SentBatch, error: ServiceError) -> None:
        """Leave an error with the questions of a batch that have no answer."""
        batch.is_collected = True
        if questions := self._open_questions(batch):
            self._leave(error, questions)

    def _leave(self, error: ServiceError | OverBudget, keys: Iterable[str]) -> None:
        """Leave an error with questions; it is raised when the batches of the others have ended."""
        self._errors |= dict.fromkeys(keys, error)
        self._refusals.append(error)

    def _collect(self, batch: SentBatch, record: BatchRecord) -> Flow[None]:
        """Fetch what a batch that has ended holds; it counts as collected unless more is to come."""
        questions = self._open_questions(batch)
        results = yield from self._fetch(record, questions)
        yield from self._take_refusals(batch, results.refusals, questions)
        yield from self._take_unreal(batch, results.unreal, questions)
        is_short = bool(questions.keys() - results.keys)
        # A service may say that a batch has ended before its files are whole.
        if is_short and (looks := results.count_looks(record)) and batch.looks <= looks:
            return
        batch.is_collected = True
        is_readable = not results.has_text or not results.keys.isdisjoint(batch.keys)
        for key in self._open_questions(batch):
            if not is_readable:
                self._errors[key] = _explain_dialect(record)
            elif not batch.is_ending:
                self._note_missing(key, batch, record)
        if record.problem is not None and not batch.is_ending:
            self._refuse(batch, record.problem)

    def _note_missing(self, key: str, batch: SentBatch, record: BatchRecord) -> None:
        self._tries[key] += record.problem is None
        if record.status == "cancelled":
            self._errors[key] = ServiceUnavailable(
                f"batch {batch.id!r} was cancelled; call predict_batch again to ask for the rest"
            )
        elif self._tries[key] >= _TRIES:
            self._errors[key] = ServiceUnavailable(f"no answer in {_TRIES} batches; ask for it with predict")

    def _refuse(self, batch: SentBatch, problem: RequestRejected) -> None:
        """Note that a batch was not accepted: its questions are sent again, or carry the refusal."""
        if says_no_room(problem) and not self._held_back.is_hopeless:
            _log.warning("%s; wait() sends its questions again when there is room", problem)
            self._held_back.note()
        else:
            self._give_up(batch, problem)

    def _fetch(self, record: BatchRecord, questions: Mapping[str, PendingQuestion]) -> Flow[_Results]:
        results = _Results()
        for file_id in record.result_files:
            try:
                content = (yield from ask(get_file_content(file_id))).get("content") or b""
            except NotFound:
                results.is_gone = True  # services delete them after a while
                continue
            results.has_text = results.has_text or bool(content.strip())
            for line in read_results(content):
                results.lines += 1
                results.answers += line.answer is not None
                if line.key is None:
                    continue
                results.keys.add(line.key)
                if line.key not in questions:
                    continue
                if line.answer is not None and not self._dialogue.is_real(line.answer):
                    results.unreal[line.key] = line.answer
                elif line.answer is not None:
                    self._dialogue.parameters.has_replied = True
                    self._answers[line.key] = line.answer
                    received = StoredAnswer(line.answer, 0.0)
                    self._dialogue.keep_answer(line.key, questions[line.key].item_id, received)
                elif line.error is not None:
                    results.refusals[line.key] = line.error
        self._dialogue.flush()
        return results

    def _take_refusals(
        self,
        batch: SentBatch,
        refusals: Mapping[str, ServiceError],
        questions: Mapping[str, PendingQuestion],
    ) -> Flow[None]:
        """Learn from refusals; an error stays with those that would be asked in the same way again."""
        choose = self._dialogue.choose_parameters
        # As they are chosen now: the first refusal that is read changes them for all.
        now = {key: choose(questions[key].question) for key in refusals if key not in self._answers}
        sent: dict[str, dict[str, Any]] | None = None
        for key, chosen in now.items():
            question, error = questions[key].question, refusals[key]
            if self._dialogue.learn(question, chosen, error):
                continue
            if sent is None:  # it may have been sent before something was learned
                sent = yield from self._read_sent(batch)
            if sent.get(key, chosen) == choose(question):
                self._errors[key] = error

    def _take_unreal(
        self, batch: SentBatch, unreal: Mapping[str, Answer], questions: Mapping[str, PendingQuestion]
    ) -> Flow[None]:
        """Learn from answers that are none; one stays where it would be asked in the same way again."""
        if not unreal:
            return
        sent = yield from self._read_sent(batch)
        for key, answer in unreal.items():
            question = questions[key].question
            chosen = sent.get(key) or self._dialogue.choose_parameters(question)
            if not self._dialogue.learn_from_answer(question, chosen, answer):
                self._answers[key] = answer

    def _read_sent(self, batch: SentBatch) -> Flow[dict[str, dict[str, Any]]]:
        """Return the parameters with which the questions of a batch were sent, by their keys."""
        if batch.file_id is None:
            return {}
        try:
            file = yield from ask(get_file_content(batch.file_id))
        except (NotFound, RequestRejected, AccessDenied):
            return {}
        return read_parameters(file.get("content") or b"")

    # Waiting.

    def _wait_flow(self, timeout: float | None) -> Flow[None]:
        """Wait for all batches, and ask again for what is missing, until nothing is open."""
        yield from poll(
            self._advance,
            done=lambda is_done: is_done,
            timeout=timeout,
            late=lambda: self._late(timeout),
            longest_pause=_LONGEST_PAUSE,
        )
        self._raise_refusal()

    def _advance(self) -> Flow[bool]:
        """Fetch what has ended and send what is missing; return whether all is done."""
        ended = yield from self._look_flow(is_waiting=True)
        is_alone = not self._under_way()
        if self._stop is not None:
            return is_alone
        if self._held_back.is_waiting:
            if not self._held_back.is_due(some_ended=ended > 0, is_alone=is_alone):
                return False
        elif not is_alone:
            return False
        before = len(self._batches)
        yield from self._submit_flow()  # where it raises, nothing was taken
        is_new = len(self._batches) > before
        return not (is_new or self._under_way() or self._held_back.is_waiting)

    def _progress(self) -> tuple[int, int]:
        """Return how many of the questions that were sent are done, and how many were sent."""
        done = sum(
            len(batch.keys) if batch.is_collected else min(len(batch.keys), batch.done)
            for batch in self._batches.values()
        )
        return done, sum(len(batch.keys) for batch in self._batches.values())

    def _late(self, timeout: float | None) -> JobTimeout:
        return JobTimeout(
            f"{len(self._under_way())} batches are under way after {timeout or 0:g} s and go on; call "
            "predict_batch with the same items to find them again",
            job_id=", ".join(self.ids),
        )

    def _cancel_flow(self) -> Flow[None]:
        """Ask for all batches to be cancelled; one that has ended is left alone."""
        problem = None
        for batch in self._under_way():
            try:
                with suppress(RequestRejected):
                    yield from ask(cancel_batch(batch.id))
            except ServiceError as error:
                if error.status != 409:  # which says that it has ended
                    problem = problem or error
        if problem is not None:  # only now: the others are to stop too
            raise problem

    @contextmanager
    def _show_progress(self) -> Iterator[Callable[[], None]]:
        """Yield a function that shows how far the batches are."""
        with progress_bar(total=None, doing="waiting for batches") as bar:

            def show() -> None:
                bar.n, bar.total = self._progress()
                bar.refresh()

            yield show
            show()


class BatchRun(BaseBatch):
    """Questions that are with the Batch API. `Predictor.predict_batch` makes one.

    Starting it again with the same items, or some of them, in whatever order, in the same process or another,
    finds the batches that are there.
    """

    def __init__(
        self,
        client: OpenAI,
        dialogue: Dialogue,
        items: Iterable[Item | str],
        *,
        journal: str | os.PathLike[str] | None = None,
        again: bool = False,
        sleep: Callable[[float], Any] = time.sleep,
    ) -> None:
        super().__init__(client, dialogue, items, journal=journal, again=again)
        run(client, self._start_flow(), sleep)

    def refresh(self) -> BatchRun:
        """Look at the service once and fetch what has ended; returns the run itself.

        Raises:
            RequestRejected: The service did not accept a batch; the message has its reason.
            NotFound: The service has lost a batch.
            ServiceError: The service refuses or does not answer. What could be fetched was.
        """
        run(self._client, self._refresh_flow(), time.sleep)
        return self

    def wait(
        self, timeout: float | None = None, *, sleep: Callable[[float], Any] = time.sleep
    ) -> Predictions:
        """Wait until all is answered, asking again for what is missing or expired; return the predictions.

        A progress bar shows how many questions the service has done. What a batch holds that was cancelled,
        here or by somebody else, is not asked again. Results that come later than the service says are looked
        for during some ten minutes before they count as missing. What the service has no room for is sent
        again when another batch has ended, or after some minutes.

        Args:
            timeout: Seconds; None waits as long as it takes.
            sleep: How to pause between questions.

        Raises:
            JobTimeout: The time is up; the batches go on.
            RequestRejected: The service did not accept a batch; the message has its reason. It is raised when
                the other batches have ended, and their answers are there.
            NotFound: The service has lost a batch; likewise.
            ServiceUnavailable: The answer to a request for a further batch was lost; likewise.
            OverBudget: Questions that were to be asked again do not fit into the budget; likewise.
            ServiceError: The service refuses to tell.
            FileAccessError: The journal cannot be written.
        """
        with self._show_progress() as show:
            run(self._client, self._wait_flow(timeout), lambda seconds: (show(), sleep(seconds)))
        return self.predictions()

    def cancel(self) -> BatchRun:
        """Ask the service to stop; what is answered already is paid for and can be fetched.

        Questions of another run that are in the same batches are stopped too.
        """
        run(self._client, self._cancel_flow(), time.sleep)
        return self


def _explain_loss(batch_id: str, error: NotFound) -> NotFound:
    return error.with_message(
        f"batch {batch_id!r} is not there any more ({error}); call predict_batch with the same items to send "
        "again what is not answered"
    )


def _explain_dialect(record: BatchRecord) -> ServiceError:
    files = ", ".join(map(repr, record.result_files))
    return ServiceError(
        f"the results of batch {record.id!r} (file {files}) name none of the questions that were sent; they "
        "may be paid for: look at the file, and ask with predict_many where it holds nothing"
    )
