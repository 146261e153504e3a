"""A learner of open models that is killed at the worst moment."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any
from unittest import mock

from finetune_pricer.local import LoraLearner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from finetune_pricer.local.learners import Report, TrainingJob


@dataclass(frozen=True)
class DyingLearner(LoraLearner):
    """Saves after every step, and kills its own process: after a step, or in the middle of a save."""

    dies_after_step: int = 0
    dies_in_save: int = 0
    """In which save, counted from 1 in each process: its last file is cut in half, and it has no seal."""
    fails_with: str = ""
    """What torch says when it comes to training."""

    def train(self, job: TrainingJob, report: Callable[[Report], None]) -> Mapping[str, str]:
        # Not at the top: it loads torch, which the server's end of this class must not.
        adapter_trainer: Any = import_module("finetune_pricer.local.learners.lora.adapter_trainer")
        seal, saves = adapter_trainer.seal_checkpoint, 0

        def seal_or_die(folder: Path) -> None:
            nonlocal saves
            saves += 1
            if saves == self.dies_in_save:
                cut = folder / "optimizer.pt"
                cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            seal(folder)

        def report_or_die(message: Report) -> None:
            report(message)
            if message.kind == "step" and message.step == self.dies_after_step:
                os.kill(os.getpid(), signal.SIGKILL)

        def fail(*_: Any, **__: Any) -> None:
            raise RuntimeError(self.fails_with)

        adapter_trainer.seal_checkpoint = seal_or_die
        trainer = adapter_trainer.AdapterTrainer(
            job, self.weights, self.recipe, report=report_or_die, save_every=0
        )
        with mock.patch("trl.SFTTrainer.train", fail) if self.fails_with else contextlib.nullcontext():
            files: Mapping[str, str] = trainer.run()
        return files
