"""Writing a training file anew with everything mended that needs no judgement."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._files import replacing
from ..errors import FileAccessError, TrainingFileError
from ..providers.known import PROTOCOL, get_provider
from .faults import FAULTS
from .jsonl import TrainingFile
from .rules import look_at, mended

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from pathlib import Path

    from .faults import JsonlReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What became of a file that was mended."""

    report: JsonlReport
    """What `check_jsonl` finds in the new file."""
    mended: int
    """Lines that were changed."""
    removed: int
    """Blank and repeated lines."""
    left_out: tuple[int, ...]
    """The lines of the old file whose errors need a person."""

    def __str__(self) -> str:
        return (
            f"{self.mended:,} lines mended, {self.removed:,} blank or repeated ones removed, "
            f"{len(self.left_out):,} left out whose errors need a person\n{self.report}"
        )


def write_corrected(report: JsonlReport, path: str | os.PathLike[str]) -> Correction:
    """Mend the file of a report; see `JsonlReport.write_corrected`."""
    from .check import check_jsonl

    TrainingFile(
        path=report.path, examples=report.examples, bytes=report.bytes, sha256=report.sha256
    ).verify()
    service = PROTOCOL if report.provider is None else get_provider(report.provider)
    duplicates, changed, removed, left_out, kept = set(report.duplicates), 0, 0, list[int](), 0
    with replacing(path) as file:
        file.write(codecs.BOM_UTF8 if service.file_encoding == "utf-8-sig" else b"")
        for number, line in _lines(report.path):
            if number in duplicates or not line.strip():
                removed += 1
                continue
            new = mended(line).strip()
            _, flaws = look_at(new, service, report.currency)
            if any(FAULTS[flaw.code].level == "error" for flaw in flaws):
                left_out.append(number)
                continue
            changed += new != line.strip()
            file.write(new + b"\n")
            kept += 1
        if not kept:
            raise TrainingFileError(f"every line of {str(report.path)!r} needs a person; see its report")
    checked = check_jsonl(path, report.provider, currency=report.currency)
    return Correction(report=checked, mended=changed, removed=removed, left_out=tuple(left_out))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
    except OSError as error:
        raise FileAccessError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
