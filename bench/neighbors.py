"""How fast neighbors are found, and how many of the true ones, beside scikit-learn's exact search.

    python bench/neighbors.py [--items 5000] [--vectors] [--exact 500]

The bars: an index of 5,000 items and 5 neighbors of each of 5,000 others under 5 s, of 100,000 and 100,000
under 5 minutes and 4 GB. With `FINETUNE_PRICER_DATA` the diamonds of that folder are searched too.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np

from finetune_pricer import ItemDataset, MadeUpCatalogue, Neighbors
from finetune_pricer._methods.features import TextFeatures
from finetune_pricer._methods.nearest import NearestRows, scale_to_unit

K = 5


def find_all(items: ItemDataset, asked: ItemDataset) -> None:
    cpu, wall = time.process_time(), time.perf_counter()
    neighbors = Neighbors(items, k=K)
    built = time.process_time() - cpu
    found = sum(len(near) for near in neighbors.of_many(asked))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**20 if sys.platform != "darwin" else 2**30
    )
    print(
        f"{len(asked):,} in {len(items):,}: {cpu:.1f} s of CPU ({built:.1f} s to build), {wall:.1f} s by the "
        f"clock, {memory:.1f} GB at most, {found / len(asked):.2f} neighbors each"
    )


def compare_with_exact(items: ItemDataset, asked: ItemDataset) -> None:
    """Print the time of searching alone and the share of true neighbors, twins and all."""
    from sklearn.neighbors import NearestNeighbors

    features = TextFeatures.fit([item.text for item in items], blocks=("words",))
    rows = scale_to_unit(features.transform([item.text for item in items]))
    queries = scale_to_unit(features.transform([item.text for item in asked]))
    compare_searches(rows, queries, NearestNeighbors(n_neighbors=K, metric="cosine", algorithm="brute"))


def compare_searches(rows, queries, oracle) -> None:  # noqa: ANN001 - sparse or dense, and scikit-learn's own
    start = time.process_time()
    search = NearestRows(rows)
    built = time.process_time() - start
    start = time.process_time()
    found = search.nearest(queries, K)
    ours = time.process_time() - start
    start = time.process_time()
    distances, _ = oracle.fit(rows).kneighbors(queries)
    theirs = time.process_time() - start
    # By the similarity, as of equal ones either is right.
    true = (found.similarities >= 1 - distances[:, -1:] - 1e-6).mean()
    count = queries.shape[0]
    print(
        f"  search alone, {count:,} in {rows.shape[0]:,}: {1000 * ours / count:.2f} ms each ({built:.1f} s to "
        f"build), scikit-learn {1000 * theirs / count:.2f} ms; {true:.1%} of the true neighbors"
    )


def compare_vectors(count: int, asked: int) -> None:
    from sklearn.neighbors import NearestNeighbors

    draw = np.random.default_rng(42)
    middles = draw.normal(size=(2_000, 256))
    rows = middles[draw.integers(0, 2_000, count + asked)] + 0.8 * draw.normal(size=(count + asked, 256))
    rows = scale_to_unit(rows.astype(np.float32))
    print("vectors of 256 numbers in 2,000 clusters")
    compare_searches(
        rows[:count], rows[count:], NearestNeighbors(n_neighbors=K, metric="cosine", algorithm="brute")
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=5_000)
    parser.add_argument("--exact", type=int, default=500, help="items that are compared with an exact search")
    parser.add_argument("--vectors", action="store_true", help="search dense vectors instead of texts")
    chosen = parser.parse_args()
    if chosen.vectors:
        compare_vectors(chosen.items, chosen.exact)
        return
    sets = {"made up": MadeUpCatalogue().items(2 * chosen.items)}
    if (folder := Path(os.environ.get("FINETUNE_PRICER_DATA", "")) / "diamonds").is_dir():
        sets["diamonds"] = ItemDataset.from_items(
            islice(ItemDataset.from_hub(str(folder)).train, 2 * chosen.items)
        )
    for name, items in sets.items():
        half = len(items) // 2
        print(name)
        find_all(items[:half], items[half:])
        compare_with_exact(items[:half], items[half : half + chosen.exact])


if __name__ == "__main__":
    main()
