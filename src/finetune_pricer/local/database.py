"""What the server keeps: files, jobs, their events, models and batches, in one SQLite database beside blobs.

Blobs are named by the hash of their content. No id that a client sends becomes part of a path: ids are looked
up in the database, which knows the hash.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import shutil
import sqlite3
import threading
from collections import Counter
from dataclasses import asdict
from itertools import groupby
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import orjson

from .blobs import Blobs
from .folder import close_folder, count_unknown, open_folder
from .records import (
    FINAL,
    UNFINISHED_BATCHES,
    UNFINISHED_JOBS,
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

log: logging.Logger = logging.getLogger("finetune_pricer.local")

_MODELS = "SELECT models.*, name, sha256 FROM models LEFT JOIN model_files ON model_files.model = models.id"


class KeptBlob(NamedTuple):
    """A content that was just kept."""

    sha256: str
    bytes: int


class Database:
    """One folder, used by one server at a time; safe to use from several threads.

    Raises:
        FileAccessError: The folder cannot be used, is not whole, another server has it, or another version
            made it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._work = folder / "training"
        self._lock = threading.RLock()
        self._in_transaction = False
        self._has_leftovers = False
        self._held: Counter[str] = Counter()
        """Blobs that are being written, or that will have an owner in a moment."""
        self._connection = open_folder(folder)
        self.blobs: Blobs = Blobs(folder / "blobs")

    def close(self) -> None:
        """Close the database; nothing else may be called afterwards."""
        with self._lock:
            close_folder(self._connection, self._folder)

    def let_go(self) -> None:
        """Never close the connection in this process, which was forked from the server's.

        SQLite removes the log of a database with its last connection, for which it would take this copy.
        """
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all changes inside happen together, or none of them; may be nested."""
        with self._lock:
            if self._in_transaction:
                yield
                return
            self._connection.execute("BEGIN IMMEDIATE")
            self._in_transaction = True
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # On a full disk SQLite may have rolled back by itself.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._in_transaction = False
            if self._has_leftovers:
                self._remove_leftovers()

    def _query(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def _query_one(self, query: str, *values: Any) -> sqlite3.Row | None:
        rows = self._query(query, *values)
        return rows[0] if rows else None

    def _insert(self, table: str, row: dict[str, Any]) -> None:
        names = ", ".join(row)
        self._query(f"INSERT INTO {table} ({names}) VALUES ({_marks(row)})", *row.values())  # noqa: S608  our own names

    def _iterate(self, table: str, after: str | None) -> Iterator[sqlite3.Row] | None:
        """Return rows of a table, the newest first, older than `after`; None where that is not in it."""
        before: int | None = None
        if after is not None:
            row = self._query_one(f"SELECT number FROM {table} WHERE id = ?", after)  # noqa: S608  our own name
            if row is None:
                return None
            before = row["number"]
        return self._read_rows(table, before)

    def _read_rows(self, table: str, before: int | None) -> Iterator[sqlite3.Row]:
        # In pieces, so that others get their turn, and a short page costs no reading of all.
        query = (
            f"SELECT number, body FROM {table} WHERE ? IS NULL OR number < ? ORDER BY number DESC LIMIT 100"  # noqa: S608
        )
        while rows := self._query(query, before, before):
            yield from rows
            before = rows[-1]["number"]

    def check(self) -> None:
        """Write a little to the disk and into the database; raise what keeps either from being written."""
        self.blobs.probe(self._folder / "probe")
        self._query("INSERT OR REPLACE INTO state VALUES ('checked_at', ?)", now())

    # Contents

    @contextlib.contextmanager
    def keep_blob(self, content: IO[bytes] | bytes) -> Iterator[KeptBlob]:
        """Keep a content, and yield its hash and size; what is done inside gives it an owner.

        Without one it is removed again, also by the next start after a kill: its name is written down before
        it is. So this stands around a transaction, never inside one.
        """
        partial = new_id("partial-", 16)
        try:
            with self._hold(partial):
                kept = KeptBlob(*self.blobs.write(partial, content))
                with self._hold(kept.sha256):
                    self.blobs.keep(partial, kept.sha256)
                    yield kept
        finally:
            self._remove_leftovers()

    @contextlib.contextmanager
    def _hold(self, name: str) -> Iterator[None]:
        with self._lock:
            self._query("INSERT OR IGNORE INTO leftovers VALUES (?)", name)
            self._held[name] += 1
        try:
            yield
        finally:
            self._let_loose(name)

    @contextlib.contextmanager
    def lend_blob(self, sha256: str) -> Iterator[Path | None]:
        """Yield where a content lies, which stays until the block ends; None where it has gone already."""
        with self._lock:
            self._held[sha256] += 1
        try:
            path = self.blobs.path(sha256)
            yield path if path.exists() else None
        finally:
            self._let_loose(sha256)
            self._remove_leftovers()

    def _let_loose(self, name: str) -> None:
        with self._lock:
            self._held[name] -= 1
            if not self._held[name]:
                del self._held[name]

    def _release_blobs(self, hashes: Iterable[str]) -> None:
        """Note, as part of a transaction, that contents have lost an owner."""
        for sha256 in hashes:
            self._query("INSERT OR IGNORE INTO leftovers VALUES (?)", sha256)
            self._has_leftovers = True

    def _remove_leftovers(self) -> None:
        """Remove what is noted to have lost its owner, and has no other; what cannot go now goes later."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._has_leftovers = False
            for row in self._query("SELECT name FROM leftovers"):
                name = row["name"]
                if name not in self._held and (self._is_used(name) or self.blobs.drop(name)):
                    self._query("DELETE FROM leftovers WHERE name = ?", name)

    def _is_used(self, sha256: str) -> bool:
        return any(
            self._query_one(f"SELECT 1 FROM {table} WHERE sha256 = ?", sha256)  # noqa: S608  our own names
            for table in ("files", "model_files")
        )

    def sweep(self) -> None:
        """Remove what the database names as deleted, expired or ended, and nothing else."""
        self._drop_expired_files()
        self._remove_leftovers()
        for folder in self._work.iterdir():
            job = self.find_job(folder.name)
            if job is not None and job.status in FINAL:
                shutil.rmtree(folder, ignore_errors=True)
        unknown, missing = count_unknown(self._connection, self.blobs.list_names())
        if unknown:
            log.warning("%d file(s) in 'blobs' are not in the database, and stay where they are", unknown)
        if missing:
            log.warning("%d file(s) that the database names are missing from 'blobs'", missing)

    # Files

    def add_file(
        self, content: IO[bytes] | bytes, *, filename: str, purpose: str, expires_at: int | None = None
    ) -> StoredFile:
        """Keep a file under a new id."""
        self._drop_expired_files()
        with self.keep_blob(content) as blob:
            return self.name_file(blob, filename=filename, purpose=purpose, expires_at=expires_at)

    def name_file(
        self, blob: KeptBlob, *, filename: str, purpose: str, expires_at: int | None = None
    ) -> StoredFile:
        """Make a file of a content that is being kept."""
        stored = StoredFile(
            id=new_id("file-", 22),
            filename=filename,
            purpose=purpose,
            bytes=blob.bytes,
            created_at=now(),
            sha256=blob.sha256,
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
            self._release_blobs([file.sha256])

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

    def iterate_jobs(self, after: str | None = None) -> Iterator[StoredJob] | None:
        """Return jobs one by one, the newest first, older than `after`; None where that is no job."""
        rows = self._iterate("jobs", after)
        return None if rows is None else (StoredJob(**orjson.loads(row["body"])) for row in rows)

    def list_unfinished_jobs(self) -> list[StoredJob]:
        """Return the jobs that have not ended, the newest first."""
        query = f"SELECT body FROM jobs WHERE status IN ({_marks(UNFINISHED_JOBS)}) ORDER BY number DESC"  # noqa: S608
        rows = self._query(query, *UNFINISHED_JOBS)
        return [StoredJob(**orjson.loads(row["body"])) for row in rows]

    def count_jobs(self, *statuses: str) -> int:
        """Return how many jobs have one of some statuses; all jobs where none is named."""
        where = f"WHERE status IN ({_marks(statuses)})" if statuses else ""
        return int(self._query(f"SELECT count(*) AS n FROM jobs {where}", *statuses)[0]["n"])  # noqa: S608

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
            body: dict[str, Any] = asdict(job) | changes | {"status": status}
            self._query(
                "UPDATE jobs SET status = ?, body = ? WHERE id = ?",
                status,
                orjson.dumps(asdict(StoredJob(**body))),
                id_,
            )
        return True

    def work_folder(self, job: str) -> Path:
        """Return the folder in which a job's training keeps its state; it is made if there is none."""
        # Named by the id: a database that is restored from a copy gives the same number to another job.
        folder = self._work / job
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def drop_work_folder(self, job: str) -> None:
        """Remove that folder, if it is there."""
        shutil.rmtree(self._work / job, ignore_errors=True)

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

    def list_messages(self, job: str, *, limit: int) -> list[StoredEvent]:
        """Return the last events of a job that are no metrics, the newest first."""
        query = "SELECT * FROM events WHERE job = ? AND type = 'message' ORDER BY number DESC LIMIT ?"
        return [_read_event(row) for row in self._query(query, job, limit)]

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
        return list(map(_read_checkpoint, rows))

    def list_weights(self, checkpoint: StoredCheckpoint) -> list[StoredFile]:
        """Return the files of a checkpoint's model, as files that can be read; none where it was deleted."""
        model = self.find_model(checkpoint.model)
        files = [] if model is None else sorted(model.files.items())
        try:
            return [
                StoredFile(
                    id=f"file-{checkpoint.id}-{name}",
                    filename=name,
                    purpose="fine-tune-results",
                    bytes=self.blobs.path(sha256).stat().st_size,
                    created_at=checkpoint.created_at,
                    sha256=sha256,
                )
                for name, sha256 in files
            ]
        except FileNotFoundError:  # it is being deleted
            return []

    def find_weights(self, id_: str) -> StoredFile | None:
        """Return the file of a checkpoint's model that `list_weights` calls so, or None."""
        rows = self._query("SELECT * FROM checkpoints WHERE ? LIKE 'file-' || id || '-%'", id_)
        found = (file for row in rows for file in self.list_weights(_read_checkpoint(row)))
        return next((file for file in found if file.id == id_), None)

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
            self._release_blobs(model.files.values())

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

    def iterate_batches(self, after: str | None = None) -> Iterator[StoredBatch] | None:
        """Return batches one by one, the newest first, older than `after`; None where that is no batch."""
        rows = self._iterate("batches", after)
        return None if rows is None else (StoredBatch(**orjson.loads(row["body"])) for row in rows)

    def list_unfinished_batches(self) -> list[StoredBatch]:
        """Return the batches that have not ended, the newest first."""
        where = f"json_extract(CAST(body AS TEXT), '$.status') IN ({_marks(UNFINISHED_BATCHES)})"
        query = f"SELECT body FROM batches WHERE {where} ORDER BY number DESC"  # noqa: S608  our own words
        return [StoredBatch(**orjson.loads(row["body"])) for row in self._query(query, *UNFINISHED_BATCHES)]

    def count_batches(self) -> int:
        """Return how many batches there are."""
        return int(self._query("SELECT count(*) AS n FROM batches")[0]["n"])


def _marks(values: Collection[Any]) -> str:
    """Return as many placeholders as there are values."""
    return ", ".join("?" * len(values))


def _read_file(row: sqlite3.Row) -> StoredFile:
    return StoredFile(**{name: row[name] for name in StoredFile.__slots__})


def _read_event(row: sqlite3.Row) -> StoredEvent:
    data = None if row["data"] is None else orjson.loads(row["data"])
    return StoredEvent(**{name: row[name] for name in StoredEvent.__slots__ if name != "data"}, data=data)


def _read_checkpoint(row: sqlite3.Row) -> StoredCheckpoint:
    return StoredCheckpoint(
        **{name: row[name] for name in StoredCheckpoint.__slots__ if name != "metrics"},
        metrics=orjson.loads(row["metrics"]),
    )


def _read_models(rows: list[sqlite3.Row]) -> list[StoredModel]:
    """Return the models of rows that hold one file each, those of one model side by side."""
    models = []
    for _, group in groupby(rows, key=lambda row: row["id"]):
        files = list(group)
        facts = {name: files[0][name] for name in StoredModel.__slots__ if name != "files"}
        hashes = {row["name"]: row["sha256"] for row in files if row["name"] is not None}
        models.append(StoredModel(**facts, files=hashes))
    return models
