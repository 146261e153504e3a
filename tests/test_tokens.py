"""Tokens are counted as they are billed, exactly and without the network, or said to be an estimate."""

import base64
import hashlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from finetune_pricer import ChatFormatter, Item, ItemDataset, JsonlWriter, MadeUpCatalogue, count_tokens
from finetune_pricer.errors import FileAccessError, TrainingFileError
from finetune_pricer.prepare import tokens

# The hash that tiktoken itself demands of the vocabulary that it fetches.
O200K = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"


@pytest.fixture(autouse=True)
def _fresh_counter() -> Iterator[None]:
    tokens.token_counter.cache_clear()
    tokens._counts.clear()
    yield
    tokens.token_counter.cache_clear()


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which tiktoken finds its vocabulary, as the development package carries it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from bpe_openai import get_encoding

        encoding = get_encoding("o200k_base")
    content = b"".join(
        base64.b64encode(encoding.decode_single_token_bytes(rank)) + b" %d\n" % rank
        for rank in range(199_998)
    )
    assert hashlib.sha256(content).hexdigest() == O200K
    folder = tmp_path_factory.mktemp("tiktoken")
    (folder / hashlib.sha1(tokens._VOCABULARY.encode()).hexdigest()).write_bytes(content)
    return folder


def by_tiktoken(vocabulary: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(vocabulary))
    tokens.token_counter.cache_clear()
    count, name = tokens.token_counter()
    assert name == "tiktoken"
    return count


def by_bpe(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    tokens.token_counter.cache_clear()
    count, name = tokens.token_counter()
    assert name == "bpe_openai"
    return count


TEXTS = [
    "",
    "$19.99",
    "999",
    "1000",
    "user",
    "naïve café ☕ 🧵",
    "a" * 300,
    "中文说明",
    "<|endoftext|>",
    " \n\t ",
]


def test_two_implementations_agree(vocabulary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [*TEXTS, *(item.text for item in MadeUpCatalogue().items(200))]
    first, second = by_tiktoken(vocabulary, monkeypatch), by_bpe(monkeypatch)
    assert [first(text) for text in texts] == [second(text) for text in texts]


@pytest.mark.data
def test_two_implementations_agree_on_real_listings(
    data_folder: Path, vocabulary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [item.text for split in ItemDataset.from_hub(data_folder / "amazon") for item in split]
    first, second = by_tiktoken(vocabulary, monkeypatch), by_bpe(monkeypatch)
    assert len(texts) == 5999
    assert [first(text) for text in texts] == [second(text) for text in texts]


def test_a_file_is_counted_by_the_formula_of_the_bill() -> None:
    # "Price it\n\nLamp" is 4 tokens and "$20" 2; a role is 1, and 3 stand around each message.
    training = JsonlWriter(ChatFormatter("Price it", reply="$20")).write(
        [Item(title="Lamp", price=20), Item(title="Lamp", price=20)], "train.jsonl"
    )
    count = count_tokens(training)
    assert (count.billed, count.examples, count.longest, count.longest_line) == (28, 2, 14, 1)
    assert (count.prompts, count.replies) == (2 * (3 + 1 + 4 + 3), 2 * 2)
    assert count.exact
    assert count_tokens("train.jsonl", per_example=3).billed == 34
    assert str(count) == "28 tokens an epoch in 2 examples, 14 each, the longest 14 (line 1)"


def test_whole_dollars_up_to_999_are_one_token() -> None:
    count, _ = tokens.token_counter()
    assert {count(str(dollars)) for dollars in range(1000)} == {1}
    assert count("1000") == 2


def test_memory_files_and_message_lists_count_the_same_through_many_batches() -> None:
    items = MadeUpCatalogue().items(1203)
    training = JsonlWriter().write(items, "train.jsonl")
    formatter = ChatFormatter()
    whole = count_tokens(formatter.example(item) for item in items)
    assert whole == count_tokens(training) == count_tokens("train.jsonl")
    assert whole.examples == 1203
    line = Path("train.jsonl").read_text().splitlines()[whole.longest_line - 1]
    assert tokens.tokens_of(json.loads(line)["messages"]) == whole.longest


def test_a_training_file_is_read_once_however_often_it_is_counted() -> None:
    training = JsonlWriter().write(MadeUpCatalogue(seed=1).items(20), "train.jsonl")
    first = count_tokens(training)
    training.path.unlink()
    assert count_tokens(training) == first
    assert count_tokens(training, per_example=2).billed == first.billed + 2 * 20
    assert count_tokens(training, per_example=2).longest == first.longest + 2
    assert not count_tokens(training, model="meta-llama/Llama-3.1-8B-Instruct").exact


def test_the_count_of_a_file_that_has_changed_is_not_kept() -> None:
    training = JsonlWriter().write(MadeUpCatalogue(seed=2).items(20), "train.jsonl")
    whole = training.path.read_bytes()
    training.path.write_bytes(whole.splitlines(keepends=True)[0])
    assert count_tokens(training).examples == 1
    training.path.write_bytes(whole)
    assert count_tokens(training).examples == 20


def test_the_counts_that_are_kept_do_not_grow_without_bound() -> None:
    for number in range(tokens._MAX_COUNTS + 5):
        count_tokens(JsonlWriter().write([Item(title=f"thing {number}", price=1)], "train.jsonl"))
    assert len(tokens._counts) == tokens._MAX_COUNTS
    latest = JsonlWriter().write([Item(title=f"thing {tokens._MAX_COUNTS + 4}", price=1)], "train.jsonl")
    latest.path.unlink()
    assert count_tokens(latest).examples == 1


def test_a_model_of_another_family_is_not_exact() -> None:
    training = JsonlWriter().write(MadeUpCatalogue().items(10), "train.jsonl")
    assert count_tokens(training, model="ft:gpt-4o-mini-2024-07-18:me::x").exact
    other = count_tokens(training, model="meta-llama/Llama-3.1-8B-Instruct")
    assert not other.exact
    assert str(other).startswith("about ")


def test_without_any_vocabulary_the_count_is_an_estimate_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise ConnectionError

    training = JsonlWriter().write(MadeUpCatalogue().items(50), "train.jsonl")
    with monkeypatch.context() as offline:
        offline.setenv("TIKTOKEN_CACHE_DIR", "")
        offline.setitem(sys.modules, "bpe_openai", None)
        offline.setattr("requests.get", no_network)
        offline.setattr("tiktoken.registry.ENCODINGS", {})
        count = count_tokens(training)
    assert (count.exact, count.counted_by) == (False, "estimate")
    tokens.token_counter.cache_clear()
    assert 1 < count.billed / count_tokens(training).billed < 1.5


def test_messages_of_parts_are_counted_by_their_text() -> None:
    parts = [{"type": "text", "text": "Lamp"}, {"type": "text", "text": "!"}]
    whole, split = (
        count_tokens([[{"role": "user", "content": content}, {"role": "assistant", "content": "$1"}]])
        for content in ("Lamp!", parts)
    )
    assert whole == split


@pytest.mark.parametrize("line", ["{", "[]", '{"messages": []}', '{"messages": [{"content": "x"}]}'])
def test_a_line_that_is_no_example_is_named(line: str) -> None:
    Path("train.jsonl").write_text(f'{{"messages": [{{"role": "user", "content": "a"}}]}}\n{line}\n')
    with pytest.raises(TrainingFileError, match="line 2 of"):
        count_tokens("train.jsonl")
    with pytest.raises(FileAccessError, match="nowhere"):
        count_tokens("nowhere")
