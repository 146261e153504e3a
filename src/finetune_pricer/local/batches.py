"""Batches: their lines are checked, their requests answered, and the answers kept in files."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from .api.requests import ChatBody, parse_body
from .api.responses import ApiError
from .queue_thread import QueueThread
from .records import UNFINISHED_BATCHES, StoredBatch, new_id, now
from .shortage import Patience, describe_shortage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .completions import ChatService
    from .database import Database
    from .faults import FaultInjector

log: logging.Logger = logging.getLogger("finetune_pricer.local")

ENDPOINT = "/v1/chat/completions"
WINDOW = 86_400  # seconds
MAX_REQUESTS = 50_000
"""Requests that a batch may have."""
_SAVE_EVERY = 0.2  # seconds
_NAMED = 20  # bad lines that are named


class Batches:
    """Runs batches in a thread, one after the other; an unfinished one starts anew with the server."""

    def __init__(
        self, database: Database, chat: ChatService, injector: FaultInjector, *, strict: bool = False
    ) -> None:
        self._database = database
        self._chat = chat
        self._injector = injector
        self._strict = strict
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._waiting: queue.Queue[str | None] = queue.Queue()
        self._patience = Patience()
        self.thread: QueueThread = QueueThread("batches", self._waiting, self._carry_out)
        """What must live for batches to go on."""

    def start(self) -> None:
        """Start, and take up the batches that an earlier server left unfinished."""
        for batch in reversed(self._database.list_unfinished_batches()):
            self._waiting.put(batch.id)
        self.thread.start()

    def stop(self) -> None:
        """Stop after the present request."""
        self._stopping.set()
        self.thread.stop()
        self.thread.join()

    def submit(self, batch: StoredBatch) -> None:
        """Keep a new batch and take it up."""
        self._database.save_batch(batch)
        log.info("batch %s created on %s", batch.id, batch.input_file_id)
        self._waiting.put(batch.id)

    def cancel(self, batch_id: str) -> StoredBatch | None:
        """Ask a batch to stop, and return it as it then stands; None where it has ended already."""
        with self._lock:
            batch = self._database.find_batch(batch_id)
            if batch is None or batch.status not in UNFINISHED_BATCHES or batch.status == "finalizing":
                return None
            return batch if batch.status == "cancelling" else self._enter(batch, "cancelling")

    @property
    def window(self) -> float:
        """Seconds that a batch may take."""
        shorter = self._injector.faults.batch_window
        return WINDOW if shorter is None else shorter

    def _enter(self, batch: StoredBatch, status: str, **changes: Any) -> StoredBatch:
        entered = replace(batch, status=status, times=batch.times | {f"{status}_at": now()}, **changes)
        self._database.save_batch(entered)
        return entered

    def _move(self, batch: StoredBatch, status: str, **changes: Any) -> StoredBatch:
        """Change a batch as it stands now; a request to cancel it that came in the meantime stays."""
        with self._lock:
            batch = self._database.find_batch(batch.id) or batch
            if batch.status == "cancelling" and status in UNFINISHED_BATCHES:
                status = "cancelling"
            if status == batch.status:
                batch = replace(batch, **changes)
                self._database.save_batch(batch)
                return batch
            return self._enter(batch, status, **changes)

    def _carry_out(self, batch_id: str) -> None:
        """Run a batch to its end; raise what keeps it from being done or ended for the moment."""
        batch = self._database.find_batch(batch_id)
        if batch is None or batch.status not in UNFINISHED_BATCHES:
            return
        try:
            self._run(batch)
        except BaseException as error:
            shortage = describe_shortage(error)
            if shortage is not None and self._patience.allows(batch_id):
                raise
            # Only the kind: a message might hold a piece of a prompt.
            log.error("batch %s failed: %s", batch_id, shortage or type(error).__name__)  # noqa: TRY400
            message = f"The batch failed{f': {shortage}' if shortage else ' due to an internal error'}."
            problem = _problem("server_error", message, None)
            self._move(batch, "failed", errors=[problem | {"line": None}])
        self._patience.end(batch_id)

    def _run(self, batch: StoredBatch) -> None:
        content = self._read_input(batch)
        requests: list[dict[str, Any]] = []
        if content is None:
            message = f"The input file {batch.input_file_id} was deleted or has expired."
            problems = [_problem("input_file_not_found", message, "input_file_id") | {"line": None}]
        else:
            requests, problems = read_requests(content)
        if problems:
            self._move(batch, "failed", errors=problems)
            log.info("batch %s failed: %s", batch.id, problems[0]["code"])
            return
        counts = {"total": len(requests), "completed": 0, "failed": 0}
        self._move(batch, "in_progress", counts=counts, model=requests[0]["body"].get("model"))
        results = _Results(counts)
        ending = self._answer(batch, requests, results)
        if ending is not None:
            self._keep_results(batch, ending, results)

    def _read_input(self, batch: StoredBatch) -> bytes | None:
        """Return the content of a batch's input file, or None where it has been deleted or has expired."""
        file = self._database.find_file(batch.input_file_id)
        if file is None:
            return None
        with self._database.lend_blob(file.sha256) as path:
            return None if path is None else path.read_bytes()

    def _answer(self, batch: StoredBatch, requests: list[dict[str, Any]], results: _Results) -> str | None:
        """Answer the requests; return the last status, or None where the server stops in the middle."""
        saved_at = 0.0
        for place, request in enumerate(requests):
            if self._stopping.wait(self._injector.faults.chat_pause):
                return None
            if time.time() >= batch.created_at + self.window:
                results.add_unanswered(requests[place:], "batch_expired", _EXPIRED)
                return "expired"
            if time.monotonic() - saved_at > _SAVE_EVERY:
                saved_at = time.monotonic()
                if self._move(batch, "in_progress", counts=dict(results.counts)).status == "cancelling":
                    results.add_unanswered(requests[place:], "batch_cancelled", _CANCELLED)
                    return "cancelled"
            results.add(request, *self._reply(request["body"]))
        return "completed"

    def _reply(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        try:
            return 200, self._chat.answer(parse_body(ChatBody, body, strict=self._strict)).to_dict()
        except ApiError as error:
            return error.status, error.body

    def _keep_results(self, batch: StoredBatch, ending: str, results: _Results) -> None:
        if ending == "completed":
            moved = self._move(batch, "finalizing", counts=results.counts)
            ending = "cancelled" if moved.status == "cancelling" else ending
        last = batch.outputs_last
        expires_at = None if last is None else now() + last
        with contextlib.ExitStack() as held:
            blobs = {
                kind: held.enter_context(self._database.keep_blob(b"".join(lines)))
                for kind, lines in (("output", results.output), ("error", results.errors))
                if lines
            }
            held.enter_context(self._database.transaction())
            ids: dict[str, Any] = {}
            for kind, blob in blobs.items():
                name = f"{batch.id}_{kind}.jsonl"
                file = self._database.name_file(
                    blob, filename=name, purpose="batch_output", expires_at=expires_at
                )
                ids[f"{kind}_file_id"] = file.id
            self._move(batch, ending, counts=results.counts, tokens=results.tokens, **ids)
        log.info("batch %s %s: %s", batch.id, ending, results.counts)


_EXPIRED = "This request could not be executed before the completion window expired."
_CANCELLED = "This request was not executed because the batch was cancelled."


class _Results:
    """The answers so far, as lines of the output and error files."""

    def __init__(self, counts: dict[str, int]) -> None:
        self.counts = counts
        self.tokens = {"input": 0, "output": 0}
        self.output: list[bytes] = []
        self.errors: list[bytes] = []

    def add(self, request: dict[str, Any], status: int, body: dict[str, Any]) -> None:
        response = {"status_code": status, "request_id": new_id("req_"), "body": body}
        good = status == 200
        self.counts["completed" if good else "failed"] += 1
        (self.output if good else self.errors).append(_line(request, response, None))
        if good:
            self.tokens["input"] += body["usage"]["prompt_tokens"]
            self.tokens["output"] += body["usage"]["completion_tokens"]

    def add_unanswered(self, requests: list[dict[str, Any]], code: str, message: str) -> None:
        for request in requests:
            self.errors.append(_line(request, None, {"code": code, "message": message}))


def _line(request: dict[str, Any], response: Any, error: Any) -> bytes:
    line = {"id": new_id("batch_req_"), "custom_id": request["custom_id"], "response": response}
    return orjson.dumps(line | {"error": error}) + b"\n"


def read_requests(content: bytes) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the requests of a batch's input file, and what is wrong with its lines."""
    lines = [(number, line) for number, line in enumerate(content.split(b"\n"), 1) if line.strip()]
    requests: list[dict[str, Any]] = []
    problems = list(_file_problems(lines))
    seen: set[str] = set()
    for number, line in lines[:MAX_REQUESTS]:
        request, problem = _read_request(line, seen)
        if problem is None:
            requests.append(request)
        else:
            problems.append(problem | {"line": number})
    models = {request["body"].get("model") for request in requests if not problems}
    if len(models) > 1:
        message = "All requests of a batch must ask the same model."
        problems.append({"code": "mismatched_model", "message": message, "param": "body.model", "line": None})
    return requests, problems[:_NAMED]


def _file_problems(lines: list[tuple[int, bytes]]) -> Iterator[dict[str, Any]]:
    if not lines:
        yield {
            "code": "empty_file",
            "message": "The input file holds no request.",
            "param": None,
            "line": None,
        }
    if len(lines) > MAX_REQUESTS:
        message = f"The input file holds {len(lines):,} requests, but may have {MAX_REQUESTS:,}."
        yield {"code": "too_many_requests", "message": message, "param": None, "line": None}


def _read_request(line: bytes, seen: set[str]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the request of a line, or what is wrong with it."""
    try:
        request: Any = orjson.loads(line.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError:
        request = None
    if not isinstance(request, dict):
        return {}, _problem("invalid_json_line", "This line is not parseable as a JSON object.", None)
    name: Any = request.get("custom_id")
    body: Any = request.get("body")
    named, full = isinstance(name, str) and name, isinstance(body, dict)
    model = full and isinstance(body.get("model"), str)
    for param, is_there in {"custom_id": named, "body": full, "body.model": model}.items():
        if not is_there:
            return {}, _problem("missing_required_parameter", "Missing required parameter.", param)
    wrong = {
        "duplicate_custom_id": ("custom_id", "Another line has this custom_id.", name in seen),
        "invalid_method": ("method", "The method must be POST.", request.get("method") != "POST"),
        "invalid_url": ("url", f"The URL must be {ENDPOINT}.", request.get("url") != ENDPOINT),
        "invalid_request": ("body.stream", "A batch cannot be streamed.", bool(body.get("stream"))),
    }
    seen.add(name)
    for code, (param, message, is_wrong) in wrong.items():
        if is_wrong:
            return {}, _problem(code, message, param)
    return request, None


def _problem(code: str, message: str, param: str | None) -> dict[str, Any]:
    return {"code": code, "message": message, "param": param}
