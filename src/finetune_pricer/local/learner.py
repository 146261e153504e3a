"""The learner: from chat examples to a `PriceModel`, step by step, and from any step on again.

A sparse network with one hidden layer and a softmax over price bins. It reads the prompts' text and the
number in each reply, and nothing else. It is not a language model.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .._features import TextFeatures
from .adam import Adam
from .model import Frame, Network, PriceModel, softmax
from .points import PricePoints
from .replies import ReplyForm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from scipy.sparse import csr_matrix

    from .examples import Example
    from .points import Floats

    Ints = npt.NDArray[np.int64]

_RATE = 5e-3  # at a batch of 32 and a multiplier of 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameters:
    """How to train, in numbers; `n_epochs` is None while it is left to the learner."""

    n_epochs: int | None
    batch_size: int
    learning_rate_multiplier: float
    hidden: int = 32

    @classmethod
    def resolve(cls, asked: dict[str, Any], *, examples: int, hidden: int = 32) -> Hyperparameters:
        """Put numbers in place of what is missing, None or "auto", as far as the number of examples tells."""
        chosen = {name: value for name, value in asked.items() if value not in (None, "auto")}
        return cls(
            n_epochs=chosen.get("n_epochs"),
            batch_size=int(chosen.get("batch_size", 32 if examples >= 1_000 else 8)),
            learning_rate_multiplier=float(chosen.get("learning_rate_multiplier", 1.0)),
            hidden=hidden,
        )


class Step(NamedTuple):
    """What one step of training measured; the `valid_` numbers stand at the end of an epoch, else NaN."""

    step: int
    train_loss: float
    train_mean_token_accuracy: float
    valid_loss: float = math.nan
    valid_mean_token_accuracy: float = math.nan


class Check(NamedTuple):
    """What held-out examples said at the end of an epoch."""

    loss: float = math.nan
    accuracy: float = math.nan
    spread: float = 0.0
    """How far the guesses should be widened."""


@dataclass(frozen=True, slots=True)
class Data:
    """Examples as the network sees them: rows of features, soft labels, and the true bin."""

    rows: csr_matrix
    labels: Floats
    bins: Ints

    def part(self, places: Ints) -> Data:
        """Return some of the examples."""
        return Data(self.rows[places], self.labels[places], self.bins[places])


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What a training file holds for the learner, and a validation file beside it."""

    frame: Frame
    form: ReplyForm
    points: PricePoints
    edges: Floats
    features: TextFeatures
    data: Data
    checked: Data

    @classmethod
    def prepare(cls, examples: Sequence[Example], validation: Sequence[Example]) -> Lesson:
        """Read the examples whose replies hold a number; the same examples give the same lesson."""
        frame = Frame.around([example.prompt for example in examples])
        form = ReplyForm.seen_in([example.reply for example in examples])
        logs = _logs(examples)
        edges = _bins(logs)
        width = _softness(edges, logs)
        texts = [frame.inside(example.prompt) for example in examples if example.price is not None]
        features = TextFeatures.fit(texts)
        held_out = [example for example in validation if example.price is not None]
        held_out_texts = [frame.inside(example.prompt) for example in held_out]
        return cls(
            frame=frame,
            form=form,
            points=PricePoints.seen_in(np.expm1(logs), decimals=form.decimals),
            edges=edges,
            features=features,
            data=Data(features.transform(texts), *_labels(logs, edges, width)),
            checked=Data(features.transform(held_out_texts), *_labels(_logs(held_out), edges, width)),
        )

    def model(self, network: Network, spread: float) -> PriceModel:
        """Return the model that a network makes of this lesson."""
        return PriceModel(
            features=self.features,
            network=network,
            edges=self.edges,
            points=self.points,
            spread=spread,
            frame=self.frame,
            form=self.form,
        )


def _logs(examples: Sequence[Example]) -> Floats:
    return np.log1p([example.price for example in examples if example.price is not None])


def _bins(logs: Floats) -> Floats:
    """Return edges that put about as many prices into each bin; fewer bins where prices are few or alike."""
    count = int(np.clip(len(logs) / 16, 8, 64))
    edges = np.unique(np.quantile(logs, np.linspace(0, 1, count + 1)))
    return edges if len(edges) > 1 else np.array([edges[0], edges[0] + 1e-6])


def _softness(edges: Floats, logs: Floats) -> float:
    return float(max(np.median(np.diff(edges)), 0.08 * logs.std(), 1e-6))


def _labels(logs: Floats, edges: Floats, width: float) -> tuple[Floats, Ints]:
    """Return each price as weights over the bins, a bell around it, and as the number of its bin."""
    centres = (edges[1:] + edges[:-1]) / 2
    labels = softmax(-0.5 * ((logs[:, None] - centres) / width) ** 2)
    bins = np.clip(np.searchsorted(edges, logs, side="right") - 1, 0, len(centres) - 1)
    return labels.astype(np.float32), bins


def _untrained(width: int, hidden: int, labels: Floats, random: np.random.Generator) -> Network:
    """Return a network whose first answer is how often each bin occurs, whatever the text."""
    return Network(
        inputs=random.normal(0, 0.05, (width, hidden)).astype(np.float32),
        hidden=np.zeros(hidden, np.float32),
        outputs=(random.normal(0, 0.1, (hidden, labels.shape[1])) / np.sqrt(hidden)).astype(np.float32),
        biases=np.log(labels.mean(axis=0) + 1e-6).astype(np.float32),
    )


def nothing_held_out(_epoch: int, _network: Network) -> Check:
    """Check nothing at the end of an epoch."""
    return Check()


class Training:
    """One course through some data: the same arguments take the same steps, also after `restore`."""

    def __init__(
        self,
        data: Data,
        chosen: Hyperparameters,
        *,
        epochs: int,
        seed: int,
        check: Callable[[int, Network], Check] = nothing_held_out,
    ) -> None:
        self._data = data
        self._check = check
        self._size = chosen.batch_size
        self._random = np.random.default_rng(seed)
        self.network = _untrained(data.rows.shape[1], chosen.hidden, data.labels, self._random)
        self._adam = Adam(self.network)
        self._before = self._random.bit_generator.state
        self.per_epoch = -(-len(data.bins) // self._size)
        self.total = self.per_epoch * epochs
        self.history: list[Step] = []
        self.checks: list[Check] = []
        # Smaller batches have noisier gradients; measured, a little less haste is enough.
        self._rate = _RATE * chosen.learning_rate_multiplier * min(1.0, (self._size / 32) ** 0.15)

    def steps(self) -> Iterator[Step]:
        """Take the steps that are left, giving what each measured."""
        while len(self.history) < self.total:
            if len(self.history) % self.per_epoch == 0:
                self._before = self._random.bit_generator.state
            self._random.bit_generator.state = self._before
            order = self._random.permutation(len(self._data.bins))
            for place in range(len(self.history) % self.per_epoch, self.per_epoch):
                yield self._step(order[place * self._size : (place + 1) * self._size])

    def _step(self, batch: Ints) -> Step:
        done = len(self.history)
        data = self._data.part(batch)
        loss, accuracy = self._adam.step(
            data.rows, data.labels, data.bins, self._rate * (1 - done / self.total)
        )
        step = Step(done + 1, loss, accuracy)
        if (done + 1) % self.per_epoch == 0:
            checked = self._check(done // self.per_epoch, self.network)
            self.checks.append(checked)
            step = step._replace(valid_loss=checked.loss, valid_mean_token_accuracy=checked.accuracy)
        self.history.append(step)
        return step

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return all that `restore` needs to go on from here."""
        layers = {f"network_{name}": getattr(self.network, name) for name in Network.__slots__}
        return {
            **layers,
            **self._adam.state(),
            "history": np.array(self.history, dtype=np.float64).reshape(-1, len(Step._fields)),
            "checks": np.array(self.checks, dtype=np.float64).reshape(-1, len(Check._fields)),
            "random": np.array(json.dumps(self._before)),
        }

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go back to where `state` was taken, in a training of the same arguments."""
        for name in Network.__slots__:
            getattr(self.network, name)[...] = state[f"network_{name}"]
        self.history = [Step(int(row[0]), *map(float, row[1:])) for row in state["history"]]
        self.checks = [Check(*map(float, row)) for row in state["checks"]]
        self._adam.restore(state, steps=len(self.history))
        self._before = self._random.bit_generator.state = json.loads(str(state["random"]))
        if self.history and len(self.history) % self.per_epoch == 0:
            self._random.permutation(len(self._data.bins))  # the epoch that has just ended drew its order
