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
from typing import TYPE_CHECKING, Any, NamedTuple

from .._arguments import refuse, require_function, require_many, require_number, require_text, require_whole
from .._display import ShortRepr
from .._format import agree_on_currency, require_currency
from .._methods.duplicates import find_twin_groups, group_ids
from .._numbers import read_whole
from .._progress import track
from ..chat import ChatFormatter
from ..errors import EvaluationError, PriceNotFound, ServiceError
from ..items import SHOWN_FIELDS, Item, ItemDataset, require_item, require_items, require_price, require_set
from ..predict.conformal import Ranges
from ..predict.prediction import Prediction, Predictions, PricesMany
from ..prices import parse_price
from .baselines import Baseline, MedianBaseline, fit_available
from .evaluation import LEFT_OUT, Evaluation
from .measurement import Record, measure
from .metrics import LARGEST

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..items.cell_rules import ZeroIs
    from ..predict.predictor import Predictor
    from ..predict.range_groups import GroupCoverage

Answer = Prediction | float | str | None
"""What a pricing function may return for an item."""
PricingFunction = Callable[[Item], Any]
"""Any function from an item to an `Answer`."""

_WORKERS = 5
_ROWS = 10  # that a sentence names
_MANY_TWINS = 0.1
_FEWEST_GROUPS = 20
_NATURAL = "by what each item stands for in the natural mix"
_log = logging.getLogger("finetune_pricer")


@dataclass(frozen=True, kw_only=True, repr=False)
class Evaluator(ShortRepr):
    """Scores predictors, functions, and predictions made elsewhere.

    Args:
        size: How many items to draw; None takes all.
        seed: Seed of the drawing and of the intervals.
        baselines: Training items; simple methods fitted on them are scored beside every model, and their
            median price stands in for missing prices where models are compared, ranked or chosen.
        currency: ISO code of the items' prices; None takes what the items, the predictor's formatter and the
            baselines' items say, else USD. Whoever says another is refused: nothing is converted.
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
    beside: Sequence[Predictor | PricesMany | PricingFunction] = ()
    dollars_per_million: tuple[float, float] | None = None
    rounds: int = 2000
    workers: int = _WORKERS
    currency: str | None = None

    def __post_init__(self) -> None:
        if self.currency is not None:
            require_currency(self.currency)
        require_whole("size", self.size, or_none=True)
        require_whole("seed", self.seed)
        if self.baselines is not None:
            require_set(self.baselines, "baselines")
        require_many("beside", self.beside, "a list of predictors or functions")
        for model in self.beside:
            _require_model("a model in beside", model)
        if self.dollars_per_million is not None:
            _check_dollars(self.dollars_per_million)
        require_whole("rounds", self.rounds, low=1)
        require_whole("workers", self.workers)

    def evaluate(
        self,
        predictor: Predictor | PricesMany | PricingFunction,
        items: Sequence[Item],
        *,
        name: str | None = None,
        weights: Sequence[float] | None = None,
        groups: Sequence[Any] | npt.NDArray[Any] | None = None,
    ) -> Evaluation:
        """Ask for the price of each item and score the answers.

        Args:
            predictor: A `Predictor`, whatever else has `predict_many`, or any function from an item to a
                price, a text with a price, a `Prediction` or None. An exception in one item is one unscored
                item.
            items: Priced items.
            name: For tables and reports; without it, the model's or function's own name.
            weights: How much each item counts, at least 0. Without them all count the same; but items that
                `ItemDataset.sample` drew evenly count for what each `stands_for` in the natural mix.
            groups: A label for each item, equal for items that err alike, such as `audit(items).groups()`:
                intervals and tests then count groups, not items, as independent. Without labels, near-twins
                are looked for, and are groups where more than one item in ten has one among the items.

        Raises:
            DataError: The items, the predictor and the baselines name different currencies.
            InvalidItem: An item has no price to compare with; nothing was asked.
            EvaluationError: There are no items, or not one could be scored (`error.predictions` holds the
                answers); or the weights do not fit.
            ServiceError: The model does not exist or the key is refused.
        """
        _require_model("predictor", predictor)
        require_text("name", name, or_none=True)
        sample = self._draw(self._sample(items, weights, groups, predictor))
        sample.require_prices()
        sample = sample.with_twins()
        fields = _shown_fields(predictor)
        self._rivals.fit(fields)  # before anything is paid for: they may refuse their items
        try:
            evaluation = self._ask_and_score(name or _name_of(predictor), predictor, sample)
        except EvaluationError as error:
            if not (answered := len(error.predictions)):
                raise
            message = f"{error}; all {answered:,} answers are in `error.predictions`"
            raise EvaluationError(message, predictions=error.predictions) from error
        return self._with_baselines(evaluation, sample, fields)

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
            DataError: The items and the baselines name different currencies.
            InvalidItem: An item has no price to compare with.
            EvaluationError: There are more or fewer predictions than items, a prediction is another item's,
                or none could be scored.
        """
        if isinstance(items, Predictions):
            raise refuse("items", "items", items, "the items come first: score(items, predictions)")
        _require_sequence(items, "items")
        _require_sequence(predictions, "predictions")
        require_text("name", name)
        if len(items) != len(predictions):
            raise EvaluationError(
                f"{len(items):,} items but {len(predictions):,} predictions; give one for each"
            )
        if self.size is not None:
            raise EvaluationError(
                "size= draws items before they are asked about; slice items and predictions instead"
            )
        sample = self._sample(items, weights, groups)
        sample.require_prices()
        sample = sample.with_twins()
        evaluation = self._score(name, sample, [_to_answer(prediction) for prediction in predictions])
        return self._with_baselines(evaluation, sample)

    def draw(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return the items that `evaluate` asks about: all of them, or `size` drawn by the seed."""
        return self._draw(self._sample(items)).items

    def _sample(
        self,
        items: Sequence[Item],
        weights: Sequence[float] | None = None,
        groups: Sequence[Any] | npt.NDArray[Any] | None = None,
        predictor: object = None,
    ) -> _Sample:
        """Return all items; refuse what does not fit them, no items at all, and different currencies."""
        require_items(items)
        _require_sequence(items, "items")
        if not len(items):
            raise EvaluationError("there are no items to evaluate; hand in at least one")
        said = {"currency=": self.currency, "the items": getattr(items, "currency", None)}
        formatter, train = getattr(predictor, "formatter", None), self.baselines
        said |= {"the predictor": getattr(formatter, "currency", None)}
        said |= {"the baselines' items": getattr(train, "currency", None)}
        sample = _Sample(
            items, [1.0] * len(items), agree_on_currency(said), zero_is=getattr(items, "zero_is", None)
        )
        return sample.weigh(weights).group(groups)

    def _draw(self, sample: _Sample) -> _Sample:
        if self.size is None:
            return sample
        size = read_whole(self.size)
        if size is None or size < 1:
            raise EvaluationError(f"size must be at least 1, not {self.size!r}")
        if size >= len(sample.items):
            return sample
        total = len(sample.items)
        rows = sorted(random.Random(self.seed).sample(range(total), size))  # noqa: S311
        return sample.take(rows, f"{size:,} of {total:,} items, seed {self.seed}")

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
        records = tuple(_to_record(*row, sample.currency) for row in rows)
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
            currency=sample.currency,
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
        asked, answered = map(float, self.dollars_per_million)
        return (read * asked + written * answered) / 1e6

    def _with_baselines(
        self, evaluation: Evaluation, sample: _Sample, fields: tuple[str, ...] = SHOWN_FIELDS
    ) -> Evaluation:
        baselines, left_out = self._rivals.evaluate(sample, fields)
        return replace(evaluation, baselines=baselines, manifest={**evaluation.manifest, **left_out})

    @cached_property
    def _training_median(self) -> float | None:
        # Whatever fields the baselines see, their median is the same.
        if self.baselines is not None:
            return MedianBaseline.fit(self.baselines).price
        return next((one.price for one in self.beside if isinstance(one, MedianBaseline)), None)

    @cached_property
    def _rivals(self) -> _Rivals:
        return _Rivals(self)


class _Sample(NamedTuple):
    """Items to evaluate on, what they count, which err alike, and how they were drawn."""

    items: Sequence[Item]
    weights: Sequence[float]
    currency: str
    """ISO code of all prices."""
    groups: Sequence[int] | None = None
    drawn: str | None = None
    """In words; None where no items were left out."""
    zero_is: ZeroIs | None = None
    """What a price of 0 is, if somebody said so."""
    weighed: str | None = None
    """Where the weights come from, in words; None where all items count the same."""
    grouped: str | None = None
    """Where the groups come from, in words; None where each item stands for itself."""

    def require_prices(self) -> None:
        """Refuse an item without a price to compare with, and tell of prices of 0 that nobody explained."""
        for row, item in enumerate(self.items, start=1):
            require_item(item, row)
            require_price(item, "evaluating", row)
        if self.zeros:
            _log.warning("%s", self.zeros)

    @property
    def zeros(self) -> str:
        """A sentence on prices of 0 of which nobody said what they mean; empty where there are none."""
        rows = [row for row, item in enumerate(self.items, start=1) if item.price == 0]
        if not rows or self.zero_is == "price":
            return ""
        shown = ", ".join(map(str, rows[:_ROWS])) + (", ..." if len(rows) > _ROWS else "")
        return (
            f"{len(rows):,} of the items have a price of 0 (rows {shown}): read them with zero_is='unknown' "
            "if nobody knows their price, or zero_is='price' if they cost nothing"
        )

    def weigh(self, weights: Sequence[float] | None) -> _Sample:
        """Return it with weights; refuse those that do not fit. Without any, a sample may know its own."""
        if weights is not None:
            return self._replace(weights=_check_weights(self.items, weights), weighed="as told")
        stands_for = self.items.stands_for.tolist() if isinstance(self.items, ItemDataset) else [1.0]
        if len(set(stands_for)) == 1:  # a plain sample stands for its set as it is
            return self
        return self._replace(weights=stands_for, weighed=_NATURAL)

    def group(self, labels: Sequence[Any] | npt.NDArray[Any] | None) -> _Sample:
        """Return it with a group for each item; refuse labels that do not fit."""
        if labels is None:
            return self
        _require_sequence(labels, "groups")
        if len(labels) != len(self.items):
            raise EvaluationError(
                f"{len(self.items):,} items but {len(labels):,} groups; give a label for each"
            )
        return self._replace(groups=group_ids(labels).tolist(), grouped="as told")

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
    """Everything that an evaluator scores beside a model: fitted once, and asked once per set of items.

    The baselines see the same fields of an item as the model that they stand beside.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._fitted: dict[tuple[str, ...], tuple[tuple[Baseline, ...], dict[str, str]]] = {}
        self._evaluated: dict[object, tuple[tuple[Evaluation, ...], dict[str, str]]] = {}

    def fit(self, fields: tuple[str, ...]) -> tuple[Any, ...]:
        """Return the fitted baselines and the further models."""
        train = self._evaluator.baselines
        if fields not in self._fitted:
            self._fitted[fields] = ((), {}) if train is None else fit_available(train, fields)
        return (*self._fitted[fields][0], *self._evaluator.beside)

    def evaluate(
        self, sample: _Sample, fields: tuple[str, ...]
    ) -> tuple[tuple[Evaluation, ...], dict[str, str]]:
        """Return the evaluations on these items, and lines of the manifest on models that are left out."""
        models = self.fit(fields)
        if not models:
            return (), {}
        if (key := (sample.key, fields)) not in self._evaluated:
            self._evaluated[key] = self._evaluate(models, sample, self._fitted[fields][1])
        return self._evaluated[key]

    def _evaluate(
        self, models: Iterable[Any], sample: _Sample, missing: dict[str, str]
    ) -> tuple[tuple[Evaluation, ...], dict[str, str]]:
        evaluations, left_out = [], {f"{LEFT_OUT}{name}": why for name, why in missing.items()}
        for model in models:
            name = _name_of(model)
            try:
                evaluations.append(self._evaluator._ask_and_score(name, model, sample))  # noqa: SLF001
            except (EvaluationError, ServiceError) as error:
                # A base model that is not there or gives no price must not cost the evaluation beside it.
                _log.warning("%s is left out: %s", name, error)
                left_out[f"{LEFT_OUT}{name}"] = str(error)
        return tuple(evaluations), left_out


def _shown_fields(predictor: object) -> tuple[str, ...]:
    """Return what a model sees of an item; of what is no model of a formatter, the default."""
    formatter = getattr(predictor, "formatter", None)
    return tuple(formatter.fields) if isinstance(formatter, ChatFormatter) else SHOWN_FIELDS


def hash_rows(rows: Iterable[tuple[Any, ...]]) -> str:
    """Return a hash of rows: the same items with the same prices have the same hash."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr(row).encode())
    return digest.hexdigest()[:16]


def _require_model(name: str, model: object) -> None:
    hint = "FineTuneJob.predictor(formatter) or Predictor(client, model) makes one"
    if not isinstance(model, PricesMany) or isinstance(model, type):
        require_function(name, model, "a predictor, or a function from an item to a price", hint)


def _check_dollars(dollars: object) -> None:
    if not isinstance(dollars, list | tuple) or len(dollars) != 2:
        raise refuse("dollars_per_million", "two amounts, for tokens read and written", dollars)
    for amount in dollars:
        require_number("dollars for a million tokens", amount, low=0)


def _require_sequence(values: object, name: str) -> None:
    require_many(name, values, f"a sequence of {name}")
    if not hasattr(values, "__len__") or not hasattr(values, "__getitem__"):
        raise refuse(name, f"a sequence of {name}", values, f"list({name}) makes one")


def _check_weights(items: Sequence[Item], weights: Sequence[float]) -> Sequence[float]:
    _require_sequence(weights, "weights")
    if len(weights) != len(items):
        raise EvaluationError(f"{len(items):,} items but {len(weights):,} weights; give one for each")
    for row, weight in enumerate(weights, start=1):
        if isinstance(weight, str | bytes) or not hasattr(weight, "__float__"):
            raise refuse(f"row {row}: a weight", "a number", weight)
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


def _to_record(item: Item, answer: Answer, weight: float, group: int | None, currency: str) -> Record:
    price, text, unscored = _read(item, answer, currency)
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


def _read(item: Item, answer: Answer, currency: str) -> tuple[float | None, str | None, str | None]:
    """Return an answer's price, its text, and why there is no price."""
    if isinstance(answer, Prediction):
        if answer.item_id and answer.item_id != item.id:
            raise EvaluationError(
                f"the prediction for {answer.item_id!r} stands where item {item.id!r} is; keep the order"
            )
        return answer.price, answer.text, answer.error if answer.price is None else None
    if isinstance(answer, str):
        try:
            return parse_price(answer, currency), answer, None
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
    manifest |= {} if sample.currency == "USD" else {"currency": sample.currency}
    manifest |= {"prices of 0": sample.zeros} if sample.zeros else {}
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
    neighbors = getattr(formatter, "neighbors", None)
    near = {} if neighbors is None else {"neighbors in the prompt": f"{neighbors.k} of {len(neighbors):,}"}
    return near | {
        "model": str(getattr(predictor, "model", "")),
        "prompt hash": formatter.fingerprint,
        "reply form": formatter.reply,
        "solved examples in the prompt": str(len(formatter.shots)),
    }


def _name_of(function: Any) -> str:
    name = getattr(function, "name", None) or getattr(function, "model", None)
    return str(name or getattr(function, "__name__", None) or type(function).__name__)
