"""Files at the service: sent once, known again by their content, and waited for until they can be used."""

from __future__ import annotations

import codecs
import tempfile
import time
from contextlib import contextmanager
from shutil import copyfileobj
from typing import IO, TYPE_CHECKING, Any

from .._service import requests
from .._service.flow import Flow, Work, ask, run
from .._service.polling import polled
from ..errors import FileAccessError, NotFound, ServiceUnavailable, TrainingFileError
from .once import once

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from openai import OpenAI

    from ..prepare.jsonl import TrainingFile
    from ..providers.provider import Provider
    from .journal import Account, Entry
    from .records import UploadedFile

_UNUSABLE = {"error", "failed", "deleted"}
# Nebius sends no status at all; what is not on its way is taken as usable.
_ON_ITS_WAY = {"uploaded", "pending", "processing", "running"}
_MOST_PAGES = 20


def upload(
    client: OpenAI,
    training_file: TrainingFile,
    *,
    timeout: float = 600.0,
    provider: str | Provider | None = None,
    journal: str | os.PathLike[str] | None = None,
    sleep: Callable[[float], Any] = time.sleep,
) -> UploadedFile:
    """Send a training file to the service, if it is not there yet, and wait until it can be used.

    Args:
        client: Any `openai.OpenAI`.
        training_file: What `JsonlWriter.write` returned. It is compared with its hash first.
        timeout: Seconds to wait for the service to process it.
        provider: What is known of the service; by default it is recognised by its address.
        journal: Path of the journal of what was sent; by default it is in `FINETUNE_PRICER_HOME`, else in
            the user's state folder.
        sleep: How to wait between questions.

    Raises:
        TrainingFileError: The file has changed since it was written, or the service cannot use it.
        FileAccessError: The file or the journal cannot be used.
        ServiceError: The service refuses it, or does not answer.
    """
    from ..providers.connect import provider_of
    from .journal import Journal

    profile = provider_of(client, provider)
    with Journal(journal) as book:
        flow = FileOrder(book.of(client), training_file, profile).usable(timeout=timeout)
        return run(client, flow, sleep)


class FileOrder:
    """One copy of a file at a service; `fresh` says whether it was sent now, or was there already."""

    kind = "file"

    def __init__(self, account: Account, file: TrainingFile, provider: Provider) -> None:
        self._account = account
        self.file = file
        self._encoding = provider.file_encoding
        self.what = f"{self._encoding} {file.sha256}"
        # The name carries the content's hash: by it a file is known whose upload was never answered.
        self._name = f"{file.path.stem}-{file.sha256[:16]}{file.path.suffix}"
        self.fresh = False

    def usable(self, *, timeout: float = 600.0) -> Flow[UploadedFile]:
        """Send the file, if it is not there yet, and wait until it can be used."""
        yield Work(self.file.verify)
        file = yield from once(self._account, self)
        if file.status in _ON_ITS_WAY:
            file = yield from polled(
                lambda: _state(file.id),
                done=lambda found: found.status not in _ON_ITS_WAY,
                timeout=timeout,
                late=lambda: ServiceUnavailable(
                    f"file {file.id!r} is still being processed after {timeout:g} s; ask again later"
                ),
            )
        if file.status in _UNUSABLE:
            reason = file.status_details or f"status {file.status!r}"
            raise TrainingFileError(
                f"the service cannot use {str(self.file.path)!r} (file {file.id!r}): {reason}"
            )
        return file

    def kept(self, id_: str) -> Flow[UploadedFile | None]:
        """Give the file that was sent before, unless it was deleted or could not be used."""
        try:
            file = yield from _state(id_)
        except NotFound:
            return None
        return None if file.status in _UNUSABLE else file

    def elsewhere(self) -> Flow[UploadedFile | None]:
        """Give nothing: a second copy from another machine costs nothing."""
        return None
        yield

    def look(self, entry: Entry) -> Flow[UploadedFile | None]:  # noqa: ARG002 - the name says it all
        """Find the file by its name, which carries its hash."""
        from .records import UploadedFile

        after: str | None = None
        for _ in range(_MOST_PAGES):
            page = yield from ask(requests.files(after))
            rows = [UploadedFile.read(row) for row in page.get("data") or []]
            for file in rows:
                if file.filename == self._name and file.status not in _UNUSABLE:
                    return file
            if not rows or not page.get("has_more"):
                break
            after = rows[-1].id
        return None

    def prepare(self) -> Flow[None]:
        """Do nothing: the file was checked."""
        return
        yield

    def send(self, entry: Entry) -> Flow[UploadedFile]:  # noqa: ARG002 - a file has no place for it
        """Send the file."""
        from .records import UploadedFile

        with self._opened() as content:
            file = UploadedFile.read((yield from ask(requests.create_file(content, self._name))))
        self.fresh = True
        return file

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        try:
            with self.file.path.open("rb") as plain:
                if self._encoding == "utf-8":
                    yield plain
                    return
                with tempfile.TemporaryFile() as marked:
                    marked.write(codecs.BOM_UTF8)
                    copyfileobj(plain, marked)
                    marked.seek(0)
                    yield marked
        except OSError as error:
            if error.filename != str(self.file.path):
                raise
            raise FileAccessError(
                f"cannot read {str(self.file.path)!r}: {error.strerror or error}"
            ) from error


def _state(file_id: str) -> Flow[UploadedFile]:
    from .records import UploadedFile

    return UploadedFile.read((yield from ask(requests.file(file_id))))
