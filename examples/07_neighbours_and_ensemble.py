"""Several pricers as one: a model that sees priced neighbours, methods that cost nothing, and both together.

Learns from the training items, lets an ensemble learn its weights on validation items that no member has
seen, gives it price ranges, keeps the whole pricer in a folder, and prices products with what was loaded from
there. Runs on the local server by default: no key, no network, no cost.

    python examples/07_neighbours_and_ensemble.py
    python examples/07_neighbours_and_ensemble.py --data ed-donner/items_lite --train 4000
    python examples/07_neighbours_and_ensemble.py --no-service
"""

import argparse
from collections.abc import Sequence

from finetune_pricer import (
    ChatFormatter,
    Ensemble,
    Evaluator,
    FineTuneJob,
    ItemDataset,
    JsonlWriter,
    Leaderboard,
    MadeUpCatalogue,
    Neighbors,
    Predictor,
    connect,
    load_pricer,
)
from finetune_pricer.errors import PricerError
from finetune_pricer.evaluate import fit_baselines


def main(argv: Sequence[str] | None = None) -> None:
    options = read_options(argv)

    # 1. Four sets: to learn from, to weigh on, to calibrate on, to test on. No item is in two of them.
    if options.data:
        train, validation, test = ItemDataset.from_hub(options.data)
    else:
        train, validation, test = MadeUpCatalogue(seed=42).splits(train=options.train, test=options.test)
    train, test = train[: options.train], test[: options.test]
    weighed_on, calibrated_on = validation[: len(validation) // 2], validation[len(validation) // 2 :]

    # 2. The members: what reads words and costs nothing, and a model that is shown what similar items cost.
    methods = fit_baselines(train)
    tuned = [] if options.no_service else [tune(train, options)]
    members = [*tuned, *methods]

    # 3. Weights for the absolute error, on items that no member has seen. Members that add nothing are not
    #    asked any more, and an ensemble that is no better than its best member is that member, and says so.
    ensemble = Ensemble(members).fit(weighed_on)
    print(f"{ensemble}\n")

    # 4. What is it worth on new items, beside each member?
    judge = Evaluator(rounds=1000)
    evaluations = [judge.evaluate(each, test) for each in (ensemble, *members)]
    print(f"{Leaderboard(evaluations)}\n")

    # 5. A range that holds the true price nine times in ten, and the whole pricer in a folder.
    pricer = ensemble.calibrate(calibrated_on, coverage=0.9)
    print(f"{pricer.ranges}\n")
    pricer.save(options.folder)

    # 6. In a nightly run, a shell, a web service: no key is in the folder, so the client is handed in.
    client = None if options.no_service else connect("local")
    loaded = load_pricer(options.folder, client)
    for item in test[:3]:
        print(f"  {loaded.predict(item)}  {item.title}")


def tune(train: ItemDataset, options: argparse.Namespace) -> Predictor:
    formatter = ChatFormatter(neighbors=Neighbors(train, k=options.neighbors) if options.neighbors else None)
    client, training = connect("local"), JsonlWriter(formatter).write(train, "jsonl/train.jsonl")
    job = FineTuneJob.create(client, training, model=options.model, seed=42, suffix="pricer")
    print(f"{job.id} learns from {len(train):,} items ...", flush=True)
    # Kept answers cost nothing when the same items are asked about again.
    return job.wait().predictor(formatter, store="jsonl/answers.sqlite")


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Let several pricers price as one, and keep what they are.")
    parser.add_argument(
        "--data", help="a folder or Hub id with train, validation and test; made-up items if left out"
    )
    parser.add_argument("--no-service", action="store_true", help="only methods that ask no service")
    parser.add_argument("--neighbors", type=int, default=5, help="priced items in each prompt; 0 for none")
    parser.add_argument("--model", default="pricer-base", help="the base model to tune")
    parser.add_argument("--train", type=int, default=1000, help="items to learn from")
    parser.add_argument("--test", type=int, default=200, help="items to test on")
    parser.add_argument("--folder", default="pricer", help="where the pricer is kept")
    return parser.parse_args(argv)


if __name__ == "__main__":
    try:
        main()
    except PricerError as error:
        raise SystemExit(f"error: {error}") from None
