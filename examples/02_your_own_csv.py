"""From your shop's export to prices: one file in, a CSV with prices and a page on how wrong they are out.

The export holds products with prices, to learn from, and products without, to be priced. The one made up
below has what exports have: foreign column names, semicolons, an old encoding, decimal commas, HTML, prices
of 0, duplicates, rows that cannot be items, and a text that gives its price away. No key, no network, no
cost: without a service the best of the methods that cost nothing is taken; `--provider` tunes a model on the
shop's own goods instead.

    python examples/02_your_own_csv.py
    python examples/02_your_own_csv.py --provider local --model pricer-base
    python examples/02_your_own_csv.py --csv shop.csv --currency EUR --columns Name=title Preis=price
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from finetune_pricer import (
    ChatFormatter,
    Evaluator,
    FineTuneJob,
    ItemDataset,
    JsonlWriter,
    MadeUpCatalogue,
    Predictor,
    audit,
    check_jsonl,
    connect,
)
from finetune_pricer.errors import PricerError
from finetune_pricer.evaluate import Baseline, fit_baselines

COLUMNS = {
    "Artikel": "id",
    "Name": "title",
    "Gruppe": "category",
    "Beschreibung": "summary",
    "Preis": "price",
}


def main(argv: Sequence[str] | None = None) -> None:
    options = read_options(argv)
    if options.csv is None:
        options.csv, options.columns, options.currency = messy_export(Path("shop.csv")), COLUMNS, "EUR"

    # 1. Delimiter, encoding and the form of the prices are found out. A price of 0 is none, and rows that
    #    cannot be items are left out, counted, and shown on the page.
    items = ItemDataset.from_file(
        options.csv,
        columns=options.columns,
        currency=options.currency,
        priced=False,
        zero_is="unknown",
        on_error="skip",
    )
    print(f"{items.describe()}\n")
    for problem in items.skipped[:3]:
        print(f"  {problem}")
    known = items.filter(lambda item: item.price is not None)
    wanted = items.filter(lambda item: item.price is None)

    # 2. Near-duplicates stay on one side of the split; rows that leak are named and removed.
    train, validation, test = known.split(validation=0.3, test=0.2, seed=42, group=audit(known).groups())
    report = audit(train, validation=validation, test=test)
    print(f"\n{report}\n")
    train, validation, test = report.clean()
    chosen_on, calibrated_on = validation[: len(validation) // 2], validation[len(validation) // 2 :]

    # 3. Learn from the shop's own goods; ranges come from items that nothing was learned or chosen on.
    free = options.provider is None
    learned = choose_free(train, chosen_on) if free else tune(options, train, chosen_on)
    predictor = learned.calibrate(calibrated_on)

    # 4. How wrong it is, on items that it has never seen, and what became of each row of the file.
    evaluation = Evaluator(baselines=train).evaluate(predictor, test, name="prices of this shop")
    evaluation.to_html(options.report, items=items)
    print(f"{evaluation}\n")

    # 5. The products without a price get one.
    predictor.predict_many(wanted).to_csv(options.priced, items=wanted, formulas="escape")
    print(f"{len(wanted):,} products in {options.priced}, and how wrong they are in {options.report}")


def choose_free(train: ItemDataset, validation: ItemDataset) -> Baseline:
    """Return the method that is least wrong on the validation items, of those that cost nothing."""
    judge = Evaluator()
    return min(fit_baselines(train), key=lambda method: judge.evaluate(method, validation).mae)


def tune(options: argparse.Namespace, train: ItemDataset, validation: ItemDataset) -> Predictor:
    """Return a model that a service has tuned on the training items."""
    formatter = ChatFormatter(currency=options.currency)
    writer = JsonlWriter(formatter)
    training_file = writer.write(train, "jsonl/train.jsonl")
    validation_file = writer.write(validation, "jsonl/validation.jsonl")
    print(f"{check_jsonl(training_file.path)}\n")
    client = connect(options.provider)
    job = FineTuneJob.create(client, training_file, validation=validation_file, model=options.model, seed=42)
    return job.wait().predictor(formatter)


def messy_export(path: Path) -> Path:
    """Write a shop's export as its program writes it, with everything that goes wrong."""
    rows: list[list[object]] = []
    for number, product in enumerate(MadeUpCatalogue(seed=3).items(500)):
        text = f"<p>{product.summary}</p><ul><li>Versand &amp; R\u00fcckgabe: 14 Tage</li></ul>"
        # A tenth has no price, another few a price of 0, which means the same.
        price = "" if number % 10 == 9 else "0,00" if number % 50 == 25 else write_price(product.price or 0)
        rows.append([f"400638{number:07}", product.title, product.category, text, price])
    first, second, third = rows[:3]
    # The same twice, but for its form; one that gives its price away; three that cannot be items.
    rows.append(["4006389000001", first[1], first[2], str(first[3]).upper(), first[4]])
    rows.append(["4006389000002", second[1], second[2], f"{second[3]} UVP {second[4]}", second[4]])
    rows.append(["4006389000003", third[1], third[2], third[3], "auf Anfrage"])
    rows.append(["4006389000004", "", "", "", "5,00 \u20ac"])
    rows.append(["4006389000005", "Lampe", "", "Zwei Gr\u00f6\u00dfen", "19,99 - 29,99"])
    lines = ["Artikel;Name;Gruppe;Beschreibung;Preis", *(";".join(map(quote, row)) for row in rows)]
    data = "\r\n".join(lines).encode("cp1252")
    # One row was pasted from elsewhere, in UTF-8.
    path.write_bytes(data + "\r\n4006389000006;Caf\u00e9-Tisch;;Rund;89,00".encode())
    return path


def write_price(price: float) -> str:
    """Write a price as people in much of Europe do: `1.299,00 €`."""
    return f"{price:,.2f} \u20ac".translate(str.maketrans(",.", ".,"))


def quote(cell: object) -> str:
    text = str(cell).replace('"', '""')
    return f'"{text}"' if set(text) & set(';"\n') else text


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="From your shop's export to prices.")
    parser.add_argument("--csv", type=Path, help="your own file; a made-up messy one if left out")
    parser.add_argument(
        "--columns", nargs="*", default=[], metavar="THEIRS=OURS", help="such as Name=title Preis=price"
    )
    parser.add_argument("--currency", default="USD", help="ISO code of the prices, such as EUR")
    parser.add_argument("--provider", help="a service to tune a model at, such as local; none if left out")
    parser.add_argument("--model", help="the model to tune there")
    parser.add_argument("--priced", type=Path, default=Path("priced.csv"), help="the CSV to write")
    parser.add_argument("--report", type=Path, default=Path("report.html"), help="the page to write")
    options = parser.parse_args(argv)
    if options.provider and not options.model:
        parser.error(f"--model: name the model to tune at {options.provider}")
    try:
        options.columns = dict(pair.split("=", 1) for pair in options.columns)
    except ValueError:
        parser.error("--columns: write THEIRS=OURS, such as Name=title")
    return options


if __name__ == "__main__":
    try:
        main()
    except PricerError as error:
        raise SystemExit(f"error: {error}") from None
