"""Ranges of a model that is right, or nearly: rounding alone must push no price out of them."""

import numpy as np
import pytest

from figures import Figures
from finetune_pricer import Item, Prediction
from finetune_pricer.predict import Ranges

pytestmark = pytest.mark.statistics


def coverage(exact: float, *, trials: int = 20, size: int = 200) -> float:
    """The share of new items in their ranges, of a model that is exactly right on a share of them."""
    held = 0
    for seed in range(trials):
        random = np.random.default_rng(seed)
        truth = np.round(np.exp(random.uniform(np.log(0.01), np.log(1e9), 2 * size)), 2)
        wrong = random.random(2 * size) > exact
        guess = np.round(truth * np.exp(random.normal(0, 0.5, 2 * size) * wrong), 2)
        items = [Item(title=str(at), price=float(price)) for at, price in enumerate(truth)]
        asked = [
            Prediction(item_id=item.id, price=float(one)) for item, one in zip(items, guess, strict=True)
        ]
        ranges = Ranges.learn(asked[:size], items[:size])
        found = [ranges.around(one) for one in asked[size:]]
        held += sum(
            (one.low or 0) <= price <= (one.high or 0) for one, price in zip(found, truth[size:], strict=True)
        )
    return held / trials / size


@pytest.mark.parametrize(("exact", "before"), [(1.0, "30.7%"), (0.95, "29.5%")])
def test_a_sure_model_stays_in_its_ranges(exact: float, before: str, figures: Figures) -> None:
    share = coverage(exact)
    figures.add(
        f"90 % ranges of a model that is exact on {exact:.0%} of items from $0.01 to $1e9",
        asked="at least 90.0 %",
        before=before,
        now=f"{share:.1%}",
    )
    assert share >= 0.9
