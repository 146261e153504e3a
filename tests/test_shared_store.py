"""One store for several threads, processes, services and accounts: who pays once, and whose answers."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from finetune_pricer import AnswerStore, Predictions, Predictor
from finetune_pricer.aio import AsyncPredictor
from finetune_pricer.errors import FileAccessError, ServiceUnavailable
from finetune_pricer.predict import answer_store, engine, leases
from stub_service import Behaviour, StubService, price_of
from test_engine import asked_for, expected, texts

STORE = "kept.sqlite"


@pytest.fixture
def stub() -> Iterator[StubService]:
    with StubService(Behaviour(latency=0.02)) as service:
        yield service


def connect(stub: StubService, **settings: Any) -> openai.OpenAI:
    chosen: dict[str, Any] = {"base_url": stub.url, "api_key": "sk-one", "max_retries": 0} | settings
    return openai.OpenAI(**chosen)


def ask(client: openai.OpenAI, items: list[str], **settings: Any) -> Predictions:
    return Predictor(client, "m", store=STORE, **settings).predict_many(items)


# Whose answers.


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ({}, {}, True),
        ({}, {"api_key": "sk-two"}, False),
        ({"organization": "org-1"}, {"organization": "org-1", "api_key": "rotated"}, True),
        ({"organization": "org-1"}, {"organization": "org-2"}, False),
        ({"project": "p-1"}, {"project": "p-1", "api_key": "rotated"}, True),
        ({"project": "p-1"}, {"project": "p-2"}, False),
        ({}, {"base_url": "{url}/"}, True),
        ({}, {"base_url": "http://user:secret@127.0.0.1:{port}/v1"}, False),
        ({}, {"base_url": "http://localhost:{port}/v1"}, False),
        ({"api_key": lambda: "token-1"}, {"api_key": lambda: "token-2"}, True),
    ],
)
def test_an_answer_belongs_to_a_service_and_an_account(
    one: dict[str, Any], other: dict[str, Any], is_same: bool, stub: StubService
) -> None:
    for settings in (one, other):
        filled = {
            name: value.format(url=stub.url, port=stub.port) if isinstance(value, str) else value
            for name, value in settings.items()
        }
        with connect(stub, **filled) as client:
            assert ask(client, ["a mug"])[0].price == price_of(asked_for("a mug"))
    assert stub.sent == (1 if is_same else 2)
    assert b"secret" not in Path(STORE).read_bytes()


def test_answers_of_an_earlier_version_are_given_to_nobody_and_stay(stub: StubService) -> None:
    with connect(stub) as client:
        ask(client, ["a mug"])
        with sqlite3.connect(STORE) as database:
            database.execute("ALTER TABLE answers DROP COLUMN service")
            database.execute("UPDATE answers SET key = 'of an earlier version'")
            database.execute("PRAGMA user_version = 1")
        database.close()
        ask(client, ["a mug"])
    assert stub.sent == 2
    with AnswerStore(STORE) as kept:
        assert len(kept) == 2


def test_a_model_that_changed_under_its_name_is_said(
    stub: StubService, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(stub) as client:
        ask(client, ["a mug"])
        with sqlite3.connect(STORE) as database:
            [[packed]] = database.execute("SELECT answer FROM answers").fetchall()
            changed = zlib.decompress(packed).replace(b'"m"', b'"pricer:old"')
            database.execute("UPDATE answers SET answer = ?", (zlib.compress(changed),))
        database.close()
        ask(client, ["a mug", "a cup", "a jug"])
    assert caplog.text.count("'pricer:old', new ones come from 'm'") == 1


# Asked once.

PROCESS = """
import sys, openai
from finetune_pricer import Predictor
with openai.OpenAI(base_url=sys.argv[1], api_key="sk-one", max_retries=0) as client:
    predictor = Predictor(client, "m", store="kept.sqlite", concurrency=8)
    found = predictor.predict_many(f"thing number {number}" for number in range(int(sys.argv[2])))
print(sum(prediction.price is not None for prediction in found))
"""


def test_processes_on_one_store_pay_once_for_each_question(stub: StubService) -> None:
    command = [sys.executable, "-c", PROCESS, stub.url, "120"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert [int(each) for each in said] == [120] * 3
    assert stub.answered == {asked_for(text): 1 for text in texts(120)}


def together(works: list[Callable[[], Any]]) -> list[Any]:
    found: list[Any] = [None] * len(works)

    def run(place: int) -> None:
        found[place] = works[place]()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def test_threads_and_predictors_on_one_store_pay_once_for_each_question(stub: StubService) -> None:
    items = texts(100)
    with connect(stub) as client:
        one = Predictor(client, "m", store=STORE, concurrency=8)
        other = Predictor(client, "m", store=f"../{Path.cwd().name}/{STORE}", concurrency=8)
        found = together(
            [
                lambda: one.predict_many(items),
                lambda: one.predict_many(items),
                lambda: other.predict_many(items),
                lambda: [other.predict(item) for item in items[:10]],
            ]
        )
    for each in found:
        assert [prediction.price for prediction in each] == pytest.approx(expected(items)[: len(each)])
    assert stub.sent == 100


def test_async_predictors_on_one_store_pay_once_for_each_question(stub: StubService) -> None:
    async def run() -> tuple[Any, ...]:
        async with openai.AsyncOpenAI(base_url=stub.url, api_key="sk-one") as client:
            predictor = AsyncPredictor(client, "m", store=STORE, concurrency=8)
            return await asyncio.gather(
                predictor.predict_many(texts(60)),
                predictor.predict_many(texts(60)),
                predictor.predict("thing number 0"),
                predictor.predict("thing number 0"),
            )

    first, second, one, other = asyncio.run(run())
    assert [each.price for each in first] == [each.price for each in second]
    assert one.price == other.price == first[0].price
    assert stub.sent == 60


def place_of(predictor: Predictor, text: str) -> str:
    dialogue = predictor._dialogue
    return dialogue.place_of(dialogue.key_of(next(dialogue.questions(text, "1"))))


def test_what_another_has_given_up_is_asked_here(stub: StubService) -> None:
    with connect(stub) as client:
        predictor = Predictor(client, "m", store=STORE)
        other = AnswerStore(STORE)
        place = place_of(predictor, "a mug")
        assert other.take(place)
        threading.Timer(0.2, other.give_back, [place]).start()
        began = time.monotonic()
        assert predictor.predict_many(["a mug", "a cup"])[0].price is not None
        assert time.monotonic() - began >= 0.2
    assert stub.sent == 2


def test_an_answer_that_another_never_gets_is_waited_for_with_an_end(
    stub: StubService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LONGEST_WAIT", 0.2)
    monkeypatch.setattr(leases, "LONGEST_WAIT", 0.2)
    with connect(stub) as client:
        predictor = Predictor(client, "m", store=STORE)
        other = AnswerStore(STORE)
        place = place_of(predictor, "a mug")
        assert other.take(place)
        found = predictor.predict_many(["a mug", "a cup"])
        assert (found[0].price, found[1].price is None) == (None, False)
        assert "another thread or process asks this question too" in (found[0].error or "")
        with pytest.raises(ServiceUnavailable, match="ask again when it has ended"):
            predictor.predict("a mug")
    assert stub.sent == 1


def test_a_run_that_stops_leaves_no_question_taken(stub: StubService) -> None:
    with connect(stub) as client:
        predictor = Predictor(client, "m", store=STORE, concurrency=4)
        stream = predictor.iter_predict(texts(300))
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        assert predictor._dialogue.store is not None
        assert not predictor._dialogue.store._connections[-1].leases._held


def test_a_disk_without_locks_is_said_once_and_asked_all_the_same(
    stub: StubService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lock(*_: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(leases, "_lock_byte", lock)
    with connect(stub) as client:
        assert all(each.price is not None for each in ask(client, texts(20)))
    assert caplog.text.count("this disk has no locks") == 1


# A file that cannot be written.


def lock_for_good() -> sqlite3.Connection:
    AnswerStore(STORE).close()
    database = sqlite3.connect(STORE, isolation_level=None, check_same_thread=False)
    database.execute("BEGIN IMMEDIATE")
    return database


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_store_that_another_program_locks_holds_no_run_and_loses_no_answer(
    is_async: bool, stub: StubService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(answer_store, "_AT_THE_END", 0.1)
    editor = lock_for_good()

    async def run_async() -> Predictions:
        async with openai.AsyncOpenAI(base_url=stub.url, api_key="sk-one") as client:
            return await AsyncPredictor(client, "m", store=STORE).predict_many(texts(64))

    def run_sync() -> Predictions:
        with connect(stub) as client:
            return ask(client, texts(64))

    began = time.monotonic()
    with pytest.warns(UserWarning, match=r"64 answers could not be written to 'kept.sqlite' \(database is"):
        found = asyncio.run(run_async()) if is_async else run_sync()
    assert time.monotonic() - began < 10  # of which the waits are less than one; it was 30 s for each answer
    assert [each.price for each in found] == pytest.approx(expected(texts(64)))
    assert caplog.text.count("are held in memory and written when it can be") == 1
    editor.close()


def test_what_was_held_is_written_when_the_file_is_free_again(
    stub: StubService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_store, "_AT_THE_END", 0.0)
    monkeypatch.setattr(answer_store, "_AGAIN", 0.0)
    editor = lock_for_good()
    with connect(stub) as client:
        predictor = Predictor(client, "m", store=STORE)
        with pytest.warns(UserWarning, match="20 answers could not be written"):
            predictor.predict_many(texts(20))
        editor.execute("ROLLBACK")
        editor.close()
        assert all(each.price is not None for each in predictor.predict_many(texts(21)))
    assert stub.sent == 21
    with AnswerStore(STORE) as kept:
        assert len(kept) == 21


def test_what_is_held_at_the_end_of_a_program_is_written_then(stub: StubService) -> None:
    program = f"""
import sqlite3, warnings, openai
from finetune_pricer import Predictor
from finetune_pricer.predict import answer_store
answer_store._AT_THE_END = 0.0
warnings.simplefilter("ignore")
client = openai.OpenAI(base_url={stub.url!r}, api_key="sk-one")
predictor = Predictor(client, "m", store="kept.sqlite")
editor = sqlite3.connect("kept.sqlite", isolation_level=None)
editor.execute("BEGIN IMMEDIATE")
predictor.predict_many(["a mug", "a cup"])
editor.execute("ROLLBACK")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    with AnswerStore(STORE) as kept:
        assert len(kept) == 2


def test_a_full_disk_costs_no_answer_and_no_second_question(
    stub: StubService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_store, "_AT_THE_END", 0.0)
    with connect(stub) as client:
        predictor = Predictor(client, "m", store=STORE, concurrency=8)
        predictor.predict_many(texts(20))
        assert predictor._dialogue.store is not None
        database = predictor._dialogue.store._connections[-1].database
        # SQLite's own limit on pages gives the same error as a full disk.
        database.execute("PRAGMA max_page_count = 12")
        with pytest.warns(UserWarning, match="could not be written"):
            found = predictor.predict_many(texts(200))
        assert [each.price for each in found] == pytest.approx(expected(texts(200)))
        database.execute("PRAGMA max_page_count = 100000")
        time.sleep(answer_store._AGAIN)
        predictor.predict_many(texts(200))
    assert stub.sent == 200
    with AnswerStore(STORE) as kept:
        assert len(kept) == 200


def test_memory_for_what_cannot_be_written_has_an_end(
    stub: StubService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_store, "_AT_THE_END", 0.0)
    monkeypatch.setattr(answer_store, "MOST_HELD", 2_000)
    monkeypatch.setattr(engine, "_FULL_FOR", 0.2)
    editor = lock_for_good()
    with connect(stub) as client, pytest.warns(UserWarning, match="could not be written"):
        found = ask(client, texts(300), concurrency=4)
    editor.close()
    assert stub.answered.total() == stub.sent < 50
    assert sum(each.price is not None for each in found) == stub.sent
    assert "make room on the disk" in (found[-1].error or "")


def test_a_file_that_is_locked_to_readers_too_strikes_items_and_ends_no_run(
    stub: StubService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_store, "_READING", 0.1)
    with connect(stub) as client:
        predictor = Predictor(client, "m", store=STORE)
        assert predictor._dialogue.store is not None
        predictor._dialogue.store._connections[-1].database.execute("DROP TABLE answers")
        found = predictor.predict_many(texts(3))
    assert [each.price for each in found] == [None] * 3
    assert "cannot keep answers in 'kept.sqlite'" in (found[0].error or "")
    assert stub.sent == 0


@pytest.fixture
def read_only(stub: StubService, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A store that may not be written: for root, the system is asked to say so."""
    with connect(stub) as client:
        ask(client, texts(3))
    AnswerStore(STORE).close()
    path = Path(STORE)
    path.chmod(stat.S_IRUSR)
    may = os.access
    monkeypatch.setattr(os, "access", lambda place, mode: mode != os.W_OK and may(place, mode))
    yield path
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)


def test_kept_answers_that_are_read_only_can_be_read(read_only: Path) -> None:
    store = AnswerStore(read_only)
    assert len(store) == len(store.to_frame()) == 3
    with pytest.raises(FileAccessError, match="it is read-only"):
        store.keep("k", "m", "1", {"choices": []}, 0.0)
    with pytest.raises(FileAccessError, match="it is read-only"):
        store.take("0" * 16)
    store.close()


def test_a_predictor_refuses_a_store_that_is_read_only_before_anything_is_asked(
    read_only: Path, stub: StubService
) -> None:
    with connect(stub) as client, pytest.raises(FileAccessError, match="it is read-only"):
        Predictor(client, "m", store=read_only)


def test_a_current_store_is_opened_while_another_program_writes() -> None:
    editor = lock_for_good()
    began = time.monotonic()
    AnswerStore(STORE).close()
    assert time.monotonic() - began < 10  # writing would wait for 30
    editor.close()
