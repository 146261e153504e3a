"""One driver for decisions, one way to ask until something is done, one way to read a list."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import openai
import pytest
import respx

from finetune_pricer._service.flow import (
    MOST_PAGES,
    Ask,
    Flow,
    Give,
    Pages,
    Pause,
    Work,
    arun,
    ask,
    astream,
    poll,
    run,
    stream,
)
from finetune_pricer._service.headers import read_retry_after
from finetune_pricer._service.requests import Answer, Request, get_file, list_batches
from finetune_pricer.errors import DataError, JobTimeout, NotFound, RequestRejected, ServiceUnavailable
from helpers import refusal

Drive = Callable[[Flow[Any]], tuple[list[Any], Any]]


@pytest.fixture(params=["run", "stream", "arun", "astream"])
def drive(request: pytest.FixtureRequest, client: openai.OpenAI, naps: list[float]) -> Drive:
    """Carry a flow out by one of the four drivers; gives what it handed out, and its result."""
    name: str = request.param

    async def anap(seconds: float) -> None:
        naps.append(seconds)

    async def by_async(flow: Flow[Any]) -> tuple[list[Any], Any]:
        async with openai.AsyncOpenAI(api_key="k", base_url=str(client.base_url), max_retries=0) as other:
            if name == "arun":
                return [], await arun(other, flow, anap)
            return [each async for each in astream(other, flow, anap)], None

    def by_any(flow: Flow[Any]) -> tuple[list[Any], Any]:
        if name == "run":
            return [], run(client, flow, naps.append)
        if name == "stream":
            return list(stream(client, flow, naps.append)), None
        return asyncio.run(by_async(flow))

    return by_any


@pytest.fixture
def file_service(service: respx.MockRouter) -> respx.MockRouter:
    service.get("/files/file-1").respond(json={"id": "file-1"})
    service.get("/files/file-2").mock(refusal(404))
    return service


def test_every_driver_sends_waits_works_and_lets_the_flow_decide_about_errors(
    drive: Drive, file_service: respx.MockRouter, naps: list[float]
) -> None:
    seen: list[Any] = []

    def flow() -> Flow[None]:
        seen.append((yield from ask(get_file("file-1"))))
        yield Pause(7)
        seen.append((yield Work(lambda: 6 * 7)))
        try:
            yield Ask(get_file("file-2"))
        except NotFound:
            seen.append("none")
        try:
            yield Work(lambda: 1 // 0)
        except ZeroDivisionError:
            seen.append("ours")

    drive(flow())
    assert seen == [{"id": "file-1"}, 42, "none", "ours"]
    assert naps == [7]


def test_an_error_that_the_flow_does_not_take_reaches_the_caller_and_the_flow_is_closed(
    drive: Drive, file_service: respx.MockRouter
) -> None:
    closed = []

    def flow() -> Flow[None]:
        try:
            yield from ask(get_file("file-2"))
        finally:
            closed.append(True)

    with pytest.raises(NotFound):
        drive(flow())
    assert closed


def test_results_and_what_is_handed_out(client: openai.OpenAI) -> None:
    def counting() -> Flow[None]:
        for number in range(3):
            yield Give(number)

    def seven() -> Flow[int]:
        yield Pause(0)
        return 7

    assert list(stream(client, counting(), lambda _: None)) == [0, 1, 2]
    assert run(client, seven(), lambda _: None) == 7
    with pytest.raises(TypeError, match=r"is for stream\(\)"):
        run(client, counting(), lambda _: None)
    with pytest.raises(TypeError, match=r"is for astream\(\)"):
        asyncio.run(arun(openai.AsyncOpenAI(api_key="k"), counting(), asyncio.sleep))


def test_a_caller_who_stops_iterating_closes_the_flow(client: openai.OpenAI) -> None:
    closed = []

    def flow() -> Flow[None]:
        try:
            while True:
                yield Give("more")
        finally:
            closed.append(True)

    given = stream(client, flow(), lambda _: None)
    next(given)
    given.close()  # type: ignore[attr-defined]
    assert closed


def test_ctrl_c_reaches_the_flow(client: openai.OpenAI) -> None:
    seen = []

    def flow() -> Flow[None]:
        try:
            yield Pause(1)
        except KeyboardInterrupt:
            seen.append("interrupted")
            raise

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(client, flow(), interrupt)
    assert seen == ["interrupted"]


def asking(*outcomes: Any) -> Callable[[], Flow[Any]]:
    """Ask for one outcome after the other; errors are raised."""
    left = list(outcomes)

    def ask_once() -> Flow[Any]:
        yield Pause(0)
        outcome = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return ask_once


def late() -> JobTimeout:
    return JobTimeout("late", job_id="j")


def test_polling_asks_until_it_is_done_with_growing_pauses(client: openai.OpenAI, naps: list[float]) -> None:
    flow = poll(asking(*"....", "done"), done=lambda answer: answer == "done", timeout=None, late=late)
    assert run(client, flow, naps.append) == "done"
    pauses = [nap for nap in naps if nap]
    assert len(pauses) == 4
    assert pauses[0] < pauses[-1]


def test_polling_bears_a_service_that_is_away_and_keeps_to_what_it_asks(
    client: openai.OpenAI, naps: list[float]
) -> None:
    errors = ServiceUnavailable("busy", retry_after=20.0), ServiceUnavailable("busy", retry_after=9_999.0)
    flow = poll(asking(*errors, "done"), done=bool, timeout=None, late=late)
    assert run(client, flow, naps.append) == "done"
    assert [nap for nap in naps if nap] == [20.0, 300.0]


def test_polling_passes_on_what_is_no_passing_fault(client: openai.OpenAI) -> None:
    with pytest.raises(RequestRejected):
        run(client, poll(asking(RequestRejected("no")), done=bool, timeout=9, late=late), lambda _: None)


@pytest.mark.parametrize("outcome", [None, ServiceUnavailable("away")])
def test_polling_ends_when_the_time_is_up_and_asks_at_the_deadline(
    client: openai.OpenAI, naps: list[float], outcome: Any
) -> None:
    with pytest.raises(JobTimeout) as caught:
        run(client, poll(asking(outcome), done=bool, timeout=60, late=late), naps.append)
    assert sum(naps) == pytest.approx(60, abs=0.5)
    assert caught.value.__cause__ is outcome


def test_polling_wants_a_pause(client: openai.OpenAI) -> None:
    with pytest.raises(DataError, match="poll must be above 0"):
        run(client, poll(asking(1), done=bool, timeout=1, late=late, longest_pause=0), lambda _: None)


def rows(*ids: str) -> list[dict[str, Any]]:
    return [{"id": name} for name in ids]


LISTS: dict[str, tuple[list[Any], list[str], int]] = {
    "honest": ([(rows("a", "b"), True), (rows("c"), False)], ["a", "b", "c"], 2),
    "one page for ever": ([(rows("a", "b"), True)], ["a", "b"], 2),
    "says that there is more on the last page": ([(rows("a"), True), ([], True)], ["a"], 2),
    "sends rows twice": (
        [(rows("a", "b"), True), (rows("b", "c"), True), (rows("c"), True)],
        ["a", "b", "c"],
        3,
    ),
    "runs in a circle": ([(rows("a"), True), (rows("b"), True), (rows("a"), True)], ["a", "b"], 3),
    "never says that there is more": ([(rows("a"), None)], ["a"], 1),
    "no rows": ([(None, True)], [], 1),
    "rows that are no objects": ([(["x", None, 7, *rows("a")], False)], ["a"], 1),
    "a row twice on one page": ([(rows("a", "a"), False)], ["a"], 1),
}


@pytest.mark.parametrize(("pages", "expected", "asked"), LISTS.values(), ids=LISTS)
def test_a_list_is_read_to_its_end_at_any_service_each_row_once(
    client: openai.OpenAI, service: respx.MockRouter, pages: list[Any], expected: list[str], asked: int
) -> None:
    left = list(pages)

    def answer(_: httpx.Request) -> httpx.Response:
        data, more = left.pop(0) if len(left) > 1 else left[0]
        return httpx.Response(200, json={"data": data} | ({} if more is None else {"has_more": more}))

    route = service.get("/batches").mock(side_effect=answer)
    found = run(client, Pages(list_batches).read_all(), lambda _: None)
    assert [row["id"] for row in found] == expected
    assert route.call_count == asked


def test_the_next_page_is_asked_for_after_the_last_row(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    route = service.get("/batches")
    route.side_effect = [
        httpx.Response(200, json={"data": rows("a", "b"), "has_more": True, "last_id": "something else"}),
        httpx.Response(200, json={"data": [], "has_more": False}),
    ]
    run(client, Pages(list_batches).read_all(), lambda _: None)
    assert [call.request.url.params.get("after") for call in route.calls] == [None, "b"]


def test_rows_without_ids_are_known_by_their_content(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    events = [{"message": "one"}, {"message": "two"}, {"message": "one"}]
    service.get("/batches").respond(json={"data": events, "has_more": True})
    found = run(client, Pages(list_batches).read_all(), lambda _: None)
    assert [row["message"] for row in found] == ["one", "two"]


def test_a_list_without_an_end_is_left_after_so_many_pages(client: openai.OpenAI) -> None:
    count = 0

    def endless(flow: Flow[Any]) -> Any:
        """Answer each question with a new row."""
        nonlocal count
        step = next(flow)
        with suppress(StopIteration):
            while True:
                count += 1
                step = flow.send({"data": rows(str(count)), "has_more": True})
                assert isinstance(step, Ask)

    endless(Pages(request_nothing, most=5).read_all())
    assert count == 5
    assert MOST_PAGES >= 1_000


def request_nothing(after: str | None) -> Request:
    return Request(lambda client: (client, after))


def test_the_first_row_that_is_wanted_ends_the_reading(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    route = service.get("/batches").respond(json={"data": rows("a", "b"), "has_more": True})
    assert run(client, Pages(list_batches).find(is_b), lambda _: None) == {"id": "b"}
    assert route.call_count == 1


def is_b(row: Answer) -> bool:
    return bool(row["id"] == "b")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "6m0s"}, 360.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "1e300"}, 30 * 86_400.0),
        ({"retry-after-ms": "1e300"}, 30 * 86_400.0),
        ({"retry-after": "1" * 20_000}, None),
    ],
)
def test_the_wait_that_a_service_asks_for_is_read_in_one_place(
    client: openai.OpenAI, service: respx.MockRouter, headers: dict[str, str], seconds: float | None
) -> None:
    assert read_retry_after(headers) == seconds
    # The key in the service's words takes the cause away, and not the wait.
    busy = httpx.Response(429, headers=headers, json={"error": {"message": f"slow down {client.api_key}"}})
    service.get("/files/file-1").mock(busy)
    with pytest.raises(ServiceUnavailable) as caught:
        run(client, ask(get_file("file-1")), lambda _: None)
    assert caught.value.retry_after == seconds
