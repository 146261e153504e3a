"""A validation file that is the training file is refused before anything is asked of the service."""

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
import respx
from openai.types import FileObject

from finetune_pricer import FineTuneJob, JsonlWriter, TrainingFile, check_jsonl
from finetune_pricer.aio import AsyncFineTuneJob
from finetune_pricer.errors import DataError
from finetune_pricer.tune import UploadedFile
from helpers import job_body, page, priced


@pytest.fixture
def training() -> TrainingFile:
    return JsonlWriter().write(priced(12), "train.jsonl")


def copied(file: TrainingFile) -> TrainingFile:
    shutil.copy(file.path, "copy.jsonl")
    return replace(file, path=Path("copy.jsonl"))


def linked(file: TrainingFile) -> TrainingFile:
    Path("link.jsonl").symlink_to(file.path)
    return replace(file, path=Path("link.jsonl"), sha256="0" * 64)


FILE = FileObject(
    id="file-1",
    object="file",
    filename="a.jsonl",
    bytes=5,
    created_at=0,
    purpose="fine-tune",
    status="processed",
)
HOW: list[Callable[[TrainingFile], tuple[Any, Any]]] = [
    lambda file: (file, file),
    lambda file: (file, replace(file, path=file.path.absolute())),
    lambda file: (file, copied(file)),
    lambda file: (file, linked(file)),
    lambda file: (file, check_jsonl(file.path).training_file()),
    lambda _: ("file-1", "file-1"),
    lambda _: (UploadedFile(id="file-1", bytes=5), "file-1"),
    lambda _: ("file-1", FILE),
]


@pytest.mark.parametrize("how", HOW)
def test_the_training_file_watched_is_refused_before_anything_is_asked(
    client: openai.OpenAI,
    service: respx.MockRouter,
    training: TrainingFile,
    how: Callable[[TrainingFile], tuple[Any, Any]],
) -> None:
    learned, watched = how(training)
    with pytest.raises(DataError, match=r"validation is the training file .* leave validation= out"):
        FineTuneJob.create(client, learned, validation=watched, model="base", force=True)
    assert not service.calls
    with openai.OpenAI(api_key="sk-none", base_url=str(client.base_url)) as other:
        asynchronous = openai.AsyncOpenAI(api_key="sk-none", base_url=str(other.base_url))

    async def create() -> None:
        await AsyncFineTuneJob.create(asynchronous, learned, validation=watched, model="base")

    with pytest.raises(DataError, match="validation is the training file"):
        asyncio.run(create())
    assert not service.calls


def test_a_file_of_other_examples_is_taken(client: openai.OpenAI, service: respx.MockRouter) -> None:
    service.get("/fine_tuning/jobs").mock(return_value=page([]))
    service.get(path__regex=r"/models/.*").respond(404, json={"error": {"message": "none"}})
    service.get(path__regex=r"/files/.*").respond(json={"id": "file-1", "status": "processed"})
    asked = service.post("/fine_tuning/jobs").respond(json=job_body())
    FineTuneJob.create(client, "file-1", validation="file-2", model="base", sleep=lambda _: None)
    assert asked.called


def test_a_file_that_proves_to_be_the_training_file_once_sent_buys_nothing(
    client: openai.OpenAI, service: respx.MockRouter, training: TrainingFile
) -> None:
    service.get("/fine_tuning/jobs").mock(return_value=page([]))
    service.get("/files").mock(return_value=page([]))
    service.get(path__regex=r"/models/.*").respond(404, json={"error": {"message": "none"}})
    sent = {"id": "file-1", "object": "file", "status": "processed"}
    service.get(path__regex=r"/files/.*").respond(json=sent)
    service.post("/files").respond(json=sent)
    asked = service.post("/fine_tuning/jobs").respond(json=job_body())
    with pytest.raises(DataError, match=r"validation is the training file \(file 'file-1'\)"):
        FineTuneJob.create(client, "file-1", validation=training, model="base", sleep=lambda _: None)
    assert not asked.called
