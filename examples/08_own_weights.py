"""Own the weights: an open language model on this machine, trained, asked, weighed, and kept.

The server of this package trains a LoRA adapter and answers with it; nothing is sent to a service. Needs
`pip install 'finetune-pricer[lora,evaluate]'`, and fetches the weights of SmolLM2 (135 million parameters,
270 MB, Apache-2.0) at the first run, unless you name others:

    python examples/08_own_weights.py
    python examples/08_own_weights.py --base models/SmolLM2-135M-Instruct --train 1000 --text-tokens 128
    python examples/08_own_weights.py --base Qwen/Qwen3-1.7B@main --data ed-donner/items_lite
"""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

from finetune_pricer import (
    ChatFormatter,
    Evaluator,
    FineTuneJob,
    ItemDataset,
    JsonlWriter,
    Leaderboard,
    MadeUpCatalogue,
    Predictor,
)
from finetune_pricer.errors import PricerError
from finetune_pricer.local import LocalServer

# One commit of the Hub, so that another day gives the same weights.
SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct@12fd25f77366fa6b3b4b768ec3050bf629380bac"


def main(argv: Sequence[str] | None = None) -> None:
    options = read_options(argv)

    # 1. Items, and a training file whose replies are whole dollars: fewer tokens to get right.
    if options.data:
        train, _, test = ItemDataset.from_hub(options.data)
    else:
        train, _, test = MadeUpCatalogue(seed=42).splits(train=options.train, test=options.test)
    train, test = train[: options.train], test[: options.test]
    formatter = ChatFormatter(reply="$20")
    training = JsonlWriter(formatter).write(train, "jsonl/train.jsonl")

    # 2. A server of your own, which offers the base model: fetched and checked now, loaded when it is needed.
    #    Of each item's text it reads so many tokens. Its folder keeps files, jobs and models.
    name, base = (
        Path(options.base).name.partition("@")[0],
        f"{options.base},text_tokens={options.text_tokens}",
    )
    print(f"looking for {options.base} ...", flush=True)
    with LocalServer(options.folder, bases={name: base}) as server, server.client(timeout=600) as client:
        print(f"{server.url} offers it as {name}", flush=True)

        # 3. The untrained model already names prices: it is asked how likely each one is.
        untrained = Predictor(client, name, formatter=formatter, provider="local")
        for item in test[:2]:
            print(f"  untrained: {untrained.predict(item)}, really ${item.price:,.2f}  {item.title}")

        # 4. A job is a job, here as anywhere. One that was killed goes on; one that is done is not run again.
        began = time.monotonic()
        job = FineTuneJob.create(
            client, training, model=name, epochs=options.epochs, seed=42, provider="local"
        )
        print(f"\n{job.id} learns from {len(train):,} items ...", flush=True)
        for event in job.stream_events():
            print(f"  {event}", flush=True)
        job.wait()
        print(f"{time.monotonic() - began:,.0f} s\n", flush=True)
        tuned = job.predictor(formatter)
        for item in test[:2]:
            print(f"  tuned: {tuned.predict(item)}, really ${item.price:,.2f}  {item.title}")

        # 5. What is it worth, beside itself untrained and beside methods that need no model?
        judge = Evaluator(baselines=train)
        weighed = judge.evaluate(tuned, test, name="tuned")
        beside = [judge.evaluate(untrained, test, name="untrained"), *weighed.baselines]
        print(f"\n{Leaderboard([weighed, *beside])}")

        # 6. The adapter is yours. A server that is started with the same folder and base answers with it.
        print(f"\n{job.fine_tuned_model} is kept in {server.dir}; at any later time:")
        print(f"  finetune-pricer serve --dir {server.dir} --base {name}={base}")


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="finetune-pricer demo --own-weights", description="Train an open language model on this machine."
    )
    parser.add_argument(
        "--base",
        default=os.environ.get("FINETUNE_PRICER_WEIGHTS") or SMOL,
        help="a folder, a GGUF file, or a model of the Hub with @REVISION; SmolLM2 if left out",
    )
    parser.add_argument(
        "--data", help="a folder or Hub id with train, validation and test; made-up items if left out"
    )
    parser.add_argument("--train", type=int, default=200, help="items to train on")
    parser.add_argument("--test", type=int, default=40, help="items to test on")
    parser.add_argument("--epochs", type=int, default=3, help="passes over the training items")
    parser.add_argument("--text-tokens", type=int, default=64, help="how much of an item's text is read")
    parser.add_argument("--folder", default="own-weights", help="where the server keeps its models")
    return parser.parse_args(argv)


if __name__ == "__main__":
    try:
        main()
    except PricerError as error:
        raise SystemExit(f"error: {error}") from None
