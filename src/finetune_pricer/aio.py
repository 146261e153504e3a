"""The same with `await`: only the awaiting is here, what to do is decided where the other door decides it."""

from __future__ import annotations

import asyncio
import builtins  # noqa: TC003 - the class has a method `list`
from typing import TYPE_CHECKING, Any

from ._service.flow import arun, astream
from ._service.polling import LONGEST_PAUSE
from .predict._async import AsyncPredictor
from .tune._base import JobFacts, found_by_id
from .tune.job import profile, spec_for

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Awaitable, Callable

    from openai import AsyncOpenAI

    from .prepare.jsonl import TrainingFile
    from .providers.provider import Provider
    from .tune._base import ResultFile
    from .tune.checkpoints import JobCheckpoint
    from .tune.deployment import Deployment
    from .tune.events import JobEvent
    from .tune.job_metrics import JobMetrics
    from .tune.records import JobRecord, UploadedFile
    from .tune.spec import Factor, Whole

__all__ = ["AsyncFineTuneJob", "AsyncPredictor"]


class AsyncFineTuneJob(JobFacts):
    """A fine-tuning job, as `FineTuneJob` has it, for an `openai.AsyncOpenAI` client."""

    def __init__(self, client: AsyncOpenAI, record: JobRecord, provider: Provider | None = None) -> None:
        super().__init__(record, profile(client, provider))
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
        from .tune.journal import Journal
        from .tune.purchase import ordered

        settings = {
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate_multiplier": learning_rate_multiplier,
            "seed": seed,
            "suffix": suffix,
            "model": model,
            "method": method,
        }
        spec = spec_for(client, training, validation, provider, settings)
        with Journal(journal) as book:
            flow = ordered(book.of(client), spec, again=again, force=force, budget=budget)
            return cls(client, await arun(client, flow, sleep), spec.provider)

    @classmethod
    async def attach(
        cls, client: AsyncOpenAI, job_id: str, *, provider: str | Provider | None = None
    ) -> AsyncFineTuneJob:
        """Do as `FineTuneJob.attach` does."""
        record = await arun(client, found_by_id(job_id), asyncio.sleep)
        return cls(client, record, profile(client, provider))

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
        from .tune.journal import Journal
        from .tune.purchase import found

        settings = {
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate_multiplier": learning_rate_multiplier,
            "seed": seed,
            "suffix": suffix,
            "model": model,
            "method": method,
        }
        spec = spec_for(client, training, validation, provider, settings)
        with Journal(journal) as book:
            record = await arun(client, found(book.of(client), spec), asyncio.sleep)
        return cls(client, record, spec.provider)

    @classmethod
    async def list(
        cls, client: AsyncOpenAI, *, limit: int = 20, provider: str | Provider | None = None
    ) -> builtins.list[AsyncFineTuneJob]:
        """Do as `FineTuneJob.list` does."""
        from .tune.purchase import newest

        known = profile(client, provider)
        return [cls(client, record, known) for record in await arun(client, newest(limit), asyncio.sleep)]

    async def refresh(self) -> AsyncFineTuneJob:
        """Do as `FineTuneJob.refresh` does."""
        await arun(self.client, self._refreshing(), asyncio.sleep)
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
            await arun(self.client, self._waiting(timeout, poll), sleep)
        except (KeyboardInterrupt, asyncio.CancelledError) as error:
            self._left_alone(error)
            raise
        return self

    def stream_events(
        self, after: str | None = None, *, sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep
    ) -> AsyncIterator[JobEvent]:
        """Do as `FineTuneJob.stream_events` does, for `async for`."""
        return astream(self.client, self._streaming(after), sleep)

    async def events(self) -> builtins.list[JobEvent]:
        """Do as `FineTuneJob.events` does."""
        return await arun(self.client, self._events(), asyncio.sleep)

    async def metrics(self) -> JobMetrics:
        """Do as `FineTuneJob.metrics` does."""
        return await arun(self.client, self._measuring(), asyncio.sleep)

    async def checkpoints(self) -> builtins.list[JobCheckpoint]:
        """Do as `FineTuneJob.checkpoints` does."""
        return await arun(self.client, self._checkpoints(), asyncio.sleep)

    async def result_files(self) -> builtins.list[ResultFile]:
        """Do as `FineTuneJob.result_files` does."""
        return await arun(self.client, self._results(), asyncio.sleep)

    async def cancel(self) -> AsyncFineTuneJob:
        """Do as `FineTuneJob.cancel` does."""
        await arun(self.client, self._acting("cancel"), asyncio.sleep)
        return self

    async def pause(self) -> AsyncFineTuneJob:
        """Do as `FineTuneJob.pause` does."""
        await arun(self.client, self._acting("pause"), asyncio.sleep)
        return self

    async def resume(self) -> AsyncFineTuneJob:
        """Do as `FineTuneJob.resume` does."""
        await arun(self.client, self._acting("resume"), asyncio.sleep)
        return self

    async def delete(self, *, files: bool = True, model: bool = True) -> builtins.list[str]:
        """Do as `FineTuneJob.delete` does."""
        return await arun(self.client, self._deleting(files=files, model=model), asyncio.sleep)

    async def deploy(
        self,
        name: str | None = None,
        *,
        timeout: float | None = 1800.0,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> Deployment:
        """Do as `FineTuneJob.deploy` does."""
        return await arun(self.client, self._deploying(name, timeout), sleep)

    async def undeploy(self, name: str | None = None) -> None:
        """Do as `FineTuneJob.undeploy` does."""
        await arun(self.client, self._undeploying(name), asyncio.sleep)
