"""Three models on 10,000 items, 10,000 rounds: our paired comparison beside scipy's bootstrap.

    python bench/paired_bootstrap.py

Prints seconds, the ratio, and the peak of memory of our comparison in a process of its own. Then what the
other methods take beside the percentile interval: bootstrap-t of one MAE, and whole groups of items.
"""

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from finetune_pricer import Evaluator, Item, compare
from finetune_pricer._methods.resampling import studentised_intervals, weighted_intervals

SIZE = ROUNDS = 10_000


def ours() -> float:
    random = np.random.default_rng(1)
    items = [Item(id=str(at), title="thing", price=100.0) for at in range(SIZE)]
    found = [
        Evaluator(rounds=10).score(items, (100 + random.lognormal(3, 1, SIZE)).tolist(), name=name)
        for name in "abc"
    ]
    began = time.perf_counter()
    compare(*found, rounds=ROUNDS)
    return time.perf_counter() - began


def scipys() -> float:
    from scipy.stats import bootstrap

    random = np.random.default_rng(1)
    errors = random.lognormal(3, 1, (3, SIZE))
    began = time.perf_counter()
    for other in (1, 2):
        gaps = errors[0] - errors[other]
        bootstrap((gaps,), np.mean, n_resamples=ROUNDS, method="percentile", batch=200, rng=1)
    return time.perf_counter() - began


def seconds_of(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def other_methods() -> None:
    errors = np.random.default_rng(1).lognormal(3, 1, SIZE)
    weights, groups = np.ones(SIZE), np.arange(SIZE) // 2

    def of_counts(counts: Any) -> Any:
        return counts @ errors / counts.sum(axis=1)

    def percentile(labels: Any = None) -> object:
        return weighted_intervals({"mae": of_counts}, weights, rounds=ROUNDS, seed=1, groups=labels)

    def studentised() -> object:
        return studentised_intervals(errors[:, None], weights[:, None], rounds=ROUNDS, seed=1)

    base, *others = (
        min(seconds_of(one) for _ in range(3))
        for one in (percentile, studentised, lambda: percentile(groups))
    )
    for name, seconds in zip(("bootstrap-t", f"percentile, {SIZE // 2:,} groups"), others, strict=True):
        print(f"{name}: {seconds:.2f} s, {seconds / base:.1f} times the percentile interval ({base:.2f} s)")


def main() -> None:
    if "--peak" in sys.argv:
        ours()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    best, theirs = min(ours() for _ in range(3)), min(scipys() for _ in range(2))
    peak = subprocess.run(
        [sys.executable, __file__, "--peak"], capture_output=True, text=True, check=True
    ).stdout
    print(f"compare, intervals and p-values of 2 pairs: {best:.2f} s, peak {float(peak):.0f} MB")
    print(f"scipy's bootstrap, intervals alone: {theirs:.2f} s, {theirs / best:.1f} times as long")
    other_methods()


if __name__ == "__main__":
    main()
