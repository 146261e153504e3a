"""A job's life: its files are checked, it waits its turn, it trains in a process of its own, and it ends.

One thread checks files, so that a bad one is known at once. Others, one for each core, take the jobs in order
of arrival and hand each to a process. How a job stands, the database says: whoever stops one changes its
status there and kills its process.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from typing import TYPE_CHECKING, Any

from ...errors import TrainingFileError
from ..learners.sparse.training_file import FEWEST, read_examples
from ..records import FINAL, StoredJob, now
from .recorder import Progress
from .trainer_process import TrainingProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from ..database import Database
    from ..faults import FaultInjector

log = logging.getLogger("finetune_pricer.local")

BASES = {"pricer-base": 32, "pricer-base-mini": 8}
"""The models that can be tuned, and how many units their hidden layer has."""
INTERRUPTED = "The server was restarted, training goes on from the last saved state"


class _FileError(TrainingFileError):
    """A job's file cannot be used; `param` is the job's parameter that names it."""

    def __init__(self, message: str, *, param: str) -> None:
        super().__init__(message)
        self.param = param


class Worker:
    """Runs jobs in background threads from `start` to `stop`; the next start takes up what is unfinished."""

    def __init__(self, database: Database, injector: FaultInjector, *, cores: int = 1) -> None:
        self._database = database
        self._injector = injector
        self._stopping = threading.Event()
        self._to_check: queue.Queue[str | None] = queue.Queue()
        self._to_train: queue.Queue[str | None] = queue.Queue()
        self._slots = [_Slot() for _ in range(cores)]
        self._threads = [self._thread("checks", self._to_check, self._check)]
        for slot in self._slots:
            self._threads.append(
                self._thread("trains", self._to_train, lambda job, slot=slot: self._train(job, slot))  # type: ignore[misc]
            )

    def _thread(
        self, name: str, waiting: queue.Queue[str | None], stage: Callable[[StoredJob], None]
    ) -> threading.Thread:
        return threading.Thread(
            target=self._loop, args=(waiting, stage), name=f"finetune-pricer-{name}", daemon=True
        )

    def start(self) -> None:
        """Start the threads, and take up the jobs that an earlier server left unfinished."""
        self._database.sweep()
        for job in reversed(self._database.list_jobs()):
            if job.status == "validating_files":
                self._to_check.put(job.id)
            elif job.status in ("queued", "running"):
                if job.status == "running":
                    self._database.add_event(job.id, INTERRUPTED, level="warn")
                    self._database.move_job(job.id, "queued")
                self._to_train.put(job.id)
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop at once; jobs that are unfinished stay so."""
        self._stopping.set()
        self._to_check.put(None)
        for slot in self._slots:
            self._to_train.put(None)
            slot.interrupt()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        for slot in self._slots:
            slot.close()

    def submit(self, job: StoredJob) -> None:
        """Keep a new job and take it up."""
        with self._database.transaction():
            self._database.add_job(job)
            self._database.add_event(job.id, f"Created fine-tuning job: {job.id}")
            self._database.add_event(job.id, f"Validating training file: {job.training_file}")
        log.info("job %s created: %s on %s", job.id, job.model, job.training_file)
        self._to_check.put(job.id)

    def cancel(self, job_id: str) -> bool:
        """Cancel a job at once; return False if it has ended already."""
        moved = self._leave(job_id, "cancelled", None, "Fine-tuning job cancelled", finished_at=now())
        if moved:
            self._database.drop_work_folder(job_id)
        return moved

    def pause(self, job_id: str) -> bool:
        """Let a job rest; return False if it neither waits nor runs."""
        return self._leave(job_id, "paused", ("queued", "running"), "Fine-tuning job paused")

    def resume(self, job_id: str) -> bool:
        """Let a job that rests wait for its turn again; return False if it does not rest."""
        with self._database.transaction():
            moved = self._database.move_job(job_id, "queued", only_from=("paused",))
            if moved:
                self._database.add_event(job_id, "Fine-tuning job resumed, moving job to queued state")
                log.info("job %s resumed", job_id)
        if moved:
            self._to_train.put(job_id)
        return moved

    def _leave(
        self, job_id: str, status: str, only_from: tuple[str, ...] | None, message: str, **changes: Any
    ) -> bool:
        with self._database.transaction():
            moved = self._database.move_job(
                job_id, status, only_from=only_from, estimated_finish=None, **changes
            )
            if moved:
                self._database.add_event(job_id, message)
                log.info("job %s %s", job_id, status)
        if moved:
            for slot in self._slots:
                slot.interrupt(job_id)
        return moved

    def _loop(self, waiting: queue.Queue[str | None], stage: Callable[[StoredJob], None]) -> None:
        while (job_id := waiting.get()) is not None and not self._stopping.is_set():
            job = self._database.find_job(job_id)
            if job is None or job.status in FINAL:
                continue
            try:
                stage(job)
            except _FileError as error:
                self._fail(job_id, f"invalid_{error.param}", error.message, error.param)
            except Exception as error:
                # Whatever goes wrong ends this job, and neither the others nor the server.
                # Only the kind is logged: a message might hold a piece of a prompt.
                log.exception("job %s failed: %s", job_id, type(error).__name__, exc_info=False)
                self._fail(job_id, "server_error", "The job failed due to an internal error.")

    def _fail(
        self,
        job_id: str,
        code: str,
        message: str,
        param: str | None = None,
        *,
        only_from: tuple[str, ...] | None = None,
    ) -> None:
        ending: dict[str, Any] = {
            "error": {"code": code, "message": message, "param": param},
            "finished_at": now(),
            "estimated_finish": None,
        }
        with self._database.transaction():
            if not self._database.move_job(job_id, "failed", only_from=only_from, **ending):
                return
            self._database.add_event(job_id, message, level="error")
        log.info("job %s failed: %s", job_id, code)
        self._database.drop_work_folder(job_id)

    def _check(self, job: StoredJob) -> None:
        if self._injector.faults.fail_validation:
            message = "The job failed due to an invalid training file. Invalid file format: line 1 (a fault)."
            raise _FileError(message, param="training_file")
        for param in ("training_file", "validation_file"):
            path = self._path(job, param)
            if path is None:
                continue
            try:
                read_examples(path.read_bytes(), fewest=FEWEST if param == "training_file" else 1)
            except TrainingFileError as error:
                reason = f"The job failed due to an invalid {param.replace('_', ' ')}. {error.message}"
                raise _FileError(reason, param=param) from error
        with self._database.transaction():
            if self._database.move_job(job.id, "queued"):
                self._database.add_event(job.id, "Files validated, moving job to queued state")
        self._to_train.put(job.id)

    def _path(self, job: StoredJob, param: str) -> Path | None:
        file_id = job.training_file if param == "training_file" else job.validation_file
        if file_id is None:
            return None
        file = self._database.find_file(file_id)
        if file is None:
            raise _FileError(f"The file {file_id} was deleted before the job had trained.", param=param)
        return self._database.blobs.path(file.sha256)

    def _train(self, job: StoredJob, slot: _Slot) -> None:
        training, validation = self._path(job, "training_file"), self._path(job, "validation_file")
        if not self._database.move_job(job.id, "running", only_from=("queued",)):
            return  # paused while it waited
        progress = Progress(self._database, job)
        order = {
            "training": str(training),
            "validation": validation and str(validation),
            "asked": job.asked,
            "hidden": BASES[job.model],
            "seed": job.seed,
            "folder": str(self._database.work_folder(job.id)),
        }
        progress.start()
        log.info("job %s running", job.id)
        with contextlib.closing(slot.run(job.id, order, lambda: progress.goes_on)) as telling:
            for told in telling:
                if not progress.take(told):
                    break
                if self._injector.faults.fail_half_way and progress.done >= 0.5:
                    self._fail(job.id, "server_error", "The job failed half way (a fault).")
                    break
        if progress.finished is not None:
            if progress.finish():
                log.info("job %s succeeded: %s", job.id, job.name)
                self._database.drop_work_folder(job.id)
        elif not slot.interrupted:
            log.error("job %s: %s", job.id, progress.error or "its training process died")
            # Not one that was paused in the same moment.
            self._fail(
                job.id, "server_error", "The job failed due to an internal error.", only_from=("running",)
            )


class _Slot:
    """Room for one training at a time, in a process that is kept for the next one while it lives."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._job: str | None = None
        self._process: TrainingProcess | None = None
        self._closed = False
        self.interrupted = False
        """Whether the last training was ended from outside."""

    def run(
        self, job_id: str, order: dict[str, Any], goes_on: Callable[[], bool]
    ) -> Generator[list[dict[str, Any]], None, None]:
        """Train a job, giving what its process tells, until it is done, dead or interrupted."""
        with self._lock:
            self.interrupted = self._closed
            if self._closed:
                return
            if self._process is None or not self._process.alive:
                if self._process is not None:
                    self._process.close()
                self._process = TrainingProcess()
            process, self._job = self._process, job_id
        done = False
        try:
            # Who stopped the job before this line found no training to interrupt.
            if not goes_on():
                done = True
                return
            for told in process.run(order):
                done = told[-1]["kind"] in ("done", "failed")
                yield told
        finally:
            with self._lock:
                self._job = None
                if not done:  # nobody listens any more: the next job needs a process with nothing to tell
                    process.kill()

    def interrupt(self, job_id: str | None = None) -> None:
        """Kill the process if it trains this job; without a job, whatever it does, for good."""
        with self._lock:
            self._closed = self._closed or job_id is None
            if self._process is not None and (job_id is None or self._job == job_id):
                self.interrupted = True
                self._process.kill()

    def close(self) -> None:
        """Let go of the process."""
        if self._process is not None:
            self._process.close()
