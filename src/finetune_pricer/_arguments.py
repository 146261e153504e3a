"""What is handed in at a public door, checked before anything is asked or written.

Each `require_...` returns without a word, or raises a `WrongArgument` in one line: what it is about, what it
must be, what it is instead, and what to do. Nothing heavy is imported to tell: whoever has an openai client
or a frame has imported its library already. `items/item.py` has the checks of items.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._numbers import is_truth_value, read_number, read_whole
from .errors import FileAccessError, MissingFile, WrongArgument

if TYPE_CHECKING:
    from collections.abc import Collection

_MOST_SHOWN = 40  # characters of a text
_MOST_PATH = 300  # characters of a path
_KEYS = ("sk-", "hf_", "eyJ", "Bearer ")  # with which secrets begin: they stand in no message
_PROVIDERS = ("local", "openai", "azure", "nebius", "crusoe")


def describe(value: object) -> str:
    """Return in words what somebody has handed in, without its content but for the beginning of a text."""
    if value is None or isinstance(value, bool | int | float):
        return repr(value) if len(repr(value)) <= _MOST_SHOWN else "a number of many digits"
    if isinstance(value, str | bytes):
        if value[:2] in {"sk", b"sk"} or looks_like_key(value):
            return "a text that looks like a key"
        shown = f"{value[:_MOST_SHOWN]!r}{'...' if len(value) > _MOST_SHOWN else ''}"
        return f"the {'text' if isinstance(value, str) else 'bytes'} {shown}"
    if isinstance(value, type):
        return f"the class {value.__name__} itself"
    name = type(value).__name__
    article = "an" if name[:1] in "AEIOUaeiou" else "a"
    if isinstance(value, list | tuple) and type(value) in {list, tuple}:
        inside = sorted({type(each).__name__ for each in value[:100]})
        return f"a {name} of {' and '.join(inside)}" if value else f"an empty {name}"
    return f"{article} {name}"


def looks_like_key(value: object) -> bool:
    """Whether a value is a text that begins as secrets do."""
    return isinstance(value, str) and value.startswith(_KEYS)


def refuse(
    name: str, wanted: str, value: object, hint: str = "", kind: type[WrongArgument] = WrongArgument
) -> WrongArgument:
    """Return the error: `name must be wanted, not what it is; hint`."""
    return kind(f"{name} must be {wanted}, not {describe(value)}{f'; {hint}' if hint else ''}")


def require_kind(name: str, value: object, kinds: Any, wanted: str, hint: str = "") -> None:
    """Make sure that a value is of a kind, or one of several."""
    if not isinstance(value, kinds):
        raise refuse(name, wanted, value, hint)


def require_text(name: str, value: object, hint: str = "", *, or_none: bool = False) -> None:
    """Make sure that a value is a text."""
    if not isinstance(value, str) and not (or_none and value is None):
        raise refuse(name, "a text", value, hint)


def require_path(name: str, value: object, hint: str = "", *, or_none: bool = False) -> None:
    """Make sure that a value names a file or a folder, whether there is one or not."""
    if or_none and value is None:
        return
    if not isinstance(value, str | os.PathLike):
        raise refuse(name, "a path", value, hint)
    path = os.fspath(value)
    if not isinstance(path, str) or "\0" in path or not path.strip():
        raise refuse(name, "a path", path, hint or "name a file or a folder")


def require_file(name: str, value: object, of_folder: str = "name a file in it") -> None:
    """Make sure that a value is the path of something that can be read.

    Args:
        name: What messages call it.
        value: What was handed in.
        of_folder: What to do with a folder.

    Raises:
        WrongArgument: It is no path.
        MissingFile: There is nothing.
        FileAccessError: It is a folder.
    """
    require_path(name, value)
    path = Path(value)  # type: ignore[arg-type]
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        kind = MissingFile if isinstance(error, FileNotFoundError) else FileAccessError
        raise kind(f"cannot read {str(path)[:_MOST_PATH]!r}: {error.strerror or error}") from error
    if is_folder:
        raise FileAccessError(f"cannot read {str(path)!r}: it is a folder; {of_folder}")


def require_number(
    name: str,
    value: object,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: float | None = None,
    or_none: bool = False,
) -> None:
    """Make sure that a value is a finite number in a range; a text of digits and a truth value are none.

    Args:
        name: What messages call it.
        value: What was handed in.
        low: The lowest that it may be.
        high: The highest that it may be.
        above: What it must be above, in the place of `low`.
        or_none: Whether None will do.
    """
    if or_none and value is None:
        return
    number = read_number(value)
    if (
        number is None
        or not math.isfinite(number)
        or not low <= number <= high
        or (above is not None and number <= above)
    ):
        raise refuse(name, f"a number{_name_range(low, high, above)}", value)


def require_whole(
    name: str, value: object, *, low: float = -math.inf, high: float = math.inf, or_none: bool = False
) -> None:
    """Make sure that a value is a whole number in a range."""
    if or_none and value is None:
        return
    number = read_whole(value)
    if number is None or not low <= number <= high:
        raise refuse(name, f"a whole number{_name_range(low, high, None)}", value)


def require_flag(name: str, value: object) -> None:
    """Make sure that a value is True or False, since any text, "no" too, would count as True."""
    if not is_truth_value(value):
        raise refuse(name, "True or False", value)


def require_choice(name: str, value: object, choices: Collection[object]) -> None:
    """Make sure that a value is one of a few."""
    if not isinstance(value, str | None) or value not in choices:
        *others, last = map(repr, choices)
        raise refuse(name, f"{', '.join(others)} or {last}", value)


def require_function(name: str, value: object, wanted: str, hint: str = "") -> None:
    """Make sure that a value can be called, and is not a class by mistake."""
    if not callable(value) or isinstance(value, type):
        raise refuse(name, wanted, value, hint)


def require_mapping(name: str, value: Any, wanted: str) -> None:
    """Make sure that a value has keys and values, all of the keys texts."""
    if not isinstance(value, Mapping):
        raise refuse(name, wanted, value)
    if strange := [key for key in value if not isinstance(key, str)]:
        raise refuse(f"a name in {name}", "a text", strange[0])


def require_many(name: str, value: object, wanted: str, hint: str = "") -> None:
    """Make sure that a value can be gone through, and is neither a text nor a dictionary nor a frame."""
    if isinstance(value, str | bytes | dict | type) or hasattr(value, "iloc"):
        raise refuse(name, wanted, value, hint)
    if not hasattr(value, "__iter__") and not hasattr(value, "__getitem__"):
        raise refuse(name, wanted, value, hint)


def require_formatter(value: object, name: str = "formatter") -> None:
    """Make sure that a value is a `ChatFormatter`, or whatever asks and reads as one does."""
    if not all(hasattr(value, each) for each in ("prompt", "read", "fingerprint")) or isinstance(value, type):
        words = (
            "ChatFormatter(instruction) makes one"
            if isinstance(value, str)
            else "leave it out for the default"
        )
        raise refuse(name, "a ChatFormatter", value, words)


def require_client(client: object, *beside: object, awaits: bool | None = False) -> None:
    """Make sure that a client is an `openai.OpenAI`, or with `awaits` an `openai.AsyncOpenAI`.

    Args:
        client: What was handed in.
        beside: What was handed in after it; where that is a client, the two are swapped.
        awaits: Whether the door is that of async code; None where both kinds will do.
    """
    wanted = "openai.AsyncOpenAI" if awaits else "openai.OpenAI"
    if not _is_client(client):
        make = "aconnect" if awaits else "connect"
        hint = f"{make}() makes one"
        if isinstance(client, str) and client in _PROVIDERS:
            hint = f"{make}({client!r}) makes one"
        if any(map(_is_client, beside)):
            hint = "the client comes first"
        raise refuse("client", f"an {wanted}", client, hint)
    if awaits is not None and _is_async(client) is not awaits:
        other = (
            "connect() makes one; AsyncPredictor and AsyncFineTuneJob of finetune_pricer.aio take this one"
        )
        if awaits:
            other = "aconnect() makes one; Predictor and FineTuneJob take this one"
        raise refuse("client", f"an {wanted}", client, other)


def explain_invalid(name: str, error: Any, *, known: Collection[str]) -> WrongArgument:
    """Return in one line what pydantic says in many.

    Args:
        name: What could not be made.
        error: Its `ValidationError`.
        known: The names of the fields.
    """
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return WrongArgument(f"{name} has no field {field!r}; it has {', '.join(known)}")
    if first["type"] == "missing":
        return WrongArgument(f"{name} lacks {field!r}; hand it in")
    return WrongArgument(f"{name}: {field}: {first['msg'].lower()}; hand in something else")


def _is_client(value: object) -> bool:
    # By what it has, so that one that others have wrapped is taken, too.
    is_one = hasattr(value, "with_options") and hasattr(value, "base_url")
    return is_one and not isinstance(value, type) and type(value).__name__ != "module"


def _is_async(client: object) -> bool:
    return any(kind.__name__ == "AsyncOpenAI" for kind in client.__class__.__mro__)


def _name_range(low: float, high: float, above: float | None) -> str:
    if above is not None:
        return f" above {above:g}" + ("" if high == math.inf else f" and at most {high:g}")
    if low == -math.inf:
        return "" if high == math.inf else f" of at most {high:g}"
    return f" of at least {low:g}" if high == math.inf else f" from {low:g} to {high:g}"
