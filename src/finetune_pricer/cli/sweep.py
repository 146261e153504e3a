"""`finetune-pricer sweep`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..evaluate import Evaluator
from ..evaluate import Sweep as SweepOfJobs
from .command import Answer, Command, note_way_on, say
from .consent import require_consent
from .options import FILE, FOLDER, Reading, Service, read_list, reading_options, spending_options

if TYPE_CHECKING:
    from pathlib import Path

    from ..evaluate import Outcome


@click.command(cls=Command)
@click.argument("train", type=FILE)
@click.option("--test", type=FILE, required=True, help="Products that every model is judged by.")
@click.option("--validation", type=FILE, help="Products whose loss is measured meanwhile.")
@click.option(
    "--out", type=FOLDER, required=True, help="Keeps jobs, answers and evaluations; the same folder goes on."
)
@click.option("--provider", default="local", show_default=True, help="Which service trains and answers.")
@click.option("--base-url", help="Any service of this protocol, in place of --provider.")
@click.option(
    "--models", callback=read_list(str), required=True, help="Base models, with commas between them."
)
@click.option(
    "--sizes", callback=read_list(int), required=True, help="Training examples, such as 100,300,1000."
)
@click.option("--epochs", callback=read_list(int), help="Passes over the examples, such as 1,3.")
@click.option("--batch-sizes", callback=read_list(int), help="Examples per step.")
@click.option("--rates", callback=read_list(float), help="Factors on the learning rate.")
@click.option("--size", type=click.IntRange(min=1), help="How many of the test products are asked about.")
@click.option("--seed", type=click.IntRange(min=0), default=42, show_default=True, help="Of every job.")
@click.option("--plan", is_flag=True, help="Show what would run and what it costs, and buy nothing.")
@reading_options
@spending_options
def sweep(
    *,
    train: Path,
    test: Path,
    validation: Path | None,
    out: Path,
    provider: str,
    base_url: str | None,
    models: tuple[str, ...],
    sizes: tuple[int, ...],
    epochs: tuple[int, ...] | None,
    batch_sizes: tuple[int, ...] | None,
    rates: tuple[float, ...] | None,
    size: int | None,
    seed: int,
    plan: bool,
    reading: Reading,
    yes: bool,
    budget: float | None,
) -> Answer:
    """Train and evaluate every combination of settings, under one budget.

    TRAIN holds products with prices. Everything is kept in --out: a sweep that was killed goes on where it
    stopped, and a finished one costs nothing to run again.
    """
    service = Service(
        provider=None if base_url else provider,
        base_url=base_url,
        folder=out / "server" if not base_url and provider == "local" else None,
    )
    items = reading.read_known(train)
    jobs = SweepOfJobs(
        clients=service.connect(),
        train=items,
        test=reading.read_known(test),
        validation=None if validation is None else reading.read_known(validation),
        folder=out,
        sizes=sizes,
        models=models,
        epochs=epochs or (None,),
        batch_sizes=batch_sizes or (None,),
        learning_rate_multipliers=rates or (None,),
        budget=budget,
        evaluator=Evaluator(baselines=items, size=size),
        seed=seed,
    )
    planned = jobs.plan()
    content: dict[str, Any] = {
        "to_pay": planned.dollars,
        "spent": planned.spent,
        "jobs": [{"name": one.trial.name, "to_pay": one.to_pay, "done": one.done} for one in planned.jobs],
    }
    if plan:
        return Answer(str(planned), content)
    say(str(planned))
    require_consent({"the jobs that are not done": planned.dollars}, yes=yes, budget=budget)
    note_way_on("The same command goes on where it stopped.")
    result = jobs.run()
    return Answer(str(result), content | {"outcomes": [_describe(one) for one in result.outcomes]})


def _describe(one: Outcome) -> dict[str, Any]:
    evaluation = one.evaluation
    return {
        "name": one.trial.name,
        "dollars": one.dollars,
        "problem": one.problem,
        "mae": None if evaluation is None else evaluation.mae,
        "unscored": None if evaluation is None else evaluation.unscored,
    }
