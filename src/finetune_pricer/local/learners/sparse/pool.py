"""The pool: one distribution over price bins, made of what the network and its companions say.

How wide each guess is, how much it counts, and whether guesses are mixed (a linear pool) or multiplied (a
logarithmic one): all that is chosen so that the true bins of held-out examples are the likeliest. Both pools:
Genest and Zidek, Statistical Science 1 (1986), 114-135.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import ndtr

from ...._methods.network import softmax
from .price_points import SPREADS, USUAL_SPREAD, find_best_spread, widen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...._methods.network import Floats, Ints
    from .companions import Opinions

_WIDTHS = (*SPREADS[1:], 1.0)
_LEAST = 1e-6  # of a bin, so that no member rules out what others hold possible
_NEGLIGIBLE = 0.02  # a member that weighs less is left out
_TELLING = 0.005  # by which the log of the true bin's probability must rise
_FAR = 0.5  # how far a weight lies from a third before anything is measured: a standard deviation
_MOST = 2.0  # what a member of a logarithmic pool may weigh
_ROUNDS = 60


class Pool(NamedTuple):
    """How the guesses are put together, in numbers only; widths are in units of log(1 + price)."""

    network: float = 1.0
    """Its weight."""
    ridge: float = 0.0
    neighbors: float = 0.0
    is_logarithmic: float = 0.0
    """1 where guesses are multiplied, else 0."""
    network_width: float = USUAL_SPREAD
    """How far the network's guess is widened."""
    ridge_width: float = 1.0
    """The standard deviation around the regression's price."""
    neighbors_width: float = 1.0
    """The same around each neighbour's price."""
    width: float = 0.0
    """The usual standard deviation of what comes out."""

    @property
    def is_alone(self) -> bool:
        """Whether the network speaks alone."""
        return not self.ridge and not self.neighbors

    def combine(self, network: Floats, opinions: Opinions, edges: Floats) -> Floats:
        """Return rows of bin probabilities: the network's, and what the companions say of the same rows."""
        weights, members = [self.network], [widen(network, edges, self.network_width)]
        if self.ridge:
            weights.append(self.ridge)
            members.append(_spread_ridge(opinions, edges, self.ridge_width))
        if self.neighbors:
            weights.append(self.neighbors)
            members.append(_spread_neighbors(opinions, edges, self.neighbors_width))
        return _mix(members, weights) if not self.is_logarithmic else _multiply(members, weights)


class PoolChoice:
    """Chooses pools on the same held-out rows, for one network after another."""

    def __init__(self, opinions: Opinions, edges: Floats, bins: Ints) -> None:
        self._opinions, self._edges, self._bins = opinions, edges, bins
        self._rows = np.arange(len(bins))
        self._ridge_width, ridge = self._find_width(_spread_ridge)
        self._companions = [ridge]
        self._neighbors_width = 1.0
        if opinions.neighbors.shape[1]:
            self._neighbors_width, neighbors = self._find_width(_spread_neighbors)
            self._companions.append(neighbors)

    def choose(self, network: Floats) -> Pool:
        """Return the pool under which the true bins are the least surprising, given the network's rows."""
        spread = find_best_spread(network, self._edges, self._bins)
        members = [widen(network, self._edges, spread), *self._companions]
        surprise, is_logarithmic, weights = self._weigh(members)
        if len(members) > 2:
            # Neighbours take the most time to ask, so they must tell something.
            without = self._weigh(members[:2])
            if without[0] < surprise + _TELLING:
                _, is_logarithmic, weights = without
        kept = [float(weight) if weight >= _NEGLIGIBLE else 0.0 for weight in [*weights, 0.0]]
        pool = Pool(
            network=kept[0],
            ridge=kept[1],
            neighbors=kept[2],
            is_logarithmic=float(is_logarithmic),
            network_width=spread,
            ridge_width=self._ridge_width,
            neighbors_width=self._neighbors_width,
        )
        if pool.is_alone:
            return Pool(network_width=spread)
        return pool._replace(width=_width(pool.combine(network, self._opinions, self._edges), self._edges))

    def _weigh(self, members: Sequence[Floats]) -> tuple[float, bool, Floats]:
        """Return how surprising the better of both pools is, whether it multiplies, and its weights."""
        linear, logarithmic = self._weigh_linear(members), self._weigh_logarithmic(members)
        mixed = self._surprise(_mix(members, linear))
        multiplied = self._surprise(_multiply(members, logarithmic))
        return (multiplied, True, logarithmic) if multiplied < mixed else (mixed, False, linear)

    def _find_width(self, spread_out: Callable[[Opinions, Floats, float], Floats]) -> tuple[float, Floats]:
        """Return the width under which a companion's guess is the least surprised, and that guess."""
        guesses = [(width, spread_out(self._opinions, self._edges, width)) for width in _WIDTHS]
        return min(guesses, key=lambda guess: self._surprise(guess[1]))

    def _surprise(self, probabilities: Floats) -> float:
        return float(-np.log(probabilities[self._rows, self._bins] + _LEAST).mean())

    def _weigh_linear(self, members: Sequence[Floats]) -> Floats:
        """Return the likeliest weights of a mixture, by expectation and maximisation."""
        likelihoods = np.stack([member[self._rows, self._bins] for member in members]) + _LEAST
        weights = np.full((len(members), 1), 1 / len(members))
        for _ in range(_ROUNDS):
            shares = weights * likelihoods
            weights = (shares / shares.sum(axis=0)).mean(axis=1, keepdims=True)
        return np.asarray(weights[:, 0])

    def _weigh_logarithmic(self, members: Sequence[Floats]) -> Floats:
        """Return the likeliest exponents of a product, by its slope; few held-out rows move them less."""
        logs = np.stack([np.log(member + _LEAST) for member in members])
        true = logs[:, self._rows, self._bins].mean(axis=1)
        stiffness, middle = 1 / (len(self._bins) * _FAR**2), 1 / len(members)

        def judge(weights: Floats) -> tuple[float, Floats]:
            scores = np.tensordot(weights, logs, 1)
            highest = scores.max(axis=1, keepdims=True)
            powers = np.exp(scores - highest)
            sums = powers.sum(axis=1, keepdims=True)
            surprise = float((np.log(sums) + highest).mean() - weights @ true)
            slope = np.einsum("mrb,rb->m", logs, powers / sums) / len(self._bins) - true
            away = weights - middle
            return surprise + stiffness * float(away @ away) / 2, slope + stiffness * away

        start, bounds = np.full(len(members), middle), [(0.0, _MOST)] * len(members)
        return np.asarray(minimize(judge, start, jac=True, bounds=bounds, method="L-BFGS-B").x)


def _spread_ridge(opinions: Opinions, edges: Floats, width: float) -> Floats:
    return _bell(opinions.ridge, edges, width)


def _spread_neighbors(opinions: Opinions, edges: Floats, width: float) -> Floats:
    bells = _bell(opinions.neighbors, edges, width)
    return np.asarray(np.matmul(opinions.similarities[:, None, :], bells)[:, 0])


def _bell(logs: Floats, edges: Floats, width: float) -> Floats:
    """Return the share of each bin in a normal distribution around each price; the outer bins have no end."""
    below = ndtr((edges[1:-1] - logs[..., None]) / width)
    return np.diff(below, axis=-1, prepend=0.0, append=1.0)


def _mix(members: Sequence[Floats], weights: Sequence[float] | Floats) -> Floats:
    return np.asarray(np.tensordot(np.asarray(weights) / np.sum(weights), np.stack(members), 1))


def _multiply(members: Sequence[Floats], weights: Sequence[float] | Floats) -> Floats:
    return softmax(np.tensordot(np.asarray(weights), np.log(np.stack(members) + _LEAST), 1))


def _width(probabilities: Floats, edges: Floats) -> float:
    """Return the usual standard deviation of rows of bin probabilities."""
    centres = (edges[1:] + edges[:-1]) / 2
    means = probabilities @ centres
    return float(np.median(np.sqrt(np.maximum(probabilities @ centres**2 - means**2, 0.0))))
