"""The Batch API: many questions in files, answered within a day at about half the price.

Like the engine this decides only: `BatchWork` says what to ask the service and how long to wait, the runs of
`batch` do it. A batch is found again by what is in its file, so a run that is started again after a
crash buys nothing twice, and needs nothing but the same items.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .. import _wire
from ..errors import (
    AccessDenied,
    InvalidItem,
    JobTimeout,
    ModelNotFound,
    NotSupported,
    RequestRejected,
    ServiceError,
    ServiceUnavailable,
)
from .engine import id_of
from .prediction import Prediction, Predictions

if TYPE_CHECKING:
    from .._wire import Answer
    from ..items import Item
    from .asking import Exchange
    from .questions import Question

_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
_NO_USE = frozenset({"failed", "cancelling", "cancelled"})
_MARK = "finetune_pricer_file"  # the metadata by which a batch is found again
_TRIES = 3
_FIRST_PAUSE, _GROWTH, _LONGEST_PAUSE = 0.5, 1.5, 60.0

Step = _wire.Request | float
"""What to ask the service, or how many seconds to wait."""
Steps = Generator[Step, Any, None]


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

    def replay(self) -> tuple[list[Prediction], dict[str, tuple[str, Question]]]:
        """Give predictions as far as answers go, and the open questions by key, with their item's id."""
        found: list[Prediction] = []
        pending: dict[str, tuple[str, Question]] = {}
        for item in self._items:
            item_id = id_of(item)
            try:
                found.append(self._follow(item, item_id, pending))
            except (InvalidItem, ServiceError) as error:
                found.append(Prediction(item_id=item_id, price=None, error=str(error)))
        return found, pending

    def _follow(self, item: Item | str, item_id: str, pending: dict[str, tuple[str, Question]]) -> Prediction:
        dialogue = self._exchange.dialogue(item)
        question = next(dialogue)
        while True:
            key = self._exchange.key(question)
            if key in self._errors:
                raise self._errors[key]
            answer = self._answers.get(key) or self._kept(question)
            if answer is None:
                pending[key] = (item_id, question)
                return Prediction(item_id=item_id, price=None, error="not answered yet")
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
        for content in self._files(self.replay()[1]):
            mark = hashlib.sha256(content).hexdigest()
            batch = yield from self._find(mark)
            if batch is None:
                file = yield _wire.upload_requests(f"requests-{mark[:12]}.jsonl", content)
                batch = yield from self._create(file["id"], mark)
            self.ids.append(batch["id"])

    def _create(self, file_id: str, mark: str) -> Generator[Step, Any, Answer]:
        try:
            created: Answer = yield _wire.create_batch(file_id, {_MARK: mark})
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
            page = yield _wire.list_batches(after)
            for batch in page.get("data") or []:
                usable = batch.get("status") not in _NO_USE and batch["id"] not in self._collected
                if usable and (batch.get("metadata") or {}).get(_MARK) == mark:
                    return dict(batch)
            after = page.get("last_id")
            if not page.get("has_more") or not after:
                return None

    def _files(self, pending: Mapping[str, tuple[str, Question]]) -> Iterator[bytes]:
        import orjson

        most, largest = self._exchange.service.batch_requests, self._exchange.service.batch_bytes
        lines: list[bytes] = []
        size = 0
        for key, (_, question) in pending.items():
            body = {"model": self._exchange.model, "messages": question.messages}
            body |= self._exchange.parameters(question)
            line = orjson.dumps(
                {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}
            )
            if lines and (len(lines) == most or size + len(line) + 1 > largest):
                yield b"\n".join(lines)
                lines, size = [], 0
            lines.append(line)
            size += len(line) + 1
        if lines:
            yield b"\n".join(lines)

    def look(self) -> Steps:
        """Ask for the state of each batch, and fetch the answers of those that have ended."""
        for batch_id in self.ids:
            if batch_id in self._collected:
                continue
            batch = yield _wire.retrieve_batch(batch_id)
            if batch.get("status") in _ENDED:
                yield from self._collect(batch)
        self.counts = Counter(
            "ended" if batch_id in self._collected else "under way" for batch_id in self.ids
        )

    def _collect(self, batch: Answer) -> Steps:
        if batch.get("status") == "failed":
            problems = (batch.get("errors") or {}).get("data") or [{}]
            raise RequestRejected(
                f"batch {batch['id']!r} was not accepted: {problems[0].get('message') or 'no reason given'}",
                code=problems[0].get("code"),
                param=problems[0].get("param"),
            )
        questions = self.replay()[1]
        # As they were sent: the first refusal that is read changes them for all.
        sent = {key: self._exchange.parameters(question) for key, (_, question) in questions.items()}
        for name in ("output_file_id", "error_file_id"):
            if batch.get(name):
                content = yield _wire.file_content(batch[name])
                self._read(content.get("content") or b"", questions, sent)
        for key in questions:
            self._tries[key] += 1
            if self._tries[key] >= _TRIES and key not in self._answers and key not in self._errors:
                self._errors[key] = ServiceUnavailable(
                    f"no answer in {_TRIES} batches; ask for it with predict"
                )
        self._collected.add(batch["id"])

    def _read(
        self,
        content: bytes,
        questions: Mapping[str, tuple[str, Question]],
        sent: Mapping[str, dict[str, Any]],
    ) -> None:
        import orjson

        for line in content.splitlines():
            try:
                row = orjson.loads(line)
                key, response = row["custom_id"], row.get("response") or {}
            except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
                continue  # what is missing is asked again
            if key not in questions:
                continue
            item_id, question = questions[key]
            body = response.get("body") or {}
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
                    yield _wire.cancel_batch(batch_id)
                except RequestRejected:
                    continue

    def predictions(self) -> Predictions:
        """Give what there is by now; an item without an answer says so in its `error`."""
        return Predictions(self.replay()[0])


def _error_in(status: int | None, problem: Any) -> ServiceError | None:
    """Give the error that a line holds, or None where asking again may mend it."""
    if status is None or status in {408, 409, 425, 429} or status >= 500:
        return None
    told = problem if isinstance(problem, dict) else {}
    kinds: dict[int, type[ServiceError]] = {401: AccessDenied, 403: AccessDenied, 404: ModelNotFound}
    message = str(told.get("message") or f"HTTP {status}")
    kind = kinds.get(status, RequestRejected)
    return kind(message, status=status, code=told.get("code"), param=told.get("param"))
