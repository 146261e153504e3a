"""The server's soak: 200 clients, jobs, deletions, kills and full disks, and at the end an account.

Run by `make soak`. FINETUNE_PRICER_SOAK names its length in minutes; it is half an hour without.
The disk is a small one in memory where this user may mount one. Elsewhere on Linux the size of the server's
files is limited while the "disk" is full, which fails like it. On other systems no disk is filled.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

sys.path.insert(0, str(Path(__file__).parents[1]))

from local_helpers import jsonl, products

MINUTES = float(os.environ.get("FINETUNE_PRICER_SOAK", "30"))
CLIENTS = 200
CORES = 2
MOST_JOBS = 20  # that clients keep waiting at once
DISK = int(128 + 24 * MINUTES)  # megabytes; what is kept grows by some 13 a minute
SURE = 5.0  # seconds after a change of the disk or a start, from which /health must know of it
PROMPT = products(1, seed=9)[0].prompt
CHAT = {"messages": [{"role": "user", "content": PROMPT}], "temperature": 0, "logprobs": True}
NO_SPACE = "no space left"
PASSING = NO_SPACE, "server_stopping"  # what a 503 may tell of while something is wrong


class Disk:
    """Where the server keeps its things, and how it becomes full."""

    def __init__(self) -> None:
        self._parent = Path(tempfile.mkdtemp(prefix="server-soak-"))
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}m", "soak", str(self._parent)]
        with contextlib.suppress(OSError):
            mounted = subprocess.run(command, capture_output=True).returncode == 0
        self._mounted = sys.platform == "linux" and mounted
        self.kind = f"{DISK} MB in memory" if self._mounted else "files limited in size"
        if sys.platform != "linux":
            self.kind = "never full: this system is not Linux"
        self.folder = self._parent / "kept"
        self.is_full = False
        self.changed = time.monotonic()

    def fill(self, pid: int) -> None:
        """Leave no room on it."""
        if self._mounted:
            with contextlib.suppress(OSError), (self._parent / "ballast").open("wb", buffering=0) as file:
                for size in (2**20, 4_096):
                    with contextlib.suppress(OSError):
                        while file.write(bytes(size)) == size:
                            pass
        else:
            self._limit(pid, 1)
        self._note(is_full=sys.platform == "linux")

    def make_room(self, pid: int) -> None:
        """Take that back."""
        self._note(is_full=False)
        if self._mounted:
            (self._parent / "ballast").unlink(missing_ok=True)
        else:
            self._limit(pid, None)
        self._note(is_full=False)

    @property
    def has_room(self) -> bool:
        """Whether there is room where it was filled: somebody may have deleted something since."""
        return self._mounted and os.statvfs(self._parent).f_bavail > 0

    def close(self) -> None:
        """Remove it."""
        if self._mounted:
            subprocess.run(["umount", "--lazy", str(self._parent)], check=True)
        subprocess.run(["rm", "-rf", str(self._parent)], check=True)

    def _note(self, *, is_full: bool) -> None:
        self.is_full, self.changed = is_full, time.monotonic()

    @staticmethod
    def _limit(pid: int, size: int | None) -> None:
        if sys.platform == "linux":
            import resource

            limit = resource.RLIM_INFINITY if size is None else size
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


class Server:
    """`finetune-pricer serve` as a process that is killed and started again."""

    def __init__(self, disk: Disk) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._disk = disk
        self.log = Path(tempfile.mkstemp(prefix="server-soak-", suffix=".log")[1])
        self.changed = time.monotonic()
        self.is_up = False
        self.starts = 0
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return -1 if self.process is None else self.process.pid

    async def start(self) -> bool:
        """Start it; return whether it answers."""
        program = "from finetune_pricer.cli import main; main()"
        options = ["--port", str(self.port), "--dir", str(self._disk.folder), "--cores", str(CORES)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, "serve", *options], stderr=log, start_new_session=True
            )
        for _ in range(600):
            if self.process.poll() is not None:
                return False
            with contextlib.suppress(httpx2.HTTPError):
                async with httpx2.AsyncClient(timeout=5) as http:
                    await http.get(f"{self.url}/health")
                self.starts += 1
                self._note(is_up=True)
                return True
            await asyncio.sleep(0.1)
        return False

    async def end(self, number: int) -> None:
        """Send it a signal that ends it, and wait until it has ended."""
        assert self.process is not None
        self._note(is_up=False)
        self.process.send_signal(number)
        while self.process.poll() is None:
            await asyncio.sleep(0.05)

    def _note(self, *, is_up: bool) -> None:
        self.is_up, self.changed = is_up, time.monotonic()

    def memory(self) -> int:
        """Its megabytes in memory, where the system tells."""
        with contextlib.suppress(OSError):
            found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text())
            return int(found[1]) // 1_024 if found else 0
        return 0

    def count_files(self) -> int:
        """Its open files, where the system tells."""
        with contextlib.suppress(OSError):
            return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))
        return 0


@dataclass
class Ledger:
    """What the server has said, and is held to."""

    files: dict[str, str] = field(default_factory=dict)
    """The hash of each file that it took."""
    requests: set[str] = field(default_factory=set)
    """The files of batches, which nobody deletes: the batch would fail."""
    jobs: set[str] = field(default_factory=set)
    batches: set[str] = field(default_factory=set)
    models: dict[str, str] = field(default_factory=dict)
    """What each model that was made has replied."""
    perhaps_gone: set[str] = field(default_factory=set)
    """What was asked to be deleted, cancelled or paused, with or without an answer."""
    gone: set[str] = field(default_factory=set)
    """What it said to have deleted."""
    waiting: set[str] = field(default_factory=set)
    """Jobs that nobody has seen the end of."""
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    fulls: list[tuple[float, float]] = field(default_factory=list)
    kills: int = 0

    def blame(self, what: str) -> None:
        if len(self.wrong) < 50:
            self.wrong.append(what)
            print("WRONG:", what, flush=True)


class Crowd:
    """The clients, and what they do."""

    def __init__(self, server: Server, disk: Disk, ledger: Ledger) -> None:
        self.server, self.disk, self.ledger = server, disk, ledger
        limits = httpx2.Limits(
            max_connections=CLIENTS + 50, keepalive_expiry=2
        )  # the server closes after 5 s
        self.http = httpx2.AsyncClient(base_url=server.url, timeout=30, limits=limits)
        self.dice = random.Random(12)
        self.is_over = False

    async def ask(self, method: str, path: str, **options: Any) -> httpx2.Response | None:
        """Send a request; return None where there was no answer, or none that counts."""
        began, counts = time.monotonic(), self.ledger.counts
        counts["requests"] += 1
        try:
            answer = await self.http.request(method, path, **options)
        except httpx2.HTTPError as error:
            counts["without an answer"] += 1
            if self._is_calm(began):
                took = f"{type(error).__name__} after {time.monotonic() - began:.1f} s"
                self.ledger.blame(f"{method} {path} had no answer though nothing was wrong ({took})")
            return None
        if answer.status_code >= 500:
            counts[f"answered {answer.status_code}"] += 1
            is_told = answer.status_code == 503 and any(words in answer.text for words in PASSING)
            if not is_told or self._is_calm(began):
                self.ledger.blame(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
            return None
        return answer

    def _is_calm(self, began: float) -> bool:
        """Whether nothing was wrong since a while before a request began."""
        changes = self.server.changed, self.disk.changed
        return self.server.is_up and not self.disk.is_full and began - max(changes) > SURE

    async def live(self, number: int) -> None:
        """Do one thing after the other until all is over."""
        acts = [self.chat] * 8 + [self.train] * 3 + [self.follow] * 6 + [self.read_file] * 3
        acts += [
            self.delete_file,
            self.delete_model,
            self.stop_job,
            self.list_all,
            self.make_batch,
            self.stall,
        ]
        await asyncio.sleep(number / CLIENTS * 2)
        while not self.is_over:
            await self.dice.choice(acts)()
            await asyncio.sleep(self.dice.uniform(0.5, 4.0))

    def pick(self, some: Any) -> str | None:
        options = list(some)
        return self.dice.choice(options) if options else None

    async def chat(self) -> None:
        model = self.pick(self.ledger.models)
        if model is not None:
            await self.compare(model)

    async def compare(self, model: str) -> None:
        """Ask a model, and hold it to what it said before."""
        answer = await self.ask("POST", "/v1/chat/completions", json=CHAT | {"model": model})
        if answer is None or model in self.ledger.perhaps_gone:
            return
        if answer.status_code != 200:
            self.ledger.blame(f"model {model} is lost: {answer.status_code} {answer.text[:200]}")
            return
        said = json.dumps(answer.json()["choices"])
        if self.ledger.models.setdefault(model, said) != said:
            self.ledger.blame(f"model {model} replies otherwise")

    async def upload(self, content: bytes, purpose: str) -> str | None:
        files = {"file": ("soak.jsonl", content)}
        answer = await self.ask("POST", "/v1/files", files=files, data={"purpose": purpose})
        if answer is None:
            return None
        if answer.status_code != 200:
            self.ledger.blame(f"upload: {answer.status_code} {answer.text[:200]}")
            return None
        file_id = str(answer.json()["id"])
        self.ledger.files[file_id] = hashlib.sha256(content).hexdigest()
        if purpose == "batch":
            self.ledger.requests.add(file_id)
        return file_id

    async def train(self) -> None:
        if len(self.ledger.waiting) >= MOST_JOBS:
            return
        count, seed = self.dice.randint(20, 200), self.dice.randint(0, 10_000)
        file_id = await self.upload(jsonl(products(count, seed=seed)), "fine-tune")
        if file_id is None:
            return
        settings = {"n_epochs": self.dice.randint(1, 20), "batch_size": 4}
        body = {"model": "pricer-base-mini", "training_file": file_id, "hyperparameters": settings}
        answer = await self.ask("POST", "/v1/fine_tuning/jobs", json=body | {"seed": seed})
        if answer is not None and answer.status_code == 200:
            job = answer.json()["id"]
            self.ledger.jobs.add(job)
            self.ledger.waiting.add(job)
            self.ledger.counts["jobs made"] += 1

    async def follow(self) -> None:
        job = self.pick(self.ledger.waiting)
        if job is not None:
            await self.look_at(job)

    async def look_at(self, job: str) -> str | None:
        """Look at a job, and write down how it ended if it has."""
        answer = await self.ask("GET", f"/v1/fine_tuning/jobs/{job}")
        if answer is None:
            return None
        if answer.status_code != 200:
            self.ledger.blame(f"job {job} is lost: {answer.status_code}")
            self.ledger.waiting.discard(job)
            return "lost"
        shown = answer.json()
        status = str(shown["status"])
        if status in ("succeeded", "failed", "cancelled") and job in self.ledger.waiting:
            self.ledger.waiting.discard(job)
            self.ledger.counts[f"jobs {status}"] += 1
            await self.judge(job, status, shown)
        return status

    async def judge(self, job: str, status: str, shown: dict[str, Any]) -> None:
        if status == "succeeded":
            await self.compare(shown["fine_tuned_model"])
        elif status == "cancelled" and job not in self.ledger.perhaps_gone:
            self.ledger.blame(f"job {job} was cancelled by nobody")
        elif status == "failed" and shown["error"]["param"] == "training_file":
            if shown["training_file"] not in self.ledger.perhaps_gone:
                self.ledger.blame(f"job {job} failed: {shown['error']}")
        elif status == "failed" and NO_SPACE in shown["error"]["message"]:
            self.ledger.counts["jobs that a full disk cost"] += 1
        elif status == "failed":
            self.ledger.blame(f"job {job} failed: {shown['error']}")

    async def read_file(self) -> None:
        file_id = self.pick(self.ledger.files)
        if file_id is not None:
            await self.check_file(file_id)

    async def check_file(self, file_id: str) -> None:
        answer = await self.ask("GET", f"/v1/files/{file_id}/content")
        if answer is None or file_id in self.ledger.perhaps_gone:
            return
        if (
            answer.status_code != 200
            or hashlib.sha256(answer.content).hexdigest() != self.ledger.files[file_id]
        ):
            self.ledger.blame(f"file {file_id} is lost or another: {answer.status_code}")

    async def delete(self, kind: str, name: str) -> None:
        self.ledger.perhaps_gone.add(name)
        answer = await self.ask("DELETE", f"/v1/{kind}/{name}")
        if answer is not None and answer.status_code == 200:
            self.ledger.gone.add(name)
            self.ledger.counts[f"{kind} deleted"] += 1
        elif answer is not None:
            self.ledger.blame(f"{kind} {name} cannot be deleted: {answer.status_code}")

    async def delete_file(self) -> None:
        file_id = self.pick(self.ledger.files.keys() - self.ledger.requests - self.ledger.perhaps_gone)
        if file_id is not None:
            await self.delete("files", file_id)

    async def delete_model(self) -> None:
        models = self.ledger.models.keys() - self.ledger.perhaps_gone
        model = self.pick(models)
        if model is not None and len(models) > 5:
            await self.delete("models", model)

    async def stop_job(self) -> None:
        job = self.pick(self.ledger.waiting)
        if job is None:
            return
        if self.dice.random() < 0.3:
            self.ledger.perhaps_gone.add(job)
            await self.ask("POST", f"/v1/fine_tuning/jobs/{job}/cancel")
        else:
            await self.ask("POST", f"/v1/fine_tuning/jobs/{job}/pause")
            await asyncio.sleep(self.dice.uniform(0, 1))
            await self.ask("POST", f"/v1/fine_tuning/jobs/{job}/resume")

    async def list_all(self) -> None:
        for path in (
            "/v1/fine_tuning/jobs?limit=100",
            "/v1/files?limit=50",
            "/v1/models",
            "/v1/batches",
            "/",
        ):
            await self.ask("GET", path)

    async def make_batch(self) -> None:
        model = self.pick(self.ledger.models.keys() - self.ledger.perhaps_gone)
        if model is None:
            return
        url = "/v1/chat/completions"
        rows = [
            {"custom_id": str(n), "method": "POST", "url": url, "body": CHAT | {"model": model}}
            for n in range(20)
        ]
        file_id = await self.upload("\n".join(map(json.dumps, rows)).encode(), "batch")
        if file_id is not None:
            body = {"input_file_id": file_id, "endpoint": url, "completion_window": "24h"}
            answer = await self.ask("POST", "/v1/batches", json=body)
            if answer is not None and answer.status_code == 200:
                self.ledger.batches.add(answer.json()["id"])

    async def stall(self) -> None:
        """Send half a request, and wait."""
        self.ledger.counts["half requests"] += 1
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
            writer.write(b"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{")
            await writer.drain()
            await asyncio.sleep(self.dice.uniform(1, 10))
            writer.close()

    async def watch_health(self) -> None:
        """Ask for the server's health all the time, and hold it to what is so."""
        async with httpx2.AsyncClient(base_url=self.server.url, timeout=30) as http:
            while not self.is_over:
                await asyncio.sleep(0.25)
                before = self.server.is_up, self.disk.is_full, self.server.changed, self.disk.changed
                had_room, began = self.disk.has_room, time.monotonic()
                try:
                    answer = await http.get("/health")
                except httpx2.HTTPError:
                    answer = None
                after = self.server.is_up, self.disk.is_full, self.server.changed, self.disk.changed
                sure = before == after and began - max(before[2:]) > SURE
                if sure and before[1] and (had_room or self.disk.has_room):
                    continue
                self.ledger.counts["health asked"] += 1
                if sure and before[0]:
                    self.judge_health(answer, is_full=before[1])

    def judge_health(self, answer: httpx2.Response | None, *, is_full: bool) -> None:
        counts = self.ledger.counts
        counts["health judged"] += 1
        if answer is None:
            self.ledger.blame("/health did not answer though the server was up")
        elif is_full and (answer.status_code != 503 or NO_SPACE not in answer.text):
            self.ledger.blame(f"/health said {answer.status_code} {answer.text} on a full disk")
        elif not is_full and answer.status_code != 200:
            self.ledger.blame(f"/health said {answer.status_code} {answer.text} though nothing was wrong")
        else:
            counts[f"health rightly {answer.status_code}"] += 1


async def trouble(crowd: Crowd) -> None:
    """Kill the server and fill its disk, by turns and together."""
    server, disk, ledger, dice = crowd.server, crowd.disk, crowd.ledger, random.Random(21)
    while not crowd.is_over:
        await asyncio.sleep(dice.uniform(8, 18))
        if crowd.is_over:
            return
        kind = dice.choice(["kill", "full", "full", "both", "term"])
        began = time.monotonic()
        if kind in ("full", "both"):
            disk.fill(server.pid)
            await asyncio.sleep(dice.uniform(7, 12))
        if kind != "full":
            ledger.kills += 1
            await server.end(signal.SIGTERM if kind == "term" else signal.SIGKILL)
        if kind == "both" and await server.start():
            # There may be just enough room to start with. Its files have no limit yet where that is the disk.
            disk.fill(server.pid)
            await asyncio.sleep(dice.uniform(3, 5))
        if kind in ("full", "both"):
            disk.make_room(server.pid)
            ledger.fulls.append((began, time.monotonic()))
        if not server.is_up and not await server.start():
            ledger.blame("the server did not start again")


async def settle(crowd: Crowd) -> None:
    """Wait until all jobs have ended, and go on with those that are paused."""
    ledger = crowd.ledger
    deadline = time.monotonic() + 180
    while ledger.waiting and time.monotonic() < deadline:
        for job in list(ledger.waiting):
            if await crowd.look_at(job) == "paused":
                await crowd.ask("POST", f"/v1/fine_tuning/jobs/{job}/resume")
        await asyncio.sleep(0.2)
    if ledger.waiting:
        ledger.blame(f"{len(ledger.waiting)} jobs never ended: {sorted(ledger.waiting)[:5]}")


async def look_again(crowd: Crowd) -> None:
    """Look at everything that there ever was once more."""
    ledger = crowd.ledger
    for job in ledger.jobs:
        await crowd.look_at(job)
    for model in list(ledger.models):
        await crowd.compare(model)
    for file_id in ledger.files:
        await crowd.check_file(file_id)
    for name in ledger.gone:
        kind = "models" if name in ledger.models else "files"
        answer = await crowd.ask("GET", f"/v1/{kind}/{name}")
        if answer is not None and answer.status_code != 404:
            ledger.blame(f"{name} was deleted and is there again")
    for batch in ledger.batches:
        await check_batch(crowd, batch)


async def check_batch(crowd: Crowd, batch: str) -> None:
    for _ in range(300):
        answer = await crowd.ask("GET", f"/v1/batches/{batch}")
        if answer is None or answer.json()["status"] in ("completed", "failed", "expired", "cancelled"):
            break
        await asyncio.sleep(0.2)
    if answer is None or answer.status_code != 200 or answer.json()["status"] != "completed":
        crowd.ledger.blame(f"batch {batch}: {None if answer is None else answer.text[:300]}")
    else:
        crowd.ledger.counts["batches completed"] += 1


def check_folder(folder: Path, ledger: Ledger) -> None:
    """Look at what the stopped server has left: a sound database, and no blob that it does not know."""
    database = sqlite3.connect(folder / "server.sqlite3")
    if database.execute("PRAGMA integrity_check").fetchone() != ("ok",):
        ledger.blame("the database is damaged")
    query = "SELECT sha256 FROM files UNION SELECT sha256 FROM model_files UNION SELECT name FROM leftovers"
    known = {row[0] for row in database.execute(query)}
    used = {row[0] for row in database.execute(query.rpartition(" UNION")[0])}
    database.close()
    there = {path.name for path in (folder / "blobs").iterdir()}
    print(f"blobs: {len(there)}, of which the database does not know {len(there - known)}")
    if used - there:
        ledger.blame(f"{len(used - there)} contents are missing")
    if there - known:
        ledger.blame(f"{len(there - known)} contents belong to nobody")


async def soak(server: Server, disk: Disk, ledger: Ledger) -> None:
    assert await server.start()
    crowd = Crowd(server, disk, ledger)
    print(f"{MINUTES:g} minutes, {CLIENTS} clients, disk: {disk.kind}, log: {server.log}", flush=True)
    tasks = [asyncio.create_task(crowd.live(number)) for number in range(CLIENTS)]
    tasks += [asyncio.create_task(crowd.watch_health()), asyncio.create_task(trouble(crowd))]
    await asyncio.sleep(10)
    print(f"at first: {server.memory()} MB, {server.count_files()} open files", flush=True)
    await asyncio.sleep(60 * MINUTES)
    crowd.is_over = True
    await asyncio.gather(*tasks)
    print(
        f"at last: {server.memory()} MB, {server.count_files()} open files, {server.starts} starts",
        flush=True,
    )
    await settle(crowd)
    await look_again(crowd)
    await crowd.http.aclose()
    await server.end(signal.SIGTERM)
    check_folder(disk.folder, ledger)


def main() -> int:
    """Run the soak, print its figures, and return 1 where a promise was broken."""
    disk, ledger = Disk(), Ledger()
    server = Server(disk)
    try:
        asyncio.run(soak(server, disk, ledger))
    finally:
        if server.process is not None and server.process.poll() is None:
            server.process.kill()
            server.process.wait()
        disk.close()
    lost = ledger.counts["jobs that a full disk cost"]
    if lost > len(ledger.fulls):
        ledger.blame(f"{len(ledger.fulls)} full disks cost {lost} jobs")
    print(f"{ledger.kills} kills, {len(ledger.fulls)} full disks")
    print(f"{len(ledger.models)} models and {len(ledger.files)} files held to what they were")
    for name, count in sorted(ledger.counts.items()):
        print(f"  {name}: {count:,}")
    print("broken promises:", len(ledger.wrong))
    return 1 if ledger.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
