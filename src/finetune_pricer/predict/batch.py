"""The Batch API: many questions in files, answered within a day at about half the price.

A batch is found again by the content of its file, so a run that is started again after a crash buys nothing
twice, and needs nothing but the same items.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from .._progress import progress_bar
from .._service.error_mapping import is_passing, make_error
from .._service.flow import Flow, Pages, ask, poll, run
from .._service.requests import (
    cancel_batch,
    create_batch,
    create_batch_file,
    get_batch,
    get_file_content,
    list_batches,
)
from ..errors import (
    InvalidItem,
    JobTimeout,
    NotFound,
    NotSupported,
    RequestRejected,
    ServiceError,
    ServiceUnavailable,
)
from .answer_store import StoredAnswer
from .dialogue import id_of
from .prediction import Prediction, Predictions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from openai import OpenAI

    from .._service.requests import Answer
    from ..items import Item
    from .dialogue import Dialogue, Question

_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
_NO_USE = frozenset({"failed", "cancelling", "cancelled"})
_MARK = "finetune_pricer_file"  # the metadata by which a batch is found again
_TRIES = 3
_LONGEST_PAUSE = 60.0  # seconds between two looks at the batches


class PendingQuestion(NamedTuple):
    """A question without an answer."""

    place: int
    """The index of the first item that asks it."""
    item_id: str
    question: Question


class BaseBatch:
    """What is known about the questions of a run, and a flow for each of its methods."""

    def __init__(self, dialogue: Dialogue, items: Iterable[Item | str]) -> None:
        if not dialogue.provider.batch_api:
            raise NotSupported(f"{dialogue.provider.name!r} has no Batch API; ask with predict_many")
        self._ids: list[str] = []
        self._dialogue = dialogue
        self._items = list(items)
        self._answers: dict[str, Answer] = {}
        self._errors: dict[str, ServiceError] = {}
        self._tries: Counter[str] = Counter()
        self._collected: set[str] = set()
        self._keys: dict[str, frozenset[str]] = {}  # what was asked in each batch
        self._done: dict[str, int] = {}  # how much of it the service has done

    @property
    def ids(self) -> tuple[str, ...]:
        """The service's names for the batches."""
        return tuple(self._ids)

    def predictions(self) -> Predictions:
        """Return what was received by now; an item without an answer says so in its `error`."""
        return Predictions(self._replay()[0])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.ids)})"

    def _replay(self) -> tuple[list[Prediction], dict[str, PendingQuestion]]:
        """Return predictions as far as there are answers, and the open questions by key."""
        found: list[Prediction] = []
        pending: dict[str, PendingQuestion] = {}
        for place, item in enumerate(self._items):
            item_id = ""
            try:
                item_id = id_of(item)
                found.append(self._follow(item, place, pending))
            except (InvalidItem, ServiceError) as error:
                found.append(Prediction(item_id=item_id, price=None, error=str(error)))
        return found, pending

    def _follow(self, item: Item | str, place: int, pending: dict[str, PendingQuestion]) -> Prediction:
        item_id = id_of(item)
        questions = self._dialogue.questions(item, item_id)
        question = next(questions)
        while True:
            key = self._dialogue.key_of(question)
            if key in self._errors:
                raise self._errors[key]
            answer = self._answers.get(key) or self._find_stored(key)
            if answer is None:
                pending.setdefault(key, PendingQuestion(place, item_id, question))
                return Prediction(item_id=item_id, price=None, error="not answered yet")
            try:
                question = questions.send(answer)
            except StopIteration as end:
                prediction: Prediction = end.value
                return prediction

    def _find_stored(self, key: str) -> Answer | None:
        stored = self._dialogue.find_answer(key)
        return None if stored is None else stored.answer

    def _submit_flow(self) -> Flow[None]:
        """Send what is open, in as many files as the limits ask for; find the batches that are under way."""
        for content, keys in self._files(self._replay()[1]):
            mark = hashlib.sha256(content).hexdigest()
            batch = yield from self._find_batch(mark)
            if batch is None:
                file = yield from ask(create_batch_file(f"requests-{mark[:12]}.jsonl", content))
                batch = yield from self._create_batch(file["id"], mark)
            self._ids.append(batch["id"])
            self._keys[batch["id"]] = keys

    def _create_batch(self, file_id: str, mark: str) -> Flow[Answer]:
        try:
            return (yield from ask(create_batch(file_id, {_MARK: mark})))
        except ServiceUnavailable:
            # The request may have been accepted all the same.
            found = yield from self._find_batch(mark)
            if found is None:
                raise
            return found

    def _find_batch(self, mark: str) -> Flow[Answer | None]:
        def is_usable(batch: Answer) -> bool:
            is_ours = (batch.get("metadata") or {}).get(_MARK) == mark
            return is_ours and batch.get("status") not in _NO_USE and batch["id"] not in self._collected

        return (yield from Pages(list_batches).find(is_usable))

    def _files(self, pending: Mapping[str, PendingQuestion]) -> Iterator[tuple[bytes, frozenset[str]]]:
        """Yield files of questions, with the keys of these.

        Each is cut at the same items, whatever of the others is answered, so that it is found again.
        """
        import orjson

        most, largest = self._dialogue.provider.batch_requests, self._dialogue.provider.batch_bytes
        lines: dict[str, bytes] = {}
        size = part = 0
        for key, (place, _, question) in pending.items():
            body = {"model": self._dialogue.model, "messages": question.messages}
            body |= self._dialogue.choose_parameters(question)
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

    def _look_flow(self) -> Flow[None]:
        """Ask for the state of each batch, and fetch the answers of those that have ended."""
        problem: ServiceError | None = None
        for batch_id in self._ids:
            if batch_id in self._collected:
                continue
            try:
                batch = yield from ask(get_batch(batch_id))
                counts = batch.get("request_counts") or {}
                self._done[batch_id] = (counts.get("completed") or 0) + (counts.get("failed") or 0)
                if batch.get("status") in _ENDED:
                    yield from self._collect(batch)
            except RequestRejected as error:
                problem = problem or error
            except NotFound as error:
                problem = problem or _explain_loss(batch_id, error)
        if problem is not None:  # only now: what the other batches hold is paid for
            raise problem

    def _progress(self) -> tuple[int, int]:
        """Return how many of the questions that were sent are done, and how many were sent."""
        done = sum(
            len(keys) if batch_id in self._collected else min(len(keys), self._done.get(batch_id, 0))
            for batch_id, keys in self._keys.items()
        )
        return done, sum(map(len, self._keys.values()))

    def _collect(self, batch: Answer) -> Flow[None]:
        if batch.get("status") == "failed":
            problems = (batch.get("errors") or {}).get("data") or [{}]
            raise RequestRejected(
                f"batch {batch['id']!r} was not accepted: {problems[0].get('message') or 'no reason given'}",
                code=problems[0].get("code"),
                param=problems[0].get("param"),
            )
        keys = self._keys[batch["id"]]
        questions = {key: open_ for key, open_ in self._replay()[1].items() if key in keys}
        # As they were sent: the first refusal that is read changes them for all.
        sent = {key: self._dialogue.choose_parameters(each.question) for key, each in questions.items()}
        for name in ("output_file_id", "error_file_id"):
            if batch.get(name):
                try:
                    content = yield from ask(get_file_content(batch[name]))
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
        self, content: bytes, questions: Mapping[str, PendingQuestion], sent: Mapping[str, dict[str, Any]]
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
                self._dialogue.keep_answer(key, item_id, StoredAnswer(body, 0.0))
                self._dialogue.flush()
            else:
                error = _error_in(response.get("status_code"), row.get("error") or body.get("error"))
                if error is not None and not self._dialogue.learn(question, sent[key], error):
                    self._errors[key] = error

    def _wait_flow(self, timeout: float | None) -> Flow[None]:
        """Wait for all batches, and ask again for what is missing, until nothing is open."""
        outcome = yield from poll(
            self._advance,
            done=lambda outcome: outcome is not None,
            timeout=timeout,
            late=lambda: self._late(timeout),
            longest_pause=_LONGEST_PAUSE,
        )
        if isinstance(outcome, ServiceUnavailable):
            raise outcome

    def _advance(self) -> Flow[Literal["done"] | ServiceUnavailable | None]:
        """Fetch what has ended; return None while there is more to come."""
        yield from self._look_flow()
        if len(self._collected) < len(self._ids):
            return None
        before = len(self._ids)
        try:
            yield from self._submit_flow()
        except ServiceUnavailable as error:
            return error  # a batch that may have been bought is not asked for again by polling
        return "done" if len(self._ids) == before else None

    def _late(self, timeout: float | None) -> JobTimeout:
        under_way = len(self._ids) - len(self._collected)
        return JobTimeout(
            f"{under_way} batches are under way after {timeout or 0:g} s and go on; call predict_batch "
            "with the same items to find them again",
            job_id=", ".join(self._ids),
        )

    def _cancel_flow(self) -> Flow[None]:
        """Ask for all batches to be cancelled; one that has ended is left alone."""
        for batch_id in self._ids:
            if batch_id not in self._collected:
                with suppress(RequestRejected):
                    yield from ask(cancel_batch(batch_id))

    @contextmanager
    def _show_progress(self) -> Iterator[Callable[[], None]]:
        """Yield a function that shows how far the batches are."""
        with progress_bar(total=None, doing="waiting for batches") as bar:

            def show() -> None:
                bar.n, bar.total = self._progress()
                bar.refresh()

            yield show
            show()


class BatchRun(BaseBatch):
    """Questions that are with the Batch API. `Predictor.predict_batch` makes one.

    Starting it again with the same items, in the same process or another, finds the batches that are there.
    """

    def __init__(self, client: OpenAI, dialogue: Dialogue, items: Iterable[Item | str]) -> None:
        super().__init__(dialogue, items)
        self._client = client
        run(client, self._submit_flow(), time.sleep)

    def refresh(self) -> BatchRun:
        """Look at the service once and fetch what has ended; returns the run itself.

        Raises:
            RequestRejected: The service did not accept a batch; the message has its reason.
            ServiceError: The service refuses or does not answer.
        """
        run(self._client, self._look_flow(), time.sleep)
        return self

    def wait(
        self, timeout: float | None = None, *, sleep: Callable[[float], Any] = time.sleep
    ) -> Predictions:
        """Wait until all is answered, asking again for what is missing or expired; return the predictions.

        A progress bar shows how many questions the service has done. What a batch holds that was cancelled,
        here or by somebody else, is not asked again.

        Args:
            timeout: Seconds; None waits as long as it takes.
            sleep: How to pause between questions.

        Raises:
            JobTimeout: The time is up; the batches go on.
            RequestRejected: The service did not accept a batch; the message has its reason.
            NotFound: The service has lost a batch. As above, answers of the others are fetched first.
            ServiceError: The service refuses to tell.
        """
        with self._show_progress() as show:
            run(self._client, self._wait_flow(timeout), lambda seconds: (show(), sleep(seconds)))
        return self.predictions()

    def cancel(self) -> BatchRun:
        """Ask the service to stop; what is answered already is paid for and can be fetched."""
        run(self._client, self._cancel_flow(), time.sleep)
        return self


def _explain_loss(batch_id: str, error: NotFound) -> NotFound:
    return error.with_message(
        f"batch {batch_id!r} is not there any more ({error}); call predict_batch with the same items to send "
        "again what is not answered"
    )


def _error_in(status: int | None, problem: Any) -> ServiceError | None:
    """Return the error that a line holds; None where the same question may be answered later."""
    if status is None or is_passing(status):
        return None
    body = problem if isinstance(problem, dict) else {}
    message = str(body.get("message") or f"HTTP {status}")
    return make_error(message, status=status, code=body.get("code"), param=body.get("param"))
