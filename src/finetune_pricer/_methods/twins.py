"""The twins of a text in a set: rows that say nearly the same, and those of their group.

The measure is that of `duplicates.py`, the share of common shingles, and so are the groups. Here it is exact:
one product of sparse rows counts the common shingles of all pairs, so that nothing is missed, and that two
programs find the same, whatever else is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, vstack

from .duplicates import Shingles, group_alike, group_ids, words_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Ints = npt.NDArray[np.int64]

SIMILARITY = 0.6
"""Share of common shingles from which two texts are twins, as for an audit."""
_BLOCK = 4_000_000  # pairs that are compared at a time, if all had a shingle in common
_PARTS = 8  # in which a set is compared with itself, so that hardly a pair is looked at twice


class TwinSearch:
    """A set of texts, searched for the twins of any text.

    Args:
        texts: The set's. Those that are the same but for case, spacing and punctuation are one text here.
        groups: A label for each; texts of one label belong together. Without labels, twins do, as
            `group_alike` makes groups of them.

    Examples:
        >>> texts = ["a red mug of clay, with a handle, for tea and coffee", "a brass lamp with a switch"]
        >>> search = TwinSearch(texts)
        >>> search.find_rows(["A red mug of clay with a handle: for tea, and coffee too"]).toarray()
        array([[ True, False]])
    """

    def __init__(self, texts: Sequence[str], groups: Sequence[Any] | npt.NDArray[Any] | None = None) -> None:
        words = [words_of(text) for text in texts]
        self._keys: dict[str, int] = {}
        keys = np.array(
            [
                self._keys.setdefault(_key_of(text, found), len(self._keys))
                for text, found in zip(texts, words, strict=True)
            ],
            dtype=np.int64,
        )
        first_rows = np.unique(keys, return_index=True)[1]
        self._shingles = Shingles(words[row] for row in first_rows)
        self._terms = np.unique(self._shingles.hashes)
        self._sizes = np.diff(self._shingles.offsets)
        self._shape = len(self._sizes), len(texts)
        rows = self._count_shingles(self._shingles)
        self._columns = rows.T.tocsr()
        self._twins = self._find_own_twins(rows)
        # Which rows say a text, and which rows are of a group with one that says it.
        self._said_by = _join(keys, np.arange(len(texts)), self._shape)
        labels = self._group_own()[keys] if groups is None else group_ids(groups)
        shape = (len(self._sizes), int(labels.max(initial=-1)) + 1)
        of_group = _join(labels, np.arange(len(texts)), (shape[1], len(texts)))
        self._grouped_with = (_join(keys, labels, shape) @ of_group).astype(bool)

    def find_rows(self, texts: Sequence[str]) -> csr_matrix:
        """Return the set's rows that are twins of each text, or of the group of the one most like it.

        Returns:
            Truth values, of shape `(texts, rows of the set)`. A text that stands in the set is its own twin.
        """
        words = [words_of(text) for text in texts]
        known = [self._keys.get(_key_of(text, found), -1) for text, found in zip(texts, words, strict=True)]
        places = np.array(known, dtype=np.int64)
        parts = [self._twins[places[places >= 0]]]
        nearest = places.copy()
        if (places < 0).any():
            new = Shingles((words[row] for row in np.flatnonzero(places < 0)), like=self._shingles)
            compared = list(self._compare(self._count_shingles(new), np.diff(new.offsets), self._columns, 0))
            shares = vstack(compared, format="csr")
            parts.append(shares.astype(bool))
            nearest[places < 0] = _place_of_greatest(shares)
        order = np.argsort(np.concatenate([np.flatnonzero(places >= 0), np.flatnonzero(places < 0)]))
        twins = vstack(parts, format="csr")[order]
        has_any = np.flatnonzero(nearest >= 0)
        grouped = _join(has_any, nearest[has_any], twins.shape) @ self._grouped_with
        return (twins @ self._said_by + grouped).astype(bool)

    def _group_own(self) -> Ints:
        pairs = self._twins.tocoo()
        once = pairs.row < pairs.col
        return group_alike(len(self._sizes), np.stack([pairs.row[once], pairs.col[once]], axis=1))

    def _find_own_twins(self, rows: csr_matrix) -> csr_matrix:
        """Return the twins of the set's own texts, each pair compared about once."""
        size = max(1, -(-len(self._sizes) // _PARTS))
        parts = []
        for start in range(0, len(self._sizes), size):
            later = rows[start:].T.tocsr() if start else self._columns
            compared = self._compare(rows[start : start + size], self._sizes[start:], later, start)
            part = vstack(list(compared), format="coo")
            parts.append(np.stack([part.row + start, part.col + start]))
        one, other = np.concatenate([np.zeros((2, 0), dtype=np.int64), *parts], axis=1)
        shape = (len(self._sizes), len(self._sizes))
        return _join(np.concatenate([one, other]), np.concatenate([other, one]), shape)

    def _count_shingles(self, shingles: Shingles) -> csr_matrix:
        """Return texts as rows of the set's shingles."""
        if not len(self._terms):
            return csr_matrix((len(shingles.offsets) - 1, 0), dtype=np.int32)
        places = np.minimum(np.searchsorted(self._terms, shingles.hashes), len(self._terms) - 1)
        is_known = self._terms[places] == shingles.hashes
        ends = np.concatenate([[0], np.cumsum(is_known)])[shingles.offsets]
        columns = places[is_known]
        shape = (len(shingles.offsets) - 1, len(self._terms))
        return csr_matrix((np.ones(len(columns), dtype=np.int32), columns, ends), shape=shape)

    def _compare(
        self, rows: csr_matrix, sizes: Ints, columns: csr_matrix, first: int
    ) -> Iterator[csr_matrix]:
        """Yield the share of common shingles, where that makes twins, of some texts and those from `first`.

        Args:
            rows: Some texts' shingles.
            sizes: How many shingles each of them has.
            columns: The shingles of the set's texts from `first` on, laid out by shingle.
            first: The first of the set's texts that is compared.
        """
        step = max(1, _BLOCK // max(columns.shape[1], 1))
        for start in range(0, max(rows.shape[0], 1), step):
            common = rows[start : start + step] @ columns
            own = np.repeat(sizes[start : start + step][: common.shape[0]], np.diff(common.indptr))
            # No share is greater than that of one's own shingles: most pairs are told by that alone.
            places = np.flatnonzero(common.data >= (SIMILARITY - 1e-9) * own)
            found = np.searchsorted(common.indptr, places, side="right") - 1
            columns_of = common.indices[places]
            counts = common.data[places]
            shares = counts / (own[places] + self._sizes[first + columns_of] - counts)
            is_twin = shares >= SIMILARITY
            yield csr_matrix((shares[is_twin], (found[is_twin], columns_of[is_twin])), shape=common.shape)


def _key_of(text: str, words: Sequence[str]) -> str:
    # A text of signs only has no words; it is its own key.
    return " ".join(words) or text


def _join(rows: Ints, columns: Ints, shape: tuple[int, int]) -> csr_matrix:
    """Return truth values that hold at these places."""
    joined = csr_matrix((np.ones(len(rows), dtype=np.int32), (rows, columns)), shape=shape)
    return joined.astype(bool)


def _place_of_greatest(rows: csr_matrix) -> Ints:
    """Return the column of each row's greatest value, the first of equals; -1 for an empty row."""
    found = rows.tocoo()
    order = np.lexsort((found.col, -found.data, found.row))
    firsts, places = np.unique(found.row[order], return_index=True)
    greatest = np.full(rows.shape[0], -1, dtype=np.int64)
    greatest[firsts] = found.col[order][places]
    return greatest
