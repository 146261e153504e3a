"""Several models on the same items: their errors side by side, and tests of how they differ."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from .._format import format_money
from .._methods.duplicates import group_ids
from .._methods.resampling import bootstrap_draws, holm, interval, sign_flips, sum_groups
from .._methods.spread import spread_ranges
from ..errors import EvaluationError
from .unscored import enter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from .evaluation import Evaluation
    from .measurement import Record
    from .unscored import Entrant, Unscored

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Key = tuple[str, float, int]


class AlignedErrors(NamedTuple):
    """Errors of several models, one row an item and one column a model."""

    errors: Floats
    """Absolute errors, shape `(items, models)`; `nan` where a model has not scored an item."""
    weights: Floats
    """How much each item counts, shape `(items,)`."""
    filled: npt.NDArray[np.bool_]
    """Where the training median stands in for a missing price, shape `(items, models)`."""
    groups: Ints | None
    """A number for each item, equal for those that err alike, shape `(items,)`; None without groups."""


class Difference(NamedTuple):
    """One model's absolute errors minus another's, on the items that both have scored."""

    mean: float
    """In the currency of the items."""
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
    filled: int
    """How many items of those compared have the training median in the place of a price of one of them."""


def align(
    evaluations: Sequence[Evaluation], *, allow_different: bool, unscored: Unscored = "fill"
) -> AlignedErrors:
    """Put the errors of several evaluations side by side, items in the order of the first evaluation.

    Raises:
        DataError: Their prices are in different currencies.
        EvaluationError: They are not of the same items with the same prices and weights, or an item is
            unscored and no training median is known.
    """
    return align_entrants(enter(evaluations, unscored), allow_different=allow_different)


def align_entrants(entrants: Sequence[Entrant], *, allow_different: bool) -> AlignedErrors:
    """Put errors side by side as `align` does, of evaluations that have entered a comparison already."""
    import numpy as np

    by_key = [dict(_errors_by_key(one)) for one in entrants]
    if not allow_different:
        for entrant, errors_of in zip(entrants[1:], by_key[1:], strict=True):
            _require_same(entrants[0], by_key[0], entrant, errors_of)
    places: dict[Key, int] = {}
    for errors_of in by_key:
        for key in errors_of:
            places.setdefault(key, len(places))
    errors = np.full((len(places), len(entrants)), np.nan)
    weights = np.full(len(places), np.nan)
    filled = np.zeros(errors.shape, dtype=bool)
    groups: dict[int, tuple[int, int]] = {}  # of each place: which evaluation says it, and the number there
    for column, errors_of in enumerate(by_key):
        for key, (error, weight, is_filled, group) in errors_of.items():
            if group is not None:
                groups.setdefault(places[key], (column, group))
            if not np.isnan(known := weights[places[key]]) and known != weight:
                raise EvaluationError(
                    f"item {key[0]!r} counts differently in two evaluations; weigh it alike"
                )
            weights[places[key]] = weight
            errors[places[key], column] = error
            filled[places[key], column] = is_filled
    numbers = group_ids([groups.get(at, (-1, at)) for at in range(len(places))]) if groups else None
    return AlignedErrors(errors, weights, filled, numbers)


def pair_records(entrants: Sequence[Entrant]) -> list[list[Record]]:
    """Return the records of each entrant that have a price in all of them, the same items in the same order.

    Raises:
        EvaluationError: They are not of the same items, or have no scored item in common.
    """
    by_key = [dict(_by_key(one.records)) for one in entrants]
    for entrant, records in zip(entrants[1:], by_key[1:], strict=True):
        _require_same(entrants[0], by_key[0], entrant, records)
    keys = [key for key in by_key[0] if all(records[key].price is not None for records in by_key)]
    if not keys:
        raise EvaluationError(
            f"{entrants[0].name} and {entrants[1].name} have no scored item in common; evaluate both on the "
            "same items"
        )
    return [[records[key] for key in keys] for records in by_key]


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

    errors, weights, filled, groups = aligned
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
        stood_in = [int(filled[mask][:, list(pairs[at])].any(axis=1).sum()) for at in members]
        counts = list(zip(left_out, stood_in, strict=True))
        together = None if groups is None else group_ids(groups[mask])
        measured = _measure(gaps.T, weights[mask], together, counts, rounds=rounds, seed=seed)
        differences |= dict(zip(members, measured, strict=True))
    return [differences[at] for at in range(len(pairs))]


def adjust(differences: Sequence[Difference]) -> list[float]:
    """Return the p-values, adjusted for their number by Holm's method."""
    import numpy as np

    return [float(p) for p in holm(np.array([one.p_value for one in differences]))]


def _measure(
    gaps: Floats,
    weights: Floats,
    groups: Ints | None,
    counts: Sequence[tuple[int, int]],
    *,
    rounds: int,
    seed: int,
) -> Iterator[Difference]:
    import numpy as np

    size, shares = len(gaps), weights / weights.mean()
    weighed = gaps * shares[:, None]
    means = weighed.mean(axis=0)
    # The last column is the weight itself: one product then makes both the sums and their divisors. What
    # errs alike is drawn, and has its sign tossed, as one: the sum over its group.
    columns = sum_groups(np.column_stack([weighed, shares]), groups)

    def of_counts(counts: Floats) -> Any:
        sums = counts @ columns
        with np.errstate(divide="ignore", invalid="ignore"):
            return sums[:, :-1] / sums[:, -1:]

    draws = bootstrap_draws({"mean": of_counts}, len(columns), rounds=rounds, seed=seed)["mean"]
    tossed = np.abs(sign_flips(columns[:, :-1], rounds=rounds, seed=seed + 1)) * len(columns) / size
    # A little slack: tosses that give the observed mean itself must count, whatever the order of adding.
    reached = (tossed >= np.abs(means) * (1 - 1e-9)).sum(axis=0)
    around = _scale_to_items((gaps - means) * shares[:, None], groups)
    with np.errstate(invalid="ignore"):  # one item, or group, has no spread
        spreads = np.sqrt(np.square(around).sum(axis=0) / np.float64(len(around) - 1))
    ranges = spread_ranges(around, seed=seed)
    wins = ((gaps < 0) + (gaps == 0) / 2).mean(axis=0)
    for at, mean in enumerate(means):
        low, high = interval(draws[:, at]) if len(columns) > 1 else (float("nan"), float("nan"))
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
            *counts[at],
        )


def _scale_to_items(around: Floats, groups: Ints | None) -> Floats:
    """Return numbers as spread out as those of independent items would be that tell the mean as surely."""
    sums = sum_groups(around, groups)
    scaled: Floats = sums * (len(sums) / len(around)) ** 0.5
    return scaled


def _errors_by_key(entrant: Entrant) -> Iterator[tuple[Key, tuple[float, float, bool, int | None]]]:
    counted = zip(_by_key(entrant.records), entrant.evaluation.records, strict=True)
    for (key, record), asked in counted:
        error = float("nan") if record.error is None else abs(record.error)
        yield key, (error, record.weight, asked.price is None and record.price is not None, record.group)


def _by_key(records: Iterable[Record]) -> Iterator[tuple[Key, Record]]:
    # Ids may come twice: the first item of an id is then the first one of the other evaluation too.
    seen: Counter[tuple[str, float]] = Counter()
    for record in records:
        same = (record.item_id, record.truth)
        yield (*same, seen[same]), record
        seen[same] += 1


def _require_same(
    first: Entrant,
    a: Mapping[Key, Any],
    other: Entrant,
    b: Mapping[Key, Any],
) -> None:
    if a.keys() == b.keys():
        return
    prices, names = {key[0]: key[1] for key in a}, f"{first.name} and {other.name}"
    for item_id, truth, _ in b.keys() - a.keys():
        if (known := prices.get(item_id, truth)) != truth:
            prices_of_both = " and ".join(format_money(price, first.currency, 2) for price in (known, truth))
            raise EvaluationError(
                f"item {item_id!r} costs {prices_of_both} in {names}; evaluate both with the same prices"
            )
    shared, every = len(a.keys() & b.keys()), len(a.keys() | b.keys())
    raise EvaluationError(
        f"{names} were not evaluated on the same items: {shared:,} of {every:,} are in both; evaluate both "
        "on the same ones, or allow_different=True compares those"
    )
