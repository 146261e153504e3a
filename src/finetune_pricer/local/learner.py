"""The learner: from chat examples to a `PriceModel`, step by step.

A sparse network with one hidden layer and a softmax over price bins. It reads the prompts' text and the
number in each reply, and nothing else. It is not a language model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .._features import TextFeatures
from .model import Floats, Frame, Network, PriceModel, softmax
from .replies import ReplyForm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from scipy.sparse import csr_matrix

    from .examples import Example

    Ints = npt.NDArray[np.int64]

_RATE = 5e-3  # at a batch of 32 and a multiplier of 1
_DECAY, _SQUARE_DECAY = 0.9, 0.999


class Stopped(Exception):
    """Training ended early because `should_stop` said so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameters:
    """How to train, in numbers."""

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float
    hidden: int = 32

    @classmethod
    def resolve(cls, asked: dict[str, Any], *, examples: int, hidden: int = 32) -> Hyperparameters:
        """Put numbers in place of what is missing, None or "auto", by the number of examples."""
        chosen = {name: value for name, value in asked.items() if value not in (None, "auto")}
        return cls(
            # Few examples need more rounds for the same number of steps; beyond 20 nothing was gained.
            n_epochs=int(chosen.get("n_epochs", min(20, max(5, 10_000 // max(examples, 1))))),
            batch_size=int(chosen.get("batch_size", 32 if examples >= 1_000 else 8)),
            learning_rate_multiplier=float(chosen.get("learning_rate_multiplier", 1.0)),
            hidden=hidden,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one step of training measured; the `valid_` and `full_` numbers stand at the end of an epoch."""

    step: int
    total_steps: int
    train_loss: float
    train_mean_token_accuracy: float
    valid_loss: float | None = None
    valid_mean_token_accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class _Data:
    """Examples as the network sees them: rows of features, soft labels, and the true bin."""

    rows: csr_matrix
    labels: Floats
    bins: Ints


def train(
    examples: Sequence[Example],
    validation: Sequence[Example],
    hyperparameters: Hyperparameters,
    *,
    seed: int,
    on_step: Callable[[Step], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> PriceModel:
    """Train on the examples whose replies hold a number; the same arguments give the same model.

    `on_step` hears of every step, and `should_stop` is asked before each; `Stopped` is raised when it agrees.
    """
    frame = Frame.around([example.prompt for example in examples])
    logs = _logs(examples)
    edges = _bins(logs)
    width = _softness(edges, logs)
    texts = [frame.inside(example.prompt) for example in examples if example.price is not None]
    features = TextFeatures.fit(texts)
    held_out = [example for example in validation if example.price is not None]
    held_out_texts = [frame.inside(example.prompt) for example in held_out]
    data = _Data(features.transform(texts), *_labels(logs, edges, width))
    checked = _Data(features.transform(held_out_texts), *_labels(_logs(held_out), edges, width))
    random = np.random.default_rng(seed)
    network = _untrained(features.width, hyperparameters.hidden, data.labels, random)
    _fit(network, data, checked, hyperparameters, random=random, on_step=on_step, should_stop=should_stop)
    form = ReplyForm.seen_in([example.reply for example in examples])
    return PriceModel(features=features, network=network, edges=edges, frame=frame, form=form)


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


def _fit(
    network: Network,
    data: _Data,
    checked: _Data,
    chosen: Hyperparameters,
    *,
    random: np.random.Generator,
    on_step: Callable[[Step], None],
    should_stop: Callable[[], bool],
) -> None:
    optimizer = _Adam(network)
    size = chosen.batch_size
    per_epoch = -(-len(data.bins) // size)
    total = per_epoch * chosen.n_epochs
    # Smaller batches have noisier gradients; measured, a little less haste is enough.
    rate = _RATE * chosen.learning_rate_multiplier * min(1.0, (size / 32) ** 0.15)
    for epoch in range(chosen.n_epochs):
        order = random.permutation(len(data.bins))
        for place in range(per_epoch):
            if should_stop():
                raise Stopped
            step = epoch * per_epoch + place
            batch = order[place * size : (place + 1) * size]
            loss, accuracy = optimizer.step(data, batch, rate * (1 - step / total))
            valid = _checked(network, checked) if place == per_epoch - 1 else (None, None)
            on_step(
                Step(
                    step=step + 1,
                    total_steps=total,
                    train_loss=loss,
                    train_mean_token_accuracy=accuracy,
                    valid_loss=valid[0],
                    valid_mean_token_accuracy=valid[1],
                )
            )


def _checked(network: Network, data: _Data) -> tuple[float | None, float | None]:
    if not len(data.bins):
        return None, None
    probabilities = softmax(network.scores(data.rows))
    return _measured(probabilities, data.labels, data.bins)


def _measured(probabilities: Floats, labels: Floats, bins: Ints) -> tuple[float, float]:
    loss = -(labels * np.log(probabilities + 1e-12)).sum(axis=1).mean()
    return float(loss), float((probabilities.argmax(axis=1) == bins).mean())


class _Adam:
    """Adam that touches only those rows of the first layer which the batch has terms of."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.steps = 0
        self.moments = {
            name: (np.zeros_like(getattr(network, name)), np.zeros_like(getattr(network, name)))
            for name in ("inputs", "hidden", "outputs", "biases")
        }
        self._places = np.zeros(len(network.inputs), dtype=np.int32)

    def step(self, data: _Data, batch: Ints, rate: float) -> tuple[float, float]:
        """Take one step downhill; return the loss and the share of right bins before it."""
        network, labels = self.network, data.labels[batch]
        rows, touched = self._narrow(data.rows[batch])
        summed = np.asarray(rows @ network.inputs[touched]) + network.hidden
        active = np.maximum(summed, 0)
        probabilities = softmax(active @ network.outputs + network.biases)
        slope = (probabilities - labels) / np.float32(len(batch))
        back = (slope @ network.outputs.T) * (summed > 0)
        self.steps += 1
        self._move("outputs", active.T @ slope, rate)
        self._move("biases", slope.sum(axis=0), rate)
        self._move("hidden", back.sum(axis=0), rate)
        self._move("inputs", np.asarray(rows.T @ back), rate, touched)
        return _measured(probabilities, labels, data.bins[batch])

    def _narrow(self, rows: csr_matrix) -> tuple[csr_matrix, Ints]:
        """Return the rows over the columns that they use, and which those are."""
        present = np.zeros(len(self._places), dtype=bool)
        present[rows.indices] = True
        touched = np.flatnonzero(present)
        self._places[touched] = np.arange(len(touched), dtype=np.int32)
        columns = self._places[rows.indices]
        return type(rows)((rows.data, columns, rows.indptr), shape=(rows.shape[0], len(touched))), touched

    def _move(self, name: str, slope: Floats, rate: float, rows: Ints | None = None) -> None:
        weights, (mean, square) = getattr(self.network, name), self.moments[name]
        at: Any = ... if rows is None else rows
        first = mean[at] * np.float32(_DECAY) + slope * np.float32(1 - _DECAY)
        second = square[at] * np.float32(_SQUARE_DECAY) + slope**2 * np.float32(1 - _SQUARE_DECAY)
        mean[at], square[at] = first, second
        scale = np.sqrt(1 - _SQUARE_DECAY**self.steps)
        pace = np.float32(rate * scale / (1 - _DECAY**self.steps))
        weights[at] -= pace * first / (np.sqrt(second) + np.float32(1e-8 * scale))
