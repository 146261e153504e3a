"""Whatever is lost, late, refused, killed or full: who pays for a question twice, and is any answer lost?

Hypothesis drives two processes on one store, by both doors, through a service that loses, delays and reorders
answers, over a disk that fills. They are killed and started again. `FINETUNE_PRICER_RUNS` names the number of
runs; `make soak` takes thousands.
"""

import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from finetune_pricer.errors import RequestRejected, ServiceUnavailable
from stub_service import price_of

if sys.platform == "win32":
    pytest.skip("there is no SIGKILL, and no limit on the size of files", allow_module_level=True)

from asking import AskingProcess, Door, largest

RUNS = int(os.environ.get("FINETUNE_PRICER_RUNS", "15"))
POISON = " "
Outcome = Literal["answer", "nothing in it", "lost", "never taken", "busy", "refused"]
ERRORS = {
    "lost": ServiceUnavailable("Gateway timeout.", status=504),
    "never taken": ServiceUnavailable("No connection.", reached=False),
    "busy": ServiceUnavailable("Too many requests.", status=429, retry_after=1.0),
    "refused": RequestRejected("No.", status=400),
}
OUTCOMES: list[Outcome] = ["answer", "answer", "answer", *get_args(Outcome)]
MACHINES = st.sampled_from(["one", "two"])
ANSWERS = st.lists(st.tuples(st.integers(0, 9), st.sampled_from(OUTCOMES)), max_size=4)
SOME_ITEMS = st.lists(st.sampled_from([0, 0, 1, 1, 2, POISON]), max_size=3)
"""Things of which the newest has few answers or none, so that the two processes meet at it."""


def priced(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": f"${price_of(text):.2f}"}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": None}


class Questions(RuleBasedStateMachine):
    """Two processes on one store, and one service that keeps the bill."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp(prefix="finetune-pricer-model-")
        self.processes: dict[str, AskingProcess] = {}
        self.doors: dict[str, Door] = {}
        self.now = 0.0
        self.items: list[str] = []
        self.prices: dict[int, float | None] = {}
        self.answered: set[str] = set()
        self.bill: Counter[str] = Counter()
        self.excused: Counter[str] = Counter()
        """How often a question was answered to nobody: lost, empty, or on its way to a killed process."""
        self.is_full = False

    @initialize(
        one=st.sampled_from(get_args(Door)),
        two=st.sampled_from(get_args(Door)),
        items=st.tuples(SOME_ITEMS, SOME_ITEMS),
    )
    def start_both(self, one: Door, two: Door, items: tuple[list[int | str], list[int | str]]) -> None:
        self.doors = {"one": one, "two": two}
        for name, first in zip(self.doors, items, strict=True):
            self.start(name)
            self.go_on(name, first, 4, [])

    def start(self, name: str) -> None:
        store = str(Path(self.folder) / "kept.sqlite")
        self.processes[name] = AskingProcess(store, self.doors[name])

    def teardown(self) -> None:
        for process in self.processes.values():
            process.kill()
        shutil.rmtree(self.folder)

    @rule(machine=MACHINES, items=SOME_ITEMS, steps=st.integers(0, 4), answers=ANSWERS)
    def go_on(
        self, machine: str, items: list[int | str], steps: int, answers: list[tuple[int, Outcome]]
    ) -> None:
        """Let a process do some steps, and give some of the answers that are due, in whatever order."""
        newest = len(self.answered)
        self.add(machine, [it if isinstance(it, str) else f"thing number {newest + it}" for it in items])
        for _ in range(steps):
            step = self.processes[machine].next(self.now)
            if step.number is None:
                self.now += min(step.seconds, 60.0)
        for at, outcome in answers:
            if self.under_way:
                self.deliver(*self.under_way[at % len(self.under_way)], outcome)

    def add(self, machine: str, texts: list[str]) -> None:
        for text in texts:
            self.processes[machine].add(len(self.items), text, self.now)
            self.items.append(text)

    @property
    def under_way(self) -> list[tuple[str, int]]:
        return [(name, number) for name, process in self.processes.items() for number in process.under_way]

    def deliver(self, machine: str, number: int, outcome: Outcome) -> None:
        process = self.processes[machine]
        text = process.under_way[number]
        self.now += 0.01
        self.answered |= {text} if outcome == "answer" else set()
        self.bill[text] += outcome in {"answer", "nothing in it", "lost"}
        self.excused[text] += outcome in {"nothing in it", "lost"}
        if outcome == "answer":
            process.take_answer(number, priced(text), self.now)
        elif outcome == "nothing in it":
            process.take_answer(number, {"choices": []}, self.now)
        else:
            process.take_error(number, ERRORS[outcome], self.now)

    @rule(machine=MACHINES, are_billed=st.booleans())
    def kill(self, machine: str, *, are_billed: bool) -> None:
        self.empty()
        process = self.processes.pop(machine)
        process.kill()
        if are_billed:
            self.bill.update(process.under_way.values())
            self.excused.update(process.under_way.values())
        self.excused.update(process.unwritten)
        self.start(machine)

    @rule()
    def fill_or_empty(self) -> None:
        if self.is_full:
            self.empty()
        else:
            self.is_full = True
            for process in self.processes.values():
                process.limit_files(largest(self.folder))

    def empty(self) -> None:
        self.is_full = False
        for process in self.processes.values():
            process.limit_files(None)

    @rule(door=st.sampled_from(get_args(Door)))
    def ask_for_all(self, door: Door) -> None:
        """When all is well again, another process has every answer, and none is paid again."""
        self.empty()
        self.go_to_the_end("one", "two")
        self.doors["three"] = door
        self.start("three")
        first, texts = len(self.items), sorted(set(self.items))
        self.add("three", texts)
        self.go_to_the_end("three")
        found = [self.prices[first + at] for at in range(len(texts))]
        assert found == [None if text == POISON else price_of(text) for text in texts]
        self.processes.pop("three").kill()

    def go_to_the_end(self, *machines: str) -> None:
        for _ in range(1_000):
            if not sum(map(self.has_gone_on, machines)):
                return
        raise AssertionError(f"{machines} do not come to an end")

    def has_gone_on(self, machine: str) -> bool:
        """Let a process do its next step and receive all answers; return whether it did anything."""
        process = self.processes[machine]
        step = process.next(self.now)
        self.now += min(step.seconds, 60.0)
        has_received = bool(process.under_way)
        for number in list(process.under_way):
            self.deliver(machine, number, "answer")
        self.check_finished()
        return has_received or step.seconds < float("inf")

    def check_finished(self) -> None:
        for process in self.processes.values():
            for number, price, error in process.take_finished():
                text = self.items[number]
                assert error if price is None else price == price_of(text), (text, price, error)
                self.prices[number] = price

    @invariant()
    def nothing_is_on_the_bill_twice_but_what_was_answered_to_nobody(self) -> None:
        self.check_finished()
        twice = {text: count for text, count in self.bill.items() if count > 1 + self.excused[text]}
        assert not twice, (twice, self.excused)


def test_no_answer_is_lost_and_none_is_paid_twice() -> None:
    how = settings(
        max_examples=RUNS,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    run_state_machine_as_test(Questions, settings=how)
