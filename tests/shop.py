"""A service that sells jobs, for sync and async clients: honest, but where it is told otherwise."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx2
import openai

from finetune_pricer import FineTuneJob, TrainingFile
from finetune_pricer.aio import AsyncFineTuneJob

Door = Literal["sync", "async"]
DOORS: list[Door] = ["sync", "async"]
Outcome = Literal["answer", "made and lost", "lost", "busy", "refused"]

URL = "https://shop.test/v1"


@dataclass
class Shop:
    """What a service holds, and what happens to the next requests for a job."""

    outcomes: list[Outcome] = field(default_factory=list)
    """One for each request for a job, the next one first; after the last, all are answered."""
    keeps_metadata: bool = True
    looks_before_shown: int = 0
    """How often the jobs are listed before one whose answer was lost is among them."""
    shown: dict[str, Any] = field(default_factory=dict)
    """What a job's description says otherwise than it was asked for."""
    jobs: list[dict[str, Any]] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    asked: list[httpx2.Request] = field(default_factory=list)
    naps: list[float] = field(default_factory=list)
    _hidden: dict[str, int] = field(default_factory=dict)

    @property
    def counts(self) -> Counter[str]:
        """How often each `METHOD path` was asked."""
        return Counter(f"{r.method} {r.url.path.removeprefix('/v1')}" for r in self.asked)

    def create(self, door: Door, training: TrainingFile, **options: Any) -> str:
        """Create a job with a client of its own, and give its id."""
        organization = options.pop("organization", None)
        transport = httpx2.MockTransport(self._answer)
        settings: dict[str, Any] = {"api_key": "k", "base_url": URL, "max_retries": 0}
        settings["organization"] = organization
        options = {"model": "base", "sleep": self._asleep if door == "async" else self.naps.append, **options}
        if door == "sync":
            with httpx2.Client(transport=transport) as http:
                client = openai.OpenAI(**settings, http_client=http)
                return FineTuneJob.create(client, training, **options).id

        async def run() -> str:
            async with httpx2.AsyncClient(transport=transport) as http:
                client = openai.AsyncOpenAI(**settings, http_client=http)
                return (await AsyncFineTuneJob.create(client, training, **options)).id

        return asyncio.run(run())

    async def _asleep(self, seconds: float) -> None:
        self.naps.append(seconds)

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        path = request.url.path.removeprefix("/v1")
        if (request.method, path) == ("POST", "/fine_tuning/jobs"):
            return self._sell(request)
        if (request.method, path) == ("POST", "/files"):
            name = request.content.split(b'filename="')[1].split(b'"')[0].decode()
            self.files.append({"id": f"file-{len(self.files)}", "filename": name, "status": "processed"})
            return httpx2.Response(200, json=self.files[-1])
        if path == "/fine_tuning/jobs":
            return httpx2.Response(200, json={"data": self._list(), "has_more": False})
        if path == "/files":
            return httpx2.Response(200, json={"data": self.files, "has_more": False})
        known = {row["id"]: row for row in [*self.jobs, *self.files]}
        name = path.rpartition("/")[2]
        return httpx2.Response(200, json=known[name]) if name in known else httpx2.Response(404, json={})

    def _sell(self, request: httpx2.Request) -> httpx2.Response:
        outcome = self.outcomes.pop(0) if self.outcomes else "answer"
        if outcome == "busy":
            return httpx2.Response(429, json={"error": {"message": "slow down"}})
        if outcome == "refused":
            return httpx2.Response(400, json={"error": {"message": "no"}})
        if outcome == "lost":
            raise httpx2.ReadTimeout("made up", request=request)
        job = json.loads(request.content) | {"id": f"ftjob-{len(self.jobs)}", "status": "running"}
        job["hyperparameters"] = job.pop("method")["supervised"]["hyperparameters"]
        if not self.keeps_metadata:
            job.pop("metadata")
        self.jobs.append(job | self.shown)
        if outcome == "made and lost":
            self._hidden[job["id"]] = self.looks_before_shown
            raise httpx2.ReadTimeout("made up", request=request)
        return httpx2.Response(200, json=self.jobs[-1])

    def _list(self) -> list[dict[str, Any]]:
        hidden = {name for name, looks in self._hidden.items() if looks > 0}
        for name in hidden:
            self._hidden[name] -= 1
        return [job for job in reversed(self.jobs) if job["id"] not in hidden]
