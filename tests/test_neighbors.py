"""Neighbors: the nearest priced items of an item, never itself nor its twins, the same wherever asked."""

import asyncio
import json
import logging
import pickle
import random
import re
import sys
import threading
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from evaluate_helpers import things
from finetune_pricer import (
    ChatFormatter,
    Evaluator,
    FineTuneJob,
    Item,
    ItemDataset,
    JsonlWriter,
    MadeUpCatalogue,
    Neighbors,
    Predictor,
    audit,
    check_jsonl,
    connect,
    estimate_cost,
)
from finetune_pricer._chat_protocol import NEIGHBORS_HEAD
from finetune_pricer._methods.duplicates import Shingles, words_of
from finetune_pricer.aio import AsyncPredictor
from finetune_pricer.errors import (
    DataError,
    FileAccessError,
    InvalidItem,
    MissingExtra,
    MissingFile,
    WrongArgument,
)
from finetune_pricer.evaluate import prompting_baselines
from finetune_pricer.prices import marked_prices
from stub_service import StubService

TRAIN = MadeUpCatalogue().items(200)
TEST = MadeUpCatalogue().items(40, start=10_000)
FOUND = Neighbors(TRAIN)


def titles(neighbors: Neighbors, item: Item | str) -> list[str | None]:
    return [near.item.title for near in neighbors.of(item)]


def named(words: str, price: float = 10.0, **fields: Any) -> Item:
    return Item(title=words, price=price, **fields)


LAMPS = ItemDataset.from_items(
    named(f"{word} lamp of brass for desks, {number} cm high", 10.0 + number)
    for number, word in enumerate("red green blue white black grey".split())
)


def embed(texts: Sequence[str]) -> list[list[float]]:
    """Vectors of letters: alike for texts that have many in common."""
    return [[1.0 + text.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts]


def embed_by_length(texts: Sequence[str]) -> list[list[float]]:
    return [[1.0, float(len(text) % 7), float(len(text) % 5)] + [0.5] * 23 for text in texts]


# What is found.


def test_the_neighbors_are_the_most_similar_items_with_the_most_similar_first() -> None:
    names = ("brass desk lamp", "oak desk with drawer", "desk lamp with shade", "oak mug with shade")
    train = [named(name) for name in names]
    near = Neighbors(train, k=2).of("desk lamp, brass")
    assert [each.item for each in near] == [train[0], train[2]]
    assert 1 >= near[0].similarity > near[1].similarity > 0


def test_what_has_nothing_in_common_is_no_neighbor() -> None:
    train = [named("brass desk lamp"), named("oak table"), named("clay mug")]
    assert titles(Neighbors(train), "a brass bell") == ["brass desk lamp"]
    assert Neighbors(train).of("violin") == ()


@pytest.mark.parametrize(
    ("asked", "alike"),
    [
        ("白色陶瓷杯", ("红色陶瓷杯子", "蓝色大号陶瓷杯")),
        ("大きな木の机", ("小さな木の机です", "古い木の机と椅子")),
        ("โต๊ะไม้ใหม่", ("โต๊ะไม้เก่าสีขาว", "ขายโต๊ะไม้สัก")),
    ],
)
def test_scripts_without_spaces_between_words_have_neighbors_too(asked: str, alike: tuple[str, ...]) -> None:
    others = ("不锈钢炒锅", "ガラスの花瓶", "กระทะเหล็ก")
    items = ItemDataset.from_items(Item(title=title, price=9.0) for title in (*others, *alike))
    assert {near.item.title for near in Neighbors(items, k=2).of(asked)} == set(alike)


def test_many_are_found_as_one_by_one_wherever_they_stand() -> None:
    asked = [*TRAIN[:30], *TEST, "A desk lamp by Nordvik"]
    alone = [Neighbors(TRAIN).of(item) for item in asked[::10]]
    together = list(FOUND.of_many(asked))
    assert together[::10] == alone
    assert [FOUND.of(item) for item in asked] == together
    random.Random(1).shuffle(asked)
    assert list(Neighbors(TRAIN).of_many(iter(asked))) == [FOUND.of(item) for item in asked]


# An item itself, and its twins.


def test_an_item_is_never_its_own_neighbor_nor_is_what_has_its_id() -> None:
    for item, near in zip(TRAIN, FOUND.of_many(TRAIN), strict=True):
        assert item.id not in {each.item.id for each in near}
    changed = Item(id=TRAIN[3].id, title="A whole new text about a frying pan in oak, 26 cm")
    assert TRAIN[3].id not in {each.item.id for each in FOUND.of(changed)}


def test_planted_twins_are_left_out_in_training_validation_and_asking() -> None:
    plain = list(TRAIN[:100])
    twins = [
        replace(item, id=f"twin-{item.id}", summary=f"{item.summary!s} Now!", price=(item.price or 0) + 1)
        for item in plain[:30]
    ]
    neighbors = Neighbors([*plain, *twins])
    for item, twin in zip(plain, twins, strict=False):
        for asked in (item, twin, replace(twin, id="of a new listing"), f"{twin.text}!", item.text.upper()):
            found = {near.item.id for near in neighbors.of(asked)}
            assert found.isdisjoint({item.id, twin.id}), asked
    groups = audit(ItemDataset.from_items([*plain, *twins])).groups()
    label_of = dict(zip([item.id for item in [*plain, *twins]], groups.tolist(), strict=True))
    for item in [*plain, *twins]:
        assert label_of[item.id] not in {label_of[near.item.id] for near in neighbors.of(item)}


def test_no_neighbor_shares_three_fifths_of_the_shingles() -> None:
    for item, near in zip(TEST, FOUND.of_many(TEST), strict=True):
        for each in near:
            assert Shingles([words_of(item.text), words_of(each.item.text)]).jaccard(0, 1) < 0.6


def test_items_of_one_label_see_nothing_of_each_other() -> None:
    train = [named(f"{word} lamp") for word in ("red", "blue", "green", "white")]
    neighbors = Neighbors(train, groups=["a", "a", "b", "b"])
    assert titles(neighbors, train[0]) == ["green lamp", "white lamp"]
    # A new item has the label of the row that is its twin.
    assert titles(neighbors, "RED, lamp!") == ["green lamp", "white lamp"]
    with pytest.raises(DataError, match="3 group labels for 4 items; give one for each"):
        Neighbors(train, groups=["a", "b", "c"])
    with pytest.raises(WrongArgument, match="groups must be a label for each item"):
        Neighbors(train, groups="category")
    with pytest.raises(DataError, match="a text or a number"):
        Neighbors(train, groups=[[], [], [], []])


# Prompts.


def test_neighbors_stand_below_the_text_with_the_most_similar_last() -> None:
    train = [named("oak desk", 120.5), named("desk lamp of brass", 45.0), named("lamp of brass", 30.0)]
    formatter = ChatFormatter("How much?", neighbors=Neighbors(train, k=3))
    assert formatter.prompt("A lamp of brass for a desk") == [
        {
            "role": "user",
            "content": "How much?\n\nA lamp of brass for a desk\n\nPrices of similar products, the most "
            "similar last:\n- oak desk: $120.50\n- lamp of brass: $30.00\n- desk lamp of brass: $45.00",
        }
    ]
    assert formatter.prompt("A violin")[0]["content"] == "How much?\n\nA violin"


def test_a_model_is_asked_exactly_as_it_was_trained_with_neighbors() -> None:
    formatter = ChatFormatter(neighbors=FOUND, shots=[TRAIN[0]], system="You price things.")
    for item in (TRAIN[5], TEST[5]):
        assert formatter.prompt(item) == formatter.example(item)[:-1]
        assert formatter.prompt(item.text)[-1] == formatter.prompt(replace(item, id="new"))[-1]
    assert NEIGHBORS_HEAD in formatter.prompt(TEST[0])[1]["content"]  # that of the solved example
    assert "Prices of similar products" in formatter.preview(TEST[0])


def test_a_neighbor_takes_one_short_line() -> None:
    long = named("A lamp " + "of brass " * 40, 5)
    lines = named("none", 6, summary="x")
    train = [long, replace(lines, title=None, summary="\n First line: a lamp\nSecond line $3 of a lamp")]
    content = ChatFormatter(neighbors=Neighbors(train)).prompt("a lamp")[0]["content"]
    below = content.partition(f"{NEIGHBORS_HEAD}\n")[2].split("\n")
    assert sorted(below) == sorted(["- First line: a lamp: $6.00", f"- A lamp {'of brass ' * 7}of...: $5.00"])
    assert all(re.fullmatch(r"- .+: \$\d+\.\d\d", line) for line in below)
    assert max(map(len, below)) < 95
    one_word = ChatFormatter(neighbors=Neighbors([named("lamp " + "x" * 200)])).prompt("lamp")[0]["content"]
    assert "- lamp...: $10.00" in one_word
    assert (
        f"- {'y' * 77}...: $10.00"
        in (
            ChatFormatter(neighbors=Neighbors([named("y" * 200, summary="lamp")])).prompt("lamp")[0][
                "content"
            ]
        )
    )


def test_prices_are_written_as_the_reply_is() -> None:
    euros = ItemDataset.from_items([named("brass lamp", 1234.5)], currency="EUR")
    formatter = ChatFormatter(reply="1.199,99 €", currency="EUR", neighbors=Neighbors(euros))
    assert "- brass lamp: 1.234,50 €" in formatter.prompt("lamp")[0]["content"]
    with pytest.raises(DataError, match="the prices of the neighbors are in EUR and those of the formatter"):
        ChatFormatter(currency="CAD", reply="CA$19.99", neighbors=Neighbors(euros))


def test_no_prompt_holds_the_items_own_price_nor_that_of_a_twin() -> None:
    # Each price is one that no other item has, so that it can be told where a price comes from.
    items = [replace(item, price=1000.0 + number) for number, item in enumerate(TRAIN[:80])]
    items += [replace(item, id=f"twin-{item.id}", price=5000.0 + at) for at, item in enumerate(items[:20])]
    formatter = ChatFormatter(neighbors=Neighbors(items))
    shown = 0
    for item in items:
        prices = {price for price, _ in marked_prices(formatter.prompt(item)[0]["content"], "USD")}
        twins = {each.price for each in items if each.text == item.text}
        assert prices.isdisjoint(twins)
        shown += len(prices)
    assert shown > 2 * len(items)


def make_things(count: int, seed: int) -> list[Item]:
    """Products whose kind decides the price, each in other words, so that none is another's twin."""
    draw = random.Random(seed)
    kinds = {"lamp": 20.0, "desk": 200.0, "mug": 8.0, "tent": 120.0}
    made = []
    for _ in range(count):
        kind = draw.choice(list(kinds))
        words = " ".join(f"word{draw.randrange(60)}" for _ in range(8))
        made.append(named(f"{kind} {words}", kinds[kind] * draw.lognormvariate(0, 0.2)))
    return made


def test_shuffled_prices_of_neighbors_make_a_model_worse() -> None:
    """If it were not so, what a model learns from would not be its neighbors' prices."""
    train, test = make_things(150, 0), make_things(40, 1)

    def price_by(train: list[Item], item: Item) -> float:
        below = ChatFormatter(neighbors=neighbors_of[id(train)]).prompt(item)[0]["content"]
        prices = [price for price, _ in marked_prices(below.partition(NEIGHBORS_HEAD)[2], "USD")]
        return float(np.median(prices))

    prices = [item.price for item in train]
    random.Random(2).shuffle(prices)
    shuffled = [replace(item, price=price) for item, price in zip(train, prices, strict=True)]
    neighbors_of = {id(each): Neighbors(each) for each in (train, shuffled)}
    true, wrong = (
        Evaluator(rounds=20).evaluate(partial(price_by, each), test).mae.value for each in (train, shuffled)
    )
    assert true < 0.7 * wrong


def test_files_with_neighbors_are_written_checked_and_paid_for(tmp_path: Path) -> None:
    formatter = ChatFormatter(neighbors=FOUND)
    plain = JsonlWriter().write(TRAIN, tmp_path / "plain.jsonl")
    training = JsonlWriter(formatter).write(TRAIN, tmp_path / "train.jsonl")
    first = json.loads(training.path.read_text().splitlines()[0])["messages"]
    assert first == formatter.example(TRAIN[0])
    assert [p.code for p in check_jsonl(training.path).problems] == [
        p.code for p in check_jsonl(plain.path).problems
    ]
    assert training.formatter == formatter.fingerprint != plain.formatter
    costs = [
        estimate_cost(file, model="m", epochs=1, predictions=100, price=10.0) for file in (plain, training)
    ]
    assert costs[1].trained_tokens > 1.5 * costs[0].trained_tokens
    # Neighbors' prices are in prompts, and no audit takes them for the items' own.
    assert not [each for each in audit(TRAIN).findings if each.kind == "own price in text"]


def test_a_file_is_written_from_a_stream_and_the_wrong_row_is_named(tmp_path: Path) -> None:
    writer = JsonlWriter(ChatFormatter(neighbors=FOUND))
    one = writer.write(TRAIN[:60], tmp_path / "one.jsonl")
    other = writer.write(iter(list(TRAIN[:60])), tmp_path / "other.jsonl")
    assert one.sha256 == other.sha256
    with pytest.raises(InvalidItem, match=r"row 3: item 'x' \(lamp\) has no price"):
        writer.write([*TRAIN[:2], Item(id="x", title="lamp")], tmp_path / "bad.jsonl")


# Fingerprints.


def test_a_fingerprint_holds_all_that_decides_the_neighbors() -> None:
    items = list(LAMPS)
    dearer = [*items[:-1], replace(items[-1], price=99.0)]
    others = [
        Neighbors(items, k=4),
        Neighbors(dearer),
        Neighbors(items[:-1]),
        Neighbors([*items[1:], items[0]]),
        Neighbors([replace(items[0], id="other"), *items[1:]]),
        Neighbors([replace(items[0], title="huge lamp"), *items[1:]]),
        Neighbors([replace(items[0], category="x"), *items[1:]]),
        Neighbors([replace(items[0], full="x"), *items[1:]]),
        Neighbors([replace(items[0], summary="x"), *items[1:]]),
        Neighbors(items, groups=[0, 0, 1, 2, 3, 4]),
        Neighbors(items, embed=embed),
        Neighbors(items, embed=embed_by_length),
        Neighbors(ItemDataset.from_items(items, currency="EUR")),
    ]
    prints = {each.fingerprint for each in others}
    assert len(prints) == 13
    assert Neighbors(items).fingerprint not in prints
    assert Neighbors(items) == Neighbors(LAMPS)
    assert Neighbors(items) != others[0]
    with_neighbors = [ChatFormatter(neighbors=each) for each in (Neighbors(items), others[0])]
    assert len({each.fingerprint for each in [*with_neighbors, ChatFormatter()]}) == 3
    assert with_neighbors[0] == ChatFormatter(neighbors=Neighbors(LAMPS)) != ChatFormatter()
    assert hash(with_neighbors[0]) == hash(ChatFormatter(neighbors=Neighbors(LAMPS)))
    assert with_neighbors[0].for_base("Qwen/Qwen3-8B", "nebius").neighbors is with_neighbors[0].neighbors


def test_asking_with_other_neighbors_than_it_was_trained_with_warns() -> None:
    client = connect("local")
    formatter = ChatFormatter(neighbors=FOUND)
    training = JsonlWriter(formatter).write(TRAIN[:60], "train.jsonl")
    job = FineTuneJob.create(client, training, model="pricer-base", epochs=1, seed=1).wait()
    predictor = job.predictor(formatter)
    found = predictor.predict_many(TEST[:8])
    assert all(each.price for each in found)
    assert predictor.predict(TEST[0]).price == found[0].price
    with pytest.warns(UserWarning, match="fingerprint"):
        job.predictor(ChatFormatter(neighbors=Neighbors(TRAIN[:100])))


# Asking.


def test_many_questions_have_the_prompts_of_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    formatter = ChatFormatter(neighbors=Neighbors(TRAIN))
    items: list[Any] = [*TEST[:20], "A desk lamp by Nordvik", " ", 5]
    searches: list[int] = []
    look = Neighbors._look

    def counted(self: Neighbors, asked: Any) -> Any:
        searches.append(len(asked))
        return look(self, asked)

    monkeypatch.setattr(Neighbors, "_look", counted)

    async def theirs(url: str) -> list[float | None]:
        async with openai.AsyncOpenAI(base_url=url, api_key="x") as client:
            predictor = AsyncPredictor(client, "m", formatter=ChatFormatter(neighbors=Neighbors(TRAIN)))
            first = await predictor.predict(items[0])
            found = list(await predictor.predict_many(items))
            assert first.price == found[0].price
            return [each.price for each in found]

    with StubService() as service:
        with openai.OpenAI(base_url=service.url, api_key="x") as client:
            found = Predictor(client, "m", formatter=formatter).predict_many(items)
        assert searches == [21]
        assert [each.price for each in found] == asyncio.run(theirs(service.url))
    assert [each.price is None for each in found] == [False] * 21 + [True] * 2
    assert "empty text" in str(found[21].error)


def test_what_comes_one_by_one_is_not_waited_for() -> None:
    formatter = ChatFormatter(neighbors=FOUND)
    with StubService() as service, openai.OpenAI(base_url=service.url, api_key="x") as client:
        found = list(Predictor(client, "m", formatter=formatter).iter_predict(iter(TEST[:3])))
    assert all(each.price for each in found)


def test_untuned_models_are_shown_neighbors_too(client: openai.OpenAI) -> None:
    train = things(60)
    rivals = prompting_baselines(client, "base-1", train, shots=3, neighbors=Neighbors(train, k=4))
    assert [each.name for each in rivals] == [
        "base-1, not tuned, zero-shot",
        "base-1, not tuned, 3 solved examples",
        "base-1, not tuned, 4 neighbors",
    ]
    assert rivals[2].formatter == ChatFormatter(neighbors=Neighbors(train, k=4))
    tuned = ChatFormatter(neighbors=Neighbors(train))
    names = [each.name for each in prompting_baselines(client, "m", train, formatter=tuned, shots=2)]
    assert names == ["m, not tuned, 5 neighbors", "m, not tuned, 2 solved examples, 5 neighbors"]


# Threads, processes, copies.


def test_threads_find_the_same_and_copies_share_what_they_stand_on() -> None:
    neighbors = Neighbors(TRAIN)
    expected = [FOUND.of(item) for item in TEST]
    found: dict[int, list[Any]] = {}

    def look(number: int) -> None:
        found[number] = [neighbors.of(item) for item in TEST]

    threads = [threading.Thread(target=look, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(found.values()) == [expected] * 4
    assert deepcopy(neighbors) is neighbors
    copied = pickle.loads(pickle.dumps(ChatFormatter(neighbors=neighbors)))
    assert copied == ChatFormatter(neighbors=neighbors)
    assert copied.prompt(TEST[0]) == ChatFormatter(neighbors=FOUND).prompt(TEST[0])


def test_what_was_found_is_remembered_and_no_more_than_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune_pricer.retrieval._REMEMBERED", 10)
    neighbors = Neighbors(TRAIN)
    assert len(list(neighbors.of_many(TEST))) == 40
    assert len(neighbors._found) == 10
    neighbors.look_up([*TEST[:3], " ", 5])  # type: ignore[list-item]
    monkeypatch.setattr(Neighbors, "_look", None)
    assert neighbors.of(TEST[0]) == FOUND.of(TEST[0])


# Saved and loaded.


def test_what_was_saved_finds_the_same(tmp_path: Path) -> None:
    for number, neighbors in enumerate(
        (Neighbors(TRAIN), Neighbors(TRAIN, k=2, groups=[item.category for item in TRAIN]))
    ):
        neighbors.save(tmp_path / f"{number}/neighbors")
        loaded = Neighbors.load(tmp_path / f"{number}/neighbors")
        assert loaded == neighbors
        assert list(loaded.of_many(TEST)) == list(neighbors.of_many(TEST))
    files = {path.name for path in (tmp_path / "0/neighbors").iterdir()}
    assert files == {"items.parquet", "neighbors.json", "neighbors.npz"}


def test_vectors_are_saved_and_not_asked_for_again(tmp_path: Path) -> None:
    asked: list[str] = []

    def counted(texts: list[str]) -> list[list[float]]:
        asked.extend(texts)
        return embed(texts)

    neighbors = Neighbors(TRAIN, embed=counted)
    neighbors.save(tmp_path / "n")
    Path("home/vectors.sqlite").unlink()
    asked.clear()
    loaded = Neighbors.load(tmp_path / "n", embed=counted)
    assert len(asked) <= 2
    assert list(loaded.of_many(TEST)) == list(neighbors.of_many(TEST))
    with pytest.raises(DataError, match=r"found by the vectors of .*counted; hand that in"):
        Neighbors.load(tmp_path / "n")
    with pytest.raises(DataError, match="gives other vectors than"):
        Neighbors.load(tmp_path / "n", embed=embed_by_length)
    Neighbors(TRAIN[:5]).save(tmp_path / "words")
    with pytest.raises(DataError, match="found by words; load them without embed="):
        Neighbors.load(tmp_path / "words", embed=embed)


def test_files_that_were_changed_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "n"
    with pytest.raises(MissingFile, match=r"there are no neighbors in .*Neighbors.save\(folder\)"):
        Neighbors.load(folder)

    def saved() -> dict[str, Any]:
        Neighbors(LAMPS).save(folder)
        facts: dict[str, Any] = json.loads((folder / "neighbors.json").read_text())
        return facts

    facts = saved()
    LAMPS[:-1].to_parquet(folder / "items.parquet")
    with pytest.raises(DataError, match="not those that were saved there: the fingerprint is"):
        Neighbors.load(folder)
    saved()
    (folder / "neighbors.json").write_text(json.dumps(facts | {"version": 99}))
    with pytest.raises(DataError, match="by another version"):
        Neighbors.load(folder)
    for content in ("[]", "{", '{"k": 5}', "\xff"):
        (folder / "neighbors.json").write_text(content, encoding="latin-1")
        with pytest.raises(DataError, match=r"is not what Neighbors\.save has written"):
            Neighbors.load(folder)
    saved()
    Neighbors(LAMPS, groups=range(6)).save(folder)
    packed = (folder / "neighbors.npz").read_bytes()
    torn = [packed[: len(packed) // 2], packed.replace(b"\5", b"\7"), packed.replace(b"PK\1", b"PK\7")]
    for damaged in (b"PK", *torn, b"\x93NUMPY"):
        (folder / "neighbors.npz").write_bytes(damaged)
        with pytest.raises(DataError, match=r"is not what Neighbors\.save has written"):
            Neighbors.load(folder)
    for labels in (np.array(3), np.array([1, 2])):
        np.savez(folder / "neighbors.npz", labels=labels)
        with pytest.raises(DataError, match=r"is of other items than items\.parquet"):
            Neighbors.load(folder)
    (folder / "neighbors.npz").unlink()
    with pytest.raises(FileAccessError, match="cannot read"):
        Neighbors.load(folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileAccessError, match="cannot write"):
        Neighbors(LAMPS).save(tmp_path / "file")


# Vectors of the user's.


def test_each_text_is_asked_for_once_and_kept_on_disk() -> None:
    asked: list[list[str]] = []

    def counted(texts: list[str]) -> Any:
        asked.append(texts)
        return np.array(embed(texts), dtype=np.float32)

    neighbors = Neighbors(TRAIN, embed=counted)
    assert sum(map(len, asked)) == len({item.text for item in TRAIN}) + 1  # one to know the function again
    assert max(map(len, asked)) <= 256
    before = len(asked)
    found = list(neighbors.of_many([*TRAIN[:50], *TEST]))
    assert len(asked) == before + 1  # those of TEST
    again = Neighbors(TRAIN, embed=counted)
    assert sum(map(len, asked[before + 1 :])) == 1
    assert list(again.of_many([*TRAIN[:50], *TEST])) == found


def test_two_functions_of_one_name_do_not_share_vectors() -> None:
    def make(scale: float) -> Callable[[list[str]], Any]:
        def encode(texts: list[str]) -> Any:
            rows = np.array(embed(texts))
            return rows if scale == 1 else rows[:, ::-1] ** scale

        return encode

    first, second = (Neighbors(LAMPS, embed=make(scale)) for scale in (1, 3))
    expected = np.array(embed(["x" * 9])) ** 3
    expected = expected[:, ::-1] / np.linalg.norm(expected)
    assert first._vectors is not None
    assert second._vectors is not None
    assert first._vectors.name == second._vectors.name
    first.of("x" * 9)
    assert np.allclose(second._vectors.of(["x" * 9]), expected, atol=1e-6)


BAD: dict[str, tuple[Callable[[list[str]], Any], str]] = {
    "nothing": (lambda texts: None, "gave None"),
    "one number": (lambda texts: 5.0, "gave 5.0"),
    "too few": (lambda texts: embed(texts)[:-1], "numbers for"),
    "one vector": (lambda texts: embed(texts)[0], "gave 26 numbers"),
    "no numbers": (lambda texts: [[] for _ in texts], "0 numbers for"),
    "texts": (lambda texts: [["a", "b"] for _ in texts], "could not convert string"),
    "ragged": (lambda texts: [[1.0] * (2 + at % 2) for at, _ in enumerate([*texts, 1])][1:], "gave"),
    "not a number": (lambda texts: [[float("nan"), 1.0] for _ in texts], "what is no finite number for the"),
    "infinite": (lambda texts: [[float("inf"), 1.0] for _ in texts], "what is no finite number for the text"),
    "zeros": (lambda texts: [[0.0, 0.0] for _ in texts], "gave zeros for the text 'A brass desk lamp"),
    "other length": (
        lambda texts: [[1.0] * (2 if text.startswith(("A brass", "red")) else 3) for text in texts],
        "",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_vector_is_refused_in_our_words(name: str) -> None:
    wrong, words = BAD[name]
    with pytest.raises(DataError, match=r"must give a vector of finite numbers for each text") as caught:
        Neighbors(LAMPS, embed=wrong)
    assert words in str(caught.value)


def test_a_length_that_changes_later_is_refused(tmp_path: Path) -> None:
    length = [4]

    def give(texts: Sequence[str]) -> list[list[float]]:
        return [[1.0] * length[0] for _ in texts]

    made = Neighbors(LAMPS, embed=give)
    made.save(tmp_path)
    loaded = Neighbors.load(tmp_path, embed=give)
    length[0] = 5
    for neighbors in (made, loaded):
        with pytest.raises(DataError, match="gave one of 5 numbers, and of 4 before"):
            neighbors.of(f"a lamp of another kind than {id(neighbors)}")


def test_a_coroutine_function_is_refused() -> None:
    async def later(texts: list[str]) -> Any:
        return embed(texts)

    with pytest.raises(DataError, match="gave an awaitable; hand in a function that waits by itself"):
        Neighbors(LAMPS, embed=later)


def test_an_error_of_the_function_is_the_users_own_and_what_came_before_is_kept() -> None:
    calls: list[int] = []

    def failing(texts: list[str]) -> Any:
        calls.append(len(texts))
        if len(calls) == 3:
            raise ConnectionResetError("no answer")
        return embed(texts)

    items = [named(f"lamp number {number}") for number in range(400)]
    with pytest.raises(ConnectionResetError):
        Neighbors(items, embed=failing)
    assert calls == [1, 256, 144]
    Neighbors(items, embed=failing)
    assert calls[3:] == [1, 144]


def test_without_a_place_to_keep_vectors_they_are_asked_for_each_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FINETUNE_PRICER_HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING, "finetune_pricer"):
        neighbors = Neighbors(LAMPS, k=2, embed=embed)
        assert len(neighbors.of("a lamp of steel")) == 2
    assert caplog.text.count("vectors are not kept in") == 1


def test_a_function_is_named_without_what_differs_between_processes() -> None:
    class Model:
        def encode(self, texts: list[str], scale: float = 1.0, extra: object = None) -> Any:
            return embed(texts)

        def __call__(self, texts: list[str]) -> Any:
            return embed(texts)

    bound = partial(Model().encode, scale=2.0, extra=Model())
    for function, name in (
        (bound, "Model.encode(scale=2.0, extra=Model)"),
        (Model(), "Model"),
        (embed, "embed"),
    ):
        neighbors = Neighbors(LAMPS, embed=function)
        assert neighbors._vectors is not None
        assert neighbors._vectors.name.endswith(name)
        assert "0x" not in repr(neighbors)


def test_dense_vectors_find_what_their_cosines_say() -> None:
    texts = [item.text for item in TRAIN]
    vectors = np.array(embed(texts))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = range(len(TRAIN))
    neighbors = Neighbors(TRAIN, k=3, embed=embed, groups=labels)
    query = "A bright lamp of no other kind"
    own = np.array(embed([query]))[0]
    order = np.argsort(-(vectors @ own), kind="stable")[:3]
    assert [near.item.id for near in neighbors.of(query)] == [TRAIN[int(at)].id for at in order]


# Wrong calls.


def test_items_without_prices_are_refused_by_their_rows() -> None:
    items = [named("lamp"), Item(title="mug"), named("desk"), *[Item(title=f"pan {n}") for n in range(9)]]
    with pytest.raises(InvalidItem, match=r"10 of 12 items have none: row 2, 4, 5, 6, 7 and 5 more; leave"):
        Neighbors(items)
    with pytest.raises(InvalidItem, match=r"row 1, item .* has a price of 0, and a neighbor must know"):
        Neighbors([named("lamp", 0.0)])
    free = ItemDataset.from_items([named("lamp", 0.0)], zero_is="price")
    assert titles(Neighbors(free), "a lamp") == ["lamp"]
    with pytest.raises(DataError, match="no items to find neighbors among"):
        Neighbors([])


def test_wrong_calls_say_what_is_wanted() -> None:
    with pytest.raises(WrongArgument, match="k must be a whole number of at least 1, not 0"):
        Neighbors(LAMPS, k=0)
    with pytest.raises(WrongArgument, match="embed must be a function from a list of texts to vectors"):
        Neighbors(LAMPS, embed="text-embedding-3-small")  # type: ignore[arg-type]
    with pytest.raises(InvalidItem, match="an empty text has no neighbors"):
        FOUND.of(" ")
    with pytest.raises(InvalidItem, match="row 2: an empty text"):
        list(FOUND.of_many(["a lamp", ""]))
    with pytest.raises(InvalidItem, match="row 2: an item must be an Item or a text"):
        list(FOUND.of_many(iter(["a lamp", 5])))  # type: ignore[arg-type]
    with pytest.raises(
        WrongArgument, match=r"neighbors must be Neighbors of priced items, not an ItemDataset"
    ):
        ChatFormatter(neighbors=TRAIN)  # type: ignore[arg-type]


def test_without_scipy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nearest", "twins", "features"):
        monkeypatch.setitem(sys.modules, f"finetune_pricer._methods.{name}", None)
    with pytest.raises(MissingExtra, match=r"need scipy.*finetune-pricer\[index\]"):
        Neighbors(LAMPS)


def test_it_shows_how_many_there_are() -> None:
    assert repr(FOUND) == "Neighbors(200 items, k=5)"
    assert re.fullmatch(r"Neighbors\(6 items, k=5, embed=\S+\.embed\)", repr(Neighbors(LAMPS, embed=embed)))
    assert len(FOUND) == 200
