"""Many items through one store, by three processes that are killed, on a disk that fills: is all paid once?

    python tests/soak/predict.py

Each process asks for all items. Every some seconds one of them is killed and started again, and every some
seconds the disk is full for a moment. In the end each item must have its price or its reason, each question
must have been answered once but for what was under way at a kill, and memory must not have grown.

FINETUNE_PRICER_SOAK_ITEMS (100000) and FINETUNE_PRICER_SOAK_KILL (20, seconds) name other sizes. For a small
disk of its own it mounts a tmpfs, which takes root; else the processes' file size limit stands for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

STUB = Path(__file__).parents[1] / "stub_service.py"
ITEMS = int(os.environ.get("FINETUNE_PRICER_SOAK_ITEMS", "100000"))
KILL_EVERY = float(os.environ.get("FINETUNE_PRICER_SOAK_KILL", "20"))
FULL_EVERY, FULL_FOR = 13.0, 2.0  # seconds
PROCESSES, CONCURRENCY = 3, 16
POISON: list[Any] = [None, " ", 7, "half \ud83d of a letter"]
MOST_GROWTH = 60.0  # MB, from a tenth of the way to the end


def items() -> Iterator[Any]:
    for number in range(ITEMS):
        yield POISON[number // 100 % len(POISON)] if number % 100 == 50 else f"thing number {number}"


def is_poison(number: int) -> bool:
    return number % 100 == 50


QUESTIONS = ITEMS - sum(map(is_poison, range(ITEMS)))


def memory() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def work(url: str, store: str) -> None:
    """Ask for all items, and print what became of them."""
    import openai

    from finetune_pricer import Predictor
    from finetune_pricer.errors import FileAccessError

    wrong = priced = total = 0
    early = most = 0.0
    with openai.OpenAI(base_url=url, api_key="x") as client:
        predictor = None
        while predictor is None:
            # On a full disk a store is not opened, which is said before anything is asked.
            with contextlib.suppress(FileAccessError):
                predictor = Predictor(client, "m", store=store, concurrency=CONCURRENCY)
            time.sleep(0.2)
        for number, found in enumerate(predictor.iter_predict(items())):
            total, priced = total + 1, priced + (found.price is not None)
            wrong += (found.price is None) is not is_poison(number) or (
                found.price is None and not found.error
            )
            if number % 1_000 == 0 or number == ITEMS - 1:
                most = max(most, memory())
                early = memory() if number <= ITEMS // 10 else early
    print(json.dumps({"total": total, "priced": priced, "wrong": wrong, "early": early, "most": most}))


@contextlib.contextmanager
def small_disk() -> Iterator[tuple[Path, bool]]:
    """Yield a folder on a disk of its own, where that can be had, and whether it is one."""
    with tempfile.TemporaryDirectory() as folder:
        size = 64 + ITEMS // 500  # MB
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", folder]
        try:
            own = subprocess.run(command, check=False, capture_output=True).returncode == 0
        except OSError:
            own = False
        try:
            yield Path(folder), own
        finally:
            if own:
                subprocess.run(["umount", "-l", folder], check=True)


@contextlib.contextmanager
def service() -> Iterator[str]:
    behaviour = {"latency": 0.03, "errors": 0.01, "drops": 0.005}
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


class Soak:
    def __init__(self, url: str, folder: Path, *, own_disk: bool) -> None:
        self._command = [sys.executable, __file__, "work", url, str(folder / "kept.sqlite")]
        self._url, self._folder, self._own_disk = url, folder, own_disk
        self._random = random.Random(1)
        self.kills = self.fills = 0
        self.running = [self._start() for _ in range(PROCESSES)]

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)

    def kill_one(self) -> None:
        living = [place for place, process in enumerate(self.running) if process.poll() is None]
        if living:
            place = self._random.choice(living)
            self.running[place].kill()
            self.running[place].wait()
            self.running[place] = self._start()
            self.kills += 1

    def _is_all_answered(self) -> bool:
        # From then on all is read from the store, and a process that is killed would begin to read anew.
        seen = stats(self._url)
        return seen["answered"] - seen["answered_again"] >= QUESTIONS

    def fill(self) -> None:
        self.fills += 1
        if self._own_disk:
            with contextlib.suppress(OSError), (self._folder / "ballast").open("wb", buffering=0) as file:
                while file.write(b"x" * 2**16):
                    pass
            return
        self._limit(max(path.stat().st_size for path in self._folder.iterdir()))

    def empty(self) -> None:
        (self._folder / "ballast").unlink(missing_ok=True)
        if not self._own_disk:
            self._limit(resource.RLIM_INFINITY)

    def _limit(self, size: int) -> None:
        for process in self.running:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def run(self) -> list[dict[str, float]]:
        """Kill and fill until all have ended by themselves; return what they said."""
        kill_at, fill_at = time.monotonic() + KILL_EVERY, time.monotonic() + FULL_EVERY
        while any(process.poll() is None for process in self.running):
            time.sleep(0.05)
            if time.monotonic() >= fill_at:
                self.fill()
                time.sleep(FULL_FOR)
                self.empty()
                fill_at = time.monotonic() + FULL_EVERY
            if time.monotonic() >= kill_at and not self._is_all_answered():
                self.kill_one()
                kill_at = time.monotonic() + KILL_EVERY
        said = [process.communicate()[0] for process in self.running]
        assert all(process.returncode == 0 for process in self.running), said
        return [json.loads(each) for each in said]


def main() -> None:
    began = time.monotonic()
    with small_disk() as (folder, own), service() as url:
        soak = Soak(url, folder, own_disk=own)
        try:
            said = soak.run()
        finally:
            for process in soak.running:
                process.kill()
        seen = stats(url)
    disk = "a disk of its own" if own else "a limit on file sizes"
    print(
        f"{ITEMS:,} items, {PROCESSES} processes, {time.monotonic() - began:.0f} s, {soak.kills} kills, "
        f"{soak.fills} times full ({disk})\n  service: {seen}\n  processes: {said}"
    )
    for each in said:
        assert each["total"] == ITEMS, "an item is missing"
        assert each["priced"] == QUESTIONS, "an item has no price"
        assert each["wrong"] == 0, "an item has neither a price nor a reason"
        assert each["most"] - each["early"] < MOST_GROWTH, "memory grows"
    in_flight = soak.kills * CONCURRENCY
    print(f"  paid twice: {seen['answered_again']}, of {in_flight} that were under way at a kill at most")
    assert seen["answered_again"] <= in_flight, "more was paid twice than was under way"


if __name__ == "__main__":
    work(*sys.argv[2:]) if sys.argv[1:2] == ["work"] else main()
