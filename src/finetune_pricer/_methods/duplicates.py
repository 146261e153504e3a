"""Duplicates: texts that are the same but for case, spacing and punctuation, or nearly the same.

Near-duplicates are found in three steps. A text becomes the set of its shingles, three consecutive words
each; in scripts that write no spaces between words, three consecutive characters. MinHash and
locality-sensitive hashing (Broder 1997; Indyk and Motwani 1998) choose candidate pairs without comparing all.
The exact Jaccard similarity of their shingles decides.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

from .._lazy import compile_late
from .._numbers import read_number
from ..errors import DataError, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Hashes = npt.NDArray[np.uint64]

# Thai, Lao, Burmese, Khmer, kana and Chinese characters: no spaces stand between the words of their scripts.
_ALONE = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u1000-\u1049\u1780-\u17d3"
    "\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_MARKS = "\u0300-\u036f\u0900-\u0963\u0966-\u0dff"  # accents; the scripts of India, whose vowels are marks
# Of ASCII, what belongs to words, in lower case, and a space for all else: much faster than a pattern.
_ASCII = "".join(sign.lower() if (sign := chr(code)).isalnum() or sign == "_" else " " for code in range(128))
_WORD_OR_CHARACTER = compile_late(f"[{_ALONE}]|(?:[^\\W{_ALONE}]|[{_MARKS}])+")
_LONE = compile_late(f"[{_ALONE}]")
_SHINGLE = 3  # words
# 32 bands of 4: a pair that shares 60 % of its shingles becomes a candidate with a probability of 98.8 %.
_BANDS, _ROWS = 32, 4
_SLACK = 0.15  # 3.5 standard deviations of the estimate by 128 hashes
_CROWD = 30  # rows in one bucket beyond which only adjacent ones are compared
_BATCH = 200_000  # candidates that are estimated at a time
_MULTIPLIERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)  # odd, with well mixed bits


def words_of(text: str) -> list[str]:
    """Return a text's words in the form in which they are compared, without case and punctuation.

    Of scripts that write no spaces between words, each character counts as a word.
    """
    if text.isascii():
        return text.translate(_ASCII).split()
    return _WORD_OR_CHARACTER.findall(unicodedata.normalize("NFKC", text).casefold())


def space_out(text: str) -> str:
    """Return a text with spaces around each character of scripts that write none between words."""
    return text if text.isascii() else _LONE.sub(r" \g<0> ", text)


def group_ids(labels: Sequence[Any] | npt.NDArray[Any]) -> Ints:
    """Return a number for each label, equal for equal labels, in the order of their first appearance."""
    import numpy as np

    numbers: dict[Any, int] = {}
    values = labels.tolist() if isinstance(labels, np.ndarray) else labels
    return np.array([numbers.setdefault(label, len(numbers)) for label in values], dtype=np.int64)


class Shingles:
    """The sets of three consecutive words of each text, as sorted hashes in one flat array.

    Args:
        texts: The words of each.
        like: Those of other texts: equal shingles then have equal hashes here and there.
    """

    def __init__(self, texts: Iterable[Sequence[str]], *, like: Shingles | None = None) -> None:
        import numpy as np

        multipliers = np.array(_MULTIPLIERS, dtype=np.uint64)
        known: dict[str, int] = {} if like is None else like.numbers
        numbers: dict[str, int] = {}
        flat: list[int] = []
        lengths: list[int] = []
        for words in texts:
            found = [
                known.get(word) or numbers.setdefault(word, len(known) + len(numbers) + 1) for word in words
            ]
            found += [0] * (_SHINGLE - len(found))  # a text of one or two words is one shingle
            flat += found
            lengths.append(len(found))
        ends = np.cumsum(np.array(lengths, dtype=np.int64))
        starts = ends - np.array(lengths, dtype=np.int64)
        words_flat = np.array(flat, dtype=np.uint64)
        mixed = np.zeros(max(len(words_flat) - _SHINGLE + 1, 0), dtype=np.uint64)
        for place in range(_SHINGLE):
            mixed = (mixed ^ (words_flat[place : place + len(mixed)] * multipliers[place])) * multipliers[0]
            mixed ^= mixed >> np.uint64(29)
        pieces = [
            np.unique(mixed[start : end - _SHINGLE + 1]) for start, end in zip(starts, ends, strict=True)
        ]
        self.offsets = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]).astype(np.int64)
        self.hashes: Hashes = np.concatenate([np.zeros(0, dtype=np.uint64), *pieces])
        self.numbers: dict[str, int] = numbers
        """A number for each word that was met first here."""

    def jaccard(self, first: int, second: int) -> float:
        """Return the exact share of common shingles of two texts."""
        a, b = self._of(first), self._of(second)
        common = len(a & b)
        return common / (len(a) + len(b) - common)

    def _of(self, row: int) -> set[int]:
        return set(self.hashes[self.offsets[row] : self.offsets[row + 1]].tolist())


def near_pairs(shingles: Shingles, similarity: float) -> Iterator[tuple[int, int, float]]:
    """Yield pairs of rows whose exact Jaccard similarity is at least `similarity`, and that similarity.

    About one pair in a hundred with a similarity of exactly 0.6 is missed, and fewer above it, as the
    candidates are chosen by hashes. Where many rows share one bucket, each is compared with the rows before
    and after it and with the first one only: enough to group them.

    Raises:
        MissingExtra: Without the extra `audit`.
        DataError: The similarity is not between 0.4 and 1.
    """
    share = read_number(similarity)
    if share is None or not 0.4 <= share <= 1:
        raise DataError(
            f"similarity must be from 0.4 to 1, not {similarity!r}; None leaves near-duplicates out"
        )
    signatures = _signatures(shingles)
    for part in _candidates(signatures):
        alike = (signatures[part[:, 0]] == signatures[part[:, 1]]).mean(axis=1)
        for first, second in part[alike >= share - _SLACK].tolist():
            exact = shingles.jaccard(first, second)
            if exact >= share:
                yield first, second, exact


def _signatures(shingles: Shingles) -> npt.NDArray[np.uint32]:
    import numpy as np

    try:
        from rensa import RMinHash
    except ImportError as error:
        raise MissingExtra(
            "finding near-duplicates needs an extra: pip install 'finetune-pricer[audit]'; or similarity=None"
        ) from error
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        shingles.hashes, shingles.offsets.astype(np.uint64), num_perm=_BANDS * _ROWS, seed=42
    )
    return np.array(matrix.to_rows(), dtype=np.uint32).reshape(-1, _BANDS * _ROWS)


def _candidates(signatures: npt.NDArray[np.uint32]) -> Iterator[Ints]:
    """Yield arrays of candidate pairs, each pair once, its smaller row first."""
    import numpy as np

    count, codes_of_bands = len(signatures), [np.zeros(0, dtype=np.int64)]
    for band in range(_BANDS):
        part = np.ascontiguousarray(signatures[:, band * _ROWS : (band + 1) * _ROWS])
        keys = part.view(np.dtype((np.void, part.dtype.itemsize * _ROWS))).ravel()
        _, buckets = np.unique(keys, return_inverse=True)
        pairs = _pairs_within(buckets.astype(np.int64))
        # A pair as one number, its smaller row times the count plus its larger: sorted fast, repeats dropped.
        codes_of_bands.append(pairs[:, 0] * count + pairs[:, 1])
    codes = np.sort(np.concatenate(codes_of_bands))
    codes = codes[np.diff(codes, prepend=-1) != 0]
    for start in range(0, len(codes), _BATCH):
        batch = codes[start : start + _BATCH]
        yield np.stack([batch // count, batch % count], axis=1)


def _pairs_within(buckets: Ints) -> Ints:
    """Return the pairs of rows that share a bucket; in a crowded one, neighbours, and all with the first."""
    import numpy as np

    order = np.argsort(buckets, kind="stable")
    sizes = np.bincount(buckets)
    pairs: list[Ints] = [np.zeros((0, 2), dtype=np.int64)]
    starts = np.cumsum(sizes) - sizes
    for bucket in np.flatnonzero(sizes > 1):
        rows = order[starts[bucket] : starts[bucket] + sizes[bucket]]
        if len(rows) == 2:
            pairs.append(rows.reshape(1, 2))
        elif len(rows) <= _CROWD:
            first, second = np.triu_indices(len(rows), 1)
            pairs.append(np.stack([rows[first], rows[second]], axis=1))
        else:
            pairs.append(np.stack([rows[:-1], rows[1:]], axis=1))
            pairs.append(np.stack([np.full(len(rows) - 2, rows[0]), rows[2:]], axis=1))
    return np.concatenate(pairs)


def group_alike(count: int, pairs: Iterable[tuple[int, int]] | Ints) -> Ints:
    """Return a number for each of `count` rows, equal for rows that are alike: the smallest row of the group.

    The row with the most pairs makes a group with all rows that pair with it, then the next of those that are
    left, and so on. So every row of a group is alike to one and the same row, and rows are not chained: where
    A is like B, B like C, and C like D, A and D need have nothing in common, and all texts that were written
    from one template would be one group. The price is that a pair may be parted, C from B here.

    Source: star clusters, Aslam, Pelekhov and Rus, Journal of Graph Algorithms and Applications 8 (2004),
    95-129.
    """
    import numpy as np

    found = pairs if isinstance(pairs, np.ndarray) else np.array(list(pairs), dtype=np.int64)
    first, second = found.reshape(-1, 2).astype(np.int64).T
    # Both ways, each pair once, in the order of the rows.
    codes = np.unique(np.concatenate([first * count + second, second * count + first]))
    rows, near = codes // max(count, 1), codes % max(count, 1)
    ends = np.searchsorted(rows, np.arange(count + 1))
    groups, is_left = np.arange(count, dtype=np.int64), np.ones(count, dtype=bool)
    for row in np.argsort(ends[:-1] - ends[1:], kind="stable").tolist():
        others = near[ends[row] : ends[row + 1]]
        if not len(others):
            break
        if is_left[row]:
            members = np.append(others[is_left[others]], row)
            groups[members] = members.min()
            is_left[members] = False
    return groups


def find_twin_groups(texts: Sequence[str], similarity: float = 0.6) -> Ints:
    """Return a number for each text, equal for near-twins, as `group_alike` makes groups.

    Texts that are the same but for case, spacing and punctuation are always together. Without the extra
    `audit` those are all that is found.
    """
    words = [words_of(text) for text in texts]
    # A text of signs only has no words; it is its own key.
    keys = group_ids([" ".join(found) or text for found, text in zip(words, texts, strict=True)])
    firsts = {int(key): row for row, key in reversed(list(enumerate(keys)))}
    rows = sorted(firsts.values())
    try:
        pairs = [
            (one, other) for one, other, _ in near_pairs(Shingles(words[row] for row in rows), similarity)
        ]
    except MissingExtra:
        pairs = []
    groups = group_alike(len(rows), pairs)
    return group_ids(groups[keys])
