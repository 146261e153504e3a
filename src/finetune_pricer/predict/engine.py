"""The engine: many questions at once within the service's limits, none lost and none asked twice.

`Engine` decides which question goes next and when, and what an answer or an error leads to. It neither waits
nor sends: `runners` do, in threads for `openai.OpenAI` and in tasks for `openai.AsyncOpenAI`.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..errors import AccessDenied, DataError, NotFound, ServiceError, ServiceUnavailable
from .answer_store import StoredAnswer
from .completion import read_usage
from .dialogue import id_of
from .prediction import Prediction

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from .._service.requests import Answer, Reply, Request
    from ..errors import PricerError
    from ..items import Item
    from .dialogue import Dialogue, Question
    from .rate_limit import RateLimit, Ticket

ATTEMPTS = 7
"""How often a question is sent that meets faults of the service or of the connection."""
PATIENCE = 600.0
"""Seconds for which a question lets a busy service (HTTP 429) put it off."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 20.0
_DENIED_IN_A_ROW = 5  # a single HTTP 403 may be about what an item says, such as a filter's
_FAULTS_IN_A_ROW = 32  # without an answer between them: it is not the questions, the service is away


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
    """

    def __init__(
        self, dialogue: Dialogue, rate_limit: RateLimit, *, jitter: random.Random | None = None
    ) -> None:
        self.rate_limit = rate_limit
        self._dialogue = dialogue
        self._random = jitter or random.Random()  # noqa: S311 - spreads requests, keeps no secret
        self._fresh: deque[Task] = deque()
        self._later: list[tuple[float, int, Task]] = []
        self._number = itertools.count()
        self._asked: dict[str, Task] = {}
        self._finished: list[tuple[int, Prediction]] = []
        self._answered = False
        self._heard_at = -math.inf
        self._denied = self._faults = 0  # since the last answer
        self._halt: ServiceError | None = None

    def add(self, index: int, item: Item | str, now: float) -> None:
        """Take an item up."""
        item_id = ""
        try:
            item_id = id_of(item)
            if self._halt is not None:
                raise self._halt
            questions = self._dialogue.questions(item, item_id)
            task = Task(index, item_id, questions, next(questions))
            self._pose(task, task.question, now)
        except (DataError, ServiceError) as error:
            self._finish_without_price(index, item_id, error)

    def next(self, now: float) -> Sending | float:
        """Return the request to send now, or the seconds until there may be one; `inf`: not by itself."""
        late = bool(self._later) and self._later[0][0] <= now
        # While the service is away, nothing new is lost on it: items that failed find out when it is back.
        away = self._faults >= _FAULTS_IN_A_ROW and (self._later or self.rate_limit.in_flight)
        ready = 0.0 if late or (self._fresh and not away) else math.inf
        if self._later and ready:
            ready = self._later[0][0] - now
        wait = max(ready, self.rate_limit.delay(now))
        if wait > 0:
            return wait
        task = heapq.heappop(self._later)[2] if late else self._fresh.popleft()
        task.began = min(task.began, now)
        request, parameters = self._dialogue.make_request(task.question)
        return Sending(task, request, parameters, self.rate_limit.send(now))

    def take_answer(self, sending: Sending, reply: Reply, now: float) -> None:
        """Take note of an answer, and go on with the items that wait for it."""
        answer, headers = reply
        task, usage = sending.task, read_usage(answer)
        tokens = usage.prompt_tokens + usage.completion_tokens
        self.rate_limit.take_answer(sending.ticket, now, tokens=tokens, headers=headers)
        self._heard_at, self._denied, self._faults = now, 0, 0
        took = now - sending.ticket.at
        self._dialogue.keep_answer(task.key, task.item_id, StoredAnswer(answer, took))
        self._asked.pop(task.key, None)
        followers, task.followers = task.followers, []
        for each in (task, *followers):
            self._go_on(each, answer, took, now)

    def take_error(self, sending: Sending, error: ServiceError, now: float) -> None:
        """Take note of an error: ask again later, ask otherwise, or give the item up."""
        task = sending.task
        if isinstance(error, ServiceUnavailable):
            pause, enough = self._pause(task, sending, error, now)
            if not enough and self._halt is None:
                heapq.heappush(self._later, (now + pause, next(self._number), task))
                return
            if self._has_gone_silent(task, now + pause):
                self._halt = self._halt or error
        else:
            self.rate_limit.take_failure()
            can_ask_otherwise = self._dialogue.learn(task.question, sending.parameters, error)
            if can_ask_otherwise and self._halt is None:
                self._fresh.appendleft(task)
                return
        self._give_up(task, error)

    def take_finished(self) -> list[tuple[int, Prediction]]:
        """Return the predictions that are new since the last time, by the index of their item.

        Raises:
            AccessDenied: The key is refused, and there is not one answer.
            NotFound: There is no such model, or no such service at the base URL.
        """
        if isinstance(self._halt, AccessDenied | NotFound) and not self._answered:
            if self.rate_limit.in_flight:
                return []  # one of these may be an answer yet
            raise self._halt
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

    def _pose(self, task: Task, question: Question, now: float) -> None:
        task.question = question
        if self._dialogue.store is not None:
            task.key = self._dialogue.key_of(question)
            stored = self._dialogue.find_answer(task.key)
            if stored is not None:
                self._go_on(task, stored.answer, stored.latency, now)
                return
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
        if error.status == 429:
            self.rate_limit.take_refusal(sending.ticket, now, wait=pause)
            enough = now + pause - task.began > PATIENCE
        else:
            self.rate_limit.take_failure()
            self._faults += 1
            enough = task.attempts >= ATTEMPTS
        return pause, enough

    def _has_gone_silent(self, task: Task, until: float) -> bool:
        """Whether it is of no use to ask others: no answer came since this one was asked, nor for long."""
        if self._heard_at >= task.began:
            return False
        return self._heard_at == -math.inf or until - self._heard_at > PATIENCE

    def _ends_all(self, error: ServiceError) -> bool:
        """Whether an error is about the key or the model, and not about one item."""
        if not isinstance(error, AccessDenied | NotFound):
            return False
        self._denied += 1
        others_may_do = self._answered or self.rate_limit.in_flight
        return error.status != 403 or self._denied >= _DENIED_IN_A_ROW or not others_may_do

    def _give_up(self, task: Task, error: ServiceError) -> None:
        self._asked.pop(task.key, None)
        if self._ends_all(error):
            self._halt = self._halt or error
        failed_tasks = [task, *task.followers]
        if self._halt is not None:
            failed_tasks += [*self._fresh, *(late[2] for late in self._later)]
            failed_tasks += [follower for each in failed_tasks[1:] for follower in each.followers]
            self._fresh.clear()
            self._later.clear()
            self._asked.clear()
        for each in dict.fromkeys(failed_tasks):
            self._fail(each, self._halt or error)

    def _fail(self, task: Task, error: PricerError) -> None:
        task.questions.close()
        self._finish_without_price(task.index, task.item_id, error)

    def _finish_without_price(self, index: int, item_id: str, error: PricerError) -> None:
        self._finished.append((index, Prediction(item_id=item_id, price=None, error=str(error))))
