"""Weights by which several guesses of a price become one, learned for the absolute error.

On each of some draws of the items, weights grow from equal ones: again and again the member is added, once
more, that brings the mean of all nearest to the true prices. What is added is counted, so weights are never
negative and sum to 1; the mean over the draws is taken. Fewer items allow fewer additions, and leave the
weights nearer to equal ones, which are hard to beat with few items.

Sources: Caruana, Niculescu-Mizil, Crew and Ksikes, Ensemble selection from libraries of models (ICML 2004),
for adding with replacement and for the draws; Clemen, International Journal of Forecasting 5 (1989), 559-583,
for equal weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .resampling import Interval, studentised_intervals, weighted_intervals

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

_DRAWS = 20
_MOST_DRAWN = 2_000  # items of a draw: more do not move the weights, and take as much longer
_FEWEST_ADDED, _MOST_ADDED = 4, 30
_ITEMS_FOR_EACH = 4  # so many items allow one addition
_SMALLEST = 1.5  # of what a member keeps that was never added to many: below it, nobody needs to ask it
_FOLDS = 5
_WIDTH = 2 * 1.96  # standard errors of a 95 % interval
_SAME = 1e-9  # of the error: a smaller gain is none
# A blend asks several members, and costs more than one: it must gain more than so many standard errors. The
# whole one of Breiman's rule (Classification and Regression Trees, 1984, 3.4.3) would leave out most of what
# blends gain on a few hundred items.
_LEAST_GAIN = 0.5


class Guesses(NamedTuple):
    """What several members guessed for items whose prices are known."""

    prices: Floats
    """Shape `(items, members)`; `nan` where a member has none."""
    truths: Floats
    """Shape `(items,)`, none of them `nan`."""
    counts: Floats
    """How much each item counts, shape `(items,)`."""
    stand_in: float
    """What counts as the price where nobody has one."""
    groups: Ints | None = None
    """A number from 0 on for each item, equal for those that err alike; None where each stands for itself."""

    def part(self, rows: npt.NDArray[np.bool_]) -> Guesses:
        """Return some of the items, without groups."""
        return Guesses(self.prices[rows], self.truths[rows], self.counts[rows], self.stand_in)

    def errors(self, guesses: Floats) -> Floats:
        """Return the absolute errors of guesses of the same items, one column or several."""
        filled = np.where(np.isnan(guesses), self.stand_in, guesses)
        errors: Floats = np.abs(filled.T - self.truths).T
        return errors


class Blend(NamedTuple):
    """How guesses become one, and how near that comes to the true prices of items it was not learned on."""

    weights: Floats
    """Of each member, at least 0, with a sum of 1."""
    in_logs: bool
    """Whether the mean is taken of log(1 + price)."""
    best: int
    """The member that comes nearest by itself."""
    error: Interval
    """Around the mean absolute error of the blend, each item guessed by weights of other items."""
    mean_error: float
    member_errors: Floats
    """The mean absolute error of each member."""
    member_intervals: list[Interval]
    gain: float
    """How much nearer the blend comes than the best member, on average; 0 or less where it does not."""
    gain_interval: Interval

    @property
    def is_member(self) -> bool:
        """Whether it is nothing but its best member, because the blend came no nearer."""
        return bool(self.weights[self.best] == 1.0)


def combine(prices: Floats, weights: Floats, *, in_logs: bool) -> Floats:
    """Return the weighted mean of each row; where a member has no price, the others' weights are scaled to 1.

    `nan` where nobody with a weight has a price.

    Args:
        prices: Shape `(items, members)`.
        weights: Shape `(members,)`.
        in_logs: Whether to take the mean of log(1 + price).
    """
    known = ~np.isnan(prices)
    values = _to_space(np.where(known, prices, 0.0), in_logs=in_logs)
    mass = known @ weights
    with np.errstate(invalid="ignore", divide="ignore"):
        means: Floats = (np.where(known, values, 0.0) @ weights) / mass
    return _from_space(means, in_logs=in_logs)


def learn_blend(guesses: Guesses, *, seed: int, rounds: int = 2_000) -> Blend:
    """Return the weights for some guesses, and what they are worth on items that they were not learned on.

    Whether means are taken of prices or of their logarithms is decided by cross-validation, and so is
    whether there is a blend at all: one that comes hardly nearer than the best member is that member.

    Args:
        guesses: Of at least two items.
        seed: Of the draws, the folds and the intervals.
        rounds: Resamples of the intervals.
    """
    folds = _divide(guesses, seed)
    tried = {in_logs: _guess_across(guesses, folds, in_logs=in_logs, seed=seed) for in_logs in (True, False)}
    means = {in_logs: _mean(guesses.errors(found), guesses.counts) for in_logs, found in tried.items()}
    in_logs = means[True] <= means[False]
    of_members = guesses.errors(guesses.prices)
    member_errors = np.average(of_members, axis=0, weights=guesses.counts)
    best = int(member_errors.argmin())
    of_blend = guesses.errors(tried[in_logs])
    gains = of_members[:, best] - of_blend
    gain, gain_interval = _mean(gains, guesses.counts), _around_mean(gains, guesses, rounds, seed)
    weights = learn_weights(guesses, in_logs=in_logs, seed=seed)
    standard_error = (gain_interval.high - gain_interval.low) / _WIDTH
    if gain <= max(_SAME * member_errors[best], _LEAST_GAIN * standard_error):
        weights = np.eye(len(member_errors))[best]
    return Blend(
        weights=weights,
        in_logs=in_logs,
        best=best,
        error=_studentise(of_blend[:, None], guesses, rounds, seed)[0],
        mean_error=means[in_logs],
        member_errors=member_errors,
        member_intervals=_studentise(of_members, guesses, rounds, seed),
        gain=gain,
        gain_interval=gain_interval,
    )


def learn_weights(guesses: Guesses, *, in_logs: bool, seed: int) -> Floats:
    """Return the weights by which the members' mean comes near the true prices."""
    count, members = guesses.prices.shape
    random = np.random.default_rng(seed)
    size = (_DRAWS, min(count, _MOST_DRAWN))
    drawn = random.choice(count, size=size, p=guesses.counts / guesses.counts.sum())
    known = ~np.isnan(guesses.prices)[drawn]
    values = np.where(known, _to_space(guesses.prices[drawn], in_logs=in_logs), 0.0)
    truths = guesses.truths[drawn][..., None]
    added = np.ones((_DRAWS, members))
    sums, masses = values.sum(axis=2), known.sum(axis=2).astype(np.float64)
    steps = max(_FEWEST_ADDED, min(_MOST_ADDED, count // _ITEMS_FOR_EACH))
    for _ in range(steps):
        with np.errstate(invalid="ignore", divide="ignore"):
            means = (sums[..., None] + values) / (masses[..., None] + known)
        guessed = _from_space(means, in_logs=in_logs)
        errors = np.abs(np.where(np.isnan(guessed), guesses.stand_in, guessed) - truths).mean(axis=1)
        chosen = errors.argmin(axis=1)
        added[np.arange(_DRAWS), chosen] += 1
        sums += np.take_along_axis(values, chosen[:, None, None], axis=2)[..., 0]
        masses += np.take_along_axis(known, chosen[:, None, None], axis=2)[..., 0]
    weights = added.mean(axis=0) / (members + steps)
    is_small = weights < min(_SMALLEST / (members + _MOST_ADDED), weights.max())
    weights = np.where(is_small, 0.0, weights)
    shares: Floats = weights / weights.sum()
    return shares


def _to_space(prices: Floats, *, in_logs: bool) -> Floats:
    return np.log1p(prices) if in_logs else prices


def _from_space(values: Floats, *, in_logs: bool) -> Floats:
    return np.expm1(values) if in_logs else values


def _divide(guesses: Guesses, seed: int) -> Ints:
    """Return the number of each item's fold; items of a group have the same."""
    groups = np.arange(len(guesses.truths)) if guesses.groups is None else guesses.groups
    units = int(groups.max()) + 1
    return (np.random.default_rng(seed).permutation(units) % min(_FOLDS, units))[groups]


def _guess_across(guesses: Guesses, folds: Ints, *, in_logs: bool, seed: int) -> Floats:
    """Return the blend's guess of each item, by weights that were learned on the items of other folds."""
    found = np.full(len(folds), np.nan)
    for fold in range(int(folds.max()) + 1):
        inside = folds == fold
        weights = learn_weights(guesses.part(~inside), in_logs=in_logs, seed=seed)
        found[inside] = combine(guesses.prices[inside], weights, in_logs=in_logs)
    return found


def _mean(values: Floats, counts: Floats) -> float:
    return float(np.average(values, weights=counts))


def _studentise(values: Floats, guesses: Guesses, rounds: int, seed: int) -> list[Interval]:
    counts = np.repeat(guesses.counts[:, None], values.shape[1], axis=1)
    return studentised_intervals(values, counts, rounds=rounds, seed=seed, groups=guesses.groups)


def _around_mean(values: Floats, guesses: Guesses, rounds: int, seed: int) -> Interval:
    def mean(weights: Floats) -> Floats:
        means: Floats = (weights @ values) / weights.sum(axis=1)
        return means

    found = weighted_intervals(
        {"mean": mean}, guesses.counts, rounds=rounds, seed=seed, groups=guesses.groups
    )
    return Interval(*found["mean"])
