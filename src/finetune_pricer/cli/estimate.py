"""`finetune-pricer estimate`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import click

from ..chat import ChatFormatter
from ..prepare import JsonlWriter
from ..tune import CostEstimate, estimate_cost
from .command import Answer, Command, plain
from .options import FILE, Reading, reading_options


@click.command(cls=Command)
@click.argument("file", type=FILE)
@click.option("--model", required=True, help="The base model.")
@click.option("--provider", help="Whose prices, such as openai; without one none are known.")
@click.option(
    "--epochs", type=click.IntRange(min=1), default=1, show_default=True, help="Passes over the items."
)
@click.option(
    "--predictions",
    type=click.IntRange(min=0),
    default=0,
    help="How many products are to be priced afterwards.",
)
@click.option("--samples", type=click.IntRange(min=1), default=1, help="Replies for each of them.")
@click.option(
    "--price", type=click.FloatRange(min=0), help="Dollars per million trained tokens, where you know better."
)
@reading_options
def estimate(
    *,
    file: Path,
    model: str,
    provider: str | None,
    epochs: int,
    predictions: int,
    samples: int,
    price: float | None,
    reading: Reading,
) -> Answer:
    """Work out what a job costs, and what asking its model costs.

    FILE is a training file (.jsonl with chat examples) or a file of products with prices. No service is
    asked.
    """

    def work_out(training: Path) -> CostEstimate:
        return estimate_cost(
            training,
            model=model,
            epochs=epochs,
            provider=provider,
            predictions=predictions,
            samples=samples,
            price=price,
        )

    if _holds_examples(file):
        found = work_out(file)
    else:
        items = reading.read_known(file)
        with TemporaryDirectory(prefix="finetune-pricer-") as folder:
            writer = JsonlWriter(ChatFormatter(currency=items.currency))
            found = work_out(writer.write(items, Path(folder, "train.jsonl")).path)
    return Answer(str(found), plain(found))


def _holds_examples(file: Path) -> bool:
    """Whether a file holds chat examples, and not products."""
    if file.suffix != ".jsonl" or not file.is_file():
        return False
    with file.open("rb") as opened:
        return b'"messages"' in opened.readline(2**20)
