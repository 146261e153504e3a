"""A training file at the service: its name there, sending it, finding it, waiting until it can be used."""

from __future__ import annotations

import codecs
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from .._service.flow import Flow, Pages, Work, poll
from .._service.requests import create_file, get_file, list_files
from ..errors import FileAccessError, NotFound, ServiceUnavailable, TrainingFileError
from ..prepare.jsonl import read_unchanged
from .queries import ask_file, next_files

if TYPE_CHECKING:
    from ..prepare.jsonl import TrainingFile
    from ..providers.provider import Provider
    from .records import UploadedFile

_UNUSABLE = {"error", "failed", "deleted"}
# Nebius sends no status at all; a file whose status is not one of these counts as usable.
_UNDER_WAY = {"uploaded", "pending", "processing", "running"}
_MOST_PAGES = 20
UPLOAD_TIMEOUT = 600.0
"""Seconds that a service may take to process a file."""


@dataclass(frozen=True, slots=True)
class FileCopy:
    """A training file as one service wants it."""

    file: TrainingFile
    provider: Provider

    @property
    def key(self) -> str:
        """Equal for equal content in the same encoding."""
        return f"{self.provider.file_encoding} {self.file.sha256}"

    @property
    def name(self) -> str:
        """The file's name at the service, by which a file is found whose upload was never answered.

        It carries the hash of the content.
        """
        path = self.file.path
        return f"{path.stem}-{self._mark}{path.suffix}"

    @property
    def _mark(self) -> str:
        return self.file.sha256[:16]

    def is_named(self, filename: str | None) -> bool:
        """Whether a file at the service has this content by its name, whatever the file was called here."""
        return filename is not None and Path(filename).stem.endswith(f"-{self._mark}")

    def open(self) -> IO[bytes]:
        """Copy the file, behind a byte order mark where the service wants one, and return the open copy.

        The copy is what was hashed: what is written to the path meanwhile is not sent. It goes when it is
        closed.

        Raises:
            FileAccessError: The file cannot be read, or there is no room for the copy.
            TrainingFileError: The file has changed since it was written.
        """
        with ExitStack() as undo:
            try:
                copy = undo.enter_context(tempfile.TemporaryFile())
                if self.provider.file_encoding == "utf-8-sig":
                    copy.write(codecs.BOM_UTF8)
                for piece in read_unchanged(self.file):
                    copy.write(piece)
                copy.seek(0)
            except FileAccessError:
                raise
            except OSError as error:
                raise FileAccessError(
                    f"cannot copy {str(self.file.path)!r} into a temporary file: {error.strerror or error}; "
                    "make room, or set TMPDIR to another folder"
                ) from error
            undo.pop_all()
        return copy


def send_file(copy: FileCopy, token: str) -> Flow[UploadedFile]:
    """Send the file, in one request.

    Raises:
        FileAccessError: It cannot be read or copied; nothing was sent.
        TrainingFileError: It has changed since it was written; nothing was sent.
    """
    content: IO[bytes] = yield Work(copy.open)
    with content:
        return (yield from ask_file(create_file(content, copy.name, token)))


def get_usable_file(file_id: str) -> Flow[UploadedFile | None]:
    """Return a file of the service; None where it was deleted or could not be used."""
    try:
        file = yield from ask_file(get_file(file_id))
    except NotFound:
        return None
    return None if file.status in _UNUSABLE else file


def find_file(copy: FileCopy) -> Flow[UploadedFile | None]:
    """Return the usable file of this name, which carries the hash; None where there is none."""
    pages = Pages(list_files, most=_MOST_PAGES)
    while files := (yield from next_files(pages)):
        for file in files:
            if file.filename == copy.name and file.status not in _UNUSABLE:
                return file
    return None


def list_file_names() -> Flow[list[tuple[str, str]]]:
    """Return id and name of each file that the service has for fine-tuning, the newest first."""
    pages, found = Pages(list_files), list[tuple[str, str]]()
    while files := (yield from next_files(pages)):
        found += [(file.id, file.filename) for file in files if file.filename]
    return found


def wait_until_usable(copy: FileCopy, file: UploadedFile, timeout: float) -> Flow[UploadedFile]:
    """Wait until the service has processed a file.

    Raises:
        TrainingFileError: The service cannot use it.
        ServiceUnavailable: It is not done after `timeout` seconds.
    """
    file_id = file.id
    if file.status in _UNDER_WAY:
        file = yield from poll(
            lambda: ask_file(get_file(file_id)),
            done=lambda found: found.status not in _UNDER_WAY,
            timeout=timeout,
            late=lambda: ServiceUnavailable(
                f"file {file_id!r} is still being processed after {timeout:g} s; ask again later"
            ),
        )
    if file.status in _UNUSABLE:
        reason = file.status_details or f"status {file.status!r}"
        raise TrainingFileError(
            f"the service cannot use {str(copy.file.path)!r} (file {file_id!r}): {reason}"
        )
    return file
