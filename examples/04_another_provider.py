"""One training file, one script, another provider.

What differs between services stands in a profile: how hyperparameters travel, what a learning rate means,
how files are encoded, whether a tuned model must be deployed. The script is the same for all.

Without a provider it rehearses: the local server takes the requests of each service in turn, in that
service's own form. No key, no network, no cost:

    python examples/04_another_provider.py
    python examples/04_another_provider.py --provider nebius --model meta-llama/Llama-3.1-8B-Instruct
"""

import argparse
from collections.abc import Sequence

from openai import OpenAI

from finetune_pricer import (
    ChatFormatter,
    Evaluator,
    FineTuneJob,
    ItemDataset,
    JsonlWriter,
    MadeUpCatalogue,
    Predictor,
    TrainingFile,
    connect,
)
from finetune_pricer.errors import PricerError
from finetune_pricer.providers import PROVIDERS

REHEARSED = ["openai", "azure", "nebius", "crusoe"]


def main(argv: Sequence[str] | None = None) -> None:
    options = read_options(argv)

    # One file for all of them.
    train, _, test = MadeUpCatalogue(seed=42).splits(train=options.train, test=100)
    formatter = ChatFormatter()
    training = JsonlWriter(formatter).write(train, "jsonl/train.jsonl")

    if options.provider:
        client = connect(options.provider)
        price_at(client, options.provider, options.model, training, formatter=formatter, test=test)
        return
    client = connect("local")
    for provider in REHEARSED:
        price_at(client, provider, "pricer-base", training, formatter=formatter, test=test, rehearsal=True)


def price_at(
    client: OpenAI,
    provider: str,
    model: str,
    training: TrainingFile,
    *,
    formatter: ChatFormatter,
    test: ItemDataset,
    rehearsal: bool = False,
) -> None:
    profile = PROVIDERS[provider]
    print(f"\n{provider}: a learning rate is {profile.learning_rate}")
    if profile.recommended:
        print(f"  recommended there: {profile.recommended.settings}")

    # Asked for twice, the same job is bought once; a rehearsal may go past a service's last day. Batch size
    # and learning rate mean something else at each service: left out, they are what its profile recommends.
    job = FineTuneJob.create(
        client,
        training,
        model=model,
        epochs=3,
        suffix="pricer",
        provider=provider,
        force=rehearsal,
    )
    job.wait()

    if rehearsal:
        print(f"  serving a tuned model there: {profile.serving.cost or 'by its name, tokens only'}")
        answers = job.fine_tuned_model
    else:
        deployment = job.deploy()  # says what it costs; nothing happens where there is no such step
        print(deployment)
        answers = deployment.model
    if answers:
        evaluation = Evaluator().evaluate(Predictor(client, answers, formatter=formatter), test)
        print(f"  {job.id}: {evaluation}")


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train on the same file at another service.")
    parser.add_argument(
        "--provider", choices=REHEARSED, help="train there; without one: rehearse all of them"
    )
    parser.add_argument("--model", help="the base model; needed with --provider")
    parser.add_argument("--train", type=int, default=2000, help="items to train on")
    options = parser.parse_args(argv)
    if options.provider and not options.model:
        trained = ", ".join(PROVIDERS[options.provider].trains) or "see its documentation"
        parser.error(f"--model: name a base model that {options.provider} can tune, such as {trained}")
    return options


if __name__ == "__main__":
    try:
        main()
    except PricerError as error:
        raise SystemExit(f"error: {error}") from None
