"""Tokens, counted as services bill them for training.

```text
tokens of an epoch = sum over examples of ( per_example + sum over messages of (3 + role + content) )
```

The 3 are the tokens that open, divide and close a message; `role` and `content` are counted by the encoding.
The gpt-4o and gpt-4.1 families are billed by `o200k_base`. Other families have encodings of their own: for
them the count is near, and says `exact=False`. So it is of examples with calls of tools, or names, which each
service writes into the prompt in its own way. Of an image nobody knows here how many tokens it has.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .._arguments import refuse, require_file, require_many, require_text, require_whole
from .._chat_protocol import CALLS, text_of
from .._display import PrintsAsPage
from ..errors import DataError, FileAccessError, TrainingFileError
from .jsonl import TrainingFile

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Sequence, Sized

    Messages = Sequence[Mapping[str, Any]]
    Example = Messages | Mapping[str, Any]
    CountText = Callable[[str], int]

ENCODING = "o200k_base"
PER_MESSAGE = 3
"""Tokens around each message: `<|im_start|>`, `<|im_sep|>` and `<|im_end|>`."""
REPLY_OPENS = 3
"""Tokens after a prompt that open the reply, billed as input when asking."""

_SAME_ENCODING = ("gpt-4o", "gpt-4.1", "gpt-4.5", "gpt-5", "chatgpt-4o", "o1", "o3", "o4")
_VOCABULARY = "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"
_BATCH = 500  # examples that one thread counts at a time
_SHORT = 24  # characters up to which a text's count is kept: roles and replies repeat
_BYTES_PER_TOKEN = 4
# What any chat template puts around a message, its role included, and around an example, such as a system
# message of its own; at most.
_AROUND_MESSAGE, _AROUND_EXAMPLE = 16, 64

_UNBILLED = frozenset({"role", "content", "weight"})  # counted by the formula, or no text

_MAX_COUNTS = 100
_counts: dict[tuple[str, str], TokenCount] = {}
"""Counts of the training files that were counted last, by the file's hash and the library that counted."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TokenCount(PrintsAsPage):
    """How many tokens a training file has."""

    examples: int
    """How many examples were counted."""
    billed: int
    """Tokens of one epoch, as they are billed."""
    prompts: int
    """Tokens of everything before the replies, as they are billed when the model is asked."""
    replies: int
    """Tokens of the replies' texts, as they are billed when the model answers."""
    longest: int
    """Tokens of the longest example."""
    longest_line: int
    """Its line, counted from 1."""
    exact: bool
    """False where the encoding is not the model's, or could only be estimated."""
    counted_by: str
    """The library that counted, or `"estimate"`."""
    most: int | None = None
    """Tokens of an epoch in any encoding, at most: none is shorter than a byte. None where nobody counted."""

    def __str__(self) -> str:
        about = "" if self.exact else "about "
        mean = self.billed / self.examples if self.examples else 0
        return (
            f"{about}{self.billed:,} tokens an epoch in {self.examples:,} examples, {mean:,.0f} each, "
            f"the longest {self.longest:,} (line {self.longest_line:,})"
        )


def count_tokens(
    training: TrainingFile | str | os.PathLike[str] | Iterable[Example],
    *,
    model: str | None = None,
    per_example: int = 0,
) -> TokenCount:
    """Count the tokens of one epoch, in batches and in threads.

    A `TrainingFile` is counted once: its count is kept by the file's hash.

    Args:
        training: What `JsonlWriter.write` returned, the path of a JSONL file, or examples: lists of messages,
            or rows that have them under `messages`.
        model: The base model; the count is exact only for models of the same encoding. None asks for the
            encoding's own count.
        per_example: Tokens that a service adds to each example; no service documents any.

    Raises:
        FileAccessError: The file cannot be read.
        TrainingFileError: A line is no chat example, or holds an image, whose tokens cannot be counted here;
            `check_jsonl` names all that are wrong.
        DataError: What was handed in is no training data at all.
    """
    _check_training(training)
    require_text("model", model, or_none=True)
    require_whole("per_example", per_example, low=0)
    count_text, counted_by = token_counter()
    if isinstance(training, TrainingFile):
        count = _count_file(training, count_text, counted_by)
    elif isinstance(training, str | os.PathLike):
        path = Path(training)
        count = _count_examples(_read_examples(path), count_text, counted_by, _name_lines(path))
    else:
        count = _count_examples(_number(training), count_text, counted_by, "example {:,}".format)
    return replace(
        count,
        billed=count.billed + per_example * count.examples,
        most=None if count.most is None else count.most + per_example * count.examples,
        longest=count.longest + per_example if count.examples else 0,
        exact=count.exact and (model is None or has_this_encoding(model)),
    )


def _check_training(training: object) -> None:
    """Make sure that a thing can be examples: a training file, a path, or lists of messages."""
    wanted = "what JsonlWriter.write returned, a path, or lists of messages"
    if isinstance(training, TrainingFile):
        return
    if hasattr(training, "training_file"):
        raise refuse("training", wanted, training, "its .training_file() is one")
    if hasattr(training, "table") or hasattr(training, "push_to_hub"):
        raise refuse("training", wanted, training, "JsonlWriter().write(items, path) writes it")
    if isinstance(training, str | os.PathLike):
        require_file("training", training)
    else:
        require_many("training", training, wanted, "JsonlWriter().write(items, path) writes items")


def _count_file(training: TrainingFile, count_text: CountText, counted_by: str) -> TokenCount:
    key = (training.sha256, counted_by)
    if (count := _counts.get(key)) is not None:
        return count
    digest = hashlib.sha256()
    examples = _read_examples(training.path, digest)
    count = _count_examples(examples, count_text, counted_by, _name_lines(training.path))
    # A file that is no longer the one that was written is counted as it is, and its count is not kept.
    if digest.hexdigest() == training.sha256:
        if len(_counts) >= _MAX_COUNTS:
            _counts.pop(next(iter(_counts)), None)
        _counts[key] = count
    return count


class _Numbered(NamedTuple):
    """An example, and its line or its place among others, counted from 1."""

    number: int
    example: Example | bytes
    """Bytes are a line that was not read yet."""


class _Counts(NamedTuple):
    """Tokens of one example, in the parts in which they are billed."""

    number: int
    before: int
    """Before the reply's role."""
    role: int
    reply: int
    size: int
    """Bytes of all texts, and what a chat template puts around messages, at most."""
    is_sure: bool
    """Whether the formula of the bill says all; of calls and names it does not."""


def _count_examples(
    examples: Iterator[_Numbered], count_text: CountText, counted_by: str, name: Callable[[int], str]
) -> TokenCount:
    """Count; errors call an example what `name` makes of its number."""
    billed = prompts = replies = longest = longest_line = count = most = 0
    is_sure = True
    for batch in _map_in_threads(lambda part: [_count(each, count_text, name) for each in part], examples):
        for each in batch:
            count += 1
            most += _AROUND_EXAMPLE + each.size
            whole = each.before + PER_MESSAGE + each.role + each.reply
            billed += whole
            prompts += each.before + REPLY_OPENS
            replies += each.reply
            is_sure = is_sure and each.is_sure
            if whole > longest:
                longest, longest_line = whole, each.number
    return TokenCount(
        examples=count,
        billed=billed,
        prompts=prompts,
        replies=replies,
        longest=longest,
        longest_line=longest_line,
        exact=is_sure and counted_by != "estimate",
        counted_by=counted_by,
        most=most,
    )


def has_this_encoding(model: str) -> bool:
    """Whether a model, or the base of a fine-tuned one, is known to use `o200k_base`."""
    return model.removeprefix("ft:").startswith(_SAME_ENCODING)


@cache
def token_counter() -> tuple[CountText, str]:
    """Return a function that counts a text's tokens, and its library's name.

    `tiktoken` fetches its vocabulary over the network when it is first used. The first of these is taken:

    1. `tiktoken`, where the vocabulary is on this machine already;
    2. `bpe_openai`, which carries the vocabulary;
    3. `tiktoken`, which fetches it;
    4. an estimate of one token per 4 bytes, which is on the high side for English.
    """
    if _vocabulary_is_here():
        return _tiktoken(), "tiktoken"
    try:
        return _bpe_openai(), "bpe_openai"
    except ImportError:
        pass
    try:
        return _tiktoken(), "tiktoken"
    except (OSError, ValueError, ImportError):
        return _estimate, "estimate"


def find_vocabulary() -> str | None:
    """Return the library whose vocabulary is on this machine already; None where one must be fetched."""
    if _vocabulary_is_here():
        return "tiktoken"
    from importlib.util import find_spec

    return "bpe_openai" if find_spec("bpe_openai") else None


def _tiktoken() -> CountText:
    import tiktoken

    encode = tiktoken.get_encoding(ENCODING).encode_ordinary
    return _make_counter(encode)


def _bpe_openai() -> CountText:
    with warnings.catch_warnings():
        # It opens its vocabulary by a function that Python 3.11 and 3.12 call deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        from bpe_openai import get_encoding

        encode = get_encoding(ENCODING).encode_ordinary
    return _make_counter(encode)


def _vocabulary_is_here() -> bool:
    # Looks where tiktoken keeps what it fetched, since tiktoken itself would fetch without a time limit.
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR"))
    cache_folder = Path(tempfile.gettempdir()) / "data-gym-cache" if folder is None else Path(folder)
    name = hashlib.sha1(_VOCABULARY.encode(), usedforsecurity=False).hexdigest()
    return folder != "" and (cache_folder / name).exists()


def _make_counter(encode: Callable[[str], Sized]) -> CountText:
    count_short = cache(lambda text: len(encode(text)))

    def count(text: str) -> int:
        return count_short(text) if len(text) <= _SHORT else len(encode(text))

    return count


def _estimate(text: str) -> int:
    return -(-len(text.encode()) // _BYTES_PER_TOKEN)


class _NoExampleError(Exception):
    """Something is no chat example, and why."""


def _name_lines(path: Path) -> Callable[[int], str]:
    return lambda number: f"line {number:,} of {str(path)!r}"


def _count(numbered: _Numbered, count_text: CountText, name: Callable[[int], str]) -> _Counts:
    try:
        messages, beside = _read_example(numbered.example)
        return _count_messages(messages, count_text, numbered.number, beside)
    except _NoExampleError as error:
        raise TrainingFileError(f"{name(numbered.number)} is no chat example: {error}") from error


def _count_messages(messages: Messages, count_text: CountText, number: int = 1, beside: str = "") -> _Counts:
    """Count an example; `beside` is what stands beside the messages, such as the tools that may be called.

    Raises:
        _NoExampleError: A message is none, or its content is no text.
    """
    before, role, reply, size = (
        (count_text(beside) if beside else 0),
        0,
        0,
        len(beside.encode("utf-8", "replace")),
    )
    is_sure = not beside
    for place, message in enumerate(messages):
        text = _read_text(message, place)
        before += role + reply + PER_MESSAGE
        role = count_text(message["role"])
        reply = count_text(text)
        size += _AROUND_MESSAGE + (len(text) if text.isascii() else len(text.encode("utf-8", "replace")))
        plain = len(message) == 2 and "content" in message
        if not plain and (more := _write_rest(message, _UNBILLED)):
            reply += count_text(more)
            size += len(more.encode("utf-8", "replace"))
            is_sure = False
    return _Counts(number, before - PER_MESSAGE, role, reply, size, is_sure)


def _read_text(message: Mapping[str, Any], place: int) -> str:
    if not isinstance(message, Mapping):
        raise _NoExampleError(f"messages[{place}] is not an object but {type(message).__name__}")
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str):
        raise _NoExampleError(f"messages[{place}].role is not text")
    if isinstance(content, str):
        return content
    if content is None and role == "assistant" and any(call in message for call in CALLS):
        return ""
    if not isinstance(content, list):
        raise _NoExampleError(f"messages[{place}].content is not text but {type(content).__name__}")
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        if kind != "text" or not isinstance(part.get("text"), str):
            raise _NoExampleError(
                f"messages[{place}].content has a part of the type {str(kind)[:40]!r}, whose tokens nobody "
                "can count here"
            )
    return text_of(message)


def _write_rest(fields: Mapping[str, Any], without: Container[str]) -> str:
    """Return the fields that are not counted already, as JSON; an empty text where there are none."""
    rest = {name: value for name, value in fields.items() if value and name not in without}
    return json.dumps(rest, default=str, ensure_ascii=False, skipkeys=True) if rest else ""


def tokens_of(messages: Messages) -> int:
    """Count the tokens of one example, as they are billed."""
    counts = _count_messages(messages, token_counter()[0])
    return counts.before + PER_MESSAGE + counts.role + counts.reply


def _number(training: Iterable[Example]) -> Iterator[_Numbered]:
    if not isinstance(training, Iterable) or isinstance(training, Mapping):
        raise DataError(
            f"tokens are counted of a training file, its path or a list of examples, not of a "
            f"{type(training).__name__}"
        )
    return (_Numbered(number, example) for number, example in enumerate(training, start=1))


def _read_examples(path: Path, digest: hashlib._Hash | None = None) -> Iterator[_Numbered]:
    """Yield the numbered lines that are not blank; all bytes that are read go into `digest`."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if digest is not None:
                    digest.update(line)
                if not line.isspace():
                    yield _Numbered(number, line)
    except OSError as error:
        raise FileAccessError(f"cannot read {str(path)!r}: {error.strerror or error}") from error


def _read_example(example: Example | bytes) -> tuple[Messages, str]:
    """Return the messages, and what stands beside them as text.

    Raises:
        _NoExampleError: There are none.
    """
    import orjson

    row: Any = example
    if isinstance(example, bytes):
        try:
            row = orjson.loads(example.removeprefix(b"\xef\xbb\xbf"))
        except orjson.JSONDecodeError as error:
            raise _NoExampleError(f"it is no JSON ({error.msg})") from error
    messages, beside = row, ""
    if isinstance(row, Mapping):
        if "messages" not in row and "role" in row:
            raise _NoExampleError("it is one message; an example is a list of messages")
        messages, beside = row.get("messages"), _write_rest(row, ("messages",)) if len(row) > 1 else ""
    elif isinstance(example, bytes):
        raise _NoExampleError('it is not {"messages": [...]}')
    if not isinstance(messages, list | tuple) or not messages:
        raise _NoExampleError("it has no list of messages")
    return messages, beside


def _map_in_threads(
    work: Callable[[list[_Numbered]], list[_Counts]], examples: Iterator[_Numbered]
) -> Iterator[list[_Counts]]:
    """Yield the work's result for each batch of examples, in order."""
    threads = min(4, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque[Any]()
        for batch in _batches(examples):
            waiting.append(pool.submit(work, batch))
            # A few batches ahead and no more: memory must not grow with the file.
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _batches(examples: Iterator[_Numbered]) -> Iterator[list[_Numbered]]:
    batch: list[_Numbered] = []
    for example in examples:
        batch.append(example)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
