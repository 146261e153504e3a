"""`finetune-pricer export`."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import click

from .._files import replacing
from ..errors import DataError, FileAccessError, MissingFile, NotFound
from ..predict import Predictor
from ..tune import FineTuneJob
from .command import Answer, Command
from .options import FOLDER, Service, service_options

if TYPE_CHECKING:
    from pathlib import Path

_WEIGHTS = "adapter_model.safetensors"
_FACTS = "pricer.json"


@click.command(cls=Command)
@click.argument("place", metavar="FOLDER", type=FOLDER)
@click.option(
    "--to",
    "what",
    type=click.Choice(["adapter", "ray"]),
    required=True,
    help="The adapter's files alone, or also a program that prices Parquet files with it on Ray Data.",
)
@click.option("--job", "job_id", required=True, help="The job that trained it; `jobs list` shows them.")
@click.option(
    "--pricer",
    type=FOLDER,
    help="For ray: a saved pricer, in whose words texts are then asked; else files must hold whole messages.",
)
@click.option("--base", help="For ray: where the base model is on the other machine, as in `serve --base`.")
@service_options
def export(
    *, place: Path, what: str, job_id: str, pricer: Path | None, base: str | None, service: Service
) -> Answer:
    """Take a trained adapter elsewhere, alone or with a program for bulk prices.

    The service is a local server: give the --dir of one that does not run, or the --base-url of one that
    does. FOLDER gets the adapter as peft and vLLM load it, with its tokenizer and chat template; for ray it
    gets predict.py and its settings, and the adapter in a folder below.
    """
    if place.exists() and any(place.iterdir()):
        raise FileAccessError(f"{str(place)!r} holds something already; name a new folder")
    job = _find_job(service, job_id)
    adapter = place / "adapter" if what == "ray" else place
    paths = job.download(adapter)
    if _WEIGHTS not in {path.name for path in paths} or not (adapter / _FACTS).is_file():
        shutil.rmtree(adapter)
        raise NotFound(f"job {job_id!r} trained no open language model, so it has no adapter to be exported")
    lines = [f"{len(paths):,} files of the adapter in {adapter}"]
    content: dict[str, Any] = {"folder": str(place), "adapter": str(adapter), "model": job.fine_tuned_model}
    if what == "ray":
        _write_program(job, place, base, pricer)
        content["program"] = str(place / "predict.py")
        lines.append(f"python {place / 'predict.py'} PRODUCTS/ PRICES/ --engine transformers --actors 2")
    return Answer("\n".join(lines), content)


def _find_job(service: Service, job_id: str) -> FineTuneJob:
    if service.base_url is not None:
        # A server that is asked by its address is one of ours: it alone trains what is exported here.
        return FineTuneJob.attach(service.connect(), job_id, provider="local")
    if service.folder is not None:
        if not service.folder.is_dir():  # a server would begin a new one there
            raise MissingFile(f"there is no folder {str(service.folder)!r}; name the --dir of a server")
        service = service.at(service.folder)
    return FineTuneJob.attach(service.connect(), job_id)


def _write_program(job: FineTuneJob, folder: Path, base: str | None, pricer: Path | None) -> None:
    """Write the program and its settings."""
    weights = (folder / "adapter" / _WEIGHTS).read_bytes()
    prompt = None if pricer is None else _find_prompt(job, pricer)
    settings = {"base": base, "adapter": hashlib.sha256(weights).hexdigest(), "prompt": prompt}
    program = files("finetune_pricer.cli").joinpath("templates", "predict.py").read_bytes()
    for name, content in (
        ("settings.json", json.dumps(settings, indent=2).encode()),
        ("predict.py", program),
    ):
        with replacing(folder / name) as file:
            file.write(content)


def _find_prompt(job: FineTuneJob, pricer: Path) -> dict[str, Any]:
    """Return the messages before a prompt's last one, and the last one's words around an item's text."""
    formatter = Predictor.load(pricer, job.client).formatter
    job.predictor(formatter)  # warns where another one wrote the training file
    if formatter.neighbors is not None:
        raise DataError(
            "this pricer shows a model the neighbors of each item, which stand in no text; export without "
            "--pricer, and give predict.py the messages that its formatter writes"
        )
    mark = uuid.uuid4().hex
    *messages, asked = formatter.prompt(mark)
    before, _, after = asked["content"].partition(mark)
    return {"messages": messages, "before": before, "after": after}
