"""The local learner asked over HTTP by the library's defaults, against ridge fitted in the same run.

Nothing is chosen here: whoever trains on the local server without any option gets these errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from finetune_pricer import (
    ChatFormatter,
    Evaluator,
    FineTuneJob,
    ItemDataset,
    JsonlWriter,
    Neighbors,
    compare,
)
from finetune_pricer.local import LocalServer
from finetune_pricer.local.learners.sparse.model import PriceModel
from finetune_pricer.prepare import MadeUpCatalogue
from ridge import ridge_mae

if TYPE_CHECKING:
    from pathlib import Path

    import openai

    from finetune_pricer import Evaluation, Predictor

pytestmark = pytest.mark.acceptance
MEDIAN_USED = 0.98


def train(client: openai.OpenAI, items: ItemDataset, folder: Path, seed: int, k: int = 0) -> Predictor:
    formatter = ChatFormatter(neighbors=Neighbors(items, k=k)) if k else ChatFormatter()
    training = JsonlWriter(formatter).write(items, folder / f"train_{seed}_{k}.jsonl")
    job = FineTuneJob.create(client, training, model="pricer-base", seed=seed, journal=folder / "journal")
    return job.wait(timeout=1800).predictor(formatter)


def ask(predictor: Predictor, items: ItemDataset) -> Evaluation:
    """Score what is asked by default, and see that the median was taken of nearly all."""
    predictions = predictor.predict_many(items)
    by_median = np.mean([one.distribution is not None for one in predictions])
    assert by_median >= MEDIAN_USED
    evaluation = Evaluator(rounds=200).score(items, predictions)
    assert evaluation.unscored == 0
    return evaluation


def exact_mae(server: LocalServer, predictor: Predictor, items: ItemDataset) -> float:
    """Read the learner's whole distribution, as no client can."""
    assert server._runtime is not None
    model = server._runtime.state.chat._find_model(predictor.model)[1]
    assert isinstance(model, PriceModel)
    asked = [str(predictor.formatter.prompt(item)[-1]["content"]) for item in items]
    return float(np.abs(np.array([model.median(text) for text in asked]) - items.prices).mean())


@pytest.mark.data
def test_amazon_by_default_is_better_than_ridge(data_folder: Path, tmp_path: Path) -> None:
    known, aside, test = ItemDataset.from_hub(data_folder / "amazon")
    parts = {"test": test, "kept aside": aside}
    ridge = {name: ridge_mae(known, items) for name, items in parts.items()}
    asked, exact = ({name: list[float]() for name in parts} for _ in range(2))
    with LocalServer(cores=1) as server, server.client() as client:
        for seed in (1, 2, 3):
            predictor = train(client, known, tmp_path, seed)
            for name, items in parts.items():
                asked[name].append(ask(predictor, items).mae.value / ridge[name])
                exact[name].append(exact_mae(server, predictor, items) / ridge[name])
                print(f"{name}, seed {seed}: {asked[name][-1]:.3f}, exact {exact[name][-1]:.3f} of ridge")
    # The validation part is harder for this learner than the test part; its bound is no promise, but what was
    # measured (0.967) and the noise of seeds, so that a loss is noticed there too.
    for name, most in (("test", 0.96), ("kept aside", 0.98)):
        print(f"{name}: {np.mean(asked[name]):.3f} of ridge, exact {np.mean(exact[name]):.3f}")
        assert np.mean(asked[name]) <= most
        assert np.mean(asked[name]) <= 1.03 * np.mean(exact[name])
    assert np.mean(exact["test"]) <= 0.95


@pytest.mark.data
def test_diamonds_by_default_are_better_than_ridge(data_folder: Path, tmp_path: Path) -> None:
    known, _, test = ItemDataset.from_hub(data_folder / "diamonds")
    known = known[:12_000]
    ridge = ridge_mae(known, test)
    with LocalServer(cores=1) as server, server.client() as client:
        predictor = train(client, known, tmp_path, 1)
        asked, exact = ask(predictor, test).mae.value, exact_mae(server, predictor, test)
    print(f"diamonds: {asked / ridge:.3f} of ridge, exact {exact / ridge:.3f}")
    assert asked <= 0.85 * ridge
    assert exact <= 0.83 * ridge
    assert asked <= 1.03 * exact


@pytest.mark.parametrize("count", [1000, 4000])
def test_the_made_up_catalogue_by_default_is_near_ridge(count: int, tmp_path: Path) -> None:
    every = MadeUpCatalogue().items(count + 600)
    known, test = every[:count], every[count:]
    ridge = ridge_mae(known, test)
    with LocalServer(cores=1) as server, server.client() as client:
        predictor = train(client, known, tmp_path, 1)
        asked, exact = ask(predictor, test).mae.value, exact_mae(server, predictor, test)
    print(f"made up, {count}: {asked / ridge:.3f} of ridge, exact {exact / ridge:.3f}")
    assert asked <= 1.10 * ridge
    assert asked <= 1.03 * exact


@pytest.mark.data
def test_neighbors_in_the_prompt_do_no_harm_on_amazon(data_folder: Path, tmp_path: Path) -> None:
    known, _, test = ItemDataset.from_hub(data_folder / "amazon")
    with LocalServer(cores=1) as server, server.client() as client:
        alone, beside = (ask(train(client, known, tmp_path, 1, k), test) for k in (0, 5))
    found = compare(beside, alone)
    print(f"5 neighbors in the prompt: {found}")
    assert found.difference.low <= 0
