"""Training files: written line by line, and sealed by their hash before they leave."""

from __future__ import annotations

import codecs
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from .._chat_protocol import SPECIAL_TOKEN
from .._files import replacing
from ..chat import ChatFormatter
from ..errors import DataError, FileAccessError, InvalidItem, TrainingFileError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ..items import Item

_TOGETHER = 256  # lines that are hashed and written together


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFile:
    """A file of chat examples on disk, as it was when it was written."""

    path: Path
    examples: int
    """How many lines."""
    bytes: int
    """Its size."""
    sha256: str
    """Hash of its content, in hexadecimal."""
    formatter: str | None = None
    """Fingerprint of the formatter that wrote it; None for a file of somebody else's."""

    def verify(self) -> None:
        """Make sure that the file on disk is still the one that was written.

        Raises:
            FileAccessError: It cannot be read.
            TrainingFileError: Its content has changed.
        """
        try:
            with self.path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise FileAccessError(f"cannot read {str(self.path)!r}: {error.strerror or error}") from error
        if found != self.sha256:
            raise TrainingFileError(f"{str(self.path)!r} has changed since it was written; write it again")


@dataclass(frozen=True, slots=True)
class JsonlWriter:
    """Writes items as chat examples, one JSON object a line, each line with a newline.

    Args:
        formatter: How an item is asked about and answered.
        encoding: `"utf-8"`, or `"utf-8-sig"` for a byte order mark at the front, which Azure asks for.

    Raises:
        DataError: The encoding is another one.
    """

    formatter: ChatFormatter = field(default_factory=ChatFormatter)
    encoding: Literal["utf-8", "utf-8-sig"] = field(default="utf-8", kw_only=True)

    def __post_init__(self) -> None:
        if self.encoding not in {"utf-8", "utf-8-sig"}:
            raise DataError(f"encoding is 'utf-8' or 'utf-8-sig', not {self.encoding!r}")

    def write(self, items: Iterable[Item], path: str | os.PathLike[str]) -> TrainingFile:
        """Write one example per item; memory does not grow with their number.

        Missing folders are made. The file is written beside its place and renamed when it is whole: on any
        error what stood at `path` stays as it was.

        Args:
            items: Priced items, from any iterable.
            path: Where to, such as `"jsonl/train.jsonl"`.

        Raises:
            InvalidItem: An item has no price or cannot be written, or its text holds a special token of the
                tokenizers (`<|endoftext|>` and kin), on which jobs fail after the upload; the message names
                its row.
            TrainingFileError: There are no items.
            FileAccessError: The path cannot be written.
        """
        from concurrent.futures import Future, ThreadPoolExecutor
        from pathlib import Path

        digest, size, examples = hashlib.sha256(), 0, 0
        mark = codecs.BOM_UTF8 if self.encoding == "utf-8-sig" else b""
        # Not durable: whoever uploads it looks at its hash first. A thread hashes and writes one block while
        # the next is made, as neither needs the interpreter.
        with replacing(path, durable=False) as file, ThreadPoolExecutor(1) as thread:
            sealing = Future[None]()
            sealing.set_result(None)

            def seal(block: bytes) -> None:
                digest.update(block)
                file.write(block)

            for lines in self._batches(items, path):
                block = b"".join(lines)
                sealing.result()
                sealing = thread.submit(seal, block if examples else mark + block)
                size += len(block)
                examples += len(lines)
            sealing.result()
            if not examples:
                raise TrainingFileError(f"no items to write; {str(path)!r} was not written")
        return TrainingFile(
            path=Path(path),
            examples=examples,
            bytes=size + len(mark),
            sha256=digest.hexdigest(),
            formatter=self.formatter.fingerprint,
        )

    def _batches(self, items: Iterable[Item], path: str | os.PathLike[str]) -> Iterator[list[bytes]]:
        try:
            written = self.formatter.line_writer()
        except TypeError as error:
            raise InvalidItem(f"the formatter's own text cannot be written: {error}") from error
        lines: list[bytes] = []
        for row, item in enumerate(items, start=1):
            try:
                line = written(item)
            except (InvalidItem, TypeError) as error:
                raise InvalidItem(f"row {row}: {error}; {str(path)!r} was not written") from error
            # The single letter is looked for first, as that takes a tenth of the time.
            if b"<" in line and b"<|" in line:
                _refuse_special_tokens(row, line, path)
            lines.append(line)
            if len(lines) == _TOGETHER:
                yield lines
                lines = []
        if lines:
            yield lines


def _refuse_special_tokens(row: int, line: bytes, path: str | os.PathLike[str]) -> None:
    if token := special_token_in(line.decode()):
        raise InvalidItem(
            f"row {row}: the text holds {token!r}, a special token on which jobs fail; take it out of the "
            f"text; {str(path)!r} was not written"
        )


def special_token_in(text: str) -> str | None:
    """Find a special token of the tokenizers in a text, such as `<|endoftext|>`."""
    found = SPECIAL_TOKEN.search(text)
    return found.group() if found else None
