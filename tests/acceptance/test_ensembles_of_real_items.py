"""An ensemble on real items: fitted on validation, against ridge and against its members on test."""

from pathlib import Path

import pytest

from finetune_pricer import (
    ChatFormatter,
    Comparison,
    Ensemble,
    Evaluator,
    FineTuneJob,
    ItemDataset,
    JsonlWriter,
    compare,
    connect,
)
from finetune_pricer.evaluate import NeighborsBaseline, NetworkBaseline, PricesMany, RidgeBaseline
from ridge import ridge_mae

pytestmark = [pytest.mark.acceptance, pytest.mark.data]


def against_best(
    ensemble: Ensemble, members: list[PricesMany], test: ItemDataset
) -> tuple[float, Comparison]:
    judge = Evaluator(rounds=1_000)
    found = judge.evaluate(ensemble, test, name="the ensemble")
    rivals = [judge.evaluate(each, test) for each in members]
    for one in (found, *rivals):
        print(f"{one.name}: {one}")
    best = min(rivals, key=lambda one: one.mae.value)
    return found.mae.value, compare(found, best)


def test_members_that_are_no_pools_beat_ridge_together(data_folder: Path) -> None:
    train, validation, test = ItemDataset.from_hub(data_folder / "amazon")
    ridge = ridge_mae(train, test)
    members: list[PricesMany] = [
        kind.fit(train) for kind in (NetworkBaseline, RidgeBaseline, NeighborsBaseline)
    ]
    ensemble = Ensemble(members).fit(validation)
    print(ensemble)
    error, beside_best = against_best(ensemble, members, test)
    print(f"ridge ${ridge:.2f}: {error / ridge:.3f}\n{beside_best}")
    assert error <= 0.96 * ridge
    assert beside_best.difference.low <= 0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_beside_the_local_learner_it_is_never_worse_than_its_best_member_beyond_chance(
    data_folder: Path, seed: int
) -> None:
    train, validation, test = ItemDataset.from_hub(data_folder / "amazon")
    client = connect("local")
    training = JsonlWriter().write(train, "train.jsonl")
    job = FineTuneJob.create(client, training, model="pricer-base", seed=seed).wait()
    members: list[PricesMany] = [
        job.predictor(ChatFormatter(), store="answers.sqlite"),
        RidgeBaseline.fit(train),
        NeighborsBaseline.fit(train),
    ]
    ensemble = Ensemble(members).fit(validation)
    print(ensemble)
    error, beside_best = against_best(ensemble, members, test)
    ridge = ridge_mae(train, test)
    print(f"ridge ${ridge:.2f}: {error / ridge:.3f}\n{beside_best}")
    assert error <= 0.96 * ridge
    assert beside_best.difference.low <= 0
