"""Training files: written line by line, and sealed by their hash before they leave."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .._files import replacing
from ..chat import ChatFormatter
from ..errors import FileAccessError, InvalidItem, TrainingFileError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from ..items import Item


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
    formatter: str = ""
    """Fingerprint of the formatter that wrote it."""

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
    """Writes items as chat examples, one JSON object a line."""

    formatter: ChatFormatter = field(default_factory=ChatFormatter)

    def write(self, items: Iterable[Item], path: str | os.PathLike[str]) -> TrainingFile:
        """Write one example per item; memory does not grow with their number.

        Missing folders are made. The file is written beside its place and renamed when it is whole: on any
        error what stood at `path` stays as it was.

        Args:
            items: Priced items.
            path: Where to, such as `"jsonl/train.jsonl"`.

        Raises:
            InvalidItem: An item has no price; the message names its row and id.
            TrainingFileError: There are no items.
            FileAccessError: The path cannot be written.
        """
        import orjson

        digest, size, examples = hashlib.sha256(), 0, 0
        with replacing(path) as file:
            for row, item in enumerate(items, start=1):
                try:
                    messages = self.formatter.example(item)
                except InvalidItem as error:
                    raise InvalidItem(f"row {row}: {error}; {str(path)!r} was not written") from error
                line = orjson.dumps({"messages": messages}, option=orjson.OPT_APPEND_NEWLINE)
                file.write(line)
                digest.update(line)
                size += len(line)
                examples += 1
            if not examples:
                raise TrainingFileError(f"no items to write; {str(path)!r} was not written")
        return TrainingFile(
            path=Path(path),
            examples=examples,
            bytes=size,
            sha256=digest.hexdigest(),
            formatter=self.formatter.fingerprint,
        )
