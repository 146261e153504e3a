"""Whatever is lost, late, killed or forgotten: no question of a batch is paid twice, and no answer is lost.

Hypothesis drives two machines through batches at a service that loses answers, shows batches late, and may
replace metadata. `FINETUNE_PRICER_RUNS` names the number of runs; `make soak` takes thousands.
"""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import openai
import respx
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from batch_service import Batches, Killed, Outcome, texts
from finetune_pricer import Predictor
from finetune_pricer.errors import RequestRejected, ServiceError, ServiceUnavailable
from finetune_pricer.predict import BatchRun

BASE_URL = "https://service.test/v1"
RUNS = int(os.environ.get("FINETUNE_PRICER_RUNS", "30"))
ITEMS = texts(6)
OUTCOMES: list[Outcome] = list(get_args(Outcome))
SOME_ITEMS = st.lists(st.sampled_from(ITEMS), min_size=1, max_size=6)


class Answers(RuleBasedStateMachine):
    """Two machines with a journal and a store each, and one service that keeps the bill."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="finetune-pricer-model-"))
        self.router = respx.mock(base_url=BASE_URL, assert_all_called=False)
        self.router.start()
        self.batches = Batches(self.router)
        self.client = openai.OpenAI(api_key="sk-test", base_url=BASE_URL, max_retries=0)
        self.acting = "one"
        self.runs: list[tuple[list[str], BatchRun]] = []

    def teardown(self) -> None:
        self.client.close()
        self.router.stop()
        shutil.rmtree(self.folder)

    @initialize(
        metadata=st.sampled_from([lambda given: given, lambda _: None, lambda _: {"job_arn": "arn:1"}])
    )
    def open_service(self, metadata: Any) -> None:
        self.batches.metadata = metadata

    def ask(self, machine: str, items: list[str], *, again: bool = False) -> BatchRun:
        predictor = Predictor(self.client, "m", store=self.folder / f"{machine}.sqlite")
        journal = self.folder / f"{machine}.db"
        return predictor.predict_batch(items, journal=journal, again=again, sleep=lambda _: None)

    @rule(
        machine=st.sampled_from(["one", "one", "one", "two"]),
        items=SOME_ITEMS,
        outcome=st.sampled_from(["made and lost", "made and killed", *OUTCOMES]),
        looks=st.sampled_from([40, 3, 0]),
    )
    def submit(self, *, machine: str, items: list[str], outcome: Outcome, looks: int) -> None:
        if machine != self.acting:
            self.batches.show_all()  # what a list shows too late for another machine cannot be promised
        self.acting = machine
        self.batches.outcomes, self.batches.looks_before_shown = [outcome], looks
        with suppress(ServiceError, Killed):
            self.runs.append((items, self.ask(machine, items)))
        self.batches.outcomes = []

    @rule(machine=st.sampled_from(["one", "two"]))
    def lose_journal(self, machine: str) -> None:
        self.batches.show_all()
        for file in self.folder.glob(f"{machine}.db*"):
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        self.runs.clear()

    @rule()
    def finish(self) -> None:
        self.batches.finish()

    @rule()
    def read(self) -> None:
        """Whoever waits has every answer, or the error that says what was lost or refused."""
        self.batches.show_all()
        for items, run in self.runs:
            try:
                found = run.wait(sleep=lambda _: self.batches.finish())
            except (ServiceUnavailable, RequestRejected):
                continue
            assert [each.price for each in found] == [5] * len(items), found
        self.runs.clear()

    @rule(machine=st.sampled_from(["one", "two"]))
    def ask_for_all(self, machine: str) -> None:
        """However it went before, the user's word brings every answer, and none is paid again."""
        self.batches.show_all()
        self.acting = machine
        run = self.ask(machine, ITEMS, again=True)
        found = run.wait(sleep=lambda _: self.batches.finish())
        assert [each.price for each in found] == [5] * len(ITEMS), found

    @invariant()
    def nothing_is_on_the_bill_twice(self) -> None:
        assert all(count == 1 for count in self.batches.bill.values()), self.batches.bill


def test_nothing_is_asked_twice() -> None:
    how = settings(
        max_examples=RUNS,
        stateful_step_count=12,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    run_state_machine_as_test(Answers, settings=how)
