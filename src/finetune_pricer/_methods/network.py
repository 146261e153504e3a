"""A sparse network with one hidden layer and a softmax over price bins, trained step by step.

The local server's sparse learner and one of the baselines are made of it. Inputs are rows of text features,
targets are prices as log(1 + price), and the output is a probability per bin.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from scipy.sparse import csr_matrix

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]

_WIDEST = 0.25  # a bin, in log(1 + price): a quarter of the price
_RATE = 5e-3  # at a batch of 32 and a multiplier of 1
_DECAY, _SQUARE_DECAY = 0.9, 0.999
_LAYERS = ("inputs", "hidden", "outputs", "biases")


def softmax(scores: Floats) -> Floats:
    """Return scores as probabilities along the last axis."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


@dataclass(slots=True, kw_only=True)
class Network:
    """A sparse row, a hidden layer, and one score per price bin."""

    inputs: Floats
    hidden: Floats
    outputs: Floats
    biases: Floats

    def scores(self, rows: csr_matrix) -> Floats:
        """Return the scores of every bin for every row."""
        return self.scores_of_sums(np.asarray(rows @ self.inputs))

    def scores_of_sums(self, summed: Floats) -> Floats:
        """Return the scores, given the first layer's weighted sums."""
        scores: Floats = np.maximum(summed + self.hidden, 0) @ self.outputs + self.biases
        return scores


def measure(probabilities: Floats, labels: Floats, bins: Ints) -> tuple[float, float]:
    """Return the cross entropy, and the share of rows whose likeliest bin is the true one."""
    loss = -(labels * np.log(probabilities + 1e-12)).sum(axis=1).mean()
    return float(loss), float((probabilities.argmax(axis=1) == bins).mean())


class Adam:
    """Moves a network downhill, batch by batch.

    The first layer, which is nearly all of a network, has one second moment for each row of weights instead
    of one for each weight: measured, it learns as well and a third faster.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._steps = 0
        self._moments = {
            name: (np.zeros_like(getattr(network, name)), np.zeros_like(getattr(network, name)))
            for name in _LAYERS
            if name != "inputs"
        }
        inputs = network.inputs
        self._moments["inputs"] = np.zeros_like(inputs), np.zeros(len(inputs), inputs.dtype)
        self._places = np.zeros(len(inputs), dtype=np.int32)

    def step(self, rows: csr_matrix, labels: Floats, bins: Ints, rate: float) -> tuple[float, float]:
        """Take one step downhill; return the loss and the share of right bins before it."""
        network = self._network
        rows, touched = self._narrow(rows)
        weights = network.inputs.take(touched, axis=0)  # a copy, several times faster than by indexing
        summed = np.asarray(rows @ weights) + network.hidden
        active = np.maximum(summed, 0)
        probabilities = softmax(active @ network.outputs + network.biases)
        slope = (probabilities - labels) / np.float32(len(bins))
        back = (slope @ network.outputs.T) * (summed > 0)
        self._steps += 1
        self._move("outputs", active.T @ slope, rate)
        self._move("biases", slope.sum(axis=0), rate)
        self._move("hidden", back.sum(axis=0), rate)
        self._move_inputs(touched, weights, np.asarray(rows.T @ back), rate)
        return measure(probabilities, labels, bins)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the moments by name."""
        return {f"{kind}_{name}": self._moments[name][i] for name in _LAYERS for i, kind in _KINDS}

    def restore(self, state: Mapping[str, npt.NDArray[Any]], *, steps: int) -> None:
        """Put back the moments that `state` returned after so many steps."""
        self._steps = steps
        for name in _LAYERS:
            for i, kind in _KINDS:
                self._moments[name][i][...] = state[f"{kind}_{name}"]

    def _narrow(self, rows: csr_matrix) -> tuple[csr_matrix, Ints]:
        """Return the rows over the columns that they use, and which those are."""
        present = np.zeros(len(self._places), dtype=bool)
        present[rows.indices] = True
        touched = np.flatnonzero(present)
        self._places[touched] = np.arange(len(touched), dtype=np.int32)
        columns = self._places[rows.indices]
        return type(rows)((rows.data, columns, rows.indptr), shape=(rows.shape[0], len(touched))), touched

    def _move(self, name: str, slope: Floats, rate: float) -> None:
        weights, (mean, square) = getattr(self._network, name), self._moments[name]
        mean += np.float32(1 - _DECAY) * (slope - mean)
        square += np.float32(1 - _SQUARE_DECAY) * (slope**2 - square)
        weights -= self._pace(square, rate) * mean

    def _move_inputs(self, touched: Ints, weights: Floats, slope: Floats, rate: float) -> None:
        """Move the rows of the first layer that a batch has touched; what is handed in is used up."""
        mean, square = self._moments["inputs"]
        squares = np.einsum("ij,ij->i", slope, slope) / np.float32(slope.shape[1])
        first, second = mean.take(touched, axis=0), square[touched]
        first *= np.float32(_DECAY)
        slope *= np.float32(1 - _DECAY)
        first += slope
        second += np.float32(1 - _SQUARE_DECAY) * (squares - second)
        mean[touched], square[touched] = first, second
        first *= self._pace(second, rate)[:, None]
        weights -= first
        self._network.inputs[touched] = weights

    def _pace(self, square: Floats, rate: float) -> Floats:
        """Return by what the first moments are multiplied, given the second ones."""
        scale = np.sqrt(1 - _SQUARE_DECAY**self._steps)
        pace = np.float32(rate * scale / (1 - _DECAY**self._steps))
        return np.asarray(pace / (np.sqrt(square) + np.float32(1e-8 * scale)))


_KINDS = ((0, "mean"), (1, "square"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameters:
    """How to train, in numbers; `n_epochs` is None while it is left to the learner."""

    n_epochs: int | None
    batch_size: int
    learning_rate_multiplier: float
    hidden: int = 32

    @classmethod
    def resolve(cls, requested: Mapping[str, Any], *, examples: int, hidden: int = 32) -> Hyperparameters:
        """Put numbers in place of what is missing or None, as far as the number of examples tells them."""
        chosen = {name: value for name, value in requested.items() if value is not None}
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


class Validation(NamedTuple):
    """What held-out examples measured at the end of an epoch."""

    loss: float = math.nan
    accuracy: float = math.nan
    settings: tuple[float, ...] = ()
    """What was chosen on those examples, such as how far guesses should be widened."""


@dataclass(frozen=True, slots=True)
class Data:
    """Examples as the network sees them: rows of features, soft labels, and the true bin."""

    rows: csr_matrix
    labels: Floats
    bins: Ints

    def part(self, places: Ints) -> Data:
        """Return some of the examples."""
        return Data(self.rows[places], self.labels[places], self.bins[places])


def price_bins(logs: Floats) -> Floats:
    """Return edges that put about as many prices into each bin; fewer bins where prices are few or alike.

    A bin that would be wider than `_WIDEST` is divided: where prices are rare, as among the dearest, a bin
    of as many prices as elsewhere would hold $2,000 and $9,000, and no guess could tell them apart.
    """
    count = int(np.clip(len(logs) / 16, 8, 64))
    edges = np.unique(np.quantile(logs, np.linspace(0, 1, count + 1)))
    if len(edges) == 1:
        return np.array([edges[0], edges[0] + 1e-6])
    pairs = pairwise(edges)
    parts = [np.linspace(low, high, int(np.ceil((high - low) / _WIDEST)) + 1)[:-1] for low, high in pairs]
    return np.concatenate([*parts, edges[-1:]])


def softness(edges: Floats, logs: Floats) -> float:
    """Return how wide the bell around a price should be, in log(1 + price)."""
    return float(max(np.median(np.diff(edges)), 0.08 * logs.std(), 1e-6))


def soft_labels(logs: Floats, edges: Floats, width: float) -> tuple[Floats, Ints]:
    """Return each price as weights over the bins, a bell around it, and as the number of its bin."""
    centres = (edges[1:] + edges[:-1]) / 2
    labels = softmax(-0.5 * ((logs[:, None] - centres) / width) ** 2)
    bins = np.clip(np.searchsorted(edges, logs, side="right") - 1, 0, len(centres) - 1)
    return labels.astype(np.float32), bins


def _initial_network(width: int, hidden: int, labels: Floats, random: np.random.Generator) -> Network:
    """Return a network whose first answer is how often each bin occurs, whatever the text."""
    return Network(
        inputs=random.normal(0, 0.05, (width, hidden)).astype(np.float32),
        hidden=np.zeros(hidden, np.float32),
        outputs=(random.normal(0, 0.1, (hidden, labels.shape[1])) / np.sqrt(hidden)).astype(np.float32),
        biases=np.log(labels.mean(axis=0) + 1e-6).astype(np.float32),
    )


def _skip_validation(_epoch: int, _network: Network) -> Validation:
    return Validation()


class TrainingRun:
    """A number of epochs over some data: the same arguments take the same steps, also after `restore`."""

    def __init__(
        self,
        data: Data,
        chosen: Hyperparameters,
        *,
        epochs: int,
        seed: int,
        validate: Callable[[int, Network], Validation] = _skip_validation,
    ) -> None:
        self._data = data
        self._validate = validate
        self._size = chosen.batch_size
        self._random = np.random.default_rng(seed)
        self.network = _initial_network(data.rows.shape[1], chosen.hidden, data.labels, self._random)
        self._adam = Adam(self.network)
        self._before = self._random.bit_generator.state
        self.per_epoch = -(-len(data.bins) // self._size)
        self.total = self.per_epoch * epochs
        self.history: list[Step] = []
        self.validations: list[Validation] = []
        # Smaller batches have noisier gradients; measured, a little less haste is enough.
        self._rate = _RATE * chosen.learning_rate_multiplier * min(1.0, (self._size / 32) ** 0.15)

    def steps(self) -> Iterator[Step]:
        """Take the steps that are left; yield what each measured."""
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
            validation = self._validate(done // self.per_epoch, self.network)
            self.validations.append(validation)
            step = step._replace(valid_loss=validation.loss, valid_mean_token_accuracy=validation.accuracy)
        self.history.append(step)
        return step

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return all that `restore` needs to go on from here."""
        layers = {f"network_{name}": getattr(self.network, name) for name in Network.__slots__}
        return {
            **layers,
            **self._adam.state(),
            "history": np.array(self.history, dtype=np.float64).reshape(-1, len(Step._fields)),
            "validations": np.array([(v.loss, v.accuracy, *v.settings) for v in self.validations]),
            "random": np.array(json.dumps(self._before)),
        }

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go back to where `state` was taken, in a run with the same arguments."""
        for name in Network.__slots__:
            getattr(self.network, name)[...] = state[f"network_{name}"]
        self.history = [Step(int(row[0]), *map(float, row[1:])) for row in state["history"]]
        rows = state["validations"].tolist()
        self.validations = [Validation(loss, accuracy, tuple(rest)) for loss, accuracy, *rest in rows]
        self._adam.restore(state, steps=len(self.history))
        self._before = self._random.bit_generator.state = json.loads(str(state["random"]))
        if self.history and len(self.history) % self.per_epoch == 0:
            self._random.permutation(len(self._data.bins))  # the epoch that has just ended drew its order
