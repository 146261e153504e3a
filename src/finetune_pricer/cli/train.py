"""`finetune-pricer train`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import click

from ..chat import ChatFormatter
from ..errors import DataError, NotSupported
from ..evaluate import Evaluator, fit_baselines
from ..predict import Ensemble
from ..prepare import JsonlWriter
from ..providers import provider_of
from ..providers.pricing import find_pricing
from ..tune import CostEstimate, FineTuneJob, estimate_cost
from .audit import look_at
from .command import Answer, Command, note_way_on, say
from .consent import require_consent
from .evaluate import describe
from .jobs import describe_job
from .options import FILE, FOLDER, Reading, Service, reading_options, spending_options
from .saved import ANSWERS, EVALUATION, REPORT, SERVER

if TYPE_CHECKING:
    from pathlib import Path

    from openai import OpenAI

    from ..evaluate import Baseline
    from ..items import ItemDataset
    from ..predict import Predictor
    from ..prepare import TrainingFile
    from .saved import Pricer

    Method = Literal["model", "baseline", "best"]

_FEWEST = 70  # so that each part gets its share
_FEWEST_OF_A_PART = 10  # for price ranges, and for the weights of an ensemble
_LOCAL_MODEL = "pricer-base"


class Parts(NamedTuple):
    """The products whose price is known, divided: nothing is judged on what it was learned or chosen on."""

    train: ItemDataset
    chosen_on: ItemDataset
    calibrated_on: ItemDataset
    test: ItemDataset

    @property
    def asked(self) -> int:
        """How many products a model is asked about."""
        return len(self.chosen_on) + len(self.calibrated_on) + len(self.test)


class Plan(NamedTuple):
    """What is to be trained where."""

    client: OpenAI
    formatter: ChatFormatter
    training: TrainingFile
    validation: TrainingFile
    epochs: int | None
    model: str
    training_cost: float | None
    """Dollars; None where nobody knows."""
    questions_cost: float | None
    """Dollars for all questions that training is followed by."""

    @property
    def is_free(self) -> bool:
        """Whether it surely costs nothing."""
        return self.training_cost == 0 and self.questions_cost == 0


@click.command(cls=Command)
@click.argument("file", type=FILE)
@click.option("--out", type=FOLDER, required=True, help="Keeps the pricer and its report.")
@click.option(
    "--method",
    type=click.Choice(["model", "baseline", "best"]),
    default="best",
    show_default=True,
    help="A tuned model, the best method without one, or what is best of all of them together.",
)
@click.option("--provider", default="local", show_default=True, help="Which service trains the model.")
@click.option("--base-url", help="Any service of this protocol, in place of --provider.")
@click.option("--model", help=f"The base model; {_LOCAL_MODEL} on the local server.")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the products.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=42, show_default=True, help="Of all that is drawn."
)
@reading_options
@spending_options
def train(
    *,
    file: Path,
    out: Path,
    method: Method,
    provider: str,
    base_url: str | None,
    model: str | None,
    epochs: int | None,
    seed: int,
    reading: Reading,
    yes: bool,
    budget: float | None,
) -> Answer:
    """Learn prices from a file of products, and keep the pricer in a folder.

    Half of the products of FILE that have a price are learned from; on the others the method is chosen, the
    price ranges are learned, and in the end it is found out how wrong the prices are. `price` prices further
    products. --out then holds the pricer and report.html.
    """
    service = _find_service(provider, base_url, out)
    if method != "baseline" and model is None:
        if not service.is_local:
            raise click.UsageError("--model: name a base model of that service; `providers` names some")
        model = _LOCAL_MODEL
    items = reading.read(file)
    parts = divide(items, seed)
    plan = None
    if method != "baseline":
        plan = _plan(service, parts, out, model or "", epochs)
        costs = {"training": plan.training_cost, f"{parts.asked:,} questions": plan.questions_cost}
        require_consent(costs, yes=yes, budget=budget)
    note_way_on("The same command goes on: a job that was asked for is found again, and paid for once.")
    job = None if plan is None else _train(plan, seed, budget)
    pricer = _learn(method, parts, plan, job, out=out, budget=budget)
    evaluation = Evaluator(baselines=parts.train, seed=seed).evaluate(pricer, parts.test)
    pricer.save(out)
    reading.save(out)
    found = describe(evaluation, items, report=out / REPORT, save=out / EVALUATION)
    lines = [str(pricer)] if isinstance(pricer, Ensemble) else []
    lines += [found.text, f"pricer: {out}", f"next: finetune-pricer price {file} priced.csv --pricer {out}"]
    content = {
        "pricer": str(out),
        "method": method,
        "products": {name: len(part) for name, part in parts._asdict().items()} | {"read": len(items)},
        "job": None if job is None else describe_job(job),
        "evaluation": found.content,
        "report": found.content["report"],
    }
    return Answer("\n".join(lines), content)


def divide(items: ItemDataset, seed: int) -> Parts:
    """Divide the products whose price is known; near-duplicates stay together, and what leaks is left out."""
    known = items.filter(lambda item: item.price is not None)
    if len(known) < _FEWEST:
        raise DataError(
            f"{len(known):,} of {len(items):,} products have a price, and at least {_FEWEST} are needed to "
            "learn from, to choose by and to be judged on"
        )
    groups = look_at(known).groups()
    splits = known.split(validation=0.3, test=0.2, seed=seed, group=groups)
    parts, validation, test = look_at(*splits, quiet=True).clean()  # said above
    # The same product may stand there twice, at two prices: no ranges are learned where weights were.
    chosen_on, calibrated_on, _ = validation.split(
        validation=0.5, test=0, seed=seed, group=lambda item: item.text
    )
    if min(map(len, (parts, chosen_on, calibrated_on, test))) < _FEWEST_OF_A_PART:
        raise DataError(
            f"too few products are left once those that leak are taken out: {len(parts):,} to learn from, "
            f"{len(chosen_on):,} to choose by, {len(calibrated_on):,} for ranges, {len(test):,} to be judged "
            f"on, and each needs {_FEWEST_OF_A_PART}; `audit` names them"
        )
    say(
        f"{len(parts):,} products to learn from, {len(validation):,} to choose by and for ranges, "
        f"{len(test):,} to be judged on"
    )
    return Parts(parts, chosen_on, calibrated_on, test)


def _find_service(provider: str, base_url: str | None, out: Path) -> Service:
    service = Service(provider=None if base_url else provider, base_url=base_url)
    if service.is_local:
        return service.at(out / SERVER)
    if (out / SERVER).exists():
        raise DataError(f"{str(out)!r} holds the local server of another pricer; name another folder")
    return service


def _plan(service: Service, parts: Parts, out: Path, model: str, epochs: int | None) -> Plan:
    client = service.connect()
    provider = provider_of(client)
    if provider.serving.how != "at_once":
        raise NotSupported(
            f"a model that {provider.name!r} tunes must be deployed before it answers, which this command "
            "does not do; nothing was bought: train it from Python (job.deployed), or take --method baseline"
        )
    formatter = ChatFormatter(currency=parts.train.currency).for_base(model, provider)
    writer = JsonlWriter(formatter)
    training = writer.write(parts.train, out / "jsonl" / "train.jsonl")
    validation = writer.write(parts.chosen_on, out / "jsonl" / "validation.jsonl")

    plan = Plan(client, formatter, training, validation, epochs, model, 0.0, 0.0)
    pricing = find_pricing(provider.name, model)
    if pricing is not None and pricing.train == pricing.input == pricing.output == 0:
        return plan  # and no token is counted, for which a vocabulary may have to be fetched
    return _add_cost(plan, provider.name, parts.asked)


def _add_cost(plan: Plan, provider: str, asked: int) -> Plan:
    """Return a plan with its cost, and with the epochs that the cost stands on."""

    def estimate(passes: int) -> CostEstimate:
        return estimate_cost(
            plan.training, model=plan.model, epochs=passes, provider=provider, predictions=asked
        )

    cost, epochs = estimate(plan.epochs or 1), plan.epochs
    if cost.training and epochs is None:
        if (epochs := int(cost.recommended.get("epochs", 0))) == 0:
            raise click.UsageError("--epochs: say how many passes, so that the cost can be worked out")
        cost = estimate(epochs)
    return plan._replace(epochs=epochs, training_cost=cost.training, questions_cost=cost.chat)


def _train(plan: Plan, seed: int, budget: float | None) -> FineTuneJob:
    job = FineTuneJob.create(
        plan.client,
        plan.training,
        validation=plan.validation,
        model=plan.model,
        epochs=plan.epochs or "recommended",
        seed=seed,
        budget=None if plan.is_free else budget,
    )
    say(f"{job.id} trains {plan.model}")
    return job.wait()


def _learn(
    method: Method,
    parts: Parts,
    plan: Plan | None,
    job: FineTuneJob | None,
    *,
    out: Path,
    budget: float | None,
) -> Pricer:
    """Return the pricer of a method, with price ranges."""
    if plan is None or job is None:
        return _choose_free(parts).calibrate(parts.calibrated_on)
    predictor: Predictor = job.predictor(
        plan.formatter,
        store=None if plan.is_free else out / ANSWERS,
        budget=None if plan.is_free or budget is None else max(0.0, budget - (plan.training_cost or 0.0)),
    )
    if method == "model":
        return predictor.calibrate(parts.calibrated_on)
    ensemble = Ensemble([predictor, *fit_baselines(parts.train)]).fit(parts.chosen_on)
    return ensemble.calibrate(parts.calibrated_on)


def _choose_free(parts: Parts) -> Baseline:
    judge = Evaluator()
    return min(fit_baselines(parts.train), key=lambda one: judge.evaluate(one, parts.chosen_on).mae)
