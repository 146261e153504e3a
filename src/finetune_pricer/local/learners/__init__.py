"""Base models: what each must be able to do, which there are, and the files that they train on."""

from .learner import (
    CHECKPOINTS_KEPT,
    END,
    ChatMessages,
    CheckpointSaved,
    HyperparametersChosen,
    Learner,
    Metrics,
    Model,
    Note,
    Reply,
    Report,
    RequestedHyperparameters,
    SampledToken,
    Sampling,
    StepDone,
    TrainingJob,
)
from .registry import LearnerSpec, describe_learner, load_bases, make_learner, read_base
from .training_file import FEWEST, read_rows

__all__ = [
    "CHECKPOINTS_KEPT",
    "END",
    "FEWEST",
    "ChatMessages",
    "CheckpointSaved",
    "HyperparametersChosen",
    "Learner",
    "LearnerSpec",
    "Metrics",
    "Model",
    "Note",
    "Reply",
    "Report",
    "RequestedHyperparameters",
    "SampledToken",
    "Sampling",
    "StepDone",
    "TrainingJob",
    "describe_learner",
    "load_bases",
    "make_learner",
    "read_base",
    "read_rows",
]
