"""Batches at services that describe them in other words, deliver late, lack room, or fail one of several."""

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest

from batch_service import Batches, Outcome, asked, ok, texts
from finetune_pricer import Predictor
from finetune_pricer.errors import JobTimeout, NotFound, RequestRejected, ServiceUnavailable
from finetune_pricer.predict import BatchRun
from finetune_pricer.providers import Provider
from test_batch import batches

__all__ = ["batches"]  # the fixture

FEW = Provider(name="few", batch_requests=2)
NO_ROOM = {
    "status": "failed",
    "errors": {
        "data": [
            {
                "code": "token_limit_exceeded",
                "message": "Enqueued token limit reached. Please try again once some batches have completed.",
            }
        ]
    },
}


FULL = [
    "Enqueued token limit reached for m.",
    "token_limit_exceeded",
    "Too many active batches. Please try again once some in_progress batches have been completed.",
    "Batch queue is full",
    "You have reached the maximum number of in-progress batches",
    "batch limit exceeded",
    "TooManyActiveBatches",
    "Maximum of 10 pending batches",
    "Queue limit reached",
]


@pytest.mark.parametrize("said", FULL)
def test_no_room_is_no_refusal_in_whatever_words(client: openai.OpenAI, batches: Batches, said: str) -> None:
    run = submit(client, texts(12), provider=FEW)
    batches.batches[1] |= {"status": "failed", "errors": [{"message": said}]}
    run.wait(sleep=lambda _: batches.finish())
    assert prices(run) == [5] * 12


@pytest.mark.parametrize("said", ["The file exceeds the maximum number of requests per batch.", "Bad model."])
def test_a_refusal_stays_one(client: openai.OpenAI, batches: Batches, said: str) -> None:
    run = submit(client, texts(12), provider=FEW)
    batches.batches[1] |= {"status": "failed", "errors": [{"message": said}]}
    with pytest.raises(RequestRejected, match=said):
        run.wait(sleep=lambda _: batches.finish())


def submit(client: openai.OpenAI, items: list[str], **more: Any) -> BatchRun:
    return Predictor(client, "m", **more).predict_batch(items, sleep=lambda _: None)


def prices(run: BatchRun) -> list[float | None]:
    return [found.price for found in run.predictions()]


# Words for what has become of a batch.

COMPLETED = ["completed", "COMPLETED", "Completed", "succeeded", "SUCCEEDED", "success", "complete", "done"]
COMPLETED += ["JOB_STATE_SUCCEEDED", "BATCH_STATE_SUCCEEDED", "finished", "ended", " completed "]
COMPLETED += ["COMPLETED_WITH_ERRORS", "partially_completed", "PartiallyCompleted", "JobStatus.COMPLETED"]
COMPLETED += ["JOB_STATE_PARTIALLY_SUCCEEDED", "batch.completed"]


@pytest.mark.parametrize("word", COMPLETED)
def test_a_batch_has_ended_in_whatever_word(client: openai.OpenAI, batches: Batches, word: str) -> None:
    run = submit(client, texts(2))
    batches.finish(word)
    run.wait(timeout=60, sleep=lambda _: None)
    assert prices(run) == [5, 5]


@pytest.mark.parametrize("word", ["Ready", "READY", "ready"])
@pytest.mark.parametrize("ours", ["succeeded", "completed"])
def test_the_words_of_the_profile_are_known(
    client: openai.OpenAI, batches: Batches, word: str, ours: str
) -> None:
    run = submit(client, texts(2), provider=Provider(name="own", statuses={"Ready": ours}))
    batches.finish(word)
    run.wait(timeout=60, sleep=lambda _: None)
    assert prices(run) == [5, 5]


@pytest.mark.parametrize(
    "word", ["failed", "FAILED", "Failure", "error", "rejected", "crashed", "invalid", "validation_failed"]
)
def test_a_batch_has_failed_in_whatever_word(client: openai.OpenAI, batches: Batches, word: str) -> None:
    run = submit(client, texts(2))
    batches.batches[0]["status"] = word
    with pytest.raises(RequestRejected, match="'batch_0' was not accepted: no reason given"):
        run.wait(timeout=60, sleep=lambda _: None)


@pytest.mark.parametrize(
    "word", ["cancelled", "CANCELED", "canceled", "aborted", "Stopped", "deleted", "cancelled_by_user"]
)
def test_a_batch_was_cancelled_in_whatever_word(client: openai.OpenAI, batches: Batches, word: str) -> None:
    run = submit(client, texts(2))
    batches.batches[0] |= {"status": word, "request_counts": {"completed": 0, "failed": 0}}
    assert "was cancelled" in str(run.wait(timeout=60, sleep=lambda _: None)[0].error)


@pytest.mark.parametrize("word", ["expired", "EXPIRED", "timeout", "TIMEOUT_EXCEEDED", "timed out"])
def test_a_batch_has_expired_in_whatever_word(client: openai.OpenAI, batches: Batches, word: str) -> None:
    run, naps = submit(client, texts(2)), list[float]()
    batches.batches[0] |= {"status": word, "request_counts": {"completed": 0, "failed": 0}}

    def nap(seconds: float) -> None:
        naps.append(seconds)
        batches.finish()

    run.wait(timeout=60, sleep=nap)
    assert prices(run) == [5, 5]
    assert (len(batches.batches), len(naps)) == (2, 1)


@pytest.mark.parametrize(
    "word",
    ["queued", "IN_PROGRESS", "finalizing", "cancelling", "brewing", "not_completed", "completing", None, 7],
)
def test_any_other_word_means_that_it_goes_on(client: openai.OpenAI, batches: Batches, word: Any) -> None:
    run = submit(client, texts(2))
    batches.batches[0]["status"] = word
    with pytest.raises(JobTimeout):
        run.wait(timeout=60, sleep=lambda _: None)
    assert len(batches.batches) == 1


ERRORS: list[Any] = [
    {"errors": "model not found"},
    {"errors": ["model not found"]},
    {"errors": {"message": "model not found"}},
    {"errors": [{"message": "model not found"}]},
    {"errors": {"data": [{"message": "model not found", "line": 3}]}},
    {"errors": {"data": [None, "model not found"]}},
    {"errors": {"object": "list", "data": [{"code": "model not found", "message": None}]}},
    {"errors": None, "error": "model not found"},
    {"error": {"message": "model not found", "code": 404, "param": ["body"]}},
    {"errors": {"data": "model not found"}},
    {"errors": {"data": {"message": "model not found"}}},
    {"error": {"error": {"message": "model not found"}}},
    {"errors": [{"error": {"message": "model not found"}}]},
    {"errors": [{"msg": "model not found"}]},
    {"errors": {"line 1": "model not found"}},
    {"errors": [], "error_message": "model not found"},
    {"failure_reason": "model not found"},
    {"status_details": {"reason": "model not found"}},
]


@pytest.mark.parametrize("errors", ERRORS)
def test_a_refusal_is_told_in_the_words_of_the_service(
    client: openai.OpenAI, batches: Batches, errors: dict[str, Any]
) -> None:
    run = submit(client, texts(2))
    batches.batches[0] |= {"status": "failed"} | errors
    with pytest.raises(RequestRejected, match="'batch_0' was not accepted: model not found"):
        run.wait(sleep=lambda _: None)
    assert "model not found" in str(run.predictions()[0].error)


@pytest.mark.parametrize("envelope", ["batch", "job", "data"])
def test_a_batch_in_an_envelope_is_read(client: openai.OpenAI, batches: Batches, envelope: str) -> None:
    batches.shown = lambda batch: {envelope: batch, "warning": "mind the gap"}
    batches.listed = lambda rows: [row[envelope] for row in rows]
    run = submit(client, texts(2))
    batches.finish()
    run.wait(sleep=lambda _: None)
    assert (run.ids, prices(run)) == (("batch_0",), [5, 5])


@pytest.mark.parametrize(
    "odd",
    [
        {"request_counts": None, "metadata": None, "errors": {}},
        {"request_counts": {"total": None, "completed": None, "failed": None}, "metadata": "text"},
        {"request_counts": [2, 2], "metadata": [], "input_file_id": None},
        {"request_counts": {"completed": "2", "failed": float("1e300")}, "error_file_id": ""},
        {"request_counts": {"completed": -1, "failed": "many"}, "error_file_id": None},
    ],
)
def test_odd_fields_of_a_batch_do_no_harm(
    client: openai.OpenAI, batches: Batches, odd: dict[str, Any]
) -> None:
    batches.shown = lambda batch: batch | odd
    run = submit(client, texts(2))
    batches.finish()
    run.wait(sleep=lambda _: None)
    assert prices(run) == [5, 5]


# Results that come later than the batch says that it has ended.


def without(*names: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda batch: batch | dict.fromkeys(names)


LATE = {
    "no output file yet": ({}, without("output_file_id")),
    "no file at all yet": ({}, without("output_file_id", "error_file_id")),
    "counts unknown": ({"counts": False}, without("output_file_id", "error_file_id", "request_counts")),
    "counts of zero": (
        {},
        lambda batch: batch | {"output_file_id": None, "request_counts": {"completed": 0, "failed": 0}},
    ),
}


@pytest.mark.parametrize(("looks", "bought"), [(1, 1), (7, 1), (1_000, 3)])
@pytest.mark.parametrize("kind", LATE)
def test_results_that_come_late_are_waited_for_and_not_bought_again(
    client: openai.OpenAI, batches: Batches, kind: str, looks: int, bought: int
) -> None:
    settings, hide = LATE[kind]
    batches.counts = settings.get("counts", True)
    run, left = submit(client, texts(3)), looks

    def show(batch: dict[str, Any]) -> dict[str, Any]:
        nonlocal left
        if batch["status"] != "completed":
            return batch
        left -= 1
        return hide(batch) if left >= 0 else batch

    batches.shown = show
    batches.finish()
    run.wait(sleep=lambda _: batches.finish())
    assert len(batches.batches) == bought
    assert prices(run) == ([5, 5, 5] if bought == 1 else [None] * 3)


@pytest.mark.parametrize("status", ["expired", "cancelled"])
@pytest.mark.parametrize("what", ["all", "all but one line"])
@pytest.mark.parametrize("is_new_run", [False, True])
def test_what_ended_early_without_a_count_is_looked_at_again_before_anything_is_bought(
    client: openai.OpenAI, batches: Batches, status: str, what: str, is_new_run: bool
) -> None:
    batches.counts = False
    run, left = submit(client, texts(3)), 3
    batches.finish(status)
    whole = dict(batches.files)

    def look(_: float) -> None:
        nonlocal left
        left -= 1
        if not left:
            batches.shown = lambda batch: batch
            batches.files |= whole
        batches.finish()

    if what == "all":
        batches.shown = without("output_file_id", "error_file_id")
    else:
        batches.files["output_file_id-0"] = whole["output_file_id-0"].splitlines()[0]
    run = submit(client, texts(3)) if is_new_run else run
    run.wait(sleep=look)
    assert len(batches.batches) == 1
    assert prices(run) == [5, 5, 5]


@pytest.mark.parametrize("name", ["completed", "succeeded", "successful"])
def test_what_a_service_counts_by_another_name_is_waited_for_as_long(
    client: openai.OpenAI, batches: Batches, name: str
) -> None:
    run, looks = submit(client, texts(3)), 0
    batches.finish()
    batches.shown = lambda batch: batch | {"request_counts": {"total": 3, name: 3}, "output_file_id": None}

    def look(_: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 12:
            batches.shown = lambda batch: batch
        batches.finish()

    run.wait(sleep=look)
    assert (len(batches.batches), prices(run)) == (1, [5, 5, 5])


def test_late_results_are_waited_for_some_ten_minutes(client: openai.OpenAI, batches: Batches) -> None:
    batches.counts, naps = True, list[float]()
    run = submit(client, texts(3))
    batches.finish()
    batches.shown = without("output_file_id")

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(batches.batches) > 1:
            batches.shown = lambda batch: batch
            batches.finish()

    run.wait(sleep=nap)
    assert 400 < sum(naps) < 1_000
    assert prices(run) == [5, 5, 5]


def test_looking_by_hand_never_gives_results_up(client: openai.OpenAI, batches: Batches) -> None:
    batches.counts = True
    run = submit(client, texts(3))
    batches.finish()
    batches.shown = without("output_file_id")
    for _ in range(50):
        run.refresh()
    batches.shown = lambda batch: batch
    assert prices(run.refresh()) == [5, 5, 5]


@pytest.mark.parametrize("status", ["completed", "expired", "cancelled"])
def test_a_file_with_fewer_lines_than_the_service_counts_is_not_whole(
    client: openai.OpenAI, batches: Batches, status: str
) -> None:
    batches.counts = True
    batches.answer = lambda line: ok("$5.00") if asked(line)[-1] < "3" else None
    run = submit(client, texts(3))
    batches.finish(status)
    name = "output_file_id-0"
    whole = batches.files[name]
    batches.files[name] = whole[: len(whole) // 2]

    def nap(_: float) -> None:
        batches.files[name] = whole

    run.wait(sleep=nap)
    assert (prices(run), len(batches.batches)) == ([5, 5, 5], 1)


def test_errors_that_are_there_first_do_not_hide_answers_that_come_late(
    client: openai.OpenAI, batches: Batches
) -> None:
    """As many lines as are counted, but not one of the answers."""
    expired = {"response": None, "error": {"code": "batch_expired"}}
    batches.answer = lambda line: ok("$5.00") if asked(line)[-1] < "2" else expired
    run = submit(client, texts(6))
    batches.finish("expired")
    batches.batches[0]["request_counts"] = {"completed": 2, "failed": 0}
    batches.shown = without("output_file_id")

    def nap(_: float) -> None:
        batches.shown = lambda batch: batch
        batches.answer = lambda _: ok("$7.00")
        batches.finish()

    run.wait(sleep=nap)
    assert prices(run) == [5, 5, 7, 7, 7, 7]
    assert [asked(line) for line in batches.lines(1)] == texts(6)[2:]


def test_answers_of_a_cancelled_batch_that_come_late_are_not_bought_again(
    client: openai.OpenAI, batches: Batches
) -> None:
    batches.counts = True
    batches.answer = lambda line: ok("$5.00") if asked(line)[-1] == "0" else None
    submit(client, texts(3))
    batches.finish("cancelled")
    batches.shown = without("output_file_id", "error_file_id")
    run = submit(client, texts(3))

    def nap(_: float) -> None:
        batches.shown = lambda batch: batch
        batches.answer = lambda _: ok("$7.00")
        batches.finish()

    run.wait(sleep=nap)
    assert prices(run) == [5, 7, 7]
    assert batches.bill["thing number 0"] == 1


# Results in a form that cannot be read.


def rename(key: str) -> Callable[[list[dict[str, Any]]], bytes]:
    return lambda rows: b"\n".join(
        json.dumps({key: row["custom_id"], "response": row["response"]}).encode() for row in rows
    )


def renumber(rows: list[dict[str, Any]]) -> bytes:
    return b"\n".join(
        json.dumps(row | {"custom_id": f"request-{number}"}).encode() for number, row in enumerate(rows)
    )


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize(
    "write",
    [rename("recordId"), renumber, lambda _: b"id;answer\n1;$5.00\n"],
    ids=["renamed", "numbered", "csv"],
)
def test_results_that_name_none_of_the_questions_are_an_error_and_not_bought_again(
    client: openai.OpenAI, batches: Batches, write: Callable[[list[dict[str, Any]]], bytes], counts: bool
) -> None:
    batches.counts = counts
    for _ in range(2):
        run = submit(client, texts(2))
        batches.finish()
        rows = [{"custom_id": line["custom_id"]} | ok("$5.00") for line in batches.lines(0)]
        batches.files["output_file_id-0"] = write(rows)
        run.wait(timeout=3_600, sleep=lambda _: None)
        assert len(batches.batches) == 1
        assert "'batch_0' (file 'output_file_id-0'" in str(run.predictions()[0].error)
        assert "name none of the questions" in str(run.predictions()[0].error)


def test_a_question_that_a_batch_of_others_left_out_is_bought(
    client: openai.OpenAI, batches: Batches
) -> None:
    """Its file can be read, though nothing in it is wanted."""
    batches.counts = True
    batches.answer = lambda line: None if asked(line)[-1] == "1" else ok("$5.00")
    submit(client, texts(5))
    batches.finish()
    run = submit(client, texts(2)[1:])
    batches.answer = lambda _: ok("$7.00")
    run.wait(sleep=lambda _: batches.finish())
    assert prices(run) == [7]


def test_an_array_in_place_of_lines_is_read(client: openai.OpenAI, batches: Batches) -> None:
    run = submit(client, texts(3))
    batches.finish()
    rows = [json.loads(line) for line in batches.files["output_file_id-0"].splitlines()]
    batches.files["output_file_id-0"] = json.dumps(rows, indent=2).encode()
    run.wait(sleep=lambda _: None)
    assert prices(run) == [5, 5, 5]


OVERLOADED = {"status_code": 200, "body": {"choices": None, "error": {"code": 429, "message": "slow down"}}}
FILTERED = {"status_code": 200, "body": {"error": {"code": 400, "message": "not with me"}}}


def test_an_error_inside_a_line_of_status_200_is_told_from_an_answer(
    client: openai.OpenAI, batches: Batches
) -> None:
    said: dict[str, Any] = {"0": {"response": OVERLOADED}, "1": {"response": FILTERED}}
    batches.answer = lambda line: said.pop(asked(line)[-1], ok("$5.00"))
    run = submit(client, texts(3))
    run.wait(sleep=lambda _: batches.finish())
    assert prices(run) == [5, None, 5]
    assert run.predictions()[1].error == "not with me"


# One batch of several has a problem.


def finish_all_but_first(batches: Batches) -> Callable[[float], None]:
    """Give a pause after which one more batch is done, the first one never."""

    def nap(_: float) -> None:
        for number, batch in enumerate(batches.batches[1:], 1):
            if batch["status"] == "in_progress":
                batches.finish(only=number)
                return

    return nap


def test_a_refused_batch_does_not_end_the_waiting_for_the_others(
    client: openai.OpenAI, batches: Batches
) -> None:
    run = submit(client, texts(6), provider=FEW)
    batches.batches[0] |= {"status": "failed", "errors": "bad line"}
    for _ in range(2):
        with pytest.raises(RequestRejected, match="'batch_0' was not accepted: bad line"):
            run.wait(sleep=finish_all_but_first(batches))
        assert prices(run) == [None, None, 5, 5, 5, 5]
    with pytest.raises(RequestRejected, match="bad line"):
        run.refresh()
    assert len(batches.batches) == 3
    again = submit(client, texts(6), provider=FEW)
    batches.finish()
    again.wait(sleep=lambda _: None)
    assert (prices(again), len(batches.batches)) == ([5] * 6, 4)


def test_a_batch_that_is_lost_does_not_end_the_waiting_for_the_others(
    client: openai.OpenAI, batches: Batches
) -> None:
    run = submit(client, texts(6), provider=FEW)
    batches.lost = "batch_0"
    with pytest.raises(NotFound, match="'batch_0' is not there any more"):
        run.wait(sleep=finish_all_but_first(batches))
    assert prices(run) == [None, None, 5, 5, 5, 5]


def test_a_batch_that_the_service_fails_to_show_does_not_keep_the_others_from_being_fetched(
    client: openai.OpenAI, batches: Batches
) -> None:
    run = submit(client, texts(6), provider=FEW)
    batches.finish()
    batches.broken = "output_file_id-0"
    with pytest.raises(JobTimeout):
        run.wait(timeout=60, sleep=lambda _: None)
    assert prices(run) == [None, None, 5, 5, 5, 5]
    batches.broken = ""
    run.wait(sleep=lambda _: None)
    assert prices(run) == [5] * 6


def test_a_batch_that_there_is_no_room_for_is_sent_when_another_has_ended(
    client: openai.OpenAI, batches: Batches
) -> None:
    run, looks = submit(client, texts(4), provider=FEW), 0
    batches.batches[1] |= NO_ROOM

    def nap(_: float) -> None:
        nonlocal looks
        looks += 1
        assert len(batches.batches) == (2 if looks <= 10 else 3)
        if looks >= 10:
            batches.finish()

    run.wait(sleep=nap)
    assert prices(run) == [5, 5, 5, 5]
    assert [asked(line) for line in batches.lines(2)] == texts(4)[2:]


WORDS = [
    {"code": "token_limit_exceeded", "message": "x"},
    {"code": None, "message": "Enqueued token limit reached for m."},
    {"code": "x", "message": "The number of enqueued tokens has surpassed the configured limit."},
    {"code": "too_many_tasks", "message": "x"},
]


@pytest.mark.parametrize("words", WORDS)
def test_a_batch_that_there_is_no_room_for_is_sent_again_after_a_pause(
    client: openai.OpenAI, batches: Batches, words: dict[str, Any]
) -> None:
    run, naps = submit(client, texts(2)), list[float]()
    batches.batches[0] |= {"status": "failed", "errors": [words]}

    def nap(seconds: float) -> None:
        naps.append(seconds)
        batches.finish()

    run.wait(sleep=nap)
    assert (prices(run), len(batches.batches)) == ([5, 5], 2)
    assert len(naps) > 3


def test_a_batch_that_there_is_never_room_for_ends_as_its_refusal_after_hours(
    client: openai.OpenAI, batches: Batches
) -> None:
    batches.shown = lambda batch: batch | NO_ROOM
    run, naps = submit(client, texts(2)), list[float]()
    assert [found.error for found in run.refresh().predictions()] == ["not answered yet"] * 2
    with pytest.raises(RequestRejected, match="Enqueued token limit reached"):
        run.wait(sleep=naps.append)
    assert len(batches.batches) == 6
    assert 3_600 < sum(naps) < 24 * 3_600


@pytest.mark.parametrize("full", [["busy"] * 3, ["no room"], ["no connection"] * 3])
def test_a_full_service_takes_the_rest_when_a_batch_has_ended(
    client: openai.OpenAI, batches: Batches, full: list[Outcome]
) -> None:
    batches.outcomes = ["answer", *full]
    run = submit(client, texts(6), provider=FEW)
    assert run.ids == ("batch_0",)
    batches.outcomes = ["answer", *full]
    looks = 0

    def nap(_: float) -> None:
        nonlocal looks
        looks += 1
        if looks % 4 == 0:
            batches.finish()

    run.wait(sleep=nap)
    assert (prices(run), len(batches.batches)) == ([5] * 6, 3)
    assert set(batches.bill.values()) == {1}
    if full != ["no room"]:  # which is a refusal, and its file is not used again
        assert batches.asked["POST /files"] == 3


def test_a_full_service_is_asked_again_while_waiting_as_long_as_it_takes(
    client: openai.OpenAI, batches: Batches
) -> None:
    batches.answer = lambda _: None
    run = submit(client, texts(2))
    batches.finish()
    batches.answer = lambda _: ok("$5.00")
    batches.outcomes = ["busy"] * 10
    run.wait(sleep=lambda _: batches.finish())
    assert (prices(run), len(batches.batches)) == ([5, 5], 2)


def test_a_refusal_of_one_batch_of_several_does_not_keep_the_others_from_being_fetched(
    client: openai.OpenAI, batches: Batches
) -> None:
    batches.outcomes = ["answer", "refused", "answer"]
    run = submit(client, texts(6), provider=FEW)
    assert run.predictions()[2].error == "No."
    with pytest.raises(RequestRejected, match="No"):
        run.wait(sleep=lambda _: batches.finish())
    assert prices(run) == [5, 5, None, None, 5, 5]
    again = submit(client, texts(6), provider=FEW)
    again.wait(sleep=lambda _: batches.finish())
    assert (prices(again), len(batches.batches)) == ([5] * 6, 3)


def test_a_refusal_of_a_further_batch_is_raised_when_the_others_have_ended(
    client: openai.OpenAI, batches: Batches
) -> None:
    batches.outcomes = ["answer", "answer", "busy", "busy", "busy"]
    run = submit(client, texts(6), provider=FEW)
    batches.outcomes = ["refused"]
    batches.finish(only=0)
    with pytest.raises(RequestRejected, match="No"):
        run.wait(sleep=lambda _: batches.finish())
    assert prices(run) == [5, 5, 5, 5, None, None]


@pytest.mark.parametrize("status", [400, 409])
def test_cancelling_leaves_a_batch_alone_that_has_ended_and_goes_on_with_the_others(
    client: openai.OpenAI, batches: Batches, status: int
) -> None:
    run = submit(client, texts(6), provider=FEW)
    batches.uncancellable = {"batch_0": status}
    run.cancel()
    assert [batch["status"] for batch in batches.batches] == ["in_progress", "cancelled", "cancelled"]


def test_cancelling_goes_on_where_one_batch_cannot_be_cancelled(
    client: openai.OpenAI, batches: Batches
) -> None:
    run = submit(client, texts(6), provider=FEW)
    batches.uncancellable = {"batch_0": 500}
    with pytest.raises(ServiceUnavailable):
        run.cancel()
    assert [batch["status"] for batch in batches.batches] == ["in_progress", "cancelled", "cancelled"]


def test_half_an_emoji_in_an_answer_of_a_batch_loses_no_price(
    client: openai.OpenAI, batches: Batches, naps: list[float]
) -> None:
    run = Predictor(client, "m").predict_batch(texts(2))
    batches.finish()
    name = batches.batches[0]["output_file_id"]
    batches.files[name] = batches.files[name].replace(b"$5.00", b"$5.00 \\ud83d")
    assert [found.price for found in run.wait(sleep=naps.append)] == [5, 5]
    assert len(batches.batches) == 1
