"""A whole course: rehearse on nine tenths, then train on everything; killed at any moment, it goes on.

The rehearsal finds what a file alone cannot tell: how many epochs are right, and how far the guesses should
be widened so that they are as sure as they are right. A folder keeps what must outlive the process: the
results of the stages that are done, the state of the one under way, and the last checkpoints.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...._methods.network import Hyperparameters, Step, TrainingRun, Validation, measure, softmax
from .price_points import USUAL_SPREAD, best_spread, widened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ...._methods.network import Data, Network
    from .dataset import Lesson
    from .model import PriceModel

LADDER = (5, 10, 20, 40)
"""Numbers of epochs that are tried, until one is worse than those before it."""
CHECKPOINTS = 3
"""How many of the last epochs are kept."""
_FEWEST = 20  # examples from which a tenth is worth holding out
_FEW_EPOCHS = 20  # where nothing can be held out
_ENOUGH = 50  # examples in a validation file from which the widening is measured on it
_SAVE_EVERY = 2.0  # seconds


class Checkpoint(NamedTuple):
    """A model as it was at the end of an epoch, kept in two files."""

    step: int
    epoch: int
    arrays: str
    rest: str


class Course:
    """Trains one job in a folder of its own; the same arguments give the same model, however often killed.

    `tell` hears of everything that happens, as plain values. What was told before a restart is told again.
    Who hears of a checkpoint takes its files away.
    """

    def __init__(
        self,
        folder: Path,
        lesson: Lesson,
        chosen: Hyperparameters,
        *,
        seed: int,
        tell: Callable[[dict[str, Any]], None] = lambda _: None,
        save_every: float = _SAVE_EVERY,
    ) -> None:
        self._folder = folder
        self._lesson = lesson
        self._chosen = chosen
        self._seed = seed
        self._tell = tell
        self._save_every = save_every
        self._saved = time.monotonic()
        self._results: dict[str, Any] = _read(folder / "results.json")

    def run(self) -> PriceModel:
        """Train from where the folder says we are to the end."""
        epochs, spreads = self._rehearse()
        chosen = self._chosen
        self._tell(
            {
                "kind": "chosen",
                "n_epochs": epochs,
                "batch_size": chosen.batch_size,
                "learning_rate_multiplier": chosen.learning_rate_multiplier,
            }
        )

        def validate(epoch: int, network: Network) -> Validation:
            return self._checked(self._lesson.checked, network, spreads[epoch] if spreads else None)

        training = TrainingRun(self._lesson.data, chosen, epochs=epochs, seed=self._seed, validate=validate)
        if self._restore(training, "all"):
            self._tell_steps(training.history, training)
            for checkpoint in self._results.get("checkpoints", []):
                self._announce(Checkpoint(*checkpoint), training.history)
        for step in self._taken(training, "all"):
            self._tell_steps([step], training)
            if step.step % training.per_epoch == 0:
                self._keep(training, step.step)
        return self._lesson.model(training.network, training.validations[-1].spread)

    def _rehearse(self) -> tuple[int, list[float]]:
        """Return the number of epochs, and for each how far to widen; nothing where validation tells it."""
        count, asked = len(self._lesson.data.bins), self._chosen.n_epochs
        if asked is not None and len(self._lesson.checked.bins) >= _ENOUGH:
            return asked, []
        if count < _FEWEST:
            return asked or _FEW_EPOCHS, [USUAL_SPREAD] * (asked or _FEW_EPOCHS)
        if asked is None:
            self._tell({"kind": "choosing"})
        tried: dict[int, Any] = {}
        for epochs in [asked] if asked else LADDER:
            tried[epochs] = self._results.get(str(epochs)) or self._rehearsed(epochs)
            if tried[epochs]["loss"] > min(result["loss"] for result in tried.values()):
                break
        best = min(tried, key=lambda epochs: tried[epochs]["loss"])
        return best, tried[best]["spreads"]

    def _rehearsed(self, epochs: int) -> dict[str, Any]:
        data = self._lesson.data
        order = np.random.default_rng(self._seed).permutation(len(data.bins))
        # A tenth, but of few examples more: the loss on a handful is chance.
        held = max(len(order) // 10, min(len(order) // 4, _ENOUGH))
        aside = data.part(order[:held])

        def validate(_: int, network: Network) -> Validation:
            return self._checked(aside, network, None)

        kept = data.part(order[held:])
        training = TrainingRun(kept, self._chosen, epochs=epochs, seed=self._seed, validate=validate)
        self._restore(training, str(epochs))
        for _ in self._taken(training, str(epochs)):
            pass
        spreads = [validation.spread for validation in training.validations]
        result = {"loss": training.validations[-1].loss, "spreads": spreads}
        self._note(str(epochs), result)
        return result

    def _checked(self, data: Data, network: Network, spread: float | None) -> Validation:
        """Measure on held-out examples what would be answered: the widened distribution."""
        if not len(data.bins):
            return Validation(spread=spread or 0.0)
        edges, probabilities = self._lesson.edges, softmax(network.scores(data.rows))
        spread = best_spread(probabilities, edges, data.bins) if spread is None else spread
        return Validation(*measure(widened(probabilities, edges, spread), data.labels, data.bins), spread)

    # What outlives the process

    def _taken(self, training: TrainingRun, stage: str) -> Iterator[Step]:
        for step in training.steps():
            yield step
            if time.monotonic() - self._saved >= self._save_every:
                self._save(training, stage)

    def _save(self, training: TrainingRun, stage: str) -> None:
        def write(path: Path) -> None:
            with path.open("wb") as file:
                arrays: dict[str, Any] = training.state()
                np.savez(file, stage=np.array(stage), **arrays)

        _replace(self._folder / "state.npz", write)
        self._saved = time.monotonic()

    def _restore(self, training: TrainingRun, stage: str) -> bool:
        try:
            with np.load(self._folder / "state.npz", allow_pickle=False) as archive:
                if str(archive["stage"]) != stage:
                    return False
                training.restore({name: archive[name] for name in archive.files})
        except FileNotFoundError:
            return False
        return True

    def _note(self, name: str, value: Any) -> None:
        self._results[name] = value
        _replace(self._folder / "results.json", lambda path: path.write_text(json.dumps(self._results)))

    def _keep(self, training: TrainingRun, step: int) -> None:
        # The last epoch is the model itself.
        if step == training.total:
            return
        model = self._lesson.model(training.network, training.validations[-1].spread)
        names = f"checkpoint-{step}.npz", f"checkpoint-{step}.json"
        for name, content in zip(names, model.save(), strict=True):
            _replace(self._folder / name, lambda path, content=content: path.write_bytes(content))  # type: ignore[misc]
        kept = [Checkpoint(*each) for each in self._results.get("checkpoints", []) if each[0] != step]
        kept.append(Checkpoint(step, step // training.per_epoch, *names))
        self._note("checkpoints", kept[-CHECKPOINTS:])
        self._announce(kept[-1], training.history)

    # What is told

    def _announce(self, checkpoint: Checkpoint, history: list[Step]) -> None:
        if checkpoint.step > len(history):
            return  # made by the life before, after its last saved state; it will be made again
        values = history[checkpoint.step - 1]
        self._tell({"kind": "checkpoint", **checkpoint._asdict(), "metrics": metrics_of(values)})

    def _tell_steps(self, steps: list[Step], training: TrainingRun) -> None:
        for step in steps:
            self._tell({"kind": "step", "total_steps": training.total, "step": step.step, **metrics_of(step)})


def metrics_of(step: Step) -> dict[str, float]:
    """Return what a step measured, without what it did not."""
    return {name: value for name, value in step._asdict().items() if not math.isnan(value)}


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    # A name of its own: a trainer whose server was killed may still write when the next one begins.
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    with contextlib.suppress(FileNotFoundError):
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    return {}
