from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import openai
import pytest

from local_helpers import INSTRUCTION, ask, jsonl, products, train

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

PROMPT = products(1, seed=99)[0].prompt
MESSAGES: Any = [{"role": "user", "content": PROMPT}]


def test_a_base_model_says_that_it_was_not_trained(client: openai.OpenAI) -> None:
    reply = ask(client, "pricer-base", PROMPT)

    assert "not been trained" in reply
    assert not re.search(r"\d", reply)


def test_the_model_answers_in_the_form_it_was_trained_on(client: openai.OpenAI) -> None:
    model = train(client, jsonl(products(30), "{:.0f} dollars".format)).fine_tuned_model

    assert re.fullmatch(r"\d+ dollars", ask(client, model, PROMPT))


def test_temperature_zero_always_gives_the_same_reply(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    assert len({ask(client, tuned.fine_tuned_model, PROMPT) for _ in range(5)}) == 1


def test_many_choices_at_a_temperature_differ_and_a_seed_repeats_them(
    client: openai.OpenAI, tuned: FineTuningJob
) -> None:
    def draw(seed: int) -> list[str | None]:
        answer = client.chat.completions.create(
            model=tuned.fine_tuned_model or "", messages=MESSAGES, n=8, temperature=1, seed=seed
        )
        return [choice.message.content for choice in answer.choices]

    assert len(set(draw(1))) > 1
    assert draw(1) == draw(1) != draw(2)


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_a_reply_over_the_limit_is_cut_and_says_so(
    client: openai.OpenAI, tuned: FineTuningJob, limit: str
) -> None:
    whole = ask(client, tuned.fine_tuned_model, PROMPT)
    options: dict[str, Any] = {limit: 3}

    answer = client.chat.completions.create(
        model=tuned.fine_tuned_model or "", messages=MESSAGES, temperature=0, **options
    )

    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.content == whole[:-2]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


def test_a_whole_number_may_be_written_with_a_point(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    options: Any = {"n": 2.0, "max_tokens": 10**30, "seed": 3.0, "logit_bias": {"5": -1.0}}

    answer = client.chat.completions.create(model=tuned.fine_tuned_model or "", messages=MESSAGES, **options)

    assert len(answer.choices) == 2


def test_usage_counts_what_was_read_and_written(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    answer = client.chat.completions.create(
        model=tuned.fine_tuned_model or "", messages=MESSAGES, n=2, temperature=0, max_tokens=7
    )

    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8
    assert answer.usage.prompt_tokens > len(INSTRUCTION.split())
    assert answer.usage.total_tokens == 8 + answer.usage.prompt_tokens


def test_system_messages_and_text_in_parts_are_understood(
    client: openai.OpenAI, tuned: FineTuningJob
) -> None:
    messages: Any = [
        {"role": "system", "content": "You price things."},
        {"role": "user", "content": [{"type": "text", "text": PROMPT}]},
    ]

    answer = client.chat.completions.create(
        model=tuned.fine_tuned_model or "", messages=messages, temperature=0
    )

    assert answer.choices[0].message.content == ask(client, tuned.fine_tuned_model, PROMPT)


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(
        openai.NotFoundError, match=r"The model `gpt-9` does not exist or you do not"
    ) as unknown:
        ask(client, "gpt-9", PROMPT)

    assert unknown.value.code == "model_not_found"
    assert "GET /v1/models lists" in str(unknown.value)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "pirate", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": None}]}, "messages"),
        ({"messages": [{"role": "user", "content": []}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "smell"}]}]}, "messages"),
        ({"temperature": 3}, "temperature"),
        ({"n": 0}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": "7"}, "max_completion_tokens"),
        ({"top_p": 1.5}, "top_p"),
        ({"logprobs": True, "top_logprobs": 1_001}, "top_logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"frequency_penalty": 3}, "frequency_penalty"),
        ({"n": 129}, "n"),
        ({"seed": 1.5}, "seed"),
        ({"n": True}, "n"),
        ({"seed": -(2**63) - 1}, "seed"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens"),
    ],
)
def test_a_wrong_value_is_refused_by_name(client: openai.OpenAI, changes: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**{"model": "pricer-base", "messages": MESSAGES} | changes)

    assert refused.value.param == param


def test_an_empty_prompt_gets_a_price_like_any_other(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    assert re.fullmatch(r"\$\d+\.\d\d", ask(client, tuned.fine_tuned_model, ""))
