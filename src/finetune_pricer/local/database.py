"""What the server keeps: files, jobs, their events, models and batches, in one SQLite database beside blobs.

Blobs are named by the hash of their content. No id that a client sends becomes part of a path: ids are looked
up in the database, which knows the hash.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import threading
from dataclasses import asdict
from itertools import groupby
from typing import IO, TYPE_CHECKING, Any

import orjson

from ..errors import FileAccessError
from .blobs import Blobs
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
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

_FORMAT = 3
"""The version of the tables and of what stands in them. A folder of another version is refused."""
_NAME = "server.sqlite3"
_TABLES = f"""
CREATE TABLE IF NOT EXISTS files (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, filename TEXT NOT NULL,
    purpose TEXT NOT NULL, bytes INTEGER NOT NULL, created_at INTEGER NOT NULL, sha256 TEXT NOT NULL,
    expires_at INTEGER);
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, status TEXT NOT NULL,
    body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, job TEXT NOT NULL,
    created_at INTEGER NOT NULL, level TEXT NOT NULL, type TEXT NOT NULL, message TEXT NOT NULL, data BLOB);
CREATE INDEX IF NOT EXISTS events_of_job ON events (job, number);
CREATE TABLE IF NOT EXISTS models (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, base TEXT NOT NULL, job TEXT NOT NULL,
    created_at INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS model_files (
    model TEXT NOT NULL, name TEXT NOT NULL, sha256 TEXT NOT NULL, PRIMARY KEY (model, name));
CREATE TABLE IF NOT EXISTS checkpoints (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, job TEXT NOT NULL,
    created_at INTEGER NOT NULL, step INTEGER NOT NULL, model TEXT NOT NULL, metrics BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS batches (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, body BLOB NOT NULL);
PRAGMA user_version = {_FORMAT};
"""
_MODELS = "SELECT models.*, name, sha256 FROM models LEFT JOIN model_files ON model_files.model = models.id"


class Database:
    """One folder, used by one server at a time; safe to use from several threads.

    Raises:
        FileAccessError: The folder cannot be used, another server has it, or another version made it.
    """

    def __init__(self, folder: Path) -> None:
        self._work = folder / "training"
        try:
            _refuse_foreign_folder(folder)
            self.blobs = Blobs(folder / "blobs")
            self._work.mkdir(exist_ok=True)
        except FileAccessError:
            raise
        except OSError as error:
            raise FileAccessError(
                f"cannot use the folder {str(folder)!r} ({error.strerror}); take one that you may write to"
            ) from error
        self._lock = threading.RLock()
        self._depth = 0
        self._connection = _open_connection(folder)

    def close(self) -> None:
        """Close the database; nothing else may be called afterwards."""
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all changes inside happen together, or none of them; may be nested."""
        with self._lock:
            outermost = self._depth == 0
            if outermost:
                self._connection.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                if outermost:
                    self._connection.execute("ROLLBACK")
                raise
            else:
                if outermost:
                    self._connection.execute("COMMIT")
            finally:
                self._depth -= 1

    def _query(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def _query_one(self, query: str, *values: Any) -> sqlite3.Row | None:
        rows = self._query(query, *values)
        return rows[0] if rows else None

    def _insert(self, table: str, row: dict[str, Any]) -> None:
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        self._query(f"INSERT INTO {table} ({names}) VALUES ({marks})", *row.values())  # noqa: S608  our own names

    def _drop_unused_blobs(self, hashes: Iterable[str]) -> None:
        for sha256 in hashes:
            used = self._query_one("SELECT 1 FROM files WHERE sha256 = ?", sha256) or self._query_one(
                "SELECT 1 FROM model_files WHERE sha256 = ?", sha256
            )
            if used is None:
                self.blobs.drop(sha256)

    def sweep(self) -> None:
        """Remove what has expired, and what a killed server had no time to remove."""
        self._drop_expired_files()
        rows = self._query("SELECT sha256 FROM files UNION SELECT sha256 FROM model_files")
        self.blobs.sweep({row["sha256"] for row in rows})
        rows = self._query("SELECT number FROM jobs WHERE status NOT IN ('succeeded', 'failed', 'cancelled')")
        unfinished = {str(row["number"]) for row in rows}
        for folder in self._work.iterdir():
            if folder.name not in unfinished:
                shutil.rmtree(folder, ignore_errors=True)

    # Files

    def add_file(
        self, content: IO[bytes] | bytes, *, filename: str, purpose: str, expires_at: int | None = None
    ) -> StoredFile:
        """Keep a file under a new id."""
        self._drop_expired_files()
        # Under the lock, so that a file with the same content cannot be deleted in between.
        with self._lock:
            sha256, size = self.blobs.add(content)
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

    def find_file(self, id_: str) -> StoredFile | None:
        """Return the file with this id, or None; one that has expired is gone."""
        row = self._query_one("SELECT * FROM files WHERE id = ?", id_)
        if row is None or (row["expires_at"] is not None and row["expires_at"] <= now()):
            return None
        return _read_file(row)

    def list_files(self) -> list[StoredFile]:
        """Return all files, the newest first."""
        lasting = "SELECT * FROM files WHERE expires_at IS NULL OR expires_at > ? ORDER BY number DESC"
        return [_read_file(row) for row in self._query(lasting, now())]

    def count_files(self) -> int:
        """Return how many files there are."""
        return int(self._query("SELECT count(*) AS n FROM files")[0]["n"])

    def delete_file(self, file: StoredFile) -> None:
        """Forget a file, and its content where nothing else has the same."""
        with self.transaction():
            self._query("DELETE FROM files WHERE id = ?", file.id)
            self._drop_unused_blobs([file.sha256])

    def _drop_expired_files(self) -> None:
        for row in self._query("SELECT * FROM files WHERE expires_at <= ?", now()):
            self.delete_file(_read_file(row))

    # Jobs

    def add_job(self, job: StoredJob) -> None:
        """Keep a new job."""
        self._insert("jobs", {"id": job.id, "status": job.status, "body": orjson.dumps(asdict(job))})

    def find_job(self, id_: str) -> StoredJob | None:
        """Return the job with this id, or None."""
        row = self._query_one("SELECT body FROM jobs WHERE id = ?", id_)
        return None if row is None else StoredJob(**orjson.loads(row["body"]))

    def list_jobs(self) -> list[StoredJob]:
        """Return all jobs, the newest first."""
        rows = self._query("SELECT body FROM jobs ORDER BY number DESC")
        return [StoredJob(**orjson.loads(row["body"])) for row in rows]

    def move_job(
        self, id_: str, status: str, *, only_from: Collection[str] | None = None, **changes: Any
    ) -> bool:
        """Change the status and other values of a job; return False, changing nothing, where it may not move.

        A job may not move once it has ended, nor from another status than `only_from` names.
        """
        with self.transaction():
            job = self.find_job(id_)
            if job is None or job.status in FINAL or (only_from and job.status not in only_from):
                return False
            body = asdict(job) | changes | {"status": status}
            self._query(
                "UPDATE jobs SET status = ?, body = ? WHERE id = ?",
                status,
                orjson.dumps(asdict(StoredJob(**body))),
                id_,
            )
        return True

    def work_folder(self, job: str) -> Path:
        """Return the folder in which a job's training keeps its state; it is made if there is none."""
        row = self._query_one("SELECT number FROM jobs WHERE id = ?", job)
        folder = self._work / str(row["number"] if row else 0)
        folder.mkdir(exist_ok=True)
        return folder

    def drop_work_folder(self, job: str) -> None:
        """Remove that folder."""
        shutil.rmtree(self.work_folder(job), ignore_errors=True)

    # Events

    def add_event(
        self, job: str, message: str, *, data: dict[str, Any] | None = None, level: str = "info"
    ) -> None:
        """Keep an event of a job; with `data` it is an event of metrics."""
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

    def list_events(self, job: str, *, limit: int, after: str | None) -> list[StoredEvent] | None:
        """Return events, the newest first, older than `after`; None where the job has no event of that id."""
        before: int | None = None
        if after is not None:
            row = self._query_one("SELECT number FROM events WHERE job = ? AND id = ?", job, after)
            if row is None:
                return None
            before = row["number"]
        rows = self._query(
            "SELECT * FROM events WHERE job = ? AND (? IS NULL OR number < ?) ORDER BY number DESC LIMIT ?",
            job,
            before,
            before,
            limit,
        )
        return [_read_event(row) for row in rows]

    def list_metrics(self, job: str) -> list[dict[str, Any]]:
        """Return what a job's steps measured, the first step first."""
        query = "SELECT data FROM events WHERE job = ? AND type = 'metrics' ORDER BY number"
        return [orjson.loads(row["data"]) for row in self._query(query, job)]

    def sample_metrics(self, job: str, count: int) -> list[dict[str, Any]]:
        """Return the metrics of about `count` steps, evenly spread, and all that hold a validation loss."""
        numbered = (
            "SELECT data, row_number() OVER (ORDER BY number) AS place, count(*) OVER () AS n "
            "FROM events WHERE job = ? AND type = 'metrics'"
        )
        kept = "place IN (1, n) OR place % (n / ? + 1) = 0 OR instr(data, '\"valid_loss')"
        query = f"SELECT data FROM ({numbered}) WHERE {kept} ORDER BY place"  # noqa: S608  our own words
        return [orjson.loads(row["data"]) for row in self._query(query, job, count)]

    def find_last_step(self, job: str) -> int:
        """Return the number of the last step that has an event, or 0."""
        query = "SELECT data FROM events WHERE job = ? AND type = 'metrics' ORDER BY number DESC LIMIT 1"
        row = self._query_one(query, job)
        return 0 if row is None else int(orjson.loads(row["data"])["step"])

    # Checkpoints

    def add_checkpoint(self, checkpoint: StoredCheckpoint, *, keep: int) -> None:
        """Keep a checkpoint, and forget all but the last `keep` of its job together with their models."""
        row = asdict(checkpoint) | {"metrics": orjson.dumps(checkpoint.metrics)}
        with self.transaction():
            self._insert("checkpoints", row)
            for old in self.list_checkpoints(checkpoint.job)[keep:]:
                self._query("DELETE FROM checkpoints WHERE id = ?", old.id)
                if (model := self.find_model(old.model)) is not None:
                    self.delete_model(model)

    def list_checkpoints(self, job: str) -> list[StoredCheckpoint]:
        """Return a job's checkpoints, the newest first."""
        rows = self._query("SELECT * FROM checkpoints WHERE job = ? ORDER BY number DESC", job)
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
        row = asdict(model)
        files = row.pop("files")
        with self.transaction():
            self._insert("models", row)
            for name, sha256 in files.items():
                self._insert("model_files", {"model": model.id, "name": name, "sha256": sha256})

    def find_model(self, id_: str) -> StoredModel | None:
        """Return the model with this id, or None."""
        return next(iter(_read_models(self._query(f"{_MODELS} WHERE id = ?", id_))), None)

    def list_models(self) -> list[StoredModel]:
        """Return all tuned models, the newest first."""
        return _read_models(self._query(f"{_MODELS} ORDER BY number DESC"))

    def delete_model(self, model: StoredModel) -> None:
        """Forget a model and its blobs."""
        with self.transaction():
            self._query("DELETE FROM models WHERE id = ?", model.id)
            self._query("DELETE FROM model_files WHERE model = ?", model.id)
            self._drop_unused_blobs(model.files.values())

    # Batches

    def save_batch(self, batch: StoredBatch) -> None:
        """Keep a new batch, or one as it now stands."""
        body = orjson.dumps(asdict(batch))
        with self.transaction():
            if self.find_batch(batch.id) is None:
                self._insert("batches", {"id": batch.id, "body": body})
            else:
                self._query("UPDATE batches SET body = ? WHERE id = ?", body, batch.id)

    def find_batch(self, id_: str) -> StoredBatch | None:
        """Return the batch with this id, or None."""
        row = self._query_one("SELECT body FROM batches WHERE id = ?", id_)
        return None if row is None else StoredBatch(**orjson.loads(row["body"]))

    def list_batches(self) -> list[StoredBatch]:
        """Return all batches, the newest first."""
        rows = self._query("SELECT body FROM batches ORDER BY number DESC")
        return [StoredBatch(**orjson.loads(row["body"])) for row in rows]


def _refuse_foreign_folder(folder: Path) -> None:
    """Raise `FileAccessError` for a folder without our database where we would sweep the files of others."""
    if (folder / _NAME).exists():
        return
    for name in ("blobs", "training"):
        place = folder / name
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise FileAccessError(
                f"the folder {str(folder)!r} has a {name!r} in it that is not this server's; "
                "take an empty folder"
            )


def _open_connection(folder: Path) -> sqlite3.Connection:
    """Open a folder's database, with empty tables where it is new."""
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(
            folder / _NAME, timeout=0.5, isolation_level=None, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        # Held until closed: two servers on one folder would both run its jobs.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        _refuse_other_formats(connection, folder)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_TABLES)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise FileAccessError(
                f"cannot open the database {str(folder / _NAME)!r} ({error}); {_advice(error)}"
            ) from error
        raise
    return connection


def _refuse_other_formats(connection: sqlite3.Connection, folder: Path) -> None:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if found == _FORMAT or not (found or tables):
        return
    raise FileAccessError(
        f"the folder {str(folder)!r} was kept by another version of this server (its format is {found}, "
        f"not {_FORMAT}), and was left as it is; take another folder, or the version that made it"
    )


def _advice(error: sqlite3.Error) -> str:
    if "locked" in str(error):
        return "another server is using the folder: stop that server, or take another folder"
    return "take another folder, or one that you may write to"


def _read_file(row: sqlite3.Row) -> StoredFile:
    return StoredFile(**{name: row[name] for name in StoredFile.__slots__})


def _read_event(row: sqlite3.Row) -> StoredEvent:
    data = None if row["data"] is None else orjson.loads(row["data"])
    return StoredEvent(**{name: row[name] for name in StoredEvent.__slots__ if name != "data"}, data=data)


def _read_models(rows: list[sqlite3.Row]) -> list[StoredModel]:
    """Return the models of rows that hold one file each, those of one model side by side."""
    models = []
    for _, group in groupby(rows, key=lambda row: row["id"]):
        files = list(group)
        facts = {name: files[0][name] for name in StoredModel.__slots__ if name != "files"}
        hashes = {row["name"]: row["sha256"] for row in files if row["name"] is not None}
        models.append(StoredModel(**facts, files=hashes))
    return models
