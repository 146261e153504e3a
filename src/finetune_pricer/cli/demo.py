"""`finetune-pricer demo`."""

from __future__ import annotations

import runpy
from pathlib import Path

import click

from .command import Command

EXAMPLES = {
    "01_first_job.py": "The whole road once: items, a job, predictions, an evaluation, and advice.",
    "02_your_own_csv.py": "From your shop's export to prices, and a page on how wrong they are.",
    "03_is_it_worth_it.py": "Is more training data worth its price? A forecast, and what really came.",
    "04_another_provider.py": "One training file, one script, another provider.",
    "05_price_a_catalogue.py": "A whole catalogue: products without prices, from a CSV to a CSV.",
    "06_leaving_openai.py": "A service closes: take with you what is yours.",
    "07_neighbours_and_ensemble.py": "Several pricers as one, and what they are worth together.",
    "08_own_weights.py": "An open language model on this machine: trained, asked, weighed, and kept.",
    "09_fastapi_service.py": "A web service that prices, within a deadline, on bad days too.",
    "10_course_day_5.ipynb": "The course's notebook, cell by cell, and how sure its numbers are.",
}
"""The examples, and what each shows."""
_PLAIN = {"ignore_unknown_options": True, "allow_extra_args": True}


@click.command(cls=Command, with_json=False, context_settings=_PLAIN, add_help_option=False)
@click.option("--list", "lists", is_flag=True, help="Name all examples, and what each shows.")
@click.option(
    "--own-weights",
    is_flag=True,
    help="Walk it with an open language model, trained on this machine; needs the extra lora, and weights: "
    "--base PATH_OR_HUB_ID, by default a small one, fetched from the Hugging Face Hub.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def demo(*, lists: bool, own_weights: bool, arguments: tuple[str, ...]) -> None:
    """Walk the whole road once on the local server: no key, no network, no cost.

    Runs the first example; `finetune-pricer demo --help` lists its options, and `finetune-pricer demo
    --own-weights --help` those of the road with an open language model.
    """
    if lists:
        for name, shows in EXAMPLES.items():
            click.echo(f"{name:<30} {shows}")
        click.echo(
            "\nThey stand in the folder `examples` of the source; `finetune-pricer demo` runs the first, and "
            "`finetune-pricer demo --own-weights` the last."
        )
        return
    runpy.run_path(str(_find_example("own_weights" if own_weights else "first_job")))["main"](arguments)


def _find_example(name: str) -> Path:
    # The wheel carries the examples beside the package's files; a checkout has them in their own folder.
    here = Path(__file__)
    installed = here.parents[1] / f"_{name}.py"
    return installed if installed.exists() else next((here.parents[3] / "examples").glob(f"*_{name}.py"))
