"""Decoding: from token probabilities, or from several replies, to the price with the smallest expected error.

The rules by which `distribution_from_logprobs` reads the token probabilities of a reply, in order:

1. The *dollar token* is the reply's first token with a digit. It must be nothing but one to three digits,
   with at most a currency mark or spaces before them (`123`, ` 123`, `$123`), and the price that was read
   in the reply must begin with it; else the reply is no evidence (`2 for $30`).
2. Vocabularies cut digits in threes from the left (o200k, Llama 3) or one by one. One by one, a token says
   nothing about the amount: unless a token of several digits shows up among the reply's tokens or their
   alternatives, there is no evidence.
3. In threes, a token of one or two digits is the whole amount. A token of three digits may go on:
   `$1199.99` is `$`, `119`, `9`. A reply that goes on so is no evidence, nor is one whose next token would
   go on with more than 10 %. In the form `$1,199.99` it is the comma that may follow, and it tells
   thousands: there the first token of the reply `$1,199.99` stands for thousands and is evidence.
4. For the alternatives to the reply's dollar token nobody says whether they go on. Where the highest price
   is known and no longer reading stays below it, they do not. Else each is read as what lies nearest to the
   reply's price in proportion. The other reading is kept in mind where it is less than twice as far on the
   log scale, or is the shorter one and within a factor of 20 (beside $850, `119` may be $1,190 or $119): if
   reading these the other way moves the median by more than 10 %, there is no evidence.
5. Alternatives that are no amounts are left out; what remains is the `mass`, and is scaled to 1. An
   alternative stands for the middle of its dollar where the form has decimals; the reply's own token for
   the reply's price.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .._display import ShortRepr

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ..prices import PriceForm

Decoding = Literal["auto", "greedy", "median", "mean"]
"""How to take a price from what a model knows."""

ENOUGH_MASS = 0.25
"""Below this share of the probability the median of what was seen says less than the likeliest reply."""
_GOES_ON = 0.1
_SAME_MEDIAN = 1.1
_OUT_OF_QUESTION = math.log(20)
_DOLLAR_TOKEN = re.compile(r"(?P<mark>[^\w.,-]*)(?P<digits>0|[1-9]\d{0,2})")
_SEVERAL_DIGITS = re.compile(r"\d\d")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Distribution(ShortRepr):
    """What a model holds possible for one item: prices in ascending order, and their probabilities."""

    prices: tuple[float, ...]
    """Dollars (or the formatter's currency)."""
    probabilities: tuple[float, ...]
    """Sum to 1."""
    mass: float = 1.0
    """Share of the model's probability that was seen; below 1 when taken from the likeliest tokens."""
    source: Literal["logprobs", "samples", "mixture"] = "logprobs"
    """Where it comes from."""

    @classmethod
    def of(
        cls, weighted: Iterable[tuple[float, float]], *, source: Literal["logprobs", "samples", "mixture"]
    ) -> Distribution:
        """Return the distribution of prices with weights; the sum of the weights becomes the mass.

        Equal prices become one.
        """
        weights: dict[float, float] = {}
        for price, weight in weighted:
            if weight:  # a price that is never meant lies in no quantile
                weights[price] = weights.get(price, 0.0) + weight
        mass = math.fsum(weights.values())
        prices = tuple(sorted(weights))
        return cls(
            prices=prices,
            probabilities=tuple(weights[price] / mass for price in prices),
            mass=1.0 if source == "samples" else min(1.0, mass),
            source=source,
        )

    @property
    def median(self) -> float:
        """The best answer for the absolute error."""
        return self.quantile(0.5)

    @property
    def mean(self) -> float:
        """The best answer for the squared error."""
        return math.fsum(map(math.prod, zip(self.prices, self.probabilities, strict=True)))

    def quantile(self, q: float) -> float:
        """Return the price below which a share `q` lies: the first that is reached, or the middle of two."""
        below = 0.0
        for place, (price, probability) in enumerate(zip(self.prices, self.probabilities, strict=True)):
            below += probability
            # As the median of ten draws is the middle between the fifth and the sixth.
            if math.isclose(below, q, abs_tol=1e-12) and place + 1 < len(self.prices):
                return (price + self.prices[place + 1]) / 2
            if below > q:
                return price
        return self.prices[-1]

    @property
    def spread(self) -> float:
        """How unsure the model is: half the distance of the 10 % and 90 % quantiles of log(1 + price)."""
        return (math.log1p(self.quantile(0.9)) - math.log1p(self.quantile(0.1))) / 2


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    digits: str
    mark: str


def distribution_from_logprobs(
    choice: Mapping[str, Any], price: float, form: PriceForm, *, highest: float | None = None
) -> Distribution | None:
    """Read the distribution in a choice's token probabilities, by the rules at the top of this module.

    Args:
        choice: One of an answer's choices, as the protocol has it, with its `logprobs`.
        price: What was read in its text, in dollars.
        form: How the model writes prices.
        highest: No price is above this, if anybody knows.

    Returns:
        None where the token probabilities do not tell amounts.
    """
    content = _content(choice)
    place, own = _dollar_token(content)
    if own is None or not any(map(_SEVERAL_DIGITS.search, _all_tokens(content))):
        return None
    after = "".join(str(token.get("token") or "") for token in content[place + 1 :])
    thousands = form.grouped and re.match(rf"{re.escape(form.group)}\d{{3}}", after) is not None
    whole = str(int(price))
    if whole != own.digits and not (thousands and whole[:-3] == own.digits):
        return None
    if not thousands and _probability_of_more(content[place + 1 : place + 2], own, form) > _GOES_ON:
        return None
    nearest: list[tuple[float, float]] = []
    other: list[tuple[float, float]] = []
    for token, weight in _alternatives(content[place], own):
        readings = [price] if token.digits == own.digits else _readings(token.digits, form, highest)
        readings.sort(key=lambda reading: _distance(reading, price))
        if readings:
            nearest.append((readings[0], weight))
            other.append((readings[1 if _is_doubtful(readings, price) else 0], weight))
    if not any(weight for _, weight in nearest):
        return None
    found = Distribution.of(nearest, source="logprobs")
    medians = sorted((found.median, Distribution.of(other, source="logprobs").median))
    return found if medians[1] <= _SAME_MEDIAN * medians[0] else None


def distribution_from_samples(prices: Sequence[float]) -> Distribution | None:
    """Return the prices of several replies as equally likely; None without any."""
    return Distribution.of(((price, 1.0) for price in prices), source="samples") if prices else None


def _content(choice: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    return [token for token in content if isinstance(token, dict)] if isinstance(content, list) else []


def _dollar_token(content: Sequence[Mapping[str, Any]]) -> tuple[int, _Token | None]:
    for place, token in enumerate(content):
        text = str(token.get("token") or "")
        if re.search(r"\d", text):
            return place, _as_amount(text)
    return 0, None


def _as_amount(text: str) -> _Token | None:
    match = _DOLLAR_TOKEN.fullmatch(text)
    return None if match is None else _Token(text, match["digits"], match["mark"].strip())


def _all_tokens(content: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for token in content:
        yield str(token.get("token") or "")
        yield from (text for text, _ in _likeliest(token))


def _likeliest(token: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield a token's alternatives and their probabilities; malformed ones are left out."""
    listed = token.get("top_logprobs")
    for alternative in listed if isinstance(listed, list) else []:
        if isinstance(alternative, dict) and (probability := _probability(alternative)) is not None:
            yield str(alternative.get("token") or ""), probability


def _probability(token: Mapping[str, Any]) -> float | None:
    logprob = token.get("logprob")
    # A service that clips writes -9999 for "almost never"; exp of that is 0.
    return math.exp(min(0.0, float(logprob))) if isinstance(logprob, int | float) else None


def _alternatives(token: Mapping[str, Any], own: _Token) -> Iterator[tuple[_Token, float]]:
    """Yield the amounts among the likeliest tokens, with their probabilities, and the reply's own."""
    seen: set[str] = set()
    of_own = _probability(token)
    for text, probability in [*_likeliest(token), *([] if of_own is None else [(own.text, of_own)])]:
        amount = _as_amount(text)
        if amount is not None and text not in seen and amount.mark == own.mark:
            seen.add(text)
            yield amount, probability


def _probability_of_more(following: Sequence[Mapping[str, Any]], own: _Token, form: PriceForm) -> float:
    """Return the probability, as far as it is known, that the amount goes on after the dollar token."""
    if not following:
        return 0.0
    marks = (*"0123456789", form.group) if form.grouped else tuple("0123456789")
    if str(following[0].get("token") or "").startswith(marks):
        return 1.0
    if len(own.digits) < 3 and not form.grouped:
        return 0.0
    return sum(probability for text, probability in _likeliest(following[0]) if text.startswith(marks))


def _readings(digits: str, form: PriceForm, highest: float | None) -> list[float]:
    """Return the amounts that an alternative may stand for: itself, or one that goes on after it."""
    half = 0.5 if form.decimals else 0.0
    readings = [float(digits) + half]
    if digits != "0":
        if form.grouped:
            readings.append(float(digits) * 1000 + 500)
        elif len(digits) == 3:
            readings.append(float(digits) * 10 + 5)
    return [reading for reading in readings if highest is None or reading <= highest + half]


def _is_doubtful(readings: Sequence[float], price: float) -> bool:
    """Whether the second nearest of two readings cannot be left out of account."""
    if len(readings) < 2:
        return False
    near, far = (_distance(reading, price) for reading in readings)
    return far < 2 * near or (readings[0] > readings[1] and far < _OUT_OF_QUESTION)


def _distance(reading: float, price: float) -> float:
    return abs(math.log1p(reading) - math.log1p(price))
