"""The numbers of jobs and evaluations reach the trackers that people use, offline and each once."""

import asyncio
import math
import os
import re
import struct
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finetune_pricer import Evaluation, Evaluator, FineTuneJob, JsonlWriter
from finetune_pricer.aio import AsyncFineTuneJob
from finetune_pricer.errors import DataError, WrongArgument
from finetune_pricer.integrations import Tracker
from finetune_pricer.testing import CannedService
from finetune_pricer.tune import JobEvent, JobMetric, JobMetrics
from helpers import priced

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "track-experiments.md"
SNIPPETS = re.findall(r"^```py\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


class Book:
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[dict[str, float], int | None]] = []

    def __call__(self, numbers: Mapping[str, float], step: int | None) -> None:
        self.lines.append((dict(numbers), step))


@pytest.fixture
def evaluation() -> Evaluation:
    return Evaluator().score(priced(4), [12.0, None, 13.0, 11.5], name="guesses")


METRICS = JobMetrics(
    [JobMetric(step=1, total_steps=2, train_loss=2.0), JobMetric(step=2, total_steps=2, train_loss=1.5)]
)


def event(step: int, loss: float) -> JobEvent:
    return JobEvent.read({"id": f"e-{step}", "type": "metrics", "data": {"step": step, "train_loss": loss}})


def test_the_numbers_of_an_evaluation_are_a_flat_dict_of_floats(evaluation: Evaluation) -> None:
    numbers = evaluation.to_dict()
    assert numbers["mae"] == evaluation.mae.value
    assert (numbers["mae_low"], numbers["mae_high"]) == (evaluation.mae.low, evaluation.mae.high)
    assert (numbers["n"], numbers["unscored"]) == (3.0, 1.0)
    assert evaluation.metrics.keys() <= numbers.keys()
    assert {type(value) for value in numbers.values()} == {float}
    assert "dollars" not in numbers


def test_what_is_unknown_or_infinite_is_left_out_of_the_dict(evaluation: Evaluation) -> None:
    alone = replace(evaluation.mae, low=math.nan, high=math.inf)
    assert not {"mae_low", "mae_high"} & replace(evaluation, mae=alone, dollars=0.25).to_dict().keys()
    assert replace(evaluation, dollars=0.25).to_dict()["dollars"] == 0.25
    assert JobMetric(step=3, train_loss=1.0).to_dict() == {"step": 3.0, "train_loss": 1.0}


def test_events_are_written_at_their_steps_and_sentences_are_passed_over() -> None:
    book = Book()
    tracker = Tracker(book)
    for each in (JobEvent(id="e-0", message="Created the job"), event(1, 2.0), event(2, 1.5)):
        tracker(each)
    assert book.lines == [({"job/train_loss": 2.0}, 1), ({"job/train_loss": 1.5}, 2)]


def test_a_number_is_written_once_and_what_events_lacked_is_added() -> None:
    book = Book()
    tracker = Tracker(book)
    tracker(event(1, 2.0))
    full = replace(METRICS[1], full_valid_loss=1.7)
    tracker(JobMetrics([METRICS[0], full]))
    tracker(JobMetrics([METRICS[0], full]))
    assert book.lines[1:] == [
        ({"job/total_steps": 2.0}, 1),
        ({"job/total_steps": 2.0, "job/train_loss": 1.5, "job/full_valid_loss": 1.7}, 2),
    ]


def test_numbers_of_another_job_at_the_same_step_are_not_lost() -> None:
    book = Book()
    tracker = Tracker(book)
    tracker(event(1, 2.0))
    tracker(event(1, 3.0))
    tracker(event(1, 2.0), name="first")
    assert [line for line, _ in book.lines] == [
        {"job/train_loss": 2.0},
        {"job/train_loss": 3.0},
        {"first/train_loss": 2.0},
    ]


def test_two_evaluations_are_told_apart_by_a_name_and_a_step(evaluation: Evaluation) -> None:
    book = Book()
    Tracker(book)(evaluation, name="validation", step=40)
    ((numbers, step),) = book.lines
    assert step == 40
    assert numbers["validation/mae"] == evaluation.mae.value


def test_jobs_of_both_doors_are_followed() -> None:
    training = JsonlWriter().write(priced(20), "train.jsonl")
    book, later = Book(), Book()

    async def follow(options: dict[str, Any], job_id: str) -> None:
        from openai import AsyncOpenAI

        async with AsyncOpenAI(**options) as client:
            job = await AsyncFineTuneJob.attach(client, job_id)
            tracker = Tracker(later)
            async for each in job.stream_events():
                tracker(each)
            tracker(job)

    with CannedService() as service, service.client() as client:
        job = FineTuneJob.create(client, training, model="m")
        tracker = Tracker(book)
        for each in job.stream_events():
            tracker(each)
        tracker(job)
        tracker(job.metrics())
        asyncio.run(follow(service.client_options, job.id))
    assert book.lines == later.lines
    assert book.lines[0] == ({"job/total_steps": 1.0, "job/train_loss": 1.0}, 1)
    assert book.lines[1][0]["job/trained_tokens"] > 0


@pytest.mark.parametrize("target", [None, "wandb", 7, object(), Book, os])
def test_what_is_no_tracker_is_refused(target: Any) -> None:
    with pytest.raises(WrongArgument, match="target must be a run of Weights & Biases or MLflow"):
        Tracker(target)


@pytest.mark.parametrize("found", [None, 7, "MAE", {"mae": 1.0}, [1.0]])
def test_what_has_no_numbers_is_refused(found: Any) -> None:
    with pytest.raises(WrongArgument, match="an event, a job, its metrics or an evaluation"):
        Tracker(Book())(found)


def test_a_name_and_a_step_are_checked(evaluation: Evaluation) -> None:
    tracker = Tracker(Book())
    wrong: list[dict[str, Any]] = [{"name": ""}, {"name": 7}, {"step": -1}, {"step": 0.5}]
    for options in wrong:
        with pytest.raises(DataError):
            tracker(evaluation, **options)


# The real libraries, where they are installed. `make trackers` installs them.


@pytest.fixture
def job() -> Any:
    training = JsonlWriter().write(priced(20), "train.jsonl")
    with CannedService() as service, service.client() as client:
        yield FineTuneJob.create(client, training, model="m", epochs=2, metadata={"team": "blue"}).wait()


def run_snippet(library: str, job: FineTuneJob, evaluation: Evaluation) -> None:
    """Run the lines of the page that show a library."""
    (code,) = (each for each in SNIPPETS if library in each)
    exec(code, {"Tracker": Tracker, "job": job, "evaluation": evaluation})


@pytest.mark.filterwarnings("default")
def test_a_run_of_weights_and_biases_gets_curves_and_facts(
    job: FineTuneJob, evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_DIR", str(Path.cwd()))
    monkeypatch.setenv("WANDB_SILENT", "true")
    with wandb.init(project="prices", mode="offline") as run:
        tracker = Tracker(run)
        tracker(event(7, 1.25), name="train")
        tracker(event(3, 2.5), name="train")  # an earlier step is no step back
        assert run.summary["train/step"] == 3
        assert run.summary["train/train_loss"] == 2.5
        tracker(job)
        tracker(job)  # told again, which must be no error
        assert run.config["job/metadata/team"] == "blue"
        assert run.config["job/hyperparameters/n_epochs"] == 2
        tracker(evaluation)
        assert run.summary["evaluation/mae"] == evaluation.mae.value
    run_snippet("wandb", job, evaluation)
    assert len(list(Path.cwd().rglob("*.wandb"))) == 2


@pytest.mark.filterwarnings("default")
def test_a_run_of_mlflow_gets_curves_and_parameters(
    job: FineTuneJob, evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(Path("mlruns").resolve().as_uri())
    run_snippet("mlflow", job, evaluation)
    run = mlflow.last_active_run()
    tracker = Tracker(run)  # a run that is no longer active
    tracker(event(7, 1.25), name="train")
    tracker(event(8, 1.0), name="train")
    tracker(job)
    client = mlflow.MlflowClient()
    curve = client.get_metric_history(run.info.run_id, "train/train_loss")
    assert [(each.step, each.value) for each in curve] == [(7, 1.25), (8, 1.0)]
    data = client.get_run(run.info.run_id).data
    assert data.metrics["evaluation/mae"] == evaluation.mae.value
    assert data.params["job/metadata/team"] == "blue"
    with pytest.raises(WrongArgument, match="start_run"):
        Tracker(mlflow)


def test_a_writer_of_tensorboard_gets_curves_and_a_text(job: FineTuneJob, evaluation: Evaluation) -> None:
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    run_snippet("tensorboardX", job, evaluation)
    (file,) = Path("runs/first").glob("events.*")
    content, place = file.read_bytes(), 0
    values: dict[str, Any] = {}
    while place < len(content):  # each record: its length, a checksum of that, the record, a checksum
        (length,) = struct.unpack_from("<Q", content, place)
        record = Event.FromString(content[place + 12 : place + 12 + length])
        values |= {value.tag: (value, record.step) for value in record.summary.value}
        place += 16 + length
    loss, step = values["job/train_loss"]
    assert (loss.simple_value, step) == (1.0, 1)
    assert values["evaluation/mae"][0].simple_value == pytest.approx(evaluation.mae.value)
    assert any(tag.startswith("job/text_summary") for tag in values)


def test_the_page_shows_three_trackers_and_none_is_imported_for_the_others() -> None:
    assert [each.split()[1] for each in SNIPPETS] == ["wandb", "mlflow", "tensorboardX"]
    code = "import sys; from finetune_pricer.integrations import Tracker; Tracker(print)"
    check = f"{code}; assert not {{'mlflow', 'wandb', 'sklearn'}} & sys.modules.keys()"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
