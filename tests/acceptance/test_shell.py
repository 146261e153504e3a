"""The road from the shell on real listings: a CSV in, a saved pricer with its report and a priced CSV out."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune_pricer import ItemDataset

pytestmark = [pytest.mark.acceptance, pytest.mark.data]
COLUMNS = ("--columns", "SKU=id", "Name=title", "Group=category", "Desc=summary", "Price=price")
NAMES = {"id": "SKU", "title": "Name", "category": "Group", "summary": "Desc", "price": "Price"}


def run(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run a command as a process of its own; give what it writes for programs."""
    command = [sys.executable, "-m", "finetune_pricer", *arguments, "--json"]
    # No key and no terminal: what is not free would be refused.
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def write_export(folder: Path, path: Path) -> dict[str, float]:
    """Write one export, the training listings with prices, the test listings without; give the true ones."""
    train, _, test = ItemDataset.from_hub(folder / "amazon")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(NAMES.values())
        for prefix, items in (("known", train), ("wanted", test)):
            for number, item in enumerate(items):
                price = f"${item.price:,.2f}" if prefix == "known" else ""
                writer.writerow([f"{prefix}-{number}", item.title, item.category, item.summary, price])
    return {f"wanted-{number}": item.price or 0.0 for number, item in enumerate(test)}


def test_two_commands_lead_from_an_export_to_prices(data_folder: Path, tmp_path: Path) -> None:
    truths = write_export(data_folder, tmp_path / "shop.csv")

    trained = run(tmp_path, "train", "shop.csv", *COLUMNS, "--out", "pricer/")
    priced = run(tmp_path, "price", "shop.csv", "priced.csv", "--pricer", "pricer/")

    print(trained["products"], trained["evaluation"]["name"], trained["evaluation"]["metrics"]["mae"])
    assert priced["products"] == len(truths)
    assert priced["without_a_price"] == 0
    with (tmp_path / "priced.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["item_id"] for row in rows} == truths.keys()
    misses = [abs(float(row["price"]) - truths[row["item_id"]]) for row in rows]
    median = np.median([*truths.values()])
    constant = float(np.mean([abs(truth - median) for truth in truths.values()]))
    print(f"MAE ${np.mean(misses):.2f}; always the median: ${constant:.2f}")
    assert np.mean(misses) < 0.75 * constant
    inside = [float(row["low"]) <= truths[row["item_id"]] <= float(row["high"]) for row in rows]
    print(f"{np.mean(inside):.1%} of the true prices lie in their ranges")
    assert 0.85 < np.mean(inside) < 0.95
    report = (tmp_path / "pricer" / "report.html").read_text(encoding="utf-8")
    assert trained["evaluation"]["name"] in report

    again = run(tmp_path, "price", "shop.csv", "again.csv", "--pricer", "pricer/")
    assert again["products"] == len(truths)
    with (tmp_path / "again.csv").open(encoding="utf-8", newline="") as file:
        prices = [row["price"] for row in csv.DictReader(file)]
    assert prices == [row["price"] for row in rows]
