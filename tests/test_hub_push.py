"""Splits go to the Hub with a card that says where they came from, and come back as they were."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune_pricer import Item, ItemDataset, ItemSplits
from finetune_pricer.errors import HubError
from finetune_pricer.items.hub import write_folder
from hub_double import Hub, hub_on_loopback


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_on_loopback(monkeypatch) as server:
        yield server


@pytest.fixture
def splits() -> ItemSplits:
    Path("shop.csv").write_text("title,price\nLamp,12\nMat,call us\n" + "Rug,3\n" * 18)
    return ItemDataset.from_file("shop.csv", on_error="skip").split(validation=2, test=3, seed=1)


def test_what_was_pushed_is_loaded_again_and_its_card_tells_what_was_removed(
    hub: Hub, splits: ItemSplits
) -> None:
    where = splits.push_to_hub("me/shop", token="hf_secret", licence="mit")
    assert where == f"{hub.url}/datasets/me/shop"
    assert hub.tokens == {"Bearer hf_secret"}
    assert hub.created[0]["visibility"] == "private"
    assert hub.files.pop("data/old.parquet") == b"deleted"
    for name, content in hub.files.items():
        Path("back", name).parent.mkdir(parents=True, exist_ok=True)
        Path("back", name).write_bytes(content)
    back = ItemDataset.from_hub("./back")
    assert [list(split) for split in back] == [list(split) for split in splits]
    card = hub.files["README.md"].decode()
    assert "license: mit" in card
    assert "path: data/validation-*.parquet" in card
    assert "20 rows read from 'shop.csv'" in card
    assert "1 rows skipped that cannot be items" in card
    assert "split from 19 items, seed 1: test" in card
    assert "| train | 14 |" in card
    assert "hf_secret" not in card


def test_a_refusal_of_the_hub_says_what_to_look_at(hub: Hub, splits: ItemSplits) -> None:
    with pytest.raises(HubError, match="token that may write") as caught:
        splits.push_to_hub("me/forbidden", private=False, token="hf_secret")
    assert hub.created[0]["visibility"] == "public"
    assert "hf_secret" not in str(caught.value)


def test_offline_pushing_is_a_hub_error(splits: ItemSplits) -> None:
    with pytest.raises(HubError, match="cannot push"):
        splits.push_to_hub("me/shop", token="hf_secret")


@pytest.mark.parametrize("streaming", [False, True])
def test_a_folder_is_loaded_with_foreign_names_and_with_rows_left_out(streaming: bool) -> None:
    bad = ItemDataset.from_items([Item(title="a", price=1.0), Item(title="b")])
    good = ItemDataset.from_items([Item(title="c", price=2.0)])
    write_folder(ItemSplits(bad, good, good)._for_hub(), Path("shop"), title="shop", licence=None)
    splits = ItemDataset.from_hub("./shop", on_error="skip", streaming=streaming)
    assert [len(split) for split in splits] == [1, 1, 1]
    assert [problem.row for problem in splits.train.skipped] == [2]
    swapped = ItemDataset.from_hub(
        "./shop", columns={"title": "summary"}, on_error="skip", streaming=streaming
    )
    assert (swapped.test[0].summary, swapped.test[0].title) == ("c", None)


def test_streaming_gives_the_same_items() -> None:
    items = ItemDataset.from_items(Item(title=f"thing {n}", price=n, id=str(n)) for n in range(300))
    write_folder(items.split(validation=50, test=50)._for_hub(), Path("shop"), title="shop", licence=None)
    streamed, loaded = (ItemDataset.from_hub("./shop", streaming=way) for way in (True, False))
    assert [list(split) for split in streamed] == [list(split) for split in loaded]


def test_a_folder_of_the_same_relative_name_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for title in ("first", "second"):
        (tmp_path / title).mkdir()
        monkeypatch.chdir(tmp_path / title)
        one = ItemDataset.from_items([Item(title=title, price=1.0)])
        write_folder(ItemSplits(one, one, one)._for_hub(), Path("shop"), title="shop", licence=None)
        assert ItemDataset.from_hub("./shop").train[0].title == title
