"""Products: one `Item`, many in an `ItemDataset`, and the three splits that a road needs."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from .errors import InvalidItem, PricerError
from .prices import parse_price

if TYPE_CHECKING:
    import os

    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa

TEXT_FIELDS = ("summary", "full", "title")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One product, with its price or without.

    A plain frozen dataclass, and not a pydantic model, so that importing it costs no more than it must and
    hundreds of thousands of them are made quickly; what comes in is checked all the same.

    Attributes:
        title: What it is called.
        category: What kind of thing it is.
        price: Dollars (or another currency's unit), finite and at least 0; None when nobody knows it.
            Text such as `"$1,299.00"` is read as `parse_price` reads it.
        summary: The text to price it by, if there is one.
        full: The whole listing.
        weight: As the source gives it.
        id: Text; numbers are converted. Without one, a hash of everything but the price.

    Raises:
        InvalidItem: A field cannot be what it should be, or there is no text at all.
    """

    title: str | None = None
    category: str | None = None
    price: float | None = None
    summary: str | None = None
    full: str | None = None
    weight: float | None = None
    id: str = ""

    def __post_init__(self) -> None:
        name = f"item {str(self.id or self.title or '')[:60]!r}"
        for field in ("title", "category", "summary", "full"):
            value = getattr(self, field)
            if value is not None and not isinstance(value, str):
                raise InvalidItem(f"{name}: {field}: must be text, not {type(value).__name__}")
            if value is not None and not _is_unicode(value):
                raise InvalidItem(f"{name}: {field}: holds half a character (a lone surrogate)")
        object.__setattr__(self, "id", "" if self.id is None else str(self.id))
        for field, read in (("price", as_price), ("weight", _as_weight)):
            try:
                object.__setattr__(self, field, read(getattr(self, field)))
            except ValueError as error:
                raise InvalidItem(f"{name}: {field}: {error}") from error
        if not self.text:
            raise InvalidItem(f"{name} has no text: give a summary, a full text or a title")
        if not self.id:
            object.__setattr__(self, "id", content_id(asdict(self)))

    @property
    def text(self) -> str:
        """What the price is asked for: the summary, else the full text, else the title."""
        for text in (self.summary, self.full, self.title):
            if text and not text.isspace():
                return text
        return ""

    @property
    def label(self) -> str:
        """A short name for tables and figures: the title, else the beginning of the text."""
        first = (self.title or self.text).strip().partition("\n")[0]
        return first if len(first) <= 80 else first[:77] + "..."


class ItemDataset(Sequence[Item]):
    """An immutable sequence of items, kept in an Arrow table; items are made when looked at.

    A slice is an `ItemDataset` too. Make one with `from_hub`, `from_file`, `from_items` or `from_pandas`.
    """

    __slots__ = ("_table",)

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    @classmethod
    def from_items(cls, items: Iterable[Item]) -> ItemDataset:
        """Gather items that exist already."""
        import pyarrow as pa

        from ._reading import SCHEMA

        return cls(pa.Table.from_pylist([asdict(item) for item in items], schema=SCHEMA))

    @classmethod
    def from_hub(
        cls, name: str | os.PathLike[str], *, token: str | None = None, revision: str | None = None
    ) -> ItemSplits:
        """Load the three splits of a data set of the Hugging Face Hub, or of a folder in the same layout.

        Args:
            name: A repository such as `"ed-donner/items_lite"`, or the path of a folder with files such as
                `train-00000-of-00001.parquet`. It needs the column `price`, and one of
                `summary`, `full` and `title`.
            token: For private and gated repositories; else `HF_TOKEN` of the environment or `.env`, else the
                login that `login()` saved.
            revision: Branch, tag or commit.

        Raises:
            HubError: It cannot be loaded, or a split or column is missing.
            InvalidRows: Rows cannot be items; all of them are listed.
        """
        from . import _reading

        tables = _reading.hub_tables(str(name), token=token, revision=revision)
        return ItemSplits(*(cls(table) for table in tables))

    @classmethod
    def from_file(
        cls, path: str | os.PathLike[str], *, columns: Mapping[str, str] | None = None, priced: bool = True
    ) -> ItemDataset:
        """Load a `.csv`, `.tsv`, `.jsonl` or `.parquet` file.

        Args:
            path: The file.
            columns: Foreign column names and ours, such as `{"description": "summary", "cost": "price"}`.
            priced: Whether each row must have a price. With False a missing price is fine.

        Raises:
            FileAccessError: The file cannot be read.
            InvalidRows: A column is missing, or rows cannot be items; all of them are listed.
        """
        from . import _reading

        return cls(_reading.file_table(path, columns=columns, priced=priced))

    @classmethod
    def from_pandas(
        cls, frame: pd.DataFrame, *, columns: Mapping[str, str] | None = None, priced: bool = True
    ) -> ItemDataset:
        """Take the rows of a frame; `columns` and `priced` as in `from_file`.

        Raises:
            InvalidRows: A column is missing, or rows cannot be items; all of them are listed.
        """
        from . import _reading

        return cls(_reading.frame_table(frame, columns=columns, priced=priced))

    @property
    def prices(self) -> npt.NDArray[np.float64]:
        """All prices in dollars, `nan` where unknown; shape `(len(self),)`."""
        import numpy as np

        return np.asarray(self._table["price"].to_numpy(zero_copy_only=False), dtype=np.float64)

    def to_pandas(self) -> pd.DataFrame:
        """Give all columns as a frame."""
        frame: pd.DataFrame = self._table.to_pandas()
        return frame

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> ItemDataset: ...
    def __getitem__(self, index: int | slice) -> Item | ItemDataset:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return ItemDataset(self._table.slice(start, max(0, stop - start)))
            return ItemDataset(self._table.take(list(range(start, stop, step))))
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        return _trusted(self._table.slice(at, 1).to_pylist()[0])

    def __iter__(self) -> Iterator[Item]:
        for batch in self._table.to_batches(max_chunksize=1000):
            for row in batch.to_pylist():
                yield _trusted(row)

    def __repr__(self) -> str:
        return f"ItemDataset({len(self):,} items)"


class ItemSplits(NamedTuple):
    """What is learned from, what is watched meanwhile, and what is judged by in the end."""

    train: ItemDataset
    validation: ItemDataset
    test: ItemDataset


def login(token: str | None = None, *, add_to_git_credential: bool = False) -> None:
    """Log in to the Hugging Face Hub and save the login for the next time.

    Args:
        token: The Hub token; else `HF_TOKEN` of the environment or `.env`, else asked for.
        add_to_git_credential: Also keep it where git looks for passwords.

    Raises:
        AccessDenied: The Hub does not accept the token.
    """
    from ._reading import hub_login

    hub_login(token, add_to_git_credential=add_to_git_credential)


def as_price(value: Any) -> float | None:
    """Turn a cell into a price, or None where it is empty; `ValueError` says why it cannot be one."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, bool):
        raise ValueError("a price is a number, not true or false")  # noqa: TRY004 - one kind for all cells
    if isinstance(value, str):
        try:
            return parse_price(value)
        except PricerError as error:
            raise ValueError(str(error)) from None
    try:
        price = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"a price is a number, not {type(value).__name__}") from None
    if not math.isfinite(price) or price < 0:
        raise ValueError(f"a price must be a finite number of at least 0, not {price!r}")
    return price


def require_price(item: Item, what_for: str, row: int | None = None) -> float:
    """Give the item's price, or raise `InvalidItem` naming the item, its row and the step that needs it."""
    if item.price is None:
        where = "" if row is None else f"row {row}, "
        raise InvalidItem(f"{where}item {item.id!r} ({item.label}) has no price, which {what_for} needs")
    return item.price


def content_id(fields: Mapping[str, Any]) -> str:
    """Hash everything but the price, so that a product keeps its id when its price becomes known."""
    content = "\x1f".join(
        str(fields.get(name) or "") for name in ("title", "category", *TEXT_FIELDS[:2], "weight")
    )
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _as_weight(value: Any) -> float | None:
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"must be a finite number, not {value!r}")
    return number


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _trusted(row: Mapping[str, Any]) -> Item:
    """Make an item of a row that was checked when its table was read."""
    item = object.__new__(Item)
    for field, value in row.items():
        object.__setattr__(item, field, value)
    return item
