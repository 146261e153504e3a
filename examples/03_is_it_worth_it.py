"""Is more training data worth its price? Pilots, baselines, a forecast, and then what really came.

Trains on the local server at a few sizes, compares each model with what simpler methods do on the same items,
forecasts a larger size with its band, trains that one too, and shows it beside the forecast. Without `--data`
on a made-up catalogue; no key, no network, no cost:

    python examples/03_is_it_worth_it.py
    python examples/03_is_it_worth_it.py --data path/to/items --sizes 100 300 1000 3000 --target 4799
"""

import argparse
from collections.abc import Sequence

from finetune_pricer import (
    Evaluator,
    ItemDataset,
    ItemSplits,
    Leaderboard,
    MadeUpCatalogue,
    Sweep,
    TrainingFile,
    compare,
    connect,
    forecast,
)
from finetune_pricer.errors import PricerError
from finetune_pricer.evaluate.sweep import Trial

MODEL = "pricer-base"  # the one that the local server offers
DOLLARS_PER_1000 = 0.17  # what the course paid for 1,000 examples; the local server itself costs nothing


def main(argv: Sequence[str] | None = None) -> None:
    options = read_options(argv)
    train, validation, test = splits(options)
    train, test = train[: options.target], test[: options.test]

    # 1. Pilots: nested training sets, the same test items, one budget. Killed, it goes on where it stopped.
    sweep = Sweep(
        clients=connect("local"),
        train=train,
        validation=validation[:200],
        test=test,
        folder=options.folder,
        sizes=options.sizes,
        models=[MODEL],
        cost_of=as_the_course_paid,
        budget=options.budget,
        evaluator=Evaluator(baselines=train),
    )
    print(sweep.plan(), end="\n\n")
    pilots = sweep.run()
    print(pilots)

    # 2. What does the best pilot add to methods that cost nothing?
    best = pilots.outcomes[-1].evaluation
    if best is None:
        raise SystemExit(f"the largest pilot failed: {pilots.outcomes[-1].problem}")
    print(Leaderboard([one.evaluation for one in pilots.outcomes if one.evaluation]), end="\n\n")
    print(compare(best, best.baselines[-1]), end="\n\n")

    # 3. What would more data bring, and what is it worth?
    curve = pilots.forecast()
    expected = curve.mae(options.target)
    print(curve)
    print(curve.next_rung(options.target, items=options.items, dollar_of_error=options.dollar_of_error))
    band = f"80% band ${expected.low:.2f} to ${expected.high:.2f}"
    print(f"\nforecast at {options.target:,}: ${expected.value:.2f}, {band}")

    # 4. Train it all the same, and see whether the band held.
    final = Sweep(
        clients=sweep.clients,
        train=train,
        validation=validation[:200],
        test=test,
        folder=options.folder,
        sizes=[options.target],
        models=[MODEL],
        cost_of=as_the_course_paid,
        evaluator=sweep.evaluator,
    ).run()
    came = final.outcomes[0].evaluation
    if came is None:
        raise SystemExit(f"the last job failed: {final.outcomes[0].problem}")
    inside = expected.low <= came.mae.value <= expected.high
    print(f"what came: {came} - {'inside' if inside else 'OUTSIDE'} the band")
    print(compare(came, best))
    came.to_html(options.report)
    print(f"report: {options.report}")

    # With what came, the next question has a better answer.
    points = [
        (one.trial.size, one.evaluation) for one in (*pilots.outcomes, *final.outcomes) if one.evaluation
    ]
    print(forecast(points, dollars_per_example=DOLLARS_PER_1000 / 1000).next_rung())


def as_the_course_paid(file: TrainingFile, trial: Trial) -> float:
    return file.examples * (trial.epochs or 1) * DOLLARS_PER_1000 / 1000


def splits(options: argparse.Namespace) -> ItemSplits:
    if options.data:
        return ItemDataset.from_hub(options.data)
    return MadeUpCatalogue(seed=42).splits(train=options.target, test=options.test)


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Find out whether more training data is worth its price.")
    parser.add_argument(
        "--data", help="a folder or Hub id with train, validation and test; else made-up items"
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[50, 150, 450], help="training examples of pilots"
    )
    parser.add_argument("--target", type=int, default=1000, help="training examples of the last job")
    parser.add_argument("--test", type=int, default=600, help="items to test on")
    parser.add_argument("--budget", type=float, default=5.0, help="dollars for the pilots")
    parser.add_argument("--items", type=int, default=10_000, help="items that the model will price")
    parser.add_argument(
        "--dollar-of-error", type=float, default=0.01, help="what a price off by a dollar more costs you"
    )
    parser.add_argument("--folder", default="sweep", help="where the sweep is kept")
    parser.add_argument("--report", default="worth_it.html", help="where the HTML report goes")
    return parser.parse_args(argv)


if __name__ == "__main__":
    try:
        main()
    except PricerError as error:
        raise SystemExit(f"error: {error}") from None
