"""The first example on real listings, against a classical model fitted on the same items in the same run."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from finetune_pricer import ItemDataset
from ridge import ridge_mae

pytestmark = [pytest.mark.acceptance, pytest.mark.data]
ROOT = Path(__file__).parents[2]
KEY = "sk-of-the-acceptance-run"


@pytest.fixture(scope="module")
def ridge(data_folder: Path) -> float:
    """The MAE of TF-IDF (words 1-2, characters 3-4) and ridge on log price, in dollars."""
    train, _, test = ItemDataset.from_hub(data_folder / "amazon")
    return ridge_mae(train, test)


def run_example(folder: Path, *arguments: str) -> tuple[float, float, float]:
    """Run the first example on all listings; give the model's and the median's MAE, and the seconds."""
    command = [sys.executable, str(ROOT / "examples" / "01_first_job.py"), "--data", str(folder / "amazon")]
    started = time.perf_counter()
    done = subprocess.run(
        [*command, "--train", "4799", "--test", "600", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"OPENAI_API_KEY": KEY},
    )
    assert done.returncode == 0, done.stderr
    model, median, *_ = (float(found) for found in re.findall(r"MAE \$([\d.]+)", done.stdout))
    return model, median, time.perf_counter() - started


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Run `finetune-pricer serve` as a process of its own; give its base URL."""
    command = [sys.executable, "-m", "finetune_pricer.cli", "serve", "--port", "0", "--key", KEY]
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen([*command, "--dir", str(folder / "kept")], stderr=output)
    try:
        while not (found := re.search(r"http://\S+?/v1", log.read_text())):
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        yield found[0]
    finally:
        process.terminate()
        process.wait(20)


def test_the_first_example_is_as_good_as_ridge_on_real_listings(data_folder: Path, ridge: float) -> None:
    model, median, seconds = run_example(data_folder)
    print(f"model ${model:.2f}, ridge ${ridge:.2f}, median ${median:.2f}, {seconds:.0f} s")
    assert model <= 1.05 * ridge
    assert 116 < median < 118
    assert seconds < 120


def test_a_separately_started_server_gives_the_same_through_a_plain_client(
    data_folder: Path, ridge: float, tmp_path: Path
) -> None:
    with serving(tmp_path) as url:
        model, median, seconds = run_example(data_folder, "--base-url", url)
    print(f"model ${model:.2f}, ridge ${ridge:.2f}, median ${median:.2f}, {seconds:.0f} s")
    assert model <= 1.05 * ridge
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
