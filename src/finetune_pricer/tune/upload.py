"""A training file at the service: its name there, sending it, finding it, waiting until it can be used."""

from __future__ import annotations

import codecs
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfileobj
from typing import IO, TYPE_CHECKING

from .._service.flow import Flow, Pages, poll
from .._service.requests import create_file, get_file, list_files
from ..errors import FileAccessError, NotFound, ServiceUnavailable, TrainingFileError
from .queries import ask_file, next_files

if TYPE_CHECKING:
    from collections.abc import Iterator

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

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the bytes to send: the file's own, behind a byte order mark where the service wants one.

        Raises:
            FileAccessError: The file cannot be read.
        """
        path = self.file.path
        try:
            with path.open("rb") as plain:
                if self.provider.file_encoding == "utf-8":
                    yield plain
                    return
                with tempfile.TemporaryFile() as marked:
                    marked.write(codecs.BOM_UTF8)
                    copyfileobj(plain, marked)
                    marked.seek(0)
                    yield marked
        except OSError as error:
            if error.filename != str(path):
                raise
            raise FileAccessError(f"cannot read {str(path)!r}: {error.strerror or error}") from error


def send_file(copy: FileCopy, token: str) -> Flow[UploadedFile]:
    """Send the file, in one request."""
    with copy.open() as content:
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
