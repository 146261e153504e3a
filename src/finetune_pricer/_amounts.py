"""The numbers of a text, each with the marks that stand at it; `prices` chooses among them.

A text is read in one pass, and around a number only a few characters are looked at, so that the time grows
with the length of the text and with nothing else.
"""

from __future__ import annotations

import math
import re
import unicodedata
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from ._currencies import (
    BESIDE_ANOTHER,
    CASED,
    CENTS,
    CODES,
    COMMA_DECIMALS,
    LOWER_CASE,
    NATIONS,
    NO_DECIMALS,
    SYMBOLS,
    THREE_DECIMALS,
    WORDLIKE,
    WORDS,
)
from ._lazy import compile_late

if TYPE_CHECKING:
    from collections.abc import Iterator

Decimal = Literal[".", ","]
"""Which sign stands before the decimals."""

BLOT = "\ufffd"
"""Stands in a plain text for a sign that changes the number beside it: `½`, `²`, a stroke through a digit."""

CUT = "the price stops in the middle"
BAD_GROUPS = "the digits of the price are grouped in no known way"
UNCLEAR = "what stands at the number may change it, or belong to another"

_STROKES = frozenset("\u0335\u0336\u0337\u0338")
_KEYCAP = frozenset("\ufe0e\ufe0f\u20e3")
_MINUS = "-\u2010\u2011\u2212\u2013"
_CLOSERS = frozenset({")", ".", ","})
_REMEMBERED = 20_000  # characters; what else strangers send is worked out again


class Amount(NamedTuple):
    """A number in a text."""

    value: float
    marks: tuple[str, ...] | None
    """The currencies that the marks at it have in common; None without a mark."""
    start: int
    """Where it begins, its mark included."""
    end: int
    number: tuple[int, int]
    """Where its digits stand."""
    problem: str = ""
    """Why it cannot be read as a price, though it looks like one."""
    excluded: bool = False
    """Whether it is another number: a share, a size, a negative one."""
    cents: bool = False
    scale: float = 1.0
    """What the word or letter behind it multiplies it by, in `value` already."""
    marked_before: bool = False


class _Mark(NamedTuple):
    codes: tuple[str, ...]
    start: int
    end: int
    name: str


class _Plain(dict[int, str]):
    """For each character what it means in a price, worked out when it is first met."""

    def __missing__(self, code: int) -> str:
        plain = _simplify(chr(code))
        if len(self) < _REMEMBERED:
            self[code] = plain
        return plain


_PLAIN = _Plain()


def simplify(text: str) -> str:
    """Return a text with the digits and signs of all scripts as their plain forms (NFKC, digits as ASCII).

    What would change a number by being taken for a digit (`½`, `²`, `①`) becomes a `BLOT`.
    """
    return text if text.isascii() else text.translate(_PLAIN)


def _simplify(character: str) -> str:
    if character.isascii():
        return character
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category == "Cf" or character in _KEYCAP:  # marks of direction, joiners, soft hyphens
        return ""
    plain = unicodedata.normalize("NFKC", character)
    if category == "Sc":  # the rial's sign would become a word
        return plain if len(plain) == 1 else character
    if character in _STROKES or any(each.isdigit() for each in plain):
        return BLOT
    return plain


# Digits


@cache
def number_pattern() -> re.Pattern[str]:
    """Return the pattern of digits and what stands between them, right or wrong."""
    return re.compile(
        r"""(?<![0-9.,\u066b])
        (?:[0-9]{1,3}(?:[ ][0-9]{3})+(?:[.,\u066b][0-9]+)?(?![.,'\u2019]?[0-9])
          |[0-9]+(?:[.,'\u2019\u066b\u066c][0-9]+)*
          |(?<![^\W_])\.[0-9]+)""",
        re.VERBOSE,
    )


def read_digits(digits: str, currency: str, decimal: Decimal | None) -> float | str:
    """Return the value of digits with separators, or why they have none."""
    if digits.isdigit():
        return float(digits)
    separators = [character for character in digits if not character.isdigit()]
    parts = re.split("[^0-9]", digits)
    last = separators[-1]
    if _is_decimal(separators, parts, currency, decimal):
        if len(separators) > 1 and not _are_groups(separators[:-1], parts[:-1]):
            return BAD_GROUPS
        return float("".join(parts[:-1]) + "." + parts[-1])
    if last == decimal or not _are_groups(separators, parts) or _is_either(separators, currency, decimal):
        # A reply that was cut off looks like this; other signs in the middle are a mistake of who wrote it.
        return CUT if re.search(r",[0-9]$|,[0-9]{3},[0-9]{2}$", digits) else BAD_GROUPS
    return float("".join(parts))


def _is_decimal(separators: list[str], parts: list[str], currency: str, decimal: Decimal | None) -> bool:
    """Whether the last separator stands before decimals."""
    last = separators[-1]
    if last not in ".," or last in separators[:-1]:
        return last == "\u066b"
    if decimal is not None:
        return last == decimal
    return len(separators) > 1 or _is_lone_decimal(last, parts[0], parts[1], currency)


def _is_lone_decimal(separator: str, before: str, after: str, currency: str) -> bool:
    if len(after) != 3:
        return separator == "." or len(after) == 2 or currency in COMMA_DECIMALS
    if not 1 <= len(before) <= 3 or before.startswith("0"):
        return True
    return separator == "." and currency not in COMMA_DECIMALS | NO_DECIMALS


def _is_either(separators: list[str], currency: str, decimal: Decimal | None) -> bool:
    """Whether a lone separator before three digits may be either: a dinar has a thousand fils."""
    return decimal is None and len(separators) == 1 and separators[0] in ".," and currency in THREE_DECIMALS


def _are_groups(separators: list[str], parts: list[str]) -> bool:
    first, *middle, last = parts
    if len(set(separators)) > 1 or not first or len(last) != 3 or first.startswith("0"):
        return False
    if len(first) <= 3 and all(len(part) == 3 for part in middle):
        return True
    # As in India, where only the last group has three digits.
    return separators[0] == "," and len(first) <= 2 and all(len(part) == 2 for part in middle)


# What stands behind the digits


_SCALES = {
    word: factor
    for factor, words in {
        1e3: "k thousand grand tsd tausend tys ribu nghìn ngàn тыс тысяч",
        1e5: "lakh lakhs lac lacs",
        1e6: "m mn mio mln million millions millionen millones milhões milyon juta triệu млн",
        1e7: "crore crores",
        1e9: "b bn mrd billion billions milliarden tỷ",
    }.items()
    for word in words.split()
}
LENGTHS = frozenset({"m", "mn", "b", "bn"})
"""Scales that say something else at a number without a currency: `30m` is a length."""


@cache
def _scale_pattern() -> re.Pattern[str]:
    words = "|".join(
        sorted((word for word in _SCALES if len(word) > 2 or not word.isascii()), key=len, reverse=True)
    )
    goes_on = rf"(?![\w{BLOT}]|-[^\W\d_]|\.\w)"
    return re.compile(
        rf"""(?P<round>[.,:/](?:[-\u2013\u2014]{{1,2}})(?!\w|[$€£¥₹][ ]?[0-9]))?
        (?:(?P<joined>k|mn?|bn?){goes_on}
          |[ ]?(?P<word>{words}){goes_on}\.?
          |[ ](?P<apart>k|mn?|bn?){goes_on}(?P<thing>[ ]*[^\W\d_])?
          |[ ]?(?P<unknown>mil|hundred|trillion|tn|cr){goes_on})?""",
        re.VERBOSE | re.IGNORECASE,
    )


@cache
def _rest_pattern() -> re.Pattern[str]:
    return re.compile(
        rf"""(?P<share>[ ]?(?:[%\u2030]|percent\b|pct\b))
        |(?P<word>[^\W\d_]{{3,}}(?![0-9]))
        |(?P<unclear>[\w{BLOT}]|:[0-9]|[.,]{{2}}[0-9])""",
        re.IGNORECASE | re.VERBOSE,
    )


def find_amounts(text: str, currency: str, decimal: Decimal | None = None) -> Iterator[Amount]:
    """Yield every number of a plain text, in order."""
    for match in number_pattern().finditer(text):
        yield _read_amount(text, match.start(), match.end(), currency, decimal)


def _read_amount(text: str, start: int, end: int, currency: str, decimal: Decimal | None) -> Amount:
    before, sign, unclear = _marks_before(text, start)
    scale, at, doubt = _read_scale(text, end)
    after, after_end, doubt_of_mark = _marks_after(text, at, has_mark=bool(before))
    marks = _common(before + after)
    whole = before[-1].start if before else start, after_end
    rest = None if after else _rest_pattern().match(text, at)
    number = (start, end)
    if sign or (rest and rest["share"]) or _is_other_number(text, start, rest, marked=bool(before)):
        return Amount(math.nan, marks, *whole, number, excluded=True)
    own = marks[0] if marks and currency not in marks else currency
    read = read_digits(text[start:end], own, decimal)
    cents = any(mark.name in CENTS for mark in after)
    problem = UNCLEAR if unclear or doubt or doubt_of_mark or (cents and before) else ""
    if rest and before and rest["unclear"]:
        problem = UNCLEAR
    value = math.nan if isinstance(read, str) else read * scale / (100 if cents else 1)
    if isinstance(read, str):
        problem = read
    elif _ends_with_separator(text, start, at):
        problem = CUT
    return Amount(
        *(value, marks, *whole, number),
        problem=problem,
        excluded=math.isinf(value),
        cents=cents,
        scale=scale,
        marked_before=bool(before),
    )


def _read_scale(text: str, end: int) -> tuple[float, int, bool]:
    """Return by what a number is multiplied, where that ends, and whether it is in doubt."""
    found = _scale_pattern().match(text, end)
    if found is None or not found.group():
        return 1.0, end, False
    if found["unknown"]:  # "mil" is a thousand in Brazil, and a million elsewhere
        return 1.0, end, True
    if (letter := found["apart"]) is not None:
        # `$25 m of cable` is no million; `$5 m` may be one, and `$30 K harness` may be thirty thousand.
        if found["thing"] and letter.lower() != "k":
            return 1.0, end, False
        return _SCALES[letter.lower()], found.end("apart"), bool(found["thing"]) or letter.lower() != "k"
    word = (found["joined"] or found["word"] or "").lower()
    return _SCALES.get(word, 1.0), found.end(), False


@cache
def _amount_end_pattern() -> re.Pattern[str]:
    return re.compile(r"[0-9] ?[^\W\d_]{0,3}-\Z")


def _is_other_number(text: str, start: int, rest: re.Match[str] | None, *, marked: bool) -> bool:
    """Whether a number is a model's, a time's, a size's: one that a letter or a colon joins to something."""
    if marked:
        return False
    back = text[max(0, start - 2) : start]
    if rest is not None or back[-1:] in {"#", "@", "^", BLOT} or _is_letter(back[-1:]):
        return True
    if len(back) < 2 or not back[0].isalnum():
        return False
    return back[1] == ":" or (
        back[1] == "-" and not _amount_end_pattern().search(text, max(0, start - 6), start)
    )


@cache
def _end_pattern() -> re.Pattern[str]:
    return re.compile(r"(?P<sign>[,'\u2019])\s*\Z")


def _ends_with_separator(text: str, start: int, end: int) -> bool:
    """Whether a text ends with a separator after a number; the closing mark of a quotation is none."""
    found = _end_pattern().match(text, end)
    if found is None:
        return False
    closes = found["sign"] != "," and len(re.findall("['\u2018\u2019]", text[:start])) % 2 == 1
    return not closes


# Marks


_BEFORE = CASED | SYMBOLS
_BEFORE_SIZES = sorted({*map(len, _BEFORE), 3}, reverse=True)
_GAP_DIGIT = compile_late(" ?[0-9]")
_AFTER_SIZES = sorted({*map(len, [*_BEFORE, *WORDS, *NATIONS])}, reverse=True)


def codes_of(piece: str) -> tuple[str, ...]:
    """Return the currencies that a symbol or code stands for."""
    if found := CASED.get(piece) or SYMBOLS.get(piece.lower()):
        return found
    upper = piece.upper()
    if upper in CODES and (piece == upper or upper in LOWER_CASE):
        return (upper,)
    return ("another currency",) if len(piece) == 1 and unicodedata.category(piece) == "Sc" else ()


def _is_letter(character: str) -> bool:
    """Whether a letter joins its neighbours to a word, as those of the alphabets do and ideographs do not."""
    return character.isalpha() and character < "\u0600"


def _mark_ending_at(text: str, end: int) -> _Mark | None:
    for size in _BEFORE_SIZES:
        start = end - size
        if start < 0:
            continue
        piece = text[start:end]
        if (codes := codes_of(piece)) and not (_is_letter(piece[0]) and _is_letter(text[start - 1 : start])):
            return _Mark(codes, start, end, piece)
    return None


def _marks_before(text: str, start: int) -> tuple[list[_Mark], bool, bool]:
    """Return the marks before a number, the nearest first, whether a minus is there, and whether in doubt."""
    inner = _is_minus(text, start - 1)
    at = start - inner
    gapless = _without_gap(text, at)
    mark = _mark_ending_at(text, gapless)
    if mark is not None and mark.name in BESIDE_ANOTHER and mark.name not in SYMBOLS:
        mark = None
    if mark is None and (mark := _label_ending_at(text, at)) is None:
        return [], inner or _says_minus(text, start), False
    tight, joined = mark.end == at, text[mark.start - 1 : mark.start].isdigit()
    if joined and not tight:  # it is the mark of the number before it: `20$ 30`
        return [], inner, False
    apart = _without_gap(text, mark.start) < mark.start and text[mark.start - 2 : mark.start - 1].isdigit()
    marks = [mark]
    if not (joined or apart) and (other := _second_mark_before(text, mark)):
        marks.append(other)
    first = marks[-1].start
    sign = inner or _is_minus(text, first - 1) or _says_minus(text, first)
    return marks, sign, (joined and tight) or (apart and not tight)


def _is_minus(text: str, at: int) -> bool:
    """Whether a minus stands here, and not the hyphen of a name or between two amounts."""
    if at < 0 or text[at] not in _MINUS:
        return False
    behind = text[max(0, at - 1) : at]
    return not (behind.isalnum() or behind in _CLOSERS) and not _ends_amount(text, at)


@cache
def _label_pattern() -> re.Pattern[str]:
    return re.compile(r"(?<![0-9] )(?<![0-9])\(?(?P<mark>(?<![^\W\d_])[A-Z]{3}|[$€£¥₹])\)? ?[:=] {0,2}\Z")


def _label_ending_at(text: str, end: int) -> _Mark | None:
    """Return the mark of a label before a number: `Price (USD): 25`."""
    found = _label_pattern().search(text, max(0, end - 9), end)
    codes = codes_of(found["mark"]) if found else ()
    if not found or not codes:
        return None
    return _Mark(codes, found.start(), found.end(), found["mark"])


def _without_gap(text: str, end: int) -> int:
    """Return where the text before a gap of at most two spaces ends."""
    for _ in range(2):
        if text[end - 1 : end] == " ":
            end -= 1
    return end


def _second_mark_before(text: str, first: _Mark) -> _Mark | None:
    """Return the mark before a mark: `USD $20`, `CAD $20`, `Canadian $20`."""
    end = _without_gap(text, first.start)
    if first.name.isalpha():
        return None
    if text[end - 1 : end] == "C" and end < first.start and text[: end - 1].rpartition("\n")[2].strip() == "":
        return _Mark(("CAD",), end - 1, end, "C")
    for name, codes in NATIONS.items():
        if name != "us" and text[max(0, end - len(name)) : end].lower() == name:
            return _Mark(codes, end - len(name), end, name)
    if (mark := _mark_ending_at(text, end)) and mark.name.upper() not in WORDLIKE and mark.name.isalpha():
        return mark
    return _label_ending_at(text, first.start) or _unknown_dollar(text, first)


def _unknown_dollar(text: str, first: _Mark) -> _Mark | None:
    """Return the letters that are joined to a dollar and say whose it is, though not to us: `ZZ$`."""
    glued = re.search(r"(?<![^\W\d_])[A-Z][A-Za-z]{0,2}\Z", text[max(0, first.start - 4) : first.start])
    if glued is None or first.name != "$":
        return None
    return _Mark((), first.start - len(glued.group()), first.start, glued.group())


def _ends_amount(text: str, end: int) -> bool:
    """Whether a number or its mark stands right before, so that a hyphen here joins two."""
    end = _without_gap(text, end)
    if end and unicodedata.category(text[end - 1]) == "Sc":
        end = _without_gap(text, end - 1)
    return _digits_end_pattern().search(text, max(0, end - 4), end) is not None


@cache
def _digits_end_pattern() -> re.Pattern[str]:
    return re.compile(r"[0-9](?:[.,:/][-\u2013\u2014]{1,2})?\Z")


def _says_minus(text: str, start: int) -> bool:
    return text[max(0, start - 10) : start].lower().rstrip(" $").endswith(("minus", "negative"))


def _mark_starting_at(text: str, start: int, *, has_mark: bool) -> _Mark | None:
    for size in _AFTER_SIZES:
        piece = text[start : start + size]
        if len(piece) < size:
            continue
        codes = codes_of(piece) or WORDS.get(piece.lower()) or NATIONS.get(piece.lower())
        if not codes or piece == "R" or (piece.lower() == "pound" and has_mark):
            continue
        following = text[start + size : start + size + 3]
        if _is_letter(piece[-1]) and _is_letter(following[:1]):
            continue
        if piece.upper() in WORDLIKE and (piece != piece.upper() or following.strip(" -")[:1].isalnum()):
            continue
        return _Mark(codes, start, start + size, piece)
    return None


def _marks_after(text: str, end: int, *, has_mark: bool) -> tuple[list[_Mark], int, bool]:
    """Return the marks behind a number, where they end, and whether they may be the next number's."""
    marks: list[_Mark] = []
    at = end
    while len(marks) < 3:
        start = at
        while start - at < 2 and text[start : start + 1] == " ":
            start += 1
        opened = text[start : start + 1] == "("
        mark = _mark_starting_at(text, start + opened, has_mark=has_mark or bool(marks))
        if mark is None:
            break
        closed = opened and text[mark.end : mark.end + 1] == ")"
        if text[mark.end : mark.end + 1].isdigit():
            # `15 $999` is a mark of the next number; `5€50` may be 5.50 or two numbers.
            return (
                marks,
                marks[-1].end if marks else end,
                mark.start == end and mark.name.lower() not in WORDS,
            )
        is_before = mark.name.lower() not in WORDS and mark.name.lower() not in NATIONS
        if is_before and not has_mark and mark.start > at and _GAP_DIGIT.match(text, mark.end):
            # `2 USD 30`: whose is it?
            return ([], end, False) if opened else ([*marks, mark], mark.end, True)
        marks.append(mark)
        at = mark.end + closed
    named = [mark for mark in marks if mark.name.lower() not in NATIONS and mark.name not in BESIDE_ANOTHER]
    if not named and not has_mark:
        return [], end, False
    if has_mark and not named:  # `$20 US`, but not `$20 American made`
        marks = [mark for mark in marks if mark.name in BESIDE_ANOTHER - NATIONS.keys()]
        at = marks[-1].end if marks else end
    return marks, at, False


def _common(marks: list[_Mark]) -> tuple[str, ...] | None:
    if not marks:
        return None
    common = marks[0].codes
    for mark in marks[1:]:
        common = tuple(code for code in common if code in mark.codes)
    return common


def marks_in(text: str) -> Iterator[tuple[str, ...]]:
    """Yield what the marks of a text without numbers stand for: `Price (USD):`."""
    for match in re.finditer(r"[^\W\d_][\w.]*\$?|[^\w\s]", text):
        piece = match.group().rstrip(".") or match.group()
        if codes := codes_of(piece) or WORDS.get(piece.lower()):
            yield codes
