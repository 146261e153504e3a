"""The nearest rows of a set by the cosine of their angle: sparse rows of text features, or dense vectors.

Queries are compared a block at a time, so that memory follows the block and not the number of queries. Equal
similarities are told apart by the row's place, so that a query finds the same rows in the same order whether
it is asked alone or among others.

Of a small set every row is compared. Of a large sparse one that would take too long: the commonest terms cost
the most, as most rows share them, and tell the least. There the other terms choose candidates, many for each
row that is wanted, and of these all terms decide. Many dense vectors are put into an index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from ..errors import MissingExtra

if TYPE_CHECKING:
    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.floating[Any]]
    Exact = npt.NDArray[np.float64]

Rows: TypeAlias = "csr_matrix | Floats"

_BLOCK = 4_000_000  # similarities that are computed at a time: 16 MB, and as much again for what is sparse
_STRIDE = 64  # columns of which only the greatest is looked at first
_NOISE = 1e-5  # by which a product of float32 may differ with what else is computed beside it
_PAIRS = 20_000  # pairs that are compared once more at a time
MOST_COMPARED = 50_000
"""Dense rows beyond which an index finds the nearest."""
_MANY = 20_000  # rows of a sparse set beyond which its commonest terms choose no candidates
_PRODUCTS = 200_000  # by which candidates are then chosen for a query, on average: about a millisecond
_CANDIDATES = 50  # for a query, and ten more for each row that is wanted
_TELLING = 0.5  # share of a query's square that the other terms must hold, or all of them choose


class Nearest(NamedTuple):
    """What a search finds; both of shape `(queries, found)`, the nearest first."""

    rows: Ints
    """Places in the set."""
    similarities: Exact
    """Cosines, from -1 to 1."""


class LeftOut(NamedTuple):
    """Pairs of a query and a row that it shall not find."""

    queries: Ints
    rows: Ints


class _Method(Protocol):
    """How one block of queries is compared with all rows."""

    @property
    def rows(self) -> Rows:
        """All rows."""
        ...

    def rank(self, queries: Rows, left_out: LeftOut, count: int) -> Nearest:
        """Return the `count` nearest rows of each query; what is left out has a similarity of `-inf`."""
        ...


class NearestRows:
    """A set of rows, searched for those nearest to others.

    Examples:
        >>> search = NearestRows(np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]))
        >>> found = search.nearest(np.array([[0.8, 0.6]]), 2)
        >>> found.rows.tolist(), found.similarities.round(2).tolist()
        ([[1, 0]], [[0.96, 0.8]])
    """

    def __init__(self, rows: Rows) -> None:
        """Take rows of length 1, or of length 0 for what is like nothing; `scale_to_unit` makes them.

        Raises:
            MissingExtra: There are so many vectors that an index is needed, and usearch is not installed.
        """
        self._count = int(rows.shape[0])
        self._method: _Method
        if isinstance(rows, np.ndarray):
            self._method = _Vectors(rows) if self._count <= MOST_COMPARED else _Graph(rows)
        else:
            self._method = _Terms(rows) if self._count <= _MANY else _RareTerms(rows)

    def __len__(self) -> int:
        return self._count

    @property
    def rows(self) -> Rows:
        """The set's rows, of which another search that finds the same is made."""
        return self._method.rows

    def nearest(self, queries: Rows, k: int, *, exclude: npt.ArrayLike | csr_matrix | None = None) -> Nearest:
        """Return for each query the `k` rows of the set that are most like it, or all where it has fewer.

        Args:
            queries: Rows of length 1 with the columns of the set's, sparse where those are.
            k: How many to find.
            exclude: What is not to be found. For each query one row, such as its own, or -1 for none: then at
                most one row fewer is found than the set has. Or truth values, sparse, of shape
                `(queries, rows)`: then what is left over where too few rows are left has a similarity of
                `-inf`.
        """
        count, mask = k, csr_matrix((int(queries.shape[0]), self._count), dtype=bool)
        if isinstance(exclude, csr_matrix):
            mask = cast("csr_matrix", exclude)
        elif exclude is not None:
            own = np.asarray(exclude, dtype=np.int64)
            known = np.flatnonzero(own >= 0)
            mask = csr_matrix((np.ones(len(known), dtype=bool), (known, own[known])), shape=mask.shape)
            count = min(k, self._count - 1)
        count = max(0, min(count, self._count))
        shape = (int(queries.shape[0]), count)
        found = Nearest(np.zeros(shape, dtype=np.int64), np.zeros(shape))
        size = max(1, _BLOCK // max(self._count, 1))
        for start in range(0, shape[0] if count else 0, size):
            part = slice(start, start + size)
            best = self._method.rank(queries[part], _read(mask[part]), count)
            found.rows[part], found.similarities[part] = best
        return found


class _Vectors:
    """Dense rows, compared by one product."""

    def __init__(self, rows: Floats) -> None:
        self._rows = np.ascontiguousarray(rows, dtype=np.float32)

    @property
    def rows(self) -> Floats:
        return self._rows

    def rank(self, queries: Floats, left_out: LeftOut, count: int) -> Nearest:
        scores = np.asarray(queries, dtype=np.float32) @ self._rows.T
        scores[left_out] = -np.inf
        found, places = np.nonzero(scores >= (_bound_of_best(scores, count) - _NOISE)[:, None])
        similarities = compare_pairs(queries, self._rows, found, places)
        similarities[scores[found, places] == -np.inf] = -np.inf
        return _choose(found, places, similarities, count)


class _Graph:
    """Dense rows in a graph of neighbors, along which a query finds nearly all of its nearest.

    It is built by one thread, so that it is the same each time.
    """

    def __init__(self, rows: Floats) -> None:
        try:
            from usearch.index import Index
        except ImportError as error:
            raise MissingExtra(
                f"more than {MOST_COMPARED:,} vectors need an index: pip install 'finetune-pricer[index]'"
            ) from error
        self._rows = np.ascontiguousarray(rows, dtype=np.float32)
        self._index: Any = Index(ndim=rows.shape[1], metric="ip", dtype="f32")
        self._index.add(np.arange(len(rows)), self._rows, threads=1)

    @property
    def rows(self) -> Floats:
        return self._rows

    def rank(self, queries: Floats, left_out: LeftOut, count: int) -> Nearest:
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        hidden = np.bincount(left_out.queries, minlength=len(queries))
        parts = []
        # A query is asked for as many rows as it needs by itself, so that it finds the same alone.
        for extra in np.unique(hidden):
            some = np.flatnonzero(hidden == extra)
            wanted = int(min(count + extra, len(self._rows)))
            keys = self._index.search(queries[some], wanted, threads=1).keys.reshape(len(some), wanted)
            parts.append(np.stack([np.repeat(some, wanted), keys.astype(np.int64).ravel()]))
        found, places = np.concatenate(parts, axis=1)
        similarities = compare_pairs(queries, self._rows, found, places)
        codes = left_out.queries * len(self._rows) + left_out.rows
        similarities[np.isin(found * len(self._rows) + places, codes)] = -np.inf
        return _choose(found, places, similarities, count)

    def __getstate__(self) -> dict[str, Any]:
        return {"rows": self._rows, "index": bytes(self._index.save())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        from usearch.index import Index

        self._rows = state["rows"]
        self._index = Index.restore(state["index"])


class _Terms:
    """Sparse rows, laid out by terms: a query looks at those of its own only."""

    def __init__(self, rows: csr_matrix) -> None:
        self._columns = rows.astype(np.float32).T.tocsr()

    @property
    def rows(self) -> csr_matrix:
        return self._columns.T.tocsr()

    def rank(self, queries: csr_matrix, left_out: LeftOut, count: int) -> Nearest:
        scores = (queries.astype(np.float32) @ self._columns).toarray()
        scores[left_out] = -np.inf
        found, places = np.nonzero(scores >= _bound_of_best(scores, count)[:, None])
        return _choose(found, places, scores[found, places].astype(np.float64), count)


class _RareTerms:
    """Sparse rows of which all but the commonest terms choose candidates, and all terms decide."""

    def __init__(self, rows: csr_matrix) -> None:
        self._rows = rows.astype(np.float32)
        self._by_all = _Terms(rows)
        counts = np.bincount(rows.indices, minlength=rows.shape[1]).astype(np.float64)
        order = np.argsort(counts, kind="stable")
        # A text of the set meets a term as often as the term stands in texts, and then all of these.
        products = np.cumsum(counts[order] ** 2) / rows.shape[0]
        self._chosen = np.sort(order[: np.searchsorted(products, _PRODUCTS, side="right")])
        self._by_chosen = _Terms(rows[:, self._chosen].tocsr())

    @property
    def rows(self) -> csr_matrix:
        return self._rows

    def rank(self, queries: csr_matrix, left_out: LeftOut, count: int) -> Nearest:
        telling = queries[:, self._chosen].tocsr()
        is_told = np.asarray(telling.multiply(telling).sum(axis=1)).ravel() >= _TELLING
        wanted = max(count, min(10 * count + _CANDIDATES, self._rows.shape[0]))
        found = Nearest(np.zeros((len(is_told), count), dtype=np.int64), np.zeros((len(is_told), count)))
        for told in (True, False):
            places = np.flatnonzero(is_told == told)
            if not len(places):
                continue
            hidden = _choose_queries(left_out, places)
            if told:
                candidates = self._by_chosen.rank(telling[places], hidden, wanted)
                best = self._decide(queries[places], candidates)
            else:
                best = self._by_all.rank(queries[places], hidden, count)
            found.rows[places], found.similarities[places] = (
                best.rows[:, :count],
                best.similarities[:, :count],
            )
        return found

    def _decide(self, queries: csr_matrix, candidates: Nearest) -> Nearest:
        """Return candidates in the order in which all terms have them."""
        found = np.repeat(np.arange(len(candidates.rows)), candidates.rows.shape[1])
        places = candidates.rows.ravel()
        similarities = compare_pairs(queries, self._rows, found, places)
        similarities[candidates.similarities.ravel() == -np.inf] = -np.inf
        return _choose(found, places, similarities, candidates.rows.shape[1])


def compare_pairs(queries: Rows, rows: Rows, found: Ints, places: Ints) -> Exact:
    """Return the product of pairs of a query and a row, each by itself and without its last digits' noise."""
    parts = [np.zeros(0)]
    for start in range(0, len(found), _PAIRS):
        one, other = queries[found[start : start + _PAIRS]], rows[places[start : start + _PAIRS]]
        if isinstance(one, np.ndarray):
            parts.append((one.astype(np.float64) * other).sum(axis=1))
        else:
            products = one.astype(np.float32).multiply(other).sum(axis=1)
            parts.append(np.asarray(products, dtype=np.float64).ravel())
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


def _read(mask: csr_matrix) -> LeftOut:
    pairs = mask.tocoo()
    return LeftOut(pairs.row[pairs.data], pairs.col[pairs.data])


def _choose_queries(left_out: LeftOut, places: Ints) -> LeftOut:
    """Return what is left out of the queries at these places, which are then counted from 0."""
    at = np.minimum(np.searchsorted(places, left_out.queries), len(places) - 1)
    kept = places[at] == left_out.queries
    return LeftOut(at[kept], left_out.rows[kept])


def _choose(found: Ints, places: Ints, similarities: Exact, count: int) -> Nearest:
    """Return the best `count` of pairs of a query and a place, of which each query has at least as many."""
    order = np.lexsort((places, -similarities, found))
    found, places, similarities = found[order], places[order], similarities[order]
    is_best = np.arange(len(found)) - np.searchsorted(found, found) < count
    return Nearest(
        places[is_best].astype(np.int64).reshape(-1, count), similarities[is_best].reshape(-1, count)
    )


def _bound_of_best(scores: Floats, count: int) -> Floats:
    """Return for each row a number that at least its `count` best reach, and few others.

    The best of each stride of columns are looked at, so that no row is sorted as a whole: `count` strides
    hold a value at least as great as the `count`-th best of them.
    """
    height, width = scores.shape
    strides = width // _STRIDE
    if strides >= count:
        scores = scores[:, : strides * _STRIDE].reshape(height, strides, _STRIDE).max(axis=2)
    place = scores.shape[1] - count
    return np.asarray(np.partition(scores, place, axis=1)[:, place])
