"""A job's events: in order, each once."""

from collections.abc import Iterable
from contextlib import suppress
from itertools import chain, repeat
from typing import Any

import httpx
import openai
import pytest
import respx

from finetune_pricer import FineTuneJob
from finetune_pricer.errors import AccessDenied, ServiceUnavailable
from finetune_pricer.tune import JobEvent, JobRecord
from helpers import HTML, job_body, page, refusal


def event(number: int, *, at: int | None = None, **more: Any) -> dict[str, Any]:
    return {
        "id": f"e{number}",
        "created_at": number if at is None else at,
        "level": "info",
        "message": f"step {number}",
        "type": "message",
        **more,
    }


def streamed(
    client: openai.OpenAI,
    service: respx.MockRouter,
    naps: list[float],
    *,
    statuses: list[str],
    pages: Iterable[Any],
) -> list[str]:
    """Follow a job that takes these statuses, while its event list gives these pages, and then no more."""
    states = [httpx.Response(200, json=job_body(status)) for status in statuses]
    service.get("/fine_tuning/jobs/ftjob-1").mock(side_effect=chain(states, repeat(states[-1])))
    service.get("/fine_tuning/jobs/ftjob-1/events").mock(side_effect=chain(pages, repeat(page([]))))
    job = FineTuneJob(client, JobRecord(id="ftjob-1"))
    return [found.id for found in job.stream_events(sleep=naps.append)]


def test_events_come_oldest_first_each_once_over_looks_and_pages(
    client: openai.OpenAI, service: respx.MockRouter, naps: list[float]
) -> None:
    pages = [
        page([event(2), event(1)]),
        page([event(5), event(4)], more=True),
        page([event(3), event(2)], more=True),
        page([event(1)]),
    ]
    found = streamed(client, service, naps, statuses=["running", "succeeded"], pages=pages)
    assert found == ["e1", "e2", "e3", "e4", "e5"]


def test_a_list_that_repeats_itself_and_is_out_of_order_is_put_right(
    client: openai.OpenAI, service: respx.MockRouter, naps: list[float]
) -> None:
    pages = [page([event(1), event(3), event(3), event(2)])]
    assert streamed(client, service, naps, statuses=["failed"], pages=pages) == ["e1", "e2", "e3"]


def test_within_one_second_the_services_newest_first_is_turned_round(
    client: openai.OpenAI, service: respx.MockRouter, naps: list[float]
) -> None:
    pages = [page([event(3, at=9), event(2, at=9), event(1, at=9)])]
    assert streamed(client, service, naps, statuses=["succeeded"], pages=pages) == ["e1", "e2", "e3"]


def test_what_comes_after_the_final_status_is_given_before_the_end(
    client: openai.OpenAI, service: respx.MockRouter, naps: list[float]
) -> None:
    pages = [page([event(1)]), page([event(1)]), page([event(2), event(1)])]
    statuses = ["running", "running", "cancelled"]
    assert streamed(client, service, naps, statuses=statuses, pages=pages) == ["e1", "e2"]
    assert len(naps) == 1


def test_a_busy_spell_between_two_pages_loses_no_event(
    client: openai.OpenAI, service: respx.MockRouter, naps: list[float]
) -> None:
    pages = [
        page([event(4), event(3)], more=True),
        refusal(503),
        page([event(4), event(3)], more=True),
        page([event(2), event(1)]),
    ]
    found = streamed(client, service, naps, statuses=["running", "succeeded"], pages=pages)
    assert found == ["e1", "e2", "e3", "e4"]


def test_a_service_that_sends_one_page_for_ever_is_not_followed_for_ever(
    client: openai.OpenAI, service: respx.MockRouter, naps: list[float]
) -> None:
    pages = [page([event(1)], more=True)] * 5
    assert streamed(client, service, naps, statuses=["succeeded"], pages=pages) == ["e1"]


def test_a_job_without_events_ends_all_the_same(
    client: openai.OpenAI, service: respx.MockRouter, naps: list[float]
) -> None:
    answers = [httpx.Response(200, json={"data": None}), page([])]
    assert streamed(client, service, naps, statuses=["queued", "succeeded"], pages=answers) == []


SSE = httpx.Response(
    200, headers={"content-type": "text/event-stream"}, text='data: {"id":"e1"}\n\ndata: [DONE]\n\n'
)


@pytest.mark.parametrize(
    "answer",
    [SSE, refusal(501, "not yet implemented"), refusal(404), refusal(405), refusal(503), HTML],
    ids=["an event stream", "501", "404", "405", "503", "a page"],
)
def test_where_events_are_never_given_the_stream_ends_with_the_job(
    client: openai.OpenAI, service: respx.MockRouter, naps: list[float], answer: httpx.Response
) -> None:
    pages = repeat(answer, 500)
    statuses = ["running"] * 9 + ["succeeded"]
    with suppress(ServiceUnavailable):  # where it may be away and not without events
        assert streamed(client, service, naps, statuses=statuses, pages=pages) == []
    assert 9 <= len(naps) < 40


def test_a_service_that_stays_away_is_not_taken_for_one_without_events(
    client: openai.OpenAI, service: respx.MockRouter, naps: list[float]
) -> None:
    with pytest.raises(ServiceUnavailable, match="has ended, and its events cannot be read"):
        streamed(client, service, naps, statuses=["succeeded"], pages=repeat(refusal(503), 500))


def test_events_that_come_back_after_the_jobs_end_are_given(
    client: openai.OpenAI, service: respx.MockRouter, naps: list[float]
) -> None:
    pages = [refusal(503)] * 6 + [page([event(2), event(1)])]
    assert streamed(client, service, naps, statuses=["succeeded"], pages=pages) == ["e1", "e2"]


def test_a_refusal_ends_the_stream_with_an_error(
    client: openai.OpenAI, service: respx.MockRouter, naps: list[float]
) -> None:
    with pytest.raises(AccessDenied):
        streamed(client, service, naps, statuses=["running"], pages=[refusal(401)])


def test_nulls_and_foreign_forms_stand_for_nothing_and_further_fields_are_kept() -> None:
    found = JobEvent.model_validate(
        {"id": 7, "created_at": None, "level": None, "message": None, "type": None, "data": "x", "shade": 1}
    )
    assert (found.id, found.created_at, found.level, found.message, found.data) == ("7", 0, "info", "", {})
    assert found.model_extra == {"shade": 1}
    assert JobEvent.model_validate({"id": "e", "created_at": "yesterday"}).created_at == 0


def test_an_event_reads_as_a_line_that_names_a_level_worth_naming() -> None:
    assert str(JobEvent(id="e", message="step 1")).endswith(" step 1")
    assert str(JobEvent(id="e", level="error", message="bad line")).endswith(" error: bad line")


@pytest.mark.parametrize("data", [{"step": 3, "train_loss": 0.5}, {}])
def test_the_numbers_of_a_metrics_event_come_as_they_are(data: dict[str, Any]) -> None:
    assert JobEvent.model_validate(event(1, type="metrics", data=data)).data == data
