"""What can be wrong with a training file: each fault's words, weight and mend, and the report of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..errors import TrainingFileError
from .jsonl import TrainingFile

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from ..providers.provider import Provider
    from .mending import Correction

Level = Literal["error", "warning"]
SHOWN = 5
"""How many lines of a fault are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind of thing that can be wrong."""

    level: Level
    what: str
    mend: str
    mechanical: bool = False
    """Whether `write_corrected` mends it; a line with an error that it cannot mend is left out."""


FAULTS = {
    "unreadable": Fault(level="error", what="is not UTF-8", mend="save the file as UTF-8"),
    "json": Fault(level="error", what="is not JSON", mend="write each line with a JSON library"),
    "object": Fault(level="error", what="is not an object", mend='write {"messages": [...]}'),
    "blank": Fault(level="warning", what="is blank", mend="remove the line", mechanical=True),
    "messages": Fault(level="error", what="missing, not a list, or empty", mend="give at least two messages"),
    "key": Fault(level="error", what="unknown key", mend="remove the key", mechanical=True),
    "message": Fault(level="error", what="is not an object", mend='write {"role": ..., "content": ...}'),
    "role": Fault(level="error", what="unknown role", mend="use system, developer, user, assistant or tool"),
    "content": Fault(level="error", what="is not text", mend="give a string, or a list of text parts"),
    "last": Fault(
        level="error", what="the last message is not the assistant's", mend="end with the reply to learn"
    ),
    "empty": Fault(level="error", what="the reply is empty", mend="give the price as the reply"),
    "price": Fault(
        level="warning", what="the reply holds no price", mend="write the price in the form of the formatter"
    ),
    "weight": Fault(
        level="error", what="is neither 0 nor 1", mend="write 0 or 1, or leave it out", mechanical=True
    ),
    "special": Fault(
        level="error",
        what="special token of the tokenizer in the text",
        mend="take it out; jobs fail on it after the upload",
        mechanical=True,
    ),
    "long": Fault(
        level="error",
        what="more tokens than the service reads",
        mend="shorten the text; it is cut at the end, where the price stands",
    ),
    "duplicate": Fault(
        level="warning", what="the same example again", mend="keep one of them", mechanical=True
    ),
    "systems": Fault(
        level="warning", what="a system message unlike the first line's", mend="use one for all examples"
    ),
    "mark": Fault(
        level="warning", what="byte order mark", mend="write it as the service asks", mechanical=True
    ),
    "few": Fault(level="error", what="too few examples", mend="add examples"),
    "large": Fault(level="error", what="the file is too large", mend="use fewer or shorter examples"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonlProblem:
    """One kind of fault in a file, with all the lines that have it counted."""

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
    mend: str
    """What to do about it."""

    def __str__(self) -> str:
        where = f"line {self.lines[0]:,}" if self.lines else "the file"
        at = f", {self.path}" if self.path else ""
        more = ""
        if self.count > 1:
            others = ", ".join(f"{line:,}" for line in self.lines[1:])
            more = f" ({self.count:,} times; also lines {others})" if others else f" ({self.count:,} times)"
        return f"{self.level}: {where}{at}: {self.what}{more}; {self.mend}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonlReport:
    """What `check_jsonl` found in a file; `str()` of it names every problem."""

    path: Path
    examples: int
    """How many lines are examples that can be trained on."""
    bytes: int
    sha256: str
    problems: tuple[JsonlProblem, ...]
    """Every kind of problem, errors first, in the order of their first lines."""
    provider: str | Provider | None = None
    """The service whose limits it was held against."""
    currency: str = "USD"
    """Of the prices that were looked for."""
    duplicates: tuple[int, ...] = ()
    """The lines that say again what an earlier one said."""

    @property
    def ok(self) -> bool:
        """Whether there is no error; there may be warnings."""
        return not any(problem.level == "error" for problem in self.problems)

    def training_file(self) -> TrainingFile:
        """Give the file as `upload` and `FineTuneJob.create` take it.

        Raises:
            TrainingFileError: There are errors.
        """
        if not self.ok:
            raise TrainingFileError(str(self))
        return TrainingFile(path=self.path, examples=self.examples, bytes=self.bytes, sha256=self.sha256)

    def write_corrected(self, path: str | os.PathLike[str]) -> Correction:
        """Write the file anew with everything mended that needs no judgement.

        Unknown keys go, weights become 0 or 1, special tokens are broken up by a space, repeated and blank
        lines go, the byte order mark is as the service asks. Lines with other errors are left out; the
        result says how many.

        Raises:
            FileAccessError: A path cannot be read or written.
            TrainingFileError: The file has changed since it was checked, or nothing would be left.
        """
        from .mending import write_corrected

        return write_corrected(self, path)

    def __str__(self) -> str:
        errors = sum(problem.count for problem in self.problems if problem.level == "error")
        warnings = sum(problem.count for problem in self.problems) - errors
        found = f"{errors:,} errors, {warnings:,} warnings" if self.problems else "nothing to mend"
        head = f"{self.path.name}: {self.examples:,} examples, {self.bytes:,} bytes: {found}"
        return "\n".join([head, *(f"  {problem}" for problem in self.problems)])
