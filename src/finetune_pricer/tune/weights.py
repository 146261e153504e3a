"""A tuned model's weights, where its service gives them out."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from .._files import replacing
from .._service.flow import Flow, Work, ask
from .._service.requests import get_file, get_file_content
from ..errors import NotFound, NotSupported, ServiceUnavailable
from ..providers.lookup import get_providers
from .queries import ask_checkpoints, ask_file

if TYPE_CHECKING:
    import os

    from ..providers.provider import Provider
    from .records import JobCheckpoint, JobRecord, UploadedFile


def download_weights(
    job: JobRecord, provider: Provider, folder: str | os.PathLike[str], checkpoint: JobCheckpoint | None
) -> Flow[list[Path]]:
    """Download the files of a checkpoint, the last one by default, into a folder; return their paths.

    Raises:
        NotSupported: The service gives out no weights.
        NotFound: The job has no checkpoint with files.
        ServiceUnavailable: A file came cut; what came before it is there.
        FileAccessError: The folder cannot be written.
    """
    if not provider.gives_weights:
        others = ", ".join(other.name for other in get_providers().values() if other.gives_weights)
        raise NotSupported(
            f"{provider.name!r} gives out no weights, or not by a request that is known here; these "
            f"are known to do so: {others}"
        )
    if checkpoint is None:
        checkpoints = yield from ask_checkpoints(job.id, provider)
        checkpoint = next((each for each in reversed(checkpoints) if each.result_files), None)
    if checkpoint is None or not checkpoint.result_files:
        raise NotFound(f"job {job.id!r} has no checkpoint with files; it may not have got so far")
    paths = list[Path]()
    for id_ in checkpoint.result_files:
        file = yield from ask_file(get_file(id_))
        content: bytes = (yield from ask(get_file_content(id_)))["content"]
        if file.bytes is not None and len(content) != file.bytes:
            raise ServiceUnavailable(
                f"file {id_!r} of job {job.id!r} came with {len(content):,} of {file.bytes:,} bytes; "
                "download it again"
            )
        paths.append(Path(folder) / _name_file(file, taken={path.name for path in paths}))
        yield Work(lambda path=paths[-1], content=content: _write(path, content))  # type: ignore[misc]
    return paths


def _name_file(file: UploadedFile, taken: set[str]) -> str:
    """Return the last part of a file's name at the service, and never a way out of the folder."""
    name = PurePosixPath((file.filename or "").replace("\\", "/")).name
    own = PurePosixPath(file.id.replace("\\", "/")).name
    if name in {"", ".", ".."} or "\0" in name:
        return own
    return f"{own}-{name}" if name in taken else name


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as file:
        file.write(content)
