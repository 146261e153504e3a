"""The journal: what it knows, for whom, and that it is there tomorrow."""

import hashlib
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import openai
import pytest

from finetune_pricer import AnswerStore, JsonlWriter, MadeUpCatalogue
from finetune_pricer._environment import find_state_folder
from finetune_pricer._service.flow import Pause
from finetune_pricer.errors import FileAccessError
from finetune_pricer.providers import PROVIDERS
from finetune_pricer.tune.journal import Account, Entry, Journal
from finetune_pricer.tune.upload import FileCopy

if TYPE_CHECKING:
    from filelock import AcquireReturnProxy, FileLock

BASE_URL = "https://service.test/v1"


def find(account: Account, kind: str, what: str) -> Entry | None:
    """Return what was last noted."""
    return next(iter(account.find_all(kind, what)), None)


def client_of(key: str = "a", *, base_url: str = BASE_URL, **settings: str) -> openai.OpenAI:
    return openai.OpenAI(api_key=key, base_url=base_url, **settings)  # type: ignore[arg-type]


def test_the_journal_tells_services_and_accounts_apart(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.db") as journal:
        one = journal.for_client(client_of())
        entry = one.begin("job", "spec")
        one.complete(entry, "ftjob-1")
        for other in (
            client_of(base_url="https://other.test/v1"),
            client_of(project="p"),
            client_of(organization="o"),
            client_of(organization="other"),
        ):
            assert find(journal.for_client(other), "job", "spec") is None
        same = find(journal.for_client(client_of(base_url=f"{BASE_URL}/")), "job", "spec")
        assert same is not None
        assert same.id == "ftjob-1"


def test_a_password_in_an_address_is_not_written_down(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.db") as journal:
        client = client_of(base_url="https://me:hunter2@service.test/v1")
        journal.for_client(client).begin("job", "spec")
    assert b"hunter2" not in b"".join(path.read_bytes() for path in tmp_path.glob("j.db*"))


@pytest.mark.skipif(sys.platform == "win32", reason="rights are not modes there")
@pytest.mark.parametrize("open_one", [Journal, AnswerStore])
def test_only_its_user_can_read_what_is_noted_and_kept(
    open_one: type[Journal] | type[AnswerStore], tmp_path: Path
) -> None:
    before = os.umask(0)
    try:
        with open_one(tmp_path / "new" / "own.db"):
            rights = {path.stat().st_mode & 0o777 for path in (tmp_path / "new").iterdir()}
            assert rights == {0o600}
            assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
        (tmp_path / "new" / "own.db").chmod(0o660)
        with open_one(tmp_path / "new" / "own.db"):
            assert (tmp_path / "new" / "own.db").stat().st_mode & 0o777 == 0o660  # it was shared by hand
    finally:
        os.umask(before)


def test_with_a_project_the_key_may_change(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.db") as journal:
        old = client_of("old", project="p")
        new = client_of("new", project="p")
        entry = journal.for_client(old).begin("file", "content")
        assert find(journal.for_client(new), "file", "content") == entry


@pytest.mark.parametrize("settings", [{}, {"organization": "o"}], ids=["no organization", "an organization"])
def test_entries_of_another_key_are_found_after_those_of_ones_own(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    with Journal(tmp_path / "j.db") as journal:
        old, new = (journal.for_client(client_of(key, **settings)) for key in ("old", "new"))
        for account, name in [(new, "1"), (old, "2"), (new, "3"), (old, "4")]:
            account.add("job", "spec", f"ftjob-{name}")
        found = new.find_all("job", "spec")
    assert [entry.id for entry in found] == ["ftjob-3", "ftjob-1", "ftjob-4", "ftjob-2"]
    assert [entry.is_of_this_key for entry in found] == [True, True, False, False]


@pytest.mark.parametrize("damage", ["table gone", "locked", "damaged"])
def test_a_journal_that_cannot_be_used_says_that_what_it_notes_may_exist(
    tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune_pricer._sqlite._PATIENCE", 0.1)
    path = tmp_path / "j.db"
    words = r"cannot use the journal '.*j\.db'.*may have been bought.*look with FineTuneJob\.list\(client\)"
    with Journal(path) as journal:
        account = journal.for_client(client_of())
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            if damage == "table gone":
                other.execute("DROP TABLE bought")
            else:
                other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(FileAccessError, match=words):
                account.begin("job", "spec")
    if damage == "damaged":
        for file in tmp_path.glob("j.db*"):
            if file.is_file():
                file.write_bytes(b"no database " * 1000)
        with pytest.raises(FileAccessError, match=words):
            Journal(path)


def test_a_new_journal_is_opened_while_another_thread_changes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite does not always wait where two change the mode of a new file; then it is tried again."""
    with closing(sqlite3.connect(tmp_path / "j.db", isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN EXCLUSIVE")
        naps: list[float] = []

        def let_go(seconds: float) -> None:
            naps.append(seconds)
            if other.in_transaction:
                other.execute("ROLLBACK")

        monkeypatch.setattr("finetune_pricer._sqlite.time.sleep", let_go)
        monkeypatch.setattr("finetune_pricer._sqlite._PATIENCE", 0.05)
        with Journal(tmp_path / "j.db") as journal:
            journal.for_client(client_of()).begin("job", "spec")
    assert naps


def test_a_journal_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    Journal(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(FileAccessError, match="newer finetune-pricer") as caught:
        Journal(path)
    assert "repair the disk" not in str(caught.value)


def test_the_journal_lies_in_the_users_state_folder_unless_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with Journal() as journal:
        assert (
            journal.path == find_state_folder() / "journal.sqlite3" == tmp_path / "home" / "journal.sqlite3"
        )
    monkeypatch.delenv("FINETUNE_PRICER_HOME")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("sys.platform", "linux")
    assert find_state_folder() == tmp_path / "state" / "finetune-pricer"


VERSION_1 = """
CREATE TABLE bought (
    number INTEGER PRIMARY KEY AUTOINCREMENT, service TEXT NOT NULL, account TEXT NOT NULL,
    kind TEXT NOT NULL, what TEXT NOT NULL, token TEXT UNIQUE NOT NULL, id TEXT,
    noted_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
PRAGMA user_version = 1
"""
OWNERS = [
    ({}, BASE_URL, "key d42817e957112046"),
    ({"organization": "org"}, BASE_URL, "organization org, key d42817e957112046"),
    ({"project": "proj", "organization": "org"}, BASE_URL, "project proj"),
    ({"project": "proj", "base_url": "https://other.test/X/"}, "https://other.test/X", "project proj"),
]


@pytest.mark.parametrize(("settings", "service", "account"), OWNERS)
@pytest.mark.parametrize("kind", ["file", "job"])
def test_what_an_earlier_version_noted_still_counts(
    tmp_path: Path, settings: dict[str, str], service: str, account: str, kind: str
) -> None:
    """Other words on disk would forget what was bought."""
    with closing(sqlite3.connect(tmp_path / "j.db")) as database:
        database.executescript(VERSION_1)
        database.execute(
            "INSERT INTO bought (service, account, kind, what, token, id) VALUES (?, ?, ?, ?, ?, ?)",
            (service, account, kind, "what", "token", "id-1"),
        )
        database.commit()
    with Journal(tmp_path / "j.db") as journal:
        entry = find(journal.for_client(client_of(**settings)), kind, "what")
    assert entry is not None
    assert (entry.kind, entry.what, entry.token, entry.id) == (kind, "what", "token", "id-1")


@pytest.mark.parametrize(("provider", "encoding"), [("nebius", "utf-8"), ("azure", "utf-8-sig")])
def test_a_file_is_noted_by_its_encoding_and_its_hash(tmp_path: Path, provider: str, encoding: str) -> None:
    items = MadeUpCatalogue().splits(train=2, validation=1, test=1).train
    training = JsonlWriter().write(items, tmp_path / "train.jsonl")
    copy = FileCopy(training, PROVIDERS[provider])
    assert copy.key == f"{encoding} {training.sha256}"
    assert copy.name == f"train-{training.sha256[:16]}.jsonl"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "j.db") as journal:
        yield journal


def test_the_file_is_closed_behind_a_with(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.db") as journal:
        account = journal.for_client(client_of())
    with pytest.raises(FileAccessError, match="closed"):
        find(account, "job", "spec")


def test_a_project_of_one_name_at_two_services_is_two(journal: Journal) -> None:
    here, there = (
        journal.for_client(client_of(base_url=url, project="p"))
        for url in (BASE_URL, "https://other.test/v1")
    )
    here.add("job", "spec", "ftjob-1")
    assert find(there, "job", "spec") is None


def test_an_entry_is_open_until_it_is_completed(journal: Journal) -> None:
    account = journal.for_client(client_of())
    entry = account.begin("job", "spec")
    assert entry.is_open
    assert find(account, "job", "spec") == entry
    done = account.complete(entry, "ftjob-1")
    assert not done.is_open
    assert find(account, "job", "spec") == done


def test_the_newest_entry_counts_and_another_thing_has_its_own(journal: Journal) -> None:
    account = journal.for_client(client_of())
    older, newer = account.begin("job", "spec"), account.begin("job", "spec")
    assert older.token != newer.token
    others = [account.begin("job", "other"), account.begin("file", "spec")]
    account.complete(older, "ftjob-1")
    assert find(account, "job", "spec") == newer
    account.forget(newer)
    assert find(account, "job", "spec") == replace(older, id="ftjob-1")
    assert [find(account, "job", "other"), find(account, "file", "spec")] == others


def test_a_name_at_a_service_is_known_to_all_accounts_there_and_to_no_other_service(
    journal: Journal,
) -> None:
    account, neighbour = journal.for_client(client_of()), journal.for_client(client_of("b"))
    elsewhere = journal.for_client(client_of(base_url="https://other.test/v1"))
    account.add("file", "content", "file-1")
    account.add("file", "more", "file-2")
    elsewhere.add("file", "content", "file-1")
    assert [one.what_is("file-1") for one in (account, neighbour, elsewhere)] == ["content"] * 3
    account.add("file", "content, uploaded anew", "file-1")
    assert account.what_is("file-1") == "content, uploaded anew"
    assert not account.what_is("file-3")
    assert not elsewhere.what_is("file-2")
    account.forget_id("file-1")
    assert find(account, "file", "content") is None
    assert not neighbour.what_is("file-1")
    assert account.what_is("file-2")
    assert elsewhere.what_is("file-1")


def try_lock(
    account: Account, kind: str = "job", what: str = "spec"
) -> "AcquireReturnProxy[FileLock] | None":
    """Return the lock, or None where one would have to wait."""
    flow = account.lock(kind, what)
    try:
        assert next(flow) == Pause(0.1)
    except StopIteration as end:
        held: AcquireReturnProxy[FileLock] = end.value
        return held
    flow.close()
    return None


def test_only_who_asks_for_the_same_thing_waits(
    journal: Journal, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    account = journal.for_client(client_of())
    held = try_lock(account)
    assert held is not None
    started_at = time.monotonic()
    with caplog.at_level("INFO", "finetune_pricer"):
        assert try_lock(account) is None
    assert [record.name for record in caplog.records] == ["finetune_pricer"]
    assert time.monotonic() - started_at < 0.9  # an event loop must go on
    for other in (
        try_lock(account, "file"),
        try_lock(account, what="other"),
        try_lock(journal.for_client(client_of(project="p"))),
        try_lock(journal.for_client(client_of(base_url="https://other.test/v1"))),
    ):
        assert other is not None
        other.lock.release()
    with held:
        pass
    again = try_lock(account)
    assert again is not None
    again.lock.release()


def test_a_lock_has_the_same_name_for_all_keys_and_versions(journal: Journal) -> None:
    """Or two that run at once, such as before and after a rotation, would not wait for each other."""
    held = try_lock(journal.for_client(client_of()))
    assert try_lock(journal.for_client(client_of("another key"))) is None
    assert held is not None
    words = "https://service.test/v1\n\njob\nspec"
    name = f"{hashlib.sha256(words.encode()).hexdigest()[:32]}.lock"
    assert [path.name for path in journal.path.with_name("j.db.locks").iterdir()] == [name]
    held.lock.release()


def test_another_thread_may_let_go_of_a_lock(journal: Journal) -> None:
    account = journal.for_client(client_of())
    held: list[AcquireReturnProxy[FileLock] | None] = []
    thread = threading.Thread(target=lambda: held.append(try_lock(account)))
    thread.start()
    thread.join()
    assert held[0] is not None
    held[0].lock.release()
    again = try_lock(account)
    assert again is not None
    again.lock.release()


def test_a_folder_in_which_nothing_can_be_locked_is_named(journal: Journal) -> None:
    journal.path.with_name("j.db.locks").write_text("no folder")
    with pytest.raises(FileAccessError, match=r"cannot lock '.*j\.db\.locks' \(.*\); choose another path"):
        try_lock(journal.for_client(client_of()))


def test_a_batch_is_found_by_any_of_its_questions_the_newest_first(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.db") as journal:
        account = journal.for_client(client_of())
        first = account.begin_batch("file-1", ["a", "b"])
        second = account.begin_batch("file-2", ["b", "c"])
        account.complete_batch(first.token, "batch_1")
        assert account.find_batches(["b"]) == [second, first._replace(id="batch_1")]
        assert account.find_batches(["c", "d"]) == [second]
        assert account.find_batches(["d"]) == account.find_batches([]) == []
        assert len(account.find_batches([f"other {number}" for number in range(2_000)] + ["a"])) == 1
        assert (account.has_batch("batch_1"), account.has_batch("batch_2")) == (True, False)
        account.add_batch("file-2", "batch_2", ["b", "c"])
        account.add_batch("file-3", "batch_3", ["c"])
        assert [batch.id for batch in account.find_batches(["c"])] == ["batch_3", "batch_2"]
        account.forget_batch(first.token)
        assert account.find_batches(["a"]) == []
        stranger = journal.for_client(client_of("b", project="p"))
        assert stranger.find_batches(["b"]) == []
        (after_a_rotation,) = journal.for_client(client_of("b")).find_batches(["b"])
        assert (after_a_rotation.id, after_a_rotation.is_of_this_key) == ("batch_2", False)


def test_a_batch_of_another_service_is_another_batch(journal: Journal) -> None:
    """Questions and names may be the same at two services."""
    here, there = (journal.for_client(client_of(base_url=url)) for url in (BASE_URL, "https://other.test/v1"))
    open_there = there.begin_batch("file-1", ["a"])
    assert here.find_batches(["a"]) == []
    here.add_batch("file-1", "batch_1", ["a"])
    assert there.find_batches(["a"]) == [open_there]
    assert [batch.id for batch in here.find_batches(["a"])] == ["batch_1"]
    assert not there.has_batch("batch_1")


def test_a_job_of_the_name_of_a_file_or_a_batch_is_neither(journal: Journal) -> None:
    account = journal.for_client(client_of())
    entry = account.begin("job", "file-1")
    account.add_batch("file-1", "batch_1", ["a"])
    assert find(account, "job", "file-1") == entry
    assert find(account, "batch", "file-1") is not None  # the word stands in journals on disks
    account.complete(entry, "7")
    assert not account.has_batch("7")


@pytest.mark.parametrize("is_forgotten_by", ["name", "questions"])
def test_of_a_batch_that_is_forgotten_nothing_is_left_and_of_another_all(
    is_forgotten_by: str, journal: Journal
) -> None:
    account = journal.for_client(client_of())
    other = account.begin_batch("file-2", ["a", "b"])
    batch = account.begin_batch("file-1", ["a", "b"])
    if is_forgotten_by == "name":
        account.forget_batch(batch.token)
    else:
        account.forget_questions(batch.token, ["a"])
        assert account.find_batches(["b"]) == [batch._replace(keys=frozenset("b")), other]
        account.forget_questions(batch.token, ["b"])
    assert account.find_batches(["a", "b"]) == [other]
    account.add_batch("file-1", "batch_1", ["a", "b"])  # where an open entry was left, it would be taken
    assert [found.id for found in account.find_batches(["a"])] == ["batch_1", None]


def test_questions_are_forgotten_all_or_none(journal: Journal) -> None:
    def break_off() -> Iterator[str]:
        yield "a"
        raise KeyboardInterrupt

    account = journal.for_client(client_of())
    batch = account.begin_batch("file-1", ["a", "b"])
    with pytest.raises(KeyboardInterrupt):
        account.forget_questions(batch.token, break_off())
    assert account.find_batches(["a"]) == [batch]


def test_a_journal_of_the_version_before_learns_to_hold_batches(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    with Journal(path) as journal:
        entry = journal.for_client(client_of()).begin("job", "spec")
    with closing(sqlite3.connect(path)) as database:
        database.execute("DROP TABLE questions")
        database.execute("PRAGMA user_version = 1")
    with Journal(path) as journal:
        account = journal.for_client(client_of())
        assert find(account, "job", "spec") == entry
        account.begin_batch("file-1", ["a"])
        assert len(account.find_batches(["a"])) == 1


def test_a_journal_that_fails_in_the_middle_says_which_and_what_to_do(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.db") as journal:
        account = journal.for_client(client_of())
        batch = account.begin_batch("file-1", ["a"])
        with closing(sqlite3.connect(tmp_path / "j.db")) as database:
            database.execute("DROP TABLE questions")
        for call in (
            lambda: account.begin_batch("file-2", ["a"]),
            lambda: account.add_batch("file-2", "batch_2", ["a"]),
            lambda: account.find_batches(["a"]),
            lambda: account.forget_batch(batch.token),
        ):
            with pytest.raises(FileAccessError, match=r"journal '.*j\.db' .*before you use another journal"):
                call()
