"""Nothing is sent for a job that cannot become one, and the refusal says where else it can."""

import json
import warnings
from datetime import date
from typing import Any

import openai
import pytest
import respx

from finetune_pricer import ChatFormatter, FineTuneJob, JsonlWriter, MadeUpCatalogue, TrainingFile
from finetune_pricer.errors import (
    AccessDenied,
    DataError,
    ModelNotFound,
    ModelRetired,
    NotConfigured,
    NotSupported,
    TrainingFileError,
    TrainingNotAvailable,
)
from finetune_pricer.providers import PROVIDERS, Provider, Retirement, provider_of
from finetune_pricer.tune.preflight import check_dates

BASE_URL = "https://service.test/v1"
NANO = "gpt-4.1-nano-2025-04-14"
REFUSED = {"error": {"message": "winding down", "code": "training_not_available", "param": None}}


@pytest.fixture
def training() -> TrainingFile:
    return JsonlWriter().write(MadeUpCatalogue().splits(train=12, validation=1, test=1).train, "train.jsonl")


@pytest.fixture
def desk(service: respx.MockRouter) -> respx.MockRouter:
    """A service that would take anything."""
    service.get(path__regex=r"/models/.*", name="model").respond(404, json={"error": {}})
    service.get("/fine_tuning/jobs", name="jobs").respond(json={"data": None})
    service.post("/files", name="upload").respond(json={"id": "file-1", "status": None})
    service.delete("/files/file-1", name="removal").respond(json={"id": "file-1", "deleted": True})
    service.post("/fine_tuning/jobs", name="create").respond(json={"id": "ftjob-1", "status": "pending"})
    return service


def test_a_model_that_is_shut_down_is_refused_before_upload_with_date_and_alternatives(
    client: openai.OpenAI, desk: respx.MockRouter, training: TrainingFile
) -> None:
    with pytest.raises(ModelRetired) as caught:
        FineTuneJob.create(client, training, model=NANO, provider="openai")
    assert caught.value.date == "2026-10-23"
    for word in ("2026-10-23", "nebius", "crusoe", "azure", "local", "developers.openai.com"):
        assert word in str(caught.value)
    assert not desk["upload"].called
    assert not desk["create"].called


@pytest.mark.parametrize(
    ("model", "has_block", "is_said"),
    [
        ("Qwen/Qwen3-8B", False, True),
        ("Qwen/Qwen3-8B", True, False),
        ("meta-llama/Llama-3.1-8B", False, False),
    ],
)
def test_a_base_that_thinks_and_learns_from_answers_without_the_empty_block_is_warned_of(
    client: openai.OpenAI,
    desk: respx.MockRouter,
    caplog: pytest.LogCaptureFixture,
    *,
    model: str,
    has_block: bool,
    is_said: bool,
) -> None:
    own = Provider(name="own", thinking=PROVIDERS["nebius"].thinking)
    formatter = ChatFormatter().for_base(model, own) if has_block else ChatFormatter()
    train = MadeUpCatalogue().splits(train=12, validation=1, test=1).train
    training = JsonlWriter(formatter).write(train, "block.jsonl")
    FineTuneJob.create(client, training, model=model, provider=own)
    assert ("ChatFormatter().for_base('Qwen/Qwen3-8B', 'own')" in caplog.text) is is_said


def test_a_model_that_the_service_has_forgotten_is_refused_with_its_date(
    client: openai.OpenAI, desk: respx.MockRouter, training: TrainingFile
) -> None:
    desk["model"].respond(404, json={"error": {"code": "model_not_found", "message": "no such model"}})
    with pytest.raises(ModelRetired, match="2026-10-23"):
        FineTuneJob.create(client, training, model=NANO, provider="openai")
    assert not desk["upload"].called
    with pytest.warns(UserWarning, match="2026-10-23"):
        FineTuneJob.create(client, training, model=NANO, provider="openai", force=True)
    assert desk["create"].called


def test_the_same_model_is_allowed_at_azure_with_a_warning(
    client: openai.OpenAI, desk: respx.MockRouter, training: TrainingFile
) -> None:
    with pytest.warns(UserWarning, match="no earlier than 2027-04-14|existing customers only"):
        job = FineTuneJob.create(client, training, model=NANO, provider="azure")
    assert job.id == "ftjob-1"
    assert desk["create"].call_count == 1


def test_force_asks_all_the_same_and_warns(
    client: openai.OpenAI, desk: respx.MockRouter, training: TrainingFile
) -> None:
    desk["model"].respond(json={"id": NANO})
    with pytest.warns(UserWarning, match="2026-10-23"):
        FineTuneJob.create(client, training, model=NANO, provider="openai", force=True)
    assert desk["create"].call_count == 1


def test_the_services_own_date_wins_over_what_is_known() -> None:
    ends = Retirement(models=("m*",), training_ends=date(2030, 1, 1), source="a page")
    provider = Provider(name="own", retirements=(ends,))
    with pytest.raises(ModelRetired, match="2026-11-22, says the service"):
        check_dates("m1", provider, announced=date(2026, 11, 22), today=date(2026, 11, 22), force=False)
    late = Provider(name="own", retirements=(ends.model_copy(update={"training_ends": date(2026, 1, 1)}),))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_dates("m1", late, announced=date(2030, 1, 1), today=date(2026, 11, 22), force=False)


@pytest.mark.parametrize(("days", "warned"), [(91, False), (90, True), (1, True)])
def test_within_ninety_days_of_its_end_a_model_is_warned_of(days: int, warned: bool) -> None:
    today = date(2026, 6, 1)
    ends = Retirement(
        models=("m",), training_ends=date.fromordinal(today.toordinal() + days), source="a page"
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_dates("m", Provider(name="own", retirements=(ends,)), announced=None, today=today, force=False)
    assert bool(caught) is warned


def test_a_service_that_takes_no_more_jobs_is_refused_whatever_the_model() -> None:
    with pytest.raises(ModelRetired, match="last jobs on 2027-01-05"):
        check_dates("new", PROVIDERS["openai"], announced=None, today=date(2027, 1, 6), force=False)
    with pytest.warns(UserWarning, match="last jobs on 2027-01-05"):
        check_dates("new", PROVIDERS["openai"], announced=None, today=date(2027, 1, 5), force=False)


def test_on_a_day_that_a_service_gives_as_the_earliest_nobody_is_refused() -> None:
    day = date(2027, 6, 1)
    with pytest.warns(UserWarning, match="no earlier than 2027-04-14.*others may be refused"):
        check_dates(NANO, PROVIDERS["azure"], announced=None, today=day, force=False)
    with pytest.raises(ModelRetired, match="on 2027-05-01, says the service"):
        check_dates(NANO, PROVIDERS["azure"], announced=date(2027, 5, 1), today=day, force=False)


ENDS = {
    # Training and serving, by the services' pages as read on 2026-11-26; None: no date is known.
    ("openai", "babbage-002"): ("2026-09-28", "2026-09-28"),
    ("openai", "davinci-002"): ("2026-09-28", "2026-09-28"),
    ("openai", "gpt-3.5-turbo-1106"): ("2026-09-28", "2026-09-28"),
    ("openai", "gpt-3.5-turbo-instruct"): ("2026-09-28", "2026-09-28"),
    ("openai", "gpt-3.5-turbo"): ("2026-10-23", "2026-10-23"),
    ("openai", "gpt-3.5-turbo-0125"): ("2026-10-23", "2026-10-23"),
    ("openai", "gpt-4"): ("2026-10-23", "2026-10-23"),
    ("openai", "gpt-4-0613"): ("2026-10-23", "2026-10-23"),
    ("openai", "gpt-4o-2024-05-13"): ("2026-10-23", "2026-10-23"),
    ("openai", NANO): ("2026-10-23", "2026-10-23"),
    ("openai", "gpt-4o-2024-08-06"): ("2027-01-14", "2027-01-14"),
    ("openai", "gpt-4.1-mini-2025-04-14"): ("2027-01-14", "2027-01-14"),
    ("openai", "ft:gpt-4.1-2025-04-14:shop:pricer:abc"): ("2027-01-14", "2027-01-14"),
    ("openai", "gpt-5-mini"): (None, "2026-12-11"),
    ("openai", "gpt-5"): (None, "2026-12-11"),
    ("openai", "gpt-5.1"): (None, "2027-04-01"),
    ("openai", "gpt-5.4-nano"): (None, "2027-04-01"),
    ("openai", "gpt-5.2"): None,
    ("azure", "o4-mini-2025-04-16"): ("2027-04-16", "2027-10-16"),
    ("azure", "gpt-4.1-mini"): ("2027-04-14", "2027-10-14"),
    ("azure", "gpt-4o-mini-2024-07-18"): ("2027-04-01", "2027-10-01"),
    ("azure", "gpt-4o-2024-11-20"): None,  # cannot be tuned
    ("azure", "gpt-oss-20b"): None,
    ("nebius", "meta-llama/Llama-3.1-8B-Instruct"): None,
}


@pytest.mark.parametrize(("provider", "model"), ENDS)
def test_a_model_ends_when_its_service_says_so(provider: str, model: str) -> None:
    known = PROVIDERS[provider].retirement(model)
    ends = known and tuple(day and day.isoformat() for day in (known.training_ends, known.serving_ends))
    assert ends == ENDS[provider, model]


def test_a_tuned_model_ends_with_its_base() -> None:
    known = PROVIDERS["openai"].retirement("ft:gpt-4o-mini-2024-07-18:shop:pricer:abc")
    assert known is not None
    assert known.training_ends == date(2027, 1, 14)


def test_a_model_that_the_service_does_not_know_is_refused_before_upload(
    client: openai.OpenAI, desk: respx.MockRouter, training: TrainingFile
) -> None:
    desk["model"].respond(404, json={"error": {"code": "model_not_found", "message": "no such model"}})
    with pytest.raises(ModelNotFound):
        FineTuneJob.create(client, training, model="nonesuch", provider="local")
    assert not desk["upload"].called


def test_where_a_service_lists_no_bases_an_unknown_model_is_asked_for(
    client: openai.OpenAI, desk: respx.MockRouter, training: TrainingFile
) -> None:
    desk["model"].respond(404, json={"error": {"code": "model_not_found", "message": "no such model"}})
    FineTuneJob.create(client, training, model="a/base", provider="nebius")
    assert desk["create"].called


def test_training_that_is_not_available_says_where_it_is_and_takes_the_files_back(
    client: openai.OpenAI, desk: respx.MockRouter, training: TrainingFile
) -> None:
    desk["create"].respond(403, json=REFUSED)
    with pytest.raises(TrainingNotAvailable) as caught:
        FineTuneJob.create(client, training, model="m")
    assert isinstance(caught.value, AccessDenied)
    assert (caught.value.status, caught.value.code) == (403, "training_not_available")
    assert "nebius (meta-llama/Llama-3.1-8B-Instruct)" in str(caught.value)
    assert desk["removal"].call_count == 1
    desk["create"].respond(json={"id": "ftjob-2"})
    assert FineTuneJob.create(client, training, model="m").id == "ftjob-2"
    assert desk["upload"].call_count == 2


def test_files_that_were_there_before_are_not_taken_back(
    client: openai.OpenAI, desk: respx.MockRouter, training: TrainingFile
) -> None:
    desk.get("/files/file-1").respond(json={"id": "file-1"})
    FineTuneJob.create(client, training, model="m")
    desk["create"].respond(403, json=REFUSED)
    with pytest.raises(TrainingNotAvailable):
        FineTuneJob.create(client, training, model="m", seed=2)
    assert not desk["removal"].called


def test_a_file_that_is_too_small_or_too_large_is_refused_before_upload(
    client: openai.OpenAI, desk: respx.MockRouter, training: TrainingFile
) -> None:
    for limits, words in (({"min_examples": 13}, "12 examples"), ({"max_file_bytes": 100}, "at most 100")):
        with pytest.raises(TrainingFileError, match=words):
            FineTuneJob.create(
                client, training, model="m", provider=Provider.model_validate({"name": "own", **limits})
            )
    assert not desk["upload"].called


def test_a_file_that_has_changed_is_refused_before_upload(
    client: openai.OpenAI, desk: respx.MockRouter, training: TrainingFile
) -> None:
    training.path.write_text("{}\n")
    with pytest.raises(TrainingFileError, match="has changed"):
        FineTuneJob.create(client, training, model="m")
    assert not desk["upload"].called


def test_other_methods_are_not_supported_and_the_reason_is_given(
    client: openai.OpenAI, training: TrainingFile
) -> None:
    with pytest.raises(NotSupported, match="supervised examples only"):
        FineTuneJob.create(client, training, model="m", method="dpo")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://shop.openai.azure.com/openai/v1/", "azure"),
        ("https://us.api.openai.com/v1", "openai"),
        ("https://jp.api.openai.com/v1", "openai"),
        ("https://api.tokenfactory.nebius.com/v1/", "nebius"),
        ("https://api.tokenfactory.eu-west1.nebius.com/v1/", "nebius"),
        ("https://api.tokenfactory.us-central1.nebius.com/v1/", "nebius"),
        ("https://api.intelligence.crusoecloud.com/v1", "crusoe"),
        ("http://127.0.0.1:8080/v1", "127.0.0.1"),
        ("https://api.openai.com.evil.example/v1", "api.openai.com.evil.example"),
    ],
)
def test_a_service_is_recognised_by_its_address_and_a_loopback_one_is_nobodys(url: str, name: str) -> None:
    with openai.OpenAI(api_key="k", base_url=url) as client:
        assert provider_of(client).name == name
        assert provider_of(client, "nebius").name == "nebius"


def test_an_unknown_provider_is_named_with_those_that_are_known(client: openai.OpenAI) -> None:
    with pytest.raises(NotConfigured, match=r"'nonesuch'; known: openai, azure, nebius, crusoe, local"):
        provider_of(client, "nonesuch")


def test_a_lora_can_be_chosen_where_the_service_has_one() -> None:
    assert PROVIDERS["nebius"].with_lora(rank=16).always == {"lora": True, "lora_r": 16}
    with pytest.raises(DataError, match="rank must be 8 to 128 at 'nebius', not 4"):
        PROVIDERS["nebius"].with_lora(rank=4)
    with pytest.raises(DataError, match="cannot be chosen at 'openai'"):
        PROVIDERS["openai"].with_lora(rank=16)


def test_neither_key_nor_prompt_goes_into_the_journal(
    client: openai.OpenAI, desk: respx.MockRouter, training: TrainingFile, tmp_path: Any
) -> None:
    FineTuneJob.create(client, training, model="m")
    prompt = json.loads(training.path.read_text().splitlines()[0])["messages"][0]["content"]
    written = b"".join(path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file())
    assert BASE_URL.encode() in written
    assert client.api_key.encode() not in written
    assert prompt.splitlines()[-1].encode() not in written
