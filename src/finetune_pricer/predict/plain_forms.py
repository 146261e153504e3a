"""What a saved pricer is made of, as JSON and as arrays: formatters, items, price ranges; no pickles."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from .._files import read_npz
from .._format import UNNAMED, Unnamed
from ..chat import ChatFormatter
from ..errors import DataError, FileAccessError, NotSupported
from ..items import Item
from ..items.item import ITEM_FIELDS
from ..retrieval import Neighbors
from .conformal import Ranges
from .range_groups import RangeGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy.typing as npt

    Arrays = Mapping[str, npt.NDArray[Any]]

_ARRAYS, _VALUES = "arrays.npz", "learned.json"
_SHOTS, _NEIGHBORS, _BY_VECTORS = "shots", "neighbors", "by vectors"


def require_plain_formatter(formatter: object) -> ChatFormatter:
    """Return a formatter that can be saved.

    Raises:
        NotSupported: It is one of somebody's own, of which nobody knows what it is made of.
    """
    if type(formatter) is not ChatFormatter:
        raise NotSupported(
            f"a formatter of the kind {type(formatter).__name__} cannot be saved, only a ChatFormatter; make "
            "the predictor anew where it is needed"
        )
    return formatter


def formatter_to_plain(formatter: ChatFormatter, folder: Path) -> dict[str, Any]:
    """Return all that a formatter is made of as JSON can hold it, with its fingerprint.

    Its neighbors go into a folder of their own within `folder`.
    """
    plain: dict[str, Any] = {
        entry.name: getattr(formatter, entry.name) for entry in fields(ChatFormatter) if entry.init
    }
    plain[_SHOTS] = [{name: getattr(shot, name) for name in ITEM_FIELDS} for shot in formatter.shots]
    # JSON knows one kind of text and one of list.
    plain |= {name: str(value) for name, value in plain.items() if isinstance(value, str)}
    if plain.get(_NEIGHBORS) is not None:
        neighbors = plain[_NEIGHBORS]
        neighbors.save(folder / _NEIGHBORS)
        plain[_NEIGHBORS] = "by words" if getattr(neighbors, "_vectors", None) is None else _BY_VECTORS
    return plain | {"fields": list(formatter.fields), "fingerprint": formatter.fingerprint}


def formatter_from_plain(
    plain: Mapping[str, Any], folder: Path, embed: Callable[..., Any] | None
) -> ChatFormatter:
    """Make the formatter that was saved.

    Args:
        plain: What `formatter_to_plain` returned.
        folder: The folder that it was given.
        embed: The function from texts to vectors that finds neighbors, where it was one.

    Raises:
        DataError: Its messages would be others than those that were saved.
    """
    values = dict(plain)
    fingerprint = values.pop("fingerprint")
    values[_SHOTS] = tuple(Item(**shot) for shot in values[_SHOTS])
    if values.get(_NEIGHBORS) is not None:
        # One function is handed in for all members of an ensemble; not all of them need it.
        own = embed if values[_NEIGHBORS] == _BY_VECTORS else None
        values[_NEIGHBORS] = Neighbors.load(folder / _NEIGHBORS, embed=own)
    formatter = ChatFormatter(**values)
    if formatter.fingerprint != fingerprint:
        raise DataError(
            f"the formatter that was saved has the fingerprint {fingerprint}, and made of what is saved it "
            f"has {formatter.fingerprint}: the model would be asked in other words; make it anew and save it"
        )
    return formatter


def currency_to_plain(currency: str) -> str | None:
    """Return a currency's code; None where nobody has named one."""
    return None if isinstance(currency, Unnamed) else str(currency)


def currency_from_plain(plain: str | None) -> str:
    """Return what `currency_to_plain` was given."""
    return UNNAMED if plain is None else plain


def ranges_to_plain(ranges: Ranges | None) -> dict[str, Any] | None:
    """Return price ranges as JSON can hold them."""
    if ranges is None:
        return None
    return {
        "coverage": ranges.coverage,
        "by": ranges.by,
        "n": ranges.n,
        "groups": [asdict(group) for group in ranges.groups],
        "edges": list(ranges.edges),
        "currency": currency_to_plain(ranges.currency),
        # A kind of item is a category, the number of a price band or None, and whether it has a distribution.
        "group_names": [[part, told, name] for (part, told), name in ranges.group_names.items()],
    }


def ranges_from_plain(plain: Mapping[str, Any] | None) -> Ranges | None:
    """Make the price ranges that were saved: of the same prices they make the same ranges."""
    if plain is None:
        return None
    groups = tuple(RangeGroup(**group | {"joined": tuple(group["joined"])}) for group in plain["groups"])
    return Ranges(
        coverage=plain["coverage"],
        by=plain["by"],
        n=plain["n"],
        groups=groups,
        widths={group.name: group.width for group in groups},
        edges=tuple(plain["edges"]),
        currency=currency_from_plain(plain["currency"]),
        group_names={(part, told): name for part, told, name in plain["group_names"]},
    )


def write_arrays(folder: Path, arrays: Arrays) -> None:
    """Write arrays of numbers by their names into a folder."""
    import numpy as np

    objects = [name for name, array in arrays.items() if array.dtype.hasobject]
    if objects:
        raise DataError(f"the arrays {objects} hold objects, which are not saved; keep them as JSON")
    by_name: dict[str, Any] = dict(arrays)
    with (folder / _ARRAYS).open("wb") as file:
        np.savez(file, **by_name)


def read_arrays(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """Read what `write_arrays` wrote; a file that holds objects is refused."""
    return read_npz(folder / _ARRAYS)


def write_values(folder: Path, values: Mapping[str, Any]) -> None:
    """Write values that JSON can hold into a folder: long ones, that nobody reads."""
    import orjson

    try:
        text = orjson.dumps(values)
    except TypeError as error:
        raise DataError(f"what was learned cannot be saved: {error}; keep numbers as arrays") from None
    (folder / _VALUES).write_bytes(text)


def read_values(folder: Path) -> dict[str, Any]:
    """Read what `write_values` wrote."""
    import orjson

    path = folder / _VALUES
    try:
        values: dict[str, Any] = orjson.loads(path.read_bytes())
    except OSError as error:
        raise FileAccessError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    return values
