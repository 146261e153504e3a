"""Folders in the Hub's layout: read as their files are, with any number of splits."""

import json
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest

from finetune_pricer import ItemDataset, ItemSplits
from finetune_pricer.errors import DataError, HubError
from finetune_pricer.items import hub

SPLITS = ("train", "validation", "test")


def write_folder(folder: Path, ending: str, content: str, names: tuple[str, ...] = SPLITS) -> str:
    folder.mkdir()
    for name in names:
        (folder / f"{name}{ending}").write_text(content, encoding="utf-8")
    return str(folder)


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


FILES: dict[str, tuple[str, str]] = {
    "numbers and texts in one column": (
        ".jsonl",
        lines({"id": 1, "title": "Lamp", "price": 12}, {"id": "B00X", "title": 1984, "price": "$3.50"}),
    ),
    "leading zeros": (".csv", "id,title,price\n0012345678905,Pen,5\n"),
    "numbers for names": (".csv", "id,title,price\n1,1984,5\n2,007,6\n"),
    "a date for a name": (".csv", "id,title,price\n1,2024-01-02,5\n"),
    "lists that nobody wants": (".jsonl", lines({"title": "Pen", "price": 5, "tags": [1, "a"]})),
    "words for nothing": (".csv", "id,title,price,category\n1,Pen,5,NA\n"),
    "an array": (".json", json.dumps([{"id": 2**70, "title": "2024-01-02T10:00:00Z", "price": 12}])),
    "tabs": (".tsv", "id\ttitle\tprice\n01\tPen\t$5\n"),
}


@pytest.mark.parametrize(("ending", "content"), FILES.values(), ids=FILES)
def test_a_folder_gives_what_its_files_give(tmp_path: Path, ending: str, content: str) -> None:
    folder = write_folder(tmp_path / "shop", ending, content)
    alone = ItemDataset.from_file(tmp_path / "shop" / f"train{ending}")
    for split in ItemDataset.from_hub(folder):
        assert list(split) == list(alone)


def test_one_split_is_one_set(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "shop", ".csv", "title,price\nPen,5\nMug,6\n", ("train",))
    items = ItemDataset.from_hub(folder, split="train")
    assert isinstance(items, ItemDataset)
    assert [item.title for item in items] == ["Pen", "Mug"]
    with pytest.raises(
        HubError, match=r"no split 'validation'; it has 'train'; from_hub\(..., split='train'\)"
    ):
        ItemDataset.from_hub(folder)
    with pytest.raises(HubError, match="no split 'all'; it has 'train'"):
        ItemDataset.from_hub(folder, split="all")


@pytest.mark.parametrize("asked", ["validation", "dev"])
def test_a_split_is_found_by_its_other_names(tmp_path: Path, asked: str) -> None:
    folder = write_folder(tmp_path / "shop", ".csv", "title,price\nPen,5\n", ("train", "dev"))
    assert len(ItemDataset.from_hub(folder, split=asked)) == 1


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl"])
def test_an_empty_split_is_an_empty_set(tmp_path: Path, ending: str) -> None:
    frame = pd.DataFrame({"title": ["Lamp", "Mat"], "price": [12.0, 3.0]})
    (tmp_path / "shop").mkdir()
    for name, rows in (("train", frame), ("validation", frame[:0]), ("test", frame)):
        path = tmp_path / "shop" / f"{name}{ending}"
        if ending == ".parquet":
            rows.to_parquet(path)
        elif ending == ".csv":
            rows.to_csv(path, index=False)
        else:
            rows.to_json(path, orient="records", lines=True)
    assert [len(part) for part in ItemDataset.from_hub(str(tmp_path / "shop"))] == [2, 0, 2]


def test_rows_of_several_files_are_numbered_through(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    for number, content in enumerate(["a,1\nb\n", "c,x\nd,4\ne\n"]):
        (tmp_path / "shop" / f"train-0000{number}-of-00002.csv").write_text(f"title,price\n{content}")
    items = ItemDataset.from_hub(str(tmp_path / "shop"), split="train", on_error="skip")
    assert [item.title for item in items] == ["a", "d"]
    assert [problem.row for problem in items.skipped] == [2, 3, 5]


def test_the_courses_prompts_are_told_from_its_items(tmp_path: Path) -> None:
    row = {"prompt": "What does this cost?\n\nPen\n\nPrice is $", "completion": "5.00"}
    folder = write_folder(tmp_path / "items_prompts_lite", ".jsonl", lines(row))
    with pytest.raises(HubError, match=r"the course's prompts with their answers.*'items_lite'"):
        ItemDataset.from_hub(folder)
    columns = {"prompt": "full", "completion": "price"}
    [item] = ItemDataset.from_hub(folder, columns=columns).train
    assert (item.full, item.price) == (row["prompt"], 5.0)


@pytest.mark.parametrize("name", ["goods.csv", "goods.jsonl", "nowhere.parquet"])
def test_a_file_is_sent_to_from_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if "nowhere" not in name:
        path.write_text("title,price\nPen,5\n")
    with pytest.raises(HubError, match=r"is a file, and no folder or repository; ItemDataset\.from_file"):
        ItemDataset.from_hub(path)


def test_a_pushed_set_says_its_currency_itself(tmp_path: Path) -> None:
    euros = ItemDataset.from_records([{"title": "Pen", "price": "5,50 €"}], currency="EUR", zero_is="price")
    hub.write_folder(ItemSplits(euros, euros, euros)._for_hub(), tmp_path / "back", title="a/b", licence=None)
    back = ItemDataset.from_hub(str(tmp_path / "back")).test
    assert (back.currency, back.zero_is, back[0].price) == ("EUR", "price", 5.5)
    with pytest.raises(DataError, match="are in EUR"):
        ItemDataset.from_hub(str(tmp_path / "back"), currency="GBP")


@pytest.fixture
def hosted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What `datasets` and the Hub give for the repository `owner/shop`."""
    loaded: dict[str, Any] = {}
    card = tmp_path / "README.md"
    card.write_text("---\nfinetune_pricer:\n  finetune_pricer.currency: EUR\n---\n")
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.DatasetDict(loaded))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: str(card))
    return loaded


def test_a_repositorys_rows_are_decoded_by_their_features(hosted: dict[str, Any]) -> None:
    features = datasets.Features(
        {
            "title": datasets.Json(),
            "price": datasets.Json(),
            "category": datasets.ClassLabel(names=["lamps", "mats"]),
            "id": datasets.Value("int64"),
        }
    )
    rows = {"title": ["Lamp", 1984], "price": [12, "3,50 €"], "category": [1, None], "id": [4006381333931, 7]}
    hosted["train"] = datasets.Dataset.from_dict(rows, features=features)
    items = ItemDataset.from_hub("owner/shop", split="train")
    assert [(item.title, item.price, item.category, item.id) for item in items] == [
        ("Lamp", 12.0, "mats", "4006381333931"),
        ("1984", 3.5, None, "7"),
    ]
    assert items.currency == "EUR"
    with pytest.raises(DataError, match="are in EUR"):
        ItemDataset.from_hub("owner/shop", split="train", currency="USD")


def test_a_repositorys_empty_split_is_an_empty_set(hosted: dict[str, Any]) -> None:
    hosted["train"] = datasets.Dataset.from_dict({"title": [], "price": []})
    assert len(ItemDataset.from_hub("owner/shop", split="train")) == 0
