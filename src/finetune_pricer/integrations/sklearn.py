"""`FineTunedRegressor`: a fine-tuned model with `fit` and `predict`, for scikit-learn's tools."""

from __future__ import annotations

import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from .._arguments import refuse, require_choice, require_client
from ..chat import ChatFormatter
from ..errors import DataError, EvaluationError, InvalidItem, MissingExtra, NotSupported
from ..items import Item, ItemDataset
from ..predict import Predictor
from ..prepare import JsonlWriter
from ..providers.connect import connect
from ..tune import FineTuneJob

try:
    import numpy as np
    import pyarrow as pa
    from sklearn.base import BaseEstimator, RegressorMixin, clone
    from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data
except ImportError as missing:
    raise MissingExtra(
        "FineTunedRegressor needs scikit-learn 1.6 or newer: pip install 'finetune-pricer[sklearn]'"
    ) from missing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt
    from openai import OpenAI

    from ..predict import Decoding
    from ..providers import Provider
    from ..tune.spec import Factor, Whole

    class _Estimator:
        """What scikit-learn gives an estimator: it has no types of its own."""

        def get_params(self, deep: bool = True) -> dict[str, Any]:
            """Return the settings, by name."""
            ...

        def set_params(self, **params: Any) -> Self:
            """Change settings."""
            ...

        n_features_in_: int
        feature_names_in_: npt.NDArray[np.object_]

        def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:  # noqa: N803 - scikit-learn's name
            """Return the share of the variance of prices that is explained (R²)."""
            ...

        def __sklearn_tags__(self) -> Any: ...
else:

    class _Estimator(RegressorMixin, BaseEstimator):
        """A regressor of scikit-learn."""


_LOCAL_MODEL = "pricer-base"
_TEXTS = frozenset({"title", "summary", "full"})  # a frame with one of these has items, else plain columns


class FineTunedRegressor(_Estimator):
    """A model that is fine-tuned by `fit` and asked by `predict`, as an estimator of scikit-learn.

    Each `fit` on other rows or with other settings is a training job, and a service takes money for it:
    `cross_val_score` with five folds buys five. The same rows and settings are the same job, and are bought
    once. Rehearse on the local server, which is the default and costs nothing.

    Rows (`X`) may be texts; items or an `ItemDataset`; dictionaries; a frame of pandas or of whatever speaks
    Arrow; or an array of two dimensions. Dictionaries and frames have the columns of items, such as `title`
    and `summary`, or are told which columns those are (`columns=`). Of a frame that has none of them, and of
    an array, each row becomes a text with a line for each cell, such as `carat: 0.7`.

    Args:
        client: A provider's name, as `connect` takes it, or an `openai.OpenAI`. With the latter, the
            estimator cannot be pickled, and so not be fitted in several processes (`n_jobs=`).
        model: The base model; at the local server `pricer-base` by default, elsewhere it must be named.
        formatter: How rows are asked about.
        columns: Foreign column names and ours, such as `{"Name": "title", "Desc": "summary"}`.
        epochs: As in `FineTuneJob.create`, and so are the next six.
        batch_size: Examples per step.
        learning_rate_multiplier: Factor on the service's learning rate.
        seed: For the same result with the same request, as far as the service can.
        suffix: Becomes part of the tuned model's name.
        budget: Dollars that one `fit` may cost.
        provider: What is known of the service.
        decoding: How to take the price from what the model knows, as `Predictor` has it.
        unanswered: What stands where the model names no price: the `"median"` of the training prices, which
            is no advantage, or `"nan"`. A warning says how many.

    Attributes:
        model_: The tuned model's name.
        job_id_: The job's id, for `FineTuneJob.attach`.
        median_: The median of the training prices.

    Examples:
        >>> from finetune_pricer import MadeUpCatalogue
        >>> from finetune_pricer.integrations import FineTunedRegressor
        >>> items = MadeUpCatalogue(seed=2).items(40)
        >>> texts, prices = [item.text for item in items], [item.price for item in items]
        >>> regressor = FineTunedRegressor(epochs=1, seed=1).fit(texts, prices)
        >>> regressor.predict(texts[:3]).shape
        (3,)
    """

    def __init__(
        self,
        client: str | OpenAI = "local",
        model: str | None = None,
        *,
        formatter: ChatFormatter | None = None,
        columns: Mapping[str, str] | None = None,
        epochs: Whole | None = "recommended",
        batch_size: Whole | None = "recommended",
        learning_rate_multiplier: Factor | None = "recommended",
        seed: int | None = None,
        suffix: str | None = None,
        budget: float | None = None,
        provider: str | Provider | None = None,
        decoding: Decoding = "auto",
        unanswered: Literal["median", "nan"] = "median",
    ) -> None:
        self.client = client
        self.model = model
        self.formatter = formatter
        self.columns = columns
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate_multiplier = learning_rate_multiplier
        self.seed = seed
        self.suffix = suffix
        self.budget = budget
        self.provider = provider
        self.decoding: Decoding = decoding
        self.unanswered: Literal["median", "nan"] = unanswered

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803 - scikit-learn's name
        """Train a model on rows and their prices, and wait until it is there.

        Args:
            X: The rows.
            y: Their prices, at least 0.

        Raises:
            DataError: A row or a price cannot be used, or a setting is out of range; nothing was bought.
            JobFailed: The service gave the job up, and says why.
            OverBudget: Training costs more than the budget.
            ServiceError: The service refuses or does not answer.
        """
        require_choice("unanswered", self.unanswered, ("median", "nan"))
        if y is None:
            raise DataError("requires y to be passed, but the target y is None: hand in the rows' prices")
        prices = _read_prices(y)
        items = self._read_rows(X, reset=True)
        check_consistent_length(items, prices)
        with self._connect() as client, tempfile.TemporaryDirectory() as folder:
            training = JsonlWriter(self.formatter or ChatFormatter()).write(
                _put_prices(items, prices), Path(folder) / "train.jsonl"
            )
            job = FineTuneJob.create(
                client, training, model=self._name_model(), **self._job_settings()
            ).wait()
        if job.fine_tuned_model is None or job.provider.serving.how != "at_once":
            raise NotSupported(
                f"the model of job {job.id!r} answers only after job.deploy(), which costs by the hour: "
                "deploy it yourself and ask it with job.predictor()"
            )
        self.job_id_: str = job.id
        self.model_: str = job.fine_tuned_model
        self.median_: float = float(np.median(prices))
        return self

    def predict(self, X: Any) -> npt.NDArray[np.float64]:  # noqa: N803 - scikit-learn's name
        """Return a price for each row.

        Raises:
            NotFittedError: There is no model yet.
            DataError: A row cannot be used.
            EvaluationError: Not one answer holds a price.
            ServiceError: The service refuses or does not answer.
        """
        check_is_fitted(self)
        items = self._read_rows(X, reset=False)
        with self._connect() as client:
            found = Predictor(
                client, self.model_, formatter=self.formatter, decoding=self.decoding, provider=self.provider
            ).predict_many(items)
        missing = [each.error or "no price in the reply" for each in found if each.price is None]
        if missing and len(missing) == len(found):
            raise EvaluationError(
                f"not one of {len(found):,} answers holds a price: {missing[0]}", predictions=found
            )
        instead = self.median_ if self.unanswered == "median" else float("nan")
        if missing:
            words = "the training median stands" if self.unanswered == "median" else "nan stands"
            warnings.warn(
                f"{len(missing):,} of {len(found):,} answers hold no price, and {words} in their place; the "
                f"first: {missing[0]}",
                UserWarning,
                stacklevel=2,
            )
        return np.array([instead if each.price is None else each.price for each in found], dtype=np.float64)

    def _job_settings(self) -> dict[str, Any]:
        names = ("epochs", "batch_size", "learning_rate_multiplier", "seed", "suffix", "budget", "provider")
        return {name: getattr(self, name) for name in names}

    def _name_model(self) -> str:
        if self.model is None and self.client != "local":
            raise DataError("model is not named; name a base model that the service can tune")
        return self.model or _LOCAL_MODEL

    @contextmanager
    def _connect(self) -> Iterator[OpenAI]:
        """Yield the client: the user's own, which stays open, or one that is closed at the end."""
        if isinstance(self.client, str):
            with connect(self.client) as client:
                yield client
        else:
            require_client(self.client)
            yield self.client

    def _read_rows(self, rows: Any, *, reset: bool) -> Sequence[Item]:
        """Return an item without a price for each row, whatever the rows are."""
        if isinstance(rows, ItemDataset):
            return list(rows)
        if _is_frame(rows):
            validate_data(self, rows, reset=reset, skip_check_array=True)
            names, cells = _read_frame(rows)
            if self.columns or _TEXTS & set(names):
                read = ItemDataset.from_pandas if hasattr(rows, "iloc") else ItemDataset.from_arrow
                return list(read(rows, columns=self.columns, priced=False))
            return _describe_rows(names, cells)
        values: Any = list(rows) if isinstance(rows, tuple) or hasattr(rows, "iloc") else rows
        if isinstance(values, list) or (isinstance(values, np.ndarray) and values.ndim == 1):
            kind = type(values[0]) if len(values) else None
            if kind is not None and issubclass(kind, dict):
                return list(ItemDataset.from_records(values, columns=self.columns, priced=False))
            if kind is not None and issubclass(kind, str | Item):
                return [_to_item(each, row) for row, each in enumerate(values, start=1)]
        table: Any = validate_data(self, cast("Any", values), reset=reset, dtype=None)
        return _describe_rows([f"x{column}" for column in range(table.shape[1])], table.tolist())

    def __sklearn_clone__(self) -> Self:
        # A client cannot be copied, and need not be.
        settings: dict[str, Any] = {
            name: value if name == "client" else clone(value, safe=False)
            for name, value in self.get_params(deep=False).items()
        }
        return type(self)(**settings)

    def __getstate__(self) -> dict[str, Any]:
        if not isinstance(self.client, str):
            raise NotSupported(
                "an estimator with a client of yours cannot be pickled; hand in the provider's name in its "
                'place, such as client="openai", or fit it in one process'
            )
        state: Any = super().__getstate__()
        return dict(state)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.target_tags.positive_only = True
        return tags


def _read_prices(y: Any) -> npt.NDArray[np.float64]:
    prices: npt.NDArray[np.float64] = column_or_1d(y, dtype=np.float64, warn=True)
    wrong = np.flatnonzero(~np.isfinite(prices) | (prices < 0))
    if len(wrong):
        found = prices[wrong[0]]
        said = "Input y contains NaN or infinity" if not np.isfinite(found) else "a price must be at least 0"
        raise DataError(f"{said}: row {wrong[0] + 1} has {found}; leave out rows without a price")
    return prices


def _put_prices(items: Sequence[Item], prices: npt.NDArray[np.float64]) -> Iterator[Item]:
    names = ("title", "category", "summary", "full", "weight", "id")
    for item, price in zip(items, prices.tolist(), strict=True):
        yield Item(**{name: getattr(item, name) for name in names}, price=price)


def _is_frame(rows: Any) -> bool:
    """Whether rows have columns with names: a frame of pandas, polars or such; a pandas series has none."""
    return hasattr(rows, "columns") and (hasattr(rows, "iloc") or hasattr(rows, "__arrow_c_stream__"))


def _to_item(value: object, row: int) -> Item:
    if isinstance(value, Item):
        return value
    if not isinstance(value, str):
        raise refuse(f"row {row}", "a text or an Item, as the rows before it", value)
    try:
        return Item(summary=value)
    except InvalidItem as error:
        raise InvalidItem(f"row {row}: {error}") from None


def _read_frame(frame: Any) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
    """Return the names of a frame's columns, and the cells of each row."""
    if hasattr(frame, "iloc"):
        return [str(name) for name in frame.columns], frame.itertuples(index=False, name=None)
    table = pa.table(frame)
    return table.column_names, zip(*table.to_pydict().values(), strict=True)


def _describe_rows(names: Sequence[str], rows: Any) -> list[Item]:
    """Return an item for each row, whose text has a line for each cell that holds something."""
    items = []
    for number, cells in enumerate(rows, start=1):
        lines = [
            f"{name}: {text}"
            for name, cell in zip(names, cells, strict=True)
            if (text := _write_cell(cell, f"row {number}, {name}"))
        ]
        items.append(_to_item("\n".join(lines), number))
    return items


def _write_cell(cell: Any, where: str) -> str:
    """Return a cell as text: numbers with six digits; nothing where it is empty."""
    if cell is None or isinstance(cell, str):
        return cell or ""
    if isinstance(cell, bool | np.bool_):
        return "yes" if cell else "no"
    if isinstance(cell, int | np.integer):
        return str(int(cell))
    if isinstance(cell, float | np.floating):
        return "" if np.isnan(cell) else f"{float(cell):.6g}"
    if type(cell).__name__ in {"NAType", "NaTType"}:  # how pandas writes an empty cell
        return ""
    raise refuse(f"{where}: argument", "a string or a number", cell)
