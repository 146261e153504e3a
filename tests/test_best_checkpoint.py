"""The best checkpoint is chosen on the same items for all, and the table shows every one."""

import json
from typing import Any

import httpx2
import openai
import pytest
import respx

from finetune_pricer import ChatFormatter, FineTuneJob, Item, ItemDataset, best_checkpoint
from finetune_pricer.errors import DataError, EvaluationError, NotSupported
from finetune_pricer.evaluate import METRICS
from finetune_pricer.providers import PROVIDERS
from finetune_pricer.tune import JobRecord

ITEMS = [Item(title=f"Lamp {number}", price=20.0 + number) for number in range(6)]


def job_with(
    client: openai.OpenAI, service: respx.MockRouter, replies: dict[str, str], provider: str = "openai"
) -> FineTuneJob:
    rows = [
        {"id": f"c{step}", "step_number": step, "fine_tuned_model_checkpoint": model}
        for step, model in enumerate(replies, start=1)
    ]
    service.get("/fine_tuning/jobs/ftjob-1/checkpoints").respond(json={"data": rows[::-1]})

    def reply(request: Any) -> Any:
        content = replies[json.loads(request.content)["model"]]
        message = {"role": "assistant", "content": content}
        return httpx2.Response(200, json={"id": "x", "choices": [{"index": 0, "message": message}]})

    service.post("/chat/completions").mock(side_effect=reply)
    return FineTuneJob(client, JobRecord(id="ftjob-1", status="succeeded"), PROVIDERS[provider])


def test_the_one_with_the_smallest_error_wins_and_all_stand_in_the_table(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    job = job_with(client, service, {"early": "no idea", "middle": "$22", "late": "$90"})
    found = best_checkpoint(job, ITEMS)
    assert found.model == "middle"
    frame = found.to_frame()
    assert list(frame["step"]) == [1, 2, 3]
    assert frame["mae"].iloc[1] == pytest.approx(1.5)
    assert list(frame["n"]) == [0, 6, 6]
    assert [line[0] for line in str(found).splitlines()] == [" ", "*", " "]
    assert "no reply held a price" in str(found)
    assert [[one.text for one in score.predictions] for score in found.scores] == [["no idea"] * 6, [], []]


PRICE_METRICS = [name for name, info in METRICS.items() if not info.of_ranges]


# Red and orange guesses are those that are not green: fewer of them is better, and these have neither.
@pytest.mark.parametrize("by", PRICE_METRICS)
@pytest.mark.parametrize("order", [1, -1], ids=["bad first", "good first"])
def test_whatever_the_metric_the_exact_checkpoint_beats_those_that_are_too_low_and_too_high(
    client: openai.OpenAI, service: respx.MockRouter, by: str, order: int
) -> None:
    prices = {"low": (1, 10, 300), "high": (70, 900, 900), "exact": (20, 60, 500)}
    items = [Item(title=f"Lamp {number}", price=price) for number, price in enumerate(prices["exact"])]
    job = job_with(client, service, dict.fromkeys([*prices][::order], ""))

    def reply(request: Any) -> Any:
        asked = json.loads(request.content)
        number = int(asked["messages"][-1]["content"].split("Lamp ")[1][0])
        message = {"role": "assistant", "content": f"${prices[asked['model']][number]}"}
        return httpx2.Response(200, json={"id": "x", "choices": [{"index": 0, "message": message}]})

    service.post("/chat/completions").mock(side_effect=reply)
    assert best_checkpoint(job, items, by=by).model == "exact"


@pytest.mark.parametrize("by", ["within_20", "r2", "green"])
def test_where_more_is_better_the_largest_wins(
    client: openai.OpenAI, service: respx.MockRouter, by: str
) -> None:
    job = job_with(client, service, {"early": "$500", "late": "$22"})
    assert best_checkpoint(job, ITEMS, by=by).model == "late"


def test_by_bias_the_one_nearest_to_zero_wins(client: openai.OpenAI, service: respx.MockRouter) -> None:
    job = job_with(client, service, {"too low": "$10", "nearest": "$24", "too high": "$90"})
    found = best_checkpoint(job, ITEMS, by="bias")
    assert found.model == "nearest"
    assert found.to_frame()["bias"].tolist() == pytest.approx([-12.5, 1.5, 67.5])


def test_a_checkpoint_whose_metric_has_no_value_does_not_win(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    # Only the dear item is priced by "nan": one price has no r².
    items = [Item(title="Lamp 0", price=20.0), Item(title="Lamp 1", price=60.0)]
    job = job_with(client, service, {"nan": "", "poor": "$40"})

    def reply(request: Any) -> Any:
        asked = json.loads(request.content)
        silent = asked["model"] == "nan" and "Lamp 0" in asked["messages"][-1]["content"]
        message = {"role": "assistant", "content": "no idea" if silent else "$60"}
        return httpx2.Response(200, json={"id": "x", "choices": [{"index": 0, "message": message}]})

    service.post("/chat/completions").mock(side_effect=reply)
    assert best_checkpoint(job, items, by="r2", unscored="skip").model == "poor"


def test_the_formatter_that_is_given_asks(client: openai.OpenAI, service: respx.MockRouter) -> None:
    job = job_with(client, service, {"a": "$22"})
    best_checkpoint(job, ITEMS[:1], formatter=ChatFormatter("How dear is it?"))
    assert "How dear is it?" in json.loads(service.calls.last.request.content)["messages"][0]["content"]


def test_what_cannot_be_compared_is_an_error(client: openai.OpenAI, service: respx.MockRouter) -> None:
    for by in ("name", "coverage", "width"):  # before anything is asked
        with pytest.raises(DataError, match=f"no metric '{by}' .*; choose one of mae, .*, red$"):
            best_checkpoint(job_with(client, service, {}), ITEMS, by=by)
    with pytest.raises(EvaluationError, match="no checkpoint has a mae") as caught:
        best_checkpoint(job_with(client, service, {"a": "dear"}), ITEMS)
    assert [one.text for one in caught.value.predictions] == ["dear"] * 6
    with pytest.raises(NotSupported, match="must be deployed"):
        best_checkpoint(job_with(client, service, {"a": "$1"}, "nebius"), ITEMS)
    with pytest.raises(NotSupported, match="there are none"):
        best_checkpoint(job_with(client, service, {}), ITEMS)


def answering_by_item(service: respx.MockRouter, prices: dict[str, dict[int, str]]) -> None:
    def reply(request: Any) -> Any:
        asked = json.loads(request.content)
        number = int(asked["messages"][-1]["content"].split("Lamp ")[1].split()[0])
        message = {"role": "assistant", "content": prices[asked["model"]][number]}
        return httpx2.Response(200, json={"id": "x", "choices": [{"index": 0, "message": message}]})

    service.post("/chat/completions").mock(side_effect=reply)


def test_a_checkpoint_that_is_silent_on_the_dear_half_does_not_win(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    items = [Item(title=f"Lamp {at}", price=price) for at, price in enumerate((10.0, 20.0, 400.0, 500.0))]
    job = job_with(client, service, {"silent": "", "honest": ""})
    answering_by_item(
        service,
        {
            "silent": {0: "$11", 1: "$21", 2: "dear", 3: "dear"},
            "honest": {0: "$15", 1: "$25", 2: "$300", 3: "$380"},
        },
    )
    with pytest.raises(EvaluationError, match=r"2 of 4 items are unscored in 'silent'"):
        best_checkpoint(job, items)
    train = ItemDataset.from_items(Item(title=f"Mug {at}", price=30.0 + at) for at in range(3))
    found = best_checkpoint(job, items, baselines=train)
    assert found.model == "honest"
    assert "with the training median $31.00 in their place MAE" in str(found)
    assert best_checkpoint(job, items, unscored="skip").model == "silent"


def test_the_winner_is_told_on_test_items_or_corrected_for_the_choice(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    job = job_with(client, service, {"poor": "$90", "best": "$22"})
    corrected = best_checkpoint(job, ITEMS)
    assert corrected.choice.test is None
    line = next(line for line in str(corrected).splitlines() if line.startswith("*"))
    assert "corrected for the choice among 2 ($1.50 on the items that chose it)" in line
    later = [Item(title=f"Lamp {number}", price=30.0) for number in range(10, 14)]
    tested = best_checkpoint(job, validation=ITEMS, test=later)
    assert tested.model == "best"
    assert tested.choice.metric.value == pytest.approx(8)
    assert "MAE $8.00 (95% CI $8.00 to $8.00, too short) on 4 items that had no part in choosing it" in str(
        tested
    )
    with pytest.raises(DataError, match="hand in the items to choose on"):
        best_checkpoint(job)
    with pytest.raises(DataError, match="hand in the items to choose on"):
        best_checkpoint(job, ITEMS, validation=ITEMS)
