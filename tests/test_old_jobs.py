"""A job of a service that closes is taken elsewhere: its files and settings, its answers, and its weights."""

import asyncio
import codecs
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import openai
import pytest
import respx

from finetune_pricer import FineTuneJob, Item, ItemDataset, JsonlWriter, MadeUpCatalogue, Prediction
from finetune_pricer.aio import AsyncFineTuneJob
from finetune_pricer.errors import (
    DataError,
    FileAccessError,
    NotFound,
    NotSupported,
    RequestRejected,
    ServiceUnavailable,
    TrainingFileError,
)
from finetune_pricer.providers import PROVIDERS
from finetune_pricer.tune import JobRecord
from finetune_pricer.tune.old_job import read_settings

SHOWN = {"n_epochs": 3, "batch_size": 4, "learning_rate_multiplier": 1.8}


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("old") / "train.jsonl"
    JsonlWriter().write(MadeUpCatalogue().items(12), path)
    return path.read_bytes()


def old_job(client: openai.OpenAI, provider: str = "openai", **fields: Any) -> FineTuneJob:
    usual = {
        "id": "ftjob-old",
        "status": "succeeded",
        "model": "gpt-4.1-nano-2025-04-14",
        "training_file": "file-train",
        "hyperparameters": SHOWN,
    }
    return FineTuneJob(client, JobRecord.read({**usual, **fields}), PROVIDERS[provider])


# Files and settings.


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8], ids=["plain", "with a byte order mark"])
def test_an_old_jobs_files_and_settings_are_fetched(
    client: openai.OpenAI, service: respx.MockRouter, content: bytes, mark: bytes
) -> None:
    service.get("/files/file-train/content").respond(content=mark + content)
    service.get("/files/file-valid/content").respond(content=mark + content)
    job = old_job(client, validation_file="file-valid", seed=42, user_provided_suffix="shop")
    spec = job.fetch_spec("old")
    assert spec.training.path == Path("old/file-train.jsonl")  # type: ignore[union-attr]
    assert Path("old/file-train.jsonl").read_bytes() == content
    assert spec.model == "gpt-4.1-nano-2025-04-14"
    assert dict(spec.settings) == {"epochs": 3, "batch_size": 4, "learning_rate_multiplier": 1.8}
    assert spec.portable == {"validation": spec.validation, "epochs": 3, "seed": 42, "suffix": "shop"}
    assert job.fetch_spec("old").hash == spec.hash


def test_what_an_old_job_was_can_be_bought_at_another_service(
    client: openai.OpenAI, service: respx.MockRouter, content: bytes
) -> None:
    service.get("/files/file-train/content").respond(content=content)
    spec = old_job(client, seed=42).fetch_spec("old")
    service.get(path__regex="/models/.*").respond(404, json={"error": {}})
    service.get("/fine_tuning/jobs").respond(json={"data": []})
    service.post("/files").respond(json={"id": "file-1"})
    asked = service.post("/fine_tuning/jobs").respond(json={"id": "ftjob-new", "status": "queued"})
    new = FineTuneJob.create(client, spec.training, model="Qwen/Qwen3-4B", provider="nebius", **spec.portable)
    body = json.loads(asked.calls.last.request.content)
    assert (new.id, body["seed"], body["hyperparameters"]["n_epochs"]) == ("ftjob-new", 42, 3)


def test_the_async_door_fetches_the_same(service: respx.MockRouter, content: bytes) -> None:
    service.get("/files/file-train/content").respond(content=content)

    async def fetch() -> Any:
        async with openai.AsyncOpenAI(api_key="sk-x", base_url="https://service.test/v1") as client:
            record = JobRecord(id="ftjob-old", model="m", training_file="file-train", hyperparameters=SHOWN)
            job = AsyncFineTuneJob(client, record, PROVIDERS["openai"])
            with pytest.raises(NotSupported, match="gives out no weights"):
                await job.download("weights")
            return await job.fetch_spec("old")

    assert asyncio.run(fetch()).epochs == 3


def test_a_file_that_was_taken_once_is_fetched_whatever_its_size(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    line = {
        "messages": [{"role": "user", "content": "word " * 9_000}, {"role": "assistant", "content": "$5.00"}]
    }
    service.get("/files/file-train/content").respond(content=json.dumps(line).encode() + b"\n")
    for provider in ("nebius", "openai"):  # 8,192 tokens; 10 examples
        assert old_job(client, provider).fetch_spec("old").training.examples == 1  # type: ignore[union-attr]


SETTINGS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "as OpenAI shows them": ("openai", {"hyperparameters": SHOWN}, {"epochs": 3, "batch_size": 4}),
    "inside the method": (
        "openai",
        {"hyperparameters": None, "method": {"type": "supervised", "supervised": {"hyperparameters": SHOWN}}},
        {"epochs": 3, "batch_size": 4, "learning_rate_multiplier": 1.8},
    ),
    "auto": ("openai", {"hyperparameters": {"n_epochs": "auto", "batch_size": 2}}, {"batch_size": 2}),
    "Azure's -1": ("azure", {"hyperparameters": {"n_epochs": -1, "batch_size": -1}}, {}),
    "as text": ("openai", {"hyperparameters": {"n_epochs": "3"}}, {"epochs": 3}),
    "an absolute rate": (
        "nebius",
        {"hyperparameters": {"learning_rate": 0.0001, "n_epochs": 2, "learning_rate_multiplier": None}},
        {"learning_rate_multiplier": 10, "epochs": 2},
    ),
    "unreadable": (
        "openai",
        {"hyperparameters": {"n_epochs": [3], "batch_size": True, "learning_rate_multiplier": "nan"}},
        {},
    ),
    "out of the range": ("openai", {"hyperparameters": {"n_epochs": 99, "batch_size": 2.5}}, {}),
    "a seed and a suffix": ("nebius", {"seed": 7, "suffix": "shop"}, {"seed": 7, "suffix": "shop"}),
    "no seed of ours": ("openai", {"seed": 2**31, "suffix": ""}, {}),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_read_as_far_as_they_are_shown(client: openai.OpenAI, name: str) -> None:
    provider, fields, wanted = SETTINGS[name]
    if "hyperparameters" not in fields:
        fields = {**fields, "hyperparameters": {}}
    found = read_settings(old_job(client, provider, **fields).record, PROVIDERS[provider])
    assert {key: found.get(key) for key in wanted} == wanted
    assert wanted or not any(found.values())


def test_a_file_that_is_gone_is_named_with_what_to_do(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    service.get("/files/file-train/content").respond(404, json={"error": {"message": "No such File"}})
    with pytest.raises(NotFound, match=r"'file-train' of job 'ftjob-old' .* write it again from the items"):
        old_job(client).fetch_spec("old")
    with pytest.raises(NotFound, match="does not say what job 'ftjob-old' was trained on"):
        old_job(client, training_file=None).fetch_spec("old")


def test_a_file_that_the_service_keeps_to_itself_or_that_is_none_is_an_error(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    refusal = {"error": {"message": "Not allowed to download files of purpose: fine-tune"}}
    service.get("/files/file-train/content").respond(400, json=refusal)
    with pytest.raises(RequestRejected, match="Not allowed to download"):
        old_job(client).fetch_spec("old")
    service.get("/files/file-train/content").respond(content=b"<html>\n")
    with pytest.raises(TrainingFileError, match="line"):
        old_job(client).fetch_spec("old")


def test_an_id_leads_to_no_place_but_the_folder(
    client: openai.OpenAI, service: respx.MockRouter, content: bytes
) -> None:
    service.get(path__regex="/content$").respond(content=content)
    spec = old_job(client, training_file="../../etc/passwd").fetch_spec("old")
    assert spec.training.path.parent == Path("old")  # type: ignore[union-attr]
    assert [path.name for path in Path("old").iterdir()] == ["..%2F..%2Fetc%2Fpasswd.jsonl"]


# Weights.

ADAPTER = {
    "file-a": ("ckpt-2/adapter_model.safetensors", b"weights"),
    "file-b": ("ckpt-2/config.json", b"{}"),
}


def give_weights(service: respx.MockRouter, files: Mapping[str, tuple[str | None, bytes]]) -> None:
    checkpoints = [
        {"id": "ckpt-1", "step_number": 1, "result_files": ["file-first"]},
        {"id": "ckpt-2", "step_number": 2, "result_files": list(files)},
        {"id": "ckpt-3", "step_number": 3, "result_files": []},
    ]
    service.get("/fine_tuning/jobs/ftjob-old/checkpoints").respond(json={"data": checkpoints})
    for id_, (name, content) in files.items():
        service.get(f"/files/{id_}").respond(json={"id": id_, "filename": name, "bytes": len(content)})
        service.get(f"/files/{id_}/content").respond(content=content)


def test_the_weights_of_the_last_checkpoint_that_has_some_are_downloaded(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    give_weights(service, ADAPTER)
    paths = old_job(client, "nebius").download("weights")
    assert paths == [Path("weights/adapter_model.safetensors"), Path("weights/config.json")]
    assert paths[0].read_bytes() == b"weights"


def test_another_checkpoint_can_be_chosen(client: openai.OpenAI, service: respx.MockRouter) -> None:
    give_weights(service, {"file-first": ("first.safetensors", b"1")})
    job = old_job(client, "nebius")
    first = job.checkpoints()[0]
    assert [path.name for path in job.download("weights", checkpoint=first)] == ["first.safetensors"]


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ({"file-a": ("../../evil", b"1")}, ["evil"]),
        ({"file-a": ("..\\..\\evil", b"1")}, ["evil"]),
        ({"file-a": ("/", b"1"), "file-b": ("..", b"2")}, ["file-a", "file-b"]),
        ({"file-a": (None, b"1")}, ["file-a"]),
        ({"file-a": ("x/same", b"1"), "file-b": ("y/same", b"2")}, ["same", "file-b-same"]),
    ],
)
def test_a_name_from_a_service_leads_out_of_no_folder_and_overwrites_no_other(
    client: openai.OpenAI,
    service: respx.MockRouter,
    files: dict[str, tuple[str | None, bytes]],
    names: list[str],
) -> None:
    give_weights(service, files)
    paths = old_job(client, "nebius").download("weights")
    assert [path.name for path in paths] == names
    assert {path.parent for path in paths} == {Path("weights")}
    assert sorted(Path("weights").iterdir()) == sorted(paths)


def test_weights_that_are_not_given_not_there_or_cut_are_told_apart(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    with pytest.raises(NotSupported, match=r"'openai' gives out no weights.*nebius"):
        old_job(client).download("weights")
    give_weights(service, {})
    service.get("/fine_tuning/jobs/ftjob-old/checkpoints").respond(json={"data": [{"id": "ckpt-1"}]})
    with pytest.raises(NotFound, match="no checkpoint with files"):
        old_job(client, "nebius").download("weights")
    give_weights(service, ADAPTER)
    service.get("/files/file-b/content").respond(content=b"{")
    with pytest.raises(ServiceUnavailable, match=r"'file-b' .* came with 1 of 2 bytes"):
        old_job(client, "nebius").download("weights")
    assert not Path("weights/config.json").exists()
    Path("a-file").touch()
    with pytest.raises(FileAccessError, match="a-file"):
        old_job(client, "nebius").download("a-file")


# Answers as labels.


def answers(items: list[Item], prices: list[float | None]) -> list[Prediction]:
    return [Prediction(item_id=item.id, price=price) for item, price in zip(items, prices, strict=True)]


def test_answers_become_labels_that_say_whose_they_are() -> None:
    items = [Item(title=f"thing {n}", id=f"{n}") for n in range(3)] + [Item(title="known", price=5, id="3")]
    labels = ItemDataset.from_predictions(items, answers(items, [10.5, None, 20, 7]), model="ft:old")
    assert [(item.id, item.price) for item in labels] == [("0", 10.5), ("2", 20)]
    assert labels.history == ("priced by 'ft:old', and not known to be true: 2 of 4 items",)
    mixed = ItemDataset.concat(ItemDataset.from_items(items[3:]), labels)
    assert labels.history[0] in mixed.shuffle().split(validation=1, test=0).train.history


@pytest.mark.parametrize(
    ("predictions", "words"),
    [
        ([Prediction(item_id="0", price=1)], "row 2: there must be one prediction for each item"),
        ([Prediction(item_id=i, price=1) for i in "012"], "row 3: there must be one prediction"),
        (
            [Prediction(item_id=i, price=1) for i in "10"],
            "row 1: the prediction is for item '1', not for '0'",
        ),
    ],
)
def test_answers_of_other_items_are_refused_by_their_row(predictions: list[Prediction], words: str) -> None:
    items = [Item(title=f"thing {n}", id=f"{n}") for n in range(2)]
    with pytest.raises(DataError, match=words):
        ItemDataset.from_predictions(items, predictions, model="m")
    texts: Any = ["a lamp"]
    with pytest.raises(DataError, match="row 1: an item must be an Item, not the text"):
        ItemDataset.from_predictions(texts, predictions, model="m")
