"""The engine: many questions at once within the service's limits, none lost and none asked twice.

`Engine` decides which question goes next and when, and what an answer or an error leads to. It neither waits
nor sends: `runners` do, in threads for `openai.OpenAI` and in tasks for `openai.AsyncOpenAI`.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import random
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..errors import AccessDenied, FileAccessError, NotFound, PricerError, ServiceUnavailable
from .answer_store import MOST_HELD, StoredAnswer
from .completion import read_usage
from .dialogue import id_of, make_waiting_error
from .leases import LONGEST_WAIT, PAUSE
from .prediction import Prediction, make_failure

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from .._service.requests import Answer, Reply, Request
    from ..errors import ServiceError
    from ..items import Item
    from .dialogue import Dialogue, Question
    from .rate_limit import RateLimit, Ticket

_log = logging.getLogger("finetune_pricer")

ATTEMPTS = 7
"""How often a question is sent that meets faults of the service or of the connection."""
PATIENCE = 600.0
"""Seconds for which a question lets a service put it off, whatever that asks for."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 20.0
_DENIED_IN_A_ROW = 5  # a single HTTP 403 may be about what an item says, such as a filter's
_FAULTS_IN_A_ROW = 32  # without an answer between them: it is not the questions, the service is away
FEW = 8
"""Items that are no catalogue: they are asked about at once. Of more, one is asked first."""
_ALONE, _LONGEST_THOUGHT = 5.0, 120.0  # seconds for which a question goes alone: it may never be answered
_GRACE = 3.0  # seconds without a question where answers cannot be written, at most
_FULL_FOR = 60.0  # and where there is no more memory for them


@dataclass(eq=False, slots=True)
class Task:
    """One item on its way to its prediction."""

    index: int
    item_id: str
    questions: Generator[Question, Answer, Prediction]
    question: Question
    """The one that is asked now."""
    key: str = ""
    attempts: int = 0
    began: float = math.inf
    latency: float = 0.0
    has_lease: bool = False
    waits_until: float = math.inf
    """How long it waits for the answer that somebody else gets."""
    followers: list[Task] = field(default_factory=list)
    """Items with the same question, which wait for this one's answer."""


@dataclass(frozen=True, slots=True, eq=False)
class Sending:
    """A request that is to go now."""

    task: Task
    request: Request
    parameters: Mapping[str, object]
    ticket: Ticket


class Engine:
    """Decides what is sent when, and what follows from it. Not for several threads at once.

    Args:
        dialogue: What to ask, how to read answers, and which are there already.
        rate_limit: When the next request may go.
        jitter: Gives numbers from 0 to 1, to spread repeated requests.
        asks_one_first: Whether one question goes alone until a real answer has come, as may be the ninth: so
            no catalogue of answers is bought that are cut while the model thinks.
    """

    def __init__(
        self,
        dialogue: Dialogue,
        rate_limit: RateLimit,
        *,
        jitter: random.Random | None = None,
        asks_one_first: bool = False,
    ) -> None:
        self.rate_limit = rate_limit
        self._dialogue = dialogue
        self._random = jitter or random.Random()  # noqa: S311 - spreads requests, keeps no secret
        self._fresh: deque[Task] = deque()
        self._later: list[tuple[float, int, Task]] = []
        self._number = itertools.count()
        self._elsewhere: list[tuple[float, int, Task]] = []  # asked by others; when to look for the answer
        self._failing_since = math.inf
        self._reserved: dict[int, float] = {}  # dollars for each request under way
        self._asked: dict[str, Task] = {}
        self._finished: list[tuple[int, Prediction]] = []
        self._answered = False
        self._heard_at = -math.inf
        self._denied = self._faults = 0  # since the last answer
        self._left_alone = FEW if asks_one_first else 0  # questions that go alone, at most
        self._alone_since = -math.inf
        self._halt: PricerError | None = None
        self._crash: Exception | None = None  # what sending raised last, since the last answer

    def add(self, index: int, item: Item | str, now: float) -> None:
        """Take an item up."""
        item_id = ""
        try:
            item_id = id_of(item)
            questions = self._dialogue.questions(item, item_id)
            task = Task(index, item_id, questions, next(questions))
            self._pose(task, task.question, now)
        except Exception as error:  # noqa: BLE001 - an item that cannot be asked about touches no other
            self._finish_without_price(index, item_id, error)

    def next(self, now: float) -> Sending | float:
        """Return the request to send now, or the seconds until there may be one; `inf`: not by itself."""
        self._look_elsewhere(now)
        while True:
            wait = self._wait(now)
            if wait > 0:
                return self._until_something(wait, now)
            late = bool(self._later) and self._later[0][0] <= now
            task = heapq.heappop(self._later)[2] if late else self._fresh.popleft()
            if not self._is_ours(task, now):
                continue
            reserved = self._reserve(task)
            if reserved is None:
                return self._until_something(PAUSE, now)
            task.began = min(task.began, now)
            request, parameters = self._dialogue.make_request(task.question)
            ticket = self.rate_limit.send(now)
            self._reserved[ticket.number] = reserved
            if self.rate_limit.in_flight == 1:
                self._alone_since = now
            return Sending(task, request, parameters, ticket)

    def _wait(self, now: float) -> float:
        """Return the seconds until the next question may go; `inf`: not by itself."""
        if self._left_alone and self.rate_limit.in_flight and not self._dialogue.parameters.has_replied:
            alone = self._alone_since + (_LONGEST_THOUGHT if self._dialogue.parameters.takes_long else _ALONE)
            if now < alone:
                return alone - now
        late = bool(self._later) and self._later[0][0] <= now
        # While the service is away, nothing new is lost on it: items that failed find out when it is back.
        away = self._faults >= _FAULTS_IN_A_ROW and (self._later or self.rate_limit.in_flight)
        ready = 0.0 if late or (self._fresh and not away) else math.inf
        if self._later and ready:
            ready = self._later[0][0] - now
        if ready == math.inf:
            return ready
        return max(ready, self.rate_limit.delay(now), self._wait_for_disk(now))

    def _wait_for_disk(self, now: float) -> float:
        """Return a while to wait where answers cannot be written: what is held is lost with a killed process.

        After that it goes on, as far as there is memory for the answers.
        """
        store = self._dialogue.store
        if store is None or not store.is_failing:
            self._failing_since = math.inf
            return 0.0
        self._failing_since = min(self._failing_since, now)
        if now - self._failing_since >= _GRACE and not store.is_full:
            return 0.0
        if now - self._failing_since > _FULL_FOR and self._halt is None:
            self._stop(
                FileAccessError(
                    f"not asked: {store.unwritten:,} answers ({MOST_HELD // 2**20} MiB) could not be written "
                    f"to {store!r}; make room on the disk, and the same call goes on"
                )
            )
        return PAUSE

    def _until_something(self, wait: float, now: float) -> float:
        """Return the seconds to wait, fewer where there is something to hand out or to look for."""
        if self._finished:
            return 0.0
        return max(0.0, min(wait, self._elsewhere[0][0] - now)) if self._elsewhere else wait

    def _is_ours(self, task: Task, now: float) -> bool:
        """Whether a task may be sent: nobody else asks the same, nor has the answer by now."""
        if task.has_lease or self._dialogue.store is None:
            return True
        if not self._dialogue.take_lease(task.key):
            task.waits_until = min(task.waits_until, now + LONGEST_WAIT)
            heapq.heappush(self._elsewhere, (now + PAUSE, next(self._number), task))
            return False
        task.has_lease = True
        # Somebody else may have had the answer since the item was taken up.
        return not self._is_answered(task, now)

    def _is_answered(self, task: Task, now: float) -> bool:
        """Whether the answer is there, or cannot be looked for; the task goes on with it."""
        try:
            stored = self._dialogue.find_answer(task.key)
        except FileAccessError as error:
            self._give_up(task, error)
            return True
        if stored is None:
            return False
        self._receive(task, stored.answer, stored.latency, now)
        return True

    def _look_elsewhere(self, now: float) -> None:
        """Look for the answers that others get; ask ourselves what they have given up."""
        while self._elsewhere and self._elsewhere[0][0] <= now:
            task = heapq.heappop(self._elsewhere)[2]
            if self._is_answered(task, now):
                continue
            if now >= task.waits_until:
                self._give_up(task, make_waiting_error())
            elif self._is_ours(task, now):
                task.waits_until = math.inf
                self._fresh.appendleft(task)

    def _reserve(self, task: Task) -> float | None:
        """Return the dollars set aside for a question; None where they do not fit in, now or at all."""
        budget = self._dialogue.budget
        if budget is None:
            return 0.0
        most = budget.most_for(self._dialogue, task.question)
        if budget.reserve(most):
            return most
        if budget.has_reserved:  # those under way may cost less than was set aside
            self._fresh.appendleft(task)
            return None
        error = budget.make_error(most)
        _log.warning("%s", error)
        self._fresh.appendleft(task)
        self._stop(error)
        return None

    def take_answer(self, sending: Sending, reply: Reply, now: float) -> None:
        """Take note of an answer, and go on with the items that wait for it."""
        answer, headers = reply
        task, usage = sending.task, read_usage(answer)
        tokens = usage.prompt_tokens + usage.completion_tokens
        self.rate_limit.take_answer(sending.ticket, now, tokens=tokens, headers=headers)
        self._heard_at, self._denied, self._faults = now, 0, 0
        self._crash = None
        took = now - sending.ticket.at
        self._dialogue.settle_answer(self._reserved.pop(sending.ticket.number, 0.0), answer)
        if self._dialogue.learn_from_answer(task.question, sending.parameters, answer) and not self._halt:
            self._fresh.appendleft(task)
            return
        self._left_alone = max(0, self._left_alone - 1)
        self._dialogue.keep_answer(task.key, task.item_id, StoredAnswer(answer, took))
        task.has_lease = False  # given back when the answer is on disk
        self._receive(task, answer, took, now)
        if self._dialogue.parameters.is_hopeless and self._halt is None:
            self._stop(self._dialogue.parameters.make_thinking_error())

    def _receive(self, task: Task, answer: Answer, took: float, now: float) -> None:
        """Go on with an answer, whoever got it, and let those go on that wait for the same."""
        self._give_back(task)
        self._asked.pop(task.key, None)
        followers, task.followers = task.followers, []
        for each in (task, *followers):
            self._go_on(each, answer, took, now)

    def _give_back(self, task: Task) -> None:
        if task.has_lease:
            task.has_lease = False
            self._dialogue.give_back_lease(task.key)

    def take_error(self, sending: Sending, error: ServiceError, now: float) -> None:
        """Take note of an error: ask again later, ask otherwise, or give the item up."""
        task = sending.task
        self._dialogue.settle_error(self._reserved.pop(sending.ticket.number, 0.0), error)
        if isinstance(error, ServiceUnavailable):
            pause, enough = self._pause(task, sending, error, now)
            if not enough and self._halt is None:
                heapq.heappush(self._later, (now + pause, next(self._number), task))
                return
            if self._has_gone_silent(task, error, now + pause):
                self._halt = self._halt or error
        else:
            self.rate_limit.take_failure()
            can_ask_otherwise = self._dialogue.learn(task.question, sending.parameters, error)
            if can_ask_otherwise and self._halt is None:
                self._fresh.appendleft(task)
                return
        self._give_up(task, error)

    def take_crash(self, sending: Sending, error: Exception, now: float) -> None:
        """Take note that sending raised what is no answer, such as a token provider's error: a fault.

        Where nothing was ever answered and the question is given up, the error itself ends the run.
        """
        self._crash = error
        words = f"the request could not be sent: {type(error).__name__}: {error}"
        self.take_error(sending, ServiceUnavailable(words), now)

    def take_finished(self) -> list[tuple[int, Prediction]]:
        """Return the predictions that are new since the last time, by the index of their item.

        Raises:
            AccessDenied: The key is refused, and there is not one answer.
            NotFound: There is no such model, or no such service at the base URL.
            Exception: What sending raised, in place of an answer, each time.
        """
        end = self._crash if self._halt is not None and self._crash is not None else self._halt
        if (end is self._crash or isinstance(end, AccessDenied | NotFound)) and end and not self._answered:
            if self.rate_limit.in_flight:
                return []  # one of these may be an answer yet
            raise end
        found, self._finished = self._finished, []
        return found

    def how_to_go_on(self) -> str:
        """Return what becomes of the answers, for somebody who has interrupted a run."""
        if self._dialogue.store is None:
            return "no answer is kept; with store= a run that was stopped goes on where it was"
        return "what was answered is kept; the same call again asks only for the rest"

    def flush(self) -> None:
        """Put the answers that came since the last time on disk."""
        self._dialogue.flush()

    @property
    def cannot_write(self) -> bool:
        """Whether answers are held in memory because they could not be written."""
        return self._dialogue.store is not None and self._dialogue.store.is_failing

    def close(self) -> None:
        """End a run: put on disk what can be, and let others ask what was not answered."""
        while self._reserved:  # cancelled on its way, and perhaps billed
            _, reserved = self._reserved.popitem()
            self._dialogue.settle_error(reserved, InterruptedError())
        for task in {*self._fresh, *self._asked.values(), *(late[2] for late in self._later)}:
            self._give_back(task)
        if self._dialogue.store is not None:
            self._dialogue.store.settle()

    def warn_of_unwritten(self) -> None:
        """Warn the caller where answers could not be put on disk."""
        if self._dialogue.store is not None:
            self._dialogue.store.warn_of_unwritten()

    def _pose(self, task: Task, question: Question, now: float) -> None:
        task.question = question
        if self._dialogue.store is not None:
            task.key = self._dialogue.key_of(question)
            stored = self._dialogue.find_answer(task.key)
            if stored is not None:
                self._go_on(task, stored.answer, stored.latency, now)
                return
        if self._halt is not None:
            self._fail(task, self._halt)
            return
        if task.key:
            first = self._asked.setdefault(task.key, task)
            if first is not task:
                first.followers.append(task)
                return
        self._fresh.append(task)

    def _go_on(self, task: Task, answer: Answer, took: float, now: float) -> None:
        self._answered = True
        task.latency += took
        task.attempts = 0
        try:
            question = task.questions.send(answer)
        except StopIteration as done:
            self._finished.append((task.index, replace(done.value, latency=task.latency)))
        except Exception as error:  # noqa: BLE001 - an answer that cannot be read touches no other
            self._finish_without_price(task.index, task.item_id, error)
        else:
            self._pose(task, question, now)

    def _pause(
        self, task: Task, sending: Sending, error: ServiceUnavailable, now: float
    ) -> tuple[float, bool]:
        """Return the seconds after which to ask again, and whether to give up."""
        task.attempts += 1
        backoff = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(task.attempts - 1, 10))
        pause = (
            backoff * (0.5 + self._random.random() / 2) if error.retry_after is None else error.retry_after
        )
        enough = now + pause - task.began > PATIENCE
        if error.status == 429:
            self.rate_limit.take_refusal(sending.ticket, now, wait=pause)
        else:
            self.rate_limit.take_failure()
            self._faults += 1
            enough = enough or task.attempts >= ATTEMPTS
        return pause, enough

    def _has_gone_silent(self, task: Task, error: ServiceUnavailable, until: float) -> bool:
        """Whether it is of no use to ask others: no answer came since this one was asked, nor for long."""
        if self._heard_at >= task.began:
            return False
        if error.status != 429 and task.attempts < ATTEMPTS and self._faults < _FAULTS_IN_A_ROW:
            return False  # one fault that asks for a long wait may be about one question
        return self._heard_at == -math.inf or until - self._heard_at > PATIENCE

    def _ends_all(self, error: PricerError) -> bool:
        """Whether an error is about the key or the model, and not about one item."""
        if not isinstance(error, AccessDenied | NotFound):
            return False
        self._denied += 1
        others_may_do = self._answered or self.rate_limit.in_flight
        is_sure = error.status != 403 or (isinstance(error, AccessDenied) and error.out_of_credit)
        return is_sure or self._denied >= _DENIED_IN_A_ROW or not others_may_do

    def _give_up(self, task: Task, error: PricerError) -> None:
        self._left_alone = max(0, self._left_alone - 1)
        self._asked.pop(task.key, None)
        if self._ends_all(error):
            self._halt = self._halt or error
        if self._halt is not None:
            self._stop(self._halt)
        for each in (task, *task.followers):
            self._fail(each, self._halt or error)

    def _stop(self, error: PricerError) -> None:
        """Ask nothing more: what waits to be asked has failed, and what is under way is waited for."""
        self._halt = self._halt or error
        waiting = [*self._fresh, *(late[2] for late in self._later), *(each[2] for each in self._elsewhere)]
        for queue in (self._fresh, self._later, self._elsewhere):
            queue.clear()
        for task in waiting:
            self._asked.pop(task.key, None)
            for each in (task, *task.followers):
                self._fail(each, self._halt)

    def _fail(self, task: Task, error: PricerError) -> None:
        self._give_back(task)
        task.questions.close()
        self._finish_without_price(task.index, task.item_id, error)

    def _finish_without_price(self, index: int, item_id: str, error: Exception) -> None:
        self._finished.append((index, make_failure(item_id, error)))
