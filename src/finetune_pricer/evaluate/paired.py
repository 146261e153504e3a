"""Several models on the same items: errors side by side, and what resampling says of their differences."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._methods.resampling import bootstrap_draws, holm, interval, sign_flips
from ..errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from .evaluation import Evaluation

    Floats = npt.NDArray[np.float64]
    Key = tuple[str, float, int]


class SideBySide(NamedTuple):
    """Absolute errors in dollars, shape `(items, models)`, `nan` where one has not scored an item."""

    errors: Floats
    weights: Floats


class Difference(NamedTuple):
    """The mean of one model's absolute errors minus another's, on the items that both have scored."""

    mean: float
    low: float
    """Lower end of the 95 % paired bootstrap interval; `nan` for one item."""
    high: float
    p_value: float
    spread: float
    """Standard deviation of the items' differences; `nan` for one item."""
    win_rate: float
    n: int
    left_out: int


def side_by_side(evaluations: Sequence[Evaluation], *, allow_different: bool) -> SideBySide:
    """Put the errors of several evaluations side by side, items in the order of the first.

    Raises:
        EvaluationError: They are not of the same items with the same prices and weights.
    """
    keyed = [dict(_keyed(one)) for one in evaluations]
    if not allow_different:
        for one, found in zip(evaluations[1:], keyed[1:], strict=True):
            _require_same(evaluations[0], keyed[0], one, found)
    places: dict[Key, int] = {}
    for found in keyed:
        for key in found:
            places.setdefault(key, len(places))
    errors = np.full((len(places), len(evaluations)), np.nan)
    weights = np.full(len(places), np.nan)
    for column, found in enumerate(keyed):
        for key, (error, weight) in found.items():
            if not np.isnan(known := weights[places[key]]) and known != weight:
                raise EvaluationError(
                    f"item {key[0]!r} counts differently in two evaluations; weigh it alike"
                )
            weights[places[key]] = weight
            errors[places[key], column] = error
    return SideBySide(errors, weights)


def differences(
    found: SideBySide, pairs: Sequence[tuple[int, int]], *, names: Sequence[str], rounds: int, seed: int
) -> list[Difference]:
    """Test pairs of columns; pairs that have the same items share their resamples.

    Raises:
        EvaluationError: A pair has no item in common.
    """
    both = [~np.isnan(found.errors[:, a]) & ~np.isnan(found.errors[:, b]) for a, b in pairs]
    for (a, b), mask in zip(pairs, both, strict=True):
        if not found.weights[mask].any():
            raise EvaluationError(f"{names[a]} and {names[b]} have no scored item in common")
    order = sorted(range(len(pairs)), key=lambda at: both[at].tobytes())
    made: dict[int, Difference] = {}
    for _, group in groupby(order, key=lambda at: both[at].tobytes()):
        members = list(group)
        mask = both[members[0]]
        gaps = np.stack(
            [found.errors[mask, pairs[at][0]] - found.errors[mask, pairs[at][1]] for at in members]
        )
        known = [~np.isnan(found.errors[:, list(pairs[at])]).all(axis=1) for at in members]  # one has it
        left_out = [int(one.sum() - mask.sum()) for one in known]
        tested = _tested(gaps.T, found.weights[mask], left_out, rounds=rounds, seed=seed)
        made |= dict(zip(members, tested, strict=True))
    return [made[at] for at in range(len(pairs))]


def adjusted(found: Sequence[Difference]) -> list[float]:
    """Give the p-values, adjusted for their number by Holm's method."""
    return [float(p) for p in holm(np.array([one.p_value for one in found]))]


def _tested(
    gaps: Floats, weights: Floats, left_out: Sequence[int], *, rounds: int, seed: int
) -> Iterator[Difference]:
    size = len(gaps)
    weighed = gaps * (weights / weights.mean())[:, None]
    means = weighed.mean(axis=0)
    # The last column is the weight itself, so that one product gives sums and what divides them.
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
    wins = ((gaps < 0) + (gaps == 0) / 2).mean(axis=0)
    for at, mean in enumerate(means):
        low, high = interval(draws[:, at]) if size > 1 else (float("nan"), float("nan"))
        p_value = float((1 + reached[at]) / (1 + rounds))
        yield Difference(
            float(mean), low, high, p_value, float(spreads[at]), float(wins[at]), size, left_out[at]
        )


def _keyed(evaluation: Evaluation) -> Iterator[tuple[Key, tuple[float, float]]]:
    # Ids may come twice: the first of them is then the first of the other evaluation too.
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
            raise EvaluationError(f"item {item_id!r} costs ${known:,.2f} and ${truth:,.2f} in {names}")
    shared, every = len(a.keys() & b.keys()), len(a.keys() | b.keys())
    raise EvaluationError(
        f"{names} were not evaluated on the same items: {shared:,} of {every:,} are in both; evaluate both "
        "on the same ones, or allow_different=True compares those"
    )
