"""A release stops where a fact about a service is older than half a year and nobody has looked again."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from finetune_pricer.providers import PROVIDERS, Provider
from finetune_pricer.providers.pricing import TOKEN_PRICINGS
from release_check import LONGEST, OURS, Row, judge, main, rows_of

READ = date(2026, 11, 26)
ROWS = list(rows_of(PROVIDERS, TOKEN_PRICINGS))


def last_seen(row: Row) -> date:
    assert row.as_of is not None
    return max(row.as_of, row.confirmed_on or row.as_of)


def test_what_was_just_read_passes_and_says_how_many_rows_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([READ.isoformat()]) == 0
    assert capsys.readouterr().out == f"{len(ROWS)} facts about services looked at, 0 to confirm\n"


def test_half_a_year_after_the_oldest_row_it_fails_and_names_the_row_and_its_source(
    capsys: pytest.CaptureFixture[str],
) -> None:
    oldest = min(ROWS, key=last_seen)
    last_day = last_seen(oldest) + LONGEST
    assert main([last_day.isoformat()]) == 0
    assert main([(last_day + timedelta(days=1)).isoformat()]) == 1
    said = capsys.readouterr().out
    assert f"{oldest.name}: last seen on {last_seen(oldest)}, 181 days ago; see {oldest.source}" in said


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_has_a_day_and_a_source_and_grows_old(row: Row) -> None:
    assert row.complain(READ) is None
    old = last_seen(row) + LONGEST + timedelta(days=1)
    assert judge([row], old)[0] == 1
    assert judge([replace(row, confirmed_on=old)], old + LONGEST)[0] == 0
    assert judge([replace(row, source="")], READ)[0] == 1
    assert judge([replace(row, as_of=None)], READ)[0] == 1
    assert judge([replace(row, as_of=READ + timedelta(days=1))], READ)[0] == 1


def test_no_profile_and_no_price_but_our_own_is_left_out() -> None:
    services = {row.name.partition(",")[0] for row in ROWS}
    priced = {row.provider for row in TOKEN_PRICINGS}
    assert services == ({*PROVIDERS} | priced) - {OURS}
    dated = [*(p for p in PROVIDERS.values() if p.name != OURS)]
    facts = sum(1 + len(p.retirements) + len(p.doubts) + _more(p) for p in dated)
    assert len(ROWS) == facts + sum(row.provider != OURS for row in TOKEN_PRICINGS)


def _more(provider: Provider) -> int:
    return (provider.serving.how != "at_once") + (provider.recommended is not None)


def test_one_word_of_make_runs_it() -> None:
    makefile = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    assert "\nrelease-check:" in makefile
    assert "tests/release_check.py" in makefile
