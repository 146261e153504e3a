"""The first example on real listings, against a classical model fitted on the same items in the same run."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from finetune_pricer import ItemDataset
from ridge import ridge_mae

pytestmark = [pytest.mark.acceptance, pytest.mark.data]
ROOT = Path(__file__).parents[2]


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
    model, median = (float(found) for found in re.findall(r"MAE \$([\d.]+)", done.stdout))
    train, _, test = ItemDataset.from_hub(data_folder / "amazon")
    ridge = ridge_mae(train, test)
    print(f"model ${model:.2f}, ridge ${ridge:.2f}, median ${median:.2f}, {seconds:.0f} s")
    assert model <= 1.05 * ridge
    assert 116 < median < 118
    assert seconds < 120
