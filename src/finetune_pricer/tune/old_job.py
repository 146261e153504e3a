"""What an old job was asked for: its files are fetched and its settings read, to ask for it elsewhere."""

from __future__ import annotations

import codecs
import logging
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .._files import replacing
from .._service.flow import Flow, Work, ask
from .._service.requests import get_file_content
from ..errors import DataError, NotFound
from ..prepare.check import check_jsonl
from .spec import JobSpec, read_nested_hyperparameters

if TYPE_CHECKING:
    import os

    from ..prepare.jsonl import TrainingFile
    from ..providers.provider import Provider, Setting
    from .records import JobRecord

_log = logging.getLogger("finetune_pricer")

_WHOLE = {"epochs", "batch_size"}
_LARGEST_SEED = 2**31 - 1


def fetch_spec(job: JobRecord, provider: Provider, folder: str | os.PathLike[str]) -> Flow[JobSpec]:
    """Fetch the files of a job into a folder, and return everything that it was asked for.

    Raises:
        NotFound: The service has a file no more, or does not say which it was.
        TrainingFileError: A file has lines that no service would take.
        FileAccessError: The folder cannot be written.
    """
    if not job.training_file:
        raise NotFound(f"the service does not say what job {job.id!r} was trained on")
    training = yield from _fetch_file(job, job.training_file, Path(folder), provider)
    validation = None
    if job.validation_file:
        validation = yield from _fetch_file(job, job.validation_file, Path(folder), provider)
    return JobSpec.make(
        training, validation, model=job.model or "", provider=provider, **read_settings(job, provider)
    )


def _fetch_file(job: JobRecord, id_: str, folder: Path, provider: Provider) -> Flow[TrainingFile]:
    try:
        content = (yield from ask(get_file_content(id_)))["content"]
    except NotFound as error:
        raise error.with_message(
            f"file {id_!r} of job {job.id!r} is not at the service any more; write it again from the items: "
            f"{error}"
        ) from error
    path = folder / f"{quote(id_, safe='')}.jsonl"
    file: TrainingFile = yield Work(lambda: _write_training_file(content, path, provider))
    return file


def _write_training_file(content: bytes, path: Path, provider: Provider) -> TrainingFile:
    # Without the byte order mark that some services want: each gets its own as a file is sent.
    with replacing(path) as file:
        file.write(content.removeprefix(codecs.BOM_UTF8))
    # It was taken once; whether another service takes so few or so long examples is checked as that is asked.
    any_size = {"file_encoding": "utf-8", "min_examples": 1, "max_example_tokens": sys.maxsize}
    return check_jsonl(path, provider.model_copy(update=any_size)).training_file()


def read_settings(job: JobRecord, provider: Provider) -> dict[str, Any]:
    """Return a job's settings under our names; None is one that the service does not show readably."""
    extra = job.model_extra or {}
    shown = job.hyperparameters or read_nested_hyperparameters(extra)
    found: dict[str, Any] = {}
    for ours, setting in provider.settings.items():
        found[ours] = _read_setting(ours, setting, shown.get(setting.name))
    if job.seed is not None and 0 <= job.seed <= _LARGEST_SEED:
        found["seed"] = job.seed
    suffix = extra.get("user_provided_suffix") or extra.get("suffix")
    if isinstance(suffix, str) and suffix and provider.suffix_max and len(suffix) <= provider.suffix_max:
        found["suffix"] = suffix
    return found


def _read_setting(ours: str, setting: Setting, shown: Any) -> float | int | None:
    try:
        value = math.nan if isinstance(shown, bool) else float(shown)
    except (TypeError, ValueError):
        return None  # not shown, or "auto"
    if not 0 < value < math.inf:
        return None  # Azure shows -1 where it chooses
    if ours in _WHOLE and not value.is_integer():
        return None
    if setting.scale is not None:
        value = float(f"{value / setting.scale:.6g}")
    read = int(value) if ours in _WHOLE else value
    try:
        setting.check(ours, read, at="there")
    except DataError as error:
        _log.info("a setting of the old job is left out: %s", error)
        return None
    return read
