"""`CannedService`: a service of OpenAI's protocol that answers with what a test says, and trains nothing.

It stands on the standard library alone, and keeps everything in memory.
"""

# ruff: noqa: ARG002 - what answers a route is called with the request, whether it looks at it or not

from __future__ import annotations

import email
import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal, Self, get_args
from urllib.parse import unquote, urlsplit

from ._arguments import refuse, require_choice, require_number, require_text, require_whole
from ._chat_protocol import text_of
from .errors import NotConfigured
from .prices import format_price

if TYPE_CHECKING:
    from types import TracebackType

    import openai

Answer = str | float | Mapping[str, str | float] | Callable[[str], str | float]
"""A reply; a price; either by a part of the question; or a function that makes one of the question."""
JobStatus = Literal["succeeded", "failed", "cancelled", "running"]
"""What becomes of a canned service's jobs."""

_CREATED = 1_790_000_000  # Unix time of everything that it makes, so that two runs of a test say the same


class CannedService:
    """A service of OpenAI's protocol on this machine, whose answers a test decides; nothing is trained.

    It takes files and jobs, whose models answer at once, and chat requests. It has no batches, no token
    probabilities and no deployments: what asks for them hears that there are none.

    Args:
        answer: What every model says: a reply; a price; a mapping from parts of questions to either, of which
            the first that a question holds counts; or a function of the question's text. It may be replaced
            at any time. A question that no part fits is refused, and so is one whose function raises.
        job_status: What becomes of jobs. A running one ends by `service.job_status = "succeeded"`.

    Attributes:
        asked: The text of each question, as the model would see it, the oldest first.
        requests: Method and path of each request, such as `"POST /v1/files"`.
        files: The content of each uploaded file, by the file's id.

    Raises:
        WrongArgument: An answer or a status is none.

    Examples:
        >>> from finetune_pricer import Predictor
        >>> from finetune_pricer.testing import CannedService
        >>> with CannedService({"lamp": 20, "desk": "I do not know."}) as service, service.client() as client:
        ...     predictor = Predictor(client, "any-model")
        ...     print(predictor("A lamp of brass."), predictor("A desk."))
        20.0 None
    """

    def __init__(self, answer: Answer = "$19.99", *, job_status: JobStatus = "succeeded") -> None:
        self.answer = answer
        self.job_status = job_status
        self.asked: list[str] = []
        self.requests: list[str] = []
        self.files: dict[str, bytes] = {}
        self._objects: dict[str, dict[str, Any]] = {}
        self._jobs: dict[str, dict[str, Any]] = {}
        self._refusals: deque[_Refusal] = deque()
        self._changing = threading.RLock()
        self._server: ThreadingHTTPServer | None = None

    @property
    def answer(self) -> Answer:
        """What every model says."""
        return self._answer

    @answer.setter
    def answer(self, answer: Answer) -> None:
        if isinstance(answer, bool) or not (
            isinstance(answer, str | int | float | Mapping) or callable(answer)
        ):
            raise refuse("answer", "a reply, a price, a mapping or a function", answer)
        self._answer = answer

    @property
    def job_status(self) -> JobStatus:
        """What becomes of jobs."""
        return self._job_status

    @job_status.setter
    def job_status(self, status: JobStatus) -> None:
        require_choice("job_status", status, get_args(JobStatus))
        self._job_status: JobStatus = status

    @property
    def url(self) -> str:
        """What a client takes as `base_url`.

        Raises:
            NotConfigured: The service has not been started, or was stopped.
        """
        if self._server is None:
            raise NotConfigured("the canned service is not running: use it in a with statement")
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def client_options(self) -> dict[str, Any]:
        """What a client of it is made with: `openai.AsyncOpenAI(**service.client_options)`."""
        return {"base_url": self.url, "api_key": "canned"}

    def client(self, **options: Any) -> openai.OpenAI:
        """Return an ordinary openai client of it; `options` go to `openai.OpenAI`."""
        import openai

        return openai.OpenAI(**{**self.client_options, **options})

    def fail(
        self, status: int = 503, message: str = "The service is out of order.", *, times: int = 1
    ) -> None:
        """Let the next requests be answered with an error.

        The openai client asks again by itself after 408, 409, 429 and 5xx, with a pause:
        `service.client(max_retries=0)` does not.

        Args:
            status: The HTTP status, at least 400.
            message: What the service says.
            times: How many requests.
        """
        require_whole("status", status, low=400, high=599)
        require_text("message", message)
        require_whole("times", times, low=1)
        self._refusals.extend([_Refusal(status, message)] * times)

    def start(self) -> Self:
        """Start answering; nothing happens if it does already."""
        if self._server is None:
            self._server = _Server(self)
            threading.Thread(
                target=self._server.serve_forever, args=(0.01,), name="canned-service", daemon=True
            ).start()
        return self

    def stop(self) -> None:
        """Stop answering. What was asked stays to be looked at."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"CannedService({self.url if self._server else 'not running'}, {len(self.asked):,} asked)"

    # What it answers. Routes are looked for by method and path.

    def _respond(self, method: str, target: str, kind: str, body: bytes) -> tuple[int, Any]:
        """Return the status and the JSON, or the bytes, that a request is answered with."""
        path = unquote(urlsplit(target).path).removeprefix("/v1")
        with self._changing:
            self.requests.append(f"{method} /v1{path}")
            try:
                return 200, self._find_answer(method, path, _Asked(kind, body))
            except _Refusal as error:
                refusal = error
            except Exception as error:  # noqa: BLE001 - a connection that breaks would be asked on again and again
                refusal = _Refusal(400, f"The canned service could not answer: {error!r}")
        told = {"message": refusal.message, "type": "canned", "code": None, "param": None}
        return refusal.status, {"error": told}

    def _find_answer(self, method: str, path: str, asked: _Asked) -> Any:
        if self._refusals:
            raise self._refusals.popleft()
        for wanted, pattern, name in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method == wanted:
                return getattr(self, name)(asked, *match.groups())
        raise _Refusal(404, f"The canned service has no {method} /v1{path}.")

    def _upload(self, asked: _Asked) -> Any:
        name, content, purpose = asked.read_upload()
        id_ = f"file-canned-{len(self._objects) + 1}"
        self.files[id_] = content
        self._objects[id_] = {
            "id": id_,
            "object": "file",
            "bytes": len(content),
            "created_at": _CREATED,
            "filename": name,
            "purpose": purpose,
            "status": "processed",
        }
        return self._objects[id_]

    def _list_files(self, asked: _Asked) -> Any:
        return _list([*self._objects.values()][::-1])

    def _get_file(self, asked: _Asked, id_: str) -> Any:
        return _find(self._objects, id_, "file")

    def _get_content(self, asked: _Asked, id_: str) -> Any:
        return _find(self.files, id_, "file")

    def _delete_file(self, asked: _Asked, id_: str) -> Any:
        _find(self._objects, id_, "file")
        del self._objects[id_], self.files[id_]
        return {"id": id_, "object": "file", "deleted": True}

    def _create_job(self, asked: _Asked) -> Any:
        body = asked.read_json()
        _find(self._objects, str(body.get("training_file")), "file")
        number = len(self._jobs) + 1
        suffix = body.get("suffix") or ""
        id_ = f"ftjob-canned-{number}"
        self._jobs[id_] = {
            **body,
            "id": id_,
            "object": "fine_tuning.job",
            "created_at": _CREATED + number,
            "name": f"ft:{body.get('model')}:canned:{suffix}:{number}",
            "cancelled": False,
        }
        return self._describe_job(self._jobs[id_])

    def _describe_job(self, job: Mapping[str, Any]) -> dict[str, Any]:
        status = "cancelled" if job["cancelled"] else self.job_status
        reason = {"code": "canned", "message": "The test wanted this job to fail.", "param": None}
        shown = {name: value for name, value in job.items() if name not in {"name", "cancelled"}}
        return {
            "hyperparameters": {},
            "result_files": [],
            **shown,
            "status": status,
            "fine_tuned_model": job["name"] if status == "succeeded" else None,
            "trained_tokens": len(self.files.get(job["training_file"], b"")) // 4,
            "finished_at": None if status == "running" else job["created_at"] + 1,
            "error": reason if status == "failed" else None,
        }

    def _list_jobs(self, asked: _Asked) -> Any:
        return _list([self._describe_job(job) for job in self._jobs.values()][::-1])

    def _get_job(self, asked: _Asked, id_: str) -> Any:
        return self._describe_job(_find(self._jobs, id_, "job"))

    def _cancel_job(self, asked: _Asked, id_: str) -> Any:
        _find(self._jobs, id_, "job")["cancelled"] = True
        return self._get_job(asked, id_)

    def _list_events(self, asked: _Asked, id_: str) -> Any:
        job = self._get_job(asked, id_)
        step = {"step": 1, "total_steps": 1, "train_loss": 1.0}
        event = {"object": "fine_tuning.job.event", "created_at": job["created_at"], "level": "info"}
        made = event | {"id": f"{id_}-1", "message": "Created the job", "type": "message"}
        done = event | {"id": f"{id_}-2", "message": "Step 1/1", "type": "metrics", "data": step}
        return _list([done, made])

    def _list_nothing(self, asked: _Asked, id_: str) -> Any:
        self._get_job(asked, id_)
        return _list([])

    def _get_model(self, asked: _Asked, name: str) -> Any:
        return {"id": name, "object": "model", "created": _CREATED, "owned_by": "canned"}

    def _delete_model(self, asked: _Asked, name: str) -> Any:
        return {"id": name, "object": "model", "deleted": True}

    def _list_models(self, asked: _Asked) -> Any:
        return _list([self._get_model(asked, job["name"]) for job in self._jobs.values()])

    def _chat(self, asked: _Asked) -> Any:
        body = asked.read_json()
        question = text_of(body["messages"][-1])
        self.asked.append(question)
        message = {"role": "assistant", "content": self._make_reply(question), "refusal": None}
        choices = [
            {"index": index, "message": message, "logprobs": None, "finish_reason": "stop"}
            for index in range(body.get("n") or 1)
        ]
        read, written = len(json.dumps(body["messages"])) // 4, 4 * len(choices)
        return {
            "id": f"chatcmpl-canned-{len(self.asked)}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body.get("model"),
            "choices": choices,
            "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written},
        }

    def _make_reply(self, question: str) -> str:
        answer: Any = self.answer
        if isinstance(answer, Mapping):
            parts = [part for part in answer if part in question]
            if not parts:
                raise _Refusal(400, f"No canned answer fits {question[-60:]!r}; there are {len(answer)}.")
            answer = answer[parts[0]]
        elif callable(answer):
            answer = answer(question)
        if isinstance(answer, str):
            return answer
        require_number("answer", answer, low=0)
        return format_price(float(answer))


_ROUTES = [
    ("POST", "/files", "_upload"),
    ("GET", "/files", "_list_files"),
    ("GET", "/files/([^/]+)", "_get_file"),
    ("GET", "/files/([^/]+)/content", "_get_content"),
    ("DELETE", "/files/([^/]+)", "_delete_file"),
    ("POST", "/fine_tuning/jobs", "_create_job"),
    ("GET", "/fine_tuning/jobs", "_list_jobs"),
    ("GET", "/fine_tuning/jobs/([^/]+)", "_get_job"),
    ("POST", "/fine_tuning/jobs/([^/]+)/cancel", "_cancel_job"),
    ("GET", "/fine_tuning/jobs/([^/]+)/events", "_list_events"),
    ("GET", "/fine_tuning/jobs/([^/]+)/checkpoints", "_list_nothing"),
    ("GET", "/models", "_list_models"),
    ("GET", "/models/(.+)", "_get_model"),
    ("DELETE", "/models/(.+)", "_delete_model"),
    ("POST", "/chat/completions", "_chat"),
]


@dataclass
class _Refusal(Exception):
    status: int
    message: str


@dataclass(frozen=True)
class _Asked:
    """The body of a request."""

    kind: str
    body: bytes = field(repr=False)

    def read_json(self) -> dict[str, Any]:
        try:
            read = json.loads(self.body)
        except ValueError:
            read = None
        if not isinstance(read, dict):
            raise _Refusal(400, "The body is no JSON object.")
        return read

    def read_upload(self) -> tuple[str, bytes, str]:
        """Return the name, the content and the purpose of a file that is sent as a form."""
        form = email.message_from_bytes(f"Content-Type: {self.kind}\r\n\r\n".encode() + self.body)
        parts = {part.get_param("name", header="content-disposition"): part for part in form.walk()}
        if "file" not in parts or "purpose" not in parts:
            raise _Refusal(400, "An upload needs a file and a purpose.")
        content, purpose = (_bytes_of(parts[name]) for name in ("file", "purpose"))
        return parts["file"].get_filename() or "upload", content, purpose.decode()


def _bytes_of(part: Any) -> bytes:
    content: bytes = part.get_payload(decode=True)
    return content


def _list(rows: list[Any]) -> dict[str, Any]:
    return {"object": "list", "data": rows, "has_more": False}


def _find(things: Mapping[str, Any], id_: str, noun: str) -> Any:
    if id_ not in things:
        raise _Refusal(404, f"No such {noun}: {id_}")
    return things[id_]


class _Server(ThreadingHTTPServer):
    """Answers on a free port of the loopback; its threads end with the process."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, service: CannedService) -> None:
        self.service = service
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    """Reads one request after the other from a connection."""

    protocol_version = "HTTP/1.1"
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride] - it is made by no other

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Say nothing: a test's output is the test's."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        kind = self.headers.get("content-type") or ""
        status, said = self.server.service._respond(self.command, self.path, kind, body)  # noqa: SLF001 - of this file
        content = said if isinstance(said, bytes) else json.dumps(said).encode()
        head = f"HTTP/1.1 {status} canned\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
        # In one piece: in two, the second would wait 40 ms for the receipt of the first.
        self.wfile.write(f"{head}\r\n\r\n".encode() + content)

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - the base's names
