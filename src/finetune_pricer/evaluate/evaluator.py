"""How wrong are the prices: every mean with its interval, its n, and what could not be scored."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._progress import track
from ..errors import EvaluationError, PriceNotFound
from ..items import Item, ItemDataset, require_price
from ..predict.predictor import Prediction, Predictor
from ..prices import parse_price
from .baselines import MedianBaseline

if TYPE_CHECKING:
    import os

    import numpy as np
    import numpy.typing as npt
    import pandas as pd

Answer = Prediction | float | str | None
"""What a pricing function may give for an item."""
PricingFunction = Callable[[Item], Any]

_MANY_UNSCORED = 0.05
_WORKERS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A number with its 95 % interval and how many items it was taken from. `float(metric)` is its value."""

    value: float
    low: float
    """Lower end of the 95 % bootstrap interval; `nan` for fewer than two items."""
    high: float
    n: int

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        interval = "unknown" if math.isnan(self.low) else f"{self.low:,.2f} to {self.high:,.2f}"
        return f"{self.value:,.2f} (95% CI {interval})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One item's truth beside what was said about it."""

    item_id: str
    label: str
    category: str | None
    truth: float
    """Dollars."""
    price: float | None
    """Dollars; None when unscored."""
    text: str | None = None
    """The reply, where there was one."""
    unscored: str | None = None
    """Why there is no price to score."""

    @property
    def error(self) -> float | None:
        """Predicted minus true price in dollars."""
        return None if self.price is None else self.price - self.truth


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How wrong a pricing function was on some items. `str()` says it in one line.

    What could not be scored is counted in `unscored` and enters no metric.
    """

    name: str
    records: tuple[Record, ...]
    mae: Metric
    """Mean absolute error, dollars."""
    median_absolute_error: Metric
    """Dollars."""
    rmse: Metric
    """Root mean squared error, dollars."""
    rmsle: Metric
    """Root mean squared error of log(1 + price)."""
    r2: Metric
    """Share of the variance explained; 1 is perfect."""
    green: Metric
    """Share of guesses within $40 or 20 %, by the course's rule."""
    orange: Metric
    """Share of the rest within $80 or 40 %."""
    red: Metric
    """Share of all others."""
    sample: str | None = None
    """How the items were drawn, where not all were taken."""
    baselines: tuple[Evaluation, ...] = ()
    """What simpler methods do on the same items."""

    @property
    def n(self) -> int:
        """How many items were scored."""
        return self.mae.n

    @property
    def unscored(self) -> int:
        """How many items were not."""
        return len(self.records) - self.n

    @property
    def warning(self) -> str | None:
        """A sentence when so many items are unscored that the metrics may describe the easy ones only."""
        share = self.unscored / len(self.records)
        return f"{share:.0%} of the items are unscored" if share > _MANY_UNSCORED else None

    def __str__(self) -> str:
        warning = f"; WARNING: {self.warning}" if self.warning else ""
        return f"MAE ${self.mae}, n={self.n}, {self.unscored} unscored{warning}"

    def to_frame(self) -> pd.DataFrame:
        """Give one row per item: the fields of `Record` and `error` (dollars)."""
        import pandas as pd

        names = list(Record.__dataclass_fields__)
        return pd.DataFrame(
            [
                {name: getattr(record, name) for name in names} | {"error": record.error}
                for record in self.records
            ],
            columns=[*names, "error"],
        )

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write a report that needs no network: headline, baselines, predicted against actual, running error.

        Raises:
            MissingExtra: plotly is not installed.
            FileAccessError: The path cannot be written; what stood there stays.
        """
        from .report import write_html

        write_html(self, path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluator:
    """Scores predictors, functions, and predictions made elsewhere.

    Args:
        size: How many items to draw; None takes all.
        seed: Of the drawing and of the intervals.
        baselines: Training items; simple methods fitted on them are scored beside every model.
        workers: Threads in which a plain function is called; 1 calls it in order.
    """

    size: int | None = None
    seed: int = 42
    baselines: ItemDataset | None = None
    workers: int = _WORKERS

    def evaluate(
        self, predictor: Predictor | PricingFunction, items: Sequence[Item], *, name: str | None = None
    ) -> Evaluation:
        """Ask for the price of each item and score what comes.

        Args:
            predictor: A `Predictor`, or any function from an item to a price, a text with a price, a
                `Prediction` or None. An exception in one item is one unscored item.
            items: Priced items.
            name: For tables and reports; else the model's or function's own.

        Raises:
            InvalidItem: An item has no price to compare with; nothing was asked.
            EvaluationError: No items, or not one could be scored.
            ServiceError: The model does not exist or the key is refused.
        """
        chosen, sample = self._drawn(items)
        _require_priced(chosen)
        answers: Sequence[Answer]
        if isinstance(predictor, Predictor):
            answers, found_name = predictor.predict_many(chosen), predictor.model
        else:
            answers, found_name = self._called(predictor, chosen), _name_of(predictor)
        return self._evaluation(name or found_name, chosen, answers, sample)

    def score(
        self, items: Sequence[Item], predictions: Sequence[Answer], *, name: str = "predictions"
    ) -> Evaluation:
        """Score predictions made elsewhere, one per item, in the items' order.

        Raises:
            InvalidItem: An item has no price to compare with.
            EvaluationError: Their numbers differ, a prediction is another item's, or none could be scored.
        """
        if len(items) != len(predictions):
            raise EvaluationError(
                f"{len(items):,} items but {len(predictions):,} predictions; give one for each"
            )
        if self.size is not None:
            raise EvaluationError(
                "size= draws items before they are asked about; slice items and predictions instead"
            )
        _require_priced(items)
        return self._evaluation(name, items, predictions, None)

    def _drawn(self, items: Sequence[Item]) -> tuple[Sequence[Item], str | None]:
        if self.size is None or self.size >= len(items):
            return items, None
        index = sorted(random.Random(self.seed).sample(range(len(items)), self.size))  # noqa: S311
        return [items[at] for at in index], f"{self.size:,} of {len(items):,} items, seed {self.seed}"

    def _called(self, function: PricingFunction, items: Sequence[Item]) -> list[Answer]:
        from concurrent.futures import ThreadPoolExecutor

        def call(item: Item) -> Answer:
            try:
                return _as_answer(function(item))
            except Exception as error:  # noqa: BLE001 - a user's function may raise anything
                return Prediction(item_id=item.id, price=None, error=f"{type(error).__name__}: {error}")

        with ThreadPoolExecutor(max(1, self.workers)) as pool:
            return list(track(pool.map(call, items), total=len(items), doing="evaluating"))

    def _evaluation(
        self, name: str, items: Sequence[Item], answers: Sequence[Answer], sample: str | None
    ) -> Evaluation:
        if not items:
            raise EvaluationError("there are no items to evaluate")
        records = tuple(_record(item, answer) for item, answer in zip(items, answers, strict=True))
        if all(record.price is None for record in records):
            raise EvaluationError(
                f"not one of {len(records):,} items could be scored; the first: {records[0].unscored}"
            )
        beside: tuple[Evaluation, ...] = ()
        if self.baselines is not None:
            median = MedianBaseline.fit(self.baselines)
            beside = (
                self._measured(median.name, tuple(_record(item, median(item)) for item in items), sample),
            )
        return self._measured(name, records, sample, beside)

    def _measured(
        self,
        name: str,
        records: tuple[Record, ...],
        sample: str | None,
        baselines: tuple[Evaluation, ...] = (),
    ) -> Evaluation:
        import numpy as np

        scored = [(record.truth, record.price) for record in records if record.price is not None]
        truth, price = np.array(scored, dtype=np.float64).T
        metrics = _metrics(truth, price, self.seed)
        return Evaluation(name=name, records=records, sample=sample, baselines=baselines, **metrics)


def _metrics(truth: npt.NDArray[np.float64], price: npt.NDArray[np.float64], seed: int) -> dict[str, Any]:
    from . import metrics

    functions: dict[str, metrics.MetricFunction] = {
        "mae": metrics.mean_absolute_error,
        "median_absolute_error": metrics.median_absolute_error,
        "rmse": metrics.root_mean_squared_error,
        "rmsle": metrics.root_mean_squared_log_error,
        "r2": metrics.r2,
        "green": metrics.green_share,
        "orange": metrics.orange_share,
        "red": metrics.red_share,
    }
    intervals = metrics.bootstrap_intervals(functions, truth, price, seed=seed)
    return {
        name: Metric(
            value=float(function(truth, price)),
            low=intervals[name][0],
            high=intervals[name][1],
            n=int(truth.size),
        )
        for name, function in functions.items()
    }


def _require_priced(items: Iterable[Item]) -> None:
    for row, item in enumerate(items, start=1):
        require_price(item, "evaluating", row)


def _as_answer(value: Any) -> Answer:
    if value is None or isinstance(value, str | Prediction):
        return value
    if isinstance(value, bool):
        raise TypeError(
            "a pricing function must give a price, a text, a Prediction or None, not true or false"
        )
    return float(value)


def _record(item: Item, answer: Answer) -> Record:
    price, text, unscored = _read(item, answer)
    if price is not None and not math.isfinite(price):
        price, unscored = None, f"not a finite price: {price}"
    return Record(
        item_id=item.id,
        label=item.label,
        category=item.category,
        truth=require_price(item, "evaluating"),
        price=price,
        text=text,
        unscored=unscored,
    )


def _read(item: Item, answer: Answer) -> tuple[float | None, str | None, str | None]:
    if isinstance(answer, Prediction):
        if answer.item_id and answer.item_id != item.id:
            raise EvaluationError(
                f"the prediction for {answer.item_id!r} stands where item {item.id!r} is; keep the order"
            )
        return answer.price, answer.text, answer.error if answer.price is None else None
    if isinstance(answer, str):
        try:
            return parse_price(answer), answer, None
        except PriceNotFound as error:
            return None, answer, str(error)
    if answer is None:
        return None, None, "no price was given"
    return float(answer), None, None


def _name_of(function: PricingFunction) -> str:
    name = getattr(function, "name", None) or getattr(function, "__name__", None)
    return str(name or type(function).__name__)
