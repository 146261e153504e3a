"""A model's reasoning is never its price: by whatever marks, cut or whole, and through every door."""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
import respx

from batch_service import Batches
from finetune_pricer import ChatFormatter, Item, Predictor
from finetune_pricer._reasoning import cut_reasoning
from finetune_pricer.aio import AsyncPredictor
from finetune_pricer.errors import DataError, RequestRejected
from finetune_pricer.predict import Prediction
from finetune_pricer.providers import PROVIDERS

BASE_URL = "https://service.test/v1"
NO_THINKING = {"chat_template_kwargs": {"enable_thinking": False}}
THOUGHT = "Okay, similar ones cost $30 to $40, was $90, so"
HARMONY = "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>{}<|return|>"
Message = dict[str, Any]


def content(form: str, said: str) -> Message:
    return {"content": form.format(THOUGHT, said)}


# How a service shows what a model thinks: the message of a whole reply, and of one cut in its thoughts.
FORMS: dict[str, tuple[Callable[[str], Message], Message]] = {
    "think": (lambda said: content("<think>\n{}\n</think>\n\n{}", said), {"content": f"<think>\n{THOUGHT}"}),
    "no opening tag": (lambda said: content("{}\n</think>\n\n{}", said), {"content": THOUGHT}),
    "capitals": (
        lambda said: content("<Thinking>{}</Thinking>{}", said),
        {"content": f"<Thinking>{THOUGHT}"},
    ),
    "escaped": (
        lambda said: content("&lt;think&gt;{}&lt;/think&gt;{}", said),
        {"content": f"&lt;think&gt;{THOUGHT}"},
    ),
    "magistral": (lambda said: content("[THINK]{}[/THINK]{}", said), {"content": f"[THINK]{THOUGHT}"}),
    "cohere": (
        lambda said: content("<|START_THINKING|>{}<|END_THINKING|>{}", said),
        {"content": f"<|START_THINKING|>{THOUGHT}"},
    ),
    "gemma": (
        lambda said: content("<|channel>thought\n{}<channel|>{}", said),
        {"content": f"<|channel>thought\n{THOUGHT}"},
    ),
    "seed": (
        lambda said: content("<seed:think>{}</seed:think>{}", said),
        {"content": f"<seed:think>{THOUGHT}"},
    ),
    "harmony": (lambda said: content(HARMONY, said), {"content": f"<|channel|>analysis<|message|>{THOUGHT}"}),
    "bare channels": (
        lambda said: content("analysis{}assistantfinal{}", said),
        {"content": f"analysis{THOUGHT}"},
    ),
    "in words": (
        lambda said: content("Thinking Process:\n\n1. {}\n</think>\n\n{}", said),
        {"content": f"Thinking Process:\n\n1. {THOUGHT}"},
    ),
    "half a mark": (lambda said: content("<think>{}</think>{}", said), {"content": "<thi"}),
    "reasoning_content": (
        lambda said: {"content": said, "reasoning_content": THOUGHT},
        {"content": None, "reasoning_content": THOUGHT},
    ),
    "reasoning": (
        lambda said: {"content": said, "reasoning": THOUGHT},
        {"content": "", "reasoning": THOUGHT},
    ),
    "both": (
        lambda said: {"content": f"{THOUGHT}\n{said}", "reasoning_content": THOUGHT},
        {"content": THOUGHT, "reasoning_content": THOUGHT},
    ),
    "hidden": (lambda said: {"content": said}, {"content": None}),
    "parts": (
        lambda said: {"content": [{"type": "reasoning", "text": THOUGHT}, {"type": "text", "text": said}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]}]},
    ),
}
NEEDS = 300  # tokens that the model thinks


class Thinker:
    """A model that thinks, and a service that knows a switch for that, or none."""

    def __init__(self, form: str, switch: dict[str, Any] | None = None, *, needs: int = NEEDS) -> None:
        self.whole, self.cut = FORMS[form]
        self.switch, self.needs = switch, needs
        self.asked: list[dict[str, Any]] = []
        self.bought_cut = 0

    def reply(self, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(body)
        room = int(body.get("max_tokens") or body["max_completion_tokens"])
        message, finish = self.whole("$120.00"), "stop"
        if self.switch is not None and self.switch.items() <= body.items():
            message = {"content": "$120.00"}
        elif room < self.needs:
            message, finish = self.cut, "length"
            self.bought_cut += 1
        return {"choices": [{"index": 0, "message": message, "finish_reason": finish}]}

    def answer(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=self.reply(json.loads(request.content)))

    def answer_line(self, line: dict[str, Any]) -> dict[str, Any]:
        return {"response": {"status_code": 200, "body": self.reply(line["body"])}, "error": None}


def ask_one(items: list[str], **settings: Any) -> list[Prediction]:
    with openai.OpenAI(api_key="x", base_url=BASE_URL, max_retries=0) as client:
        predictor = Predictor(client, **settings)
        return [predictor.predict(item) for item in items]


def ask_many(items: list[str], **settings: Any) -> list[Prediction]:
    with openai.OpenAI(api_key="x", base_url=BASE_URL, max_retries=0) as client:
        return list(Predictor(client, **settings).predict_many(items))


def ask_async(items: list[str], **settings: Any) -> list[Prediction]:
    async def run() -> list[Prediction]:
        async with openai.AsyncOpenAI(api_key="x", base_url=BASE_URL, max_retries=0) as client:
            return list(await AsyncPredictor(client, **settings).predict_many(items))

    return asyncio.run(run())


def ask_in_batches(items: list[str], **settings: Any) -> list[Prediction]:
    with openai.OpenAI(api_key="x", base_url=BASE_URL, max_retries=0) as client:
        run = Predictor(client, **settings).predict_batch(items)
        return list(run.wait(sleep=lambda _: finish()))


finish: Callable[[], None] = lambda: None  # noqa: E731 - set by `serve`
DOORS = {"one": ask_one, "many": ask_many, "async": ask_async, "batch": ask_in_batches}


@pytest.fixture
def serve(service: respx.MockRouter, monkeypatch: pytest.MonkeyPatch) -> Callable[[Thinker], Batches]:
    def start(thinker: Thinker) -> Batches:
        service.post("/chat/completions").mock(side_effect=thinker.answer)
        batches = Batches(service)
        batches.answer = thinker.answer_line
        monkeypatch.setitem(globals(), "finish", batches.finish)
        return batches

    return start


def texts(count: int) -> list[str]:
    return [f"thing number {number}" for number in range(count)]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("switch", [None, NO_THINKING], ids=["no switch", "a switch"])
@pytest.mark.parametrize("form", FORMS)
def test_a_model_that_thinks_is_priced_from_what_it_says(
    form: str, switch: dict[str, Any] | None, door: str, serve: Callable[[Thinker], Batches]
) -> None:
    thinker = Thinker(form, switch)
    serve(thinker)
    found = DOORS[door](texts(3), model="m")
    assert [each.price for each in found] == [120] * 3
    assert all("$30" not in (each.text or "") for each in found)


@pytest.mark.parametrize("form", ["think", "no opening tag", "reasoning_content", "harmony", "hidden"])
@pytest.mark.parametrize("door", ["many", "async", "batch"])
def test_of_a_catalogue_one_item_is_asked_first(
    door: str, form: str, serve: Callable[[Thinker], Batches], caplog: pytest.LogCaptureFixture
) -> None:
    thinker = Thinker(form)
    batches = serve(thinker)
    with caplog.at_level(logging.WARNING, "finetune_pricer"):
        found = DOORS[door](texts(200), model="m")
    assert [each.price for each in found] == [120] * 200
    # In a batch without a store, the item that is asked first is there again.
    assert (thinker.bought_cut, len(thinker.asked)) == (2, 202 + (door == "batch"))
    assert len(batches.batches) == (door == "batch")
    said = [record.message for record in caplog.records if "thinks before it answers" in record.message]
    assert len(said) == 1
    assert "answer_parameters=" in said[0]


def test_with_a_store_the_item_that_is_asked_before_a_batch_is_bought_once(
    serve: Callable[[Thinker], Batches],
) -> None:
    thinker = Thinker("think")
    batches = serve(thinker)
    for _ in range(2):
        found = ask_in_batches(texts(200), model="m", store="kept.sqlite")
        assert [each.price for each in found] == [120] * 200
    assert (len(thinker.asked), len(batches.batches)) == (202, 1)


@pytest.mark.parametrize("door", ["many", "async", "batch"])
def test_a_catalogue_that_a_model_never_stops_thinking_about_is_refused_with_the_switch_named(
    door: str, serve: Callable[[Thinker], Batches]
) -> None:
    thinker = Thinker("think", needs=10**9)
    serve(thinker)
    try:
        errors = [each.error or "" for each in DOORS[door](texts(200), model="m")]
    except RequestRejected as error:
        errors = [str(error)]
    assert all("enable_thinking" in error for error in errors)
    assert len(thinker.asked) <= 5


@pytest.mark.parametrize(
    "model", ["Qwen/Qwen3-8B", "qwen3.5-9b-fast-LoRa:my-tuned-Ju", "google/gemma-4-31b-it"]
)
def test_a_known_model_is_asked_with_its_switch_from_the_start(
    model: str, serve: Callable[[Thinker], Batches]
) -> None:
    thinker = Thinker("think", NO_THINKING)
    serve(thinker)
    assert ask_many(texts(20), model=model)[0].price == 120
    assert (thinker.bought_cut, len(thinker.asked)) == (0, 20)


@pytest.mark.parametrize(
    ("model", "is_asked_not_to"),
    [
        ("gpt-5.1", True),
        ("gpt-6-luna", True),
        ("gpt-5-nano", False),
        ("gpt-5.2-pro", False),
        ("ft:gpt-4.1-nano:me::1", False),
    ],
)
def test_openais_models_are_asked_without_effort_where_they_know_that(
    model: str, *, is_asked_not_to: bool, serve: Callable[[Thinker], Batches]
) -> None:
    thinker = Thinker("hidden", {"reasoning_effort": "none"})
    serve(thinker)
    [found] = ask_one(["a mug"], model=model, provider="openai") if model[:3] != "ft:" else [None]
    if found is None:
        return
    (sent,) = thinker.asked
    assert found.price == 120
    assert ("reasoning_effort" in sent) is is_asked_not_to
    assert ("temperature" in sent) is is_asked_not_to
    assert (sent["max_completion_tokens"] < 20) is is_asked_not_to


def test_a_switch_that_the_service_refuses_is_left_out(service: respx.MockRouter) -> None:
    thinker = Thinker("think")

    def answer(request: httpx.Request) -> httpx.Response:
        if b"chat_template_kwargs" in request.content:
            return httpx.Response(
                400, json={"error": {"message": "Unrecognized argument: chat_template_kwargs"}}
            )
        return thinker.answer(request)

    service.post("/chat/completions").mock(side_effect=answer)
    assert [each.price for each in ask_many(texts(20), model="Qwen/Qwen3-8B")] == [120] * 20
    assert thinker.bought_cut == 1


@pytest.mark.parametrize("door", DOORS)
def test_what_the_user_names_is_sent_and_goes_first(door: str, serve: Callable[[Thinker], Batches]) -> None:
    theirs = {"thinking": {"type": "disabled"}}
    thinker = Thinker("reasoning_content", theirs)
    serve(thinker)
    found = DOORS[door](
        texts(3), model="Qwen/Qwen3-8B", answer_parameters={"extra_body": theirs, "temperature": None}
    )
    assert [each.price for each in found] == [120] * 3
    assert all(body["thinking"] == theirs["thinking"] for body in thinker.asked)
    assert all(not {"chat_template_kwargs", "temperature"} & body.keys() for body in thinker.asked)


def test_room_that_the_user_gives_is_kept(serve: Callable[[Thinker], Batches]) -> None:
    thinker = Thinker("think")
    serve(thinker)
    assert ask_one(["a mug"], model="m", answer_parameters={"max_tokens": 900})[0].price == 120
    assert [body["max_tokens"] for body in thinker.asked] == [900]


@pytest.mark.parametrize(
    "wrong",
    [
        {"n": 2},
        {"messages": []},
        {"stream": True},
        {"max_tokens": 0},
        {"max_tokens": "9"},
        {"x": object()},
        {"temperature": float("nan")},
        {"logit_bias": {"12": float("inf")}},
        "x",
    ],
)
def test_parameters_that_cannot_be_sent_are_refused(wrong: Any, client: openai.OpenAI) -> None:
    with pytest.raises(DataError, match="answer_parameters"):
        Predictor(client, "m", answer_parameters=wrong)


def test_answers_to_other_parameters_are_other_answers(serve: Callable[[Thinker], Batches]) -> None:
    thinker = Thinker("think")
    serve(thinker)
    for parameters in ({"max_tokens": 900}, {"max_tokens": 901}, {"max_tokens": 900}):
        ask_one(["a mug"], model="m", store="kept.sqlite", answer_parameters=parameters)
    assert len(thinker.asked) == 2


def test_a_run_that_was_learned_in_finds_all_its_answers_again(serve: Callable[[Thinker], Batches]) -> None:
    thinker = Thinker("think")
    serve(thinker)
    for _ in range(2):
        assert [each.price for each in ask_many(texts(20), model="m", store="kept.sqlite")] == [120] * 20
    assert len(thinker.asked) == 22


# What a text says when its reasoning is cut off; None where it has not come to an answer.
TEXTS: list[tuple[str, bool, str | None]] = [
    ("$20.00", False, "$20.00"),
    ("<think>\n\n</think>\n\n$20.00", False, "$20.00"),
    ("<think>a</think>$30?<think>b</think>$20.00", False, "$20.00"),
    ("<think>a</think>$30?<think>b", True, None),
    ("$20.00 <think>as others</think>", False, "$20.00"),
    ("<think>$30", False, None),
    ("<think>$30</think>", False, ""),
    ('The "<think>" poster costs $20.00', False, 'The "<think>" poster costs $20.00'),
    ("The <think></think> mug: $20.00", False, "mug: $20.00"),
    ("<|channel|>final<|message|>$20.00", False, "$20.00"),
    ("<|channel|>final <|constrain|>text<|message|>$20.00<|end|>", False, "$20.00"),
    ("<|channel|>analysis", True, None),
    ("analysis shows $20.00", False, "analysis shows $20.00"),
    ("assistantfinal$20.00", False, "$20.00"),
    ("I think $20.00", False, "I think $20.00"),
]


@pytest.mark.parametrize(("text", "is_cut", "said"), TEXTS)
def test_reasoning_is_cut_off_by_its_marks(text: str, *, is_cut: bool, said: str | None) -> None:
    found = cut_reasoning(text, is_cut=is_cut)
    assert found.is_unfinished is (said is None)
    assert (found.text or "").strip() == (said or "")


def test_marks_in_a_products_own_text_teach_nothing(serve: Callable[[Thinker], Batches]) -> None:
    """A reply may repeat them: it is read or refused, and the other items are asked as before."""
    thinker = Thinker("think", needs=0)
    thinker.whole = lambda said: {"content": f"<think> poster: {said}"}
    serve(thinker)
    [found] = ask_one(["A poster of the tag <think>, 50 x 70"], model="m")
    assert found.price is None
    thinker.whole = lambda said: {"content": said}
    assert ask_one(["a mug"], model="m")[0].price == 120
    assert len({json.dumps({**body, "messages": 0}) for body in thinker.asked}) == 1
    assert [found.price for found in ask_one(["The </think> mug"], model="m")] == [120]


@pytest.mark.parametrize("decoding", ["auto", "median"])
@pytest.mark.parametrize("shown", ["in the content", "in a field"])
def test_token_probabilities_of_thoughts_are_no_evidence(
    shown: str, decoding: Any, client: openai.OpenAI, service: respx.MockRouter
) -> None:
    def token(text: str, *others: tuple[str, float]) -> dict[str, Any]:
        return {
            "token": text,
            "logprob": 0.0,
            "top_logprobs": [{"token": t, "logprob": p} for t, p in others],
        }

    thoughts = [
        token("<think>"),
        token("maybe "),
        token("120", ("500", -0.1), ("120", -3.0)),
        token("</think>"),
    ]
    said = [token("$"), token("120", ("120", -0.5), ("110", -1.0)), token("."), token("00")]
    whole = "".join(each["token"] for each in thoughts + said)
    message = (
        {"content": whole} if shown == "in the content" else {"content": "$120.00", "reasoning": "maybe 120"}
    )
    choice = {"message": message, "finish_reason": "stop", "logprobs": {"content": thoughts + said}}
    service.post("/chat/completions").mock(return_value=httpx.Response(200, json={"choices": [choice]}))
    found = Predictor(client, "m", decoding=decoding).predict("a mug")
    assert (found.decoding, found.price) == ("median", 120)
    assert found.distribution is not None
    assert max(found.distribution.prices) < 130


def test_training_data_has_the_empty_think_block_that_a_base_wants() -> None:
    mug = Item(title="Mug", price=7)
    formatter = ChatFormatter(shots=[Item(title="Cup", price=5)])
    tuned = formatter.for_base("Qwen/Qwen3-8B", "nebius")
    *before, last = tuned.example(mug)
    assert last["content"] == "<think>\n\n</think>\n\n$7.00"
    assert before == formatter.prompt(mug) == tuned.prompt(mug)
    assert tuned.fingerprint != formatter.fingerprint
    for base in (
        "meta-llama/Llama-3.1-8B-Instruct",
        "Qwen/Qwen3-4B-Instruct-2507",
        "gpt-4.1-nano-2025-04-14",
    ):
        assert formatter.for_base(base).fingerprint == formatter.fingerprint


def test_a_model_that_repeats_its_empty_block_has_room_for_it_and_does_not_count_as_thinking(
    service: respx.MockRouter, caplog: pytest.LogCaptureFixture
) -> None:
    thinker = Thinker("think", needs=18)
    thinker.whole = lambda said: {"content": f"<think>\n\n</think>\n\n{said}"}
    service.post("/chat/completions").mock(side_effect=thinker.answer)
    formatter = ChatFormatter().for_base("Qwen/Qwen3-8B")
    assert ask_one(["a mug"], model="tuned", formatter=formatter)[0].price == 120
    assert not caplog.records
    assert len(thinker.asked) == 1


def test_every_profile_says_something_of_thinking() -> None:
    assert all(provider.thinking for provider in PROVIDERS.values())
