"""The best of several is luckier than it is good: its number is corrected, or comes from other items."""

from typing import TYPE_CHECKING

import numpy as np
import pytest

from evaluate_helpers import evaluated
from finetune_pricer import Evaluation, Evaluator, Item
from finetune_pricer.errors import DataError, EvaluationError
from finetune_pricer.evaluate import METRICS, choose

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


def equal_models(count: int, size: int, seed: int) -> "list[Floats]":
    """Errors of models that are equally good: what makes an item hard is hard for all."""
    random = np.random.default_rng(seed)
    return list(random.lognormal(3, 0.8, size) * random.lognormal(0, 0.5, (count, size)))


def evaluations(errors: "list[Floats]") -> list[Evaluation]:
    items = [Item(id=str(at), title=f"Thing {at}", price=1000.0) for at in range(len(errors[0]))]
    return [
        Evaluator(rounds=2).score(items, (1000 + one).tolist(), name=f"m{at}")
        for at, one in enumerate(errors)
    ]


def test_the_best_of_equal_models_gets_the_error_that_all_have() -> None:
    told, flattered = [], []
    for seed in range(6):
        models = evaluations(equal_models(12, 60, seed))
        truth = np.mean(
            [one.mae.value for one in models]
        )  # of these items, as which are drawn is not the matter
        found = choose(models, rounds=200)
        told.append(found.metric.value / truth)
        flattered.append(found.on_choosing.value / truth)
        assert found.metric.low < found.metric.value < found.metric.high
    assert np.mean(flattered) < 0.9
    assert np.mean(told) == pytest.approx(1, abs=0.06)


def test_a_model_that_is_clearly_the_best_keeps_its_number() -> None:
    errors = equal_models(5, 200, 1)
    models = evaluations([one * (0.3 if at == 2 else 1) for at, one in enumerate(errors)])
    found = choose(models, rounds=300)
    assert found.best.name == "m2"
    assert found.metric.value == pytest.approx(found.on_choosing.value, rel=0.01)


def test_the_line_says_what_was_done() -> None:
    models = evaluations(equal_models(4, 60, 3))
    found = choose(models, rounds=100)
    assert f"{found.best.name}: MAE ${found.metric.value:,.2f} (95% CI $" in str(found)
    assert f"corrected for the choice among 4 (${found.on_choosing.value:.2f} on the items that chose" in str(
        found
    )
    tested = choose(models, test=evaluated([50.0, 60.0, 55.0], name="later", first=900), rounds=100)
    assert tested.metric.value == pytest.approx(55)
    assert str(tested).endswith("on 3 items that had no part in choosing it")
    alone = choose(models[:1], rounds=100)
    assert (alone.metric, alone.said) == (alone.on_choosing, "")


@pytest.mark.parametrize("by", [name for name, info in METRICS.items() if not info.of_ranges])
def test_any_metric_chooses(by: str) -> None:
    random = np.random.default_rng(5)
    items = [
        Item(id=str(at), title=f"Thing {at}", price=float(price)) for at, price in enumerate(range(20, 80))
    ]
    prices = np.array([item.price for item in items]) * np.exp(0.4 * random.normal(size=(6, len(items))))
    models = [Evaluator(rounds=2).score(items, row.tolist(), name=str(at)) for at, row in enumerate(prices)]
    found = choose(models, by, rounds=100)
    key = METRICS[by].sort_key
    assert key(found.on_choosing.value) == min(key(one.metrics[by].value) for one in models)
    assert key(found.metric.value) >= key(found.on_choosing.value) - 0.02 * abs(found.on_choosing.value)
    assert not np.isnan(found.metric.low)


def test_what_cannot_be_chosen_from_is_refused() -> None:
    with pytest.raises(DataError, match="no metric 'best'"):
        choose([evaluated([1.0])], "best")
    with pytest.raises(EvaluationError, match="no evaluation has a mae"):
        choose([])
    with pytest.raises(EvaluationError, match="not evaluated on the same items"):
        choose([evaluated([1.0, 2.0], name="a"), evaluated([1.0, 2.0], name="b", first=1)])
    assert choose([evaluated([1.0], name="a"), evaluated([2.0], name="b")], rounds=20).metric.value == 1.0
