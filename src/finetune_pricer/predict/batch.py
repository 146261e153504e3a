"""Questions that are with the Batch API, waited for by sync and by async code."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .._progress import progress_bar
from .._service import requests
from .._service.driving import adrive, drive
from .batch_work import BatchWork

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from openai import AsyncOpenAI, OpenAI

    from ..items import Item
    from ._base import Exchange
    from .batch_work import Step, Steps
    from .prediction import Predictions


class BatchRun:
    """Questions that are with the Batch API. `Predictor.predict_batch` makes one.

    Starting it again with the same items, in the same process or another, finds the batches that are there.
    """

    def __init__(self, client: OpenAI, exchange: Exchange, items: Iterable[Item | str]) -> None:
        self._client = client
        self._work = BatchWork(exchange, items)
        self._do(self._work.submit())

    @property
    def ids(self) -> tuple[str, ...]:
        """The service's names for the batches."""
        return tuple(self._work.ids)

    def predictions(self) -> Predictions:
        """Give what was received by now; an item without an answer says so in its `error`."""
        return self._work.predictions()

    def refresh(self) -> BatchRun:
        """Look at the service once and fetch what has ended; returns the run itself.

        Raises:
            RequestRejected: The service did not accept a batch; the message has its reason.
            ServiceError: The service refuses or does not answer.
        """
        self._do(self._work.look())
        return self

    def wait(
        self, timeout: float | None = None, *, sleep: Callable[[float], Any] = time.sleep
    ) -> Predictions:
        """Wait until all is answered, asking again for what is missing or expired, and give the predictions.

        A progress bar shows how many questions the service has done. What a batch holds that was cancelled,
        here or by somebody else, is not asked again.

        Args:
            timeout: Seconds; None waits as long as it takes.
            sleep: How to pause between questions.

        Raises:
            JobTimeout: The time is up; the batches go on.
            RequestRejected: The service did not accept a batch; the message has its reason.
            NotFound: The service has lost a batch. As above, answers of the others are fetched first.
            ServiceError: The service refuses to tell.
        """
        with _bar(self._work) as show:
            self._do(self._work.finish(timeout), lambda seconds: (show(), sleep(seconds)))
        return self.predictions()

    def cancel(self) -> BatchRun:
        """Ask the service to stop; what is answered already is paid for and can be fetched."""
        self._do(self._work.cancel())
        return self

    def __repr__(self) -> str:
        return f"BatchRun({', '.join(self.ids)})"

    def _do(self, steps: Steps, sleep: Callable[[float], Any] = time.sleep) -> None:
        drive(steps, lambda step: requests.send(self._client, step) if callable(step) else sleep(step))


class AsyncBatchRun:
    """What `BatchRun` is, for async code. `await AsyncPredictor.predict_batch(items)` makes one."""

    def __init__(self, client: AsyncOpenAI, exchange: Exchange, items: Iterable[Item | str]) -> None:
        self._client = client
        self._work = BatchWork(exchange, items)

    async def submit(self) -> AsyncBatchRun:
        """Send what is open; `predict_batch` has done that."""
        await self._do(self._work.submit())
        return self

    @property
    def ids(self) -> tuple[str, ...]:
        """The service's names for the batches."""
        return tuple(self._work.ids)

    def predictions(self) -> Predictions:
        """Give what was received by now; see `BatchRun.predictions`."""
        return self._work.predictions()

    async def refresh(self) -> AsyncBatchRun:
        """Look at the service once; see `BatchRun.refresh`."""
        await self._do(self._work.look())
        return self

    async def wait(
        self, timeout: float | None = None, *, sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep
    ) -> Predictions:
        """Wait until all is answered; see `BatchRun.wait`."""
        with _bar(self._work) as show:

            async def pause(seconds: float) -> None:
                show()
                await sleep(seconds)

            await self._do(self._work.finish(timeout), pause)
        return self.predictions()

    async def cancel(self) -> AsyncBatchRun:
        """Ask the service to stop; see `BatchRun.cancel`."""
        await self._do(self._work.cancel())
        return self

    def __repr__(self) -> str:
        return f"AsyncBatchRun({', '.join(self.ids)})"

    async def _do(self, steps: Steps, sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep) -> None:
        async def do(step: Step) -> Any:
            return await (requests.asend(self._client, step) if callable(step) else sleep(step))

        await adrive(steps, do)


@contextmanager
def _bar(work: BatchWork) -> Iterator[Callable[[], None]]:
    """Give a function that shows how far the batches are."""
    with progress_bar(total=None, doing="waiting for batches") as bar:

        def show() -> None:
            bar.n, bar.total = work.progress()
            bar.refresh()

        yield show
        show()
