"""Several models on the same items: their errors side by side, and tests of how they differ."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from .._format import format_dollars
from .._methods.resampling import bootstrap_draws, holm, interval, sign_flips
from .._methods.spread import spread_ranges
from ..errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from .evaluation import Evaluation

    Floats = npt.NDArray[np.float64]
    Key = tuple[str, float, int]


class AlignedErrors(NamedTuple):
    """Errors of several models, one row an item and one column a model."""

    errors: Floats
    """Absolute errors in dollars, shape `(items, models)`; `nan` where a model has not scored an item."""
    weights: Floats
    """How much each item counts, shape `(items,)`."""


class Difference(NamedTuple):
    """One model's absolute errors minus another's, on the items that both have scored."""

    mean: float
    """Dollars."""
    low: float
    """Lower end of the 95 % paired bootstrap interval; `nan` for one item."""
    high: float
    p_value: float
    spread: float
    """Standard deviation of the items' differences; `nan` for one item."""
    spread_range: tuple[float, float]
    """Between what two numbers the standard deviation lies, in at least 80 of 100 cases."""
    win_rate: float
    """Share of items on which the first model is nearer to the true price, ties counted half."""
    n: int
    """How many items both have scored."""
    left_out: int
    """How many items only one of them has scored."""


def align(evaluations: Sequence[Evaluation], *, allow_different: bool) -> AlignedErrors:
    """Put the errors of several evaluations side by side, items in the order of the first evaluation.

    Raises:
        EvaluationError: They are not of the same items with the same prices and weights.
    """
    import numpy as np

    by_key = [dict(_errors_by_key(one)) for one in evaluations]
    if not allow_different:
        for evaluation, errors_of in zip(evaluations[1:], by_key[1:], strict=True):
            _require_same(evaluations[0], by_key[0], evaluation, errors_of)
    places: dict[Key, int] = {}
    for errors_of in by_key:
        for key in errors_of:
            places.setdefault(key, len(places))
    errors = np.full((len(places), len(evaluations)), np.nan)
    weights = np.full(len(places), np.nan)
    for column, errors_of in enumerate(by_key):
        for key, (error, weight) in errors_of.items():
            if not np.isnan(known := weights[places[key]]) and known != weight:
                raise EvaluationError(
                    f"item {key[0]!r} counts differently in two evaluations; weigh it alike"
                )
            weights[places[key]] = weight
            errors[places[key], column] = error
    return AlignedErrors(errors, weights)


def measure_differences(
    aligned: AlignedErrors,
    pairs: Sequence[tuple[int, int]],
    *,
    names: Sequence[str],
    rounds: int,
    seed: int,
) -> list[Difference]:
    """Measure how the models of each pair of columns differ, and how often chance alone would do that.

    Pairs that have the same items share their resamples.

    Raises:
        EvaluationError: A pair has no item in common.
    """
    import numpy as np

    errors, weights = aligned
    both = [~np.isnan(errors[:, a]) & ~np.isnan(errors[:, b]) for a, b in pairs]
    for (a, b), mask in zip(pairs, both, strict=True):
        if not weights[mask].any():
            raise EvaluationError(
                f"{names[a]} and {names[b]} have no scored item in common; evaluate both on the same items"
            )
    order = sorted(range(len(pairs)), key=lambda at: both[at].tobytes())
    differences: dict[int, Difference] = {}
    for _, group in groupby(order, key=lambda at: both[at].tobytes()):
        members = list(group)
        mask = both[members[0]]
        gaps = np.stack([errors[mask, pairs[at][0]] - errors[mask, pairs[at][1]] for at in members])
        either = [~np.isnan(errors[:, list(pairs[at])]).all(axis=1) for at in members]
        left_out = [int(one.sum() - mask.sum()) for one in either]
        measured = _measure(gaps.T, weights[mask], left_out, rounds=rounds, seed=seed)
        differences |= dict(zip(members, measured, strict=True))
    return [differences[at] for at in range(len(pairs))]


def adjust(differences: Sequence[Difference]) -> list[float]:
    """Return the p-values, adjusted for their number by Holm's method."""
    import numpy as np

    return [float(p) for p in holm(np.array([one.p_value for one in differences]))]


def _measure(
    gaps: Floats, weights: Floats, left_out: Sequence[int], *, rounds: int, seed: int
) -> Iterator[Difference]:
    import numpy as np

    size = len(gaps)
    weighed = gaps * (weights / weights.mean())[:, None]
    means = weighed.mean(axis=0)
    # The last column is the weight itself: one product then makes both the sums and their divisors.
    columns = np.column_stack([weighed, weights / weights.mean()])

    def of_counts(counts: Floats) -> Any:
        sums = counts @ columns
        with np.errstate(divide="ignore", invalid="ignore"):
            return sums[:, :-1] / sums[:, -1:]

    draws = bootstrap_draws({"mean": of_counts}, size, rounds=rounds, seed=seed)["mean"]
    tossed = np.abs(sign_flips(weighed, rounds=rounds, seed=seed + 1))
    # A little slack: tosses that give the observed mean itself must count, whatever the order of adding.
    reached = (tossed >= np.abs(means) * (1 - 1e-9)).sum(axis=0)
    around = (weights / weights.mean())[:, None] * (gaps - means)
    spreads = np.sqrt(np.square(around).sum(axis=0) / (size - 1)) if size > 1 else np.full(len(means), np.nan)
    ranges = spread_ranges(around, seed=seed)
    wins = ((gaps < 0) + (gaps == 0) / 2).mean(axis=0)
    for at, mean in enumerate(means):
        low, high = interval(draws[:, at]) if size > 1 else (float("nan"), float("nan"))
        p_value = float((1 + reached[at]) / (1 + rounds))
        yield Difference(
            float(mean),
            low,
            high,
            p_value,
            float(spreads[at]),
            ranges[at],
            float(wins[at]),
            size,
            left_out[at],
        )


def _errors_by_key(evaluation: Evaluation) -> Iterator[tuple[Key, tuple[float, float]]]:
    # Ids may come twice: the first item of an id is then the first one of the other evaluation too.
    seen: Counter[tuple[str, float]] = Counter()
    for record in evaluation.records:
        same = (record.item_id, record.truth)
        error = float("nan") if record.error is None else abs(record.error)
        yield (*same, seen[same]), (error, record.weight)
        seen[same] += 1


def _require_same(
    first: Evaluation, a: dict[Key, tuple[float, float]], other: Evaluation, b: dict[Key, tuple[float, float]]
) -> None:
    if a.keys() == b.keys():
        return
    prices, names = {key[0]: key[1] for key in a}, f"{first.name} and {other.name}"
    for item_id, truth, _ in b.keys() - a.keys():
        if (known := prices.get(item_id, truth)) != truth:
            prices_of_both = f"{format_dollars(known, 2)} and {format_dollars(truth, 2)}"
            raise EvaluationError(
                f"item {item_id!r} costs {prices_of_both} in {names}; evaluate both with the same prices"
            )
    shared, every = len(a.keys() & b.keys()), len(a.keys() | b.keys())
    raise EvaluationError(
        f"{names} were not evaluated on the same items: {shared:,} of {every:,} are in both; evaluate both "
        "on the same ones, or allow_different=True compares those"
    )
