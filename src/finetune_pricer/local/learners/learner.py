"""What a base model must be able to do: the seam between the server and its learners.

The server queues jobs, runs each training in a process of its own, writes down its reports, keeps its models,
and speaks the protocol. A learner does the rest: it checks files, trains, and loads models that answer. The
server knows learners by the names of their base models only.

A learner exists twice: in the server's process, where it checks files and loads models, and in a training
process, which makes it again from its fields. So a learner is a dataclass whose fields JSON can hold, and its
class stands in a module that can be imported. Importing and constructing it is cheap; what takes long to load
is loaded where a job trains or a model answers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003  pydantic reads it
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from ...errors import NotSupported

ChatMessages = Sequence[Mapping[str, Any]]
"""A conversation, as `find_problem` accepts it."""

CHECKPOINTS_KEPT = 3
"""How many checkpoints of a job are kept; older ones are deleted with their models."""
END = "<|end|>"
"""Stands for the end of a reply among the alternatives to a token."""


class Learner(ABC):
    """Makes models of a base model. Its methods are called from several threads."""

    @property
    @abstractmethod
    def description(self) -> str:
        """What the base model is, in a sentence for `GET /v1/models`."""

    @property
    @abstractmethod
    def tuned_description(self) -> str:
        """The same for a model that was made of it."""

    @property
    def owned_by(self) -> str:
        """Who made the base model."""
        return "finetune-pricer"

    @property
    @abstractmethod
    def context(self) -> int:
        """How many tokens a prompt may have."""

    @property
    def environment(self) -> Mapping[str, str]:
        """Environment variables of the training process, such as the number of threads."""
        return {}

    @property
    def trains_alone(self) -> bool:
        """Whether one training uses the whole machine, so that jobs of such learners wait for each other."""
        return False

    @property
    def problem(self) -> str | None:
        """What keeps loaded models from answering, as a sentence without an end; None where nothing does."""
        return None

    @property
    def descriptors(self) -> Sequence[int]:
        """The file descriptors that lead to processes which answer, as far as there are some."""
        return ()

    def prepare(self) -> None:  # noqa: B027  most learners bring all that they need
        """Fetch and check the base model when the server starts; may take long.

        Raises:
            PricerError: The base model cannot be offered.
        """

    @abstractmethod
    def check(self, path: Path, *, fewest: int) -> None:
        """Raise `TrainingFileError` where a job could not train on a file, or validate on it.

        `read_rows` finds what is wrong by the protocol, also that there are fewer than `fewest` examples.
        """

    @abstractmethod
    def train(self, job: TrainingJob, report: Callable[[Report], None]) -> Mapping[str, str]:
        """Train a job to its end; return the files of its model, as `CheckpointSaved` has them.

        This happens in the training process. It may be killed at any moment, and is then called again with
        the same job: it goes on from what it saved in `job.folder`, and ends with the same model. It may
        report again what it reported before.

        A `PricerError` fails the job with its message, so that must hold no text of an example. Any other
        error fails it with the error's name alone.
        """

    @abstractmethod
    def load(self, files: Mapping[str, Path]) -> Model:
        """Load a model from its files, by the names that `train` gave them. May take long.

        Raises:
            PricerError: The model cannot be loaded here.
        """

    @abstractmethod
    def load_base(self) -> Model:
        """Load the base model itself, untrained. May take long."""

    def adopt(self, place: str) -> Mapping[str, Path]:  # noqa: ARG002  most learners take in none
        """Return the files of a model that was trained elsewhere, by the names that `load` gets them.

        Raises:
            PricerError: There is none, or it was trained on another base.
        """
        raise NotSupported("this base model takes in no models that were trained elsewhere")

    def close(self) -> None:  # noqa: B027  most learners hold nothing
        """Let go of what loaded models share, when the server stops; the learner may be used again."""


# Training


class _Frozen(BaseModel):
    # Checked strictly: these cross from one process to another.
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, strict=True, extra="forbid")


class RequestedHyperparameters(_Frozen):
    """The hyperparameters as they were requested; None leaves the choice to the learner."""

    n_epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None


class TrainingJob(_Frozen):
    """What to train."""

    training: Path
    """A JSONL file that `check` accepted."""
    validation: Path | None
    hyperparameters: RequestedHyperparameters
    seed: int
    folder: Path
    """The job's own folder. It outlives the training process, and is removed when the job has ended."""


class Metrics(_Frozen):
    """What a step measured; the `valid_` numbers only at the end of an epoch."""

    train_loss: float
    train_mean_token_accuracy: float | None = None
    valid_loss: float | None = None
    valid_mean_token_accuracy: float | None = None


class Note(_Frozen):
    """A sentence for the job's events; kept where no step has been reported yet."""

    kind: Literal["note"] = "note"
    message: str


class HyperparametersChosen(_Frozen):
    """The hyperparameters with which the job trains, and how many tokens it reads in all its epochs."""

    kind: Literal["hyperparameters"] = "hyperparameters"
    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float
    trained_tokens: int


class StepDone(_Frozen):
    """A step of training; steps are counted from 1, and reported in order."""

    kind: Literal["step"] = "step"
    step: int
    total_steps: int
    metrics: Metrics


class CheckpointSaved(_Frozen):
    """A model as it was after a reported step. The last step has no checkpoint but the job's own model."""

    kind: Literal["checkpoint"] = "checkpoint"
    step: int
    files: dict[str, str]
    """The path of each file inside the job's folder, by the name under which `load` gets it.

    The server removes these files once it has them, so training must not go on from them.
    """
    metrics: Metrics


Report = Note | HyperparametersChosen | StepDone | CheckpointSaved
"""What a learner reports while it trains."""


# Answering


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How replies are drawn."""

    n: int = 1
    """How many replies."""
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    """The same seed draws the same replies."""
    alternatives: int = 0
    """How many likely tokens are listed beside each token of a reply."""
    max_tokens: int | None = None
    """Tokens that a reply need not exceed; the server cuts longer ones."""
    stop: tuple[str, ...] = ()
    """Texts after which a reply need not go on; the server cuts it before the first of them."""


@dataclass(frozen=True, slots=True)
class SampledToken:
    """One token of a reply, how likely it was, and the likeliest tokens in its place, most likely first."""

    token: str
    logprob: float
    alternatives: list[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model says; the tokens put together are the text."""

    tokens: list[SampledToken]
    is_complete: bool = True
    """Whether the model ended it, and not a limit."""


class Model(ABC):
    """A loaded model. Its methods are called from several threads; dropping it frees what it holds."""

    is_quick: bool = False
    """Whether a reply takes about a millisecond, so that a request need not be handed to a thread."""

    @abstractmethod
    def count_tokens(self, messages: ChatMessages) -> int:
        """Return how many tokens of a prompt are billed."""

    @abstractmethod
    def reply(self, messages: ChatMessages, sampling: Sampling) -> Sequence[Reply]:
        """Return `sampling.n` replies.

        Raises:
            PricerError: The model cannot answer now, or not this; the message must hold no text of a prompt.
        """
