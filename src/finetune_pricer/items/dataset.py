"""Many items in an Arrow table, and the three splits that a road needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

from ..errors import DataError, RowProblem
from .item import ITEM_FIELDS, Item, require_price, trusted_items

if TYPE_CHECKING:
    import os

    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa

    from .description import Description
    from .ingest import Loaded

OnError = Literal["raise", "skip"]
_BATCH = 1000  # items that are made together when a set is walked through


class ItemDataset(Sequence[Item]):
    """An immutable sequence of items, kept in an Arrow table; items are made when looked at.

    A slice is an `ItemDataset` too. Make one with `from_hub`, `from_file`, `from_items` or `from_pandas`.
    What is larger than 16 MB lies in a temporary file that is mapped, so memory does not grow with it.

    Attributes:
        table: The rows, as Arrow holds them.
        history: Where the rows come from and what was done to them, a sentence each.
        skipped: The rows of the source that could not be items, where they were not refused.
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
        """Gather items that exist already, or that a generator makes."""
        from .tables import gathered

        return cls(gathered(items), history=("made in Python",))

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
            streaming: Read over the network as it comes, without a copy in the Hub's cache: for sets larger
                than memory or than the cache's disk.

        Raises:
            HubError: It cannot be loaded, or a split or column is missing.
            InvalidRows: Rows cannot be items; all of them are listed.
        """
        from . import hub

        splits = hub.hub_splits(
            str(name),
            token=token,
            revision=revision,
            columns=columns,
            on_error=on_error,
            streaming=streaming,
        )
        return ItemSplits(*(cls._loaded(split) for split in splits))

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
                says so in the log, and keeps them in `skipped`.

        Raises:
            FileAccessError: The file cannot be read.
            InvalidRows: A column is missing, or rows cannot be items; all of them are listed.
        """
        from . import ingest
        from .file_formats import file_rows

        rows = file_rows(path, columns)
        return cls._loaded(ingest.load(rows, columns=columns, priced=priced, on_error=on_error))

    @classmethod
    def from_pandas(
        cls,
        frame: pd.DataFrame,
        *,
        columns: Mapping[str, str] | None = None,
        priced: bool = True,
        on_error: OnError = "raise",
    ) -> ItemDataset:
        """Take the rows of a frame; `columns`, `priced` and `on_error` as in `from_file`.

        Raises:
            InvalidRows: A column is missing, or rows cannot be items; all of them are listed.
        """
        from . import ingest
        from .tables import frame_rows

        rows = frame_rows(frame)
        return cls._loaded(ingest.load(rows, columns=columns, priced=priced, on_error=on_error))

    @classmethod
    def _loaded(cls, loaded: Loaded) -> ItemDataset:
        return cls(loaded.table, history=loaded.history, skipped=loaded.skipped)

    @classmethod
    def concat(cls, *sets: ItemDataset) -> ItemDataset:
        """Put sets one behind the other."""
        from .tables import joined

        history = dict.fromkeys(line for items in sets for line in items.history)
        skipped = [problem for items in sets for problem in items.skipped]
        return cls(joined([items.table for items in sets]), history=history, skipped=skipped)

    @property
    def prices(self) -> npt.NDArray[np.float64]:
        """All prices in dollars, `nan` where unknown; shape `(len(self),)`."""
        import numpy as np

        return np.asarray(self.table["price"].to_numpy(zero_copy_only=False), dtype=np.float64)

    @property
    def stands_for(self) -> npt.NDArray[np.float64]:
        """How many items of the natural mix each one stands for; all 1 until `sample` has drawn from them.

        As weights they give a metric for the natural mix: `np.average(errors, weights=items.stands_for)`.
        """
        import numpy as np

        weights = np.asarray(self.table["stands_for"].to_numpy(zero_copy_only=False), dtype=np.float64)
        return np.where(np.isnan(weights), 1.0, weights)

    def filter(self, keep: Callable[[Item], bool]) -> ItemDataset:
        """Keep the items for which `keep(item)` is true."""
        import numpy as np

        kept = np.fromiter((bool(keep(item)) for item in self), dtype=bool, count=len(self))
        return self._rows(np.flatnonzero(kept), f"filtered: {int(kept.sum()):,} of {len(self):,} kept")

    def take(self, rows: Iterable[int]) -> ItemDataset:
        """Give the items at these places, in this order."""
        import numpy as np

        return self._rows(np.fromiter(rows, dtype=np.int64))

    def shuffle(self, seed: int = 42) -> ItemDataset:
        """Put the items into random order; the same seed gives the same order."""
        import numpy as np

        return self._rows(np.random.default_rng(seed).permutation(len(self)), f"shuffled, seed {seed}")

    def sample(
        self, n: int, seed: int = 42, *, by: Literal["price", "category"] | None = None
    ) -> ItemDataset:
        """Draw `n` items at random, without putting back.

        Args:
            n: How many.
            seed: The same seed draws the same items.
            by: `"price"` draws as many from each tenth of the range of log prices, `"category"` as many from
                each category, so that rare prices or kinds are seen; what a stratum lacks the others give.
                `stands_for` keeps the natural mix.

        Raises:
            DataError: There are fewer than `n`, or an item has no price and `by="price"`.
        """
        from .sampling import even_sample, part_size

        rows, stand = even_sample(self._strata(by), part_size("n", int(n), len(self)), seed)
        how = f" evenly by {by}" if by else ""
        done = f"{len(rows):,} of {len(self):,} drawn{how}, seed {seed}"
        return self._rows(rows, done, stands_for=stand * self.stands_for[rows])

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
            group: Items of one group stay in one split, so that near-twins cannot be learned from and judged
                by: a field's name, a function of an item, or a label for each item, as
                `audit(items).groups()` gives them. A part may then stay a little smaller than asked for.

        Raises:
            DataError: A size cannot be, or there is not one label for each item.
        """
        import numpy as np

        from .sampling import numbered, part_size, parts

        sizes = (part_size("validation", validation, len(self)), part_size("test", test, len(self)))
        if sum(sizes) > len(self):
            raise DataError(f"validation and test take {sum(sizes):,} of {len(self):,} items")
        groups = np.arange(len(self)) if group is None else numbered(self._labels(group))
        together = "" if group is None else ", groups kept together"
        said = f"split from {len(self):,} items, seed {seed}{together}: "
        divided = parts(groups, sizes, seed)
        names = ItemSplits._fields
        return ItemSplits(*(self._rows(rows, said + name) for rows, name in zip(divided, names, strict=True)))

    def describe(self) -> Description:
        """Count items, categories and characters, and take quantiles of the prices; `str()` shows a page."""
        from .description import describe

        return describe(self)

    def to_pandas(self) -> pd.DataFrame:
        """Give all columns as a frame."""
        frame: pd.DataFrame = self.table.to_pandas()
        return frame

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write all columns to a Parquet file; `from_file` reads it again.

        Raises:
            FileAccessError: The path cannot be written.
        """
        from .tables import write_parquet

        write_parquet(self.table, path)

    def _strata(self, by: str | None) -> npt.NDArray[np.int64]:
        import numpy as np

        from .sampling import numbered, price_strata

        if by is None:
            return np.zeros(len(self), dtype=np.int64)
        if by == "category":
            return numbered(self.table["category"].to_pylist())
        if by != "price":
            raise DataError(f"by is 'price' or 'category', not {by!r}")
        prices = self.prices
        for row in np.flatnonzero(np.isnan(prices))[:1]:
            require_price(self[int(row)], "sampling by price", int(row) + 1)
        return price_strata(prices)

    def _labels(self, group: Any) -> Sequence[Any] | npt.NDArray[Any]:
        if callable(group):
            return [group(item) for item in self]
        if isinstance(group, str):
            if group not in ITEM_FIELDS:
                raise DataError(f"an item has no field {group!r}; it has {', '.join(ITEM_FIELDS)}")
            labels: list[Any] = self.table[group].to_pylist()
            return labels
        if len(group) != len(self):
            raise DataError(f"{len(group):,} group labels for {len(self):,} items; give one for each")
        found: Sequence[Any] = group
        return found

    def _rows(
        self,
        rows: npt.NDArray[np.int64],
        done: str | None = None,
        *,
        stands_for: npt.NDArray[np.float64] | None = None,
    ) -> ItemDataset:
        from .tables import taken, weighted

        history = self.history if done is None else (*self.history, done)
        table = taken(self.table, rows)
        table = table if stands_for is None else weighted(table, stands_for)
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

            return self._rows(np.arange(start, stop, step))
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        return next(_items_of(self.table.slice(at, 1)))

    def __iter__(self) -> Iterator[Item]:
        for start in range(0, len(self), _BATCH):
            yield from _items_of(self.table.slice(start, _BATCH))

    def __repr__(self) -> str:
        skipped = len({problem.row for problem in self.skipped})
        return f"ItemDataset({len(self):,} items" + (f", {skipped:,} rows skipped)" if skipped else ")")


class ItemSplits(NamedTuple):
    """What is learned from, what is watched meanwhile, and what is judged by in the end."""

    train: ItemDataset
    validation: ItemDataset
    test: ItemDataset

    def push_to_hub(
        self,
        repo: str,
        *,
        private: bool = True,
        token: str | None = None,
        licence: str | None = None,
    ) -> str:
        """Upload the splits to the Hugging Face Hub, with a card that says where the rows came from.

        The card names what was removed on the way, from the sets' `history`. `ItemDataset.from_hub(repo)`
        reads the splits again.

        Args:
            repo: Such as `"owner/name"`; made when it is not there.
            private: Whether only you see it. A repository that is there already stays as it is.
            token: As in `from_hub`; it must be allowed to write.
            licence: The licence's name for the card, such as `"mit"`; none is claimed without it.

        Returns:
            The address of the data set.

        Raises:
            HubError: The Hub refuses, or does not answer.
        """
        from .hub import push

        return push(self, repo, private=private, token=token, licence=licence)


def login(token: str | None = None, *, add_to_git_credential: bool = False) -> None:
    """Log in to the Hugging Face Hub and save the login for the next time.

    Args:
        token: The Hub token; else `HF_TOKEN` of the environment or `.env`, else asked for.
        add_to_git_credential: Also keep it where git looks for passwords.

    Raises:
        AccessDenied: The Hub does not accept the token.
    """
    from .hub import hub_login

    hub_login(token, add_to_git_credential=add_to_git_credential)


def _items_of(table: pa.Table) -> Iterator[Item]:
    return trusted_items(table[name].to_pylist() for name in ITEM_FIELDS)
