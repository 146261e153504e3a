"""Items that err alike: how often intervals cover, and how often equal models are called different."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from figures import trials
from finetune_pricer import Evaluator, Item, compare
from finetune_pricer.evaluate import METRICS
from finetune_pricer.evaluate.metrics import find_intervals

if TYPE_CHECKING:
    import numpy.typing as npt

    from figures import Figures

    Floats = npt.NDArray[np.float64]

pytestmark = pytest.mark.statistics

CLUSTERS, TRIALS = 100, trials(1000)
SHARED = 0.8
ITEMS = [Item(id=str(at), title=f"Thing {at}", price=100_000.0) for at in range(1000)]


def shared_errors(random: np.random.Generator, of_each: int) -> Floats:
    """Errors of which four fifths of the variance of the logarithm is the cluster's."""
    cluster = np.repeat(random.normal(size=CLUSTERS), of_each)
    own = random.normal(size=cluster.size)
    errors: Floats = np.exp(3 + 0.8 * (np.sqrt(SHARED) * cluster + np.sqrt(1 - SHARED) * own))
    return errors


@pytest.mark.parametrize("of_each", [2, 5, 10])
def test_the_interval_covers_where_items_err_alike(of_each: int, figures: Figures) -> None:
    true, held, held_by_items = float(np.exp(3 + 0.8**2 / 2)), 0, 0
    groups = np.repeat(np.arange(CLUSTERS), of_each)
    for trial in range(TRIALS):
        errors = shared_errors(np.random.default_rng([of_each, trial]), of_each)
        columns = (np.zeros(errors.size), errors)
        for labels in (groups, None):
            ends = find_intervals(
                {"mae": METRICS["mae"].function},
                columns,
                np.ones(errors.size),
                rounds=500,
                seed=trial,
                groups=labels,
            )["mae"]
            hit = ends.low <= true <= ends.high
            held, held_by_items = held + hit * (labels is not None), held_by_items + hit * (labels is None)
    figures.add(
        f"95 % interval of the MAE, 100 groups of {of_each} items with 80 % of the error in common",
        asked="at least 93 %",
        before=f"{held_by_items / TRIALS:.1%}",
        now=f"{held / TRIALS:.1%}",
    )
    assert held / TRIALS >= 0.93 - 2 * np.sqrt(0.93 * 0.07 / TRIALS)


@pytest.mark.parametrize("of_each", [2, 5, 10])
def test_equal_models_that_err_alike_on_groups_are_called_different_one_time_in_twenty(
    of_each: int, figures: Figures
) -> None:
    rounds, found, found_by_items = trials(400), 0, 0
    groups, items = np.repeat(np.arange(CLUSTERS), of_each), ITEMS[: CLUSTERS * of_each]
    evaluator = Evaluator(rounds=2)
    for trial in range(rounds):
        random = np.random.default_rng([of_each, trial])
        prices = [(100_000 + shared_errors(random, of_each)).tolist() for _ in "ab"]
        for labels in (groups, np.arange(groups.size)):
            a, b = (evaluator.score(items, given, groups=labels) for given in prices)
            is_found = compare(a, b, rounds=400, seed=trial).p_value < 0.05
            found, found_by_items = (
                found + is_found * (labels is groups),
                found_by_items + is_found * (labels is not groups),
            )
    figures.add(
        f"equal models called different, 100 groups of {of_each} items",
        asked="5 %",
        before=f"{found_by_items / rounds:.1%}",
        now=f"{found / rounds:.1%}",
    )
    assert abs(found / rounds - 0.05) <= 2.5 * np.sqrt(0.05 * 0.95 / rounds)
