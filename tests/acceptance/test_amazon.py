"""The first example on real listings, against a classical model fitted on the same items in the same run."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from finetune_pricer import ItemDataset

pytestmark = [pytest.mark.acceptance, pytest.mark.data]
ROOT = Path(__file__).parents[2]


def ridge_mae(train: ItemDataset, test: ItemDataset) -> float:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline, make_union

    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), min_df=3, sublinear_tf=True)
    model = make_pipeline(make_union(words, characters), Ridge(alpha=1.0))
    model.fit([item.text for item in train], np.log1p(train.prices))
    guesses = np.expm1(model.predict([item.text for item in test]))
    return float(np.abs(guesses - test.prices).mean())


def test_the_first_example_is_as_good_as_ridge_on_real_listings(data_folder: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "examples" / "01_first_job.py"),
        "--data",
        str(data_folder / "amazon"),
    ]
    started = time.perf_counter()
    done = subprocess.run(
        [*command, "--train", "4799", "--test", "600"], capture_output=True, text=True, env=dict(os.environ)
    )
    seconds = time.perf_counter() - started
    assert done.returncode == 0, done.stderr
    model, median, *_ = (float(found) for found in re.findall(r"MAE \$([\d.]+)", done.stdout))
    train, _, test = ItemDataset.from_hub(data_folder / "amazon")
    ridge = ridge_mae(train, test)
    print(f"model ${model:.2f}, ridge ${ridge:.2f}, median ${median:.2f}, {seconds:.0f} s")
    assert model <= 1.05 * ridge
    assert 116 < median < 118
    assert seconds < 120


def test_the_third_example_forecasts_real_listings(data_folder: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "03_is_it_worth_it.py")]
    sizes = ["--sizes", "100", "300", "1000", "3000", "--target", "4799"]
    done = subprocess.run(
        [*command, "--data", str(data_folder / "amazon"), *sizes],
        capture_output=True,
        text=True,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    found = re.search(r"forecast at 4,799: \$([\d.]+), 80% band \$([\d.]+) to \$([\d.]+)", done.stdout)
    came = re.search(r"what came: MAE \$([\d.]+)", done.stdout)
    assert found
    assert came
    value, low, high = map(float, found.groups())
    assert low <= float(came[1]) <= high
    assert high - low < value / 2
