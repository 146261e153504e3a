"""How good and fast the local learner is: beside ridge fitted in the same run, and beside an older version.

    python bench/learner.py                                  # made-up sets, and real ones where they are
    python bench/learner.py --old ../older/src --seeds 42,1  # beside the package in another folder
    python bench/learner.py amazon made-up-1000              # some of the sets

The error is that of the exact median of the model's distribution. Seconds are CPU seconds of a training with
the defaults, rehearsals included; answers a second are one thread's, without HTTP. Old and new train by
turns, each in a process of its own. From seed to seed a ratio differs by about 0.01.
Real items lie in the folder that `FINETUNE_PRICER_DATA` names, by default `../shared/data`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from finetune_pricer import Item, ItemDataset, MadeUpCatalogue

ROOT = Path(__file__).parents[1]
INSTRUCTION = "Estimate the price of this product. Respond with the price, no explanation\n\n"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# Trains on the first list of [text, price] and asks about the texts of the second.
TRAIN = """
import json, sys, tempfile, time
from pathlib import Path
from finetune_pricer._methods.network import Hyperparameters
from finetune_pricer.local.learners.learner import Sampling
from finetune_pricer.local.learners.sparse.dataset import Example, TrainingSet
from finetune_pricer.local.learners.sparse.trainer import Trainer
known, asked, seed = json.load(sys.stdin)
began = time.process_time()
examples = [Example(prompt=text, reply=f"${price:.2f}", price=round(price, 2)) for text, price in known]
data = TrainingSet.prepare(examples, [])
with tempfile.TemporaryDirectory() as folder:
    chosen = Hyperparameters.resolve({}, examples=len(examples))
    model = Trainer(Path(folder), data, chosen, seed=seed).run().warm_up()
seconds, began = time.process_time() - began, time.process_time()
for text in asked:
    model.reply([{"role": "user", "content": text}], Sampling(temperature=0, alternatives=20))
rate = len(asked) / (time.process_time() - began)
weights = list(getattr(model, "pool", ()))[:3]
print(json.dumps([[model.median(text) for text in asked], seconds, rate, weights]))
"""


def build(count: int, seed: int) -> list[Item]:
    """Building sets: pieces and figures make most of the price, and few numbers occur twice."""
    random = np.random.default_rng(seed)
    themes = {"town": 1.0, "space": 1.35, "gears": 0.9, "toddlers": 2.6, "castle": 1.1}
    made = []
    for place in range(count):
        theme, pieces = str(random.choice(list(themes))), int(np.exp(random.normal(5.6, 1.1))) + 8
        figures = int(random.poisson(min(pieces / 180, 9)))
        price = (0.11 * pieces * themes[theme] + 2.2 * figures + 2) * np.exp(random.normal(0, 0.2))
        text = f"Set {random.integers(1_000, 99_999)} of the {theme} series. {pieces} pieces, "
        text += f"{figures} figures, for ages {random.integers(4, 17)} and up."
        made.append(Item(id=str(place), title=f"A {theme} set", price=round(float(price), 2), summary=text))
    return made


def describe_computers(count: int, seed: int) -> list[Item]:
    """Computers: memory, disk, clock and screen, each with its unit, in any order."""
    random = np.random.default_rng(seed)
    made = []
    for place in range(count):
        memory, disk = int(random.choice([4, 8, 12, 16, 24, 32, 48, 64])), int(random.integers(100, 2_100))
        clock, screen = int(random.integers(800, 4_200)), round(float(random.uniform(11, 18)), 1)
        price = (180 + 14 * memory + 0.35 * disk + 0.12 * clock + 20 * screen) * np.exp(
            random.normal(0, 0.15)
        )
        parts = [f"{memory}GB RAM", f"{disk} GB disk", f"{clock} MHz", f"screen of {screen} inches"]
        random.shuffle(parts)
        text = f"A computer with {', '.join(parts)}."
        made.append(Item(id=str(place), title="Computer", price=round(float(price), 2), summary=text))
    return made


def load_real(name: str) -> tuple[list[Item], list[Item]] | None:
    folder = Path(os.environ.get("FINETUNE_PRICER_DATA", ROOT.parent / "shared" / "data")) / name
    if not folder.is_dir():
        print(f"{name}: no folder {folder}")
        return None
    train, _, test = ItemDataset.from_hub(folder)
    return list(train)[:12_000], list(test)


def make_catalogue(count: int) -> tuple[list[Item], list[Item]]:
    train, _, test = MadeUpCatalogue().splits(count, 0, 600)
    return list(train), list(test)


SETS: dict[str, Callable[[], tuple[list[Item], list[Item]] | None]] = {
    "made-up-1000": lambda: make_catalogue(1_000),
    "made-up-4000": lambda: make_catalogue(4_000),
    "building-sets": lambda: (build(2_400, 1), build(800, 2)),
    "computers": lambda: (describe_computers(2_400, 1), describe_computers(800, 2)),
    "diamonds": lambda: load_real("diamonds"),
    "amazon": lambda: load_real("amazon"),
}


def train(
    source: Path, known: list[Item], asked: list[Item], seed: int
) -> tuple[float, float, float, list[float]]:
    """Return the error in dollars, CPU seconds, answers a second, and the pool's weights."""
    pairs = [[INSTRUCTION + item.text, item.price] for item in known]
    given = json.dumps([pairs, [INSTRUCTION + item.text for item in asked], seed])
    environment = os.environ | ONE_THREAD | {"PYTHONPATH": str(source)}
    command = [sys.executable, "-c", TRAIN]
    ran = subprocess.run(command, input=given, capture_output=True, text=True, check=True, env=environment)
    prices, seconds, rate, weights = json.loads(ran.stdout.splitlines()[-1])
    true = np.array([item.price for item in asked])
    return float(np.abs(np.array(prices) - true).mean()), seconds, rate, weights


def compare(name: str, seeds: list[int], old: Path | None) -> None:
    sys.path.append(str(ROOT / "tests"))
    from ridge import ridge_mae

    loaded = SETS[name]()
    if loaded is None:
        return
    known, asked = loaded
    ridge = ridge_mae(ItemDataset.from_items(known), ItemDataset.from_items(asked))
    ratios = []
    for seed in seeds:
        error, seconds, rate, weights = train(ROOT / "src", known, asked, seed)
        ratios.append(error / ridge)
        pool = ", ".join(f"{weight:.2f}" for weight in weights)
        said = f"{name} seed {seed}: {error / ridge:.3f} of ridge, {seconds:.1f} s, {rate:.0f} answers/s; "
        said += f"network, ridge, neighbours: {pool}"
        if old is not None:
            before = train(old, known, asked, seed)
            said += f"; old {before[0] / ridge:.3f} of ridge, {before[1]:.1f} s, {before[2]:.0f} answers/s: "
            said += f"error x{error / before[0]:.2f}, time x{seconds / before[1]:.2f}"
        print(said, flush=True)
    print(f"{name}: ridge ${ridge:.2f}; mean of {len(seeds)} seeds {np.mean(ratios):.3f} of it", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sets", nargs="*", default=list(SETS), help=f"some of {', '.join(SETS)}")
    parser.add_argument("--seeds", default="42", help="separated by commas")
    parser.add_argument("--old", type=Path, help="the folder `src` of an older version")
    asked = parser.parse_args()
    for name in asked.sets:
        compare(name, [int(seed) for seed in asked.seeds.split(",")], asked.old)


if __name__ == "__main__":
    main()
