"""The numbers of a text by their size, each joined with the word beside it.

To a vocabulary of words "1035" and "1041" are two words that have nothing in common, and most numbers occur
once. Here "1035 pieces" becomes `1:10|pieces`, `2:20|pieces` and `4:40|pieces`: its logarithm of base 2,
rounded to wholes, halves and quarters. Numbers that are about as large share the coarse terms, and those that
are nearly the same the fine ones. The word before is joined too, `pieces|1:10`, as in "pieces: 1035".
"""

from __future__ import annotations

import math
import re
from functools import lru_cache

_FINENESSES = (1, 2, 4)  # sizes in each doubling
# A number, and the word that stands next after it.
_NUMBER = re.compile(r"(\d+(?:[.,]\d+)*)(?=[\W_]*([^\W\d_]*))")
_NEXT_WORD = re.compile(r"[\W_]*([^\W\d_]*)")
_NEAR = 40  # characters before a number in which its word is looked for
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")


def terms_of_numbers(text: str) -> list[str]:
    """Return the terms of all numbers in a text, in their order; `text` is in lower case."""
    terms = []
    for found in _NUMBER.finditer(text):
        digits, after = found.groups()
        start = found.start()
        # Read backwards, so that the search begins at the number.
        before = _NEXT_WORD.match(text[max(start - _NEAR, 0) : start][::-1])[1][::-1]  # type: ignore[index]
        for size in _sizes_of(digits):
            terms.append(f"{size}|{after}")
            terms.append(f"{before}|{size}")
    return terms


@lru_cache(maxsize=50_000)
def _sizes_of(digits: str) -> tuple[str, ...]:
    """Return a number's size at each fineness; nothing for what is no number, as the 1.2.3 of a version."""
    number = digits.replace(",", "") if _GROUPED.fullmatch(digits) else digits.replace(",", ".")
    if number.count(".") > 1:
        return ()
    value = float(number)
    if not 0 < value < math.inf:
        return ("0",) if value == 0 else ()
    log = math.log2(value)
    return tuple(f"{fineness}:{round(fineness * log)}" for fineness in _FINENESSES)
