"""`Prediction`: a model's answer about one item; `Predictions`: many of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, overload

from .._csv_file import write_csv

if TYPE_CHECKING:
    import os

    import pandas as pd

    from .._csv_file import Formulas
    from .decoding import Distribution


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A model's answer about one item: its price, and how sure it is."""

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
    distribution: Distribution | None = None
    """The prices that the model holds possible, with their probabilities; None where it did not show them."""
    usage: Usage = field(default_factory=Usage)
    latency: float = 0.0
    """Seconds from question to answer."""
    error: str | None = None
    """Why there is no price."""


class Predictions(Sequence[Prediction]):
    """Predictions in the order of their items, which `item_id` names; the items themselves are not held."""

    def __init__(self, predictions: Iterable[Prediction]) -> None:
        self._predictions = tuple(predictions)

    def to_frame(self) -> pd.DataFrame:
        """Return a frame with one row per prediction, and one column per field but the distribution."""
        import pandas as pd

        return pd.DataFrame([_row(prediction) for prediction in self], columns=_COLUMNS)

    def to_csv(self, path: str | os.PathLike[str], *, formulas: Formulas = "keep") -> None:
        r"""Write the columns of `to_frame` to a CSV file in UTF-8; a missing price is an empty cell.

        Half a character (a lone surrogate), which UTF-8 does not have, is written as `\ud83d`.

        Args:
            path: Where to write.
            formulas: `"keep"` writes each text as it is, for programs. Ids, replies and words of a service
                may begin with `=`, `+`, `-` or `@`, which a spreadsheet runs as a formula: `"escape"` puts a
                `'` before them, for people.

        Raises:
            DataError: `formulas` is something else.
            FileAccessError: The path cannot be written; what stood there stays.
        """
        write_csv(path, _COLUMNS, (_row(prediction).values() for prediction in self), formulas=formulas)

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


_COLUMNS = [
    name
    for entry in fields(Prediction)
    if entry.name != "distribution"
    for name in (["prompt_tokens", "completion_tokens"] if entry.name == "usage" else [entry.name])
]


def _row(prediction: Prediction) -> dict[str, Any]:
    return {
        name: getattr(prediction.usage if name.endswith("_tokens") else prediction, name) for name in _COLUMNS
    }
