"""What the routes work with, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..batches import Batches
from ..completions import Answers
from ..database import Database
from ..faults import Faults, Weather
from ..jobs.worker import Worker
from .rate_limit import Rates
from .responses import Wire

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A server's parts, from `open` to `close`."""

    database: Database
    weather: Weather
    worker: Worker
    answers: Answers
    batches: Batches
    rates: Rates
    wire: Wire
    strict: bool

    @classmethod
    def open(cls, folder: Path, *, faults: Faults, cores: int, strict: bool) -> Service:
        """Open what a folder keeps; raise `FileAccessError` where it cannot be used."""
        database, weather = Database(folder), Weather(faults)
        answers = Answers(database, weather)
        return cls(
            database=database,
            weather=weather,
            worker=Worker(database, weather, cores=cores),
            answers=answers,
            batches=Batches(database, answers, weather, strict=strict),
            rates=Rates(weather),
            wire=Wire(weather),
            strict=strict,
        )

    def start(self) -> None:
        """Take up jobs and batches that are unfinished, and wait for more."""
        self.worker.start()
        self.batches.start()

    def close(self) -> None:
        """Stop them, and close the database."""
        self.worker.stop()
        self.batches.stop()
        self.database.close()
