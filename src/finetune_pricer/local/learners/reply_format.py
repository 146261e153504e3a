"""Replies as text: the number in one, the form in which prices are written, and a text in tokens."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_PATTERN = r"""# Points before groups of three digits set thousands apart; how many it takes is said below.
    (?P<points>[1-9]\d{{0,2}}(?:\.\d{{3}}){{{groups},}}(?![\d.]|,\d))
    # A decimal comma has one or two decimals: before three digits a comma sets thousands apart.
    |(?P<comma>(?:\d{{1,3}}(?P<before_comma>[.'\u2019\u00a0\u202f ])\d{{3}}(?:(?P=before_comma)\d{{3}})*
      |\d+),\d{{1,2}}(?!\d))
    |\d{{1,3}}(?P<before_point>[,'\u2019\u00a0\u202f]|[ ](?=\d{{3}}(?!\d)))\d{{3}}
      (?:(?P=before_point)\d{{3}})*(?:\.\d+)?
    |\d+(?:\.\d+)?
    |\.\d+"""
_NUMBER = re.compile(_PATTERN.format(groups=2), re.VERBOSE)
_NUMBER_IN_GROUPS = re.compile(_PATTERN.format(groups=1), re.VERBOSE)
_GROUPS = re.compile(r"[1-9]\d{0,2}(\.\d{3})+(,\d{1,2})?")
# As the o200k vocabulary cuts a price: digits in threes from the left, each mark alone. Its words need a
# table of 200,000 entries; here they are cut at about seven letters.
_TOKEN = re.compile(r"\d{1,3}| ?[^\W\d_]{1,7}| ?[^\w\s]|_|\s")


def find_number(reply: str) -> float | None:
    """Return the first number of a reply, or None where there is none.

    2.500.000 is read whole. What 2.500 means one reply cannot tell: it is two and a half here, and
    `ReplyForm.read` knows of the other replies.
    """
    return _read(_NUMBER.search(reply))


def _read(found: re.Match[str] | None) -> float | None:
    return float(_plain_digits(found)) if found else None


def _plain_digits(found: re.Match[str]) -> str:
    """Return a number's digits with a decimal point and nothing between thousands."""
    if found["points"]:
        return found["points"].replace(".", "")
    whole, point, decimals = found.group().rpartition("," if found["comma"] else ".")
    if not point:
        whole, decimals = decimals, ""
    return re.sub(r"\D", "", whole) + ("." + decimals if decimals else "")


def _find_pattern(replies: Sequence[str]) -> re.Pattern[str]:
    """Return what finds the number of a reply like these.

    A single point before three digits sets thousands apart where each point does that could, and some number
    has two of them or none: 250.000 beside 2.500.000, 1.250 beside 950. Where all have one, it is the same to
    a model whether they are thousands or thousandths.
    """
    numbers = [found.group() for reply in replies if (found := _NUMBER.search(reply))]
    pointed = [number for number in numbers if "." in number]
    one_of_each = all(number.count(".") == 1 for number in numbers)
    if pointed and not one_of_each and all(map(_GROUPS.fullmatch, pointed)):
        return _NUMBER_IN_GROUPS
    return _NUMBER


def tokenize(text: str) -> list[str]:
    """Cut a text into pieces that together are the text: prices as o200k does, words about as finely."""
    return _TOKEN.findall(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyForm:
    """How a model writes a price, taken from the replies that it was trained on."""

    before: str = "$"
    after: str = ""
    decimals: int = 2
    grouped: bool = True
    """Whether thousands are set apart; where no reply has any, they are beside decimals, as by default."""
    group: str = ","
    """By what they are."""
    point: str = "."
    """What stands before the decimals."""
    groups_by_point: bool = False
    """Whether a single point before three digits sets thousands apart."""

    @classmethod
    def from_replies(cls, replies: Sequence[str]) -> ReplyForm:
        """Return the form that most replies share; the texts before and after the number count together."""
        around: Counter[tuple[str, str]] = Counter()
        decimals: Counter[int] = Counter()
        groups: Counter[str | None] = Counter()
        commas: Counter[bool] = Counter()
        pattern = _find_pattern(replies)
        for reply in replies:
            found = pattern.search(reply)
            if found is None:
                continue
            around[reply[: found.start()], reply[found.end() :]] += 1
            whole, _, after = _plain_digits(found).partition(".")
            decimals[len(after)] += 1
            commas[found["comma"] is not None] += bool(after)
            group = "." if found["points"] else found["before_comma"] or found["before_point"]
            groups[group] += group is not None or len(whole) > 3
        if not around:
            return cls()
        (before, after), _ = around.most_common(1)[0]
        point = "," if commas[True] > commas[False] else "."
        places = decimals.most_common(1)[0][0]
        grouped = groups.total() > 2 * groups[None] if groups.total() else places > 0
        group = max((sign for sign in groups if sign), key=groups.__getitem__, default=None)
        return cls(
            before=before,
            after=after,
            decimals=places,
            grouped=grouped,
            group=group or ("." if point == "," else ","),
            point=point,
            groups_by_point=pattern is _NUMBER_IN_GROUPS,
        )

    def read(self, reply: str) -> float | None:
        """Return the number of a reply in this form, or None where there is none."""
        return _read((_NUMBER_IN_GROUPS if self.groups_by_point else _NUMBER).search(reply))

    def write(self, price: float) -> str:
        """Return the reply that names this price."""
        number = f"{price:{',' if self.grouped else ''}.{self.decimals}f}"
        signs = {ord(","): self.group, ord("."): self.point}
        return f"{self.before}{number.translate(signs)}{self.after}"
