"""A job's losses as a drawing, and a word on what they show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    Points = Sequence[tuple[int, float]]

WIDTH, HEIGHT = 330, 100
_NEAR = 4  # steps on either side that a point is the mean of: the loss of a single small batch jumps
_WORSE = 1.02  # of its lowest: from there on a validation loss is no longer noise
_FLAT, _FELL = 0.95, 0.8  # of its first value: what has hardly fallen, and what has


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The losses of a job, as points of a drawing `WIDTH` wide and `HEIGHT` high."""

    training: list[tuple[float, float]]
    validation: list[tuple[float, float]]
    low: float
    high: float
    last_training_loss: float
    last_validation_loss: float | None
    advice: str | None
    """What the losses say about the training, where they say something."""

    @classmethod
    def from_steps(cls, steps: Sequence[dict[str, Any]]) -> Curve | None:
        """Return the curve of a job's steps, or None where there are fewer than two."""
        if len(steps) < 2:
            return None
        losses = [step["train_loss"] for step in steps]
        near = [losses[max(0, place - _NEAR) : place + _NEAR + 1] for place in range(len(losses))]
        training = [(step["step"], sum(part) / len(part)) for step, part in zip(steps, near, strict=True)]
        validation = [(step["step"], step["valid_loss"]) for step in steps if "valid_loss" in step]
        shown = [loss for _, loss in [*training, *validation]]
        low, high = min(shown), max(shown)
        margin = (high - low) / 20 or 0.5  # so that no curve lies on the frame
        across, down = WIDTH / steps[-1]["total_steps"], HEIGHT / (high - low + 2 * margin)

        def place(points: Points) -> list[tuple[float, float]]:
            return [
                (round(across * step, 1), round(down * (high + margin - loss), 1)) for step, loss in points
            ]

        return cls(
            training=place(training),
            validation=place(validation),
            low=low,
            high=high,
            last_training_loss=training[-1][1],
            last_validation_loss=validation[-1][1] if validation else None,
            advice=_advise(training, validation),
        )


def _advise(training: Points, validation: Points) -> str | None:
    if len(validation) < 2:
        return None
    best_step, best = min(validation, key=lambda point: point[1])
    last_step, last = validation[-1]
    if best_step < last_step and last > _WORSE * best:
        return (
            f"The validation loss was lowest at step {best_step:,} ({best:.2f}): after that the model "
            "learned its examples by heart. Use a checkpoint near that step, fewer epochs, or more examples."
        )
    has_fallen = training[-1][1] < _FELL * training[0][1]
    if has_fallen and last > _FLAT * validation[0][1]:
        return (
            "The training loss falls and the validation loss does not: more examples would help, more epochs "
            "would not."
        )
    return None
