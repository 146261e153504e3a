"""What a real model of 135M parameters learns from 1,000 real listings on two cores: `make weights`."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from finetune_pricer import ChatFormatter, ItemDataset, JsonlWriter, Predictor
from finetune_pricer.local import LocalServer, LoraLearner
from finetune_pricer.local.learners.lora.lora_model import LoraModel
from local_helpers import finished
from tiny_language_model import NO_TORCH

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from finetune_pricer import Item

pytest.importorskip("torch", reason=NO_TORCH)
pytestmark = [pytest.mark.weights, pytest.mark.data, pytest.mark.filterwarnings("ignore::FutureWarning")]

FORMATTER = ChatFormatter(reply="$20")
ASKED = 300


@pytest.fixture(scope="module")
def learner() -> LoraLearner:
    folder = os.environ.get("FINETUNE_PRICER_WEIGHTS")
    if not folder:
        pytest.skip("no weights of a real model: run `make weights`, which fetches them")
    # Absolute: each test runs in a folder of its own.
    place = Path(__file__).parents[2] / folder
    return LoraLearner(str(place), text_tokens=64)


@pytest.fixture(scope="module")
def server(learner: LoraLearner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with LocalServer(tmp_path_factory.mktemp("server"), bases={"smol": learner}) as server:
        yield server


@pytest.fixture(scope="module")
def model(server: LocalServer, data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a model that was trained for one epoch on 1,000 listings."""
    items = ItemDataset.from_hub(str(data_folder / "amazon")).train.shuffle(seed=0)[:1_000]
    training = JsonlWriter(FORMATTER).write(items, tmp_path_factory.mktemp("jsonl") / "train.jsonl")
    began = time.monotonic()
    with server.client(timeout=600) as client:
        file = client.files.create(file=("train.jsonl", training.path.read_bytes()), purpose="fine-tune")
        job = client.fine_tuning.jobs.create(
            model="smol",
            training_file=file.id,
            hyperparameters={"n_epochs": 1, "batch_size": 16},
            seed=1,
        )
        done = finished(client, job.id, seconds=7_200)
    assert done.status == "succeeded", done.error
    assert server._runtime is not None
    *_, slot = server._runtime.state.worker._slots
    assert slot._process is not None
    peak = read_peak(slot._process.pid)
    computed = sum(read_cpu(slot._process.pid))
    print(
        f"\ntrained in {time.monotonic() - began:.0f} s of wall time and {computed:.0f} s of computing, "
        f"with at most {peak:.1f} GB",
        flush=True,
    )
    assert peak < 4
    return done.fine_tuned_model or ""


def read_peak(pid: int) -> float:
    """The most memory that a process had, in GB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1e6


def read_cpu(pid: int) -> tuple[float, float]:
    """The seconds that a process has computed, in its own code and in the system's."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / ticks, int(fields[12]) / ticks


@pytest.fixture(scope="module")
def asked(data_folder: Path) -> Sequence[Item]:
    test = ItemDataset.from_hub(str(data_folder / "amazon")).test
    return test.shuffle(seed=0)[:ASKED]


def test_the_exact_median_is_good_the_greedy_digits_are_not_and_ranges_hold(
    server: LocalServer, learner: LoraLearner, model: str, asked: Sequence[Item]
) -> None:
    assert server._runtime is not None
    _, loaded = server._runtime.state.chat._find_model(model)
    assert isinstance(loaded, LoraModel)
    truth = np.array([item.price for item in asked])
    began = time.monotonic()
    rows = ask_together(loaded, [FORMATTER.prompt(item) for item in asked])
    pace = len(rows) / (time.monotonic() - began)
    pid = loaded._process.pid
    assert pid is not None
    computed = sum(read_cpu(pid)) / len(rows)
    prices, heights = loaded._facts.points.prices, np.cumsum(rows, axis=1)
    medians = prices[(heights < 0.5).sum(axis=1)]
    low, high = prices[(heights < 0.05).sum(axis=1)], prices[(heights < 0.95).sum(axis=1)]
    with server.client(timeout=600) as client:
        predictions = Predictor(client, model, formatter=FORMATTER).predict_many(asked)
    greedy = write_greedily(learner, loaded, asked)
    errors = {
        "exact median": np.abs(medians - truth).mean(),
        "by Predictor": np.abs([float(each.price or 0) for each in predictions] - truth).mean(),
        "greedy digits": np.abs(greedy - truth).mean(),
    }
    inside = ((low <= truth) & (truth <= high)).mean()
    print(
        f"\n{errors}, 90 % ranges hold {inside:.0%}, {pace:.1f} exact prices a second, each "
        f"{computed:.2f} s of computing",
        flush=True,
    )

    assert errors["by Predictor"] <= 112
    assert errors["exact median"] <= 0.9 * errors["greedy digits"]
    assert 0.85 <= inside <= 0.95
    assert pace >= 4


def ask_together(model: LoraModel, prompts: Sequence[Any]) -> np.ndarray[Any, Any]:
    """The distributions, eight requests at a time."""
    found: dict[int, Any] = {}
    places = iter(range(len(prompts)))
    taking = threading.Lock()

    def work() -> None:
        while True:
            with taking:
                place = next(places, None)
            if place is None:
                return
            found[place] = model._process.order("ask", model._adapter, messages=prompts[place])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return np.array([found[place] for place in range(len(prompts))])


def write_greedily(learner: LoraLearner, model: LoraModel, asked: Sequence[Item]) -> np.ndarray[Any, Any]:
    """The likeliest digit each time, as any other server would write them."""
    import peft
    import torch

    from finetune_pricer.local.learners.lora.answering_loop import Answerer

    answerer = Answerer(learner)
    assert model._adapter is not None
    answerer.load("one", model._adapter[1])
    assert isinstance(answerer._adapted, peft.PeftModel)
    answerer._adapted.set_adapter("one")
    prices = []
    for item in asked:
        prompt = torch.tensor([answerer.write("one", FORMATTER.prompt(item))])
        with torch.inference_mode():
            written = answerer._model.generate(prompt, max_new_tokens=5, do_sample=False, use_cache=True)
        text = answerer._tokenizer.decode(written[0, prompt.shape[1] :], skip_special_tokens=True)
        digits = "".join(letter for letter in text if letter.isdigit())
        prices.append(float(digits or 0))
    return np.array(prices)
