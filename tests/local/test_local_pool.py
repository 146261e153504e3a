"""The network's companions, the pool of all three, and the prices that stand in prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse import random as random_matrix

from finetune_pricer import MadeUpCatalogue
from finetune_pricer._methods.features import TextFeatures
from finetune_pricer._methods.network import Hyperparameters
from finetune_pricer._methods.ridge import fit_ridge
from finetune_pricer.local.learners.reply_format import ReplyForm
from finetune_pricer.local.learners.sparse import companions
from finetune_pricer.local.learners.sparse.companions import Companions, Opinions, SparseRows
from finetune_pricer.local.learners.sparse.dataset import Example, TrainingSet
from finetune_pricer.local.learners.sparse.model import PriceModel
from finetune_pricer.local.learners.sparse.pool import Pool, PoolChoice
from finetune_pricer.local.learners.sparse.prompt_features import PriceLines
from finetune_pricer.local.learners.sparse.trainer import Trainer
from local_helpers import products
from ridge import ridge_mae

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

EDGES = np.linspace(2.0, 6.0, 41)
NONE = np.zeros((500, 0))


def examples_of(prompts: Sequence[str], prices: Sequence[float]) -> list[Example]:
    pairs = zip(prompts, prices, strict=True)
    return [Example(prompt=prompt, reply=f"${price:.2f}", price=price) for prompt, price in pairs]


def train(folder: Path, examples: list[Example], epochs: int) -> PriceModel:
    chosen = Hyperparameters.resolve({"n_epochs": epochs}, examples=len(examples))
    return Trainer(folder, TrainingSet.prepare(examples, []), chosen, seed=0).run()


def bins_of(logs: np.ndarray) -> np.ndarray:
    return np.clip(np.searchsorted(EDGES, logs, side="right") - 1, 0, len(EDGES) - 2)


def guess_around(logs: np.ndarray, width: float) -> np.ndarray:
    """A network that guesses in a bell around some prices."""
    return Pool(network=0.0, ridge=1.0, ridge_width=width).combine(
        np.full((len(logs), len(EDGES) - 1), 1 / (len(EDGES) - 1)), Opinions(logs, NONE, NONE), EDGES
    )


def test_ridge_by_conjugate_gradients_is_that_of_scikit_learn() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    rows = csr_matrix(random_matrix(300, 80, density=0.2, random_state=1, dtype=np.float32))
    targets = rows @ np.random.default_rng(2).normal(size=80) + 3

    weights, intercept = fit_ridge(rows, targets)

    exact = linear_model.Ridge(alpha=1.0).fit(rows, targets)
    np.testing.assert_allclose(rows @ weights + intercept, exact.predict(rows), atol=0.02)


def test_a_row_alone_is_told_what_it_is_told_among_others() -> None:
    made = products(300)
    features = TextFeatures.fit([item.text for item in made])
    rows = features.transform([item.text for item in made])
    fitted = Companions.fit(rows, np.log1p([item.price for item in made]), features.words)

    many = fitted.ask(SparseRows.of(rows))
    columns, values = features.row(made[7].text)
    one = fitted.ask(SparseRows(columns, values, np.array([0, len(columns)])))

    for alone, among in zip(one, many, strict=True):
        np.testing.assert_allclose(alone[0], among[7], rtol=1e-5)
    again = Companions.from_state(fitted.state()).ask(SparseRows.of(rows))
    for same, before in zip(again, many, strict=True):
        np.testing.assert_array_equal(same, before)


def test_of_too_many_examples_none_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(companions, "_MOST_EXAMPLES", 9)
    rows = csr_matrix(np.eye(10, dtype=np.float32))

    fitted = Companions.fit(rows, np.arange(10.0), 10)

    assert fitted.neighbors is None
    assert fitted.ask(SparseRows.of(rows)).neighbors.shape == (10, 0)


def test_the_pool_leaves_out_who_knows_nothing_and_trusts_who_does() -> None:
    random = np.random.default_rng(3)
    logs = random.uniform(2, 6, 500)
    right, chance = logs + random.normal(0, 0.2, 500), random.uniform(2, 6, 500)
    alike = np.full((500, 2), 0.5)

    trusting_ridge = PoolChoice(
        Opinions(right, np.stack([chance, chance[::-1]], axis=1), alike), EDGES, bins_of(logs)
    ).choose(guess_around(random.permutation(logs), 0.2))
    trusting_network = PoolChoice(Opinions(chance, NONE, NONE), EDGES, bins_of(logs)).choose(
        guess_around(right, 0.2)
    )

    assert trusting_ridge.ridge > 0.7
    assert trusting_ridge.neighbors == 0
    assert trusting_ridge.ridge_width == pytest.approx(0.2, abs=0.06)
    assert trusting_network.network > 0.7


@pytest.mark.parametrize("width", [0.1, 0.3])
def test_the_better_of_both_pools_is_taken_and_beats_its_members(width: float) -> None:
    random = np.random.default_rng(4)
    logs = random.uniform(3, 5, 500)
    one, other = (logs + random.normal(0, 0.3, 500) for _ in range(2))
    network, opinions = guess_around(one, width), Opinions(other, NONE, NONE)
    choice = PoolChoice(opinions, EDGES, bins_of(logs))

    pool = choice.choose(network)

    found = choice._surprise(pool.combine(network, opinions, EDGES))
    members = [Pool(network_width=pool.network_width), pool._replace(network=0.0)]
    assert found < min(choice._surprise(member.combine(network, opinions, EDGES)) for member in members)
    for share in np.linspace(0, 1, 11):
        mixed = pool._replace(network=share, ridge=1 - share, is_logarithmic=0.0)
        assert found <= choice._surprise(mixed.combine(network, opinions, EDGES)) + 1e-3


def test_a_pool_of_the_network_alone_is_the_network() -> None:
    network = guess_around(np.array([3.0, 4.0]), 0.2)

    pooled = Pool(network_width=0.0).combine(network, Opinions(np.zeros(2), NONE, NONE), EDGES)

    np.testing.assert_allclose(pooled, network)


def test_on_the_made_up_catalogue_the_learner_is_as_good_as_ridge(tmp_path: Path) -> None:
    known, _, new = MadeUpCatalogue().splits(600, 0, 300)
    examples = examples_of([item.text for item in known], [float(price) for price in known.prices])

    model = train(tmp_path, examples, 1)

    errors = [abs(model.median(item.text) - price) for item, price in zip(new, new.prices, strict=True)]
    assert np.mean(errors) <= 1.1 * ridge_mae(known, new)


def test_more_epochs_are_tried_only_while_the_last_one_still_helped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = TrainingSet.prepare(
        examples_of([item.prompt for item in products(60)], [item.price for item in products(60)]), []
    )
    tried: list[int] = []

    def rehearse(epochs: int) -> dict[str, object]:
        tried.append(epochs)
        falling = epochs < 10
        losses = [3.0, 2.0, 1.5] if falling else [1.4, 1.1, 1.2]
        return {"losses": losses, "pools": [Pool()] * epochs}

    training = Trainer(tmp_path, data, Hyperparameters.resolve({}, examples=60), seed=0)
    monkeypatch.setattr(training, "_rehearse", rehearse)
    epochs, _ = training._choose_epochs()

    assert tried == [5, 10]
    assert epochs == 10


DOLLARS = PriceLines(before="$", after="")


@pytest.mark.parametrize(
    ("lines", "text", "rest", "prices"),
    [
        (DOLLARS, "Like it:\nRed mug: $9.00\nVase - $1,199.50\n\nA cup", "Like it:\n\nA cup", [9.0, 1199.5]),
        (DOLLARS, "A cup\n\nRed mug: $9.00", "A cup\n\n", [9.0]),
        (DOLLARS, "A cup of $5 once\nof clay", "A cup of $5 once\nof clay", []),
        (DOLLARS, "Red mug: $9.00", "Red mug: $9.00", []),
        (DOLLARS, "Red mug: $\nA cup", "Red mug: $\nA cup", []),
        (PriceLines(before="", after="\u20ac"), "Vase 1.009,50 \u20ac\nA cup", "A cup", [1009.5]),
    ],
)
def test_lines_that_end_in_a_price_are_taken_out(
    lines: PriceLines, text: str, rest: str, prices: list[float]
) -> None:
    assert lines.split(text) == (rest, prices)


def test_prices_count_only_where_most_prompts_have_them_and_replies_have_a_mark() -> None:
    priced, plain = "Red mug: $9.00\nA cup", "A cup"

    assert PriceLines.from_texts([priced, priced, plain], ReplyForm()) == DOLLARS
    assert PriceLines.from_texts([priced, plain, plain], ReplyForm()) is None
    assert PriceLines.from_texts([priced], ReplyForm(before="")) is None


def test_a_price_lies_between_two_sizes_so_that_near_ones_have_near_features() -> None:
    near, also, far, none = DOLLARS.rows([[20.0], [20.5], [80.0], []]).toarray()

    assert np.abs(near - also).sum() < 0.5 * np.abs(near - far).sum()
    assert not none.any()
    assert DOLLARS.rows([[1e300]]).sum() == pytest.approx(4)


def test_prices_that_stand_in_the_prompt_are_learned_from_and_kept_with_the_model(tmp_path: Path) -> None:
    random = np.random.default_rng(5)

    def make(count: int) -> tuple[list[str], list[float]]:
        prices = np.exp(random.uniform(2, 6, count)).round(2)
        near = (prices * np.exp(random.normal(0, 0.1, (2, count)))).round(2)
        prompts = [
            f"Known:\nThis: ${one:.2f}\nThat: ${other:.2f}\n\nItem {random.integers(99)}"
            for one, other in near.T
        ]
        return prompts, prices.tolist()

    prompts, prices = make(200)
    model = train(tmp_path, examples_of(*make(500)), 6)
    again = PriceModel.load(model.save())

    guesses = np.array([model.median(prompt) for prompt in prompts])
    constant = np.abs(np.median(prices) - np.array(prices)).mean()
    assert np.abs(guesses - np.array(prices)).mean() < 0.3 * constant
    assert [again.median(prompt) for prompt in prompts[:20]] == guesses[:20].tolist()
