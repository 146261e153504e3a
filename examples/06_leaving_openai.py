r"""A service closes: take with you what is yours, and use its model as long as it answers.

1. The training file and the settings of your newest job are fetched.
2. The dying model prices your products without prices, by the Batch API; its answers are kept.
3. The answers become further labels, marked as such, and a new model is trained elsewhere on both.

Without arguments it rehearses. A local server plays the service that closes: it takes no new jobs, and its
models stop tomorrow, then today. Another one plays the new service. No key, no network, no cost:

    python examples/06_leaving_openai.py
    python examples/06_leaving_openai.py --old openai --catalogue catalogue.csv \
        --new nebius --model meta-llama/Llama-3.1-8B-Instruct
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from openai import OpenAI

from finetune_pricer import (
    Evaluator,
    FineTuneJob,
    ItemDataset,
    JsonlWriter,
    MadeUpCatalogue,
    Predictor,
    TrainingFile,
    check_jsonl,
    connect,
)
from finetune_pricer.errors import ModelNotFound, PricerError, TrainingNotAvailable
from finetune_pricer.local import Faults, LocalServer
from finetune_pricer.tune import JobSpec

FOLDER = Path("leaving")
STORE = "leaving_answers.sqlite"  # keeps each answer of the old model, also after its end


def main(argv: Sequence[str] | None = None) -> None:
    options = read_options(argv)
    if options.old:
        old, new = connect(options.old), connect(options.new)
        catalogue = ItemDataset.from_file(options.catalogue, priced=False)
        job, spec = fetch_newest(old)
        training = join(spec, label(old, job, catalogue))
        train(new, training, spec, options.model)
    else:
        with LocalServer() as closing, LocalServer() as other:
            rehearse(closing, other, options)


def rehearse(closing: LocalServer, other: LocalServer, options: argparse.Namespace) -> None:
    known, _, test = MadeUpCatalogue(seed=42).splits(train=options.train, test=100)
    products = MadeUpCatalogue(seed=7).items(options.products)
    catalogue = ItemDataset.from_items(replace(item, price=None) for item in products)

    # Some time ago: a model was trained here.
    old = closing.client()
    training = JsonlWriter().write(known, "jsonl/known.jsonl")
    FineTuneJob.create(old, training, model="pricer-base", epochs=3, seed=42, suffix="pricer").wait()

    # Today the service takes no new jobs, and tomorrow its models stop.
    today = datetime.now(UTC).date()
    closing.faults = Faults.preset("wind_down", shutdown_date=today + timedelta(days=1))
    try:
        FineTuneJob.create(old, training, model="pricer-base", epochs=1, seed=43)
    except TrainingNotAvailable as error:
        print(f"no new job: {error.code}")
    job, spec = fetch_newest(old)
    labels = label(old, job, catalogue)

    # Tomorrow: nothing answers there any more, but what was answered is kept.
    closing.faults = Faults.preset("wind_down", shutdown_date=today)
    dead = Predictor(old, str(job.fine_tuned_model), store=STORE)
    try:
        dead.predict("a cordless drill, 18 V")
    except ModelNotFound as error:
        print(f"a new question: {error}")
    kept = dead.predict_many(catalogue)
    print(f"kept answers: {sum(each.price is not None for each in kept):,} of {len(kept):,}")

    # True prices alone say what the labels are worth.
    for name, file in {"old file alone": spec.local_files[0], "and the labels": join(spec, labels)}.items():
        new = train(other.client(), file, spec, "pricer-base")
        evaluation = Evaluator().evaluate(Predictor(new.client, str(new.fine_tuned_model)), test)
        print(f"  {name}: {evaluation}")


def fetch_newest(client: OpenAI) -> tuple[FineTuneJob, JobSpec]:
    """Fetch the files and settings of the newest job whose model answers."""
    job = next(job for job in FineTuneJob.list(client, limit=100) if job.status == "succeeded")
    spec = job.fetch_spec(FOLDER)
    print(f"fetched {job.id}: {', '.join(str(file.path) for file in spec.local_files)}, {spec.portable}")
    return job, spec


def label(client: OpenAI, job: FineTuneJob, catalogue: ItemDataset) -> ItemDataset:
    """Let the old model price products without prices; each answer is kept as it comes."""
    model = str(job.fine_tuned_model)
    predictions = Predictor(client, model, store=STORE).predict_batch(catalogue).wait()
    labels = ItemDataset.from_predictions(catalogue, predictions, model=model)
    print("\n".join(labels.history))
    return labels


def join(spec: JobSpec, labels: ItemDataset) -> TrainingFile:
    """Write the old training file and the new labels into one file."""
    written, path = JsonlWriter().write(labels, FOLDER / "labels.jsonl"), FOLDER / "joined.jsonl"
    path.write_bytes(spec.local_files[0].path.read_bytes() + written.path.read_bytes())
    return check_jsonl(path).training_file()


def train(client: OpenAI, training: TrainingFile, spec: JobSpec, model: str) -> FineTuneJob:
    """Train at the new service with what means the same there: epochs, seed and suffix."""
    job = FineTuneJob.create(client, training, model=model, **spec.portable)
    print(f"training {model} on {training.examples:,} examples: {job.id}")
    return job.wait()


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Leave a service that closes, with what is yours.")
    parser.add_argument("--old", help="the service that closes; without one: rehearse")
    parser.add_argument("--catalogue", help="a CSV of products without prices, for the old model to price")
    parser.add_argument("--new", help="the service to go to")
    parser.add_argument("--model", help="the base model there")
    parser.add_argument("--train", type=int, default=500, help="items of the rehearsal's old job")
    parser.add_argument("--products", type=int, default=300, help="products of the rehearsal's catalogue")
    options = parser.parse_args(argv)
    if options.old and not (options.catalogue and options.new and options.model):
        parser.error("--old needs --catalogue, --new and --model")
    return options


if __name__ == "__main__":
    try:
        main()
    except PricerError as error:
        raise SystemExit(f"error: {error}") from None
