"""The Batch API: many questions in files, answered within a day at about half the price.

Like the engine this decides only: `BatchWork` says what to ask the service and how long to wait, the runs of
`batch` do it. A batch is found again by what is in its file, so a run that is started again after a
crash buys nothing twice, and needs nothing but the same items.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .._service import requests
from ..errors import (
    AccessDenied,
    InvalidItem,
    JobTimeout,
    ModelNotFound,
    NotFound,
    NotSupported,
    RequestRejected,
    ServiceError,
    ServiceUnavailable,
)
from .engine import id_of
from .prediction import Prediction, Predictions

if TYPE_CHECKING:
    from .._service.requests import Answer
    from ..items import Item
    from ._base import Exchange
    from .dialogue import Question

_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
_NO_USE = frozenset({"failed", "cancelling", "cancelled"})
_MARK = "finetune_pricer_file"  # the metadata by which a batch is found again
_TRIES = 3
_FIRST_PAUSE, _GROWTH, _LONGEST_PAUSE = 0.5, 1.5, 60.0

Step = requests.Request | float
"""What to ask the service, or how many seconds to wait."""
Steps = Generator[Step, Any, None]


class Open(NamedTuple):
    """A question without an answer."""

    place: int
    """Of the first item that asks it."""
    item_id: str
    question: Question


class BatchWork:
    """What is known about the questions, and what to do next."""

    def __init__(self, exchange: Exchange, items: Iterable[Item | str]) -> None:
        self.ids: list[str] = []
        self.counts: Counter[str] = Counter()
        if not exchange.service.batch_api:
            raise NotSupported(f"{exchange.service.name!r} has no Batch API; ask with predict_many")
        self._exchange = exchange
        self._items = list(items)
        self._answers: dict[str, Answer] = {}
        self._errors: dict[str, ServiceError] = {}
        self._tries: Counter[str] = Counter()
        self._collected: set[str] = set()
        self._keys: dict[str, frozenset[str]] = {}  # what was asked in each batch
        self._done: dict[str, int] = {}  # how much of it the service has done

    def replay(self) -> tuple[list[Prediction], dict[str, Open]]:
        """Give predictions as far as answers go, and the open questions by key."""
        found: list[Prediction] = []
        pending: dict[str, Open] = {}
        for place, item in enumerate(self._items):
            item_id = ""
            try:
                item_id = id_of(item)
                found.append(self._follow(item, place, pending))
            except (InvalidItem, ServiceError) as error:
                found.append(Prediction(item_id=item_id, price=None, error=str(error)))
        return found, pending

    def _follow(self, item: Item | str, place: int, pending: dict[str, Open]) -> Prediction:
        dialogue = self._exchange.dialogue(item)
        question = next(dialogue)
        while True:
            key = self._exchange.key(question)
            if key in self._errors:
                raise self._errors[key]
            answer = self._answers.get(key) or self._kept(question)
            if answer is None:
                pending.setdefault(key, Open(place, id_of(item), question))
                return Prediction(item_id=id_of(item), price=None, error="not answered yet")
            try:
                question = dialogue.send(answer)
            except StopIteration as done:
                prediction: Prediction = done.value
                return prediction

    def _kept(self, question: Question) -> Answer | None:
        kept = self._exchange.kept(question)
        return None if kept is None else kept.answer

    def submit(self) -> Steps:
        """Send what is open, in as many files as the limits ask for; what is under way already is found."""
        for content, keys in self._files(self.replay()[1]):
            mark = hashlib.sha256(content).hexdigest()
            batch = yield from self._find(mark)
            if batch is None:
                file = yield requests.upload_requests(f"requests-{mark[:12]}.jsonl", content)
                batch = yield from self._create(file["id"], mark)
            self.ids.append(batch["id"])
            self._keys[batch["id"]] = keys

    def _create(self, file_id: str, mark: str) -> Generator[Step, Any, Answer]:
        try:
            created: Answer = yield requests.create_batch(file_id, {_MARK: mark})
        except ServiceUnavailable:
            # The request may have been accepted all the same.
            found = yield from self._find(mark)
            if found is None:
                raise
            return found
        return created

    def _find(self, mark: str) -> Generator[Step, Any, Answer | None]:
        after: str | None = None
        while True:
            page = yield requests.list_batches(after)
            for batch in page.get("data") or []:
                usable = batch.get("status") not in _NO_USE and batch["id"] not in self._collected
                if usable and (batch.get("metadata") or {}).get(_MARK) == mark:
                    return dict(batch)
            after = page.get("last_id")
            if not page.get("has_more") or not after:
                return None

    def _files(self, pending: Mapping[str, Open]) -> Iterator[tuple[bytes, frozenset[str]]]:
        """Give files of questions, and whose they are.

        Each is cut at the same items, whatever of the others is answered, so that it is found again.
        """
        import orjson

        most, largest = self._exchange.service.batch_requests, self._exchange.service.batch_bytes
        lines: dict[str, bytes] = {}
        size = part = 0
        for key, (place, _, question) in pending.items():
            body = {"model": self._exchange.model, "messages": question.messages}
            body |= self._exchange.parameters(question)
            line = orjson.dumps(
                {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}
            )
            if lines and (place // most != part or size + len(line) + 1 > largest):
                yield b"\n".join(lines.values()), frozenset(lines)
                lines, size = {}, 0
            part = place // most
            lines[key] = line
            size += len(line) + 1
        if lines:
            yield b"\n".join(lines.values()), frozenset(lines)

    def look(self) -> Steps:
        """Ask for the state of each batch, and fetch the answers of those that have ended."""
        problem: ServiceError | None = None
        for batch_id in self.ids:
            if batch_id in self._collected:
                continue
            try:
                batch = yield requests.retrieve_batch(batch_id)
                told = batch.get("request_counts") or {}
                self._done[batch_id] = (told.get("completed") or 0) + (told.get("failed") or 0)
                if batch.get("status") in _ENDED:
                    yield from self._collect(batch)
            except RequestRejected as error:
                problem = problem or error
            except NotFound as error:
                problem = problem or _gone(batch_id, error)
        self.counts = Counter(
            "ended" if batch_id in self._collected else "under way" for batch_id in self.ids
        )
        if problem is not None:  # only now: what the other batches hold is paid for
            raise problem

    def progress(self) -> tuple[int, int]:
        """Give how many of the questions that were sent are done, and how many were sent."""
        done = sum(
            len(keys) if batch_id in self._collected else min(len(keys), self._done.get(batch_id, 0))
            for batch_id, keys in self._keys.items()
        )
        return done, sum(map(len, self._keys.values()))

    def _collect(self, batch: Answer) -> Steps:
        if batch.get("status") == "failed":
            problems = (batch.get("errors") or {}).get("data") or [{}]
            raise RequestRejected(
                f"batch {batch['id']!r} was not accepted: {problems[0].get('message') or 'no reason given'}",
                code=problems[0].get("code"),
                param=problems[0].get("param"),
            )
        keys = self._keys[batch["id"]]
        questions = {key: open_ for key, open_ in self.replay()[1].items() if key in keys}
        # As they were sent: the first refusal that is read changes them for all.
        sent = {key: self._exchange.parameters(each.question) for key, each in questions.items()}
        for name in ("output_file_id", "error_file_id"):
            if batch.get(name):
                try:
                    content = yield requests.file_content(batch[name])
                except NotFound:
                    continue  # services delete them after a while; what they held is missing
                self._read(content.get("content") or b"", questions, sent)
        for key in questions:
            self._tries[key] += 1
            if key in self._answers or key in self._errors:
                continue
            if batch.get("status") == "cancelled":
                self._errors[key] = ServiceUnavailable(
                    f"batch {batch['id']!r} was cancelled; call predict_batch again to ask for the rest"
                )
            elif self._tries[key] >= _TRIES:
                self._errors[key] = ServiceUnavailable(
                    f"no answer in {_TRIES} batches; ask for it with predict"
                )
        self._collected.add(batch["id"])

    def _read(
        self, content: bytes, questions: Mapping[str, Open], sent: Mapping[str, dict[str, Any]]
    ) -> None:
        import orjson

        for line in content.splitlines():
            try:
                row = orjson.loads(line)
                key, response = row["custom_id"], row.get("response") or {}
                body = response.get("body") or {}
            except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
                continue  # what is missing is asked again
            if not isinstance(key, str) or key not in questions or not isinstance(body, dict):
                continue
            _, item_id, question = questions[key]
            if response.get("status_code") == 200 and body.get("choices"):
                self._answers[key] = body
                self._exchange.keep(question, item_id, body, 0.0)
            else:
                error = _error_in(response.get("status_code"), row.get("error") or body.get("error"))
                if error is not None and not self._exchange.learned(question, sent[key], error):
                    self._errors[key] = error

    def finish(self, timeout: float | None) -> Steps:
        """Wait for all batches, and ask again for what is missing, until nothing is open."""
        waited, pause = 0.0, _FIRST_PAUSE
        while True:
            try:
                yield from self.look()
            except ServiceUnavailable:
                pass  # says nothing about the batches
            else:
                if self.ids and all(batch_id in self._collected for batch_id in self.ids):
                    before = len(self.ids)
                    yield from self.submit()
                    if len(self.ids) == before:
                        return
                elif not self.ids:
                    return
            if timeout is not None and waited >= timeout:
                raise JobTimeout(
                    f"{self.counts['under way']} batches are under way after {timeout:g} s and go on; call "
                    "predict_batch with the same items to find them again",
                    job_id=", ".join(self.ids),
                )
            pause_now = pause if timeout is None else min(pause, timeout - waited)
            yield pause_now
            waited += pause_now
            pause = min(_LONGEST_PAUSE, pause * _GROWTH)

    def cancel(self) -> Steps:
        """Ask for all batches to be cancelled; one that has ended is left alone."""
        for batch_id in self.ids:
            if batch_id not in self._collected:
                try:
                    yield requests.cancel_batch(batch_id)
                except RequestRejected:
                    continue

    def predictions(self) -> Predictions:
        """Give what there is by now; an item without an answer says so in its `error`."""
        return Predictions(self.replay()[0])


def _gone(batch_id: str, error: NotFound) -> NotFound:
    return NotFound(
        f"batch {batch_id!r} is not there any more ({error}); call predict_batch with the same items to send "
        "again what is not answered",
        status=error.status,
        code=error.code,
        param=error.param,
        request_id=error.request_id,
    )


def _error_in(status: int | None, problem: Any) -> ServiceError | None:
    """Give the error that a line holds, or None where asking again may mend it."""
    if status is None or status in {408, 409, 425, 429} or status >= 500:
        return None
    told = problem if isinstance(problem, dict) else {}
    kinds: dict[int, type[ServiceError]] = {401: AccessDenied, 403: AccessDenied, 404: ModelNotFound}
    message = str(told.get("message") or f"HTTP {status}")
    kind = kinds.get(status, RequestRejected)
    return kind(message, status=status, code=told.get("code"), param=told.get("param"))
