"""What the server keeps: files, jobs, their events, and models, in one SQLite database beside blobs.

Blobs are named by the hash of their content. No id that a client sends becomes part of a path: ids are looked
up in the database, which knows the hash.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any

import orjson

from ..errors import FileAccessError
from .blobs import Blobs
from .database import NAME, open_database
from .records import (
    FINAL,
    StoredBatch,
    StoredCheckpoint,
    StoredEvent,
    StoredFile,
    StoredJob,
    StoredModel,
    new_id,
    now,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path


class Store:
    """One folder, used by one server at a time; safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        self._work = folder / "training"
        try:
            _refuse_what_is_not_ours(folder)
            self.blobs = Blobs(folder / "blobs")
            self._work.mkdir(exist_ok=True)
        except FileAccessError:
            raise
        except OSError as error:
            raise FileAccessError(
                f"Cannot use the folder {str(folder)!r}: {error.strerror}. Take one that you may write to."
            ) from error
        self._lock = threading.RLock()
        self._depth = 0
        self._db = open_database(folder)

    def close(self) -> None:
        """Close the database; nothing else may be called afterwards."""
        with self._lock:
            self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all changes inside happen together, or none of them; may be nested."""
        with self._lock:
            outermost = self._depth == 0
            if outermost:
                self._db.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                if outermost:
                    self._db.execute("ROLLBACK")
                raise
            else:
                if outermost:
                    self._db.execute("COMMIT")
            finally:
                self._depth -= 1

    def _all(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def _one(self, query: str, *values: Any) -> sqlite3.Row | None:
        rows = self._all(query, *values)
        return rows[0] if rows else None

    def _insert(self, table: str, row: dict[str, Any]) -> None:
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        self._all(f"INSERT INTO {table} ({names}) VALUES ({marks})", *row.values())  # noqa: S608  our own names

    def _drop_blobs(self, hashes: Iterable[str]) -> None:
        for sha256 in hashes:
            used = self._one("SELECT 1 FROM files WHERE sha256 = ?", sha256) or self._one(
                "SELECT 1 FROM models WHERE arrays = ? OR rest = ?", sha256, sha256
            )
            if used is None:
                self.blobs.drop(sha256)

    # Files

    def add_file(
        self, content: IO[bytes] | bytes, *, filename: str, purpose: str, expires_at: int | None = None
    ) -> StoredFile:
        """Keep a file under a new id."""
        self._drop_expired()
        # Under the lock, so that a file with the same content cannot be deleted in between.
        with self._lock:
            sha256, size = self.blobs.keep(content)
            stored = StoredFile(
                id=new_id("file-", 22),
                filename=filename,
                purpose=purpose,
                bytes=size,
                created_at=now(),
                sha256=sha256,
                expires_at=expires_at,
            )
            self._insert("files", asdict(stored))
        return stored

    def file(self, id_: str) -> StoredFile | None:
        """Return the file with this id, or None; one that has expired is gone."""
        row = self._one("SELECT * FROM files WHERE id = ?", id_)
        if row is None or (row["expires_at"] is not None and row["expires_at"] <= now()):
            return None
        return _file(row)

    def files(self) -> list[StoredFile]:
        """Return all files, the newest first."""
        lasting = "SELECT * FROM files WHERE expires_at IS NULL OR expires_at > ? ORDER BY number DESC"
        return [_file(row) for row in self._all(lasting, now())]

    def count_files(self) -> int:
        """Return how many files there are."""
        return int(self._all("SELECT count(*) AS n FROM files")[0]["n"])

    def delete_file(self, file: StoredFile) -> None:
        """Forget a file, and its content where no other file has the same."""
        with self.transaction():
            self._all("DELETE FROM files WHERE id = ?", file.id)
            self._drop_blobs([file.sha256])

    def _drop_expired(self) -> None:
        for row in self._all("SELECT * FROM files WHERE expires_at <= ?", now()):
            self.delete_file(_file(row))

    # Jobs

    def add_job(self, job: StoredJob) -> None:
        """Keep a new job."""
        self._insert("jobs", {"id": job.id, "status": job.status, "body": orjson.dumps(asdict(job))})

    def job(self, id_: str) -> StoredJob | None:
        """Return the job with this id, or None."""
        row = self._one("SELECT body FROM jobs WHERE id = ?", id_)
        return None if row is None else StoredJob(**orjson.loads(row["body"]))

    def jobs(self) -> list[StoredJob]:
        """Return all jobs, the newest first."""
        return [
            StoredJob(**orjson.loads(row["body"]))
            for row in self._all("SELECT body FROM jobs ORDER BY number DESC")
        ]

    def move_job(
        self, id_: str, status: str, *, only_from: Collection[str] | None = None, **changes: Any
    ) -> bool:
        """Give a job a status and other values; return False, changing nothing, where it may not move.

        It may not once it has ended, nor from another status than `only_from` names.
        """
        with self.transaction():
            job = self.job(id_)
            if job is None or job.status in FINAL or (only_from and job.status not in only_from):
                return False
            body = asdict(job) | changes | {"status": status}
            self._all(
                "UPDATE jobs SET status = ?, body = ? WHERE id = ?",
                status,
                orjson.dumps(asdict(StoredJob(**body))),
                id_,
            )
        return True

    # Events

    def add_event(
        self, job: str, message: str, *, data: dict[str, Any] | None = None, level: str = "info"
    ) -> None:
        """Keep an event of a job; with `data` it is one of metrics."""
        self._insert(
            "events",
            {
                "id": new_id("ftevent-"),
                "job": job,
                "created_at": now(),
                "level": level,
                "type": "message" if data is None else "metrics",
                "message": message,
                "data": None if data is None else orjson.dumps(data),
            },
        )

    def events(self, job: str, *, limit: int, after: str | None) -> list[StoredEvent] | None:
        """Return events, the newest first, older than `after`; None where the job has no event of that id."""
        before: int | None = None
        if after is not None:
            row = self._one("SELECT number FROM events WHERE job = ? AND id = ?", job, after)
            if row is None:
                return None
            before = row["number"]
        rows = self._all(
            "SELECT * FROM events WHERE job = ? AND (? IS NULL OR number < ?) ORDER BY number DESC LIMIT ?",
            job,
            before,
            before,
            limit,
        )
        return [_event(row) for row in rows]

    def metrics(self, job: str) -> list[dict[str, Any]]:
        """Return what a job's steps measured, the first step first."""
        rows = self._all("SELECT data FROM events WHERE job = ? AND type = 'metrics' ORDER BY number", job)
        return [orjson.loads(row["data"]) for row in rows]

    def some_metrics(self, job: str, count: int) -> list[dict[str, Any]]:
        """Return about `count` of them, evenly spread, and all that hold a validation loss."""
        numbered = (
            "SELECT data, row_number() OVER (ORDER BY number) AS place, count(*) OVER () AS n "
            "FROM events WHERE job = ? AND type = 'metrics'"
        )
        kept = "place IN (1, n) OR place % (n / ? + 1) = 0 OR instr(data, '\"valid_loss')"
        query = f"SELECT data FROM ({numbered}) WHERE {kept} ORDER BY place"  # noqa: S608  our own words
        return [orjson.loads(row["data"]) for row in self._all(query, job, count)]

    def last_step(self, job: str) -> int:
        """Return the number of the last step that an event tells of, or 0."""
        row = self._one(
            "SELECT data FROM events WHERE job = ? AND type = 'metrics' ORDER BY number DESC LIMIT 1", job
        )
        return 0 if row is None else int(orjson.loads(row["data"])["step"])

    def work_folder(self, job: str) -> Path:
        """Return the folder in which a job's process keeps what it goes on from; made if there is none."""
        row = self._one("SELECT number FROM jobs WHERE id = ?", job)
        folder = self._work / str(row["number"] if row else 0)
        folder.mkdir(exist_ok=True)
        return folder

    def drop_work(self, job: str) -> None:
        """Remove that folder."""
        shutil.rmtree(self.work_folder(job), ignore_errors=True)

    def sweep(self) -> None:
        """Remove what has expired, and what a server that was killed had no time to remove."""
        self._drop_expired()
        used = "SELECT sha256 FROM files UNION SELECT arrays FROM models UNION SELECT rest FROM models"
        self.blobs.sweep({row[0] for row in self._all(used)})
        rows = self._all("SELECT number FROM jobs WHERE status NOT IN ('succeeded', 'failed', 'cancelled')")
        unfinished = {str(row["number"]) for row in rows}
        for folder in self._work.iterdir():
            if folder.name not in unfinished:
                shutil.rmtree(folder, ignore_errors=True)

    # Checkpoints

    def add_checkpoint(self, checkpoint: StoredCheckpoint, *, keep: int) -> list[str]:
        """Keep a checkpoint and forget all but the last `keep` of its job; return the models forgotten."""
        row = asdict(checkpoint) | {"metrics": orjson.dumps(checkpoint.metrics)}
        with self.transaction():
            self._insert("checkpoints", row)
            old = self.checkpoints(checkpoint.job)[keep:]
            for each in old:
                self._all("DELETE FROM checkpoints WHERE id = ?", each.id)
                model = self.model(each.model)
                if model is not None:
                    self.delete_model(model)
        return [each.model for each in old]

    def checkpoints(self, job: str) -> list[StoredCheckpoint]:
        """Return a job's checkpoints, the newest first."""
        rows = self._all("SELECT * FROM checkpoints WHERE job = ? ORDER BY number DESC", job)
        return [
            StoredCheckpoint(
                **{name: row[name] for name in StoredCheckpoint.__slots__ if name != "metrics"},
                metrics=orjson.loads(row["metrics"]),
            )
            for row in rows
        ]

    # Models

    def add_model(self, model: StoredModel) -> None:
        """Keep a model whose blobs are kept already."""
        self._insert("models", asdict(model))

    def model(self, id_: str) -> StoredModel | None:
        """Return the model with this id, or None."""
        row = self._one("SELECT * FROM models WHERE id = ?", id_)
        return None if row is None else _model(row)

    def models(self) -> list[StoredModel]:
        """Return all tuned models, the newest first."""
        return [_model(row) for row in self._all("SELECT * FROM models ORDER BY number DESC")]

    def delete_model(self, model: StoredModel) -> None:
        """Forget a model and its blobs."""
        with self.transaction():
            self._all("DELETE FROM models WHERE id = ?", model.id)
            self._drop_blobs([model.arrays, model.rest])

    # Batches

    def put_batch(self, batch: StoredBatch) -> None:
        """Keep a new batch, or one as it now stands."""
        body = orjson.dumps(asdict(batch))
        with self.transaction():
            if self.batch(batch.id) is None:
                self._insert("batches", {"id": batch.id, "body": body})
            else:
                self._all("UPDATE batches SET body = ? WHERE id = ?", body, batch.id)

    def batch(self, id_: str) -> StoredBatch | None:
        """Return the batch with this id, or None."""
        row = self._one("SELECT body FROM batches WHERE id = ?", id_)
        return None if row is None else StoredBatch(**orjson.loads(row["body"]))

    def batches(self) -> list[StoredBatch]:
        """Return all batches, the newest first."""
        rows = self._all("SELECT body FROM batches ORDER BY number DESC")
        return [StoredBatch(**orjson.loads(row["body"])) for row in rows]


def _refuse_what_is_not_ours(folder: Path) -> None:
    """Raise `FileAccessError` for a folder without our database where we would sweep what others keep."""
    if (folder / NAME).exists():
        return
    for name in ("blobs", "training"):
        place = folder / name
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise FileAccessError(
                f"The folder {str(folder)!r} has a {name!r} in it that is not this server's. "
                "Take an empty one."
            )


def _file(row: sqlite3.Row) -> StoredFile:
    return StoredFile(**{name: row[name] for name in StoredFile.__slots__})


def _event(row: sqlite3.Row) -> StoredEvent:
    data = None if row["data"] is None else orjson.loads(row["data"])
    return StoredEvent(**{name: row[name] for name in StoredEvent.__slots__ if name != "data"}, data=data)


def _model(row: sqlite3.Row) -> StoredModel:
    return StoredModel(**{name: row[name] for name in StoredModel.__slots__})
