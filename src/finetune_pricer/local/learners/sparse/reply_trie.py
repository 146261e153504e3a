"""Replies as a tree of tokens: what a model says next, given what it has said.

Every price that a model can name is a path from the root. The probability of a token is that of all prices
whose replies go on with it, so that what is drawn, what is most likely and what `logprobs` shows agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    Floats = npt.NDArray[np.floating[Any]]
    Ints = npt.NDArray[np.int64]

END = "<|end|>"
"""Stands for the end of the reply where an alternative to it was to say more."""
GREEDY_BELOW = 0.01
"""Temperatures under this always take the most likely token."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """One token of a reply, how likely it was, and the likeliest tokens in its place, most likely first."""

    token: str
    logprob: float
    instead: list[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the tree parts: the tokens that may come next, and the first reply of each of their branches."""

    tokens: list[str]
    starts: Ints


class ReplyTree:
    """A model's replies, sorted so that those which begin alike lie side by side."""

    def __init__(self, replies: Sequence[Sequence[str]]) -> None:
        self._order = np.array(sorted(range(len(replies)), key=lambda i: list(replies[i])), dtype=np.int64)
        self._replies = [list(replies[i]) for i in self._order]
        self._places: dict[tuple[int, int], _Place] = {}

    def talk(self, probabilities: Floats) -> Talk:
        """Return what can be said under these probabilities of the replies, in the order they were given."""
        return Talk(self, probabilities[self._order])

    def place(self, start: int, end: int, depth: int) -> _Place:
        """Return how the replies from `start` to `end`, which share `depth` tokens, go on."""
        found = self._places.get((start, depth))
        if found is None:
            following = [self._next(row, depth) for row in range(start, end)]
            firsts = [0, *(i for i in range(1, len(following)) if following[i] != following[i - 1])]
            found = _Place([following[i] for i in firsts], np.array(firsts) + start)
            self._places[start, depth] = found
        return found

    def _next(self, row: int, depth: int) -> str:
        reply = self._replies[row]
        return reply[depth] if depth < len(reply) else END


class Talk:
    """The tree with the probabilities of one prompt."""

    def __init__(self, tree: ReplyTree, weights: Floats) -> None:
        self._tree = tree
        self._weights = weights
        self._known: dict[tuple[int, int], tuple[_Place, Floats]] = {}

    def say(
        self,
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
        random: np.random.Generator | None = None,
        alternatives: int = 0,
    ) -> list[Spoken]:
        """Return one whole reply: the most likely token each time, or at a temperature a drawn one."""
        said: list[Spoken] = []
        start, end = 0, len(self._weights)
        while True:
            place, chances = self._chances(start, end, len(said))
            if random is None or temperature < GREEDY_BELOW:
                chosen = int(chances.argmax())
            else:
                chosen = _drawn(chances, temperature, top_p, random)
            token = place.tokens[chosen]
            if token == END:
                return said
            instead = _likeliest(place.tokens, chances, alternatives) if alternatives else []
            said.append(Spoken(token, _log(chances[chosen]), instead))
            last = chosen + 1 == len(place.tokens)
            start, end = int(place.starts[chosen]), end if last else int(place.starts[chosen + 1])

    def _chances(self, start: int, end: int, depth: int) -> tuple[_Place, Floats]:
        known = self._known.get((start, depth))
        if known is None:
            place = self._tree.place(start, end, depth)
            masses = np.add.reduceat(self._weights[start:end], place.starts - start).astype(np.float64)
            known = self._known[start, depth] = place, masses / masses.sum()
        return known


def _drawn(chances: Floats, temperature: float, top_p: float, random: np.random.Generator) -> int:
    if len(chances) == 1:
        return 0
    if temperature != 1.0:
        chances = (chances / chances.max()) ** (1 / temperature)
    if top_p < 1.0:
        order = np.argsort(-chances, kind="stable")
        before = np.cumsum(chances[order]) - chances[order]
        kept = order[: max(int((before < top_p * chances.sum()).sum()), 1)]
        chances = np.where(np.isin(np.arange(len(chances)), kept), chances, 0.0)
    heights = np.cumsum(chances)
    return min(int(np.searchsorted(heights, random.random() * heights[-1], side="right")), len(chances) - 1)


def _likeliest(tokens: list[str], chances: Floats, count: int) -> list[tuple[str, float]]:
    order = np.argsort(-chances, kind="stable")[:count]
    return [(tokens[i], _log(chances[i])) for i in order if chances[i] > 0]


def _log(chance: float) -> float:
    # The protocol's word for "so unlikely that no number is given".
    return math.log(chance) if chance > 0 else -9999.0
