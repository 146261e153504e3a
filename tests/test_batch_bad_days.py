"""The Batch API on bad days: many batches, lost and cancelled ones, restarts half way, strange files."""

import json
from typing import Any

import openai
import pytest
import respx

from batch_service import Batches, asked, bad, ok, texts
from finetune_pricer import Predictor
from finetune_pricer.errors import NotFound, RequestRejected
from finetune_pricer.predict import batch as batch_module
from finetune_pricer.providers import Provider
from helpers import page
from test_batch import batches

__all__ = ["batches"]  # the fixture

FEW = Provider(name="few", batch_requests=4)


def test_batches_that_end_one_after_the_other_lose_no_answer(client: openai.OpenAI, batches: Batches) -> None:
    run = Predictor(client, "m", provider=FEW).predict_batch(texts(24))
    assert len(run.ids) == 6

    def finish_next(_: float) -> None:
        later = [each for each in batches.batches if each["status"] == "in_progress"][1:]
        for each in later:
            each["status"] = "validating"
        batches.finish()
        for each in later:
            each["status"] = "in_progress"

    assert [found.price for found in run.wait(sleep=finish_next)] == [5] * 24
    assert len(batches.batches) == 6


def test_a_restart_with_kept_answers_finds_the_batches_that_go_on(
    client: openai.OpenAI, batches: Batches
) -> None:
    """One line of the first batch is refused, and the program ends before the others are done."""
    batches.answer = lambda line: bad(400, "Too long.") if asked(line)[-8:] == "number 1" else ok("$5.00")
    predictor = Predictor(client, "m", provider=FEW, store="kept.sqlite")
    run = predictor.predict_batch(texts(12))
    for each in batches.batches[1:]:
        each["status"] = "validating"
    batches.finish()
    for each in batches.batches[1:]:
        each["status"] = "in_progress"
    run.refresh()
    again = Predictor(client, "m", provider=FEW, store="kept.sqlite").predict_batch(texts(12))
    assert set(again.ids) == {"batch_0", "batch_1", "batch_2"}
    batches.finish()
    assert [found.price for found in again.wait()] == [5, None, *[5] * 10]
    assert len(batches.batches) == 3  # what the refused line was told stands at the service


def test_waiting_after_cancelling_buys_nothing(client: openai.OpenAI, batches: Batches) -> None:
    found = Predictor(client, "m").predict_batch(texts(3)).cancel().wait()
    assert [each.price for each in found] == [None] * 3
    assert "'batch_0' was cancelled; call predict_batch again" in (found[0].error or "")
    assert len(batches.batches) == 1
    again = Predictor(client, "m").predict_batch(texts(3))
    batches.finish()
    assert [each.price for each in again.wait()] == [5] * 3


@pytest.mark.parametrize("problem", ["failed", "lost"])
def test_answers_of_other_batches_are_fetched_before_a_problem_is_raised(
    client: openai.OpenAI, batches: Batches, naps: list[float], problem: str
) -> None:
    run = Predictor(client, "m", provider=FEW).predict_batch(texts(12))
    if problem == "failed":
        batches.batches[0] |= {"status": "failed", "errors": {"data": [{"message": "Token limit."}]}}
    else:
        batches.lost = "batch_0"
    batches.finish()
    with pytest.raises((RequestRejected, NotFound), match="batch_0"):
        run.wait(sleep=naps.append)
    assert [found.price for found in run.predictions()] == [*[None] * 4, *[5] * 8]


def test_strange_lines_are_passed_over_and_what_is_missing_is_asked_again(
    client: openai.OpenAI, batches: Batches
) -> None:
    run = Predictor(client, "m").predict_batch(texts(4))
    batches.finish()
    name = batches.batches[0]["output_file_id"]
    good = [json.loads(line) for line in batches.files[name].splitlines()]
    strange: list[Any] = [
        {"custom_id": "nobody's"} | ok("$9.00"),
        {"custom_id": ["a", "list"]} | ok("$9.00"),
        {"custom_id": good[0]["custom_id"], "response": "text"},
        {"custom_id": good[0]["custom_id"], "response": {"status_code": 200, "body": "text"}},
        [1, 2],
        None,
        good[1],
        good[1],
        good[2],
    ]
    lines = [json.dumps(each) for each in strange] + [json.dumps(good[3])[:40], "", "\u2028"]
    batches.files[name] = "\n".join(lines).encode()
    assert [found.price for found in run.wait(sleep=lambda _: batches.finish())] == [5] * 4
    assert {line["custom_id"] for line in batches.lines(1)} == {good[0]["custom_id"], good[3]["custom_id"]}


def test_a_result_file_that_was_deleted_is_asked_for_again(client: openai.OpenAI, batches: Batches) -> None:
    batches.lost = "output_file_id-0"
    run = Predictor(client, "m").predict_batch(texts(2))
    assert [found.price for found in run.wait(sleep=lambda _: batches.finish())] == [5] * 2
    assert len(batches.batches) == 2


def test_things_that_are_no_items_strike_only_themselves(client: openai.OpenAI, batches: Batches) -> None:
    things: list[Any] = ["a mug", None, " ", "half \ud800"]
    run = Predictor(client, "m").predict_batch(things)
    batches.finish()
    found = run.wait()
    assert [each.price for each in found] == [5, None, None, None]
    assert "an item must be an Item or a text" in (found[1].error or "")


def test_who_waits_sees_how_many_questions_are_done(
    client: openai.OpenAI, batches: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[int, int | None]] = []

    class Bar:
        n, total = 0, None

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def refresh(self) -> None:
            shown.append((self.n, self.total))

    monkeypatch.setattr(batch_module, "progress_bar", lambda **_: Bar())
    run = Predictor(client, "m").predict_batch(texts(10))
    batches.batches[0]["request_counts"] = {"total": 10, "completed": 6, "failed": 1}
    run.wait(sleep=lambda _: batches.finish())
    assert shown == [(7, 10), (10, 10)]


def test_a_service_that_sends_its_first_page_of_batches_for_ever_is_not_followed_for_ever(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    others = [{"id": f"batch_{number}", "status": "completed", "metadata": {}} for number in range(3)]
    listed = service.get("/batches").mock(page(others, more=True))
    service.post("/files").respond(json={"id": "file-1"})
    service.post("/batches").respond(json={"id": "batch_9", "status": "validating"})
    assert Predictor(client, "m").predict_batch(texts(2)).ids == ("batch_9",)
    assert listed.call_count == 2


def test_waiting_for_batches_keeps_to_what_a_busy_service_asks(
    client: openai.OpenAI, batches: Batches, naps: list[float]
) -> None:
    run = Predictor(client, "m").predict_batch(texts(2))
    batches.away, batches.headers = True, {"retry-after": "17"}

    def nap(seconds: float) -> None:
        naps.append(seconds)
        batches.away = False
        batches.finish()

    assert [each.price for each in run.wait(sleep=nap)] == [5, 5]
    assert naps == [17.0]
