"""A small made-up shop, and the few moves that most tests of the local server make."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import openai
    from openai.types import FileObject
    from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

INSTRUCTION = "What does this cost? Answer with the price only.\n\n"
KINDS = {"lamp": 40.0, "desk": 220.0, "mug": 9.0, "tent": 130.0, "drill": 80.0, "scarf": 18.0}
MATERIALS = {"plastic": 0.5, "oak": 1.6, "steel": 1.2, "silk": 2.2, "cotton": 0.8}
SIZES = {"small": 0.7, "medium": 1.0, "large": 1.5, "giant": 2.4}


class Product(NamedTuple):
    text: str
    price: float

    @property
    def prompt(self) -> str:
        return INSTRUCTION + self.text


def products(count: int, *, seed: int = 0) -> list[Product]:
    """Made up: a kind's price, times a factor for material and size, times noise of about 10 %."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        kind, material, size = (str(random.choice(list(words))) for words in (KINDS, MATERIALS, SIZES))
        price = KINDS[kind] * MATERIALS[material] * SIZES[size] * float(np.exp(random.normal(0, 0.1)))
        made.append(Product(f"A {size} {kind} of {material}, model {random.integers(1_000)}.", price))
    return made


def line(prompt: str, reply: str) -> str:
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]
    return json.dumps({"messages": messages})


def jsonl(items: Iterable[Product], write: Callable[[float], str] = "${:.2f}".format) -> bytes:
    return "\n".join(line(item.prompt, write(item.price)) for item in items).encode()


def upload(client: openai.OpenAI, content: bytes) -> FileObject:
    return client.files.create(file=("train.jsonl", content), purpose="fine-tune")


def eventually(found: Callable[[], bool], *, seconds: float = 20) -> None:
    """Wait, looking often, until something is so."""
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def finished(client: openai.OpenAI, job_id: str, *, seconds: float = 30) -> FineTuningJob:
    def ended() -> bool:
        return client.fine_tuning.jobs.retrieve(job_id).status in ("succeeded", "failed", "cancelled")

    eventually(ended, seconds=seconds)
    return client.fine_tuning.jobs.retrieve(job_id)


def train(
    client: openai.OpenAI,
    content: bytes,
    *,
    seed: int = 1,
    settings: dict[str, float] | None = None,
    suffix: str | None = None,
) -> FineTuningJob:
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": settings or {}}}
    job = client.fine_tuning.jobs.create(
        model="pricer-base",
        training_file=upload(client, content).id,
        method=method,
        seed=seed,
        suffix=suffix,
    )
    return finished(client, job.id)


def ask(client: openai.OpenAI, model: str | None, prompt: str) -> str:
    assert model is not None
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": prompt}], temperature=0
    )
    return answer.choices[0].message.content or ""


def logprob(client: openai.OpenAI, model: str | None, prompt: str) -> float:
    """How likely the greedy reply is: a number that no two models share."""
    answer = client.chat.completions.create(
        model=model or "", messages=[{"role": "user", "content": prompt}], temperature=0, logprobs=True
    )
    logprobs = answer.choices[0].logprobs
    return sum(token.logprob for token in (logprobs.content if logprobs else None) or [])


def events(client: openai.OpenAI, job_id: str) -> list[FineTuningJobEvent]:
    """All events of a job, the oldest first."""
    return list(client.fine_tuning.jobs.list_events(job_id, limit=1_000))[::-1]


def endless(client: openai.OpenAI) -> FineTuningJob:
    """Start a job that no test would live to see the end of, and wait for its first step."""
    settings: Any = {"n_epochs": 50, "batch_size": 1}
    job = client.fine_tuning.jobs.create(
        model="pricer-base",
        training_file=upload(client, jsonl(products(2_000))).id,
        # Enough to measure on, so that nothing is rehearsed before the first step.
        validation_file=upload(client, jsonl(products(60, seed=5))).id,
        hyperparameters=settings,
    )
    eventually(lambda: any(event.type == "metrics" for event in events_once(client, job.id)))
    return job


def events_once(client: openai.OpenAI, job_id: str) -> list[FineTuningJobEvent]:
    return client.fine_tuning.jobs.list_events(job_id, limit=5).data
