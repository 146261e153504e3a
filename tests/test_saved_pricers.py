"""A pricer that was saved prices as before when it is loaded; what is no whole saved pricer is refused."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import respx

from evaluate_helpers import things
from finetune_pricer import (
    ChatFormatter,
    Ensemble,
    FineTuneJob,
    Item,
    ItemDataset,
    Neighbors,
    Predictor,
    aio,
    connect,
    load_pricer,
)
from finetune_pricer.errors import (
    DataError,
    FileAccessError,
    MissingFile,
    NotConfigured,
    NotSupported,
    PricerError,
    WrongArgument,
)
from finetune_pricer.evaluate import (
    FITTED,
    Baseline,
    CategoryMedianBaseline,
    FittingData,
    MedianBaseline,
    NeighborsBaseline,
    PricesMany,
    RidgeBaseline,
    prompting_baselines,
)
from finetune_pricer.predict import plain_forms, saved_pricer
from finetune_pricer.tune import JobRecord

TRAIN, KNOWN, NEW = things(120), things(60, seed=2, start=2_000), things(40, seed=3, start=3_000)
FILE = Path("pricer") / "pricer.json"


def answer(price: str = "$20.00") -> httpx.Response:
    choice = {"index": 0, "message": {"role": "assistant", "content": price}, "finish_reason": "stop"}
    return httpx.Response(200, json={"id": "c", "model": "m", "choices": [choice]})


@pytest.fixture
def asked(service: respx.MockRouter) -> list[dict[str, Any]]:
    """What the service is asked; it answers with a price of the text's length."""
    bodies: list[dict[str, Any]] = []

    def reply(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        said = bodies[-1]["messages"][-1]["content"]
        return answer(f"{len(said)},00 €" if said.startswith("Wie viel") else f"${len(said)}.00")

    service.post("/chat/completions").mock(side_effect=reply)
    return bodies


# Baselines.


@pytest.mark.parametrize("kind", FITTED)
@pytest.mark.parametrize("by", ["category", None])
def test_a_loaded_baseline_gives_the_same_prices_and_ranges_to_the_bit(kind: type[Baseline], by: Any) -> None:
    plain = kind.fit(TRAIN, fields=("title", "category"))
    baseline = plain.calibrate(KNOWN, coverage=0.8, by=by)
    baseline.save("pricer")
    for load in (load_pricer, Baseline.load, kind.load):
        loaded = load("pricer")
        assert type(loaded) is kind
        assert list(loaded.predict_many(NEW)) == list(baseline.predict_many(NEW))
        assert loaded.ranges == baseline.ranges
    with pytest.raises(DataError, match="120 of 120 items"):
        loaded.calibrate(TRAIN)
    plain.save("plain")
    assert Baseline.load("plain").ranges is None


@pytest.mark.parametrize("kind", FITTED)
def test_a_loaded_baseline_needs_no_scikit_learn(
    kind: type[Baseline], monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline = kind.fit(TRAIN)
    baseline.save("pricer")
    for part in ("sklearn", "sklearn.neighbors", "sklearn.linear_model"):
        monkeypatch.setitem(sys.modules, part, None)
    assert list(load_pricer("pricer").predict_many(NEW)) == list(baseline.predict_many(NEW))


def test_the_prices_of_ridge_are_those_of_scikit_learn() -> None:
    from sklearn.linear_model import Ridge

    data = FittingData(TRAIN)
    model = Ridge(alpha=1.0).fit(data.rows, np.log1p(data.prices))
    rows = data.features.transform([item.text for item in NEW])
    found = RidgeBaseline.fit(TRAIN).prices(NEW)
    ends = np.log1p([data.prices.min(), data.prices.max()])
    assert found == pytest.approx(list(np.expm1(np.clip(model.predict(rows), *ends))))


@pytest.mark.parametrize("currency", ["EUR", None])
def test_a_currency_and_that_nobody_named_one_are_kept(currency: str | None) -> None:
    items = TRAIN if currency is None else ItemDataset.from_items(TRAIN, currency=currency)
    baseline = MedianBaseline.fit(items)
    baseline.save("pricer")
    loaded = Baseline.load("pricer")
    assert (loaded.currency, type(loaded.currency)) == (baseline.currency, type(baseline.currency))
    assert loaded.predict_many(NEW)[0].currency == (currency or "USD")


def test_words_of_any_script_and_unknown_categories_are_kept() -> None:
    odd = ItemDataset.from_items(
        Item(
            id=f"\N{PILE OF POO}{n}",
            title=f"Lämpchen 灯 {n % 5}",
            category=None if n % 2 else "\N{SNOWMAN}",
            price=n + 1.0,
        )
        for n in range(30)
    )
    for kind in FITTED:
        baseline = kind.fit(odd)
        baseline.save("pricer")
        assert list(load_pricer("pricer").predict_many(odd)) == list(baseline.predict_many(odd))


class Doubled(MedianBaseline):
    """Somebody's own baseline, which has the methods that saving needs."""

    name = "twice the median"

    def prices(self, items: Sequence[Item]) -> Sequence[float]:
        return [2 * self.price] * len(items)


class Unsaved(Baseline):
    """Somebody's own baseline, which has not."""

    name = "one"

    @classmethod
    def learn(cls, data: FittingData) -> "Unsaved":
        return cls()

    def prices(self, items: Sequence[Item]) -> Sequence[float]:
        return [1.0] * len(items)


def test_a_baseline_of_ones_own_is_saved_where_it_says_what_it_has_learned() -> None:
    Doubled.fit(TRAIN).save("pricer")
    loaded = load_pricer("pricer")
    assert isinstance(loaded, Doubled)
    assert loaded.predict(NEW[0]).price == Doubled.fit(TRAIN).predict(NEW[0]).price
    with pytest.raises(NotSupported, match=r"Unsaved cannot be saved: it has no state\(\)"):
        Unsaved.fit(TRAIN).save("other")
    assert not Path("other").exists()


def test_arrays_of_objects_are_neither_written_nor_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="hold objects"):
        plain_forms.write_arrays(tmp_path, {"a": np.array([object()])})
    np.savez(tmp_path / "arrays.npz", a=np.array([{"x": 1}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        plain_forms.read_arrays(tmp_path)


# Predictors.

SHOTS = [
    Item(id="s1", title="Mug", price=7.0),
    Item(title="Jug", summary="of clay", category="home", price=9.5),
]
FORMATTERS = {
    "the default": ChatFormatter(),
    "all said": ChatFormatter(
        "Wie viel?", system="Sei knapp.", reply="19,99 €", currency="EUR", fields=("title",), shots=SHOTS
    ),
    "of another currency": ChatFormatter(currency="GBP"),
    "of a base that thinks": ChatFormatter().for_base("Qwen/Qwen3-8B", "nebius"),
    "without words": ChatFormatter(""),
}


@pytest.mark.parametrize("name", FORMATTERS)
def test_a_loaded_formatter_writes_the_same_messages(name: str, client: openai.OpenAI) -> None:
    formatter = FORMATTERS[name]
    Predictor(client, "m", formatter=formatter).save("pricer")
    loaded = Predictor.load("pricer", client).formatter
    assert loaded.fingerprint == formatter.fingerprint
    assert loaded.prompt(NEW[0]) == formatter.prompt(NEW[0])
    assert loaded.example(NEW[0]) == formatter.example(NEW[0])
    assert loaded == formatter
    assert list(loaded.shots) == list(formatter.shots)


def test_every_parameter_of_a_formatter_is_saved(client: openai.OpenAI) -> None:
    Predictor(client, "m").save("pricer")
    saved = json.loads(FILE.read_text(encoding="utf-8"))["content"]["formatter"]
    assert saved.keys() == {entry.name for entry in fields(ChatFormatter) if entry.init} | {"fingerprint"}


def test_a_loaded_predictor_asks_the_same_and_gives_the_same_prices_and_ranges(
    client: openai.OpenAI, asked: list[dict[str, Any]]
) -> None:
    made = Predictor(
        client,
        "ft:m",
        formatter=FORMATTERS["all said"],
        decoding="median",
        samples=3,
        highest=500.0,
        concurrency=2,
        requests_per_minute=6_000.0,
        answer_parameters={"top_p": 0.9, "chat_template_kwargs": {"enable_thinking": False}},
    )
    known = ItemDataset.from_items(KNOWN, currency="EUR")
    made = made.calibrate(known, by="price")
    made.save("pricer")
    loaded = Predictor.load("pricer", client)
    asked.clear()
    first = made.predict_many(NEW[:5])
    halfway = len(asked)
    second = loaded.predict_many(NEW[:5])
    assert [replace(one, latency=0.0) for one in first] == [replace(one, latency=0.0) for one in second]
    assert first[0].low is not None
    assert sorted(map(json.dumps, asked[:halfway])) == sorted(map(json.dumps, asked[halfway:]))
    assert (loaded.concurrency, loaded._limits) == (made.concurrency, made._limits)
    assert repr(loaded) == repr(made)


def test_calibrated_by_category_it_gives_the_same_ranges_to_each_item(
    client: openai.OpenAI, asked: list[dict[str, Any]]
) -> None:
    assert asked == []
    rare = [replace(item, category=category) for item, category in zip(KNOWN, (None, "rare"), strict=False)]
    made = Predictor(client, "m").calibrate([*KNOWN, *rare], by="category")
    made.save("pricer")
    loaded = Predictor.load("pricer", client)
    assert loaded.ranges == made.ranges
    new = [*NEW, replace(NEW[0], category="unseen"), replace(NEW[1], category=None)]
    ends = [[(one.low, one.high) for one in each.predict_many(new)] for each in (made, loaded)]
    assert ends[0] == ends[1]


SECRETS: list[dict[str, Any]] = [
    {"metadata": {"k": "sk-1234"}},
    {"stop": ["sk-1234"]},
    {"extra_body": {"tools": [{"headers": ["hf_1234"]}]}},
    {"metadata": {"sk-1234": "x"}},
    {"extra_headers": {"X-Api-Key": "0123456789abcdef"}},
    {"extra_headers": {"authorization": "Basic dXNlcjpwYXNz"}},
    {"extra_query": {"access_token": "0123456789abcdef"}},
]


def test_what_is_saved_holds_no_key_no_address_and_no_pickle_and_is_read_by_people(
    client: openai.OpenAI,
) -> None:
    made = Predictor(client, "ft:m", store="answers.sqlite")
    made.save("pricer")
    text = FILE.read_text(encoding="utf-8")
    assert [path.name for path in Path("pricer").iterdir()] == ["pricer.json"]
    assert client.api_key not in text
    assert "answers.sqlite" not in text
    assert '\n    "model": "ft:m",\n    "provider": "service.test"' in text
    for secret in SECRETS:
        with pytest.raises(DataError, match="looks like a key"):
            Predictor(client, "m", answer_parameters=secret).save("other")
    Predictor(client, "m", answer_parameters={"extra_headers": {"X-Team": "prices"}}).save("headers")
    assert not Path("other").exists()


def test_without_a_client_the_saved_service_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEBIUS_API_KEY", "a-key")
    Predictor(connect("nebius"), "meta-llama/Llama-3.1-8B-Instruct-LoRa").save("pricer")
    assert "a-key" not in FILE.read_text(encoding="utf-8")
    loaded = Predictor.load("pricer")
    assert loaded.service == "nebius"
    assert loaded._client.api_key == "a-key"
    of_async = aio.AsyncPredictor.load("pricer")
    assert isinstance(of_async, aio.AsyncPredictor)
    assert isinstance(of_async._client, openai.AsyncOpenAI)
    monkeypatch.delenv("NEBIUS_API_KEY")
    with pytest.raises(NotConfigured, match="NEBIUS_API_KEY"):
        Predictor.load("pricer")


def test_a_service_that_nobody_knows_needs_a_client(client: openai.OpenAI) -> None:
    Predictor(client, "m").save("pricer")
    with pytest.raises(
        NotConfigured, match=r"'service.test', which connect\(\) does not know.*load\(folder, client\)"
    ):
        Predictor.load("pricer")


def test_async_code_saves_and_loads_the_same_folders(client: openai.OpenAI) -> None:
    aclient = openai.AsyncOpenAI(api_key="sk-x", base_url="https://service.test/v1")
    aio.AsyncPredictor(aclient, "m", samples=2).save("pricer")
    assert repr(Predictor.load("pricer", client)) == repr(Predictor(client, "m", samples=2))
    loaded = aio.AsyncPredictor.load("pricer", aclient)
    assert isinstance(loaded, aio.AsyncPredictor)
    with pytest.raises(WrongArgument, match="client must be"):
        Predictor.load("pricer", aclient)  # type: ignore[arg-type]
    with pytest.raises(WrongArgument, match="client must be"):
        aio.AsyncPredictor.load("pricer", client)  # type: ignore[arg-type]


def test_what_a_run_is_given_is_given_anew(client: openai.OpenAI, asked: list[dict[str, Any]]) -> None:
    Predictor(client, "m").save("pricer")
    for _ in range(2):
        Predictor.load("pricer", client, store="answers.sqlite").predict_many(NEW[:3])
    assert len(asked) == 3
    with pytest.raises(DataError, match="what asking 'm' costs is not known"):
        Predictor.load("pricer", client, budget=1.0)


def test_a_job_asks_with_a_loaded_formatter_without_a_warning_and_warns_of_another(
    client: openai.OpenAI,
) -> None:
    formatter = ChatFormatter("How much?")
    record = JobRecord(
        id="ftjob-1",
        status="succeeded",
        fine_tuned_model="ft:m",
        metadata={"formatter": formatter.fingerprint},
    )
    Predictor(client, "ft:m", formatter=formatter).save("pricer")
    job = FineTuneJob(client, record)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        job.predictor(Predictor.load("pricer", client).formatter)


def embed_by_length(texts: list[str]) -> list[list[float]]:
    return [[1.0, len(text) / 10.0, text.count("e") / 3.0] for text in texts]


@pytest.mark.parametrize("embed", [None, embed_by_length], ids=["words", "vectors"])
def test_a_loaded_pricer_finds_the_same_neighbors(client: openai.OpenAI, embed: Any) -> None:
    formatter = ChatFormatter(neighbors=Neighbors(TRAIN, k=3, embed=embed))
    Predictor(client, "m", formatter=formatter).save("pricer")
    loaded = Predictor.load("pricer", client, embed=embed_by_length).formatter
    assert loaded.fingerprint == formatter.fingerprint
    for item in (TRAIN[5], NEW[0], NEW[1]):
        assert loaded.prompt(item) == formatter.prompt(item)
    kept = next(Path("pricer").glob("parts-*/neighbors/*"))
    kept.write_bytes(kept.read_bytes() + b" ")
    with pytest.raises(DataError, match=f"its part 'neighbors/{kept.name}' is another"):
        Predictor.load("pricer", client, embed=embed_by_length)
    with pytest.raises(WrongArgument, match="embed must be a function from texts to vectors"):
        Predictor.load("pricer", client, embed="minilm")  # type: ignore[arg-type]


def test_neighbors_by_a_function_need_it_again(client: openai.OpenAI) -> None:
    formatter = ChatFormatter(neighbors=Neighbors(TRAIN, k=3, embed=embed_by_length))
    Predictor(client, "m", formatter=formatter).save("pricer")
    with pytest.raises(DataError, match="embed"):
        Predictor.load("pricer", client)


class MyFormatter:
    """Somebody's own formatter."""

    fingerprint, currency, reply, fields, think_block, shots = "x", "USD", "$19.99", ("title",), "", ()

    def prompt(self, item: Item | str) -> list[dict[str, str]]:
        return [{"role": "user", "content": str(item)}]

    def read(self, reply: str) -> float:
        return 1.0


def test_a_formatter_of_ones_own_cannot_be_saved(client: openai.OpenAI) -> None:
    made = Predictor(client, "m", formatter=MyFormatter())  # type: ignore[arg-type]
    with pytest.raises(NotSupported, match="MyFormatter cannot be saved"):
        made.save("pricer")
    assert not Path("pricer").exists()


def test_a_prompted_baseline_keeps_its_name(client: openai.OpenAI) -> None:
    _, solved = prompting_baselines(client, "m", TRAIN, shots=2)
    solved.save("pricer")
    loaded = load_pricer("pricer", client)
    assert isinstance(loaded, Predictor)
    assert vars(loaded)["name"] == solved.name
    assert loaded.formatter.prompt(NEW[0]) == solved.formatter.prompt(NEW[0])


# Ensembles.


def test_a_loaded_ensemble_gives_the_same_prices_ranges_and_page(
    client: openai.OpenAI, asked: list[dict[str, Any]]
) -> None:
    members: list[PricesMany] = [
        MedianBaseline.fit(TRAIN),
        Predictor(client, "m"),
        RidgeBaseline.fit(TRAIN),
        NeighborsBaseline.fit(TRAIN),
    ]
    ensemble = Ensemble(members).fit(KNOWN).calibrate(things(50, seed=7, start=7_000))
    ensemble.save("pricer")
    assert isinstance(load_pricer("pricer", client), Ensemble)
    for store in (None, "answers.sqlite"):
        loaded = Ensemble.load("pricer", client, store=store)
        assert str(loaded) == str(ensemble)
        assert (loaded.weights, loaded.space, loaded.ranges) == (
            ensemble.weights,
            ensemble.space,
            ensemble.ranges,
        )
        found, before = (
            [replace(one, latency=0.0) for one in each.predict_many(NEW)] for each in (loaded, ensemble)
        )
        assert found == before
    with pytest.raises(DataError, match="60 of 60 items"):
        loaded.calibrate(KNOWN)
    assert asked
    saved = {path.name for path in Path("pricer").glob("parts-*/members/*")}
    assert saved == {str(place) for place, weight in enumerate(ensemble.weights.values()) if weight}
    loaded.save("again")
    assert load_pricer("again", client).predict(NEW[0]).price == before[0].price
    assert 0 in ensemble.weights.values()
    with pytest.raises(DataError, match="members of weight 0 are not saved"):
        loaded.fit(things(50, seed=8, start=8_000))


def test_an_ensemble_of_ensembles_is_saved_whole() -> None:
    inner = Ensemble([RidgeBaseline.fit(TRAIN), CategoryMedianBaseline.fit(TRAIN)]).fit(KNOWN)
    outer = Ensemble([inner, MedianBaseline.fit(TRAIN)]).fit(things(50, seed=7, start=7_000))
    outer.save("pricer")
    assert list(load_pricer("pricer").predict_many(NEW)) == list(outer.predict_many(NEW))


def test_a_member_that_cannot_be_saved_is_named_before_anything_is_written() -> None:
    class Stranger:
        name = "a stranger"

        def predict_many(self, items: Any) -> Any:
            return MedianBaseline.fit(TRAIN).predict_many(items)

    with pytest.raises(
        NotSupported, match="a stranger cannot be saved with the ensemble: a Stranger has no save"
    ):
        Ensemble([Stranger()]).fit(KNOWN).save("pricer")
    assert not Path("pricer").exists()


def test_members_of_several_services_are_asked_at_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEBIUS_API_KEY", "n-key")
    monkeypatch.setenv("OPENAI_API_KEY", "o-key")
    nebius, other = connect("nebius"), connect("openai")
    ensemble = Ensemble([Predictor(nebius, "a"), Predictor(other, "b")])
    fit = Ensemble([MedianBaseline.fit(TRAIN), CategoryMedianBaseline.fit(TRAIN)]).fit(KNOWN)._require_fit()
    half = [replace(member, weight=0.5) for member in fit.members]
    ensemble._restore(replace(fit, members=tuple(half)), ensemble._members, None)
    ensemble.save("pricer")
    loaded = Ensemble.load("pricer", nebius)
    services = [
        (member.service, member._client) for member in loaded._members if isinstance(member, Predictor)
    ]
    assert [name for name, _ in services] == ["nebius", "openai"]
    assert services[0][1] is nebius
    assert services[1][1].api_key == "o-key"


# The folder.


def test_the_doors_say_what_a_folder_holds() -> None:
    MedianBaseline.fit(TRAIN).save("pricer")
    doors: list[Any] = [Predictor, Ensemble, RidgeBaseline, aio.AsyncPredictor]
    for door in doors:
        with pytest.raises(DataError, match=r"holds a MedianBaseline, not a.*load_pricer\(folder\) whatever"):
            door.load("pricer")


def test_what_is_no_saved_pricer_is_refused() -> None:
    for place in ("nowhere", "."):
        with pytest.raises(MissingFile, match="there is no saved pricer in"):
            load_pricer(place)
    Path("file").write_text("x", encoding="utf-8")
    with pytest.raises(MissingFile):
        load_pricer("file")
    FILE.parent.mkdir()
    for foreign in ("", "[]", "5", '{"name": "mine"}', "\x00", '{"format": 1, "kind": "x"}'):
        FILE.write_text(foreign, encoding="utf-8")
        with pytest.raises(DataError, match="'pricer' is not a saved pricer; name a folder that save"):
            load_pricer("pricer")


def test_a_newer_format_and_an_unknown_kind_say_so() -> None:
    MedianBaseline.fit(TRAIN).save("pricer")
    head = json.loads(FILE.read_text(encoding="utf-8"))
    FILE.write_text(json.dumps(head | {"format": 2}), encoding="utf-8")
    with pytest.raises(DataError, match="has format 2, this version reads 1; update finetune-pricer"):
        load_pricer("pricer")
    rewrite(lambda head: head.update(kind="Oracle"))
    with pytest.raises(DataError, match="holds an Oracle, which is no class of this version"):
        load_pricer("pricer")


def rewrite(change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the file, and make its hash the right one."""
    head = json.loads(FILE.read_text(encoding="utf-8"))
    head["format"] = 1
    change(head)
    head.pop("sha256")
    FILE.write_text(json.dumps({**head, "sha256": saved_pricer._hash(head)}), encoding="utf-8")


def test_whatever_is_changed_is_noticed() -> None:
    baseline = RidgeBaseline.fit(TRAIN).calibrate(KNOWN)
    baseline.save("pricer")
    shutil.copytree("pricer", "whole")
    for path in sorted(Path("pricer").rglob("*")):
        if path.is_dir():
            continue
        content = path.read_bytes()
        for place in range(0, len(content), max(1, len(content) // 15)):
            changed = bytearray(content)
            changed[place] ^= 1
            path.write_bytes(changed)
            with pytest.raises(DataError, match="'pricer'"):
                load_pricer("pricer")
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(DataError, match="'pricer'"):
            load_pricer("pricer")
        path.unlink()
        with pytest.raises(PricerError, match="'pricer'"):
            load_pricer("pricer")
        path.write_bytes(content)
    assert list(load_pricer("pricer").predict_many(NEW)) == list(baseline.predict_many(NEW))


def test_a_forged_folder_ends_in_an_error_of_ours_and_removes_nothing_else(client: openai.OpenAI) -> None:
    Predictor(client, "m").save("pricer")
    Path("precious").mkdir()
    Path("precious/file").write_text("x", encoding="utf-8")
    rewrite(lambda head: head["content"].pop("formatter"))
    with pytest.raises(DataError, match="damaged pricer"):
        load_pricer("pricer", client)
    rewrite(lambda head: head.update(parts="../precious"))
    Predictor(client, "m").save("pricer")
    assert Path("precious/file").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"parts": 3},
        {"parts": "../precious"},
        {"files": None},
        {"files": ["a"]},
        {"files": {"a\0b": "x"}},
        {"files": {"a" * 5_000: "x"}},
        {"files": {"..": "x"}},
        {"kind": 3},
        {"kind": []},
        {"content": []},
        {"files": {}, "parts": None},
    ],
    ids=range(11),
)
def test_a_forged_file_ends_in_an_error_of_ours(change: dict[str, Any]) -> None:
    RidgeBaseline.fit(TRAIN).save("pricer")
    rewrite(lambda head: head.update(change))
    with pytest.raises(PricerError, match=r"pricer'|pricer/"):
        load_pricer("pricer")


def test_a_part_that_is_no_file_or_no_archive_ends_in_an_error_of_ours() -> None:
    RidgeBaseline.fit(TRAIN).save("pricer")
    arrays = next(Path("pricer").glob("parts-*/arrays.npz"))
    arrays.write_bytes(arrays.read_bytes()[:100])
    found = saved_pricer._hash_file(arrays)
    rewrite(lambda head: head["files"].update({"arrays.npz": found}))
    with pytest.raises(DataError, match=r"arrays\.npz' holds no arrays of numbers, or was damaged"):
        load_pricer("pricer")
    arrays.unlink()
    arrays.mkdir()
    with pytest.raises(FileAccessError, match=r"cannot read .*arrays\.npz"):
        load_pricer("pricer")


def test_an_edited_formatter_is_refused_although_the_hash_is_right(client: openai.OpenAI) -> None:
    Predictor(client, "m").save("pricer")
    rewrite(lambda head: head["content"]["formatter"].update(instruction="Guess!"))
    with pytest.raises(DataError, match="the model would be asked in other words"):
        Predictor.load("pricer", client)


def test_saving_again_replaces_the_pricer_as_a_whole_and_leaves_nothing_behind() -> None:
    RidgeBaseline.fit(TRAIN).save("pricer")
    Path("pricer/notes.txt").write_text("mine", encoding="utf-8")
    MedianBaseline.fit(TRAIN).save("pricer")
    CategoryMedianBaseline.fit(TRAIN).save("pricer")
    assert isinstance(load_pricer("pricer"), CategoryMedianBaseline)
    assert len(list(Path("pricer").glob("parts-*"))) == 1
    assert Path("pricer/notes.txt").exists()


def test_a_folder_with_a_file_of_that_name_that_is_none_of_ours_is_not_touched() -> None:
    FILE.parent.mkdir()
    FILE.write_text('{"mine": 1}', encoding="utf-8")
    with pytest.raises(DataError, match="is not that of a saved pricer, and is not replaced"):
        MedianBaseline.fit(TRAIN).save("pricer")
    assert FILE.read_text(encoding="utf-8") == '{"mine": 1}'
    assert list(Path("pricer").iterdir()) == [FILE]


def test_what_fails_on_the_way_leaves_the_old_pricer_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = MedianBaseline.fit(TRAIN), RidgeBaseline.fit(TRAIN)

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(saved_pricer, "sync_file", fail)
        with pytest.raises(FileAccessError, match="cannot save in 'pricer': No space left"):
            second.save("pricer")
    assert not Path("pricer").exists()
    first.save("pricer")
    with monkeypatch.context() as broken:
        broken.setattr(saved_pricer, "sync_file", fail)
        with pytest.raises(FileAccessError):
            second.save("pricer")
    assert isinstance(load_pricer("pricer"), MedianBaseline)
    assert len(list(Path("pricer").glob("parts-*"))) == 1
    Path("a file").write_text("x", encoding="utf-8")
    with pytest.raises(FileAccessError, match="cannot save in 'a file'"):
        first.save("a file")


SAVE = """
import os, signal, sys
from finetune_pricer.evaluate import Baseline
from finetune_pricer.predict import saved_pricer
baseline, left = Baseline.load("other"), int(sys.argv[1])
def die(*_, **__):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
real_open, real_replacing = saved_pricer._hash_file, saved_pricer.replacing
def hash_file(path):
    die()
    return real_open(path)
def replacing(path):
    die()
    return real_replacing(path)
saved_pricer._hash_file, saved_pricer.replacing = hash_file, replacing
saved_pricer.shutil.rmtree = die
print(repr(baseline("A desk of size giant, model 3")), flush=True)
baseline.save("pricer")
"""


@pytest.mark.parametrize("step", [3, 4], ids=["before the file is put in place", "after that"])
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_process_that_is_killed_while_it_saves_leaves_the_old_pricer_or_the_new_one(step: int) -> None:
    MedianBaseline.fit(TRAIN).save("pricer")
    ridge = RidgeBaseline.fit(TRAIN)
    ridge.save("other")
    command = [sys.executable, "-c", SAVE, str(step)]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert float(done.stdout) == ridge("A desk of size giant, model 3")
    assert type(load_pricer("pricer")) is (MedianBaseline if step == 3 else RidgeBaseline)
    CategoryMedianBaseline.fit(TRAIN).save("pricer")
    assert isinstance(load_pricer("pricer"), CategoryMedianBaseline)


def test_who_loads_while_another_saves_gets_the_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    MedianBaseline.fit(TRAIN).save("pricer")
    real, times = saved_pricer._hash_file, [0]

    def hash_file(path: Path) -> str:
        times[0] += 1
        if times[0] == 1:
            CategoryMedianBaseline.fit(TRAIN).save("pricer")
        return real(path)

    monkeypatch.setattr(saved_pricer, "_hash_file", hash_file)
    assert isinstance(load_pricer("pricer"), CategoryMedianBaseline)


def test_a_folder_may_be_moved(tmp_path: Path) -> None:
    Ensemble([RidgeBaseline.fit(TRAIN), MedianBaseline.fit(TRAIN)]).fit(KNOWN).save(
        tmp_path / "a" / "b" / "pricer"
    )
    (tmp_path / "a" / "b").rename(tmp_path / "c")
    assert load_pricer(tmp_path / "c" / "pricer").predict(NEW[0]).price


def test_a_loaded_predictor_of_async_code_asks(asked: list[dict[str, Any]]) -> None:
    async def ask() -> float | None:
        async with openai.AsyncOpenAI(
            api_key="sk-x", base_url="https://service.test/v1", max_retries=0
        ) as client:
            return await aio.AsyncPredictor.load("pricer", client)("A lamp")

    aio.AsyncPredictor(openai.AsyncOpenAI(api_key="sk-x", base_url="https://service.test/v1"), "m").save(
        "pricer"
    )
    assert asyncio.run(ask()) is not None
    assert len(asked) == 1
