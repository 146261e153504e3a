"""Scoring predictors, functions, and predictions made elsewhere."""

from __future__ import annotations

import hashlib
import logging
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from .._methods.duplicates import find_twin_groups, group_ids
from .._progress import track
from ..errors import EvaluationError, PriceNotFound, ServiceError
from ..items import Item, ItemDataset, require_price
from ..predict.conformal import Ranges
from ..predict.prediction import Prediction
from ..prices import parse_price
from .baselines import Baseline, MedianBaseline, fit_baselines
from .evaluation import Evaluation
from .measurement import Record, measure
from .metrics import LARGEST

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..predict.predictor import Predictor
    from ..predict.range_groups import GroupCoverage

Answer = Prediction | float | str | None
"""What a pricing function may return for an item."""
PricingFunction = Callable[[Item], Any]
"""Any function from an item to an `Answer`."""

_WORKERS = 5
_MANY_TWINS = 0.1
_FEWEST_GROUPS = 20
_NATURAL = "by what each item stands for in the natural mix"
_log = logging.getLogger("finetune_pricer")


@runtime_checkable
class PricesMany(Protocol):
    """Whatever prices many items at once, as `Predictor` and the baselines do."""

    def predict_many(self, items: Any) -> Sequence[Prediction]:
        """Return one prediction per item, in their order."""


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Scores predictors, functions, and predictions made elsewhere.

    Args:
        size: How many items to draw; None takes all.
        seed: Seed of the drawing and of the intervals.
        baselines: Training items; simple methods fitted on them are scored beside every model, and their
            median price stands in for missing prices where models are compared, ranked or chosen.
        beside: Further predictors or functions to score beside every model on the same items, such as
            those of `prompting_baselines`. They are asked once per set of items. One that cannot be asked, or
            returns no price, is left out, and the manifest says why.
        dollars_per_million: What a million tokens cost, read and written; without it dollars are unknown.
        rounds: Resamples of each interval.
        workers: Threads in which a plain function is called; 1 calls it in order.

    >>> from finetune_pricer import Evaluator, Item, ItemDataset
    >>> train = ItemDataset.from_items([Item(title=f"Mug {n}", price=5.0 + n % 3) for n in range(30)])
    >>> test = [Item(title=f"Mug {n}", price=5.0 + n % 3) for n in range(30, 60)]
    >>> evaluation = Evaluator(baselines=train).evaluate(lambda item: 7.50, test, name="always 7.50")
    >>> print(evaluation)
    MAE $1.50 (95% CI 1.19 to 1.80), n=30, 0 unscored
    >>> print(evaluation.baselines[0].name, evaluation.baselines[0])
    always the training median MAE $0.67 (95% CI 0.46 to 0.82), n=30, 0 unscored
    """

    size: int | None = None
    seed: int = 42
    baselines: ItemDataset | None = None
    beside: Sequence[Predictor | PricingFunction] = ()
    dollars_per_million: tuple[float, float] | None = None
    rounds: int = 2000
    workers: int = _WORKERS

    def evaluate(
        self,
        predictor: Predictor | PricingFunction,
        items: Sequence[Item],
        *,
        name: str | None = None,
        weights: Sequence[float] | None = None,
        groups: Sequence[Any] | npt.NDArray[Any] | None = None,
    ) -> Evaluation:
        """Ask for the price of each item and score the answers.

        Args:
            predictor: A `Predictor`, or any function from an item to a price, a text with a price, a
                `Prediction` or None. An exception in one item is one unscored item.
            items: Priced items.
            name: For tables and reports; without it, the model's or function's own name.
            weights: How much each item counts, at least 0. Without them all count the same; but items that
                `ItemDataset.sample` drew evenly count for what each `stands_for` in the natural mix.
            groups: A label for each item, equal for items that err alike, such as `audit(items).groups()`:
                intervals and tests then count groups, not items, as independent. Without labels, near-twins
                are looked for, and are groups where more than one item in ten has one among the items.

        Raises:
            InvalidItem: An item has no price to compare with; nothing was asked.
            EvaluationError: There are no items, or not one could be scored (`error.predictions` holds the
                answers); or the weights do not fit.
            ServiceError: The model does not exist or the key is refused.
        """
        sample = self._draw(_Sample.of(items, weights, groups)).with_twins()
        _require_priced(sample.items)
        self._rivals.fit()  # before anything is paid for: they may refuse their items
        try:
            evaluation = self._ask_and_score(name or _name_of(predictor), predictor, sample)
        except EvaluationError as error:
            if not (answered := len(error.predictions)):
                raise
            message = f"{error}; all {answered:,} answers are in `error.predictions`"
            raise EvaluationError(message, predictions=error.predictions) from error
        return self._with_baselines(evaluation, sample)

    def score(
        self,
        items: Sequence[Item],
        predictions: Sequence[Answer],
        *,
        name: str = "predictions",
        weights: Sequence[float] | None = None,
        groups: Sequence[Any] | npt.NDArray[Any] | None = None,
    ) -> Evaluation:
        """Score predictions made elsewhere, one per item, in the items' order; the rest as in `evaluate`.

        Raises:
            InvalidItem: An item has no price to compare with.
            EvaluationError: There are more or fewer predictions than items, a prediction is another item's,
                or none could be scored.
        """
        if len(items) != len(predictions):
            raise EvaluationError(
                f"{len(items):,} items but {len(predictions):,} predictions; give one for each"
            )
        if self.size is not None:
            raise EvaluationError(
                "size= draws items before they are asked about; slice items and predictions instead"
            )
        sample = _Sample.of(items, weights, groups).with_twins()
        _require_priced(items)
        evaluation = self._score(name, sample, [_to_answer(prediction) for prediction in predictions])
        return self._with_baselines(evaluation, sample)

    def draw(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return the items that `evaluate` asks about: all of them, or `size` drawn by the seed."""
        return self._draw(_Sample.of(items)).items

    def _draw(self, sample: _Sample) -> _Sample:
        if self.size is None or self.size >= len(sample.items):
            return sample
        if self.size < 1:
            raise EvaluationError(f"size must be at least 1, not {self.size}")
        total = len(sample.items)
        rows = sorted(random.Random(self.seed).sample(range(total), self.size))  # noqa: S311
        return sample.take(rows, f"{self.size:,} of {total:,} items, seed {self.seed}")

    def _ask_and_score(
        self, name: str, predictor: PricesMany | PricingFunction, sample: _Sample
    ) -> Evaluation:
        began = time.perf_counter()
        answers: Sequence[Answer]
        if isinstance(predictor, PricesMany):
            answers = predictor.predict_many(sample.items)
        else:
            answers = self._call_in_threads(predictor, sample.items)
        seconds = time.perf_counter() - began
        try:
            evaluation = self._score(name, sample, answers)
        except EvaluationError as error:
            error.predictions = answers
            raise
        manifest = {**evaluation.manifest, **_describe_prompt(predictor)}
        groups = _measure_ranges(predictor, sample.items, answers)
        return replace(evaluation, seconds=seconds, manifest=manifest, range_groups=groups)

    def _call_in_threads(self, function: PricingFunction, items: Sequence[Item]) -> list[Answer]:
        with ThreadPoolExecutor(max(1, self.workers)) as pool:
            answers = pool.map(partial(_call, function), items)
            return list(track(answers, total=len(items), doing="evaluating"))

    def _score(self, name: str, sample: _Sample, answers: Sequence[Answer]) -> Evaluation:
        groups: Sequence[int | None] = sample.groups or [None] * len(sample.items)
        rows = zip(sample.items, answers, sample.weights, groups, strict=True)
        records = tuple(_to_record(*row) for row in rows)
        if all(record.price is None for record in records):
            raise EvaluationError(
                f"not one of {len(records):,} items could be scored; the first: {records[0].unscored}"
            )
        metrics: dict[str, Any] = measure(records, seed=self.seed, rounds=self.rounds)
        read, written = _sum_tokens(answers)
        return Evaluation(
            name=name,
            records=records,
            sample=sample.drawn,
            seed=self.seed,
            prompt_tokens=read,
            completion_tokens=written,
            dollars=self._cost_of(read, written),
            training_median=self._training_median,
            manifest=_describe(name, records, answers, sample, self.seed),
            **metrics,
        )

    def _cost_of(self, read: int | None, written: int | None) -> float | None:
        if self.dollars_per_million is None or read is None or written is None:
            return None
        return (read * self.dollars_per_million[0] + written * self.dollars_per_million[1]) / 1e6

    def _with_baselines(self, evaluation: Evaluation, sample: _Sample) -> Evaluation:
        baselines, left_out = self._rivals.evaluate(sample)
        return replace(evaluation, baselines=baselines, manifest={**evaluation.manifest, **left_out})

    @cached_property
    def _training_median(self) -> float | None:
        medians = [one.price for one in self._rivals.fit() if isinstance(one, MedianBaseline)]
        return medians[0] if medians else None

    @cached_property
    def _rivals(self) -> _Rivals:
        return _Rivals(self)


class _Sample(NamedTuple):
    """Items to evaluate on, what they count, which err alike, and how they were drawn."""

    items: Sequence[Item]
    weights: Sequence[float]
    groups: Sequence[int] | None = None
    drawn: str | None = None
    """In words; None where no items were left out."""
    weighed: str | None = None
    """Where the weights come from, in words; None where all items count the same."""
    grouped: str | None = None
    """Where the groups come from, in words; None where each item stands for itself."""

    @classmethod
    def of(
        cls,
        items: Sequence[Item],
        weights: Sequence[float] | None = None,
        groups: Sequence[Any] | npt.NDArray[Any] | None = None,
    ) -> _Sample:
        """Return all items; refuse weights and groups that do not fit, and an empty sequence."""
        if not len(items):
            raise EvaluationError("there are no items to evaluate; hand in at least one")
        stands_for = items.stands_for.tolist() if isinstance(items, ItemDataset) else [1.0]
        weighed = None
        if weights is not None:
            weights, weighed = _check_weights(items, weights), "as told"
        elif len(set(stands_for)) > 1:  # else it is a plain sample, which stands for its set as it is
            weights, weighed = stands_for, _NATURAL
        if groups is None:
            return cls(items, weights or [1.0] * len(items), weighed=weighed)
        if len(groups) != len(items):
            raise EvaluationError(f"{len(items):,} items but {len(groups):,} groups; give a label for each")
        numbers = group_ids(groups).tolist()
        return cls(items, weights or [1.0] * len(items), numbers, weighed=weighed, grouped="as told")

    def take(self, rows: Sequence[int], drawn: str) -> _Sample:
        """Return the sample of these rows."""
        return self._replace(
            items=[self.items[row] for row in rows],
            weights=[self.weights[row] for row in rows],
            groups=None if self.groups is None else [self.groups[row] for row in rows],
            drawn=drawn,
        )

    def with_twins(self) -> _Sample:
        """Return it with near-twins as groups, where it has no groups and more than a tenth have a twin."""
        if self.groups is not None:
            return self
        numbers = find_twin_groups([item.text for item in self.items]).tolist()
        members = Counter(numbers)
        twins = sum(members[number] > 1 for number in numbers)
        if twins <= _MANY_TWINS * len(numbers):
            return self
        said = f"{twins:,} of {len(numbers):,} items have a near-twin among them"
        if len(members) < _FEWEST_GROUPS:
            few = f"{len(members):,} groups are too few to draw from, so the intervals may be far too short"
            return self._replace(grouped=f"{said}; {few}")
        return self._replace(
            groups=numbers, grouped=f"{said}: intervals and tests count {len(members):,} groups"
        )

    @property
    def key(self) -> str:
        """The same for the same items with the same prices and weights."""
        rows = zip(self.items, self.weights, self.groups or repeat(None), strict=False)
        return hash_rows((item.id, item.price, weight, group) for item, weight, group in rows)


class _Rivals:
    """Everything that an evaluator scores beside a model: fitted once, and asked once per set of items."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._fitted: tuple[Baseline, ...] | None = None
        self._evaluated: dict[str, tuple[tuple[Evaluation, ...], dict[str, str]]] = {}

    def fit(self) -> tuple[Any, ...]:
        """Return the fitted baselines and the further models."""
        if self._fitted is None:
            train = self._evaluator.baselines
            self._fitted = () if train is None else fit_baselines(train)
        return (*self._fitted, *self._evaluator.beside)

    def evaluate(self, sample: _Sample) -> tuple[tuple[Evaluation, ...], dict[str, str]]:
        """Return the evaluations on these items, and lines of the manifest on models that are left out."""
        models = self.fit()
        if not models:
            return (), {}
        if (key := sample.key) not in self._evaluated:
            self._evaluated[key] = self._evaluate(models, sample)
        return self._evaluated[key]

    def _evaluate(
        self, models: Iterable[Any], sample: _Sample
    ) -> tuple[tuple[Evaluation, ...], dict[str, str]]:
        evaluations, left_out = [], {}
        for model in models:
            name = _name_of(model)
            try:
                evaluations.append(self._evaluator._ask_and_score(name, model, sample))  # noqa: SLF001
            except (EvaluationError, ServiceError) as error:
                # A base model that is not there or gives no price must not cost the evaluation beside it.
                _log.warning("%s is left out: %s", name, error)
                left_out[f"left out: {name}"] = str(error)
        return tuple(evaluations), left_out


def hash_rows(rows: Iterable[tuple[Any, ...]]) -> str:
    """Return a hash of rows: the same items with the same prices have the same hash."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr(row).encode())
    return digest.hexdigest()[:16]


def _require_priced(items: Iterable[Item]) -> None:
    for row, item in enumerate(items, start=1):
        require_price(item, "evaluating", row)


def _check_weights(items: Sequence[Item], weights: Sequence[float]) -> Sequence[float]:
    if len(weights) != len(items):
        raise EvaluationError(f"{len(items):,} items but {len(weights):,} weights; give one for each")
    numbers = [float(weight) for weight in weights]
    for row, weight in enumerate(numbers, start=1):
        if not (math.isfinite(weight) and weight >= 0):
            raise EvaluationError(f"row {row}: a weight must be finite and at least 0, not {weight!r}")
    return numbers


def _call(function: PricingFunction, item: Item) -> Answer:
    try:
        value = function(item)
    except Exception as error:  # noqa: BLE001 - a user's function may raise anything
        return _no_price_because_of(error)
    return _to_answer(value)


def _to_answer(value: Any) -> Answer:
    """Return a value as an answer; what cannot be one is an answer without a price that says why."""
    if value is None or isinstance(value, str | Prediction):
        return value
    if isinstance(value, bool) or type(value).__name__ in {"bool", "bool_"}:
        return _no_price_because_of(
            TypeError("a pricing function must give a price, a text, a Prediction or None, not true or false")
        )
    try:
        return float(value)
    except Exception as error:  # noqa: BLE001 - an object of a user's may raise anything
        return _no_price_because_of(error)


def _no_price_because_of(error: Exception) -> Prediction:
    return Prediction(item_id="", price=None, error=f"{type(error).__name__}: {error}")


def _to_record(item: Item, answer: Answer, weight: float, group: int | None) -> Record:
    price, text, unscored = _read(item, answer)
    if price is not None and not math.isfinite(price):
        price, unscored = None, f"not a finite price: {price}"
    if price is not None and abs(price) > LARGEST:
        price, unscored = None, f"no amount of money: {price:g}"
    return Record(
        item_id=item.id,
        label=item.label,
        category=item.category,
        truth=require_price(item, "evaluating"),
        price=price,
        low=answer.low if isinstance(answer, Prediction) else None,
        high=answer.high if isinstance(answer, Prediction) else None,
        weight=weight,
        group=group,
        text=text,
        unscored=unscored,
    )


def _read(item: Item, answer: Answer) -> tuple[float | None, str | None, str | None]:
    """Return an answer's price, its text, and why there is no price."""
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


def _sum_tokens(answers: Iterable[Answer]) -> tuple[int | None, int | None]:
    usages = [answer.usage for answer in answers if isinstance(answer, Prediction)]
    read = sum(usage.prompt_tokens for usage in usages)
    written = sum(usage.completion_tokens for usage in usages)
    # No model answers without reading a token: all zeros are a service that does not count, or no service.
    return (read, written) if read else (None, None)


def _describe(
    name: str, records: Sequence[Record], answers: Iterable[Answer], sample: _Sample, seed: int
) -> dict[str, str]:
    """Return the manifest of an evaluation."""
    from importlib.metadata import version  # brings the whole email package

    manifest = {
        "evaluated": datetime.now(UTC).isoformat(timespec="seconds"),
        "finetune-pricer": version("finetune-pricer"),
        "python": ".".join(map(str, sys.version_info[:3])),
        "model": name,
        "items": sample.drawn or f"all {len(records):,}",
        "items hash": hash_rows((record.item_id, record.truth) for record in records),
        "seed": str(seed),
    }
    origins = {"weights": sample.weighed, "groups": sample.grouped}
    manifest |= {name: said for name, said in origins.items() if said}
    decodings = sorted({answer.decoding for answer in answers if isinstance(answer, Prediction)})
    return manifest | ({"decoding": ", ".join(decodings)} if decodings else {})


def _measure_ranges(
    predictor: Any, items: Sequence[Item], answers: Sequence[Answer]
) -> tuple[GroupCoverage, ...]:
    ranges = getattr(predictor, "ranges", None)
    predictions = [answer for answer in answers if isinstance(answer, Prediction)]
    if not isinstance(ranges, Ranges) or len(predictions) < len(items):
        return ()
    return ranges.measure(predictions, items)


def _describe_prompt(predictor: Any) -> dict[str, str]:
    formatter = getattr(predictor, "formatter", None)
    if formatter is None:
        return {}
    # The prompt itself stays out of reports; its hash tells whether two evaluations asked the same.
    return {
        "model": str(getattr(predictor, "model", "")),
        "prompt hash": formatter.fingerprint,
        "reply form": formatter.reply,
        "solved examples in the prompt": str(len(formatter.shots)),
    }


def _name_of(function: Any) -> str:
    name = getattr(function, "name", None) or getattr(function, "model", None)
    return str(name or getattr(function, "__name__", None) or type(function).__name__)
