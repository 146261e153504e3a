"""Whatever the network does, a job is finished and counted once, or an error says what to do.

Every row runs through both doors against the local server, and asserts on what the server holds.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx2
import openai
import pytest

from faults import LOST, Fault, Faulty
from finetune_pricer import FineTuneJob, JsonlWriter, MadeUpCatalogue
from finetune_pricer.aio import AsyncFineTuneJob
from finetune_pricer.errors import NotFound, ServiceUnavailable
from finetune_pricer.local import LocalServer

Door = Literal["sync", "async"]
DOORS: list[Door] = ["sync", "async"]

NUMBERS = itertools.count()
"""For each test a file of its own, since the same file would be the same job."""


UNKNOWN = {"timeout before it arrives", "reset before it arrives", "500", "502 in HTML", "503"}
"""Requests that did not arrive, and of which nobody can know that."""


@dataclass(frozen=True)
class Observed:
    """A server, and an honest way to look at it."""

    url: str
    client: openai.OpenAI


@pytest.fixture(scope="module")
def server() -> Iterator[Observed]:
    with LocalServer() as server, server.client() as client:
        yield Observed(server.url, client)


@dataclass
class World:
    """One door to one server over one network, and what the server has come to hold."""

    server: Observed
    door: Door
    network: Faulty
    naps: list[float] = field(default_factory=list)
    number: int = field(default_factory=lambda: next(NUMBERS))
    retries: int = 0

    def __post_init__(self) -> None:
        self._held = self._holds()
        items = MadeUpCatalogue(seed=self.number).splits(train=12, validation=1, test=1).train
        self.training = JsonlWriter().write(items, f"train-{self.number}.jsonl")

    def _holds(self) -> tuple[int, int]:
        jobs = list(self.server.client.fine_tuning.jobs.list(limit=100))
        return len(jobs), len(list(self.server.client.files.list(purpose="fine-tune")))

    @property
    def bought(self) -> tuple[int, int]:
        """How many jobs and files the server holds more than at first."""
        jobs, files = self._holds()
        return jobs - self._held[0], files - self._held[1]

    def nap(self, seconds: float) -> None:
        self.naps.append(seconds)
        time.sleep(0.005)

    async def anap(self, seconds: float) -> None:
        self.naps.append(seconds)
        await asyncio.sleep(0.005)

    def walk(self, **options: Any) -> tuple[str, list[str]]:
        """Create the job, follow it to its end; gives its id and its events' ids."""
        if self.door == "async":
            return asyncio.run(self._awalk(options))
        with httpx2.Client(transport=self.network, trust_env=False) as http_client:
            client = openai.OpenAI(
                base_url=self.server.url, api_key="none", max_retries=self.retries, http_client=http_client
            )
            job = FineTuneJob.create(
                client, self.training, model="pricer-base", epochs=1, sleep=self.nap, **options
            )
            events = [event.id for event in job.stream_events(sleep=self.nap)]
            return job.wait(sleep=self.nap).id, events

    async def _awalk(self, options: dict[str, Any]) -> tuple[str, list[str]]:
        async with httpx2.AsyncClient(transport=self.network, trust_env=False) as http_client:
            client = openai.AsyncOpenAI(
                base_url=self.server.url, api_key="none", max_retries=self.retries, http_client=http_client
            )
            job = await AsyncFineTuneJob.create(
                client, self.training, model="pricer-base", epochs=1, sleep=self.anap, **options
            )
            events = [event.id async for event in job.stream_events(sleep=self.anap)]
            return (await job.wait(sleep=self.anap)).id, events

    def true_events(self, job_id: str) -> list[str]:
        """What the server has, oldest first."""
        listed = self.server.client.fine_tuning.jobs.list_events(job_id, limit=1000)
        return [event.id for event in listed][::-1]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("where", ["POST /files", "POST /fine_tuning/jobs"])
@pytest.mark.parametrize("name", LOST)
def test_what_is_kept_is_there_once_though_an_answer_was_lost(
    server: Observed, door: Door, where: str, name: str
) -> None:
    world = World(server, door, Faulty(LOST[name], where))
    options = {}
    if where.endswith("jobs") and name in UNKNOWN:
        with pytest.raises(ServiceUnavailable, match="again=True asks anew"):
            world.walk()
        assert world.bought == (0, 1)
        options = {"again": True}
    job, events = world.walk(**options)
    assert world.network.times == 0
    assert world.bought == (1, 1)
    assert events == world.true_events(job)
    if name == "429 with Retry-After":
        assert 7.0 in world.naps


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", LOST)
def test_following_a_job_goes_on_though_answers_are_lost(server: Observed, door: Door, name: str) -> None:
    events = {"GET /fine_tuning/jobs/[^/]+/events": 3}
    world = World(server, door, Faulty(LOST[name], "GET /fine_tuning/jobs/[^/]+", times=3, more=events))
    job, given = world.walk()
    assert world.network.times == 0
    assert list(world.network.more.values()) == [0]
    assert world.bought == (1, 1)
    assert given == world.true_events(job)
    if name == "429 with Retry-After":
        assert sum(nap >= 7.0 for nap in world.naps) >= 6


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("where", ["GET /models/.+", "GET /fine_tuning/jobs"])
@pytest.mark.parametrize("name", ["timeout after it arrived", "502 in HTML", "the answer is half a JSON"])
def test_a_lost_answer_before_the_purchase_buys_nothing_and_says_so(
    server: Observed, door: Door, where: str, name: str
) -> None:
    world = World(server, door, Faulty(LOST[name], where))
    with pytest.raises(ServiceUnavailable):
        world.walk()
    assert world.bought == (0, 0)
    world.walk()
    assert world.bought == (1, 1)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("name", "jobs"),
    [
        ("timeout before it arrives", 0),
        ("no connection", 0),
        ("429", 0),
        ("503", 0),
        ("timeout after it arrived", 1),
        ("500 after it was done", 1),
    ],
)
def test_a_service_that_never_answers_a_create_sells_at_most_one_job(
    server: Observed, door: Door, name: str, jobs: int
) -> None:
    world = World(server, door, Faulty(LOST[name], "POST /fine_tuning/jobs", times=1000))
    if jobs:
        world.walk()
    else:
        with pytest.raises(ServiceUnavailable):
            world.walk()
        assert world.network.asked.count("POST /fine_tuning/jobs") == (1 if name in UNKNOWN else 3)
    assert world.bought == (jobs, 1)
    world.network.times = 0
    world.walk(again=not jobs and name in UNKNOWN)
    assert world.bought == (1, 1)


def without_metadata(answer: dict[str, Any]) -> dict[str, Any]:
    rows = [{**row, "metadata": None} for row in answer.get("data", [])]
    return {**answer, "metadata": None, **({"data": rows} if rows else {})}


@pytest.mark.parametrize("door", DOORS)
def test_where_a_service_drops_metadata_a_lost_job_is_found_by_its_spec(server: Observed, door: Door) -> None:
    class Forgetful(Faulty):
        def _instead(self, request: httpx2.Request, answer: httpx2.Response | None) -> httpx2.Response:
            if request.method == "POST":
                raise httpx2.ReadTimeout("made up", request=request)
            return super()._instead(request, answer)

    world = World(
        server, door, Forgetful(Fault(change=without_metadata), r"(POST|GET) /fine_tuning/jobs", times=1000)
    )
    world.walk()
    assert world.bought == (1, 1)


@pytest.mark.parametrize("door", DOORS)
def test_a_client_that_retries_by_itself_buys_no_second_job(server: Observed, door: Door) -> None:
    world = World(server, door, Faulty(LOST["timeout after it arrived"], "POST .*", times=2), retries=2)
    world.walk()
    assert world.network.asked.count("POST /fine_tuning/jobs") == 1
    assert world.network.asked.count("POST /files") == 1
    assert world.bought == (1, 1)


@pytest.mark.parametrize("door", DOORS)
def test_a_status_never_seen_before_is_not_the_end(server: Observed, door: Door) -> None:
    odd = Fault(change=lambda job: {**job, "status": "warming_up", "error": {"code": None}})
    world = World(server, door, Faulty(odd, "GET /fine_tuning/jobs/[^/]+", times=4))
    job, events = world.walk()
    assert events == world.true_events(job)
    assert world.bought == (1, 1)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("status", [None, 7, "", "SUCCEEDED?"])
def test_a_status_that_cannot_be_read_is_not_the_end(server: Observed, door: Door, status: Any) -> None:
    odd = Fault(change=lambda job: {"id": job["id"], "status": status, "error": "null", "result_files": None})
    world = World(server, door, Faulty(odd, "GET /fine_tuning/jobs/[^/]+", times=2))
    world.walk()
    assert world.bought == (1, 1)


def twice(page: dict[str, Any]) -> dict[str, Any]:
    return {**page, "data": [row for row in page["data"] for _ in range(2)]}


def turned_round(page: dict[str, Any]) -> dict[str, Any]:
    return {**page, "data": page["data"][::-1]}


def some_missing(page: dict[str, Any]) -> dict[str, Any]:
    return {**page, "data": page["data"][::2]}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("change", [twice, turned_round, some_missing], ids=lambda change: change.__name__)
def test_each_event_is_given_once_though_a_list_is_wrong(
    server: Observed, door: Door, change: Callable[[Any], Any]
) -> None:
    world = World(server, door, Faulty(Fault(change=change), "GET .*/events"))
    job, events = world.walk()
    assert sorted(events) == sorted(world.true_events(job))
    assert world.bought == (1, 1)


@pytest.mark.parametrize("door", DOORS)
def test_a_job_that_vanishes_while_it_is_followed_is_reported(server: Observed, door: Door) -> None:
    gone = Fault(sent=False, status=404, content=b'{"error": {"message": "no such job"}}')
    world = World(server, door, Faulty(gone, "GET /fine_tuning/jobs/[^/]+"))
    with pytest.raises(NotFound, match="no such job"):
        world.walk()
    assert world.bought == (1, 1)
    world.walk()  # it was there all the time
    assert world.bought == (1, 1)


@pytest.mark.parametrize("door", DOORS)
def test_a_job_that_the_service_has_lost_is_reported_and_made_anew(
    server: Observed, door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(server, door, Faulty(Fault(), "nothing"))
    first, _ = world.walk()
    gone = Fault(change=lambda answer: {"data": []} if "data" in answer else answer)
    world.network = Faulty(gone, "GET /fine_tuning/jobs", times=1000)
    lose(world.network, first)
    second, _ = world.walk()
    assert second != first
    assert world.bought == (2, 1)
    assert f"no longer knows job '{first}'" in caplog.text


def lose(network: Faulty, job: str) -> None:
    """Make one job unknown."""
    inner, ainner = network._sync.handle_request, network._async.handle_async_request

    def missing(request: httpx2.Request) -> httpx2.Response | None:
        if not request.url.path.endswith(job):
            return None
        return httpx2.Response(404, json={"error": {"message": "no such job"}})

    def handle(request: httpx2.Request) -> httpx2.Response:
        return missing(request) or inner(request)

    async def ahandle(request: httpx2.Request) -> httpx2.Response:
        return missing(request) or await ainner(request)

    network._sync.handle_request = handle  # type: ignore[method-assign]
    network._async.handle_async_request = ahandle  # type: ignore[method-assign]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_a_clock_that_jumps_neither_ends_nor_prolongs_the_waiting(
    server: Observed, door: Door, jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(server, door, Faulty(Fault(), "nothing"))
    true_time, jumps = time.time, itertools.count()
    monkeypatch.setattr(time, "time", lambda: true_time() + (jump if next(jumps) % 2 else 0.0))
    world.walk()
    assert world.bought == (1, 1)


def test_the_journal_is_nobody_elses_business(server: Observed, tmp_path: Path) -> None:
    """A journal handed in is used, and the usual one is not touched."""
    world = World(server, "sync", Faulty(Fault(), "nothing"))
    first, _ = world.walk(journal=tmp_path / "mine" / "journal.db")
    assert (tmp_path / "mine" / "journal.db").exists()
    assert not (tmp_path / "home").exists()
    assert world.walk(journal=tmp_path / "mine" / "journal.db")[0] == first
