"""The second example goes from a messy CSV to a checked training file with its price, and to a job."""

import os
import subprocess
import sys
from pathlib import Path

from finetune_pricer import check_jsonl

EXAMPLE = Path(__file__).parents[1] / "examples" / "02_your_own_csv.py"


def run(*arguments: str) -> str:
    command = [sys.executable, str(EXAMPLE), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_messy_csv_becomes_a_checked_training_file_with_its_price() -> None:
    output = run()
    assert "ItemDataset(402 items, 2 rows skipped)" in output
    assert "row 403: price = 'call us'" in output
    assert "own price in text: 1" in output
    assert "duplicate: 1" in output
    assert "audit removed 1 rows that give their own price in the text" in output
    assert "nothing to fix" in output
    assert "training            $0.3" in output
    assert "refused: training 'gpt-4.1-mini-2025-04-14' costs $0.3" in output
    assert "is trained" in output
    assert check_jsonl("jsonl/train.jsonl").problems == ()


def test_a_file_of_ones_own_goes_the_same_way() -> None:
    rows = "".join(f"a thing of {n} parts and {n * 7} screws,${n}.00\n" for n in range(10, 300))
    Path("mine.csv").write_text("text,cost\n" + rows)
    output = run("--csv", "mine.csv", "--columns", "text=summary", "cost=price")
    assert "ItemDataset(290 items)" in output
    assert "is trained" in output
