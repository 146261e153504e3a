"""The example of a web service: what its callers get on good days and on bad ones."""

import asyncio
import re
import runpy
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from finetune_pricer.aio import AsyncPredictor
from finetune_pricer.evaluate import MedianBaseline

pytest.importorskip("fastapi")

EXAMPLE = Path(__file__).parents[1] / "examples" / "09_fastapi_service.py"
NOWHERE = "http://127.0.0.1:9/v1"  # a port at which nobody listens

Example = dict[str, Any]


@pytest.fixture(scope="module")
def example() -> Example:
    return runpy.run_path(str(EXAMPLE))


@pytest.fixture
def model() -> AsyncPredictor:
    return AsyncPredictor(
        openai.AsyncOpenAI(base_url=NOWHERE, api_key="sk-secret", max_retries=0), "ft:model"
    )


def ask(app: Any, body: dict[str, Any] | None = None) -> httpx2.Response:
    """The service's answer to a question, or to whether it is well."""

    async def request() -> httpx2.Response:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://service") as user:
            return await (user.get("/health") if body is None else user.post("/price", json=body))

    return asyncio.run(request())


def test_the_example_trains_a_pricer_loads_it_and_answers_with_a_range(
    example: Example, capsys: pytest.CaptureFixture[str]
) -> None:
    example["main"]([])
    said = capsys.readouterr().out
    assert '200 {"status":"ok"}' in said
    assert re.search(r'200 {"price":[\d.]+,"low":[\d.]+,"high":[\d.]+,"problem":null}', said)
    assert "422 " in said


def test_what_asks_no_service_is_loaded_and_answers(example: Example, tmp_path: Path) -> None:
    MedianBaseline(19.5).save(tmp_path)
    answer = ask(example["make_app"](example["load"](tmp_path)), {"title": "A brass lamp"})
    assert (answer.status_code, answer.json()["price"]) == (200, 19.5)


def test_a_model_whose_service_is_away_is_503_while_the_process_is_well(
    example: Example, model: AsyncPredictor, caplog: pytest.LogCaptureFixture
) -> None:
    app = example["make_app"](model)
    answer = ask(app, {"title": "A brass lamp"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert "sk-secret" not in answer.text + caplog.text
    assert "the model's service" in caplog.text
    assert ask(app).json() == {"status": "ok"}


def test_an_answer_that_does_not_come_is_503_at_the_deadline(
    example: Example, model: AsyncPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up = []

    async def never(*_: object) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            given_up.append(True)
            raise

    monkeypatch.setattr(AsyncPredictor, "predict", never)
    answer = ask(example["make_app"](model, deadline=0.01), {"title": "A brass lamp"})
    assert (answer.status_code, answer.json()["detail"]) == (503, "no price within 0.01 seconds")
    assert given_up


@pytest.mark.parametrize("body", [{}, {"title": ""}, {"title": "x" * 501}, {"title": " "}])
def test_what_is_no_product_is_422_and_nobody_is_asked(
    example: Example, model: AsyncPredictor, body: dict[str, Any]
) -> None:
    assert ask(example["make_app"](model), body).status_code == 422


def test_a_folder_without_a_pricer_ends_the_service_at_its_start(example: Example, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no saved pricer"):
        example["main"](["--pricer", str(tmp_path)])
