"""Answers that services really gave, replayed: what the profiles say of them must fit.

Nebius: outputs of https://github.com/nebius/token-factory-cookbook, post-training/fine-tuning-1 (December
2025) and distillation/distillation-1 (July 2025). Of the others fields, words and nulls are as recorded, and
ids and times are made up. Crusoe: what a public demo that was run on 2026-09-27 reads from the answers.
Azure: what https://learn.microsoft.com/azure/foundry/openai/how-to/fine-tuning shows. OpenAI:
public notebooks of price exercises, and the words and keys of its events.
"""

import json
from typing import Any

import httpx2
import openai
import pytest
import respx

from finetune_pricer import FineTuneJob, JsonlWriter, MadeUpCatalogue, TrainingFile
from finetune_pricer.errors import DataError, ModelNotFound, OverBudget
from finetune_pricer.providers import PROVIDERS, Provider
from finetune_pricer.tune import JobRecord
from finetune_pricer.tune.spec import JobSpec

NEBIUS_FILE = {
    "id": "file-76807105-7fed-4350-940c-a1dd1b5b6f49",
    "bytes": 8802754,
    "created_at": 1753341501,
    "filename": "fine_tuning_train.jsonl",
    "object": "file",
    "purpose": "fine-tune",
    "status": None,
    "expires_at": None,
    "status_details": None,
}
NEBIUS_JOB = {
    "id": "ftjob-c7cc1f8df48144aeb180a5bf5818dc81",
    "created_at": 1753341502,
    "error": None,
    "fine_tuned_model": None,
    "finished_at": None,
    "hyperparameters": {
        "batch_size": 32,
        "learning_rate_multiplier": None,
        "n_epochs": 10,
        "learning_rate": 1e-05,
        "warmup_ratio": 0.0,
        "weight_decay": 0.0,
        "lora": True,
        "lora_r": 16,
        "lora_alpha": 16,
        "lora_dropout": 0.0,
        "packing": True,
        "max_grad_norm": 1.0,
        "context_length": 8192,
    },
    "model": "Qwen/Qwen3-4B",
    "object": "fine_tuning.job",
    "organization_id": "",
    "result_files": [],
    "seed": 42,
    "status": "running",
    "trained_tokens": 0,
    "training_file": "file-76807105-7fed-4350-940c-a1dd1b5b6f49",
    "validation_file": "file-d1c98e51-a4ab-4d9d-9c2d-5e0a1b800f20",
    "estimated_finish": None,
    "integrations": None,
    "metadata": None,
    "method": None,
    "suffix": "",
    "trained_steps": 0,
    "total_steps": None,
}
NEBIUS_EVENTS = [
    ("Job is submitted", 1765431035),
    ("Dataset 'validation' processed successfully", 1765431063),
    ("Dataset 'training' processed successfully", 1765431065),
    ("Training completed successfully", 1765431268),
]
NEBIUS_LOSSES = [
    (3.363983, 3.284986),
    (3.364883, 2.765526),
    (3.316328, 2.397027),
    (3.234269, 2.289490),
    (3.147930, 2.252911),
]
QWEN = "Qwen/Qwen3.5-9B"
CRUSOE_MODELS = [
    {
        "id": "ftmodel-0003",
        "model_name": QWEN,
        "model_type": "fine_tuned_model",
        "fine_tuning_available": None,
        "inference_available": True,
    },
    {
        "id": "model-qwen-0001",
        "model_name": QWEN,
        "model_type": "base_model",
        "fine_tuning_available": True,
        "inference_available": True,
    },
    {
        "id": "model-deepseek-0002",
        "model_name": "deepseek-ai/DeepSeek-V4-Pro",
        "model_type": "base_model",
        "fine_tuning_available": False,
        "inference_available": True,
    },
]
AZURE_JOB = {
    "id": "ftjob-1",
    "created_at": 1715824115,
    "error": None,
    "fine_tuned_model": None,
    "finished_at": None,
    "hyperparameters": {"n_epochs": -1, "batch_size": -1, "learning_rate_multiplier": 1},
    "model": "gpt-4.1-2025-04-14",
    "object": "fine_tuning.job",
    "organization_id": None,
    "result_files": None,
    "seed": 105,
    "status": "pending",
    "trained_tokens": None,
    "training_file": "file-1",
    "validation_file": "file-2",
}


@pytest.fixture
def training() -> TrainingFile:
    return JsonlWriter().write(MadeUpCatalogue().splits(train=12, validation=1, test=1).train, "train.jsonl")


# Nebius.


def test_the_metrics_of_nebius_are_those_of_its_checkpoints_and_its_events_are_left_alone(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    events = service.get(path__regex="/events").respond(
        json={
            "data": [
                {"id": f"e-{n}", "message": message, "created_at": at, "level": "info", "type": "message"}
                for n, (message, at) in enumerate(NEBIUS_EVENTS)
            ]
        }
    )
    service.get(path__regex="/checkpoints").respond(
        json={
            "data": [
                {
                    "id": f"ftckpt_{n}",
                    "step_number": n,
                    "metrics": {"train_loss": train, "valid_loss": valid},
                    "result_files": [f"file-{n}-0"],
                }
                for n, (train, valid) in enumerate(NEBIUS_LOSSES, start=1)
            ]
        }
    )
    job = FineTuneJob(client, JobRecord.read(NEBIUS_JOB), PROVIDERS["nebius"])
    assert [(each.train_loss, each.valid_loss) for each in job.metrics()] == NEBIUS_LOSSES
    assert not events.called
    assert [event.message for event in job.events()] == [message for message, _ in NEBIUS_EVENTS]


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ({"epochs": 10, "batch_size": 32}, True),
        ({"epochs": 10, "batch_size": 32, "learning_rate_multiplier": 1}, True),
        ({"epochs": 10, "batch_size": 32, "learning_rate_multiplier": 10}, False),
        ({"epochs": 3, "batch_size": 32}, False),
    ],
)
def test_the_settings_that_nebius_shows_of_a_job_are_told_apart(
    training: TrainingFile, settings: dict[str, Any], same: bool
) -> None:
    job, nebius = JobRecord.read(NEBIUS_JOB), PROVIDERS["nebius"].with_lora(rank=16, alpha=16)
    spec = JobSpec.make(
        training,
        training,
        model="Qwen/Qwen3-4B",
        seed=42,
        provider=nebius,
        **{"learning_rate_multiplier": 1, **settings},
    )
    files = {str(job.training_file)}, {str(job.validation_file)}
    assert spec.looks_like(job, *files) is same


def test_the_names_that_nebius_shows_of_settings_are_those_that_it_is_sent() -> None:
    nebius = PROVIDERS["nebius"].with_lora(rank=16, alpha=16, dropout=0).with_context_length(8192)
    sent = {*nebius.always, *(setting.name for setting in nebius.settings.values())}
    assert sent <= set(NEBIUS_JOB["hyperparameters"])  # type: ignore[call-overload]
    assert nebius.max_example_tokens == NEBIUS_JOB["hyperparameters"]["context_length"]  # type: ignore[index]
    rate = nebius.settings["learning_rate_multiplier"]
    assert rate.scale == NEBIUS_JOB["hyperparameters"]["learning_rate"]  # type: ignore[index]


def test_an_example_at_nebius_may_be_as_long_as_the_context_that_is_asked_for() -> None:
    nebius = PROVIDERS["nebius"]
    assert nebius.max_example_tokens == 8_192
    longer = nebius.with_context_length(32_768)
    assert (longer.max_example_tokens, longer.always["context_length"]) == (32_768, 32_768)
    with pytest.raises(DataError, match=r"one of 8192, 16384, .* at 'nebius', not 9000"):
        nebius.with_context_length(9_000)
    with pytest.raises(DataError, match="cannot be chosen at 'openai'"):
        PROVIDERS["openai"].with_context_length(8_192)


def test_a_file_without_a_status_is_used_at_once(
    client: openai.OpenAI, service: respx.MockRouter, training: TrainingFile
) -> None:
    service.get(path__regex=r"/models/.*").respond(404, json={"error": {}})
    service.get("/fine_tuning/jobs").respond(json={"object": "list", "data": [], "has_more": False})
    service.post("/files").respond(json=NEBIUS_FILE)
    asked = service.post("/fine_tuning/jobs").respond(json=NEBIUS_JOB)
    job = FineTuneJob.create(client, training, model="Qwen/Qwen3-4B", epochs=10, provider="nebius")
    assert (job.status, job.is_final, job.error) == ("running", False, None)
    assert json.loads(asked.calls.last.request.content)["training_file"] == NEBIUS_FILE["id"]


# OpenAI.

OPENAI_JOB: dict[str, Any] = {
    "id": "ftjob-1",
    "object": "fine_tuning.job",
    "status": "running",
    "model": "gpt-4o-mini-2024-07-18",
    "error": {"code": None, "message": None, "param": None},  # as three public notebooks show a healthy job
    "hyperparameters": {"n_epochs": 1, "batch_size": 1, "learning_rate_multiplier": 1.8},
    "trained_tokens": None,
    "training_file": "file-1",
    "result_files": [],
}
OPENAI_EVENT = {
    "object": "fine_tuning.job.event",
    "id": "ftevent-300",
    "created_at": 1721764867,
    "level": "info",
    "message": "Step 300/300: training loss=0.15, validation loss=0.27, full validation loss=0.40",
    "type": "metrics",
    "data": {
        "step": 300,
        "total_steps": 300,
        "train_loss": 0.15,
        "valid_loss": 0.27,
        "train_mean_token_accuracy": None,
        "valid_mean_token_accuracy": None,
        "full_valid_loss": 0.40,
        "full_valid_mean_token_accuracy": None,
    },
}


def test_a_job_of_openai_is_healthy_with_an_empty_error_and_its_events_hold_the_losses(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    job = FineTuneJob(client, JobRecord.read(OPENAI_JOB), PROVIDERS["openai"])
    assert (job.error, job.is_final) == (None, False)
    service.get(path__regex="/events").respond(json={"data": [OPENAI_EVENT], "has_more": False})
    (metric,) = job.metrics()
    assert (metric.step, metric.total_steps) == (300, 300)
    assert (metric.train_loss, metric.valid_loss) == (0.15, 0.27)


# Azure.


def test_a_job_of_azure_that_waits_is_neither_over_nor_broken(client: openai.OpenAI) -> None:
    job = FineTuneJob(client, JobRecord.read(AZURE_JOB), PROVIDERS["azure"])
    assert (job.status, job.is_final, job.error, job.record.result_files) == ("pending", False, None, [])


@pytest.mark.parametrize(
    ("base", "kind"),
    [
        ("gpt-4.1-mini-2025-04-14", "developertier"),
        ("gpt-oss-20b", "globalstandard"),
        (None, "developertier"),
    ],
)
def test_only_the_bases_of_openai_have_a_free_kind_of_deployment_at_azure(
    client: openai.OpenAI, base: str | None, kind: str
) -> None:
    record = JobRecord(id="ftjob-1", status="succeeded", model=base, fine_tuned_model="tuned.ft-1")
    steps = str(FineTuneJob(client, record, PROVIDERS["azure"]).deploy("pricer").steps)
    assert f"--sku-name {kind} " in steps
    assert ("--model-format OpenAI" in steps) is (kind == "developertier")
    assert "'tuned.ft-1'" in steps


# Crusoe.


class Crusoe:
    """Crusoe's front desk: its catalogue, its estimate, and its jobs."""

    def __init__(self, router: respx.MockRouter, *, models: Any = None, estimate: Any = None) -> None:
        self.bodies: list[dict[str, Any]] = []
        answer = {"object": "list", "data": CRUSOE_MODELS} if models is None else models
        self.catalogue = router.get("/models").respond(404 if answer == 404 else 200, json=answer)
        router.get(path__regex=r"/models/.*").respond(404, json={"error": {}})
        self.jobs = router.get("/fine_tuning/jobs").respond(json={"data": []})
        router.get("/files").respond(json={"data": []})
        router.get("/files/file-1").respond(json={"id": "file-1"})
        self.uploads = router.post("/files").respond(json={"id": "file-1", "object": "file"})
        self.removals = router.delete("/files/file-1").respond(json={"deleted": True})
        self.estimates = router.post("/fine_tuning/jobs/estimate_price")
        self.estimates.respond(404 if estimate == 404 else 200, json=estimate)
        router.post("/fine_tuning/jobs").mock(side_effect=self._job)

    def _job(self, request: httpx2.Request) -> Any:
        self.bodies.append(json.loads(request.read()))
        return httpx2.Response(
            200, json={"id": "ftjob-1", "status": "queued", "model": self.bodies[-1]["model"]}
        )


def ask(client: openai.OpenAI, training: TrainingFile, **more: Any) -> FineTuneJob:
    return FineTuneJob.create(client, training, **{"model": QWEN, "epochs": 1, "provider": "crusoe", **more})


@pytest.mark.parametrize("name", [QWEN, QWEN.lower(), "model-qwen-0001"])
def test_crusoe_is_told_its_own_id_of_a_model(
    client: openai.OpenAI, service: respx.MockRouter, training: TrainingFile, name: str
) -> None:
    crusoe = Crusoe(service)
    ask(client, training, model=name)
    assert [body["model"] for body in crusoe.bodies] == ["model-qwen-0001"]


@pytest.mark.parametrize("models", [{"data": []}, {"data": None}, 404])
def test_a_model_that_its_list_does_not_name_is_asked_for_by_its_name(
    client: openai.OpenAI, service: respx.MockRouter, training: TrainingFile, models: Any
) -> None:
    crusoe = Crusoe(service, models=models)
    ask(client, training)
    assert [body["model"] for body in crusoe.bodies] == [QWEN]


def test_a_model_of_which_crusoe_says_that_it_cannot_be_tuned_is_refused_before_upload(
    client: openai.OpenAI, service: respx.MockRouter, training: TrainingFile
) -> None:
    crusoe = Crusoe(service)
    with pytest.raises(ModelNotFound, match=r"'crusoe' says that .*DeepSeek.* cannot be tuned"):
        ask(client, training, model="deepseek-ai/DeepSeek-V4-Pro")
    assert not crusoe.uploads.called
    ask(client, training, model="deepseek-ai/DeepSeek-V4-Pro", force=True)
    assert [body["model"] for body in crusoe.bodies] == ["model-deepseek-0002"]


def test_a_job_is_the_same_by_either_name_where_the_id_changes_and_without_metadata(
    client: openai.OpenAI, service: respx.MockRouter, training: TrainingFile
) -> None:
    crusoe = Crusoe(service)
    first = ask(client, training)
    service.get("/fine_tuning/jobs/ftjob-1").respond(json={"id": "ftjob-1", "status": "running"})
    # Another machine, and a service that keeps no metadata: the files' names tell it.
    name = f"train-{training.sha256[:16]}.jsonl"
    service.get("/files").respond(json={"data": [{"id": "file-1", "filename": name}]})
    job = {"id": "ftjob-1", "status": "running", "model": "model-qwen-0001", "training_file": "file-1"}
    crusoe.jobs.respond(json={"data": [job]})
    assert ask(client, training, journal="another.sqlite").id == first.id
    assert len(crusoe.bodies) == 1


@pytest.mark.parametrize(
    "answer",
    [{"estimated_price": 1.25}, {"currency": "USD", "total_cost": "1.25"}, {"price_usd": "$1.25", "x": 1}],
)
def test_a_budget_at_crusoe_is_held_by_what_it_says_that_the_job_would_cost(
    client: openai.OpenAI, service: respx.MockRouter, training: TrainingFile, answer: dict[str, Any]
) -> None:
    crusoe = Crusoe(service, estimate=answer)
    with pytest.raises(OverBudget, match=r"costs \$1\.25, \$0\.25 over the budget of \$1\.00, says 'crusoe'"):
        ask(client, training, budget=1.0)
    assert (crusoe.bodies, crusoe.removals.call_count) == ([], 1)
    ask(client, training, budget=1.25)
    asked = json.loads(crusoe.estimates.calls.last.request.content)
    (bought,) = crusoe.bodies
    del bought["metadata"]
    assert asked == bought


@pytest.mark.parametrize(
    "answer", [{}, {"price": None}, {"price": "soon"}, {"cost": True}, {"price": -1}, 404]
)
def test_where_it_does_not_say_and_no_price_is_known_nothing_is_bought_for_a_budget(
    client: openai.OpenAI, service: respx.MockRouter, training: TrainingFile, answer: Any
) -> None:
    crusoe = Crusoe(service, estimate=answer)
    with pytest.raises(DataError, match=r"does not say what training .* would cost"):
        ask(client, training, budget=1.0)
    assert (crusoe.bodies, crusoe.removals.call_count) == ([], 1)


def test_where_it_does_not_say_a_price_that_is_known_holds_the_budget(
    client: openai.OpenAI, service: respx.MockRouter, training: TrainingFile
) -> None:
    crusoe, llama = Crusoe(service, estimate=404), "meta-llama/Llama-3.1-8B-Instruct"
    with pytest.raises(OverBudget):
        ask(client, training, model=llama, budget=0.0)
    assert not crusoe.uploads.called
    ask(client, training, model=llama, budget=1.0)
    assert len(crusoe.bodies) == 1


def test_a_service_without_an_estimate_is_not_asked_for_one(
    client: openai.OpenAI, service: respx.MockRouter, training: TrainingFile
) -> None:
    crusoe = Crusoe(service)
    llama = "meta-llama/Llama-3.1-8B-Instruct"
    FineTuneJob.create(client, training, model=llama, epochs=1, budget=1.0, provider="nebius")
    assert not crusoe.estimates.called
    assert not crusoe.catalogue.called


@pytest.mark.parametrize(
    ("setting", "value", "taken"),
    [("rank", 24, False), ("rank", 32, True), ("alpha", 3, False), ("alpha", 512, True), ("rank", 1, False)],
)
def test_crusoe_takes_only_the_ranks_and_alphas_of_its_list(setting: str, value: int, taken: bool) -> None:
    crusoe: Provider = PROVIDERS["crusoe"]
    if taken:
        assert crusoe.with_lora(**{setting: value}).always[f"lora_{setting}"] == value
    else:
        with pytest.raises(
            DataError, match=f"the LoRA's {setting} must be one of .* at 'crusoe', not {value}"
        ):
            crusoe.with_lora(**{setting: value})


@pytest.mark.parametrize("name", ["openai", "azure", "crusoe"])
def test_a_factor_on_the_learning_rate_has_no_bound_but_zero(training: TrainingFile, name: str) -> None:
    for factor in (1e-6, 1000):
        JobSpec.make(training, model="m", learning_rate_multiplier=factor, provider=PROVIDERS[name])
    with pytest.raises(DataError, match="above 0"):
        JobSpec.make(training, model="m", learning_rate_multiplier=0, provider=PROVIDERS[name])
