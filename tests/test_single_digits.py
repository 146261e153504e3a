"""Of a model that writes digit by digit the predictor says, once, that several replies are better."""

import logging
import math
from typing import Any

import httpx
import openai
import pytest
import respx

from finetune_pricer import Predictor
from helpers import completion

DIGITS = ["$", "1", "2", ".", "9", "9"]
THREES = ["$", "12", ".", "99"]


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, "finetune_pricer")
    return caplog


def say(tokens: list[str], *others: str) -> httpx.Response:
    content = [
        {
            "token": token,
            "logprob": math.log(0.6),
            "top_logprobs": [{"token": other, "logprob": math.log(0.3)} for other in others],
        }
        for token in tokens
    ]
    said = {"role": "assistant", "content": "".join(tokens)}
    return completion(
        choices=[{"index": 0, "finish_reason": "stop", "message": said, "logprobs": {"content": content}}]
    )


def warnings_after(
    client: openai.OpenAI,
    service: respx.MockRouter,
    log: pytest.LogCaptureFixture,
    answer: Any,
    **settings: Any,
) -> list[str]:
    service.post("/chat/completions").mock(return_value=answer)
    predictor = Predictor(client, "m", **settings)
    predictor.predict("a lamp")
    predictor.predict_many([f"lamp {number}" for number in range(5)])
    return [record.getMessage() for record in log.records if "digit by digit" in record.getMessage()]


def test_it_is_said_once(
    client: openai.OpenAI, service: respx.MockRouter, log: pytest.LogCaptureFixture
) -> None:
    (said,) = warnings_after(client, service, log, say(DIGITS, "3", "4"))
    assert "samples=20" in said


@pytest.mark.parametrize(
    ("answer", "settings"),
    [
        pytest.param(say(THREES, "15", "200"), {}, id="tokens of several digits"),
        pytest.param(say(["$", "5"], "6", "7"), {}, id="a price of one digit, by whatever tokenizer"),
        pytest.param(say(["$", "5", ".", "99"], "6"), {}, id="cents in one token"),
        pytest.param(say(DIGITS, "35"), {}, id="an alternative of two digits"),
        pytest.param(say(DIGITS, "3"), {"decoding": "greedy"}, id="who asked for the likeliest reply"),
        pytest.param(say(DIGITS, "3"), {"samples": 5}, id="who has draws"),
        pytest.param(say(["$12", " or 1", "2"]), {"decoding": "median"}, id="digits in other places"),
        pytest.param(completion(choices=[{"message": {"content": "$12.99"}}]), {}, id="no logprobs"),
    ],
)
def test_it_is_not_said(
    client: openai.OpenAI,
    service: respx.MockRouter,
    log: pytest.LogCaptureFixture,
    answer: Any,
    settings: dict[str, Any],
) -> None:
    assert not warnings_after(client, service, log, answer, **settings)
