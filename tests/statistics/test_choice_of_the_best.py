"""What is told of the best of many equal models: its error, and an interval of it."""

from dataclasses import replace

import numpy as np
import pytest

from figures import Figures, trials
from finetune_pricer import Evaluation, Evaluator, Item
from finetune_pricer.evaluate import choose
from real_errors import priced

pytestmark = pytest.mark.statistics

SIZE, MODELS, TRIALS = 200, 30, trials(600)


def equal_models(trial: int, kind: str) -> "tuple[float, list[Evaluation]]":
    """The true error, and evaluations of equally good models, whose errors on an item are alike or not."""
    random = np.random.default_rng([11, trial])
    _, truth, price = priced("ridge")
    errors = np.abs(price - truth)
    if kind == "alike":
        own = random.lognormal(-(0.4**2) / 2, 0.4, (MODELS, SIZE))
        drawn = errors[random.integers(0, errors.size, SIZE)] * own
    else:
        drawn = errors[random.integers(0, errors.size, (MODELS, SIZE))]
    return float(errors.mean()), [evaluate(row, str(at)) for at, row in enumerate(drawn)]


ITEMS = [Item(id=str(at), title=f"Thing {at}", price=10_000.0) for at in range(SIZE)]
BLANK = Evaluator(rounds=2).score(ITEMS, [10_000.0] * SIZE)


def evaluate(errors: "np.ndarray[tuple[int], np.dtype[np.float64]]", name: str) -> Evaluation:
    """An evaluation of which the errors alone are known: that is all that a choice by the MAE looks at."""
    records = tuple(
        replace(record, price=10_000.0 + float(error))
        for record, error in zip(BLANK.records, errors, strict=True)
    )
    mae = replace(BLANK.mae, value=float(errors.mean()))
    return replace(BLANK, name=name, records=records, mae=mae)


@pytest.mark.parametrize("kind", ["alike", "apart"])
def test_the_best_of_thirty_equal_models_is_told_no_better_than_it_is(kind: str, figures: Figures) -> None:
    told, flattering, held, held_before = [], [], 0, 0
    for trial in range(TRIALS):
        true, models = equal_models(trial, kind)
        found = choose(models, rounds=500, seed=trial)
        told.append(found.metric.value / true)
        flattering.append(found.on_choosing.value / true)
        held += found.metric.low <= true <= found.metric.high
        held_before += found.on_choosing.low <= true <= found.on_choosing.high
    error, noise = np.mean(told) - 1, 2 * np.std(told) / np.sqrt(TRIALS)
    case = f"the best of {MODELS} equal models, errors {kind}, {SIZE} items"
    figures.add(
        f"{case}: error told too high by",
        asked="within 1 %",
        before=f"{np.mean(flattering) - 1:+.1%}",
        now=f"{error:+.1%} ± {noise:.1%}",
    )
    figures.add(
        f"{case}: 95 % interval covers",
        asked="at least 93 %",
        before=f"{held_before / TRIALS:.1%}",
        now=f"{held / TRIALS:.1%}",
    )
    assert abs(error) <= 0.01 + noise
    assert held / TRIALS >= 0.93 - 2 * np.sqrt(0.93 * 0.07 / TRIALS)
