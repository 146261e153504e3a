"""What a training process tells, taken down: events, checkpoints, and in the end the model."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ..learners.sparse.trainer import CHECKPOINTS
from ..records import StoredCheckpoint, StoredModel, new_id, now

if TYPE_CHECKING:
    from pathlib import Path

    from ..database import Database
    from ..records import StoredJob

_ESTIMATE_EVERY = 1.0  # seconds


class Progress:
    """One job from the start of its process to the end.

    A process that goes on from a saved state tells its steps again; what is in the database already is not
    taken down twice.
    """

    def __init__(self, database: Database, job: StoredJob) -> None:
        self._database = database
        self._job = job
        self._told = database.find_last_step(job.id)
        self._kept = max((checkpoint.step for checkpoint in database.list_checkpoints(job.id)), default=0)
        self._taken: list[Path] = []
        self._again = bool(self._told)
        self._began: tuple[float, float] | None = None
        self._estimated = 0.0
        self._tokens = 0
        self.done = 0.0
        """The share of steps that are done."""
        self.finished: dict[str, Any] | None = None
        """The last message, once the training is complete."""
        self.error: str | None = None
        """The kind of error that the learner met."""

    def start(self) -> None:
        """Say that the training has begun."""
        self._database.add_event(
            self._job.id, "Fine-tuning job goes on" if self._again else "Fine-tuning job started"
        )

    @property
    def goes_on(self) -> bool:
        """Whether the job has not been stopped in the meantime."""
        found = self._database.find_job(self._job.id)
        return found is not None and found.status == "running"

    def take(self, told: list[dict[str, Any]]) -> bool:
        """Take down some messages, all of them or none; return False where the job has been stopped."""
        with self._database.transaction():
            if not self.goes_on:
                return False
            for message in told:
                getattr(self, f"_on_{message['kind']}")(message)
        for path in self._taken:
            path.unlink(missing_ok=True)
        self._taken.clear()
        self._estimate()
        return True

    def _on_choosing(self, _: dict[str, Any]) -> None:
        if not self._again:
            self._database.add_event(self._job.id, "Choosing n_epochs on a held-out tenth of the examples")

    def _on_chosen(self, message: dict[str, Any]) -> None:
        names = ("n_epochs", "batch_size", "learning_rate_multiplier")
        self._tokens = message["tokens"] * message["n_epochs"]
        self._database.move_job(
            self._job.id,
            "running",
            only_from=("running",),
            hyperparameters={name: message[name] for name in names},
        )

    def _on_step(self, message: dict[str, Any]) -> None:
        self.done = message["step"] / message["total_steps"]
        if message["step"] <= self._told:
            return
        self._told = message["step"]
        data = _full({name: value for name, value in message.items() if name != "kind"})
        self._database.add_event(self._job.id, _told(data), data=data)

    def _on_checkpoint(self, message: dict[str, Any]) -> None:
        step = message["step"]
        if step > self._kept:
            self._kept = step
            name = f"{self._job.name}:ckpt-step-{step}"
            self._keep_model(name, message)
            self._keep_checkpoint(step, name, message["metrics"])
            self._database.add_event(self._job.id, f"Checkpoint created at step {step}")

    def _on_done(self, message: dict[str, Any]) -> None:
        self.finished = message

    def _on_failed(self, message: dict[str, Any]) -> None:
        self.error = message["error"]

    def _keep_model(self, name: str, message: dict[str, Any]) -> None:
        folder = self._database.work_folder(self._job.id)
        files = {}
        for kind in ("arrays", "rest"):
            path = folder / message[kind]
            with path.open("rb") as file:
                files[kind] = self._database.blobs.add(file)[0]
            self._taken.append(path)
        self._database.add_model(
            StoredModel(id=name, base=self._job.model, job=self._job.id, created_at=now(), files=files)
        )

    def _keep_checkpoint(self, step: int, model: str, metrics: dict[str, float]) -> None:
        checkpoint = StoredCheckpoint(
            id=new_id("ftckpt_"),
            job=self._job.id,
            created_at=now(),
            step=step,
            model=model,
            metrics=_full(metrics),
        )
        self._database.add_checkpoint(checkpoint, keep=CHECKPOINTS)

    def _estimate(self) -> None:
        clock = time.monotonic()
        if self._began is None:
            self._began = clock, self.done
        since, share = self._began
        if self.done > share and clock - self._estimated >= _ESTIMATE_EVERY:
            self._estimated = clock
            left = (clock - since) * (1 - self.done) / (self.done - share)
            self._database.move_job(
                self._job.id, "running", only_from=("running",), estimated_finish=now() + round(left)
            )

    def finish(self) -> bool:
        """Keep the model and end the job well; return False where it was stopped in the meantime."""
        job, steps = self._job, self._database.list_metrics(self._job.id)
        with self._database.transaction():
            if self.finished is None or not self.goes_on:
                return False
            self._keep_model(job.name, self.finished)
            last = {name: value for name, value in steps[-1].items() if name != "total_steps"}
            self._keep_checkpoint(steps[-1]["step"], job.name, last)
            file = self._database.add_file(
                _results(steps), filename="step_metrics.csv", purpose="fine-tune-results"
            )
            self._database.move_job(
                job.id,
                "succeeded",
                finished_at=now(),
                estimated_finish=None,
                fine_tuned_model=job.name,
                trained_tokens=self._tokens,
                result_files=[file.id],
            )
            self._database.add_event(job.id, f"Checkpoint created at step {steps[-1]['step']}")
            self._database.add_event(job.id, f"New fine-tuned model created: {job.name}")
            self._database.add_event(job.id, "The job has successfully completed")
        return True


def _full(metrics: dict[str, float]) -> dict[str, float]:
    """Return metrics with those of the full validation file, which is what we validate on."""
    return metrics | {f"full_{name}": value for name, value in metrics.items() if name.startswith("valid_")}


def _told(step: dict[str, float]) -> str:
    told = f"Step {step['step']}/{step['total_steps']}: training loss={step['train_loss']:.2f}"
    if "valid_loss" not in step:
        return told
    loss = step["valid_loss"]
    return f"{told}, validation loss={loss:.2f}, full validation loss={loss:.2f}"


def _results(steps: list[dict[str, float]]) -> bytes:
    lines = ["step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"]
    columns = ("train_loss", "train_mean_token_accuracy", "valid_loss", "valid_mean_token_accuracy")
    for step in steps:
        values = (f"{step[name]:.5f}" if name in step else "" for name in columns)
        lines.append(",".join([str(step["step"]), *values]))
    return ("\n".join(lines) + "\n").encode()
