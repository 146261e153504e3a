"""What a model must beat: simple methods with the predictor's interface, fitted in one line.

`MedianBaseline.fit(train)` and its siblings learn from priced items; `prompting_baselines` asks a service's
untuned model instead. To add one: subclass `Baseline` and name it in `FITTED`.
"""

from __future__ import annotations

import copy
import logging
import random
import warnings
from abc import ABC, abstractmethod
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from .._arguments import require_client, require_formatter, require_text, require_whole
from ..chat import ChatFormatter
from ..errors import EvaluationError, MissingExtra, NotSupported
from ..items import (
    SHOWN_FIELDS,
    Item,
    SeenItems,
    check_fields,
    require_item,
    require_item_text,
    require_items,
    require_price,
    require_set,
)
from ..predict._base import check_calibration_items, require_currency_of
from ..predict.conformal import Ranges
from ..predict.plain_forms import (
    currency_from_plain,
    currency_to_plain,
    read_arrays,
    read_values,
    write_arrays,
    write_values,
)
from ..predict.prediction import Prediction, Predictions
from ..predict.predictor import Predictor
from ..predict.saved_pricer import SavedPricer, load_kind, require_unseen, save_pricer
from ..providers.lookup import SOON, provider_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence
    from datetime import date
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    from openai import OpenAI
    from scipy.sparse import csr_matrix

    from .._methods.features import TextFeatures
    from .._methods.nearest import NearestRows
    from .._methods.network import Floats as AnyFloats
    from .._methods.network import Network
    from ..items import ItemDataset
    from ..predict.plain_forms import Arrays
    from ..predict.range_groups import By
    from ..predict.saved_pricer import Access
    from ..providers.provider import Provider
    from ..retrieval import Neighbors

    Floats = npt.NDArray[np.float64]

_NEIGHBORS = 10
_SEEN = "seen"
_OF_ROWS = ("data", "indices", "indptr")
_SHOTS = 8
_SEED = 42
_log = logging.getLogger("finetune_pricer")


class FittingData:
    """Priced items to fit baselines to; their features are computed once, for all baselines."""

    def __init__(self, train: ItemDataset, fields: Sequence[str] = SHOWN_FIELDS) -> None:
        import numpy as np

        require_items(train, "train")
        self.currency: str = getattr(train, "currency", "USD")
        zero_is = getattr(train, "zero_is", None)
        self.items: list[Item] = [item for item in train if item.price is not None]
        for row, item in enumerate(train, start=1):
            if item.price == 0:
                require_price(item, "a baseline", row, zero_is)
        if not self.items:
            raise EvaluationError("the training items of a baseline have no prices; hand in priced items")
        self.prices: Floats = np.array([item.price for item in self.items], dtype=np.float64)
        self.fields: tuple[str, ...] = check_fields(fields)
        self._texts = _texts_of(self.items, self.fields)

    @cached_property
    def features(self) -> TextFeatures:
        """A vocabulary of the items' texts."""
        return _import_features().fit(self._texts)

    @cached_property
    def seen(self) -> SeenItems:
        """Which items these are."""
        return SeenItems.of(self.items)

    @cached_property
    def rows(self) -> csr_matrix:
        """The items' texts in that vocabulary."""
        return self.features.transform(self._texts)


class Baseline(SavedPricer, ABC):
    """A simple method that prices items, with the interface of `Predictor`: a pricer that needs no service.

    >>> from finetune_pricer import Item, ItemDataset
    >>> from finetune_pricer.evaluate import CategoryMedianBaseline
    >>> prices = {"home": (10.0, 30.0, 20.0), "garden": (5.0, 7.0)}
    >>> train = ItemDataset.from_items(
    ...     Item(title=f"{category} {price}", category=category, price=price)
    ...     for category in prices
    ...     for price in prices[category]
    ... )
    >>> CategoryMedianBaseline.fit(train)(Item(title="A lamp", category="home"))
    20.0
    """

    name: ClassVar[str]
    """What tables call it."""
    fields: tuple[str, ...] = SHOWN_FIELDS
    """What it sees of an item, as `ChatFormatter(fields=)` names it."""
    currency: str = "USD"
    """ISO code of its prices' currency, which is that of the items that it was fitted to."""
    ranges: Ranges | None = None
    """How wide its price ranges are; None before `calibrate`."""
    seen: SeenItems | None = None
    """Which items it was fitted to; None where nobody knows."""

    @classmethod
    def fit(cls, train: ItemDataset, *, fields: Sequence[str] = SHOWN_FIELDS) -> Self:
        """Learn from the items whose price is known, and return the fitted baseline.

        Args:
            train: Priced items.
            fields: What it sees of an item; those of the formatter that it is compared with.

        Raises:
            EvaluationError: No item has a price.
            InvalidItem: An item has none of the fields.
            MissingExtra: A library that it needs is not installed.
        """
        return cls.fit_to(FittingData(train, fields))

    @classmethod
    def fit_to(cls, data: FittingData) -> Self:
        """Learn from items that several baselines share; it sees the same fields of others."""
        fitted = cls.learn(data)
        fitted.fields, fitted.currency, fitted.seen = data.fields, data.currency, data.seen
        return fitted

    @classmethod
    @abstractmethod
    def learn(cls, data: FittingData) -> Self:
        """Return a baseline fitted to items that several baselines share."""

    @abstractmethod
    def prices(self, items: Sequence[Item]) -> Sequence[float]:
        """Return one price per item, in the currency of the training items."""

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Return what was learned: arrays of numbers by name, and values that JSON can hold.

        A baseline of your own can be saved when it has this and `from_state`.
        """
        raise NotSupported(self._cannot_be_saved)

    @classmethod
    def from_state(cls, arrays: Arrays, values: dict[str, Any]) -> Self:  # noqa: ARG003
        """Make the baseline that `state` described."""
        raise NotSupported(f"{cls.__name__} has no from_state(), which makes it of what was saved")

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the fitted baseline into a folder, with its price ranges; nothing is pickled.

        Loaded again, by whatever version of the libraries around it, it gives the same prices.

        Args:
            folder: Made where it is missing; a pricer that was saved there is replaced as a whole.

        Raises:
            NotSupported: It is one of your own without `state()`; nothing was written.
            DataError: The folder holds a `pricer.json` that is no saved pricer's.
            FileAccessError: The folder cannot be written.
        """
        save_pricer(self, folder)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read a baseline that `save` wrote: `Baseline.load` any, `RidgeBaseline.load` one of those.

        Raises:
            MissingFile: There is no saved pricer.
            DataError: What is there is none, another kind, was changed since, or is of a newer version.
            MissingExtra: A library that it needs is not installed.
        """
        return cast("Self", load_kind(cls, folder))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.name}>"

    def __call__(self, item: Item | str) -> float:
        """Return just the price."""
        return float(self.prices([_to_item(item)])[0])

    def predict(self, item: Item | str) -> Prediction:
        """Price one item, or a text."""
        return self.predict_many([item])[0]

    def predict_many(self, items: Iterable[Item | str]) -> Predictions:
        """Price many items at once; the order is kept.

        Raises:
            DataError: The items' prices are in another currency.
        """
        require_items(items, or_text=True)
        require_currency_of(items, self)
        priced = [_to_item(item) for item in items]
        prices = self.prices(priced) if priced else []
        return Predictions(
            self._to_prediction(item, float(price)) for item, price in zip(priced, prices, strict=True)
        )

    def calibrate(self, items: Iterable[Item], *, coverage: float = 0.9, by: By | None = None) -> Self:
        """Return a baseline whose predictions have price ranges, learned from items whose prices are known.

        Use items that it was neither fitted nor chosen on; what is promised is what `Predictor.calibrate`
        promises. `print(baseline.ranges)` says for which groups, and what can be expected.

        Args:
            items: Items with prices; at least 9 for 90 %, 19 for 95 %, and better hundreds.
            coverage: Share of true prices that the ranges shall hold.
            by: Keep the promise in each group of these. Of a group with too few items for one of its own, and
                of predictions without a distribution where there are too few, `ranges` says what they were
                joined with.

        Raises:
            InvalidItem: An item has no price.
            DataError: A setting is out of range, there are too few items, their prices are in another
                currency, or it was fitted to some of them.
        """
        known, calibrated = check_calibration_items(items, self, coverage, by), copy.copy(self)
        require_unseen(self, known, "price ranges are learned")
        calibrated.ranges = Ranges.learn(self.predict_many(known), known, coverage=coverage, by=by)
        return calibrated

    def _set_ranges(self, ranges: Ranges) -> None:
        self.ranges = ranges

    @property
    def _cannot_be_saved(self) -> str:
        return f"{type(self).__name__} cannot be saved: it has no state(), which says what it has learned"

    def _require_savable(self) -> None:
        if type(self).state is Baseline.state:
            raise NotSupported(self._cannot_be_saved)

    def _to_saved(self, parts: Path) -> dict[str, Any]:
        arrays, values = self.state()
        seen = {} if self.seen is None else {_SEEN: self.seen.hashes}
        write_arrays(parts, {**arrays, **seen})
        write_values(parts, values)
        return {"fields": list(self.fields), "currency": currency_to_plain(self.currency)}

    @classmethod
    def _from_saved(cls, content: dict[str, Any], parts: Path, access: Access) -> Self:  # noqa: ARG003
        arrays = read_arrays(parts)
        seen = arrays.pop(_SEEN, None)
        made = cls.from_state(arrays, read_values(parts))
        made.fields, made.currency = tuple(content["fields"]), currency_from_plain(content["currency"])
        made.seen = None if seen is None else SeenItems(seen)
        return made

    def _to_prediction(self, item: Item, price: float) -> Prediction:
        found = Prediction(item_id=item.id, price=price, decoding="fitted", currency=self.currency)
        return found if self.ranges is None else self.ranges.around(found, item.category)


class MedianBaseline(Baseline):
    """Always answers with the median price of the training items, the constant with the lowest MAE."""

    name = "always the training median"

    def __init__(self, price: float) -> None:
        self.price = price

    @classmethod
    def learn(cls, data: FittingData) -> Self:
        """Take the median of the known prices."""
        import numpy as np

        return cls(float(np.median(data.prices)))

    def prices(self, items: Sequence[Item]) -> Sequence[float]:
        """Return the median, whatever the items."""
        return [self.price] * len(items)

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Return the median."""
        return {}, {"price": self.price}

    @classmethod
    def from_state(cls, arrays: Arrays, values: dict[str, Any]) -> Self:  # noqa: ARG003
        """Take the median that `state` returned."""
        return cls(values["price"])


class CategoryMedianBaseline(Baseline):
    """Answers with the median price of the item's category, or of all items where the category is new."""

    name = "the category's training median"

    def __init__(self, medians: dict[str | None, float], otherwise: float) -> None:
        self.medians = medians
        self.otherwise = otherwise

    @classmethod
    def learn(cls, data: FittingData) -> Self:
        """Take the median of the known prices in each category."""
        import numpy as np

        groups: dict[str | None, list[float]] = {}
        for item, price in zip(data.items, data.prices, strict=True):
            groups.setdefault(item.category, []).append(float(price))
        medians = {category: float(np.median(group)) for category, group in groups.items()}
        return cls(medians, float(np.median(data.prices)))

    def prices(self, items: Sequence[Item]) -> Sequence[float]:
        """Return the median of each item's category."""
        return [self.medians.get(item.category, self.otherwise) for item in items]

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Return the medians; the category of items that have none is None."""
        return {}, {"medians": list(self.medians.items()), "otherwise": self.otherwise}

    @classmethod
    def from_state(cls, arrays: Arrays, values: dict[str, Any]) -> Self:  # noqa: ARG003
        """Take the medians that `state` returned."""
        return cls(dict(values["medians"]), values["otherwise"])


class NeighborsBaseline(Baseline):
    """Answers with the geometric mean price of the ten training items whose texts are most alike."""

    name = "ten nearest by text"

    def __init__(self, features: TextFeatures, rows: csr_matrix, logs: Floats) -> None:
        from .._methods.nearest import NearestRows

        self._features, self._rows, self._logs = features, rows, logs
        self._search: NearestRows = NearestRows(rows)

    @classmethod
    def learn(cls, data: FittingData) -> Self:
        """Keep the training items' texts as TF-IDF rows."""
        import numpy as np

        features, rows = data.features, data.rows  # which say so where scipy is missing
        from .._methods.nearest import scale_to_unit

        return cls(features, cast("csr_matrix", scale_to_unit(rows)), np.log1p(data.prices))

    def prices(self, items: Sequence[Item]) -> Sequence[float]:
        """Return the mean price of each text's neighbors."""
        import numpy as np

        from .._methods.nearest import scale_to_unit  # it needs scipy

        rows = scale_to_unit(self._features.transform(_texts_of(items, self.fields)))
        near = self._search.nearest(rows, _NEIGHBORS).rows
        return list(np.expm1(self._logs[near].mean(axis=1)))

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Return the vocabulary, the training items' rows and the logarithms of their prices."""
        arrays, values = _state_of(self._features)
        arrays |= {f"rows_{name}": getattr(self._rows, name) for name in _OF_ROWS}
        return {**arrays, "logs": self._logs}, {**values, "shape": list(self._rows.shape)}

    @classmethod
    def from_state(cls, arrays: Arrays, values: dict[str, Any]) -> Self:
        """Make the search again of the rows that `state` returned."""
        features = _features_of(arrays, values)  # which says so where scipy is missing
        from scipy.sparse import csr_matrix

        rows = csr_matrix(tuple(arrays[f"rows_{name}"] for name in _OF_ROWS), shape=tuple(values["shape"]))
        return cls(features, rows, arrays["logs"])


class RidgeBaseline(Baseline):
    """A ridge regression of the log price on TF-IDF of words, pairs of words and runs of characters."""

    name = "ridge on words"

    def __init__(
        self, features: TextFeatures, weights: AnyFloats, intercept: AnyFloats, ends: tuple[float, float]
    ) -> None:
        self._features, self._weights, self._intercept, self._ends = features, weights, intercept, ends

    @classmethod
    def learn(cls, data: FittingData) -> Self:
        """Fit the regression."""
        linear_model = _import_sklearn("linear_model")
        import numpy as np

        logs = np.log1p(data.prices)
        model = linear_model.Ridge(alpha=1.0).fit(data.rows, logs)
        # Only fitting needs scikit-learn: prices, also those of years later, come of these numbers.
        learned = np.asarray(model.coef_), np.asarray(model.intercept_)
        return cls(data.features, *learned, (float(logs.min()), float(logs.max())))

    def prices(self, items: Sequence[Item]) -> Sequence[float]:
        """Return the regression's price, kept between the cheapest and the dearest training item."""
        import numpy as np

        rows = self._features.transform(_texts_of(items, self.fields))
        logs = rows @ self._weights + self._intercept
        return list(np.expm1(np.clip(logs, *self._ends)))

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Return the vocabulary, the weight of each term, and the ends of what it was fitted to."""
        arrays, values = _state_of(self._features)
        learned = {"ridge_weights": self._weights, "intercept": self._intercept}
        return {**arrays, **learned}, {**values, "ends": list(self._ends)}

    @classmethod
    def from_state(cls, arrays: Arrays, values: dict[str, Any]) -> Self:
        """Take the numbers that `state` returned."""
        low, high = values["ends"]
        features = _features_of(arrays, values)
        return cls(features, arrays["ridge_weights"], arrays["intercept"], (low, high))


class NetworkBaseline(Baseline):
    """The median of a sparse network's distribution over prices, like the learner of the local server."""

    name = "sparse network on words"

    def __init__(self, features: TextFeatures, network: Network, edges: AnyFloats) -> None:
        self._features, self._network, self._edges = features, network, edges

    @classmethod
    def learn(cls, data: FittingData) -> Self:
        """Train the network; the fewer items, the more epochs."""
        import numpy as np

        from .._methods import network  # it needs numpy

        logs = np.log1p(data.prices)
        edges = network.price_bins(logs)
        labels = network.soft_labels(logs, edges, network.softness(edges, logs))
        count = len(data.items)
        training = network.TrainingRun(
            network.Data(data.rows, *labels),
            network.Hyperparameters.resolve({}, examples=count),
            epochs=min(20, max(5, 10_000 // count)),
            seed=_SEED,
        )
        for _ in training.steps():
            pass
        return cls(data.features, training.network, edges)

    def prices(self, items: Sequence[Item]) -> Sequence[float]:
        """Return the price that half of the probability lies below, on a straight line through its bin."""
        import numpy as np

        from .._methods.network import softmax  # it needs numpy

        rows = self._features.transform(_texts_of(items, self.fields))
        heights = np.cumsum(softmax(self._network.scores(rows)), axis=1, dtype=np.float64)
        heights = np.hstack([np.zeros((len(items), 1)), heights / heights[:, -1:]])
        return [float(np.expm1(np.interp(0.5, height, self._edges))) for height in heights]

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Return the vocabulary, the network's layers and the edges of its price bins."""
        arrays, values = _state_of(self._features)
        layers = {f"network_{name}": getattr(self._network, name) for name in self._network.__slots__}
        return {**arrays, **layers, "edges": self._edges}, values

    @classmethod
    def from_state(cls, arrays: Arrays, values: dict[str, Any]) -> Self:
        """Make the network again of the layers that `state` returned."""
        features = _features_of(arrays, values)  # which says so where scipy is missing
        from .._methods.network import Network

        layers = {name: arrays[f"network_{name}"] for name in Network.__slots__}
        return cls(features, Network(**layers), arrays["edges"])


FITTED: tuple[type[Baseline], ...] = (
    MedianBaseline,
    CategoryMedianBaseline,
    NeighborsBaseline,
    RidgeBaseline,
    NetworkBaseline,
)
"""What `Evaluator(baselines=train)` shows beside every model."""


def fit_baselines(train: ItemDataset, fields: Sequence[str] = SHOWN_FIELDS) -> tuple[Baseline, ...]:
    """Fit all of `FITTED`; a baseline whose library is not installed is left out, with a warning in the log.

    Raises:
        EvaluationError: No item has a price.
    """
    return fit_available(train, fields)[0]


def fit_available(
    train: ItemDataset, fields: Sequence[str] = SHOWN_FIELDS
) -> tuple[tuple[Baseline, ...], dict[str, str]]:
    """Do the same, and return beside them the names of those that are left out, and what each lacks."""
    data, fitted, missing = FittingData(train, fields), list[Baseline](), dict[str, str]()
    for kind in FITTED:
        try:
            fitted.append(kind.fit_to(data))
        except MissingExtra as error:
            _log.warning("without the baseline %r: %s", kind.name, error)
            missing[kind.name] = str(error)
    return tuple(fitted), missing


class PromptedPredictor(Predictor):
    """A predictor of an untuned model, named by how it is prompted."""

    _kind = "Predictor"
    name: str
    """What tables call it."""

    def __init__(self, client: OpenAI, model: str, *, formatter: ChatFormatter) -> None:
        super().__init__(client, model, formatter=formatter)
        parts = [f"{len(formatter.shots)} solved examples"] if formatter.shots else []
        if formatter.neighbors is not None:
            parts.append(f"{formatter.neighbors.k} neighbors")
        self.name = ", ".join([model, "not tuned", *(parts or ["zero-shot"])])


def prompting_baselines(
    client: OpenAI,
    model: str,
    train: ItemDataset,
    *,
    formatter: ChatFormatter | None = None,
    shots: int = _SHOTS,
    seed: int = 42,
    neighbors: Neighbors | None = None,
) -> tuple[PromptedPredictor, ...]:
    """Ask the untuned model zero-shot, and with priced examples in the prompt: fine-tuning must beat them.

    The examples are the same for all items; neighbors are those most like each item, and tell the most. Hand
    them to `Evaluator(beside=...)`. They are asked of the service and paid for like any prediction.
    A model that is known to stop answering within 90 days is warned of.

    Args:
        client: Any `openai.OpenAI`.
        model: The base model.
        train: Where the examples come from: one from each of `shots` equal parts of the items, by price.
        formatter: The formatter of the tuned model, so that only tuning and examples differ.
        shots: How many examples.
        seed: Seed of the choice of examples.
        neighbors: Where to find the nearest priced items of an item, such as `Neighbors(train)`: with them a
            third baseline has these in its prompts, in the place of the examples.

    Raises:
        EvaluationError: There are fewer priced items than examples, or no examples are asked for.
    """
    require_client(client, model)
    require_text("model", model)
    require_set(train, "train")
    if formatter is not None:
        require_formatter(formatter)
    require_whole("shots", shots)
    require_whole("seed", seed)
    warn_of_end(provider_of(client), model, datetime.now(UTC).date())
    plain = formatter or ChatFormatter()
    formatters = [plain, replace(plain, shots=_choose_examples(train, shots, seed))]
    if neighbors is not None:
        formatters.append(replace(plain, neighbors=neighbors))
    return tuple(PromptedPredictor(client, model, formatter=each) for each in formatters)


def warn_of_end(provider: Provider, model: str, today: date) -> None:
    """Warn of a model that stops answering within 90 days, or has: the comparison cannot be made again."""
    known = provider.retirement(model)
    if known is not None and known.serving_ends is not None and (known.serving_ends - today).days <= SOON:
        warnings.warn(
            f"{model!r} stops answering at {provider.name!r} on {known.serving_ends}, says {known.source}, "
            f"read on {known.confirmed_on or known.as_of}; its baselines cannot be asked after that",
            UserWarning,
            stacklevel=3,
        )


def _choose_examples(train: ItemDataset, count: int, seed: int) -> list[Item]:
    import numpy as np

    prices = train.prices
    known = np.flatnonzero(~np.isnan(prices))
    if not 1 <= count <= known.size:
        raise EvaluationError(
            f"cannot show {count} solved examples out of {known.size:,} priced items; ask for at least 1 and "
            "for no more than there are"
        )
    draw = random.Random(seed)  # noqa: S311 - no secret
    ordered = known[np.argsort(prices[known], kind="stable")]
    chosen = [train[int(draw.choice(part.tolist()))] for part in np.array_split(ordered, count)]
    draw.shuffle(chosen)
    return chosen


def _texts_of(items: Iterable[Item], fields: tuple[str, ...]) -> list[str]:
    return [require_item_text(item, fields, row) for row, item in enumerate(items, start=1)]


def _state_of(features: TextFeatures) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    arrays, terms = features.state()
    return {f"features_{name}": array for name, array in arrays.items()}, {"terms": terms}


def _features_of(arrays: Arrays, values: dict[str, Any]) -> TextFeatures:
    prefix = "features_"
    own = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    return _import_features().from_state(own, values["terms"])


def _import_features() -> type[TextFeatures]:
    try:
        from .._methods.features import TextFeatures  # it needs scipy
    except ImportError as error:
        raise MissingExtra(
            "this baseline needs scipy; install it: pip install 'finetune-pricer[evaluate]'"
        ) from error
    return TextFeatures


def _to_item(item: Item | str) -> Item:
    require_item(item, or_text=True)
    return Item(title=item) if isinstance(item, str) else item


def _import_sklearn(part: str) -> Any:
    try:
        return import_module(f"sklearn.{part}")
    except ImportError as error:
        raise MissingExtra(
            "this baseline needs scikit-learn; install it: pip install 'finetune-pricer[evaluate]'"
        ) from error
