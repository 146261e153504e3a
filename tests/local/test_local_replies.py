"""Replies token by token: what is drawn, what is likeliest, and what logprobs say, agree."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import openai
import pytest
from scipy.stats import chisquare

from finetune_pricer.local import Faults
from finetune_pricer.local.api.rate_limit import RateLimiter
from finetune_pricer.local.api.responses import ApiError
from finetune_pricer.local.faults import FaultInjector
from finetune_pricer.local.learners import END
from finetune_pricer.local.learners.reply_format import tokenize
from finetune_pricer.local.learners.reply_trie import ReplyTrie
from finetune_pricer.local.learners.sparse.price_points import PricePoints, find_best_spread, widen
from local_helpers import ask, products

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion
    from openai.types.fine_tuning import FineTuningJob

PROMPT = products(1, seed=99)[0].prompt
MESSAGES: Any = [{"role": "user", "content": PROMPT}]


def create(client: openai.OpenAI, job: FineTuningJob, **options: Any) -> ChatCompletion:
    made: ChatCompletion = client.chat.completions.create(
        model=job.fine_tuned_model or "", messages=MESSAGES, **options
    )
    return made


def tokens(answer: ChatCompletion, choice: int = 0) -> list[Any]:
    logprobs = answer.choices[choice].logprobs
    assert logprobs is not None
    return logprobs.content or []


def test_prices_are_cut_as_o200k_cuts_them() -> None:
    assert tokenize("$1199.99") == ["$", "119", "9", ".", "99"]
    assert tokenize("$1,199.99") == ["$", "1", ",", "199", ".", "99"]
    assert tokenize("Price is $5") == ["Price", " is", " $", "5"]


def test_samples_agree_with_logprobs(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    greedy = create(client, tuned, temperature=0, logprobs=True, top_logprobs=20)
    likely = {top.token: math.exp(top.logprob) for top in tokens(greedy)[1].top_logprobs}
    seen: Counter[str] = Counter()
    for seed in range(32):
        answer = create(client, tuned, n=64, temperature=1, seed=seed, logprobs=True)
        seen.update(tokens(answer, choice)[1].token for choice in range(64))

    common = [token for token, share in likely.items() if share * 2_048 >= 5]
    rest = 1 - sum(likely[token] for token in common)
    expected = [likely[token] for token in common] + [rest]
    observed = [seen[token] for token in common] + [2_048 - sum(seen[token] for token in common)]

    assert len(common) > 5
    assert chisquare(observed, np.array(expected) * 2_048).pvalue > 0.001


def test_the_greedy_reply_is_the_most_likely_token_each_time(
    client: openai.OpenAI, tuned: FineTuningJob
) -> None:
    answer = create(client, tuned, temperature=0, logprobs=True, top_logprobs=20)

    for token in tokens(answer):
        assert token.token == token.top_logprobs[0].token
        assert token.logprob == token.top_logprobs[0].logprob
        ranked = [top.logprob for top in token.top_logprobs]
        assert ranked == sorted(ranked, reverse=True)
        assert sum(map(math.exp, ranked)) <= 1 + 1e-9
        assert token.bytes == list(token.token.encode())
    assert "".join(token.token for token in tokens(answer)) == answer.choices[0].message.content


def test_a_thousand_alternatives_are_all_that_a_model_knows(
    client: openai.OpenAI, tuned: FineTuningJob
) -> None:
    few, all_of_them = (
        tokens(create(client, tuned, temperature=0, logprobs=True, top_logprobs=count))[1].top_logprobs
        for count in (20, 1_000)
    )
    assert [top.token for top in all_of_them[:20]] == [top.token for top in few]
    assert len(few) == 20 < len(all_of_them)
    assert sum(math.exp(top.logprob) for top in all_of_them) == pytest.approx(1, abs=1e-5)


def test_logprobs_without_alternatives_list_none(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    assert all(not token.top_logprobs for token in tokens(create(client, tuned, logprobs=True)))
    assert create(client, tuned).choices[0].logprobs is None


def test_the_same_seed_gives_the_same_replies(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    def draw(seed: int | None) -> list[str | None]:
        answer = create(client, tuned, n=16, temperature=1.3, seed=seed)
        return [choice.message.content for choice in answer.choices]

    assert draw(-5) == draw(-5) != draw(6)
    assert draw(None) != draw(None)


def test_temperature_and_top_p_narrow_what_is_drawn(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    def kinds(**options: Any) -> int:
        answer = create(client, tuned, n=128, seed=1, **options)
        return len({choice.message.content for choice in answer.choices})

    assert kinds(temperature=2) > kinds(temperature=1) > kinds(temperature=0.3) > 1
    assert kinds(temperature=1) > kinds(temperature=1, top_p=0.2) > kinds(temperature=1, top_p=0) == 1


@pytest.mark.parametrize(
    ("stop", "kept", "written"), [(".", 2, 4), (["no", "."], 2, 4), ("$", 0, 4), ("none", 4, 4)]
)
def test_a_stop_sequence_ends_the_reply_before_it(
    client: openai.OpenAI, tuned: FineTuningJob, stop: Any, kept: int, written: int
) -> None:
    whole = create(client, tuned, temperature=0).choices[0].message.content or ""
    answer = create(client, tuned, temperature=0, stop=stop, logprobs=True)

    assert answer.choices[0].message.content == "".join(tokenize(whole)[:kept])
    assert answer.choices[0].finish_reason == "stop"
    assert len(tokens(answer)) == kept


def test_a_stop_sequence_inside_a_token_leaves_its_first_half(
    client: openai.OpenAI, tuned: FineTuningJob
) -> None:
    whole = create(client, tuned, temperature=0).choices[0].message.content or ""

    answer = create(client, tuned, temperature=0, stop=whole[-1])

    assert answer.choices[0].message.content == whole[: whole.index(whole[-1])]


def test_a_stream_adds_up_to_the_whole_answer(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    whole = create(client, tuned, n=2, temperature=1, seed=4, logprobs=True)
    chunks = list(
        client.chat.completions.create(
            model=tuned.fine_tuned_model or "",
            messages=MESSAGES,
            n=2,
            temperature=1,
            seed=4,
            logprobs=True,
            stream=True,
            stream_options={"include_usage": True},
        )
    )

    for index in (0, 1):
        parts = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
        assert parts[0].delta.role == "assistant"
        assert "".join(part.delta.content or "" for part in parts) == whole.choices[index].message.content
        assert [part.finish_reason for part in parts][-1] == "stop"
        said = [token for part in parts if part.logprobs for token in part.logprobs.content or []]
        assert said == tokens(whole, index)
    assert chunks[-1].usage == whole.usage
    assert chunks[-1].choices == []
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_a_prompt_over_the_context_is_refused_as_such(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    with pytest.raises(openai.BadRequestError, match="maximum context length is 65536") as refused:
        ask(client, tuned.fine_tuned_model, "lamp " * 70_000)

    assert refused.value.code == "context_length_exceeded"


def test_a_reply_that_may_end_or_go_on_offers_the_end_as_an_alternative() -> None:
    trie = ReplyTrie([["$", "119"], ["$", "119", "9"], ["$", "20"]])
    distribution = trie.distribution(np.array([0.5, 0.3, 0.2]))

    short = distribution.sample(temperature=0, alternatives=3)
    drawn = Counter(
        "".join(token.token for token in distribution.sample(random=np.random.default_rng(seed)))
        for seed in range(500)
    )

    assert [token.token for token in short] == ["$", "119"]
    assert dict(short[1].alternatives) == pytest.approx({"119": math.log(0.8), "20": math.log(0.2)})
    assert 200 < drawn["$119"] < 300
    assert 110 < drawn["$1199"] < 190
    long = ReplyTrie([["1"], ["1", "9"]]).distribution(np.array([0.4, 0.6])).sample(alternatives=2)
    assert [name for name, _ in long[1].alternatives] == ["9", END]


def test_gaps_between_prices_are_filled_with_prices_that_end_alike() -> None:
    points = PricePoints.from_prices([9.99, 19.99, 49.99], decimals=2)

    assert {9.99, 19.99, 49.99} < set(points.prices)
    assert len(points.prices) > 20
    assert all(f"{price:.2f}".endswith(".99") for price in points.prices)
    logs = np.log1p(points.prices)
    assert np.diff(logs[points.prices >= 20]).max() < 0.1


def test_of_prices_closer_together_than_a_guess_can_tell_the_most_liked_is_offered() -> None:
    prices = [*[19.99] * 50, 19.5, *[20] * 20, 20.5, *[24.99] * 9, *[39.99] * 30]
    points, edges = PricePoints.from_prices(prices, decimals=2), np.linspace(0, 5, 11)

    offered = points.kernel(edges, 0.6).sum(axis=0)

    near = (points.prices > 18.5) & (points.prices < 21.5)
    assert points.prices[near & (offered > 0)] == [19.99]
    logs = np.log1p(points.prices[offered > 0])
    assert 0.1 <= np.diff(logs).min() <= np.diff(logs).max() < 0.25
    assert (points.kernel(edges, 0.0).sum(axis=0)[near & (points.prices % 1 > 0)] > 0).any()
    assert points.kernel(edges, 0.6).sum(axis=1) == pytest.approx(np.ones(10), rel=1e-5)


def test_a_guess_that_is_too_sure_is_widened_until_it_is_right() -> None:
    edges, random = np.linspace(0, 4, 41), np.random.default_rng(0)
    truth = random.integers(8, 32, 400)
    missed = truth + np.rint(random.normal(0, 3, 400)).astype(int)
    guesses = np.eye(40, dtype=np.float32)[np.clip(missed, 0, 39)]

    spread = find_best_spread(guesses, edges, truth)

    assert 0.2 <= spread <= 0.45
    assert widen(guesses, edges, spread).sum(axis=1) == pytest.approx(np.ones(400), rel=1e-4)


def test_rate_limit_headers_count_down(client: openai.OpenAI) -> None:
    left = []
    for _ in range(2):
        raw = client.chat.completions.with_raw_response.create(model="pricer-base", messages=MESSAGES)
        left.append(int(raw.headers["x-ratelimit-remaining-tokens"]))
        assert raw.headers["x-ratelimit-limit-requests"] == "600000"
        assert raw.headers["x-ratelimit-reset-requests"].endswith("ms")
    assert left[1] <= left[0]


def test_a_minute_has_its_requests_and_then_says_when_to_come_back() -> None:
    clock = [0.0]
    rates = RateLimiter(
        FaultInjector(Faults(requests_per_minute=2, tokens_per_minute=1_000)), lambda: clock[0]
    )
    rates.admit("m", 10)
    assert rates.admit("m", 10)["x-ratelimit-remaining-requests"] == "0"

    with pytest.raises(ApiError, match="requests per min") as refused:
        rates.admit("m", 10)

    assert refused.value.status == 429
    assert refused.value.headers is not None
    clock[0] += int(refused.value.headers["retry-after-ms"]) / 1_000
    rates.admit("m", 10)
    clock[0] += 60
    rates.admit("m", 5_000)  # more than a minute's worth passes once the bucket is full
    clock[0] += 30
    with pytest.raises(ApiError, match="tokens per min"):
        rates.admit("m", 1)
