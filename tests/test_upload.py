"""A training file at the service."""

from pathlib import Path
from typing import Any

import httpx
import httpx2
import openai
import pytest
import respx

from finetune_pricer import JsonlWriter, TrainingFile, upload
from finetune_pricer.errors import (
    FileAccessError,
    RequestRejected,
    ServiceError,
    ServiceUnavailable,
    TrainingFileError,
)
from finetune_pricer.providers import PROVIDERS
from finetune_pricer.tune.upload import FileCopy
from helpers import page, priced, refusal
from shop import Shop


@pytest.fixture
def training(tmp_path: Path) -> TrainingFile:
    return JsonlWriter().write(priced(2), tmp_path / "train.jsonl")


def file_body(status: str | None = None, **more: Any) -> httpx.Response:
    return httpx.Response(200, json={"id": "file-1", "object": "file", "status": status, **more})


def test_the_file_is_sent_as_it_is_on_disk(
    client: openai.OpenAI, service: respx.MockRouter, training: TrainingFile
) -> None:
    route = service.post("/files").mock(file_body("processed", filename="train.jsonl", bytes=7))
    file = upload(client, training)
    sent = route.calls.last.request.content
    assert training.path.read_bytes() in sent
    assert b'name="purpose"\r\n\r\nfine-tune' in sent
    # By its name a file is known again whose upload was never answered.
    assert f'filename="train-{training.sha256[:16]}.jsonl"'.encode() in sent
    assert (file.id, file.status, file.filename, file.bytes) == ("file-1", "processed", "train.jsonl", 7)


@pytest.mark.parametrize("status", [None, "processed", "ready"])
def test_a_status_that_is_missing_or_unknown_is_usable_at_once(
    client: openai.OpenAI,
    service: respx.MockRouter,
    training: TrainingFile,
    naps: list[float],
    status: str | None,
) -> None:
    service.post("/files").mock(file_body(status))
    assert upload(client, training, sleep=naps.append).id == "file-1"
    assert not naps


def test_a_file_on_its_way_is_waited_for_through_a_busy_spell(
    client: openai.OpenAI, service: respx.MockRouter, training: TrainingFile, naps: list[float]
) -> None:
    service.post("/files").mock(file_body("uploaded"))
    answers = [file_body("pending"), refusal(503), file_body("processed")]
    service.get("/files/file-1").mock(side_effect=answers)
    assert upload(client, training, sleep=naps.append).status == "processed"
    assert len(naps) == 2


def test_a_file_that_the_service_cannot_use_is_named_with_the_reason(
    client: openai.OpenAI, service: respx.MockRouter, training: TrainingFile, naps: list[float]
) -> None:
    service.post("/files").mock(file_body("uploaded"))
    service.get("/files/file-1").mock(file_body("error", status_details="line 2 is no JSON"))
    with pytest.raises(TrainingFileError, match=r"train\.jsonl' \(file 'file-1'\): line 2 is no JSON"):
        upload(client, training, sleep=naps.append)


def test_waiting_ends_after_the_timeout(
    client: openai.OpenAI, service: respx.MockRouter, training: TrainingFile, naps: list[float]
) -> None:
    service.post("/files").mock(file_body("uploaded"))
    service.get("/files/file-1").mock(file_body("uploaded"))
    with pytest.raises(ServiceUnavailable, match="'file-1' is still being processed after 60 s"):
        upload(client, training, timeout=60, sleep=naps.append)
    assert sum(naps) == pytest.approx(60, abs=1)


def test_a_changed_file_is_not_sent(
    client: openai.OpenAI, service: respx.MockRouter, training: TrainingFile
) -> None:
    training.path.write_text("other")
    with pytest.raises(TrainingFileError, match="has changed"):
        upload(client, training)
    assert not service.calls


def test_a_refused_file_says_why(
    client: openai.OpenAI, service: respx.MockRouter, training: TrainingFile
) -> None:
    service.post("/files").mock(refusal(400, "file too large"))
    with pytest.raises(RequestRejected, match="file too large"):
        upload(client, training)


def test_an_answer_that_is_no_file_is_an_error_of_ours(
    client: openai.OpenAI, service: respx.MockRouter, training: TrainingFile, naps: list[float]
) -> None:
    route = service.post("/files").mock(httpx.Response(200, json={"object": "file"}))
    service.get("/files").mock(page([]))
    with pytest.raises(ServiceError, match="no file"):
        upload(client, training, sleep=naps.append)
    assert route.call_count == 3


def test_pauses_grow_and_stay_below_half_a_minute(
    client: openai.OpenAI,
    service: respx.MockRouter,
    training: TrainingFile,
    naps: list[float],
) -> None:
    service.post("/files").mock(file_body("uploaded"))
    service.get("/files/file-1").mock(side_effect=[file_body("uploaded")] * 20 + [file_body("processed")])
    upload(client, training, sleep=naps.append)
    assert naps[0] < 1
    assert 25 < max(naps) < 31


@pytest.mark.parametrize("under_way", ["uploaded", "pending", "processing", "running"])
@pytest.mark.parametrize("end", ["error", "failed", "deleted", "processed"])
def test_each_word_for_a_file_under_way_is_waited_through_and_each_for_a_useless_one_is_an_error(
    training: TrainingFile, under_way: str, end: str
) -> None:
    shop = Shop(file_statuses=[under_way, under_way, end])
    if end == "processed":
        assert shop.upload(training).status == "processed"
    else:
        with pytest.raises(TrainingFileError, match=rf"\(file 'file-0'\): status '{end}'"):
            shop.upload(training)
    assert len(shop.naps) == 1


def test_a_file_of_which_the_service_could_make_nothing_is_sent_again(training: TrainingFile) -> None:
    shop = Shop()
    for number, status in enumerate(["error", "failed", "deleted"]):
        assert shop.upload(training).id == f"file-{number}"
        shop.files[-1]["status"] = status
    shop.files.clear()
    assert shop.upload(training).id == "file-3"


@pytest.mark.parametrize(("others", "copies"), [(19, 1), (20, 2)])
def test_a_lost_file_is_looked_for_on_twenty_pages(training: TrainingFile, others: int, copies: int) -> None:
    shop = Shop(file_outcomes=["made and lost"], page_size=1)

    def crowd(request: httpx2.Request) -> None:
        if request.method == "GET" and len(shop.files) == 1:
            shop.files += [{"id": f"other-{number}", "filename": "other.jsonl"} for number in range(others)]

    shop.on_request = crowd
    shop.upload(training)
    assert shop.counts["POST /files"] == copies


def test_where_the_service_wants_a_byte_order_mark_the_file_is_sent_behind_one(
    training: TrainingFile,
) -> None:
    shop, content = Shop(), training.path.read_bytes()
    shop.upload(training, provider="azure")
    shop.upload(training, provider="nebius")
    marked, plain = (request.content for request in shop.asked)
    assert b"\r\n\r\n\xef\xbb\xbf" + content in marked
    assert b"\r\n\r\n" + content in plain


def test_a_journal_handed_in_is_used(training: TrainingFile, tmp_path: Path) -> None:
    shop = Shop()
    first = shop.upload(training, journal=tmp_path / "own.db")
    assert shop.upload(training, journal=tmp_path / "own.db").id == first.id
    assert shop.upload(training).id != first.id


def test_what_is_opened_stands_at_its_beginning(training: TrainingFile) -> None:
    content = training.path.read_bytes()
    for provider, start in (("azure", b"\xef\xbb\xbf"), ("nebius", b"")):
        with FileCopy(training, PROVIDERS[provider]).open() as opened:
            assert opened.read() == start + content


def test_what_is_written_to_the_file_after_it_was_checked_is_not_sent(training: TrainingFile) -> None:
    content = training.path.read_bytes()
    with FileCopy(training, PROVIDERS["openai"]).open() as opened, training.path.open("r+b") as file:
        file.write(b"other")
        file.flush()
        assert opened.read() == content


def test_a_file_that_changes_between_the_check_and_the_sending_is_not_sent(training: TrainingFile) -> None:
    shop = Shop(file_outcomes=["lost"] * 3)
    with pytest.raises(ServiceUnavailable):
        shop.upload(training)
    shop.asked.clear()

    def write_anew(_: httpx2.Request) -> None:  # while the service is searched for the lost one
        training.path.write_bytes(b"x" * training.bytes)

    shop.on_request = write_anew
    with pytest.raises(TrainingFileError, match="has changed since it was written"):
        shop.upload(training)
    assert "POST /files" not in shop.counts
    assert not shop.files


@pytest.mark.parametrize("longer", [b"x", b"x" * 2**22])
def test_a_file_that_has_grown_has_changed(training: TrainingFile, longer: bytes) -> None:
    with training.path.open("ab") as file:
        file.write(longer)
    with pytest.raises(TrainingFileError, match="has changed"):
        FileCopy(training, PROVIDERS["openai"]).open()


def test_without_room_for_the_copy_the_folder_is_named(
    training: TrainingFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(FileAccessError, match="set TMPDIR to another folder"):
        FileCopy(training, PROVIDERS["openai"]).open()


def test_a_service_has_ten_minutes_to_process_a_file(training: TrainingFile) -> None:
    shop = Shop(file_statuses=["uploaded"] * 1000)
    with pytest.raises(ServiceUnavailable, match="after 600 s; ask again later"):
        shop.upload(training)
    assert shop.upload(training, timeout=1e6).id == "file-0"


def test_a_file_whose_answers_are_all_lost_is_looked_for_at_the_next_call(training: TrainingFile) -> None:
    shop = Shop(file_outcomes=["lost"] * 3)
    with pytest.raises(
        ServiceUnavailable, match=r"call again .* to look for it, and to send it again where it is not there"
    ):
        shop.upload(training)
    shop.asked.clear()
    shop.upload(training)
    assert shop.counts == {"GET /files": 5, "POST /files": 1}
