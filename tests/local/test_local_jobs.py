from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import openai
import pytest

from local_helpers import (
    ask,
    endless,
    events,
    eventually,
    finished,
    jsonl,
    line,
    products,
    train,
    upload,
)

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

TEST = products(100, seed=99)


def test_a_finished_job_says_all_that_a_real_one_says(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    assert tuned.status == "succeeded"
    assert re.fullmatch(r"ft:pricer-base:local:shop:\w{8}", tuned.fine_tuned_model or "")
    assert tuned.error is None
    assert tuned.seed == 7
    assert tuned.metadata == {"team": "blue"}
    assert (tuned.finished_at or 0) >= tuned.created_at
    assert (tuned.trained_tokens or 0) > 300 * 20
    assert tuned.method is not None
    assert tuned.method.supervised is not None
    for chosen in (tuned.hyperparameters, tuned.method.supervised.hyperparameters):
        assert chosen is not None
        assert (chosen.n_epochs, chosen.batch_size, chosen.learning_rate_multiplier) == (20, 8, 1.0)


def test_its_events_tell_its_life_in_order(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    told = events(client, tuned.id)

    messages = [event.message for event in told if event.type == "message"]
    assert messages == [
        f"Created fine-tuning job: {tuned.id}",
        f"Validating training file: {tuned.training_file}",
        "Files validated, moving job to queued state",
        "Fine-tuning job started",
        f"New fine-tuned model created: {tuned.fine_tuned_model}",
        "The job has successfully completed",
    ]


def test_every_step_has_metrics_and_every_epoch_a_validation_loss(
    client: openai.OpenAI, tuned: FineTuningJob
) -> None:
    metrics: list[dict[str, Any]] = [
        dict(event.data)  # type: ignore[call-overload]
        for event in events(client, tuned.id)
        if event.type == "metrics"
    ]

    assert [step["step"] for step in metrics] == list(range(1, 20 * 38 + 1))
    assert all({"total_steps", "train_loss", "train_mean_token_accuracy"} <= step.keys() for step in metrics)
    assert (
        len([step for step in metrics if "valid_loss" in step and "valid_mean_token_accuracy" in step]) == 20
    )
    assert metrics[-1]["train_loss"] < 0.8 * metrics[0]["train_loss"]


def test_the_last_step_is_told_in_words_too(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    last = [event.message for event in events(client, tuned.id) if event.type == "metrics"][-1]

    assert re.fullmatch(r"Step 760/760: training loss=\d\.\d\d, validation loss=\d\.\d\d", last)


def test_the_result_file_holds_a_row_for_every_step(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    (file_id,) = tuned.result_files

    rows = list(csv.DictReader(client.files.content(file_id).text.splitlines()))

    assert client.files.retrieve(file_id).purpose == "fine-tune-results"
    assert len(rows) == 760
    assert float(rows[-1]["valid_loss"]) > 0
    assert rows[0]["valid_loss"] == ""


def test_the_tuned_model_prices_far_better_than_always_the_median(
    client: openai.OpenAI, tuned: FineTuningJob
) -> None:
    replies = [ask(client, tuned.fine_tuned_model, item.prompt) for item in TEST]

    assert all(re.fullmatch(r"\$\d+\.\d\d", reply) for reply in replies)
    error = np.mean([abs(float(reply[1:]) - i.price) for reply, i in zip(replies, TEST, strict=True)])
    median = np.median([item.price for item in products(300)])
    assert error < 0.5 * np.mean([abs(median - item.price) for item in TEST])


def test_the_same_seed_trains_the_same_model(client: openai.OpenAI) -> None:
    content = jsonl(products(60), "{:.4f}".format)

    models = [train(client, content, seed=seed).fine_tuned_model for seed in (3, 3, 4)]

    first, same, other = ([ask(client, model, item.prompt) for item in TEST[:5]] for model in models)
    assert first == same != other
    assert len(set(models)) == 3


def test_the_older_place_of_hyperparameters_counts_and_auto_is_a_word(client: openai.OpenAI) -> None:
    job = client.fine_tuning.jobs.create(
        model="pricer-base-mini",
        training_file=upload(client, jsonl(products(20))).id,
        hyperparameters={"n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": 0.5},
    )
    done = finished(client, job.id)

    assert job.hyperparameters.batch_size == "auto"
    assert (done.hyperparameters.n_epochs, done.hyperparameters.batch_size) == (2, 8)
    assert done.hyperparameters.learning_rate_multiplier == 0.5
    assert re.fullmatch(r"ft:pricer-base-mini:local::\w{8}", done.fine_tuned_model or "")
    assert done.seed >= 0


@pytest.mark.parametrize("param", ["training_file", "validation_file"])
def test_a_bad_line_fails_the_job_and_is_named(client: openai.OpenAI, param: str) -> None:
    good = jsonl(products(20))
    bad = b"\n".join([*good.splitlines()[:16], b'{"messages": "none"}', *good.splitlines()[16:]])
    files: dict[str, Any] = {"training_file": upload(client, good).id} | {param: upload(client, bad).id}

    job = finished(client, client.fine_tuning.jobs.create(model="pricer-base", **files).id)

    assert job.status == "failed"
    assert job.fine_tuned_model is None
    assert job.error is not None
    assert (job.error.code, job.error.param) == (f"invalid_{param}", param)
    assert "line 17" in job.error.message
    last = events(client, job.id)[-1]
    assert (last.level, last.message) == ("error", job.error.message)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (jsonl(products(9)), "at least 10"),
        ("\n".join(line("a lamp", "dear") for _ in range(12)).encode(), "No reply holds a number"),
        (b"\xff\xfe\n" * 12, "not UTF-8: line 1 "),
    ],
)
def test_a_file_that_cannot_teach_fails_the_job(client: openai.OpenAI, content: bytes, said: str) -> None:
    job = train(client, content)

    assert job.error is not None
    assert job.error.code == "invalid_training_file"
    assert said in job.error.message


def test_a_training_file_deleted_in_the_meantime_fails_the_job(client: openai.OpenAI) -> None:
    blocking = endless(client)
    file = upload(client, jsonl(products(30)))
    job = client.fine_tuning.jobs.create(model="pricer-base", training_file=file.id)
    eventually(lambda: client.fine_tuning.jobs.retrieve(job.id).status == "queued")
    client.files.delete(file.id)
    client.fine_tuning.jobs.cancel(blocking.id)

    ended = finished(client, job.id)

    assert ended.error is not None
    assert "was deleted" in ended.error.message


def test_a_running_job_is_cancelled_at_once_and_the_next_one_gets_its_turn(client: openai.OpenAI) -> None:
    running = endless(client)
    waiting = client.fine_tuning.jobs.create(
        model="pricer-base", training_file=upload(client, jsonl(products(20))).id
    )

    assert client.fine_tuning.jobs.retrieve(running.id).status == "running"
    assert client.fine_tuning.jobs.cancel(running.id).status == "cancelled"
    assert finished(client, waiting.id).status == "succeeded"
    assert client.fine_tuning.jobs.retrieve(running.id).fine_tuned_model is None
    assert "cancelled" in [e for e in events(client, running.id) if e.type == "message"][-1].message


def test_a_queued_job_is_cancelled_and_never_trains(client: openai.OpenAI) -> None:
    running = endless(client)
    waiting = client.fine_tuning.jobs.create(
        model="pricer-base", training_file=upload(client, jsonl(products(20))).id
    )
    client.fine_tuning.jobs.cancel(waiting.id)
    client.fine_tuning.jobs.cancel(running.id)
    after = train(client, jsonl(products(20)))

    assert after.status == "succeeded"
    assert client.fine_tuning.jobs.retrieve(waiting.id).status == "cancelled"
    assert "Fine-tuning job started" not in [event.message for event in events(client, waiting.id)]


def test_a_job_that_has_ended_cannot_be_cancelled(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    with pytest.raises(openai.BadRequestError, match="already ended"):
        client.fine_tuning.jobs.cancel(tuned.id)


def test_jobs_are_listed_newest_first_in_pages_and_by_metadata(
    client: openai.OpenAI, tuned: FineTuningJob
) -> None:
    newest = train(client, b"not json\n")

    first = client.fine_tuning.jobs.list(limit=1)
    everything = [job.id for job in client.fine_tuning.jobs.list(limit=1)]

    assert [job.id for job in first.data] == [newest.id]
    assert first.has_more
    assert len(everything) == len(set(everything)) > 1
    assert tuned.id in everything
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"team": "blue"})] == [tuned.id]


def test_events_come_newest_first_in_pages(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    first = client.fine_tuning.jobs.list_events(tuned.id, limit=2)
    second = client.fine_tuning.jobs.list_events(tuned.id, limit=2, after=first.data[-1].id)

    assert first.data[0].message == "The job has successfully completed"
    assert first.has_more
    assert second.data[0].message.startswith("Step 760/760")
    assert len(events(client, tuned.id)) == 766


def test_checkpoints_are_an_empty_list_for_now(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    assert client.fine_tuning.jobs.checkpoints.list(tuned.id).data == []


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"n_epochs": "many"}}, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"batch_size": 257}}, "hyperparameters.batch_size"),
        (
            {"method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 51}}}},
            "method.supervised.hyperparameters.n_epochs",
        ),
        ({"method": {"type": "dpo"}}, "method.type"),
        ({"suffix": "x" * 65}, "suffix"),
        ({"seed": -1}, "seed"),
        ({"seed": "7"}, "seed"),
        ({"training_file": 5}, "training_file"),
        ({"metadata": {"a": 5}}, "metadata.a"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(
    client: openai.OpenAI, changes: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.fine_tuning.jobs.create(**{"model": "pricer-base", "training_file": "file-x"} | changes)

    assert refused.value.param == param


def test_a_job_needs_a_model_that_exists_and_can_be_tuned(
    client: openai.OpenAI, tuned: FineTuningJob
) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.fine_tuning.jobs.create(model="gpt-9", training_file=tuned.training_file)
    with pytest.raises(openai.BadRequestError) as already:
        client.fine_tuning.jobs.create(model=tuned.fine_tuned_model or "", training_file=tuned.training_file)

    assert unknown.value.code == "model_not_found"
    assert already.value.code == "model_not_available"


def test_a_job_needs_a_file_that_exists_and_is_for_training(client: openai.OpenAI) -> None:
    other = client.files.create(file=("b.jsonl", b"{}"), purpose="batch")

    with pytest.raises(openai.NotFoundError, match="No such File") as unknown:
        client.fine_tuning.jobs.create(model="pricer-base", training_file="file-none")
    with pytest.raises(openai.BadRequestError, match="purpose 'batch'") as wrong:
        client.fine_tuning.jobs.create(model="pricer-base", training_file=other.id)

    assert unknown.value.param == wrong.value.param == "training_file"


def test_an_unknown_job_is_not_found(client: openai.OpenAI) -> None:
    for move in (
        client.fine_tuning.jobs.retrieve,
        client.fine_tuning.jobs.cancel,
        client.fine_tuning.jobs.list_events,
        client.fine_tuning.jobs.checkpoints.list,
    ):
        with pytest.raises(openai.NotFoundError, match="ftjob-none"):
            move("ftjob-none")
