"""What several tests need: a few items, and answers as a service words them."""

from collections.abc import Callable, Sequence
from typing import Any

import httpx
import orjson

from finetune_pricer import Item

HTML = httpx.Response(200, html="<html><title>Sign in</title></html>")


def priced(count: int, *, first: float = 10.0) -> list[Item]:
    return [
        Item(id=f"item-{number}", title=f"thing {number}", price=first + number) for number in range(count)
    ]


def body_of(request: httpx.Request) -> dict[str, Any]:
    return dict(orjson.loads(request.content))


def job_body(status: str = "running", **more: Any) -> dict[str, Any]:
    return {"id": "ftjob-1", "object": "fine_tuning.job", "status": status, "model": "base", **more}


def page(data: Sequence[dict[str, Any]], *, more: bool = False) -> httpx.Response:
    return httpx.Response(200, json={"object": "list", "data": list(data), "has_more": more})


def refusal(status: int, message: str = "no", **fields: Any) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": message, **fields}})


def reply(text: str | None, *, finish: str = "stop", **message: Any) -> httpx.Response:
    said = {"role": "assistant", "content": text, **message}
    return completion(choices=[{"index": 0, "finish_reason": finish, "message": said}])


def completion(**body: Any) -> httpx.Response:
    usage = {"prompt_tokens": 30, "completion_tokens": 4, "total_tokens": 34}
    return httpx.Response(200, json={"id": "c-1", "object": "chat.completion", "usage": usage, **body})


def asked_for(request: httpx.Request) -> str:
    """The item's text in a chat request, below the instruction."""
    content: str = body_of(request)["messages"][-1]["content"]
    return content.partition("\n\n")[2]


def answering(answers: Callable[[str], httpx.Response]) -> Callable[[httpx.Request], httpx.Response]:
    return lambda request: answers(asked_for(request))
