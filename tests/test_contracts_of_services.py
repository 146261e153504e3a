"""Each service is asked in its own way: the exact requests, against shapes recorded from their documents."""

import codecs
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import openai
import pytest
import respx

from finetune_pricer import FineTuneJob, JsonlWriter, MadeUpCatalogue, TrainingFile
from finetune_pricer.errors import DataError
from finetune_pricer.providers import PROVIDERS, Provider
from finetune_pricer.tune.spec import FORMATTER_KEY, SPEC_KEY, TOKEN_KEY

ADDRESSES = {
    "openai": "https://api.openai.com/v1/",
    "azure": "https://shop.openai.azure.com/openai/v1/",
    "nebius": "https://api.tokenfactory.nebius.com/v1/",
    "crusoe": "https://api.intelligence.crusoecloud.com/v1/",
}
MODELS = {
    "openai": "o-future-mini",
    "azure": "gpt-oss-20b",
    "nebius": "meta-llama/Llama-3.1-8B-Instruct",
    "crusoe": "Qwen/Qwen3.5-9B",
}


class Desk:
    """A service's front desk: takes files and jobs, and keeps what was sent."""

    def __init__(self, router: respx.MockRouter) -> None:
        self.jobs: list[dict[str, Any]] = []
        self.uploads: list[bytes] = []
        router.get(path__regex=r"/models/.*").respond(404, json={"error": {"code": "model_not_found"}})
        router.get(path__regex=r"/models$").respond(json={"object": "list", "data": []})
        router.get(path__regex=r"/fine_tuning/jobs$").respond(json={"object": "list", "data": []})
        router.get(path__regex=r"/files/file-1$").respond(json={"id": "file-1", "object": "file"})
        router.post(path__regex=r"/files$").mock(side_effect=self._file)
        router.post(path__regex=r"/fine_tuning/jobs$").mock(side_effect=self._job)

    def _file(self, request: httpx2.Request) -> Any:
        self.uploads.append(request.read())
        return httpx2.Response(200, json={"id": f"file-{len(self.uploads)}", "object": "file"})

    def _job(self, request: httpx2.Request) -> Any:
        self.jobs.append(json.loads(request.read()))
        return httpx2.Response(200, json={"id": "ftjob-1", "status": "queued", "result_files": None})


@contextmanager
def desk_of(name: str) -> Iterator[tuple[openai.OpenAI, Desk]]:
    with (
        respx.mock(assert_all_called=False) as router,
        openai.OpenAI(api_key="sk-x", base_url=ADDRESSES[name], max_retries=0) as client,
    ):
        desk = Desk(router)
        if name == "openai":
            router.get(path__regex=r"/models/.*").respond(
                json={"id": MODELS[name], "object": "model", "shutdown_date": None}
            )
        yield client, desk


@pytest.fixture
def training() -> TrainingFile:
    return JsonlWriter().write(MadeUpCatalogue().splits(train=12, validation=1, test=1).train, "train.jsonl")


def sent(name: str, training: TrainingFile, **settings: Any) -> dict[str, Any]:
    """Create a job and give the body that the service saw, without our own metadata."""
    with desk_of(name) as (client, desk):
        FineTuneJob.create(client, training, model=settings.pop("model", MODELS[name]), **settings)
    (body,) = desk.jobs
    metadata = body.pop("metadata")
    assert set(metadata) == {SPEC_KEY, TOKEN_KEY, FORMATTER_KEY}
    return body


def test_openai_takes_hyperparameters_in_method(training: TrainingFile) -> None:
    body = sent(
        "openai",
        training,
        epochs=2,
        batch_size="auto",
        learning_rate_multiplier=1.8,
        seed=42,
        suffix="shop",
        provider=PROVIDERS["openai"].model_copy(update={"no_new_jobs_after": None}),  # whatever day it is
    )
    assert body == {
        "model": "o-future-mini",
        "training_file": "file-1",
        "method": {
            "type": "supervised",
            "supervised": {
                "hyperparameters": {"n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": 1.8}
            },
        },
        "seed": 42,
        "suffix": "shop",
    }


def test_azure_is_told_the_training_type_and_gets_a_byte_order_mark(training: TrainingFile) -> None:
    with desk_of("azure") as (client, desk):
        FineTuneJob.create(client, training, model="gpt-oss-20b", epochs=1, seed=7, suffix="pricer")
    (body,) = desk.jobs
    body.pop("metadata")
    assert body == {
        "model": "gpt-oss-20b",
        "training_file": "file-1",
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}},
        "seed": 7,
        "suffix": "pricer",
        "trainingType": "Standard",
    }
    content = desk.uploads[0].split(b"\r\n\r\n")
    marked = [part for part in content if part.startswith(codecs.BOM_UTF8)]
    assert len(marked) == 1
    assert marked[0].startswith(codecs.BOM_UTF8 + training.path.read_bytes())


def test_the_training_type_of_azure_can_be_chosen(training: TrainingFile) -> None:
    developer = PROVIDERS["azure"].model_copy(update={"extra_body": {"trainingType": "Developer"}})
    assert sent("azure", training, provider=developer)["trainingType"] == "Developer"


@pytest.mark.parametrize("suffix", ["a-suffix-of-more-than-18", "v1.2"])
def test_a_suffix_that_azure_would_refuse_is_refused_before_anything_is_sent(
    training: TrainingFile, suffix: str
) -> None:
    with desk_of("azure") as (client, desk), pytest.raises(DataError, match="at 'azure'"):
        FineTuneJob.create(client, training, model="gpt-oss-20b", suffix=suffix)
    assert not desk.uploads


def test_nebius_takes_them_at_the_top_with_lora_on_and_an_absolute_learning_rate(
    training: TrainingFile,
) -> None:
    body = sent("nebius", training, epochs=3, batch_size=8, learning_rate_multiplier=2, seed=1, suffix="shop")
    assert body == {
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "training_file": "file-1",
        "hyperparameters": {"lora": True, "n_epochs": 3, "batch_size": 8, "learning_rate": 2e-05},
        "seed": 1,
        "suffix": "shop",
    }
    assert "method" not in body


def test_nebius_is_not_sent_auto(training: TrainingFile) -> None:
    body = sent("nebius", training, epochs="auto", batch_size="auto", learning_rate_multiplier="auto")
    assert body["hyperparameters"] == {"lora": True}


def test_an_absolute_rate_under_the_name_of_a_multiplier_is_refused_with_the_right_number(
    training: TrainingFile,
) -> None:
    with desk_of("nebius") as (client, desk), pytest.raises(DataError, match="for a rate of 2e-05 give 2"):
        FineTuneJob.create(client, training, model=MODELS["nebius"], learning_rate_multiplier=2e-5)
    assert not desk.uploads


def test_crusoe_takes_its_lora_keys_beside_the_protocols_own(training: TrainingFile) -> None:
    provider = PROVIDERS["crusoe"].with_lora(rank=16, alpha=32, dropout=0.05)
    body = sent("crusoe", training, epochs=2, batch_size=16, provider=provider)
    assert body == {
        "model": "Qwen/Qwen3.5-9B",
        "training_file": "file-1",
        "method": {
            "type": "supervised",
            "supervised": {
                "hyperparameters": {
                    "lora_variant": "lora",
                    "overlong_row_behavior": "error",
                    "lora_rank": 16,
                    "lora_alpha": 32,
                    "lora_dropout": 0.05,
                    "n_epochs": 2,
                    "batch_size": 16,
                }
            },
        },
    }


@pytest.mark.parametrize(
    ("name", "settings", "range_"),
    [
        ("openai", {"epochs": 51}, "1 to 50 at 'openai', not 51"),
        ("nebius", {"epochs": 21}, "1 to 20 at 'nebius', not 21"),
        ("nebius", {"batch_size": 33}, "1 to 32 at 'nebius', not 33"),
        ("crusoe", {"batch_size": 8}, "one of 16, 32, .* at 'crusoe', not 8"),
        ("azure", {"epochs": 0}, "at least 1 or 'auto', not 0"),
        ("azure", {"learning_rate_multiplier": float("nan")}, "above 0 or 'auto', not nan"),
        ("azure", {"seed": -1}, "seed must be a whole number from 0"),
        ("azure", {"seed": 1.5}, "seed must be a whole number from 0"),
        ("azure", {"seed": "1"}, "seed must be a whole number from 0"),
    ],
)
def test_a_setting_out_of_a_services_range_is_refused_before_anything_is_sent(
    training: TrainingFile, name: str, settings: dict[str, Any], range_: str
) -> None:
    with desk_of(name) as (client, desk), pytest.raises(DataError, match=range_):
        FineTuneJob.create(client, training, model=MODELS[name], **settings)
    assert not desk.uploads


def test_a_service_that_wants_the_method_unchecked_gets_it_so(training: TrainingFile) -> None:
    own = Provider(name="own", hyperparameters="extra_body", suffix_max=None)
    body = sent("nebius", training, provider=own, epochs=1)
    assert body["method"]["supervised"]["hyperparameters"] == {"n_epochs": 1}


def test_a_second_job_from_the_same_file_sends_no_second_copy(training: TrainingFile) -> None:
    with desk_of("nebius") as (client, desk):
        FineTuneJob.create(client, training, model=MODELS["nebius"], seed=1)
        FineTuneJob.create(client, training, model=MODELS["nebius"], seed=2)
    assert len(desk.uploads) == 1
    assert [job["training_file"] for job in desk.jobs] == ["file-1", "file-1"]
    assert desk.jobs[0]["metadata"][SPEC_KEY] != desk.jobs[1]["metadata"][SPEC_KEY]
