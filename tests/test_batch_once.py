"""Questions of batches are bought once: after restarts, reorders, kills, lost answers, on other machines."""

import asyncio
import re
import sqlite3
import threading
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
import respx

from batch_service import Batches, Killed, Outcome, asked, ok, texts
from finetune_pricer import Predictor
from finetune_pricer.aio import AsyncPredictor
from finetune_pricer.errors import FileAccessError, NotFound, RequestRejected, ServiceUnavailable
from finetune_pricer.predict import BatchRun
from finetune_pricer.providers import Provider

BASE_URL, KEY = "https://service.test/v1", "sk-test-0123456789"  # as the fixture `client` has them
FEW = Provider(name="few", batch_requests=3)


@pytest.fixture
def batches(service: respx.MockRouter) -> Batches:
    return Batches(service)


def submit(client: openai.OpenAI, items: list[str], naps: list[float] | None = None, **more: Any) -> BatchRun:
    predictor = Predictor(client, "m", provider=more.pop("provider", None), store=more.pop("store", None))
    pauses = [] if naps is None else naps
    return predictor.predict_batch(items, sleep=pauses.append, **more)


def once(items: list[str]) -> dict[str, int]:
    return dict.fromkeys(items, 1)


# What a second call may ask for while the first one's batch is under way.
SECOND_CALLS: dict[str, list[str]] = {
    "the same": texts(10),
    "another order": texts(10)[::-1],
    "one more": texts(11),
    "one less": texts(9),
    "one in the middle less, two more": [*texts(4), *texts(12)[5:]],
    "some twice": texts(10) + texts(3),
    "one of them": texts(10)[7:8],
    "others only": ["something else"],
}


@pytest.mark.parametrize("status", ["in_progress", "completed"])
@pytest.mark.parametrize("second", SECOND_CALLS.values(), ids=SECOND_CALLS)
def test_only_what_is_in_no_batch_is_bought(
    client: openai.OpenAI, batches: Batches, naps: list[float], second: list[str], status: str
) -> None:
    submit(client, texts(10))
    if status == "completed":
        batches.finish()
    run = submit(client, second)
    batches.finish()
    assert [found.price for found in run.wait(sleep=naps.append)] == [5] * len(second)
    assert batches.bill == once([*dict.fromkeys(texts(10) + second)])


def test_files_of_another_size_hold_the_same_questions(
    client: openai.OpenAI, batches: Batches, naps: list[float]
) -> None:
    submit(client, texts(10), provider=FEW)
    run = submit(client, texts(11)[::-1], provider=Provider(name="small", batch_requests=4))
    batches.finish()
    assert [found.price for found in run.wait(sleep=naps.append)] == [5] * 11
    assert batches.bill == once(texts(11))


def test_an_answer_that_was_kept_meanwhile_changes_nothing(
    client: openai.OpenAI, service: respx.MockRouter, batches: Batches, naps: list[float]
) -> None:
    submit(client, texts(10), store="kept.sqlite")
    service.post("/chat/completions").respond(json=ok("$5.00")["response"]["body"])
    Predictor(client, "m", store="kept.sqlite").predict(texts(1)[0])
    run = submit(client, texts(10), store="kept.sqlite")
    batches.finish()
    assert [found.price for found in run.wait(sleep=naps.append)] == [5] * 10
    assert batches.bill == once(texts(10))


@pytest.mark.parametrize("learned", ["before the first", "before the second"])
def test_what_was_learned_of_parameters_does_not_make_other_questions(
    client: openai.OpenAI, service: respx.MockRouter, batches: Batches, naps: list[float], learned: str
) -> None:
    """The first batch is in another form; what it is refused for is held against the form it was sent in."""
    refused = httpx.Response(400, json={"error": {"message": "no logprobs", "param": "logprobs"}})
    answered = httpx.Response(200, json=ok("$5.00")["response"]["body"])
    service.post("/chat/completions").mock(side_effect=[refused, answered])
    wise, fresh = Predictor(client, "m"), Predictor(client, "m")
    wise.predict("anything")
    first, second = (wise, fresh) if learned == "before the first" else (fresh, wise)
    batches.shown = lambda batch: batch | {"input_file_id": None}  # as some gateways do
    first.predict_batch(texts(3))
    run = second.predict_batch(texts(3))
    assert run.ids == ("batch_0",)

    def reply(line: dict[str, Any]) -> dict[str, Any]:
        if "logprobs" not in line["body"]:
            return ok("$5.00")
        return {"response": {"status_code": 400, "body": {"error": {"message": "x", "param": "logprobs"}}}}

    batches.answer = reply
    found = run.wait(sleep=lambda _: batches.finish())
    assert [each.price for each in found] == [5] * 3
    assert len(batches.batches) == (1 if learned == "before the first" else 2)


def test_two_batches_that_were_sent_in_a_form_that_is_refused_are_both_asked_otherwise(
    client: openai.OpenAI, batches: Batches
) -> None:
    run = submit(client, texts(6), provider=FEW)

    def reply(line: dict[str, Any]) -> dict[str, Any]:
        if "logprobs" not in line["body"]:
            return ok("$5.00")
        return {"response": {"status_code": 400, "body": {"error": {"message": "x", "param": "logprobs"}}}}

    batches.answer = reply
    assert [each.price for each in run.wait(sleep=lambda _: batches.finish())] == [5] * 6
    assert len(batches.batches) == 4


# Other machines, and journals that were lost.


def forget_metadata(_: dict[str, str]) -> Any:
    return None


def replace_metadata(_: dict[str, str]) -> Any:
    return {"job_arn": "arn:aws:bedrock:1"}


def list_bare(rows: list[dict[str, Any]]) -> Any:
    return rows


def list_one_page_for_ever(rows: list[dict[str, Any]]) -> Any:
    return {"data": rows, "has_more": True}


KEEPS: dict[str, Callable[[dict[str, str]], Any]] = {
    "kept": lambda given: given,
    "dropped": forget_metadata,
    "replaced": replace_metadata,
}
LISTS: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "plain": lambda rows: {"data": rows, "has_more": False},
    "an array": list_bare,
    "one page for ever": list_one_page_for_ever,
    "under a name of its own": lambda rows: {"batches": rows},
    "in an envelope": lambda rows: {"data": {"data": rows, "has_more": False}},
    "rows in envelopes": lambda rows: [{"batch": row} if "status" in row else row for row in rows],
    "a row without a name": lambda rows: [{"id": "", "status": "in_progress"}, *rows],
}


@pytest.mark.parametrize("refuses", [{}, {"files": 404}], ids=["files listed", "files not listed"])
@pytest.mark.parametrize("listed", LISTS)
@pytest.mark.parametrize("metadata", KEEPS)
def test_another_machine_finds_the_batches_by_what_is_in_their_files(
    client: openai.OpenAI, batches: Batches, metadata: str, listed: str, refuses: dict[str, int]
) -> None:
    batches.metadata, batches.listed, batches.refuses = KEEPS[metadata], LISTS[listed], refuses
    submit(client, texts(5), journal="one.sqlite3")
    submit(client, [*texts(3)[::-1], "another"], journal="two.sqlite3")
    run = submit(client, [*texts(5), "another"], journal="three.sqlite3")
    batches.finish()
    assert [found.price for found in run.wait(sleep=lambda _: None)] == [5] * 6
    assert batches.bill == once([*texts(5), "another"])


def test_a_batch_of_another_machine_is_read_once_and_then_noted(
    client: openai.OpenAI, batches: Batches
) -> None:
    submit(client, texts(5), journal="one.sqlite3")
    for _ in range(3):
        submit(client, texts(4), journal="two.sqlite3")
    assert batches.asked["GET content"] == 1


def test_only_batches_that_may_hold_the_questions_are_read(client: openai.OpenAI, batches: Batches) -> None:
    """Not those of another model or program, nor any that are older than what is found."""
    submit(client, texts(2), journal="one.sqlite3")
    submit(client, texts(4)[2:], journal="one.sqlite3")
    Predictor(client, "another model").predict_batch(texts(4), journal="one.sqlite3")
    batches.metadata = forget_metadata
    Predictor(client, "a third").predict_batch(texts(4), journal="one.sqlite3")
    submit(client, texts(5)[4:], journal="one.sqlite3")
    batches.names["file-4"] = "somebody-elses.jsonl"
    submit(client, texts(4)[2:], journal="two.sqlite3")
    assert batches.asked["GET content"] == 1
    assert len(batches.batches) == 5


@pytest.mark.parametrize(("batches_status", "files_status"), [(404, 403), (405, 404), (501, 501)])
def test_a_service_without_lists_still_takes_batches(
    client: openai.OpenAI, batches: Batches, batches_status: int, files_status: int
) -> None:
    batches.refuses = {"batches": batches_status, "files": files_status}
    submit(client, texts(2))
    assert submit(client, texts(2)).ids == ("batch_0",)
    assert batches.bill == once(texts(2))


# Requests whose answers are lost.


@pytest.mark.parametrize("metadata", KEEPS)
@pytest.mark.parametrize("late", [0, 1, 4])
def test_a_batch_whose_answer_was_lost_is_found(
    client: openai.OpenAI, batches: Batches, naps: list[float], metadata: str, late: int
) -> None:
    batches.metadata, batches.outcomes = KEEPS[metadata], ["made and lost"]
    batches.looks_before_shown = late
    assert submit(client, texts(3), naps).ids == ("batch_0",)
    assert naps == [2, 4, 8, 16][:late]
    assert batches.asked["POST /batches"] == 1


def test_a_batch_whose_answer_was_lost_is_found_where_its_file_has_another_name(
    client: openai.OpenAI, batches: Batches
) -> None:
    batches.outcomes = ["made and lost"]
    batches.shown = lambda batch: batch | {"input_file_id": "s3://bucket/1"}
    assert submit(client, texts(3)).ids == ("batch_0",)


@pytest.mark.parametrize("shown_at_last", [True, False])
def test_a_lost_request_is_never_forgotten_and_never_sent_again_unasked(
    client: openai.OpenAI, batches: Batches, naps: list[float], shown_at_last: bool
) -> None:
    batches.outcomes, batches.looks_before_shown = ["made and lost"], 1_000
    explained = r"batch of 3 questions was asked for at 20\d\d-.* UTC \(file 'file-0'\).*again=True"
    with pytest.raises(ServiceUnavailable, match=rf"504.*{explained}"):
        submit(client, texts(3), naps)
    for items in (texts(3), texts(4), texts(1)):
        with pytest.raises(ServiceUnavailable, match=explained):
            submit(client, items, naps)
    assert batches.asked["POST /batches"] == 1
    if shown_at_last:
        batches._hidden.clear()
        assert submit(client, texts(3), again=True).ids == ("batch_0",)
        assert batches.bill == once(texts(3))
    else:
        assert submit(client, texts(3), again=True).ids == ("batch_1",)
        assert submit(client, texts(3)).ids == ("batch_1",)


def test_asking_anew_for_some_does_not_forget_that_the_others_were_asked_for(
    client: openai.OpenAI, batches: Batches
) -> None:
    batches.outcomes = ["lost"]
    with pytest.raises(ServiceUnavailable):
        submit(client, texts(3))
    assert submit(client, texts(1), again=True).ids == submit(client, texts(1)).ids == ("batch_0",)
    with pytest.raises(ServiceUnavailable, match="again=True"):
        submit(client, texts(3))
    submit(client, texts(3), again=True)
    submit(client, texts(3))
    assert batches.bill == once(texts(3))


def test_a_request_that_was_replaced_does_not_stand_in_the_way_later(
    client: openai.OpenAI, batches: Batches
) -> None:
    batches.outcomes = ["lost"]
    with pytest.raises(ServiceUnavailable):
        submit(client, texts(3))
    submit(client, texts(3), again=True)
    batches.answer = lambda line: ok("$5.00") if asked(line)[-1] != "1" else None
    batches.finish()
    batches.answer = lambda _: ok("$7.00")
    run = submit(client, texts(3))
    assert [each.price for each in run.wait(sleep=lambda _: batches.finish())] == [5, 7, 5]


def test_questions_that_are_not_in_the_lost_request_are_bought_all_the_same(
    client: openai.OpenAI, batches: Batches
) -> None:
    batches.outcomes = ["lost"]
    with pytest.raises(ServiceUnavailable):
        submit(client, texts(3))
    assert submit(client, ["another"]).ids == ("batch_0",)


@pytest.mark.parametrize("outcome", ["refused", "lost", "no connection", "busy", "killed"])
def test_asking_anew_in_vain_does_not_forget_the_first_request(
    client: openai.OpenAI, batches: Batches, outcome: Outcome
) -> None:
    batches.outcomes = ["lost", *[outcome] * 3]
    with pytest.raises(ServiceUnavailable):
        submit(client, texts(3))
    with pytest.raises((ServiceUnavailable, RequestRejected, Killed)):
        submit(client, texts(3), again=True)
    sent = batches.asked["POST /batches"]
    with pytest.raises(ServiceUnavailable, match="again=True"):
        submit(client, texts(3))
    assert batches.asked["POST /batches"] == sent


@pytest.mark.parametrize(
    ("outcomes", "pauses"),
    [
        (["no connection", "answer"], [1]),
        (["busy", "busy", "answer"], [1, 1]),
        (["no file", "no file", "answer"], [1, 2]),
        (["no connection", "no file", "busy", "answer"], [1, 1, 1]),
    ],
)
def test_what_was_surely_not_taken_is_sent_again_with_the_same_file(
    client: openai.OpenAI, batches: Batches, naps: list[float], outcomes: list[Outcome], pauses: list[float]
) -> None:
    batches.outcomes = [*outcomes]  # it takes them off the list
    assert submit(client, texts(3), naps).ids == ("batch_0",)
    assert naps == pauses
    assert batches.asked["POST /files"] == 1


NOT_THERE_YET = [
    (404, "Input file not found.", None),
    (404, "Not found.", "input_file_id"),
    (404, "No such File object: file-0", "id"),
    (400, "The file 'file-0' does not exist.", None),
    (400, "file-0: file is still being processed", None),
    (400, "The input file is not ready.", None),
]


@pytest.mark.parametrize("refusal", NOT_THERE_YET)
def test_a_file_that_was_just_sent_may_take_a_while_to_be_seen(
    client: openai.OpenAI, batches: Batches, naps: list[float], refusal: tuple[int, str, str | None]
) -> None:
    status, message, param = refusal
    batches.refusals["no file"] = (status, {"message": message, "param": param})
    batches.outcomes = ["no file"] * 3
    submit(client, texts(3), naps)
    assert naps == [1, 2, 4]
    assert (batches.asked["POST /files"], len(batches.batches)) == (1, 1)


@pytest.mark.parametrize(
    ("status", "message"), [(404, "no route /batches"), (404, "no model m"), (400, "No.")]
)
def test_another_refusal_is_not_waited_out(
    client: openai.OpenAI, batches: Batches, naps: list[float], status: int, message: str
) -> None:
    batches.refusals["no file"] = (status, {"message": message})
    batches.outcomes = ["no file"]
    with pytest.raises((NotFound, RequestRejected), match=message):
        submit(client, texts(3), naps)
    assert not naps


@pytest.mark.parametrize(
    ("outcome", "error", "sends"),
    [
        ("no connection", ServiceUnavailable, 3),
        ("busy", ServiceUnavailable, 3),
        ("no file", NotFound, 6),
        ("refused", RequestRejected, 1),
    ],
)
def test_what_was_surely_not_taken_leaves_no_trace(
    client: openai.OpenAI, batches: Batches, outcome: Outcome, error: type[Exception], sends: int
) -> None:
    batches.outcomes = [outcome] * sends
    with pytest.raises(error):
        submit(client, texts(3))
    assert not batches.outcomes
    assert submit(client, texts(3)).ids == ("batch_0",)


@pytest.mark.parametrize("outcome", ["made and killed", "killed"])
def test_a_process_that_is_killed_in_the_request_buys_nothing_twice(
    client: openai.OpenAI, batches: Batches, outcome: Outcome
) -> None:
    batches.outcomes = ["answer", outcome]
    with pytest.raises(Killed):
        submit(client, texts(9), provider=FEW)
    if outcome == "killed":
        with pytest.raises(ServiceUnavailable, match="batch of 3 questions"):
            submit(client, texts(9)[::-1], provider=FEW)
    run = submit(client, texts(9)[::-1], provider=FEW, again=outcome == "killed")
    assert len(run.ids) == 3
    assert batches.bill == once(texts(9))


def test_an_answer_without_an_id_counts_as_lost(client: openai.OpenAI, batches: Batches) -> None:
    batches.shown = lambda batch: {**batch, "id": None} if batches.asked["GET /batches"] < 2 else batch
    assert submit(client, texts(3)).ids == ("batch_0",)
    assert batches.asked["POST /batches"] == 1


def test_a_lost_request_of_a_waiting_run_is_raised_when_the_others_have_ended(
    client: openai.OpenAI, batches: Batches, naps: list[float]
) -> None:
    first = set(texts(6)[::3])
    batches.answer = lambda line: None if asked(line) in first else ok("$5.00")
    run = submit(client, texts(6), provider=FEW)
    batches.finish()
    batches.outcomes = ["lost"]
    with pytest.raises(ServiceUnavailable, match="batch of 2 questions was asked for"):
        run.wait(sleep=naps.append)
    assert [found.price for found in run.predictions()] == [None, 5, 5, None, 5, 5]
    assert batches.asked["POST /batches"] == 3


# What the journal knows is looked at before it is believed.


@pytest.mark.parametrize("times", [1, 2])
def test_a_batch_that_is_not_found_is_asked_for_a_second_time(
    client: openai.OpenAI, batches: Batches, naps: list[float], times: int
) -> None:
    submit(client, texts(3))
    batches.misses = times
    submit(client, texts(3), naps)
    assert naps == [2]
    assert len(batches.batches) == times


def test_a_batch_that_is_not_found_for_a_moment_does_not_end_the_waiting(
    client: openai.OpenAI, batches: Batches, naps: list[float]
) -> None:
    run = submit(client, texts(3))
    batches.finish()
    batches.misses = 1
    assert [found.price for found in run.wait(sleep=naps.append)] == [5] * 3
    assert naps == [2]


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired"])
@pytest.mark.parametrize("journal", ["one.sqlite3", "two.sqlite3"], ids=["this machine", "another machine"])
def test_what_a_batch_has_answered_that_ended_early_is_not_bought_again(
    client: openai.OpenAI, batches: Batches, naps: list[float], status: str, journal: str
) -> None:
    batches.answer = lambda line: ok("$5.00") if int(asked(line)[-1]) < 3 else None
    submit(client, texts(6), journal="one.sqlite3")
    batches.finish(status)
    batches.answer = lambda _: ok("$7.00")
    run = submit(client, texts(6), journal=journal)
    assert [asked(line) for line in batches.lines(1)] == texts(6)[3:]
    batches.finish()
    assert [found.price for found in run.wait(sleep=naps.append)] == [5, 5, 5, 7, 7, 7]


def test_a_batch_that_is_being_cancelled_is_waited_for_and_the_rest_is_bought(
    client: openai.OpenAI, batches: Batches
) -> None:
    submit(client, texts(3))
    batches.batches[0]["status"] = "cancelling"
    run = submit(client, texts(3))
    assert run.ids == ("batch_0",)
    batches.answer = lambda line: ok("$5.00") if asked(line)[-1] == "0" else None
    batches.batches[0]["status"] = "in_progress"
    batches.finish("cancelled")

    def nap(_: float) -> None:
        batches.answer = lambda _: ok("$7.00")
        batches.finish()

    assert [found.price for found in run.wait(sleep=nap)] == [5, 7, 7]
    assert batches.bill == {"thing number 0": 1, "thing number 1": 2, "thing number 2": 2}


def test_batches_of_another_machine_that_came_to_nothing_are_not_read(
    client: openai.OpenAI, batches: Batches
) -> None:
    submit(client, texts(3), journal="one.sqlite3")
    batches.batches[0]["status"] = "failed"
    submit(client, texts(3), journal="two.sqlite3")
    assert len(batches.batches) == 2
    assert not batches.asked["GET content"]


# Threads, tasks, accounts, and the journal itself.


def test_several_threads_at_once_buy_each_question_once(client: openai.OpenAI, batches: Batches) -> None:
    ready, runs = threading.Barrier(4), list[BatchRun]()

    def ask(shift: int) -> None:
        ready.wait(10)
        runs.append(Predictor(client, "m").predict_batch(texts(9)[shift:] + texts(9)[:shift]))

    threads = [threading.Thread(target=ask, args=(shift,)) for shift in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [run.ids for run in runs] == [("batch_0",)] * 4
    assert batches.bill == once(texts(9))


def test_tasks_that_ask_at_once_buy_each_question_once(service: respx.MockRouter) -> None:
    batches, naps = Batches(service), list[float]()

    async def nap(seconds: float) -> None:
        naps.append(seconds)
        await asyncio.sleep(0)

    async def ask() -> list[float | None]:
        async with openai.AsyncOpenAI(api_key=KEY, base_url=BASE_URL, max_retries=0) as client:
            predictors = [AsyncPredictor(client, "m") for _ in range(3)]
            runs = await asyncio.gather(*(each.predict_batch(texts(5), sleep=nap) for each in predictors))
            batches.finish()
            return [found.price for found in await runs[2].wait(sleep=nap)]

    assert asyncio.run(ask()) == [5] * 5
    assert batches.bill == once(texts(5))


def test_async_code_stops_at_a_lost_request_too(service: respx.MockRouter) -> None:
    batches = Batches(service)
    batches.outcomes = ["lost"]

    async def nap(_: float) -> None:
        pass

    async def ask(*, again: bool = False) -> tuple[str, ...]:
        async with openai.AsyncOpenAI(api_key=KEY, base_url=BASE_URL, max_retries=0) as client:
            return (await AsyncPredictor(client, "m").predict_batch(texts(2), again=again, sleep=nap)).ids

    for _ in range(2):
        with pytest.raises(ServiceUnavailable, match="again=True"):
            asyncio.run(ask())
    assert asyncio.run(ask(again=True)) == ("batch_0",)


def test_a_new_key_finds_the_batches_of_the_old_one_at_the_service(
    client: openai.OpenAI, batches: Batches
) -> None:
    submit(client, texts(3))
    with openai.OpenAI(api_key="sk-test-rotated-key", base_url=BASE_URL, max_retries=0) as other:
        assert submit(other, texts(3)).ids == ("batch_0",)


def test_a_journal_that_cannot_be_written_stops_before_anything_is_sent(
    client: openai.OpenAI, batches: Batches
) -> None:
    with pytest.raises(FileAccessError):
        submit(client, texts(3), journal="/proc/no/journal.sqlite3")
    assert not batches.asked


def test_a_journal_that_fails_after_the_purchase_names_the_batch(
    client: openai.OpenAI, batches: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetune_pricer.tune.journal import Account

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Account, "complete_batch", fail)
        with pytest.raises(sqlite3.OperationalError) as caught:
            submit(client, texts(3))
    assert "'batch_0' was bought" in caught.value.__notes__[0]
    assert submit(client, texts(3)).ids == ("batch_0",)


def test_nothing_to_ask_needs_no_journal(client: openai.OpenAI, batches: Batches) -> None:
    assert len(submit(client, [], journal="/proc/no/journal.sqlite3").wait()) == 0
    assert not batches.asked


def test_the_name_of_a_file_says_whose_it_is_and_for_which_model(
    client: openai.OpenAI, batches: Batches
) -> None:
    submit(client, texts(1))
    Predictor(client, "n").predict_batch(texts(1))
    first, second = batches.names.values()
    assert re.fullmatch(r"finetune-pricer-[0-9a-f]{12}-[0-9a-f]{12}\.jsonl", first)
    assert first.split("-")[2] != second.split("-")[2]
