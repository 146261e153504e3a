"""A process that ends between a request and its answer: the next one finds what was made, and buys no other.

What was asked for stands in the journal as an open entry until somebody knows what became of it.
"""

from pathlib import Path
from typing import Any

import pytest

from finetune_pricer import TrainingFile
from finetune_pricer.errors import FileAccessError, NotFound, ServiceUnavailable
from finetune_pricer.providers import Provider
from finetune_pricer.tune import UploadedFile
from shop import DOORS, Door, Killed, Shop, write_training

POST_FILE, POST_JOB = "POST /files", "POST /fine_tuning/jobs"
LIST_JOBS = "GET /fine_tuning/jobs"
WHOLE_SEARCH = [2.0, 4.0, 8.0, 16.0]


@pytest.fixture
def training(tmp_path: Path) -> TrainingFile:
    return write_training(7, tmp_path / "train.jsonl")


@pytest.fixture
def validation(tmp_path: Path) -> TrainingFile:
    return write_training(8, tmp_path / "validation.jsonl")


def interrupt(shop: Shop, door: Door, training: TrainingFile | UploadedFile, **options: Any) -> None:
    with pytest.raises(Killed):
        shop.create(door, training, **options)
    shop.asked.clear()
    shop.naps.clear()


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("keeps_metadata", [True, False])
def test_a_job_that_was_made_is_found_at_the_first_look_and_noted(
    door: Door, training: TrainingFile, validation: TrainingFile, *, keeps_metadata: bool
) -> None:
    shop = Shop(["made and killed"], keeps_metadata=keeps_metadata)
    interrupt(shop, door, training, validation=validation)
    assert shop.create(door, training, validation=validation) == "ftjob-0"
    assert shop.counts[POST_JOB] == shop.counts[POST_FILE] == 0
    assert not shop.naps
    shop.asked.clear()
    assert shop.create(door, training, validation=validation) == "ftjob-0"
    assert shop.counts == {f"{LIST_JOBS}/ftjob-0": 1}


@pytest.mark.parametrize("door", DOORS)
def test_a_job_that_was_never_made_is_searched_for_and_bought_when_the_user_says_so(
    door: Door, training: TrainingFile
) -> None:
    shop = Shop(["killed"])
    interrupt(shop, door, training)
    with pytest.raises(ServiceUnavailable, match="again=True asks anew"):
        shop.create(door, training)
    assert shop.naps == WHOLE_SEARCH
    assert shop.create(door, training, again=True) == "ftjob-0"
    assert shop.counts[POST_JOB] == 1
    shop.asked.clear()
    assert shop.create(door, training) == "ftjob-0"
    assert shop.counts == {f"{LIST_JOBS}/ftjob-0": 1}


@pytest.mark.parametrize("door", DOORS)
def test_an_entry_stays_open_until_what_is_asked_for_in_its_place_is_bought(
    door: Door, training: TrainingFile
) -> None:
    shop = Shop(["killed", "refused"])
    interrupt(shop, door, training)
    with pytest.raises(ValueError, match="no"):
        shop.create(door, training, again=True)
    with pytest.raises(ServiceUnavailable, match="again=True asks anew"):
        shop.create(door, training)
    shop.create(door, training, again=True)
    shop.naps.clear()
    shop.create(door, training)
    assert not shop.naps


@pytest.mark.parametrize("door", DOORS)
def test_a_job_of_files_that_the_service_had_before_is_found_by_them(
    door: Door, training: TrainingFile, validation: TrainingFile
) -> None:
    shop = Shop(["answer", "made and killed"], keeps_metadata=False)
    sent, other = shop.upload(training), shop.upload(validation)
    shop.create(door, sent, validation=other, seed=1)
    interrupt(shop, door, sent, validation=other)
    assert shop.create(door, sent, validation=other) == "ftjob-1"
    assert shop.counts[POST_JOB] == 0


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("unknown", ["training", "validation"])
@pytest.mark.parametrize("keeps_metadata", [True, False])
def test_a_job_of_a_file_that_the_journal_does_not_know_is_found_by_its_metadata_alone(
    door: Door, training: TrainingFile, validation: TrainingFile, unknown: str, *, keeps_metadata: bool
) -> None:
    shop = Shop(["made and killed"], keeps_metadata=keeps_metadata)
    interrupt(shop, door, training, validation=validation)
    shop.files[unknown == "validation"]["status"] = "deleted"
    shop.file_outcomes = ["killed"]
    interrupt(shop, door, training if unknown == "training" else validation, seed=1)
    shop.jobs[0][f"{unknown}_file"] = None  # what shows no file was not made of one that is unknown
    if keeps_metadata:
        assert shop.create(door, training, validation=validation) == "ftjob-0"
        return
    with pytest.raises(ServiceUnavailable, match="again=True asks anew"):
        shop.create(door, training, validation=validation)


@pytest.mark.parametrize("door", DOORS)
def test_again_after_an_interrupted_again_is_the_job_that_was_asked_for(
    door: Door, training: TrainingFile
) -> None:
    shop = Shop(["answer", "made and killed"])
    shop.create(door, training)
    interrupt(shop, door, training, again=True)
    assert shop.create(door, training, again=True) == "ftjob-1"
    assert shop.create(door, training, again=True) == "ftjob-2"


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("status", ["failed", "cancelled", "died"])
def test_a_job_that_came_to_nothing_meanwhile_is_bought_anew(
    door: Door, training: TrainingFile, status: str
) -> None:
    provider = Provider.model_validate({"name": "own", "statuses": {"died": "failed"}})
    shop = Shop(["made and killed"])
    interrupt(shop, door, training, provider=provider)
    shop.jobs[0]["status"] = status
    assert shop.create(door, training, provider=provider) == "ftjob-1"


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("keeps_metadata", [True, False])
def test_find_finds_the_job_of_a_process_that_was_interrupted(
    door: Door, training: TrainingFile, *, keeps_metadata: bool
) -> None:
    shop = Shop(["made and killed"], keeps_metadata=keeps_metadata)
    interrupt(shop, door, training)
    assert shop.find(door, training) == "ftjob-0"
    assert not {POST_FILE, POST_JOB} & set(shop.counts)


@pytest.mark.parametrize("door", DOORS)
def test_find_finds_an_older_job_where_the_interrupted_one_was_never_made(
    door: Door, training: TrainingFile
) -> None:
    shop = Shop(["answer", "killed"])
    shop.create(door, training)
    interrupt(shop, door, training, again=True)
    assert shop.find(door, training) == "ftjob-0"
    shop.jobs.clear()
    with pytest.raises(NotFound, match=r"no job of this spec; FineTuneJob\.create makes one"):
        shop.find(door, training)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("is_made", [True, False])
def test_a_file_is_looked_for_before_it_is_sent_again(
    door: Door, training: TrainingFile, *, is_made: bool
) -> None:
    shop = Shop(file_outcomes=["made and killed" if is_made else "killed"])
    interrupt(shop, door, training)
    shop.create(door, training)
    assert [job["training_file"] for job in shop.jobs] == [file["id"] for file in shop.files] == ["file-0"]
    assert shop.counts[POST_FILE] == (0 if is_made else 1)
    assert shop.naps == ([] if is_made else WHOLE_SEARCH)
    shop.asked.clear()
    shop.create(door, training, seed=1)
    assert shop.counts[POST_FILE] == 0


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("file", [{"filename": "other.jsonl"}, {"status": "error"}, {"status": "failed"}])
def test_a_file_of_another_name_or_of_no_use_is_not_the_one_that_was_sent(
    door: Door, training: TrainingFile, file: dict[str, str]
) -> None:
    shop = Shop(file_outcomes=["made and killed"])
    interrupt(shop, door, training)
    shop.files[0] |= file
    shop.create(door, training)
    assert shop.counts[POST_FILE] == 1
    assert shop.jobs[0]["training_file"] == "file-1"


@pytest.mark.parametrize("door", DOORS)
def test_a_file_that_vanished_after_it_was_hashed_is_named(door: Door, training: TrainingFile) -> None:
    shop = Shop(on_request=lambda _: training.path.unlink(missing_ok=True))
    with pytest.raises(FileAccessError, match=r"cannot read '.*train\.jsonl': No such file"):
        shop.create(door, training)
