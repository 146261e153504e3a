"""Price to text and back."""

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_pricer.errors import DataError, PriceNotFound
from finetune_pricer.prices import format_price, parse_amount, parse_price

READ = {
    # symbols, codes and words, before and after
    "$19.99": 19.99,
    "$ 20": 20,
    "19.99$": 19.99,
    "US$20": 20,
    "USD 20": 20,
    "20 usd": 20,
    "USD20": 20,
    "20 dollars": 20,
    "20 bucks": 20,
    "99¢": 0.99,
    "50 cents": 0.5,
    "5 dollars and 20 cents": 5.2,
    "5 dollars 99 cents": 5.99,
    "$5 and 1 cents": 5.01,
    "20 cents and 40 cents": 0.3,
    "\uff0420": 20,
    # thousands
    "$1,299": 1299,
    "$1,299.5": 1299.5,
    "$1 299": 1299,
    "$1\u2009299.50": 1299.5,
    "$1\u202f299": 1299,
    "$1'299": 1299,
    "$1\u2019299.00": 1299,
    "$12,34,567": 1234567,
    "$1.234.567": 1234567,
    "$1,234,567.89": 1234567.89,
    # decimals
    "$19,99": 19.99,
    "1 234,56 $": 1234.56,
    "$1.299,50": 1299.5,
    "$1.299": 1.299,
    "$0.5": 0.5,
    # scales
    "$5k": 5000,
    "$1.5M": 1_500_000,
    "$2 million": 2_000_000,
    "20 thousand dollars": 20_000,
    # Markdown, and quotation marks
    "**$1,299.00**": 1299,
    "`$20`": 20,
    "\\$20": 20,
    '"$20"': 20,
    "'$20'": 20,
    "\u2018$20\u2019": 20,
    "It is '20'": 20,
    # in a sentence, and among other numbers
    "I would say it costs $20.": 20,
    "Pack of 2: $30": 30,
    "The 55-inch TV is worth $400, not 2 more": 400,
    "The price is about 20": 20,
    "20 each": 20,
    "$20/each": 20,
    # ranges
    "$20-$30": 25,
    "$20 to $30": 25,
    "$20\u201330": 25,
    "20-30": 25,
    "between 20 and 30": 25,
    # several prices
    "$20 or so, later $50 in all": 20,
    "was $50, now $40": 40,
    "list price: $50; our price: $40": 40,
    "~~$50~~ $40": 40,
    "MSRP $50": 50,
    # an end that is none
    "$1,299.99.": 1299.99,
    "$20.": 20,
    "0": 0,
}
UNREAD = {
    "": "no price in",
    "no idea": "no price in",
    "$": "no price in",
    "iPhone 15": "no price in",
    "55 inch TV with 3 ports": "no price in",
    "20%": "no price in",
    "-$20": "no price in",
    "$-20": "no price in",
    "\u221220": "no price in",
    "$1,": "stops in the middle",
    "$1,1": "stops in the middle",
    "$1,234,5": "stops in the middle",
    "$1'": "stops in the middle",
    "€20": "in EUR, not in USD",
    "20 euros": "in EUR, not in USD",
    "CA$20": "in CAD, not in USD",
    "£20": "in GBP, not in USD",
}


@pytest.mark.parametrize(("text", "price"), READ.items(), ids=READ)
def test_a_price_is_read(text: str, price: float) -> None:
    assert parse_price(text) == pytest.approx(price, rel=1e-12)


@pytest.mark.parametrize(("text", "reason"), UNREAD.items(), ids=UNREAD)
def test_what_is_no_price_is_said_to_be_none_with_the_text_and_why(text: str, reason: str) -> None:
    with pytest.raises(PriceNotFound, match=reason) as caught:
        parse_price(text)
    assert caught.value.text == text


@pytest.mark.parametrize(
    ("text", "currency", "price"),
    [
        ("1.299 €", "EUR", 1299),
        ("€1.299,50", "EUR", 1299.5),
        ("19,99", "EUR", 19.99),
        ("£1.299", "GBP", 1.299),
        ("$20", "CAD", 20),
        ("€5, that is $6", "USD", 6),
    ],
)
def test_the_currency_decides_what_counts_and_how_it_is_written(
    text: str, currency: str, price: float
) -> None:
    assert parse_price(text, currency) == pytest.approx(price)


def test_a_book_is_not_read() -> None:
    text = "$1 and " * 1_500_000
    started = time.process_time()
    with pytest.raises(PriceNotFound, match="10,500,000 characters") as caught:
        parse_price(text)
    assert time.process_time() - started < 0.2
    assert len(caught.value.text) == 10_000


@pytest.mark.parametrize("piece", ["1,", "$ ", "1 ", "1", "-", "1'", "was $", " 123", ",34"])
def test_the_longest_text_that_is_read_takes_no_time(piece: str) -> None:
    started = time.process_time()
    with contextlib.suppress(PriceNotFound):
        parse_price((piece * 10_000)[:10_000])
    assert time.process_time() - started < 1


def test_a_long_text_is_shortened_in_the_message() -> None:
    with pytest.raises(PriceNotFound) as caught:
        parse_price("no price here " * 100)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize("like", ["$19.99", "$1,199.99", "19.99 USD"])
@given(price=st.floats(0, 1e9))
def test_a_written_price_is_read_again(like: str, price: float) -> None:
    assert parse_price(format_price(price, like)) == round(price, 2)


@given(price=st.floats(0, 1e9))
def test_a_price_written_without_cents_is_read_again_in_whole_dollars(price: float) -> None:
    assert parse_price(format_price(price, "20")) == round(price)


@pytest.mark.parametrize(
    ("like", "written"),
    [("$19.99", "$1234.50"), ("$1,199.99", "$1,234.50"), ("20", "1234"), ("about 20 USD", "about 1234 USD")],
)
def test_a_price_is_written_as_the_example_shows(like: str, written: str) -> None:
    assert format_price(1234.5, like) == written


@pytest.mark.parametrize("price", [-0.01, float("nan"), float("inf")])
def test_what_is_no_price_is_not_written(price: float) -> None:
    with pytest.raises(DataError, match="finite number of at least 0"):
        format_price(price)


@pytest.mark.parametrize("like", ["", "a price", "$1 or $2", "1,199,99", "1.199.99"])
def test_an_example_that_shows_no_form_is_refused(like: str) -> None:
    with pytest.raises(DataError, match="does not show how to write a price"):
        format_price(1, like)


@pytest.mark.parametrize("text", ["$1e5", "1e5", "3e-1", "$1e999"])
def test_a_number_with_an_exponent_is_no_price(text: str) -> None:
    with pytest.raises(PriceNotFound):
        parse_price(text)


AMOUNTS = {
    "5": 5,
    "5.": 5,
    " $5\n": 5,
    "$1,299.00": 1299,
    "1 234,50": 1234.5,
    "1'234.50": 1234.5,
    "$5,00,000": 500_000,
    "US$5": 5,
    "$5 USD": 5,
    "5 bucks": 5,
    "50 cents": 0.5,
    "$1.2m": 1_200_000,
    "\uff0420": 20,
    "\u0663": 3,  # an Arabic digit is a digit
}


@pytest.mark.parametrize(("text", "price"), AMOUNTS.items(), ids=AMOUNTS)
def test_a_cell_with_one_amount_is_its_price(text: str, price: float) -> None:
    assert parse_amount(text) == price


NO_AMOUNTS = {
    "a range": ["5-7", "$10 - $20", "$10\u2013$20", "10 to 20", "10 or 20", "$1.50-$2.50", "$10~$20"],
    "2 numbers are not": [
        *("3 for $10", "Pack of 2: $30", "$5 / $6", "$5, $6", "was $10 now $5", "$5 and $6"),
        *("5 dollars and 20 cents", "$5 $6", "$12 €10", "10/20", "12 34", "5;6", "1e999", "5€50"),
    ],
    "nothing beside it": [
        *("approx 5", "~5", "5*", "(5)", "+5", "5+", "5-", "<5", "from $5", "$5 and up", "up to $5"),
        *("$5 each", "$5/mo", "5 USD/kg", "Price: $5", "MSRP $50"),
        *("$5 EUR", "5k", "'5'"),
    ],
    "no price in": ["½", "-5", "$-5", "5%", "NaN", "$", "N/A", "free", "2½", "10..20"],
    "grouped in no known way": ["1.5.2", "1,2345", "1.137.99", "12.34.56"],
    "may change it": ["$0.99 cents", "5 m", "$20²"],
    "stops in the middle": ["5,5", "$1,", "1,2,3", "5,000,00"],
    "in EUR, not in USD": ["12 €"],
}


@pytest.mark.parametrize(
    ("text", "reason"), [(text, reason) for reason, texts in NO_AMOUNTS.items() for text in texts]
)
def test_a_cell_that_is_not_one_amount_is_no_price(text: str, reason: str) -> None:
    with pytest.raises(PriceNotFound, match=reason) as caught:
        parse_amount(text)
    assert caught.value.text == text


def test_a_number_beyond_all_numbers_is_no_price() -> None:
    for read in (parse_price, parse_amount):
        with pytest.raises(PriceNotFound, match="no price in"):
            read("9" * 400)


def test_how_far_back_a_former_price_is_announced_is_said_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = f"was{' ' * 30}$50, now $40"
    assert parse_price(text) == 50
    monkeypatch.setattr("finetune_pricer.prices._LOOK_BACK", 40)
    assert parse_price(text) == 40
