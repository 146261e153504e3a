"""From a messy CSV to a checked training file with its price, and a job within a budget.

The shop's export below has foreign column names, prices as text, rows that cannot be items, duplicates, and
a row whose description gives its price away. Runs on the local server: no key, no network, no cost.

    python examples/02_your_own_csv.py
    python examples/02_your_own_csv.py --csv shop.csv --columns description=summary cost=price
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

from finetune_pricer import (
    ChatFormatter,
    FineTuneJob,
    ItemDataset,
    JsonlWriter,
    MadeUpCatalogue,
    audit,
    check_jsonl,
    connect,
    estimate_cost,
)
from finetune_pricer.errors import OverBudget, PricerError

COLUMNS = {"sku": "id", "product": "title", "kind": "category", "description": "summary", "cost": "price"}


def main(argv: Sequence[str] | None = None) -> None:
    options = read_options(argv)
    if options.csv is None:
        options.csv, options.columns = messy_csv(Path("shop.csv")), COLUMNS

    # 1. Rows that cannot be items are left out, counted and shown.
    items = ItemDataset.from_file(options.csv, columns=options.columns, on_error="skip")
    print(f"{items!r}\n")
    for problem in items.skipped[:3]:
        print(f"  {problem}")
    print(f"\n{items.describe()}\n")

    # 2. Near-duplicates stay on one side of the split; rows that leak are named and removed.
    groups = audit(items).groups()
    train, validation, test = items.split(validation=50, test=50, seed=42, group=groups)
    report = audit(train, validation=validation, test=test)
    print(f"{report}\n")
    train, validation, test = report.clean()
    for line in train.history:
        print(f"  {line}")

    # 3. Chat examples, checked once more as a file of anybody's would be.
    formatter = ChatFormatter()
    writer = JsonlWriter(formatter)
    training_file = writer.write(train, "jsonl/train.jsonl")
    validation_file = writer.write(validation, "jsonl/validation.jsonl")
    print(f"\n{check_jsonl(training_file.path)}\n")

    # 4. What it would cost at a service, and what rehearsing costs.
    print(
        estimate_cost(
            training_file, model="gpt-4.1-mini-2025-04-14", epochs=3, provider="openai", predictions=10_000
        )
    )

    # 5. A job is refused before anything is uploaded if it costs more than its budget.
    client = connect("local")
    try:
        FineTuneJob.create(
            client,
            training_file,
            model="gpt-4.1-mini-2025-04-14",
            epochs=3,
            provider="openai",
            budget=0.01,
        )
    except OverBudget as error:
        print(f"\nrefused: {error}")
    job = FineTuneJob.create(
        client,
        training_file,
        validation=validation_file,
        model="pricer-base",
        epochs=3,
        provider="local",
        budget=0.0,
        seed=42,
    ).wait()
    print(f"\n{job.fine_tuned_model} is trained; {len(test)} items are left to judge it by")


def messy_csv(path: Path) -> Path:
    """Write a shop's export as shops export: made-up products, and everything that goes wrong."""
    products = list(MadeUpCatalogue(seed=3).items(400))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for product in products:
            price = f"${product.price:,.2f}" if len(product.id) % 2 else f"{product.price:.2f} USD"
            writer.writerow([product.id, product.title, product.category, product.summary, price])
        first, second, third = products[:3]
        # The same twice, but for its form; one that gives its price away; two that cannot be items.
        loud = str(first.summary).upper().replace(",", " -")
        writer.writerow(["t-1", first.title, first.category, loud, f"${first.price:,.2f}"])
        leak = f"{second.summary} List price ${second.price:,.2f}."
        writer.writerow(["t-2", second.title, second.category, leak, f"${second.price:,.2f}"])
        writer.writerow(["t-3", third.title, third.category, third.summary, "call us"])
        writer.writerow(["t-4", "", "", "", "$5.00"])
    return path


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="From a messy CSV to a checked training file.")
    parser.add_argument("--csv", type=Path, help="your own file; a made-up messy one if left out")
    parser.add_argument(
        "--columns",
        nargs="*",
        default=[],
        metavar="THEIRS=OURS",
        help="such as cost=price",
    )
    options = parser.parse_args(argv)
    options.columns = dict(pair.split("=", 1) for pair in options.columns)
    return options


if __name__ == "__main__":
    try:
        main()
    except PricerError as error:
        raise SystemExit(f"error: {error}") from None
