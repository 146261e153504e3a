"""Drawing items again and again, to see how far a number would move on other items.

A resample is a row of counts, how often each item was drawn, and not a copy of the items: means over all
resamples are then one matrix product. Rows come in slices, so that memory does not grow with the rounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    OfWeights = Callable[[Floats], Any]

_AT_ONCE = 2_000_000  # array elements of one slice: some 16 MB an array


def resamples(size: int, *, rounds: int, seed: int) -> Iterator[Floats]:
    """Yield slices, shape `(some, size)`, of how often each item is drawn; each row sums to `size`."""
    random = np.random.default_rng(seed)
    kind = np.uint16 if size <= 2**16 else np.uint32  # narrow numbers are drawn faster
    step = max(1, min(rounds, _AT_ONCE // size))
    rows = (np.arange(step) * size)[:, None]
    for start in range(0, rounds, step):
        some = min(step, rounds - start)
        drawn = random.integers(0, size, (some, size), dtype=kind) + rows[:some]
        yield np.bincount(drawn.ravel(), minlength=some * size).reshape(some, size).astype(np.float64)


def bootstrap_draws(
    functions: Mapping[str, OfWeights], size: int, *, rounds: int, seed: int
) -> dict[str, Floats]:
    """Give each function's values on all resamples, the same resamples for all of them.

    Args:
        functions: From weights of shape `(rows, size)` to values of shape `(rows,)` or `(rows, k)`.
        size: How many items there are.
        rounds: Resamples.
        seed: Of the drawing.
    """
    drawn: dict[str, list[Any]] = {name: [] for name in functions}
    for counts in resamples(size, rounds=rounds, seed=seed):
        for name, function in functions.items():
            drawn[name].append(function(counts))
    return {name: np.concatenate(values) for name, values in drawn.items()}


def interval(draws: Floats, *, share: float = 0.95) -> tuple[float, float]:
    """Give the percentile interval: what the middle `share` of the draws spans; `nan` where none is a number.

    Simulated on heavy-tailed errors it covers at least as often as the accelerated one (BCa), so the plainer
    of the two is taken.
    """
    known = draws[~np.isnan(draws)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def sign_flips(differences: Floats, *, rounds: int, seed: int) -> Floats:
    """Give the mean of each column of differences when each row's sign is tossed; `(rounds, columns)`."""
    random, size = np.random.default_rng(seed), len(differences)
    step = max(1, min(rounds, _AT_ONCE // size))
    means = []
    for start in range(0, rounds, step):
        some = min(step, rounds - start)
        bits = random.integers(0, 256, (some, (size + 7) // 8), dtype=np.uint8)
        heads = np.unpackbits(bits, axis=1, count=size).astype(np.float64)
        means.append((2 * (heads @ differences) - differences.sum(axis=0)) / size)
    return np.concatenate(means)


def holm(p_values: Floats) -> Floats:
    """Adjust p-values for their number. Source: Holm, Scandinavian Journal of Statistics 6 (1979), 65-70."""
    order = np.argsort(p_values)
    stepped = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    adjusted = np.empty_like(stepped)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
