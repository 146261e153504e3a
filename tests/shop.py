"""A service that sells jobs, for sync and async clients: honest, but where it is told otherwise."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx2
import openai

from finetune_pricer import FineTuneJob, JsonlWriter, MadeUpCatalogue, TrainingFile, upload
from finetune_pricer._service.connections import LARGEST_ANSWER
from finetune_pricer.aio import AsyncFineTuneJob
from finetune_pricer.tune import UploadedFile

Door = Literal["sync", "async"]
DOORS: list[Door] = ["sync", "async"]
Outcome = Literal[
    "answer",
    "made and lost",
    "made and too long",
    "lost",
    "killed",
    "made and killed",
    "no connection",
    "busy",
    "broken",
    "refused",
    "closed",
]
"""What becomes of a request; with `killed` our process ends before the answer comes."""

URL = "https://shop.test/v1"
REFUSALS: dict[Outcome, tuple[int, dict[str, str]]] = {
    "busy": (429, {"message": "slow down"}),
    "broken": (500, {"message": "something broke"}),
    "refused": (400, {"message": "no"}),
    "closed": (403, {"message": "winding down", "code": "training_not_available"}),
}


def write_training(seed: int, path: Path) -> TrainingFile:
    """Write a training file of a dozen items; another seed makes another."""
    return JsonlWriter().write(MadeUpCatalogue(seed=seed).splits(train=12, validation=1, test=1).train, path)


class Killed(BaseException):
    """The end of the process, as far as the journal and the service are concerned."""


@dataclass
class Shop:
    """What a service holds, and what happens to the next requests."""

    outcomes: list[Outcome] = field(default_factory=list)
    """One for each request for a job, the next one first; after the last, all are answered."""
    file_outcomes: list[Outcome] = field(default_factory=list)
    """The same for files that are sent."""
    list_outcomes: list[Outcome] = field(default_factory=list)
    """The same for requests for the list of jobs."""
    retry_after: str | None = None
    """Stands in the header of each refusal."""
    keeps_metadata: bool = True
    filters: Literal["ignored", "honoured", "refused"] = "ignored"
    """What it makes of a question for the jobs with certain metadata."""
    page_size: int | None = None
    looks_before_shown: int = 0
    """How often the jobs are listed before one whose answer was lost is among them."""
    shown: dict[str, Any] = field(default_factory=dict)
    """What a job's description says otherwise than it was asked for."""
    file_statuses: list[str] = field(default_factory=list)
    """The status of a file each time it is described; at last it is `processed`."""
    jobs: list[dict[str, Any]] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    can_cancel: bool = True
    seconds_apart: int = 1
    """Between the making of two things, by the service's clock."""
    unknown_once: list[str] = field(default_factory=list)
    """Jobs and files that are not there when they are asked for the first time."""
    refusals: dict[str, int] = field(default_factory=dict)
    """The HTTP status with which questions about a job of this name are refused."""
    asking: list[httpx2.Request] = field(default_factory=list)
    """Requests whose answers wait for those of others."""
    asked: list[httpx2.Request] = field(default_factory=list)
    naps: list[float] = field(default_factory=list)
    on_request: Callable[[httpx2.Request], None] = lambda _: None
    """Called with each request, before it is answered."""
    _hidden: dict[str, int] = field(default_factory=dict)
    _made: Counter[str] = field(default_factory=Counter)

    @property
    def counts(self) -> Counter[str]:
        """How often each `METHOD path` was asked."""
        return Counter(f"{r.method} {r.url.path.removeprefix('/v1')}" for r in self.asked)

    def show_all(self) -> None:
        """List every job from now on."""
        self._hidden.clear()

    def create(self, door: Door, training: TrainingFile | UploadedFile, **options: Any) -> str:
        """Create a job with a client of its own, and give its id."""
        options.setdefault("sleep", self._asleep if door == "async" else self.naps.append)
        return self._through(door, "create", training, **options)

    def find(self, door: Door, training: TrainingFile | UploadedFile, **options: Any) -> str:
        """Find a job with a client of its own, and give its id."""
        return self._through(door, "find", training, **options)

    def upload(self, training: TrainingFile, **options: Any) -> UploadedFile:
        """Send a file; only the sync door has this."""
        with httpx2.Client(transport=httpx2.MockTransport(self._answer)) as http:
            client = openai.OpenAI(api_key="k", base_url=URL, max_retries=0, http_client=http)
            return upload(client, training, sleep=self.naps.append, **options)

    def _through(
        self,
        door: Door,
        method: str,
        training: TrainingFile | UploadedFile,
        *,
        organization: str | None = None,
        key: str = "k",
        **options: Any,
    ) -> str:
        transport = httpx2.MockTransport(self._answer)
        settings: dict[str, Any] = {
            "api_key": key,
            "base_url": URL,
            "max_retries": 0,
            "organization": organization,
        }
        options = {"model": "base", **options}
        if door == "sync":
            with httpx2.Client(transport=transport) as http:
                client = openai.OpenAI(**settings, http_client=http)
                job: FineTuneJob = getattr(FineTuneJob, method)(client, training, **options)
                return job.id

        async def run() -> str:
            async with httpx2.AsyncClient(transport=transport) as http:
                client = openai.AsyncOpenAI(**settings, http_client=http)
                job: AsyncFineTuneJob = await getattr(AsyncFineTuneJob, method)(client, training, **options)
                return job.id

        return asyncio.run(run())

    async def _asleep(self, seconds: float) -> None:
        self.naps.append(seconds)

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        self.on_request(request)
        path = request.url.path.removeprefix("/v1")
        match request.method, path:
            case "POST", "/fine_tuning/jobs":
                return self._make(request, "ftjob", self.outcomes, self.jobs, self._job_of(request))
            case "POST", "/files":
                name = request.content.split(b'filename="')[1].split(b'"')[0].decode()
                return self._make(
                    request, "file", self.file_outcomes, self.files, {"filename": name, "status": "processed"}
                )
            case "GET", "/fine_tuning/jobs":
                return self._list_jobs(request)
            case "GET", "/files":
                return self._page(request, self.files[::-1])
        return self._about_one(request, path.removesuffix("/cancel").rpartition("/")[2])

    def _about_one(self, request: httpx2.Request, name: str) -> httpx2.Response:
        if name in self.refusals and not self.jobs:
            return httpx2.Response(self.refusals[name], json={"error": {"message": "not yours"}})
        rows = next((rows for rows in (self.jobs, self.files) if name in [row["id"] for row in rows]), None)
        if rows is None:
            return httpx2.Response(404, json={"error": {"message": f"no {name}"}})
        row = next(row for row in rows if row["id"] == name)
        if name in self.refusals:
            return httpx2.Response(self.refusals[name], json={"error": {"message": "not yours"}})
        if request.method == "GET" and name in self.unknown_once:
            self.unknown_once.remove(name)
            return httpx2.Response(404, json={"error": {"message": f"no {name}"}})
        if request.url.path.endswith("/cancel"):
            if not self.can_cancel:
                return self._fail("refused", request)
            row["status"] = "cancelled"
        if request.method == "DELETE":
            rows.remove(row)
        return self._describe(row)

    def _describe(self, row: dict[str, Any]) -> httpx2.Response:
        is_file = row in self.files
        status = {"status": self.file_statuses.pop(0)} if is_file and self.file_statuses else {}
        return httpx2.Response(200, json=row | status)

    def _make(
        self,
        request: httpx2.Request,
        kind: str,
        outcomes: list[Outcome],
        rows: list[dict[str, Any]],
        row: dict[str, Any],
    ) -> httpx2.Response:
        outcome = outcomes.pop(0) if outcomes else "answer"
        if outcome in {"answer", "made and lost", "made and too long", "made and killed"}:
            created_at = 1_000_000 + self._made[kind] * self.seconds_apart
            rows.append({"id": f"{kind}-{self._made[kind]}", "created_at": created_at, **row})
            self._made[kind] += 1
        if outcome == "answer":
            return self._describe(rows[-1])
        if outcome == "made and too long":
            return httpx2.Response(200, content=b" " * (LARGEST_ANSWER + 1))
        if outcome == "made and lost":
            self._hidden[rows[-1]["id"]] = self.looks_before_shown
        return self._fail(outcome, request)

    def _fail(self, outcome: Outcome, request: httpx2.Request) -> httpx2.Response:
        if outcome in REFUSALS:
            status, error = REFUSALS[outcome]
            headers = {} if self.retry_after is None else {"retry-after": self.retry_after}
            return httpx2.Response(status, json={"error": error}, headers=headers)
        if outcome == "no connection":
            raise httpx2.ConnectError("made up", request=request)
        if outcome.endswith("killed"):
            raise Killed
        raise httpx2.ReadTimeout("made up", request=request)

    def _job_of(self, request: httpx2.Request) -> dict[str, Any]:
        job: dict[str, Any] = json.loads(request.content) | {"status": "running"}
        job["hyperparameters"] = job.pop("method")["supervised"]["hyperparameters"]
        if not self.keeps_metadata:
            job.pop("metadata")
        return job | self.shown

    def _list_jobs(self, request: httpx2.Request) -> httpx2.Response:
        outcome = self.list_outcomes.pop(0) if self.list_outcomes else "answer"
        if outcome != "answer":
            return self._fail(outcome, request)
        hidden = {name for name, looks in self._hidden.items() if looks > 0}
        for name in hidden:
            self._hidden[name] -= 1
        jobs = [job for job in reversed(self.jobs) if job["id"] not in hidden]
        wanted = request.url.params.get("metadata[finetune_pricer_spec]")
        if wanted is not None and self.filters == "refused":
            return self._fail("refused", request)
        if wanted is not None and self.filters == "honoured":
            jobs = [job for job in jobs if job.get("metadata", {}).get("finetune_pricer_spec") == wanted]
        return self._page(request, jobs)

    def _page(self, request: httpx2.Request, rows: list[dict[str, Any]]) -> httpx2.Response:
        names = [row["id"] for row in rows]
        after = request.url.params.get("after")
        start = names.index(after) + 1 if after in names else 0
        end = len(rows) if self.page_size is None else start + self.page_size
        return httpx2.Response(200, json={"data": rows[start:end], "has_more": end < len(rows)})
