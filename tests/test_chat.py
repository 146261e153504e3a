"""An item as chat messages, the same for training and for asking."""

import pytest

from finetune_pricer import ChatFormatter, Item
from finetune_pricer.errors import DataError, InvalidItem, PriceNotFound

LAMP = Item(id="lamp", title="Lamp", summary="A desk lamp.", price=1199.5)


def test_the_courses_wording_is_the_default() -> None:
    assert ChatFormatter().example(LAMP) == [
        {
            "role": "user",
            "content": "Estimate the price of this product. Respond with the price, no explanation\n\n"
            "A desk lamp.",
        },
        {"role": "assistant", "content": "$1,199.50"},
    ]


def test_below_a_thousand_dollars_the_default_writes_what_the_courses_form_does() -> None:
    for price in (0, 0.5, 7, 19.99, 999, 999.99):
        item = Item(title="Mug", price=price)
        assert ChatFormatter().example(item) == ChatFormatter(reply="$19.99").example(item)


@pytest.mark.parametrize("currency", ["USD", "EUR", "CHF", "INR", "JPY", "SEK"])
def test_the_default_is_read_again_in_any_currency(currency: str) -> None:
    formatter = ChatFormatter(currency=currency)
    for price in (0.5, 999.99, 1000, 1234.5, 12345.67, 1234567):
        reply = formatter.example(Item(title="Lamp", price=price))[-1]["content"]
        assert formatter.read(reply) == pytest.approx(price, abs=0.005)


def test_a_model_is_asked_exactly_as_it_was_trained() -> None:
    formatter = ChatFormatter("How much?", system="You price things.", shots=[LAMP])
    assert formatter.prompt(LAMP) == formatter.example(LAMP)[:-1]


def test_a_text_is_asked_about_as_an_item_with_that_text() -> None:
    assert ChatFormatter().prompt("A desk lamp.") == ChatFormatter().prompt(LAMP)


def test_the_system_message_comes_first_and_then_the_solved_examples() -> None:
    shot = Item(title="Mug", price=5)
    roles = [message["role"] for message in ChatFormatter(system="s", shots=(shot,)).prompt(LAMP)]
    assert roles == ["system", "user", "assistant", "user"]


@pytest.mark.parametrize(
    ("reply", "written"), [("$19.99", "$1199.50"), ("$1,199.99", "$1,199.50"), ("20", "1200")]
)
def test_the_reply_is_shown_by_example_and_can_be_read_again(reply: str, written: str) -> None:
    formatter = ChatFormatter(reply=reply)
    assert formatter.example(LAMP)[-1]["content"] == written
    assert formatter.read(written) == pytest.approx(1199.5, abs=0.5)


def test_without_an_instruction_the_text_stands_alone() -> None:
    assert ChatFormatter("").prompt("A lamp")[0]["content"] == "A lamp"


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidItem, match="an empty text cannot be priced; give a title"):
        ChatFormatter().prompt(text)


def test_an_unpriced_item_is_asked_about_but_is_no_example() -> None:
    unpriced = Item(id="x-1", title="Chair")
    assert ChatFormatter().prompt(unpriced)
    with pytest.raises(InvalidItem, match=r"'x-1' \(Chair\) has no price, which a training example needs"):
        ChatFormatter().example(unpriced)
    with pytest.raises(InvalidItem, match="a solved example"):
        ChatFormatter(shots=[unpriced])


def test_a_reply_that_shows_no_form_is_refused() -> None:
    with pytest.raises(DataError, match="does not show how to write a price"):
        ChatFormatter(reply="cheap")


@pytest.mark.parametrize(("reply", "currency"), [("€19.99", "USD"), ("model 20", "USD"), ("$20", "EUR")])
def test_a_reply_that_could_not_be_read_again_is_refused_before_anything_is_paid_for(
    reply: str, currency: str
) -> None:
    with pytest.raises(DataError, match="cannot be read again"):
        ChatFormatter(reply=reply, currency=currency)


def test_a_reply_is_read_in_the_formatters_currency() -> None:
    assert ChatFormatter(reply="€20", currency="EUR").read("1.299 €") == 1299
    with pytest.raises(PriceNotFound, match="in EUR, not in USD"):
        ChatFormatter().read("20 €")


def test_equal_formatters_have_equal_fingerprints_and_others_have_not() -> None:
    shot = Item(title="Mug", price=5)
    others = [
        ChatFormatter("How much?"),
        ChatFormatter(system="s"),
        ChatFormatter(reply="20"),
        ChatFormatter(currency="CAD"),
        ChatFormatter(shots=[shot]),
    ]
    assert ChatFormatter().fingerprint == ChatFormatter().fingerprint
    assert len({formatter.fingerprint for formatter in [ChatFormatter(), *others]}) == 6
