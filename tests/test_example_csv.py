"""The second example goes from a shop's messy export to prices, and its page says what became of each row."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from finetune_pricer import MadeUpCatalogue, check_jsonl

EXAMPLE = Path(__file__).parents[1] / "examples" / "02_your_own_csv.py"


def run(*arguments: str) -> str:
    command = [sys.executable, str(EXAMPLE), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def priced() -> list[dict[str, str]]:
    with Path("priced.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_messy_export_becomes_prices_and_a_page_on_how_wrong_they_are() -> None:
    output = run()
    assert "503 items, 443 with a price; 3 rows of the source could not be items" in output
    assert re.search(r"MAE \u20ac[\d,.]+ \(95% CI", output)

    rows = priced()
    assert len(rows) == 60
    assert all(0 <= float(row["low"]) <= float(row["price"]) <= float(row["high"]) for row in rows)
    names = {item.title for item in MadeUpCatalogue(seed=3).items(500)}
    assert {row["title"] for row in rows} <= names
    assert all(row["item_id"].startswith("400638") for row in rows)

    page = Path("report.html").read_text()
    for said in (
        "delimiter &#39;;&#39;, encoding cp1252, with 1 character in UTF-8",
        "prices read with a decimal comma",
        "10 prices of 0 read as unknown",
        "503 texts freed of HTML",
        "no price in &#39;auf Anfrage&#39;",
        "has no summary, full text or title",
        "a range is not a price",
    ):
        assert said in page, said
    assert re.findall(r'<td class="text">(50\d \(line 50\d\))</td>', page) == [
        "503 (line 504)",
        "504 (line 505)",
        "505 (line 506)",
    ]


@pytest.mark.parametrize("priced_by", [(), ("--provider", "local", "--model", "pricer-base")])
def test_an_export_of_ones_own_goes_the_same_way(priced_by: tuple[str, ...]) -> None:
    goods = [f"a thing of {n} parts and {n * 7} screws,${n}.00\n" for n in range(10, 300)]
    Path("mine.csv").write_text("text,cost\n" + "".join(goods) + "a thing of 200 parts and 1400 screws,\n")
    output = run("--csv", "mine.csv", "--columns", "text=summary", "cost=price", *priced_by)
    assert "291 items, 290 with a price" in output
    [row] = priced()
    assert 150 < float(row["price"]) < 250
    if priced_by:
        assert check_jsonl("jsonl/train.jsonl").ok
