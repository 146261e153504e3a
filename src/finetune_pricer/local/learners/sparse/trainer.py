"""Training of a job: rehearse on nine tenths, then train on everything; killed at any moment, it goes on.

The rehearsal finds what a file alone cannot tell: how many epochs are right, how much the network, the ridge
regression and the nearest examples count, and how wide the guesses should be so that they are as sure as they
are right. A folder keeps what must outlive the process: the results of the stages that are done, the state of
the one under way, and the last checkpoints. What is fitted at once, as the regression is, is fitted again.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...._methods.network import Hyperparameters, Step, TrainingRun, Validation, measure, softmax
from ..learner import CHECKPOINTS_KEPT, CheckpointSaved, HyperparametersChosen, Metrics, Note, StepDone
from .companions import SparseRows
from .pool import Pool, PoolChoice
from .price_points import widen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from ...._methods.network import Data, Floats, Network
    from ..learner import Report
    from .companions import Companions, Opinions
    from .dataset import TrainingSet
    from .model import PriceModel

EPOCH_CANDIDATES = (5, 10, 20, 40)
"""Numbers of epochs that are tried, while the last of them still helps."""
_FEWEST = 20  # examples from which a tenth is worth holding out
_FEW_EPOCHS = 20  # where nothing can be held out
_ENOUGH = 50  # examples in a validation file from which the widening is measured on it
_SAVE_EVERY = 2.0  # seconds
# What an earlier version of this package left in a job's folder has other names, and is not read.
_RESULTS, _STATE = "results-2.json", "state-2.npz"


class _HeldOut(NamedTuple):
    """Examples that are held out of training, and what the companions say of them."""

    data: Data
    opinions: Opinions
    choice: PoolChoice

    @classmethod
    def prepare(cls, data: Data, companions: Companions, edges: Floats) -> _HeldOut:
        opinions = companions.ask(SparseRows.of(data.rows))
        return cls(data, opinions, PoolChoice(opinions, edges, data.bins))


class _Rehearsal(NamedTuple):
    """Nine tenths of the examples, and the tenth that is held out."""

    data: Data
    held_out: _HeldOut


class Trainer:
    """Trains one job in a folder of its own; the same arguments give the same model, however often killed.

    `report` gets everything that happens; what was reported before a restart is reported again.
    """

    def __init__(
        self,
        folder: Path,
        data: TrainingSet,
        hyperparameters: Hyperparameters,
        *,
        seed: int,
        report: Callable[[Report], None] = lambda _: None,
        save_every: float = _SAVE_EVERY,
    ) -> None:
        self._folder = folder
        self._data = data
        self._hyperparameters = hyperparameters
        self._seed = seed
        self._report = report
        self._save_every = save_every
        self._saved_at = time.monotonic()
        self._results: dict[str, Any] = _read_json(folder / _RESULTS)

    def run(self) -> PriceModel:
        """Train to the end, from where an earlier process left off."""
        epochs, pools = self._choose_epochs()
        self._report(
            HyperparametersChosen(
                n_epochs=epochs,
                batch_size=self._hyperparameters.batch_size,
                learning_rate_multiplier=self._hyperparameters.learning_rate_multiplier,
                trained_tokens=self._data.tokens * epochs,
            )
        )

        companions = self._data.fit_companions()
        aside = None
        if len(self._data.validation.bins):
            aside = _HeldOut.prepare(self._data.validation, companions, self._data.edges)

        def validate(epoch: int, network: Network) -> Validation:
            return self._validate(aside, network, pools[epoch] if pools else None)

        run = self._start_run(self._data.training, epochs, validate)
        if self._restore(run, "all"):
            self._report_steps(run.history, run)
            for step, files in self._results.get("checkpoints", []):
                self._report_checkpoint(step, files, run)
        for step in self._steps(run, "all"):
            self._report_steps([step], run)
            if step.step % run.per_epoch == 0 and step.step < run.total:
                self._save_checkpoint(run, companions, step.step)
        return self._data.model(run.network, companions, Pool(*run.validations[-1].settings))

    def _choose_epochs(self) -> tuple[int, list[Pool]]:
        """Return the number of epochs, and each one's pool; no pools where a validation file has them."""
        count, requested = len(self._data.training.bins), self._hyperparameters.n_epochs
        if requested is not None and len(self._data.validation.bins) >= _ENOUGH:
            return requested, []
        if count < _FEWEST:
            return requested or _FEW_EPOCHS, [Pool()] * (requested or _FEW_EPOCHS)
        if requested is None:
            self._report(Note(message="Choosing n_epochs on a held-out tenth of the examples"))
        tried: dict[int, Any] = {}
        for epochs in [requested] if requested else EPOCH_CANDIDATES:
            result = tried[epochs] = self._results.get(str(epochs)) or self._rehearse(epochs)
            # More epochs win only where the loss was falling until the last of these.
            if result["losses"][-1] > min(min(each["losses"]) for each in tried.values()):
                break
        best = min(tried, key=lambda epochs: tried[epochs]["losses"][-1])
        return best, [Pool(*settings) for settings in tried[best]["pools"]]

    @cached_property
    def _rehearsal(self) -> _Rehearsal:
        data = self._data.training
        order = np.random.default_rng(self._seed).permutation(len(data.bins))
        # A tenth, but of few examples more: the loss on a handful is chance.
        held = max(len(order) // 10, min(len(order) // 4, _ENOUGH))
        companions = self._data.fit_companions(order[held:])
        aside = _HeldOut.prepare(data.part(order[:held]), companions, self._data.edges)
        return _Rehearsal(data.part(order[held:]), aside)

    def _rehearse(self, epochs: int) -> dict[str, Any]:
        """Train on nine tenths of the examples; return each epoch's loss on the rest, and its best pool.

        The loss is the network's alone: it is the network's epochs that are chosen.
        """
        data, (rest, _, choice) = self._rehearsal

        def validate(_: int, network: Network) -> Validation:
            probabilities = softmax(network.scores(rest.rows))
            pool = choice.choose(probabilities)
            wide = widen(probabilities, self._data.edges, pool.network_width)
            return Validation(*measure(wide, rest.labels, rest.bins), pool)

        run = self._start_run(data, epochs, validate)
        self._restore(run, str(epochs))
        for _ in self._steps(run, str(epochs)):
            pass
        losses = [validation.loss for validation in run.validations]
        result = {"losses": losses, "pools": [validation.settings for validation in run.validations]}
        self._save_result(str(epochs), result)
        return result

    def _start_run(
        self, data: Data, epochs: int, validate: Callable[[int, Network], Validation]
    ) -> TrainingRun:
        return TrainingRun(data, self._hyperparameters, epochs=epochs, seed=self._seed, validate=validate)

    def _validate(self, aside: _HeldOut | None, network: Network, pool: Pool | None) -> Validation:
        """Measure on held-out examples what would be answered: the pooled distribution."""
        if aside is None:
            return Validation(settings=pool or Pool())
        data, probabilities = aside.data, softmax(network.scores(aside.data.rows))
        pool = aside.choice.choose(probabilities) if pool is None else pool
        pooled = pool.combine(probabilities, aside.opinions, self._data.edges)
        return Validation(*measure(pooled, data.labels, data.bins), pool)

    # What outlives the process

    def _steps(self, run: TrainingRun, stage: str) -> Iterator[Step]:
        for step in run.steps():
            yield step
            if time.monotonic() - self._saved_at >= self._save_every:
                self._save(run, stage)

    def _save(self, run: TrainingRun, stage: str) -> None:
        def write(path: Path) -> None:
            with path.open("wb") as file:
                arrays: dict[str, Any] = run.state()
                np.savez(file, stage=np.array(stage), **arrays)

        _replace(self._folder / _STATE, write)
        self._saved_at = time.monotonic()

    def _restore(self, run: TrainingRun, stage: str) -> bool:
        try:
            with np.load(self._folder / _STATE, allow_pickle=False) as archive:
                if str(archive["stage"]) != stage:
                    return False
                run.restore({name: archive[name] for name in archive.files})
        except FileNotFoundError:
            return False
        return True

    def _save_result(self, name: str, value: Any) -> None:
        self._results[name] = value
        _replace(self._folder / _RESULTS, lambda path: path.write_bytes(json.dumps(self._results).encode()))

    def _save_checkpoint(self, run: TrainingRun, companions: Companions, step: int) -> None:
        model = self._data.model(run.network, companions, Pool(*run.validations[-1].settings))
        files = {}
        for name, content in model.save().items():
            files[name] = f"checkpoint-{step}-{name}"
            _replace(self._folder / files[name], lambda path, content=content: path.write_bytes(content))  # type: ignore[misc]
        kept = [pair for pair in self._results.get("checkpoints", []) if pair[0] != step]
        self._save_result("checkpoints", [*kept, (step, files)][-CHECKPOINTS_KEPT:])
        self._report_checkpoint(step, files, run)

    # What is reported

    def _report_checkpoint(self, step: int, files: dict[str, str], run: TrainingRun) -> None:
        if step > len(run.history):
            # From a process that was killed after this checkpoint and before its next save; training will
            # reach it again.
            return
        self._report(CheckpointSaved(step=step, files=files, metrics=metrics_of(run.history[step - 1])))

    def _report_steps(self, steps: Iterable[Step], run: TrainingRun) -> None:
        for step in steps:
            self._report(StepDone(step=step.step, total_steps=run.total, metrics=metrics_of(step)))


def metrics_of(step: Step) -> Metrics:
    """Return what a step measured, without the numbers that it did not measure."""
    values = step._asdict()
    del values["step"]
    return Metrics(**{name: value for name, value in values.items() if not math.isnan(value)})


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


def _read_json(path: Path) -> dict[str, Any]:
    with contextlib.suppress(FileNotFoundError):
        found: dict[str, Any] = json.loads(path.read_bytes())
        return found
    return {}
