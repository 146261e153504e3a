"""Ways to a second job that are closed: other keys, other machines, lost journals, services that forget.

Each test fails when its rule is broken.
"""

import json
import logging
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from finetune_pricer import TrainingFile
from finetune_pricer.errors import (
    AccessDenied,
    FileAccessError,
    NotFound,
    ServiceError,
    ServiceUnavailable,
)
from shop import DOORS, Door, Outcome, Shop, write_training

POST_JOB = "POST /fine_tuning/jobs"


@pytest.fixture
def training(tmp_path: Path) -> TrainingFile:
    return write_training(7, tmp_path / "train.jsonl")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    return tmp_path / "another machine" / "journal"


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("organization", [None, "o"])
def test_after_a_rotation_of_the_key_the_job_is_known(
    door: Door, training: TrainingFile, organization: str | None
) -> None:
    shop = Shop(keeps_metadata=False)
    for key in ("old", "new", "newer"):
        assert shop.create(door, training, key=key, organization=organization) == "ftjob-0"
    assert shop.counts[POST_JOB] == 1


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("status", [403, 404])
def test_a_job_of_another_accounts_key_is_not_ours(
    door: Door, training: TrainingFile, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    theirs, ours = Shop(keeps_metadata=False), Shop(keeps_metadata=False)
    theirs.create(door, training, key="theirs")
    ours.refusals["ftjob-0"] = status
    assert ours.create(door, training, key="ours") == "ftjob-0"
    assert ours.counts[POST_JOB] == 1
    assert "no longer knows" not in caplog.text


@pytest.mark.parametrize("door", DOORS)
def test_a_key_without_rights_is_an_error_and_no_reason_to_buy(door: Door, training: TrainingFile) -> None:
    shop = Shop()
    shop.create(door, training)
    shop.refusals["ftjob-0"] = 401
    with pytest.raises(AccessDenied):
        shop.create(door, training)
    assert shop.counts[POST_JOB] == 1


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("called", ["train.jsonl", "other.jsonl"])
def test_without_its_journal_a_job_is_found_by_its_files_where_metadata_is_dropped(
    door: Door, training: TrainingFile, called: str, elsewhere: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop(keeps_metadata=False)
    shop.create(door, training, epochs=2, suffix="one")
    copy = training.path.with_name(called)
    copy.write_bytes(training.path.read_bytes())
    with caplog.at_level(logging.WARNING, "finetune_pricer"):
        same = TrainingFile(**{**vars_of(training), "path": copy})
        assert shop.create(door, same, epochs=2, suffix="one", journal=elsewhere) == "ftjob-0"
    assert "is taken for the one that was asked for; again=True buys another" in caplog.text
    assert shop.find(door, training, epochs=2, suffix="one", journal=elsewhere) == "ftjob-0"
    assert shop.counts[POST_JOB] == 1


@pytest.mark.parametrize("door", DOORS)
def test_files_of_other_content_make_another_job_and_are_told_apart_on_every_page(
    door: Door, training: TrainingFile, elsewhere: Path, tmp_path: Path
) -> None:
    shop = Shop(keeps_metadata=False, page_size=1)
    other = write_training(8, tmp_path / "other.jsonl")
    assert shop.create(door, other, epochs=2) == "ftjob-0"
    assert shop.create(door, training, epochs=2, journal=elsewhere / "1.db") == "ftjob-1"
    assert shop.create(door, training, epochs=2, journal=elsewhere / "2.db") == "ftjob-1"
    assert shop.create(door, other, epochs=2, journal=elsewhere / "3.db") == "ftjob-0"


@pytest.mark.parametrize("door", DOORS)
def test_a_job_of_a_file_that_this_journal_knows_is_found_where_names_are_changed_too(
    door: Door, training: TrainingFile, elsewhere: Path
) -> None:
    shop = Shop(keeps_metadata=False)
    assert shop.create(door, shop.upload(training), epochs=2, journal=elsewhere) == "ftjob-0"
    shop.files[0]["filename"] = "data.jsonl"
    assert shop.create(door, training, epochs=2) == "ftjob-0"


def test_what_was_noted_is_found_by_later_versions(training: TrainingFile, tmp_path: Path) -> None:
    """The words for kinds stand in journals on disks."""
    path = tmp_path / "journal.db"
    Shop().create("sync", training, journal=path)
    with closing(sqlite3.connect(path)) as database:
        kinds = database.execute("SELECT kind, id FROM bought ORDER BY number").fetchall()
    assert kinds == [("file", "file-0"), ("job", "ftjob-0")]


def vars_of(training: TrainingFile) -> dict[str, Any]:
    return {name: getattr(training, name) for name in training.__dataclass_fields__}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "shown",
    [
        {"hyperparameters": {"n_epochs": 3}},
        {"hyperparameters": {"n_epochs": "3"}},
        {"user_provided_suffix": "two"},
        {"seed": 5},
        {"model": "other"},
        {"model": "base-mini"},
        {"validation_file": "file-9"},
        {"status": "failed"},
        {"status": "cancelled"},
    ],
    ids=str,
)
def test_a_job_of_the_same_files_that_differs_or_came_to_nothing_is_another(
    door: Door, training: TrainingFile, shown: dict[str, Any], elsewhere: Path
) -> None:
    shop = Shop(keeps_metadata=False)
    shop.create(door, training, epochs=2, suffix="one", seed=1)
    shop.jobs[0] |= shown
    assert shop.create(door, training, epochs=2, suffix="one", seed=1, journal=elsewhere) == "ftjob-1"


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "shown",
    [
        {"hyperparameters": {"n_epochs": "2"}},
        {"seed": "1"},
        {"model": "base-2026-01-31"},
        {"model": "base-20260131"},
        {},
    ],
    ids=str,
)
def test_what_a_service_shows_in_its_own_way_is_the_same(
    door: Door, training: TrainingFile, shown: dict[str, Any], elsewhere: Path
) -> None:
    shop = Shop(keeps_metadata=False, shown=shown)
    shop.create(door, training, epochs=2, seed=1)
    assert shop.create(door, training, epochs=2, seed=1, journal=elsewhere) == "ftjob-0"


@pytest.mark.parametrize("door", DOORS)
def test_jobs_of_one_journal_are_told_apart_where_metadata_is_dropped(
    door: Door, training: TrainingFile
) -> None:
    shop = Shop(keeps_metadata=False)  # which shows no seed
    jobs = [shop.create(door, training, seed=seed) for seed in (1, 2, 1, 2)]
    assert jobs == ["ftjob-0", "ftjob-1", "ftjob-0", "ftjob-1"]


@pytest.mark.parametrize("door", DOORS)
def test_a_job_that_is_unknown_once_is_asked_for_again(door: Door, training: TrainingFile) -> None:
    shop = Shop(keeps_metadata=False)
    shop.create(door, training)
    shop.unknown_once = ["ftjob-0"]
    assert shop.create(door, training) == "ftjob-0"
    assert shop.naps == [2.0]
    assert shop.counts[POST_JOB] == 1


@pytest.mark.parametrize("status", ["FAILED", "canceled", "Cancelled"])
def test_a_job_that_came_to_nothing_in_whatever_word_is_bought_anew(
    training: TrainingFile, status: str
) -> None:
    shop = Shop()
    shop.create("sync", training)
    shop.jobs[0]["status"] = status
    assert shop.create("sync", training) == "ftjob-1"


class Crossroads:
    """Lets machines go on together: all send, then all look at the list."""

    def __init__(self, shop: Shop, machines: int, *, oldest_first: bool) -> None:
        self._answer, self._page = shop._answer, shop._page
        self._shop, self._barrier, self._lock = (
            shop,
            threading.Barrier(machines, timeout=30),
            threading.Lock(),
        )
        shop._answer = self.answer  # type: ignore[method-assign]
        if oldest_first:
            shop._page = lambda request, rows: self._page(request, rows[::-1])  # type: ignore[method-assign]

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/jobs") and (request.method == "POST" or self._shop.jobs):
            self._barrier.wait()
        with self._lock:
            response = self._answer(request)
        if request.url.path.endswith("/jobs") and request.method == "GET" and self._shop.jobs:
            self._barrier.wait()
        return response


@pytest.mark.parametrize("oldest_first", [False, True])
@pytest.mark.parametrize("created", ["in one second", "one after the other", "nobody knows when"])
@pytest.mark.parametrize("count", [2, 4])
def test_machines_that_send_before_any_of_them_looks_keep_one_job(
    count: int, created: str, training: TrainingFile, tmp_path: Path, *, oldest_first: bool
) -> None:
    shop = Shop(seconds_apart=0 if created == "in one second" else 1)
    if created == "nobody knows when":
        shop.shown = {"created_at": None}
    Crossroads(shop, count, oldest_first=oldest_first)
    with ThreadPoolExecutor(count) as machines:
        asked = [
            machines.submit(shop.create, "sync", training, journal=tmp_path / f"{number}.db")
            for number in range(count)
        ]
        kept = {each.result(60) for each in asked}
    (alive,) = [job["id"] for job in shop.jobs if job["status"] == "running"]
    assert kept == {alive}
    assert len(shop.jobs) == count


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("same_second", [True, False])
def test_machines_that_ask_at_one_instant_keep_the_oldest_job(
    door: Door, training: TrainingFile, tmp_path: Path, caplog: pytest.LogCaptureFixture, *, same_second: bool
) -> None:
    """Each asks while the request of the one before is on its way, so that none sees another's job."""
    shop = Shop(seconds_apart=0 if same_second else 1)
    kept: dict[int, str] = {}

    def ask(machine: int) -> None:
        kept[machine] = shop.create("sync", training, journal=tmp_path / f"{machine}.db")

    def ask_too(request: httpx2.Request) -> None:
        if request.method == "POST" and request.url.path.endswith("/jobs") and len(shop.asking) < 4:
            shop.asking.append(request)
            machine = len(shop.asking)
            if machine < 4:
                ask(machine)

    shop.on_request = ask_too
    kept[0] = shop.create(door, training, journal=tmp_path / "0.db")
    assert len(shop.jobs) == 4
    assert set(kept.values()) == {"ftjob-0"}
    assert [job.get("status") for job in shop.jobs] == ["running", *["cancelled"] * 3]
    assert "job 'ftjob-0' of the same spec was asked for elsewhere" in caplog.text
    assert "job 'ftjob-3', just bought, was cancelled" in caplog.text
    shop.on_request = lambda _: None
    for machine in kept:
        assert shop.create(door, training, journal=tmp_path / f"{machine}.db") == "ftjob-0"


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("options", "other"),
    [
        ({"again": True}, {}),
        ({}, {"status": "failed"}),
        ({}, {"status": "cancelled"}),
        ({}, {"metadata": {}}),
    ],
    ids=str,
)
def test_a_new_job_is_kept_beside_one_that_is_none_or_where_another_is_wanted(
    door: Door, training: TrainingFile, options: dict[str, Any], other: dict[str, Any]
) -> None:
    shop = Shop()

    def put_an_older_one(request: httpx2.Request) -> None:
        if request.method == "POST" and request.url.path.endswith("/jobs"):
            metadata = json.loads(request.content)["metadata"] | {"finetune_pricer_token": "another"}
            older = {"id": "ftjob-older", "status": "queued", "created_at": 1, "metadata": metadata}
            shop.jobs.append(older | other)

    shop.on_request = put_an_older_one
    assert shop.create(door, training, **options) == "ftjob-0"
    assert shop.jobs[-1]["status"] == "running"


@pytest.mark.parametrize("door", DOORS)
def test_where_the_new_job_cannot_be_cancelled_both_are_named(
    door: Door, training: TrainingFile, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop(can_cancel=False)

    def put_an_older_one(request: httpx2.Request) -> None:
        if request.method == "POST" and request.url.path.endswith("/jobs"):
            metadata = json.loads(request.content)["metadata"]
            shop.jobs.append(
                {"id": "ftjob-older", "status": "running", "created_at": 1, "metadata": metadata}
            )

    shop.on_request = put_an_older_one
    assert shop.create(door, training) == "ftjob-0"
    assert "ftjob-older" in caplog.text
    assert "job 'ftjob-0', just bought, could not be cancelled (no): cancel one of them" in caplog.text


@pytest.mark.parametrize("door", DOORS)
def test_a_job_is_not_cancelled_later_than_a_minute_after_it_was_asked_for(
    door: Door, training: TrainingFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop()
    monkeypatch.setattr("finetune_pricer.tune.purchase._LONGEST_RACE", -1.0)  # seconds; over at once

    def put_an_older_one(request: httpx2.Request) -> None:
        if request.method == "POST" and request.url.path.endswith("/jobs"):
            metadata = json.loads(request.content)["metadata"]
            shop.jobs.append(
                {"id": "ftjob-older", "status": "running", "created_at": 1, "metadata": metadata}
            )

    shop.on_request = put_an_older_one
    assert shop.create(door, training) == "ftjob-0"
    assert shop.jobs[-1]["status"] == "running"


@pytest.mark.parametrize("door", DOORS)
def test_an_answer_without_a_name_is_a_lost_answer(door: Door, training: TrainingFile) -> None:
    shop = Shop(shown={"id": ""})
    with pytest.raises(ServiceUnavailable, match=r"is no job.*; the job was asked for at"):
        shop.create(door, training)
    shop.shown = {}
    shop.jobs[0]["id"] = "ftjob-0"
    assert shop.create(door, training) == "ftjob-0"


@pytest.mark.parametrize("door", DOORS)
def test_an_answer_that_nobody_can_read_is_a_lost_answer(door: Door, training: TrainingFile) -> None:
    lists: list[Outcome] = ["answer", "answer", "broken"]
    shop = Shop(["made and too long"], list_outcomes=lists)
    with pytest.raises(ServiceError, match=r"more than 16 MiB.*; the job was asked for at"):
        shop.create(door, training)
    shop.list_outcomes.clear()
    assert shop.create(door, training) == "ftjob-0"
    assert shop.counts[POST_JOB] == 1


@pytest.mark.parametrize("door", DOORS)
def test_a_job_that_cannot_be_noted_is_named(door: Door, training: TrainingFile, elsewhere: Path) -> None:
    shop = Shop()

    def damage(request: httpx2.Request) -> None:
        if request.method == "POST" and request.url.path.endswith("/jobs"):
            with closing(sqlite3.connect(elsewhere)) as database:
                database.execute("DROP TABLE bought")

    shop.on_request = damage
    with pytest.raises(FileAccessError, match=r"job 'ftjob-0' was bought and could not be noted: .*no such"):
        shop.create(door, training, journal=elsewhere)


@pytest.mark.parametrize("door", DOORS)
def test_a_journal_of_no_bytes_is_a_new_one_and_buys_no_second_job(
    door: Door, training: TrainingFile, elsewhere: Path
) -> None:
    shop = Shop(keeps_metadata=False)
    shop.create(door, training, journal=elsewhere)
    for file in elsewhere.parent.glob("journal*"):
        if file.is_file():
            file.write_bytes(b"")
    assert shop.create(door, training, journal=elsewhere) == "ftjob-0"


def test_find_says_that_there_is_no_job_of_another_account(training: TrainingFile) -> None:
    theirs, ours = Shop(), Shop()
    theirs.create("sync", training, key="theirs")
    with pytest.raises(NotFound):
        ours.find("sync", training, key="ours")
