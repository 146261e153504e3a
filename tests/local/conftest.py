from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from finetune_pricer.local import LocalServer
from local_helpers import finished, jsonl, products, upload

if TYPE_CHECKING:
    from collections.abc import Iterator

    import openai
    from openai.types.fine_tuning import FineTuningJob


@pytest.fixture(scope="session")
def server() -> Iterator[LocalServer]:
    """One server for all tests that do not stop it."""
    with LocalServer(max_bytes=2**20, cores=1) as server:
        yield server


@pytest.fixture(scope="session")
def client(server: LocalServer) -> Iterator[openai.OpenAI]:
    with server.client(max_retries=0) as client:
        yield client


@pytest.fixture(scope="session")
def tuned(client: openai.OpenAI) -> FineTuningJob:
    """A finished job on 300 made-up products, with a validation file."""
    job = client.fine_tuning.jobs.create(
        model="pricer-base",
        training_file=upload(client, jsonl(products(300))).id,
        validation_file=upload(client, jsonl(products(50, seed=5))).id,
        hyperparameters={"n_epochs": 10},
        seed=7,
        suffix="shop",
        metadata={"team": "blue"},
    )
    return finished(client, job.id)
