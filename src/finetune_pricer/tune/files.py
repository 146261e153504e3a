"""Files at the service: sent once they are known to be whole, and waited for until they can be used."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .. import _wire
from ..errors import ServiceError, ServiceUnavailable, TrainingFileError
from ._polling import poll_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from openai import OpenAI

    from ..prepare.jsonl import TrainingFile
    from .records import UploadedFile

_UNUSABLE = {"error", "failed", "deleted"}
# Nebius sends no status at all; what is not on its way is taken as usable.
_ON_ITS_WAY = {"uploaded", "pending", "processing", "running"}


def upload(
    client: OpenAI,
    training_file: TrainingFile,
    *,
    timeout: float = 600.0,
    sleep: Callable[[float], Any] = time.sleep,
) -> UploadedFile:
    """Send a training file to the service and wait until it can be used.

    Args:
        client: Any `openai.OpenAI`.
        training_file: What `JsonlWriter.write` returned. It is compared with its hash first.
        timeout: Seconds to wait for the service to process it.
        sleep: How to wait between questions.

    Raises:
        TrainingFileError: The file has changed since it was written, or the service cannot use it.
        FileAccessError: The file cannot be read.
        ServiceError: The service refuses it, or does not answer.
    """
    training_file.verify()
    file = _file(_wire.upload_file(client, training_file.path))
    if file.status in _ON_ITS_WAY:
        file = poll_until(
            lambda: _file(_wire.retrieve_file(client, file.id)),
            done=lambda found: found.status not in _ON_ITS_WAY,
            timeout=timeout,
            sleep=sleep,
            late=lambda: ServiceUnavailable(f"file {file.id!r} is still being processed after {timeout:g} s"),
        )
    if file.status in _UNUSABLE:
        reason = file.status_details or f"status {file.status!r}"
        raise TrainingFileError(
            f"the service cannot use {str(training_file.path)!r} (file {file.id!r}): {reason}"
        )
    return file


def _file(answer: _wire.Answer) -> UploadedFile:
    from .records import UploadedFile

    try:
        return UploadedFile.model_validate(answer)
    except ValueError as error:
        raise ServiceError(f"the service's answer is no file: {str(answer)[:200]}") from error
