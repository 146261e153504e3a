"""The rules by which a job whose answer was lost is found, and no other job is taken for it.

Each test fails when its rule is broken.
"""

import json
import logging
import threading
import time
from pathlib import Path
from typing import Any, Literal

import httpx2
import pytest

from finetune_pricer import TrainingFile
from finetune_pricer.errors import (
    ModelRetired,
    NotFound,
    OverBudget,
    RequestRejected,
    ServiceUnavailable,
    TrainingNotAvailable,
)
from finetune_pricer.providers import Provider
from shop import DOORS, Door, Outcome, Shop, write_training

POST_JOB = "POST /fine_tuning/jobs"
LIST_JOBS = "GET /fine_tuning/jobs"
WHOLE_SEARCH = [2.0, 4.0, 8.0, 16.0]


@pytest.fixture
def training(tmp_path: Path) -> TrainingFile:
    return write_training(7, tmp_path / "train.jsonl")


@pytest.fixture
def validation(tmp_path: Path) -> TrainingFile:
    return write_training(8, tmp_path / "validation.jsonl")


def stop_after_loss(shop: Shop, door: Door, training: TrainingFile, **options: Any) -> None:
    """Ask for a job whose request is lost: no other job is taken for it, and it is not asked for again."""
    shop.outcomes = ["lost"]
    shop.asked.clear()
    with pytest.raises(ServiceUnavailable, match=r"the job was asked for at .* again=True asks anew"):
        shop.create(door, training, **options)
    assert shop.counts[POST_JOB] == 1


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
    assert shop.counts[LIST_JOBS] == 3  # by metadata and by files before the purchase, and once after it
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
    assert shop.jobs[0]["id"] == first
    stop_after_loss(shop, door, training, suffix="two")


@pytest.mark.parametrize("door", DOORS)
def test_a_job_that_carries_the_metadata_of_another_spec_is_not_the_lost_one(
    door: Door, training: TrainingFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shop = Shop()
    shop.create(door, training, suffix="one")
    monkeypatch.setenv("FINETUNE_PRICER_HOME", str(tmp_path / "another machine"))
    shop.create(door, training, suffix="two")  # so that the file is known there
    shop.jobs[0]["training_file"] = shop.jobs[1]["training_file"]
    stop_after_loss(shop, door, training, suffix="three")


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
    stop_after_loss(shop, door, training, epochs=2, batch_size=8)


@pytest.mark.parametrize("door", DOORS)
def test_a_job_with_another_validation_file_is_not_the_lost_one(
    door: Door, training: TrainingFile, validation: TrainingFile
) -> None:
    shop = Shop(keeps_metadata=False)
    shop.create(door, training)
    shop.jobs[0]["id"] = "ftjob-of-somebody"
    stop_after_loss(shop, door, training, validation=validation)


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


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("retry_after", "pause"), [(None, 1.0), ("7", 7.0), ("0.5", 0.5), ("100000", 300.0)], ids=str
)
def test_a_service_says_when_to_send_again_but_not_later_than_in_five_minutes(
    door: Door, training: TrainingFile, retry_after: str | None, pause: float
) -> None:
    shop = Shop(["busy"], retry_after=retry_after)
    shop.create(door, training)
    assert shop.naps == [pause]


@pytest.mark.parametrize("door", DOORS)
def test_a_lost_request_is_sent_once_and_never_forgotten_but_by_the_user(
    door: Door, training: TrainingFile
) -> None:
    shop = Shop()
    stop_after_loss(shop, door, training)
    assert shop.naps == WHOLE_SEARCH
    for _ in range(2):  # nothing is forgotten by looking for it
        shop.naps.clear()
        with pytest.raises(ServiceUnavailable, match=r"is not known.* asked for at .* again=True asks anew"):
            shop.create(door, training)
        assert (shop.counts[POST_JOB], shop.naps) == (1, WHOLE_SEARCH)
    assert shop.create(door, training, again=True) == "ftjob-0"
    shop.naps.clear()
    assert shop.create(door, training) == "ftjob-0"
    assert not shop.naps


@pytest.mark.parametrize("door", DOORS)
def test_a_job_that_comes_into_being_long_after_its_request_was_lost_is_found(
    door: Door, training: TrainingFile
) -> None:
    lists = 2 * len([0.0, *WHOLE_SEARCH])  # for each look one by the metadata, and one of all jobs
    shop = Shop(["made and lost"], looks_before_shown=2 * lists + 2)
    for _ in range(2):
        with pytest.raises(ServiceUnavailable):
            shop.create(door, training)
    assert shop.create(door, training) == "ftjob-0"
    assert shop.counts[POST_JOB] == len(shop.jobs) == 1


@pytest.mark.parametrize("door", DOORS)
def test_a_service_that_honours_the_idempotency_key_is_asked_again(
    door: Door, training: TrainingFile
) -> None:
    shop = Shop(["lost"] * 3)
    provider = Provider.model_validate({"name": "own", "idempotency": True})
    with pytest.raises(ServiceUnavailable, match="again=True asks anew"):
        shop.create(door, training, provider=provider)
    assert shop.counts[POST_JOB] == 3
    assert shop.naps == [*WHOLE_SEARCH, 1.0, *WHOLE_SEARCH, 1.0, *WHOLE_SEARCH]


@pytest.mark.parametrize("door", DOORS)
def test_after_a_lost_again_an_older_job_of_the_spec_is_given_and_nothing_bought(
    door: Door, training: TrainingFile
) -> None:
    shop = Shop(["answer", "broken"], keeps_metadata=False)
    shop.create(door, training)
    with pytest.raises(ServiceUnavailable):
        shop.create(door, training, again=True)
    assert shop.create(door, training) == "ftjob-0"
    assert shop.counts[POST_JOB] == 2


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("outcome", ["no connection", "busy"])
def test_what_was_certainly_not_taken_is_neither_searched_for_nor_remembered(
    door: Door, training: TrainingFile, outcome: Outcome
) -> None:
    shop = Shop([outcome] * 3)
    with pytest.raises(ServiceUnavailable):
        shop.create(door, training)
    assert shop.naps == [1.0, 1.0]
    shop.naps.clear()
    shop.create(door, training)
    assert not shop.naps


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("then", [["busy", "busy"], ["no connection", "busy"], ["refused"]], ids=str)
def test_a_request_that_was_lost_stays_open_whatever_the_answers_to_its_repetitions_are(
    door: Door, training: TrainingFile, then: list[Outcome]
) -> None:
    provider = Provider.model_validate({"name": "own", "idempotency": True})
    lists = 2 * len([0.0, *WHOLE_SEARCH])  # the gateway passes the job on just after the search
    shop = Shop(["made and lost", *then], keeps_metadata=False, looks_before_shown=lists)
    with pytest.raises((ServiceUnavailable, RequestRejected)):
        shop.create(door, training, provider=provider)
    assert shop.create(door, training, provider=provider) == "ftjob-0"
    assert len(shop.jobs) == 1


@pytest.mark.parametrize("door", DOORS)
def test_a_search_that_fails_decides_nothing(door: Door, training: TrainingFile) -> None:
    shop = Shop(["made and lost"], list_outcomes=["answer", "answer", "broken"], keeps_metadata=False)
    with pytest.raises(ServiceUnavailable, match=r"in time.*; the job was asked for at") as caught:
        shop.create(door, training)
    assert "broke" in str(caught.value.__cause__)
    assert shop.counts[POST_JOB] == 1
    assert shop.create(door, training) == "ftjob-0"
    assert shop.counts[POST_JOB] == 1


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("outcome", ["made and lost", "lost"])
def test_a_file_whose_answer_was_lost_is_at_the_service_once(
    door: Door, training: TrainingFile, outcome: Outcome
) -> None:
    shop = Shop(file_outcomes=[outcome])
    shop.create(door, training)
    assert shop.counts["POST /files"] == (1 if outcome == "made and lost" else 2)
    assert [job["training_file"] for job in shop.jobs] == [file["id"] for file in shop.files] == ["file-0"]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("keeps_metadata", [True, False])
@pytest.mark.parametrize("filters", ["ignored", "honoured", "refused"])
def test_a_lost_job_is_found_whatever_the_service_can_filter(
    door: Door,
    training: TrainingFile,
    filters: Literal["ignored", "honoured", "refused"],
    *,
    keeps_metadata: bool,
) -> None:
    shop = Shop(["made and lost"], keeps_metadata=keeps_metadata, filters=filters)
    assert shop.create(door, training) == "ftjob-0"
    assert shop.counts[POST_JOB] == 1
    assert not shop.naps


@pytest.mark.parametrize("door", DOORS)
def test_a_service_that_can_filter_is_asked_for_the_jobs_of_the_spec_alone(
    door: Door, training: TrainingFile
) -> None:
    shop = Shop(["made and lost"], filters="honoured")
    shop.create(door, training)
    shop.jobs.clear()
    with pytest.raises(NotFound):
        shop.find(door, training)
    lists = [request.url.params for request in shop.asked if request.url.path.endswith("/jobs")]
    filters = [params.get("metadata[finetune_pricer_spec]") for params in lists if "limit" in params]
    spec, search = filters[0], [filters[0], None]  # at last all are read, for one without metadata
    assert filters == [*search, spec, spec, *search]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("keeps_metadata", [True, False])
def test_a_search_reads_the_whole_list(door: Door, training: TrainingFile, *, keeps_metadata: bool) -> None:
    shop = Shop(["made and lost"], page_size=1, keeps_metadata=keeps_metadata)

    def crowd(request: httpx2.Request) -> None:
        if shop.counts[POST_JOB] == 1 and request.method == "GET" and len(shop.jobs) == 1:
            shop.jobs += [{"id": f"ftjob-other-{number}"} for number in range(30)]

    shop.on_request = crowd
    assert shop.create(door, training) == "ftjob-0"


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("filters", ["ignored", "honoured", "refused"])
def test_without_its_journal_the_newest_job_of_the_spec_is_found_and_noted(
    door: Door,
    training: TrainingFile,
    filters: Literal["ignored", "honoured", "refused"],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    shop = Shop(filters=filters)
    for options in ({}, {"again": True}, {"again": True}, {"seed": 1}):
        shop.create(door, training, **options)
    shop.jobs[2]["status"] = "failed"
    monkeypatch.setenv("FINETUNE_PRICER_HOME", str(tmp_path / "another machine"))
    assert shop.create(door, training) == "ftjob-1"
    shop.asked.clear()
    assert shop.create(door, training) == "ftjob-1"
    assert shop.counts == {f"{LIST_JOBS}/ftjob-1": 1}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("keeps_metadata", [True, False])
def test_by_the_journal_alone_the_job_is_found_whatever_became_of_it(
    door: Door, training: TrainingFile, *, keeps_metadata: bool
) -> None:
    shop = Shop(keeps_metadata=keeps_metadata)
    shop.create(door, training)
    shop.create(door, training, again=True)
    assert shop.create(door, training) == "ftjob-1"
    shop.jobs[1]["status"] = "failed"
    shop.asked.clear()
    assert shop.find(door, training) == "ftjob-1"
    assert shop.counts == {f"{LIST_JOBS}/ftjob-1": 1}


@pytest.mark.parametrize("door", DOORS)
def test_a_job_that_the_service_has_lost_is_said_to_be_and_another_is_found_or_bought(
    door: Door, training: TrainingFile, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop()
    shop.create(door, training)
    shop.create(door, training, again=True)
    del shop.jobs[1]
    assert shop.find(door, training) == shop.create(door, training) == "ftjob-0"
    message = "the service no longer knows job 'ftjob-1'"
    assert ("finetune_pricer", logging.WARNING, message) in caplog.record_tuples
    shop.jobs.clear()
    assert shop.create(door, training) == "ftjob-2"


@pytest.mark.parametrize("door", DOORS)
def test_a_job_over_its_budget_sends_nothing(door: Door, training: TrainingFile) -> None:
    shop = Shop()
    options = {"model": "gpt-4.1-mini-2025-04-14", "provider": "openai", "epochs": 3}
    with pytest.raises(OverBudget):
        shop.create(door, training, **options, budget=0.001)
    assert not any(request.method == "POST" for request in shop.asked)


@pytest.mark.parametrize("door", DOORS)
def test_a_retired_model_is_asked_for_only_by_force(door: Door, training: TrainingFile) -> None:
    shop = Shop()
    options = {"model": "gpt-4.1-nano-2025-04-14", "provider": "openai"}
    with pytest.raises(ModelRetired):
        shop.create(door, training, **options)
    assert not any(request.method == "POST" for request in shop.asked)
    with pytest.warns(UserWarning, match="2026-10-23"):
        shop.create(door, training, **options, force=True)
    assert len(shop.jobs) == 1


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("was_there", [True, False])
def test_where_training_is_closed_the_files_that_were_just_sent_are_taken_back(
    door: Door, training: TrainingFile, validation: TrainingFile, *, was_there: bool
) -> None:
    shop = Shop()
    if was_there:
        shop.create(door, validation)
    shop.outcomes = ["closed"]
    words = "winding down: this account may not train at 'shop.test' any more.*, nebius"
    with pytest.raises(TrainingNotAvailable, match=words):
        shop.create(door, training, validation=validation, seed=1)
    assert len(shop.files) == was_there
    shop.naps.clear()
    shop.create(door, training, validation=validation, seed=1)
    assert not shop.naps  # nothing is open
    assert [file["id"] for file in shop.files] == (
        ["file-0", "file-2"] if was_there else ["file-2", "file-3"]
    )


@pytest.mark.parametrize("door", DOORS)
def test_a_file_that_cannot_be_taken_back_is_named_and_forgotten(
    door: Door, training: TrainingFile, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop(["closed"])

    def lose(request: httpx2.Request) -> None:
        if request.method == "DELETE":
            shop.files.clear()

    shop.on_request = lose
    with pytest.raises(TrainingNotAvailable):
        shop.create(door, training)
    assert "file 'file-0' could not be removed from the service: no file-0" in caplog.text
    shop.asked.clear()
    shop.create(door, training)
    assert shop.counts["GET /files/file-0"] == 0


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("first", ["POST /files", POST_JOB])
def test_two_that_ask_for_the_same_at_once_buy_it_once(
    door: Door, training: TrainingFile, first: str
) -> None:
    """The second asks while the service has not answered the first yet."""
    shop, options = Shop(), {} if first == POST_JOB else {"seed": 1}
    others: list[str] = []
    goes_on = threading.Event()

    def wait_for_the_first(seconds: float) -> None:
        shop.naps.append(seconds)
        goes_on.set()
        time.sleep(0.01)

    def ask_too() -> None:
        others.append(shop.create("sync", training, **options, sleep=wait_for_the_first))
        goes_on.set()

    second = threading.Thread(target=ask_too)

    def start_the_second(request: httpx2.Request) -> None:
        if f"{request.method} {request.url.path.removeprefix('/v1')}" == first and second.ident is None:
            second.start()
            goes_on.wait(60)

    shop.on_request = start_the_second
    mine = shop.create(door, training)
    second.join(60)
    assert set(shop.naps) == {0.1}
    assert (others == [mine]) is (first == POST_JOB)
    assert (len(shop.files), len(shop.jobs)) == (1, 1 if first == POST_JOB else 2)
