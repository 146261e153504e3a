"""The job queue: a job's files are checked, it waits its turn, it trains in its own process, and it ends.

One thread checks files, so that a bad one is known at once. Others, one for each core, take the jobs in order
of arrival and hand each to a process. The database holds a job's status: whoever stops a job changes its
status there and kills its process.
"""

from __future__ import annotations

import contextlib
import logging
import queue
from typing import TYPE_CHECKING, Any

from ...errors import TrainingFileError
from ..learners import FEWEST, RequestedHyperparameters, TrainingJob, describe_learner
from ..queue_thread import QueueThread
from ..records import FINAL, StoredJob, now, printable
from ..shortage import Patience, Shortage, describe_shortage
from .recorder import JobRecorder
from .trainer_process import BadMessage, TrainerOrder, TrainerSlot, TrainingDone, TrainingFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ..database import Database
    from ..faults import FaultInjector
    from ..learners import Learner

log: logging.Logger = logging.getLogger("finetune_pricer.local")

INTERRUPTED = "The server was restarted, training goes on from the last saved state"
_SHORT = "Training was interrupted by a shortage on the server, and goes on from the last saved state"
_INTERNAL = "The job failed due to an internal error"


class _FileError(TrainingFileError):
    """A job's file cannot be used; `param` is the job's parameter that names it."""

    def __init__(self, message: str, *, param: str) -> None:
        super().__init__(message)
        self.param = param


class _NotOffered(Exception):
    """The base model of a job is not one of this server's."""


class Worker:
    """Runs jobs in background threads from `start` to `stop`; the next start takes up what is unfinished."""

    def __init__(
        self,
        database: Database,
        bases: Mapping[str, Learner],
        injector: FaultInjector,
        *,
        cores: int = 1,
    ) -> None:
        self._database = database
        self._bases = bases
        self._injector = injector
        self._patience = Patience()
        self._unsettled: set[str] = set()
        """Jobs that a thread let go of and could not end: perhaps `running` though nothing trains them."""
        self._to_check: queue.Queue[str | None] = queue.Queue()
        self._to_train: queue.Queue[str | None] = queue.Queue()
        self._to_train_alone: queue.Queue[str | None] = queue.Queue()
        side_by_side = [TrainerSlot() for _ in range(cores)]
        alone = [TrainerSlot()] if any(base.trains_alone for base in bases.values()) else []
        self._slots = side_by_side + alone
        self.threads = [QueueThread("checks", self._to_check, lambda job: self._carry_out(job, self._check))]
        """All that must live for jobs to go on."""
        self.threads += [self._training_thread(slot, self._to_train) for slot in side_by_side]
        self.threads += [self._training_thread(slot, self._to_train_alone) for slot in alone]

    def _training_thread(self, slot: TrainerSlot, waiting: queue.Queue[str | None]) -> QueueThread:
        def train(job_id: str) -> None:
            self._carry_out(job_id, lambda job: self._train(job, slot))

        return QueueThread("trains", waiting, train)

    def _enqueue(self, job: StoredJob) -> None:
        """Let a job wait for its turn, among those beside which it may train."""
        learner = self._bases.get(job.model)
        alone = learner is not None and learner.trains_alone
        (self._to_train_alone if alone else self._to_train).put(job.id)

    @property
    def descriptors(self) -> list[int]:
        """The file descriptors that lead to the training processes."""
        return [descriptor for slot in self._slots for descriptor in slot.descriptors]

    def start(self) -> None:
        """Start the threads, and take up the jobs that an earlier server left unfinished."""
        self._database.sweep()
        for job in reversed(self._database.list_unfinished_jobs()):
            if job.status == "validating_files":
                self._to_check.put(job.id)
            elif job.status in ("queued", "running"):
                self._take_back(job.id, INTERRUPTED)
                self._enqueue(job)
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        """Stop at once; jobs that are unfinished stay so."""
        for thread in self.threads:
            thread.stop()
        for slot in self._slots:
            slot.interrupt()
        for thread in self.threads:
            thread.join()
        for slot in self._slots:
            slot.close()

    # What clients ask for

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
        """Pause a job; return False if it neither waits nor runs."""
        return self._leave(job_id, "paused", ("queued", "running"), "Fine-tuning job paused")

    def resume(self, job_id: str) -> bool:
        """Let a paused job wait for its turn again; return False if it is not paused."""
        with self._database.transaction():
            moved = self._database.move_job(job_id, "queued", only_from=("paused",))
            if moved:
                self._database.add_event(job_id, "Fine-tuning job resumed, moving job to queued state")
                log.info("job %s resumed", job_id)
        job = self._database.find_job(job_id) if moved else None
        if job is not None:
            self._enqueue(job)
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

    # What the threads do

    def _carry_out(self, job_id: str, stage: Callable[[StoredJob], None]) -> None:
        """Do with a job what its stage does; what goes wrong ends this job and neither others nor the thread.

        Raises what keeps the job from being done or ended for the moment, so that it is tried again.
        """
        job = self._database.find_job(job_id)
        if job is None or job.status in FINAL:
            return
        try:
            stage(job)
        except _NotOffered:
            self._pause_without_base(job)
        except _FileError as error:
            self._fail(job_id, f"invalid_{error.param}", error.message, error.param)
        except BaseException as error:  # noqa: BLE001  it is raised again, or written down
            self._unsettled.add(job_id)
            self._end_or_raise(job, error)
        self._unsettled.discard(job_id)
        self._patience.end(job_id)

    def _end_or_raise(self, job: StoredJob, error: BaseException) -> None:
        """Fail a job that something went wrong with; raise the error where it may go right after a while."""
        deleted = self._find_deleted(job) if isinstance(error, FileNotFoundError) else None
        if deleted is not None:
            self._fail(job.id, f"invalid_{deleted.param}", deleted.message, deleted.param)
            return
        shortage = describe_shortage(error)
        if shortage is not None and self._patience.allows(job.id):
            raise error
        # Only the kind is logged: a message might hold a piece of a prompt.
        log.error("job %s failed: %s", job.id, shortage or type(error).__name__)
        message = f"The job failed: {shortage}." if shortage else f"{_INTERNAL}."
        self._fail(job.id, "server_error", message)

    def _take_back(self, job_id: str, message: str) -> None:
        """Let a job that was interrupted in its training wait for its turn again."""
        with self._database.transaction():
            if self._database.move_job(job_id, "queued", only_from=("running",), estimated_finish=None):
                self._database.add_event(job_id, message, level="warn")

    def _learner(self, job: StoredJob) -> Learner:
        if job.model not in self._bases:
            raise _NotOffered
        return self._bases[job.model]

    def _pause_without_base(self, job: StoredJob) -> None:
        """Keep a job for a server that offers its base model; failing it would lose its saved state."""
        message = (
            f"This server does not offer the base model {job.model}; the job is paused until it is resumed "
            "on a server that does"
        )
        with self._database.transaction():
            if self._database.move_job(job.id, "paused"):
                self._database.add_event(job.id, message, level="warn")
                log.warning("job %s paused: no base model %s", job.id, job.model)

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
        learner = self._learner(job)
        if self._injector.faults.fail_validation:
            message = "The job failed due to an invalid training file. Invalid file format: line 1 (a fault)."
            raise _FileError(message, param="training_file")
        for param, file_id in _files_of(job).items():
            try:
                learner.check(self._path(file_id, param), fewest=FEWEST if param == "training_file" else 1)
            except _FileError:
                raise
            except TrainingFileError as error:
                reason = f"The job failed due to an invalid {param.replace('_', ' ')}. {error.message}"
                raise _FileError(reason, param=param) from error
        with self._database.transaction():
            if self._database.move_job(job.id, "queued", only_from=("validating_files",)):
                self._database.add_event(job.id, "Files validated, moving job to queued state")
        self._enqueue(job)

    def _find_deleted(self, job: StoredJob) -> _FileError | None:
        """Return the error for a file of a job that has been deleted, or None where all are there."""
        try:
            for param, file_id in _files_of(job).items():
                self._path(file_id, param)
        except _FileError as error:
            return error
        return None

    def _path(self, file_id: str, param: str) -> Path:
        file = self._database.find_file(file_id)
        if file is None:
            raise _FileError(f"The file {file_id} was deleted before the job had trained.", param=param)
        return self._database.blobs.path(file.sha256)

    def _train(self, job: StoredJob, slot: TrainerSlot) -> None:
        learner = self._learner(job)
        order = self._order(job, learner)
        if job.id in self._unsettled:
            self._database.check()  # or each try would train for nothing, and tell of it in events
            self._take_back(job.id, _SHORT)
            self._unsettled.discard(job.id)
        if not self._database.move_job(job.id, "running", only_from=("queued",)):
            return  # paused while it waited
        recorder = JobRecorder(self._database, job)
        recorder.start()
        log.info("job %s running", job.id)
        running = slot.run(job.id, order, learner.environment, lambda: recorder.goes_on)
        try:
            with contextlib.closing(running):
                for messages in running:
                    before = recorder.last_step
                    if not recorder.record(messages):
                        return  # stopped in the meantime
                    if recorder.last_step > before:
                        self._patience.end(job.id)
                    if self._injector.faults.fail_half_way and recorder.done >= 0.5:
                        self._fail(job.id, "server_error", "The job failed half way (a fault).")
                        return
        except BadMessage as error:
            self._fail(job.id, "server_error", f"{_INTERNAL}: its training process sent {error}.")
        else:
            self._conclude(job, recorder, is_interrupted=slot.is_interrupted)

    def _order(self, job: StoredJob, learner: Learner) -> TrainerOrder:
        validation = job.validation_file
        requested = {name: None if value == "auto" else value for name, value in job.requested.items()}
        return TrainerOrder(
            learner=describe_learner(learner),
            job=TrainingJob(
                training=self._path(job.training_file, "training_file"),
                validation=None if validation is None else self._path(validation, "validation_file"),
                hyperparameters=RequestedHyperparameters(**requested),
                seed=job.seed,
                folder=self._database.work_folder(job.id),
            ),
        )

    def _conclude(self, job: StoredJob, recorder: JobRecorder, *, is_interrupted: bool) -> None:
        match recorder.result:
            case TrainingDone() as done:
                if recorder.finish(done):
                    log.info("job %s succeeded: %s", job.id, printable(job.name))
                    self._database.drop_work_folder(job.id)
                return
            case TrainingFailed(shortage=str(shortage)):
                raise Shortage(shortage)
            case TrainingFailed(error="FileNotFoundError") if deleted := self._find_deleted(job):
                raise deleted
            case TrainingFailed(error=error, reason=None):
                log.error("job %s: %s", job.id, error)
                message = f"{_INTERNAL}: {error}."
            case TrainingFailed(error=error, reason=str(reason)):
                log.error("job %s: %s", job.id, error)
                message = f"The job failed: {reason.removesuffix('.')}."
            case _:
                if is_interrupted:
                    return
                log.error("job %s: its training process died", job.id)
                message = f"{_INTERNAL}: its training process died."
        # Not a job that was paused in the same moment.
        self._fail(job.id, "server_error", message, only_from=("running",))


def _files_of(job: StoredJob) -> dict[str, str]:
    """Return the files of a job, by the parameters that name them."""
    files = {"training_file": job.training_file, "validation_file": job.validation_file}
    return {param: file_id for param, file_id in files.items() if file_id is not None}
