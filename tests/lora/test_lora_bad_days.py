"""What goes wrong with open models: too little memory, other weights than those that were trained on."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from finetune_pricer.errors import DataError, NotSupported
from finetune_pricer.local import LoraLearner
from finetune_pricer.local.jobs.trainer_process import TrainerOrder, TrainerProcess, TrainingFailed
from finetune_pricer.local.learners import RequestedHyperparameters, TrainingJob, describe_learner
from finetune_pricer.local.learners.lora import base_weights
from finetune_pricer.local.shortage import Shortage
from local_helpers import jsonl, products
from lora_doubles import DyingLearner
from tiny_language_model import NO_TORCH, save_base

if TYPE_CHECKING:
    from pathlib import Path

    from openai.types.fine_tuning import FineTuningJob

    from finetune_pricer.local import LocalServer

torch = pytest.importorskip("torch", reason=NO_TORCH)
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def job(folder: Path) -> TrainingJob:
    (folder / "train.jsonl").write_bytes(jsonl(products(16), "${:.0f}".format))
    return TrainingJob(
        training=folder / "train.jsonl",
        validation=None,
        hyperparameters=RequestedHyperparameters(n_epochs=1, batch_size=8),
        seed=1,
        folder=folder,
    )


def test_a_base_that_is_too_large_is_refused_with_numbers_before_it_is_loaded(
    learner: LoraLearner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_weights, "_free_memory", lambda: (100_000.0, "memory"))

    with pytest.raises(NotSupported, match=r"takes 0\.0 GB of memory, of which 0\.0 GB are free"):
        learner.weights.load_model(learner.recipe)


def test_four_bits_without_a_gpu_are_refused(base: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    learner = LoraLearner(str(base), quantize="nf4")

    with pytest.raises(NotSupported, match="quantize=nf4 needs a GPU"):
        learner.weights.load_model(learner.recipe)


GONE_WRONG = [
    (MemoryError(), NotSupported, "too small to train 8 examples at once; lower batch_size below 8"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory"), NotSupported, "lower batch_size below 8"),
    (RuntimeError("CUDA error: launch failure"), Shortage, "the GPU has stopped answering"),
    (RuntimeError("unknown"), RuntimeError, "unknown"),
]


@pytest.mark.parametrize("case", GONE_WRONG, ids=lambda case: type(case[0]).__name__)
def test_what_goes_wrong_in_training_says_what_to_do(
    learner: LoraLearner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Any
) -> None:
    error, kind, reason = case

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("trl.SFTTrainer.train", fail)

    with pytest.raises(kind, match=reason):
        learner.train(job(tmp_path), lambda _: None)


def test_what_goes_wrong_in_the_training_process_is_told_to_the_server_and_no_more(
    base: Path, tmp_path: Path, trainer: TrainerProcess
) -> None:
    def fail(words: str) -> TrainingFailed:
        learner = DyingLearner(str(base), dtype="float32", fails_with=f"{words} A private prompt")
        order = TrainerOrder(learner=describe_learner(learner), job=job(tmp_path))
        *_, last = [message for messages in trainer.run(order) for message in messages]
        assert isinstance(last, TrainingFailed)
        assert "private" not in last.model_dump_json()
        return last

    lost = fail("CUDA error: unspecified launch failure.")
    full = fail("CUDA out of memory.")

    assert lost.shortage == "the GPU has stopped answering"
    assert full.reason is not None
    assert "lower batch_size below 8" in full.reason


def test_a_loss_that_is_no_number_ends_the_job_and_says_what_to_lower() -> None:
    from finetune_pricer.local.learners.lora.adapter_trainer import StepReporter

    reporter = StepReporter(SimpleNamespace(validates=False), per_epoch=5, total=10)  # type: ignore[arg-type]

    with pytest.raises(DataError, match="the loss is no number any more at step 3; lower learning_rate"):
        reporter.on_log(None, SimpleNamespace(global_step=3), None, {"loss": float("nan")})


def test_a_batch_that_does_not_fit_is_halved_until_it_does(learner: LoraLearner) -> None:
    from finetune_pricer.local.learners.lora.answering_loop import Answerer

    answerer = Answerer(learner)
    asker = answerer.find_asker(None)
    prompts = [answerer.write(None, [{"role": "user", "content": item.prompt}]) for item in products(7)]
    expected = answerer.ask(None, prompts)
    sizes: list[int] = []

    def ask(some: Any) -> Any:
        sizes.append(len(some))
        if len(some) > 2:
            raise RuntimeError("CUDA out of memory")
        return type(asker).ask(asker, some)

    asker.ask = ask  # type: ignore[method-assign, assignment]
    assert np.allclose(answerer.ask(None, prompts), expected, atol=1e-6)
    assert sizes == [7, 3, 1, 2, 4, 2, 2]

    def refuse(_: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    asker.ask = refuse  # type: ignore[method-assign, assignment]
    with pytest.raises(NotSupported, match="the memory is too small for a prompt of"):
        answerer.ask(None, prompts[:1])


def test_a_gpu_that_is_lost_ends_the_answering_process_after_it_has_said_so(
    learner: LoraLearner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays lost to that process; the next request starts another."""
    from finetune_pricer.local.learners.lora.answering_loop import AnsweringLoop

    class Lost(Exception):
        pass

    def leave(_: int) -> None:
        raise Lost

    def fail(*_: Any) -> Any:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure, and a private prompt")

    answerer: Any = SimpleNamespace(ask=fail, find_asker=lambda _: None, write=lambda *_: [1])
    out = io.BytesIO()
    loop = AnsweringLoop(answerer, out)
    loop.read([b'{"kind":"ask","adapter":null,"number":7,"messages":[]}'])  # type: ignore[arg-type]
    monkeypatch.setattr("os._exit", leave)

    with pytest.raises(Lost):
        loop._answer(loop._gather())
    said = json.loads(out.getvalue())
    assert (said["number"], said["error"]) == (7, "AcceleratorError")
    assert "private" not in said["message"]


def test_a_model_is_not_answered_with_by_another_base_or_another_template(
    server: LocalServer, tuned: FineTuningJob, base: Path, tmp_path: Path
) -> None:
    from finetune_pricer.local.learners.lora.answering_loop import Answerer

    assert server._runtime is not None
    database = server._runtime.state.database
    stored = database.find_model(tuned.fine_tuned_model or "")
    assert stored is not None
    folder = tmp_path / "adapter"
    folder.mkdir()
    for name, sha256 in stored.files.items():
        (folder / name).write_bytes(database.blobs.path(sha256).read_bytes())

    other = Answerer(LoraLearner(str(save_base(tmp_path / "other", seed=5)), dtype="float32"))
    with pytest.raises(DataError, match=r"was trained on the weights of .* has other weights"):
        other.load("one", folder)
    plain = Answerer(LoraLearner(str(base), dtype="float32", template="plain"))
    with pytest.raises(DataError, match="was trained with another chat template"):
        plain.load("one", folder)
