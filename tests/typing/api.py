"""What users write: never run, but checked by mypy and pyright (`make types`, `make typing`).

`assert_type` is where a type is promised: a test that fails when the type of a public name gets vaguer.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt
from openai import AsyncOpenAI, OpenAI

from finetune_pricer import (
    AuditReport,
    ChatFormatter,
    Comparison,
    CostEstimate,
    Evaluation,
    Evaluator,
    FineTuneJob,
    Forecast,
    Item,
    ItemDataset,
    ItemSplits,
    JsonlReport,
    JsonlWriter,
    Leaderboard,
    MadeUpCatalogue,
    Prediction,
    Predictions,
    Predictor,
    TrainingFile,
    aconnect,
    audit,
    check_jsonl,
    compare,
    connect,
    estimate_cost,
    forecast,
    launch,
)
from finetune_pricer.aio import AsyncFineTuneJob, AsyncPredictor
from finetune_pricer.errors import JobFailed, ServiceUnavailable
from finetune_pricer.evaluate import MedianBaseline, Metric
from finetune_pricer.integrations import FineTunedRegressor, Tracker
from finetune_pricer.local import Faults, LocalServer
from finetune_pricer.machines import LaunchedServer, LaunchPlan, plan_launch
from finetune_pricer.prices import parse_price
from finetune_pricer.providers import PROVIDERS, Provider
from finetune_pricer.testing import CannedService
from finetune_pricer.tune import JobCheckpoint, JobEvent, JobMetrics


def read_items(path: Path) -> ItemDataset:
    items = ItemDataset.from_file(
        path, columns={"Name": "title"}, priced=False, on_error="skip", currency="EUR"
    )
    assert_type(items[0], Item)
    assert_type(items[:10], ItemDataset)
    assert_type(items[0].price, float | None)
    train, validation, test = items.split(validation=10, test=0.1, seed=42)
    assert_type(train, ItemDataset)
    assert_type(ItemDataset.from_hub("owner/name"), ItemSplits)
    assert_type(ItemDataset.from_hub("owner/name", split="train"), ItemDataset)
    assert_type(audit(train, validation=validation, test=test), AuditReport)
    return items.filter(lambda item: item.price is not None)


def train_model(items: ItemDataset) -> FineTuneJob:
    client = connect("local")
    assert_type(client, OpenAI)
    formatter = ChatFormatter("How much?", reply="19,99 €", currency="EUR")
    training = JsonlWriter(formatter).write(items, "train.jsonl")
    assert_type(training, TrainingFile)
    assert_type(check_jsonl("train.jsonl"), JsonlReport)
    assert_type(estimate_cost(training, model="m", epochs=1, provider="openai"), CostEstimate)
    job = FineTuneJob.create(
        client,
        training,
        model="pricer-base",
        epochs="auto",
        seed=42,
        metadata={"team": "blue"},
        integrations=[{"type": "wandb", "wandb": {"project": "prices"}}],
        budget=5.0,
        provider=PROVIDERS["local"],
    )
    for event in job.stream_events():
        assert_type(event, JobEvent)
    try:
        assert_type(job.wait(timeout=60), FineTuneJob)
    except JobFailed as error:
        assert_type(error.code, str | None)
    except ServiceUnavailable as error:
        assert_type(error.retry_after, float | None)
    assert_type(job.id, str)
    assert_type(job.fine_tuned_model, str | None)
    assert_type(job.provider, Provider)
    assert_type(job.metadata, dict[str, Any])
    assert_type(job.metrics(), JobMetrics)
    assert_type(job.metrics()[0].to_dict(), dict[str, float])
    assert_type(job.checkpoints(), list[JobCheckpoint])
    return job


def price(job: FineTuneJob, items: ItemDataset) -> Predictions:
    predictor = job.predictor(ChatFormatter(), store="answers.sqlite", decoding="median")
    assert_type(predictor, Predictor)
    assert_type(predictor("A lamp."), float | None)
    assert_type(predictor.predict(items[0]), Prediction)
    calibrated = predictor.calibrate(items, coverage=0.9, by="category")
    assert_type(calibrated, Predictor)
    found = calibrated.predict_many(items)
    assert_type(found[0].low, float | None)
    assert_type(predictor.write_batch(items, "in.jsonl"), int)
    assert_type(predictor.read_batch(items, ["out.jsonl", "errors.jsonl"]), Predictions)
    assert_type(parse_price("$5"), float)
    return found


def judge(predictor: Predictor, items: ItemDataset) -> Comparison:
    evaluation = Evaluator(size=200, baselines=items).evaluate(predictor, items)
    assert_type(evaluation, Evaluation)
    assert_type(evaluation.mae, Metric)
    assert_type(evaluation.mae < 100, bool)
    assert_type(evaluation.to_dict(), dict[str, float])
    assert_type(evaluation.coverage, Metric | None)
    other = Evaluator().evaluate(lambda item: len(item.text), items, name="by length")
    assert_type(Leaderboard([evaluation, other]), Leaderboard)
    assert_type(forecast({100: evaluation, 200: other}), Forecast)
    assert_type(MedianBaseline.fit(items), MedianBaseline)
    return compare(evaluation, other)


async def price_in_a_web_service(texts: Sequence[str]) -> list[float | None]:
    client = aconnect("openai")
    assert_type(client, AsyncOpenAI)
    job = await AsyncFineTuneJob.attach(client, "ftjob-1")
    assert_type(await job.wait(), AsyncFineTuneJob)
    predictor = AsyncPredictor(client, "m")
    async for prediction in predictor.iter_predict(texts):
        assert_type(prediction, Prediction)
    return [await predictor(text) for text in texts]


def use_other_tools(job: FineTuneJob, evaluation: Evaluation) -> npt.NDArray[np.float64]:
    written: list[str] = []
    tracker = Tracker(lambda numbers, step: written.extend(numbers))
    tracker(job.metrics())
    tracker(evaluation, name="test", step=3)
    regressor = FineTunedRegressor("local", epochs=1)
    assert_type(regressor.fit(["A lamp."], [20.0]), FineTunedRegressor)
    assert_type(regressor.get_params(), dict[str, Any])
    return regressor.predict(["A lamp."])


def test_my_shop(canned_service: CannedService, local_server: LocalServer) -> None:
    canned_service.answer = {"lamp": 20.0}
    canned_service.fail(429, times=2)
    with canned_service.client() as client:
        assert_type(client, OpenAI)
    local_server.faults = Faults.preset("flaky")
    assert_type(MadeUpCatalogue(seed=1).splits(train=10, validation=1, test=1), ItemSplits)


def rent(bases: dict[str, str]) -> OpenAI:
    plan = plan_launch("hf-jobs", gpu="l4", bases=bases, limit="4h", bucket="me/pricer")
    assert_type(plan, LaunchPlan)
    assert_type(plan.cost, float | None)
    assert_type(plan.write("launch"), tuple[Path, ...])
    found = LaunchedServer.find("hf-jobs", name="pricer")
    assert_type(found, LaunchedServer | None)
    with launch("process", limit=600, dir=Path("served")) as server:
        assert_type(server, LaunchedServer)
        assert_type(server.client(max_retries=0), OpenAI)
        AsyncOpenAI(**server.client_options)
    return server.client()
