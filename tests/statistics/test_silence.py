"""A model that is silent where it is worst, beside the same model that answers."""

from dataclasses import replace

import numpy as np
import pytest

from figures import Figures, trials
from finetune_pricer import Evaluator, Item, Leaderboard
from real_errors import priced

pytestmark = pytest.mark.statistics

TRIALS, SIZE = trials(200), 400


def test_who_is_silent_on_the_dearest_never_ranks_above_who_answers(figures: Figures) -> None:
    _, truth, price = priced("ridge")
    median, above, above_by_raw_error = float(np.median(truth)), 0, 0
    for trial in range(TRIALS):
        random = np.random.default_rng([5, trial])
        rows = random.integers(0, truth.size, SIZE)
        items = [
            Item(id=str(at), title=f"Thing {at}", price=float(one)) for at, one in enumerate(truth[rows])
        ]
        dear = truth[rows] >= np.quantile(truth[rows], 0.95)
        # It answers them a little better than the median would, the worst that the promise holds for.
        answers = np.where(dear, median + 0.02 * (truth[rows] - median), price[rows])
        rival = price[rows] * np.exp(random.normal(0, 0.3, SIZE))
        score = Evaluator(rounds=2).score
        gaps = [None if silent else float(one) for one, silent in zip(answers, dear, strict=True)]
        board = Leaderboard(
            [
                replace(score(items, given, name=name), training_median=median)
                for name, given in (("silent", gaps), ("honest", answers.tolist()), ("rival", rival.tolist()))
            ],
            rounds=500,
            seed=trial,
        )
        place = {one.evaluation.name: (at, one) for at, one in enumerate(board)}
        (first, silent), (second, honest) = place["silent"], place["honest"]
        above += silent.rank < honest.rank or first < second
        above_by_raw_error += silent.evaluation.mae.value < honest.evaluation.mae.value
    figures.add(
        "a model that is silent on the dearest 5 % stands above itself with answers",
        asked="never",
        before=f"{above_by_raw_error / TRIALS:.0%} by its error",
        now=f"{above / TRIALS:.0%}",
    )
    assert above == 0
