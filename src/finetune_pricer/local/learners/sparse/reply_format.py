"""Replies as text: the number in one, the form in which prices are written, and a text in tokens."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+")
# As the o200k vocabulary cuts a price: digits in threes from the left, each mark alone. Its words need a
# table of 200,000 entries; here they are cut at about seven letters.
_TOKEN = re.compile(r"\d{1,3}| ?[^\W\d_]{1,7}| ?[^\w\s]|_|\s")


def find_number(reply: str) -> float | None:
    """Return the first number of a reply, or None where there is none."""
    found = _NUMBER.search(reply)
    return float(found.group().replace(",", "")) if found else None


def tokenize(text: str) -> list[str]:
    """Cut a text into pieces that together are the text: prices as o200k does, words about as finely."""
    return _TOKEN.findall(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyForm:
    """How a model writes a price, taken from the replies that it was trained on."""

    before: str = "$"
    after: str = ""
    decimals: int = 2
    grouped: bool = False
    """Whether thousands are set apart with commas."""

    @classmethod
    def from_replies(cls, replies: Sequence[str]) -> ReplyForm:
        """Return the form that most replies share; the texts before and after the number count together."""
        around: Counter[tuple[str, str]] = Counter()
        decimals: Counter[int] = Counter()
        grouped = plain = 0
        for reply in replies:
            found = _NUMBER.search(reply)
            if found is None:
                continue
            around[reply[: found.start()], reply[found.end() :]] += 1
            decimals[len(found.group().partition(".")[2])] += 1
            grouped += "," in found.group()
            plain += len(found.group().partition(".")[0]) > 3 and "," not in found.group()
        if not around:
            return cls()
        (before, after), _ = around.most_common(1)[0]
        return cls(
            before=before, after=after, decimals=decimals.most_common(1)[0][0], grouped=grouped > plain
        )

    def write(self, price: float) -> str:
        """Return the reply that names this price."""
        comma = "," if self.grouped else ""
        return f"{self.before}{price:{comma}.{self.decimals}f}{self.after}"
