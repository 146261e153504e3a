"""A service at which tuned models are deployed, for sync and async clients; it words its answers as Nebius or
Crusoe do (a cookbook of Nebius; a demo of Crusoe, measured on 2026-09-27).
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import httpx2
import openai

from finetune_pricer import FineTuneJob
from finetune_pricer.aio import AsyncFineTuneJob
from finetune_pricer.providers import PROVIDERS
from finetune_pricer.tune import Deployment, JobRecord
from shop import Door, Killed

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
NEBIUS = "https://api.tokenfactory.nebius.com/v1"
CRUSOE = "https://api.intelligence.crusoecloud.com/v1"
CONTROL = "https://api.crusoecloud.com/v1/projects/project-7/foundry"
SERVED = "https://api.inference.crusoecloud.com/v1"
JOB = "ftjob-0123456789AB"


@dataclass
class Desk:
    """A service that deploys: what it holds, and what happens to the next requests for a deployment."""

    kind: str
    statuses: list[str | int | None] = field(default_factory=list)
    """Of a deployment each time it is looked at: a word, none, or an HTTP status; then it is ready."""
    outcomes: list[str] = field(default_factory=list)
    """`made and lost`, `made and killed`, `killed`, `lost`; then all are answered."""
    looks_before_listed: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    machines: list[dict[str, Any]] = field(default_factory=list)
    shows_job: bool = True
    answers_as: str | None = None
    """The model that a chat answer names; None for the one that was asked."""
    say: Callable[[dict[str, Any]], str] = lambda _: "$7.00"
    """The reply to a chat request."""
    validation: list[bytes] = field(default_factory=list)
    """The lines of the job's validation file."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Of each checkpoint."""
    questions: list[dict[str, Any]] = field(default_factory=list)
    asked: list[httpx2.Request] = field(default_factory=list)
    naps: list[float] = field(default_factory=list)

    @property
    def made(self) -> list[str]:
        return [row["name" if self.kind == "nebius" else "id"] for row in self.rows]

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [
            json.loads(request.content)
            for request in self.asked
            if request.method == "POST" and "chat" not in request.url.path
        ]

    def answer(self, request: httpx2.Request) -> httpx2.Response:  # noqa: PLR0911 - a line for each route
        self.asked.append(request)
        path = unquote(request.url.path)
        if path.endswith("/chat/completions"):
            return self._chat(json.loads(request.content))
        if path == f"/v1/fine_tuning/jobs/{JOB}/events":
            return state(200, data=[])
        if path == "/v1/files/file-v/content":
            return httpx2.Response(200, content=b"".join(self.validation))
        if path.endswith("/checkpoints"):
            return state(200, data=[self._checkpoint(2), self._checkpoint(1)])
        if path.endswith(("/dedicated_endpoints", "/selfserve/deployments")):
            return state(200, **{"data" if self.kind == "nebius" else "deployments": self.machines})
        place = "/v0/models" if self.kind == "nebius" else "/v1/projects/project-7/foundry/loras"
        assert path.startswith(place), path
        name = path.removeprefix(place).removeprefix("/")
        if not name:
            return self._make(request) if request.method == "POST" else self._list()
        row = next((row for row in self.rows if name in {row.get("id"), row["name"]}), None)
        if row is None:
            return state(404, error={"message": "no such model"})
        if request.method == "DELETE":
            self.rows.remove(row)
            return httpx2.Response(204)
        return self._look(row)

    def _checkpoint(self, number: int) -> dict[str, Any]:
        own = {"fine_tuned_model_id": f"ftmodel-{number}"} if self.kind == "crusoe" else {}
        return {"id": f"ftckpt_{number}", "step_number": number * 10, "metrics": self.metrics, **own}

    def _make(self, request: httpx2.Request) -> httpx2.Response:
        outcome = self.outcomes.pop(0) if self.outcomes else "answer"
        body, number = json.loads(request.content), len(self.rows) + 1
        if outcome in {"killed", "lost"}:
            raise Killed if outcome == "killed" else httpx2.ReadTimeout("lost", request=request)
        if self.kind == "nebius":
            job, checkpoint = body["source"].split(":")
            row: dict[str, Any] = {
                "name": f"{body['base_model']}-LoRa:{body['name']}-Ju{number}N",
                "status": "validating",
            }
            row |= {"job_id": job, "checkpoint_id": checkpoint} if self.shows_job else {"job_id": None}
            shown = {key: value for key, value in row.items() if key != "status"}
        else:
            row = {"id": f"lora-{number}", "name": f"alias-{number}", "model_id": body["model_id"]}
            row, shown = row | {"status": "pending"}, row | {"status": "pending"}
        self.rows.append(row)
        if outcome == "made and lost":
            raise httpx2.ReadTimeout("lost", request=request)
        if outcome == "made and killed":
            raise Killed
        return state(200, **shown)

    def _list(self) -> httpx2.Response:
        self.looks_before_listed -= 1
        rows = [] if self.looks_before_listed >= 0 else self.rows
        return state(200, **{"data" if self.kind == "nebius" else "lora_adapters": rows})

    def _look(self, row: dict[str, Any]) -> httpx2.Response:
        status = self.statuses.pop(0) if self.statuses else {"nebius": "active", "crusoe": "ready"}[self.kind]
        if isinstance(status, int):
            return state(status, error={"message": "no such model"})
        if status is None:
            return state(200, **{key: value for key, value in row.items() if key != "status"})
        row["status"] = status
        return state(200, **row)

    def _chat(self, body: dict[str, Any]) -> httpx2.Response:
        model, said = self.answers_as or body["model"], {"role": "assistant", "content": self.say(body)}
        if body["model"] not in {row["model_id" if self.kind == "crusoe" else "name"] for row in self.rows}:
            return state(404, error={"message": "no such model", "code": "model_not_found"})
        self.questions.append(body)
        choice = {"index": 0, "finish_reason": "stop", "message": said}
        return state(200, id="c-1", object="chat.completion", model=model, choices=[choice])

    @contextmanager
    def job(self, **more: Any) -> Iterator[FineTuneJob]:
        """Yield the job of a new process."""
        with (
            httpx2.Client(transport=httpx2.MockTransport(self.answer)) as http,
            openai.OpenAI(api_key="sk-x", base_url=self.url, max_retries=0, http_client=http) as client,
        ):
            yield FineTuneJob(client, record(**more), PROVIDERS[self.kind])

    @property
    def url(self) -> str:
        return NEBIUS if self.kind == "nebius" else CRUSOE

    def deploy(self, door: Door = "sync", **options: Any) -> Deployment:
        """Deploy from a new process."""
        if door == "sync":
            with self.job() as job:
                return job.deploy(sleep=self.naps.append, **options)

        async def go() -> Deployment:
            async with self.ajob() as job:
                return await job.deploy(sleep=self.asleep, **options)

        return asyncio.run(go())

    @asynccontextmanager
    async def ajob(self, **more: Any) -> AsyncIterator[AsyncFineTuneJob]:
        """Yield the async job of a new process."""
        async with (
            httpx2.AsyncClient(transport=httpx2.MockTransport(self.answer)) as http,
            openai.AsyncOpenAI(api_key="sk-x", base_url=self.url, max_retries=0, http_client=http) as client,
        ):
            yield AsyncFineTuneJob(client, record(**more), PROVIDERS[self.kind])

    async def asleep(self, seconds: float) -> None:
        self.naps.append(seconds)


def record(**more: Any) -> JobRecord:
    facts = {"status": "succeeded", "model": LLAMA, "fine_tuned_model": "ftmodel-2", **more}
    return JobRecord.read({"id": JOB, **facts})


def state(http: int, **body: Any) -> httpx2.Response:
    return httpx2.Response(http, json=body)
