"""Several processes train as one: the same losses, one report, and none outlives the process of the job."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from finetune_pricer.errors import NotSupported, ServiceUnavailable
from finetune_pricer.local import LoraLearner
from finetune_pricer.local.jobs.trainer_process import TrainerOrder, TrainerProcess, TrainingDone
from finetune_pricer.local.learners import (
    Metrics,
    RequestedHyperparameters,
    StepDone,
    TrainingJob,
    describe_learner,
)
from finetune_pricer.local.learners.lora.training_group import _listen
from finetune_pricer.local.shortage import Shortage
from local_helpers import eventually, jsonl, products
from tiny_language_model import NO_TORCH

torch = pytest.importorskip("torch", reason=NO_TORCH)
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def order(base: Path, folder: Path, *, processes: int) -> TrainerOrder:
    """27 examples in batches of 8: no step's examples, nor the 7 of validation, can be halved."""
    folder.mkdir(exist_ok=True)
    (folder / "train.jsonl").write_bytes(jsonl(products(27), "${:.2f}".format))
    (folder / "validation.jsonl").write_bytes(jsonl(products(7, seed=5), "${:.2f}".format))
    job = TrainingJob(
        training=folder / "train.jsonl",
        validation=folder / "validation.jsonl",
        hyperparameters=RequestedHyperparameters(n_epochs=4, batch_size=8),
        seed=7,
        folder=folder,
    )
    learner = LoraLearner(str(base), rank=4, dtype="float32", text_tokens=16, processes=processes)
    return TrainerOrder(learner=describe_learner(learner), job=job)


def find_processes(folder: Path) -> list[Path]:
    """What the system shows of the processes that were told of a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (process / "cmdline").read_bytes():
                found.append(process)
        except OSError:
            pass
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="the processes of a group are found in /proc")
def test_two_processes_give_the_losses_of_one_and_end_within_a_second_and_go_on(
    base: Path, tmp_path: Path, trainer: TrainerProcess
) -> None:
    alone = [message for some in trainer.run(order(base, tmp_path / "one", processes=1)) for message in some]
    shared = order(base, tmp_path / "two", processes=2)
    process = TrainerProcess(trainer.environment)
    first = []
    for messages in process.run(shared):
        first += messages
        if any(isinstance(message, StepDone) and message.step > 4 for message in messages):
            assert len(find_processes(tmp_path / "two")) == 3  # torchrun and two of its
            began = time.monotonic()
            process.close()
            eventually(lambda: not find_processes(tmp_path / "two"), seconds=5)
            assert time.monotonic() - began < 1
            break
    second = [message for some in trainer.run(shared) for message in some]

    expected = {message.step: message.metrics for message in alone if isinstance(message, StepDone)}
    assert list(expected) == list(range(1, 17))
    assert not any(isinstance(message, TrainingDone) for message in first)
    assert isinstance(second[-1], TrainingDone)
    # Each of the two told every step once; the second told again what the first had done.
    assert [message.step for message in second if isinstance(message, StepDone)] == list(expected)
    assert [message.kind for message in second] == [message.kind for message in alone]
    for message in first + second:
        if isinstance(message, StepDone):
            assert losses(message.metrics) == pytest.approx(losses(expected[message.step]), abs=1e-5)


def losses(metrics: Metrics) -> list[float]:
    return [loss for loss in (metrics.train_loss, metrics.valid_loss) if loss is not None]


def test_another_number_of_processes_than_was_asked_for_is_refused(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetune_pricer.local.learners.lora.data_parallel import check_processes

    monkeypatch.setenv("WORLD_SIZE", "3")
    alone = order(base, tmp_path / "one", processes=1)
    with pytest.raises(NotSupported, match=r"processes=1, but WORLD_SIZE says that 3 were started"):
        LoraLearner(**alone.learner.options).train(alone.job, lambda _: None)
    monkeypatch.delenv("WORLD_SIZE")
    with pytest.raises(NotSupported, match="processes=2, but WORLD_SIZE says that 1 were"):
        check_processes(2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_processes(2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(NotSupported, match=r"processes=2, but this machine shows 1 GPU\(s\)"):
        check_processes(2)


def test_a_batch_that_the_processes_cannot_share_is_refused_and_a_chosen_one_can_be(base: Path) -> None:
    recipe = LoraLearner(str(base), processes=3).recipe

    assert recipe.choose_batch(6, 1_000) == 6
    assert recipe.choose_batch(None, 1_000) == 15
    assert recipe.choose_batch(None, 10) == 3
    with pytest.raises(NotSupported, match="3 processes cannot share batches of 8 examples; choose a batch"):
        recipe.choose_batch(8, 1_000)


def test_blanks_stand_behind_all_examples_of_an_epoch_and_teach_nothing() -> None:
    from finetune_pricer.local.learners.lora.data_parallel import _BlanksLast, add_blanks

    examples = {"input_ids": [[5, 6, 7], [5, 8]], "labels": [[-100, 6, 7], [-100, 8]]}
    filled = add_blanks(examples, 4)
    alone, shared = _BlanksLast(27, 27, seed=3), _BlanksLast(27, 32, seed=3)
    first, second = list(shared), list(shared)
    again = _BlanksLast(27, 32, seed=3)
    again.set_epoch(1)

    assert (filled["input_ids"][2:], filled["labels"][2:]) == ([[5], [5]], [[-100], [-100]])
    assert add_blanks(examples, 2) == examples
    assert first[:27] == list(alone)
    assert first[27:] == list(range(27, 32))
    assert sorted(first) == list(range(32))
    assert second == list(again) != first


FAILED = [
    (b'{"kind":"failed","error":"NotSupported","message":"lower batch_size"}\n', NotSupported, "lower batch"),
    (b'{"kind":"failed","error":"Boom","message":"(Boom)"}\n', ServiceUnavailable, "Boom"),
    (b'{"kind":"failed","error":"Shortage","message":"","shortage":"no room"}\n', Shortage, "no room"),
    (b'{"kind":"note","message":"begins"}\n', ServiceUnavailable, "have died, perhaps for want of memory"),
]


@pytest.mark.parametrize("case", FAILED, ids=["told", "unknown", "shortage", "dead"])
def test_what_goes_wrong_in_one_of_the_processes_fails_the_job_with_its_reason(case: Any) -> None:
    said, kind, reason = case

    with pytest.raises(kind, match=reason):
        _listen(io.BytesIO(said), lambda _: None)
