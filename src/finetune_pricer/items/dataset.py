"""Many items, kept in an Arrow table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload

from .._methods.duplicates import group_ids
from ..errors import DataError, RowProblem
from . import hub, tables
from .description import Description, describe
from .file_formats import read_file
from .ingest import IngestResult, OnError, ingest, read_frame
from .item import ITEM_FIELDS, Item, build_items, require_price
from .sampling import count_of, price_strata, sample_evenly, split_rows
from .splits import ItemSplits

if TYPE_CHECKING:
    import os

    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa

_BATCH = 1000  # items that are made at a time when a set is iterated over


class ItemDataset(Sequence[Item]):
    """An immutable sequence of items, kept in an Arrow table; an `Item` is made when it is asked for.

    A slice is an `ItemDataset` too. Make one with `from_hub`, `from_file`, `from_items` or `from_pandas`.
    A table of more than 16 MB lies in a temporary file that is mapped, so memory does not grow with it.

    Attributes:
        table: The rows, as Arrow holds them.
        history: Where the rows come from and what was done to them, a sentence each.
        skipped: The rows of the source that could not be items, with `on_error="skip"`.

    Examples:
        >>> items = ItemDataset.from_items(
        ...     Item(title=f"shelf of {boards} boards", price=10.0 * boards) for boards in range(1, 101)
        ... )
        >>> items[4].title, items[-1].price
        ('shelf of 5 boards', 1000.0)
        >>> train, validation, test = items.split(validation=10, test=0.1, seed=42)
        >>> train
        ItemDataset(80 items)
        >>> test.history
        ('made in Python', 'split from 100 items, seed 42: test')
    """

    __slots__ = ("history", "skipped", "table")

    def __init__(
        self, table: pa.Table, *, history: Iterable[str] = (), skipped: Iterable[RowProblem] = ()
    ) -> None:
        self.table = table
        self.history = tuple(history)
        self.skipped = tuple(skipped)

    @classmethod
    def from_items(cls, items: Iterable[Item]) -> ItemDataset:
        """Make a set of items, from a list or from a generator."""
        return cls(tables.from_items(items), history=("made in Python",))

    @classmethod
    def from_predictions(
        cls, items: Iterable[Item], predictions: Iterable[Answered], *, model: str
    ) -> ItemDataset:
        """Make a set of items from what a model said that they cost, as further labels for another model.

        `history` says whose prices they are, and keeps saying so in whatever is made of the set. An item that
        has a price of its own, or of which the model named none, is left out. A model's prices carry the
        model's errors: train on them, and evaluate on true prices only.

        Args:
            items: Those that were priced, in the same order.
            predictions: What `predict_many` or a batch gave for them.
            model: Who named the prices; it goes into `history`.

        Raises:
            DataError: There is not one prediction for each item, or one is another item's.
        """
        seen = list[bool]()
        table = tables.from_items(_label(items, predictions, seen))
        done = f"priced by {model!r}, and not known to be true: {sum(seen):,} of {len(seen):,} items"
        return cls(table, history=(done,))

    @classmethod
    def from_hub(
        cls,
        name: str | os.PathLike[str],
        *,
        token: str | None = None,
        revision: str | None = None,
        columns: Mapping[str, str] | None = None,
        on_error: OnError = "raise",
        streaming: bool = False,
    ) -> ItemSplits:
        """Load the three splits of a data set of the Hugging Face Hub, or of a folder in the same layout.

        Args:
            name: A repository such as `"ed-donner/items_lite"`, or the path of a folder with files such as
                `train-00000-of-00001.parquet`. It needs the column `price`, and one of
                `summary`, `full` and `title`.
            token: For private and gated repositories; else `HF_TOKEN` of the environment or `.env`, else the
                login that `login()` saved.
            revision: Branch, tag or commit.
            columns: Foreign column names and ours, as in `from_file`.
            on_error: What happens to rows that cannot be items, as in `from_file`.
            streaming: Read the rows while they are downloaded, without a copy in the Hub's cache: for sets
                larger than memory or than the cache's disk.

        Raises:
            HubError: It cannot be loaded, or a split or column is missing.
            InvalidRows: Rows cannot be items; all of them are listed.
        """
        results = hub.load_splits(
            str(name),
            token=token,
            revision=revision,
            columns=columns,
            on_error=on_error,
            streaming=streaming,
        )
        return ItemSplits(*map(cls._from_result, results))

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        columns: Mapping[str, str] | None = None,
        priced: bool = True,
        on_error: OnError = "raise",
    ) -> ItemDataset:
        """Load a `.csv`, `.tsv`, `.jsonl` or `.parquet` file, or one of these with `.gz` behind.

        Args:
            path: The file. It is read in batches, never whole.
            columns: Foreign column names and ours, such as `{"description": "summary", "cost": "price"}`.
            priced: Whether each row must have a price. With False a missing price is fine.
            on_error: `"raise"` refuses the file when rows cannot be items; `"skip"` leaves these rows out,
                logs a warning, and lists them in `skipped`.

        Raises:
            FileAccessError: The file cannot be read.
            InvalidRows: A column is missing, or rows cannot be items; all of them are listed.
        """
        source = read_file(path, columns)
        return cls._from_result(ingest(source, columns=columns, priced=priced, on_error=on_error))

    @classmethod
    def from_pandas(
        cls,
        frame: pd.DataFrame,
        *,
        columns: Mapping[str, str] | None = None,
        priced: bool = True,
        on_error: OnError = "raise",
    ) -> ItemDataset:
        """Read the rows of a frame; `columns`, `priced` and `on_error` as in `from_file`.

        Raises:
            InvalidRows: A column is missing, or rows cannot be items; all of them are listed.
        """
        source = read_frame(frame)
        return cls._from_result(ingest(source, columns=columns, priced=priced, on_error=on_error))

    @classmethod
    def _from_result(cls, result: IngestResult) -> ItemDataset:
        return cls(result.table, history=result.history, skipped=result.skipped)

    @classmethod
    def concat(cls, *sets: ItemDataset) -> ItemDataset:
        """Put sets one behind the other."""
        history = dict.fromkeys(line for items in sets for line in items.history)
        skipped = [problem for items in sets for problem in items.skipped]
        return cls(tables.concat([items.table for items in sets]), history=history, skipped=skipped)

    @property
    def prices(self) -> npt.NDArray[np.float64]:
        """All prices in dollars, `nan` where unknown; shape `(len(self),)`."""
        return tables.numbers_of(self.table, "price")

    @property
    def stands_for(self) -> npt.NDArray[np.float64]:
        """How many items of the natural mix each one stands for; all 1 until `sample` has drawn from them.

        As weights they give a metric for the natural mix: `np.average(errors, weights=items.stands_for)`.
        """
        import numpy as np

        weights = tables.numbers_of(self.table, tables.STANDS_FOR)
        return np.where(np.isnan(weights), 1.0, weights)

    def filter(self, keep: Callable[[Item], bool]) -> ItemDataset:
        """Keep the items for which `keep(item)` is true."""
        import numpy as np

        kept = np.fromiter((bool(keep(item)) for item in self), dtype=bool, count=len(self))
        return self._take_rows(np.flatnonzero(kept), f"filtered: {int(kept.sum()):,} of {len(self):,} kept")

    def take(self, rows: Iterable[int]) -> ItemDataset:
        """Return the items at these positions, counted from 0, in this order."""
        import numpy as np

        return self._take_rows(np.fromiter(rows, dtype=np.int64))

    def shuffle(self, seed: int = 42) -> ItemDataset:
        """Put the items into random order; the same seed gives the same order."""
        import numpy as np

        return self._take_rows(np.random.default_rng(seed).permutation(len(self)), f"shuffled, seed {seed}")

    def sample(
        self, n: int, seed: int = 42, *, by: Literal["price", "category"] | None = None
    ) -> ItemDataset:
        """Draw `n` items at random, without putting back.

        Args:
            n: How many.
            seed: The same seed draws the same items.
            by: `"price"` draws as many from each tenth of the range of log prices, `"category"` as many from
                each category, so that rare prices and categories are seen too. Where a stratum has too few
                items, the others give more. `stands_for` keeps the natural mix.

        Raises:
            DataError: There are fewer than `n`, or an item has no price and `by="price"`.
        """
        rows, stands_for = sample_evenly(self._strata(by), count_of("n", int(n), len(self)), seed)
        how = f" evenly by {by}" if by else ""
        done = f"{len(rows):,} of {len(self):,} drawn{how}, seed {seed}"
        return self._take_rows(rows, done, stands_for=stands_for * self.stands_for[rows])

    def split(
        self,
        *,
        validation: float = 0.1,
        test: float = 0.1,
        seed: int = 42,
        group: str | Sequence[Any] | npt.NDArray[Any] | Callable[[Item], Any] | None = None,
    ) -> ItemSplits:
        """Divide the items at random into training, validation and test.

        Args:
            validation: A share below 1, or a count.
            test: A share below 1, or a count.
            seed: The same seed gives the same splits.
            group: Items of one group stay in one split, so that no near-duplicate of a test item is learned
                from: a field's name, a function of an item, or a label for each item, such as
                `audit(items).groups()`. A part may then be a little smaller than its size.

        Raises:
            DataError: A size is out of range; there is not one label for each item; or groups are so large
                that a part would stay more than a tenth below its size.
        """
        import numpy as np

        sizes = (count_of("validation", validation, len(self)), count_of("test", test, len(self)))
        if sum(sizes) > len(self):
            raise DataError(f"validation and test take {sum(sizes):,} of {len(self):,} items")
        groups = np.arange(len(self)) if group is None else group_ids(self._labels(group))
        together = "" if group is None else ", groups kept together"
        done = f"split from {len(self):,} items, seed {seed}{together}: "
        parts = zip(ItemSplits._fields, split_rows(groups, sizes, seed), strict=True)
        return ItemSplits(*(self._take_rows(rows, done + name) for name, rows in parts))

    def describe(self) -> Description:
        """Return counts of items and categories, and quantiles of prices and lengths; `str()` is a page."""
        return describe(self.table, skipped=self._rows_skipped())

    def to_pandas(self) -> pd.DataFrame:
        """Return all columns as a frame."""
        frame: pd.DataFrame = self.table.to_pandas()
        return frame

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write all columns to a Parquet file; `from_file` reads it again.

        Raises:
            FileAccessError: The path cannot be written.
        """
        tables.write_parquet(self.table, path)

    def _strata(self, by: str | None) -> npt.NDArray[np.int64]:
        import numpy as np

        if by is None:
            return np.zeros(len(self), dtype=np.int64)
        if by == "category":
            return group_ids(self.table["category"].to_pylist())
        if by != "price":
            raise DataError(f"by is 'price' or 'category', not {by!r}")
        prices = self.prices
        for row in np.flatnonzero(np.isnan(prices))[:1]:
            require_price(self[int(row)], "sampling by price", int(row) + 1)
        return price_strata(prices)

    def _labels(
        self, group: str | Sequence[Any] | npt.NDArray[Any] | Callable[[Item], Any]
    ) -> Sequence[Any] | npt.NDArray[Any]:
        if callable(group):
            return [group(item) for item in self]
        if isinstance(group, str):
            if group not in ITEM_FIELDS:
                raise DataError(f"an item has no field {group!r}; it has {', '.join(ITEM_FIELDS)}")
            labels: list[Any] = self.table[group].to_pylist()
            return labels
        if len(group) != len(self):
            raise DataError(f"{len(group):,} group labels for {len(self):,} items; give one for each")
        return group

    def _take_rows(
        self,
        rows: npt.NDArray[np.int64],
        done: str | None = None,
        *,
        stands_for: npt.NDArray[np.float64] | None = None,
    ) -> ItemDataset:
        history = self.history if done is None else (*self.history, done)
        table = tables.take(self.table, rows)
        table = table if stands_for is None else tables.with_weights(table, stands_for)
        return ItemDataset(table, history=history, skipped=self.skipped)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> ItemDataset: ...
    def __getitem__(self, index: int | slice) -> Item | ItemDataset:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                table = self.table.slice(start, max(0, stop - start))
                return ItemDataset(table, history=self.history, skipped=self.skipped)
            import numpy as np

            return self._take_rows(np.arange(start, stop, step))
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        return next(_build_items(self.table.slice(at, 1)))

    def __iter__(self) -> Iterator[Item]:
        for start in range(0, len(self), _BATCH):
            yield from _build_items(self.table.slice(start, _BATCH))

    def __repr__(self) -> str:
        skipped = self._rows_skipped()
        return f"ItemDataset({len(self):,} items" + (f", {skipped:,} rows skipped)" if skipped else ")")

    def _rows_skipped(self) -> int:
        return len({problem.row for problem in self.skipped})


class Answered(Protocol):
    """What a model said about an item."""

    @property
    def item_id(self) -> str:
        """Which item it is about."""

    @property
    def price(self) -> float | None:
        """What it costs, or None."""


def _label(items: Iterable[Item], predictions: Iterable[Answered], seen: list[bool]) -> Iterator[Item]:
    """Yield each item that gets a price by its prediction; note of each one whether it did."""
    for row, (item, said) in enumerate(zip_longest(items, predictions), start=1):
        if item is None or said is None:
            raise DataError(f"row {row}: there must be one prediction for each item, and here one side ends")
        if not isinstance(item, Item):
            raise DataError(f"row {row}: a label needs an Item, not a {type(item).__name__}")
        if said.item_id != item.id:
            raise DataError(f"row {row}: the prediction is for item {said.item_id!r}, not for {item.id!r}")
        seen.append(item.price is None and said.price is not None)
        if seen[-1]:
            yield replace(item, price=said.price)


def _build_items(table: pa.Table) -> Iterator[Item]:
    return build_items(table[name].to_pylist() for name in ITEM_FIELDS)
