"""`finetune-pricer audit`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from ..errors import MissingExtra
from ..prepare import audit as audit_items
from .command import BAD, Answer, Command, say
from .options import FILE, Reading, reading_options

if TYPE_CHECKING:
    from pathlib import Path

    from ..items import ItemDataset
    from ..prepare import AuditReport


@click.command(cls=Command)
@click.argument("file", type=FILE)
@click.option("--validation", type=FILE, help="Items that are watched meanwhile, in a file of the same kind.")
@click.option("--test", type=FILE, help="Items that the model is judged by in the end.")
@click.option(
    "--similarity",
    type=click.FloatRange(0, 1),
    default=0.6,
    show_default=True,
    help="The share of common word triples from which on texts are near-duplicates.",
)
@reading_options
def audit(
    *, file: Path, validation: Path | None, test: Path | None, similarity: float, reading: Reading
) -> Answer:
    """Look for what spoils training: duplicates, leaks, prices in texts.

    FILE holds products to learn from. Ends with 1 where something leaks: between the files, or from the price
    into the text.
    """
    others = (None if path is None else reading.read(path) for path in (validation, test))
    report = look_at(reading.read(file), *others, similarity=similarity)
    content = {
        "ok": report.ok,
        "counts": Counter(finding.kind for finding in report.findings),
        "reply": report.reply,
        "findings": report.findings,
    }
    return Answer(str(report), content, 0 if report.ok else BAD)


def look_at(
    train: ItemDataset,
    validation: ItemDataset | None = None,
    test: ItemDataset | None = None,
    *,
    similarity: float = 0.6,
    quiet: bool = False,
) -> AuditReport:
    """Audit items; where near-duplicates cannot be looked for, do the rest, and say so unless `quiet`."""
    try:
        return audit_items(train, validation=validation, test=test, similarity=similarity)
    except MissingExtra:
        if not quiet:
            say("near-duplicates are not looked for: that needs pip install 'finetune-pricer[audit]'")
        return audit_items(train, validation=validation, test=test, similarity=None)
