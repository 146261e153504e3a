"""The local learner on real items, against ridge fitted in the same run; asked exactly and over HTTP."""

import json
import math
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openai
import pytest

from finetune_pricer import ItemDataset
from finetune_pricer.local import LocalServer
from finetune_pricer.local.learners.sparse.model import PriceModel
from local_helpers import finished, upload
from ridge import ridge_mae

pytestmark = [pytest.mark.acceptance, pytest.mark.data]
INSTRUCTION = "Estimate the price of this product. Respond with the price, no explanation\n\n"
LOAD = """
import json, socket, sys, time
from concurrent.futures import ThreadPoolExecutor
host, port, bodies = sys.argv[1], int(sys.argv[2]), [body.encode() for body in json.load(open(sys.argv[3]))]
def ask(place, count=400):
    connection = socket.create_connection((host, port))
    answers = connection.makefile("rb")
    for number in range(count):
        body = bodies[(7 * number + place) % len(bodies)]
        head = f"POST /v1/chat/completions HTTP/1.1\\r\\nHost: {host}\\r\\nContent-Length: {len(body)}"
        connection.sendall(head.encode() + b"\\r\\n\\r\\n" + body)
        assert b" 200 " in answers.readline()
        length = 0
        while (line := answers.readline()) != b"\\r\\n":
            if line.lower().startswith(b"content-length"):
                length = int(line.split(b":")[1])
        answers.read(length)
began = time.perf_counter()
with ThreadPoolExecutor(4) as pool:
    list(pool.map(ask, range(4)))  # which raises what a thread has raised
print(1_600 / (time.perf_counter() - began))
"""


# Peaks as /proc has them: getrusage also counts what the parent had when it forked.
TRAIN = """
import os, re, sys, threading, time
from pathlib import Path
from finetune_pricer import ItemDataset
from finetune_pricer.local import LocalServer
sys.path.insert(0, sys.argv[1])
from test_learner_on_real_items import tuned
def peak(process):
    told = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmHWM:\\s+(\\d+)", told)[1]) / 1_024
def watch():
    while not ended.wait(0.05):
        for task in Path("/proc/self/task").iterdir():
            for child in (task / "children").read_text().split():
                try:
                    peaks.append(peak(child))
                except (OSError, TypeError):  # it has just ended
                    pass
peaks, ended = [], threading.Event()
train, _, _ = ItemDataset.from_hub(Path(sys.argv[2]))
with LocalServer(sys.argv[3], cores=1) as server, server.client() as client:
    watching = threading.Thread(target=watch)
    watching.start()
    began = time.perf_counter()
    model = tuned(client, train, 1)
    seconds = time.perf_counter() - began
    ended.set()
    watching.join()
print(model, seconds, peak("self"), max(peaks))
"""


def content(items: ItemDataset) -> bytes:
    lines = []
    for item in items:
        asked = {"role": "user", "content": INSTRUCTION + item.text}
        said = {"role": "assistant", "content": f"${item.price:.2f}"}
        lines.append(json.dumps({"messages": [asked, said]}))
    return "\n".join(lines).encode()


def tuned(client: openai.OpenAI, items: ItemDataset, seed: int) -> str:
    job = client.fine_tuning.jobs.create(
        model="pricer-base",
        training_file=upload(client, content(items)).id,
        hyperparameters={"n_epochs": "auto"},
        seed=seed,
    )
    done = finished(client, job.id, seconds=900)
    assert done.status == "succeeded"
    print(f"seed {seed}: n_epochs={done.hyperparameters.n_epochs}", end=" ")
    return done.fine_tuned_model or ""


def exact_mae(server: LocalServer, model: str, items: ItemDataset) -> float:
    assert server._runtime is not None
    learned = server._runtime.state.chat._find_model(model)[1]
    assert isinstance(learned, PriceModel)
    return error([learned.median(INSTRUCTION + item.text) for item in items], items)


def error(guesses: list[float], items: ItemDataset) -> float:
    return float(np.abs(np.array(guesses) - items.prices).mean())


def asked_mae(client: openai.OpenAI, model: str, items: ItemDataset) -> float:
    """The median of whole dollars among the 20 likeliest tokens: all that a client gets in one request."""

    def ask(text: str) -> float:
        answer = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": INSTRUCTION + text}],
            temperature=0,
            logprobs=True,
            top_logprobs=20,
        )
        logprobs = answer.choices[0].logprobs
        number = next(t for t in (logprobs.content if logprobs else None) or [] if t.token.isdigit())
        dollars = sorted((float(top.token), math.exp(top.logprob)) for top in number.top_logprobs)
        heights = np.cumsum([share for _, share in dollars])
        return dollars[int(np.searchsorted(heights, heights[-1] / 2))][0] + 0.75

    with ThreadPoolExecutor(4) as pool:
        return error(list(pool.map(ask, [item.text for item in items])), items)


def test_amazon_beats_ridge_exactly_and_over_http(data_folder: Path) -> None:
    train, _, test = ItemDataset.from_hub(data_folder / "amazon")
    exact, asked = [], []
    with LocalServer(cores=1) as server, server.client() as client:
        for seed in (1, 2, 3):
            started = time.perf_counter()
            model = tuned(client, train, seed)
            seconds = time.perf_counter() - started
            exact.append(exact_mae(server, model, test))
            asked.append(asked_mae(client, model, test))
            print(f"exact ${exact[-1]:.2f}, over HTTP ${asked[-1]:.2f}, {seconds:.1f} s")
    ridge = ridge_mae(train, test)
    ratio, loss = np.mean(exact) / ridge, np.mean(asked) / np.mean(exact)
    print(f"ridge ${ridge:.2f}; exact / ridge {ratio:.3f}; over HTTP / exact {loss:.3f}")
    assert ratio <= 0.95
    assert loss <= 1.03


def test_diamonds_beat_ridge(data_folder: Path) -> None:
    train, _, test = ItemDataset.from_hub(data_folder / "diamonds")
    with LocalServer(cores=1) as server, server.client() as client:
        exact = exact_mae(server, tuned(client, train, 1), test)
    ridge = ridge_mae(train, test)
    print(f"exact ${exact:.2f}, ridge ${ridge:.2f}: {exact / ridge:.3f}")
    assert exact <= 0.83 * ridge


def test_amazon_trains_fast_and_small_and_its_model_answers_fast(data_folder: Path, tmp_path: Path) -> None:
    _, _, test = ItemDataset.from_hub(data_folder / "amazon")
    file, kept = tmp_path / "bodies.json", tmp_path / "kept"
    # In a process of its own, whose memory is not that of other tests.
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", TRAIN, here, str(data_folder / "amazon"), str(kept)]
    path = [str(Path(here).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
    trained = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    model, *numbers = trained.stdout.split()[-4:]
    seconds, ours, trainers = map(float, numbers)
    with LocalServer(kept, cores=1) as server:
        messages = [[{"role": "user", "content": INSTRUCTION + item.text}] for item in test]
        bodies = [{"model": model, "messages": each, "temperature": 0} for each in messages]
        file.write_text(json.dumps([json.dumps(body) for body in bodies]))
        host, port = server.url.split("/")[2].split(":")
        command = [sys.executable, "-c", LOAD, host, port, str(file)]
        runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(3)]
    rates = [float(run.stdout) for run in runs]
    print(f"{seconds:.1f} s, {ours:.0f} MB of the server and {trainers:.0f} MB of the trainer")
    print(f"{max(rates):.0f} requests a second")
    assert seconds < 30
    assert ours + trainers < 1_000
    assert max(rates) >= 400
