"""Training files: streamed, whole or not at all, and known by their hash."""

import gc
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from finetune_pricer import ChatFormatter, Item, JsonlWriter
from finetune_pricer.errors import DataError, FileAccessError, InvalidItem, TrainingFileError
from helpers import priced


def test_each_item_becomes_one_line_of_chat_messages(tmp_path: Path) -> None:
    items, formatter = priced(3), ChatFormatter(system="s")
    JsonlWriter(formatter).write(items, tmp_path / "new" / "train.jsonl")
    text = (tmp_path / "new" / "train.jsonl").read_text()
    assert text.endswith("}\n")
    assert [json.loads(line) for line in text.splitlines()] == [
        {"messages": formatter.example(item)} for item in items
    ]


@pytest.mark.parametrize(
    "text", ['plain "quoted" \\ back', "emoji \U0001f9ea, newline\n, tab\t", "\x00\x1f <b>"]
)
@pytest.mark.parametrize("shots", [(), (Item(title="solved", price=2),)], ids=["no shots", "shots"])
@pytest.mark.parametrize("instruction", ["", 'Price "this"'])
def test_a_line_is_the_formatters_example_as_json(
    text: str, shots: tuple[Item, ...], instruction: str
) -> None:
    formatter = ChatFormatter(instruction=instruction, system="be brief", shots=shots)
    item = Item(title=text, price=12.5)
    training = JsonlWriter(formatter).write([item], "train.jsonl")
    assert training.path.read_bytes() == orjson.dumps({"messages": formatter.example(item)}) + b"\n"


def test_the_file_is_known_by_its_lines_its_size_and_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    training = JsonlWriter().write(priced(3), str(path))
    content = path.read_bytes()
    assert (training.path, training.examples, training.bytes) == (path, 3, len(content))
    assert training.sha256 == hashlib.sha256(content).hexdigest()
    training.verify()


def test_items_are_taken_one_by_one_and_let_go(tmp_path: Path) -> None:
    def stream() -> Iterator[Item]:
        for number in range(2000):
            yield Item(title=f"streamed {number}", price=1)
            if number % 500 == 0:
                kept = [thing for thing in gc.get_objects() if type(thing) is Item]
                assert sum((item.title or "").startswith("streamed") for item in kept) <= 5

    assert JsonlWriter().write(stream(), tmp_path / "train.jsonl").examples == 2000


def test_text_of_any_script_stays_as_it_is(tmp_path: Path) -> None:
    JsonlWriter().write([Item(title="Café \u2028 茶 🫖 \u0000", price=3)], tmp_path / "train.jsonl")
    [line] = (tmp_path / "train.jsonl").read_bytes().splitlines()
    assert "茶 🫖".encode() in line
    assert json.loads(line)["messages"][0]["content"].endswith("Café \u2028 茶 🫖 \u0000")


def failing() -> Iterator[Item]:
    yield Item(title="a", price=1)
    raise ConnectionResetError("the source is gone")


@pytest.mark.parametrize(
    ("items", "error", "words"),
    [
        ([*priced(2), Item(id="x-1", title="Chair")], InvalidItem, r"row 3: item 'x-1'.*was not written"),
        ([], TrainingFileError, "no items to write"),
        (failing(), ConnectionResetError, "the source is gone"),
    ],
    ids=["unpriced", "none", "source"],
)
def test_after_an_error_the_old_file_stands_and_nothing_lies_beside_it(
    tmp_path: Path, items: list[Item], error: type[Exception], words: str
) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text("old")
    with pytest.raises(error, match=words):
        JsonlWriter().write(items, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_half_a_character_is_refused_before_it_can_reach_a_file() -> None:
    with pytest.raises(DataError, match="half a character"):
        Item(id="a", title="\ud83d", price=1)


def test_an_unwritable_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(FileAccessError, match=r"cannot write .*choose a folder you may write to"):
        JsonlWriter().write(priced(1), tmp_path / "file" / "train.jsonl")


def test_a_changed_or_missing_file_is_noticed(tmp_path: Path) -> None:
    training = JsonlWriter().write(priced(1), tmp_path / "train.jsonl")
    training.path.write_bytes(training.path.read_bytes().replace(b"thing", b"thang"))
    with pytest.raises(TrainingFileError, match="has changed since it was written; write it again"):
        training.verify()
    training.path.unlink()
    with pytest.raises(FileAccessError, match="cannot read"):
        training.verify()
