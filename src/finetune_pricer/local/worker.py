"""A job's life: its files are checked, it waits its turn, it trains, and it ends.

Two threads: one checks files, so that a bad one is known at once, and one trains, one job after the other in
their order of arrival. Training is a plain function of plain values, which another process could run as well.
"""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING

from ..errors import TrainingFileError
from .examples import FEWEST, Example, read_examples
from .learner import Hyperparameters, Step, Stopped, train
from .replies import tokens_of
from .store import FINAL, StoredJob, StoredModel, new_id, now

if TYPE_CHECKING:
    from collections.abc import Callable

    from .model import PriceModel
    from .store import Store

log = logging.getLogger("finetune_pricer.local")

BASES = {"pricer-base": 32, "pricer-base-mini": 8}
"""The models that can be tuned, and how many units their hidden layer has."""


class _FileError(TrainingFileError):
    """A job's file cannot be used; `param` is the job's parameter that names it."""

    def __init__(self, message: str, *, param: str) -> None:
        super().__init__(message)
        self.param = param


class Worker:
    """Runs jobs in background threads from `start` to `stop`; the next start takes up what is unfinished."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stopping = threading.Event()
        self._cancelled: set[str] = set()
        self._to_check: queue.Queue[str | None] = queue.Queue()
        self._to_train: queue.Queue[str | None] = queue.Queue()
        stages = [(self._to_check, self._check, "checks"), (self._to_train, self._train, "trains")]
        self._threads = [
            threading.Thread(
                target=self._loop, args=stage[:2], name=f"finetune-pricer-{stage[2]}", daemon=True
            )
            for stage in stages
        ]

    def start(self) -> None:
        """Start the threads, and take up the jobs that an earlier server left unfinished."""
        for job in reversed(self._store.jobs()):
            if job.status == "validating_files":
                self._to_check.put(job.id)
            elif job.status not in FINAL:
                if job.status == "running":
                    self._store.drop_metrics(job.id)
                    self._store.add_event(
                        job.id, "The server was restarted, training starts over", level="warn"
                    )
                self._store.move_job(job.id, "queued")
                self._to_train.put(job.id)
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop after the present step of training; the job stays unfinished."""
        self._stopping.set()
        for waiting in (self._to_check, self._to_train):
            waiting.put(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def submit(self, job: StoredJob) -> None:
        """Keep a new job and take it up."""
        with self._store.transaction():
            self._store.add_job(job)
            self._store.add_event(job.id, f"Created fine-tuning job: {job.id}")
            self._store.add_event(job.id, f"Validating training file: {job.training_file}")
        log.info("job %s created: %s on %s", job.id, job.model, job.training_file)
        self._to_check.put(job.id)

    def cancel(self, job_id: str) -> bool:
        """Cancel a job at once; return False if it has ended already."""
        with self._store.transaction():
            moved = self._store.move_job(job_id, "cancelled", finished_at=now(), estimated_finish=None)
            if moved:
                self._cancelled.add(job_id)
                self._store.add_event(job_id, "Fine-tuning job cancelled")
                log.info("job %s cancelled", job_id)
        return moved

    def _loop(self, waiting: queue.Queue[str | None], stage: Callable[[StoredJob], None]) -> None:
        while (job_id := waiting.get()) is not None and not self._stopping.is_set():
            job = self._store.job(job_id)
            if job is None or job.status in FINAL:
                continue
            try:
                stage(job)
            except Stopped:
                self._cancelled.discard(job_id)
            except _FileError as error:
                code = f"invalid_{error.param}"
                self._fail(job_id, code, error.message, error.param)
            except Exception as error:
                # Whatever goes wrong ends this job, and neither the others nor the server.
                # Only the kind is logged: a message might hold a piece of a prompt.
                log.exception("job %s failed: %s", job_id, type(error).__name__, exc_info=False)
                message = "The job failed due to an internal error."
                self._fail(job_id, "server_error", message, None)

    def _fail(self, job_id: str, code: str, message: str, param: str | None) -> None:
        error = {"code": code, "message": message, "param": param}
        with self._store.transaction():
            if self._store.move_job(job_id, "failed", error=error, finished_at=now(), estimated_finish=None):
                self._store.add_event(job_id, message, level="error")
                log.info("job %s failed: %s", job_id, code)

    def _check(self, job: StoredJob) -> None:
        examples = self._examples(job, "training_file")
        self._examples(job, "validation_file")
        chosen = Hyperparameters.resolve(job.asked, examples=len(examples), hidden=BASES[job.model])
        with self._store.transaction():
            if self._store.move_job(job.id, "queued", hyperparameters=_public(chosen)):
                self._store.add_event(job.id, "Files validated, moving job to queued state")
        self._to_train.put(job.id)

    def _examples(self, job: StoredJob, param: str) -> list[Example]:
        file_id = job.training_file if param == "training_file" else job.validation_file
        if file_id is None:
            return []
        file = self._store.file(file_id)
        if file is None:
            raise _FileError(f"The file {file_id} was deleted before the job started.", param=param)
        try:
            content = self._store.blob(file.sha256).read_bytes()
            return read_examples(content, fewest=FEWEST if param == "training_file" else 1)
        except TrainingFileError as error:
            reason = f"The job failed due to an invalid {param.replace('_', ' ')}. {error.message}"
            raise _FileError(reason, param=param) from error

    def _train(self, job: StoredJob) -> None:
        examples, validation = self._examples(job, "training_file"), self._examples(job, "validation_file")
        if not self._store.move_job(job.id, "running"):
            return
        self._store.add_event(job.id, "Fine-tuning job started")
        log.info("job %s running: %d examples", job.id, len(examples))
        chosen = Hyperparameters.resolve(job.asked, examples=len(examples), hidden=BASES[job.model])
        steps: list[Step] = []

        def on_step(step: Step) -> None:
            steps.append(step)
            self._store.add_event(job.id, _told(step), data=_metrics(step))

        model = train(
            examples,
            validation,
            chosen,
            seed=job.seed,
            on_step=on_step,
            should_stop=lambda: self._stopping.is_set() or job.id in self._cancelled,
        )
        self._finish(job, model, steps, sum(map(_tokens, examples)) * chosen.n_epochs)

    def _finish(self, job: StoredJob, model: PriceModel, steps: list[Step], tokens: int) -> None:
        name = f"ft:{job.model}:local:{job.suffix or ''}:{new_id('', 8)}"
        arrays, rest = model.save()
        results = _results(steps)
        with self._store.transaction():
            file = self._store.add_file(results, filename="step_metrics.csv", purpose="fine-tune-results")
            (arrays_hash, _), (rest_hash, _) = self._store.keep(arrays), self._store.keep(rest)
            stored = StoredModel(
                id=name, base=job.model, job=job.id, created_at=now(), arrays=arrays_hash, rest=rest_hash
            )
            self._store.add_model(stored)
            moved = self._store.move_job(
                job.id,
                "succeeded",
                finished_at=now(),
                fine_tuned_model=name,
                trained_tokens=tokens,
                result_files=[file.id],
            )
            if not moved:  # cancelled during the very last step
                self._store.delete_model(stored)
                self._store.delete_file(file)
                return
            self._store.add_event(job.id, f"New fine-tuned model created: {name}")
            self._store.add_event(job.id, "The job has successfully completed")
        log.info("job %s succeeded: %s", job.id, name)


def _public(chosen: Hyperparameters) -> dict[str, float]:
    return {
        "n_epochs": chosen.n_epochs,
        "batch_size": chosen.batch_size,
        "learning_rate_multiplier": chosen.learning_rate_multiplier,
    }


def _tokens(example: Example) -> int:
    return (
        len(tokens_of(example.prompt)) + len(tokens_of(example.reply)) + 9
    )  # three around each message, and a start


def _metrics(step: Step) -> dict[str, float]:
    values = {name: getattr(step, name) for name in Step.__slots__}
    return {name: value for name, value in values.items() if value is not None}


def _told(step: Step) -> str:
    told = f"Step {step.step}/{step.total_steps}: training loss={step.train_loss:.2f}"
    return told if step.valid_loss is None else f"{told}, validation loss={step.valid_loss:.2f}"


def _results(steps: list[Step]) -> bytes:
    lines = ["step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"]
    for step in steps:
        values = (
            step.train_loss,
            step.train_mean_token_accuracy,
            step.valid_loss,
            step.valid_mean_token_accuracy,
        )
        lines.append(
            ",".join([str(step.step), *("" if value is None else f"{value:.5f}" for value in values)])
        )
    return ("\n".join(lines) + "\n").encode()
