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

from ...._methods.nearest import NearestRows
from ...._methods.ridge import fit_ridge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...._methods.network import Floats, Ints
    from .pool import Pool

    AnyInts = npt.NDArray[np.signedinteger[Any]]

_NEIGHBORS = 12
_POWER = 2  # of a similarity, as the weight of a neighbour's price
# Words that stand in more of the texts tell few of them apart, and cost the most to look up.
_COMMON, _FEW_TEXTS = 0.05, 50
_MOST_EXAMPLES = 20_000  # beyond which looking them up would take longer than all else


class SparseRows(NamedTuple):
    """Rows of features as plain arrays: for a single row, making a matrix takes longer than all else."""

    columns: AnyInts
    values: Floats
    ends: AnyInts
    """Where each row ends; a 0 stands before them."""

    @classmethod
    def of(cls, rows: csr_matrix) -> SparseRows:
        """Return the arrays of a matrix."""
        return cls(rows.indices, rows.data, rows.indptr)

    def sum(self, values: Floats) -> Floats:
        """Return the sum of each row of other values at the same places."""
        row_of = np.repeat(np.arange(len(self.ends) - 1), np.diff(self.ends))
        return np.bincount(row_of, weights=values, minlength=len(self.ends) - 1).astype(np.float64)


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
        none = csr_matrix((0, len(columns)), dtype=rows.dtype)
        empty = cls(columns=columns, width=rows.shape[1], rows=none, logs=logs)
        return replace(empty, rows=empty.narrow(SparseRows.of(rows)))

    @cached_property
    def _search(self) -> NearestRows:
        return NearestRows(self.rows)

    @cached_property
    def _places(self) -> npt.NDArray[np.int32]:
        places = np.full(self.width, -1, dtype=np.int32)
        places[self.columns] = np.arange(len(self.columns))
        return places

    def narrow(self, rows: SparseRows) -> csr_matrix:
        """Return rows over the columns that are compared, each of length 1; one that has none is empty."""
        places = self._places[rows.columns]
        kept = places >= 0
        places, values, ends = places[kept], rows.values[kept], np.append(0, np.cumsum(kept))[rows.ends]
        narrow = SparseRows(places, values, ends)
        lengths = np.sqrt(narrow.sum(values**2))
        values = (values / np.repeat(lengths, np.diff(ends))).astype(np.float32)
        return csr_matrix((values, places, ends), shape=(len(lengths), len(self.columns)))

    def find(self, rows: SparseRows) -> tuple[Floats, Floats]:
        """Return the prices of each row's nearest examples, and their weights."""
        found = self._search.nearest(self.narrow(rows), _NEIGHBORS)
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

    def ask(self, rows: SparseRows) -> Opinions:
        """Return what they say of rows."""
        logs = rows.sum(rows.values * self.ridge[rows.columns]) + self.intercept
        if self.neighbors is None:
            none = np.zeros((len(logs), 0))
            return Opinions(logs, none, none)
        return Opinions(logs, *self.neighbors.find(rows))

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
