"""Many items, kept in an Arrow table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload

from .._arguments import (
    refuse,
    require_choice,
    require_file,
    require_flag,
    require_function,
    require_many,
    require_mapping,
    require_path,
    require_text,
    require_whole,
)
from .._display import FIRST, render_first
from .._format import UNNAMED, Unnamed, require_currency
from .._methods.duplicates import group_ids
from .._numbers import read_whole
from ..errors import DataError, RowProblem
from . import hub, tables
from .cell_rules import CellRules, DecimalMark, Html, ZeroIs, write_notes
from .description import MADE_HERE, Description, describe
from .file_formats import read_file
from .foreign_rows import read_arrow, read_frame, read_records
from .ingest import IngestResult, OnError, ingest
from .item import ITEM_FIELDS, Item, build_items, require_items, require_price, require_set
from .sampling import count_of, find_rows, make_draw, price_strata, sample_evenly, split_rows
from .splits import ItemSplits

if TYPE_CHECKING:
    import os

    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa

    from .._csv_file import Formulas


_BATCH = 1000  # items that are made at a time when a set is iterated over
_COMPARED = [*ITEM_FIELDS, tables.STANDS_FOR]


class ItemDataset(Sequence[Item]):
    """An immutable sequence of items, kept in an Arrow table; an `Item` is made when it is asked for.

    A slice is an `ItemDataset` too, and so is what positions or a mask choose; `items["price"]` is a column.
    Sets of equal items in the same order are equal, wherever they come from. Make one with `from_hub`,
    `from_file`, `from_records`, `from_pandas`, `from_arrow` or `from_items`.
    A table of more than 16 MB lies in a temporary file that is mapped, so memory does not grow with it.

    Attributes:
        table: The rows, as Arrow holds them.
        history: Where the rows come from and what was done to them, a sentence each.
        skipped: The rows of the source that could not be items, with `on_error="skip"`.
        currency: ISO code of the currency that all prices are in.
        zero_is: `"price"` where somebody said that a price of 0 is one; None where nobody said anything, and
            whoever would learn from such a price, or judge by it, refuses it.

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
        >>> [item.price for item in items[[0, -1]]], items["price"].max()
        ([10.0, 1000.0], np.float64(1000.0))
        >>> train + validation + test == items
        False
        >>> items[:50] + items[50:] == items
        True
    """

    __slots__ = ("currency", "history", "skipped", "table", "zero_is")

    def __init__(
        self,
        table: pa.Table,
        *,
        history: Iterable[str] = (),
        skipped: Iterable[RowProblem] = (),
        currency: str | None = None,
        zero_is: ZeroIs | None = None,
    ) -> None:
        if not hasattr(table, "num_rows") or isinstance(table, type):
            raise refuse("table", "an Arrow table", table, "from_items, from_file and from_hub make a set")
        for name, many in (("history", history), ("skipped", skipped)):
            if isinstance(many, str | type) or not hasattr(many, "__iter__"):
                raise refuse(name, "a list", many)
        self.table: pa.Table = table
        self.history: tuple[str, ...] = tuple(history)
        self.skipped: tuple[RowProblem, ...] = tuple(skipped)
        self.currency: str = UNNAMED if currency is None else require_currency(currency)
        self.zero_is: ZeroIs | None = zero_is

    @classmethod
    def from_items(
        cls, items: Iterable[Item], *, currency: str | None = None, zero_is: ZeroIs | None = None
    ) -> ItemDataset:
        """Make a set of items, from a list or from a generator.

        Args:
            items: One product each.
            currency: ISO code of their prices' currency. Without one it is that of whoever names one, such as
                a formatter, else USD.
            zero_is: `"price"` where a price of 0 is one; `"unknown"` takes such prices out.
        """
        require_items(items)
        rules = CellRules(currency=currency, zero_is=zero_is)
        if rules.zero_is == "unknown":
            items = (replace(item, price=None) if item.price == 0 else item for item in items)
        return cls(
            tables.from_items(items),
            history=(MADE_HERE,),
            currency=currency,
            zero_is=rules.zero_is,
        )

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
        require_items(items)
        require_many("predictions", predictions, "predictions")
        require_text("model", model)
        seen = list[bool]()
        table = tables.from_items(_label(items, predictions, seen))
        done = f"priced by {model!r}, and not known to be true: {sum(seen):,} of {len(seen):,} items"
        return cls(table, history=(done,))

    @overload
    @classmethod
    def from_hub(
        cls,
        name: str | os.PathLike[str],
        *,
        split: None = ...,
        token: str | None = ...,
        revision: str | None = ...,
        columns: Mapping[str, str] | None = ...,
        on_error: OnError = ...,
        streaming: bool = ...,
        currency: str | None = ...,
        decimal: DecimalMark | None = ...,
        zero_is: ZeroIs | None = ...,
        html: Html = ...,
    ) -> ItemSplits: ...
    @overload
    @classmethod
    def from_hub(
        cls,
        name: str | os.PathLike[str],
        *,
        split: str,
        token: str | None = ...,
        revision: str | None = ...,
        columns: Mapping[str, str] | None = ...,
        on_error: OnError = ...,
        streaming: bool = ...,
        currency: str | None = ...,
        decimal: DecimalMark | None = ...,
        zero_is: ZeroIs | None = ...,
        html: Html = ...,
    ) -> ItemDataset: ...
    @classmethod
    def from_hub(
        cls,
        name: str | os.PathLike[str],
        *,
        split: str | None = None,
        token: str | None = None,
        revision: str | None = None,
        columns: Mapping[str, str] | None = None,
        on_error: OnError = "raise",
        streaming: bool = False,
        currency: str | None = None,
        decimal: DecimalMark | None = None,
        zero_is: ZeroIs | None = None,
        html: Html = "strip",
    ) -> ItemSplits | ItemDataset:
        """Load a data set of the Hugging Face Hub, or of a folder in the same layout: all splits, or one.

        Args:
            name: A repository such as `"ed-donner/items_lite"`, or the path of a folder with files such as
                `train-00000-of-00001.parquet`. It needs the column `price`, and one of
                `summary`, `full` and `title`.
            split: Such as `"train"`: read this one, and return one set, which `split()` divides. Without it
                there must be three, for training, validation and test.
            token: For private and gated repositories; else `HF_TOKEN` of the environment or `.env`, else the
                login that `login()` saved.
            revision: Branch, tag or commit.
            columns: Foreign column names and ours, as in `from_file`.
            on_error: What happens to rows that cannot be items, as in `from_file`.
            streaming: Read the rows while they are downloaded, without a copy in the Hub's cache: for sets
                larger than memory or than the cache's disk.
            currency: As in `from_file`, and so are `decimal`, `zero_is` and `html`. A set that was pushed
                from here says itself which currency its prices are in.
            decimal: What stands before the decimals of prices that are text.
            zero_is: What a price of 0 means.
            html: What happens to HTML in texts.

        Raises:
            DataError: The set says that its prices are in another currency.
            HubError: It cannot be loaded, or a split or column is missing.
            InvalidRows: Rows cannot be items; all of them are listed.
        """
        require_path("name", name, "give a Hub id such as 'owner/name', or a folder")
        require_text("token", token, or_none=True)
        require_text("revision", revision, or_none=True)
        _check_columns(columns)
        require_choice("on_error", on_error, ("raise", "skip"))
        require_flag("streaming", streaming)
        results = hub.load_splits(
            str(name),
            split=split,
            token=token,
            revision=revision,
            columns=columns,
            on_error=on_error,
            streaming=streaming,
            rules=CellRules(currency=currency, decimal=decimal, zero_is=zero_is, html=html),
        )
        sets = [cls._from_result(result) for result in results]
        return ItemSplits(*sets) if split is None else sets[0]

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        columns: Mapping[str, str] | None = None,
        priced: bool = True,
        encoding: str | None = None,
        delimiter: str | None = None,
        on_error: OnError = "raise",
        currency: str | None = None,
        decimal: DecimalMark | None = None,
        zero_is: ZeroIs | None = None,
        html: Html = "strip",
    ) -> ItemDataset:
        """Load a `.csv`, `.tsv`, `.jsonl`, `.json`, `.parquet` or `.xlsx` file, also with `.gz` behind.

        A `.json` holds an array of objects. An `.xlsx` needs `pip install 'finetune-pricer[excel]'`, and of
        several sheets, the one is read that has the columns. Where it had to be found out how to read a file,
        that is said at INFO, in `history` and in `describe()`.

        Args:
            path: The file. It is read in batches, never whole, but for a sheet of an `.xlsx`.
            columns: Foreign column names and ours, such as `{"description": "summary", "cost": "price"}`.
            priced: Whether each row must have a price. With False a missing price is fine.
            encoding: What a text file is encoded in, such as `"cp1252"`. By default its mark says so, else
                its first bytes beyond ASCII: they are UTF-8, or letters of one other encoding. Rows whose
                bytes may be letters of two encodings are refused with both readings.
            delimiter: What stands between the cells of a `.csv` or `.tsv`. By default a comma, semicolon, tab
                or bar, whichever gives a head with the columns.
            on_error: `"raise"` refuses the file when rows cannot be items; `"skip"` leaves these rows out,
                logs a warning, and lists them in `skipped`.
            currency: ISO code of the prices' currency, such as `"EUR"`. Prices in another are refused, and
                nothing is converted. None takes what a file of ours says of itself, else USD.
            decimal: What stands before the decimals of prices that are text, `"."` or `","`. None lets the
                column show it: `1.299` is 1299 beside `12,50`, and 1.299 beside `12.50`. A column that shows
                both is refused, and so are rows that may mean either, such as a lone `1.299` in euros.
            zero_is: `"unknown"` reads a price of 0 as none, `"price"` as one. None keeps it, and writing
                training files, evaluating and calibrating refuse it.
            html: `"strip"` takes HTML out of texts: blocks become line breaks, entities characters. `"keep"`
                leaves texts as they are.

        Raises:
            DataError: The file says that its prices are in another currency.
            FileAccessError: The file cannot be read.
            InvalidRows: A column is missing, or rows cannot be items; all of them are listed, with the
                line of the file (of an `.xlsx`, the sheet's row).
            MissingExtra: An `.xlsx` is to be read, and python-calamine is not installed.
            DataError: A delimiter or an encoding was given that is none.
        """
        require_file("path", path, "ItemDataset.from_hub(path) loads a folder of splits")
        _check_columns(columns)
        require_flag("priced", priced)
        require_choice("on_error", on_error, ("raise", "skip"))
        rules = CellRules(currency=currency, decimal=decimal, zero_is=zero_is, html=html)
        source = read_file(path, columns, encoding=encoding, delimiter=delimiter, priced=priced)
        return cls._from_result(
            ingest(source, columns=columns, priced=priced, on_error=on_error, rules=rules)
        )

    @classmethod
    def from_pandas(
        cls,
        frame: pd.DataFrame,
        *,
        columns: Mapping[str, str] | None = None,
        priced: bool = True,
        on_error: OnError = "raise",
        currency: str | None = None,
        decimal: DecimalMark | None = None,
        zero_is: ZeroIs | None = None,
        html: Html = "strip",
    ) -> ItemDataset:
        """Read the rows of a pandas frame, whatever its columns' types are.

        Args:
            frame: Columns that no item has are not looked at.
            columns: Foreign column names and ours, as in `from_file`.
            priced: Whether each row must have a price.
            on_error: What happens to rows that cannot be items, as in `from_file`.
            currency: As in `from_file`, and so are `decimal`, `zero_is` and `html`.
            decimal: What stands before the decimals of prices that are text.
            zero_is: What a price of 0 means.
            html: What happens to HTML in texts.

        Raises:
            DataError: It is no pandas frame.
            InvalidRows: A column is missing, or rows cannot be items; all of them are listed.
        """
        require_frame(frame)
        _check_columns(columns)
        require_flag("priced", priced)
        require_choice("on_error", on_error, ("raise", "skip"))
        rules = CellRules(currency=currency, decimal=decimal, zero_is=zero_is, html=html)
        source = read_frame(frame, columns)
        return cls._from_result(
            ingest(source, columns=columns, priced=priced, on_error=on_error, rules=rules)
        )

    @classmethod
    def from_arrow(
        cls,
        table: object,
        *,
        columns: Mapping[str, str] | None = None,
        priced: bool = True,
        on_error: OnError = "raise",
        currency: str | None = None,
        decimal: DecimalMark | None = None,
        zero_is: ZeroIs | None = None,
        html: Html = "strip",
    ) -> ItemDataset:
        """Read the rows of a table of polars, duckdb, pyarrow, or whatever else speaks Arrow.

        Args:
            table: Anything with the Arrow C stream protocol (`__arrow_c_stream__`). It is read in batches.
            columns: Foreign column names and ours, as in `from_file`.
            priced: Whether each row must have a price.
            on_error: What happens to rows that cannot be items, as in `from_file`.
            currency: As in `from_file`, and so are `decimal`, `zero_is` and `html`.
            decimal: What stands before the decimals of prices that are text.
            zero_is: What a price of 0 means.
            html: What happens to HTML in texts.

        Raises:
            DataError: It does not speak Arrow.
            InvalidRows: A column is missing, or rows cannot be items; all of them are listed.
        """
        _check_columns(columns)
        require_flag("priced", priced)
        require_choice("on_error", on_error, ("raise", "skip"))
        rules = CellRules(currency=currency, decimal=decimal, zero_is=zero_is, html=html)
        source = read_arrow(table, columns)
        return cls._from_result(
            ingest(source, columns=columns, priced=priced, on_error=on_error, rules=rules)
        )

    @classmethod
    def from_records(
        cls,
        records: Iterable[Mapping[str, Any]],
        *,
        columns: Mapping[str, str] | None = None,
        priced: bool = True,
        on_error: OnError = "raise",
        currency: str | None = None,
        decimal: DecimalMark | None = None,
        zero_is: ZeroIs | None = None,
        html: Html = "strip",
    ) -> ItemDataset:
        """Read rows that are dicts, such as those of `json.load` or `csv.DictReader`.

        Args:
            records: From any iterable. A key that a row lacks is no value there.
            columns: Foreign column names and ours, as in `from_file`.
            priced: Whether each row must have a price.
            on_error: What happens to rows that cannot be items, as in `from_file`.
            currency: As in `from_file`, and so are `decimal`, `zero_is` and `html`.
            decimal: What stands before the decimals of prices that are text.
            zero_is: What a price of 0 means.
            html: What happens to HTML in texts.

        Raises:
            DataError: They are no rows.
            InvalidRows: A column is missing, or rows cannot be items; all of them are listed.
        """
        _check_columns(columns)
        require_flag("priced", priced)
        require_choice("on_error", on_error, ("raise", "skip"))
        rules = CellRules(currency=currency, decimal=decimal, zero_is=zero_is, html=html)
        source = read_records(records, columns)
        return cls._from_result(
            ingest(source, columns=columns, priced=priced, on_error=on_error, rules=rules)
        )

    @classmethod
    def _from_result(cls, result: IngestResult) -> ItemDataset:
        return cls(
            result.table,
            history=result.history,
            skipped=result.skipped,
            currency=result.currency,
            zero_is=result.zero_is,
        )

    @classmethod
    def concat(cls, *sets: ItemDataset) -> ItemDataset:
        """Put sets one behind the other.

        Raises:
            DataError: Their prices are in different currencies.
        """
        for number, items in enumerate(sets, start=1):
            require_set(items, f"set {number}")
        currencies = {str(one.currency) for one in sets if not isinstance(one.currency, Unnamed)}
        if len(currencies) > 1:
            raise DataError(
                f"prices in {' and '.join(sorted(currencies))} cannot stand in one set; convert them, and "
                "read them with one currency="
            )
        history = dict.fromkeys(line for items in sets for line in items.history)
        skipped = [problem for items in sets for problem in items.skipped]
        said: set[ZeroIs | None] = {items.zero_is for items in sets}
        return cls(
            tables.concat([items.table for items in sets]),
            history=history,
            skipped=skipped,
            currency=next(iter(currencies), None),
            zero_is=next(iter(said)) if len(said) == 1 else None,
        )

    @property
    def prices(self) -> npt.NDArray[np.float64]:
        """All prices in the set's currency, `nan` where unknown; shape `(len(self),)`."""
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

        require_function("keep", keep, "a function of an item")
        kept = np.fromiter((bool(keep(item)) for item in self), dtype=bool, count=len(self))
        return self._take_rows(np.flatnonzero(kept), f"filtered: {int(kept.sum()):,} of {len(self):,} kept")

    def take(self, rows: Iterable[int] | Iterable[bool]) -> ItemDataset:
        """Return the items at these positions, in this order, or those for which a mask is true.

        Args:
            rows: Positions, counted from 0, or from the end where they are negative; or a mask: a truth value
                for each item. A list, an array of numpy, a series of pandas, whatever can be iterated over.

        Raises:
            DataError: There is no item at a position, a mask is not as long as the set, or something is
                neither.
        """
        return self._take_rows(find_rows(rows, len(self)))

    def shuffle(self, seed: int = 42) -> ItemDataset:
        """Put the items into random order; the same seed gives the same order."""
        return self._take_rows(make_draw(seed).permutation(len(self)), f"shuffled, seed {seed}")

    def sample(
        self, n: float, seed: int = 42, *, by: Literal["price", "category"] | None = None
    ) -> ItemDataset:
        """Draw `n` items at random, without putting back.

        Args:
            n: A share below 1, or a count.
            seed: The same seed draws the same items.
            by: `"price"` draws as many from each tenth of the range of log prices, `"category"` as many from
                each category, so that rare prices and categories are seen too. Where a stratum has too few
                items, the others give more. `stands_for` keeps the natural mix.

        Raises:
            DataError: There are fewer than `n`, or a share of so few is no item.
            InvalidItem: An item has no price, and `by="price"`.
        """
        if by is not None:
            require_choice("by", by, ("price", "category"))
        rows, stands_for = sample_evenly(self._strata(by), count_of("n", n, len(self)), seed)
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
            DataError: A size is out of range, or a share of so few is no item; there is not one label for
                each item; or groups are so large that a part would stay more than a tenth below its size.
        """
        import numpy as np

        require_whole("seed", seed, low=0)
        sizes = (count_of("validation", validation, len(self)), count_of("test", test, len(self)))
        if sum(sizes) > len(self):
            raise DataError(f"validation and test take {sum(sizes):,} of {len(self):,} items")
        groups = np.arange(len(self)) if group is None else self._groups(group)
        together = "" if group is None else ", groups kept together"
        done = f"split from {len(self):,} items, seed {seed}{together}: "
        parts = split_rows(groups, sizes, seed)
        named = zip(ItemSplits._fields, parts, strict=True)
        return ItemSplits(*(self._take_rows(rows, done + name) for name, rows in named))

    def describe(self) -> Description:
        """Return counts of items and categories, and quantiles of prices and lengths; `str()` is a page."""
        skipped = self._rows_skipped()
        return describe(self.table, skipped=skipped, history=self.history, currency=self.currency)

    def to_pandas(self) -> pd.DataFrame:
        """Return all columns as a frame."""
        frame: pd.DataFrame = self.table.to_pandas()
        return frame

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write all columns to a Parquet file; `from_file` reads it again.

        Raises:
            FileAccessError: The path cannot be written.
        """
        tables.write_parquet(self.table, path, write_notes(self.currency, self.zero_is))

    def to_csv(self, path: str | os.PathLike[str], *, formulas: Formulas = "keep") -> None:
        """Write all columns to a CSV file in UTF-8; `from_file` reads it again, with the same `currency`.

        What is missing is an empty cell, and so is an empty text.

        Args:
            path: Where to write.
            formulas: `"keep"` writes each text as it is, for programs. A title may begin with `=`, `+`, `-`
                or `@`, which a spreadsheet runs as a formula: `"escape"` puts a `'` before it, for people.

        Raises:
            DataError: `formulas` is something else.
            FileAccessError: The path cannot be written; what stood there stays.
        """
        tables.write_rows_as_csv(self.table, path, formulas)

    def to_jsonl(self, path: str | os.PathLike[str]) -> None:
        """Write all columns to a file of JSON objects, one a line; `from_file` reads it again.

        The lines are items, not examples for training: `JsonlWriter` writes those.

        Raises:
            FileAccessError: The path cannot be written; what stood there stays.
        """
        tables.write_jsonl(self.table, path)

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

    def _groups(
        self, group: str | Sequence[Any] | npt.NDArray[Any] | Callable[[Item], Any]
    ) -> npt.NDArray[np.int64]:
        labels = self._labels(group)
        try:
            if len(labels) != len(self):
                raise DataError(f"{len(labels):,} group labels for {len(self):,} items; give one for each")
            return group_ids(labels)
        except TypeError as error:  # of what has no length, or cannot be compared with others
            raise DataError(f"group= takes a text or a number as label of each item: {error}") from error

    def _labels(
        self, group: str | Sequence[Any] | npt.NDArray[Any] | Callable[[Item], Any]
    ) -> Sequence[Any] | npt.NDArray[Any]:
        if isinstance(group, type) or not (callable(group) or hasattr(group, "__len__")):
            raise refuse("group", "a field's name, a function of an item, or a label for each item", group)
        if callable(group):
            return [group(item) for item in self]
        if isinstance(group, str):
            return self._column(group)
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
        return self._with_table(table, history)

    def _with_table(self, table: pa.Table, history: Iterable[str]) -> ItemDataset:
        """Return a set of other rows of the same source: what is known of these holds for them."""
        return ItemDataset(
            table, history=history, skipped=self.skipped, currency=self.currency, zero_is=self.zero_is
        )

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice | Iterable[int] | Iterable[bool]) -> ItemDataset: ...
    @overload
    def __getitem__(self, index: Literal["price", "weight"]) -> npt.NDArray[np.float64]: ...
    @overload
    def __getitem__(self, index: str) -> list[str | None] | npt.NDArray[np.float64]: ...
    def __getitem__(
        self, index: int | slice | str | Iterable[int] | Iterable[bool]
    ) -> Item | ItemDataset | list[str | None] | npt.NDArray[np.float64]:
        """Return an item by its position, a column by its name, or the set of a slice, positions or a mask.

        Numbers come as an array, `nan` where an item has none; texts as a list, None where an item has none.

        Raises:
            IndexError: There is no item at the position.
            DataError: There is no such column, or as of `take`.
        """
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return self._slice(start, max(0, stop - start))
            import numpy as np

            return self._take_rows(np.arange(start, stop, step))
        if isinstance(index, str):
            return self._column(index)
        row = read_whole(index)
        if row is None:
            return self.take(index)  # type: ignore[arg-type]
        at = row + len(self) if row < 0 else row
        if not 0 <= at < len(self):
            raise IndexError(f"item {row} of {len(self)}")
        return next(_build_items(self.table.slice(at, 1)))

    def __add__(self, other: object) -> ItemDataset:
        """Put another set behind this one, as `concat` does."""
        return ItemDataset.concat(self, other) if isinstance(other, ItemDataset) else NotImplemented

    def __eq__(self, other: object) -> bool:
        """Whether another set holds equal items in the same order and currency, which stand for as many.

        Where they come from (`history`, `skipped`) does not count.
        """
        if not isinstance(other, ItemDataset):
            return NotImplemented
        if self is other:
            return True
        same = self.table.select(_COMPARED).equals(other.table.select(_COMPARED))
        return same and self.currency == other.currency

    def __hash__(self) -> int:
        # Equal sets have equal ends; to look at every item would take as long as to compare them.
        ends = [self[0], self[-1]] if len(self) else []
        return hash((len(self), *ends))

    def _slice(self, start: int, count: int) -> ItemDataset:
        return self._with_table(self.table.slice(start, count), self.history)

    def _column(self, name: str) -> list[str | None] | npt.NDArray[np.float64]:
        if name not in ITEM_FIELDS:
            raise DataError(f"an item has no field {name!r}; it has {', '.join(ITEM_FIELDS)}")
        if name in {"price", "weight"}:
            return tables.numbers_of(self.table, name)
        column: list[str | None] = self.table[name].to_pylist()
        return column

    def __iter__(self) -> Iterator[Item]:
        for start in range(0, len(self), _BATCH):
            yield from _build_items(self.table.slice(start, _BATCH))

    def __repr__(self) -> str:
        skipped = self._rows_skipped()
        return f"ItemDataset({len(self):,} items" + (f", {skipped:,} rows skipped)" if skipped else ")")

    def _repr_html_(self) -> str:
        rows = [(item.title, item.category, item.price, item.text) for item in self[:FIRST]]
        return render_first(("title", "category", "price", "text"), rows, repr(self))

    def _rows_skipped(self) -> int:
        return len({problem.row for problem in self.skipped})


def _check_columns(columns: object) -> None:
    if columns is not None:
        require_mapping("columns", columns, "foreign names and ours, as {'theirs': 'ours'}")
        for ours in columns.values():  # type: ignore[attr-defined]
            require_text("a field in columns", ours)


def require_frame(frame: object) -> None:
    """Make sure that a thing is a pandas frame.

    Raises:
        WrongArgument: It is something else.
    """
    if not hasattr(frame, "iloc") or not hasattr(frame, "columns"):
        hint = "from_file reads a file, from_items takes items, and from_records takes dicts"
        if hasattr(frame, "__arrow_c_stream__"):
            hint = "from_arrow takes tables of polars, duckdb and pyarrow"
        raise refuse("frame", "a pandas.DataFrame", frame, hint)


class Answered(Protocol):
    """What a model said about an item."""

    @property
    def item_id(self) -> str:
        """Which item it is about."""
        ...

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
