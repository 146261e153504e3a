"""A whole pricer in a folder: what `save` writes and `load` reads, the same for all kinds of pricers.

```text
folder/
  pricer.json          what kind it is, all that it is made of, and the hashes of this and of every part
  parts-<16 digits>/   arrays, members, neighbors; there where the pricer has any
```

`pricer.json` names its parts, and is put in place as a whole and last: whoever reads meanwhile, and whoever
comes after a kill, finds the old pricer or the new one, never half of one. Nothing is pickled: loading a
stranger's folder runs no code of it. Keys are never written.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from .._arguments import require_client, require_function, require_path
from .._files import replacing, sync_file
from ..errors import DataError, FileAccessError, MissingFile, PricerError
from ..items import Item, SeenItems
from .plain_forms import ranges_from_plain, ranges_to_plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..evaluate.baselines import Baseline
    from ..providers.pricing import TokenPricing
    from ..providers.provider import Provider
    from .conformal import Ranges
    from .ensemble import Ensemble
    from .predictor import Predictor

_FORMAT = 1
_FILE = "pricer.json"
_PARTS = re.compile(r"parts-[0-9a-f]{16}")
_TRIES = 3  # to read while another program saves
_PIECE = 2**20  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """With what a loaded pricer asks: what `load` was given, and no folder holds."""

    client: Any = None
    provider: str | Provider | None = None
    store: str | os.PathLike[str] | None = None
    budget: float | None = None
    pricing: TokenPricing | None = None
    embed: Callable[..., Any] | None = None
    of_several: bool = False
    """Whether the members of an ensemble were saved with clients of several services: the client is then for
    those of its own service."""


class SavedPricer:
    """A pricer that can be saved and loaded.

    To make one of another kind: subclass it, and say in `_to_saved` what it is made of, and in `_from_saved`
    how to make it of that.
    """

    _kinds: ClassVar[dict[str, type[SavedPricer]]] = {}
    _kind: ClassVar[str] = ""
    """What stands in the file; by default the class's name."""

    def predict_many(self, items: Any) -> Any:
        """Price many items at once; what awaits, returns what is to be awaited."""
        raise NotImplementedError

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "_kind" not in cls.__dict__:
            cls._kind = cls.__name__
            SavedPricer._kinds[cls._kind] = cls

    def _require_savable(self) -> None:
        """Refuse what cannot be saved, before anything is written."""

    def _to_saved(self, parts: Path) -> dict[str, Any]:
        """Return what it is made of as JSON can hold it; write what JSON cannot hold into the folder."""
        raise NotImplementedError

    @classmethod
    def _from_saved(cls, content: dict[str, Any], parts: Path, access: Access) -> Self:
        """Make what `_to_saved` described."""
        raise NotImplementedError

    def _set_ranges(self, ranges: Ranges) -> None:
        """Give it the price ranges that it was saved with."""
        raise NotImplementedError


def require_unseen(pricer: object, items: Sequence[Item], what: str, name: str = "") -> None:
    """Make sure that a pricer was fitted to none of some items, where it knows to which it was.

    Raises:
        DataError: It was; on those its errors are smaller than on any others.
    """
    seen = getattr(pricer, "seen", None)
    if not isinstance(seen, SeenItems) or not (rows := seen.find(items)):
        return
    name = name or str(getattr(pricer, "name", type(pricer).__name__))
    raise DataError(
        f"{len(rows):,} of {len(items):,} items (the first is row {rows[0] + 1}) are among those that "
        f"{name!r} was fitted to, and {what} on items that it has not seen; hand in others, and where the "
        "same product stands in both sets, take it out: audit(train, validation=items).clean()"
    )


def save_pricer(pricer: SavedPricer, folder: str | os.PathLike[str]) -> None:
    """Write a pricer into a folder; what was saved there before stays until all is written.

    Raises:
        NotSupported: It is made of something that cannot be saved; nothing was written.
        DataError: The folder holds a `pricer.json` that is no saved pricer's.
        FileAccessError: The folder cannot be written.
    """
    require_path("folder", folder, "name a folder")
    pricer._require_savable()  # noqa: SLF001 - of this file
    target = Path(folder)
    before = _find_parts(target)
    parts = target / f"parts-{os.urandom(8).hex()}"
    try:
        parts.mkdir(parents=True)
    except OSError as error:
        raise _unwritable(target, error) from error
    try:
        _write(pricer, target, parts)
    except BaseException as error:
        if parts.name.encode() not in (_peek(target) or b""):
            shutil.rmtree(parts, ignore_errors=True)
            with suppress(OSError):
                target.rmdir()  # where it was made for this, and holds nothing
        if isinstance(error, OSError) and not isinstance(error, PricerError):
            raise _unwritable(target, error) from error
        raise
    if before is not None:
        shutil.rmtree(target / before, ignore_errors=True)


def load_pricer(
    folder: str | os.PathLike[str],
    client: Any = None,
    *,
    store: str | os.PathLike[str] | None = None,
    embed: Callable[..., Any] | None = None,
) -> Predictor | Ensemble | Baseline:
    """Read a saved pricer, whatever it is: a `Predictor`, an `Ensemble`, or a baseline.

    It prices as the one that was saved, with the same price ranges.

    Args:
        folder: What `save` wrote.
        client: As in `Predictor.load` and `Ensemble.load`; a baseline needs none.
        store: As in `Predictor`.
        embed: The function from texts to vectors, where the formatter has neighbors that were found by one.

    Raises:
        MissingFile: There is no saved pricer.
        DataError: What is there is none, was changed since it was saved, or is of a newer version.
        NotConfigured: No client is given, and the service's key is not set, or the service is unknown.

    Examples:
        >>> from finetune_pricer import MadeUpCatalogue
        >>> from finetune_pricer.evaluate import MedianBaseline
        >>> from finetune_pricer.predict import load_pricer
        >>> MedianBaseline.fit(MadeUpCatalogue().items(20)).save("pricer")
        >>> load_pricer("pricer")
        <MedianBaseline: always the training median>
    """
    found = load_kind(SavedPricer, folder, Access(client=client, store=store, embed=embed))
    return cast("Predictor | Ensemble | Baseline", found)


def load_kind(
    wanted: type[SavedPricer], folder: str | os.PathLike[str], access: Access | None = None
) -> SavedPricer:
    """Read a saved pricer of a kind, or of a kind that is one.

    Raises:
        MissingFile: There is no saved pricer.
        DataError: What is there is none, another kind, was changed, or is of a newer version.
    """
    access = access or Access()
    require_path("folder", folder, "name the folder that save() wrote")
    if access.client is not None:
        require_client(access.client, awaits=bool(getattr(wanted, "_awaits", False)))
    if access.embed is not None:
        require_function("embed", access.embed, "a function from texts to vectors")
    path, tries = Path(folder), _TRIES
    while True:
        tries -= 1
        seen = _peek(path)
        try:
            return _read(wanted, path, access)
        except (OSError, DataError):
            if not tries or _peek(path) == seen:
                raise
            # It was saved anew meanwhile, and its old parts are gone.


def _write(pricer: SavedPricer, target: Path, parts: Path) -> None:
    from importlib.metadata import version

    head = {
        "format": _FORMAT,
        "kind": pricer._kind,  # noqa: SLF001 - of this file
        "saved_by": f"finetune-pricer {version('finetune-pricer')}",
        "content": pricer._to_saved(parts),  # noqa: SLF001
        "ranges": ranges_to_plain(getattr(pricer, "ranges", None)),
    }
    files = {path.relative_to(parts).as_posix(): path for path in sorted(parts.rglob("*")) if path.is_file()}
    head |= {"parts": parts.name if files else None}
    head |= {"files": {name: _hash_file(path) for name, path in files.items()}}
    for path in files.values():
        sync_file(path)
    if not files:
        shutil.rmtree(parts)
    with replacing(target / _FILE) as file:
        file.write(_to_json({**head, "sha256": _hash(head)}, indent=True))


def _read(wanted: type[SavedPricer], folder: Path, access: Access) -> SavedPricer:
    head = _read_json(folder)
    parts = folder / (head["parts"] or ".")
    for name, known in head["files"].items():
        try:
            found = _hash_file(parts / name)
        except (FileNotFoundError, ValueError):  # a name may be none that a file can have
            found = None
        except OSError as error:
            raise _unreadable(parts / name, error) from error
        if found != known:
            raise _tell_change(folder, f"its part {name!r} is {'gone' if found is None else 'another'}")
    kind = _find_kind(head["kind"], wanted, folder)
    try:
        made = kind._from_saved(head["content"], parts, access)  # noqa: SLF001 - of this file
        ranges = ranges_from_plain(head["ranges"])
    except PricerError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{str(folder)!r} is a damaged pricer: {error!r}; save it again") from error
    if ranges is not None:
        made._set_ranges(ranges)  # noqa: SLF001
    return made


def _find_kind(name: str, wanted: type[SavedPricer], folder: Path) -> type[SavedPricer]:
    # They name themselves when they are imported; the baselines stand in a room below this one.
    from ..evaluate import baselines as _baselines
    from . import ensemble as _ensemble

    del _baselines, _ensemble
    if wanted is not SavedPricer and wanted._kind == name:  # noqa: SLF001 - of this file
        return wanted
    known = SavedPricer._kinds.get(name)  # noqa: SLF001
    if known is None:
        raise DataError(
            f"{str(folder)!r} holds {_with_article(name)}, which is no class of this version; import the "
            "module that defines it, or update finetune-pricer"
        )
    if not issubclass(known, wanted):
        raise DataError(
            f"{str(folder)!r} holds {_with_article(name)}, not {_with_article(wanted._kind)}; "  # noqa: SLF001
            f"{name}.load(folder) reads it, and load_pricer(folder) whatever is there"
        )
    return known


def _read_json(folder: Path) -> dict[str, Any]:
    """Return what stands in the file, when all of it is as it was saved."""
    import orjson

    path = folder / _FILE
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFile(
            f"there is no saved pricer in {str(folder)!r}: it has no {_FILE}, which save(folder) writes"
        ) from None
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        head: dict[str, Any] = orjson.loads(text)
        version, said = head["format"], head.pop("sha256")
        _ = head["kind"], head["content"]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{str(folder)!r} is not a saved pricer; name a folder that save() wrote") from error
    if version != _FORMAT:
        raise DataError(
            f"{str(folder)!r} has format {version!r}, this version reads {_FORMAT}; update finetune-pricer"
        )
    if said != _hash(head):
        raise _tell_change(folder, f"{_FILE} is another")
    if not _is_whole(head):
        raise DataError(
            f"{str(folder)!r} is a damaged pricer: its {_FILE} names no parts of it; save it again"
        )
    return head


def _is_whole(head: dict[str, Any]) -> bool:
    """Whether a file, whose hash anybody may have made, names a kind and parts beside it and nowhere else."""
    parts, files = head.get("parts"), head.get("files")
    is_beside = parts is None or (isinstance(parts, str) and _PARTS.fullmatch(parts) is not None)
    return is_beside and isinstance(files, dict) and isinstance(head["kind"], str)


def _peek(folder: Path) -> bytes | None:
    """Return the bytes of the file, whatever they are; None where there is none."""
    try:
        return (folder / _FILE).read_bytes()
    except OSError:
        return None


def _find_parts(folder: Path) -> str | None:
    """Return the name of the parts of what is saved in a folder; None where nothing is, or it has none.

    Raises:
        DataError: There is a file of that name, and it is none of ours.
    """
    import orjson

    if (text := _peek(folder)) is None:
        return None
    try:
        head = orjson.loads(text)
        parts, _ = head["parts"], head["format"]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{str(folder / _FILE)!r} is not that of a saved pricer, and is not replaced; name another folder"
        ) from error
    return parts if isinstance(parts, str) and _PARTS.fullmatch(parts) else None


def _with_article(name: str) -> str:
    return f"an {name}" if name[:1] in "AEIOU" else f"a {name}"


def _hash(head: dict[str, Any]) -> str:
    return hashlib.sha256(_to_json(head)).hexdigest()


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _to_json(value: Any, *, indent: bool = False) -> bytes:
    import orjson

    options = orjson.OPT_INDENT_2 if indent else orjson.OPT_SORT_KEYS
    try:
        return orjson.dumps(value, option=options)
    except (TypeError, ValueError) as error:
        raise DataError(f"this pricer cannot be saved: {error}; what it is made of must be JSON") from None


def _tell_change(folder: Path, what: str) -> DataError:
    return DataError(f"{str(folder)!r} was changed since it was saved: {what}; save the pricer again")


def _unreadable(path: Path, error: OSError) -> FileAccessError:
    return FileAccessError(f"cannot read {str(path)!r}: {error.strerror or error}")


def _unwritable(folder: Path, error: OSError) -> FileAccessError:
    return FileAccessError(
        f"cannot save in {str(folder)!r}: {error.strerror or error}; choose a folder you may write to"
    )
