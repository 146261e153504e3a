"""A job on an open base model, from its file to the replies of its model, through the protocol alone."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx2
import numpy as np
import openai
import pytest

from finetune_pricer.local.learners.lora.lora_model import LoraModel
from local_helpers import ask, events, eventually, finished, jsonl, products, upload

if TYPE_CHECKING:
    from pathlib import Path

    from openai.types.fine_tuning import FineTuningJob

    from finetune_pricer.local import LocalServer, LoraLearner

# The libraries' own: one still asks the other for names that it will drop.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
PROMPT = products(1, seed=9)[0].prompt
ASKED: Any = [{"role": "user", "content": PROMPT}]


def loaded(server: LocalServer, name: str | None) -> LoraModel:
    """The model as the server holds it."""
    assert server._runtime is not None
    _, model = server._runtime.state.chat._find_model(name or "")
    assert isinstance(model, LoraModel)
    return model


def chances(model: LoraModel) -> dict[str, float]:
    """How likely each reply is, as the answering process says."""
    row = model._process.order("ask", model._adapter, messages=ASKED)
    return dict(zip(model._facts.replies, row, strict=True))


def steps(client: openai.OpenAI, job_id: str) -> list[int]:
    told = [event for event in events(client, job_id) if event.type == "metrics"]
    return [int(event.data["step"]) for event in told]  # type: ignore[index]


# A job from beginning to end


def test_a_job_tells_its_steps_losses_checkpoints_tokens_and_what_was_cut(
    client: openai.OpenAI, tuned: FineTuningJob
) -> None:
    told = events(client, tuned.id)

    assert tuned.status == "succeeded", tuned.error
    assert (tuned.hyperparameters.n_epochs, tuned.hyperparameters.batch_size) == (2, 8)
    assert tuned.hyperparameters.learning_rate_multiplier == 1.0
    assert steps(client, tuned.id) == list(range(1, 11))
    assert any(
        event.message.startswith("The texts of 40 of 40 examples were cut at 16 tokens") for event in told
    )
    measured: list[Any] = [event.data for event in told if event.type == "metrics"]
    assert all(math.isfinite(data["train_loss"]) for data in measured)
    assert [data["step"] for data in measured if "valid_loss" in data] == [5, 10]
    kept = client.fine_tuning.jobs.checkpoints.list(tuned.id).data
    assert [checkpoint.step_number for checkpoint in kept] == [10, 5]
    assert kept[0].metrics.valid_loss != kept[1].metrics.valid_loss
    # Each prompt has 16 tokens of text, the instruction and the marks around both; each reply a few.
    assert tuned.trained_tokens is not None
    assert 2 * 40 * 60 < tuned.trained_tokens < 2 * 40 * 90


def test_base_checkpoint_and_model_give_three_different_distributions_which_sum_to_one(
    server: LocalServer, client: openai.OpenAI, tuned: FineTuningJob
) -> None:
    _, earlier = client.fine_tuning.jobs.checkpoints.list(tuned.id).data
    names = ["tiny", earlier.fine_tuned_model_checkpoint, tuned.fine_tuned_model]
    found = [chances(loaded(server, name)) for name in names]

    assert all(sum(each.values()) == pytest.approx(1) for each in found)
    shared = set.intersection(*map(set, found))
    first, second, third = ([each[reply] for reply in sorted(shared)] for each in found)
    assert np.abs(np.subtract(first, second)).max() > 1e-4
    assert np.abs(np.subtract(second, third)).max() > 1e-5
    # Adapters are swapped on one base: each gives again what it gave.
    assert [chances(loaded(server, name)) for name in names] == found


def test_peft_loads_the_adapter_as_it_is_and_gives_the_same_distribution(
    server: LocalServer, tuned: FineTuningJob, base: Path
) -> None:
    import peft
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = loaded(server, tuned.fine_tuned_model)
    assert model._adapter is not None
    folder = model._adapter[1]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    adapted = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder).eval()
    limit = model._facts.limit
    assert limit is not None
    cut = tokenizer.decode(tokenizer(limit.text_of(PROMPT), add_special_tokens=False).input_ids[:16])
    turn = [{"role": "user", "content": limit.before + cut + limit.after}]
    prompt = tokenizer(
        tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True),
        add_special_tokens=False,
    ).input_ids
    found = chances(model)
    one, other = "$123", "$129"
    scores = []
    for reply in (one, other):
        tokens = [*tokenizer(reply, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        with torch.inference_mode():
            logits = adapted(torch.tensor([[*prompt, *tokens]])).logits[0].double().log_softmax(-1).numpy()
        # After `$12`, both go on with a digit; after `$123` and `$129`, with the end or a fourth digit.
        onward = tokenizer([*"0123456789"], add_special_tokens=False).input_ids
        digits = [token for (token,) in onward]
        row = logits[len(prompt) + 2]
        scores.append(row[tokens[3]] - np.logaddexp.reduce([*row[digits], row[tokenizer.eos_token_id]]))
    # Only `$12` may end there, so the ten digits and the end are the choice, in the server's tree as well.
    assert np.log(found[one] / found[other]) == pytest.approx(scores[0] - scores[1], abs=1e-4)


# Replies


def test_draws_follow_the_distribution(
    server: LocalServer, client: openai.OpenAI, tuned: FineTuningJob
) -> None:
    expected = chances(loaded(server, tuned.fine_tuned_model))
    count = 2_000
    drawn: dict[str, int] = {}
    for seed in range(count // 100):
        answer = client.chat.completions.create(
            model=tuned.fine_tuned_model or "", messages=ASKED, n=100, seed=seed
        )
        for choice in answer.choices:
            text = choice.message.content or ""
            drawn[text] = drawn.get(text, 0) + 1

    assert set(drawn) <= set(expected)
    # In ten groups of about equal weight, so that each holds enough draws for the chi-square.
    order = sorted(expected, key=lambda reply: float(reply.replace("$", "").replace(",", "")))
    places = np.minimum((np.cumsum([expected[reply] for reply in order]) * 10).astype(int), 9)
    weights = np.bincount(places, [expected[reply] for reply in order], 10) * count
    counts = np.bincount(places, [drawn.get(reply, 0) for reply in order], 10)
    kept = weights > 5
    assert ((counts - weights)[kept] ** 2 / weights[kept]).sum() < 28  # one in a thousand


def test_all_alternatives_over_the_api_are_the_distribution(
    server: LocalServer, client: openai.OpenAI, tuned: FineTuningJob
) -> None:
    expected = chances(loaded(server, tuned.fine_tuned_model))
    answer = client.chat.completions.create(
        model=tuned.fine_tuned_model or "",
        messages=ASKED,
        temperature=0,
        logprobs=True,
        top_logprobs=1_000,
    )
    assert answer.choices[0].logprobs is not None

    first, second = (answer.choices[0].logprobs.content or [])[:2]
    assert [(each.token, each.logprob) for each in first.top_logprobs] == [("$", 0.0)]
    by_start: dict[str, float] = {}
    for text, chance in expected.items():
        start = text[1:4].split(",")[0]
        by_start[start] = by_start.get(start, 0.0) + chance
    told = {each.token: math.exp(each.logprob) for each in second.top_logprobs}
    assert len(told) == len(by_start)
    assert sum(told.values()) == pytest.approx(1)
    assert all(by_start[token] == pytest.approx(chance) for token, chance in told.items())


def test_the_api_gives_the_same_reply_in_one_piece_as_a_stream_and_with_probabilities(
    server: LocalServer, client: openai.OpenAI, tuned: FineTuningJob
) -> None:
    model = tuned.fine_tuned_model or ""
    whole = ask(client, model, PROMPT)
    chunks = client.chat.completions.create(model=model, messages=ASKED, temperature=0, stream=True)
    told = client.chat.completions.create(
        model=model, messages=ASKED, temperature=0, logprobs=True, top_logprobs=5
    ).choices[0]

    assert whole.startswith("$")
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    assert told.logprobs is not None
    total = sum(token.logprob for token in told.logprobs.content or [])
    assert math.exp(total) == pytest.approx(chances(loaded(server, model))[whole], rel=1e-6)


def test_many_requests_at_once_get_the_answers_that_each_gets_alone(
    client: openai.OpenAI, tuned: FineTuningJob
) -> None:
    prompts = [item.prompt for item in products(24, seed=11)]
    models = [tuned.fine_tuned_model if place % 3 else "tiny" for place in range(24)]
    alone = [ask(client, model, prompt) for model, prompt in zip(models, prompts, strict=True)]
    together: dict[int, str] = {}

    def question(place: int) -> None:
        together[place] = ask(client, models[place], prompts[place])

    threads = [threading.Thread(target=question, args=(place,)) for place in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert [together[place] for place in range(24)] == alone


def test_a_prompt_over_the_context_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="maximum context length is 480 tokens") as refused:
        ask(client, "tiny", "x" * 600)

    assert refused.value.code == "context_length_exceeded"


# Bad days


def test_a_dead_answering_process_is_told_by_health_and_started_again(
    server: LocalServer, client: openai.OpenAI, learner: LoraLearner, tuned: FineTuningJob
) -> None:
    health = server.url.removesuffix("/v1") + "/health"
    before = ask(client, tuned.fine_tuned_model, PROMPT)
    pid = learner._process.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    failed: list[openai.APIStatusError] = []

    def question() -> None:
        with pytest.raises(openai.InternalServerError) as error:
            ask(client, tuned.fine_tuned_model, PROMPT)
        failed.append(error.value)

    asking = threading.Thread(target=question)
    asking.start()
    child = learner._process._child
    assert child is not None
    eventually(lambda: bool(child._waiting))
    os.kill(pid, signal.SIGKILL)
    asking.join(20)

    assert failed[0].status_code == 503
    assert "the process that answers has died" in failed[0].message
    eventually(lambda: httpx2.get(health).status_code == 503)
    assert "the process that answers has died" in httpx2.get(health).text
    assert ask(client, tuned.fine_tuned_model, PROMPT) == before
    assert learner._process.pid != pid
    eventually(lambda: httpx2.get(health).status_code == 200)


def test_a_cancelled_job_ends_its_process_within_a_second_and_lets_the_next_one_train(
    server: LocalServer, client: openai.OpenAI
) -> None:
    def start() -> str:
        file = upload(client, jsonl(products(400), "${:.0f}".format))
        settings: Any = {"n_epochs": 50, "batch_size": 1}
        job = client.fine_tuning.jobs.create(model="tiny", training_file=file.id, hyperparameters=settings)
        return job.id

    first, second = start(), start()
    eventually(lambda: len(steps(client, first)) > 2, seconds=60)
    assert client.fine_tuning.jobs.retrieve(second).status == "queued"  # they do not train side by side
    assert server._runtime is not None
    *_, slot = server._runtime.state.worker._slots
    process = slot._process
    assert process is not None
    began = time.monotonic()
    client.fine_tuning.jobs.cancel(first)
    eventually(lambda: not process.is_alive, seconds=5)

    assert time.monotonic() - began < 1
    eventually(lambda: client.fine_tuning.jobs.retrieve(second).status == "running")
    client.fine_tuning.jobs.cancel(second)
    assert finished(client, second).status == "cancelled"
