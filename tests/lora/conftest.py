"""A tiny base model, a server that offers it, and a model that was trained on it: made once for all tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from finetune_pricer.local import LocalServer, LoraLearner
from finetune_pricer.local.jobs.trainer_process import TrainerProcess
from local_helpers import finished, jsonl, products, upload
from tiny_language_model import NO_TORCH, save_base

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import openai
    from openai.types.fine_tuning import FineTuningJob


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base model of random weights, whose digits stand alone."""
    pytest.importorskip("torch", reason=NO_TORCH)
    return save_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="session")
def learner(base: Path) -> LoraLearner:
    return LoraLearner(str(base), rank=4, dropout=0.1, dtype="float32", text_tokens=16)


@pytest.fixture(scope="session")
def trainer(learner: LoraLearner) -> Iterator[TrainerProcess]:
    """A training process for any number of jobs, which need not load their libraries anew."""
    process = TrainerProcess({**learner.environment, "OMP_NUM_THREADS": "1"})
    yield process
    process.close()


@pytest.fixture(scope="session")
def server(learner: LoraLearner) -> Iterator[LocalServer]:
    with LocalServer(bases={"tiny": learner}, cores=1) as server:
        yield server


@pytest.fixture(scope="session")
def client(server: LocalServer) -> Iterator[openai.OpenAI]:
    with server.client(max_retries=0, timeout=120) as client:
        yield client


@pytest.fixture(scope="session")
def tuned(client: openai.OpenAI) -> FineTuningJob:
    """A job on 40 made-up products: two epochs of five steps, with a validation file."""
    job = client.fine_tuning.jobs.create(
        model="tiny",
        training_file=upload(client, jsonl(products(40), "${:.0f}".format)).id,
        validation_file=upload(client, jsonl(products(12, seed=5), "${:.0f}".format)).id,
        hyperparameters={"n_epochs": 2, "batch_size": 8},
        seed=3,
    )
    return finished(client, job.id, seconds=120)
