"""Events in order and each once, waiting that outlives bad days, metrics in one shape."""

import base64
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import respx

from finetune_pricer import FineTuneJob
from finetune_pricer.errors import (
    DataError,
    JobCancelled,
    JobFailed,
    JobTimeout,
    NotFound,
    NotSupported,
    RequestRejected,
    ServiceUnavailable,
)
from finetune_pricer.providers import PROVIDERS, Provider
from finetune_pricer.tune import JobRecord
from finetune_pricer.tune.job_metrics import read_metrics_answer, read_metrics_file

JOB = "/fine_tuning/jobs/ftjob-1"


def event(number: int, *, second: int | None = None, **more: Any) -> dict[str, Any]:
    at = number if second is None else second
    return {"id": f"ev-{number:05}", "created_at": at, "level": "info", "message": f"event {number}", **more}


def answer(status: int, body: Any = None) -> Any:
    return httpx2.Response(status, json=body)


class Listing:
    """A service's list of events, newest first, in pages."""

    def __init__(self, router: respx.MockRouter, events: list[dict[str, Any]]) -> None:
        self.events = events
        self.requests = 0
        router.get(f"{JOB}/events").mock(side_effect=self._page)

    def _page(self, request: Any) -> Any:
        self.requests += 1
        limit, after = int(request.url.params["limit"]), request.url.params.get("after")
        ids = [row["id"] for row in self.events]
        start = ids.index(after) + 1 if after else 0
        rows = self.events[start : start + limit]
        return answer(200, {"data": rows, "has_more": start + limit < len(self.events)})


def job(client: openai.OpenAI, status: str = "succeeded", provider: str | Provider = "openai") -> FineTuneJob:
    known = provider if isinstance(provider, Provider) else PROVIDERS[provider]
    return FineTuneJob(client, JobRecord(id="ftjob-1", status=status), known)


@pytest.fixture
def done(service: respx.MockRouter) -> respx.MockRouter:
    service.get(JOB).respond(json={"id": "ftjob-1", "status": "succeeded", "fine_tuned_model": "ft:m"})
    return service


def test_ten_thousand_events_come_once_each_in_order_at_some_kilobytes_each(
    client: openai.OpenAI, done: respx.MockRouter
) -> None:
    listing = Listing(
        done, [event(number, second=number // 7, data={"x": "y" * 500}) for number in range(9_999, -1, -1)]
    )
    json.dumps(listing.events)
    next_ = 0
    tracemalloc.start()
    for each in job(client).stream_events(sleep=lambda _: None):
        assert each.id == f"ev-{next_:05}"
        next_ += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert next_ == 10_000
    # They are put in order in memory; the routes' record of the answers is in this figure too.
    assert peak < 8_000 * next_


def test_streaming_resumes_after_an_event(client: openai.OpenAI, done: respx.MockRouter) -> None:
    Listing(done, [event(number, second=number // 3) for number in range(250, -1, -1)])
    given = [each.id for each in job(client).stream_events(after="ev-00100")]
    assert given == [f"ev-{number:05}" for number in range(101, 251)]
    assert list(job(client).stream_events(after="ev-00250")) == []


def test_an_unknown_event_to_resume_after_is_an_error(client: openai.OpenAI, done: respx.MockRouter) -> None:
    Listing(done, [event(1)])
    with pytest.raises(NotFound, match="no event 'nonesuch'"):
        list(job(client).stream_events(after="nonesuch"))


def test_where_a_service_keeps_no_order_time_and_id_decide(
    client: openai.OpenAI, done: respx.MockRouter
) -> None:
    Listing(done, [event(3, second=5), event(1, second=5), event(2, second=5), event(4, second=1)])
    given = [each.id for each in job(client, provider="crusoe").stream_events()]
    assert given == ["ev-00004", "ev-00001", "ev-00002", "ev-00003"]


def test_a_page_that_leads_back_to_itself_does_not_go_on_for_ever(
    client: openai.OpenAI, done: respx.MockRouter
) -> None:
    done.get(f"{JOB}/events").respond(json={"data": [event(2), event(1)], "has_more": True})
    assert [each.id for each in job(client).stream_events()] == ["ev-00001", "ev-00002"]


def test_a_list_that_breaks_off_is_read_again_and_nothing_is_lost(
    client: openai.OpenAI, service: respx.MockRouter, naps: list[float]
) -> None:
    service.get(JOB).respond(json={"id": "ftjob-1", "status": "running"})
    listing = Listing(service, [event(number, second=number // 200) for number in range(349, -1, -1)])
    whole, calls = listing._page, iter(range(1000))

    def page(request: Any) -> Any:
        if next(calls) == 2:
            return answer(503)
        return whole(request)

    service.get(f"{JOB}/events").mock(side_effect=page)
    stream = job(client, "running").stream_events(sleep=naps.append)
    assert [next(stream).id for _ in range(350)] == [f"ev-{number:05}" for number in range(350)]


def test_events_without_id_time_or_words_are_taken(client: openai.OpenAI, done: respx.MockRouter) -> None:
    rows = [
        {"message": "b", "created_at": "2026-11-22T10:00:00Z"},
        {"message": None, "created_at": None, "data": "text", "level": None, "type": None},
    ]
    done.get(f"{JOB}/events").respond(json={"data": rows})
    first, second = job(client).stream_events()
    assert (first.message, first.data, first.level, first.type) == ("", {}, "info", "message")
    assert second.created_at == 1_795_341_600
    assert first.id != second.id
    assert job(client).events() == [first, second]


def test_waiting_ends_with_what_became_of_the_job(client: openai.OpenAI, service: respx.MockRouter) -> None:
    problem = {"code": "invalid_training_file", "message": "no reply", "param": "training_file", "line": 17}
    service.get(JOB).respond(json={"id": "ftjob-1", "status": "failed", "error": problem})
    with pytest.raises(JobFailed, match=r"no reply .*line 17") as caught:
        job(client, "running").wait()
    assert (caught.value.code, caught.value.param) == ("invalid_training_file", "training_file")
    with pytest.raises(JobCancelled):
        job(client, "cancelled").wait()


def test_a_services_own_word_for_the_end_is_known(client: openai.OpenAI) -> None:
    own = Provider(name="own", statuses={"completed": "succeeded", "error": "failed"})
    assert job(client, "completed", own).wait().is_final
    assert not job(client, "completed", "openai").is_final
    with pytest.raises(JobFailed):
        job(client, "error", own).wait()


def test_time_runs_out_though_the_service_is_away_and_the_job_goes_on(
    client: openai.OpenAI, service: respx.MockRouter, naps: list[float]
) -> None:
    service.get(JOB).respond(503)
    with pytest.raises(JobTimeout, match=r"FineTuneJob\.attach\(client, 'ftjob-1'\)") as caught:
        job(client, "running").wait(timeout=100, sleep=naps.append)
    assert sum(naps) == pytest.approx(100)
    assert isinstance(caught.value.__cause__, ServiceUnavailable)


def test_pauses_grow_to_what_was_asked_and_no_further(
    client: openai.OpenAI, service: respx.MockRouter, naps: list[float]
) -> None:
    service.get(JOB).respond(json={"id": "ftjob-1", "status": "running"})
    with pytest.raises(JobTimeout):
        job(client, "running").wait(timeout=120, poll=5, sleep=naps.append)
    assert max(naps) <= 5.2
    assert len(naps) > 20
    with pytest.raises(DataError, match="poll must be a number above 0"):
        job(client, "running").wait(poll=0)


def test_interrupting_the_waiting_says_how_to_attach_and_cancels_nothing(
    client: openai.OpenAI, service: respx.MockRouter, caplog: pytest.LogCaptureFixture
) -> None:
    service.get(JOB).respond(json={"id": "ftjob-1", "status": "running"})

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        job(client, "running").wait(sleep=interrupted)
    assert "FineTuneJob.attach(client, 'ftjob-1')" in caplog.text
    assert caught.value.__notes__ == [
        "job 'ftjob-1' goes on; find it again with FineTuneJob.attach(client, 'ftjob-1')"
    ]
    assert {call.request.method for call in service.calls} == {"GET"}


def test_where_somebody_looks_a_bar_shows_step_loss_and_finish(
    client: openai.OpenAI,
    service: respx.MockRouter,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    service.get(JOB).mock(
        side_effect=[
            answer(200, {"id": "ftjob-1", "status": "running", "estimated_finish": 1_800_000_000}),
            answer(200, {"id": "ftjob-1", "status": "succeeded"}),
        ]
    )
    numbers = {"step": 30, "total_steps": 90, "train_loss": 1.2345}
    service.get(f"{JOB}/events").mock(
        side_effect=[
            answer(200, {"data": [event(1, type="metrics", data=numbers)]}),
            answer(503),
        ]
    )
    job(client, "running").wait(sleep=lambda _: None)
    shown = capsys.readouterr().err
    assert "30/90" in shown
    assert "loss 1.234" in shown
    assert "done about" in shown


AZURE = (
    b"step,train_loss,train_mean_token_accuracy,valid_loss,validation_mean_token_accuracy,full_valid_loss\n"
)
OPENAI = b"step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n"


@pytest.mark.parametrize("wrap", [bytes, base64.b64encode], ids=["plain", "base64"])
@pytest.mark.parametrize(
    "content",
    [
        AZURE + b"1,2.5,0.1,,,\n2,1.5,0.2,1.7,0.3,1.6\n",
        AZURE + b"1,2.5,0.1,-1.0,-1.0,-1\n2,1.5,0.2,1.7,0.3,1.6\n",  # -1: not measured
        OPENAI + b"1,2.5,0.1,NaN,\n2,1.5,0.2,1.7,0.3\n",
    ],
)
def test_result_files_are_read_with_either_header_plain_or_in_base64(content: bytes, wrap: Any) -> None:
    first, second = read_metrics_file(wrap(content))
    assert (first.step, first.train_loss, first.train_accuracy, first.valid_loss) == (1, 2.5, 0.1, None)
    assert (first.valid_accuracy, first.full_valid_loss) == (None, None)
    assert (second.valid_loss, second.valid_accuracy) == (1.7, 0.3)


@pytest.mark.parametrize("status", [404, 405, 501, 503])
def test_metrics_are_looked_for_elsewhere_where_events_are_not_given(
    client: openai.OpenAI, service: respx.MockRouter, status: int
) -> None:
    service.get(f"{JOB}/events").respond(status, json={"error": {"message": "no"}})
    files = service.get(JOB).respond(json={"id": "ftjob-1", "status": "succeeded", "result_files": ["f"]})
    service.get("/files/f/content").respond(content=OPENAI + b"1,2.5,0.1,,\n")
    assert [m.train_loss for m in job(client).metrics()] == [2.5]
    files.respond(json={"id": "ftjob-1", "status": "succeeded", "result_files": []})
    if status == 503:  # it may have them later
        with pytest.raises(ServiceUnavailable):
            job(client).metrics()
    else:
        assert not job(client).metrics()


def test_a_result_file_of_another_kind_holds_no_metrics() -> None:
    assert read_metrics_file(b"\x00\xff\xfe weights") == []
    assert read_metrics_file(b"") == []


@pytest.mark.parametrize(
    "answer",
    [
        {
            "ev_current_step": [1, 2],
            "ev_total_steps": [2, 2],
            "ev_loss": [2.5, 1.5],
            "ev_eval_loss": [None, 1.7],
        },
        {
            "data": [
                {"step": 1, "ev_loss": 2.5, "total_steps": 2},
                {"step": 2, "ev_loss": 1.5, "ev_eval_loss": 1.7},
            ]
        },
        {"series": {"ev_current_step": [1, 2], "ev_loss": [2.5, 1.5], "ev_eval_loss": [None, 1.7]}},
    ],
)
def test_a_metrics_endpoint_is_read_in_rows_and_in_series(answer: Any) -> None:
    first, second = read_metrics_answer(answer)
    assert (first.step, first.train_loss, first.valid_loss) == (1, 2.5, None)
    assert (second.step, second.train_loss, second.valid_loss) == (2, 1.5, 1.7)


def test_metrics_come_from_events_by_number_or_by_sentence(
    client: openai.OpenAI, done: respx.MockRouter
) -> None:
    numbers = {"step": 2, "total_steps": 3, "train_loss": 1.5, "train_mean_token_accuracy": 0.5}
    rows = [
        event(4, message="Step 3: training loss=1.25, validation loss=1.4, full validation loss=1.3"),
        event(3, type="metrics", data=numbers),
        event(2, type="metrics", data={"step": 2, "valid_loss": 1.7}),
        event(1, message="Created"),
    ]
    Listing(done, rows)
    metrics = job(client).metrics()
    assert [m.step for m in metrics] == [2, 3]
    assert (metrics[0].train_loss, metrics[0].valid_loss, metrics[0].train_accuracy) == (1.5, 1.7, 0.5)
    assert metrics[1].full_valid_loss == 1.3
    frame = metrics.to_frame()
    names = "step total_steps train_loss train_accuracy valid_loss valid_accuracy full_valid_loss"
    assert list(frame.columns) == names.split()
    assert [trace.name for trace in metrics.plot().data] == ["train loss", "valid loss", "full valid loss"]


def test_metrics_come_from_result_files_where_events_have_none(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    service.get(JOB).respond(json={"id": "ftjob-1", "status": "succeeded", "result_files": ["file-9"]})
    service.get("/files/file-9/content").respond(content=OPENAI + b"1,2.5,0.1,,\n")
    Listing(service, [event(1)])
    assert [m.train_loss for m in job(client).metrics()] == [2.5]
    (file,) = job(client).result_files()
    assert (file.id, file.content[:4]) == ("file-9", b"step")


def test_metrics_come_from_a_services_own_endpoint(client: openai.OpenAI, done: respx.MockRouter) -> None:
    Listing(done, [event(1)])
    done.get(f"{JOB}/metrics").respond(json={"ev_current_step": [1], "ev_loss": [2.5]})
    assert [m.train_loss for m in job(client, provider="crusoe").metrics()] == [2.5]


def test_checkpoints_name_the_model_that_can_be_asked_there(
    client: openai.OpenAI, done: respx.MockRouter
) -> None:
    rows = [
        {"id": "c2", "step_number": 20, "fine_tuned_model_checkpoint": "shown:2",
         "fine_tuned_model_id": "ftmodel-2", "metrics": {"step": 20, "train_loss": 1.0},
         "result_files": ["file-5"]},
        {"id": "c1", "step_number": 10, "fine_tuned_model_checkpoint": "shown:1"},
    ]  # fmt: skip
    done.get(f"{JOB}/checkpoints").respond(json={"data": rows})
    usual, crusoe, nebius = (
        job(client, provider=name).checkpoints() for name in ("openai", "crusoe", "nebius")
    )
    assert [c.model for c in usual] == ["shown:1", "shown:2"]
    assert [c.step for c in usual] == [10, 20]
    assert usual[1].metrics.train_loss == 1.0
    assert [c.model for c in crusoe] == ["shown:1", "ftmodel-2"]
    assert [c.model for c in nebius] == [None, None]
    assert nebius[1].result_files == ["file-5"]


def test_pausing_is_asked_for_where_there_is_such_a_thing(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    service.post(f"{JOB}/pause").respond(json={"id": "ftjob-1", "status": "paused"})
    service.post(f"{JOB}/resume").respond(json={"id": "ftjob-1", "status": "running"})
    running = job(client, "running")
    assert running.pause().status == "paused"
    assert not running.is_final
    assert running.resume().status == "running"
    with pytest.raises(NotSupported, match="'nebius' cannot pause"):
        job(client, "running", "nebius").pause()


def test_deleting_leaves_no_files_and_no_model_and_what_is_gone_is_fine(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    record = {"id": "ftjob-1", "status": "succeeded", "training_file": "file-1", "validation_file": None,
              "result_files": ["file-9"], "fine_tuned_model": "ft:m"}  # fmt: skip
    service.get(JOB).respond(json=record)
    service.delete("/files/file-1").respond(404, json={})
    service.delete("/files/file-9").respond(json={"id": "file-9", "deleted": True})
    service.delete("/models/ft:m").respond(json={"id": "ft:m", "deleted": True})
    assert job(client).delete() == ["file-1", "file-9", "ft:m"]
    assert job(client).delete(files=False) == ["ft:m"]


def test_what_a_running_job_needs_is_not_deleted(client: openai.OpenAI, service: respx.MockRouter) -> None:
    service.get(JOB).respond(json={"id": "ftjob-1", "status": "running", "training_file": "file-1"})
    with pytest.raises(RequestRejected, match="cancel"):
        job(client).delete()


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path) -> Iterator[None]:
    yield
    assert not (tmp_path / "home").exists(), "following a job needs no journal"
