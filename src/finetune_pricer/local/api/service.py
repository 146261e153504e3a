"""What the routes work with, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..batches import Batches
from ..completions import Answers
from ..faults import Faults, Weather
from ..jobs.worker import Worker
from ..store import Store
from .rate_limit import Rates
from .responses import Wire

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A server's parts, from `open` to `close`."""

    store: Store
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
        store, weather = Store(folder), Weather(faults)
        answers = Answers(store, weather)
        return cls(
            store=store,
            weather=weather,
            worker=Worker(store, weather, cores=cores),
            answers=answers,
            batches=Batches(store, answers, weather, strict=strict),
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
        self.store.close()
