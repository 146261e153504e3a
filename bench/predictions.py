"""How fast, polite and cheap: many predictions by several means, against one stub service, in one run.

    python bench/predictions.py                 # all
    python bench/predictions.py speed limit     # some of: speed, limit, faults, cpu, memory

The service is a process of its own with set latency and limits. Means that would take minutes are given fewer
requests and compared by requests per second. Ours are `Predictor` and `AsyncPredictor`; the others are what
people do today: the notebook's loop, the course's five threads, the openai-cookbook's parallel processor (its
approach: a stated limit, and a pause of all after a 429), litellm's batch_completion, and bare aiohttp as the
ceiling.
`LITELLM_PYTHON` names a Python that has litellm, where this one has not.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai

from finetune_pricer import ChatFormatter, Predictor
from finetune_pricer.aio import AsyncPredictor

STUB = Path(__file__).parents[1] / "tests" / "stub_service.py"
CONCURRENCY, LATENCY = 64, 0.3
FORMATTER = ChatFormatter()
LITELLM = """
import json, sys, time
import litellm
litellm.suppress_debug_info = True
url, count, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
messages = [[{"role": "user", "content": f"thing number {n}"}] for n in range(count)]
ask = dict(model="openai/m", api_base=url, api_key="x", max_workers=workers, max_tokens=12)
litellm.batch_completion(messages=messages[:2], **ask)
began, cpu = time.perf_counter(), time.process_time()
found = litellm.batch_completion(messages=messages, **ask)
good = sum(hasattr(each, "choices") for each in found)
print(json.dumps([good, time.perf_counter() - began, time.process_time() - cpu]))
"""

Run = tuple[int, float, float]
"""Answers, seconds, CPU seconds."""


@contextlib.contextmanager
def service(**behaviour: Any) -> Iterator[str]:
    command = [sys.executable, str(STUB), json.dumps(behaviour)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdin
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(10)


def stats(url: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{url}/stats") as answer:
        found: dict[str, int] = json.load(answer)
        return found


def texts(count: int) -> list[str]:
    return [f"thing number {number}" for number in range(count)]


def timed(work: Callable[[], int]) -> Run:
    began, cpu = time.perf_counter(), time.process_time()
    good = work()
    return good, time.perf_counter() - began, time.process_time() - cpu


def ours(url: str, count: int, **settings: Any) -> Run:
    with openai.OpenAI(base_url=url, api_key="x") as client:
        predictor = Predictor(client, "m", **settings)
        return timed(lambda: sum(each.price is not None for each in predictor.predict_many(texts(count))))


def ours_async(url: str, count: int, *, aiohttp: bool = False, **settings: Any) -> Run:
    async def run() -> int:
        http: Any = openai.DefaultAioHttpClient() if aiohttp else None
        async with openai.AsyncOpenAI(base_url=url, api_key="x", http_client=http) as client:
            found = await AsyncPredictor(client, "m", **settings).predict_many(texts(count))
            return sum(each.price is not None for each in found)

    return timed(lambda: asyncio.run(run()))


def threads(url: str, count: int, workers: int, retries: int = 2) -> Run:
    with openai.OpenAI(base_url=url, api_key="x", max_retries=retries) as client:

        def one(text: str) -> bool:
            try:
                answer = client.chat.completions.create(
                    model="m",
                    messages=FORMATTER.prompt(text),
                    max_tokens=12,
                    temperature=0,  # type: ignore[arg-type]
                )
            except openai.OpenAIError:
                return False
            return FORMATTER.read(answer.choices[0].message.content or "") > 0

        def work() -> int:
            with ThreadPoolExecutor(workers) as pool:
                return sum(pool.map(one, texts(count)))

        return timed(work)


def bare_async(url: str, count: int, *, aiohttp: bool = False) -> Run:
    async def run() -> int:
        gate = asyncio.Semaphore(CONCURRENCY)
        http: Any = openai.DefaultAioHttpClient() if aiohttp else None
        async with openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=0, http_client=http) as client:

            async def one(text: str) -> bool:
                async with gate:
                    answer = await client.chat.completions.create(
                        model="m",
                        messages=FORMATTER.prompt(text),
                        max_tokens=12,
                        temperature=0,  # type: ignore[arg-type]
                    )
                    return FORMATTER.read(answer.choices[0].message.content or "") > 0

            return sum(await asyncio.gather(*map(one, texts(count))))

    return timed(lambda: asyncio.run(run()))


def ceiling(url: str, count: int) -> Run:
    import aiohttp

    async def run() -> int:
        connector = aiohttp.TCPConnector(limit=CONCURRENCY)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def one(text: str) -> bool:
                body = {"model": "m", "messages": FORMATTER.prompt(text), "max_tokens": 12}
                async with session.post(f"{url}/chat/completions", json=body) as answer:
                    return "choices" in await answer.json()

            return sum(await asyncio.gather(*map(one, texts(count))))

    return timed(lambda: asyncio.run(run()))


def cookbook(url: str, count: int, requests_per_minute: float) -> Run:
    """As api_request_parallel_processor.py does: a stated rate, five attempts, 15 s for all after a 429."""
    import aiohttp

    async def run() -> int:
        waiting = [(text, 5) for text in reversed(texts(count))]
        tasks: set[asyncio.Task[None]] = set()
        good, limited_at, capacity, last = 0, -15.0, requests_per_minute, time.monotonic()
        async with aiohttp.ClientSession() as session:

            async def one(text: str, attempts: int) -> None:
                nonlocal good, limited_at
                body = {"model": "m", "messages": FORMATTER.prompt(text), "max_tokens": 12}
                async with session.post(f"{url}/chat/completions", json=body) as answer:
                    found = await answer.json()
                if "choices" in found:
                    good += 1
                    return
                if answer.status == 429:
                    limited_at = time.monotonic()
                if attempts > 1:
                    waiting.insert(0, (text, attempts - 1))

            while waiting or tasks:
                now = time.monotonic()
                capacity = min(requests_per_minute, capacity + requests_per_minute * (now - last) / 60)
                last = now
                if waiting and capacity >= 1:
                    capacity -= 1
                    task = asyncio.create_task(one(*waiting.pop()))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                await asyncio.sleep(0.001)
                if time.monotonic() - limited_at < 15:
                    await asyncio.sleep(15 - (time.monotonic() - limited_at))
        return good

    return timed(lambda: asyncio.run(run()))


def litellm(url: str, count: int) -> Run | None:
    python = os.environ.get("LITELLM_PYTHON", sys.executable)
    command = [python, "-c", LITELLM, url, str(count), str(CONCURRENCY)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    except subprocess.TimeoutExpired:
        return 0, 120.0, 0.0  # not done after two minutes
    if done.returncode:
        return None
    good, seconds, cpu = json.loads(done.stdout.splitlines()[-1])
    return good, seconds, cpu


def show(name: str, run: Run | None, asked: int, ideal: float | None = None, note: str = "") -> None:
    if run is None:
        print(f"  {name:<34} not installed")
        return
    good, seconds, cpu = run
    ratio = f"{seconds / ideal:5.2f} x ideal" if ideal and good == asked else " " * 13
    print(
        f"  {name:<34} {good:>5}/{asked} in {seconds:6.2f} s  {good / seconds:6.1f}/s  {ratio}"
        f"  {1000 * cpu / asked:5.2f} ms CPU each  {note}",
        flush=True,
    )


def speed() -> None:
    count, few = 2_000, 100
    ideal = count / CONCURRENCY * LATENCY
    print(f"\nspeed: {count} requests of {LATENCY} s, {CONCURRENCY} at once, no limit; ideal {ideal:.2f} s")
    settings = {"concurrency": CONCURRENCY}
    rates = {}
    means: dict[str, Callable[[str], Run | None]] = {
        "ours, sync": lambda url: ours(url, count, **settings),
        "ours, async": lambda url: ours_async(url, count, **settings),
        "ours, async, DefaultAioHttpClient": lambda url: ours_async(url, count, aiohttp=True, **settings),
        "bare aiohttp": lambda url: ceiling(url, count),
        "litellm batch_completion": lambda url: litellm(url, count),
    }
    for name, mean in means.items():
        with service(latency=LATENCY) as url:
            run = mean(url)
            show(name, run, count, ideal)
            if run:
                rates[name] = run[0] / run[1]
    for name, workers in (("the course's five threads", 5), ("the notebook's loop", 1)):
        with service(latency=LATENCY) as url:
            run = threads(url, few * workers, workers)
            show(f"{name} ({few * workers})", run, few * workers)
            rates[name] = run[0] / run[1]
    five = rates["the course's five threads"]
    for name in ("ours, sync", "ours, async"):
        print(f"  {name}: {rates[name] / five:.1f} times the five threads")


def limit() -> None:
    count, few, per_minute = 1_000, 250, 3_000

    def ideal(asked: int) -> float:
        # A second's worth may come at once, so that much is free.
        return (asked - per_minute / 60) / (per_minute / 60)

    print(
        f"\nlimit: {count} requests, {per_minute} a minute enforced by 429s and not told; "
        f"ideal {ideal(count):.1f} s"
    )
    settings = {"concurrency": CONCURRENCY}
    means: dict[str, tuple[int, Callable[[str], Run | None]]] = {
        "ours, sync": (count, lambda url: ours(url, count, **settings)),
        "ours, async": (count, lambda url: ours_async(url, count, **settings)),
        "64 threads, the client's retries": (count, lambda url: threads(url, count, CONCURRENCY)),
        f"cookbook, told twice the limit ({few})": (few, lambda url: cookbook(url, few, 2 * per_minute)),
        f"cookbook, told the limit ({few})": (few, lambda url: cookbook(url, few, per_minute)),
        f"litellm batch_completion ({few})": (few, lambda url: litellm(url, few)),
    }
    for name, (asked, mean) in means.items():
        with service(latency=LATENCY, requests_per_minute=per_minute) as url:
            run, seen = mean(url), stats(url)
            share = seen["refused"] / max(seen["asked"], 1)
            show(name, run, asked, ideal(asked), f"{share:.1%} of {seen['asked']} refused")


def faults() -> None:
    count = 2_000
    print(f"\nfaults: {count} requests, 5 % answered with 500, 2 % of connections dropped")
    for name, mean in {"ours, sync": ours, "ours, async": ours_async}.items():
        with service(latency=0.05, errors=0.05, drops=0.02) as url:
            run, seen = mean(url, count, concurrency=CONCURRENCY), stats(url)
            again = f"{seen['answered_again']} answered items asked again; {seen['broken']} 500s"
            show(name, run, count, note=f"{again}, {seen['dropped']} drops")


def cpu() -> None:
    count = 1_500
    print(f"\nCPU: {count} requests, {CONCURRENCY} at once, 0.1 s; ours against the bare client, best of 3")
    settings = {"concurrency": CONCURRENCY}
    pairs: dict[str, tuple[Callable[[str], Run], Callable[[str], Run]]] = {
        "sync": (
            lambda url: ours(url, count, **settings),
            lambda url: threads(url, count, CONCURRENCY, retries=0),
        ),
        "async": (lambda url: ours_async(url, count, **settings), lambda url: bare_async(url, count)),
        "async, DefaultAioHttpClient": (
            lambda url: ours_async(url, count, aiohttp=True, **settings),
            lambda url: bare_async(url, count, aiohttp=True),
        ),
    }
    for name, (mine, bare) in pairs.items():
        costs: tuple[list[float], list[float]] = ([], [])
        for _ in range(3):
            for cost, mean in zip(costs, (mine, bare), strict=True):
                with service(latency=0.1) as url:
                    cost.append(1000 * mean(url)[2] / count)
        here, there = map(min, costs)
        print(f"  {name:<28} ours {here:.2f} ms, bare {there:.2f} ms: {here / there:.2f} times", flush=True)


def memory() -> None:
    few, many = 1_000, 50_000
    print(f"\nmemory: peak after {few:,} and after {many:,} items, streamed")

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    with service() as url, openai.OpenAI(base_url=url, api_key="x") as client:
        predictor = Predictor(client, "m", concurrency=32)
        for count in (few, many):
            began = time.perf_counter()
            items = (f"thing number {number}" for number in range(count))
            good = sum(each.price is not None for each in predictor.iter_predict(items))
            seconds = time.perf_counter() - began
            print(f"  {good:>6,} items in {seconds:5.1f} s: peak {peak():.1f} MB", flush=True)


PARTS = {"speed": speed, "limit": limit, "faults": faults, "cpu": cpu, "memory": memory}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
