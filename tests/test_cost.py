"""What a job costs is worked out to the token and the cent before anything is bought."""

import pickle
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import openai
import pytest
import respx

from finetune_pricer import (
    FineTuneJob,
    Item,
    JsonlWriter,
    TokenCount,
    TokenPricing,
    TrainingFile,
    estimate_cost,
)
from finetune_pricer.errors import DataError, OverBudget, PricerError, TrainingFileError
from finetune_pricer.prepare import tokens
from finetune_pricer.providers.pricing import TOKEN_PRICINGS, find_pricing
from finetune_pricer.tune.cost import require_within_budget

KINDS = [Item(title="thing", price=20), Item(title="thing thing", price=1200)]
MINI = "gpt-4.1-mini-2025-04-14"
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"  # of a service that no date ends


@pytest.fixture
def training() -> TrainingFile:
    """200 examples whose tokens can be counted by hand.

    The course's instruction is 14 tokens (12 words and 2 signs), the blank line 1, and each `thing` 1. The
    reply `$|20|.|00` has 4, `$|1|,|200|.|00` has 6. A message has 4 more around its content. So an example of
    the first kind has (4 + 16) + (4 + 4) = 28, one of the second (4 + 17) + (4 + 6) = 31, and all have 5,900.
    """
    return JsonlWriter().write(KINDS * 100, "train.jsonl")


def test_200_examples_are_priced_to_the_token_and_the_cent(training: TrainingFile) -> None:
    validation = JsonlWriter().write([Item(title="thing", price=20)] * 50, "validation.jsonl")
    cost = estimate_cost(
        training,
        model=MINI,
        epochs=3,
        validation=validation,
        provider="openai",
        predictions=10_000,
        samples=5,
    )
    assert cost.tokens.exact
    assert (cost.tokens.billed, cost.trained_tokens, cost.validation_tokens) == (5_900, 17_700, 1_400)
    assert cost.training == pytest.approx(17_700 * 5 / 1e6)  # $0.0885; validation is not billed
    # Asking: 20 or 21 for the question and 3 that open the reply; 4 or 6 tokens in each of 5 replies.
    assert cost.chat == pytest.approx((10_000 * 23.5 * 0.80 + 10_000 * 5 * 5 * 3.20) / 1e6)  # $0.988
    assert cost.batch == pytest.approx((10_000 * 23.5 * 0.40 + 10_000 * 5 * 5 * 1.60) / 1e6)  # $0.494
    assert cost.hosting_per_hour == 0
    assert cost.price is not None
    assert cost.price.as_of == date(2026, 11, 22)
    assert str(cost).splitlines() == [
        f"{MINI} at openai: 200 examples, 3 epochs, 17,700 tokens",
        "  training            $0.09",
        "  10,000 predictions  $0.99, 5 replies each",
        "  by batch            $0.49",
        "  hosting per hour    $0.00",
        "  prices: https://developers.openai.com/api/docs/pricing (read in a mirror), 2026-11-22",
    ]


def test_a_price_that_nobody_knows_is_unknown_and_never_zero(training: TrainingFile) -> None:
    cost = estimate_cost(training, model="some/model", epochs=1, provider="crusoe", predictions=10)
    assert (cost.training, cost.chat, cost.batch, cost.hosting_per_hour, cost.price) == (None,) * 5
    assert cost.trained_tokens == 5_900
    assert str(cost).count("unknown") == 4
    assert "about 5,900 tokens" in str(cost)
    assert "hand one in" in str(cost)


def test_a_service_may_charge_for_hosting_though_training_is_unknown(training: TrainingFile) -> None:
    cost = estimate_cost(training, model=MINI, epochs=1, provider="azure")
    assert (cost.training, cost.hosting_per_hour) == (None, 1.7)


def test_a_price_can_be_handed_in(training: TrainingFile) -> None:
    assert estimate_cost(training, model="mine", epochs=2, price=4).training == pytest.approx(0.0472)
    row = TokenPricing(train=4, input=1, output=2, bills_validation=True)
    cost = estimate_cost(training, model="mine", epochs=2, price=row, validation=training, predictions=200)
    assert cost.training == pytest.approx(2 * 0.0472)
    assert cost.chat == pytest.approx(200 * (23.5 * 1 + 5 * 2) / 1e6)
    assert cost.batch is None
    assert cost.price == row


def test_a_count_that_was_made_is_not_made_again(training: TrainingFile) -> None:
    tokens = estimate_cost(training, model=MINI, epochs=1).tokens
    training.path.unlink()
    assert isinstance(tokens, TokenCount)
    assert estimate_cost(tokens, model=MINI, epochs=2, provider="openai").training == pytest.approx(0.059)


def test_rehearsing_costs_nothing(training: TrainingFile) -> None:
    cost = estimate_cost(training, model="pricer-base", epochs=9, provider="local", predictions=100)
    assert (cost.training, cost.chat, cost.batch, cost.hosting_per_hour) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    "bad", [{"epochs": 0}, {"epochs": "auto"}, {"epochs": 1, "samples": 0}, {"epochs": True}]
)
def test_what_cannot_be_worked_out_is_refused(training: TrainingFile, bad: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="to work out a cost"):
        estimate_cost(training, model=MINI, **bad)


def test_every_find_pricing_says_when_and_where_it_was_read() -> None:
    assert all(row.source and (row.as_of or row.provider == "local") for row in TOKEN_PRICINGS)
    keys = {(row.provider, row.model, row.from_billions, row.below_billions) for row in TOKEN_PRICINGS}
    assert len(keys) == len(TOKEN_PRICINGS)
    assert find_pricing(None, MINI) is find_pricing("openai", "gpt-9") is None


@pytest.mark.parametrize(
    ("provider", "model", "train"),
    [
        ("nebius", LLAMA, 0.4),
        ("nebius", "Qwen/Qwen3-4B", 0.4),
        ("nebius", "unsloth/gpt-oss-20b-BF16", 2.8),
        ("nebius", "Qwen/Qwen3-30B-A3B-Instruct-2507", 2.8),
        ("nebius", "a-model-whose-name-says-no-size", None),
        ("crusoe", LLAMA, 0.4),
        ("crusoe", "openai/gpt-oss-120b", 6),
        ("crusoe", "Qwen/Qwen3.5-9B", None),
        ("fireworks", "accounts/fireworks/models/qwen3-8b", 0.5),
        ("fireworks", "accounts/fireworks/models/llama-v3p3-70b-instruct", 3),
        ("fireworks", "accounts/fireworks/models/qwen3-235b-a22b", 6),
        ("fireworks", "accounts/fireworks/models/other-1000b", 10),
        ("together", "Qwen/Qwen3.5-9B", 0.48),
        ("together", "meta-llama/Llama-3.3-70B-Instruct", 2.9),
        ("tinker", "Qwen/Qwen3-8B", 0.44),
        ("azure", MINI, None),
    ],
)
def test_training_is_priced_by_the_model_or_by_the_size_in_its_name(
    provider: str, model: str, train: float | None
) -> None:
    row = find_pricing(provider, model)
    assert (row and row.train) == train


def test_a_budget_says_by_how_much_it_is_exceeded(training: TrainingFile) -> None:
    estimate = estimate_cost(training, model=MINI, epochs=1000, price=5)
    require_within_budget(estimate, 29.5)
    with pytest.raises(OverBudget, match=r"costs \$29\.50, \$4\.50 over the budget of \$25\.00") as caught:
        require_within_budget(estimate, 25)
    assert caught.value.over == pytest.approx(4.5)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.cost, again.budget, str(again)) == (caught.value.cost, 25, str(caught.value))
    assert isinstance(caught.value, PricerError | ValueError)
    for budget in (-1, float("nan")):
        with pytest.raises(DataError, match="budget must be"):
            require_within_budget(estimate, budget)


TEXTS = {
    "German": "Größe über Maß",
    "Chinese": "陶瓷马克杯",
    "Amharic": "የሸክላ ኩባያ",
    "an id": "X7-QZ/93kfW0a1",
    "emoji": "🫖🧉",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("counts", ["no vocabulary", "a foreign model"])
def test_a_budget_holds_the_most_that_inexact_tokens_can_come_to(
    counts: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = JsonlWriter().write([Item(title=f"{text} {n}", price=20) for n in range(50)], "odd.jsonl")
    true = estimate_cost(training, model=MINI, epochs=1, price=5)
    assert true.training == true.training_at_most
    if counts == "no vocabulary":
        monkeypatch.setattr(tokens, "token_counter", lambda: (tokens._estimate, "estimate"))
    model = MINI if counts == "no vocabulary" else "another/model"
    guess = estimate_cost(training, model=model, epochs=1, price=5)
    assert not guess.tokens.exact
    assert guess.training is not None
    assert guess.training_at_most is not None
    size = training.bytes * 5 / 1e6
    assert max(true.training or 0, guess.training) < guess.training_at_most < 1.5 * size
    with pytest.raises(OverBudget, match=r"cannot be counted exactly here, at most \$0\.\d+, ") as caught:
        require_within_budget(guess, guess.training * 1.05)
    assert caught.value.cost == guess.training_at_most
    require_within_budget(guess, guess.training_at_most)
    assert f"at most ${guess.training_at_most:.2f}"[:12] in str(guess)


def test_a_count_of_somebody_elses_is_taken_at_four_times_where_it_is_not_exact() -> None:
    facts: dict[str, Any] = {
        "prompts": 90,
        "replies": 10,
        "longest": 100,
        "longest_line": 1,
        "counted_by": "me",
    }
    count = TokenCount(examples=1, billed=100, exact=False, **facts)
    assert estimate_cost(count, model="mine", epochs=1, price=1e6).training_at_most == 400
    exact = replace(count, exact=True)
    assert estimate_cost(exact, model="mine", epochs=1, price=1e6).training_at_most == 100


def test_a_job_over_its_budget_uploads_nothing(
    client: openai.OpenAI, service: respx.MockRouter, training: TrainingFile
) -> None:
    jobs = service.get("/fine_tuning/jobs").respond(json={"data": []})  # none of this spec exists

    def ask(**more: Any) -> None:
        FineTuneJob.create(client, training, model=MINI, **more)

    with pytest.raises(OverBudget, match="over the budget"):
        ask(epochs=3, provider="openai", budget=0.05)
    for missing, message in (
        ({"provider": "openai", "budget": 1.0}, "hand in epochs="),
        ({"provider": "openai", "budget": 1.0, "epochs": "auto"}, "hand in epochs="),
        ({"epochs": 1, "budget": 1.0}, "not known"),
        ({"epochs": 1, "budget": 1.0, "provider": "azure"}, "not known"),
    ):
        with pytest.raises(DataError, match=message):
            ask(**missing)
    assert len(service.calls) == jobs.call_count


def test_a_job_within_its_budget_is_asked_for(
    client: openai.OpenAI, service: respx.MockRouter, training: TrainingFile
) -> None:
    service.get("/fine_tuning/jobs").respond(json={"data": []})
    service.get(path__regex="/models/.*").respond(json={"id": LLAMA})
    service.post("/files").respond(json={"id": "file-1", "object": "file", "status": "processed"})
    asked = service.post("/fine_tuning/jobs").respond(json={"id": "ftjob-1", "status": "queued"})
    job = FineTuneJob.create(client, training, model=LLAMA, epochs=3, provider="nebius", budget=0.09)
    assert job.id == "ftjob-1"
    assert b"budget" not in asked.calls.last.request.content


def test_a_file_that_is_at_the_service_cannot_be_counted(
    client: openai.OpenAI, service: respx.MockRouter, training: TrainingFile
) -> None:
    from finetune_pricer.tune import UploadedFile

    jobs = service.get("/fine_tuning/jobs").respond(json={"data": []})
    with pytest.raises(DataError, match="files that can be counted"):
        FineTuneJob.create(
            client, UploadedFile(id="file-1"), model=MINI, epochs=1, provider="openai", budget=1.0
        )
    assert len(service.calls) == jobs.call_count


def test_a_file_that_is_no_training_file_is_told() -> None:
    Path("train.jsonl").write_text("{}\n")
    with pytest.raises(TrainingFileError, match="line 1"):
        estimate_cost("train.jsonl", model=MINI, epochs=1)


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf"), "4", True])
def test_a_price_of_tokens_that_is_no_amount_is_refused(amount: Any) -> None:
    with pytest.raises(DataError, match="train must be a number of dollars of at least 0"):
        TokenPricing(train=amount)
