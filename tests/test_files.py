"""A reader sees the old file or the whole new one."""

import errno
from pathlib import Path

import pytest

from finetune_pricer._files import replacing
from finetune_pricer.errors import FileAccessError, ServiceUnavailable


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
