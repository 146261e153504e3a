"""`finetune-pricer price`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..errors import DataError, FileAccessError
from .command import Answer, Command, note_way_on, say
from .consent import require_consent
from .options import FILE, FOLDER, Reading, Service, reading_options, spending_options
from .saved import find_cost, load

if TYPE_CHECKING:
    from pathlib import Path


@click.command(cls=Command)
@click.argument("file", type=FILE)
@click.argument("priced", type=FILE)
@click.option("--pricer", type=FOLDER, required=True, help="The folder that `train --out` left.")
@click.option("--all", "every", is_flag=True, help="Price also the products that have a price.")
@click.option("--force", is_flag=True, help="Replace PRICED where it is there already.")
@click.option("--base-url", help="Where the model answers, if it was trained at a service of your own.")
@reading_options
@spending_options
def price(
    *,
    file: Path,
    priced: Path,
    pricer: Path,
    every: bool,
    force: bool,
    base_url: str | None,
    reading: Reading,
    yes: bool,
    budget: float | None,
) -> Answer:
    """Price the products of a file that have no price.

    FILE is read as the one that the pricer was trained on; options say otherwise. PRICED is a CSV: id, title,
    price, and a range that holds the true price nine times in ten. One that is there already may have been
    worked on by somebody, and is replaced with --force alone.
    """
    if file.resolve() == priced.resolve():
        raise click.UsageError("PRICED would replace FILE; name another file")
    if priced.is_file() and not force:
        raise FileAccessError(f"{str(priced)!r} is there already: --force replaces it, or name another file")
    loaded = load(pricer, Service(base_url=base_url), budget=budget)
    items = reading.over(Reading.load(pricer), file).read_new(file)
    wanted = items if every else items.filter(lambda item: item.price is None)
    if not len(wanted):
        raise DataError(f"every product of {str(file)!r} has a price; --all prices them all the same")
    say(f"{len(wanted):,} of {len(items):,} products to be priced")
    require_consent({"questions": find_cost(loaded, wanted)}, yes=yes, budget=budget)
    note_way_on("Nothing was written. The same command goes on: answers that were received are kept.")
    found = loaded.predict_many(wanted)
    found.to_csv(priced, items=wanted, formulas="escape")
    unpriced = [one for one in found if one.price is None]
    lines = [f"{len(found) - len(unpriced):,} products priced in {priced}"]
    if unpriced:
        lines.append(f"{len(unpriced):,} without a price; the first: {unpriced[0].error}")
    content = {
        "priced": str(priced),
        "products": len(found),
        "without_a_price": len(unpriced),
        "rows_left_out": len({problem.row for problem in items.skipped}),
    }
    return Answer("\n".join(lines), content)
