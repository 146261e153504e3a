"""A fine-tuning job: asked for once, found again, waited for."""

from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import respx

from finetune_pricer import FineTuneJob, JsonlWriter, TrainingFile
from finetune_pricer.errors import (
    DataError,
    JobCancelled,
    JobFailed,
    JobTimeout,
    NotFound,
    RequestRejected,
    ServiceError,
    TrainingFileError,
)
from finetune_pricer.tune import UploadedFile
from helpers import body_of, job_body, page, priced, refusal

JOB = "/fine_tuning/jobs/ftjob-1"


@pytest.fixture
def training(tmp_path: Path) -> TrainingFile:
    return JsonlWriter().write(priced(2), tmp_path / "train.jsonl")


@pytest.fixture
def validation(tmp_path: Path) -> TrainingFile:
    return JsonlWriter().write(priced(1), tmp_path / "validation.jsonl")


@pytest.fixture(autouse=True)
def _nothing_there_yet(service: respx.MockRouter) -> None:
    service.get("/models/base").mock(refusal(404))
    service.get("/fine_tuning/jobs").mock(page([]))


def asked(route: respx.Route) -> dict[str, Any]:
    """What the job was asked for with, without our own marks."""
    body = body_of(route.calls.last.request)
    assert set(body.pop("metadata")) - {"finetune_pricer_formatter"} == {
        "finetune_pricer_spec",
        "finetune_pricer_token",
    }
    return body


def states(service: respx.MockRouter, *answers: Any) -> respx.Route:
    """Let the job be in these states, one after the other, and stay in the last."""
    made = [
        answer if isinstance(answer, httpx.Response | Exception) else httpx.Response(200, json=answer)
        for answer in answers
    ]
    rest = iter(made[:-1])
    return service.get(JOB).mock(side_effect=lambda _: _outcome(next(rest, made[-1])))


def _outcome(answer: httpx.Response | Exception) -> httpx.Response:
    if isinstance(answer, Exception):
        raise answer
    return answer


def attached(client: openai.OpenAI, service: respx.MockRouter, *answers: Any) -> FineTuneJob:
    states(service, *answers)
    return FineTuneJob.attach(client, "ftjob-1")


def test_files_are_uploaded_and_the_job_is_asked_for_in_full(
    client: openai.OpenAI, service: respx.MockRouter, training: TrainingFile, validation: TrainingFile
) -> None:
    names = iter(["file-t", "file-v"])
    service.post("/files").mock(side_effect=lambda _: httpx.Response(200, json={"id": next(names)}))
    route = service.post("/fine_tuning/jobs").mock(httpx.Response(200, json=job_body("queued")))
    job = FineTuneJob.create(
        client,
        training,
        model="base",
        validation=validation,
        epochs=2,
        batch_size="auto",
        learning_rate_multiplier=0.5,
        seed=42,
        suffix="pricer",
    )
    hyperparameters = {"n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": 0.5}
    assert asked(route) == {
        "training_file": "file-t",
        "validation_file": "file-v",
        "model": "base",
        "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
        "seed": 42,
        "suffix": "pricer",
    }
    assert (job.id, job.status, job.is_final) == ("ftjob-1", "queued", False)


FILE_OBJECT = openai.types.FileObject(
    id="file-9", bytes=1, created_at=1, filename="t", object="file", purpose="fine-tune", status="processed"
)


@pytest.mark.parametrize(
    "file", [UploadedFile(id="file-9"), "file-9", FILE_OBJECT], ids=["ours", "id", "theirs"]
)
def test_what_is_not_said_is_not_sent_and_an_uploaded_file_is_not_sent_again(
    client: openai.OpenAI, service: respx.MockRouter, file: UploadedFile | openai.types.FileObject | str
) -> None:
    route = service.post("/fine_tuning/jobs").mock(httpx.Response(200, json=job_body()))
    service.get(JOB).mock(httpx.Response(200, json=job_body()))
    job = FineTuneJob.create(client, file, model="base")
    # The same file, however it is named, is the same job.
    assert FineTuneJob.create(client, UploadedFile(id="file-9"), model="base").id == job.id
    assert route.call_count == 1
    method = {"type": "supervised", "supervised": {"hyperparameters": {}}}
    assert asked(route) == {
        "training_file": "file-9",
        "model": "base",
        "method": method,
    }


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 0}, "epochs must be at least 1 or 'auto', not 0"),
        ({"epochs": True}, "epochs"),
        ({"batch_size": -1}, "batch_size must be at least 1"),
        ({"learning_rate_multiplier": 0}, "learning_rate_multiplier must be above 0"),
        ({"learning_rate_multiplier": float("nan")}, "learning_rate_multiplier"),
        ({"suffix": ""}, "suffix must have 1 to 64 characters, not 0"),
        ({"suffix": "x" * 65}, "not 65"),
        ({"model": ""}, "model is empty"),
    ],
    ids=str,
)
def test_a_setting_out_of_range_is_named_before_anything_is_uploaded(
    client: openai.OpenAI,
    service: respx.MockRouter,
    training: TrainingFile,
    settings: dict[str, Any],
    words: str,
) -> None:
    with pytest.raises(DataError, match=words):
        FineTuneJob.create(client, training, **({"model": "base"} | settings))
    assert not service.calls


def test_both_files_are_checked_before_the_first_is_uploaded(
    client: openai.OpenAI, service: respx.MockRouter, training: TrainingFile, validation: TrainingFile
) -> None:
    validation.path.write_text("other")
    with pytest.raises(TrainingFileError, match=r"validation\.jsonl' has changed"):
        FineTuneJob.create(client, training, validation=validation, model="base")
    assert not service.calls


def test_a_refused_job_says_why(client: openai.OpenAI, service: respx.MockRouter) -> None:
    service.post("/fine_tuning/jobs").mock(refusal(400, "model base is not available", param="model"))
    with pytest.raises(RequestRejected, match="model base is not available"):
        FineTuneJob.create(client, UploadedFile(id="file-9"), model="base")


def test_a_job_is_found_by_its_id(client: openai.OpenAI, service: respx.MockRouter) -> None:
    done = job_body("succeeded", fine_tuned_model="ft:base:x", trained_tokens=120)
    job = attached(client, service, done)
    assert (job.fine_tuned_model, job.trained_tokens, job.error, job.is_final) == (
        "ft:base:x",
        120,
        None,
        True,
    )
    assert repr(job) == "FineTuneJob('ftjob-1', status='succeeded', model='ft:base:x')"


def test_a_job_that_is_not_there_or_not_named_is_said_to_be(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    with pytest.raises(NotFound, match="no such job"):
        attached(client, service, refusal(404, "no such job"))
    with pytest.raises(DataError, match="job_id is empty"):
        FineTuneJob.attach(client, "")


def test_the_newest_jobs_are_listed_over_pages_up_to_the_limit(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    jobs = [{"id": f"ftjob-{number}", "status": "running"} for number in range(9)]
    route = service.get("/fine_tuning/jobs").mock(
        side_effect=[page(jobs[:3], more=True), page(jobs[3:6], more=True), page(jobs[6:])]
    )
    assert [job.id for job in FineTuneJob.list(client, limit=4)] == [job["id"] for job in jobs[:4]]
    assert [call.request.url.params["limit"] for call in route.calls] == ["4", "4"]
    assert route.calls.last.request.url.params["after"] == "ftjob-2"


def test_refresh_looks_again_and_gives_the_job_itself(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    job = attached(client, service, job_body("queued"), job_body("running"))
    assert job.refresh() is job
    assert job.status == "running"


def test_waiting_goes_through_unknown_words_and_busy_spells_to_the_model(
    client: openai.OpenAI, service: respx.MockRouter, naps: list[float]
) -> None:
    healthy = {"code": None, "message": None, "param": None}
    job = attached(
        client,
        service,
        job_body("validating_files"),
        job_body("pending"),
        job_body("paused", error=healthy),
        refusal(503),
        httpx.ConnectError("gone"),
        httpx.Response(200, html="<html>proxy</html>"),
        {"id": "ftjob-1", "status": None},
        job_body("succeeded", fine_tuned_model="ft:base:x", error=healthy),
    )
    assert job.wait(sleep=naps.append) is job
    assert job.fine_tuned_model == "ft:base:x"
    assert job.error is None
    assert len(naps) == 6


def test_a_job_that_has_ended_is_not_asked_about_again(
    client: openai.OpenAI, service: respx.MockRouter, naps: list[float]
) -> None:
    job = attached(client, service, job_body("succeeded"))
    job.wait(sleep=naps.append)
    assert (len(service.calls), naps) == (1, [])


FAILURES: dict[str, tuple[Any, str]] = {
    "in full": (
        {"code": "invalid_file", "message": "line 3 is no JSON", "param": "training_file"},
        r"'ftjob-1' failed: line 3 is no JSON \(code 'invalid_file', param 'training_file'\)",
    ),
    "a code only": ({"code": "invalid_file", "message": None}, r"no message \(code 'invalid_file'\)"),
    "a number for a code": ({"code": 429, "message": "busy"}, r"busy \(code '429'\)"),
    "a message only": ({"message": "no room"}, "failed: no room$"),
    "a word": ("boom", "failed: boom$"),
    "null": (None, "the service gave no reason"),
    "nulls": ({"code": None, "message": None}, "the service gave no reason"),
}


@pytest.mark.parametrize(("error", "words"), FAILURES.values(), ids=FAILURES)
def test_a_failed_job_raises_with_the_services_reason(
    client: openai.OpenAI, service: respx.MockRouter, naps: list[float], error: Any, words: str
) -> None:
    job = attached(client, service, job_body(), job_body("failed", error=error))
    with pytest.raises(JobFailed, match=words) as caught:
        job.wait(sleep=naps.append)
    assert caught.value.job_id == "ftjob-1"
    if isinstance(error, dict) and error.get("code"):
        assert caught.value.code == str(error["code"])


def test_a_cancelled_job_raises(client: openai.OpenAI, service: respx.MockRouter, naps: list[float]) -> None:
    job = attached(client, service, job_body(), job_body("cancelled"))
    with pytest.raises(JobCancelled, match="'ftjob-1' was cancelled"):
        job.wait(sleep=naps.append)


@pytest.mark.parametrize("timeout", [0, 20, 100])
def test_waiting_ends_after_the_timeout_and_says_how_to_find_the_job_again(
    client: openai.OpenAI, service: respx.MockRouter, naps: list[float], timeout: float
) -> None:
    job = attached(client, service, job_body())
    words = rf"is 'running' after {timeout} s and goes on; .*attach\(client, 'ftjob-1'\)"
    with pytest.raises(JobTimeout, match=words):
        job.wait(timeout, sleep=naps.append)
    assert sum(naps) == pytest.approx(timeout, abs=0.5)


def test_a_job_that_ends_at_the_last_moment_is_not_late(
    client: openai.OpenAI, service: respx.MockRouter, naps: list[float]
) -> None:
    job = attached(client, service, job_body())

    def look(_: httpx.Request) -> httpx.Response:
        late = sum(naps) > 29.99  # the last question is asked when all 30 seconds are over
        return httpx.Response(200, json=job_body("succeeded", fine_tuned_model="m") if late else job_body())

    service.get(JOB).mock(side_effect=look)
    assert job.wait(30, sleep=naps.append).fine_tuned_model == "m"
    assert sum(naps) == pytest.approx(30)


def test_a_refusal_ends_the_waiting(
    client: openai.OpenAI, service: respx.MockRouter, naps: list[float]
) -> None:
    job = attached(client, service, job_body(), refusal(404, "deleted"))
    with pytest.raises(NotFound, match="deleted"):
        job.wait(sleep=naps.append)


def test_cancelling_gives_the_new_state_or_says_that_it_is_too_late(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    job = attached(client, service, job_body())
    answers = [httpx.Response(200, json=job_body("cancelled")), refusal(400, "has already ended")]
    service.post(f"{JOB}/cancel").mock(side_effect=answers)
    assert job.cancel() is job
    assert job.status == "cancelled"
    with pytest.raises(RequestRejected, match="already ended"):
        job.cancel()


def test_a_field_in_a_foreign_form_does_not_stand_between_a_user_and_a_paid_job(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    job = attached(client, service, job_body(created_at="2026-01-01T00:00:00Z", seed=1.5, shade="blue"))
    assert (job.id, job.record.created_at, job.record.seed) == ("ftjob-1", None, None)
    assert job.record.model_extra is not None
    assert job.record.model_extra["shade"] == "blue"


def test_an_answer_without_an_id_is_an_error_of_ours(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    with pytest.raises(ServiceError, match="answer is no job"):
        attached(client, service, {"status": "running"})


def test_a_path_is_no_checked_file_and_the_error_says_how_it_becomes_one(client: openai.OpenAI) -> None:
    for path in ("train.jsonl", "jsonl/train", Path("train.jsonl"), ""):
        with pytest.raises(DataError, match=r"check_jsonl\(path\)"):
            FineTuneJob.create(client, path, model="base")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="not 7"):
        FineTuneJob.create(client, UploadedFile(id="file-9"), validation=7, model="base")  # type: ignore[arg-type]
