"""A job is its service, its account and its spec: asked for twice, it is bought once."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import respx

from finetune_pricer import (
    ChatFormatter,
    FineTuneJob,
    JsonlWriter,
    MadeUpCatalogue,
    TrainingFile,
    check_jsonl,
    upload,
)
from finetune_pricer.errors import FileAccessError, NotFound
from finetune_pricer.local import LocalServer

BASE_URL = "https://service.test/v1"


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer() as server:
        yield server


@pytest.fixture
def shop(server: LocalServer) -> Iterator[openai.OpenAI]:
    with server.client(max_retries=0) as client:
        yield client


@pytest.fixture
def training(request: pytest.FixtureRequest) -> TrainingFile:
    """A file that no other test has, since the same file would be the same job."""
    seed = abs(hash(request.node.name)) % 2**31
    return JsonlWriter().write(
        MadeUpCatalogue(seed=seed).splits(train=12, validation=1, test=1).train, "t.jsonl"
    )


def quick(seconds: float) -> None:
    time.sleep(min(seconds, 0.01))


def made(client: openai.OpenAI, training: TrainingFile, **options: object) -> FineTuneJob:
    return FineTuneJob.create(client, training, model="pricer-base", epochs=1, sleep=quick, **options)  # type: ignore[arg-type]


def test_the_same_spec_gives_the_same_job_running_or_done(
    shop: openai.OpenAI, training: TrainingFile
) -> None:
    first = made(shop, training)
    assert made(shop, training).id == first.id
    first.wait(sleep=quick)
    again = made(shop, training)
    assert again.id == first.id
    assert again.fine_tuned_model == first.fine_tuned_model


def test_again_buys_another_and_the_newest_is_found(shop: openai.OpenAI, training: TrainingFile) -> None:
    first, second = made(shop, training), made(shop, training, again=True)
    assert first.id != second.id
    assert made(shop, training).id == second.id
    assert FineTuneJob.find(shop, training, model="pricer-base", epochs=1).id == second.id


def test_whatever_shapes_the_model_makes_another_job(shop: openai.OpenAI, training: TrainingFile) -> None:
    watched = JsonlWriter().write(MadeUpCatalogue(seed=0).items(12), "watched.jsonl")
    jobs = [
        made(shop, training),
        made(shop, training, seed=1),
        made(shop, training, suffix="shop"),
        made(shop, training, validation=watched),
        made(shop, training, batch_size=2),
        made(shop, training, learning_rate_multiplier=0.5),
    ]
    assert len({job.id for job in jobs}) == len(jobs)


def test_what_comes_to_the_same_training_is_the_same_job(shop: openai.OpenAI, training: TrainingFile) -> None:
    first = made(shop, training, learning_rate_multiplier=2, batch_size="auto", seed=1)
    same: list[dict[str, Any]] = [
        {"learning_rate_multiplier": 2.0, "seed": 1},
        {"learning_rate_multiplier": 2, "seed": 1.0},
    ]
    assert {made(shop, training, **options).id for options in same} == {first.id}
    other_words = replace(training, formatter=ChatFormatter(instruction="Price?").fingerprint)
    assert made(shop, other_words, learning_rate_multiplier=2, seed=1).id == first.id
    read_again = check_jsonl(training.path).training_file()
    assert made(shop, read_again, learning_rate_multiplier=2, seed=1).id == first.id
    left_open = FineTuneJob.create(shop, training, model="pricer-base")
    chosen_there = FineTuneJob.create(shop, training, model="pricer-base", epochs="auto")
    assert left_open.id == chosen_there.id != first.id


def test_a_job_that_was_cancelled_is_asked_for_anew(shop: openai.OpenAI, training: TrainingFile) -> None:
    first = FineTuneJob.create(shop, training, model="pricer-base", epochs=50, batch_size=1, sleep=quick)
    first.cancel()
    second = FineTuneJob.create(shop, training, model="pricer-base", epochs=50, batch_size=1, sleep=quick)
    assert second.id != first.id
    second.cancel()


def test_on_another_machine_with_another_key_the_job_is_found_at_the_service(
    server: LocalServer, training: TrainingFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with openai.OpenAI(base_url=server.url, api_key="one") as client:
        first = made(client, training)
    monkeypatch.setenv("FINETUNE_PRICER_HOME", str(tmp_path / "another"))
    with openai.OpenAI(base_url=server.url, api_key="two") as client:
        assert made(client, training).id == first.id
        assert FineTuneJob.find(client, training, model="pricer-base", epochs=1).id == first.id


def test_what_was_never_asked_for_is_not_found(shop: openai.OpenAI, training: TrainingFile) -> None:
    with pytest.raises(NotFound, match="create makes one"):
        FineTuneJob.find(shop, training, model="pricer-base", epochs=7)


def test_a_file_is_sent_once_for_all_that_is_made_of_it(shop: openai.OpenAI, training: TrainingFile) -> None:
    first = upload(shop, training)
    copy = replace(training, path=Path("elsewhere.jsonl"))
    copy.path.write_bytes(training.path.read_bytes())
    assert upload(shop, copy).id == first.id
    job = made(shop, training)
    assert job.record.training_file == first.id
    shop.files.delete(first.id)
    assert upload(shop, training).id != first.id


def test_a_job_that_failed_is_asked_for_anew(
    client: openai.OpenAI, service: respx.MockRouter, training: TrainingFile
) -> None:
    service.get(path__regex="/models/.*").respond(404, json={})
    service.get("/fine_tuning/jobs").respond(json={"data": []})
    service.get("/files").respond(json={"data": []})
    service.get("/files/file-1").respond(json={"id": "file-1"})
    service.post("/files").respond(json={"id": "file-1"})
    create = service.post("/fine_tuning/jobs")
    create.side_effect = [
        answer({"id": "ftjob-1", "status": "queued"}),
        answer({"id": "ftjob-2", "status": "queued"}),
    ]
    service.get("/fine_tuning/jobs/ftjob-1").respond(json={"id": "ftjob-1", "status": "failed"})
    assert made(client, training).id == "ftjob-1"
    assert made(client, training).id == "ftjob-2"


def answer(body: dict[str, str]) -> Any:
    return httpx2.Response(200, json=body)


def test_a_refused_request_leaves_nothing_behind_to_be_looked_for(
    client: openai.OpenAI, service: respx.MockRouter, training: TrainingFile, naps: list[float]
) -> None:
    service.get(path__regex="/models/.*").respond(404, json={})
    service.get("/fine_tuning/jobs").respond(json={"data": []})
    service.get("/files").respond(json={"data": []})
    service.get("/files/file-1").respond(json={"id": "file-1"})
    service.post("/files").respond(json={"id": "file-1"})
    create = service.post("/fine_tuning/jobs").respond(400, json={"error": {"message": "bad batch_size"}})
    for _ in range(2):
        with pytest.raises(ValueError, match="bad batch_size"):
            FineTuneJob.create(client, training, model="m", sleep=naps.append)
    assert create.call_count == 2
    assert not naps


def test_a_journal_that_cannot_be_written_stops_before_anything_is_sent(
    client: openai.OpenAI, training: TrainingFile, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(FileAccessError, match="choose another path"):
        FineTuneJob.create(client, training, model="m", journal=tmp_path / "file" / "journal.db")
