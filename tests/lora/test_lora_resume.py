"""A training that is killed ends with the adapter of one that was not, to the bit."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING, Any

import pytest

from finetune_pricer.local.jobs.trainer_process import TrainerOrder, TrainerProcess, TrainingDone
from finetune_pricer.local.learners import (
    CheckpointSaved,
    RequestedHyperparameters,
    StepDone,
    TrainingJob,
    describe_learner,
)
from finetune_pricer.local.learners.lora.sealed_checkpoint import find_checkpoint, seal_checkpoint
from local_helpers import jsonl, products
from lora_doubles import DyingLearner

if TYPE_CHECKING:
    from pathlib import Path

    from finetune_pricer.local.jobs.trainer_process import Message

STEPS = 12


def train(folder: Path, learner: DyingLearner, process: TrainerProcess) -> list[Message]:
    """Train until it ends, or kills its process; return what it told."""
    folder.mkdir(exist_ok=True)
    training, validation = folder.parent / "train.jsonl", folder.parent / "validation.jsonl"
    training.write_bytes(jsonl(products(48), "${:.2f}".format))
    validation.write_bytes(jsonl(products(8, seed=5), "${:.2f}".format))
    job = TrainingJob(
        training=training,
        validation=validation,
        hyperparameters=RequestedHyperparameters(n_epochs=2, batch_size=8),
        seed=7,
        folder=folder,
    )
    order = TrainerOrder(learner=describe_learner(learner), job=job)
    return [message for messages in process.run(order) for message in messages]


def train_and_die(folder: Path, learner: DyingLearner, environment: dict[str, str]) -> list[Message]:
    process = TrainerProcess(environment)
    try:
        return train(folder, learner, process)
    finally:
        process.close()


def adapter(folder: Path, messages: list[Message]) -> str:
    done = messages[-1]
    assert isinstance(done, TrainingDone), done
    return hashlib.sha256((folder / done.files["adapter_model.safetensors"]).read_bytes()).hexdigest()


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_job_killed_after_a_step_and_in_the_middle_of_a_save_ends_with_the_same_adapter(
    base: Path, tmp_path: Path, trainer: TrainerProcess
) -> None:
    options: Any = {"base": str(base), "rank": 4, "dropout": 0.1, "dtype": "float32", "text_tokens": 16}
    step, saves = random.randint(2, STEPS // 2), random.randint(1, 4)
    print(f"killed after step {step}, and then in save {saves}")
    straight = train(tmp_path / "straight", DyingLearner(**options), trainer)

    killed = tmp_path / "killed"
    deaths: list[Any] = [{"dies_after_step": step}, {"dies_in_save": saves}]
    first, second = (
        train_and_die(killed, DyingLearner(**options, **death), trainer.environment) for death in deaths
    )
    last = train(killed, DyingLearner(**options), trainer)

    assert not any(isinstance(message, TrainingDone) for message in first + second)
    assert adapter(killed, last) == adapter(tmp_path / "straight", straight)
    told = [message for message in first + second + last if isinstance(message, StepDone)]
    expected = {message.step: message for message in straight if isinstance(message, StepDone)}
    assert sorted(expected) == list(range(1, STEPS + 1))
    assert all(message == expected[message.step] for message in told)
    assert {message.step for message in last if isinstance(message, StepDone)} == set(expected)
    kept = [message.step for message in last if isinstance(message, CheckpointSaved)]
    assert kept == [message.step for message in straight if isinstance(message, CheckpointSaved)] == [6]


def checkpoint(parent: Path, step: int) -> Path:
    folder = parent / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"weights" * 100)
    (folder / "trainer_state.json").write_bytes(b"{}")
    seal_checkpoint(folder)
    return folder


def test_the_newest_whole_checkpoint_is_gone_on_from_and_broken_ones_are_removed(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path) is None
    folders = [checkpoint(tmp_path, step) for step in (8, 9, 10, 11, 12)]
    (folders[4] / "sealed.json").unlink()
    (folders[3] / "trainer_state.json").unlink()
    (folders[2] / "adapter_model.safetensors").write_bytes(b"weights" * 99)
    (folders[0] / "sealed.json").write_bytes(b"[]")

    assert find_checkpoint(tmp_path) == folders[1]
    assert list(tmp_path.iterdir()) == [folders[1]]
