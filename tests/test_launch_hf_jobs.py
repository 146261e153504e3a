"""A server as a job of the Hub: what is asked of its API, what it costs, and what ends it."""

import contextlib
import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import huggingface_hub
import huggingface_hub.constants
import pytest
import respx

from finetune_pricer import launch
from finetune_pricer.errors import (
    AccessDenied,
    DataError,
    MissingExtra,
    NotConfigured,
    NotFound,
    OverBudget,
    PricerError,
    RequestRejected,
    ServiceUnavailable,
)
from finetune_pricer.machines import LaunchedServer, hf_jobs, plan_launch
from finetune_pricer.machines.server_record import ServerRecord
from helpers import page

API = "https://huggingface.co/api"
TOKEN = "hf_0123456789"
KEY = "sk-job"


class Hub:
    """As much of the Hub's API as launching needs; the shapes are those of huggingface_hub's own docs."""

    def __init__(self, router: respx.MockRouter) -> None:
        self.jobs: list[dict[str, Any]] = []
        self.started: list[dict[str, Any]] = []
        self.is_private = True
        rows = [flavor("cpu-basic", 167), flavor("l4x1", 13_333), flavor("a100-large", 41_667)]
        self.hardware = router.get(f"{API}/jobs/hardware").respond(json=rows)
        router.get(f"{API}/whoami-v2").respond(json={"name": "me", "type": "user"})
        self.bucket = router.post(url__regex=rf"{API}/buckets/\w+/[\w-]+").mock(side_effect=self.make_bucket)
        router.get(url__regex=rf"{API}/buckets/").mock(side_effect=self.tell_bucket)
        self.start = router.post(f"{API}/jobs/me").mock(side_effect=self.start_job)
        self.list = router.get(f"{API}/jobs/me").mock(side_effect=self.list_jobs)
        router.get(url__regex=rf"{API}/jobs/me/\w+$").mock(side_effect=self.tell_job)
        self.cancel = router.post(url__regex=rf"{API}/jobs/me/\w+/cancel").mock(side_effect=self.cancel_job)
        self.models = router.get(url__regex=r"https://\w+--8000\.hf\.jobs/v1/models").mock(
            return_value=page([])
        )

    def make_bucket(self, request: httpx.Request) -> httpx.Response:
        owner, name = request.url.path.split("/")[-2:]
        named = f"{owner.replace('me', 'me')}/{name}"
        return httpx.Response(200, json={"url": f"https://huggingface.co/buckets/{named}"})

    def tell_bucket(self, request: httpx.Request) -> httpx.Response:
        owner, name = request.url.path.split("/")[-2:]
        told = {"id": f"{owner}/{name}", "private": self.is_private, "createdAt": "2026-11-27T06:00:00.000Z"}
        return httpx.Response(200, json={**told, "size": 0, "totalFiles": 0})

    def start_job(self, request: httpx.Request) -> httpx.Response:
        self.started.append(json.loads(request.content))
        self.jobs.append(job(f"j{len(self.started)}", self.started[-1]["labels"], second=30))
        return httpx.Response(200, json=self.jobs[-1])

    def list_jobs(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=self.jobs)

    def tell_job(self, request: httpx.Request) -> httpx.Response:
        name = request.url.path.rpartition("/")[2]
        return httpx.Response(200, json=next(each for each in self.jobs if each["id"] == name))

    def cancel_job(self, request: httpx.Request) -> httpx.Response:
        self.end(request.url.path.split("/")[-2], "CANCELED")
        return httpx.Response(200, json={})

    def end(self, name: str, stage: str, message: str | None = None) -> None:
        (found,) = (each for each in self.jobs if each["id"] == name)
        found["status"] = {"stage": stage, "message": message}

    @property
    def cancelled(self) -> list[str]:
        return [call.request.url.path.split("/")[-2] for call in self.cancel.calls]


def flavor(name: str, micro: int, unit: str = "minute") -> dict[str, Any]:
    cost = {"unitCostMicroUSD": micro, "unitCostUSD": micro / 1e6, "unitLabel": unit}
    return {"name": name, "prettyName": name, "cpu": "8 vCPU", "ram": "30 GB", **cost}


def job(name: str, labels: dict[str, str], *, second: int = 0, stage: str = "RUNNING") -> dict[str, Any]:
    return {
        "id": name,
        "createdAt": f"2026-11-27T06:00:{second:02}.000Z",
        "labels": labels,
        "status": {"stage": stage, "message": None},
        "owner": {"id": "1", "name": "me", "type": "user"},
    }


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with respx.mock(assert_all_called=False) as router:
        yield Hub(router)


def test_a_job_is_started_once_with_its_bucket_port_key_and_limit(
    hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "finetune_pricer")
    bases = {"qwen": "Qwen/Qwen3-1.7B@main"}
    server = launch("hf-jobs", gpu="l4", bases=bases, limit="2h", budget=5, bucket="me/pricer", key=KEY)
    assert (server.id, server.url) == ("j1", "https://j1--8000.hf.jobs/v1")
    (asked,) = hub.started
    assert asked["flavor"] == "l4x1"
    assert asked["timeoutSeconds"] == 7_200
    assert asked["secrets"] == {"FINETUNE_PRICER_SERVER_KEY": KEY}
    assert asked["expose"] == {"ports": [8000], "portsPublic": [8000]}
    assert asked["volumes"] == [{"type": "bucket", "source": "me/pricer", "mountPath": "/pricer"}]
    assert asked["labels"]["finetune-pricer"] == "pricer"
    assert asked["command"][:3] == ["timeout", "--kill-after=60", "7140"]
    assert asked["command"][-2:] == ["--base", "qwen=Qwen/Qwen3-1.7B@main"]
    assert json.loads(hub.bucket.calls.last.request.content) == {"visibility": "private"}

    again = launch("hf-jobs", gpu="l4", bases=bases, bucket="me/pricer")
    assert (again.id, len(hub.started)) == ("j1", 1)
    with again.client() as client:
        assert client.models.list().data == []
    assert "$0.81 an hour" in caplog.text
    for text in (repr(server), caplog.text, *(str(call.request.url) for call in hub.list.calls)):
        assert KEY not in text
        assert TOKEN not in text


def test_neither_secret_is_sent_to_where_the_other_belongs(hub: Hub) -> None:
    server = launch("hf-jobs")
    key = server.key_file.read_text().strip()
    server.stop()
    sent = {call.request.headers.get("Authorization") for call in hub.models.calls}
    assert sent == {f"Bearer {key}"}
    for route in (hub.hardware, hub.bucket, hub.start, hub.list, hub.cancel):
        for call in route.calls:
            assert call.request.headers["Authorization"] == f"Bearer {TOKEN}"
            # The key is in the one place that keeps secrets, and the token in none.
            body = call.request.content.decode()
            assert TOKEN not in body
            assert (key in body) == (route is hub.start)
    assert key not in json.dumps({**hub.started[0], "secrets": {}})


@pytest.mark.parametrize(
    ("limit", "budget", "is_started"), [("1h", 0.81, True), ("1h", 0.80, False), ("6m", 0.081, True)]
)
def test_a_budget_is_held_before_anything_starts(
    hub: Hub, *, limit: str, budget: float, is_started: bool
) -> None:
    with contextlib.nullcontext() if is_started else pytest.raises(OverBudget, match=r"\$0\.81, above"):
        launch("hf-jobs", gpu="l4", limit=limit, budget=budget)
    assert bool(hub.started) is is_started
    assert bool(hub.bucket.calls) is is_started


def test_where_the_price_is_not_known_nothing_is_started(hub: Hub) -> None:
    hub.hardware.respond(503)
    plan = plan_launch("hf-jobs", gpu="l4")
    assert (plan.machine, plan.per_hour, plan.cost) == ("l4x1", None, None)
    assert "what it costs is not known" in str(plan)
    with pytest.raises(ServiceUnavailable, match=r"what it costs is not known.*nothing was started"):
        launch("hf-jobs", gpu="l4")
    with pytest.raises(OverBudget, match="no budget can be held"):
        launch("hf-jobs", gpu="l4", budget=1_000)
    assert not hub.bucket.calls

    hub.hardware.respond(json=[flavor("l4x1", 13_333, unit="fortnight")])
    with pytest.raises(ServiceUnavailable, match="by the 'fortnight'"):
        launch("hf-jobs", gpu="l4")


@pytest.mark.parametrize(
    ("gpu", "machine"),
    [(None, "cpu-basic"), ("l4", "l4x1"), ("L4", "l4x1"), ("a100", "a100-large"), ("l4x1", "l4x1")],
)
def test_a_gpu_is_the_smallest_machine_that_has_it(hub: Hub, gpu: str | None, machine: str) -> None:
    assert plan_launch("hf-jobs", gpu=gpu).machine == machine


@pytest.mark.parametrize("gpu", ["l5", "a100x16", "large", "x1", "l4x1x1"])
def test_a_gpu_that_the_hub_has_not_is_refused_with_those_that_it_has(hub: Hub, gpu: str) -> None:
    with pytest.raises(DataError, match=r"has no GPU .*; it has cpu-basic, l4x1, a100-large"):
        launch("hf-jobs", gpu=gpu)


def test_a_public_bucket_is_refused(hub: Hub) -> None:
    hub.is_private = False
    with pytest.raises(DataError, match="'me/shop' is public, so that everybody could read"):
        launch("hf-jobs", bucket="me/shop")
    assert not hub.started


def test_of_two_jobs_that_start_at_once_the_older_counts(hub: Hub) -> None:
    settings = plan_launch("hf-jobs").settings
    labels = {"finetune-pricer": "pricer", "finetune-pricer-settings": settings}

    def start_beside_another(request: httpx.Request) -> httpx.Response:
        answer = hub.start_job(request)
        hub.jobs.append(job("older", labels, second=5))
        return answer

    hub.start.mock(side_effect=start_beside_another)
    ServerRecord("hf-jobs", "pricer").keep_key(KEY)
    assert launch("hf-jobs").id == "older"
    assert hub.cancelled == ["j1"]

    # It is another machine's, which has its key: that is no reason to end it.
    hub.jobs.clear()
    hub.models.respond(401, json={"error": {"code": "invalid_api_key"}})
    with pytest.raises(AccessDenied, match="another key than this machine"):
        launch("hf-jobs")
    assert hub.cancelled == ["j1", "j2"]


def test_an_answer_that_was_lost_is_found_by_its_label(hub: Hub) -> None:
    def lose(request: httpx.Request) -> httpx.Response:
        hub.start_job(request)
        raise httpx.ReadError("cut")

    hub.start.mock(side_effect=lose)
    assert launch("hf-jobs").id == "j1"
    assert len(hub.started) == 1


def test_where_nobody_knows_whether_it_started_it_is_said_how_to_end_it(hub: Hub) -> None:
    hub.start.mock(side_effect=httpx.ConnectError("away"))
    with pytest.raises(ServiceUnavailable, match="--on hf-jobs --name pricer --stop` ends it"):
        launch("hf-jobs")


def test_stop_cancels_every_job_of_the_name_and_no_other(hub: Hub) -> None:
    mine = {"finetune-pricer": "pricer"}
    hub.jobs += [job("a", mine), job("b", mine, stage="SCHEDULING"), job("c", mine, stage="COMPLETED")]
    # A Hub that does not hear the question for labels answers with all of them.
    hub.jobs += [job("d", {"finetune-pricer": "other"}), job("e", {})]
    server = LaunchedServer.find("hf-jobs")
    assert server is not None
    server.stop()
    assert sorted(hub.cancelled) == ["a", "b"]
    assert ("label", "finetune-pricer=pricer") in hub.list.calls[0].request.url.params.multi_items()
    assert LaunchedServer.find("hf-jobs") is None


def test_a_job_whose_time_is_up_is_followed_by_another_with_the_same_bucket_and_key(hub: Hub) -> None:
    first = launch("hf-jobs")
    key = first.key_file.read_text()
    hub.end("j1", "COMPLETED")
    assert not first.is_running()
    second = launch("hf-jobs")
    assert (second.id, second.key_file.read_text()) == ("j2", key)
    assert hub.started[0]["volumes"] == hub.started[1]["volumes"]
    assert hub.started[0]["secrets"] == hub.started[1]["secrets"]


def test_a_job_that_ends_while_it_is_waited_for_is_told_in_the_hubs_words(hub: Hub) -> None:
    hub.models.respond(502, text="starting")
    with pytest.raises(
        ServiceUnavailable, match=r"Hub says ERROR \(out of memory\); its log: `hf jobs logs j1`"
    ):
        launch("hf-jobs", sleep=lambda _: hub.end("j1", "ERROR", "out of memory"))


def test_a_job_that_is_never_ready_is_cancelled(hub: Hub, naps: list[float]) -> None:
    hub.models.respond(502, text="starting")
    with pytest.raises(ServiceUnavailable, match="its log: hf jobs logs j1; it was ended"):
        launch("hf-jobs", wait="1m", sleep=naps.append)
    assert hub.cancelled == ["j1"]
    assert max(naps) <= 5.0


def test_a_hub_that_is_away_for_a_moment_ends_nothing(
    hub: Hub, naps: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = hf_jobs._list_live, list[str]()

    def list_live(api: Any, name: str) -> Any:
        calls.append(name)
        # The second asks who else has started one, the third is the first look whether it is ready.
        if len(calls) in {2, 3}:
            raise ServiceUnavailable("away")
        return real(api, name)

    monkeypatch.setattr(hf_jobs, "_list_live", list_live)
    assert launch("hf-jobs", sleep=naps.append).id == "j1"
    assert not hub.cancelled
    assert (len(naps), len(calls)) == (1, 4)


def test_a_job_that_cannot_be_cancelled_is_said_to_cost_money(hub: Hub, naps: list[float]) -> None:
    hub.models.respond(502, text="starting")
    hub.cancel.respond(503)
    with pytest.raises(ServiceUnavailable, match="could not be ended, and may still cost money"):
        launch("hf-jobs", wait=1, sleep=naps.append)


def test_an_interruption_cancels_what_was_started(hub: Hub) -> None:
    def interrupt(request: httpx.Request) -> httpx.Response:
        hub.start_job(request)
        raise KeyboardInterrupt

    hub.start.mock(side_effect=interrupt)
    with pytest.raises(KeyboardInterrupt):
        launch("hf-jobs")
    assert hub.cancelled == ["j1"]


def test_a_server_of_another_machine_needs_its_key(hub: Hub) -> None:
    settings = plan_launch("hf-jobs").settings
    hub.jobs.append(job("j9", {"finetune-pricer": "pricer", "finetune-pricer-settings": settings}))
    with pytest.raises(NotConfigured, match=r"started from another machine.*launch\(key=...\)"):
        launch("hf-jobs")
    assert not hub.cancelled
    assert launch("hf-jobs", key=KEY).client().api_key == KEY


def test_without_credentials_it_is_said_how_to_get_them(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(NotConfigured, match="no Hub token is set; run `hf auth login`, or set HF_TOKEN"):
        launch("hf-jobs")
    assert plan_launch("hf-jobs", gpu="l4").per_hour == pytest.approx(0.81, abs=0.001)


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (400, RequestRejected, "HTTP 400"),
        (401, AccessDenied, "a Hub token that may start jobs"),
        (402, AccessDenied, "no credit"),
        (403, AccessDenied, "a Hub token that may start jobs"),
        (404, NotFound, "HTTP 404"),
        (429, ServiceUnavailable, "try again later"),
        (500, ServiceUnavailable, "try again later"),
    ],
)
def test_what_the_hub_refuses_is_one_of_our_errors(
    hub: Hub, status: int, kind: type[PricerError], words: str
) -> None:
    hub.start.respond(status, json={"error": "no"})
    with pytest.raises(kind, match=words) as caught:
        launch("hf-jobs")
    assert TOKEN not in str(caught.value)
    if isinstance(caught.value, AccessDenied):
        assert caught.value.out_of_credit is (status == 402)


def test_a_hub_without_network_is_said(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ServiceUnavailable, match="HF_HUB_OFFLINE is set"):
        LaunchedServer.find("hf-jobs")


def test_an_old_huggingface_hub_is_said(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.HfApi, "run_job", lambda self, *, image: None)
    with pytest.raises(MissingExtra, match="pip install 'huggingface_hub>=2"):
        launch("hf-jobs")


@pytest.mark.parametrize("bucket", ["a/b/c", "/", "me/", "hf://buckets/", "me/x y", "s3://x"])
def test_a_bucket_is_an_owner_and_a_name(hub: Hub, bucket: str) -> None:
    with pytest.raises(DataError, match="such as 'me/pricer'"):
        launch("hf-jobs", bucket=bucket)
