"""Tokens, counted as services bill them for training.

```text
tokens of an epoch = sum over examples of ( per_example + sum over messages of (3 + role + content) )
```

The 3 are the tokens that open, divide and close a message; `role` and `content` are counted by the encoding.
The gpt-4o and gpt-4.1 families are billed by `o200k_base`. Other families have encodings of their own: for
them the count is near, and says `exact=False`.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import tempfile
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._arguments import describe, refuse, require_file, require_many, require_text, require_whole
from .._chat_protocol import text_of
from .._display import PrintsAsPage
from ..errors import FileAccessError, TrainingFileError
from .jsonl import TrainingFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized

    Example = Sequence[Mapping[str, Any]]
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
        training: What `JsonlWriter.write` returned, the path of a JSONL file, or lists of messages.
        model: The base model; the count is exact only for models of the same encoding. None asks for the
            encoding's own count.
        per_example: Tokens that a service adds to each example; no service documents any.

    Raises:
        FileAccessError: The file cannot be read.
        TrainingFileError: A line is no chat example; `check_jsonl` names all that are wrong.
    """
    _check_training(training)
    require_text("model", model, or_none=True)
    require_whole("per_example", per_example, low=0)
    count_text, counted_by = token_counter()
    if isinstance(training, TrainingFile):
        count = _count_file(training, count_text, counted_by)
    elif isinstance(training, str | os.PathLike):
        count = _count_examples(_read_examples(Path(training)), count_text, counted_by)
    else:
        count = _count_examples(map(_check_example, training, itertools.count(1)), count_text, counted_by)
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


def _check_example(example: Any, number: int) -> Example:
    try:
        text_of(example[-1])
        is_one = all(isinstance(message["role"], str) for message in example)
    except (TypeError, KeyError, IndexError, AttributeError):
        is_one = False
    if not is_one:
        raise TrainingFileError(
            f"example {number:,} is no list of chat messages, each with a role and a content, but "
            f"{describe(example)}; JsonlWriter().write(items, path) writes items"
        )
    checked: Example = example
    return checked


def _count_file(training: TrainingFile, count_text: CountText, counted_by: str) -> TokenCount:
    key = (training.sha256, counted_by)
    if (count := _counts.get(key)) is not None:
        return count
    digest = hashlib.sha256()
    count = _count_examples(_read_examples(training.path, digest), count_text, counted_by)
    # A file that is no longer the one that was written is counted as it is, and its count is not kept.
    if digest.hexdigest() == training.sha256:
        if len(_counts) >= _MAX_COUNTS:
            _counts.pop(next(iter(_counts)), None)
        _counts[key] = count
    return count


def _count_examples(examples: Iterator[Example], count_text: CountText, counted_by: str) -> TokenCount:
    billed = prompts = replies = longest = longest_line = line = most = 0
    for counts in _map_in_threads(lambda batch: [_count(each, count_text) for each in batch], examples):
        for before, role, reply, size in counts:
            line += 1
            most += _AROUND_EXAMPLE + size
            whole = before + PER_MESSAGE + role + reply
            billed += whole
            prompts += before + REPLY_OPENS
            replies += reply
            if whole > longest:
                longest, longest_line = whole, line
    return TokenCount(
        examples=line,
        billed=billed,
        prompts=prompts,
        replies=replies,
        longest=longest,
        longest_line=longest_line,
        exact=counted_by != "estimate",
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


def _count(example: Example, count_text: CountText) -> tuple[int, int, int, int]:
    """Return the tokens before the reply's role, those of the role and of the reply's text; and the bytes."""
    before = role = reply = size = 0
    for message in example:
        before += role + reply + PER_MESSAGE
        role = count_text(message["role"])
        content = message.get("content")
        text = content if isinstance(content, str) else text_of(message)
        reply = count_text(text)
        size += _AROUND_MESSAGE + (len(text) if text.isascii() else len(text.encode("utf-8", "replace")))
    return before - PER_MESSAGE, role, reply, size


def tokens_of(example: Example) -> int:
    """Count the tokens of one example, as they are billed."""
    before, role, reply, _ = _count(example, token_counter()[0])
    return before + PER_MESSAGE + role + reply


def _read_examples(path: Path, digest: hashlib._Hash | None = None) -> Iterator[Example]:
    """Yield the messages of each line; all bytes that are read go into `digest`."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if digest is not None:
                    digest.update(line)
                if not line.isspace():
                    yield _read_example(line, number, path)
    except OSError as error:
        raise FileAccessError(f"cannot read {str(path)!r}: {error.strerror or error}") from error


def _read_example(line: bytes, number: int, path: Path) -> Example:
    import orjson

    try:
        messages: Example = orjson.loads(line.removeprefix(b"\xef\xbb\xbf"))["messages"]
        messages[-1]["role"]
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError) as error:
        raise TrainingFileError(
            f"line {number:,} of {str(path)!r} is no chat example; check_jsonl says why"
        ) from error
    return messages


def _map_in_threads(
    work: Callable[[list[Example]], list[tuple[int, int, int, int]]], examples: Iterator[Example]
) -> Iterator[list[tuple[int, int, int, int]]]:
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


def _batches(examples: Iterator[Example]) -> Iterator[list[Example]]:
    batch: list[Example] = []
    for example in examples:
        batch.append(example)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
