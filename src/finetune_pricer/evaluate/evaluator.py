"""Scoring predictors, functions, and predictions made elsewhere."""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from .._progress import track
from ..errors import EvaluationError, PriceNotFound, ServiceError
from ..items import Item, ItemDataset, require_price
from ..predict.prediction import Prediction
from ..predict.predictor import Predictor  # noqa: TC001 - in an alias that is read at run time
from ..prices import parse_price

if TYPE_CHECKING:  # they cost a tenth of importing all public names, and are needed when all is answered
    from .evaluation import Evaluation
    from .measurement import Record

Answer = Prediction | float | str | None
"""What a pricing function may give for an item."""
PricingFunction = Callable[[Item], Any]

_WORKERS = 5
_Company = tuple[tuple["Evaluation", ...], dict[str, str]]


@runtime_checkable
class PricesMany(Protocol):
    """Whatever prices many items at once, as `Predictor` and the baselines do."""

    def predict_many(self, items: Any) -> Sequence[Prediction]:
        """Give one prediction per item, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluator:
    """Scores predictors, functions, and predictions made elsewhere.

    Args:
        size: How many items to draw; None takes all.
        seed: Of the drawing and of the intervals.
        baselines: Training items; simple methods fitted on them are scored beside every model.
        beside: Further predictors or functions to score beside every model on the same items, such as
            those of `prompting_baselines`. They are asked once per set of items; one that cannot be asked, or
            gives no price, is left out, and the manifest says why.
        dollars_per_million: What a million tokens cost, read and written; without it dollars are unknown.
        rounds: Resamples of each interval.
        workers: Threads in which a plain function is called; 1 calls it in order.
    """

    size: int | None = None
    seed: int = 42
    baselines: ItemDataset | None = None
    beside: Sequence[Predictor | PricingFunction] = ()
    dollars_per_million: tuple[float, float] | None = None
    rounds: int = 2000
    workers: int = _WORKERS
    _scored: dict[str, _Company] = field(default_factory=dict, init=False, repr=False, compare=False)
    _fitted: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    def evaluate(
        self,
        predictor: Predictor | PricingFunction,
        items: Sequence[Item],
        *,
        name: str | None = None,
        weights: Sequence[float] | None = None,
    ) -> Evaluation:
        """Ask for the price of each item and score what comes.

        Args:
            predictor: A `Predictor`, or any function from an item to a price, a text with a price, a
                `Prediction` or None. An exception in one item is one unscored item.
            items: Priced items.
            name: For tables and reports; else the model's or function's own.
            weights: How much each item counts, at least 0; else all count the same.

        Raises:
            InvalidItem: An item has no price to compare with; nothing was asked.
            EvaluationError: No items, or not one could be scored (`error.predictions` holds what was
                answered); or the weights do not fit.
            ServiceError: The model does not exist or the key is refused.
        """
        each = _weights_of(items, weights)
        _require_some(items)
        chosen, kept, sample = self._drawn(items, each)
        _require_priced(chosen)
        self._fit_baselines()  # before anything is paid for: they may refuse their items
        try:
            found = self._asked(name or _name_of(predictor), predictor, chosen, kept, sample)
        except EvaluationError as error:
            if not (answered := len(error.predictions)):
                raise
            message = f"{error}; all {answered:,} answers are in `error.predictions`"
            raise EvaluationError(message, predictions=error.predictions) from error
        return self._with_company(found, chosen, kept)

    def score(
        self,
        items: Sequence[Item],
        predictions: Sequence[Answer],
        *,
        name: str = "predictions",
        weights: Sequence[float] | None = None,
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
        each = _weights_of(items, weights)
        _require_some(items)
        _require_priced(items)
        answers = [_safely(partial(_same, answer)) for answer in predictions]
        found = self._measured(name, items, each, answers, None)
        return self._with_company(found, items, each)

    def _drawn(
        self, items: Sequence[Item], weights: Sequence[float]
    ) -> tuple[Sequence[Item], Sequence[float], str | None]:
        if self.size is None or self.size >= len(items):
            return items, weights, None
        if self.size < 1:
            raise EvaluationError(f"size must be at least 1, not {self.size}")
        index = sorted(random.Random(self.seed).sample(range(len(items)), self.size))  # noqa: S311
        said = f"{self.size:,} of {len(items):,} items, seed {self.seed}"
        return [items[at] for at in index], [weights[at] for at in index], said

    def _asked(
        self,
        name: str,
        predictor: Predictor | PricesMany | PricingFunction,
        items: Sequence[Item],
        weights: Sequence[float],
        sample: str | None,
    ) -> Evaluation:
        began = time.perf_counter()
        answers: Sequence[Answer]
        if isinstance(predictor, PricesMany):
            answers = predictor.predict_many(items)
        else:
            answers = self._called(predictor, items)
        seconds = time.perf_counter() - began
        try:
            found = self._measured(name, items, weights, answers, sample)
        except EvaluationError as error:
            error.predictions = answers
            raise
        return replace(found, seconds=seconds, manifest={**found.manifest, **_asked_how(predictor)})

    def _called(self, function: PricingFunction, items: Sequence[Item]) -> list[Answer]:
        from concurrent.futures import ThreadPoolExecutor

        def call(item: Item) -> Answer:
            return _safely(partial(function, item))

        with ThreadPoolExecutor(max(1, self.workers)) as pool:
            return list(track(pool.map(call, items), total=len(items), doing="evaluating"))

    def _measured(
        self,
        name: str,
        items: Sequence[Item],
        weights: Sequence[float],
        answers: Sequence[Answer],
        sample: str | None,
    ) -> Evaluation:
        from .evaluation import Evaluation
        from .measurement import measure

        records = tuple(_record(*row) for row in zip(items, answers, weights, strict=True))
        if all(record.price is None for record in records):
            raise EvaluationError(
                f"not one of {len(records):,} items could be scored; the first: {records[0].unscored}"
            )
        made: dict[str, Any] = measure(records, seed=self.seed, rounds=self.rounds)
        read, written = _tokens(answers)
        return Evaluation(
            name=name,
            records=records,
            sample=sample,
            seed=self.seed,
            prompt_tokens=read,
            completion_tokens=written,
            dollars=self._dollars(read, written),
            manifest=_manifest(name, records, answers, sample, self.seed),
            **made,
        )

    def _dollars(self, read: int | None, written: int | None) -> float | None:
        if self.dollars_per_million is None or read is None or written is None:
            return None
        return (read * self.dollars_per_million[0] + written * self.dollars_per_million[1]) / 1e6

    def _with_company(self, found: Evaluation, items: Sequence[Item], weights: Sequence[float]) -> Evaluation:
        self._fit_baselines()
        company = (*self._fitted, *self.beside)
        key = data_hash((item.id, item.price, weight) for item, weight in zip(items, weights, strict=True))
        if company and key not in self._scored:
            self._scored[key] = self._company(company, items, weights, found.sample)
        baselines, silent = self._scored.get(key, ((), {}))
        return replace(found, baselines=baselines, manifest={**found.manifest, **silent})

    def _fit_baselines(self) -> None:
        if self.baselines is not None and not self._fitted:
            from .baselines import fit_baselines

            self._fitted.extend(fit_baselines(self.baselines))

    def _company(
        self, company: Iterable[Any], items: Sequence[Item], weights: Sequence[float], sample: str | None
    ) -> _Company:
        import logging

        scored, silent = [], {}
        for one in company:
            name = _name_of(one)
            try:
                scored.append(self._asked(name, one, items, weights, sample))
            except (EvaluationError, ServiceError) as error:
                # A base model that is not there or gives no price must not cost the evaluation beside it.
                logging.getLogger("finetune_pricer").warning("%s is left out: %s", name, error)
                silent[f"left out: {name}"] = str(error)
        return tuple(scored), silent


def data_hash(rows: Iterable[tuple[Any, ...]]) -> str:
    """Hash the items of an evaluation: the same items with the same prices have the same hash."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr(row).encode())
    return digest.hexdigest()[:16]


def _require_some(items: Sequence[Item]) -> None:
    if not len(items):
        raise EvaluationError("there are no items to evaluate")


def _require_priced(items: Iterable[Item]) -> None:
    for row, item in enumerate(items, start=1):
        require_price(item, "evaluating", row)


def _weights_of(items: Sequence[Item], weights: Sequence[float] | None) -> Sequence[float]:
    if weights is None:
        return [1.0] * len(items)
    if len(weights) != len(items):
        raise EvaluationError(f"{len(items):,} items but {len(weights):,} weights; give one for each")
    made = [float(weight) for weight in weights]
    for row, weight in enumerate(made, start=1):
        if not (math.isfinite(weight) and weight >= 0):
            raise EvaluationError(f"row {row}: a weight must be finite and at least 0, not {weight!r}")
    return made


def _same(answer: Answer) -> Answer:
    return answer


def _safely(call: Callable[[], Any]) -> Answer:
    try:
        value = call()
        if value is None or isinstance(value, str | Prediction):
            return value
        if isinstance(value, bool) or type(value).__name__ in {"bool", "bool_"}:
            raise TypeError(  # noqa: TRY301 - the same end as a function that raises
                "a pricing function must give a price, a text, a Prediction or None, not true or false"
            )
        return float(value)
    except Exception as error:  # noqa: BLE001 - a user's function may raise anything
        return Prediction(item_id="", price=None, error=f"{type(error).__name__}: {error}")


def _record(item: Item, answer: Answer, weight: float) -> Record:
    from .measurement import Record

    price, text, unscored = _read(item, answer)
    if price is not None and not math.isfinite(price):
        price, unscored = None, f"not a finite price: {price}"
    return Record(
        item_id=item.id,
        label=item.label,
        category=item.category,
        truth=require_price(item, "evaluating"),
        price=price,
        low=answer.low if isinstance(answer, Prediction) else None,
        high=answer.high if isinstance(answer, Prediction) else None,
        weight=weight,
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


def _tokens(answers: Iterable[Answer]) -> tuple[int | None, int | None]:
    used = [answer.usage for answer in answers if isinstance(answer, Prediction)]
    read, written = (
        sum(usage.prompt_tokens for usage in used),
        sum(usage.completion_tokens for usage in used),
    )
    # Nothing that answers reads no token: all zeros are a service that does not count, or no service.
    return (read, written) if read else (None, None)


def _manifest(
    name: str, records: Sequence[Record], answers: Iterable[Answer], sample: str | None, seed: int
) -> dict[str, str]:
    import platform
    from datetime import UTC, datetime
    from importlib.metadata import version

    decoded = sorted({answer.decoding for answer in answers if isinstance(answer, Prediction)})
    found = {
        "evaluated": datetime.now(UTC).isoformat(timespec="seconds"),
        "finetune-pricer": version("finetune-pricer"),
        "python": platform.python_version(),
        "model": name,
        "items": sample or f"all {len(records):,}",
        "items hash": data_hash((record.item_id, record.truth) for record in records),
        "seed": str(seed),
    }
    return found | ({"decoding": ", ".join(decoded)} if decoded else {})


def _asked_how(predictor: Any) -> dict[str, str]:
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
