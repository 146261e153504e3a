"""Dollars are written in one way everywhere."""

import pytest

from finetune_pricer._format import format_dollars


@pytest.mark.parametrize(
    ("amount", "decimals", "text"),
    [
        (1234.5, None, "$1,234.50"),
        (-3.0, None, "-$3.00"),
        (0.0, None, "$0.00"),
        (0.0042, None, "$0.0042"),
        (-0.0042, None, "-$0.0042"),
        (0.01, None, "$0.01"),
        (1.23456, 4, "$1.2346"),
        (None, None, "unknown"),
    ],
)
def test_dollars_are_written_as_people_read_them(
    amount: float | None, decimals: int | None, text: str
) -> None:
    assert format_dollars(amount, decimals) == text
