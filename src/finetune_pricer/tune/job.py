"""`FineTuneJob`: ask for a fine-tuning job, find it again, follow it, wait for it."""

from __future__ import annotations

import atexit
import builtins  # noqa: TC003 - the class has a method `list`
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .._arguments import require_client
from .._service.flow import LONGEST_PAUSE, run, stream
from ..chat import ChatFormatter
from ..errors import PricerError
from ..providers.lookup import provider_of
from ._base import BaseJob, get_job_by_id, list_newest_jobs
from .deployment import DEPLOY_TIMEOUT
from .journal import Journal
from .purchase import buy_job, find_job, require_purchase
from .spec import JobSpec

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from openai import OpenAI

    from ..evaluate import Evaluation
    from ..predict.predictor import Predictor
    from ..providers.provider import Provider
    from ._base import ResultFile
    from .deployment import Deployment
    from .job_metrics import JobMetrics
    from .records import JobCheckpoint, JobEvent, JobRecord
    from .spec import Factor, GivenFile, Whole


class FineTuneJob(BaseJob):
    """A fine-tuning job at a service, as it was when it was last looked at.

    Make one with `create`, find one with `attach`, `find` or `list`. Nothing is lost when the process ends:
    the job goes on at the service, and `FineTuneJob.attach(client, job_id)` finds it.

    Examples:
        >>> from finetune_pricer import FineTuneJob, JsonlWriter, MadeUpCatalogue, connect
        >>> client = connect("local")
        >>> items = MadeUpCatalogue().splits(train=30, validation=1, test=1).train
        >>> training = JsonlWriter().write(items, "train.jsonl")
        >>> job = FineTuneJob.create(client, training, model="pricer-base", epochs=1, seed=42)
        >>> job.wait().status
        'succeeded'
        >>> FineTuneJob.create(client, training, model="pricer-base", epochs=1, seed=42).id == job.id
        True
    """

    def __init__(self, client: OpenAI, record: JobRecord, provider: Provider | None = None) -> None:
        super().__init__(client, record, provider)
        self.client = client
        """The client that it was asked for with."""

    @classmethod
    def create(
        cls,
        client: OpenAI,
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
        sleep: Callable[[float], Any] = time.sleep,
    ) -> FineTuneJob:
        """Return the job of this spec: the one that exists, else check everything, upload, and ask for it.

        A job is its service, its account, and its spec: the files' content, the model and all settings. One
        that is running or has succeeded is given back, and nothing is paid again; one that failed, was
        cancelled, or is unknown to the service is asked for anew. The request is sent once. Where its answer
        was lost, or the process was killed, the job is looked for; where it is not found, that is an error,
        now and at every further call, until it is found or `again` asks for another.

        Args:
            client: Any `openai.OpenAI`.
            training: What `JsonlWriter.write` or `upload` returned; or a file of the service, by its id or
                by the service's file object.
            model: The base model. There is no default: services retire models, and prices differ.
            validation: Examples whose loss is measured meanwhile.
            epochs: Passes over the examples, at least 1. This and the next two are, where you name none, what
                the service's profile recommends for short examples, if anything, and the log says so at INFO;
                None or `"auto"` leaves them to the service.
            batch_size: Examples per step, at least 1.
            learning_rate_multiplier: Factor on the service's learning rate, above 0.
            seed: For the same result with the same request, as far as the service can.
            suffix: Becomes part of the tuned model's name.
            metadata: Texts by their names, noted on the job at the service: up to 13, names of up to 64
                characters, texts of up to 512. They make no other job of it: where one of the same spec
                exists, it is given back with the notes that it has.
            integrations: Where the service shall report to while it trains, in the service's words, such as
                `[{"type": "wandb", "wandb": {"project": "prices"}}]`; as little as metadata do they make
                another job of it.
            budget: Dollars that training may cost; it needs `epochs`, and a service whose price is known; or
                one that says itself what a job would cost, once the files are there.
            method: Only `"supervised"`.
            provider: What is known of the service: a name, or a `Provider`; by default it is recognised by
                its address, or by `connect` having made the client.
            journal: Path of the journal of what was asked for; by default it is in `FINETUNE_PRICER_HOME`,
                else in the user's state folder.
            again: Ask for another job, even if one of the same spec exists, or nobody knows whether one does.
            force: Ask even for a model that is known to be shut down.
            sleep: How to wait between questions.

        Raises:
            DataError: A setting is out of the service's range, or there is a budget and no way to work out
                the cost; nothing was uploaded.
            OverBudget: Training costs more than the budget; nothing was uploaded, or it was removed again.
            TrainingFileError: A file has changed since it was written, or the service cannot use it.
            ModelRetired: The model is shut down; nothing was uploaded.
            ModelNotFound: The service has no such model; nothing was uploaded.
            TrainingNotAvailable: This account may not train there any more; what was uploaded is removed.
            ServiceUnavailable: No answer came, and no job could be found; calling again looks again, and buys
                nothing.
            ServiceError: The service refuses the job.
            FileAccessError: The journal cannot be read or written; the message names what was bought, if
                anything was.
        """
        require_client(client, training, model)
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
        with Journal(journal) as ledger:
            flow = buy_job(ledger.for_client(client), spec, again=again, force=force, budget=budget)
            job = cls(client, run(client, flow, sleep), spec.provider)
        return job._note_formatter(spec.formatter)

    @classmethod
    def attach(cls, client: OpenAI, job_id: str, *, provider: str | Provider | None = None) -> FineTuneJob:
        """Find a job by its id, from any process.

        Raises:
            DataError: The id is empty.
            NotFound: The service has no such job.
            ServiceError: The service refuses or does not answer.
        """
        require_client(client, job_id)
        return cls(client, run(client, get_job_by_id(job_id), time.sleep), provider_of(client, provider))

    @classmethod
    def find(
        cls,
        client: OpenAI,
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
    ) -> FineTuneJob:
        """Find the newest job that `create` made with the same arguments, whatever became of it.

        Raises:
            NotFound: There is none.
            ServiceError: The service refuses or does not answer.
        """
        require_client(client, training, model)
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
        with Journal(journal) as ledger:
            flow = find_job(ledger.for_client(client), spec)
            job = cls(client, run(client, flow, time.sleep), spec.provider)
        return job._note_formatter(spec.formatter)

    @classmethod
    def list(
        cls, client: OpenAI, *, limit: int = 20, provider: str | Provider | None = None
    ) -> builtins.list[FineTuneJob]:
        """Return the newest jobs of this key's project, newest first.

        Raises:
            ServiceError: The service refuses or does not answer.
        """
        require_client(client)
        known = provider_of(client, provider)
        return [cls(client, record, known) for record in run(client, list_newest_jobs(limit), time.sleep)]

    def refresh(self) -> FineTuneJob:
        """Look at the service again; returns the job itself.

        Raises:
            ServiceError: The service refuses or does not answer.
        """
        run(self.client, self._refresh_flow(), time.sleep)
        return self

    def wait(
        self,
        timeout: float | None = None,
        *,
        poll: float = LONGEST_PAUSE,
        sleep: Callable[[float], Any] = time.sleep,
    ) -> FineTuneJob:
        """Wait until the job has succeeded; returns the job itself.

        A lost connection or an overloaded service does not end the waiting. Interrupting the waiting does not
        end the job. In a terminal or a notebook a bar shows the step, the loss and the estimated finish.

        Args:
            timeout: Seconds; None waits as long as it takes.
            poll: The longest pause between questions, in seconds; the first ones are shorter.
            sleep: How to pause between questions.

        Raises:
            JobFailed: With the service's code, message, param and line.
            JobCancelled: Somebody cancelled it.
            JobTimeout: The time is up; the job goes on.
            ServiceError: The service refuses to tell.
        """
        try:
            run(self.client, self._wait_flow(timeout, poll), sleep)
        except KeyboardInterrupt as error:
            self._say_that_it_goes_on(error)
            raise
        return self

    def stream_events(
        self, after: str | None = None, *, sleep: Callable[[float], Any] = time.sleep
    ) -> Iterator[JobEvent]:
        """Yield the job's events as they happen, oldest first, each once.

        Ends when the job has ended and nothing is left. Does not raise when the job failed: `wait` does. At a
        service that shows no events it yields none, says so in the log, and ends with the job.

        Args:
            after: The id of an event; only later ones are yielded.
            sleep: How to pause between questions.

        Raises:
            NotFound: The job has no event `after`.
            ServiceUnavailable: The job has ended, and its events cannot be read.
            ServiceError: The service refuses to tell.
        """
        return stream(self.client, self._stream_events_flow(after), sleep)

    def events(self) -> builtins.list[JobEvent]:
        """Return the events that the service has now, oldest first.

        Raises:
            ServiceError: The service refuses or does not answer.
        """
        return run(self.client, self._events_flow(), time.sleep)

    def metrics(self) -> JobMetrics:
        """Return the losses and accuracies that were measured in training, wherever the service shows them.

        Raises:
            ServiceError: The service refuses or does not answer.
        """
        return run(self.client, self._metrics_flow(), time.sleep)

    def checkpoints(self) -> builtins.list[JobCheckpoint]:
        """Return the checkpoints: models that the job kept after some of its steps, the first step first.

        Raises:
            ServiceError: The service refuses or does not answer.
        """
        return run(self.client, self._checkpoints_flow(), time.sleep)

    def result_files(self) -> builtins.list[ResultFile]:
        """Download the files that the job made.

        Raises:
            ServiceError: The service refuses or does not answer.
        """
        return run(self.client, self._result_files_flow(), time.sleep)

    def fetch_spec(self, folder: str | os.PathLike[str]) -> JobSpec:
        """Fetch the job's files into a folder, and return what it was asked for, to ask for it elsewhere.

        `FineTuneJob.create(client, spec.training, model=..., **spec.portable)` asks another service for it.

        Args:
            folder: Where the training and the validation file are written, each under its id.

        Raises:
            NotFound: The service has a file no more.
            TrainingFileError: A file has lines that no service would take.
            FileAccessError: The folder cannot be written.
            ServiceError: The service refuses or does not answer.
        """
        return run(self.client, self._fetch_spec_flow(folder), time.sleep)

    def download(
        self, path: str | os.PathLike[str], *, checkpoint: JobCheckpoint | None = None
    ) -> builtins.list[Path]:
        """Download the tuned weights into a folder, where the service gives them; return the files' paths.

        Each file is held in memory while it comes, and may have 2 GiB.

        Args:
            path: The folder; it is made where it is missing.
            checkpoint: One of `checkpoints()`; by default the last one.

        Raises:
            NotSupported: The service gives out no weights.
            NotFound: The job has no checkpoint with files.
            FileAccessError: The folder cannot be written.
            ServiceError: The service refuses or does not answer, or a file came cut.
        """
        return run(self.client, self._download_flow(path, checkpoint), time.sleep)

    def push_to_hub(
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
        """Upload the tuned adapter to the Hugging Face Hub, and return the model's address.

        The card comes from the evaluation, with the metrics in its head; it names the ten worst misses by
        their titles. Beside the weights go the tokenizer, the chat template, and `pricer.json`: how prices
        are written, which occurred in training, and the words that all its prompts share. No example and no
        key is among them. `finetune-pricer serve --adapter NAME=BASE:REPO@REVISION` offers it again.

        Args:
            repo: Such as `"owner/name"`; made when it is not there.
            evaluation: What `Evaluator.evaluate` found; without it, the card says that nothing was measured.
            checkpoint: One of `checkpoints()`; by default the last one.
            base_model: What the Hub calls the base model, as `owner/name` or `owner/name@revision`; needed
                where the adapter was trained on a folder.
            private: Whether only you see it. A repository that is there already stays as it is.
            token: A Hub token that may write; else `HF_TOKEN` of the environment or `.env`, else the saved
                login.
            licence: The licence's name for the card, such as `"apache-2.0"`; none is claimed without it.

        Raises:
            NotSupported: The service gives out no weights, or they are no adapter.
            DataError: The base is a folder, and `base_model` does not say what the Hub calls it.
            HubError: The Hub refuses, or does not answer.
            ServiceError: The service refuses or does not answer, or a file came cut.
        """
        flow = self._push_flow(
            repo,
            evaluation,
            checkpoint=checkpoint,
            base_model=base_model,
            private=private,
            token=token,
            licence=licence,
        )
        return run(self.client, flow, time.sleep)

    def cancel(self) -> FineTuneJob:
        """Ask the service to stop the job; returns the job itself.

        Raises:
            RequestRejected: It has ended already.
            ServiceError: The service refuses or does not answer.
        """
        run(self.client, self._act_flow("cancel"), time.sleep)
        return self

    def pause(self) -> FineTuneJob:
        """Ask the service to hold the job; returns the job itself.

        Raises:
            NotSupported: The service cannot.
            RequestRejected: It is not running.
            ServiceError: The service refuses or does not answer.
        """
        run(self.client, self._act_flow("pause"), time.sleep)
        return self

    def resume(self) -> FineTuneJob:
        """Ask the service to let a held job go on; returns the job itself.

        Raises:
            NotSupported: The service cannot.
            RequestRejected: It is not held.
            ServiceError: The service refuses or does not answer.
        """
        run(self.client, self._act_flow("resume"), time.sleep)
        return self

    def delete(self, *, files: bool = True, model: bool = True) -> builtins.list[str]:
        """Delete the job's files and model at the service; return the names of those that are gone.

        A job itself cannot be deleted: the protocol has no such request.

        Args:
            files: Its training, validation and result files.
            model: Its tuned model.

        Raises:
            RequestRejected: The job has not ended.
            ServiceError: The service refuses or does not answer.
        """
        return run(self.client, self._delete_flow(files=files, model=model), time.sleep)

    def predictor(
        self, formatter: ChatFormatter | None = None, *, model: str | None = None, **settings: Any
    ) -> Predictor:
        """Return a predictor that asks the tuned model, in the words that it was trained on.

        Warns where another formatter wrote the training file, as far as the job's metadata or the training
        file that was handed to `create` says so. Nothing is sent.

        Args:
            formatter: The one that wrote the training file.
            model: Another name to ask, such as a checkpoint's or that of a deployment made by hand.
            settings: What `Predictor` takes beside these.

        Raises:
            JobError: The job has not succeeded, or its service wants a deployment first.
            DataError: A setting is out of range.
        """
        return self._predictor(self._check_formatter(formatter), model, **settings)

    def _predictor(self, formatter: ChatFormatter, model: str | None, **settings: Any) -> Predictor:
        from ..predict.predictor import Predictor

        name, place = self._find_answering_model(model), self._answers_at()
        client = self.client if place is None else self.client.with_options(base_url=place)
        chosen: dict[str, Any] = {"provider": self.provider, **settings}
        return Predictor(client, name, formatter=formatter, **chosen)

    def deploy(
        self,
        name: str | None = None,
        *,
        timeout: float | None = DEPLOY_TIMEOUT,
        journal: str | os.PathLike[str] | None = None,
        check: bool = True,
        sleep: Callable[[float], Any] = time.sleep,
    ) -> Deployment:
        """Make the tuned model answer where the service wants a step for that; says first what it costs.

        Called again, it finds what is there or coming, by the job and its last checkpoint, and makes no
        other, whatever `name` says. Where the step lies outside the protocol, the deployment holds the exact
        steps: `print` it.

        Args:
            name: The deployment's name; by default made from the job's id. The service may add to it.
            timeout: Seconds to wait until it answers; None waits for a day.
            journal: Path of the journal of what was asked for, as in `create`.
            check: Ask the served model for its name and the first 20 prices of the job's validation file, and
                warn in the log where another model answers, or prices are far from what the job's validation
                loss lets expect: another chat template, or the wrong adapter.
            sleep: How to pause between questions.

        Raises:
            JobError: The job has not succeeded.
            NotConfigured: The service wants to know a project, and none is named.
            DataError: The client is not at the service's own address, and its key would go there.
            RequestRejected: The service could not deploy it, for the reason that it gives.
            ServiceUnavailable: It is not ready in time; the message says how to go on.
            ServiceError: The service refuses or does not answer.
        """
        with Journal(journal) as ledger:
            flow = self._deploy_flow(ledger.for_client(self.client), name, timeout)
            deployment = run(self.client, flow, sleep)
        if check and self._is_checked_after_deploying:
            self._check_served({})
        return deployment

    def _check_served(self, settings: dict[str, Any]) -> None:
        from ..predict import round_trip

        content, loss = run(self.client, self._validation_flow(), time.sleep)
        words = ChatFormatter()
        examples = round_trip.read_examples(content, words)
        asked = round_trip.RecordedQuestions(examples=examples)
        predictor = self._predictor(asked, None, decoding="greedy", **round_trip.pick_settings(settings))
        question = examples[0].messages if examples else words.prompt("a lamp")
        place, model = predictor._client, predictor.model  # noqa: SLF001 - of the same package
        name = run(place, round_trip.ask_name(model, self.provider, question), time.sleep)
        try:
            found = list(predictor.iter_predict(map(str, range(len(examples)))))
        except PricerError as error:
            self._say_that_it_is_not_checked(error)
            return
        self._say_what_is_wrong(
            round_trip.judge_name(model, name),
            round_trip.judge_errors(examples, found, loss=loss, base=self.model or ""),
        )

    @contextmanager
    def deployed(
        self,
        formatter: ChatFormatter | None = None,
        *,
        max_hours: float,
        name: str | None = None,
        timeout: float | None = DEPLOY_TIMEOUT,
        journal: str | os.PathLike[str] | None = None,
        check: bool = True,
        sleep: Callable[[float], Any] = time.sleep,
        **settings: Any,
    ) -> Iterator[Predictor]:
        """Deploy the tuned model for a `with` block, yield its predictor, and take it down at the end.

        All that is deployed of this job is taken down, also what was there before: at the end of the block,
        at an error in it, at Ctrl-C, at the end of the program, and when the hours are up. Where the process
        is killed, nothing here can do that: the next block does, and `tune.deployments(client)` shows what is
        there.

        Args:
            formatter: The one that wrote the training file.
            max_hours: After so many hours it is taken down, whatever the block does; questions then fail.
            name: As in `deploy`.
            timeout: As in `deploy`.
            journal: As in `deploy`.
            check: As in `deploy`.
            sleep: How to pause between questions.
            settings: What `Predictor` takes beside these.

        Raises:
            NotSupported: The service's deployments are made by hand.
            ServiceUnavailable: It could not be taken down, and may be billed.
            ServiceError: As in `deploy`.
        """
        self._require_deployable(max_hours)
        with self._take_down_at_the_end(max_hours, sleep):
            self.deploy(name, timeout=timeout, journal=journal, check=False, sleep=sleep)
            if check and self._is_checked_after_deploying:
                self._check_served(settings)
            yield self.predictor(formatter, **settings)

    @contextmanager
    def _take_down_at_the_end(self, max_hours: float, sleep: Callable[[float], Any]) -> Iterator[None]:
        def take_down(pause: Callable[[float], Any] = time.sleep) -> None:
            run(self.client, self._take_down_flow(), pause)

        def end_in_time() -> None:
            self._say_that_time_is_up(max_hours)
            take_down()

        timer = threading.Timer(min(3600 * max_hours, threading.TIMEOUT_MAX), end_in_time)
        timer.daemon = True
        timer.start()
        atexit.register(take_down)
        try:
            yield
        except BaseException as error:
            try:
                take_down(sleep)
            except PricerError as second:
                error.add_note(str(second))
            raise
        else:
            take_down(sleep)
        finally:
            timer.cancel()
            atexit.unregister(take_down)

    def undeploy(self, name: str | None = None) -> None:
        """Take down all that is deployed of this job; nothing happens where it is down already.

        Args:
            name: Take down only the deployment of this name, be it the one that was asked for or the one that
                the service made of it.

        Raises:
            NotSupported: It was deployed by hand.
            ServiceError: The service refuses or does not answer.
        """
        run(self.client, self._undeploy_flow(name), time.sleep)
