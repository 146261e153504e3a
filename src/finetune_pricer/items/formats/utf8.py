"""A text file of any encoding as UTF-8, piece by piece."""

from __future__ import annotations

import codecs
import io
import re
from typing import TYPE_CHECKING, Any

from ...errors import DataError, InvalidRows
from ..decompression import UnpackedFile
from .alphabets import LATIN, Guess, guess_encoding

if TYPE_CHECKING:
    from pathlib import Path

_PIECE = 1 << 20  # bytes that are read at a time
# The longer marks first: that of UTF-32 begins like that of UTF-16.
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


_MIXED = 3  # characters of UTF-8 among so many other bytes are too many for a text in an old encoding
# What a letter or a sign beyond ASCII looks like that came into a text of Latin letters as UTF-8: a capital A
# with a tilde inside a word, which no language has.
_SLIP = re.compile(
    rb"(?<=[a-z])\xc3[\x80-\xbf]|\xc3[\x80-\xbf](?=[a-z])|\xc2[\xa0-\xbf](?![A-Z])|\xe2[\x80-\x84][\x80-\xbf]"
)


class Utf8File(io.RawIOBase):
    """A text file's content in UTF-8, without a mark at its start.

    A mark is obeyed. Without one the first bytes beyond ASCII decide: until then all encodings are the same.
    Where they are not UTF-8 and nothing decides between two encodings, they are handed on as they are, so
    that whoever reads the cells can tell of the rows, and of no more than the columns that matter.

    Raises:
        InvalidRows: While it is read: the mark contradicts the encoding that was given, or bytes that come
            later contradict what was found out.
    """

    def __init__(self, path: Path, encoding: str | None) -> None:
        self.guess: Guess | None = None
        """What the bytes may be that are not UTF-8; None where there are none, or an encoding is known."""
        self.encoding = find_codec(encoding) if encoding is not None else None
        """The name of the encoding, as far as it is known; None is ASCII so far."""
        self._given = self.encoding
        self._name = path.name
        self._raw = UnpackedFile(path)
        self._file = io.BufferedReader(self._raw)
        self._decoder: Any = None
        self._slips = 0
        self._ready = b""
        self._begun = False
        self._ended = False

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read UTF-8 into a buffer, and return how many bytes."""
        while not self._ready and not self._ended:
            self._ready = self._read_piece()
        count = min(len(self._ready), len(buffer))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
        super().close()

    @property
    def is_told(self) -> bool:
        """Whether the encoding is one that was given, and another than UTF-8."""
        return self._given not in {None, "utf-8"}

    @property
    def said(self) -> str | None:
        """The encoding, if it is worth saying: where it is not UTF-8."""
        known = self.encoding
        if known in {None, "utf-8"}:
            return None
        if not self._slips:
            return known
        return f"{known}, with {self._slips:,} character{'s' if self._slips > 1 else ''} in UTF-8"

    def _read_piece(self) -> bytes:
        piece = self._file.read(_PIECE)
        self._ended = not piece
        if not self._begun:
            self._begun = True
            piece = self._read_mark(piece)
        if self.encoding is None and not piece.isascii():
            self._decide(piece)
        if self.encoding in {None, "utf-8"}:
            return piece
        if self._given is None and self._decoder is not None and _is_beyond_ascii(piece):
            raise InvalidRows(
                f"{self._name!r} begins in {self.encoding}, as it seems, and goes on in UTF-8; save it in "
                "one encoding, or say encoding="
            )
        self._decoder = self._decoder or codecs.getincrementaldecoder(str(self.encoding))(
            _how_to_err(self.encoding)
        )
        return self._decode(piece)

    def _decode(self, piece: bytes) -> bytes:
        if self._given is None and self.encoding in LATIN:
            piece, slips = _SLIP.subn(self._mend, piece)
            self._slips += slips
        try:
            text: str = self._decoder.decode(piece, final=self._ended)
        except UnicodeError as error:  # of UTF-16 without its mark it is no UnicodeDecodeError
            reason = getattr(error, "reason", error)
            raise InvalidRows(
                f"{self._name!r} is not in {self.encoding}: {reason}; save it as UTF-8, or say another "
                "encoding="
            ) from error
        # What is no character stays a byte that is no UTF-8, and is told with its row.
        return text.encode("utf-8", _how_to_err(self.encoding))

    def _mend(self, slip: re.Match[bytes]) -> bytes:
        character = slip[0].decode(errors="replace")
        return character.encode(str(self.encoding), "ignore") or slip[0]

    def _read_mark(self, piece: bytes) -> bytes:
        for mark, encoding in _MARKS.items():
            if piece.startswith(mark):
                if self._given is not None and self._given[:6].rstrip("-") != encoding[:6].rstrip("-"):
                    raise InvalidRows(
                        f"{self._name!r} begins with the mark of {encoding}, and encoding= says "
                        f"{self._given}; leave encoding= out"
                    )
                self._given = self.encoding = encoding
                return piece[len(mark) :]
        if self.encoding is None and (zeros := piece[:2000].count(0)) > len(piece[:2000]) // 4:
            # Every second byte of an English text in UTF-16 is zero, and no byte of another text.
            low = piece[1:2000:2].count(0)
            self._given = self.encoding = "utf-16-le" if low * 2 > zeros else "utf-16-be"
        return piece

    def _decide(self, piece: bytes) -> None:
        if self._ended or _is_beyond_ascii(piece):
            self.encoding = "utf-8"
            return
        kept = piece.decode(errors="ignore")
        characters = sum(not letter.isascii() for letter in kept)
        others = len(piece) - len(kept.encode())
        self.guess = guess_encoding(_SLIP.sub(b"", piece))
        # Where many are characters of UTF-8, the others are slips, which their rows tell.
        decided = None if characters * _MIXED > others else self.guess.decided
        self.encoding = decided or "utf-8"
        if decided:
            self.guess = None


def _is_beyond_ascii(piece: bytes) -> bool:
    """Whether bytes beyond ASCII are there, and are UTF-8; the last character may be cut."""
    if piece.isascii():
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(piece)
    except UnicodeDecodeError:
        return False
    return True


def _how_to_err(encoding: str | None) -> str:
    return "surrogatepass" if str(encoding).startswith(("utf-16", "utf-32")) else "surrogateescape"


def find_codec(encoding: object) -> str:
    """Return Python's name of an encoding.

    Raises:
        DataError: There is none of that name.
    """
    try:
        codec = codecs.lookup(encoding)  # type: ignore[arg-type]
        "".encode(codec.name)
    except (LookupError, TypeError, ValueError):
        raise DataError(
            f"encoding is the name of one, such as 'utf-8' or 'cp1252', not {encoding!r}"[:200]
        ) from None
    return "utf-8" if codec.name == "utf-8-sig" else codec.name


def is_utf8(cell: bytes) -> bool:
    """Whether the bytes of a whole cell are UTF-8."""
    try:
        cell.decode()
    except UnicodeDecodeError:
        return False
    return True


def tell_bytes(cell: bytes, file: Utf8File) -> tuple[str, str]:
    """Return what a cell that cannot be read shows, and why it is refused, with each possible reading."""
    shown = cell.decode(errors="replace")
    if file.is_told:
        return shown, f"is not in {file.encoding}: say another encoding=, or save the file as UTF-8"
    found = file.guess or guess_encoding(cell)
    readings = [f"{_excerpt(cell, name)!r} in {name}" for name in found.encodings[:3]]
    return shown, (
        f"is not UTF-8; it may be {' or '.join(readings)}: say encoding={found.encodings[0]!r} if so (in "
        f"a shell --encoding {found.encodings[0]}), or save the file as UTF-8"
    )


def _excerpt(cell: bytes, encoding: str) -> str:
    text = cell.decode(encoding, "replace")
    at = next((at for at, letter in enumerate(text) if not letter.isascii()), 0)
    return text[max(0, at - 15) : at + 15]
