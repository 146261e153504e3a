"""Whatever is looked at in a console, a log or a notebook fits on a screen, and shows what it would print."""

import importlib
import inspect
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import openai
import pytest

import finetune_pricer
from finetune_pricer import (
    AnswerStore,
    ChatFormatter,
    Ensemble,
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
    aio,
    audit,
    check_jsonl,
    compare,
    count_tokens,
    estimate_cost,
    evaluate,
    forecast,
)
from finetune_pricer.integrations import FineTunedRegressor, Tracker
from finetune_pricer.local import Faults, LocalServer, LoraLearner
from finetune_pricer.machines import LaunchedServer, plan_launch
from finetune_pricer.machines.target import Instance
from finetune_pricer.predict import Distribution, RangeGroup, Ranges, Usage
from finetune_pricer.predict.range_groups import measure_group
from finetune_pricer.prepare import Correction, Place
from finetune_pricer.providers import PROVIDERS, Doubt, Recommendation, Retirement, Serving, Setting, Thinking
from finetune_pricer.testing import CannedService
from finetune_pricer.tune import (
    Deployment,
    JobCheckpoint,
    JobEvent,
    JobMetric,
    JobMetrics,
    JobProblem,
    JobRecord,
    JobSpec,
    ResultFile,
    UploadedFile,
)

ROOMS = (
    "evaluate",
    "integrations",
    "testing",
    "items",
    "local",
    "machines",
    "predict",
    "prepare",
    "providers",
    "tune",
    "aio",
)
MOST = 2_000
LONG = "A brass lamp <b>with</b> a switch. " * 300
N = 600


def things() -> list[Item]:
    """Items whose every field is as long as it may get, some of them twins that give their price away."""
    return [
        Item(
            id=f"{number}-{LONG[:300]}",
            title=LONG,
            category=f"kind {number}",
            summary=f"{number // 2} {LONG[:200]} for ${number + 1}",
            full=LONG,
            price=number + 1.0,
        )
        for number in range(N)
    ]


@cache
def shown() -> dict[str, Any]:
    """An instance of every public class, made of 600 items."""
    items = ItemDataset.from_items(things())
    plain = MadeUpCatalogue().items(N)
    client = openai.OpenAI(api_key="sk-x", base_url="https://service.test/v1")
    writer = JsonlWriter(ChatFormatter(LONG, system=LONG, shots=list(items)))
    training = JsonlWriter().write(plain, "train.jsonl")
    bad = Path("bad.jsonl")
    bad.write_text('{"messages": [{"role": "user", "content": "?"}]}\n{"x": 1}\n' * N, encoding="utf-8")
    report, found = check_jsonl(bad), audit(items)
    distribution = Distribution(prices=tuple(range(1, N)), probabilities=(1 / N,) * (N - 1))
    prediction = Prediction(
        item_id=LONG, price=5.0, text=LONG, decoding="median", distribution=distribution, error=LONG
    )

    def pricing(size: int) -> Callable[[Item], Prediction]:
        return lambda item: replace(prediction, item_id=item.id, price=(item.price or 0) + 900 / size**0.4)

    evaluations = {
        size: Evaluator(rounds=20).evaluate(pricing(size), list(items), name=f"{size} {LONG}")
        for size in (100, 400, 1600)
    }
    evaluation = replace(evaluations[100], baselines=tuple(evaluations.values()))
    curve = forecast(evaluations, rounds=10, dollars_per_example=0.1)
    checkpoint = JobCheckpoint(id="c", step=1, model="m", extra={"x": LONG})
    score = evaluate.CheckpointScore(
        checkpoint=checkpoint, evaluation=evaluation, predictions=[prediction] * N
    )
    trial = evaluate.Trial(size=N, model=LONG, client="", formatter=writer.formatter)
    short_trial = replace(trial, formatter=ChatFormatter())
    planned = evaluate.PlannedJob(trial=short_trial, dollars=1.0, done=False)
    outcome = evaluate.Outcome(trial=short_trial, evaluation=evaluation, dollars=1.0, problem=LONG)
    board = Leaderboard([evaluations[100], evaluations[400]])
    record = JobRecord(
        id="ftjob-1",
        status="succeeded",
        metadata={f"key {number}": LONG for number in range(N)},
        result_files=[f"file-{number}" for number in range(N)],
        hyperparameters={"n_epochs": 1},
    )
    data = evaluate.FittingData(plain)
    group = RangeGroup(name=LONG, n=N, width=1.0, coverage=0.9, joined=(LONG,) * N)
    choice = evaluate.choose(evaluations.values(), rounds=20)
    baselines = [method.fit(plain[:40]) for method in evaluate.FITTED]
    some = [evaluate.CategoryMedianBaseline.fit(plain[:40]), *baselines[:1]]
    ensemble = Ensemble(some).fit(plain[40:80])
    openai_async = openai.AsyncOpenAI(api_key="sk-x", base_url="https://service.test/v1")
    instances = [
        *(Tracker(print), FineTunedRegressor(formatter=writer.formatter), CannedService({LONG: LONG})),
        *(items, things()[0], ItemSplits(items, items, items), items.describe(), writer, writer.formatter),
        *(
            training,
            report,
            report.problems[0],
            found,
            found.findings[0],
            Place(split="train", row=1, id=LONG, price=1),
        ),
        *(Correction(report=report, fixed=1, removed=1, left_out=tuple(range(N))), count_tokens(training)),
        *(
            MadeUpCatalogue(),
            Neighbors(plain),
            prediction,
            Predictions([prediction] * N),
            distribution,
            Usage(),
        ),
        *(
            Ranges(
                coverage=0.9,
                by="category",
                n=N,
                groups=(group,) * N,
                widths={str(n): 1.0 for n in range(N)},
                edges=tuple(range(N)),
            ),
            group,
            measure_group(LONG, group, [True] * N),
        ),
        *(Predictor(client, LONG), AnswerStore("answers.sqlite"), aio.AsyncPredictor(openai_async, LONG)),
        *(estimate_cost(training, model="m", epochs=1), TokenPricing(), FineTuneJob(client, record), record),
        *(aio.AsyncFineTuneJob(openai_async, record), checkpoint, JobEvent(id="e", message=LONG, x=LONG)),
        *(
            JobProblem(message=LONG),
            UploadedFile(id="f", x=LONG),
            JobMetric(step=1),
            JobMetrics([JobMetric(step=1)] * N),
        ),
        *(ResultFile("f", LONG.encode()), Deployment(name="d", model=LONG, steps=f"1. {LONG}\n2. {LONG}")),
        *(JobSpec.make(training, model="m", provider=PROVIDERS["openai"]), LocalServer(), Faults()),
        *(Doubt(about=LONG), Recommendation(why=LONG), Retirement(models=(LONG,)), Serving(steps=LONG)),
        *(Setting(name="x"), Thinking(models=(LONG,)), PROVIDERS["openai"], evaluation, evaluation.mae),
        *(compare(*evaluations.values()), board, board.standings[0], curve, curve.points[0], curve.mae(3200)),
        *(curve.next_rung(3200), curve.examples_needed(20.0), curve.fitted[0], score, evaluation.records[0]),
        *(evaluate.BestCheckpoint(best=score, scores=(score,) * N, by="mae", choice=choice), choice),
        evaluation.scored[0],
        *(
            evaluation.by_price_band()[0],
            trial,
            planned,
            outcome,
            evaluate.SweepPlan(jobs=(planned,) * 20, budget=1),
        ),
        *(evaluate.SweepResult(outcomes=(outcome,) * 20), evaluate.METRICS["mae"], data, *baselines),
        Evaluator(baselines=items, beside=[lambda _: 1.0] * N),
        Sweep(clients=client, train=items, test=items, folder="s", sizes=[100] * 50, models=[LONG] * 5),
        evaluate.PromptedPredictor(client, "m", formatter=writer.formatter),
        LoraLearner("models/smol"),
        plan_launch("process", bases={LONG: LONG}),
        LaunchedServer(
            "process",
            "x" * 40,
            Instance(id="1", url="http://127.0.0.1:65535/v1", settings="", log=LONG),
            "sk-secret",
        ),
        *(ensemble, replace(ensemble.members[0], name=LONG, errors=(0.0,) * N)),
    ]
    return {type(instance).__name__: instance for instance in instances}


def public() -> Iterator[tuple[str, Any]]:
    for module in (finetune_pricer, *(importlib.import_module(f"finetune_pricer.{room}") for room in ROOMS)):
        for name in module.__all__:
            yield name, getattr(module, name)


# Made by a service's answers, and shown by their ids: `tests/test_batch.py` has them. One needs torch, and
# is in `tests/lora/test_adapters_elsewhere.py`.
ELSEWHERE = {"BatchRun", "AsyncBatchRun", "AdapterPricer"}


def has_instances(value: Any) -> bool:
    is_protocol = getattr(value, "_is_protocol", False)
    return inspect.isclass(value) and not is_protocol and not inspect.isabstract(value)


@pytest.mark.parametrize("name", sorted({name for name, _ in public()} - ELSEWHERE))
def test_a_repr_fits_on_a_screen(name: str) -> None:
    value = dict(public())[name]
    # A class without an instance here is an error of this test: add one to `shown`.
    what = shown()[value.__name__] if has_instances(value) else value
    text = repr(what)
    assert len(text) < MOST, f"{len(text):,} characters: {text[:200]}"
    if has_instances(value):
        assert " object at 0x" not in text or name in {"AnswerStore", "FittingData", "Sweep"}, text


PAGES = """AuditReport BestCheckpoint Comparison CostEstimate Deployment Description Ensemble Evaluation
Forecast JsonlReport Leaderboard Rung SweepPlan SweepResult TokenCount""".split()


@pytest.mark.parametrize("name", PAGES)
def test_what_prints_well_shows_in_a_notebook_as_it_prints(name: str) -> None:
    page = shown()[name]
    assert repr(page).startswith(f"<{name}: {str(page).partition(chr(10))[0][:40]}")
    assert printed_by_ipython(page) == str(page)
    html = page._repr_html_()
    assert "<b>with</b>" not in html
    if name not in {
        "Comparison",
        "Evaluation",
        "Leaderboard",
    }:  # these have tables and paragraphs of their own
        assert html.startswith("<pre>")


def printed_by_ipython(page: Any) -> str:
    """What IPython's printer writes, by the three methods that it lends to `_repr_pretty_`."""
    out = io.StringIO()

    class Printer:
        def text(self, text: str) -> None:
            out.write(text)

        def break_(self) -> None:
            out.write("\n")

    page._repr_pretty_(Printer(), cycle=False)
    return out.getvalue()


def test_a_set_shows_its_first_rows_as_a_table() -> None:
    html = ItemDataset.from_items(things()).filter(lambda item: True)._repr_html_()
    assert html.count("<tr>") == 6
    assert "A brass lamp &lt;b&gt;with&lt;/b&gt;" in html
    assert "600 items" in html
    assert len(html) < MOST * 2
    assert "<td></td>" in ItemDataset.from_items([Item(title="no price")])._repr_html_()
    assert ItemDataset.from_items([])._repr_html_().count("<tr>") == 1


def test_predictions_show_their_first_rows_as_a_table() -> None:
    made = Predictions(
        [
            Prediction(item_id="<a>", price=1234.5, text="\x1b[2J"),
            Prediction(item_id="b", price=None, error="why"),
        ]
        * 300
    )
    html = made._repr_html_()
    assert html.count("<tr>") == 6
    assert "<td>&lt;a&gt;</td><td>1,234.50</td>" in html
    assert "\x1b" not in html
    assert "why" in html
    assert "600 items, 300 without a price" in html


PRINTED = {
    "$756.50 (median; the reply was $680.56)": {"price": 756.5, "text": "$680.56", "decoding": "median"},
    "$680.56 (greedy)": {"price": 680.56, "text": "$680.56"},
    "$1,199.99 (median)": {"price": 1199.99, "text": "about 1199.99 dollars", "decoding": "median"},
    "$20.00 (median; $15.00 to $31.50; the reply was $19)": {
        "price": 20.0,
        "text": "$19",
        "low": 15.0,
        "high": 31.5,
        "decoding": "median",
    },
    "$5.00 (fitted)": {"price": 5.0, "decoding": "fitted"},
    "€12.50 (mean; the reply was 13 €)": {
        "price": 12.5,
        "text": "13 €",
        "decoding": "mean",
        "currency": "EUR",
    },
    "$5.00 (mean; the reply was five \\x1b[2J, as I said)": {
        "price": 5.0,
        "text": "five \x1b[2J,\n as I said",
        "decoding": "mean",
    },
    "no price (the model named none)": {"price": None},
    "no price (not answered yet)": {"price": None, "error": "not answered yet"},
}


@pytest.mark.parametrize(("line", "fields"), PRINTED.items(), ids=PRINTED)
def test_a_prediction_prints_as_its_price_how_it_came_about_and_the_reply_if_that_differs(
    line: str, fields: Mapping[str, Any]
) -> None:
    assert str(Prediction(item_id="a", **fields)) == line


def test_no_private_module_is_shown_as_public() -> None:
    assert not [name for name, value in public() if isinstance(value, ModuleType) and name.startswith("_")]
