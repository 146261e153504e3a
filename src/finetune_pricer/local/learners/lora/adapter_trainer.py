"""Training of an adapter, by TRL's trainer; killed at any moment, it goes on and ends with the same adapter.

What is ours: what the protocol's hyperparameters mean here, what is told of each step, and checkpoints that
are whole or are not gone on from. It stands on torch, and so is imported in the training process only.
"""

from __future__ import annotations

import math
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import torch
import transformers
from peft import LoraConfig
from peft.helpers import disable_input_dtype_casting
from trl import SFTConfig

from ....errors import DataError, NotSupported
from ...shortage import Shortage
from ..learner import CHECKPOINTS_KEPT, CheckpointSaved, HyperparametersChosen, Metrics, Note, StepDone
from .adapter_files import AdapterFacts, split_revision
from .conversation import ConversationWriter
from .data_parallel import (
    EvenTrainer,
    add_blanks,
    check_processes,
    find_rank,
    follow_first,
    wait_for_all,
)
from .example_set import ExampleSet
from .recipe import split_batch
from .sealed_checkpoint import find_checkpoint, seal_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..learner import Report, TrainingJob
    from .base_weights import BaseWeights
    from .recipe import Recipe

_SAVE_EVERY = 20.0  # seconds
_LARGE = 1e9  # parameters from which activations are computed twice rather than kept, on a GPU


class AdapterTrainer:
    """Trains the adapter of one job in a folder of its own; the same job gives the same adapter."""

    def __init__(
        self,
        job: TrainingJob,
        base: BaseWeights,
        recipe: Recipe,
        *,
        report: Callable[[Report], None],
        save_every: float = _SAVE_EVERY,
    ) -> None:
        check_processes(recipe.processes)
        self._job = job
        self._base = base
        self._recipe = recipe
        self._report = report
        self._save_every = save_every
        self._tokenizer = base.load_tokenizer()
        # Asked after the tokenizer was loaded, which converts a GGUF file: only then is it known.
        self._writer = ConversationWriter(self._tokenizer, template=recipe.template, context=base.context)
        self._examples = ExampleSet.read(
            job.training, job.validation, self._writer, text_tokens=recipe.text_tokens
        )
        self._facts = AdapterFacts.of(self._examples, base, self._writer)
        # Refused before hours of training, not after them.
        self._writer.write_replies(self._facts.replies)

    def run(self) -> dict[str, str]:
        """Train to the end, from where an earlier process left off; return the files of the model.

        Raises:
            NotSupported: The model, or a batch, is too large for the memory.
            DataError: The loss is no number any more.
        """
        for message in self._examples.notes:
            self._report(Note(message=message))
        transformers.set_seed(self._job.seed % 2**32)
        model = self._base.load_model(self._recipe)
        trainer, reporter = self._prepare(model)
        checkpoint = find_checkpoint(self._job.folder / "checkpoints")
        if checkpoint is not None:
            reporter.replay(transformers.TrainerState.load_from_json(str(checkpoint / "trainer_state.json")))
        try:
            # What autocast casts need not be cast before: that takes a quarter of the memory.
            with disable_input_dtype_casting(trainer.model, active=trainer.args.bf16):
                trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        except (RuntimeError, MemoryError) as error:
            raise _explain(error, trainer.args.per_device_train_batch_size, self._recipe) from error
        return self._save(trainer.model, "model") if find_rank() == 0 else {}

    def _prepare(self, model: Any) -> tuple[EvenTrainer, StepReporter]:
        requested, examples = self._job.hyperparameters, self._examples
        parameters = model.num_parameters()
        n_epochs = self._recipe.choose_epochs(requested.n_epochs, examples.count)
        batch_size = self._recipe.choose_batch(requested.batch_size, examples.count)
        rate, multiplier = self._recipe.choose_rate(requested.learning_rate_multiplier, parameters)
        self._report(
            HyperparametersChosen(
                n_epochs=n_epochs,
                batch_size=batch_size,
                learning_rate_multiplier=multiplier,
                trained_tokens=examples.tokens * n_epochs,
            )
        )
        if requested.learning_rate_multiplier not in (None, multiplier):
            message = (
                f"learning_rate_multiplier is held to {multiplier}: more undoes what this base model knows"
            )
            self._report(Note(message=message))
        per_epoch = math.ceil(examples.count / batch_size)
        reporter = StepReporter(self, per_epoch=per_epoch, total=per_epoch * n_epochs)
        arguments = self._arguments(n_epochs, batch_size, rate, per_epoch * n_epochs, model)
        at_once = arguments.per_device_train_batch_size * self._recipe.processes
        trainer = EvenTrainer(
            count=examples.count,
            model=model,
            args=arguments,
            train_dataset=datasets.Dataset.from_dict(add_blanks(examples.training, at_once)),
            eval_dataset=datasets.Dataset.from_dict(examples.validation) if self.validates else None,
            processing_class=self._tokenizer,
            peft_config=_choose_adapter(self._recipe),
            callbacks=[reporter],
        )
        # Its own callbacks print each step.
        for kind in (transformers.PrinterCallback, transformers.ProgressCallback):
            trainer.remove_callback(kind)
        return trainer, reporter

    def _arguments(self, n_epochs: int, batch_size: int, rate: float, steps: int, model: Any) -> SFTConfig:
        recipe, on_gpu, dtype = self._recipe, torch.cuda.is_available(), model.dtype

        def split(size: int) -> tuple[int, int]:
            return split_batch(size, longest=self._examples.longest, on_gpu=on_gpu)

        piece, pieces = split(batch_size // recipe.processes)
        return SFTConfig(
            output_dir=str(self._job.folder / "checkpoints"),
            num_train_epochs=n_epochs,
            per_device_train_batch_size=piece,
            gradient_accumulation_steps=pieces,
            # The same for any number of processes, whose losses are then the same.
            per_device_eval_batch_size=split(batch_size)[0],
            learning_rate=rate,
            lr_scheduler_type=recipe.schedule,
            warmup_steps=recipe.count_warmup(steps),
            weight_decay=recipe.weight_decay,
            max_grad_norm=recipe.clip,
            optim="paged_adamw_32bit" if recipe.quantize == "nf4" else "adamw_torch",
            seed=self._job.seed % 2**32,
            data_seed=self._job.seed % 2**32,
            # Nothing is cut or laid out here: the examples come in tokens, and their prices stand at the end.
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
            logging_steps=1,
            logging_nan_inf_filter=False,
            # The reporter says when to save and to evaluate.
            save_strategy="no",
            eval_strategy="no",
            save_total_limit=2,
            report_to=[],
            disable_tqdm=True,
            use_cpu=not on_gpu,
            dataloader_pin_memory=on_gpu,
            bf16=dtype == torch.bfloat16,
            gradient_checkpointing=on_gpu and model.num_parameters() > _LARGE,
        )

    # What the reporter needs

    @property
    def validates(self) -> bool:
        """Whether there are examples to measure on."""
        return bool(self._examples.validation["input_ids"])

    @property
    def save_every(self) -> float:
        """After how many seconds the state is saved again."""
        return self._save_every

    def report(self, message: Report) -> None:
        """Tell the server."""
        self._report(message)

    def save_step(self, model: Any, step: int) -> dict[str, str]:
        """Save the model as it is after a step; those of long ago go."""
        files = self._save(model, f"step-{step}")
        folders = sorted(self._job.folder.glob("step-*"), key=lambda folder: int(folder.name[5:]))
        for folder in folders[:-CHECKPOINTS_KEPT]:
            shutil.rmtree(folder, ignore_errors=True)
        return files

    def find_step(self, step: int) -> dict[str, str]:
        """Return the files of a model that was saved after a step, unless the server has taken them."""
        return self._list(self._job.folder / f"step-{step}")

    def _save(self, model: Any, name: str) -> dict[str, str]:
        folder = self._job.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        part = folder.with_name(f".{name}")
        shutil.rmtree(part, ignore_errors=True)
        config = model.peft_config["default"]
        config.base_model_name_or_path, config.revision = split_revision(self._base.name)
        model.save_pretrained(part)
        self._tokenizer.save_pretrained(part)
        (part / "README.md").unlink(missing_ok=True)  # peft's form to fill in
        self._facts.save(part)
        part.rename(folder)
        return self._list(folder)

    def _list(self, folder: Path) -> dict[str, str]:
        return {
            path.name: f"{folder.name}/{path.name}" for path in sorted(folder.glob("*")) if path.is_file()
        }


class StepReporter(transformers.TrainerCallback):  # type: ignore[misc]
    """Tells the server of each step, and decides when to measure and to save."""

    def __init__(self, run: AdapterTrainer, *, per_epoch: int, total: int) -> None:
        self._run = run
        self._per_epoch = per_epoch
        self._total = total
        self._metrics: Metrics | None = None
        """Of the step that was logged last."""
        self._told = 0
        """The last step that was told of."""
        self._saved_at = time.monotonic()

    def replay(self, state: transformers.TrainerState) -> None:
        """Tell again what an earlier process did: the server may not have heard all of it."""
        for logs in state.log_history:
            self._take(logs, int(logs["step"]))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Measure and save at the end of an epoch, and save now and then."""
        ends = state.global_step % self._per_epoch == 0
        control.should_evaluate = ends and self._run.validates
        is_due = time.monotonic() - self._saved_at >= self._run.save_every
        control.should_save = ends or follow_first(is_due)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any], **_: Any) -> None:  # noqa: ARG002
        """Take down a step's loss, or what was measured after it."""
        self._take(logs, state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:  # noqa: ARG002
        """Keep the model at the end of an epoch, then seal the checkpoint.

        In this order: a kill in between leaves a checkpoint without its seal, and the epoch ends once more.
        """
        wait_for_all()  # each process saves its own state of the random numbers
        if find_rank() == 0:
            if self._is_kept(state.global_step):
                self._run.save_step(model, state.global_step)
            seal_checkpoint(Path(args.output_dir) / f"checkpoint-{state.global_step}")
        self._saved_at = time.monotonic()
        self._tell_checkpoint(state.global_step)

    def _take(self, logs: Mapping[str, Any], step: int) -> None:
        if "loss" in logs:
            if not math.isfinite(logs["loss"]):
                raise DataError(
                    f"the loss is no number any more at step {step}; lower learning_rate_multiplier, or "
                    "declare the base with dtype=float32"
                )
            self._metrics = Metrics(
                train_loss=logs["loss"], train_mean_token_accuracy=logs.get("mean_token_accuracy")
            )
            waits = step % self._per_epoch == 0 and self._run.validates
        elif "eval_loss" in logs and self._metrics is not None:
            measured = {
                "valid_loss": logs["eval_loss"],
                "valid_mean_token_accuracy": logs.get("eval_mean_token_accuracy"),
            }
            self._metrics = self._metrics.model_copy(update=measured)
            waits = False
        else:
            return  # what the trainer says of itself at the end
        if not waits:
            self._run.report(StepDone(step=step, total_steps=self._total, metrics=self._metrics))
            self._told = step
            self._tell_checkpoint(step)

    def _is_kept(self, step: int) -> bool:
        """Whether the model after a step is kept: each epoch's but the last, which is the job's own."""
        return step % self._per_epoch == 0 and step < self._total

    def _tell_checkpoint(self, step: int) -> None:
        """Tell of a model that was kept after a step that was told of."""
        files = self._run.find_step(step) if self._is_kept(step) and self._told == step else {}
        if files and self._metrics is not None:
            self._run.report(CheckpointSaved(step=step, files=files, metrics=self._metrics))


def _choose_adapter(recipe: Recipe) -> LoraConfig:
    return LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.scale,
        lora_dropout=recipe.dropout,
        target_modules=recipe.layers,
        task_type="CAUSAL_LM",
    )


def _explain(error: Exception, piece: int, recipe: Recipe) -> Exception:
    """Return what an error of torch means for the user, or the error itself."""
    text = str(error)
    is_full = isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in text
    if is_full or "out of memory" in text:
        return NotSupported(
            f"the memory is too small to train {piece} examples at once; lower batch_size below {piece}, or "
            f"declare the base with fewer text_tokens (now {recipe.text_tokens}) or a smaller rank"
        )
    if isinstance(error, torch.AcceleratorError) or "CUDA error" in text:
        return Shortage("the GPU has stopped answering")
    return error
