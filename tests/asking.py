"""A process that asks for prices step by step, for tests that play the service, the clock and the SIGKILL.

It sends nothing: it says what it would send, and is told what came of it.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import httpx2
import openai

from finetune_pricer import Predictor
from finetune_pricer._service.flow import Ask, Pause
from finetune_pricer._service.requests import Reply
from finetune_pricer.errors import InvalidItem, ServiceError
from finetune_pricer.predict import answer_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from finetune_pricer._service.flow import Flow
    from finetune_pricer.predict import Prediction
    from finetune_pricer.predict.engine import Sending

Door = Literal["many", "one"]
"""Whether it asks by `predict_many` or by `predict`."""

# A process that has all imports done and is forked: a child starts in milliseconds.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["finetune_pricer.predict.predictor", "httpcore2", "openai.resources.chat"])


class Step(NamedTuple):
    """What a process does next: it sends a question, or waits."""

    number: int | None
    """The question's number; None where it waits."""
    text: str
    seconds: float
    """How long it waits, if nothing comes; `inf`: nothing is left to do but to receive."""


class _Asker(Protocol):
    def add(self, number: int, text: str, now: float) -> None: ...
    def next(self, now: float) -> Step: ...
    def take_answer(self, number: int, answer: Any, now: float) -> None: ...
    def take_error(self, number: int, error: ServiceError, now: float) -> None: ...
    def take_finished(self) -> list[tuple[int, float | None, str | None]]: ...


class _Many:
    """The engine of `predict_many`, driven by hand."""

    def __init__(self, predictor: Predictor) -> None:
        self._engine = predictor._make_engine()
        self._engine._random = random.Random(0)  # the same commands, the same steps
        self._texts: dict[int, str] = {}
        self._sent: list[Sending] = []

    def add(self, number: int, text: str, now: float) -> None:
        self._texts[number] = text
        self._engine.add(number, text, now)

    def next(self, now: float) -> Step:
        step = self._engine.next(now)
        if isinstance(step, float):
            return Step(None, "", step)
        self._sent.append(step)
        return Step(len(self._sent) - 1, self._texts[step.task.index], 0)

    def take_answer(self, number: int, answer: Any, now: float) -> None:
        self._engine.take_answer(self._sent[number], Reply(answer, {}), now)
        self._engine.flush()

    def take_error(self, number: int, error: ServiceError, now: float) -> None:
        self._engine.take_error(self._sent[number], error, now)
        self._engine.flush()

    def take_finished(self) -> list[tuple[int, float | None, str | None]]:
        return [(number, found.price, found.error) for number, found in self._engine.take_finished()]


class _One:
    """The flow of `predict`, driven by hand, one item after the other."""

    def __init__(self, predictor: Predictor) -> None:
        self._dialogue = predictor._dialogue
        self._waiting: deque[tuple[int, str]] = deque()
        self._flow: Flow[Prediction] | None = None
        self._item = (0, "")
        self._asked = 0
        self._is_asking = False
        self._ready: Step | None = None
        """What the flow wanted next when it was told of an answer or an error: it may ask again at once."""
        self._finished: list[tuple[int, float | None, str | None]] = []

    def add(self, number: int, text: str, now: float) -> None:
        self._waiting.append((number, text))

    def next(self, now: float) -> Step:
        if self._ready is not None:
            step, self._ready = self._ready, None
            return step
        if self._is_asking:
            return Step(None, "", float("inf"))
        if self._flow is None:
            if not self._waiting:
                return Step(None, "", float("inf"))
            self._item = self._waiting.popleft()
            self._flow = self._dialogue.ask(self._item[1])
        return self._go_on(lambda flow: flow.send(None))

    def _go_on(self, how: Callable[[Flow[Prediction]], Any]) -> Step:
        assert self._flow
        number, text = self._item
        try:
            match how(self._flow):
                case Ask():
                    self._is_asking = True
                    self._asked += 1
                    return Step(self._asked, text, 0)
                case Pause(seconds):
                    return Step(None, "", seconds)
                case other:
                    raise TypeError(other)
        except StopIteration as end:
            self._finished.append((number, end.value.price, end.value.error))
        except (InvalidItem, ServiceError) as error:
            self._finished.append((number, None, str(error)))
        self._flow = None
        return Step(None, "", 0)

    def take_answer(self, number: int, answer: Any, now: float) -> None:
        self._is_asking = False
        self._ready = self._go_on(lambda flow: flow.send(answer))

    def take_error(self, number: int, error: ServiceError, now: float) -> None:
        self._is_asking = False
        self._ready = self._go_on(lambda flow: flow.throw(error))

    def take_finished(self) -> list[tuple[int, float | None, str | None]]:
        found, self._finished = self._finished, []
        return found


def _work(pipe: Connection, store: str, door: Door) -> None:
    # Pauses before another try to write, and at the end, are real time, which a test must not spend.
    answer_store._AGAIN = answer_store._AT_THE_END = 0.0
    http_client = httpx2.Client(verify=False)  # sends nothing, and is made at once
    client = openai.OpenAI(base_url="https://service.test/v1", api_key="x", http_client=http_client)
    predictor = Predictor(client, "m", store=store)
    asker: _Asker = _Many(predictor) if door == "many" else _One(predictor)
    kept = predictor._dialogue.store
    assert kept is not None
    pipe.send(None)
    while True:
        match pipe.recv():
            case ("add", number, text, now):
                asker.add(number, text, now)
                pipe.send(None)
            case ("next", now):
                pipe.send(asker.next(now))
            case ("answer", number, answer, now):
                asker.take_answer(number, answer, now)
                pipe.send(kept.unwritten)
            case ("error", number, error, now):
                asker.take_error(number, error, now)
                pipe.send(kept.unwritten)
            case ("finished",):
                pipe.send(asker.take_finished())
            case ("limit", size):
                _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
                kept.commit()
                pipe.send(kept.unwritten)


class AskingProcess:
    """Such a process, and what is known of it outside."""

    def __init__(self, store: str, door: Door) -> None:
        self._pipe, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_work, args=(theirs, store, door), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()
        self.under_way: dict[int, str] = {}
        """Questions that it has sent, by their numbers."""
        self.unwritten: Counter[str] = Counter()
        """Questions whose answers it may hold in memory only."""

    def _tell(self, *command: Any) -> Any:
        self._pipe.send(command)
        return self._pipe.recv()

    def add(self, number: int, text: str, now: float) -> None:
        self._tell("add", number, text, now)

    def next(self, now: float) -> Step:
        """Let it do what it does next; a question that it sends is under way."""
        step: Step = self._tell("next", now)
        if step.number is not None:
            self.under_way[step.number] = step.text
        return step

    def take_answer(self, number: int, answer: Any, now: float) -> None:
        text = self.under_way.pop(number)
        self.unwritten[text] += 1
        self._note_unwritten(self._tell("answer", number, answer, now))

    def take_error(self, number: int, error: ServiceError, now: float) -> None:
        del self.under_way[number]
        self._note_unwritten(self._tell("error", number, error, now))

    def _note_unwritten(self, count: int) -> None:
        if not count:
            self.unwritten.clear()

    def take_finished(self) -> list[tuple[int, float | None, str | None]]:
        """Return the number, the price and the error of each item that is done since the last time."""
        found: list[tuple[int, float | None, str | None]] = self._tell("finished")
        return found

    def limit_files(self, size: int | None) -> None:
        """Let no file grow above so many bytes: the disk is full."""
        limit = resource.RLIM_INFINITY if size is None else size
        self._note_unwritten(self._tell("limit", limit))

    def kill(self) -> None:
        """End it without a chance to tidy up."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


def largest(folder: str) -> int:
    """Return the size of the largest file in a folder."""
    return max((entry.stat().st_size for entry in os.scandir(folder)), default=0)
