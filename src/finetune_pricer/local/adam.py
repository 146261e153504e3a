"""Adam that touches only those rows of the first layer which a batch has terms of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .model import softmax

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scipy.sparse import csr_matrix

    from .model import Network
    from .points import Floats

    Ints = npt.NDArray[np.int64]

_DECAY, _SQUARE_DECAY = 0.9, 0.999
_LAYERS = ("inputs", "hidden", "outputs", "biases")


def measured(probabilities: Floats, labels: Floats, bins: Ints) -> tuple[float, float]:
    """Return the cross entropy, and the share of rows whose likeliest bin is the true one."""
    loss = -(labels * np.log(probabilities + 1e-12)).sum(axis=1).mean()
    return float(loss), float((probabilities.argmax(axis=1) == bins).mean())


class Adam:
    """Moves a network downhill, batch by batch."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._steps = 0
        self._moments = {
            name: (np.zeros_like(getattr(network, name)), np.zeros_like(getattr(network, name)))
            for name in _LAYERS
        }
        self._places = np.zeros(len(network.inputs), dtype=np.int32)

    def step(self, rows: csr_matrix, labels: Floats, bins: Ints, rate: float) -> tuple[float, float]:
        """Take one step downhill; return the loss and the share of right bins before it."""
        network = self._network
        rows, touched = self._narrow(rows)
        summed = np.asarray(rows @ network.inputs[touched]) + network.hidden
        active = np.maximum(summed, 0)
        probabilities = softmax(active @ network.outputs + network.biases)
        slope = (probabilities - labels) / np.float32(len(bins))
        back = (slope @ network.outputs.T) * (summed > 0)
        self._steps += 1
        self._move("outputs", active.T @ slope, rate)
        self._move("biases", slope.sum(axis=0), rate)
        self._move("hidden", back.sum(axis=0), rate)
        self._move("inputs", np.asarray(rows.T @ back), rate, touched)
        return measured(probabilities, labels, bins)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the moments, by name."""
        return {f"{kind}_{name}": self._moments[name][i] for name in _LAYERS for i, kind in _KINDS}

    def restore(self, state: Mapping[str, npt.NDArray[Any]], *, steps: int) -> None:
        """Take the moments that `state` named, after so many steps."""
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

    def _move(self, name: str, slope: Floats, rate: float, rows: Ints | None = None) -> None:
        weights, (mean, square) = getattr(self._network, name), self._moments[name]
        at: Any = ... if rows is None else rows
        first = mean[at] * np.float32(_DECAY) + slope * np.float32(1 - _DECAY)
        second = square[at] * np.float32(_SQUARE_DECAY) + slope**2 * np.float32(1 - _SQUARE_DECAY)
        mean[at], square[at] = first, second
        scale = np.sqrt(1 - _SQUARE_DECAY**self._steps)
        pace = np.float32(rate * scale / (1 - _DECAY**self._steps))
        weights[at] -= pace * first / (np.sqrt(second) + np.float32(1e-8 * scale))


_KINDS = ((0, "mean"), (1, "square"))
