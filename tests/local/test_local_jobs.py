from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import openai
import pytest

from finetune_pricer.local import LocalServer
from finetune_pricer.local.jobs import trainer_process
from local_helpers import (
    ask,
    endless,
    events,
    eventually,
    finished,
    jsonl,
    line,
    logprob,
    products,
    train,
    upload,
)

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

TEST = products(100, seed=99)


def status_of(job: FineTuningJob) -> str:
    return job.status  # a word more than the client's types know: "paused"


EPOCHS, STEPS = 10, 380  # of `tuned`: 300 examples in batches of 8


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
        assert (chosen.n_epochs, chosen.batch_size, chosen.learning_rate_multiplier) == (EPOCHS, 8, 1.0)


def test_its_events_tell_its_life_in_order(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    told = events(client, tuned.id)

    messages = [event.message for event in told if event.type == "message"]
    assert messages == [
        f"Created fine-tuning job: {tuned.id}",
        f"Validating training file: {tuned.training_file}",
        "Files validated, moving job to queued state",
        "Fine-tuning job started",
        *(f"Checkpoint created at step {38 * epoch}" for epoch in range(1, EPOCHS + 1)),
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

    assert [step["step"] for step in metrics] == list(range(1, STEPS + 1))
    assert all({"total_steps", "train_loss", "train_mean_token_accuracy"} <= step.keys() for step in metrics)
    assert (
        len([step for step in metrics if "valid_loss" in step and "valid_mean_token_accuracy" in step])
        == EPOCHS
    )
    assert metrics[-1]["train_loss"] < 0.8 * metrics[0]["train_loss"]


def test_the_last_step_is_told_in_words_too(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    last = [event.message for event in events(client, tuned.id) if event.type == "metrics"][-1]

    assert re.fullmatch(
        rf"Step {STEPS}/{STEPS}: training loss=\d\.\d\d, validation loss=\d\.\d\d, "
        r"full validation loss=\d\.\d\d",
        last,
    )


def test_the_result_file_holds_a_row_for_every_step(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    (file_id,) = tuned.result_files

    rows = list(csv.DictReader(client.files.content(file_id).text.splitlines()))

    assert client.files.retrieve(file_id).purpose == "fine-tune-results"
    assert len(rows) == STEPS
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
    content = jsonl(products(60), "{:.2f}".format)

    models = [train(client, content, seed=seed).fine_tuned_model for seed in (3, 3, 4)]

    first, same, other = ([logprob(client, model, item.prompt) for item in TEST[:5]] for model in models)
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
        (b"\xff\xfe\n" * 12, "line 1: not UTF-8"),
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
    without: Any = {"metadata": "null"}
    bare = [job.id for job in client.fine_tuning.jobs.list(extra_query=without)]
    assert bare == [job.id for job in client.fine_tuning.jobs.list() if not job.metadata]
    assert len(bare) >= 1
    with pytest.raises(openai.BadRequestError) as refused:
        client.fine_tuning.jobs.list(extra_query={"metadata": "blue"})
    assert refused.value.param == "metadata"


def test_events_come_newest_first_in_pages(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    first = client.fine_tuning.jobs.list_events(tuned.id, limit=2)
    second = client.fine_tuning.jobs.list_events(tuned.id, limit=2, after=first.data[-1].id)

    assert first.data[0].message == "The job has successfully completed"
    assert first.has_more
    assert second.data[0].message.startswith("Checkpoint created")
    assert len(events(client, tuned.id)) == STEPS + EPOCHS + 6


def test_the_last_three_epochs_are_kept_as_models_that_answer(
    client: openai.OpenAI, tuned: FineTuningJob
) -> None:
    kept = client.fine_tuning.jobs.checkpoints.list(tuned.id).data

    assert [each.step_number for each in kept] == [380, 342, 304]
    assert [each.fine_tuned_model_checkpoint for each in kept] == [
        tuned.fine_tuned_model,
        f"{tuned.fine_tuned_model}:ckpt-step-342",
        f"{tuned.fine_tuned_model}:ckpt-step-304",
    ]
    assert len({logprob(client, each.fine_tuned_model_checkpoint, TEST[0].prompt) for each in kept}) == 3
    assert all(each.metrics.full_valid_loss and each.metrics.train_loss for each in kept)
    with pytest.raises(openai.NotFoundError):
        ask(client, f"{tuned.fine_tuned_model}:ckpt-step-266", TEST[0].prompt)


def test_checkpoints_come_in_pages(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    first = client.fine_tuning.jobs.checkpoints.list(tuned.id, limit=2)

    assert first.has_more
    assert len(list(first)) == 3


def test_a_paused_job_rests_and_goes_on_to_the_same_model(client: openai.OpenAI) -> None:
    settings: Any = {"n_epochs": 30, "batch_size": 4}
    files: dict[str, Any] = {
        "training_file": upload(client, jsonl(products(200))).id,
        "validation_file": upload(client, jsonl(products(60, seed=5))).id,
    }
    order: dict[str, Any] = {"model": "pricer-base", "seed": 2, "hyperparameters": settings} | files
    straight = finished(client, client.fine_tuning.jobs.create(**order).id)
    job = client.fine_tuning.jobs.create(**order)
    eventually(lambda: len(client.fine_tuning.jobs.list_events(job.id, limit=100).data) > 40)

    assert status_of(client.fine_tuning.jobs.pause(job.id)) == "paused"
    told = [e.message for e in events(client, job.id)]
    assert told[-1] == "Fine-tuning job paused"
    assert client.fine_tuning.jobs.resume(job.id).status in ("queued", "running")
    done = finished(client, job.id)

    assert done.status == "succeeded"
    steps = [e.data["step"] for e in events(client, job.id) if e.type == "metrics"]  # type: ignore[index]
    assert steps == list(range(1, 1_501))
    assert [logprob(client, done.fine_tuned_model, i.prompt) for i in TEST[:5]] == [
        logprob(client, straight.fine_tuned_model, i.prompt) for i in TEST[:5]
    ]


def test_a_waiting_job_can_be_paused_resumed_and_cancelled(client: openai.OpenAI) -> None:
    running = endless(client)
    waiting = client.fine_tuning.jobs.create(
        model="pricer-base", training_file=upload(client, jsonl(products(20))).id
    )
    eventually(lambda: client.fine_tuning.jobs.retrieve(waiting.id).status == "queued")

    assert status_of(client.fine_tuning.jobs.pause(waiting.id)) == "paused"
    assert client.fine_tuning.jobs.resume(waiting.id).status == "queued"
    assert status_of(client.fine_tuning.jobs.pause(waiting.id)) == "paused"
    client.fine_tuning.jobs.cancel(running.id)
    assert train(client, jsonl(products(20))).status == "succeeded"
    assert status_of(client.fine_tuning.jobs.retrieve(waiting.id)) == "paused"
    assert client.fine_tuning.jobs.cancel(waiting.id).status == "cancelled"


def test_what_has_ended_can_be_neither_paused_nor_resumed(
    client: openai.OpenAI, tuned: FineTuningJob
) -> None:
    for move in (client.fine_tuning.jobs.pause, client.fine_tuning.jobs.resume):
        with pytest.raises(openai.BadRequestError, match="is succeeded") as refused:
            move(tuned.id)
        assert refused.value.code == "invalid_state"


def test_a_running_job_says_when_it_will_be_done(client: openai.OpenAI) -> None:
    job = endless(client)

    eventually(lambda: client.fine_tuning.jobs.retrieve(job.id).estimated_finish is not None)

    shown = client.fine_tuning.jobs.retrieve(job.id)
    assert (shown.estimated_finish or 0) > job.created_at
    assert client.fine_tuning.jobs.cancel(job.id).estimated_finish is None


def test_jobs_train_at_once_as_far_as_the_cores_go() -> None:
    with LocalServer(cores=2) as server, server.client() as client:
        jobs = [endless(client), endless(client)]
        third = client.fine_tuning.jobs.create(
            model="pricer-base", training_file=upload(client, jsonl(products(20))).id
        )
        eventually(lambda: client.fine_tuning.jobs.retrieve(third.id).status == "queued")

        assert [client.fine_tuning.jobs.retrieve(job.id).status for job in jobs] == ["running"] * 2
        client.fine_tuning.jobs.cancel(jobs[0].id)
        assert finished(client, third.id).status == "succeeded"


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
        ({"method": {"type": "magic"}}, "method.type"),
        ({"suffix": "x" * 65}, "suffix"),
        ({"seed": -1}, "seed"),
        ({"seed": "7"}, "seed"),
        ({"training_file": 5}, "training_file"),
        ({"metadata": {"a": 5}}, "metadata.a"),
        ({"integrations": [{"type": "mlflow"}]}, "integrations.type"),
        ({"integrations": [{"type": "wandb", "wandb": {}}]}, "integrations.wandb.project"),
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
        client.fine_tuning.jobs.pause,
        client.fine_tuning.jobs.resume,
        client.fine_tuning.jobs.list_events,
        client.fine_tuning.jobs.checkpoints.list,
    ):
        with pytest.raises(openai.NotFoundError, match="ftjob-none"):
            move("ftjob-none")


@pytest.mark.parametrize("param", ["training_file", "validation_file"])
def test_a_file_deleted_just_before_it_is_read_is_named(monkeypatch: pytest.MonkeyPatch, param: str) -> None:
    with LocalServer(cores=1) as server, server.client() as client:
        files = {
            name: upload(client, jsonl(products(20))).id for name in ("training_file", "validation_file")
        }

        def run(*_: Any) -> Any:
            client.files.delete(files[param])
            return iter([[trainer_process.TrainingFailed(error="FileNotFoundError")]])

        monkeypatch.setattr(trainer_process.TrainerProcess, "run", run)
        order: dict[str, Any] = {"model": "pricer-base"} | files
        failed = finished(client, client.fine_tuning.jobs.create(**order).id)

    assert failed.error is not None
    assert (failed.error.code, failed.error.param) == (f"invalid_{param}", param)
    assert failed.error.message == f"The file {files[param]} was deleted before the job had trained."


def test_a_file_that_is_missing_though_nobody_deleted_it_is_a_failure_of_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(*_: Any) -> Any:
        return iter([[trainer_process.TrainingFailed(error="FileNotFoundError")]])

    monkeypatch.setattr(trainer_process.TrainerProcess, "run", run)
    with LocalServer(cores=1) as server, server.client() as client:
        failed = train(client, jsonl(products(20)))

    assert failed.error is not None
    assert failed.error.message == "The job failed due to an internal error: FileNotFoundError."
