"""Replies as a trie of tokens: what a model writes next, given what it has written.

Every price that a model can name is a path from the root. The probability of a token is that of all prices
whose replies go on with it, so that what is drawn, what is most likely, and what `logprobs` shows agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .learner import END, Reply, SampledToken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .learner import Sampling

    Floats = npt.NDArray[np.floating[Any]]
    Ints = npt.NDArray[np.int64]

GREEDY_BELOW = 0.01
"""Temperatures under this always take the most likely token."""


@dataclass(frozen=True, slots=True)
class _Branching:
    """A node of the trie: the tokens that may come next, and the first reply of each of their branches."""

    tokens: list[str]
    starts: Ints


class ReplyTrie:
    """A model's replies, sorted so that those which begin alike lie side by side."""

    def __init__(self, replies: Sequence[Sequence[str]]) -> None:
        order = sorted(range(len(replies)), key=lambda i: list(replies[i]))
        self._order = np.array(order, dtype=np.int64)
        self._replies = [list(replies[i]) for i in order]
        self._branchings: dict[tuple[int, int], _Branching] = {}

    def distribution(self, probabilities: Floats) -> ReplyDistribution:
        """Return the distribution in which the replies, in their given order, have these probabilities."""
        return ReplyDistribution(self, probabilities[self._order])

    def branching(self, start: int, end: int, depth: int) -> _Branching:
        """Return how the replies from `start` to `end`, which share `depth` tokens, go on."""
        found = self._branchings.get((start, depth))
        if found is None:
            following = [self._token(row, depth) for row in range(start, end)]
            firsts = [0, *(i for i in range(1, len(following)) if following[i] != following[i - 1])]
            found = _Branching([following[i] for i in firsts], np.array(firsts) + start)
            self._branchings[start, depth] = found
        return found

    def _token(self, row: int, depth: int) -> str:
        reply = self._replies[row]
        return reply[depth] if depth < len(reply) else END


class ReplyDistribution:
    """The trie with the probabilities of one prompt."""

    def __init__(self, trie: ReplyTrie, weights: Floats) -> None:
        self._trie = trie
        self._weights = weights
        self._known: dict[tuple[int, int], tuple[_Branching, Floats]] = {}

    def reply(self, sampling: Sampling) -> list[Reply]:
        """Return as many replies as asked for; each names a price in few tokens, so that none is cut here."""
        if sampling.temperature < GREEDY_BELOW:
            return [Reply(self.sample(alternatives=sampling.alternatives))] * sampling.n
        random = np.random.default_rng(None if sampling.seed is None else sampling.seed % 2**63)
        return [
            Reply(
                self.sample(
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    random=random,
                    alternatives=sampling.alternatives,
                )
            )
            for _ in range(sampling.n)
        ]

    def sample(
        self,
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
        random: np.random.Generator | None = None,
        alternatives: int = 0,
    ) -> list[SampledToken]:
        """Return one whole reply: the most likely token each time, or at a temperature a drawn one."""
        reply: list[SampledToken] = []
        start, end = 0, len(self._weights)
        while True:
            branching, chances = self._chances(start, end, len(reply))
            if random is None or temperature < GREEDY_BELOW:
                chosen = int(chances.argmax())
            else:
                chosen = _draw(chances, temperature, top_p, random)
            token = branching.tokens[chosen]
            if token == END:
                return reply
            others = _rank(branching.tokens, chances, alternatives) if alternatives else []
            reply.append(SampledToken(token, _log(chances[chosen]), others))
            last = chosen + 1 == len(branching.tokens)
            start, end = int(branching.starts[chosen]), end if last else int(branching.starts[chosen + 1])

    def _chances(self, start: int, end: int, depth: int) -> tuple[_Branching, Floats]:
        known = self._known.get((start, depth))
        if known is None:
            branching = self._trie.branching(start, end, depth)
            masses = np.add.reduceat(self._weights[start:end], branching.starts - start).astype(np.float64)
            known = self._known[start, depth] = branching, masses / masses.sum()
        return known


def _draw(chances: Floats, temperature: float, top_p: float, random: np.random.Generator) -> int:
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


def _rank(tokens: list[str], chances: Floats, count: int) -> list[tuple[str, float]]:
    order = np.argsort(-chances, kind="stable")[:count]
    return [(tokens[i], _log(float(chances[i]))) for i in order if chances[i] > 0]


def _log(chance: float) -> float:
    # The protocol's word for "so unlikely that no number is given".
    return math.log(chance) if chance > 0 else -9999.0
