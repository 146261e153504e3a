"""Whatever is lost, late, killed or forgotten: no job is bought twice.

Hypothesis drives two machines through purchases at a service that loses answers, shows jobs late, and may
drop metadata. `FINETUNE_PRICER_RUNS` names the number of runs; `make soak` takes thousands.
"""

import os
import shutil
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from finetune_pricer.errors import ServiceError
from shop import DOORS, Door, Killed, Outcome, Shop, write_training

RUNS = int(os.environ.get("FINETUNE_PRICER_RUNS", "60"))
OUTCOMES: list[Outcome] = [outcome for outcome in get_args(Outcome) if outcome != "closed"]
# Each says how many epochs: what a spec leaves open and a service shows cannot be told apart.
SPECS: list[dict[str, Any]] = [
    {"epochs": 1},
    {"epochs": 2, "learning_rate_multiplier": 2},
    {"epochs": 2, "learning_rate_multiplier": 2.0, "batch_size": "auto"},
    {"epochs": 3},
]
FILE_OUTCOMES: list[Outcome] = ["made and lost", "lost", "killed", "made and killed"]
FILE_OUTCOMES += ["answer", "answer", "answer"]
ENDED = ["succeeded", "failed", "cancelled"]


class Purchases(RuleBasedStateMachine):
    """Two machines with a journal each, one account, and one service that keeps the bill."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="finetune-pricer-model-"))
        self.files = [write_training(seed, self.folder / f"{seed}.jsonl") for seed in (7, 8)]
        self.shop = Shop()
        self.acting = "one"

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @initialize(
        keeps_metadata=st.booleans(),
        filters=st.sampled_from(["ignored", "honoured", "refused"]),
        page_size=st.sampled_from([None, 1, 3]),
    )
    def open_shop(
        self,
        *,
        keeps_metadata: bool,
        filters: Literal["ignored", "honoured", "refused"],
        page_size: int | None,
    ) -> None:
        self.shop = Shop(keeps_metadata=keeps_metadata, filters=filters, page_size=page_size)

    @rule(
        machine=st.sampled_from(["one", "one", "one", "two"]),
        file=st.sampled_from([0, 0, 0, 1]),
        spec=st.sampled_from([1, *range(len(SPECS))]),
        door=st.sampled_from(DOORS),
        outcome=st.sampled_from(["made and lost", "made and killed", *OUTCOMES]),
        file_outcome=st.sampled_from(FILE_OUTCOMES),
        looks=st.sampled_from([40, 3, 0]),
        key=st.sampled_from(["k", "rotated"]),
    )
    def create(
        self,
        *,
        machine: str,
        file: int,
        spec: int,
        door: Door,
        outcome: Outcome,
        file_outcome: Outcome,
        looks: int,
        key: str,
    ) -> None:
        if machine != self.acting:
            self.shop.show_all()  # what a list shows too late for another machine cannot be promised
        self.acting = machine
        self.shop.outcomes, self.shop.file_outcomes = [outcome], [file_outcome]
        self.shop.looks_before_shown = looks
        journal = self.folder / machine / "journal.db"
        with suppress(ServiceError, Killed):
            self.shop.create(door, self.files[file], **SPECS[spec], key=key, journal=journal)
        self.shop.outcomes, self.shop.file_outcomes = [], []

    @rule(machine=st.sampled_from(["one", "two"]))
    def lose_journal(self, machine: str) -> None:
        self.shop.show_all()
        shutil.rmtree(self.folder / machine, ignore_errors=True)

    @rule(at=st.integers(0, 9), status=st.sampled_from(ENDED))
    def end(self, at: int, status: str) -> None:
        if at < len(self.shop.jobs) and self.shop.jobs[at]["status"] not in ENDED:
            self.shop.jobs[at]["status"] = status

    @rule(at=st.integers(0, 9))
    def forget_once(self, at: int) -> None:
        if at < len(self.shop.jobs):
            self.shop.unknown_once.append(self.shop.jobs[at]["id"])

    @invariant()
    def nothing_is_on_the_bill_twice(self) -> None:
        alive = [job for job in self.shop.jobs if job["status"] not in {"failed", "cancelled"}]
        bill = Counter((self.content_of(job), job["hyperparameters"].get("n_epochs")) for job in alive)
        assert all(count == 1 for count in bill.values()), bill

    def content_of(self, job: dict[str, Any]) -> str:
        """Two uploads of one content, such as by two machines, have one name."""
        return next(str(file["filename"]) for file in self.shop.files if file["id"] == job["training_file"])


def test_nothing_is_bought_twice() -> None:
    how = settings(
        max_examples=RUNS,
        stateful_step_count=15,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    run_state_machine_as_test(Purchases, settings=how)
