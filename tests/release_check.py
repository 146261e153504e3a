"""Is what is held of services still true? `make release-check` runs it before a release.

It ends with status 1 where a fact about a service is older than half a year and nobody has confirmed it
since, or has no source. Look at the source: where it still says so, write the day into the row's
`confirmed_on`, else write the new fact, with the day in `as_of`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from finetune_pricer.providers import PROVIDERS
from finetune_pricer.providers.pricing import TOKEN_PRICINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from finetune_pricer.providers import Provider, TokenPricing

LONGEST = timedelta(days=180)
OURS = "local"
"""What is our own needs no confirmation."""


@dataclass(frozen=True)
class Row:
    """A fact about a service, and how old it is."""

    name: str
    as_of: date | None
    confirmed_on: date | None
    source: str

    @classmethod
    def of(cls, name: str, fact: Any) -> Row:
        """The row of whatever has a date and a source."""
        return cls(name, fact.as_of, fact.confirmed_on, fact.source)

    def complain(self, today: date) -> str | None:
        """What is wrong with it on a day; None where nothing is."""
        if not self.source:
            return f"{self.name}: no source"
        if self.as_of is None:
            return f"{self.name}: no date"
        newest = max(self.as_of, self.confirmed_on or self.as_of)
        if newest > today:
            return f"{self.name}: {newest} has not been yet"
        if today - newest > LONGEST:
            return f"{self.name}: last seen on {newest}, {(today - newest).days} days ago; see {self.source}"
        return None


def rows_of(providers: Mapping[str, Provider], pricings: Iterable[TokenPricing]) -> Iterator[Row]:
    """Every fact about a service that has a date and a source."""
    for name, provider in providers.items():
        if name == OURS:
            continue
        yield Row.of(f"{name}", provider)
        if provider.serving.how != "at_once":
            yield Row.of(f"{name}, serving", provider.serving)
        if provider.recommended is not None:
            yield Row.of(f"{name}, recommended settings", provider.recommended)
        for ends in provider.retirements:
            yield Row.of(f"{name}, end of {', '.join(ends.models)}", ends)
        for doubt in provider.doubts:
            yield Row.of(f"{name}, in doubt: {doubt.about[:60]}", doubt)
    for row in pricings:
        if row.provider != OURS:
            size = f" of {row.from_billions or 0:g} to {row.below_billions or 'any'} billion parameters"
            which = row.model or f"all models{size if row.from_billions or row.below_billions else ''}"
            yield Row.of(f"{row.provider}, price of {which}", row)


def judge(rows: Iterable[Row], today: date) -> tuple[int, str]:
    """The exit status on a day, and what to print."""
    known = list(rows)
    wrong = [words for row in known if (words := row.complain(today)) is not None]
    lines = [*wrong, f"{len(known)} facts about services looked at, {len(wrong)} to confirm"]
    return int(bool(wrong)), "\n".join(lines)


def main(words: list[str]) -> int:
    """Look at all rows, as of today or of the day that is given, print, and return the exit status."""
    today = date.fromisoformat(words[0]) if words else datetime.now(UTC).date()
    status, said = judge(rows_of(PROVIDERS, TOKEN_PRICINGS), today)
    print(said)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
