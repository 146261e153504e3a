"""What a training reports, written down: events, checkpoints, and in the end the model."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, assert_never

from ..learners import (
    CHECKPOINTS_KEPT,
    CheckpointSaved,
    HyperparametersChosen,
    Metrics,
    Note,
    StepDone,
)
from ..records import StoredCheckpoint, StoredModel, new_id, now
from .trainer_process import TrainingDone, TrainingFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ..database import Database
    from ..records import StoredJob
    from .trainer_process import Message

_ESTIMATE_EVERY = 1.0  # seconds


class JobRecorder:
    """Writes down one job from the start of its training to the end.

    A training that goes on from a saved state reports its steps again; what is in the database already is not
    written twice.
    """

    def __init__(self, database: Database, job: StoredJob) -> None:
        self._database = database
        self._job = job
        self.last_step = database.find_last_step(job.id)
        """The last step that is written down."""
        checkpoints = database.list_checkpoints(job.id)
        self._last_checkpoint = max((checkpoint.step for checkpoint in checkpoints), default=0)
        self._to_remove: list[Path] = []
        self._hashes: dict[int, dict[str, str]] = {}
        self._is_resumed = bool(self.last_step)
        self._began: tuple[float, float] | None = None
        self._estimated_at = 0.0
        self._trained_tokens = 0
        self.done = 0.0
        """The share of steps that are done."""
        self.result: TrainingDone | TrainingFailed | None = None
        """How the training ended, once it has."""

    def start(self) -> None:
        """Write down that the training has begun."""
        message = "Fine-tuning job goes on" if self._is_resumed else "Fine-tuning job started"
        self._database.add_event(self._job.id, message)

    @property
    def goes_on(self) -> bool:
        """Whether the job has not been stopped in the meantime."""
        job = self._database.find_job(self._job.id)
        return job is not None and job.status == "running"

    def record(self, messages: Sequence[Message]) -> bool:
        """Write down messages, all of them or none; return False where the job has been stopped."""
        new = [each for each in messages if isinstance(each, CheckpointSaved) and self._is_new(each)]
        with contextlib.ExitStack() as held:
            self._hashes = {each.step: self._keep_files(each.files, held) for each in new}
            with self._database.transaction():
                if not self.goes_on:
                    return False
                for message in messages:
                    self._record(message)
        for path in self._to_remove:
            path.unlink(missing_ok=True)
        self._to_remove.clear()
        self._estimate()
        return True

    def _record(self, message: Message) -> None:
        match message:
            case Note():
                if not self._is_resumed:
                    self._database.add_event(self._job.id, message.message)
            case HyperparametersChosen():
                self._record_hyperparameters(message)
            case StepDone():
                self._record_step(message)
            case CheckpointSaved():
                self._record_checkpoint(message)
            case TrainingDone() | TrainingFailed():
                self.result = message
            case _:
                assert_never(message)

    def _record_hyperparameters(self, chosen: HyperparametersChosen) -> None:
        self._trained_tokens = chosen.trained_tokens
        names = {"n_epochs", "batch_size", "learning_rate_multiplier"}
        self._database.move_job(
            self._job.id, "running", only_from=("running",), hyperparameters=chosen.model_dump(include=names)
        )

    def _record_step(self, done: StepDone) -> None:
        self.done = done.step / done.total_steps
        if done.step <= self.last_step:
            return
        self.last_step = done.step
        data = {"step": done.step, "total_steps": done.total_steps} | _to_dict(done.metrics)
        self._database.add_event(self._job.id, _describe_step(done), data=data)

    def _record_checkpoint(self, saved: CheckpointSaved) -> None:
        if self._is_new(saved):
            self._last_checkpoint = saved.step
            name = f"{self._job.name}:ckpt-step-{saved.step}"
            self._keep_model(name, self._hashes[saved.step])
            self._keep_checkpoint(saved.step, name, _to_dict(saved.metrics))

    def _is_new(self, saved: CheckpointSaved) -> bool:
        return saved.step > self._last_checkpoint

    def _keep_files(self, files: Mapping[str, str], held: contextlib.ExitStack) -> dict[str, str]:
        """Keep the files of a model, and return their hashes; `held` holds them until they have an owner."""
        folder = self._database.work_folder(self._job.id)
        hashes = {}
        for name, place in files.items():
            path = folder / place
            with path.open("rb") as file:
                hashes[name] = held.enter_context(self._database.keep_blob(file)).sha256
            self._to_remove.append(path)
        return hashes

    def _keep_model(self, name: str, hashes: dict[str, str]) -> None:
        self._database.add_model(
            StoredModel(id=name, base=self._job.model, job=self._job.id, created_at=now(), files=hashes)
        )

    def _keep_checkpoint(self, step: int, model: str, metrics: dict[str, float]) -> None:
        checkpoint = StoredCheckpoint(
            id=new_id("ftckpt_"),
            job=self._job.id,
            created_at=now(),
            step=step,
            model=model,
            metrics={"step": step} | metrics,
        )
        self._database.add_checkpoint(checkpoint, keep=CHECKPOINTS_KEPT)
        self._database.add_event(self._job.id, f"Checkpoint created at step {step}")

    def _estimate(self) -> None:
        clock = time.monotonic()
        if self._began is None:
            self._began = clock, self.done
        since, share = self._began
        if self.done > share and clock - self._estimated_at >= _ESTIMATE_EVERY:
            self._estimated_at = clock
            left = (clock - since) * (1 - self.done) / (self.done - share)
            self._database.move_job(
                self._job.id, "running", only_from=("running",), estimated_finish=now() + round(left)
            )

    def finish(self, result: TrainingDone) -> bool:
        """Keep the model and end the job well; return False where it was stopped in the meantime."""
        job, steps = self._job, self._database.list_metrics(self._job.id)
        with contextlib.ExitStack() as held:
            hashes = self._keep_files(result.files, held)
            table = held.enter_context(self._database.keep_blob(_write_csv(steps)))
            held.enter_context(self._database.transaction())
            if not self.goes_on:
                return False
            self._keep_model(job.name, hashes)
            file = self._database.name_file(table, filename="step_metrics.csv", purpose="fine-tune-results")
            self._database.move_job(
                job.id,
                "succeeded",
                finished_at=now(),
                estimated_finish=None,
                fine_tuned_model=job.name,
                trained_tokens=self._trained_tokens,
                result_files=[file.id],
            )
            last = {name: value for name, value in steps[-1].items() if name != "total_steps"}
            self._keep_checkpoint(steps[-1]["step"], job.name, last)
            self._database.add_event(job.id, f"New fine-tuned model created: {job.name}")
            self._database.add_event(job.id, "The job has successfully completed")
        return True


def _to_dict(metrics: Metrics) -> dict[str, float]:
    """Return what was measured; what a learner validates on is always the full validation file."""
    measured = metrics.model_dump(exclude_none=True)
    full = {f"full_{name}": value for name, value in measured.items() if name.startswith("valid_")}
    return measured | full


def _describe_step(done: StepDone) -> str:
    metrics = done.metrics
    text = f"Step {done.step}/{done.total_steps}: training loss={metrics.train_loss:.2f}"
    if metrics.valid_loss is None:
        return text
    loss = metrics.valid_loss
    return f"{text}, validation loss={loss:.2f}, full validation loss={loss:.2f}"


def _write_csv(steps: list[dict[str, float]]) -> bytes:
    lines = ["step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"]
    columns = ("train_loss", "train_mean_token_accuracy", "valid_loss", "valid_mean_token_accuracy")
    for step in steps:
        values = (f"{step[name]:.5f}" if name in step else "" for name in columns)
        lines.append(",".join([str(step["step"]), *values]))
    return ("\n".join(lines) + "\n").encode()
