"""A server that is killed at random moments and started again ends its job as if nothing had happened."""

import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import openai
import pytest

from local_helpers import eventually, finished, jsonl, products, upload

pytestmark = pytest.mark.acceptance
KILLS = 30
PROMPTS = [item.prompt for item in products(100, seed=99)]


class Served:
    """`finetune-pricer serve` as a process of its own."""

    def __init__(self, folder: Path) -> None:
        program = "from finetune_pricer.cli import main; main()"
        command = [sys.executable, "-c", program, "serve", "--port", "0", "--dir", str(folder)]
        folder.mkdir(exist_ok=True)
        log = folder.with_suffix(".log")
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, stderr=file)
        eventually(lambda: b"/v1" in log.read_bytes(), seconds=60)
        found = re.search(r"http://\S+/v1", log.read_text())
        assert found is not None
        self.client = openai.OpenAI(base_url=found.group(), api_key="local", max_retries=0)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.client.close()


def order(client: openai.OpenAI) -> str:
    job = client.fine_tuning.jobs.create(
        model="pricer-base",
        training_file=upload(client, jsonl(products(1_200))).id,
        validation_file=upload(client, jsonl(products(100, seed=5))).id,
        hyperparameters={"n_epochs": "auto", "batch_size": 4},
        seed=3,
    )
    return job.id


def likelihoods(client: openai.OpenAI, model: str | None) -> list[float]:
    found = []
    for prompt in PROMPTS:
        answer = client.chat.completions.create(
            model=model or "",
            messages=[{"role": "user", "content": prompt}],
            temperature=0,
            logprobs=True,
            top_logprobs=20,
        )
        logprobs = answer.choices[0].logprobs
        tokens = (logprobs.content if logprobs else None) or []
        found += [top.logprob for token in tokens for top in token.top_logprobs]
    return found


def steps(client: openai.OpenAI, job_id: str) -> list[int]:
    told = list(client.fine_tuning.jobs.list_events(job_id, limit=10_000))[::-1]
    return [int(event.data["step"]) for event in told if event.type == "metrics"]  # type: ignore[index]


def test_a_server_killed_thirty_times_ends_with_the_model_of_one_that_was_not(tmp_path: Path) -> None:
    calm = Served(tmp_path / "calm")
    started = time.monotonic()
    job_id = order(calm.client)
    eventually_done = finished(calm.client, job_id, seconds=600)
    took = time.monotonic() - started
    expected = likelihoods(calm.client, eventually_done.fine_tuned_model)
    expected_steps = steps(calm.client, job_id)
    calm.kill()

    dice, killed, running = random.Random(1), 0, 0
    served = Served(tmp_path / "stormy")
    job_id = order(served.client)
    while killed < KILLS:
        # Long enough on average that the job ends soon after the last kill, and never before it.
        time.sleep(dice.uniform(0.2, 2.0 * took / KILLS))
        status = served.client.fine_tuning.jobs.retrieve(job_id).status
        if status == "succeeded":
            break
        running += status == "running"
        served.kill()
        killed += 1
        served = Served(tmp_path / "stormy")
    done = finished(served.client, job_id, seconds=600)
    found = likelihoods(served.client, done.fine_tuned_model)
    again = steps(served.client, job_id)
    served.kill()

    print(f"killed {killed} times, {running} of them while training; {len(found):,} probabilities compared")
    assert killed == KILLS
    assert running >= KILLS / 2
    assert done.status == "succeeded"
    assert again == expected_steps
    assert found == pytest.approx(expected, abs=1e-6)
    database = sqlite3.connect(tmp_path / "stormy" / "server.sqlite3")
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_five_hundred_clients_at_once_and_nonsense_leave_it_standing(tmp_path: Path) -> None:
    import asyncio

    served = Served(tmp_path)
    url = str(served.client.base_url)
    dice = random.Random(2)
    body = {"model": "pricer-base", "messages": [{"role": "user", "content": "a lamp"}]}

    async def cut_off(number: int) -> None:
        """Announce more than comes, or more than there may be, and go away."""
        address = served.client.base_url
        _, writer = await asyncio.open_connection(address.host, address.port)
        path, length = ("chat/completions", 5_000) if number % 2 else ("files", 2**40)
        writer.write(
            f"POST /v1/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()
        )
        writer.write(b'{"model": ' if number % 3 else dice.randbytes(50))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def visit(number: int) -> int:
        await cut_off(number)
        async with httpx2.AsyncClient(timeout=120) as http:
            answers = [await http.post(f"{url}chat/completions", json=body)]
            answers.append(await http.post(f"{url}chat/completions", content=dice.randbytes(5_000)))
            content = {"file": (f"../../{number}/a\\..\\b", dice.randbytes(100))}
            answers.append(await http.post(f"{url}files", files=content, data={"purpose": "batch"}))
            answers.append(await http.get(f"{url}files/..%2f..%2f{number}/content"))
            answers.append(await http.post(f"{url}chat/completions", content=b"[" * (4 * 2**20 + 1)))
            return sum(answer.status_code * 1_000**place for place, answer in enumerate(answers))

    async def crowd() -> list[int]:
        return await asyncio.gather(*(visit(number) for number in range(500)))

    assert set(asyncio.run(crowd())) == {200 + 400 * 1_000 + 200 * 1_000**2 + 404 * 1_000**3 + 413 * 1_000**4}
    files = list(served.client.files.list())
    assert len(files) == 500
    assert {file.filename for file in files} == {"b"}
    served.kill()
    database = sqlite3.connect(tmp_path / "server.sqlite3")
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
