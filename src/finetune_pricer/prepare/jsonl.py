"""Training files: written line by line, and known by their hash from then on."""

from __future__ import annotations

import codecs
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any, Literal

from .._arguments import require_choice, require_formatter, require_path
from .._chat_protocol import SPECIAL_TOKEN
from .._files import replacing
from .._format import agree_on_currency
from ..chat import ChatFormatter, LookAhead
from ..errors import FileAccessError, InvalidItem, TrainingFileError
from ..items import require_items, require_price

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from ..items import Item

_PIECE = 2**20  # bytes that are read at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFile:
    """A file of chat examples on disk, as it was when it was written."""

    path: Path
    examples: int
    """How many lines it has."""
    bytes: int
    """Its size."""
    sha256: str
    """Hash of its content, in hexadecimal."""
    formatter: str | None = None
    """Fingerprint of the formatter that wrote it; None for a file from elsewhere."""
    currency: str = "USD"
    """ISO code of the currency of its prices."""

    def verify(self) -> None:
        """Make sure that the file on disk is still the one that was written.

        Raises:
            FileAccessError: It cannot be read.
            TrainingFileError: Its content has changed.
        """
        for _ in read_unchanged(self):
            pass


@dataclass(frozen=True, slots=True)
class JsonlWriter:
    r"""Writes items as chat examples, one JSON object a line, each line with a newline.

    Args:
        formatter: How an item is asked about and answered.
        encoding: `"utf-8"`, or `"utf-8-sig"` for a byte order mark at the front, which Azure asks for.

    Raises:
        DataError: The encoding is another one.

    Examples:
        >>> from finetune_pricer import ChatFormatter, Item
        >>> writer = JsonlWriter(ChatFormatter("How much?"))
        >>> training = writer.write([Item(title="Lamp", price=59.9)], "jsonl/train.jsonl")
        >>> print(training.path.read_text().strip())
        {"messages":[{"role":"user","content":"How much?\n\nLamp"},{"role":"assistant","content":"$59.90"}]}
        >>> training.examples, training.bytes
        (1, 101)
    """

    formatter: ChatFormatter = field(default_factory=ChatFormatter)
    encoding: Literal["utf-8", "utf-8-sig"] = field(default="utf-8", kw_only=True)

    def __post_init__(self) -> None:
        require_formatter(self.formatter)
        require_choice("encoding", self.encoding, ("utf-8", "utf-8-sig"))

    def write(self, items: Iterable[Item], path: str | os.PathLike[str]) -> TrainingFile:
        """Write one example per item; memory does not grow with their number.

        Missing folders are made. The file is written beside its place and renamed when it is whole: on any
        error the file that stood at `path` stays as it was.

        Args:
            items: Priced items, from any iterable.
            path: Where to write, such as `"jsonl/train.jsonl"`.

        Raises:
            DataError: The items' prices are in another currency than the formatter's.
            InvalidItem: An item has no price or cannot be written, or its price is 0 and nobody said what
                that means (`zero_is`), or its text holds a special token of the
                tokenizers (`<|endoftext|>` and the like), on which jobs fail after the upload; the message
                names its row.
            TrainingFileError: There are no items.
            FileAccessError: The path cannot be written.
        """
        require_items(items)
        require_path("path", path)
        self._require_writable_formatter()
        said = {"the items": getattr(items, "currency", None), "the formatter": self.formatter.currency}
        currency, zero_is = agree_on_currency(said), getattr(items, "zero_is", None)
        digest, size, row = hashlib.sha256(), 0, 0
        # Not durable: every upload compares the hash first.
        with replacing(path, durable=False) as file:
            if self.encoding == "utf-8-sig":
                size += file.write(codecs.BOM_UTF8)
                digest.update(codecs.BOM_UTF8)
            for row, item in enumerate(self._look_ahead(items), start=1):
                try:
                    if item.price == 0:
                        require_price(item, "a training example", zero_is=zero_is)
                    line = self._line(item)
                except (InvalidItem, TypeError) as error:
                    raise InvalidItem(f"row {row}: {error}; {str(path)!r} was not written") from error
                size += file.write(line)
                digest.update(line)
            if not row:
                raise TrainingFileError(f"no items to write; {str(path)!r} was not written")
        return TrainingFile(
            path=Path(path),
            examples=row,
            bytes=size,
            sha256=digest.hexdigest(),
            formatter=self.formatter.fingerprint,
            currency=currency,
        )

    def _look_ahead(self, items: Iterable[Item]) -> Iterable[Any]:
        # Of any iterable: nobody waits for a line before making the next item.
        neighbors = getattr(self.formatter, "neighbors", None)
        return items if neighbors is None else LookAhead(neighbors, items)

    def _require_writable_formatter(self) -> None:
        import orjson

        own = (self.formatter.instruction, self.formatter.system, self.formatter.reply)
        try:
            orjson.dumps(own)
        except TypeError as error:
            raise InvalidItem(f"the formatter's own text cannot be written: {error}") from error

    def _line(self, item: Item) -> bytes:
        import orjson

        line = orjson.dumps({"messages": self.formatter.example(item)}, option=orjson.OPT_APPEND_NEWLINE)
        # The single letter is looked for first, as that takes a quarter of the time.
        if b"<" in line and b"<|" in line and (token := find_special_token(line.decode())):
            raise InvalidItem(
                f"the text holds {token!r}, a special token on which jobs fail; take it out of the text"
            )
        return line


def read_unchanged(file: TrainingFile) -> Iterator[bytes]:
    """Yield the content of a training file, and make sure at its end that it is what was written.

    Whoever keeps the pieces keeps what was looked at, whatever is written to the path meanwhile.

    Raises:
        FileAccessError: It cannot be read.
        TrainingFileError: Its content has changed.
    """
    digest, size = hashlib.sha256(), 0
    try:
        # A pipe would be waited for, and a device may have no end.
        if not S_ISREG(file.path.stat().st_mode):
            raise FileAccessError(f"{str(file.path)!r} is no plain file; write the examples to one")
        with file.path.open("rb") as opened:
            # No further than it was long.
            while size <= file.bytes and (piece := opened.read(_PIECE)):
                size += len(piece)
                digest.update(piece)
                yield piece
    except OSError as error:
        if error.filename != str(file.path):
            raise
        raise FileAccessError(f"cannot read {str(file.path)!r}: {error.strerror or error}") from error
    if digest.hexdigest() != file.sha256:
        raise TrainingFileError(f"{str(file.path)!r} has changed since it was written; write it again")


def find_special_token(text: str) -> str | None:
    """Return the first special token of the tokenizers in a text, such as `<|endoftext|>`, or None."""
    match = SPECIAL_TOKEN.search(text)
    return match.group() if match else None
