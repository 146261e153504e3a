"""`SparseLearner`: the learner of the base models that come with the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...._methods.network import Hyperparameters
from ..learner import Learner
from .dataset import CONTEXT, TrainingSet, read_examples
from .model import PriceModel, UntrainedModel
from .trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ..learner import Model, Report, TrainingJob


@dataclass(frozen=True)
class SparseLearner(Learner):
    """Learns the price of a text with a sparse network of `hidden` units."""

    hidden: int = 32

    @property
    def description(self) -> str:
        """What the base model is."""
        return "A statistical learner of prices, not a language model; untrained, it prices nothing."

    @property
    def tuned_description(self) -> str:
        """What a tuned model is."""
        return "A statistical learner of prices, trained by a fine-tuning job; not a language model."

    @property
    def context(self) -> int:
        """How many tokens a prompt may have."""
        return CONTEXT

    @property
    def environment(self) -> Mapping[str, str]:
        """One thread: the work is bound by memory, and jobs side by side use the cores."""
        return dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

    def check(self, path: Path, *, fewest: int) -> None:
        """Raise `TrainingFileError` where a file has wrong lines, too few examples, or no price."""
        with path.open("rb") as lines:
            read_examples(lines, fewest=fewest)

    def train(self, job: TrainingJob, report: Callable[[Report], None]) -> Mapping[str, str]:
        """Train a job to its end; return the files of its model."""
        with job.training.open("rb") as lines:
            examples = read_examples(lines)
        validation = []
        if job.validation is not None:
            with job.validation.open("rb") as lines:
                validation = read_examples(lines, fewest=1)
        hyperparameters = Hyperparameters.resolve(
            job.hyperparameters.model_dump(), examples=len(examples), hidden=self.hidden
        )
        data = TrainingSet.prepare(examples, validation)
        del examples, validation
        model = Trainer(job.folder, data, hyperparameters, seed=job.seed, report=report).run()
        contents = model.save()
        for name, content in contents.items():
            (job.folder / name).write_bytes(content)
        return {name: name for name in contents}

    def load(self, files: Mapping[str, Path]) -> Model:
        """Load a trained model."""
        return PriceModel.load({name: path.read_bytes() for name, path in files.items()}).warm_up()

    def load_base(self) -> Model:
        """Return a model that says that it was not trained."""
        return UntrainedModel()
