"""The whole road once: items, chat examples, upload, job, events, predictions, evaluation, and advice.

Runs on the local server by default: no key, no network, no cost. With a made-up catalogue, unless you hand in
your own items:

    python examples/01_first_job.py
    python examples/01_first_job.py --data ed-donner/items_lite --train 4000 --test 200
    python examples/01_first_job.py --provider nebius --model meta-llama/Llama-3.1-8B-Instruct
"""

import argparse
import os
from collections.abc import Sequence

from openai import OpenAI

from finetune_pricer import (
    ChatFormatter,
    Ensemble,
    Evaluation,
    Evaluator,
    FineTuneJob,
    Item,
    ItemDataset,
    JsonlWriter,
    Leaderboard,
    MadeUpCatalogue,
    connect,
)
from finetune_pricer.errors import MissingExtra, PricerError
from finetune_pricer.evaluate import fit_baselines


def main(argv: Sequence[str] | None = None) -> None:
    options = read_options(argv)

    # 1. Items: real ones, or a made-up catalogue whose best possible error is known.
    catalogue = MadeUpCatalogue(seed=42)
    if options.data:
        train, validation, test = ItemDataset.from_hub(options.data)
    else:
        train, validation, test = catalogue.splits(train=options.train, test=options.test)
    train, validation, test = train[: options.train], validation[:200], test[: options.test]
    print(f"{len(train):,} items to train on, {len(validation):,} to validate, {len(test):,} to test")

    # 2. Chat examples, as JSON lines.
    formatter = ChatFormatter()
    writer = JsonlWriter(formatter)
    training_file = writer.write(train, "jsonl/train.jsonl")
    validation_file = writer.write(validation, "jsonl/validation.jsonl")

    # 3. A fine-tuning job, followed until it ends.
    client = connect_to(options)
    job = FineTuneJob.create(
        client,
        training_file,
        validation=validation_file,
        model=options.model,
        epochs=options.epochs,
        seed=42,
        suffix="pricer",
    )
    print(f"{job.id} at {client.base_url}")
    for event in job.stream_events():
        is_news = event.data.get("valid_loss") is not None if event.type == "metrics" else True
        if is_news and not event.message.startswith("Checkpoint"):
            print(f"  {event}")
    job.wait()

    # 4. How wrong is it? Beside methods that cost nothing, and beside all of them as one, whose weights are
    #    learned on the validation items. Answers are kept, so that nothing is asked twice.
    predictor = job.predictor(formatter, store="jsonl/answers.sqlite")
    methods = fit_baselines(train)
    ensemble = Ensemble([predictor, *methods]).fit(validation)
    evaluation = Evaluator(baselines=train, beside=[ensemble]).evaluate(predictor, test)
    print(f"\n{job.fine_tuned_model}\n  {evaluation}")
    for baseline in evaluation.baselines:
        print(f"{baseline.name}\n  {baseline}")
    if not options.data:
        print(f"best possible on these made-up items\n  MAE ${catalogue.best_possible_mae(test):,.2f}")
    print(
        "\nwhat the ensemble is made of: "
        + ", ".join(f"{w:.0%} {n}" for n, w in ensemble.weights.items() if w)
    )
    try:
        evaluation.to_html(options.report)
        print(f"report: {options.report}")
    except MissingExtra as error:
        print(f"no report: {error}")

    # 5. What it is all for: products whose price nobody knows.
    unpriced: list[Item | str] = [
        "Nordvik 27-inch computer monitor in aluminium, new. Made for spreadsheets.",
        Item(
            title="Basiq frying pan", summary="A refurbished frying pan from Basiq: 26 cm, stainless steel."
        ),
    ]
    print("\nProducts without a price:")
    for item, prediction in zip(unpriced, predictor.predict_many(unpriced), strict=True):
        print(f"  {prediction}  {item.title if isinstance(item, Item) else item}")

    # 6. What to use: of those that these items cannot tell from the best, the one that costs the least.
    print(f"\nadvice: {advise([evaluation, *evaluation.baselines])}")


def advise(evaluations: Sequence[Evaluation]) -> str:
    board = Leaderboard(evaluations)
    first = [standing.evaluation for standing in board.standings if standing.rank == 1]
    chosen = min(first, key=lambda one: one.prompt_tokens or 0)  # the nearer one of equally cheap ones
    tokens = (chosen.prompt_tokens or 0) / len(chosen.records)
    cost = f"reads {tokens:.0f} tokens an item" if tokens else "asks no service and costs nothing"
    others = [one.name for one in first if one is not chosen]
    why = (
        f"{', '.join(others)}: not better beyond chance" if others else "better than all others beyond chance"
    )
    return f"use {chosen.name}, which {cost} ({why}, on {len(chosen.records):,} items)"


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a pricing model and find out how wrong it is.")
    parser.add_argument(
        "--data", help="a folder or Hub id with train, validation and test; made-up items if left out"
    )
    parser.add_argument("--provider", default="local", help="local, openai, azure, nebius or crusoe")
    parser.add_argument(
        "--base-url", help="any service of this protocol; the key is taken from OPENAI_API_KEY"
    )
    parser.add_argument("--model", help="the base model; needed for any provider but local")
    parser.add_argument("--train", type=int, default=2000, help="items to train on")
    parser.add_argument("--test", type=int, default=200, help="items to test on")
    parser.add_argument(
        "--epochs", type=int, help="passes over the training items; the service's choice if left out"
    )
    parser.add_argument("--report", default="report.html", help="where the HTML report goes")
    options = parser.parse_args(argv)
    if options.model is None:
        if options.provider != "local":
            parser.error(f"--model: name a base model that {options.provider} can tune")
        options.model = "pricer-base"  # the one that the local server offers
    return options


def connect_to(options: argparse.Namespace) -> OpenAI:
    if options.base_url:
        return OpenAI(base_url=options.base_url, api_key=os.environ.get("OPENAI_API_KEY", "none"))
    return connect(options.provider)


if __name__ == "__main__":
    try:
        main()
    except PricerError as error:
        raise SystemExit(f"error: {error}") from None
