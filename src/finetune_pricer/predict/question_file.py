"""A file of questions for whoever answers them, and the files of answers that come back.

Both are in the Batch API's form, which `vllm run-batch` and others take too; nothing is sent here. A question
is known by a hash of its content, so its answer is found again wherever it stands, and an answer to another
question is noticed. Memory holds a few hundred bytes for each line: answers are read from the disk one at a
time.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from .._arguments import require_file, require_many, require_path
from .._files import replacing
from .._service.answer_json import parse_json
from ..chat import look_ahead
from ..errors import DataError, FileAccessError
from .answer_store import StoredAnswer
from .batch_file import read_result, write_line
from .dialogue import id_of
from .prediction import Prediction, make_failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .._service.requests import Answer
    from ..items import Item
    from .batch_file import ResultLine
    from .dialogue import Dialogue, Question

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""One file, or several that belong together."""

_AT_ONCE = 1_000  # answers between two writes into the store
_LESSONS = 20  # refusals and cut replies from which is learned how to ask
_MISSING = (
    "not answered: no line of the results is about it; write_batch writes its question, and where there is a "
    "store, only those that have no answer"
)
_PASSING = "not answered: its line holds an error that may pass; ask again"
_OTHERS = (
    "it was written for other items or words, another model or other settings; read it with the items and "
    "settings with which it was written"
)


def write_questions(dialogue: Dialogue, items: Iterable[Item | str], path: str | os.PathLike[str]) -> int:
    """Write the questions about items that have no kept answer; return how many these are.

    An item that cannot be asked about has no line; `read_answers` says why.

    Raises:
        FileAccessError: The path cannot be written; what stood there stays.
    """
    require_path("path", path)
    written: set[str] = set()
    with replacing(path) as file:
        for item in look_ahead(dialogue.formatter, items):
            question = _find_open(dialogue, item)
            if question is None or (key := dialogue.key_of(question)) in written:
                continue
            written.add(key)
            parameters = dialogue.choose_parameters(question)
            file.write(write_line(key, dialogue.model, question.messages, parameters) + b"\n")
    return len(written)


def _find_open(dialogue: Dialogue, item: Item | str) -> Question | None:
    """Return the question about an item that has no kept answer; None where there is none to ask."""
    try:
        found = dialogue.replay(item, id_of(item), lambda _, key: dialogue.find_stored(key))
    except FileAccessError:  # of the store, not of an item
        raise
    except Exception:  # noqa: BLE001 - an item that cannot be asked about touches no other
        return None
    return None if isinstance(found, Prediction) else found


def read_answers(dialogue: Dialogue, items: Iterable[Item | str], paths: Paths) -> Iterator[Prediction]:
    """Yield a prediction for each item, in their order, by the answers in files and those that are kept.

    Raises:
        MissingFile: There is no such file.
        DataError: A line is cut or says not what it answers, two lines answer one question, or a line answers
            none of these.
    """
    with ExitStack() as opened:
        reader = _AnswerReader(dialogue, [_AnswerFile(path, opened) for path in _list_paths(paths)])
        for item in look_ahead(dialogue.formatter, items):
            yield reader.predict(item)
        reader.finish()


def _list_paths(paths: Paths) -> Sequence[str | os.PathLike[str]]:
    if isinstance(paths, str | os.PathLike):
        return [paths]
    require_many("path", paths, "a path, or several")
    if not (found := list(paths)):
        raise DataError("path names no file; name what the runner has written")
    return found


class _Place(NamedTuple):
    """Where a line stands."""

    file: _AnswerFile
    offset: int
    """In bytes."""

    def __str__(self) -> str:
        return f"line {self.file.count_lines(self.offset) + 1:,} of {self.file.name!r}"


class _AnswerFile:
    """A file of results, whose lines are read when they are asked for."""

    def __init__(self, path: str | os.PathLike[str], opened: ExitStack) -> None:
        require_file("path", path)
        self.name = str(path)
        try:
            self._file: IO[bytes] = opened.enter_context(Path(path).open("rb"))  # noqa: SIM115 - the stack's
        except OSError as error:
            raise FileAccessError(f"cannot read {self.name!r}: {error.strerror or error}") from error

    def list_keys(self) -> Iterator[tuple[str, _Place]]:
        """Yield which question each line answers, and where it stands."""
        offset = 0
        for line in self._file:
            place = _Place(self, offset)
            offset += len(line)
            if line.strip():
                yield self._read_key(line, place), place

    def _read_key(self, line: bytes, place: _Place) -> str:
        try:
            row = parse_json(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise DataError(
                f"{place} is no whole JSON object: it was cut, or is of another kind of file; fetch the "
                "results again, or take the line out, and its item counts as not answered"
            )
        if not isinstance(key := row.get("custom_id"), str):
            raise DataError(
                f"{place} has no custom_id, so nobody knows what it answers; name the file that the runner "
                "has written"
            )
        return key

    def read_line(self, offset: int) -> ResultLine:
        """Return what the line at a place says."""
        self._file.seek(offset)
        return read_result(parse_json(self._file.readline()))

    def count_lines(self, offset: int) -> int:
        """Return how many lines stand before a place."""
        self._file.seek(0)
        return sum(1 for _ in _take_until(self._file, offset))


def _take_until(file: IO[bytes], offset: int) -> Iterator[bytes]:
    while offset > 0 and (line := file.readline()):
        offset -= len(line)
        yield line


class _AnswerReader:
    """Finds the answers to the questions about items, and takes note of which lines were of use."""

    def __init__(self, dialogue: Dialogue, files: Sequence[_AnswerFile]) -> None:
        self._dialogue = dialogue
        self._places: dict[str, _Place] = {}
        for file in files:
            for key, place in file.list_keys():
                if key in self._places:
                    raise DataError(
                        f"{self._places[key]} and {place} answer the same question; take one of them out"
                    )
                self._places[key] = place
        self._unread = dict.fromkeys(self._places)
        self._kept = 0
        self._lessons: list[tuple[Question, dict[str, Any], ResultLine]] = []

    def predict(self, item: Item | str) -> Prediction:
        """Return what the answers say of an item, or why they say nothing."""
        item_id = ""
        try:
            item_id = id_of(item)
            found = self._dialogue.replay(item, item_id, partial(self._find, item_id))
        except FileAccessError:  # of the store, not of an item
            raise
        except Exception as error:  # noqa: BLE001 - an item that cannot be asked about touches no other
            return make_failure(item_id, error)
        if isinstance(found, Prediction):
            return found
        is_told = self._dialogue.key_of(found) in self._places
        return Prediction(item_id=item_id, price=None, error=_PASSING if is_told else _MISSING)

    def _find(self, item_id: str, question: Question, key: str) -> Answer | None:
        if key not in self._places:
            return self._dialogue.find_stored(key)
        place = self._places[key]
        line = place.file.read_line(place.offset)
        is_new = key in self._unread
        self._unread.pop(key, None)
        if line.answer is not None and is_new:
            self._keep(question, key, item_id, line)
        answer = line.answer or self._dialogue.find_stored(key)
        if answer is None and line.error is not None:
            self._note_lesson(question, line)
            raise line.error
        return answer

    def _keep(self, question: Question, key: str, item_id: str, line: ResultLine) -> None:
        answer = line.answer or {}
        if not self._dialogue.is_real(answer):
            self._note_lesson(question, line)
            return
        self._dialogue.parameters.has_replied = True
        self._dialogue.keep_answer(key, item_id, StoredAnswer(answer, 0.0))
        self._kept += 1
        if not self._kept % _AT_ONCE:
            self._dialogue.flush()

    def _note_lesson(self, question: Question, line: ResultLine) -> None:
        if len(self._lessons) < _LESSONS:
            self._lessons.append((question, self._dialogue.choose_parameters(question), line))

    def finish(self) -> None:
        """Keep what is to be kept, learn how to ask next time, and refuse lines that answer nothing."""
        dialogue = self._dialogue
        dialogue.flush()
        if self._unread:
            first, count = self._places[next(iter(self._unread))], len(self._unread)
            more = f" (as {count - 1:,} more do)" if count > 1 else ""
            raise DataError(f"{first}{more} answers no question about these items: {_OTHERS}")
        # Only now: what was sent is what was chosen before.
        for question, sent, line in self._lessons:
            if line.error is not None:
                dialogue.learn(question, sent, line.error)
            elif line.answer is not None:
                dialogue.learn_from_answer(question, sent, line.answer)
