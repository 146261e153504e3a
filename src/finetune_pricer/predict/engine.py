"""The engine: many questions at once within the service's limits, none lost and none asked twice.

`Engine` decides which question goes next and when, and what an answer or an error leads to. It neither waits
nor sends: `in_threads` and `in_tasks` of `running` do, for `openai.OpenAI` and `openai.AsyncOpenAI`.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from .._service import requests
from ..errors import AccessDenied, DataError, InvalidItem, NotFound, ServiceError, ServiceUnavailable
from ..items import Item
from .dialogue import usage_of
from .prediction import Prediction
from .rate_limit import seconds_in

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from .._service.requests import Answer, Message
    from ..errors import PricerError
    from .answer_store import KeptAnswers
    from .dialogue import Abilities, Question, Questioner
    from .rate_limit import Pace, Ticket

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
    dialogue: Generator[Question, Answer, Prediction]
    question: Question | None = None
    key: str = ""
    attempts: int = 0
    began: float = math.inf
    latency: float = 0.0
    followers: list[Task] = field(default_factory=list)
    """Items with the same question, which wait for this one's answer."""


@dataclass(frozen=True, slots=True, eq=False)
class Sending:
    """A request that shall go now."""

    task: Task
    messages: Sequence[Message]
    parameters: Mapping[str, object]
    ticket: Ticket


class Engine:
    """Decides what is sent when, and what comes of it. Not for several threads at once.

    Args:
        model: Whom to ask.
        questioner: What to ask, and how to read answers.
        abilities: Which parameters the service takes; mended on the way.
        pace: When the next request may go.
        store: Answers that are there already, and where new ones are kept.
        jitter: Gives numbers from 0 to 1, to spread repeated requests.
    """

    def __init__(
        self,
        model: str,
        questioner: Questioner,
        abilities: Abilities,
        pace: Pace,
        *,
        store: KeptAnswers | None = None,
        jitter: random.Random | None = None,
    ) -> None:
        self.model = model
        self.pace = pace
        self._questioner = questioner
        self._abilities = abilities
        self._store = store
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
        try:
            item_id = id_of(item)
        except InvalidItem as error:
            self._finished.append((index, Prediction(item_id="", price=None, error=str(error))))
            return
        task = Task(index, item_id, self._questioner.about(item, item_id))
        if self._halt is not None:
            self._fail(task, self._halt)
            return
        try:
            self._pose(task, next(task.dialogue), now)
        except DataError as error:
            self._fail(task, error)

    def next(self, now: float) -> Sending | float:
        """Give the request to send now, or the seconds until there may be one; `inf`: not by itself."""
        late = bool(self._later) and self._later[0][0] <= now
        # While the service is away, nothing new is lost on it: those that it struck find out when it is back.
        away = self._faults >= _FAULTS_IN_A_ROW and (self._later or self.pace.in_flight)
        ready = 0.0 if late or (self._fresh and not away) else math.inf
        if self._later and ready:
            ready = self._later[0][0] - now
        wait = max(ready, self.pace.delay(now))
        if wait > 0:
            return wait
        task = heapq.heappop(self._later)[2] if late else self._fresh.popleft()
        task.began = min(task.began, now)
        question = task.question
        assert question is not None  # noqa: S101 - a task in the queues has been posed
        parameters = self._abilities.parameters(question, self._questioner.budget)
        return Sending(task, question.messages, parameters, self.pace.send(now))

    def answered(self, sending: Sending, reply: requests.Reply, now: float) -> None:
        """Take note of an answer."""
        answer, headers = reply
        task, usage = sending.task, usage_of(answer)
        tokens = usage.prompt_tokens + usage.completion_tokens
        self.pace.answered(sending.ticket, now, tokens=tokens, headers=headers)
        self._abilities.confirm()
        self._heard_at, self._denied, self._faults = now, 0, 0
        took = now - sending.ticket.at
        if self._store is not None and answer.get("choices"):
            self._store.keep(task.key, self.model, task.item_id, answer, took)
        self._asked.pop(task.key, None)
        followers, task.followers = task.followers, []
        for each in (task, *followers):
            self._go_on(each, answer, took, now)

    def failed(self, sending: Sending, error: ServiceError, now: float) -> None:
        """Take note of an error: ask again later, ask otherwise, or give the item up."""
        task = sending.task
        if isinstance(error, ServiceUnavailable):
            pause, enough = self._pause(task, sending, error, now)
            if not enough and self._halt is None:
                heapq.heappush(self._later, (now + pause, next(self._number), task))
                return
            if self._is_silent(task, now + pause):
                self._halt = self._halt or error
        else:
            self.pace.failed()
            self._abilities.learn(error)
            question = task.question
            if question is not None and self._halt is None:
                parameters = self._abilities.parameters(question, self._questioner.budget)
                if parameters != sending.parameters:
                    self._fresh.appendleft(task)
                    return
        self._give_up(task, error)

    def take_finished(self) -> list[tuple[int, Prediction]]:
        """Give the predictions that are new since the last time, by the index of their item.

        Raises:
            AccessDenied: The key is refused, and there is not one answer.
            NotFound: There is no such model, or no such service at the base URL.
        """
        if isinstance(self._halt, AccessDenied | NotFound) and not self._answered:
            if self.pace.in_flight:
                return []  # one of these may be an answer yet
            raise self._halt
        found, self._finished = self._finished, []
        return found

    def how_to_go_on(self) -> str:
        """Say, to somebody who has interrupted a run, what becomes of the answers."""
        if self._store is None:
            return "no answer is kept; with store= a run that was stopped goes on where it was"
        return "what was answered is kept; the same call again asks only for the rest"

    def flush(self) -> None:
        """Put the answers that came since the last time on disk."""
        if self._store is not None:
            self._store.commit()

    def _pose(self, task: Task, question: Question, now: float) -> None:
        task.question = question
        if self._store is not None:
            task.key = self._questioner.key(self.model, question)
            kept = self._store.find(task.key)
            if kept is not None:
                self._go_on(task, kept.answer, kept.latency, now)
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
            question = task.dialogue.send(answer)
        except StopIteration as done:
            self._finished.append((task.index, replace(done.value, latency=task.latency)))
        else:
            self._pose(task, question, now)

    def _pause(
        self, task: Task, sending: Sending, error: ServiceUnavailable, now: float
    ) -> tuple[float, bool]:
        """Give the seconds after which to ask again, and whether it has been enough."""
        headers = requests.headers_of(error)
        asked = _wait_in(headers)
        task.attempts += 1
        backoff = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(task.attempts - 1, 10))
        pause = backoff * (0.5 + self._random.random() / 2) if asked is None else asked
        if error.status == 429:
            self.pace.refused(sending.ticket, now, wait=pause)
            enough = now + pause - task.began > PATIENCE
        else:
            self.pace.failed()
            self._faults += 1
            enough = task.attempts >= ATTEMPTS
        return pause, enough

    def _is_silent(self, task: Task, until: float) -> bool:
        """Whether it is of no use to ask others: no answer came since this one was asked, nor for long."""
        if self._heard_at >= task.began:
            return False
        return self._heard_at == -math.inf or until - self._heard_at > PATIENCE

    def _ends_all(self, error: ServiceError) -> bool:
        """Whether an error is about the key or the model, and not about one item."""
        if not isinstance(error, AccessDenied | NotFound):
            return False
        self._denied += 1
        others_may_do = self._answered or self.pace.in_flight
        return error.status != 403 or self._denied >= _DENIED_IN_A_ROW or not others_may_do

    def _give_up(self, task: Task, error: ServiceError) -> None:
        self._asked.pop(task.key, None)
        if self._ends_all(error):
            self._halt = self._halt or error
        struck = [task, *task.followers]
        if self._halt is not None:
            struck += [*self._fresh, *(late[2] for late in self._later)]
            struck += [follower for each in struck[1:] for follower in each.followers]
            self._fresh.clear()
            self._later.clear()
            self._asked.clear()
        for each in dict.fromkeys(struck):
            self._fail(each, self._halt or error)

    def _fail(self, task: Task, error: PricerError) -> None:
        task.dialogue.close()
        self._finished.append((task.index, Prediction(item_id=task.item_id, price=None, error=str(error))))


def id_of(item: Item | str) -> str:
    """Give the item's id; a text has that of an item with this title.

    Raises:
        InvalidItem: It is neither an item nor a text.
    """
    if isinstance(item, Item):
        return item.id
    if not isinstance(item, str):
        raise InvalidItem(f"an Item or a text is wanted, not {type(item).__name__}")
    return Item(title=item).id if item.strip() else ""


def _wait_in(headers: Mapping[str, str]) -> float | None:
    milliseconds = seconds_in(headers.get("retry-after-ms"))
    return seconds_in(headers.get("retry-after")) if milliseconds is None else milliseconds / 1000
