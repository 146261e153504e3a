"""The page on the price grammar and the code say the same: each rule has its table, each row is true."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune_pricer import prices
from finetune_pricer.errors import PriceNotFound
from finetune_pricer.prices import parse_amount, parse_price

PAGE = (Path(__file__).parents[1] / "docs" / "reference" / "price-grammar.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(.+)` \| ([A-Z]{3}) \| (.+) \| (.+) \|$", re.MULTILINE)
ROWS = ROW.findall(PAGE)


def read(how: Callable[[str, str], float], text: str, currency: str) -> str:
    try:
        return f"{how(text, currency):.15g}"
    except PriceNotFound as error:
        assert error.text == text  # noqa: PT017 - some rows are refused, and some are not
        return "refused"


@pytest.mark.parametrize(
    ("text", "currency", "reply", "cell"), ROWS, ids=[f"{row[0]} {row[1]}" for row in ROWS]
)
def test_an_example_of_the_page_is_read_as_it_says(text: str, currency: str, reply: str, cell: str) -> None:
    assert (read(parse_price, text, currency), read(parse_amount, text, currency)) == (reply, cell)


def test_every_rule_of_the_grammar_has_its_table() -> None:
    rules = re.findall(r"^(\d+)\. \*\*(.+?)\.\*\*", prices.__doc__ or "", re.MULTILINE)
    sections = re.split(r"^## (\d+)\. (.+)$", PAGE, flags=re.MULTILINE)
    headings = list(zip(sections[1::3], sections[2::3], strict=True))
    assert headings == rules
    assert all(len(ROW.findall(section)) >= 9 for section in sections[3::3])
