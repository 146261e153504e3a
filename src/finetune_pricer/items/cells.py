"""Cells of foreign columns as texts and as numbers, exactly, and a whole column at once where that can be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from .item import is_unicode

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

NUMBER, TEXT = "number", "text"
"""The two fields of a column that holds both numbers and texts: one of them is empty in each row."""
_WHOLE = 2.0**63  # from which on whole floats are no 64-bit numbers
# What means the same in every currency: a point with three digits behind it may be a thousands sign.
_PLAIN = r"^[0-9]{1,15}(\.([0-9]{1,2}|[0-9]{4,15}))?$"


def write_number(value: float) -> str:
    """Return a number as text: a whole one with all its digits and no exponent, as bar codes are written."""
    return format(value, ".0f") if value.is_integer() else repr(value)


def write_cell(value: Any) -> str | None:
    """Return what a cell holds as text, None where it holds nothing; `ValueError` says why it is no text."""
    value = unwrap_cell(value)
    if value is None:
        return None
    if isinstance(value, float):
        return write_number(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, bytes | bytearray | memoryview):
        return _decode(bytes(value))
    if hasattr(value, "__iter__") and not isinstance(value, str):
        if hasattr(value, "__len__") and not len(value):
            return None
        kind = "an object" if isinstance(value, Mapping) else f"a {type(value).__name__}"
        raise ValueError(f"holds {kind}, not text; map another column to it, or join its texts")
    try:
        text = str(value)
    except ValueError:  # Python writes out no number of so many digits
        raise ValueError("a number of thousands of digits is no text") from None
    if not is_unicode(text):
        raise ValueError("holds half a character (a lone surrogate)")
    return text


def unwrap_cell(value: Any) -> Any:
    """Return a cell as Python has it: numpy's numbers as numbers, and what means nothing as None."""
    if type(value).__module__ == "numpy" and not getattr(value, "shape", True):
        value = value.item()
    if type(value).__name__ in {"NAType", "NaTType"}:
        return None
    if isinstance(value, float | Decimal) and value != value:  # noqa: PLR0124 - only nan is not itself
        return None
    return value


def _decode(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None


def mixed_column(values: Sequence[Any]) -> pa.Array:
    """Return numbers as numbers and texts as texts; both in one column only where both are there.

    A number must not become text on the way: `1.299` is one amount as a number, and may be another as text.
    """
    import pyarrow as pa

    kinds = set(map(type, values)) - {type(None)}
    if kinds <= {float}:
        return pa.array(values, pa.float64())
    if kinds <= {str}:
        return pa.array(values, pa.string())
    numbers = [_to_float(value) for value in values]
    if kinds <= {int, float}:
        return pa.array(numbers, pa.float64())
    texts = [
        None if value is None or number is not None else str(value)
        for value, number in zip(values, numbers, strict=True)
    ]
    return pa.StructArray.from_arrays(
        [pa.array(numbers, pa.float64()), pa.array(texts, pa.string())], names=[NUMBER, TEXT]
    )


def _to_float(value: Any) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def is_mixed(kind: pa.DataType) -> bool:
    """Whether a column is what `mixed_column` made of numbers and texts."""
    import pyarrow as pa

    return pa.types.is_struct(kind) and [field.name for field in kind] == [NUMBER, TEXT]


def unmix(column: pa.ChunkedArray) -> list[Any]:
    """Return the cells of a mixed column as what they were."""
    return [
        None if cell is None else cell[TEXT] if cell[NUMBER] is None else cell[NUMBER]
        for cell in column.to_pylist()
    ]


def read_texts(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, dict[int, str]]:
    """Return the texts of a column, and for each row that holds none the reason, rows counted from 0."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_string(kind):
        return column, {}
    if not (pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_nested(kind)):
        try:
            return column.cast(pa.string()), {}
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            pass
    whole = _write_whole(column) if pa.types.is_floating(kind) else None
    if whole is not None:
        return whole, {}
    texts, reasons = list[str | None](), dict[int, str]()
    for row, scalar in enumerate(column):
        try:
            texts.append(write_cell(_simplify(scalar.as_py())))
        except (ValueError, pa.ArrowInvalid) as error:
            texts.append(None)
            reasons[row] = str(error)
    return pa.chunked_array([pa.array(texts, pa.string())]), reasons


def _simplify(value: Any) -> Any:
    """Return a whole decimal without its point."""
    if type(value).__name__ == "Decimal" and value == value.to_integral_value():
        return int(value)
    return value


def _write_whole(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return floats as texts where all are whole; None where one is not."""
    import pyarrow as pa
    import pyarrow.compute as pc

    numbers = column.cast(pa.float64())
    whole = pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less(pc.abs(numbers), _WHOLE))
    if pc.all(whole).as_py() is False:
        return None
    return numbers.cast(pa.int64()).cast(pa.string())


def read_plain_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the numbers that a column of texts holds; null where a text is more than digits and a point."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = column.cast(pa.string()) if not pa.types.is_string(column.type) else column
    plain = pc.match_substring_regex(texts, _PLAIN)
    if pc.all(plain).as_py() is False:
        texts = pc.if_else(plain, texts, None)
    return texts.cast(pa.float64())


def read_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the finite numbers of a column, null where a cell holds none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_null(kind):
        return column.cast(pa.float64())
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):
        numbers = column.cast(pa.float64(), safe=False)
        return numbers if pc.all(pc.is_finite(numbers)).as_py() is not False else _only_finite(numbers)
    if pa.types.is_string(kind):
        numbers = read_plain_numbers(column)
        if numbers.null_count == column.null_count:
            return numbers
    cells = unmix(column) if is_mixed(kind) else [scalar.as_py() for scalar in column]
    return pa.chunked_array([pa.array([read_number(cell) for cell in cells], pa.float64())])


def _only_finite(numbers: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow.compute as pc

    return pc.if_else(pc.is_finite(numbers), numbers, None)


def read_number(cell: Any) -> float | None:
    """Return a finite number, None where a cell holds none."""
    # Nothing is computed from a weight, so a weight that is no number is no reason to refuse the row.
    try:
        number = float(cell)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
