"""Whoever hands in the wrong thing reads one line that says so, before anything is asked or written."""

# mypy: disable-error-code="arg-type, call-arg, list-item, dict-item, type-var, call-overload, misc"

import asyncio
import inspect
import io
import pickle
import re
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import openai
import pandas as pd
import pyarrow as pa
import pytest
import respx

import finetune_pricer
from finetune_pricer import (
    AnswerStore,
    ChatFormatter,
    Ensemble,
    Evaluation,
    Evaluator,
    FineTuneJob,
    Item,
    ItemDataset,
    ItemSplits,
    JsonlWriter,
    Leaderboard,
    MadeUpCatalogue,
    Neighbors,
    Prediction,
    Predictions,
    Predictor,
    Sweep,
    TokenPricing,
    _arguments,
    aconnect,
    aio,
    audit,
    best_checkpoint,
    check_jsonl,
    compare,
    connect,
    count_tokens,
    estimate_cost,
    forecast,
    launch,
    load_pricer,
    login,
    upload,
)
from finetune_pricer.errors import DataError, FileAccessError, MissingFile, PricerError, WrongArgument
from finetune_pricer.evaluate import MedianBaseline, SweepResult, choose, fit_baselines, prompting_baselines
from finetune_pricer.integrations import Tracker
from finetune_pricer.local import Faults
from finetune_pricer.machines import LaunchedServer, plan_launch
from finetune_pricer.predict import RangeGroup, Ranges
from finetune_pricer.prices import format_price, parse_amount, parse_price
from finetune_pricer.providers import PROVIDERS, Provider, provider_of
from finetune_pricer.testing import CannedService
from finetune_pricer.tune import JobRecord, UploadedFile, deployments

ITEMS = [Item(id=f"i{number}", title=f"Lamp {number}", price=10.0 + number) for number in range(12)]
SET = ItemDataset.from_items(ITEMS)
FRAME = pd.DataFrame({"title": ["Lamp"], "price": [5.0]})
OTHERS = [Item(id=f"o{number}", title=f"Desk {number}", price=20.0 + number) for number in range(12)]
THIRDS = [Item(id=f"t{number}", title=f"Mug {number}", price=30.0 + number) for number in range(12)]
ANSWERS = Predictions(Prediction(item_id=item.id, price=20.0) for item in ITEMS)
NEAR = Neighbors(SET, k=2)
EVALUATION = Evaluator(rounds=20).score(ITEMS, ANSWERS)
JOB = JobRecord(id="ftjob-1", status="succeeded", fine_tuned_model="ft:x")


@cache
def clients() -> tuple[openai.OpenAI, openai.AsyncOpenAI]:
    """Made once: each takes a tenth of a second."""
    options = {"api_key": "sk-1", "base_url": "https://service.test/v1"}
    return openai.OpenAI(**options, max_retries=0), openai.AsyncOpenAI(**options, max_retries=0)


class Hands:
    """What a caller holds: clients, a file, a job, predictors."""

    def __init__(self) -> None:
        self.client, self.aclient = clients()
        self.file = JsonlWriter().write(ITEMS, "right/train.jsonl")
        NEAR.save("right/neighbors")
        self.job = FineTuneJob(self.client, JOB)
        self.predictor = Predictor(self.client, "ft:x")
        self.ensemble = Ensemble([MedianBaseline.fit(SET)]).fit(OTHERS)
        self.predictor_of_async = aio.AsyncPredictor(self.aclient, "ft:x")


@pytest.fixture
def hands(tmp_path: Path) -> Hands:
    return Hands()


@pytest.fixture
def refusing(service: respx.MockRouter) -> respx.MockRouter:
    """A service that refuses everything, and counts what it was asked."""
    service.route().mock(return_value=httpx2.Response(401, json={"error": {"message": "no"}}))
    return service


def left_behind() -> set[str]:
    return {str(path) for path in Path().rglob("*") if not str(path).startswith(("right", "home"))}


# A wrong call, and the words that it is answered with.
TABLE: dict[str, tuple[Callable[[Hands], Any], str]] = {
    # Clients.
    "a client's name": (
        lambda h: Predictor("local", "m"),
        r"openai.OpenAI, not the text 'local'; connect\('local'\)",
    ),
    "a key": (lambda h: Predictor("sk-proj-secret", "m"), "a text that looks like a key"),
    "client and model swapped": (lambda h: Predictor("m", h.client), "the client comes first"),
    "client and file swapped": (
        lambda h: FineTuneJob.create(h.file, h.client, model="m"),
        "not a TrainingFile; the client comes first",
    ),
    "no client": (
        lambda h: FineTuneJob.list(None),
        r"client must be an openai.OpenAI, not None; connect\(\)",
    ),
    "the class of clients": (lambda h: FineTuneJob.list(openai.OpenAI), "the class OpenAI itself"),
    "the module of clients": (lambda h: FineTuneJob.list(openai), "not a module"),
    "an async client": (lambda h: Predictor(h.aclient, "m"), "openai.OpenAI, not an AsyncOpenAI"),
    "an async client for a job": (
        lambda h: FineTuneJob.attach(h.aclient, "x"),
        "AsyncFineTuneJob of finetune_pricer.aio",
    ),
    "a plain client for async code": (
        lambda h: aio.AsyncPredictor(h.client, "m"),
        "openai.AsyncOpenAI, not an OpenAI",
    ),
    "a plain client for an async job": (
        lambda h: asyncio.run(aio.AsyncFineTuneJob.attach(h.client, "x")),
        r"aconnect\(\) makes one; Predictor and",
    ),
    "a provider for a client": (lambda h: upload(provider_of(h.client), h.file), "not a Provider"),
    "a predictor for a client": (lambda h: deployments(h.predictor), "not a Predictor"),
    "an unknown kind of provider": (
        lambda h: provider_of(h.client, 3),
        "a provider's name or a Provider, not 3",
    ),
    "a client for a provider's name": (lambda h: connect(h.client), "name must be a text, not an OpenAI"),
    "a client for an async provider's name": (lambda h: aconnect(h.aclient), "name must be a text"),
    "a folder that is no path": (lambda h: connect("local", dir=3), "dir must be a path, not 3"),
    # Models and jobs.
    "a job for a model": (lambda h: Predictor(h.client, h.job), "job.fine_tuned_model is the model of a job"),
    "a job for its id": (
        lambda h: FineTuneJob.attach(h.client, h.job),
        "not a FineTuneJob; job.id is a job's own",
    ),
    "a number for a job's id": (lambda h: FineTuneJob.attach(h.client, 7), "job_id must be a text, not 7"),
    "an id for a job": (lambda h: best_checkpoint("ftjob-1", ITEMS), r"FineTuneJob.attach\(client, id\)"),
    "an id for a record": (lambda h: FineTuneJob(h.client, "ftjob-1"), r"FineTuneJob.attach\(client, id\)"),
    "no jobs": (
        lambda h: FineTuneJob.list(h.client, limit=0),
        "limit must be a whole number of at least 1, not 0",
    ),
    "a negative patience": (
        lambda h: h.job.wait(timeout=-1),
        "timeout must be a number of at least 0, not -1",
    ),
    "a text for a patience": (lambda h: h.job.wait("10"), "timeout must be a number"),
    "an item for an event": (lambda h: list(h.job.stream_events(ITEMS[0])), "after must be a text"),
    "a text for a checkpoint": (lambda h: h.job.download("w", checkpoint="last"), "one of job.checkpoints"),
    "no folder": (lambda h: h.job.fetch_spec(None), "folder must be a path, not None"),
    "a text for the job's formatter": (lambda h: h.job.predictor("Price?"), r"ChatFormatter\(instruction\)"),
    # Training files.
    "a path": (lambda h: FineTuneJob.create(h.client, "a/b.jsonl", model="m"), "check_jsonl"),
    "a path object": (lambda h: FineTuneJob.create(h.client, Path("b.jsonl"), model="m"), "check_jsonl"),
    "items": (lambda h: FineTuneJob.create(h.client, SET, model="m"), r"not an ItemDataset; JsonlWriter\(\)"),
    "a list of items": (
        lambda h: FineTuneJob.create(h.client, ITEMS, model="m"),
        "a list of Item; JsonlWriter",
    ),
    "a report": (
        lambda h: FineTuneJob.create(h.client, check_jsonl(h.file.path), model="m"),
        r"its .training_file\(\) is one",
    ),
    "an open file": (
        lambda h: FineTuneJob.create(h.client, io.BytesIO(), model="m"),
        "not a BytesIO",
    ),
    "no file": (lambda h: FineTuneJob.create(h.client, None, model="m"), "not None"),
    "a path to upload": (lambda h: upload(h.client, "train.jsonl"), "check_jsonl"),
    "a file of the service to upload": (
        lambda h: upload(h.client, UploadedFile(id="f")),
        "not an UploadedFile",
    ),
    "a number for a model": (
        lambda h: FineTuneJob.create(h.client, h.file, model=3),
        "model must be a text, not 3",
    ),
    "again by a text": (
        lambda h: FineTuneJob.create(h.client, h.file, model="m", again="no"),
        "True or False, not the",
    ),
    "force by a number": (
        lambda h: FineTuneJob.create(h.client, h.file, model="m", force=0),
        "True or False, not 0",
    ),
    "a budget in words": (
        lambda h: FineTuneJob.create(h.client, h.file, model="m", budget="5"),
        "budget must be a number of at least 0, not the text '5'",
    ),
    "a budget of nothing known": (
        lambda h: FineTuneJob.create(h.client, h.file, model="m", budget=float("nan")),
        "budget must be a number",
    ),
    "a suffix of digits": (
        lambda h: FineTuneJob.create(h.client, h.file, model="m", suffix=5),
        "suffix must be a text",
    ),
    "a journal of no path": (
        lambda h: FineTuneJob.create(h.client, h.file, model="m", journal=5),
        "journal must be a",
    ),
    # Items.
    "dictionaries": (
        lambda h: ItemDataset.from_items([{"title": "Lamp"}]),
        r"row 1: .*not a dict; Item\(\*\*fields\)",
    ),
    "texts": (
        lambda h: JsonlWriter().write(["Lamp"], "t.jsonl"),
        r"row 1: .*the text 'Lamp'; Item\(summary=text\)",
    ),
    "a frame": (lambda h: JsonlWriter().write(FRAME, "t.jsonl"), r"ItemDataset.from_pandas\(frame\)"),
    "a path for items": (
        lambda h: JsonlWriter().write("shop.csv", "t.jsonl"),
        r"ItemDataset.from_file\(path\)",
    ),
    "items and path swapped": (
        lambda h: JsonlWriter().write("t.jsonl", ITEMS),
        "items must be items, not the text",
    ),
    "one item": (lambda h: ItemDataset.from_items(ITEMS[0]), r"\[item\] is a list of one"),
    "all splits": (lambda h: JsonlWriter().write(ItemSplits(SET, SET, SET), "t"), "choose one of its splits"),
    "all splits to audit": (lambda h: audit(ItemSplits(SET, SET, SET)), "choose one of its splits"),
    "a list to audit": (
        lambda h: audit(ITEMS),
        r"an ItemDataset, not a list of Item; ItemDataset.from_items\(items\)",
    ),
    "no items": (lambda h: ItemDataset.from_items(None), "items must be items, not None"),
    "a generator of texts": (
        lambda h: ItemDataset.from_items(iter(["Lamp"])),
        "row 1: an item must be an Item",
    ),
    "items of which the second is none": (
        lambda h: ItemDataset.from_items([ITEMS[0], None]),
        "row 2: .*not None",
    ),
    "a table of another kind": (
        lambda h: ItemDataset(FRAME),
        "table must be an Arrow table, not a DataFrame",
    ),
    "an Arrow table for a frame": (
        lambda h: ItemDataset.from_pandas(pa.table({"a": [1]})),
        "from_arrow takes tables of polars",
    ),
    "items for a frame": (lambda h: ItemDataset.from_pandas(ITEMS), "a pandas.DataFrame, not a list of Item"),
    "a path for a frame": (lambda h: ItemDataset.from_pandas("shop.csv"), "from_file reads a file"),
    "columns as a list": (lambda h: ItemDataset.from_pandas(FRAME, columns=["title"]), "{'theirs': 'ours'}"),
    "columns of numbers": (
        lambda h: ItemDataset.from_pandas(FRAME, columns={"title": 3}),
        "a field in columns",
    ),
    "priced by a text": (
        lambda h: ItemDataset.from_pandas(FRAME, priced="no"),
        "priced must be True or False",
    ),
    "a number for a file": (lambda h: ItemDataset.from_file(3), "path must be a path, not 3"),
    "an empty path": (lambda h: ItemDataset.from_file(""), "path must be a path, not the text ''"),
    "a number for a repository": (lambda h: ItemDataset.from_hub(3), "owner/name"),
    "a list to join": (lambda h: ItemDataset.concat(SET, ITEMS), "set 2 must be an ItemDataset"),
    "a price for a filter": (lambda h: SET.filter(5), "keep must be a function of an item, not 5"),
    "a text for a sample": (lambda h: SET.sample("5"), "n must be a number, not the text '5'"),
    "a text for a share": (lambda h: SET.split(test="10%"), "test must be a number"),
    "a text for a seed": (lambda h: SET.shuffle("42"), "seed must be a whole number of at least 0"),
    "a negative seed": (lambda h: SET.shuffle(-1), "seed must be a whole number of at least 0, not -1"),
    "a text for a count": (lambda h: MadeUpCatalogue().items("5"), "count must be a whole number"),
    "a text for noise": (lambda h: MadeUpCatalogue(noise="0.2"), "noise must be a number of at least 0"),
    "a text for a made-up item": (
        lambda h: MadeUpCatalogue().middle_price("made-up-1"),
        "an item must be an Item",
    ),
    # Formatters.
    "a text for a formatter": (
        lambda h: JsonlWriter("Estimate"),
        r"formatter must be a ChatFormatter, not the text",
    ),
    "the class of formatters": (lambda h: JsonlWriter(ChatFormatter), "the class ChatFormatter itself"),
    "a text for a predictor's formatter": (
        lambda h: Predictor(h.client, "m", formatter="Price?"),
        "ChatFormatter",
    ),
    "a number for an instruction": (lambda h: ChatFormatter(5), "instruction must be a text, not 5"),
    "a price for a reply": (
        lambda h: ChatFormatter(reply=19.99),
        r"reply must be a text, not 19.99; show a price",
    ),
    "a text for shots": (lambda h: ChatFormatter(shots="Lamp"), "shots must be items"),
    "items for neighbors": (
        lambda h: ChatFormatter(neighbors=SET),
        r"neighbors must be Neighbors of priced items, not an ItemDataset; Neighbors\(items, k=5\) makes",
    ),
    "a dictionary to ask about": (
        lambda h: ChatFormatter().prompt({"title": "Lamp"}),
        "an Item or a text, not a dict",
    ),
    "a text for an example": (
        lambda h: ChatFormatter().example("Lamp"),
        "must be an Item, not the text 'Lamp'",
    ),
    "a number for a reply to read": (lambda h: ChatFormatter().read(5.0), "reply must be a text, not 5.0"),
    # Asking.
    "dictionaries to price": (
        lambda h: h.predictor.predict_many([{"title": "Lamp"}] * 9),
        "row 1: .*not a dict",
    ),
    "a text to price many": (lambda h: h.predictor.predict_many("Lamp"), r"\[text\] is a list of one text"),
    "a frame to price": (lambda h: h.predictor.predict_many(FRAME), r"ItemDataset.from_pandas\(frame\)"),
    "one item to price many": (lambda h: h.predictor.predict_many(ITEMS[0]), "list of one"),
    "a dictionary to price": (
        lambda h: h.predictor.predict({"title": "Lamp"}),
        "an Item or a text, not a dict",
    ),
    "nothing to price": (lambda h: h.predictor.predict(None), "an Item or a text, not None"),
    "many items to price one": (
        lambda h: h.predictor.predict(ITEMS),
        "an Item or a text, not a list of Item",
    ),
    "texts to price by async code": (
        lambda h: asyncio.run(h.predictor_of_async.predict_many("Lamp")),
        r"\[text\] is a list of one text",
    ),
    "a dictionary in a batch": (lambda h: h.predictor.predict_batch([{}]), "not a dict"),
    "texts to calibrate on": (lambda h: h.predictor.calibrate("x"), "items must be items, not the text 'x'"),
    "floats to calibrate on": (lambda h: h.predictor.calibrate([5.0] * 20), "row 1: .*not 5.0"),
    "a text for coverage": (
        lambda h: h.predictor.calibrate(ITEMS, coverage="90%"),
        "coverage must be a number",
    ),
    "an unknown decoding": (
        lambda h: Predictor(h.client, "m", decoding="best"),
        "'median' or 'mean'",
    ),
    "a text for samples": (
        lambda h: Predictor(h.client, "m", samples="3"),
        "samples must be a whole number from 1 to",
    ),
    "half a sample": (lambda h: Predictor(h.client, "m", samples=1.5), "samples must be a whole number"),
    "a text for concurrency": (
        lambda h: Predictor(h.client, "m", concurrency="8"),
        "concurrency must be a whole",
    ),
    "a text for a limit": (
        lambda h: Predictor(h.client, "m", requests_per_minute="60"),
        "above 0, not the text '60'",
    ),
    "a store that is open": (
        lambda h: Predictor(h.client, "m", store=AnswerStore("right/a")),
        "store must be a path",
    ),
    "parameters as a list": (
        lambda h: Predictor(h.client, "m", answer_parameters=["x"]),
        "parameters of a request",
    ),
    "no store": (lambda h: AnswerStore(None), "path must be a path, not None"),
    # Evaluating.
    "a number for a predictor": (
        lambda h: Evaluator().evaluate(5, ITEMS),
        "or a function from an item to a price, not 5",
    ),
    "prices for a predictor": (lambda h: Evaluator().evaluate([5.0], ITEMS), "not a list of float"),
    "the class of predictors": (
        lambda h: Evaluator().evaluate(Predictor, ITEMS),
        "the class Predictor itself",
    ),
    "texts to evaluate on": (lambda h: Evaluator().evaluate(h.predictor, ["a"]), "row 1: .*the text 'a'"),
    "predictor and items swapped": (
        lambda h: Evaluator().evaluate(ITEMS, h.predictor),
        "predictor must be a predictor",
    ),
    "a generator to evaluate on": (
        lambda h: Evaluator().evaluate(len, iter(ITEMS)),
        r"list\(items\) makes one",
    ),
    "items and predictions swapped": (lambda h: Evaluator().score(ANSWERS, ITEMS), "the items come first"),
    "a frame of predictions": (lambda h: Evaluator().score(ITEMS, FRAME), "predictions must be a sequence"),
    "texts for weights": (lambda h: Evaluator().score(ITEMS, ANSWERS, weights=["1"] * 12), "row 1: a weight"),
    "a list of baselines": (lambda h: Evaluator(baselines=ITEMS), "baselines must be an ItemDataset"),
    "a text for a size": (lambda h: Evaluator(size="200"), "size must be a whole number"),
    "one price for tokens": (lambda h: Evaluator(dollars_per_million=3.0), "two amounts"),
    "a text beside": (lambda h: Evaluator(beside=["gpt"]), "a model in beside"),
    "texts to compare": (
        lambda h: compare("a", "b"),
        r"argument 1 must be an Evaluation.*Evaluation.load\(path\)",
    ),
    "a list to compare": (
        lambda h: compare([EVALUATION, EVALUATION], EVALUATION),
        "argument 1 must be an Evaluation",
    ),
    "a predictor to rank": (lambda h: Leaderboard([h.predictor]), "evaluation 1 must be an Evaluation"),
    "one evaluation to rank": (lambda h: Leaderboard(EVALUATION), "a list of evaluations, not an Evaluation"),
    "evaluations without sizes": (lambda h: forecast([EVALUATION] * 3), "a training size and an evaluation"),
    "sizes in words": (lambda h: forecast({"100": EVALUATION}), "a training size must be a whole number"),
    "a list to save in": (lambda h: EVALUATION.save(["e.json"]), "path must be a path"),
    "nothing to load": (lambda h: Evaluation.load(None), "path must be a path, not None"),
    "texts to fit": (lambda h: MedianBaseline.fit(["Lamp"]), "row 1: .*the text 'Lamp'"),
    "a text for examples in the prompt": (lambda h: prompting_baselines(h.client, "m", "x.csv"), "from_file"),
    "floats as predictions": (lambda h: Predictions([5.0]), "a prediction must be a Prediction, not 5.0"),
    # Files, tokens and costs.
    "no path to check": (lambda h: check_jsonl(None), "path must be a path, not None"),
    "items to check": (lambda h: check_jsonl(SET), "path must be a path, not an ItemDataset"),
    "items to count": (lambda h: count_tokens(SET), r"JsonlWriter\(\).write\(items, path\)"),
    "a report to count": (lambda h: count_tokens(check_jsonl(h.file.path)), r"its .training_file\(\)"),
    "a number to count": (lambda h: count_tokens(3), "lists of messages, not 3"),
    "a text for a price of training": (
        lambda h: estimate_cost(h.file, model="m", epochs=1, price="3"),
        "price must be",
    ),
    "a provider by a number": (
        lambda h: estimate_cost(h.file, model="m", epochs=1, provider=3),
        "provider must be a text",
    ),
    "a text for a pricing": (lambda h: TokenPricing(train="cheap"), "train must be a number"),
    "a key of the Hub as a number": (lambda h: login(3), "token must be a text"),
    # What pydantic would say in five lines.
    "an unknown fact of a provider": (lambda h: Provider(nme="x"), "has no field 'nme'; it has|lacks 'name'"),
    "a provider without a name": (lambda h: Provider(), "Provider lacks 'name'"),
    # Prices.
    "a number to read": (lambda h: parse_price(5.0), "text must be a text, not 5.0"),
    "nothing to read": (lambda h: parse_amount(None), "text must be a text, not None"),
    "a text to write": (lambda h: format_price("5"), "price must be a number of at least 0"),
}


@pytest.mark.parametrize(("call", "words"), TABLE.values(), ids=TABLE)
def test_a_wrong_call_is_refused_in_one_line_before_anything_is_asked_or_written(
    hands: Hands, refusing: respx.MockRouter, call: Callable[[Hands], Any], words: str
) -> None:
    before = left_behind()
    with pytest.raises(DataError, match=words) as caught:
        call(hands)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 400
    assert not re.search(r"pydantic|Traceback|Arrow[A-Z]| object at 0x", said)
    assert not refusing.calls
    assert left_behind() == before


def test_a_wrong_argument_is_a_type_error_a_value_error_and_ours() -> None:
    with pytest.raises(WrongArgument) as caught:
        Predictor("local", "m")
    for kind in (PricerError, DataError, TypeError, ValueError):
        assert isinstance(caught.value, kind)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_key_that_is_handed_in_by_mistake_stands_in_no_message(hands: Hands) -> None:
    for call in (
        lambda: Predictor("sk-proj-0123456789", "m"),
        lambda: ItemDataset.from_items("sk-proj-0123456789"),
        lambda: Predictor(hands.client, "m", formatter="sk-proj-0123456789"),
    ):
        with pytest.raises(WrongArgument) as caught:
            call()
        assert "0123456789" not in str(caught.value)


def test_a_file_object_of_the_service_is_a_training_file_by_its_id(
    hands: Hands, refusing: respx.MockRouter
) -> None:
    file = openai.types.FileObject(
        id="file-7",
        object="file",
        bytes=1,
        created_at=1,
        filename="t.jsonl",
        purpose="fine-tune",
        status="processed",
    )
    with pytest.raises(PricerError, match="no"):
        FineTuneJob.create(hands.client, file, model="m")
    assert refusing.calls


def test_a_thing_that_is_no_item_among_others_is_its_own_rows_problem(
    hands: Hands, refusing: respx.MockRouter
) -> None:
    found = Predictor(hands.client, "m", budget=0.0, pricing=TokenPricing(input=1, output=1)).predict_many(
        [ITEMS[0], 5]
    )
    assert "an Item or a text, not 5" in str(found[1].error)


def test_a_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    Path("folder.csv").mkdir()
    for call in (
        lambda: ItemDataset.from_file("folder.csv"),
        lambda: check_jsonl("folder.csv"),
        lambda: count_tokens("folder.csv"),
        lambda: Evaluation.load("folder.csv"),
        lambda: JsonlWriter().write(ITEMS, "folder.csv"),
        lambda: ANSWERS.to_csv("folder.csv"),
        lambda: AnswerStore("folder.csv"),
    ):
        with pytest.raises(FileAccessError, match=r"folder\.csv"):
            call()


def test_a_file_that_is_not_there_is_the_standard_librarys_error_too(hands: Hands) -> None:
    for call in (
        lambda: ItemDataset.from_file("none.csv"),
        lambda: check_jsonl("none.csv"),
        lambda: count_tokens("none.csv"),
        lambda: estimate_cost("none.csv", model="m", epochs=1),
        lambda: Evaluation.load("none.csv"),
    ):
        with pytest.raises(FileNotFoundError, match=r"cannot read 'none\.csv': No such file") as caught:
            call()
        assert isinstance(caught.value, FileAccessError)
        assert isinstance(pickle.loads(pickle.dumps(caught.value)), MissingFile)


def test_a_folder_of_splits_in_place_of_a_file_says_what_loads_it() -> None:
    Path("splits").mkdir()
    with pytest.raises(FileAccessError, match=r"it is a folder; ItemDataset\.from_hub\(path\)"):
        ItemDataset.from_file("splits")


def test_a_text_in_place_of_a_path_is_cut() -> None:
    with pytest.raises(FileAccessError, match="cannot read 'An oak shelf") as caught:
        ItemDataset.from_file("An oak shelf " * 1000)
    assert len(str(caught.value)) < 400


def test_an_unknown_fault_is_named_with_those_that_there_are() -> None:
    with pytest.raises(DataError, match=r"there is no 'latncy'; there are .*latency"):
        Faults(latncy=3)
    with pytest.raises(DataError, match="faults: latency: "):
        Faults(latency=-1)


# Every parameter of every public door, with things of another kind.


def doors(h: Hands) -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """Each public door by its name, and what it is rightly called with."""
    create = {"client": h.client, "training": h.file, "model": "m"}
    h.predictor.save("right/predictor")
    h.ensemble.save("right/ensemble")
    MedianBaseline.fit(SET).save("right/median")
    return {
        "AnswerStore": (AnswerStore, {"path": "right/answers"}),
        "ChatFormatter": (ChatFormatter, {}),
        "ChatFormatter.prompt": (ChatFormatter().prompt, {"item": "a lamp"}),
        "ChatFormatter.example": (ChatFormatter().example, {"item": ITEMS[0]}),
        "ChatFormatter.for_base": (ChatFormatter().for_base, {"model": "m"}),
        "ChatFormatter.read": (ChatFormatter().read, {"reply": "$5"}),
        "Evaluation.load": (Evaluation.load, {"path": "right/e.json"}),
        "Evaluation.save": (EVALUATION.save, {"path": "right/e.json"}),
        "Evaluator": (Evaluator, {}),
        "Evaluator.evaluate": (Evaluator(rounds=20).evaluate, {"predictor": lambda _: 5.0, "items": ITEMS}),
        "Evaluator.score": (Evaluator(rounds=20).score, {"items": ITEMS, "predictions": ANSWERS}),
        "Evaluator.draw": (Evaluator().draw, {"items": ITEMS}),
        "FineTuneJob": (FineTuneJob, {"client": h.client, "record": JOB}),
        "FineTuneJob.create": (FineTuneJob.create, create),
        "FineTuneJob.find": (FineTuneJob.find, create),
        "FineTuneJob.attach": (FineTuneJob.attach, {"client": h.client, "job_id": "x"}),
        "FineTuneJob.list": (FineTuneJob.list, {"client": h.client}),
        "FineTuneJob.wait": (h.job.wait, {}),
        "FineTuneJob.fetch_spec": (h.job.fetch_spec, {"folder": "right/spec"}),
        "FineTuneJob.download": (h.job.download, {"path": "right/weights"}),
        "FineTuneJob.push_to_hub": (h.job.push_to_hub, {"repo": "me/pricer"}),
        "FineTuneJob.predictor": (h.job.predictor, {}),
        "Item": (Item, {"title": "Lamp"}),
        "ItemDataset": (ItemDataset, {"table": SET.table}),
        "ItemDataset.from_items": (ItemDataset.from_items, {"items": ITEMS}),
        "ItemDataset.from_predictions": (
            ItemDataset.from_predictions,
            {"items": ITEMS, "predictions": ANSWERS, "model": "m"},
        ),
        "ItemDataset.from_file": (ItemDataset.from_file, {"path": "right/none.csv"}),
        "ItemDataset.from_hub": (ItemDataset.from_hub, {"name": "/right/none"}),
        "ItemDataset.from_pandas": (ItemDataset.from_pandas, {"frame": FRAME}),
        "ItemDataset.filter": (SET.filter, {"keep": bool}),
        "ItemDataset.shuffle": (SET.shuffle, {}),
        "ItemDataset.sample": (SET.sample, {"n": 3}),
        "ItemDataset.split": (SET.split, {"validation": 1, "test": 1}),
        "ItemDataset.to_parquet": (SET.to_parquet, {"path": "right/set.parquet"}),
        "LaunchPlan.write": (plan_launch("process").write, {"folder": "right/launch"}),
        "LaunchedServer.find": (LaunchedServer.find, {"on": "hf-jobs"}),
        # The Hub is out of reach here, so that nothing starts whatever is handed in.
        "launch": (launch, {"on": "hf-jobs"}),
        "plan_launch": (plan_launch, {"on": "process"}),
        "JsonlReport": (check_jsonl(h.file.path).write_corrected, {"path": "right/corrected.jsonl"}),
        "JsonlWriter": (JsonlWriter, {}),
        "JsonlWriter.write": (JsonlWriter().write, {"items": ITEMS, "path": "right/again.jsonl"}),
        "Leaderboard": (Leaderboard, {"evaluations": [EVALUATION], "rounds": 10}),
        "MadeUpCatalogue": (MadeUpCatalogue, {}),
        "MadeUpCatalogue.items": (MadeUpCatalogue().items, {"count": 2}),
        "MadeUpCatalogue.splits": (MadeUpCatalogue().splits, {"train": 2, "validation": 1, "test": 1}),
        "MadeUpCatalogue.middle_price": (
            MadeUpCatalogue().middle_price,
            {"item": MadeUpCatalogue().items(1)[0]},
        ),
        "MadeUpCatalogue.best_possible_mae": (
            MadeUpCatalogue().best_possible_mae,
            {"items": MadeUpCatalogue().items(1)},
        ),
        "Predictions": (Predictions, {"predictions": ANSWERS}),
        "Predictions.to_csv": (ANSWERS.to_csv, {"path": "right/a.csv"}),
        "Predictor": (Predictor, {"client": h.client, "model": "m"}),
        "Predictor.predict": (h.predictor.predict, {"item": "a lamp"}),
        "Predictor.predict_many": (h.predictor.predict_many, {"items": ITEMS[:1]}),
        "Predictor.calibrate": (h.predictor.calibrate, {"items": ITEMS}),
        "Predictor.save": (h.predictor.save, {"folder": "right/predictor"}),
        "Predictor.load": (Predictor.load, {"folder": "right/predictor", "client": h.client}),
        "Ensemble": (Ensemble, {"members": [MedianBaseline.fit(SET)]}),
        "Ensemble.fit": (Ensemble([MedianBaseline.fit(SET)]).fit, {"items": OTHERS}),
        "Ensemble.predict": (h.ensemble.predict, {"item": "a lamp"}),
        "Ensemble.predict_many": (h.ensemble.predict_many, {"items": ITEMS}),
        "Ensemble.calibrate": (h.ensemble.calibrate, {"items": THIRDS}),
        "Ensemble.save": (h.ensemble.save, {"folder": "right/ensemble"}),
        "Ensemble.load": (Ensemble.load, {"folder": "right/ensemble"}),
        "MedianBaseline.save": (MedianBaseline.fit(SET).save, {"folder": "right/median"}),
        "MedianBaseline.load": (MedianBaseline.load, {"folder": "right/median"}),
        "load_pricer": (load_pricer, {"folder": "right/predictor", "client": h.client}),
        "Predictor.predict_batch": (h.predictor.predict_batch, {"items": ITEMS[:1]}),
        "Predictor.write_batch": (h.predictor.write_batch, {"items": ITEMS, "path": "right/in.jsonl"}),
        "Predictor.read_batch": (h.predictor.read_batch, {"items": ITEMS, "path": "right/empty.jsonl"}),
        "Sweep": (
            Sweep,
            {"clients": h.client, "train": SET, "test": SET, "folder": "s", "sizes": [5], "models": ["m"]},
        ),
        "TokenPricing": (TokenPricing, {}),
        "aconnect": (aconnect, {"name": "openai"}),
        "connect": (connect, {"name": "openai"}),
        "audit": (audit, {"train": SET, "similarity": None}),
        "best_checkpoint": (best_checkpoint, {"job": h.job, "items": ITEMS}),
        "check_jsonl": (check_jsonl, {"path": h.file.path}),
        "compare": (compare, {"a": EVALUATION, "b": replace(EVALUATION, name="b"), "rounds": 10}),
        "count_tokens": (count_tokens, {"training": h.file}),
        "estimate_cost": (estimate_cost, {"training": h.file, "model": "m", "epochs": 1}),
        "forecast": (forecast, {"points": [(100, EVALUATION)]}),
        "login": (login, {"token": "hf_x"}),
        "upload": (upload, {"client": h.client, "training_file": h.file}),
        "tune.deployments": (deployments, {"client": h.client}),
        "evaluate.SweepResult.choose": (SweepResult(outcomes=()).choose, {}),
        "evaluate.SweepResult.leaderboard": (SweepResult(outcomes=()).leaderboard, {}),
        "evaluate.choose": (choose, {"evaluations": [EVALUATION], "rounds": 10}),
        "evaluate.fit_baselines": (fit_baselines, {"train": SET}),
        "evaluate.prompting_baselines": (
            prompting_baselines,
            {"client": h.client, "model": "m", "train": SET, "shots": 2},
        ),
        "Neighbors": (Neighbors, {"items": SET}),
        "Neighbors.load": (Neighbors.load, {"folder": "right/neighbors"}),
        "Neighbors.look_up": (NEAR.look_up, {"items": ITEMS}),
        "Neighbors.of": (NEAR.of, {"item": "a lamp"}),
        "Neighbors.of_many": (NEAR.of_many, {"items": ITEMS}),
        "Neighbors.save": (NEAR.save, {"folder": "right/neighbors"}),
        "MedianBaseline.predict_many": (MedianBaseline.fit(SET).predict_many, {"items": ITEMS}),
        "predict.RangeGroup.expect": (
            RangeGroup(name="all items", n=20, width=1.0, coverage=0.9).expect,
            {"items": 10},
        ),
        "predict.Ranges.learn": (Ranges.learn, {"predictions": ANSWERS, "items": ITEMS}),
        "predict.Ranges.measure": (
            Ranges.learn(ANSWERS, ITEMS).measure,
            {"predictions": ANSWERS, "items": ITEMS},
        ),
        "integrations.Tracker": (Tracker, {"target": print}),
        "integrations.Tracker.__call__": (Tracker(lambda *_: None), {"found": EVALUATION}),
        "testing.CannedService": (CannedService, {}),
        "testing.CannedService.fail": (CannedService().fail, {}),
        "prices.format_price": (format_price, {"price": 5.0}),
        "prices.parse_amount": (parse_amount, {"text": "$5"}),
        "prices.parse_price": (parse_price, {"text": "$5"}),
        "providers.provider_of": (provider_of, {"client": h.client}),
    }


# What only calls give, and nobody makes by hand.
RESULTS = set(
    "AuditReport Comparison CostEstimate Forecast ItemSplits Prediction TokenCount TrainingFile".split()
)
NOT_TRIED = {"self", "sleep", "pricing"}
WRONG: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "3": lambda: 3,
    "-1": lambda: -1,
    "nan": lambda: float("nan"),
    "text": lambda: "text",
    "[]": list,
    "[None]": lambda: [None],
    "{}": dict,
    "{1: 2}": lambda: {1: 2},
    "object()": object,
    "int": lambda: int,
    "a frame": lambda: FRAME,
    "a function": lambda: lambda *_: None,
}


def test_every_public_name_is_tried() -> None:
    tried = {name.partition(".")[0] for name in doors(Hands())}
    assert set(finetune_pricer.__all__) - tried == RESULTS


@pytest.mark.parametrize("value", WRONG)
def test_whatever_is_handed_in_only_errors_of_ours_come_out(
    hands: Hands, refusing: respx.MockRouter, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    monkeypatch.setattr("huggingface_hub.login", lambda *_, **__: None)
    others = list[str]()
    for name, (door, right) in doors(hands).items():
        for parameter in inspect.signature(door).parameters.values():
            if parameter.name in NOT_TRIED or parameter.kind in {
                parameter.VAR_KEYWORD,
                parameter.VAR_POSITIONAL,
            }:
                continue
            asked = len(refusing.calls)
            try:
                found = door(**{**right, parameter.name: WRONG[value]()})
                if isinstance(found, types.GeneratorType):
                    list(found)
            except WrongArgument:
                assert len(refusing.calls) == asked, (
                    f"{name}({parameter.name}={value}) was refused after asking"
                )
            except PricerError as error:
                if "\n" in str(error) and not isinstance(error, DataError):
                    others.append(f"{name}({parameter.name}={value}): {error}")
            except Exception as error:  # noqa: BLE001 - this is what the test looks for
                others.append(f"{name}({parameter.name}={value}): {type(error).__name__}: {error}")
    assert not others, "\n".join(others)


def test_a_service_by_name_for_a_client_is_known_of_all_services() -> None:
    assert set(_arguments._PROVIDERS) == set(PROVIDERS)


def test_a_name_that_is_nearly_one_of_ours_is_told_with_ours() -> None:
    program = "import finetune_pricer; finetune_pricer.FinetuneJob"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "has no attribute 'FinetuneJob'. Did you mean: 'FineTuneJob'?" in done.stderr


def test_what_an_editor_completes_is_ours() -> None:
    names = {name for name in dir(finetune_pricer) if not name.startswith("_")}
    assert not names & {"Any", "TYPE_CHECKING", "annotations", "import_module", "sys"}
    assert set(finetune_pricer.__all__) <= names
