"""Samples drawn evenly by price speak for the whole; texts of one template still split as asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from figures import trials
from finetune_pricer import Evaluator, Item, ItemDataset, audit
from finetune_pricer._methods.duplicates import Shingles, near_pairs, words_of
from finetune_pricer.errors import DataError
from real_errors import priced

if TYPE_CHECKING:
    from figures import Figures

pytestmark = pytest.mark.statistics

TRIALS, SIZE = trials(1000), 150
SETS, TEXTS = trials(60), 400


def test_an_even_sample_by_price_has_the_error_of_its_population(figures: Figures) -> None:
    items, truth, price = priced("ridge")
    guess = {item.id: float(one) for item, one in zip(items, price, strict=True)}
    true, told, held = float(np.abs(truth - price).mean()), list[float](), 0
    told_before, held_before = list[float](), 0
    for trial in range(TRIALS):
        drawn = items.sample(SIZE, seed=trial, by="price")
        score = Evaluator(rounds=500, seed=trial).score
        answers = [guess[item.id] for item in drawn]
        now, before = score(drawn, answers).mae, score(drawn, answers, weights=[1.0] * SIZE).mae
        told.append(now.value / true)
        told_before.append(before.value / true)
        held += now.low <= true <= now.high
        held_before += before.low <= true <= before.high
    error, noise = float(np.mean(told)) - 1, 2 * float(np.std(told)) / np.sqrt(TRIALS)
    case = f"{SIZE} real errors drawn evenly by price"
    figures.add(
        f"{case}: MAE told too high by",
        asked="within 1 %",
        before=f"{np.mean(told_before) - 1:+.1%}",
        now=f"{error:+.1%} ± {noise:.1%}",
    )
    figures.add(
        f"{case}: 95 % interval of the MAE covers",
        asked="at least 93%",
        before=f"{held_before / TRIALS:.1%}",
        now=f"{held / TRIALS:.1%}",
    )
    assert abs(error) <= 0.01 + noise
    assert held / TRIALS >= 0.93 - 2 * np.sqrt(0.93 * 0.07 / TRIALS)


def templated(random: np.random.Generator) -> ItemDataset:
    """Texts of one template whose six places are filled at random: each has near-twins, and these others."""
    makers, disks = ("Acme", "Boron", "Cello", "Delta", "Ember"), (80, 120, 250, 320, 500, 640)
    return ItemDataset.from_items(
        Item(
            id=str(at),
            title=f"Computer {at}",
            price=float(random.lognormal(6, 0.5)),
            summary=f"This desktop computer by {random.choice(makers)} has a processor of "
            f"{random.integers(10, 40) * 100} MHz, {2 ** random.integers(1, 7)} GB of memory, a disk of "
            f"{random.choice(disks)} GB and a screen of {random.integers(14, 28)} inches, and it comes with "
            f"a keyboard, a mouse and a warranty of {random.integers(1, 6)} years",
        )
        for at in range(TEXTS)
    )


def largest_chain(texts: list[str]) -> int:
    """Count the texts of the largest group where whatever is alike to a member is a member."""
    pairs = np.array([pair[:2] for pair in near_pairs(Shingles(map(words_of, texts)), 0.6)]).reshape(-1, 2)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(texts), len(texts)))
    return int(np.bincount(connected_components(graph)[1]).max())


def test_texts_of_one_template_are_split_as_asked_or_refused(figures: Figures) -> None:
    chains, groups, right, refused = list[int](), list[int](), 0, 0
    for trial in range(SETS):
        items = templated(np.random.default_rng([7, trial]))
        labels = audit(items, similarity=0.6).groups()
        chains.append(largest_chain([item.text for item in items]))
        groups.append(int(np.unique(labels, return_counts=True)[1].max()))
        try:
            parts = items.split(validation=0.1, test=0.2, seed=trial, group=labels)
        except DataError:
            refused += 1
            continue
        right += all(
            0.9 * share * TEXTS <= len(part) for share, part in zip((0.7, 0.1, 0.2), parts, strict=True)
        )
    figures.add(
        f"{TEXTS} texts of one template: the largest group of near-twins",
        asked="no chain",
        before=f"{np.median(chains):.0f} in the median",
        now=f"{np.median(groups):.0f} in the median",
    )
    figures.add(
        f"{TEXTS} texts of one template, 70, 10 and 20 % asked for: nine tenths of each, or refused",
        asked="always",
        before=f"{np.mean(np.array(chains) <= 0.73 * TEXTS):.0%}",
        now=f"{(right + refused) / SETS:.0%}, refused {refused / SETS:.0%}",
    )
    assert right + refused == SETS
    assert np.median(groups) < np.median(chains) / 2
