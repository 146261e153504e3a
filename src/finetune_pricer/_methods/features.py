"""Text to sparse features: a fitted TF-IDF of words, characters within words, and numbers by their size.

There are up to four blocks of terms:

- `words`: words and word bigrams (two words in a row),
- `characters`: three and four characters in a row inside a word with its edges,
- `numbers`: numbers by their size, each with the word beside it, as `sized_numbers.py` says,
- `first_line`: the words and bigrams of the first line, which often is a title.

Each term is weighted by `1 + log(count)` and by how rare it is, and each block is then scaled to length 1, so
that none drowns the others. Only numpy and scipy are needed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from .sized_numbers import terms_of_numbers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float32]

WORDS = ("words", "characters")
EVERY_BLOCK = (*WORDS, "numbers", "first_line")

# Decimals stay whole: the "1.12" of "1.12 carat" says more than a "1" and a "12".
_WORD = re.compile(r"\d+(?:\.\d+)+|\w+")
_CHUNK = 2_000  # texts at a time, so that memory follows the chunk and not the collection
_CACHED = 200_000  # words whose character n-grams are kept


class _Occurrences(NamedTuple):
    """Where terms occur: the i-th occurrence is of term `terms[i]` in text `texts[i]`."""

    texts: Ints
    terms: Ints


class TextFeatures:
    """A vocabulary fitted on some texts, which turns any text into a sparse row of weights."""

    def __init__(self, blocks: Mapping[str, _Block], weights: Floats) -> None:
        self._blocks = dict(blocks)
        self._weights = weights
        self._ends = np.cumsum([0, *(block.width for block in blocks.values())])

    @classmethod
    def fit(cls, texts: Sequence[str], *, max_terms: int = 200_000, blocks: Sequence[str] = WORDS) -> Self:
        """Choose the terms worth keeping, at most `max_terms` of each kind, the most frequent first.

        A word, a bigram or a sized number must occur in two texts, and a character n-gram in three. Where
        that would leave a block empty, as with a handful of texts, one text is enough.

        Args:
            texts: What the features are fitted to.
            max_terms: Of words, of bigrams, of character n-grams, and so on.
            blocks: `WORDS` or `EVERY_BLOCK`; the first line is left out where most texts have one line.
        """
        if 2 * sum("\n" in text.strip() for text in texts) < len(texts):
            blocks = [name for name in blocks if name != "first_line"]
        fitted = {name: _KINDS[name].fit(texts, max_terms) for name in blocks}
        counts = np.concatenate([_NONE, *(counts for _, counts in fitted.values())])
        weights = np.log((1 + len(texts)) / (1 + counts)) + 1
        return cls({name: block for name, (block, _) in fitted.items()}, weights.astype(np.float32))

    @property
    def width(self) -> int:
        """How many columns a row has."""
        return len(self._weights)

    @property
    def words(self) -> int:
        """How many of the first columns are words and bigrams."""
        return self._blocks["words"].width

    def transform(self, texts: Sequence[str]) -> csr_matrix:
        """Return one row of float32 weights per text; a text of unknown words only is an empty row."""
        parts = [self._rows(chunk) for chunk in _chunks(texts)]
        lengths = np.concatenate([[0], *(np.diff(part[2]) for part in parts)])
        columns = np.concatenate([part[0] for part in parts]) if parts else np.empty(0, np.int64)
        values = np.concatenate([part[1] for part in parts]) if parts else np.empty(0, np.float32)
        return csr_matrix((values, columns, np.cumsum(lengths)), shape=(len(texts), self.width))

    def row(self, text: str) -> tuple[Ints, Floats]:
        """Return the columns and weights of one text, without the cost of a matrix."""
        columns, values, _ = self._rows([text])
        return columns, values

    def _rows(self, texts: Sequence[str]) -> tuple[Ints, Floats, Ints]:
        found = [block.occurrences(texts) for block in self._blocks.values()]
        places = [
            at.texts * self.width + (start + at.terms)
            for start, at in zip(self._ends[:-1], found, strict=True)
        ]
        codes, counts = np.unique(np.concatenate([_NONE, *places]), return_counts=True)
        rows, columns = np.divmod(codes, max(self.width, 1))
        values = (1 + np.log(counts)).astype(np.float32) * self._weights[columns]
        blocks = len(found) * rows + np.searchsorted(self._ends[1:], columns, side="right")
        norms = np.sqrt(np.bincount(blocks, weights=values**2, minlength=len(found) * len(texts)))
        pointers = np.searchsorted(rows, np.arange(len(texts) + 1))
        return columns, (values / norms[blocks]).astype(np.float32), pointers

    def state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, list[str]]]:
        """Return what `from_state` needs: arrays, and a value that JSON can hold."""
        arrays: dict[str, npt.NDArray[Any]] = {"weights": self._weights}
        arrays |= {_name_pairs(name): block.pairs for name, block in self._blocks.items()}
        return arrays, {name: list(block.ids) for name, block in self._blocks.items()}

    @classmethod
    def from_state(cls, arrays: Mapping[str, npt.NDArray[Any]], terms: Mapping[str, Sequence[str]]) -> Self:
        """Rebuild the features that `state` described."""
        blocks = {
            name: _KINDS[name](_index(found), arrays.get(_name_pairs(name), _NONE))
            for name, found in terms.items()
        }
        return cls(blocks, arrays["weights"])


def _name_pairs(block: str) -> str:
    # Models were saved before there were other blocks with pairs.
    return "pairs" if block == "words" else f"{block}_pairs"


_NONE: Ints = np.empty(0, dtype=np.int64)


class _Block:
    """Terms of one kind, numbered from 0: names, then pairs of them as sorted codes, left * names + right."""

    def __init__(self, ids: dict[str, int], pairs: Ints = _NONE) -> None:
        self.ids = ids
        self.pairs = pairs
        self.width: int = len(ids) + len(pairs)

    @classmethod
    def fit(cls, texts: Sequence[str], max_terms: int) -> tuple[Self, Ints]:
        """Return the block of the terms worth keeping, and in how many texts each occurs."""
        raise NotImplementedError

    def occurrences(self, texts: Sequence[str]) -> _Occurrences:
        """Return where the block's terms occur in some texts."""
        raise NotImplementedError


class _Words(_Block):
    """Single words, then bigrams."""

    @staticmethod
    def words_in(text: str) -> list[str]:
        return _WORD.findall(text.lower())

    @classmethod
    def fit(cls, texts: Sequence[str], max_terms: int) -> tuple[Self, Ints]:
        every = cls(_index(dict.fromkeys(word for text in texts for word in cls.words_in(text))))
        counts = _count_texts(every.occurrences, texts, every.width)
        kept = _most_frequent(counts, 2, max_terms)
        names = list(every.ids)
        single = cls(_index(names[i] for i in kept))
        distinct = [_drop_repeats(single.bigrams(chunk)) for chunk in _chunks(texts)]
        pairs, pair_counts = np.unique(np.concatenate([_NONE, *distinct]), return_counts=True)
        kept_pairs = np.flatnonzero(pair_counts >= 2)
        if len(kept_pairs) > max_terms:
            kept_pairs = np.sort(kept_pairs[np.argsort(-pair_counts[kept_pairs], kind="stable")[:max_terms]])
        return cls(single.ids, pairs[kept_pairs]), np.concatenate([counts[kept], pair_counts[kept_pairs]])

    def _positions(self, texts: Sequence[str]) -> _Occurrences:
        get = self.ids.get
        return _flatten([[get(word, -1) for word in self.words_in(text)] for text in texts])

    def bigrams(self, texts: Sequence[str], at: _Occurrences | None = None) -> _Occurrences:
        """Return the codes of all bigrams of known words."""
        at = at or self._positions(texts)
        left, right = at.terms[:-1], at.terms[1:]
        known = (left >= 0) & (right >= 0) & (at.texts[:-1] == at.texts[1:])
        return _Occurrences(at.texts[:-1][known], left[known] * len(self.ids) + right[known])

    def occurrences(self, texts: Sequence[str]) -> _Occurrences:
        at = self._positions(texts)
        known = at.terms >= 0
        if not len(self.pairs):
            return _Occurrences(at.texts[known], at.terms[known])
        pairs = self.bigrams(texts, at)
        places = np.minimum(np.searchsorted(self.pairs, pairs.terms), len(self.pairs) - 1)
        kept = self.pairs[places] == pairs.terms
        return _Occurrences(
            np.concatenate([at.texts[known], pairs.texts[kept]]),
            np.concatenate([at.terms[known], places[kept] + len(self.ids)]),
        )


class _FirstLine(_Words):
    """Words and bigrams of the first line that holds anything."""

    @staticmethod
    def words_in(text: str) -> list[str]:
        return _WORD.findall(text.lstrip().partition("\n")[0].lower())


class _Characters(_Block):
    """Character n-grams of three and four inside a word; a blank stands for each edge of the word."""

    def __init__(self, ids: dict[str, int], pairs: Ints = _NONE) -> None:
        super().__init__(ids, pairs)
        self._of_word: dict[str, Ints] = {}

    @classmethod
    def fit(cls, texts: Sequence[str], max_terms: int) -> tuple[Self, Ints]:
        distinct = dict.fromkeys(word for text in texts for word in text.lower().split())
        every = cls(_index(dict.fromkeys(ngram for word in distinct for ngram in _character_ngrams(word))))
        counts = _count_texts(every.occurrences, texts, every.width)
        kept = _most_frequent(counts, 3, max_terms)
        names = list(every.ids)
        return cls(_index(names[i] for i in kept)), counts[kept]

    def _terms(self, word: str) -> Ints:
        terms = self._of_word.get(word)
        if terms is None:
            ids = self.ids
            terms = np.array(
                [ids[ngram] for ngram in _character_ngrams(word) if ngram in ids], dtype=np.int64
            )
            if len(self._of_word) >= _CACHED:
                self._of_word.clear()
            self._of_word[word] = terms
        return terms

    def occurrences(self, texts: Sequence[str]) -> _Occurrences:
        if not self.ids:
            return _Occurrences(_NONE, _NONE)
        found = [[self._terms(word) for word in text.lower().split()] for text in texts]
        terms = np.concatenate([_NONE, *(term for words in found for term in words)])
        lengths = [sum(map(len, words)) for words in found]
        return _Occurrences(np.repeat(np.arange(len(found)), lengths), terms)


class _Numbers(_Block):
    """Numbers by their size, each with the word beside it."""

    @classmethod
    def fit(cls, texts: Sequence[str], max_terms: int) -> tuple[Self, Ints]:
        every = cls(_index(dict.fromkeys(term for text in texts for term in terms_of_numbers(text.lower()))))
        counts = _count_texts(every.occurrences, texts, every.width)
        kept = _most_frequent(counts, 2, max_terms)
        names = list(every.ids)
        return cls(_index(names[i] for i in kept)), counts[kept]

    def occurrences(self, texts: Sequence[str]) -> _Occurrences:
        ids = self.ids
        return _flatten(
            [[ids[term] for term in terms_of_numbers(text.lower()) if term in ids] for text in texts]
        )


_KINDS: dict[str, type[_Block]] = {
    "words": _Words,
    "characters": _Characters,
    "numbers": _Numbers,
    "first_line": _FirstLine,
}


def _flatten(found: Sequence[Sequence[int]]) -> _Occurrences:
    terms = np.array([term for ids in found for term in ids], dtype=np.int64)
    return _Occurrences(np.repeat(np.arange(len(found)), [len(ids) for ids in found]), terms)


def _character_ngrams(word: str) -> Iterator[str]:
    padded = f" {word} "
    for length in (3, 4):
        for start in range(max(len(padded) - length + 1, 1)):
            yield padded[start : start + length]
        if len(padded) <= length:
            break  # a short word is one n-gram, not the same one twice


def _index(terms: Any) -> dict[str, int]:
    return {term: number for number, term in enumerate(terms)}


def _chunks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(texts), _CHUNK):
        yield texts[start : start + _CHUNK]


def _drop_repeats(occurrences: _Occurrences) -> Ints:
    """Drop repeats of a term inside a text: each term is returned once for each text that holds it."""
    span = int(occurrences.terms.max(initial=0)) + 1
    codes = np.sort(occurrences.texts * span + occurrences.terms)  # faster than np.unique, which hashes
    distinct: Ints = codes[np.diff(codes, prepend=-1) != 0] % span
    return distinct


def _count_texts(occurrences: Any, texts: Sequence[str], width: int) -> Ints:
    counts = np.zeros(width, dtype=np.int64)
    for chunk in _chunks(texts):
        counts += np.bincount(_drop_repeats(occurrences(chunk)), minlength=width)
    return counts


def _most_frequent(counts: Ints, fewest: int, most: int) -> Ints:
    """Return the terms that occur in enough texts, in their order; all of them where none does."""
    kept = np.flatnonzero(counts >= fewest)
    if not len(kept):
        kept = np.arange(len(counts))
    if len(kept) > most:
        kept = np.sort(kept[np.argsort(-counts[kept], kind="stable")[:most]])
    return kept
