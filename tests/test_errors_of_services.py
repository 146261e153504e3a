# ruff: noqa: E501 - the words of services
"""What services answer when they do not answer: the right class, and the engine's right reaction.

Each row has the words of a service as somebody reported them in public, read on 2026-11-26; long ids and links
are shortened. Requests are counted: 50 items, one request at a time, by a clock of the test's own.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import httpx
import openai
import pytest
import respx

from finetune_pricer import Predictor
from finetune_pricer._service import requests
from finetune_pricer._service.requests import Reply
from finetune_pricer.errors import AccessDenied, NotFound, RequestRejected, ServiceError, ServiceUnavailable
from finetune_pricer.predict.engine import Engine

ITEMS = [f"thing number {number}" for number in range(50)]
STRUCK = 7  # the item that is refused, where only one is
Reaction = Literal["ends", "strikes", "waits", "asks otherwise"]
KINDS: dict[Reaction, tuple[type[ServiceError], ...]] = {
    "ends": (AccessDenied, NotFound),
    "strikes": (RequestRejected,),
    "waits": (ServiceUnavailable,),
    "asks otherwise": (RequestRejected,),
}
Sent = Mapping[str, Any]


class Row(NamedTuple):
    service: str
    source: str
    status: int
    body: Any
    reaction: Reaction
    takes: Callable[[Sent], bool] = lambda _: False
    """Which parameters are taken, where it is these that are refused."""
    settings: Mapping[str, Any] = {}
    sent: int = 51
    """Requests for 50 items, where it is asked otherwise."""


def error(message: str, kind: str | None = None, code: Any = None, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code} | more}


def vllm(message: str) -> dict[str, Any]:
    return {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}


QUOTA = "You exceeded your current quota, please check your plan and billing details."
FREE_TIER = (
    "\n* Quota exceeded for metric: generate_content_free_tier_requests, limit: {}\nPlease retry in 20.04s."
)
TPM = "on tokens per minute (TPM): Limit 6000"


def google(code: int, message: str, status: str = "INVALID_ARGUMENT") -> list[Any]:
    return [{"error": {"code": code, "message": message, "status": status}}]


def no_logprobs(sent: Sent) -> bool:
    return "logprobs" not in sent


GH = "https://github.com/"
ROWS = [
    Row(
        "OpenAI",
        GH + "2389-research/tracker/issues/547",
        429,
        error(QUOTA, "x", "insufficient_quota"),
        "ends",
    ),
    Row(
        "OpenAI",
        GH + "NousResearch/hermes-agent/issues/36276",
        429,
        error(QUOTA, "insufficient_quota"),
        "ends",
    ),
    Row(
        "OpenAI",
        GH + "Chanzhaoyu/chatgpt-web/issues/1273",
        429,
        error(
            "Your account is not active, please check your billing details on our website.",
            "billing_not_active",
        ),
        "ends",
    ),
    Row(
        "OpenAI",
        GH + "vanna-ai/vanna-flask/issues/11",
        429,
        error(
            "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 342389. The input or "
            "output tokens must be reduced in order to run successfully.",
            "tokens",
            "rate_limit_exceeded",
        ),
        "strikes",
    ),
    Row(
        "OpenAI",
        GH + "everruns/everruns/issues/3740",
        429,
        error(
            "Rate limit reached for gpt-5 on tokens per min (TPM): Limit 30000, Used 29000, Requested 5000."
        ),
        "waits",
    ),
    Row(
        "OpenAI",
        GH + "vanderschaarlab/climb/issues/1",
        429,
        error("Limit 3 / min. Please try again in 20s."),
        "waits",
    ),
    Row(
        "Azure",
        GH + "Azure-Samples/graphrag-accelerator/issues/129",
        429,
        error(
            "Requests have exceeded call rate limit of your pricing tier. Please retry after 26 seconds.",
            None,
            "429",
        ),
        "waits",
    ),
    Row(
        "Azure",
        GH + "BerriAI/litellm/issues/8953",
        400,
        error(
            "The response was filtered due to the prompt triggering our content policy.",
            None,
            "content_filter",
        ),
        "strikes",
    ),
    Row(
        "Vertex",
        GH + "BerriAI/litellm/issues/31600",
        400,
        google(400, "Unable to submit request because Logprobs is not supported for this model."),
        "asks otherwise",
        no_logprobs,
    ),
    Row(
        "Gemini",
        GH + "googleapis/python-genai/issues/1921",
        400,
        google(400, "Logprobs is not enabled for models/gemini-2.5-flash"),
        "asks otherwise",
        no_logprobs,
    ),
    Row(
        "Gemini",
        GH + "RUC-NLPIR/Arbor/issues/49",
        400,
        google(400, 'Invalid JSON payload received. Unknown name "logprobs": Cannot find field.'),
        "asks otherwise",
        no_logprobs,
    ),
    Row(
        "Gemini",
        GH + "gke-labs/gemini-for-kubernetes-development/issues/1215",
        429,
        error(json.dumps(error(QUOTA, code=429, status="RESOURCE_EXHAUSTED")), code=429),
        "ends",
    ),
    Row(
        "Gemini",
        GH + "continuedev/continue/issues/10062",
        429,
        google(429, QUOTA + FREE_TIER.format(0), "RESOURCE_EXHAUSTED"),
        "ends",
    ),
    Row(
        "Gemini",
        GH + "google-gemini/gemini-cli/issues/19976",
        429,
        google(429, "Resource has been exhausted (e.g. check quota).", "RESOURCE_EXHAUSTED"),
        "waits",
    ),
    Row(
        "DeepSeek",
        GH + "continuedev/continue/issues/9375",
        402,
        error("Insufficient Balance", "unknown_error", "invalid_request_error"),
        "ends",
    ),
    Row(
        "DeepSeek",
        GH + "vibrantlabsai/ragas/issues/1072",
        422,
        {"detail": "Invalid n value (currently only n = 1 is supported)"},
        "asks otherwise",
        lambda sent: sent.get("n", 1) == 1,
        {"decoding": "median", "samples": 3},
        151,
    ),
    Row(
        "OpenRouter",
        GH + "open-assistant-org/open-assistant/issues/80",
        402,
        error("Insufficient credits. Add more using https://openrouter.ai/settings/credits", code=402),
        "ends",
    ),
    Row(
        "OpenRouter",
        GH + "Taewan-P/gpt_mobile/issues/284",
        402,
        error(
            "This request requires more credits, or fewer max_tokens. You requested up to 16384 tokens, but can "
            "only afford 3919.",
            code=402,
        ),
        "ends",
    ),
    Row(
        "OpenRouter",
        GH + "Aider-AI/aider/issues/3550",
        200,
        error("Rate limit exceeded: limit_rpm", code=429),
        "waits",
    ),
    Row(
        "Groq",
        GH + "HunorLaczko/ha-groq-cloud-api/issues/27",
        413,
        error(
            f"Request too large for model `llama-3.1-8b-instant` {TPM}, Requested 12328, please reduce your "
            "message size and try again.",
            "tokens",
            "rate_limit_exceeded",
        ),
        "strikes",
    ),
    Row(
        "Groq",
        GH + "elizaOS/eliza/issues/4040",
        429,
        error(
            f"Rate limit reached for model `llama-3.1-8b-instant` {TPM}, Used 5034, Requested 1443. Please try "
            "again in 4.77s.",
            "tokens",
            "rate_limit_exceeded",
        ),
        "waits",
    ),
    Row(
        "xAI",
        GH + "cline/cline/issues/4826",
        429,
        {
            "code": "rate",
            "error": "Too many tokens for team e9fe and model grok-4. Your team's rate limit is — "
            "Tokens per Minute (actual/limit): 65605/16000.",
        },
        "waits",
    ),
    Row(
        "vLLM",
        GH + "vllm-project/vllm/issues/5299",
        400,
        vllm("Requested sample logprobs of 20, which is greater than max allowed: 5"),
        "asks otherwise",
        lambda sent: sent.get("top_logprobs", 0) == 5,
    ),
    Row(
        "TGI",
        GH + "huggingface/text-generation-inference/issues/1236",
        422,
        {
            "error": "Input validation error: `temperature` must be strictly positive",
            "error_type": "validation",
        },
        "asks otherwise",
        lambda sent: sent.get("temperature") == 0.001 and "logprobs" in sent,
    ),
    Row(
        "GigaChat",
        GH + "ai-forever/gigachain/issues/237",
        422,
        {"status": 422, "message": "temperature must be in (0, +inf)"},
        "asks otherwise",
        lambda sent: 0 < sent.get("temperature", 0) < 0.1,
    ),
    Row(
        "LM Studio",
        GH + "lmstudio-ai/lmstudio-bug-tracker/issues/618",
        200,
        {"error": "Unexpected endpoint or method. (POST /chat/completions)"},
        "ends",
    ),
    Row(
        "Gemini",
        GH + "google-gemini/gemini-cli/issues/14811",
        429,
        google(429, "Resource exhausted. Please try again later.", "RESOURCE_EXHAUSTED"),
        "waits",
    ),
    Row(
        "OpenRouter",
        GH + "QwenLM/qwen-code/issues/73",
        402,
        error(
            "This request requires more credits, or fewer max_tokens. You requested up to 225702 tokens.",
            code=402,
        ),
        "ends",
    ),
    Row(
        "Groq",
        GH + "continuedev/continue/issues/10218",
        413,
        error(
            "Request too large for model `llama-3.3-70b-versatile` on tokens per minute (TPM): Limit 12000, "
            "Requested 14137, please reduce your message size and try again.",
            code="rate_limit_exceeded",
        ),
        "strikes",
    ),
    Row("9router", GH + "decolua/9router/issues/2727", 200, {"id": None, "choices": None}, "waits"),
    Row(
        "9router",
        GH + "decolua/9router/issues/2727",
        200,
        {"id": None, "choices": None, "error": {"code": 503, "message": "ResourceExhausted"}},
        "waits",
    ),
    Row(
        "LiteLLM",
        GH + "openshift/lightspeed-service/pull/3071",
        400,
        error(
            "openrouter does not support parameters: ['logprobs', 'top_logprobs'], for model=x. To drop these, "
            "set `drop_params=True`"
        ),
        "asks otherwise",
        no_logprobs,
    ),
]
# In our own words, after what the services' documentation says: the kind, where no public thread was read.
NEIGHBORS = [
    Row(
        "OpenRouter",
        "",
        400,
        error(
            "Provider returned error",
            code=400,
            metadata={"raw": json.dumps(error("logprobs is not supported")), "provider_name": "x"},
        ),
        "asks otherwise",
        no_logprobs,
    ),
    Row(
        "OpenAI",
        "",
        400,
        error(
            "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is "
            "supported.",
            "invalid_request_error",
            "unsupported_value",
            param="temperature",
        ),
        "asks otherwise",
        lambda sent: "temperature" not in sent,
    ),
    Row(
        "vLLM",
        "",
        400,
        vllm("Requested sample logprobs of 20, which is greater than max allowed: 10"),
        "asks otherwise",
        lambda sent: sent.get("top_logprobs", 0) == 10,
    ),
    Row("Gemini", "", 429, google(429, QUOTA + FREE_TIER.format(15), "RESOURCE_EXHAUSTED"), "waits"),
    Row("Moonshot", "", 429, error("Your account is suspended", "exceeded_current_quota_error"), "ends"),
    Row("Anthropic", "", 400, error("Your credit balance is too low to access the API."), "ends"),
    Row(
        "SiliconFlow",
        "",
        403,
        {"code": 30001, "message": "Sorry, your account balance is insufficient"},
        "ends",
    ),
    Row("Zhipu", "", 429, error("余额不足或无可用资源包,请充值。", code="1113"), "ends"),
    Row("a gateway", "", 403, error("x", "new_api_error", "insufficient_user_quota"), "ends"),
    Row("a gateway", "", 429, error("You have reached your daily limit of 50 requests."), "ends"),
    Row("a gateway", "", 429, error("Quota exceeded: requests_per_minute_per_project"), "waits"),
    Row(
        "a gateway",
        "",
        400,
        error("Flagged: 'a rechargeable lamp, top up monthly, out of the box'"),
        "strikes",
    ),
    Row(
        "a gateway",
        "",
        200,
        {"choices": [{"finish_reason": "error", "error": {"message": "x", "code": 502}}]},
        "waits",
    ),
    Row("a gateway", "", 200, {"object": "chat.completion", "choices": "none"}, "waits"),
    Row("a gateway", "", 200, {"detail": "upstream connect error"}, "waits"),
    Row("a gateway", "", 200, "<html><title>Sign in</title></html>", "waits"),
    Row("a gateway", "", 501, error("not implemented"), "ends"),
    Row("a gateway", "", 405, {"detail": "Method Not Allowed"}, "ends"),
    Row("a gateway", "", 200, 'data: {"choices": []}\n\ndata: [DONE]\n\n', "ends"),
    Row("a gateway", "", 400, error("model retired", code="model_decommissioned"), "ends"),
    Row("llama.cpp", "", 500, error("the request exceeds the available context size"), "strikes"),
    Row(
        "FastAPI",
        "",
        422,
        {"detail": [{"loc": ["body", "top_logprobs"], "msg": "must be less than or equal to 8"}]},
        "asks otherwise",
        lambda sent: sent.get("top_logprobs") == 8,
    ),
    Row(
        "FastAPI",
        "",
        422,
        {"detail": [{"loc": ["body", "logprobs"], "msg": "Extra inputs are not permitted"}]},
        "asks otherwise",
        no_logprobs,
    ),
    Row(
        "Zhipu",
        "",
        400,
        error("temperature must be in the range [0.01, 0.99]"),
        "asks otherwise",
        lambda sent: sent.get("temperature") == 0.01,
    ),
    Row(
        "Zhipu",
        "",
        400,
        error("temperature must be in the range (0, 1)"),
        "asks otherwise",
        lambda sent: sent.get("temperature") == 0.99,
        {"decoding": "median", "samples": 3},
    ),
    Row("a gateway", "", 400, error("Invalid request."), "asks otherwise", no_logprobs),
    Row(
        "a gateway",
        "",
        400,
        error("max_tokens: must be greater than or equal to 16"),
        "asks otherwise",
        lambda sent: sent.get("max_tokens") == 16,
    ),
]
HEADERS = {"data": "text/event-stream", "<html": "text/html"}


def response_of(row: Row) -> httpx.Response:
    if isinstance(row.body, str):
        kind = HEADERS[row.body[:5].rstrip(":")]
        return httpx.Response(row.status, text=row.body, headers={"content-type": kind})
    return httpx.Response(row.status, json=row.body)


def error_of(client: openai.OpenAI, service: respx.MockRouter, row: Row) -> ServiceError:
    service.post("/chat/completions").mock(return_value=response_of(row))
    with pytest.raises(ServiceError) as caught:
        requests.send(client, requests.ask_model("m", [{"role": "user", "content": "?"}], {}))
    return caught.value


def answer_of(sent: Sent) -> Reply:
    choice = {"message": {"content": "$5.00"}, "finish_reason": "stop"}
    return Reply({"choices": [choice] * sent.get("n", 1)}, {})


class Ran(NamedTuple):
    sent: int
    priced: list[int]
    errors: list[str]
    raised: Exception | None


def drive(engine: Engine, refuse: Callable[[int, str, Sent], Exception | None]) -> Ran:
    """Answer one request after the other until the engine has nothing left to do."""
    now, sent, found, raised = 0.0, 0, [], None
    for number, text in enumerate(ITEMS):
        engine.add(number, text, now)
    for _ in range(1_000):
        step = engine.next(now)
        if isinstance(step, float):
            now += min(step, 10_000.0)
            if step == float("inf"):
                break
            continue
        text, parameters = ITEMS[step.task.index], step.parameters
        refused = refuse(sent, text, parameters)
        sent, now = sent + 1, now + 0.1
        if refused is None:
            engine.take_answer(step, answer_of(parameters), now)
        elif isinstance(refused, ServiceError):
            engine.take_error(step, refused, now)
        else:
            engine.take_crash(step, refused, now)
        try:
            found += engine.take_finished()
        except (ServiceError, RuntimeError) as error:
            raised = error
            break
    if raised is None:
        found += engine.take_finished()
    priced = sorted(number for number, each in found if each.price is not None)
    return Ran(sent, priced, [each.error for _, each in found if each.error], raised)


def names(rows: list[Row]) -> list[str]:
    return [f"{row.service} {row.status} {row.reaction} {place}" for place, row in enumerate(rows)]


@pytest.mark.parametrize("row", ROWS + NEIGHBORS, ids=names(ROWS + NEIGHBORS))
def test_each_error_has_its_class_and_the_engine_reacts_to_it(
    client: openai.OpenAI, service: respx.MockRouter, row: Row
) -> None:
    error = error_of(client, service, row)
    assert isinstance(error, KINDS[row.reaction])
    engine = Predictor(client, "m", **row.settings)._make_engine()

    def refuse(number: int, text: str, sent: Sent) -> ServiceError | None:
        is_struck = {
            "ends": number >= 5,
            "strikes": text == ITEMS[STRUCK],
            "waits": number == 0,
            "asks otherwise": not row.takes(sent),
        }[row.reaction]
        return error if is_struck else None

    ran = drive(engine, refuse)
    everything = list(range(len(ITEMS)))
    if row.reaction == "ends":
        assert (ran.sent, ran.priced) == (6, everything[:5])
    elif row.reaction == "strikes":
        assert (ran.sent, ran.priced) == (50, [number for number in everything if number != STRUCK])
    elif row.reaction == "waits":
        assert (ran.sent, ran.priced) == (51, everything)
    else:
        assert ran.priced == everything
        assert ran.sent == row.sent


@pytest.mark.parametrize("row", [row for row in ROWS if row.reaction == "ends"], ids=lambda row: row.service)
def test_what_ends_a_run_is_raised_at_once_where_nothing_was_answered(
    client: openai.OpenAI, service: respx.MockRouter, row: Row
) -> None:
    error = error_of(client, service, row)
    ran = drive(Predictor(client, "m")._make_engine(), lambda *_: error)
    assert (ran.sent, ran.raised) == (1, error)


@pytest.mark.parametrize("status", [400, 422])
def test_words_that_a_refusal_quotes_from_one_item_change_nothing_for_the_others(
    status: int, client: openai.OpenAI, service: respx.MockRouter
) -> None:
    said = (
        "The input was flagged: 'Thing with logprobs, a max_tokens print, and shows the temperature at once'"
    )
    error = error_of(client, service, Row("x", "", status, {"error": {"message": said}}, "strikes"))
    engine = Predictor(client, "m")._make_engine()
    engine.add(99, said.partition("'")[2].rstrip("'"), 0.0)
    first = engine.next(0.0)
    assert not isinstance(first, float)
    engine.take_error(first, error, 0.1)
    sent: list[Sent] = []
    ran = drive(engine, lambda number, text, parameters: sent.append(parameters))
    assert (ran.sent, len(ran.errors)) == (50, 1)
    assert sent[-1]["top_logprobs"] == 20
    assert sent[-1]["temperature"] == 0


def test_a_first_item_that_is_refused_without_a_reason_costs_the_others_no_token_probabilities(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    error = error_of(client, service, Row("x", "", 400, {"error": {"message": "No."}}, "strikes"))
    sent: list[Sent] = []

    def refuse(_: int, text: str, parameters: Sent) -> ServiceError | None:
        sent.append(parameters)
        return error if text == ITEMS[0] else None

    ran = drive(Predictor(client, "m")._make_engine(), refuse)
    assert (ran.sent, len(ran.priced)) == (51, 49)
    assert ["logprobs" in parameters for parameters in sent] == [True, False, *[True] * 49]


@pytest.mark.parametrize("first", [0, 20])
def test_a_token_provider_that_fails_once_costs_one_more_try(first: int, client: openai.OpenAI) -> None:
    engine = Predictor(client, "m")._make_engine()
    ran = drive(engine, lambda number, *_: RuntimeError("no token") if number == first else None)
    assert (ran.sent, len(ran.priced)) == (51, 50)


def test_a_token_provider_that_never_works_is_raised_and_one_that_stops_leaves_what_was_answered(
    client: openai.OpenAI,
) -> None:
    never = drive(Predictor(client, "m")._make_engine(), lambda *_: RuntimeError("no token"))
    assert isinstance(never.raised, RuntimeError)
    stops = drive(
        Predictor(client, "m")._make_engine(),
        lambda number, *_: RuntimeError("no token") if number >= 5 else None,
    )
    assert (stops.raised, stops.priced) == (None, [0, 1, 2, 3, 4])
    assert all("RuntimeError: no token" in each for each in stops.errors)


def test_the_table_has_thirty_bodies_of_ten_services() -> None:
    assert len(ROWS) >= 30
    assert len({row.service for row in ROWS}) >= 10
    assert all(row.source for row in ROWS)
