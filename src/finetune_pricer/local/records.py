"""What the server keeps, record by record."""

from __future__ import annotations

import secrets
import string
import time
from dataclasses import dataclass, field
from typing import Any

FINAL = frozenset({"succeeded", "failed", "cancelled"})
"""Statuses that a job never leaves."""

UNFINISHED_JOBS = ("validating_files", "queued", "running", "paused")
"""All other statuses of a job."""
UNFINISHED_BATCHES = ("validating", "in_progress", "finalizing", "cancelling")
"""Statuses that a batch leaves some time."""

_LETTERS = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """An uploaded file, or one that a job or batch produced."""

    id: str
    filename: str
    purpose: str
    bytes: int
    created_at: int
    sha256: str
    expires_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredJob:
    """A fine-tuning job as it stands; changes go through `Database.move_job`."""

    id: str
    status: str
    created_at: int
    model: str
    training_file: str
    validation_file: str | None
    seed: int
    suffix: str | None
    requested: dict[str, Any]
    """The hyperparameters as they were requested."""
    name: str
    """What the model will be called."""
    hyperparameters: dict[str, Any] | None = None
    """The hyperparameters in numbers, once they are known."""
    metadata: dict[str, str] | None = None
    integrations: list[Any] | None = None
    finished_at: int | None = None
    estimated_finish: int | None = None
    fine_tuned_model: str | None = None
    trained_tokens: int | None = None
    result_files: list[str] = field(default_factory=list)
    error: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """An event of a job."""

    id: str
    created_at: int
    level: str
    type: str
    message: str
    data: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """A tuned model or a checkpoint of one."""

    id: str
    base: str
    job: str
    created_at: int
    files: dict[str, str]
    """The hash of each of its files, by the name that its learner gave it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCheckpoint:
    """A model as it was at the end of an epoch."""

    id: str
    job: str
    created_at: int
    step: int
    model: str
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBatch:
    """A batch as it stands; `times` says when it came into each status."""

    id: str
    status: str
    endpoint: str
    input_file_id: str
    completion_window: str
    created_at: int
    expires_at: int
    metadata: dict[str, str] | None = None
    outputs_last: int | None = None
    """Seconds after which the output and error files expire; None where they do not."""
    model: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    times: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: {"total": 0, "completed": 0, "failed": 0})
    tokens: dict[str, int] = field(default_factory=lambda: {"input": 0, "output": 0})
    errors: list[dict[str, Any]] | None = None


def new_id(prefix: str, length: int = 24) -> str:
    """Return a fresh id that nobody can guess."""
    # One call for many letters: an id is made for every answer, and each call asks the system for bytes.
    number = int.from_bytes(secrets.token_bytes(length), "big")
    letters = []
    for _ in range(length):
        number, place = divmod(number, len(_LETTERS))
        letters.append(_LETTERS[place])
    return prefix + "".join(letters)


def printable(text: str, most: int = 120) -> str:
    """Return text from outside as the log may hold it: neither a line of its own nor a page of it.

    What a terminal would obey, a line break among it, is written as an escape.
    """
    cut = text if len(text) <= most else f"{text[:most]}..."
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in cut)


def now() -> int:
    """Return the time in whole seconds, as the protocol counts it."""
    return int(time.time())
