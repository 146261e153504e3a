"""Questions whose answers are records: jobs, files, events and checkpoints.

The records are pydantic models. They are imported when an answer is read, since importing pydantic costs as
much as importing all else here.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from .._service.flow import Flow, Pages, ask
from .._service.requests import list_checkpoints

if TYPE_CHECKING:
    from .._service.requests import Request
    from ..providers.provider import Provider
    from .records import JobCheckpoint, JobEvent, JobRecord, UploadedFile


def ask_job(request: Request) -> Flow[JobRecord]:
    """Send a request that is answered with a job."""
    from .records import JobRecord

    return JobRecord.read((yield from ask(request)))


def ask_file(request: Request) -> Flow[UploadedFile]:
    """Send a request that is answered with a file."""
    from .records import UploadedFile

    return UploadedFile.read((yield from ask(request)))


def next_jobs(pages: Pages) -> Flow[list[JobRecord]]:
    """Return the jobs of the next page; an empty list at the end."""
    from .records import JobRecord

    while rows := (yield from pages.read_next()):
        # A row without a name is no job that anybody could ask for.
        if jobs := [JobRecord.read(row) for row in rows if row.get("id")]:
            return jobs
    return []


def next_files(pages: Pages) -> Flow[list[UploadedFile]]:
    """Return the files of the next page; an empty list at the end."""
    from .records import UploadedFile

    while rows := (yield from pages.read_next()):
        if files := [UploadedFile.read(row) for row in rows if row.get("id")]:
            return files
    return []


def next_events(pages: Pages) -> Flow[list[JobEvent]]:
    """Return the events of the next page; an empty list at the end."""
    from .records import JobEvent

    return [JobEvent.read(row) for row in (yield from pages.read_next())]


def ask_checkpoints(job_id: str, provider: Provider) -> Flow[list[JobCheckpoint]]:
    """Return all checkpoints of a job, by their steps, the first step first."""
    from .records import read_checkpoints

    rows = yield from Pages(partial(list_checkpoints, job_id)).read_all()
    return read_checkpoints(rows, provider)
