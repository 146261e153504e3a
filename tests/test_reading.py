"""Items from files and from the Hub."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pandas as pd
import pytest

from finetune_pricer import ItemDataset, login
from finetune_pricer.errors import AccessDenied, FileAccessError, HubError, InvalidRows, PricerError

FRAME = pd.DataFrame(
    {"id": [1, 2], "title": ["Lamp", "Mug, blue"], "price": [12.5, 3.0], "weight": [1.5, None]}
)
WRITERS: dict[str, Callable[[Path], Any]] = {
    ".csv": lambda path: FRAME.to_csv(path, index=False),
    ".tsv": lambda path: FRAME.to_csv(path, index=False, sep="\t"),
    ".jsonl": lambda path: FRAME.to_json(path, orient="records", lines=True),
    ".parquet": FRAME.to_parquet,
}


@pytest.mark.parametrize(("ending", "write"), WRITERS.items(), ids=WRITERS)
def test_each_kind_of_file_gives_the_same_items(
    tmp_path: Path, ending: str, write: Callable[[Path], Any]
) -> None:
    path = tmp_path / f"items{ending}"
    write(path)
    found = [(item.id, item.title, item.price, item.weight) for item in ItemDataset.from_file(path)]
    assert found == [("1", "Lamp", 12.5, 1.5), ("2", "Mug, blue", 3.0, None)]


def file_of(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_prices_in_a_csv_are_read_as_people_write_them(tmp_path: Path) -> None:
    path = file_of(tmp_path, "a.csv", '\ufefftitle,price\nLamp,$12\n"Piano\ngrand","1,299.50"\n')
    assert [item.price for item in ItemDataset.from_file(path)] == [12.0, 1299.5]


def test_foreign_columns_are_mapped_and_push_ours_aside(tmp_path: Path) -> None:
    path = file_of(tmp_path, "a.csv", "title,name,cost,cost_code\nold,Lamp,12,x\n")
    [lamp] = ItemDataset.from_file(path, columns={"name": "title", "cost": "price"})
    assert (lamp.title, lamp.price) == ("Lamp", 12.0)


def test_items_without_prices_are_read_when_that_is_said(tmp_path: Path) -> None:
    path = file_of(tmp_path, "a.csv", "title,price\nLamp,\nMug,3\n")
    assert [item.price for item in ItemDataset.from_file(path, priced=False)] == [None, 3.0]
    bare = file_of(tmp_path, "b.csv", "title\nLamp\n")
    assert [item.price for item in ItemDataset.from_file(bare, priced=False)] == [None]


BAD_FILES: dict[str, tuple[str, str | bytes, type[PricerError], str]] = {
    "bad prices": (
        "a.csv",
        "title,price\nLamp,-1\nMug,free\nCup,\nJug,nan\nPot,4\n",
        InvalidRows,
        r"(?s)4 of 5 rows of 'a\.csv'.*row 1 \(line 2\): .*row 2 .*row 3 .*has no price.*row 4 \(line 5\): ",
    ),
    "no price column": (
        "a.csv",
        "title,cost\nLamp,1\n",
        InvalidRows,
        r"no column 'price'; it has 'title', 'cost'; .*columns=",
    ),
    "no text column": ("a.csv", "name,price\nLamp,1\n", InvalidRows, "none of the text columns 'summary'"),
    "a column twice": ("a.csv", "title,price,price\nLamp,1,2\n", InvalidRows, "more than one column 'price'"),
    "a short row": (
        "a.csv",
        "title,price\nLamp\n",
        InvalidRows,
        r"row 1 \(line 2\): .*has 1 cells where the head has 2",
    ),
    "empty": ("a.csv", "", InvalidRows, "is empty"),
    "half JSON": ("a.jsonl", '{"title":\n', InvalidRows, "row 1: .*is not JSON"),
    "a text for a price": ("a.jsonl", '{"title":"a","price":"free"}\n', InvalidRows, "row 1: price = 'free'"),
    "a thing for a title": (
        "a.jsonl",
        '{"title":{"a":1},"price":1}\n',
        InvalidRows,
        "row 1: title = .*: holds an object, not text",
    ),
    "no parquet": ("a.parquet", "xx", InvalidRows, "cannot read"),
    "another kind": ("a.xls", "xx", InvalidRows, r"'a\.xls' is none of \.csv"),
}


@pytest.mark.parametrize(("name", "content", "kind", "words"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_holds_no_items_is_named_with_what_is_wrong(
    tmp_path: Path, name: str, content: str | bytes, kind: type[PricerError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        ItemDataset.from_file(file_of(tmp_path, name, content))


@pytest.mark.parametrize("name", ["none.csv", "none.jsonl", "none.parquet"])
def test_a_missing_file_is_named(name: str) -> None:
    with pytest.raises(FileAccessError, match=f"cannot read '{name}'"):
        ItemDataset.from_file(name)


def test_an_unknown_column_or_field_is_named(tmp_path: Path) -> None:
    path = file_of(tmp_path, "a.csv", "title,price\nLamp,1\n")
    with pytest.raises(InvalidRows, match=r"'a\.csv' has no column 'name'; it has 'title', 'price'"):
        ItemDataset.from_file(path, columns={"name": "title"})
    with pytest.raises(InvalidRows, match="an item has no field 'name'"):
        ItemDataset.from_file(path, columns={"title": "name"})


def hub_folder(tmp_path: Path, **splits: pd.DataFrame) -> str:
    """Write splits as the Hub lays them out."""
    folder = tmp_path / "repository"
    (folder / "data").mkdir(parents=True)
    for name, frame in splits.items():
        frame.to_parquet(folder / "data" / f"{name}-00000-of-00001.parquet")
    return str(folder)


@pytest.mark.parametrize("name", ["validation", "val", "dev"])
def test_a_folder_in_the_hubs_layout_gives_three_splits(tmp_path: Path, name: str) -> None:
    folder = hub_folder(tmp_path, **{"train": FRAME, name: FRAME[:1], "test": FRAME[1:]})
    train, validation, test = ItemDataset.from_hub(folder)
    assert [item.title for item in train] == ["Lamp", "Mug, blue"]
    assert [item.title for item in validation] == ["Lamp"]
    assert [item.title for item in test] == ["Mug, blue"]
    assert test[0].id == "2"


def test_a_missing_split_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    folder = hub_folder(tmp_path, train=FRAME, test=FRAME)
    with pytest.raises(HubError, match=r"no split 'validation'; it has 'train', 'test'"):
        ItemDataset.from_hub(folder)


def test_a_missing_column_is_named_with_its_split(tmp_path: Path) -> None:
    frame = FRAME.drop(columns="price")
    folder = hub_folder(tmp_path, train=frame, validation=frame, test=frame)
    with pytest.raises(HubError, match=r"split 'train' of .* has no column 'price'; it has 'id', 'title'"):
        ItemDataset.from_hub(folder)


def test_bad_prices_are_all_listed_with_their_split(tmp_path: Path) -> None:
    bad = FRAME.assign(price=[-1.0, float("nan")])
    folder = hub_folder(tmp_path, train=FRAME, validation=FRAME, test=bad)
    with pytest.raises(InvalidRows, match="2 of 2 rows of split 'test'") as caught:
        ItemDataset.from_hub(folder)
    assert [problem.row for problem in caught.value.problems] == [1, 2]


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "~/nowhere-at-all"])
def test_a_missing_folder_is_not_looked_up_on_the_hub(name: str) -> None:
    with pytest.raises(HubError, match=f"there is no folder '{name}'"):
        ItemDataset.from_hub(name)


def test_a_hub_that_cannot_be_reached_is_said_to_be() -> None:
    with pytest.raises(HubError, match="cannot load 'owner/name'"):
        ItemDataset.from_hub("owner/name")


@pytest.mark.parametrize(
    ("argument", "variable", "used"),
    [("hf_argument", "hf_variable", "hf_argument"), (None, "hf_variable", "hf_variable"), (None, None, None)],
    ids=["argument", "HF_TOKEN", "saved login"],
)
def test_the_token_is_the_argument_else_the_variable_else_the_saved_login(
    monkeypatch: pytest.MonkeyPatch, argument: str | None, variable: str | None, used: str | None
) -> None:
    asked: list[dict[str, Any]] = []

    def load(name: str, **options: Any) -> datasets.DatasetDict:
        asked.append({"name": name, **options})
        data = datasets.Dataset.from_pandas(FRAME)
        return datasets.DatasetDict({"train": data, "validation": data, "test": data})

    monkeypatch.setattr(datasets, "load_dataset", load)
    if variable:
        Path(".env").write_text(f"HF_TOKEN={variable}")
    ItemDataset.from_hub("owner/name", token=argument, revision="v2")
    assert asked == [{"name": "owner/name", "token": used, "revision": "v2", "streaming": False}]


def test_a_login_hands_the_token_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, Any]] = []
    monkeypatch.setattr(huggingface_hub, "login", lambda *given, **named: asked.append((given, named)))
    login("hf_argument", add_to_git_credential=True)
    monkeypatch.setenv("HF_TOKEN", "hf_variable")
    login()
    assert asked == [
        (("hf_argument",), {"add_to_git_credential": True}),
        (("hf_variable",), {"add_to_git_credential": False}),
    ]


def test_a_token_that_the_hub_refuses_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("Invalid token passed!")

    monkeypatch.setattr(huggingface_hub, "login", refuse)
    with pytest.raises(AccessDenied, match="does not accept this token") as caught:
        login("hf_secret")
    assert "hf_secret" not in str(caught.value)


def test_a_login_without_a_network_says_so() -> None:
    with pytest.raises(HubError, match="cannot reach the Hub"):
        login("hf_x")
