"""The best checkpoint is chosen on the same items for all, and the table shows every one."""

import json
from typing import Any

import httpx2
import openai
import pytest
import respx

from finetune_pricer import FineTuneJob, Item
from finetune_pricer.errors import DataError, EvaluationError, NotSupported
from finetune_pricer.evaluate.best_checkpoint import best_checkpoint
from finetune_pricer.providers import PROVIDERS
from finetune_pricer.tune.records import JobRecord

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


def test_where_more_is_better_the_largest_wins(client: openai.OpenAI, service: respx.MockRouter) -> None:
    job = job_with(client, service, {"early": "$500", "late": "$22"})
    assert best_checkpoint(job, ITEMS, by="green").model == "late"


def test_what_cannot_be_compared_is_an_error(client: openai.OpenAI, service: respx.MockRouter) -> None:
    with pytest.raises(DataError, match="no metric 'name'"):
        best_checkpoint(job_with(client, service, {"a": "$1"}), ITEMS, by="name")
    with pytest.raises(EvaluationError, match="no checkpoint has a mae") as caught:
        best_checkpoint(job_with(client, service, {"a": "dear"}), ITEMS)
    assert [one.text for one in caught.value.predictions] == ["dear"] * 6
    with pytest.raises(NotSupported, match="must be deployed"):
        best_checkpoint(job_with(client, service, {"a": "$1"}, "nebius"), ITEMS)
    with pytest.raises(NotSupported, match="there are none"):
        best_checkpoint(job_with(client, service, {}), ITEMS)
