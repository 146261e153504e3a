"""Prices written as text and read from text: the only place that knows both.

The rules by which a text is read; docs/reference/price-grammar.md has a table of examples for each.

1. **Signs.** Digits and signs of all scripts are read as their plain forms (NFKC). A sign that changes a
   number (`½`, `²`, a stroke) makes it no price. Markdown and LaTeX around a price are left out.
2. **Separators.** Groups have three digits (or are Indian: `12,34,567.89`) and one sign throughout; the
   decimals come behind another sign. Two digits after the only separator are decimals, and so is one digit
   after a point, or after a comma where the currency has a decimal comma. Before three digits a lone comma
   groups thousands; so does a lone point where the currency has a decimal comma (EUR) or no decimals (JPY).
   Other groups are no price: `1.137.99`.
3. **Scales.** `k`, `m`, `bn`, `thousand`, `million`, `lakh` and `crore` multiply, where no letter, digit or
   hyphen follows: `$30 K9 vest` is 30. `m` and `bn` multiply only when joined to a marked number.
4. **Marks.** A number is *marked* when a currency stands at it: a symbol (`$19.99`, `19,99 €`), a code
   (`USD 20`) or a word (`20 dollars`), before it, behind it or both. A mark right before a digit is that
   number's: `iPhone 15 $999` is 999.
5. **Currencies.** A number's currency is what all its marks have in common: `$20 CAD` is Canadian. A number
   of another currency is not read as a price; nothing is converted.
6. **Which number.** Marked numbers win over bare ones: `Pack of 2: $30` is 30. Of several the one announced
   as the final answer is the price, else the first; a past, nominal or additional one (`was $50`,
   `MSRP $50`, `$5 off`) only where there is no other. In JSON it is the `price`, in LaTeX what is boxed.
7. **Ranges.** Two amounts joined by a dash, `to` or `or` are read as their middle. A bare number joined to a
   marked one takes its mark and its scale: `20-30 USD`, `$1.2-1.5k`. Ends more than 100 times apart are no
   range that anybody means, and refused. `5 dollars and 20 cents` is 5.2.
8. **Bare numbers.** A bare number is a price only if the text says nothing else but words such as "the price
   is about", and which currency it is in. `iPhone 15` holds no price.
9. **No price.** A negative number is none, nor is a share (`20%`), nor one that stops in the middle (`$1,`
   and `$1,1`), nor one whose mark or scale is not clear. A text of more than 10,000 characters is not read.
10. **Cells.** For a known price in a table the rules are stricter: `parse_amount` accepts one amount and
    nothing beside it. There a number may have an exponent (`1.5E+02`), and the decimal sign may be told.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from ._amounts import BLOT, CUT, LENGTHS, UNCLEAR, Amount, Decimal, codes_of, find_amounts, marks_in, simplify
from ._arguments import require_number, require_text
from ._currencies import CASED, CODES, DOLLARS, SPACE_GROUPS, SYMBOLS, THREE_DECIMALS, WORDS
from ._format import require_currency
from ._numbers import read_number
from ._reasoning import cut_reasoning
from .errors import DataError, PriceNotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_FILLER = frozenset(
    """a about again an answer approx approximate approximately around at be best boxed circa cost costs
    currency each estimate estimated estimation final for guess here i id i'd is it it's its json just likely
    my of only per piece price priced probably product retail roughly say sell sells sure text the think this
    total value would worth""".split()
)
_JOINERS = frozenset("to and or between from till until zwischen entre von de bis und et y".split())
_AFTER_A_RANGE = _FILLER | frozenset("and but depending if in max new on or range used usd when".split())
_UNITS = frozenset(
    """bit bits bulb bulbs cap cl cm count counts ct cup cups day days degree degrees dozen fl foot feet ft g
    gal gallon gallons gb ghz gram grams hour hours hr hrs hz in inch inches kg km l lb lbs led liter liters
    litre litres m mah max mb meter meters metre metres mg min mins minute minutes ml mm month months oz ounce
    ounces pack packs pair pairs pc pcs people person persons piece pieces pk ply port ports psi pt qt rolls
    sheets set sets size sizes tb v volt volts w watt watts week weeks x yard yards year years yr
    yrs""".split()
)
_MARKUP = str.maketrans({"\\": None, "*": " ", "`": " ", "_": " "})
_LOOK_BACK = 32  # characters before an amount in which "was" and "list price" are looked for
_LONGEST = 10_000  # characters; a longer text is no reply with a price
_DECIMALS: tuple[Decimal, ...] = (".", ",")
_FAR_APART = 100  # from $5 to $8,000 is no range that anybody means: its first end lacks its thousands


def format_price(price: float, like: str = "$19.99") -> str:
    """Write a price in the form that an example shows.

    Args:
        price: Dollars (or whatever the currency's unit is), finite and not negative.
        like: Any price in the wanted form. A separator before three digits asks for grouped thousands
            (`"$1,199.99"`, `"1.199,99 €"`), digits after another one for that many decimals. Text before and
            after the number is written too.

    Raises:
        DataError: The price is negative or not finite, or `like` shows no form.

    Examples:
        >>> format_price(1199.5), format_price(1199.5, "$1,199.99"), format_price(1199.5, "20")
        ('$1199.50', '$1,199.50', '1200')
        >>> format_price(1199.5, "1.199,99 €")
        '1.199,50 €'
    """
    if read_number(price) is None:
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
    group: str = ","
    """What stands between thousands, where they are grouped."""
    point: str = "."
    """What stands before the decimals."""

    @classmethod
    def like(cls, example: str) -> PriceForm:
        """Return the form of an example.

        Raises:
            DataError: The example is not one number, with or without text before and after it.
        """
        match = _form_pattern().fullmatch(example)
        group = None if match is None else match["group"] or ("." if "." in match["whole"] else None)
        if match is None or (group is not None and group == match["point"]):
            raise DataError(
                f"{example!r} does not show how to write a price; try '$19.99', '$1,199.99',"
                " '19,99 €' or '20'"
            )
        point = match["point"] or ("," if group == "." else ".")
        return cls(
            match["prefix"],
            group is not None,
            len(match["decimals"] or ""),
            match["suffix"],
            group=group or ("." if point == "," else ","),
            point=point,
        )

    def write(self, price: float) -> str:
        """Write one price in this form."""
        number = f"{price:{',' if self.grouped else ''}.{self.decimals}f}"
        if (self.group, self.point) != (",", "."):
            number = number.translate({ord(","): self.group, ord("."): self.point})
        return self.prefix + number + self.suffix

    @property
    def template(self) -> str:
        """This form as `str.format` takes it, with the separators of English; `write` knows all."""
        before, after = (part.replace("{", "{{").replace("}", "}}") for part in (self.prefix, self.suffix))
        return f"{before}{{:{',' if self.grouped else ''}.{self.decimals}f}}{after}"


@cache
def _form_pattern() -> re.Pattern[str]:
    # A lone point before three digits shows three decimals, a lone comma grouped thousands, as in English.
    return re.compile(
        r"""(?P<prefix>\D*?)
        (?P<whole>[0-9]{1,3}(?:(?P<group>[,'\u2019\u00a0\u2009\u202f ])[0-9]{3}(?:(?P=group)[0-9]{3})*
                              |(?:\.[0-9]{3})+(?=,[0-9])|(?:\.[0-9]{3}){2,})
          |[0-9]+)
        (?:(?P<point>[.,])(?P<decimals>[0-9]+))?
        (?P<suffix>\D*)""",
        re.VERBOSE,
    )


# Reading a reply


def parse_price(text: str, currency: str = "USD") -> float:
    """Return the price in a text, by the rules at the top of this module.

    Args:
        text: A reply, a sentence.
        currency: ISO code of the currency that the price is in. Prices in others are not converted.

    Returns:
        The price, in the currency's unit (dollars for USD).

    Raises:
        PriceNotFound: The text holds no price in this currency; `error.text` is the text.
        DataError: The currency is no ISO code.

    Examples:
        >>> parse_price("Pack of 2: **$1,299.00**")
        1299.0
        >>> parse_price("20-30 USD"), parse_price('{"price": 19.99}')
        (25.0, 19.99)
    """
    require_text("text", text)
    require_text("currency", currency)
    if (price := _read_plain(text, currency)) is not None:
        return price
    require_currency(currency)
    said = _cut_reasoning(text)
    if len(said) > _LONGEST:
        raise PriceNotFound(
            f"a text of {len(said):,} characters is not read as a price", text=text[:_LONGEST]
        )
    plain = simplify(said)
    if "{" in plain:
        found = _find_object(plain)
        if found is not None and (price := _price_in_object(found, currency, text)) is not None:
            return price
    return _choose_price(_strip_markup(plain, text), currency, text)


def _cut_reasoning(text: str) -> str:
    """Return what a model says in a text, without what it thinks."""
    if not any(sign in text for sign in "<[&\u25c1"):
        return text
    reply = cut_reasoning(text, is_cut=False)
    if reply.is_unfinished or reply.text is None:
        raise PriceNotFound(f"the text ends in its reasoning: {_quote(text)}", text=text[:_LONGEST])
    return reply.text


@cache
def _plain_patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    point = r"(\$?)((?:[0-9]{1,15}|[1-9][0-9]{0,2}(?:,[0-9]{3}){1,4})(?:\.[0-9]{2})?)"
    comma = r"((?:[0-9]{1,15}|[1-9][0-9]{0,2}(?:\.[0-9]{3}){1,4}),[0-9]{2})(?:[ \u00a0]?(\u20ac))?"
    return re.compile(point), re.compile(comma)


def _read_plain(text: str, currency: str, decimal: Decimal | None = None) -> float | None:
    """Return the price in a plain text (`12.34`, `$1,299.00`, `6,85 €`), as all rules would, but soon.

    None says that the rules are asked.
    """
    point, comma = _plain_patterns()
    if match := point.fullmatch(text):
        mark, digits = match.groups()
        if (mark and currency not in DOLLARS) or ("," in digits and currency in THREE_DECIMALS):
            return None
        if decimal == "," and not digits.isdigit():
            return None
        return float(digits.replace(",", ""))
    if decimal != "." and (match := comma.fullmatch(text)):
        digits, mark = match.groups()
        return None if mark and currency != "EUR" else float(digits.replace(".", "").replace(",", "."))
    return None


@cache
def _latex_pattern() -> re.Pattern[str]:
    return re.compile(
        r"""\\(?:text(?:bf|rm|it|tt)?|math(?:bf|rm|it|sf)|mbox|fbox|bf|rm|displaystyle|left|right|quad|approx)
              (?![A-Za-z])
          |(?P<sign>\{\s?(?P<separator>[,.])\s?\})|(?P<gap>\{?\\[,;:!]\}?)""",
        re.VERBOSE,
    )


_CURRENCY_COMMANDS = {r"\texteuro": "€", r"\euro": "€", r"\pounds": "£", r"\textdollar": "$"}


def _strip_markup(plain: str, text: str) -> str:
    """Return a text without its Markdown and LaTeX; of a boxed answer, the box alone."""
    if "#" in plain:
        plain = re.sub(r"(?m)^#{1,6} ", "", plain)
    if "`" in plain:
        plain = re.sub(r"```\w*", " ", plain)
    if "\\" in plain or "{" in plain:
        plain = _strip_latex(plain, text)
    return plain.translate(_MARKUP)


def _strip_latex(plain: str, text: str) -> str:
    for command, sign in _CURRENCY_COMMANDS.items():
        plain = plain.replace(command, sign)
    plain = _latex_pattern().sub(
        lambda found: found["separator"] if found["sign"] else " ",
        plain,
    )
    _, box, content = plain.rpartition("\\boxed{")
    if not box:
        return plain
    depth = 1
    for place, character in enumerate(content):
        depth += (character == "{") - (character == "}")
        if not depth:
            return content[:place].replace("{", "").replace("}", "")
    raise PriceNotFound(f"the price stops in the middle: {_quote(text)}", text=text)


_KEY_WORDS = frozenset(
    """amount answer cost current estimate estimated fair final in market predicted prediction price retail
    sale selling suggested the total value""".split()
)


def _find_object(plain: str) -> dict[str, Any] | None:
    """Return the JSON object in a text, if there is one."""
    import orjson

    first, last = plain.find("{"), plain.rfind("}")
    try:
        found = orjson.loads(plain[first : last + 1])
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _price_in_object(found: dict[str, Any], currency: str, text: str) -> float | None:
    """Return the price in a JSON object; None where no key, or more than one, says that it is one."""
    told: dict[str, Any] = {}
    for key, value in found.items():
        words = re.findall("[a-z]+", re.sub("(?<=[a-z])(?=[A-Z])", " ", key).lower())
        codes = [word.upper() for word in words if word.upper() in CODES]
        if words in (["currency"], ["currency", "code"]) and isinstance(value, str):
            codes = [value.strip().upper()]
        elif words and _KEY_WORDS.issuperset(word for word in words if word.upper() not in CODES):
            told[key] = value
        if codes and currency not in codes and currency not in SYMBOLS.get(codes[0].lower(), ()):
            raise _foreign(codes[0], currency, text)
    exact = {key: value for key, value in told.items() if key.lower() == "price"}
    values = list((exact or told).values())
    if len(values) != 1:
        return None
    value = values[0]
    if isinstance(value, dict):
        return _price_in_object(value, currency, text)
    if isinstance(value, str):
        return parse_price(value, currency)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return float(value)
    raise PriceNotFound(f"no price in {_quote(text)}", text=text)


def _choose_price(plain: str, currency: str, text: str) -> float:
    """Return the price among the numbers of a text, by rules 5 to 9."""
    amounts = list(find_amounts(plain, currency))
    ours = [
        place
        for place, amount in enumerate(amounts)
        if not amount.excluded and amount.marks and currency in amount.marks
    ]
    if ours:
        current = [place for place in ours if not _is_nominal(plain, amounts[place])]
        announced = [place for place in current if _is_announced(plain, amounts[place])]
        place = (announced[-1:] or current or ours)[0]
        if other := _find_label(plain, amounts[place], currency):
            raise _foreign(other, currency, text)
        return _Reader(plain, amounts, currency, text).read(place)
    for amount in amounts:
        if amount.marks is not None and not amount.excluded:
            raise _foreign(amount.marks[0] if amount.marks else "no one currency", currency, text)
    return _read_bare(plain, amounts, currency, text)


def _foreign(code: str, currency: str, text: str) -> PriceNotFound:
    return PriceNotFound(f"the price is in {code}, not in {currency}: {_quote(text)}", text=text)


@cache
def _nominal_pattern() -> re.Pattern[str]:
    return re.compile(
        r"""(?:\b(?:was|were|list(?:ed|s)?|msrp|m\.s\.r\.p\.?|rrp|uvp|original(?:ly)?|reg(?:ular(?:ly)?)?\.?
            |retails?|instead[ ]of|save|formerly|previously|normally|usually|compared?|before|old|used[ ]to
            |(?:marked[ ]|reduced[ ]|discounted[ ])?down[ ]from|(?:reduced|discounted)[ ]from
            |shipping|delivery|tax|deposit|discount|coupon)
          (?:[ ](?:price|priced|value|sold|selling|cost|be|was|is))*
          (?:[ ](?:for|at|to|of|is|was|with|as))?
          [\s:*_~(]*|~~|<(?:del|s|strike)>[ ]?)\Z""",
        re.IGNORECASE | re.VERBOSE,
    )


@cache
def _nominal_after_pattern() -> re.Pattern[str]:
    return re.compile(
        r" (?:off|msrp|rrp|uvp|list price|retail price|discount|coupon|shipping|delivery|deposit|tax)\b",
        re.IGNORECASE,
    )


def _is_nominal(plain: str, amount: Amount) -> bool:
    """Whether an amount is a past, a nominal or an additional one."""
    before = _nominal_pattern().search(plain, max(0, amount.start - _LOOK_BACK), amount.start)
    return bool(before) or _nominal_after_pattern().match(plain, amount.end) is not None


@cache
def _announcement_pattern() -> re.Pattern[str]:
    return re.compile(
        r"(?:\bfinal (?:answer|price|estimate)|\banswer)(?: is)?[\s:=]*\Z|(?<![=<>!])=\s?\Z", re.IGNORECASE
    )


def _is_announced(plain: str, amount: Amount) -> bool:
    """Whether a text says that this amount is its answer."""
    return bool(_announcement_pattern().search(plain, max(0, amount.start - _LOOK_BACK), amount.start))


@cache
def _label_pattern() -> re.Pattern[str]:
    return re.compile(r"(?:\b[Ii]n |\(|\bcurrency\b\W{1,4}|\bprices? )([A-Z]{3})\b(?! ?[0-9])")


def _find_label(plain: str, amount: Amount, currency: str) -> str | None:
    """Return the currency of the price where the text says it apart from its mark: `$20 (prices in CAD)`."""
    for found in _label_pattern().finditer(plain):
        code = found[1]
        if code != currency and code in (amount.marks or ()):
            return code
    return None


# Ranges


@cache
def _range_pattern() -> re.Pattern[str]:
    return re.compile(
        r"""\.?(?P<gap>\s*)(?:(?P<dash>[-\u2010-\u2014\u2212~\u301c]|\.{2,3})
        |(?P<to>up[ ]to|to|till?|until|bis|tot|hasta|até|до|do|à|a)|(?P<or>or|oder|ou)|(?P<and>and|und|et|y)
        )\s*""",
        re.IGNORECASE | re.VERBOSE,
    )


@cache
def _and_pattern() -> re.Pattern[str]:
    return re.compile(r"\s*(?:and\b\s*)?", re.IGNORECASE)


@cache
def _word_before_pattern() -> re.Pattern[str]:
    return re.compile(r"([^\W\d_]+)[\s(:~]*\Z")


@cache
def _word_after_pattern() -> re.Pattern[str]:
    return re.compile(r"[\s-]{0,3}(?:([^\W\d_]+)|[\"'\u2032\u00d7\u00b0])")


class _Reader:
    """Reads an amount of a text together with those that are joined to it."""

    def __init__(self, plain: str, amounts: Sequence[Amount], currency: str, text: str) -> None:
        self.plain = plain
        self.amounts = amounts
        self.currency = currency
        self.text = text

    def read(self, place: int) -> float:
        """Return the price that an amount is, or is a part of."""
        amount = self.amounts[place]
        if amount.problem or self._may_be_two(amount):
            raise self.refuse(amount.problem or UNCLEAR)
        if place and (found := self._read_range_to(self.amounts[place - 1], amount)) is not None:
            return found
        if place + 1 == len(self.amounts) or (following := self.amounts[place + 1]).excluded:
            return amount.value
        if following.cents and not amount.cents and self.is_sum(amount, following):
            return amount.value + following.value
        found = self._read_range_from(amount, following)
        return amount.value if found is None else found

    def _may_be_two(self, amount: Amount) -> bool:
        """Whether digits with spaces may be two numbers: `iPhone 15 999 USD`."""
        if amount.marked_before or self.currency in SPACE_GROUPS:
            return False
        return " " in self.plain[slice(*amount.number)] and not self._is_quiet_before(amount)

    def refuse(self, why: str) -> PriceNotFound:
        return PriceNotFound(f"{why}: {_quote(self.text)}", text=self.text)

    def is_sum(self, first: Amount, second: Amount) -> bool:
        return second.value < 1 and _and_pattern().fullmatch(self.plain, first.end, second.start) is not None

    def find_joiner(self, low: Amount, high: Amount) -> str | None:
        """Return what joins two amounts: `-` close to both, ` - ` with spaces, a word; or None."""
        found = _range_pattern().fullmatch(self.plain, low.end, high.start)
        if found is None:
            return None
        if found["dash"]:
            return " - " if found["gap"] else "-"
        return found.lastgroup

    def _read_range_from(self, low: Amount, high: Amount) -> float | None:
        """Return the middle of a range whose first end is marked; None where there is no range."""
        joiner = self.find_joiner(low, high)
        if joiner is None or (high.marks is not None and not set(high.marks) & set(low.marks or ())):
            return None
        if joiner == "and" and not self._says_between(low) and high.value < low.value:
            return None
        if high.problem:
            raise self.refuse(high.problem)
        if high.marks is None:
            high = _take_scale(high, low)
            kind = self._judge_bare_end(low, high, joiner)
            if kind is not True:
                if kind is None:
                    raise self.refuse(UNCLEAR)
                return None
        return self.middle(low, high)

    def _judge_bare_end(self, low: Amount, high: Amount, joiner: str) -> bool | None:
        """Return whether a bare number is the second end of a range: `$20-30`, not `$20 - 24 pack`."""
        if high.value < low.value and _take_scale(low, high).value < low.value:
            return False
        if joiner == "and" and not self._says_between(low):
            return False
        if high.value < low.value:
            return False
        found = _word_after_pattern().match(self.plain, high.end)
        word = found and (found[1] or "inch").lower()
        if word is None or (word in _AFTER_A_RANGE and word not in _UNITS) or word in {"each", "in", "max"}:
            return True
        if word in _UNITS or joiner == " - ":
            return False
        return True if joiner == "-" else None

    def _read_range_to(self, low: Amount, high: Amount) -> float | None:
        """Return the middle of a range whose second end alone is marked: `20-30 USD`."""
        if low.marks is not None or low.excluded or (joiner := self.find_joiner(low, high)) is None:
            return None
        if low.problem:
            raise self.refuse(low.problem)
        low = low._replace(value=low.value / 100) if high.cents else low
        shared = _take_scale(low, high)
        if shared.value > high.value or (joiner == "and" and not self._says_between(low)):
            return None
        if self._is_quiet_before(low):
            return self.middle(low, high)
        if shared.value * 10 < high.value:
            return None  # `iPhone 15 - $999`
        if joiner == "-" and not high.marked_before:
            return self.middle(low, high)
        raise self.refuse(UNCLEAR)

    def _says_between(self, low: Amount) -> bool:
        return bool(
            re.search(
                r"(?i)\b(?:between|from|zwischen|entre)\W*\Z", self.plain[max(0, low.start - 12) : low.start]
            )
        )

    def _is_quiet_before(self, low: Amount) -> bool:
        found = _word_before_pattern().search(self.plain, max(0, low.start - _LOOK_BACK), low.start)
        return found is None or found[1].lower() in _FILLER | _JOINERS

    def middle(self, low: Amount, high: Amount) -> float:
        if high.scale > low.scale:
            low = _take_scale(low, high)
        ends = sorted((low.value, high.value))
        if ends[0] * _FAR_APART < ends[1] and ends[0]:
            raise self.refuse("the ends of the range are too far apart for one price")
        return sum(ends) / 2


def _take_scale(end: Amount, other: Amount) -> Amount:
    """Return an end of a range with the scale of the other end: `$1.2-1.5k`; not if that turns them round."""
    if end.scale != 1 or other.scale == 1:
        return end
    value = end.value * other.scale
    fits = value <= other.value if end.start < other.start else value >= other.value
    return end._replace(value=value, scale=other.scale) if fits else end


# Bare numbers


def _read_bare(plain: str, amounts: Sequence[Amount], currency: str, text: str) -> float:
    none = PriceNotFound(f"no price in {_quote(text)}", text=text)
    reader = _Reader(plain, amounts, currency, text)
    is_range = len(amounts) == 2 and reader.find_joiner(*amounts) is not None
    if not (len(amounts) == 1 or is_range) or any(amount.excluded for amount in amounts):
        raise none
    beside = _without_amounts(plain, amounts)
    said = list(marks_in(beside))
    for codes in said:
        if currency not in codes:
            raise _foreign(codes[0], currency, text)
    words = re.findall(r"[^\W\d_](?:[\w'\u2019]*\w)?", beside)
    known = _FILLER | (_JOINERS if is_range else frozenset()) | ({"in"} if said else frozenset())
    if not all(word.lower() in known or _is_mark(word) for word in words) or _has_other_signs(plain):
        raise none
    for amount in amounts:
        if amount.problem:
            raise reader.refuse(amount.problem)
        if plain[amount.number[1] : amount.end].strip().lower() in LENGTHS:
            raise none
    if not is_range:
        return amounts[0].value
    low, high = amounts[0], _take_scale(amounts[1], amounts[0])
    if high.value < low.value:
        raise none
    return reader.middle(low, high)


def _without_amounts(plain: str, amounts: Sequence[Amount]) -> str:
    pieces, at = [], 0
    for amount in amounts:
        pieces.append(plain[at : amount.start])
        at = amount.end
    return " ".join([*pieces, plain[at:]])


def _is_mark(word: str) -> bool:
    return bool(codes_of(word)) or word.lower() in WORDS or word in {"US", "U", "S"}


_OTHER_SIGNS = frozenset({BLOT, "#", "@", "\u00b0", "^", "\u00d7", "\u2032"})


def _has_other_signs(plain: str) -> bool:
    """Whether a sign says that a bare number is something else: an inch, a degree, a place in a list."""
    return plain.count('"') % 2 == 1 or not _OTHER_SIGNS.isdisjoint(plain)


# Reading a cell


def parse_amount(text: str, currency: str = "USD", *, decimal: Decimal | None = None) -> float:
    """Return the price in a cell that is one amount of money and nothing else.

    Models are trained on a product's price and scored against it, so nothing is chosen, averaged or left out
    here: a range, a price for a number of pieces, "from $5" and "approx. 5" are refused, where `parse_price`
    takes the most likely reading of a reply. Otherwise the rules at the top of this module apply.

    Args:
        text: A cell: an amount, with its currency or without (`1,299.00`, `$1,299.00`, `19,99 USD`).
        currency: ISO code of the currency that the price is in.
        decimal: The sign before the decimals, where the column tells it (`find_decimal_mark`). The other sign
            then groups thousands and nothing else.

    Returns:
        The price, in the currency's unit (dollars for USD).

    Raises:
        PriceNotFound: The text is not one amount in this currency; `error.text` is the text.
        DataError: The currency is no ISO code, or `decimal` is another sign.

    Examples:
        >>> parse_amount("$1,299.00")
        1299.0
        >>> parse_amount("1.299", "EUR"), parse_amount("1.299", "EUR", decimal=".")
        (1299.0, 1.299)
    """
    require_text("text", text)
    require_text("currency", currency)
    if decimal is not None and (not isinstance(decimal, str) or decimal not in _DECIMALS):
        raise DataError(f"decimal must be '.', ',' or None, not {decimal!r}")
    if (price := _read_plain(text, currency, decimal)) is not None:
        return price
    require_currency(currency)
    if len(text) > _LONGEST:
        raise PriceNotFound(
            f"a text of {len(text):,} characters is not read as a price", text=text[:_LONGEST]
        )
    plain = simplify(text).replace("\\", "").strip()
    if (price := _read_exponent(plain, decimal)) is not None:
        return price
    amounts = list(find_amounts(plain, currency, decimal))
    if len(amounts) != 1 or amounts[0].excluded:
        raise PriceNotFound(f"{_say_why_not(plain, amounts, currency)} {_quote(text)}", text=text)
    [amount] = amounts
    if amount.marks and currency not in amount.marks:
        raise _foreign(amount.marks[0], currency, text)
    if amount.start or amount.end < len(plain.removesuffix(".")) or not _is_pure(amount):
        raise PriceNotFound(f"{amount.problem or _BESIDE}: {_quote(text)}", text=text)
    if amount.problem:
        raise PriceNotFound(f"{amount.problem}: {_quote(text)}", text=text)
    return amount.value


_BESIDE = "a price is one amount and nothing beside it"


def _is_pure(amount: Amount) -> bool:
    """Whether an amount's marks agree, and a scale has a mark: `5 m` is a length."""
    return amount.marks != () and (amount.scale == 1 or amount.marks is not None)


@cache
def _exponent_pattern() -> re.Pattern[str]:
    return re.compile(r"([0-9]{1,20}(?:[.,][0-9]{0,40})?|\.[0-9]{1,40})[eE]([+-]?[0-9]{1,4})")


def _read_exponent(plain: str, decimal: Decimal | None) -> float | None:
    """Return a number as programs write it: `9.999999974e-07`, `1.5E+02`."""
    found = _exponent_pattern().fullmatch(plain)
    if found is None or ("," in found[1] and decimal != ",") or ("." in found[1] and decimal == ","):
        return None
    value = float(f"{found[1].replace(',', '.')}e{found[2]}")
    return value if math.isfinite(value) else None


def _say_why_not(plain: str, amounts: Sequence[Amount], currency: str) -> str:
    if len(amounts) < 2:
        return "no price in"
    reader = _Reader(plain, amounts, currency, plain)
    if len(amounts) == 2 and reader.find_joiner(*amounts) not in {None, "and"}:
        return "a range is not a price:"
    return f"{len(amounts)} numbers are not one price:"


def find_decimal_mark(texts: Iterable[str], currency: str = "USD") -> Decimal | None:
    """Return which sign stands before the decimals in a column of prices.

    Args:
        texts: The column's cells. What is no price says nothing.
        currency: ISO code of the prices.

    Returns:
        The sign, or None where no cell shows it: then each is read by the currency's own writing.

    Raises:
        PriceNotFound: Some cells show a point and others a comma; the message names one of each.

    Examples:
        >>> find_decimal_mark(["6,85 €", "1.299,00", "1.299"], "EUR")
        ','
        >>> parse_amount("1.299", "EUR", decimal=",")
        1299.0
    """
    shown: dict[Decimal, str] = {}
    for text in texts:
        mark = _decimal_mark_of(text, currency)
        if mark is not None:
            shown.setdefault(mark, text)
            if len(shown) == 2:
                raise PriceNotFound(
                    f"{_quote(shown['.'])} has a decimal point and {_quote(shown[','])} a decimal comma: say"
                    " which one the column has, or write its prices in one way",
                    text=text,
                )
    return next(iter(shown), None)


def _decimal_mark_of(text: str, currency: str) -> Decimal | None:
    """Return the decimal sign that one cell shows beyond doubt."""
    if "." not in text and "," not in text:
        return None
    if _read_plain(text, currency, ",") is not None:
        return ","
    if _read_plain(text, currency, ".") is not None:
        return "." if "." in text or text.count(",") > 1 else None
    readable: list[Decimal] = []
    for decimal in _DECIMALS:
        try:
            parse_amount(text, currency, decimal=decimal)
        except PriceNotFound:
            continue
        readable.append(decimal)
    return readable[0] if len(readable) == 1 else None


def _quote(text: str) -> str:
    """Return a reply, shortened: long enough to recognise, too short to reveal a prompt."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


# Prices in descriptions


def marked_prices(text: str, currency: str = "USD") -> Iterator[tuple[float, str]]:
    """Yield every number in a text that this currency marks, and how the text shows it.

    A text of any length is read whole: this looks for prices in descriptions, not for the price in a reply.
    """
    require_currency(currency)
    plain = simplify(text).translate(_MARKUP)
    if not _own_mark_pattern(currency).search(plain):  # true of most descriptions, and found far sooner
        return
    amounts = list(find_amounts(plain, currency))
    for place, amount in enumerate(amounts):
        if amount.marks and currency in amount.marks and not (amount.excluded or math.isnan(amount.value)):
            shown = plain[amount.start : amount.end].strip()
            if amount.problem != CUT:
                yield amount.value, shown
            if amount.problem and amount.scale != 1:  # `$30 K harness`
                yield amount.value / amount.scale, shown
            yield from _read_neighbors(plain, amounts, place, currency)


@cache
def _own_mark_pattern(currency: str) -> re.Pattern[str]:
    own = [mark for mark, codes in (CASED | SYMBOLS | WORDS).items() if currency in codes]
    shortest = [mark for mark in own if not any(other != mark and other in mark for other in own)]
    return re.compile("|".join(map(re.escape, [currency, *shortest])), re.IGNORECASE)


_ENDS = frozenset({"-", " - ", "to"})


def _read_neighbors(
    plain: str, amounts: Sequence[Amount], place: int, currency: str
) -> Iterator[tuple[float, str]]:
    """Yield what an amount says together with the numbers beside it: cents, and the bare end of a range."""
    amount = amounts[place]
    for other in (*amounts[max(0, place - 1) : place], *amounts[place + 1 : place + 2]):
        if math.isnan(other.value):  # its digits are grouped in no known way
            continue
        first, second = sorted((amount, other), key=lambda each: each.start)
        reader, shown = _Reader(plain, amounts, currency, plain), plain[first.start : second.end].strip()
        if other is second and other.cents and not amount.cents and reader.is_sum(amount, other):
            yield amount.value + other.value, shown
        if other.marks is None and not other.excluded and reader.find_joiner(first, second) in _ENDS:
            yield _take_scale(other, amount).value, shown
