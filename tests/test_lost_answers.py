"""The rules by which a job whose answer was lost is found, and no other job is taken for it.

Each test fails when its rule is broken.
"""

import json
from pathlib import Path

import openai
import pytest

from finetune_pricer import JsonlWriter, MadeUpCatalogue, TrainingFile
from finetune_pricer.errors import RequestRejected, ServiceUnavailable
from finetune_pricer.tune.journal import Journal
from shop import DOORS, URL, Door, Shop

POST_JOB = "POST /fine_tuning/jobs"
LIST_JOBS = "GET /fine_tuning/jobs"


def write(seed: int, path: Path) -> TrainingFile:
    return JsonlWriter().write(MadeUpCatalogue(seed=seed).splits(train=12, validation=1, test=1).train, path)


@pytest.fixture
def training(tmp_path: Path) -> TrainingFile:
    return write(7, tmp_path / "train.jsonl")


@pytest.fixture
def validation(tmp_path: Path) -> TrainingFile:
    return write(8, tmp_path / "validation.jsonl")


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("keeps_metadata", [True, False])
def test_a_gateway_that_passes_a_request_on_late_is_waited_for(
    door: Door, training: TrainingFile, *, keeps_metadata: bool
) -> None:
    lists = 2 * 4  # for each of four looks one by the metadata, and one of all jobs
    shop = Shop(["made and lost"], keeps_metadata=keeps_metadata, looks_before_shown=lists)
    assert shop.create(door, training) == "ftjob-0"
    assert shop.counts[POST_JOB] == len(shop.jobs) == 1
    assert shop.naps == [2.0, 4.0, 8.0, 16.0]


@pytest.mark.parametrize("door", DOORS)
def test_a_429_was_not_taken_so_the_same_request_is_sent_again_without_a_search(
    door: Door, training: TrainingFile
) -> None:
    shop = Shop(["busy", "busy"])
    shop.create(door, training)
    assert shop.counts[POST_JOB] == 3
    assert shop.counts[LIST_JOBS] == 1  # before the purchase
    assert not set(shop.naps) & {2.0, 4.0, 8.0, 16.0}


@pytest.mark.parametrize("door", DOORS)
def test_after_nothing_but_429_the_next_call_does_not_search_either(
    door: Door, training: TrainingFile
) -> None:
    shop = Shop(["busy"] * 3)
    with pytest.raises(ServiceUnavailable, match="slow down"):
        shop.create(door, training)
    shop.naps.clear()
    shop.create(door, training)
    assert not shop.naps
    assert len(shop.jobs) == 1


@pytest.mark.parametrize("door", DOORS)
def test_a_job_that_another_request_of_ours_bought_is_not_the_lost_one(
    door: Door, training: TrainingFile
) -> None:
    shop = Shop(keeps_metadata=False)
    first = shop.create(door, training, suffix="one")  # a service does not show the suffix that was asked for
    shop.outcomes = ["lost"]
    assert shop.create(door, training, suffix="two") != first
    assert len(shop.jobs) == 2


@pytest.mark.parametrize("door", DOORS)
def test_a_job_that_carries_the_metadata_of_another_spec_is_not_the_lost_one(
    door: Door, training: TrainingFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shop = Shop()
    shop.create(door, training, suffix="one")
    monkeypatch.setenv("FINETUNE_PRICER_HOME", str(tmp_path / "another machine"))
    shop.create(door, training, suffix="two")  # so that the file is known there
    shop.jobs[0]["training_file"] = shop.jobs[1]["training_file"]
    shop.outcomes = ["lost"]
    assert shop.create(door, training, suffix="three") == "ftjob-2"
    assert len(shop.jobs) == 3


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("shown", [-1, "auto", None])
def test_a_setting_that_the_service_shows_as_its_own_choice_does_not_hide_the_lost_job(
    door: Door, training: TrainingFile, shown: object
) -> None:
    shop = Shop(
        ["made and lost"],
        keeps_metadata=False,
        shown={"hyperparameters": {"n_epochs": 2, "batch_size": shown}},
    )
    shop.create(door, training, epochs=2, batch_size=8)
    assert shop.counts[POST_JOB] == len(shop.jobs) == 1


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("hyperparameters", [{"n_epochs": 3}, {"n_epochs": 2, "batch_size": 4}])
def test_a_job_with_other_settings_is_not_the_lost_one(
    door: Door, training: TrainingFile, hyperparameters: dict[str, int]
) -> None:
    shop = Shop(keeps_metadata=False)
    shop.create(door, training, suffix="one")
    shop.jobs[0]["hyperparameters"] = hyperparameters
    shop.jobs[0]["id"] = "ftjob-of-somebody"  # which our journal does not know
    shop.outcomes = ["lost"]
    assert shop.create(door, training, epochs=2, batch_size=8) == "ftjob-1"


@pytest.mark.parametrize("door", DOORS)
def test_a_job_with_another_validation_file_is_not_the_lost_one(
    door: Door, training: TrainingFile, validation: TrainingFile
) -> None:
    shop = Shop(keeps_metadata=False)
    shop.create(door, training)
    shop.jobs[0]["id"] = "ftjob-of-somebody"
    shop.outcomes = ["lost"]
    assert shop.create(door, training, validation=validation) == "ftjob-1"


@pytest.mark.parametrize("door", DOORS)
def test_two_organizations_of_one_key_are_two_accounts(door: Door, training: TrainingFile) -> None:
    shop = Shop()
    first = shop.create(door, training, organization="one")
    shop.jobs.clear()  # each organization sees its own jobs
    shop.files.clear()
    assert shop.counts["POST /files"] == 1
    shop.create(door, training, organization="two")
    assert shop.counts["POST /files"] == 2
    assert shop.counts[f"{LIST_JOBS}/{first}"] == 0  # nobody asks for the other's job


def test_the_journal_tells_organizations_apart(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.db") as journal:
        one, two = (
            journal.for_client(openai.OpenAI(api_key="a", base_url=URL, organization=name)) for name in "ab"
        )
        one.begin("job", "spec")
        assert two.find("job", "spec") is None


@pytest.mark.parametrize("door", DOORS)
def test_the_token_in_the_metadata_is_the_idempotency_key_of_every_sending(
    door: Door, training: TrainingFile
) -> None:
    shop = Shop(["busy", "answer"])
    shop.create(door, training)
    sent = [request for request in shop.asked if request.method == "POST" and "jobs" in request.url.path]
    keys = {request.headers["Idempotency-Key"] for request in sent}
    tokens = {json.loads(request.content)["metadata"]["finetune_pricer_token"] for request in sent}
    assert len(sent) == 2
    assert keys == tokens
    assert len(keys) == 1
    files = [request for request in shop.asked if request.method == "POST" and "files" in request.url.path]
    assert len({request.headers["Idempotency-Key"] for request in [*sent, *files]}) == 2


@pytest.mark.parametrize("door", DOORS)
def test_another_purchase_has_another_idempotency_key(door: Door, training: TrainingFile) -> None:
    shop = Shop()
    shop.create(door, training)
    shop.create(door, training, again=True)
    keys = [r.headers["Idempotency-Key"] for r in shop.asked if r.method == "POST" and "jobs" in r.url.path]
    assert len(set(keys)) == len(keys) == 2


@pytest.mark.parametrize("door", DOORS)
def test_a_refused_request_is_forgotten_and_not_searched_for(door: Door, training: TrainingFile) -> None:
    shop = Shop(["refused"])
    with pytest.raises(RequestRejected):
        shop.create(door, training)
    shop.create(door, training)
    assert not shop.naps
    assert len(shop.jobs) == 1


@pytest.mark.parametrize("door", DOORS)
def test_each_file_of_a_job_is_hashed_once(
    door: Door, training: TrainingFile, validation: TrainingFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    verify = TrainingFile.verify

    def counting(self: TrainingFile) -> None:
        hashed.append(self.sha256)
        verify(self)

    monkeypatch.setattr(TrainingFile, "verify", counting)
    Shop().create(door, training, validation=validation)
    assert sorted(hashed) == sorted([training.sha256, validation.sha256])
