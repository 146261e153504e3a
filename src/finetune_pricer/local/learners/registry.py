"""Which learner trains which base model, by name."""

from __future__ import annotations

import dataclasses
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import orjson
from pydantic import BaseModel, ConfigDict

from ...errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .learner import Learner


class LearnerSpec(BaseModel):
    """What another process needs to make a learner again."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, strict=True, extra="forbid")

    path: str
    """Module and class, as `package.module:Class`."""
    options: dict[str, Any]
    """The fields of the learner."""


_LORA = "finetune_pricer.local.learners.lora:LoraLearner"
_SPARSE = "finetune_pricer.local.learners.sparse:SparseLearner"
_BUILT_IN = {
    "pricer-base": LearnerSpec(path=_SPARSE, options={"hidden": 32}),
    "pricer-base-mini": LearnerSpec(path=_SPARSE, options={"hidden": 8}),
}


def load_bases(more: Mapping[str, Learner]) -> dict[str, Learner]:
    """Return the base models that come with the server, and more, by name."""
    return {name: make_learner(spec) for name, spec in _BUILT_IN.items()} | dict(more)


def read_base(base: Learner | str) -> Learner:
    """Return the learner of a base model that may be given as text: an open language model and its options.

    Raises:
        DataError: There is no such option, or its value is of the wrong kind.
    """
    if not isinstance(base, str):
        return base
    module, _, name = _LORA.partition(":")
    learner: Learner = getattr(import_module(module), name).from_text(base)
    return learner


def make_learner(spec: LearnerSpec) -> Learner:
    """Return the learner that a spec describes; its module is imported here."""
    module, _, name = spec.path.partition(":")
    learner: Learner = getattr(import_module(module), name)(**spec.options)
    return learner


def describe_learner(learner: Learner) -> LearnerSpec:
    """Return the spec of a learner.

    Raises:
        DataError: A training process could not make the learner again.
    """
    kind = type(learner)
    if kind.__module__ == "__main__" or "." in kind.__qualname__:
        raise DataError(
            f"the learner {kind.__qualname__!r} cannot be imported by a training process; "
            "define its class at the top of a module"
        )
    if not dataclasses.is_dataclass(learner):
        raise DataError(f"the learner {kind.__qualname__!r} is not a dataclass; make it one")
    options = {
        field.name: getattr(learner, field.name) for field in dataclasses.fields(learner) if field.init
    }
    try:
        orjson.dumps(options)
    except orjson.JSONEncodeError as error:
        raise DataError(
            f"the learner {kind.__qualname__!r} has a field that JSON cannot hold ({error}); "
            "its fields are sent to a training process as JSON"
        ) from error
    return LearnerSpec(path=f"{kind.__module__}:{kind.__qualname__}", options=options)
