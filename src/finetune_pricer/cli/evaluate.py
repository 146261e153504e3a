"""`finetune-pricer evaluate`."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import click

from ..chat import ChatFormatter
from ..errors import DataError, FileAccessError, MissingExtra
from ..evaluate import Evaluation, Evaluator
from ..predict import Predictor
from ..predict.saved_pricer import require_unseen
from ..prices import parse_amount
from .command import Answer, Command, note_way_on, say
from .consent import require_consent
from .options import FILE, FOLDER, Reading, Service, reading_options, service_options, spending_options
from .saved import find_cost, load

if TYPE_CHECKING:
    from pathlib import Path

    from ..items import ItemDataset


@click.command(cls=Command)
@click.argument("file", type=FILE)
@click.option("--pricer", type=FOLDER, help="Judge this pricer, a folder that `train --out` left.")
@click.option(
    "--predictions", type=FILE, help="Judge the prices of this CSV: columns id or item_id, and price."
)
@click.option("--model", help="Judge this model of a service, asked in the default words.")
@click.option("--baselines", type=FILE, help="Products to learn from, for simple methods to stand beside it.")
@click.option("--size", type=click.IntRange(min=1), help="How many products are drawn; all by default.")
@click.option("--seed", type=click.IntRange(min=0), default=42, show_default=True, help="Of the drawing.")
@click.option("--name", help="What tables call it.")
@click.option("--report", type=FILE, help="Write the report there, a page.")
@click.option("--save", type=FILE, help="Write the evaluation there, for `compare`.")
@reading_options
@service_options
@spending_options
def evaluate(
    *,
    file: Path,
    pricer: Path | None,
    predictions: Path | None,
    model: str | None,
    baselines: Path | None,
    size: int | None,
    seed: int,
    name: str | None,
    report: Path | None,
    save: Path | None,
    reading: Reading,
    service: Service,
    yes: bool,
    budget: float | None,
) -> Answer:
    """Find out how wrong a pricer is on products whose price is known.

    FILE holds products that it has not learned from. Give one of --pricer, --predictions and --model.
    """
    if sum(each is not None for each in (pricer, predictions, model)) != 1:
        raise click.UsageError("give one of --pricer, --predictions and --model")
    if pricer is not None:
        reading = reading.over(Reading.load(pricer), file)
    items = reading.read_known(file)
    train = None if baselines is None else reading.read_known(baselines)
    judge = Evaluator(size=size, seed=seed, baselines=train)
    if predictions is not None:
        found = judge.score(items, _read_prices(predictions, items), name=name or predictions.stem)
    else:
        judged: Any
        if pricer is not None:
            judged = load(pricer, service, budget=budget)
            require_unseen(judged, items, "how wrong it is can only be seen")
        else:
            formatter = ChatFormatter(currency=items.currency)
            judged = Predictor(service.connect(), model or "", formatter=formatter, budget=budget)
        asked = items if size is None else items[:size]
        require_consent({"questions": find_cost(judged, asked)}, yes=yes, budget=budget)
        note_way_on("Nothing was written; the same command goes on where answers are kept.")
        found = judge.evaluate(judged, items, name=name)
    return describe(found, items, report=report, save=save)


def describe(evaluation: Evaluation, items: ItemDataset, *, report: Path | None, save: Path | None) -> Answer:
    """Write an evaluation where it is wanted, and return it for people and for programs."""
    lines = [evaluation.name, f"  {evaluation}"]
    for one in evaluation.baselines:
        lines += [one.name, f"  {one}"]
    if save is not None:
        evaluation.save(save)
        lines.append(f"evaluation: {save}")
    if report is not None:
        try:
            evaluation.to_html(report, items=items)
            lines.append(f"report: {report}")
        except MissingExtra as error:  # what was paid for is not lost for want of a page
            say(f"no report: {error}")
            report = None
    return Answer("\n".join(lines), summarise(evaluation) | {"report": _name(report), "saved": _name(save)})


def summarise(evaluation: Evaluation) -> dict[str, Any]:
    """Return the numbers of an evaluation, without its products."""
    return {
        "name": evaluation.name,
        "n": evaluation.n,
        "unscored": evaluation.unscored,
        "currency": evaluation.currency,
        "dollars": evaluation.dollars,
        "metrics": evaluation.metrics,
        "left_out": evaluation.left_out,
        "baselines": [summarise(one) for one in evaluation.baselines],
    }


def _name(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _read_prices(path: Path, items: ItemDataset) -> list[float | None]:
    """Return the price in a CSV for each item, by its id; None where there is none.

    Raises:
        DataError: A column is missing, an id stands twice, or not one is an item's; or a price is none.
        FileAccessError: The file cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileAccessError(f"cannot read {str(path)!r}: {error}") from error
    names = rows[0].keys() if rows else ()
    key = "item_id" if "item_id" in names else "id"
    if key not in names or "price" not in names:
        raise DataError(f"{str(path)!r} must have the columns item_id (or id) and price")
    prices: dict[str, float | None] = {}
    for number, row in enumerate(rows, start=1):
        if row[key] in prices:
            raise DataError(f"{str(path)!r}, row {number}: the id {row[key]!r} stands there twice")
        prices[row[key]] = parse_amount(row["price"], items.currency) if row["price"] else None
    if not any(item.id in prices for item in items):
        raise DataError(
            f"not one id of {str(path)!r} is that of a product; both files must have the same ids"
        )
    return [prices.get(item.id) for item in items]
