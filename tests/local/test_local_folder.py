"""The server's folder: what is refused and left as it is, what is removed, and who can read it."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest
from starlette.responses import FileResponse

from finetune_pricer.errors import FileAccessError
from finetune_pricer.local import LocalServer
from finetune_pricer.local.api.responses import ApiError
from finetune_pricer.local.temporary_folder import make_temporary_folder
from local_helpers import ask, endless, eventually, jsonl, products, train, upload

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetune_pricer.local.records import StoredModel

TESTS = Path(__file__).parents[1]
DATABASE, LOG = "server.sqlite3", "server.sqlite3-wal"
posix = pytest.mark.skipif(os.name != "posix", reason="users, modes and signals of this kind are posix")


def drop_tables(folder: Path, *names: str) -> None:
    database = sqlite3.connect(folder / DATABASE)
    for name in names:
        database.execute(f"DROP TABLE {name}")
    database.commit()
    database.close()


def empty_database(folder: Path) -> None:
    (folder / DATABASE).write_bytes(b"")


def lose_database(folder: Path) -> None:
    (folder / DATABASE).unlink()


def keep_the_header(folder: Path) -> None:
    """What stands in the file of a database until SQLite first writes its log into it."""
    (folder / DATABASE).unlink()
    database = sqlite3.connect(folder / DATABASE)
    database.execute("PRAGMA journal_mode = WAL")
    database.close()


def lose_all_but_the_log(folder: Path) -> None:
    lose_database(folder)
    shutil.rmtree(folder / "blobs")
    (folder / LOG).write_bytes(b"what was written last")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a server that was stopped: with a model, its files, and a job that goes on."""
    folder = tmp_path_factory.mktemp("stopped") / "kept"
    with LocalServer(folder, cores=1) as server, server.client() as client:
        train(client, jsonl(products(20)))
        endless(client)
    return folder


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (empty_database, "is empty though there are things in 'blobs'"),
        (keep_the_header, "is empty though there are things in 'blobs'"),
        (lose_database, "has a 'blobs' in it that is not this server's"),
        (lose_all_but_the_log, f"has a '{LOG}' and no '{DATABASE}'"),
        (lambda folder: drop_tables(folder, "models"), "has lost its table 'models'"),
        (lambda folder: drop_tables(folder, "files", "jobs"), "has lost its table 'files'"),
    ],
)
def test_a_folder_whose_database_was_lost_is_refused_and_left_as_it_is(
    stopped: Path, tmp_path: Path, damage: Callable[[Path], None], said: str
) -> None:
    folder = Path(shutil.copytree(stopped, tmp_path / "copy"))
    damage(folder)
    before = contents(folder)

    for _ in range(2):
        with pytest.raises(FileAccessError, match=said):
            LocalServer(folder).start()

    assert contents(folder) == before


def test_a_copy_without_the_log_of_its_database_is_refused_until_somebody_says_that_it_is_lost(
    tmp_path: Path,
) -> None:
    with LocalServer(tmp_path / "running") as server, server.client() as client:
        file = upload(client, b"kept\n")
        whole = Path(shutil.copytree(tmp_path / "running", tmp_path / "whole"))
        copy = Path(shutil.copytree(tmp_path / "running", tmp_path / "copy"))
    (copy / LOG).unlink()
    before = contents(copy)

    for _ in range(2):
        with pytest.raises(FileAccessError, match=f"without '{LOG}'.*put that file back"):
            LocalServer(copy).start()
    assert contents(copy) == before

    (copy / LOG).touch()
    with LocalServer(copy) as server, server.client() as client:
        assert client.files.list().data == []
    assert before.keys() <= contents(copy).keys()
    with LocalServer(whole) as server, server.client() as client:
        assert client.files.content(file.id).read() == b"kept\n"


def test_a_folder_that_could_not_be_marked_as_closed_is_not_taken_for_one_without_its_log(
    tmp_path: Path,
) -> None:
    server = LocalServer(tmp_path).start()
    assert server._runtime is not None
    server._runtime.state.database._connection.execute("PRAGMA query_only = 1")
    server.stop()

    with LocalServer(tmp_path) as again, again.client() as client:
        assert client.files.list().data == []


def test_an_older_copy_of_the_database_costs_no_blob_and_no_saved_state(tmp_path: Path) -> None:
    LocalServer(tmp_path).start().stop()
    older = (tmp_path / DATABASE).read_bytes()
    with LocalServer(tmp_path, cores=1) as server, server.client() as client:
        newer = train(client, jsonl(products(30)), settings={"n_epochs": 2}).fine_tuned_model
        reply = ask(client, newer, "a lamp")
        unfinished = endless(client)
    (tmp_path / "training" / unfinished.id / "saved").write_bytes(b"what it has learned so far")
    latest, before = (tmp_path / DATABASE).read_bytes(), contents(tmp_path)
    (tmp_path / DATABASE).write_bytes(older)
    with LocalServer(tmp_path, cores=1) as server, server.client() as client:
        # Jobs that get the numbers of those that this database does not know.
        for _ in range(2):
            assert train(client, jsonl(products(25)), settings={"n_epochs": 2}).status == "succeeded"

    assert before.keys() <= contents(tmp_path).keys()
    (tmp_path / DATABASE).write_bytes(latest)
    with LocalServer(tmp_path, cores=1) as server, server.client() as client:
        assert ask(client, newer, "a lamp") == reply


def test_what_the_database_names_as_deleted_is_removed_at_the_next_start_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blobs = tmp_path / "blobs"
    with LocalServer(tmp_path) as server, server.client() as client:
        kept = upload(client, b"kept\n")
        assert server._runtime is not None
        (sha256,) = (path.name for path in blobs.iterdir())
    database = sqlite3.connect(tmp_path / DATABASE)
    # What a server that is killed in the middle of an upload or a deletion leaves.
    names = ["partial-half", "0" * 64, sha256]
    database.executemany("INSERT INTO leftovers VALUES (?)", [(name,) for name in names])
    database.commit()
    database.close()
    for name in (*names[:2], "1" * 64, "of-nobody"):
        (blobs / name).write_bytes(b"...")
    with LocalServer(tmp_path) as server, server.client() as client:
        assert client.files.content(kept.id).read() == b"kept\n"

    assert {path.name for path in blobs.iterdir()} == {sha256, "1" * 64, "of-nobody"}
    assert "2 file(s) in 'blobs' are not in the database" in caplog.text


def test_a_content_is_removed_with_its_last_owner_and_not_while_it_is_kept_anew(tmp_path: Path) -> None:
    with LocalServer(tmp_path) as server, server.client() as client:
        one, other = upload(client, b"same\n"), upload(client, b"same\n")
        assert server._runtime is not None
        database = server._runtime.state.database
        with database.keep_blob(b"same\n") as blob:
            for file in (one, other):
                client.files.delete(file.id)
            assert database.blobs.path(blob.sha256).exists()
            third = database.name_file(blob, filename="third", purpose="fine-tune")
        assert client.files.content(third.id).read() == b"same\n"
        client.files.delete(third.id)

        # The server may hold the content for a moment after its last byte has come.
        eventually(lambda: list((tmp_path / "blobs").iterdir()) == [])


def test_a_content_that_is_deleted_while_it_is_asked_for_is_sent_whole_and_then_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = FileResponse.__call__
    with LocalServer(tmp_path) as server, server.client(max_retries=0) as client:
        file = upload(client, b"asked for\n")
        assert server._runtime is not None
        database = server._runtime.state.database
        stored = database.find_file(file.id)
        assert stored is not None

        async def delete_and_send(self: FileResponse, *args: Any) -> None:
            database.delete_file(stored)
            await send(self, *args)

        monkeypatch.setattr(FileResponse, "__call__", delete_and_send)
        assert client.files.content(file.id).read() == b"asked for\n"
        eventually(lambda: database.blobs.list_names() == set())

        monkeypatch.setattr(database, "find_file", lambda _: stored)
        with pytest.raises(openai.NotFoundError, match="No such File"):
            client.files.content(file.id)


def test_a_model_that_is_deleted_while_it_is_loaded_answers_and_is_then_removed(tmp_path: Path) -> None:
    with LocalServer(tmp_path) as server, server.client(max_retries=0) as client:
        name = train(client, jsonl(products(20)), settings={"n_epochs": 1}).fine_tuned_model or ""
        assert server._runtime is not None
        state = server._runtime.state
        found = state.database.find_model(name)
        assert found is not None
        stored: StoredModel = found
        learner = state.bases["pricer-base"]

        class Deleting(type(learner)):  # type: ignore[misc]
            def load(self, files: Any) -> Any:
                state.database.delete_model(stored)
                return super().load(files)

        assert state.chat._read(name, Deleting(), stored.files)
        assert not set(stored.files.values()) & state.database.blobs.list_names()
        with pytest.raises(ApiError, match="does not exist"):
            state.chat._read(name, learner, stored.files)


def test_a_deletion_that_is_not_written_down_removes_nothing(tmp_path: Path) -> None:
    with LocalServer(tmp_path) as server, server.client() as client:
        file = upload(client, b"kept\n")
        assert server._runtime is not None
        database = server._runtime.state.database
        stored = database.find_file(file.id)
        assert stored is not None

        def delete_and_stumble() -> None:
            with database.transaction():
                database.delete_file(stored)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            delete_and_stumble()

        assert client.files.content(file.id).read() == b"kept\n"


@posix
def test_only_its_user_can_read_what_a_server_keeps(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    before = os.umask(0)
    try:
        with LocalServer(folder, cores=1) as server, server.client() as client:
            train(client, jsonl(products(20)))
            endless(client)
            modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.rglob("*")]}
    finally:
        os.umask(before)

    assert len([path for path in modes if path.is_file()]) > 5
    assert not {str(path): oct(mode) for path, mode in modes.items() if mode & 0o077}


@posix
def test_what_an_earlier_version_left_readable_is_so_no_longer(tmp_path: Path) -> None:
    LocalServer(tmp_path).start().stop()
    (tmp_path / DATABASE).chmod(0o644)
    (tmp_path / "blobs").chmod(0o755)

    LocalServer(tmp_path).start().stop()

    assert stat.S_IMODE((tmp_path / DATABASE).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "blobs").stat().st_mode) == 0o700


# Without a folder


def temporary_folders(parent: Path) -> list[Path]:
    return list(parent.glob("finetune-pricer-*"))


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "start", ["kept = connect('local'); print(1, flush=True); time.sleep(60)", "serve(port=0)"]
)
def test_a_signal_leaves_no_temporary_folder(tmp_path: Path, start: str, number: signal.Signals) -> None:
    # Under nohup a program ignores SIGHUP, and so does what it starts.
    code = "import signal, time\nsignal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
    code += "from finetune_pricer import connect\nfrom finetune_pricer.local import serve\n"
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", code + start]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it is up
        assert len(temporary_folders(tmp_path)) == 1
        process.send_signal(number)
        status = process.wait(20)

    assert status == (0 if start.startswith("serve") else -number)
    assert temporary_folders(tmp_path) == []


@posix
def test_what_a_killed_server_left_in_a_temporary_folder_goes_with_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = f"""if True:
        import os, sys
        sys.path.insert(0, {str(TESTS)!r})
        from finetune_pricer.local import LocalServer
        from local_helpers import upload
        server = LocalServer().start()
        upload(server.client(), b"private")
        os.kill(os.getpid(), 9)
    """
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(tmp_path)})
    (killed,) = temporary_folders(tmp_path)
    young = Path(shutil.copytree(killed, tmp_path / "finetune-pricer-young"))
    named = Path(shutil.copytree(killed, tmp_path / "finetune-pricer-named"))
    foreign = tmp_path / "finetune-pricer-foreign"
    foreign.mkdir()
    (foreign / DATABASE).write_bytes(b"dear")
    with LocalServer(named), LocalServer() as running:
        assert running._runtime is not None
        mine = running._runtime._temporary
        assert mine is not None
        for folder in (killed, named, mine):
            if (folder / "temporary").exists():
                os.utime(folder / "temporary", (0, 0))
        os.utime(young / "temporary")

        made = make_temporary_folder()

        assert set(temporary_folders(tmp_path)) == {young, named, foreign, mine, made}
