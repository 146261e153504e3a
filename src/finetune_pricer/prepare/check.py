"""Checking a training file: one pass that finds everything wrong with it, and a corrected copy."""

from __future__ import annotations

import codecs
import hashlib
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._arguments import require_file, require_text
from .._chat_protocol import text_of
from .._display import PrintsAsPage, ShortRepr
from .._escape import escape_line
from .._files import replacing
from .._format import agree_on_currency
from ..errors import FileAccessError, TrainingFileError
from ..providers.lookup import get_provider
from .jsonl import TrainingFile
from .rules import ISSUES, Level, Occurrence, check_line, fix_line, key_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from ..providers import Provider

_SHOWN = 5  # lines that a problem names


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class JsonlProblem(ShortRepr):
    """One kind of issue in a file: where it occurs first, and how often."""

    code: str
    """A short name, such as `"special"`."""
    level: Level
    """`"error"`: a service refuses the file, or learns something else. `"warning"`: worth a look."""
    count: int
    """How many places have it."""
    lines: tuple[int, ...]
    """The first lines that have it, counted from 1; empty where the whole file is meant."""
    path: str
    """The JSON path of the first place, such as `messages[1].content`."""
    what: str
    """What is wrong, at the first place."""
    fix: str
    """What to do about it."""

    def __str__(self) -> str:
        where = f"line {self.lines[0]:,}" if self.lines else "the file"
        at = f", {self.path}" if self.path else ""
        more = ""
        if self.count > 1:
            others = ", ".join(f"{line:,}" for line in self.lines[1:])
            more = f" ({self.count:,} times; also lines {others})" if others else f" ({self.count:,} times)"
        return escape_line(f"{self.level}: {where}{at}: {self.what}{more}; {self.fix}")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class JsonlReport(PrintsAsPage):
    """What `check_jsonl` found in a file; `str()` of it names every problem."""

    path: Path
    examples: int
    """How many lines are examples that can be trained on."""
    bytes: int
    """The file's size."""
    sha256: str
    """Hash of its content, in hexadecimal."""
    problems: tuple[JsonlProblem, ...]
    """Every kind of problem, errors first, in the order of their first lines."""
    provider: str | Provider | None = None
    """The service whose limits were applied."""
    currency: str = "USD"
    """Of the prices in the replies."""
    duplicates: tuple[int, ...] = ()
    """The lines that repeat an earlier one."""

    @property
    def ok(self) -> bool:
        """Whether there is no error; there may be warnings."""
        return not any(problem.level == "error" for problem in self.problems)

    def training_file(self) -> TrainingFile:
        """Return the file as `upload` and `FineTuneJob.create` take it.

        Raises:
            TrainingFileError: There are errors.
        """
        if not self.ok:
            raise TrainingFileError(str(self))
        return self._as_checked()

    def write_corrected(self, path: str | os.PathLike[str]) -> Correction:
        """Write a copy of the file with everything fixed that needs no judgement.

        Unknown keys are removed, weights become 0 or 1, special tokens are broken up by spaces, repeated and
        blank lines are removed, and the byte order mark is as the service asks. Lines with other errors are
        left out; the result says how many.

        Raises:
            FileAccessError: A path cannot be read or written.
            TrainingFileError: The file has changed since it was checked, or nothing would be left.
        """
        service = get_provider(self.provider)
        duplicates, fixed, removed, left_out, kept = set(self.duplicates), 0, 0, list[int](), 0
        with replacing(path) as file:
            file.write(codecs.BOM_UTF8 if service.file_encoding == "utf-8-sig" else b"")
            for number, line in _read_lines(self._as_checked()):
                if number in duplicates or not line.strip():
                    removed += 1
                    continue
                new = fix_line(line).strip()
                _, found = check_line(new, service, self.currency)
                if _has_error(found):
                    left_out.append(number)
                    continue
                fixed += new != line.strip()
                file.write(new + b"\n")
                kept += 1
            if not kept:
                raise TrainingFileError(f"every line of {str(self.path)!r} needs a person; see its report")
        report = check_jsonl(path, self.provider, currency=self.currency)
        return Correction(report=report, fixed=fixed, removed=removed, left_out=tuple(left_out))

    def _as_checked(self) -> TrainingFile:
        return TrainingFile(
            path=self.path,
            examples=self.examples,
            bytes=self.bytes,
            sha256=self.sha256,
            currency=self.currency,
        )

    def __str__(self) -> str:
        errors = sum(problem.count for problem in self.problems if problem.level == "error")
        warnings = sum(problem.count for problem in self.problems) - errors
        summary = f"{errors:,} errors, {warnings:,} warnings" if self.problems else "nothing to fix"
        head = f"{self.path.name}: {self.examples:,} examples, {self.bytes:,} bytes: {summary}"
        return "\n".join([head, *(f"  {problem}" for problem in self.problems)])


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Correction(ShortRepr):
    """What `JsonlReport.write_corrected` did."""

    report: JsonlReport
    """What `check_jsonl` finds in the new file."""
    fixed: int
    """How many lines were changed."""
    removed: int
    """How many lines were blank or repeated, and were removed."""
    left_out: tuple[int, ...]
    """The lines of the old file whose errors need a person, counted from 1."""

    def __str__(self) -> str:
        return (
            f"{self.fixed:,} lines fixed, {self.removed:,} blank or repeated ones removed, "
            f"{len(self.left_out):,} left out whose errors need a person\n{self.report}"
        )


def check_jsonl(
    path: str | os.PathLike[str] | TrainingFile,
    provider: str | Provider | None = None,
    *,
    currency: str | None = None,
) -> JsonlReport:
    r"""Read a training file once and report every problem; 16 bytes a line are kept in memory.

    Args:
        path: A file of chat examples, whoever wrote it; a `TrainingFile` knows its currency.
        provider: The service whose limits apply: a name such as `"azure"`, or a `Provider`; None takes the
            protocol's limits.
        currency: Of the prices in the replies; None takes the training file's, else USD.

    Raises:
        DataError: The training file says another currency.
        FileAccessError: The file cannot be read.
        NotConfigured: There is no provider of that name.

    Examples:
        >>> from finetune_pricer import JsonlWriter, MadeUpCatalogue
        >>> training = JsonlWriter().write(MadeUpCatalogue().items(20), "train.jsonl")
        >>> with training.path.open("a") as file:
        ...     _ = file.write('{"messages": [{"role": "user", "content": "How much is a lamp?"}]}\n')
        >>> report = check_jsonl("train.jsonl")
        >>> report.ok
        False
        >>> [(problem.code, problem.lines, problem.fix) for problem in report.problems]
        [('last', (21,), 'end with the reply to learn')]
    """
    if not isinstance(path, TrainingFile):
        require_file("path", path)
    require_text("currency", currency, or_none=True)
    service = get_provider(provider)
    said: dict[str, str | None] = {"currency=": currency}
    if isinstance(path, TrainingFile):
        said["the training file"] = path.currency
        path = path.path
    currency = agree_on_currency(said)
    source, digest, size = Path(path), hashlib.sha256(), 0
    scan = _FileScan(service, currency)
    try:
        with source.open("rb") as file:
            for number, line in enumerate(file, start=1):
                digest.update(line)
                size += len(line)
                scan.check(number, line)
    except OSError as error:
        raise FileAccessError(f"cannot read {str(source)!r}: {error.strerror or error}") from error
    duplicates = scan.find_duplicates()
    scan.check_limits(size)
    return JsonlReport(
        path=source,
        examples=scan.examples,
        bytes=size,
        sha256=digest.hexdigest(),
        problems=scan.problems(),
        provider=provider,
        currency=currency,
        duplicates=duplicates,
    )


class _FileScan:
    """What is known of a file after the lines that were checked so far."""

    def __init__(self, service: Provider, currency: str) -> None:
        self.examples = 0
        self._service = service
        self._currency = currency
        self._places: dict[str, _Places] = {}
        self._lines = array("Q")  # numbers of the lines whose messages could be read,
        self._hashes = array("q")  # and a hash of what they say
        self._system: str | None = None

    def check(self, number: int, line: bytes) -> None:
        """Check a line, the first of which is number 1."""
        if number == 1:
            marked = line.startswith(codecs.BOM_UTF8)
            if self._service.file_encoding == "utf-8-sig" and not marked:
                self._note(Occurrence("mark", "", "missing"))
            line = line.removeprefix(codecs.BOM_UTF8)
        row, found = check_line(line, self._service, self._currency)
        if row is not None:
            self._check_system(number, row["messages"])
            self._lines.append(number)
            self._hashes.append(key_of(row))
        if not found:
            self.examples += 1
            return
        for occurrence in found:
            self._note(occurrence, number)
        self.examples += not _has_error(found) and found != [Occurrence("blank")]

    def _check_system(self, number: int, messages: list[dict[str, Any]]) -> None:
        system = text_of(messages[0]) if messages[0]["role"] == "system" else None
        if not self._lines:
            self._system = system
        elif system != self._system:
            self._note(Occurrence("systems", "messages[0]"), number)

    def check_limits(self, size: int) -> None:
        """Check the whole file's number of examples and its size in bytes."""
        fewest, largest = self._service.min_examples, self._service.max_file_bytes
        if self.examples < fewest:
            self._note(Occurrence("few", "", f"{self.examples:,} of {fewest:,}"))
        if size > largest:
            self._note(Occurrence("large", "", f"{size:,} of {largest:,} bytes"))

    def find_duplicates(self) -> tuple[int, ...]:
        """Return the numbers of the lines that say what an earlier line says."""
        import numpy as np

        hashes = np.array(self._hashes, dtype=np.int64)
        order = np.argsort(hashes, kind="stable")
        ordered = hashes[order]
        repeats = order[1:][ordered[1:] == ordered[:-1]]
        numbers = sorted(self._lines[index] for index in repeats.tolist())
        for number in numbers:
            self._note(Occurrence("duplicate"), number)
        return tuple(numbers)

    def _note(self, occurrence: Occurrence, line: int | None = None) -> None:
        places = self._places.get(occurrence.code)
        if places is None:
            self._places[occurrence.code] = _Places(occurrence, [] if line is None else [line])
            return
        places.count += 1
        if line is not None and len(places.lines) < _SHOWN and places.lines[-1] != line:
            places.lines.append(line)

    def problems(self) -> tuple[JsonlProblem, ...]:
        """Return what was found, errors first, in the order of their first lines."""
        problems = [
            JsonlProblem(
                code=code,
                level=ISSUES[code].level,
                count=places.count,
                lines=tuple(places.lines),
                path=places.first.path,
                what=": ".join(filter(None, [ISSUES[code].what, places.first.detail])),
                fix=ISSUES[code].fix,
            )
            for code, places in self._places.items()
        ]
        return tuple(sorted(problems, key=lambda each: (each.level, each.lines or (0,))))


@dataclass(slots=True)
class _Places:
    """Where an issue was found so far."""

    first: Occurrence
    lines: list[int]
    count: int = 1


def _has_error(found: list[Occurrence]) -> bool:
    return any(ISSUES[occurrence.code].level == "error" for occurrence in found)


def _read_lines(file: TrainingFile) -> Iterator[tuple[int, bytes]]:
    """Yield the numbered lines, and make sure at the end that they are those that were checked."""
    digest = hashlib.sha256()
    try:
        with file.path.open("rb") as opened:
            for number, line in enumerate(opened, start=1):
                digest.update(line)
                yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
    except OSError as error:
        raise FileAccessError(f"cannot read {str(file.path)!r}: {error.strerror or error}") from error
    if digest.hexdigest() != file.sha256:
        raise TrainingFileError(f"{str(file.path)!r} has changed since it was checked; check it again")
