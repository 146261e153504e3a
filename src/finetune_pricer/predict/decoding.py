"""Decoding: from token probabilities, or from several replies, to the price with the smallest expected error.

The rules by which `distribution_from_logprobs` reads the token probabilities of a reply, in order:

1. The *dollar token* is the reply's first token with a digit. It must be nothing but one to three digits,
   with at most a currency mark or spaces before them (`123`, ` 123`, `$123`), and with the digits that follow
   it must be the whole dollars of the price that was read; else the reply is no evidence (`2 for $30`).
   Nor is one of a million or more: a token that goes on twice tells too little of what it stands for.
2. Vocabularies cut digits in threes from the left (o200k, Llama 3) or one by one (Llama 2, Qwen). One by
   one, a token says nothing about the amount: unless a token of several digits shows up among the reply's
   tokens or their alternatives, there is no evidence (`$`, `1`, `2`, `.`, `9`, `9`).
3. In threes, a token is the whole amount or goes on: `$1199.99` is `$`, `119`, `9`, and `$1,199.99` is `$`,
   `1`, `,`, `199`. For the reply's own dollar token the tokens that follow tell which, and its probability is
   shared out as theirs is: after `119` the alternatives `.`, `9` and `8` are $119, $1,199 and $1,198, after
   `1,` the alternatives `199` and `499` are $1,199 and $1,499. Thousands of which nothing more is told, as
   where the reply `$899.00` might have been `$899,...`, are spread over their range.
4. For the alternatives to the dollar token nobody says whether they go on. In the form `$1,199.99` each may
   stand for thousands, which are spread over their range; in the form `$1199.99` each of three digits may
   lack one to three more. Each is read as what lies nearest, in proportion, to the median of all that was
   told, which is looked for from the reply's price on: beside $850 the token `119` is $1,195, beside $150 it
   is $119. A model that holds $2,000 to $9,000 possible may find $16,700 the likeliest reply. So in the form
   `$1199.99` the median is looked for from seven places around the reply's price, from a tenth to ten times
   of it, and the end counts whose bell (rule 5) makes all that is known the likeliest: what each token
   weighs, how the reply's own is shared out, and how much is unseen. A longer reading is never above ten
   times the reply's price, so that likely tokens do not lift each other to thousands that nobody meant; and
   no reading is above the highest price, where it is known.
5. Alternatives that are no amounts are left out; what remains is the `mass`. However little it is, it says
   more than the likeliest reply. But the median of twenty tokens that hold a third of the probability lies
   too low, since dear prices share theirs among more tokens. So where more than a twentieth of the mass is
   unseen, it is completed by a bell over log(1 + price): the one under which what is seen, and how much is
   not, are the most likely, and no unseen token is likelier than the least likely one that is seen. What may
   be read two ways is then shared out between its readings as the bell stands over them.
6. An alternative stands for the middle of its dollar where the form has decimals; the reply's own token for
   the reply's price.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .._display import ShortRepr
from .unseen import Evidence, Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ..prices import PriceForm
    from .unseen import Weighted

Decoding = Literal["auto", "greedy", "median", "mean"]
"""How to take a price from what a model knows."""

_TOO_LONG = 1_000_000  # an amount whose digits are cut twice or more
_FARTHEST = 10  # times the reply's price, which no longer reading is above
_TOO_LITTLE = 1e-3  # of a token's probability, to be spread
_ROUNDED = 0.01  # above 0, where the logarithm of a probability may lie by rounding
_NEVER = -9_999.0  # the logarithm of a probability of 0, as services write it
_ENOUGH_UNSEEN = 0.05  # beside what is seen, to be completed
_MOST_ROUNDS = 100  # in search of the median; it goes one way only, and mostly two rounds
_DOLLAR_TOKEN = re.compile(r"(?P<mark>[^\w.,-]*)(?P<digits>0|[1-9]\d{0,2})")
_DIGITS = re.compile(r"[0-9]{1,3}")
_HUNDREDS = re.compile(r"[0-9]{3}")
_SEVERAL_DIGITS = re.compile(r"\d\d")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Distribution(ShortRepr):
    """What a model holds possible for one item: prices in ascending order, and their probabilities."""

    prices: tuple[float, ...]
    """Dollars (or the formatter's currency)."""
    probabilities: tuple[float, ...]
    """Sum to 1."""
    mass: float = 1.0
    """Share of the model's probability that was seen: below 1 when taken from the likeliest tokens. What was
    not seen is completed."""
    source: Literal["logprobs", "samples", "mixture"] = "logprobs"
    """Where it comes from."""

    @classmethod
    def of(
        cls,
        weighted: Iterable[tuple[float, float]],
        *,
        source: Literal["logprobs", "samples", "mixture"],
        mass: float | None = None,
    ) -> Distribution:
        """Return the distribution of prices with weights; without a mass it is the sum of the weights.

        Equal prices become one.
        """
        weights: dict[float, float] = {}
        for price, weight in weighted:
            if weight:  # a price that is never meant lies in no quantile
                weights[price] = weights.get(price, 0.0) + weight
        total = math.fsum(weights.values())
        prices = tuple(sorted(weights))
        return cls(
            prices=prices,
            probabilities=tuple(weights[price] / total for price in prices),
            mass=1.0 if source == "samples" else min(1.0, total if mass is None else mass),
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
    reply = _Reply.read(own.digits, content[place + 1 :], price, form)
    if reply is None:
        return None
    told: Weighted = []
    readings: list[tuple[list[Span], float]] = []
    seen: list[Span] = []
    amounts = list(_alternatives(content[place], own))
    for token, weight in amounts:
        seen += (spans := reply.spans_of(token.digits))
        if token.digits == own.digits:
            told += reply.share_out(weight)
        elif chosen := reply.choose_readings(spans, highest):
            readings.append((chosen, weight))
    mass = math.fsum(weight for _, weight in [*told, *readings])
    if not mass:
        return None
    listed = math.fsum(_chances(content[place]).values())
    evidence = Evidence(
        told=told,
        own=reply.sort_by_length(told),
        readings=readings,
        seen=seen,
        least=min(weight for _, weight in amounts if weight),
        unseen=max(0.0, 1 - listed) * mass / listed,  # as much of it will be amounts as of what is seen
        grouped=reply.grouped,
        highest=highest,
    )
    ends = [_read_as_nearest(told, readings, start) for start in reply.find_starts(readings)]
    ends = [found for place, found in enumerate(ends) if found not in ends[:place]]
    if evidence.unseen > _ENOUGH_UNSEEN * mass:
        ends = [evidence.complete(nearest) for nearest in ends]
    found = max(ends, key=evidence.judge) if len(ends) > 1 else ends[0]
    return Distribution.of(found, source="logprobs", mass=mass)


def writes_single_digits(choice: Mapping[str, Any]) -> bool:
    """Whether a reply shows that its model cuts numbers into single digits, so that rule 2 finds no evidence.

    It does where two digits stand in two tokens side by side, and no token or alternative has several.
    """
    texts = [_text_of(token) for token in _content(choice)]
    side_by_side = any(map(_ends_and_begins_with_digit, texts, texts[1:]))
    return side_by_side and not any(map(_SEVERAL_DIGITS.search, _all_tokens(_content(choice))))


def _ends_and_begins_with_digit(text: str, after: str) -> bool:
    return text[-1:].isdecimal() and after[:1].isdecimal()


@dataclass(frozen=True, slots=True)
class _Reply:
    """A reply from its dollar token on."""

    digits: str
    """The dollar token's."""
    following: Sequence[Mapping[str, Any]]
    """The tokens after it."""
    price: float
    form: PriceForm
    grouped: bool
    """Whether it sets thousands apart: as it shows itself, else as the form does."""

    @classmethod
    def read(
        cls, digits: str, following: Sequence[Mapping[str, Any]], price: float, form: PriceForm
    ) -> _Reply | None:
        """Return the reply; None where its digits are not those of the price's whole dollars."""
        whole, last, rest, grouped = digits, digits, following, form.grouped
        while step := _count_step(last, rest, form):
            last, grouped = _text_of(rest[step - 1]), step == 2
            whole, rest = whole + last, rest[step:]
        is_told = whole == str(int(price)) and price < _TOO_LONG
        return cls(digits, following, price, form, grouped) if is_told else None

    def share_out(self, weight: float) -> Iterator[tuple[float, float]]:
        """Yield the amounts that the dollar token stands for, by the tokens after it, with weights."""
        digits, last, rest = self.digits, self.digits, self.following
        while True:
            step = _count_step(last, rest, self.form)
            said = _text_of(rest[0]) if step else None
            chances = _chances(rest[0]) if rest else {"": 1.0}
            total, ends = math.fsum(chances.values()), 0.0
            for text, chance in chances.items():
                span = self._span_after(digits, last, text)
                if text != said and span is not None:
                    yield from span.spread(weight * chance / total)
                elif text != said:
                    ends += chance / total
            yield self._span(digits).middle if step else self.price, weight * ends
            if not step:
                return
            weight *= chances[_text_of(rest[0])] / total
            last = _text_of(rest[step - 1])
            if step == 2:
                yield from self._share_out_thousand(digits, rest[1], weight)
                weight *= _chances(rest[1])[last]
            digits, rest = digits + last, rest[step:]

    def _share_out_thousand(
        self, digits: str, hundreds: Mapping[str, Any], weight: float
    ) -> Iterator[tuple[float, float]]:
        """Yield what else the reply's hundreds might have been; what is not told is spread over all."""
        left, own = 1.0, _text_of(hundreds)
        for text, chance in _chances(hundreds).items():
            if text == own or _HUNDREDS.fullmatch(text):
                left -= chance
            if text != own and _HUNDREDS.fullmatch(text):
                yield self._span(digits + text).middle, weight * chance
        if left > _TOO_LITTLE:
            yield from self._span(digits, 1000).spread(weight * left)

    def spans_of(self, digits: str) -> list[Span]:
        """Return all that a dollar token may stand for: itself, and what goes on after it."""
        widths = (1000,) if self.grouped else (10, 100, 1000) if len(digits) == 3 else ()
        return [self._span(digits, width) for width in (1, *widths) if width == 1 or digits != "0"]

    def sort_by_length(self, told: Weighted) -> list[tuple[list[Span], float]]:
        """Return what the dollar token may stand for, each length by itself, with its weight."""
        weights: dict[int, float] = {}
        for amount, weight in told:
            length = len(str(int(amount)))
            weights[length] = weights.get(length, 0.0) + weight
        spans = ((span, weights.get(len(str(span.lowest)))) for span in self.spans_of(self.digits))
        return [([span], weight) for span, weight in spans if weight]

    def find_starts(self, readings: Sequence[tuple[list[Span], float]]) -> list[float]:
        """Return where to look for the median from."""
        if self.grouped or all(len(spans) == 1 for spans, _ in readings):
            return [self.price]
        # A token that goes on stands for ten times as much: all places of that circle, some thirds apart.
        return [self.price * 10 ** (third / 3) for third in (0, -3, -2, -1, 1, 2, 3)]

    def choose_readings(self, spans: Sequence[Span], highest: float | None) -> list[Span]:
        """Return those that are not far above the reply's price, nor above the highest."""
        most = math.inf if highest is None else highest + self._span("0").middle
        far = _FARTHEST * self.price
        return [span for span in spans if span.middle <= most and (span.dollars == 1 or span.middle <= far)]

    def _span_after(self, digits: str, last: str, text: str) -> Span | None:
        """Return the amounts that go on after some digits by a token; None where they end there."""
        if self.grouped:
            return self._span(digits, 1000) if text == self.form.group else None
        return self._span(digits + text) if len(last) == 3 and _DIGITS.fullmatch(text) else None

    def _span(self, digits: str, dollars: int = 1) -> Span:
        lowest = int(digits) * dollars
        is_exact = dollars == 1 and not self.form.decimals
        return Span(lowest, lowest + (0.0 if is_exact else dollars / 2), dollars)


def _read_as_nearest(told: Weighted, readings: Sequence[tuple[list[Span], float]], price: float) -> Weighted:
    """Return all amounts, each alternative read as what lies nearest to the median of all, by rule 4."""
    found, middle = list(told), price
    for _ in range(_MOST_ROUNDS):
        found = list(told)
        for spans, weight in readings:
            # Of two that are as near, the lower one.
            span = min(spans, key=lambda span: abs(math.log1p(span.middle) - math.log1p(middle)))
            found += span.spread(weight)
        if not any(weight for _, weight in found) or all(len(spans) == 1 for spans, _ in readings):
            break
        before, middle = middle, Distribution.of(found, source="logprobs").median
        if middle == before:
            break
    return found


def distribution_from_samples(prices: Sequence[float]) -> Distribution | None:
    """Return the prices of several replies as equally likely; None without any."""
    return Distribution.of(((price, 1.0) for price in prices), source="samples") if prices else None


def _content(choice: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    return [token for token in content if isinstance(token, dict)] if isinstance(content, list) else []


def _dollar_token(content: Sequence[Mapping[str, Any]]) -> tuple[int, _Token | None]:
    for place, token in enumerate(content):
        text = _text_of(token)
        if re.search(r"\d", text):
            return place, _as_amount(text)
    return 0, None


def _as_amount(text: str) -> _Token | None:
    match = _DOLLAR_TOKEN.fullmatch(text)
    return None if match is None else _Token(text, match["digits"], match["mark"].strip())


def _all_tokens(content: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for token in content:
        yield _text_of(token)
        yield from (text for text, _ in _likeliest(token))


def _likeliest(token: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield a token's alternatives and their probabilities; malformed ones are left out."""
    listed = token.get("top_logprobs")
    for alternative in listed if isinstance(listed, list) else []:
        if isinstance(alternative, dict) and (probability := _probability(alternative)) is not None:
            yield _text_of(alternative), probability


def _probability(token: Mapping[str, Any]) -> float | None:
    logprob = token.get("logprob")
    # Some services write NaN where they computed none; no rounding lifts a certain token far above 0.
    if isinstance(logprob, bool) or not isinstance(logprob, int | float) or not logprob <= _ROUNDED:
        return None
    # A service that clips writes -9999 for "almost never"; exp of that is 0.
    return math.exp(min(0.0, max(_NEVER, logprob)))


def _alternatives(token: Mapping[str, Any], own: _Token) -> Iterator[tuple[_Token, float]]:
    """Yield the amounts among the likeliest tokens, with their probabilities, and the reply's own."""
    seen: set[str] = set()
    of_own = _probability(token)
    for text, probability in [*_likeliest(token), *([] if of_own is None else [(own.text, of_own)])]:
        amount = _as_amount(text)
        if amount is not None and text not in seen and amount.mark == own.mark:
            seen.add(text)
            yield amount, probability


def _count_step(last: str, rest: Sequence[Mapping[str, Any]], form: PriceForm) -> int:
    """Return how many tokens an amount's next digits take: two with a mark before them, one, or none."""
    said = [_text_of(token) for token in rest[:2]]
    if len(said) == 2 and said[0] == form.group and _HUNDREDS.fullmatch(said[1]):
        return 2
    return int(bool(said) and len(last) == 3 and _DIGITS.fullmatch(said[0]) is not None)


def _chances(token: Mapping[str, Any]) -> dict[str, float]:
    """Return how likely each text was in a token's place, as far as it is told; its own is one of them."""
    own = _text_of(token)
    found = {own: _probability(token) or 0.0} | dict(_likeliest(token))
    return found if any(found.values()) else {own: 1.0}


def _text_of(token: Mapping[str, Any]) -> str:
    return str(token.get("token") or "")
