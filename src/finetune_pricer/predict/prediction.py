"""`Prediction`: a model's answer about one item; `Predictions`: many; `PricesMany`: who gives them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from typing import TYPE_CHECKING, Any, Protocol, overload, runtime_checkable

from .._arguments import require_kind, require_many
from .._csv_file import write_csv
from .._display import FIRST, ShortRepr, render_first
from .._escape import escape_line
from .._format import UNNAMED, format_money
from ..errors import DataError, PricerError
from ..items import Item, require_questions
from ..prices import parse_price

if TYPE_CHECKING:
    import os

    import pandas as pd

    from .._csv_file import Formulas
    from .decoding import Distribution

_MOST_REPLY = 60  # characters of a reply that are printed


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens that one answer cost."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Prediction(ShortRepr):
    """A model's answer about one item: its price, and how sure it is. `str()` is one line.

    Examples:
        >>> print(Prediction(item_id="a", price=756.5, text="$680.56", decoding="median"))
        $756.50 (median; the reply was $680.56)
    """

    item_id: str
    price: float | None
    """Dollars (or the formatter's currency); None when the reply holds no price. Never 0 for want of one."""
    text: str | None = None
    """The reply without the model's reasoning, of several samples the first with a price; None when none
    came."""
    low: float | None = None
    """Lower end of the price range; None without calibration."""
    high: float | None = None
    """Upper end of the price range; None without calibration."""
    decoding: str = "greedy"
    """How the price was taken from the model: `greedy` is its most likely reply, `median` and `mean` those of
    `distribution`."""
    distribution: Distribution | None = field(default=None, repr=False)
    """The prices that the model holds possible, with their probabilities; None where it did not show them."""
    usage: Usage = field(default_factory=Usage)
    latency: float = 0.0
    """Seconds from question to answer."""
    error: str | None = None
    """Why there is no price."""
    currency: str = UNNAMED
    """ISO code of the currency of `price`, `low` and `high`."""

    def __str__(self) -> str:
        if self.price is None:
            return escape_line(f"no price ({self.error or 'the model named none'})")
        price = self._write(self.price)
        notes = [self.decoding]
        if self.low is not None and self.high is not None:
            notes.append(f"{self._write(self.low)} to {self._write(self.high)}")
        if self._reply_differs:
            notes.append(f"the reply was {' '.join((self.text or '').split())[:_MOST_REPLY]}")
        return escape_line(f"{price} ({'; '.join(notes)})")

    @property
    def _reply_differs(self) -> bool:
        """Whether the reply names another price, when both are written."""
        if self.text is None or self.price is None:
            return False
        try:
            said = parse_price(self.text, self.currency)
        except PricerError:
            return True
        return self._write(said) != self._write(self.price)

    def _write(self, amount: float) -> str:
        return format_money(amount, self.currency, 2)


def make_failure(item_id: str, error: Exception) -> Prediction:
    """Return the prediction of an item that an error has kept from being priced."""
    said = str(error) if isinstance(error, PricerError) else f"{type(error).__name__}: {error}"
    return Prediction(item_id=item_id, price=None, error=said)


class Predictions(Sequence[Prediction]):
    """Predictions in the order of their items, which `item_id` names; the items themselves are not held."""

    def __init__(self, predictions: Iterable[Prediction]) -> None:
        require_many("predictions", predictions, "predictions")
        self._predictions = tuple(predictions)
        for prediction in self._predictions:
            require_kind("a prediction", prediction, Prediction, "a Prediction")

    def to_frame(self) -> pd.DataFrame:
        """Return a frame with one row per prediction, and one column per field but the distribution.

        The reply, which is `Prediction.text`, stands in the column `reply`.
        """
        import pandas as pd

        return pd.DataFrame([_row(prediction) for prediction in self], columns=_COLUMNS)

    def to_csv(
        self,
        path: str | os.PathLike[str],
        *,
        items: Sequence[Item | str] | None = None,
        formulas: Formulas = "keep",
    ) -> None:
        r"""Write the columns of `to_frame` to a CSV file in UTF-8; a missing price is an empty cell.

        Prices are written in hundredths. So are the ends of ranges, the lower one rounded down and the upper
        one up: a range holds the true price no less often than it promises.

        Half a character (a lone surrogate), which UTF-8 does not have, is written as `\ud83d`.

        Args:
            path: Where to write.
            items: What was priced, in the same order: their titles then stand in a column of their own.
            formulas: `"keep"` writes each text as it is, for programs. Ids, replies and words of a service
                may begin with `=`, `+`, `-` or `@`, which a spreadsheet runs as a formula: `"escape"` puts a
                `'` before them, for people.

        Raises:
            DataError: `formulas` is something else, or the items are others than those that were priced.
            FileAccessError: The path cannot be written; what stood there stays.
        """
        rows = ([*_written_row(prediction).values()] for prediction in self)
        if items is None:
            write_csv(path, _COLUMNS, rows, formulas=formulas)
            return
        columns = [_COLUMNS[0], "title", *_COLUMNS[1:]]
        titles = self._titles_of(items)
        named = ([row[0], title, *row[1:]] for row, title in zip(rows, titles, strict=True))
        write_csv(path, columns, named, formulas=formulas)

    def _titles_of(self, items: Sequence[Item | str]) -> list[str | None]:
        require_questions(items)
        known = [Item(title=item) if isinstance(item, str) else item for item in items]
        if len(known) != len(self):
            raise DataError(
                f"{len(known):,} items for {len(self):,} predictions; hand in those that were priced"
            )
        for row, (item, prediction) in enumerate(zip(known, self, strict=True), start=1):
            if item.id != prediction.item_id:
                raise DataError(
                    f"row {row}: the prediction is of item {prediction.item_id!r}, not of {item.id!r}; hand "
                    "in the items in the order in which they were priced"
                )
        return [item.title for item in known]

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> Predictions: ...
    def __getitem__(self, index: int | slice) -> Prediction | Predictions:
        found = self._predictions[index]
        return Predictions(found) if isinstance(found, tuple) else found

    def __len__(self) -> int:
        return len(self._predictions)

    def __repr__(self) -> str:
        unpriced = sum(prediction.price is None for prediction in self)
        return f"Predictions({len(self):,} items, {unpriced:,} without a price)"

    def _repr_html_(self) -> str:
        head = ("item", "price", "low", "high", "decoding", "reply", "error")
        rows = [(p.item_id, p.price, p.low, p.high, p.decoding, p.text, p.error) for p in self[:FIRST]]
        return render_first(head, rows, repr(self))


@runtime_checkable
class PricesMany(Protocol):
    """Whatever prices many items at once, as `Predictor`, `Ensemble` and the baselines do."""

    def predict_many(self, items: Any) -> Sequence[Prediction]:
        """Return one prediction per item, in their order."""
        ...


_SHOWN_AS = {"usage": ["prompt_tokens", "completion_tokens"], "text": ["reply"]}
_LEFT_OUT = {"distribution", "currency"}
_COLUMNS = [
    name
    for entry in fields(Prediction)
    if entry.name not in _LEFT_OUT
    for name in _SHOWN_AS.get(entry.name, [entry.name])
]


def _row(prediction: Prediction) -> dict[str, Any]:
    return {name: _read_cell(prediction, name) for name in _COLUMNS}


_HUNDREDTH, _DIGITS = Decimal("0.01"), Context(prec=400)  # any float has fewer before its point


def _written_row(prediction: Prediction) -> dict[str, Any]:
    low, high = _round(prediction.low, ROUND_FLOOR), _round(prediction.high, ROUND_CEILING)
    price = _round(prediction.price, ROUND_HALF_EVEN) or prediction.price  # a screw may cost less than a cent
    return _row(prediction) | {"price": price, "low": low, "high": high}


def _round(end: float | None, to: str) -> float | None:
    if end is None or not math.isfinite(end):
        return end
    return float(Decimal(repr(float(end))).quantize(_HUNDREDTH, to, _DIGITS))


def _read_cell(prediction: Prediction, column: str) -> Any:
    if column == "reply":
        return prediction.text
    return getattr(prediction.usage if column.endswith("_tokens") else prediction, column)
