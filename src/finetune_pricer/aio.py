"""Async versions of `FineTuneJob` and `Predictor`.

All decisions are in `tune/_base.py` and `predict/_base.py`: only the awaiting is here.
"""

from __future__ import annotations

import asyncio
import builtins  # noqa: TC003 - the class has a method `list`
from collections.abc import AsyncIterator, Iterable, Sized
from typing import TYPE_CHECKING, Any, Literal, Self

from ._progress import progress_bar
from ._service.flow import LONGEST_PAUSE, arun, astream
from ._service.requests import Reply, asend
from .predict._base import BasePredictor, check_calibration_items
from .predict.batch import BaseBatch
from .predict.prediction import Prediction, Predictions
from .predict.runners import run_in_tasks
from .providers.lookup import provider_of
from .tune._base import BaseJob, get_job_by_id, list_newest_jobs
from .tune.journal import Journal
from .tune.purchase import buy_job, find_job
from .tune.spec import JobSpec

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable

    from openai import AsyncOpenAI

    from .items import Item
    from .predict.engine import Sending
    from .prepare.jsonl import TrainingFile
    from .providers.provider import Provider
    from .tune._base import ResultFile
    from .tune.deployment import Deployment
    from .tune.job_metrics import JobMetrics
    from .tune.records import JobCheckpoint, JobEvent, JobRecord, UploadedFile
    from .tune.spec import Factor, Whole

__all__ = ["AsyncBatchRun", "AsyncFineTuneJob", "AsyncPredictor"]


class AsyncFineTuneJob(BaseJob):
    """A fine-tuning job, as `FineTuneJob` has it, for an `openai.AsyncOpenAI` client."""

    def __init__(self, client: AsyncOpenAI, record: JobRecord, provider: Provider | None = None) -> None:
        super().__init__(client, record, provider)
        self.client = client
        """The client that it was asked for with."""

    @classmethod
    async def create(
        cls,
        client: AsyncOpenAI,
        training: TrainingFile | UploadedFile,
        *,
        model: str,
        validation: TrainingFile | UploadedFile | None = None,
        epochs: Whole | None = None,
        batch_size: Whole | None = None,
        learning_rate_multiplier: Factor | None = None,
        seed: int | None = None,
        suffix: str | None = None,
        budget: float | None = None,
        method: str = "supervised",
        provider: str | Provider | None = None,
        journal: str | os.PathLike[str] | None = None,
        again: bool = False,
        force: bool = False,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> AsyncFineTuneJob:
        """Do as `FineTuneJob.create` does."""
        spec = JobSpec.make(
            training,
            validation,
            model=model,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate_multiplier=learning_rate_multiplier,
            seed=seed,
            suffix=suffix,
            method=method,
            provider=provider_of(client, provider),
        )
        with await asyncio.to_thread(Journal, journal) as ledger:
            flow = buy_job(ledger.for_client(client), spec, again=again, force=force, budget=budget)
            return cls(client, await arun(client, flow, sleep), spec.provider)

    @classmethod
    async def attach(
        cls, client: AsyncOpenAI, job_id: str, *, provider: str | Provider | None = None
    ) -> AsyncFineTuneJob:
        """Do as `FineTuneJob.attach` does."""
        record = await arun(client, get_job_by_id(job_id), asyncio.sleep)
        return cls(client, record, provider_of(client, provider))

    @classmethod
    async def find(
        cls,
        client: AsyncOpenAI,
        training: TrainingFile | UploadedFile,
        *,
        model: str,
        validation: TrainingFile | UploadedFile | None = None,
        epochs: Whole | None = None,
        batch_size: Whole | None = None,
        learning_rate_multiplier: Factor | None = None,
        seed: int | None = None,
        suffix: str | None = None,
        method: str = "supervised",
        provider: str | Provider | None = None,
        journal: str | os.PathLike[str] | None = None,
    ) -> AsyncFineTuneJob:
        """Do as `FineTuneJob.find` does."""
        spec = JobSpec.make(
            training,
            validation,
            model=model,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate_multiplier=learning_rate_multiplier,
            seed=seed,
            suffix=suffix,
            method=method,
            provider=provider_of(client, provider),
        )
        with await asyncio.to_thread(Journal, journal) as ledger:
            record = await arun(client, find_job(ledger.for_client(client), spec), asyncio.sleep)
        return cls(client, record, spec.provider)

    @classmethod
    async def list(
        cls, client: AsyncOpenAI, *, limit: int = 20, provider: str | Provider | None = None
    ) -> builtins.list[AsyncFineTuneJob]:
        """Do as `FineTuneJob.list` does."""
        known = provider_of(client, provider)
        return [
            cls(client, record, known)
            for record in await arun(client, list_newest_jobs(limit), asyncio.sleep)
        ]

    async def refresh(self) -> AsyncFineTuneJob:
        """Do as `FineTuneJob.refresh` does."""
        await arun(self.client, self._refresh_flow(), asyncio.sleep)
        return self

    async def wait(
        self,
        timeout: float | None = None,
        *,
        poll: float = LONGEST_PAUSE,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> AsyncFineTuneJob:
        """Do as `FineTuneJob.wait` does; cancelling the waiting does not end the job."""
        try:
            await arun(self.client, self._wait_flow(timeout, poll), sleep)
        except (KeyboardInterrupt, asyncio.CancelledError) as error:
            self._say_that_it_goes_on(error)
            raise
        return self

    def stream_events(
        self, after: str | None = None, *, sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep
    ) -> AsyncIterator[JobEvent]:
        """Do as `FineTuneJob.stream_events` does, for `async for`."""
        return astream(self.client, self._stream_events_flow(after), sleep)

    async def events(self) -> builtins.list[JobEvent]:
        """Do as `FineTuneJob.events` does."""
        return await arun(self.client, self._events_flow(), asyncio.sleep)

    async def metrics(self) -> JobMetrics:
        """Do as `FineTuneJob.metrics` does."""
        return await arun(self.client, self._metrics_flow(), asyncio.sleep)

    async def checkpoints(self) -> builtins.list[JobCheckpoint]:
        """Do as `FineTuneJob.checkpoints` does."""
        return await arun(self.client, self._checkpoints_flow(), asyncio.sleep)

    async def result_files(self) -> builtins.list[ResultFile]:
        """Do as `FineTuneJob.result_files` does."""
        return await arun(self.client, self._result_files_flow(), asyncio.sleep)

    async def cancel(self) -> AsyncFineTuneJob:
        """Do as `FineTuneJob.cancel` does."""
        await arun(self.client, self._act_flow("cancel"), asyncio.sleep)
        return self

    async def pause(self) -> AsyncFineTuneJob:
        """Do as `FineTuneJob.pause` does."""
        await arun(self.client, self._act_flow("pause"), asyncio.sleep)
        return self

    async def resume(self) -> AsyncFineTuneJob:
        """Do as `FineTuneJob.resume` does."""
        await arun(self.client, self._act_flow("resume"), asyncio.sleep)
        return self

    async def delete(self, *, files: bool = True, model: bool = True) -> builtins.list[str]:
        """Do as `FineTuneJob.delete` does."""
        return await arun(self.client, self._delete_flow(files=files, model=model), asyncio.sleep)

    async def deploy(
        self,
        name: str | None = None,
        *,
        timeout: float | None = 1800.0,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> Deployment:
        """Do as `FineTuneJob.deploy` does."""
        return await arun(self.client, self._deploy_flow(name, timeout), sleep)

    async def undeploy(self, name: str | None = None) -> None:
        """Do as `FineTuneJob.undeploy` does."""
        await arun(self.client, self._undeploy_flow(name), asyncio.sleep)


class AsyncPredictor(BasePredictor["AsyncOpenAI"]):
    """What `Predictor` is, for `openai.AsyncOpenAI`: the same names, arguments and predictions.

    `await predictor.predict(item)`, `await predictor(item)`, `await predictor.predict_many(items)`, and
    `async for prediction in predictor.iter_predict(items)`. Cancelling the task cancels what is under way.
    """

    _awaits = True

    async def predict(self, item: Item | str) -> Prediction:
        """Ask for the price of one item, priced or not, or of a text; see `Predictor.predict`."""
        return await arun(self._client_for_one(), self._dialogue.ask(item), asyncio.sleep)

    async def __call__(self, item: Item | str) -> float | None:
        """Return just the price in dollars, or None where the reply holds none."""
        return (await self.predict(item)).price

    async def predict_many(self, items: Iterable[Item | str]) -> Predictions:
        """Ask for many prices at once, with a progress bar; see `Predictor.predict_many`."""
        total, failures = len(items) if isinstance(items, Sized) else None, 0
        found: list[Prediction] = []
        with progress_bar(total=total, doing="pricing") as bar:
            async for prediction in self.iter_predict(items):
                found.append(prediction)
                if prediction.price is None:
                    failures += 1
                    bar.set_postfix(failed=failures, refresh=False)
                bar.update()
        return Predictions(found)

    def iter_predict(self, items: Iterable[Item | str]) -> AsyncIterator[Prediction]:
        """Yield predictions one after the other as answers come, in order; see `Predictor.iter_predict`."""
        choose_client = self._clients_for_many()

        async def carry_out(sending: Sending) -> Reply:
            return await asend(choose_client(), sending.request)

        return run_in_tasks(self._make_engine(items), items, carry_out, self._max_in_flight)

    async def calibrate(
        self, items: Iterable[Item], *, coverage: float = 0.9, by: Literal["category", "price"] | None = None
    ) -> Self:
        """Return a predictor whose predictions have price ranges; see `Predictor.calibrate`."""
        known = check_calibration_items(items, coverage, by)
        return self._with_ranges(await self.predict_many(known), known, coverage, by)

    async def predict_batch(
        self,
        items: Iterable[Item | str],
        *,
        journal: str | os.PathLike[str] | None = None,
        again: bool = False,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> AsyncBatchRun:
        """Hand the questions to the Batch API; see `Predictor.predict_batch`."""
        run = AsyncBatchRun(self._client, self._dialogue, items, journal=journal, again=again)
        return await run.submit(sleep=sleep)


class AsyncBatchRun(BaseBatch):
    """What `BatchRun` is, for async code. `await AsyncPredictor.predict_batch(items)` makes one."""

    async def submit(self, *, sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep) -> AsyncBatchRun:
        """Find what is there and send what is missing; `predict_batch` has done that."""
        await arun(self._client, self._start_flow(), sleep)
        return self

    async def refresh(self) -> AsyncBatchRun:
        """Look at the service once; see `BatchRun.refresh`."""
        await arun(self._client, self._refresh_flow(), asyncio.sleep)
        return self

    async def wait(
        self, timeout: float | None = None, *, sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep
    ) -> Predictions:
        """Wait until all is answered; see `BatchRun.wait`."""
        with self._show_progress() as show:

            async def pause(seconds: float) -> None:
                show()
                await sleep(seconds)

            await arun(self._client, self._wait_flow(timeout), pause)
        return self.predictions()

    async def cancel(self) -> AsyncBatchRun:
        """Ask the service to stop; see `BatchRun.cancel`."""
        await arun(self._client, self._cancel_flow(), asyncio.sleep)
        return self
