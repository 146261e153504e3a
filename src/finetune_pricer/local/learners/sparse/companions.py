"""Two simple models beside the network, on the same rows: a ridge regression, and the nearest examples.

Each errs in its own way, so that `pool.py` makes a better guess of all three than any of them is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from ...._methods.nearest import NearestRows, scale_to_unit
from ...._methods.ridge import fit_ridge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...._methods.network import Floats, Ints
    from .pool import Pool

_NEIGHBORS = 12
_POWER = 2  # of a similarity, as the weight of a neighbour's price
# Words that stand in more of the texts tell few of them apart, and cost the most to look up.
_COMMON, _FEW_TEXTS = 0.05, 50
_MOST_EXAMPLES = 20_000  # beyond which looking them up would take longer than all else


class Opinions(NamedTuple):
    """What the companions say of some rows; prices are log(1 + price)."""

    ridge: Floats
    """One price for each row."""
    neighbors: Floats
    """The prices of each row's nearest examples; of shape `(rows, 0)` where there are none to look up."""
    similarities: Floats
    """The weights of those prices, which sum to 1."""


@dataclass(frozen=True, kw_only=True)
class NeighborPrices:
    """Examples by the words that tell them apart, and their prices."""

    columns: Ints
    """The features that are compared."""
    width: int
    """How many features there are."""
    rows: csr_matrix
    """The examples over those features, each row of length 1."""
    logs: Floats
    """Their prices as log(1 + price)."""

    @classmethod
    def fit(cls, rows: csr_matrix, logs: Floats, words: int) -> NeighborPrices | None:
        """Take the examples by their first `words` columns; None where there are too many to look up."""
        if rows.shape[0] > _MOST_EXAMPLES:
            return None
        texts = np.bincount(rows.indices, minlength=rows.shape[1])[:words]
        columns = np.flatnonzero(texts <= max(_COMMON * rows.shape[0], _FEW_TEXTS))
        found = cls(columns=columns, width=rows.shape[1], rows=rows[:0], logs=logs)
        return cls(columns=columns, width=rows.shape[1], rows=found.compared(rows), logs=logs)

    @cached_property
    def _search(self) -> NearestRows:
        return NearestRows(self.rows)

    @cached_property
    def _places(self) -> npt.NDArray[np.int32]:
        places = np.full(self.width, -1, dtype=np.int32)
        places[self.columns] = np.arange(len(self.columns))
        return places

    def compared(self, rows: csr_matrix) -> csr_matrix:
        """Return rows of features over the columns that are compared, each of length 1."""
        places = self._places[rows.indices]
        kept = places >= 0
        ends = np.concatenate([[0], np.cumsum(kept)])[rows.indptr]
        shape = (rows.shape[0], len(self.columns))
        return scale_to_unit(csr_matrix((rows.data[kept], places[kept], ends), shape=shape))

    def find(self, rows: csr_matrix) -> tuple[Floats, Floats]:
        """Return the prices of each row's nearest examples, and their weights."""
        found = self._search.nearest(self.compared(rows), _NEIGHBORS)
        weights = found.similarities**_POWER + 1e-9  # where nothing is alike, all count as much
        return self.logs[found.rows], weights / weights.sum(axis=1, keepdims=True)


@dataclass(frozen=True, kw_only=True)
class Companions:
    """A ridge regression and the nearest examples."""

    ridge: Floats
    """A weight for each feature."""
    intercept: float
    neighbors: NeighborPrices | None

    @classmethod
    def fit(cls, rows: csr_matrix, logs: Floats, words: int) -> Companions:
        """Fit both to rows and their log(1 + price); the first `words` features are words."""
        ridge, intercept = fit_ridge(rows, logs)
        return cls(ridge=ridge, intercept=intercept, neighbors=NeighborPrices.fit(rows, logs, words))

    def needed_by(self, pool: Pool) -> Companions | None:
        """Return what a pool asks, so that no more is kept; None where the network speaks alone."""
        if pool.is_alone:
            return None
        return self if pool.neighbors else replace(self, neighbors=None)

    def ask(self, rows: csr_matrix) -> Opinions:
        """Return what they say of rows."""
        if self.neighbors is None:
            none = np.zeros((rows.shape[0], 0))
            return Opinions(rows @ self.ridge + self.intercept, none, none)
        return Opinions(rows @ self.ridge + self.intercept, *self.neighbors.find(rows))

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return what `from_state` needs, as arrays."""
        arrays: dict[str, npt.NDArray[Any]] = {"ridge": self.ridge, "intercept": np.array(self.intercept)}
        if self.neighbors is not None:
            rows = self.neighbors.rows
            arrays |= {"columns": self.neighbors.columns, "logs": self.neighbors.logs}
            arrays |= {"data": rows.data, "indices": rows.indices, "indptr": rows.indptr}
        return arrays

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> Companions:
        """Rebuild the companions that `state` described."""
        neighbors = None
        if "columns" in state:
            columns, logs = state["columns"], state["logs"]
            rows = csr_matrix(
                (state["data"], state["indices"], state["indptr"]), shape=(len(logs), len(columns))
            )
            neighbors = NeighborPrices(columns=columns, width=len(state["ridge"]), rows=rows, logs=logs)
        return cls(ridge=state["ridge"], intercept=float(state["intercept"]), neighbors=neighbors)
