"""What a job measured of itself, from wherever its service shows it, in one shape."""

from __future__ import annotations

import base64
import binascii
import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, overload

from ..errors import MissingExtra

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

    from .records import JobEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class JobMetric:
    """What was measured at one step; None where it was not measured."""

    step: int
    total_steps: int | None = None
    train_loss: float | None = None
    train_accuracy: float | None = None
    """Share of reply tokens that the model would have said itself."""
    valid_loss: float | None = None
    """On a few validation examples."""
    valid_accuracy: float | None = None
    full_valid_loss: float | None = None
    """On all validation examples."""

    def to_dict(self) -> dict[str, float]:
        """Return what was measured as a flat dict, for trackers and logs; what was not is left out."""
        return {name: float(value) for name, value in asdict(self).items() if value is not None}


_COLUMNS = [field.name for field in fields(JobMetric)]
# Services' names for the same numbers, in the order in which they are believed.
_NAMES = {
    "step": ("step", "ev_current_step", "step_number"),
    "total_steps": ("total_steps", "ev_total_steps"),
    "train_loss": ("train_loss", "training_loss", "ev_loss"),
    "train_accuracy": ("train_accuracy", "train_mean_token_accuracy"),
    "valid_loss": ("valid_loss", "validation_loss", "ev_eval_loss"),
    "valid_accuracy": ("valid_accuracy", "valid_mean_token_accuracy", "validation_mean_token_accuracy"),
    "full_valid_loss": ("full_valid_loss", "full_validation_loss"),
}
_SENTENCE = re.compile(
    r"Step (?P<step>\d+)(?:/(?P<total_steps>\d+))?: training loss=(?P<train_loss>[-\d.eE]+)"
    r"(?:, validation loss=(?P<valid_loss>[-\d.eE]+))?"
    r"(?:, full validation loss=(?P<full_valid_loss>[-\d.eE]+))?"
)


class JobMetrics(Sequence[JobMetric]):
    """A job's measurements in the order of their steps, each step once."""

    def __init__(self, metrics: Iterable[JobMetric]) -> None:
        by_step: dict[int, JobMetric] = {}
        for metric in metrics:
            known = {name: value for name, value in asdict(metric).items() if value is not None}
            by_step[metric.step] = replace(by_step.get(metric.step, metric), **known)
        self._metrics = tuple(by_step[step] for step in sorted(by_step))

    def to_frame(self) -> pd.DataFrame:
        """Return a frame with one row per step and one column per field of `JobMetric`."""
        import pandas as pd

        return pd.DataFrame([asdict(metric) for metric in self], columns=_COLUMNS)

    def plot(self) -> Figure:
        """Draw the losses over the steps.

        Raises:
            MissingExtra: Without the extra `plots`.
        """
        try:
            from plotly.graph_objects import Figure, Scatter
        except ImportError as error:
            raise MissingExtra("figures need plotly: pip install 'finetune-pricer[plots]'") from error
        figure = Figure(layout={"xaxis_title": "step", "yaxis_title": "loss"})
        for name in ("train_loss", "valid_loss", "full_valid_loss"):
            points = [(m.step, getattr(m, name)) for m in self if getattr(m, name) is not None]
            if points:
                steps, values = zip(*points, strict=True)
                figure.add_trace(
                    Scatter(x=steps, y=values, name=name.replace("_", " "), mode="lines+markers")
                )
        return figure

    @overload
    def __getitem__(self, index: int) -> JobMetric: ...
    @overload
    def __getitem__(self, index: slice) -> JobMetrics: ...
    def __getitem__(self, index: int | slice) -> JobMetric | JobMetrics:
        found = self._metrics[index]
        return JobMetrics(found) if isinstance(found, tuple) else found

    def __len__(self) -> int:
        return len(self._metrics)

    def __repr__(self) -> str:
        last = f", last {self[-1]}" if self else ""
        return f"JobMetrics({len(self):,} steps{last})"


def read_metric(values: Mapping[str, Any]) -> JobMetric | None:
    """Read one measurement under whatever names; None where it has no step."""
    found: dict[str, Any] = {}
    for ours, names in _NAMES.items():
        readable = (_number(values.get(name)) for name in names)
        # Azure writes -1 where nothing was measured, and no loss or share is below 0.
        found[ours] = next((value for value in readable if value is not None and value >= 0), None)
    if found["step"] is None:
        return None
    found["step"] = int(found["step"])
    found["total_steps"] = None if found["total_steps"] is None else int(found["total_steps"])
    return JobMetric(**found)


def read_event_metric(event: JobEvent) -> JobMetric | None:
    """Read the measurement in an event: its numbers, else its sentence."""
    metric = read_metric(event.data) if event.data else None
    if metric is None and (sentence := _SENTENCE.match(event.message)):
        metric = read_metric(sentence.groupdict())
    return metric


def read_metrics_file(content: bytes) -> list[JobMetric]:
    """Read a result file: a CSV with OpenAI's or Azure's header, plain or in base64; else nothing."""
    for text in (content, _decode_base64(content)):
        lines = text.decode("utf-8-sig", errors="replace").splitlines()
        if lines and "step" in next(csv.reader(lines[:1]), []):
            rows = (read_metric(row) for row in csv.DictReader(io.StringIO("\n".join(lines))))
            return [row for row in rows if row is not None]
    return []


def read_metrics_answer(answer: Any) -> list[JobMetric]:
    """Read a metrics endpoint: rows of measurements, or one series per measurement."""
    return [metric for row in _rows(answer) if (metric := read_metric(row)) is not None]


def _rows(answer: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(answer, list):
        yield from (row for row in answer if isinstance(row, dict))
    elif isinstance(answer, dict):
        series = {name: values for name, values in answer.items() if isinstance(values, list)}
        known = {name for names in _NAMES.values() for name in names}
        if known & series.keys():
            for index in range(max(map(len, series.values()))):
                yield {name: values[index] for name, values in series.items() if index < len(values)}
        else:
            for name in ("data", "metrics", "series"):
                yield from _rows(answer.get(name))


def _decode_base64(content: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(content.split()), validate=True)
    except binascii.Error:
        return b""


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
