"""Async versions of `FineTuneJob` and `Predictor`.

All decisions are in `tune/_base.py` and `predict/_base.py`: only the awaiting is here.
"""

from __future__ import annotations

import asyncio
import builtins  # noqa: TC003 - the class has a method `list`
from collections.abc import AsyncIterator, Iterable, Sized
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from ._arguments import require_client
from ._progress import progress_bar
from ._service.account import service_of
from ._service.flow import LONGEST_PAUSE, arun, astream
from ._service.requests import Reply, asend
from .chat import ChatFormatter, LookAhead, look_ahead
from .errors import PricerError
from .predict import round_trip
from .predict._base import BasePredictor, check_calibration_items
from .predict.batch import BaseBatch
from .predict.prediction import Prediction, Predictions
from .predict.runners import run_in_tasks
from .predict.saved_pricer import Access, load_kind, save_pricer
from .providers.lookup import provider_of
from .tune._base import BaseJob, get_job_by_id, list_newest_jobs
from .tune.deployment import DEPLOY_TIMEOUT, list_deployments
from .tune.journal import Journal
from .tune.purchase import buy_job, find_job, require_purchase
from .tune.spec import JobSpec

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from openai import AsyncOpenAI

    from .evaluate import Evaluation
    from .items import Item
    from .predict.engine import Sending
    from .providers.pricing import TokenPricing
    from .providers.provider import Provider
    from .tune._base import ResultFile
    from .tune.deployment import Deployment
    from .tune.job_metrics import JobMetrics
    from .tune.records import JobCheckpoint, JobEvent, JobRecord
    from .tune.spec import Factor, GivenFile, Whole

__all__ = ["AsyncBatchRun", "AsyncFineTuneJob", "AsyncPredictor", "deployments"]


async def deployments(
    client: AsyncOpenAI, *, provider: str | Provider | None = None
) -> builtins.list[Deployment]:
    """Do as `finetune_pricer.tune.deployments` does."""
    require_client(client, awaits=True)
    known = provider_of(client, provider)
    return await arun(client, list_deployments(known, service=service_of(client)), asyncio.sleep)


class AsyncFineTuneJob(BaseJob):
    """A fine-tuning job, as `FineTuneJob` has it, for an `openai.AsyncOpenAI` client."""

    _awaits = True

    def __init__(self, client: AsyncOpenAI, record: JobRecord, provider: Provider | None = None) -> None:
        super().__init__(client, record, provider)
        self.client = client
        """The client that it was asked for with."""

    @classmethod
    async def create(
        cls,
        client: AsyncOpenAI,
        training: GivenFile,
        *,
        model: str,
        validation: GivenFile | None = None,
        epochs: Whole | None = "recommended",
        batch_size: Whole | None = "recommended",
        learning_rate_multiplier: Factor | None = "recommended",
        seed: int | None = None,
        suffix: str | None = None,
        metadata: Mapping[str, str] | None = None,
        integrations: Sequence[Mapping[str, Any]] | None = None,
        budget: float | None = None,
        method: str = "supervised",
        provider: str | Provider | None = None,
        journal: str | os.PathLike[str] | None = None,
        again: bool = False,
        force: bool = False,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> AsyncFineTuneJob:
        """Do as `FineTuneJob.create` does."""
        require_client(client, training, model, awaits=True)
        require_purchase(budget=budget, again=again, force=force)
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
            metadata=metadata,
            integrations=integrations,
            provider=provider_of(client, provider),
        )
        with await asyncio.to_thread(Journal, journal) as ledger:
            flow = buy_job(ledger.for_client(client), spec, again=again, force=force, budget=budget)
            job = cls(client, await arun(client, flow, sleep), spec.provider)
        return job._note_formatter(spec.formatter)

    @classmethod
    async def attach(
        cls, client: AsyncOpenAI, job_id: str, *, provider: str | Provider | None = None
    ) -> AsyncFineTuneJob:
        """Do as `FineTuneJob.attach` does."""
        require_client(client, job_id, awaits=True)
        record = await arun(client, get_job_by_id(job_id), asyncio.sleep)
        return cls(client, record, provider_of(client, provider))

    @classmethod
    async def find(
        cls,
        client: AsyncOpenAI,
        training: GivenFile,
        *,
        model: str,
        validation: GivenFile | None = None,
        epochs: Whole | None = "recommended",
        batch_size: Whole | None = "recommended",
        learning_rate_multiplier: Factor | None = "recommended",
        seed: int | None = None,
        suffix: str | None = None,
        method: str = "supervised",
        provider: str | Provider | None = None,
        journal: str | os.PathLike[str] | None = None,
    ) -> AsyncFineTuneJob:
        """Do as `FineTuneJob.find` does."""
        require_client(client, training, model, awaits=True)
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
        job = cls(client, record, spec.provider)
        return job._note_formatter(spec.formatter)

    @classmethod
    async def list(
        cls, client: AsyncOpenAI, *, limit: int = 20, provider: str | Provider | None = None
    ) -> builtins.list[AsyncFineTuneJob]:
        """Do as `FineTuneJob.list` does."""
        require_client(client, awaits=True)
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

    async def fetch_spec(self, folder: str | os.PathLike[str]) -> JobSpec:
        """Do as `FineTuneJob.fetch_spec` does."""
        return await arun(self.client, self._fetch_spec_flow(folder), asyncio.sleep)

    async def download(
        self, path: str | os.PathLike[str], *, checkpoint: JobCheckpoint | None = None
    ) -> builtins.list[Path]:
        """Do as `FineTuneJob.download` does."""
        return await arun(self.client, self._download_flow(path, checkpoint), asyncio.sleep)

    async def push_to_hub(
        self,
        repo: str,
        *,
        evaluation: Evaluation | None = None,
        checkpoint: JobCheckpoint | None = None,
        base_model: str | None = None,
        private: bool = True,
        token: str | None = None,
        licence: str | None = None,
    ) -> str:
        """Do as `FineTuneJob.push_to_hub` does."""
        flow = self._push_flow(
            repo,
            evaluation,
            checkpoint=checkpoint,
            base_model=base_model,
            private=private,
            token=token,
            licence=licence,
        )
        return await arun(self.client, flow, asyncio.sleep)

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

    def predictor(
        self, formatter: ChatFormatter | None = None, *, model: str | None = None, **settings: Any
    ) -> AsyncPredictor:
        """Do as `FineTuneJob.predictor` does; nothing is sent, so there is nothing to await."""
        return self._predictor(self._check_formatter(formatter), model, **settings)

    def _predictor(self, formatter: ChatFormatter, model: str | None, **settings: Any) -> AsyncPredictor:
        name, place = self._find_answering_model(model), self._answers_at()
        client = self.client if place is None else self.client.with_options(base_url=place)
        chosen: dict[str, Any] = {"provider": self.provider, **settings}
        return AsyncPredictor(client, name, formatter=formatter, **chosen)

    async def deploy(
        self,
        name: str | None = None,
        *,
        timeout: float | None = DEPLOY_TIMEOUT,
        journal: str | os.PathLike[str] | None = None,
        check: bool = True,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> Deployment:
        """Do as `FineTuneJob.deploy` does."""
        with await asyncio.to_thread(Journal, journal) as ledger:
            flow = self._deploy_flow(ledger.for_client(self.client), name, timeout)
            deployment = await arun(self.client, flow, sleep)
        if check and self._is_checked_after_deploying:
            await self._check_served({})
        return deployment

    async def _check_served(self, settings: dict[str, Any]) -> None:
        content, loss = await arun(self.client, self._validation_flow(), asyncio.sleep)
        words = ChatFormatter()
        examples = round_trip.read_examples(content, words)
        asked = round_trip.RecordedQuestions(examples=examples)
        predictor = self._predictor(asked, None, decoding="greedy", **round_trip.pick_settings(settings))
        question = examples[0].messages if examples else words.prompt("a lamp")
        place, model = predictor._client, predictor.model  # noqa: SLF001 - of the same package
        name = await arun(place, round_trip.ask_name(model, self.provider, question), asyncio.sleep)
        try:
            found = [each async for each in predictor.iter_predict(map(str, range(len(examples))))]
        except PricerError as error:
            self._say_that_it_is_not_checked(error)
            return
        self._say_what_is_wrong(
            round_trip.judge_name(model, name),
            round_trip.judge_errors(examples, found, loss=loss, base=self.model or ""),
        )

    @asynccontextmanager
    async def deployed(
        self,
        formatter: ChatFormatter | None = None,
        *,
        max_hours: float,
        name: str | None = None,
        timeout: float | None = DEPLOY_TIMEOUT,
        journal: str | os.PathLike[str] | None = None,
        check: bool = True,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        **settings: Any,
    ) -> AsyncIterator[AsyncPredictor]:
        """Do as `FineTuneJob.deployed` does, for `async with`; a cancelled task takes it down, too."""
        self._require_deployable(max_hours)
        async with self._take_down_at_the_end(max_hours, sleep):
            await self.deploy(name, timeout=timeout, journal=journal, check=False, sleep=sleep)
            if check and self._is_checked_after_deploying:
                await self._check_served(settings)
            yield self.predictor(formatter, **settings)

    @asynccontextmanager
    async def _take_down_at_the_end(
        self, max_hours: float, sleep: Callable[[float], Awaitable[Any]]
    ) -> AsyncIterator[None]:
        async def end_in_time() -> None:
            await asyncio.sleep(3600 * max_hours)
            self._say_that_time_is_up(max_hours)
            await arun(self.client, self._take_down_flow(), asyncio.sleep)

        timer = asyncio.create_task(end_in_time())
        try:
            yield
        except BaseException as error:
            try:
                await arun(self.client, self._take_down_flow(), sleep)
            except PricerError as second:
                error.add_note(str(second))
            raise
        else:
            await arun(self.client, self._take_down_flow(), sleep)
        finally:
            timer.cancel()

    async def undeploy(self, name: str | None = None) -> None:
        """Do as `FineTuneJob.undeploy` does."""
        await arun(self.client, self._undeploy_flow(name), asyncio.sleep)


class AsyncPredictor(BasePredictor["AsyncOpenAI"]):
    """What `Predictor` is, for `openai.AsyncOpenAI`: the same names, arguments and predictions.

    `await predictor.predict(item)`, `await predictor(item)`, `await predictor.predict_many(items)`, and
    `async for prediction in predictor.iter_predict(items)`. Cancelling the task cancels what is under way.
    """

    _awaits = True
    _kind = "Predictor"

    async def predict(self, item: Item | str) -> Prediction:
        """Ask for the price of one item, priced or not, or of a text; see `Predictor.predict`."""
        ahead = look_ahead(self.formatter, [item])
        if isinstance(ahead, LookAhead):  # vectors may be asked of a service
            await asyncio.to_thread(ahead.fetch)
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

        engine, ahead = self._make_engine(items), look_ahead(self.formatter, items)
        return run_in_tasks(engine, ahead, carry_out, self._max_in_flight)

    async def calibrate(
        self, items: Iterable[Item], *, coverage: float = 0.9, by: Literal["category", "price"] | None = None
    ) -> Self:
        """Return a predictor whose predictions have price ranges; see `Predictor.calibrate`."""
        known = check_calibration_items(items, self.formatter, coverage, by)
        return self._with_ranges(await self.predict_many(known), known, coverage, by)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Do as `Predictor.save` does; nothing is sent, so there is nothing to await."""
        save_pricer(self, folder)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        client: AsyncOpenAI | None = None,
        *,
        provider: str | Provider | None = None,
        store: str | os.PathLike[str] | None = None,
        budget: float | None = None,
        pricing: TokenPricing | None = None,
        embed: Callable[..., Any] | None = None,
    ) -> Self:
        """Do as `Predictor.load` does, of the same folders; nothing is sent."""
        access = Access(
            client=client, provider=provider, store=store, budget=budget, pricing=pricing, embed=embed
        )
        return cast("Self", load_kind(cls, folder, access))

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

    def write_batch(self, items: Iterable[Item | str], path: str | os.PathLike[str]) -> int:
        """Do as `Predictor.write_batch` does; nothing is sent, so there is nothing to await."""
        return self._write_batch(items, path)

    def read_batch(
        self,
        items: Iterable[Item | str],
        path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    ) -> Predictions:
        """Do as `Predictor.read_batch` does; nothing is sent, so there is nothing to await."""
        return self._read_batch(items, path)


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
