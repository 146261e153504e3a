"""What is ambiguous in a price has a written rule, and a row here."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_pricer.errors import PriceNotFound
from finetune_pricer.prices import format_price, parse_price

AMOUNTS = st.floats(0, 1e9, allow_nan=False)


@given(AMOUNTS)
def test_a_written_price_is_read_to_the_cent(price: float) -> None:
    assert parse_price(format_price(price)) == round(price, 2)


@given(AMOUNTS, st.sampled_from(["$1,199.99", "1,199.99 USD", "USD 1,199.99", "$19.99 each"]))
def test_so_it_is_in_every_form_with_cents(price: float, form: str) -> None:
    assert parse_price(format_price(price, form)) == round(price, 2)


@given(AMOUNTS)
def test_whole_dollars_are_read_as_the_nearest_ones(price: float) -> None:
    assert parse_price(format_price(price, "20")) == round(price)


@given(st.text(max_size=60))
def test_any_text_is_a_price_of_at_least_zero_or_none(text: str) -> None:
    try:
        assert parse_price(text) >= 0
    except PriceNotFound as error:
        assert error.text == text  # noqa: PT017 - most texts hold none


@pytest.mark.parametrize(
    ("text", "currency", "price"),
    [
        ("19,99 €", "EUR", 19.99),
        ("€1.199,99", "EUR", 1199.99),
        ("1.299 €", "EUR", 1299.0),
        ("$1.299", "USD", 1.299),
        ("USD 1 299.00", "USD", 1299.0),
        ("$1\u2009299", "USD", 1299.0),
        ("CHF 1'299.50", "CHF", 1299.5),
        ("$1.2k", "USD", 1200.0),
        ("$3M", "USD", 3_000_000.0),
        ("**$45.00**", "USD", 45.0),
        ("`$45`", "USD", 45.0),
        ("Pack of 2: $30", "USD", 30.0),
        ("2024 model costs $99", "USD", 99.0),
        ("4 pieces for $19.99", "USD", 19.99),
        ("$20-$30", "USD", 25.0),
        ("between $20 and $30", "USD", 25.0),
        ("was $50, now $40", "USD", 40.0),
        ("$10 or with the case $15", "USD", 10.0),
        ("The price is about 45", "USD", 45.0),
        ("€5 (about $6)", "USD", 6.0),
    ],
)
def test_an_ambiguous_text_is_read_by_its_rule(text: str, currency: str, price: float) -> None:
    assert parse_price(text, currency) == pytest.approx(price)


@pytest.mark.parametrize(
    "text", ["", "no idea", "-$5", "$1,1", "$1,", "€5", "iPhone 15", "5 apples and 7 pears"]
)
def test_what_is_no_price_is_never_zero(text: str) -> None:
    with pytest.raises(PriceNotFound):
        parse_price(text)
