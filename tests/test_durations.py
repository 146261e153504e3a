"""Spans of time are read as they are meant, or refused."""

import pytest

from finetune_pricer._durations import format_duration, parse_duration
from finetune_pricer.errors import DataError


@pytest.mark.parametrize(
    ("value", "seconds", "text"),
    [
        ("90s", 90, "1.5 min"),
        ("30m", 1800, "30 min"),
        (" 4H ", 14_400, "4 h"),
        ("1.5 h", 5_400, "1.5 h"),
        ("2d", 172_800, "2 d"),
        (45, 45, "45 s"),
        (0.25, 0.25, "0.25 s"),
    ],
)
def test_a_time_is_read_and_written(value: object, seconds: float, text: str) -> None:
    assert parse_duration("limit", value) == seconds
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    "value",
    ["", "4", "h", "4 hours or so", "-4h", "0h", "4h30m", "1e3s", "nan", 0, -1, True, None, float("inf")],
)
def test_what_is_no_time_is_refused(value: object) -> None:
    with pytest.raises(DataError, match="limit must be a time such as '30m', '4h' or '2d'"):
        parse_duration("limit", value)
