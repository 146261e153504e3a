"""Price a whole catalogue: products without prices, from a CSV to a CSV.

Every answer is kept as it comes: stop it, or let it be killed, start it again with the same arguments, and it
goes on where it was. Runs on the local server by default, where it first trains a model on your items with
prices: no key, no network, no cost. A model of made-up goods prices made-up goods only.

    python examples/05_price_a_catalogue.py catalogue.csv priced.csv --train known.csv --columns Name=title
    python examples/05_price_a_catalogue.py catalogue.csv priced.csv --provider openai --model ft:...
    python examples/05_price_a_catalogue.py --make 5000 catalogue.csv priced.csv
"""

import argparse
import csv
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from openai import OpenAI

from finetune_pricer import (
    FineTuneJob,
    Item,
    ItemDataset,
    JsonlWriter,
    MadeUpCatalogue,
    Prediction,
    Predictor,
    connect,
)
from finetune_pricer.errors import PricerError


def main(argv: Sequence[str] | None = None) -> None:
    options = read_options(argv)
    if options.make:
        make_catalogue(options.catalogue, options.make)
    items = read(options.catalogue, options, priced=False)

    client = connect_to(options)
    model = options.model or train_one(client, training_items(options))
    predictor = Predictor(client, model, store=options.store, concurrency=options.concurrency)

    # A range around each price that holds the true one nine times in ten; needs items whose prices are known.
    if options.known:
        predictor = predictor.calibrate(read(options.known, options))

    predictions = counted(predictor.iter_predict(items), len(items))
    unpriced = write(options.priced, zip(items, predictions, strict=True))
    print(f"{len(items):,} products in {options.priced}, {unpriced:,} of them without a price")


def write(path: str, pairs: Iterator[tuple[Item, Prediction]]) -> int:
    """Write as answers come, so that memory does not grow; half a file never stands under its name."""
    unpriced, part = 0, Path(f"{path}.part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "title", "price", "low", "high", "error"])
        for item, found in pairs:
            unpriced += found.price is None
            writer.writerow(
                [item.id, item.title or item.label, found.price, found.low, found.high, found.error]
            )
    part.replace(path)
    return unpriced


def counted(predictions: Iterator[Prediction], total: int) -> Iterator[Prediction]:
    for number, prediction in enumerate(predictions, start=1):
        if number % 500 == 0 or number == total:
            print(f"  {number:,} of {total:,}", flush=True)
        yield prediction


def make_catalogue(path: str, count: int) -> None:
    """Write made-up products without prices, for want of a catalogue of your own."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["id", "title", "summary"])
    writer.writerows(
        [f"{number}", item.title, item.summary]
        for number, item in enumerate(MadeUpCatalogue(seed=7).items(count))
    )
    made = text.getvalue().encode()
    if Path(path).exists() and Path(path).read_bytes() != made:
        raise SystemExit(f"error: {path} is there and is not what --make {count} makes: name another file")
    Path(path).write_bytes(made)


def read(path: str, options: argparse.Namespace, *, priced: bool = True) -> ItemDataset:
    # The prices of the products that are to be priced do not matter, and there may be no column of them.
    columns = {theirs: ours for theirs, ours in options.columns.items() if priced or ours != "price"}
    return ItemDataset.from_file(path, columns=columns, priced=priced)


def training_items(options: argparse.Namespace) -> ItemDataset:
    return read(options.train, options) if options.train else MadeUpCatalogue(seed=42).items(1_000)


def train_one(client: OpenAI, items: ItemDataset) -> str | None:
    """Train a model on these items; the job that an earlier run made of the same ones is given back."""
    training = JsonlWriter().write(items, "jsonl/catalogue_train.jsonl")
    job = FineTuneJob.create(client, training, model="pricer-base", suffix="catalogue")
    print(f"{job.id} learns from {len(items):,} items with prices ...", flush=True)
    return job.wait().fine_tuned_model


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Price products without prices, from a CSV to a CSV.")
    parser.add_argument(
        "catalogue", help="a CSV with a title, summary or full text, and an id if there is one"
    )
    parser.add_argument("priced", help="the CSV to write")
    parser.add_argument("--store", default="predictions.sqlite", help="where answers are kept")
    parser.add_argument("--train", metavar="CSV", help="items with prices, to train a model of your goods on")
    parser.add_argument("--known", metavar="CSV", help="other items with prices, to learn price ranges from")
    parser.add_argument(
        "--columns", nargs="*", default=[], metavar="THEIRS=OURS", help="such as Name=title Cost=price"
    )
    parser.add_argument("--provider", default="local", help="local, openai, azure, nebius or crusoe")
    parser.add_argument("--base-url", help="any service of this protocol; the key is OPENAI_API_KEY")
    parser.add_argument("--model", help="the tuned model; needed for any provider but local")
    parser.add_argument(
        "--dir", default="local-server", help="the local server's folder, so that its model lasts"
    )
    parser.add_argument("--concurrency", type=int, help="requests at once; adapts if left out")
    parser.add_argument("--make", type=int, metavar="N", help="make up a catalogue of N products first")
    options = parser.parse_args(argv)
    if not options.model and (options.base_url or options.provider != "local"):
        parser.error(f"--model: name a tuned model of {options.base_url or options.provider}")
    if not options.model and not options.train and not options.make:
        parser.error(
            "--train: name a CSV of your items with prices; a model of made-up goods knows nothing of yours"
        )
    try:
        options.columns = dict(pair.split("=", 1) for pair in options.columns)
    except ValueError:
        parser.error("--columns: write THEIRS=OURS, such as Name=title")
    return options


def connect_to(options: argparse.Namespace) -> OpenAI:
    if options.base_url:
        return OpenAI(base_url=options.base_url, api_key=os.environ.get("OPENAI_API_KEY", "none"))
    return connect(options.provider, dir=options.dir if options.provider == "local" else None)


if __name__ == "__main__":
    try:
        main()
    except PricerError as error:
        raise SystemExit(f"error: {error}") from None
