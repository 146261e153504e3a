"""A Batch API that respx answers for: honest, but where it is told otherwise."""

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

import httpx
import respx

if TYPE_CHECKING:
    from collections.abc import Callable

Outcome = Literal[
    "answer",
    "made and lost",
    "made and killed",
    "lost",
    "killed",
    "no connection",
    "busy",
    "no file",
    "refused",
    "no room",
]
"""What becomes of a request for a batch; with `killed` our process ends before the answer comes."""


class Killed(BaseException):
    """The end of the process, as far as the journal and the service are concerned."""


class Batches:
    """Keeps files and batches, and answers when told to."""

    def __init__(self, router: respx.MockRouter) -> None:
        self.files: dict[str, bytes] = {}
        self.names: dict[str, str] = {}
        """Of the files that were sent."""
        self.batches: list[dict[str, Any]] = []
        self.answer: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda _: ok("$5.00")
        self.away = False
        self.headers: dict[str, str] = {}
        """What it says while it is away."""
        self.lost = ""
        """A file or a batch that is not there any more."""
        self.broken = ""
        """A file at which it stumbles."""
        self.uncancellable: dict[str, int] = {}
        """Batches that it does not cancel, and what it answers instead."""
        self.outcomes: list[Outcome] = []
        """One for each request for a batch, the next one first; after the last, all are answered."""
        self.refusals: dict[str, tuple[int, dict[str, Any]]] = {
            "busy": (429, {"message": "Too many batches."}),
            "no file": (404, {"message": "Input file not found."}),
            "refused": (400, {"message": "No."}),
            "no room": (400, {"message": "Enqueued token limit reached."}),
        }
        """The status and the error of outcomes that are refusals."""
        self.looks_before_shown = 0
        """How often the batches are listed before one whose answer was lost is among them."""
        self.metadata: Callable[[dict[str, str]], Any] = lambda given: given
        """What it shows as a batch's metadata."""
        self.shown: Callable[[dict[str, Any]], dict[str, Any]] = lambda batch: batch
        """What it shows of a batch."""
        self.listed: Callable[[list[dict[str, Any]]], Any] = lambda rows: {"data": rows, "has_more": False}
        """How it answers with a list."""
        self.refuses: dict[str, int] = {}
        """The status with which it refuses to list `batches` or `files`."""
        self.misses = 0
        """How often a batch is not found before it is."""
        self.counts = True
        """Whether it says how many questions are done."""
        self.asked: Counter[str] = Counter()
        self._hidden: dict[str, int] = {}
        router.post("/files").mock(side_effect=self.upload)
        router.get(url__regex=r"/files/(?P<name>[^/?]+)/content").mock(side_effect=self.content)
        router.get(url__regex=r"/files/(?P<name>[^/?]+)$").mock(side_effect=self.file)
        router.get(url__regex=r"/files(\?.*)?$").mock(side_effect=self.file_page)
        router.post("/batches").mock(side_effect=self.create)
        router.get(url__regex=r"/batches/(?P<name>[^/?]+)$").mock(side_effect=self.retrieve)
        router.get(url__regex=r"/batches(\?.*)?$").mock(side_effect=self.page)
        router.post(url__regex=r"/batches/(?P<name>[^/]+)/cancel").mock(side_effect=self.cancel)

    @property
    def bill(self) -> Counter[str]:
        """How often each question was taken, by its text."""
        return Counter(asked(line) for number in range(len(self.batches)) for line in self.lines(number))

    def show_all(self) -> None:
        """List every batch from now on."""
        self._hidden.clear()

    def upload(self, request: httpx.Request) -> httpx.Response:
        self.asked["POST /files"] += 1
        name = f"file-{len(self.names)}"
        content = request.read()
        found = re.search(rb'filename="(.*?)".*application/\S+\r\n\r\n(.*?)\r\n--', content, re.DOTALL)
        assert found
        self.names[name], self.files[name] = found[1].decode(), found[2]
        return httpx.Response(200, json={"id": name, "object": "file"})

    def content(self, _: httpx.Request, name: str) -> httpx.Response:
        self.asked["GET content"] += 1
        if name == self.broken:
            return httpx.Response(500, json={})
        if name == self.lost or name not in self.files:
            return httpx.Response(404, json={"error": {"message": "No such file."}})
        return httpx.Response(200, content=self.files[name])

    def file(self, _: httpx.Request, name: str) -> httpx.Response:
        if name not in self.names:
            return httpx.Response(404, json={"error": {"message": "No such file."}})
        return httpx.Response(200, json={"id": name, "filename": self.names[name]})

    def file_page(self, _: httpx.Request) -> httpx.Response:
        if "files" in self.refuses:
            return httpx.Response(self.refuses["files"], json={"error": {"message": "No list."}})
        rows = [{"id": name, "filename": self.names[name]} for name in reversed(self.names)]
        return httpx.Response(200, json=self.listed(rows))

    def create(self, request: httpx.Request) -> httpx.Response:
        self.asked["POST /batches"] += 1
        body = json.loads(request.content)
        outcome = self.outcomes.pop(0) if self.outcomes else "answer"
        if outcome in {"answer", "made and lost", "made and killed"}:
            self.batches.append(
                {
                    "id": f"batch_{len(self.batches)}",
                    "status": "in_progress",
                    "metadata": self.metadata(body["metadata"]),
                    "input_file_id": body["input_file_id"],
                }
            )
        if outcome == "made and lost":
            self._hidden[self.batches[-1]["id"]] = self.looks_before_shown
        if outcome.endswith("killed"):
            raise Killed
        if outcome == "no connection":
            raise httpx.ConnectError("made up", request=request)
        if outcome.endswith("lost"):
            return httpx.Response(504, json={})
        if outcome in self.refusals:
            status, error = self.refusals[outcome]
            return httpx.Response(status, json={"error": error})
        return httpx.Response(200, json=self.shown(self.batches[-1]))

    def page(self, _: httpx.Request) -> httpx.Response:
        self.asked["GET /batches"] += 1
        if "batches" in self.refuses:
            return httpx.Response(self.refuses["batches"], json={"error": {"message": "No list."}})
        hidden = {name for name, looks in self._hidden.items() if looks > 0}
        for name in hidden:
            self._hidden[name] -= 1
        rows = [self.shown(batch) for batch in reversed(self.batches) if batch["id"] not in hidden]
        return httpx.Response(200, json=self.listed(rows))

    def retrieve(self, _: httpx.Request, name: str) -> httpx.Response:
        self.asked[f"GET {name}"] += 1
        if self.away:
            return httpx.Response(503, json={}, headers=self.headers)
        if name == self.lost or self.misses:
            self.misses = max(0, self.misses - 1)
            return httpx.Response(404, json={"error": {"message": "No batch found."}})
        return httpx.Response(200, json=self.shown(self.batches[int(name[6:])]))

    def cancel(self, _: httpx.Request, name: str) -> httpx.Response:
        if name in self.uncancellable:
            return httpx.Response(self.uncancellable[name], json={"error": {"message": "No."}})
        self.batches[int(name[6:])]["status"] = "cancelled"
        if self.counts:
            self.batches[int(name[6:])]["request_counts"] = {"completed": 0, "failed": 0}
        return httpx.Response(200, json=self.batches[int(name[6:])])

    def lines(self, number: int) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.files[self.batches[number]["input_file_id"]].splitlines()]

    def finish(self, status: str = "completed", only: int | None = None) -> None:
        """Answer what is in progress: all of it, or one batch."""
        for number, batch in enumerate(self.batches):
            if batch["status"] != "in_progress" or only not in {None, number}:
                continue
            output: list[Any] = []
            errors: list[Any] = []
            for line in self.lines(number):
                row = self.answer(line)
                if row is not None:
                    (output if row.get("response") else errors).append({"custom_id": line["custom_id"]} | row)
            batch["status"] = status
            for name, rows in (("output_file_id", output), ("error_file_id", errors)):
                batch[name] = f"{name}-{number}"
                self.files[batch[name]] = "\n".join(map(json.dumps, reversed(rows))).encode()
            if self.counts:
                fine = sum(row["response"]["status_code"] == 200 for row in output)
                batch["request_counts"] = {"completed": fine, "failed": len(output) + len(errors) - fine}


def ok(reply: str) -> dict[str, Any]:
    body = {"choices": [{"message": {"content": reply}, "finish_reason": "stop"}]}
    return {"response": {"status_code": 200, "body": body}, "error": None}


def bad(status: int, message: str, param: str | None = None) -> dict[str, Any]:
    return {"response": {"status_code": status, "body": {"error": {"message": message, "param": param}}}}


def asked(line: dict[str, Any]) -> str:
    """The item's text in a line, below the instruction."""
    text: str = line["body"]["messages"][-1]["content"]
    return text.partition("\n\n")[2]


def texts(count: int) -> list[str]:
    return [f"thing number {number}" for number in range(count)]
