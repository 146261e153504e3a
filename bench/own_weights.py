"""How far off an open model with an adapter is, beside ridge regression and the small statistical model.

    FINETUNE_PRICER_DATA=FOLDER python bench/own_weights.py BASE [--items 1000] [--epochs 1] [--neighbors 5]

BASE is a folder, a GGUF file or a Hub id, with options as `finetune-pricer serve --base` takes them, such as
`models/SmolLM2-135M-Instruct,text_tokens=64`. All of it goes through the local server and `Predictor`, on the
GPU where there is one (`--device cpu`: not there). The data are the listings of the folder's `amazon`.

The bars, for SmolLM2-135M with 64 tokens of text and one epoch: at most $112 with 1,000 listings, and at most
$92 with all 4,799.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune_pricer import ChatFormatter, FineTuneJob, ItemDataset, JsonlWriter, Neighbors
from finetune_pricer.local import LocalServer

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from ridge import ridge_mae

if TYPE_CHECKING:
    from openai import OpenAI

DATA = Path(os.environ.get("FINETUNE_PRICER_DATA", "data")) / "amazon"


def measure(
    client: OpenAI, formatter: ChatFormatter, train: ItemDataset, asked: ItemDataset, **model: Any
) -> np.ndarray:
    """Train a model, ask it, and return how far off each price was, in dollars."""
    with tempfile.TemporaryDirectory() as folder:
        file = JsonlWriter(formatter).write(train, Path(folder) / "train.jsonl")
        start = time.monotonic()
        job = FineTuneJob.create(client, file, seed=1, **model)
        job.wait()
    trained = time.monotonic() - start
    start = time.monotonic()
    predictions = job.predictor(formatter).predict_many(asked)
    pace = len(asked) / (time.monotonic() - start)
    errors = np.abs([float(one.price) - item.price for one, item in zip(predictions, asked, strict=True)])
    print(
        f"  mean error ${errors.mean():.1f} ± {1.96 * errors.std() / len(errors) ** 0.5:.1f}, trained in "
        f"{trained:,.0f} s, {pace:.1f} prices a second",
        flush=True,
    )
    return errors


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("base")
    parser.add_argument("--items", type=int, default=1_000)
    parser.add_argument("--asked", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--reply", default="$20", help="a price that shows the form of the replies")
    parser.add_argument("--neighbors", type=int, default=0, help="how many priced neighbors a prompt shows")
    parser.add_argument("--device", choices=("auto", "cpu"), default="auto")
    chosen = parser.parse_args()
    if chosen.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the processes that train and answer inherit it
    data = ItemDataset.from_hub(str(DATA))
    train, asked = data.train.shuffle(seed=0)[: chosen.items], data.test.shuffle(seed=0)[: chosen.asked]
    plain = ChatFormatter(reply=chosen.reply)
    formatters = {"without neighbors": plain}
    if chosen.neighbors:
        near = Neighbors(train, k=chosen.neighbors)
        formatters[f"{chosen.neighbors} neighbors"] = ChatFormatter(reply=chosen.reply, neighbors=near)
    print(f"{len(train):,} listings to learn from, {len(asked):,} to price")
    constant = np.abs(np.median(train.prices) - np.array(asked.prices)).mean()
    ridge = ridge_mae(train, asked)
    print(f"always the median: ${constant:.1f}\nridge regression on words: ${ridge:.1f}", flush=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalServer(folder, bases={"open": chosen.base}) as server,
        server.client(timeout=600) as client,
    ):
        print("the small statistical model")
        small = measure(client, plain, train, asked, model="pricer-base")
        for name, formatter in formatters.items():
            print(f"{chosen.base}, {name}")
            errors = measure(client, formatter, train, asked, model="open", epochs=chosen.epochs)
            apart = errors - small
            print(
                f"  {errors.mean() / ridge:.2f} times ridge regression; ${apart.mean():+.1f} ± "
                f"{1.96 * apart.std() / len(apart) ** 0.5:.1f} from the small model, on the same items"
            )


if __name__ == "__main__":
    main()
