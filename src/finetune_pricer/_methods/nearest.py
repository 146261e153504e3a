"""The nearest rows of a set by the cosine of their angle: sparse rows of text features, or dense vectors.

All pairs are compared, a block of queries at a time, so that memory follows the block and not the number of
queries. Equal similarities are told apart by the row's place, so that a query finds the same rows in the same
order whether it is asked alone or among others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, issparse

if TYPE_CHECKING:
    from collections.abc import Iterator

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.floating[Any]]

Rows: TypeAlias = "csr_matrix | Floats"

_BLOCK = 4_000_000  # similarities that are computed at a time: 16 MB, and as much again for what is sparse
_STRIDE = 64  # columns of which only the greatest is looked at first
_NOISE = 1e-5  # by which a product of float32 may differ with what else is computed beside it
_PAIRS = 20_000  # pairs that are compared once more at a time


class Nearest(NamedTuple):
    """What `NearestRows.nearest` finds; both of shape `(queries, found)`, the nearest first."""

    rows: Ints
    """Places in the set."""
    similarities: npt.NDArray[np.float64]
    """Cosines, from -1 to 1."""


class NearestRows:
    """A set of rows, searched for those nearest to others.

    >>> search = NearestRows(np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]))
    >>> search.nearest(np.array([[0.8, 0.6]]), 2)
    Nearest(rows=array([[1, 0]]), similarities=array([[0.96, 0.8 ]]))
    """

    def __init__(self, rows: Rows) -> None:
        """Take rows of length 1, or of length 0 for what is like nothing; `scale_to_unit` makes them."""
        self._is_sparse = issparse(rows)
        if isinstance(rows, np.ndarray):
            self._rows = np.ascontiguousarray(rows, dtype=np.float32)
        else:
            # Laid out by terms, of which a query then looks at its own only.
            self._columns = rows.astype(np.float32).T.tocsr()
        self._count = int(rows.shape[0])

    def __len__(self) -> int:
        return self._count

    @property
    def rows(self) -> Rows:
        """The set's rows, of which another search that finds the same is made."""
        return self._columns.T.tocsr() if self._is_sparse else self._rows

    def nearest(self, queries: Rows, k: int, *, exclude: npt.ArrayLike | None = None) -> Nearest:
        """Return for each query the `k` rows of the set that are most like it, or all where it has fewer.

        Args:
            queries: Rows of length 1 with the columns of the set's, sparse where those are.
            k: How many to find.
            exclude: For each query the one row that it shall not find, such as its own; -1 for none. With
                it, at most one row fewer is found than the set has.
        """
        places = None if exclude is None else np.asarray(exclude, dtype=np.int64)
        count = min(k, self._count - (places is not None))
        parts = [
            self._choose(queries[start:end], scores, count)
            for start, end, scores in self._score_blocks(queries, places)
        ]
        if count < 1 or not parts:
            empty = (queries.shape[0], max(count, 0))
            return Nearest(np.zeros(empty, dtype=np.int64), np.zeros(empty))
        rows, similarities = zip(*parts, strict=True)
        return Nearest(np.concatenate(rows), np.concatenate(similarities))

    def _score_blocks(self, queries: Rows, exclude: Ints | None) -> Iterator[tuple[int, int, Floats]]:
        size = max(1, _BLOCK // max(self._count, 1))
        for start in range(0, queries.shape[0], size):
            block = queries[start : start + size]
            if self._is_sparse:
                scores = (block.astype(np.float32) @ self._columns).toarray()
            else:
                scores = np.asarray(block, dtype=np.float32) @ self._rows.T
            end = start + scores.shape[0]
            if exclude is not None:
                own = exclude[start:end]
                known = np.flatnonzero(own >= 0)
                scores[known, own[known]] = -np.inf
            yield start, end, scores

    def _choose(self, queries: Rows, scores: Floats, count: int) -> tuple[Ints, npt.NDArray[np.float64]]:
        """Return the places and similarities of each query's `count` nearest rows."""
        if count < 1:
            shape = (scores.shape[0], 0)
            return np.zeros(shape, dtype=np.int64), np.zeros(shape)
        least = _bound_of_best(scores, count)
        if not self._is_sparse:
            least = least - _NOISE
        found, places = np.nonzero(scores >= least[:, None])
        similarities = scores[found, places].astype(np.float64)
        if not self._is_sparse:
            similarities = self._compare(queries, found, places)
        order = np.lexsort((places, -similarities, found))
        found, places, similarities = found[order], places[order], similarities[order]
        rank = np.arange(len(found)) - np.searchsorted(found, found)
        best = rank < count
        shape = (scores.shape[0], count)
        return places[best].astype(np.int64).reshape(shape), similarities[best].reshape(shape)

    def _compare(self, queries: Floats, found: Ints, places: Ints) -> npt.NDArray[np.float64]:
        """Return the similarity of pairs; each by itself, and without the noise of its last digits."""
        parts = [np.zeros(0)]
        for start in range(0, len(found), _PAIRS):
            one = np.asarray(queries[found[start : start + _PAIRS]], dtype=np.float64)
            other = self._rows[places[start : start + _PAIRS]].astype(np.float64)
            parts.append((one * other).sum(axis=1))
        return np.concatenate(parts).round(9)


def scale_to_unit(rows: Rows) -> Rows:
    """Return rows that point the same way and have length 1; what is empty or zero stays as it is."""
    if isinstance(rows, np.ndarray):
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.divide(rows, np.where(lengths > 0, lengths, 1.0))
    squares = np.asarray(rows.multiply(rows).sum(axis=1), dtype=np.float64).ravel()
    lengths = np.sqrt(np.where(squares > 0, squares, 1.0))
    values = (rows.data / np.repeat(lengths, np.diff(rows.indptr))).astype(rows.dtype)
    return csr_matrix((values, rows.indices, rows.indptr), shape=rows.shape)


def _bound_of_best(scores: Floats, count: int) -> Floats:
    """Return for each row a number that at least its `count` best reach, and few others.

    The best of each stride of columns are looked at, so that no row is sorted as a whole: `count` strides
    hold a value at least as great as the `count`-th best of them.
    """
    height, width = scores.shape
    strides = width // _STRIDE
    if strides >= count:
        scores = scores[:, : strides * _STRIDE].reshape(height, strides, _STRIDE).max(axis=2)
    kept: Floats = np.partition(scores, scores.shape[1] - count, axis=1)[:, scores.shape[1] - count]
    return kept
