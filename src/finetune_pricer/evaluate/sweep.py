"""Several jobs over sizes, settings, models and services, under one budget, ending in one table."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._arguments import (
    require_client,
    require_formatter,
    require_function,
    require_kind,
    require_many,
    require_number,
    require_path,
    require_text,
    require_whole,
)
from .._display import PrintsAsPage, ShortRepr
from .._escape import escape_line
from .._files import replacing
from .._format import format_dollars, format_money
from .._numbers import read_whole, to_plain
from ..chat import ChatFormatter
from ..errors import (
    AccessDenied,
    DataError,
    EvaluationError,
    JobCancelled,
    JobFailed,
    ModelRetired,
    NotFound,
    RequestRejected,
)
from ..items import require_item_text, require_set
from ..predict.answer_store import AnswerStore
from ..predict.budget import Budget
from ..predict.predictor import Predictor
from ..prepare.jsonl import JsonlWriter
from ..providers import provider_of
from ..providers.pricing import TokenPricing, find_pricing
from ..tune.cost import estimate_cost, require_amount
from ..tune.job import FineTuneJob
from .choice import Choice, choose
from .evaluation import Evaluation
from .evaluator import Evaluator
from .forecast import Forecast, forecast
from .leaderboard import Leaderboard
from .ledger import Ledger
from .report.format import Table, format_interval, format_metric, format_unscored

if TYPE_CHECKING:
    from collections.abc import Iterable

    from openai import OpenAI

    from ..items import Item, ItemDataset
    from ..prepare.jsonl import TrainingFile
    from .unscored import Unscored

_log = logging.getLogger("finetune_pricer")

_HEAD = ("training examples", "model", "settings", "MAE", "95 % interval", "n", "unscored", "cost")
_FILLED = "MAE, gaps filled by the training median"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Trial(ShortRepr):
    """One job of a sweep, before it runs."""

    size: int
    """Training examples: the first ones of the training items, so that smaller sets lie in larger ones."""
    model: str
    client: str
    """The name of the sweep's client that trains and answers; empty where the sweep has one client only."""
    formatter: ChatFormatter
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None

    @property
    def settings(self) -> str:
        """What was set, in words; `the service's own` where nothing was set."""
        named = {
            "epochs": self.epochs,
            "batch": self.batch_size,
            "learning rate x": self.learning_rate_multiplier,
        }
        words = [f"{name} {value:g}" for name, value in named.items() if value is not None]
        if self.formatter != ChatFormatter():
            words.append(f"prompt {self.formatter.fingerprint[:6]}")
        return ", ".join(words) or "the service's own"

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.model_and_client}, {self.size:,} examples ({self.settings})"

    @property
    def model_and_client(self) -> str:
        """The base model, and the client where the sweep has several."""
        return f"{self.model} at {self.client}" if self.client else self.model


CostOf = Callable[["TrainingFile", Trial], float | None]
"""From a training file and its trial to what training costs in dollars; None when unknown."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PlannedJob(ShortRepr):
    """One job of a sweep, what it costs, and whether it is done."""

    trial: Trial
    dollars: float | None
    """What training costs; None when unknown."""
    done: bool
    """Whether its evaluation lies in the folder already: it costs nothing more."""
    bought: bool = False
    """Whether the job was asked for already: training costs nothing more."""
    questions: float | None = None
    """The most that the questions of its evaluation can cost; None when unknown."""

    @property
    def to_pay(self) -> float | None:
        """What is still to pay for training and, where that is known, for questions; None when unknown."""
        if self.done:
            return 0.0
        training = 0.0 if self.bought else self.dollars
        return None if training is None else training + (self.questions or 0.0)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SweepPlan(PrintsAsPage):
    """What a sweep would do. `str()` is a table."""

    jobs: tuple[PlannedJob, ...]
    budget: float | None
    """Dollars for all that the folder has cost and will cost; None without a limit."""
    spent: float = 0.0
    """Dollars that the folder has cost by now, with trials that are no longer listed."""

    @property
    def dollars(self) -> float | None:
        """Dollars that are still to pay for all jobs; None when the cost of one of them is unknown."""
        costs = [job.to_pay for job in self.jobs]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if len(known) == len(costs) else None

    def __str__(self) -> str:
        rows = [(job.trial.name, "done" if job.done else _format_cost(job.to_pay)) for job in self.jobs]
        limit = "" if self.budget is None else f" of a budget of {format_dollars(self.budget, 2)}"
        limit += f", of which {_format_cost(self.spent)} are spent" if self.spent else ""
        from .report.markdown import render_table

        table = render_table(Table(("job", "to pay"), rows))
        return f"{table}\nto pay in all: {_format_cost(self.dollars)}{limit}"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Outcome(ShortRepr):
    """One job of a sweep after it ran: its evaluation, or why there is none."""

    trial: Trial
    evaluation: Evaluation | None
    """None where the job failed."""
    dollars: float | None
    """What training cost according to the plan, and its questions where that is known; None when unknown."""
    questions: float | None = None
    """What of it the questions cost; None when unknown."""
    problem: str | None = None
    """Why there is no evaluation."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SweepResult(PrintsAsPage):
    """All that a sweep found. `str()` is the table of sizes, models, errors and costs."""

    outcomes: tuple[Outcome, ...]
    """One for each job, the smallest sizes first."""

    def leaderboard(self, *, unscored: Unscored = "fill") -> Leaderboard:
        """Rank the models that were evaluated, with their baselines; `unscored` as in `Leaderboard`.

        Raises:
            EvaluationError: Nothing was evaluated; or an item is unscored and no training median is known.
        """
        return Leaderboard((evaluation for _, evaluation in self._evaluations()), unscored=unscored)

    def choose(self, by: str = "mae", *, unscored: Unscored = "fill") -> Choice:
        """Return the best of the models, and how good it is on other items: corrected for the choice.

        The best of several models looks better than it is on the items that chose it, and the more of them
        there are, the more so. Hand a later evaluation of it on items that no trial was scored on to
        `finetune_pricer.evaluate.choose(..., test=)`, and that is its number.

        Args:
            by: The metric of `METRICS` that decides.
            unscored: What an item without a price counts, as in `Leaderboard`.

        Raises:
            DataError: There is no such metric.
            EvaluationError: Nothing was evaluated; or an item is unscored and no training median is known.
        """
        return choose((evaluation for _, evaluation in self._evaluations()), by, unscored=unscored)

    def forecast(self, **options: Any) -> Forecast:
        """Fit the learning curve through the sizes; `options` are those of `forecast`.

        Raises:
            EvaluationError: Fewer than three sizes, or jobs that differ in more than their size.
        """
        points = list(self._evaluations())
        kinds = {(one.trial.model, one.trial.client, one.trial.settings) for one, _ in points}
        if len(kinds) > 1:
            raise EvaluationError(
                f"{len(kinds)} kinds of jobs have a learning curve each; hand those of one kind to forecast()"
            )
        costs = [
            (one.dollars - (one.questions or 0.0)) / one.trial.size
            for one, _ in points
            if one.dollars is not None
        ]
        if costs and len(costs) == len(points):
            options.setdefault("dollars_per_example", costs[-1])
        return forecast([(one.trial.size, evaluation) for one, evaluation in points], **options)

    def _evaluations(self) -> Iterable[tuple[Outcome, Evaluation]]:
        return ((one, one.evaluation) for one in self.outcomes if one.evaluation is not None)

    def to_markdown(self) -> str:
        """Return the table as Markdown."""
        from .report.markdown import render_table

        filled = any(one.unscored and one.mae_filled for _, one in self._evaluations())
        head = (*_HEAD[:5], _FILLED, *_HEAD[5:]) if filled else _HEAD
        return render_table(Table(head, [_to_cells(one, with_filled=filled) for one in self.outcomes]))

    def __str__(self) -> str:
        return f"{self.to_markdown()}{self._state_best()}"

    def _state_best(self) -> str:
        """Return a line on the best model: its number in the table flatters it."""
        if not any(True for _ in self._evaluations()):
            return ""
        try:
            return f"\nbest: {self.choose()}"
        except EvaluationError as error:
            return f"\nno best one is named: {escape_line(str(error))}"


@dataclass(frozen=True, kw_only=True, repr=False)
class Sweep(ShortRepr):
    """Trains and evaluates every combination of the listed settings, one after the other.

    Everything is kept in `folder`, every answer as it comes: a sweep that was killed goes on where it
    stopped, and a finished sweep costs nothing to run again.

    Args:
        clients: A client, or several by name.
        train: Training items; a trial takes the first `size` items.
        test: Items that every model is evaluated on.
        folder: Where training files, job ids, answers and evaluations are kept.
        sizes: Training examples.
        models: Base models.
        validation: Items whose loss is measured while training.
        epochs: Passes over the examples; None is the service's choice.
        batch_sizes: Examples per step; None is the service's choice.
        learning_rate_multipliers: Factors on the learning rate; None is the service's choice.
        formatters: Prompts and reply forms.
        cost_of: A function from a training file and its `Trial` to dollars, or to None when unknown. Without
            it, `estimate_cost` says what training costs, where the service's price is known here and
            `epochs` are set.
        budget: Dollars for all that is bought in this folder, now, before and later, with other sizes too:
            training, and the questions of evaluations where their price is known, by the service's pricing or
            the evaluator's `dollars_per_million`. What the evaluator's `beside` ask is not in it.
        evaluator: How models are evaluated; its baselines stand beside each model.
        seed: Seed of every job.

    Raises:
        DataError: A list is empty, or there are fewer training items than a size asks for.

    Examples:
        >>> import tempfile
        >>> from finetune_pricer import MadeUpCatalogue, Sweep
        >>> from openai import OpenAI
        >>> train, _, test = MadeUpCatalogue().splits(train=300, test=20)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     sweep = Sweep(
        ...         clients=OpenAI(api_key="sk-..."),
        ...         train=train,
        ...         test=test,
        ...         folder=folder,
        ...         sizes=[100, 300],
        ...         models=["gpt-4.1-mini-2025-04-14"],
        ...         cost_of=lambda file, trial: file.examples * 0.0002,
        ...         budget=1.00,
        ...     )
        ...     print(sweep.plan())  # and sweep.run() would train and evaluate
        | job | to pay |
        | --- | --- |
        | gpt-4.1-mini-2025-04-14, 100 examples (the service's own) | $0.0258 |
        | gpt-4.1-mini-2025-04-14, 300 examples (the service's own) | $0.0658 |
        <BLANKLINE>
        to pay in all: $0.0917 of a budget of $1.00
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

    def __post_init__(self) -> None:
        self._require_kinds()
        if not self.trials():
            raise DataError("a sweep over an empty list has no jobs; leave the parameter out instead")
        for size in self.sizes:
            count = read_whole(size)
            if count is None or not 1 <= count <= len(self.train):
                raise DataError(
                    f"cannot train on {size!r} of {len(self.train):,} items; choose a size that fits"
                )
        for name in ("sizes", "epochs", "batch_sizes", "learning_rate_multipliers"):
            object.__setattr__(self, name, tuple(map(to_plain, getattr(self, name))))
        if self.budget is not None:
            object.__setattr__(self, "budget", require_amount(self.budget))

    def _require_kinds(self) -> None:
        for client in self.clients.values() if isinstance(self.clients, Mapping) else [self.clients]:
            require_client(client)
        for name, items in (("train", self.train), ("test", self.test), ("validation", self.validation)):
            if items is not None or name != "validation":
                require_set(items, name)
        require_path("folder", self.folder)
        self._require_lists()
        if self.cost_of is not None:
            require_function("cost_of", self.cost_of, "a function of a training file and a trial")
        require_number("budget", self.budget, low=0, or_none=True)
        require_kind("evaluator", self.evaluator, Evaluator, "an Evaluator")
        require_whole("seed", self.seed, low=0)

    def _require_lists(self) -> None:
        lists = ("sizes", "models", "epochs", "batch_sizes", "learning_rate_multipliers", "formatters")
        for name in lists:
            require_many(name, getattr(self, name), "a list")
        for size in self.sizes:
            require_whole("a size", size)
        for model in self.models:
            require_text("a model", model)
        for count in (*self.epochs, *self.batch_sizes):
            require_whole("one of epochs and batch_sizes", count, low=1, or_none=True)
        for factor in self.learning_rate_multipliers:
            require_number("a learning rate multiplier", factor, above=0, or_none=True)
        for formatter in self.formatters:
            require_formatter(formatter, "a formatter")

    def trials(self) -> tuple[Trial, ...]:
        """Return every combination, the smallest sizes first."""
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
        """Write the training files, and return what would run and what it costs; no service is asked.

        Raises:
            FileAccessError: The folder cannot be written.
            InvalidItem: An item has no price.
        """
        jobs = tuple(map(self._plan, self.trials()))
        return SweepPlan(jobs=jobs, budget=self.budget, spent=self._ledger.total())

    def run(self, *, sleep: Callable[[float], Any] = time.sleep) -> SweepResult:
        """Run the jobs that are not done yet, and return all outcomes, also those of jobs that failed.

        Args:
            sleep: How to pause between questions to the service.

        Raises:
            DataError: What is still to run costs more than is left of the budget, or nobody knows what it
                costs; no service was asked.
            OverBudget: Questions have cost more than planned; what was answered is kept, and with a larger
                budget the sweep goes on.
            ServiceError: A service refuses or does not answer; run again to go on. Where a request for a job
                was lost for good, ask for it with `FineTuneJob.create(..., again=True)`, and run again.
        """
        plan = self.plan()
        self._require_affordable(plan)
        return SweepResult(outcomes=tuple(self._run(job, sleep) for job in plan.jobs))

    def _require_affordable(self, plan: SweepPlan) -> None:
        if self.budget is None:
            return
        if plan.dollars is None:
            trial = next(one.trial for one in plan.jobs if one.to_pay is None)
            why = "cost_of returned None" if self.cost_of else self._why_cost_is_unknown(trial)
            raise DataError(f"a budget needs prices, and nobody knows what {trial.name} costs: {why}")
        training = sum(one.dollars or 0.0 for one in plan.jobs if not (one.done or one.bought))
        for cost, what in ((training, ""), (plan.dollars, " with their questions")):
            if cost and cost + plan.spent > self.budget + 1e-9:
                spent = f" and {format_dollars(plan.spent, 2)} are spent" if plan.spent else ""
                raise DataError(
                    f"the jobs that are still to run cost {format_dollars(cost, 2)}{what}{spent}, above the "
                    f"budget of {format_dollars(self.budget, 2)}; see plan() and take something out"
                )
        unknown = [one.trial for one in plan.jobs if one.questions is None and not one.done]
        if unknown:
            _log.warning(
                "what asking %r costs is not known, and is not in the budget; hand in "
                "evaluator=Evaluator(dollars_per_million=(<asked>, <answered>))",
                unknown[0].model_and_client,
            )

    @property
    def _clients(self) -> Mapping[str, OpenAI]:
        return self.clients if isinstance(self.clients, Mapping) else {"": self.clients}

    def _plan(self, trial: Trial) -> PlannedJob:
        cost_of = self.cost_of or self._estimate
        cost = cost_of(self._write_training(trial), trial)
        self._note_earlier(trial, cost)
        done = self._path(trial, "evaluation.json").exists()
        return PlannedJob(
            trial=trial,
            dollars=cost,
            done=done,
            bought=self._ledger.has_job(self._name(trial)),
            questions=None if done else self._most_for_questions(trial),
        )

    def _note_earlier(self, trial: Trial, cost: float | None) -> None:
        """Note what an earlier run has bought and did not come to note."""
        job = self._read_note(trial)
        if job is not None:
            self._ledger.complete_job(self._name(trial), job, cost or 0.0)
            self._note_questions(trial, job)

    def _note_questions(self, trial: Trial, job: str) -> float | None:
        """Note what was paid for answers by now, and return it; None where no price is known."""
        pricing, answers = self._question_pricing(trial), self._path(trial, "answers.sqlite")
        if pricing is None:
            return None
        dollars = 0.0
        if answers.exists():
            with AnswerStore(answers) as store:
                dollars = Budget(0.0, trial.model, pricing).price(store.usage())
        self._ledger.note_questions(self._name(trial), job, dollars)
        return dollars

    def _question_pricing(self, trial: Trial) -> TokenPricing | None:
        """Return what asking costs; None where nobody knows."""
        if (handed_in := self.evaluator.dollars_per_million) is not None:
            return TokenPricing(input=handed_in[0], output=handed_in[1])
        known = find_pricing(self._provider_name(trial), trial.model)
        return known if known and known.input is not None and known.output is not None else None

    def _most_for_questions(self, trial: Trial) -> float | None:
        pricing = self._question_pricing(trial)
        if pricing is None:
            return None
        asked = Predictor(
            self._clients[trial.client], trial.model, formatter=trial.formatter, budget=0.0, pricing=pricing
        )
        return asked.most_for(self.evaluator.draw(self.test))

    def _estimate(self, file: TrainingFile, trial: Trial) -> float | None:
        pricing = find_pricing(self._provider_name(trial), trial.model)
        if pricing is None or pricing.train is None:
            return None
        if pricing.train == 0:  # whatever the number of epochs; no token needs to be counted
            return 0.0
        if trial.epochs is None:
            return None
        validation = self._write_validation(trial) if pricing.bills_validation else None
        return estimate_cost(
            file, model=trial.model, epochs=trial.epochs, validation=validation, price=pricing
        ).training

    def _why_cost_is_unknown(self, trial: Trial) -> str:
        provider = self._provider_name(trial)
        pricing = find_pricing(provider, trial.model)
        if pricing is not None and pricing.train is not None:
            return "its service chooses the epochs; set epochs="
        return (
            f"no price of {trial.model!r} at {provider!r} is known here; hand in "
            "cost_of=lambda file, trial: <dollars>"
        )

    def _provider_name(self, trial: Trial) -> str:
        return provider_of(self._clients[trial.client]).name

    def _run(self, job: PlannedJob, sleep: Callable[[float], Any]) -> Outcome:
        trial, path = job.trial, self._path(job.trial, "evaluation.json")
        if job.done:
            return self._to_outcome(job, Evaluation.load(path))
        bought = self._buy(job)
        try:
            evaluation = self._evaluate(trial, bought, sleep)
        except (JobFailed, JobCancelled, EvaluationError) as error:
            # The cause says it without the answers, which lie in the folder.
            why = error.__cause__ if isinstance(error.__cause__, EvaluationError) else error
            problem = f"{why} (remove {str(path.parent)!r} to train it anew)"
            return replace(self._to_outcome(job, None), problem=problem)
        finally:
            self._note_questions(trial, bought.id)
        evaluation.save(path)
        return self._to_outcome(job, evaluation)

    def _to_outcome(self, job: PlannedJob, evaluation: Evaluation | None) -> Outcome:
        bought = self._read_note(job.trial)
        questions = None if bought is None else self._note_questions(job.trial, bought)
        dollars = None if job.dollars is None else job.dollars + (questions or 0.0)
        return Outcome(trial=job.trial, evaluation=evaluation, dollars=dollars, questions=questions)

    def _evaluate(self, trial: Trial, job: FineTuneJob, sleep: Callable[[float], Any]) -> Evaluation:
        job.wait(sleep=sleep)
        pricing = self._question_pricing(trial)
        left = None
        if self.budget is not None and pricing is not None:
            left = max(0.0, self.budget - self._ledger.total())
        predictor = Predictor(
            self._clients[trial.client],
            job.fine_tuned_model,
            formatter=trial.formatter,
            store=self._path(trial, "answers.sqlite"),
            budget=left,
            pricing=pricing,
        )
        try:
            return self.evaluator.evaluate(predictor, self.test, name=trial.name)
        finally:
            predictor.require_budget_left()  # half an evaluation is none

    def _buy(self, planned: PlannedJob) -> FineTuneJob:
        """Create the trial's job, or attach to the one that an earlier run created."""
        trial = planned.trial
        client, name = self._clients[trial.client], self._name(trial)
        if (known := self._read_note(trial)) is not None:
            return FineTuneJob.attach(client, known)
        self._ledger.begin_job(name, planned.dollars or 0.0)
        try:
            job = FineTuneJob.create(
                client,
                self._write_training(trial),
                validation=self._write_validation(trial),
                model=trial.model,
                epochs=trial.epochs,
                batch_size=trial.batch_size,
                learning_rate_multiplier=trial.learning_rate_multiplier,
                seed=self.seed,
            )
        except (AccessDenied, DataError, ModelRetired, NotFound, RequestRejected):
            self._ledger.forget_job(name)  # refused: nothing was bought
            raise
        with replacing(self._path(trial, "job.json")) as file:
            file.write(json.dumps({"job": job.id, "trial": trial.name}).encode())
        self._ledger.complete_job(name, job.id, planned.dollars or 0.0)
        return job

    def _read_note(self, trial: Trial) -> str | None:
        """Return the id of the job that an earlier run noted; None where there is none that can be read."""
        note = self._path(trial, "job.json")
        if not note.exists():
            return None
        try:
            found = json.loads(note.read_bytes())
        except ValueError:
            found = None
        job = found.get("job") if isinstance(found, dict) else None
        if not isinstance(job, str) or not job:
            # Asked for as if it were new: the journal and the service know it, and nothing is bought twice.
            _log.warning("%r cannot be read; its job is looked for at the service", str(note))
            return None
        return job

    @cached_property
    def _ledger(self) -> Ledger:
        return Ledger(Path(self.folder))

    def _name(self, trial: Trial) -> str:
        return self._path(trial, "").name

    def _write_training(self, trial: Trial) -> TrainingFile:
        return JsonlWriter(trial.formatter).write(self.train[: trial.size], self._path(trial, "train.jsonl"))

    def _write_validation(self, trial: Trial) -> TrainingFile | None:
        if self.validation is None:
            return None
        return JsonlWriter(trial.formatter).write(self.validation, self._path(trial, "validation.jsonl"))

    def _path(self, trial: Trial, name: str) -> Path:
        # The items are part of the name: with other items the same folder holds another sweep.
        settings = asdict(trial) | {"formatter": trial.formatter.fingerprint, "seed": self.seed}
        identity = json.dumps(
            [settings, self._digests[trial.size, tuple(trial.formatter.fields)]], sort_keys=True
        )
        digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
        return Path(self.folder) / f"{trial.size}-{digest}" / name

    @cached_property
    def _digests(self) -> dict[tuple[int, tuple[str, ...]], list[str]]:
        """Hashes of the training, test and validation items of each size, as each formatter shows them."""
        digests = {}
        for fields in {tuple(formatter.fields) for formatter in self.formatters}:
            others = [_hash_items(items, fields) for items in (self.test, self.validation or ())]
            for size in self.sizes:
                digests[size, fields] = [_hash_items(self.train[:size], fields), *others]
        return digests


def _hash_items(items: Iterable[Item], fields: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for row, item in enumerate(items, start=1):
        digest.update(f"{item.id}\x1f{item.price}\x1f{require_item_text(item, fields, row)}\x1e".encode())
    return digest.hexdigest()


def _format_cost(cost: float | None) -> str:
    # Pilots cost cents: two decimals would make one as dear as the other.
    return format_dollars(cost, 4)


def _to_cells(one: Outcome, *, with_filled: bool) -> tuple[str, ...]:
    trial, evaluation = one.trial, one.evaluation
    head = (f"{trial.size:,}", trial.model_and_client, trial.settings)
    all_items = ("",) if with_filled else ()
    if evaluation is None:
        return (*head, f"none: {one.problem}", "", *all_items, "", "", _format_cost(one.dollars))
    if with_filled and evaluation.mae_filled is not None:
        all_items = (format_metric(evaluation.mae_filled, "$", evaluation.currency),)
    return (
        *head,
        format_money(evaluation.mae.value, evaluation.currency, 2),
        format_interval(evaluation.mae, "$", evaluation.currency),
        *all_items,
        f"{evaluation.n:,}",
        format_unscored(evaluation),
        _format_cost(one.dollars),
    )
