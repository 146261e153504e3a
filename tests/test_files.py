"""A reader sees the old file or the whole new one; what is no plain file is written into."""

import errno
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
import respx

from finetune_pricer import ItemDataset, JsonlWriter, _files, upload
from finetune_pricer._files import open_part, replacing, temporary_folder
from finetune_pricer.errors import FileAccessError, ServiceUnavailable
from finetune_pricer.predict import Prediction, Predictions
from helpers import priced

posix_only = pytest.mark.skipif(os.name != "posix", reason="Windows has no such files and rights")
root_only = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root makes devices and gives files away"
)


def test_a_file_is_written_and_its_folders_are_made(tmp_path: Path) -> None:
    with replacing(tmp_path / "a" / "b" / "c.txt") as file:
        file.write(b"new")
    assert (tmp_path / "a" / "b" / "c.txt").read_bytes() == b"new"
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["c.txt"]


def test_until_the_end_the_old_file_stands_there(tmp_path: Path) -> None:
    path = tmp_path / "c.txt"
    path.write_text("old")
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("row 3"),
        KeyboardInterrupt(),
        ConnectionResetError(errno.ECONNRESET, "gone"),
        ServiceUnavailable("busy"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_callers_own_error_comes_through_and_the_old_file_stays(
    tmp_path: Path, error: BaseException
) -> None:
    path = tmp_path / "c.txt"
    path.write_text("old")
    with pytest.raises(type(error)) as caught, replacing(path):
        raise error
    assert caught.value is error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_named_with_the_path(tmp_path: Path) -> None:
    path = tmp_path / "c.txt"
    with pytest.raises(FileAccessError, match=r"cannot write '.*c\.txt': No space left"), replacing(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_a_folder_in_the_place_of_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.txt").mkdir()
    with pytest.raises(FileAccessError, match=r"c\.txt"), replacing(tmp_path / "c.txt") as file:
        file.write(b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["c.txt"]


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")
    with pytest.raises(FileAccessError, match=r"cannot write"), replacing(tmp_path / "a" / "c.txt"):
        pytest.fail("there is nothing to write to")


def test_the_rights_of_the_old_file_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "c.txt"
    path.write_text("old")
    path.chmod(0o640)
    with replacing(path) as file:
        file.write(b"new")
    assert path.stat().st_mode & 0o777 == 0o640


# What is no plain file.


def make_device(path: Path, minor: int) -> Path:
    """A device like `/dev/null` (3) or `/dev/full` (7); it is replaced, should the code be wrong."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, minor))
    except OSError as error:
        pytest.skip(f"no devices can be made here: {error}")
    return path


MADE = Predictions([Prediction(item_id="a", price=5.0), Prediction(item_id="b", price=None)])
WRITERS: dict[str, Callable[[Path], Any]] = {
    "to_csv": MADE.to_csv,
    "JsonlWriter": lambda path: JsonlWriter().write(priced(2), path),
    "to_parquet": lambda path: ItemDataset.from_items(priced(2)).to_parquet(path),
}


@posix_only
@root_only
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_device_is_written_into_and_stays_a_device(tmp_path: Path, write: Callable[[Path], Any]) -> None:
    null = make_device(tmp_path / "null", 3)
    write(null)
    assert stat.S_ISCHR(null.stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["null"]


@posix_only
@root_only
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_device_that_takes_nothing_is_named(tmp_path: Path, write: Callable[[Path], Any]) -> None:
    full = make_device(tmp_path / "full", 7)
    with pytest.raises(FileAccessError, match=r"cannot write '.*full': No space left"):
        write(full)
    assert stat.S_ISCHR(full.stat().st_mode)


@posix_only
def test_a_terminal_is_written_into() -> None:
    reader, terminal = os.openpty()
    with replacing(os.ttyname(terminal)) as file:
        file.write(b"new\n")
    assert os.read(reader, 100) == b"new\r\n"
    assert stat.S_ISCHR(os.fstat(terminal).st_mode)
    os.close(reader)
    os.close(terminal)


@posix_only
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_whoever_reads_a_pipe_gets_what_is_written(tmp_path: Path, write: Callable[[Path], Any]) -> None:
    pipe, plain, got = tmp_path / "pipe", tmp_path / "plain", list[bytes]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write(pipe)
    reader.join(timeout=10)
    write(plain)
    assert got == [plain.read_bytes()]
    assert pipe.is_fifo()


@posix_only
def test_after_an_error_a_pipe_has_got_nothing(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()

    def fail() -> None:
        with replacing(pipe) as file:
            file.write(b"half")
            raise ValueError("row 3")

    with pytest.raises(ValueError, match="row 3"):
        fail()
    reader.join(timeout=10)
    assert got == [b""]


@posix_only
def test_a_pipe_whose_reader_has_gone_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)

    def write() -> None:
        with replacing(tmp_path / "pipe") as file:
            os.close(reader)
            file.write(b"new")

    with pytest.raises(FileAccessError, match=r"pipe': Broken pipe"):
        write()


PRINTING = """
import sys
from finetune_pricer._files import replacing
print("before", flush=True)
with replacing(sys.argv[1]) as file:
    file.write(b"new\\n")
print("after")
"""


@posix_only
@pytest.mark.parametrize("path", ["stdout", "out.txt"])
def test_the_output_that_a_shell_sent_to_a_file_is_not_taken_away(tmp_path: Path, path: str) -> None:
    # A link as /dev/stdout is one, which is not itself put at risk.
    (tmp_path / "stdout").symlink_to("/dev/fd/1")
    with (tmp_path / "out.txt").open("wb") as out:
        subprocess.run([sys.executable, "-c", PRINTING, path], stdout=out, check=True, cwd=tmp_path)
    assert (tmp_path / "out.txt").read_text() == "before\nnew\nafter\n"
    assert (tmp_path / "stdout").is_symlink()


@posix_only
def test_a_symbolic_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "versions").mkdir()
    (tmp_path / "versions" / "1.csv").write_text("old")
    (tmp_path / "data").symlink_to("versions")
    (tmp_path / "latest.csv").symlink_to("data/1.csv")
    with replacing(tmp_path / "latest.csv") as file:
        file.write(b"new")
    assert (tmp_path / "latest.csv").readlink() == Path("data/1.csv")
    assert (tmp_path / "versions" / "1.csv").read_text() == "new"
    assert [path.name for path in (tmp_path / "versions").iterdir()] == ["1.csv"]


@posix_only
def test_a_link_to_nothing_makes_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "latest.csv").symlink_to("2.csv")
    with replacing(tmp_path / "latest.csv") as file:
        file.write(b"new")
    assert (tmp_path / "latest.csv").is_symlink()
    assert (tmp_path / "2.csv").read_text() == "new"


@posix_only
def test_a_link_that_leads_to_itself_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(FileAccessError, match=r"cannot write '.*a'"), replacing(tmp_path / "a"):
        pytest.fail("there is nothing to write to")


@posix_only
def test_a_pipe_in_the_place_of_a_training_file_is_not_waited_for(
    tmp_path: Path, client: openai.OpenAI, service: respx.MockRouter
) -> None:
    training = JsonlWriter().write(priced(1), tmp_path / "train.jsonl")
    training.path.unlink()
    os.mkfifo(training.path)
    for use in (training.verify, lambda: upload(client, training)):
        with pytest.raises(FileAccessError, match="is no plain file"):
            use()
    assert not service.calls


def test_a_long_name_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 123 + ".csv")  # 250 bytes
    with replacing(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


# Rights.


@posix_only
@root_only
def test_the_owner_of_the_old_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "c.txt"
    path.write_text("old")
    os.chown(path, 1000, 1001)
    with replacing(path) as file:
        file.write(b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (1000, 1001)


@posix_only
def test_where_the_group_cannot_be_kept_its_rights_go_to_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    path = tmp_path / "c.txt"
    path.write_text("old")
    path.chmod(0o660)
    with replacing(path) as file:
        file.write(b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@posix_only
def test_a_new_file_has_the_rights_that_the_umask_leaves_and_the_umask_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.umask(0o027)
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("it is the whole process's"))
    try:
        with replacing(tmp_path / "c.txt") as file:
            file.write(b"new")
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "c.txt").stat().st_mode) == 0o640


@posix_only
def test_the_new_text_is_at_no_time_open_to_more_people_than_the_old_was(tmp_path: Path) -> None:
    path = tmp_path / "c.txt"
    path.write_text("old")
    path.chmod(0o600)
    with replacing(path) as file:
        file.write(b"new")
        (part,) = set(tmp_path.iterdir()) - {path}
        assert stat.S_IMODE(part.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# What a killed process leaves.

KILLED = """
import os, signal, sys
from finetune_pricer._files import replacing
with replacing(sys.argv[1]) as file:
    file.write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@posix_only
def test_what_a_killed_writer_left_is_swept_by_the_next_and_what_another_writes_is_not(
    tmp_path: Path,
) -> None:
    mine = tmp_path / ".mine.part"
    mine.write_text("another program's")
    subprocess.run([sys.executable, "-c", KILLED, tmp_path / "k.jsonl"], check=False)
    (left,) = set(tmp_path.iterdir()) - {mine}
    assert left.read_bytes() in {b"", b"half"}
    with replacing(tmp_path / "a.csv") as first:
        assert not left.exists()
        with replacing(tmp_path / "b.csv") as second:
            second.write(b"b")
        first.write(b"a")
    assert {path.name: path.read_text() for path in tmp_path.iterdir() if path != mine} == {
        "a.csv": "a",
        "b.csv": "b",
    }
    assert mine.exists()


KILLED_IN_A_FOLDER = """
import os, signal, sys, tempfile
from finetune_pricer._files import temporary_folder
tempfile.tempdir = sys.argv[1]
with temporary_folder("push") as folder:
    (folder / "data").mkdir()
    (folder / "data" / "train.parquet").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@posix_only
def test_a_temporary_folder_that_was_left_is_swept_by_the_next_and_one_in_use_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    subprocess.run([sys.executable, "-c", KILLED_IN_A_FOLDER, tmp_path], check=False)
    (left,) = tmp_path.iterdir()
    with temporary_folder("push") as first, temporary_folder("push") as second:
        assert not left.exists()
        assert set(tmp_path.iterdir()) == {first, second}
    assert not list(tmp_path.iterdir())


@posix_only
def test_what_a_stranger_puts_in_the_place_of_a_leftover_is_neither_followed_nor_waited_for(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("mine")
    (tmp_path / ".a.0.finetune_pricer.part").symlink_to("mine")
    (tmp_path / ".b.0.finetune_pricer.part").symlink_to("mine/a.txt")
    os.mkfifo(tmp_path / ".c.0.finetune_pricer.part")
    with replacing(tmp_path / "c.txt") as file:
        file.write(b"new")
    assert (tmp_path / "mine" / "a.txt").read_text() == "mine"


@posix_only
def test_a_writer_whose_file_was_swept_before_it_was_locked_takes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, swept = _files._lock, list[Path]()

    def sweep_first(handle: int) -> bool:
        if not swept:
            swept.extend(tmp_path.iterdir())
            swept[0].unlink()
        return lock(handle)

    monkeypatch.setattr(_files, "_lock", sweep_first)
    with replacing(tmp_path / "c.txt") as file:
        file.write(b"new")
    assert swept
    assert (tmp_path / "c.txt").read_bytes() == b"new"


@posix_only
def test_where_nothing_can_be_locked_nothing_is_swept_and_all_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    file, part = open_part(tmp_path, "other")
    file.close()
    with replacing(tmp_path / "c.txt") as new:
        new.write(b"new")
    assert part.exists()
    assert (tmp_path / "c.txt").read_bytes() == b"new"


# A power cut.


@posix_only
@pytest.mark.parametrize("durable", [True, False])
def test_the_file_and_then_the_folder_are_on_the_disk_before_the_writer_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    synced, fsync = list[str](), os.fsync

    def note(handle: int) -> None:
        synced.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(_files, "_sync", note)
    with replacing(tmp_path / "c.txt", durable=durable) as file:
        file.write(b"new")
    assert synced == (["file", "folder"] if durable else [])


# Windows, where an open file can be neither renamed nor replaced.


def test_an_old_file_that_another_program_has_open_for_a_moment_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "part").write_text("new")
    naps, replace = list[float](), Path.replace

    def refuse_at_first(self: Path, target: Path) -> Path:
        if len(naps) < 2:
            raise PermissionError(errno.EACCES, "Access is denied", str(target))
        return replace(self, target)

    monkeypatch.setattr("time.sleep", naps.append)
    monkeypatch.setattr(Path, "replace", refuse_at_first)
    _files._replace_when_closed(tmp_path / "part", tmp_path / "c.txt")
    assert (tmp_path / "c.txt").read_text() == "new"
    assert len(naps) == 2


def test_an_old_file_that_stays_open_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    naps = list[float]()

    def refuse(self: Path, target: Path) -> Path:
        raise PermissionError(errno.EACCES, "Access is denied", str(target))

    monkeypatch.setattr("time.sleep", naps.append)
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PermissionError):
        _files._replace_when_closed(tmp_path / "part", tmp_path / "c.txt")
    assert sum(naps) < 2
