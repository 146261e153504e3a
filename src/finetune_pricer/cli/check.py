"""`finetune-pricer check`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..prepare import check_jsonl
from .command import BAD, Answer, Command
from .options import FILE

if TYPE_CHECKING:
    from pathlib import Path


@click.command(cls=Command)
@click.argument("file", type=FILE)
@click.option("--provider", help="Whose limits apply, such as azure; else the protocol's.")
@click.option("--currency", help="Of the prices in the replies; USD by default.")
@click.option("--fix", type=FILE, help="Write a copy there, with all fixed that needs no judgement.")
def check(*, file: Path, provider: str | None, currency: str | None, fix: Path | None) -> Answer:
    """Find everything that is wrong with a training file.

    FILE holds chat examples, one JSON object a line. Ends with 1 where a service would refuse the file, or
    learn something else; with --fix that is said of the copy.
    """
    report = found = check_jsonl(file, provider, currency=currency)
    text, content = str(report), {}
    if fix is not None:
        corrected = report.write_corrected(fix)
        text, found = f"{report}\n{fix}: {corrected}", corrected.report
        content = {"corrected": str(fix), "fixed": corrected.fixed, "removed": corrected.removed}
        content |= {"left_out": list(corrected.left_out)}
    content |= {
        "ok": found.ok,
        "file": str(found.path),
        "examples": found.examples,
        "bytes": found.bytes,
        "sha256": found.sha256,
        "problems": found.problems,
    }
    return Answer(text, content, 0 if found.ok else BAD)
