"""Several jobs over sizes, settings, models and services, under one budget, ending in one table."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._files import replacing
from ..chat import ChatFormatter
from ..errors import DataError, EvaluationError, JobCancelled, JobFailed
from ..predict.predictor import Predictor
from ..prepare.jsonl import JsonlWriter
from ..providers.connect import provider_of
from ..tune.job import FineTuneJob
from .evaluation import Evaluation
from .evaluator import Evaluator
from .forecast import Forecast, forecast
from .leaderboard import Leaderboard
from .report.markdown import dollars, interval, table
from .trial_costs import KnownPrices

if TYPE_CHECKING:
    from openai import OpenAI

    from ..items import ItemDataset
    from ..prepare.jsonl import TrainingFile

_HEAD = ("training examples", "model", "settings", "MAE", "95 % interval", "n", "unscored", "cost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One job of a sweep, before it runs."""

    size: int
    """Training examples: the first ones of the training items, so that smaller sets lie in larger ones."""
    model: str
    client: str
    """Which of the sweep's clients trains and answers."""
    formatter: ChatFormatter
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None

    @property
    def settings(self) -> str:
        """What was set, in words; `the service's own` where nothing was."""
        named = {
            "epochs": self.epochs,
            "batch": self.batch_size,
            "learning rate x": self.learning_rate_multiplier,
        }
        said = [f"{name} {value:g}" for name, value in named.items() if value is not None]
        if self.formatter != ChatFormatter():
            said.append(f"prompt {self.formatter.fingerprint[:6]}")
        return ", ".join(said) or "the service's own"

    @property
    def name(self) -> str:
        """What tables call it."""
        where = f" at {self.client}" if self.client else ""
        return f"{self.model}{where}, {self.size:,} examples ({self.settings})"


CostOf = Callable[["TrainingFile", Trial], float | None]
"""What training costs in dollars; None when unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One job of a sweep and what is known of it."""

    trial: Trial
    dollars: float | None
    """What it costs to train; None when unknown."""
    done: bool
    """Whether its evaluation lies in the folder already: it costs nothing more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPlan:
    """What a sweep would do. `str()` is a table."""

    jobs: tuple[Planned, ...]
    budget: float | None

    @property
    def dollars(self) -> float | None:
        """What is still to be paid; None when the price of a job that is to run is unknown."""
        open_ = [one.dollars for one in self.jobs if not one.done]
        known = [one for one in open_ if one is not None]
        return sum(known) if len(known) == len(open_) else None

    def __str__(self) -> str:
        rows = [(one.trial.name, "done" if one.done else _price(one.dollars)) for one in self.jobs]
        limit = "" if self.budget is None else f" of a budget of {dollars(self.budget)}"
        return f"{table(('job', 'to pay'), rows)}\nto pay in all: {_price(self.dollars)}{limit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one job."""

    trial: Trial
    evaluation: Evaluation | None
    """None where the job failed."""
    dollars: float | None
    """What training cost by the plan; None when unknown."""
    problem: str | None = None
    """Why there is no evaluation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult:
    """All that a sweep found. `str()` is the table of sizes, models, errors and costs."""

    outcomes: tuple[Outcome, ...]

    def leaderboard(self) -> Leaderboard:
        """Rank what was evaluated, with its baselines.

        Raises:
            EvaluationError: Nothing was evaluated.
        """
        return Leaderboard(one.evaluation for one in self.outcomes if one.evaluation is not None)

    def forecast(self, **options: Any) -> Forecast:
        """Fit the learning curve through the sizes; `options` are those of `forecast`.

        Raises:
            EvaluationError: Fewer than three sizes, or jobs that differ in more than their size.
        """
        found = [(one.trial, one) for one in self.outcomes if one.evaluation is not None]
        kinds = {(t.model, t.client, t.settings) for t, _ in found}
        if len(kinds) > 1:
            raise EvaluationError(
                f"{len(kinds)} kinds of jobs have a learning curve each; hand those of one kind to forecast()"
            )
        priced = [one.dollars / trial.size for trial, one in found if one.dollars is not None]
        if priced and len(priced) == len(found):
            options.setdefault("dollars_per_example", priced[-1])
        return forecast([(t.size, one.evaluation) for t, one in found if one.evaluation], **options)

    def to_markdown(self) -> str:
        """Give the table as Markdown."""
        return table(_HEAD, [_row(one) for one in self.outcomes])

    def __str__(self) -> str:
        return self.to_markdown()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Trains and evaluates every combination of what is listed, one after the other.

    Everything is kept in `folder`, every answer as it comes: a sweep that was killed goes on where it
    stopped, and one that is done costs nothing to run again.

    Args:
        clients: A client, or several by name.
        train: Training items; a trial takes the first `size` of them.
        test: Items that every model is evaluated on.
        folder: Where training files, job ids, answers and evaluations are kept.
        sizes: Training examples.
        models: Base models.
        validation: Items whose loss is measured while training.
        epochs: Passes over the examples; None is the service's choice.
        batch_sizes: Examples per step; None is the service's choice.
        learning_rate_multipliers: Factors on the learning rate; None is the service's choice.
        formatters: Prompts and reply forms.
        cost_of: What training a file costs in dollars, or None when unknown. Without it, what `estimate_cost`
            says, where the service's price is known here and `epochs` are set.
        budget: Dollars for all jobs that are still to run.
        evaluator: How models are evaluated; its baselines stand beside each.
        seed: Of every job.

    Raises:
        DataError: A list is empty, or a size is larger than the training items.
    """

    clients: OpenAI | Mapping[str, OpenAI]
    train: ItemDataset
    test: ItemDataset
    folder: str | Path
    sizes: Sequence[int]
    models: Sequence[str]
    validation: ItemDataset | None = None
    epochs: Sequence[int | None] = (None,)
    batch_sizes: Sequence[int | None] = (None,)
    learning_rate_multipliers: Sequence[float | None] = (None,)
    formatters: Sequence[ChatFormatter] = field(default_factory=lambda: (ChatFormatter(),))
    cost_of: CostOf | None = None
    budget: float | None = None
    evaluator: Evaluator = field(default_factory=Evaluator)
    seed: int = 42
    _digests: dict[int, list[str]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _prices: dict[str, KnownPrices] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.trials():
            raise DataError("a sweep over an empty list has no jobs; leave the parameter out instead")
        for size in self.sizes:
            if not 1 <= size <= len(self.train):
                raise DataError(f"cannot train on {size:,} of {len(self.train):,} items")
        for name, client in self._clients.items():
            self._prices[name] = KnownPrices(provider_of(client).name)

    def trials(self) -> tuple[Trial, ...]:
        """Give every combination, the smallest sizes first."""
        from itertools import product

        return tuple(
            Trial(
                size=size,
                model=model,
                client=client,
                formatter=formatter,
                epochs=epochs,
                batch_size=batch_size,
                learning_rate_multiplier=rate,
            )
            for size, client, model, formatter, epochs, batch_size, rate in product(
                sorted(self.sizes),
                self._clients,
                self.models,
                self.formatters,
                self.epochs,
                self.batch_sizes,
                self.learning_rate_multipliers,
            )
        )

    def plan(self) -> SweepPlan:
        """Write the training files and say what would run and what it costs; nothing is asked of a service.

        Raises:
            FileAccessError: The folder cannot be written.
            InvalidItem: An item has no price.
        """
        return SweepPlan(jobs=tuple(map(self._planned, self.trials())), budget=self.budget)

    def run(self, *, sleep: Callable[[float], Any] = time.sleep) -> SweepResult:
        """Run what is not done yet, and give everything. A job that fails is a line that says why.

        Args:
            sleep: How to pause between questions to the service.

        Raises:
            DataError: The jobs that are still to run cost more than the budget, or nobody knows what they
                cost; nothing was asked of a service.
            ServiceError: A service refuses or does not answer; run again to go on.
        """
        plan = self.plan()
        self._require_affordable(plan)
        return SweepResult(outcomes=tuple(self._outcome(one, sleep) for one in plan.jobs))

    def _require_affordable(self, plan: SweepPlan) -> None:
        if self.budget is None:
            return
        if plan.dollars is None:
            trial = next(one.trial for one in plan.jobs if one.dollars is None and not one.done)
            why = "cost_of gives None"
            if self.cost_of is None:
                why = self._prices[trial.client].why_unknown(trial.model)
            raise DataError(f"a budget needs prices, and nobody knows what {trial.name} costs: {why}")
        if plan.dollars > self.budget:
            raise DataError(
                f"the jobs that are still to run cost {dollars(plan.dollars)}, above the budget of "
                f"{dollars(self.budget)}; see plan() and take something out"
            )

    @property
    def _clients(self) -> Mapping[str, OpenAI]:
        return self.clients if isinstance(self.clients, Mapping) else {"": self.clients}

    def _planned(self, trial: Trial) -> Planned:
        cost_of = self.cost_of or self._estimated
        cost = cost_of(self._training_file(trial), trial)
        return Planned(trial=trial, dollars=cost, done=self._path(trial, "evaluation.json").exists())

    def _estimated(self, file: TrainingFile, trial: Trial) -> float | None:
        return self._prices[trial.client].dollars(
            file, self._validation_file(trial), model=trial.model, epochs=trial.epochs
        )

    def _outcome(self, planned: Planned, sleep: Callable[[float], Any]) -> Outcome:
        trial, path = planned.trial, self._path(planned.trial, "evaluation.json")
        if planned.done:
            return Outcome(trial=trial, evaluation=Evaluation.load(path), dollars=planned.dollars)
        job = self._job(trial)
        try:
            job.wait(sleep=sleep)
            predictor = Predictor(
                self._clients[trial.client],
                job.fine_tuned_model,
                formatter=trial.formatter,
                store=self._path(trial, "answers.sqlite"),
            )
            evaluation = self.evaluator.evaluate(predictor, self.test, name=trial.name)
        except (JobFailed, JobCancelled, EvaluationError) as error:
            # Of an evaluation the plain reason: what was answered lies in the folder.
            why = error.__cause__ if isinstance(error.__cause__, EvaluationError) else error
            problem = f"{why} (remove {str(path.parent)!r} to train it anew)"
            return Outcome(trial=trial, evaluation=None, dollars=planned.dollars, problem=problem)
        evaluation.save(path)
        return Outcome(trial=trial, evaluation=evaluation, dollars=planned.dollars)

    def _job(self, trial: Trial) -> FineTuneJob:
        client, known = self._clients[trial.client], self._path(trial, "job.json")
        if known.exists():
            return FineTuneJob.attach(client, json.loads(known.read_text())["job"])
        job = FineTuneJob.create(
            client,
            self._training_file(trial),
            validation=self._validation_file(trial),
            model=trial.model,
            epochs=trial.epochs,
            batch_size=trial.batch_size,
            learning_rate_multiplier=trial.learning_rate_multiplier,
            seed=self.seed,
        )
        with replacing(known) as file:
            file.write(json.dumps({"job": job.id, "trial": trial.name}).encode())
        return job

    def _training_file(self, trial: Trial) -> TrainingFile:
        return JsonlWriter(trial.formatter).write(self.train[: trial.size], self._path(trial, "train.jsonl"))

    def _validation_file(self, trial: Trial) -> TrainingFile | None:
        if self.validation is None:
            return None
        return JsonlWriter(trial.formatter).write(self.validation, self._path(trial, "validation.jsonl"))

    def _path(self, trial: Trial, name: str) -> Path:
        # The items are part of the name: other items in the same folder are another sweep.
        shape = asdict(trial) | {"formatter": trial.formatter.fingerprint, "seed": self.seed}
        if trial.size not in self._digests:
            self._digests[trial.size] = [
                _digest(items) for items in (self.train[: trial.size], self.test, self.validation or ())
            ]
        named = json.dumps([shape, self._digests[trial.size]], sort_keys=True)
        digest = hashlib.sha256(named.encode()).hexdigest()[:12]
        return Path(self.folder) / f"{trial.size}-{digest}" / name


def _digest(items: Any) -> str:
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{item.id}\x1f{item.price}\x1f{item.text}\x1e".encode())
    return digest.hexdigest()


def _price(cost: float | None) -> str:
    return "unknown" if cost is None else f"${cost:,.4f}"


def _row(one: Outcome) -> tuple[str, ...]:
    trial, found = one.trial, one.evaluation
    where = f" at {trial.client}" if trial.client else ""
    head = (f"{trial.size:,}", f"{trial.model}{where}", trial.settings)
    if found is None:
        return (*head, f"none: {one.problem}", "", "", "", _price(one.dollars))
    return (
        *head,
        dollars(found.mae.value),
        interval(found.mae, "$"),
        f"{found.n:,}",
        f"{found.unscored:,}{' (!)' if found.warning else ''}",
        _price(one.dollars),
    )
