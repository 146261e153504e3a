"""Prices written as text and read from text: the only place that knows both.

The rules by which `parse_price` reads a text, in order:

1. A number is *marked* when a currency stands at it: a symbol (`$19.99`, `19,99 €`), a code (`USD 20`) or a
   word (`20 dollars`). Marked numbers win over bare ones: `Pack of 2: $30` is 30.
2. A marked number of another currency is not read as a price; nothing is converted.
3. Of several marked numbers the first is the price, but a past or nominal one (`was $50`, `MSRP $50`) is
   read only where there is no other. A range (`$20-$30`, `$20 to $30`) is read as its middle, and
   `5 dollars and 20 cents` as 5.2.
4. A bare number is a price only if the text says nothing else but words such as "the price is about".
   `iPhone 15` holds no price.
5. Separators: groups of three are thousands (also the Indian `12,34,567`); two digits after the last
   separator are decimals (`$19,99` is 19.99), and so is one digit after a point. A single comma before three
   digits is thousands. A single point before three digits is a decimal point where the currency writes one
   (USD, GBP, ...), else thousands (EUR, ...).
6. A negative number is no price, nor is one that stops in the middle (`$1,` and `$1,1`).
7. A text of more than 10,000 characters is not read.

For a known price in a table the rules are stricter than for a reply: `parse_amount` accepts one amount and
nothing beside it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from ._arguments import require_number, require_text
from .errors import DataError, PriceNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

_SYMBOLS = {
    "$": ("USD", "CAD", "AUD", "NZD", "SGD", "HKD", "MXN"),
    "US$": ("USD",),
    "CA$": ("CAD",),
    "C$": ("CAD",),
    "AU$": ("AUD",),
    "A$": ("AUD",),
    "NZ$": ("NZD",),
    "HK$": ("HKD",),
    "S$": ("SGD",),
    "R$": ("BRL",),
    "€": ("EUR",),
    "£": ("GBP",),
    "¥": ("JPY", "CNY"),
    "₹": ("INR",),
    "₩": ("KRW",),
    "₽": ("RUB",),
    "₺": ("TRY",),
    "zł": ("PLN",),
    "kr": ("SEK", "NOK", "DKK"),
}
_WORDS = {
    "dollar": _SYMBOLS["$"],
    "dollars": _SYMBOLS["$"],
    "bucks": _SYMBOLS["$"],
    "euro": ("EUR",),
    "euros": ("EUR",),
    "pound": ("GBP",),
    "pounds": ("GBP",),
    "cents": _SYMBOLS["$"],
    "¢": _SYMBOLS["$"],
    "yen": ("JPY",),
    "rupees": ("INR",),
}
_CODES = (
    "USD EUR GBP CAD AUD NZD SGD HKD MXN BRL JPY CNY INR KRW RUB TRY PLN SEK NOK DKK CHF CZK HUF ZAR ILS"
).split()
_MARKS = {name.lower(): codes for name, codes in (_SYMBOLS | _WORDS).items()} | {
    code.lower(): (code,) for code in _CODES
}
_CENTS = frozenset({"cents", "¢"})
# Currencies whose own writing has a decimal comma, so that a lone point before three digits groups thousands.
_COMMA_DECIMALS = frozenset({"EUR", "BRL", "RUB", "TRY", "PLN", "SEK", "NOK", "DKK", "CZK", "HUF"})

_GAP = "[ \u00a0\u2009\u202f]"
_BEFORE = "|".join(sorted((re.escape(s) for s in [*_SYMBOLS, *_CODES]), key=len, reverse=True))
_AFTER = "|".join(sorted((re.escape(s) for s in [*_SYMBOLS, *_CODES, *_WORDS]), key=len, reverse=True))
_RANGE = re.compile(r"\s*(?:[-\u2013\u2014]|to|and|or)\s*", re.IGNORECASE)
_AND = re.compile(r"\s*(?:and)?\s*", re.IGNORECASE)
_FILLER = frozenset(
    """a about again an approx approximate approximately answer around at be best circa cost costs each
    estimate estimated estimation guess i id i'd is it it's its likely my of per piece price priced product
    roughly say the this think would worth""".split()
)
_DOLLARS = {"\\": None, "\ufe69": "$", "\uff04": "$"}
_PLAIN = str.maketrans(_DOLLARS)
_MARKUP = str.maketrans(_DOLLARS | {"*": " ", "`": " ", "_": " "})
_LOOK_BACK = 24  # characters before an amount in which "was" and "list price" are looked for
_LONGEST = 10_000  # characters; a longer text is no reply with a price, and reading it would take seconds
_SCALES = {"k": 1e3, "thousand": 1e3, "m": 1e6, "mn": 1e6, "million": 1e6}


def format_price(price: float, like: str = "$19.99") -> str:
    """Write a price in the form that an example shows.

    Args:
        price: Dollars (or whatever the currency's unit is), finite and not negative.
        like: Any price in the wanted form. A comma before three digits asks for grouped thousands
            (`"$1,199.99"`), digits after a point for that many decimals. Text before and after the number is
            written too.

    Raises:
        DataError: The price is negative or not finite, or `like` shows no form.

    Examples:
        >>> format_price(1199.5), format_price(1199.5, "$1,199.99"), format_price(1199.5, "20")
        ('$1199.50', '$1,199.50', '1200')
    """
    require_number("price", price, low=0)
    require_text("like", like)
    if not math.isfinite(price) or price < 0:
        raise DataError(f"a price must be a finite number of at least 0, not {price!r}")
    return PriceForm.like(like).write(price)


@dataclass(frozen=True, slots=True)
class PriceForm:
    """How prices are written, as an example shows it."""

    prefix: str
    grouped: bool
    decimals: int
    suffix: str

    @classmethod
    def like(cls, example: str) -> PriceForm:
        """Return the form of an example.

        Raises:
            DataError: The example is not one number, with or without text before and after it.
        """
        match = re.fullmatch(r"(\D*?)(\d{1,3}(?:,\d{3})+|\d+)(?:\.(\d+))?(\D*)", example)
        if match is None:
            raise DataError(
                f"{example!r} does not show how to write a price; try '$19.99', '$1,199.99' or '20'"
            )
        prefix, whole, decimals, suffix = match.groups()
        return cls(prefix, "," in whole, len(decimals or ""), suffix)

    def write(self, price: float) -> str:
        """Write one price in this form."""
        return self.template.format(price)

    @property
    def template(self) -> str:
        """This form as `str.format` takes it, for writing many prices."""
        before, after = (part.replace("{", "{{").replace("}", "}}") for part in (self.prefix, self.suffix))
        return f"{before}{{:{',' if self.grouped else ''}.{self.decimals}f}}{after}"


class _Amount(NamedTuple):
    value: float
    marks: tuple[str, ...]
    start: int
    end: int
    nominal: bool
    cut: bool
    cents: bool


def parse_price(text: str, currency: str = "USD") -> float:
    """Return the price in a text, by the rules at the top of this module.

    Args:
        text: A reply, a table cell, a sentence.
        currency: ISO code of the currency that the price is in. Prices in others are not converted.

    Returns:
        The price, in the currency's unit (dollars for USD).

    Raises:
        PriceNotFound: The text holds no price in this currency; `error.text` is the text.

    Examples:
        >>> parse_price("Pack of 2: **$1,299.00**")
        1299.0
    """
    require_text("text", text)
    require_text("currency", currency)
    if len(text) > _LONGEST:
        raise PriceNotFound(
            f"a text of {len(text):,} characters is not read as a price", text=text[:_LONGEST]
        )
    plain = text.translate(_MARKUP)
    amounts = list(_find_amounts(plain, currency))
    ours = [amount for amount in amounts if currency in amount.marks]
    if ours:
        first = next((amount for amount in ours if not amount.nominal), ours[0])
        return _resolve_amount(first, amounts, plain, text)
    if foreign := [amount for amount in amounts if amount.marks]:
        raise PriceNotFound(
            f"the price is in {foreign[0].marks[0]}, not in {currency}: {_quote(text)}", text=text
        )
    if amounts and _is_bare_price(plain):
        return _resolve_amount(amounts[0], amounts, plain, text)
    raise PriceNotFound(f"no price in {_quote(text)}", text=text)


def parse_amount(text: str, currency: str = "USD") -> float:
    """Return the price in a cell that is one amount of money and nothing else.

    Models are trained on a product's price and scored against it, so nothing is chosen, averaged or left out
    here: a range, a price for a number of pieces, "from $5" and "approx. 5" are refused, where `parse_price`
    takes the most likely reading of a reply. Otherwise the rules at the top of this module apply.

    Args:
        text: A cell: an amount, with its currency or without (`1,299.00`, `$1,299.00`, `19,99 USD`).
        currency: ISO code of the currency that the price is in.

    Returns:
        The price, in the currency's unit (dollars for USD).

    Raises:
        PriceNotFound: The text is not one amount in this currency; `error.text` is the text.

    Examples:
        >>> parse_amount("$1,299.00")
        1299.0
    """
    require_text("text", text)
    require_text("currency", currency)
    price = parse_price(text, currency)  # refuses what holds no price, and says why
    plain = text.translate(_PLAIN).strip()
    match = _number_pattern().fullmatch(plain.removesuffix("."))
    if match and _is_amount(match, currency):
        return price
    numbers = list(_number_pattern().finditer(plain))
    between = (numbers[0].end(), numbers[1].start()) if len(numbers) == 2 else (0, 0)
    if _RANGE.fullmatch(plain, *between) and not _AND.fullmatch(plain, *between):
        raise PriceNotFound(f"a range is not a price: {_quote(text)}", text=text)
    if len(numbers) > 1:
        raise PriceNotFound(f"{len(numbers)} numbers are not one price: {_quote(text)}", text=text)
    raise PriceNotFound(f"a price is one amount and nothing beside it: {_quote(text)}", text=text)


def _is_amount(match: re.Match[str], currency: str) -> bool:
    before, after = (match[side] or "" for side in ("before", "after"))
    if before and after and currency not in _MARKS[after.lower()]:
        return False
    if before and after.lower() in _CENTS:  # "$0.99 cents" is either
        return False
    if match["scale"] and not (before or after):  # "5 m" is a length
        return False
    if re.search(r",\d{4,}$", match["digits"]):  # neither a group of three nor cents
        return False
    return match["rest"] is None


def marked_prices(text: str, currency: str = "USD") -> Iterator[tuple[float, str]]:
    """Yield every number in a text that this currency marks, and how the text shows it.

    A text of any length is read whole: this looks for prices in descriptions, not for the price in a reply.
    """
    plain = text.translate(_MARKUP)
    if not _mark_pattern().search(plain):  # true of most descriptions, and found far sooner than all numbers
        return
    for amount in _find_amounts(plain, currency):
        if currency in amount.marks and not amount.cut:
            yield amount.value, plain[amount.start : amount.end].strip()


@cache
def _nominal_pattern() -> re.Pattern[str]:
    return re.compile(
        r"(?:\bwas|\bwere|\blist(?: price)?|\bmsrp|\brrp|\boriginal(?:ly)?|\bregular(?:ly)?"
        r"|\bretails? (?:for|at)|\binstead of|\bdown from|\bsave)[\s:*_~(]*$|~~$",
        re.IGNORECASE,
    )


@cache
def _mark_pattern() -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Za-z])(?:{_AFTER})(?![A-Za-z])|\d(?:{_AFTER})", re.IGNORECASE)


@cache
def _number_pattern() -> re.Pattern[str]:
    # Compiled when first used: it takes a tenth of the time in which the whole package is imported.
    return re.compile(
        rf"""
    (?P<sign>(?<![\w$€£.,)])[-\u2212])?
    (?:(?<![A-Za-z])(?P<before>{_BEFORE}){_GAP}?(?P<inner>[-\u2212])?)?
    (?<![\d.,])
    (?P<digits>\d{{1,2}}(?:,\d{{2}})+,\d{{3}}(?!\d)
      |\d{{1,3}}(?:(?P<group>[,.'\u2019]|{_GAP})\d{{3}}(?:(?P=group)\d{{3}})*)(?:[.,]\d{{1,2}})?(?!\d)
      |\d+(?:[.,]\d+)?)
    (?P<cut>[,'\u2019]\d{{0,2}}\s*\Z)?
    (?:\s?(?P<scale>k|mn?|thousand|million)(?![A-Za-z]))?
    (?:{_GAP}?(?P<after>{_AFTER})(?![A-Za-z]))?
    (?P<rest>[%\w]|\.\d)?
    """,
        re.VERBOSE | re.IGNORECASE,
    )


def _find_amounts(text: str, currency: str) -> Iterator[_Amount]:
    for match in _number_pattern().finditer(text):
        before, after = match["before"], match["after"]
        mark = _MARKS.get((before or after or "").lower(), ())
        if match["sign"] or match["inner"] or (match["rest"] and not before):
            continue
        if match["rest"] in {"e", "E"}:  # "$1e5" is not one dollar
            continue
        value = _value(match["digits"], mark[0] if mark and currency not in mark else currency)
        value *= _SCALES.get((match["scale"] or "").lower(), 1.0)
        if cents := (after or "").lower() in _CENTS:
            value /= 100
        if math.isinf(value):  # hundreds of digits
            continue
        nominal = bool(_nominal_pattern().search(text, max(0, match.start() - _LOOK_BACK), match.start()))
        cut = _ends_with_separator(match, text) or _ends_in_half_a_group(match["digits"])
        yield _Amount(value, mark, match.start(), match.end(), nominal, cut, cents)


def _value(digits: str, currency: str) -> float:
    separators = re.sub(r"\d", "", digits)
    if not separators:
        return float(digits)
    last = separators[-1]
    whole, _, tail = digits.rpartition(last)
    if _is_decimal(separators, whole, tail, currency):
        return float(re.sub(r"\D", "", whole) + "." + tail)
    return float(re.sub(r"\D", "", digits))


def _is_decimal(separators: str, whole: str, tail: str, currency: str) -> bool:
    last = separators[-1]
    if last not in ".," or separators.count(last) > 1:
        return False
    if len(set(separators)) > 1 or len(tail) != 3:
        return True
    if whole.lstrip("0") == "":
        return True
    return last == "." and currency not in _COMMA_DECIMALS


def _ends_with_separator(match: re.Match[str], text: str) -> bool:
    """Whether a number ends with a separator; the closing mark of a quotation is none."""
    cut = (match["cut"] or "").strip()
    closes = cut in {"'", "\u2019"} and len(re.findall("['\u2018\u2019]", text[: match.start()])) % 2 == 1
    return bool(cut) and not closes


def _ends_in_half_a_group(digits: str) -> bool:
    """Whether a comma is followed by one digit, or by two after another comma: a group of three, cut."""
    return bool(re.search(r",\d$|,\d{3},\d\d$", digits))


def _resolve_amount(amount: _Amount, amounts: list[_Amount], plain: str, text: str) -> float:
    if amount.cut:
        raise PriceNotFound(f"the price stops in the middle: {_quote(text)}", text=text)
    following = next((other for other in amounts if other.start >= amount.end), None)
    if following is None or following.cut:
        return amount.value
    if following.cents and not amount.cents and _AND.fullmatch(plain, amount.end, following.start):
        return amount.value + following.value
    if _RANGE.fullmatch(plain, amount.end, following.start):
        return (amount.value + following.value) / 2
    return amount.value


def _is_bare_price(text: str) -> bool:
    words = re.findall(r"[^\W\d_][\w'\u2019]*", _number_pattern().sub(" ", text).lower())
    numbers = list(_number_pattern().finditer(text))
    if any(number["rest"] for number in numbers):
        return False
    in_range = len(numbers) == 2 and _RANGE.fullmatch(text, numbers[0].end(), numbers[1].start())
    if in_range:
        words = [word for word in words if word not in {"to", "and", "or", "between"}]
    return (len(numbers) == 1 or bool(in_range)) and _FILLER.issuperset(words)


def _quote(text: str) -> str:
    """Return a reply, shortened: long enough to recognise, too short to reveal a prompt."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
