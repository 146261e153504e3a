"""`Neighbors`: the nearest items whose prices are known, never an item itself nor its twins."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ._arguments import refuse, require_many, require_path, require_whole
from ._display import ShortRepr
from ._files import read_npz, replacing
from ._methods.duplicates import group_ids, space_out
from ._vectors import TextVectors, is_same_vector
from .errors import DataError, FileAccessError, InvalidItem, MissingExtra, MissingFile
from .items import Item, ItemDataset, require_item, require_items, require_price

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from ._methods.nearest import NearestRows, Rows
    from ._methods.twins import TwinSearch

    Ints = npt.NDArray[np.int64]
    Arrays = dict[str, npt.NDArray[Any]]

_VERSION = 1
"""Of the way in which neighbors are found: another one finds others, and has other fingerprints."""
_ITEMS, _FACTS, _ARRAYS = "items.parquet", "neighbors.json", "neighbors.npz"
_AT_ONCE = 500  # items whose neighbors are looked for together
_REMEMBERED = 20_000  # items whose neighbors are kept for the next question
_NAMED = 5  # rows that a message names
_TERMS = (
    "words",
)  # and pairs of them: runs of characters find no better neighbors, and cost five times that


@dataclass(frozen=True, slots=True, repr=False)
class Neighbor(ShortRepr):
    """An item with a price that is like another one."""

    item: Item
    similarity: float
    """The cosine of the angle between the two texts' features: 1 for texts of the same words, above 0."""


class Neighbors:
    """Finds the priced items that are most like an item: for its prompt, or to be looked at.

    An item is never its own neighbor, and neither are its twins: items with its id, items that say nearly the
    same by the measure of `audit`, and what is of one group with these. They are left out of the prompt of
    each item alike, in training, validation, test and asking: a model that has learned to copy the price of a
    twin prices badly what has none. So the twin of a new product is left out too, with its price; to sell it
    at that price, look it up, no model is needed.

    Args:
        items: Items with prices, such as the training set. Two programs that hold the same find the same.
        k: How many neighbors an item has, at most. It has fewer where fewer have a word in common with it.
        embed: A function from a list of texts to a vector for each, such as one that asks a service's
            embedding model; without it, words and pairs of words are compared, the rarer the weightier
            (TF-IDF). Each text is asked about once: vectors are kept in `vectors.sqlite` in the folder
            `FINETUNE_PRICER_HOME`, else in the user's state folder. Above 50,000 items it takes the extra
            `index`.
        groups: A label for each item, equal for items that are to see nothing of each other, such as
            `audit(items).groups()`. Without it, twins are found and are grouped as the audit does.

    Raises:
        InvalidItem: An item has no price; the message names the rows.
        DataError: There are no items, or not one label for each; or `embed` gives no vectors.
        MissingExtra: scipy is not installed, or usearch is not where it is needed.

    Examples:
        >>> from finetune_pricer import Item, ItemDataset, Neighbors
        >>> words = {"red": 9.0, "blue": 9.5, "huge green": 20.0, "tiny": 6.0}
        >>> train = ItemDataset.from_items(
        ...     Item(title=f"{word} mug of fine clay for tea", price=words[word]) for word in words
        ... )
        >>> neighbors = Neighbors(train, k=2)
        >>> for near in neighbors.of("white mug, fine clay"):
        ...     print(near.item.title, near.item.price, round(near.similarity, 1))
        red mug of fine clay for tea 9.0 0.6
        blue mug of fine clay for tea 9.5 0.6

        Of the red mug, those that differ by one word are twins:

        >>> [near.item.title for near in neighbors.of(train[0])]
        ['huge green mug of fine clay for tea']
    """

    def __init__(
        self,
        items: Iterable[Item],
        k: int = 5,
        *,
        embed: Callable[[list[str]], Any] | None = None,
        groups: Sequence[Any] | npt.NDArray[Any] | None = None,
    ) -> None:
        require_items(items)
        require_whole("k", k, low=1)
        known = items if isinstance(items, ItemDataset) else ItemDataset.from_items(items)
        _require_prices(known)
        self._build(known, int(k), embed, _read_labels(groups, len(known)), {})

    def _build(
        self,
        items: ItemDataset,
        k: int,
        embed: Callable[[list[str]], Any] | None,
        labels: Ints | None,
        arrays: Arrays,
    ) -> None:
        try:
            from ._methods.nearest import NearestRows
            from ._methods.twins import TwinSearch
        except ImportError as error:
            raise MissingExtra(
                "neighbors need scipy; install it: pip install 'finetune-pricer[index]'"
            ) from error
        self.items = items
        """The items with prices among which neighbors are found."""
        self.k = k
        """How many neighbors an item has, at most."""
        self._labels = labels
        texts = [item.text for item in items]
        length = arrays["vectors"].shape[1] if "vectors" in arrays else 0
        self._vectors = None if embed is None else TextVectors(embed, length)
        self._rows_of = _fit_terms(texts) if self._vectors is None else self._vectors.of
        self._rows: Rows = arrays["vectors"] if "vectors" in arrays else self._rows_of(texts)
        self._search: NearestRows = NearestRows(self._rows)
        self._twins: TwinSearch = TwinSearch(texts, labels)
        self._places: dict[str, list[int]] = {}
        for place, item_id in enumerate(items.table["id"].to_pylist()):
            self._places.setdefault(item_id, []).append(place)
        self._fingerprint = ""
        self._found: dict[tuple[str, str], tuple[tuple[int, float], ...]] = {}
        self._lock = threading.Lock()

    def of(self, item: Item | str) -> tuple[Neighbor, ...]:
        """Return the neighbors of an item, priced or not, or of a text: the most similar first.

        Raises:
            InvalidItem: It is no item, or an empty text.
            DataError: `embed` gives no vector for it.
        """
        require_item(item, or_text=True)
        if isinstance(item, str) and not item.strip():
            raise InvalidItem("an empty text has no neighbors; give a title or a description")
        return tuple(Neighbor(self.items[place], similarity) for place, similarity in self._find([item])[0])

    def of_many(self, items: Iterable[Item | str]) -> Iterator[tuple[Neighbor, ...]]:
        """Yield the neighbors of each item, as `of` returns them; many are looked for at once.

        Memory does not grow with the number of items.

        Raises:
            InvalidItem: One is no item, or an empty text; the message names its row.
            DataError: As `of`.
        """
        require_items(items, or_text=True)
        first = 1
        for some in _chunk(items):
            for row, item in enumerate(some, first):
                require_item(item, row, or_text=True)
                if isinstance(item, str) and not item.strip():
                    raise InvalidItem(f"row {row}: an empty text has no neighbors; give a description")
            first += len(some)
            found = self._find(some)
            places = sorted({place for near in found for place, _ in near})
            chosen = dict(zip(places, self.items[places], strict=True))  # many at once are made faster
            for near in found:
                yield tuple(Neighbor(chosen[place], similarity) for place, similarity in near)

    def look_up(self, items: Iterable[Item | str]) -> None:
        """Find the neighbors of some items at once, so that `of` need not look for them one by one.

        What is no item is passed over: it is for others to say. The last 20,000 items are remembered.
        """
        require_many("items", items, "items or texts")
        for some in _chunk(items):
            self._find([item for item in some if isinstance(item, Item) or _is_asked(item)])

    @property
    def currency(self) -> str:
        """ISO code of the currency of the items' prices."""
        return self.items.currency

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides which neighbors an item has, and of their texts and prices."""
        if not self._fingerprint:
            self._fingerprint = self._hash_all()
        return self._fingerprint

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        by = "" if self._vectors is None else f", embed={self._vectors.name}"
        return f"Neighbors({len(self):,} items, k={self.k}{by})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Neighbors):
            return NotImplemented
        return self is other or self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __deepcopy__(self, memo: object) -> Self:
        return self  # nothing of it ever changes

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_found": {}, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the items, and vectors where there are any, into a folder, which is made where there is none.

        Raises:
            FileAccessError: It cannot be written.
        """
        import numpy as np

        require_path("folder", folder)
        place = Path(folder)
        facts = {
            "version": _VERSION,
            "k": self.k,
            "embed": None if self._vectors is None else self._vectors.name,
            "fingerprint": self.fingerprint,
        }
        arrays: Arrays = {} if self._labels is None else {"labels": self._labels}
        if self._vectors is not None:
            arrays["vectors"] = np.asarray(self._rows)
        self.items.to_parquet(place / _ITEMS)
        with replacing(place / _ARRAYS) as file:
            np.savez(file, allow_pickle=False, **arrays)
        with replacing(place / _FACTS) as file:  # last: where it stands, all stands
            file.write(json.dumps(facts, indent=1).encode())

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, embed: Callable[[list[str]], Any] | None = None) -> Self:
        """Return the neighbors that `save` has written: they find the same.

        Args:
            folder: Where they were saved.
            embed: The function from texts to vectors with which they were made, where that was one. It is
                asked about one text.

        Raises:
            MissingFile: There are none in the folder.
            FileAccessError: They cannot be read.
            DataError: They were made with a function and there is none here, or another one; or the files
                were changed, or written by another version.
        """
        require_path("folder", folder)
        place = Path(folder)
        facts, arrays = _read_facts(place), _read_arrays(place)
        if (facts["embed"] is None) is not (embed is None):
            raise DataError(_explain_embed(place, facts["embed"]))
        items = ItemDataset.from_file(place / _ITEMS)
        if any(array.shape[:1] != (len(items),) for array in arrays.values()):
            raise DataError(f"{str(place / _ARRAYS)!r} is of other items than {_ITEMS}; make them anew")
        if embed is not None:
            _require_same_function(embed, items, arrays, facts["embed"])
        found = cls.__new__(cls)
        found._build(items, facts["k"], embed, arrays.get("labels"), arrays)  # noqa: SLF001 - of this class
        if found.fingerprint != facts["fingerprint"]:
            raise DataError(
                f"the neighbors in {str(place)!r} are not those that were saved there: the fingerprint is "
                f"{found.fingerprint}, and was {facts['fingerprint']}; make them anew"
            )
        return found

    def _find(self, items: Sequence[Item | str]) -> list[tuple[tuple[int, float], ...]]:
        """Return places in the set and similarities for each item."""
        asked = [("", item) if isinstance(item, str) else (item.id, item.text) for item in items]
        with self._lock:
            known = {key: self._found[key] for key in asked if key in self._found}
        if missing := [key for key in dict.fromkeys(asked) if key not in known]:
            new = dict(zip(missing, self._look(missing), strict=True))
            known |= new
            with self._lock:
                self._found |= new
                for key in [*islice(self._found, max(0, len(self._found) - _REMEMBERED))]:
                    del self._found[key]
        return [known[key] for key in asked]

    def _look(self, asked: Sequence[tuple[str, str]]) -> list[tuple[tuple[int, float], ...]]:
        from scipy.sparse import csr_matrix

        texts = [text for _, text in asked]
        left_out = self._twins.find_rows(texts)
        own = [(row, place) for row, (item_id, _) in enumerate(asked) for place in self._places_of(item_id)]
        if own:
            rows, places = zip(*own, strict=True)
            named = csr_matrix(([True] * len(own), (rows, places)), shape=left_out.shape)
            left_out = (left_out + named).astype(bool)
        near = self._search.nearest(self._rows_of(texts), self.k, exclude=left_out)
        return [
            tuple((place, round(share, 6)) for place, share in zip(*pair, strict=True) if share > 1e-6)
            for pair in zip(near.rows.tolist(), near.similarities.tolist(), strict=True)
        ]

    def _places_of(self, item_id: str) -> list[int]:
        return self._places.get(item_id, []) if item_id else []

    def _hash_all(self) -> str:
        by = None if self._vectors is None else self._vectors.name
        labels = None if self._labels is None else self._labels.tolist()
        digest = hashlib.sha256(json.dumps([_VERSION, self.k, by, labels, str(self.currency)]).encode())
        for item in self.items:
            # A prompt may show any of these, whichever of them the text is made of.
            shown = [item.title, item.category, item.summary, item.full]
            digest.update(json.dumps([item.id, item.text, item.price, shown]).encode())
        return digest.hexdigest()[:16]


class _TermRows:
    """Turns texts into rows of the words and pairs of words of a set of texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        from ._methods.features import TextFeatures

        self._features = TextFeatures.fit([*map(space_out, texts)], blocks=_TERMS)

    def __call__(self, texts: Sequence[str]) -> Rows:
        from ._methods.nearest import scale_to_unit

        return scale_to_unit(self._features.transform([*map(space_out, texts)]))


def _fit_terms(texts: Sequence[str]) -> Callable[[Sequence[str]], Rows]:
    return _TermRows(texts)


def _require_prices(items: ItemDataset) -> None:
    import numpy as np

    if not len(items):
        raise DataError("there are no items to find neighbors among; hand in items with prices")
    unknown = np.flatnonzero(np.isnan(items.prices)) + 1
    if len(unknown):
        named = ", ".join(f"{row:,}" for row in unknown[:_NAMED])
        more = f" and {len(unknown) - _NAMED:,} more" if len(unknown) > _NAMED else ""
        raise InvalidItem(
            f"neighbors need prices, and {len(unknown):,} of {len(items):,} items have none: row {named}"
            f"{more}; leave them out: items.filter(lambda item: item.price is not None)"
        )
    for row in np.flatnonzero(items.prices == 0)[:1].tolist():
        require_price(items[row], "a neighbor", row + 1, items.zero_is)


def _read_labels(groups: Sequence[Any] | npt.NDArray[Any] | None, count: int) -> Ints | None:
    if groups is None:
        return None
    if isinstance(groups, str | bytes) or not hasattr(groups, "__len__"):
        raise refuse("groups", "a label for each item", groups, "audit(items).groups() makes them")
    if len(groups) != count:
        raise DataError(f"{len(groups):,} group labels for {count:,} items; give one for each")
    try:
        return group_ids(groups)
    except TypeError as error:
        raise DataError(f"groups= takes a text or a number as label of each item: {error}") from error


def _chunk(items: Iterable[Item | str]) -> Iterator[list[Item | str]]:
    rest = iter(items)
    while some := list(islice(rest, _AT_ONCE)):
        yield some


def _is_asked(item: object) -> bool:
    return isinstance(item, str) and bool(item.strip())


def _require_same_function(
    embed: Callable[[list[str]], Any], items: ItemDataset, arrays: Arrays, name: str
) -> None:
    vectors = TextVectors(embed)
    own = vectors.of([items[0].text])[0]
    if "vectors" not in arrays or not is_same_vector(own, arrays["vectors"][0]):
        raise DataError(
            f"embed={vectors.name} gives other vectors than {name}, by which these neighbors were found; "
            "hand in that, or make them anew"
        )


def _explain_embed(place: Path, name: str | None) -> str:
    if name is None:
        return f"the neighbors in {str(place)!r} were found by words; load them without embed="
    return (
        f"the neighbors in {str(place)!r} were found by the vectors of {name}; hand that in: "
        "Neighbors.load(folder, embed=...)"
    )


def _read_facts(place: Path) -> dict[str, Any]:
    path = place / _FACTS
    try:
        facts: Any = json.loads(path.read_bytes())
        wrong = not isinstance(facts, dict) or facts.keys() != {"version", "k", "embed", "fingerprint"}
    except FileNotFoundError as error:
        raise MissingFile(
            f"there are no neighbors in {str(place)!r}: no {_FACTS}; Neighbors.save(folder) writes them"
        ) from error
    except OSError as error:
        raise FileAccessError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    except ValueError:
        facts, wrong = None, True
    if wrong:
        raise DataError(f"{str(path)!r} is not what Neighbors.save has written; make them anew")
    if facts["version"] != _VERSION:
        raise DataError(
            f"the neighbors in {str(place)!r} were saved by another version of finetune-pricer, which finds "
            "others; make them anew, and train anew on prompts with them"
        )
    return dict(facts)


def _read_arrays(place: Path) -> Arrays:
    path = place / _ARRAYS
    try:
        return read_npz(path)
    except DataError as error:
        raise DataError(f"{str(path)!r} is not what Neighbors.save has written; make them anew") from error
