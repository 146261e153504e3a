"""Writing, checking and counting training files, and auditing items, each against a named alternative.

    python bench/prepare.py ../shared/data

Prints seconds and ratios; both sides run in the same process, turn by turn, and the median ratio counts.
Writing the notebook's own lines must be at least 1.2 times as fast as its function. By default the title is
looked for in each description too, which the notebook does not do.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import datasets

from finetune_pricer import ChatFormatter, Item, ItemDataset, JsonlWriter, audit, check_jsonl, count_tokens
from finetune_pricer._methods.duplicates import words_of
from finetune_pricer.prepare.tokens import token_counter

ROUNDS = 9


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compare(
    what: str, ours: Callable[[], Any], name: str, theirs: Callable[[], Any], rounds: int = ROUNDS
) -> None:
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
    ratio = statistics.median(their / our for our, their in pairs)
    our, their = (min(column) for column in zip(*pairs, strict=True))
    print(f"{what}: ours {our:.3f} s, {name} {their:.3f} s: {ratio:.2f} times as fast")


def make_jsonl(items: list[Item]) -> str:
    """The notebook's own function, word for word but for the annotations."""
    result = ""
    for item in items:
        messages = messages_for(item)
        messages_str = json.dumps(messages)
        result += '{"messages": ' + messages_str + "}\n"
    return result.strip()


def messages_for(item: Item) -> list[dict[str, str]]:
    message = f"Estimate the price of this product. Respond with the price, no explanation\n\n{item.summary}"
    return [{"role": "user", "content": message}, {"role": "assistant", "content": f"${item.price:.2f}"}]


def write_jsonl(items: list[Item], filename: Path) -> None:
    with filename.open("w") as f:
        f.write(make_jsonl(items))


def writing(items: list[Item], folder: Path) -> None:
    formatter = ChatFormatter(fields=("summary",))
    writer = JsonlWriter(formatter)
    ours, theirs = folder / "ours.jsonl", folder / "theirs.jsonl"
    compare(
        f"writing {len(items):,}",
        lambda: writer.write(items, ours),
        "the notebook",
        lambda: write_jsonl(items, theirs),
    )
    assert [json.loads(line) for line in ours.open()] == [json.loads(line) for line in theirs.open()]

    default = JsonlWriter()
    compare(
        "the same with titles",
        lambda: default.write(items, ours),
        "the notebook without",
        lambda: write_jsonl(items, theirs),
    )

    def to_json() -> None:
        rows = [{"messages": formatter.example(item)} for item in items]
        datasets.Dataset.from_list(rows).to_json(theirs)

    compare("the same", lambda: writer.write(items, ours), "datasets' to_json", to_json, rounds=3)


def checking_and_counting(items: list[Item], folder: Path) -> None:
    path = folder / "train.jsonl"
    writer, (count, library) = JsonlWriter(), token_counter()
    examples = [writer.formatter.example(item) for item in items]

    def bare() -> None:
        for example in examples:
            for message in example:
                count(message["content"])

    def whole() -> None:
        check_jsonl(writer.write(items, path).path)
        count_tokens(path)

    writer.write(items, path)
    compare(
        "checking", lambda: check_jsonl(path), "json.loads alone", lambda: [*map(json.loads, path.open())]
    )
    compare(f"counting ({library})", lambda: count_tokens(path), "one call per message", bare)
    pairs = [(seconds(whole), seconds(bare)) for _ in range(ROUNDS)]
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    print(f"writing, checking and counting: {ratio:.2f} times bare counting")


def auditing(folder: Path) -> None:
    import pandas as pd

    for name in ("amazon", "diamonds"):
        train, validation, test = ItemDataset.from_hub(folder / name)
        took = seconds(partial(audit, train, validation=validation, test=test))
        exact = seconds(pd.Series([item.text for item in train]).duplicated)
        print(f"audit of {name}: {took:.1f} s; pandas duplicated (exact duplicates only) {exact:.3f} s")
    some = ItemDataset.from_hub(folder / "amazon").train[:1500]
    found: list[int] = []
    took = seconds(lambda: found.append(len(audit(some).of("near-duplicate"))))
    shingles = [shingles_of(item.text) for item in some]

    def brute_force() -> None:
        pairs = 0
        for row, first in enumerate(shingles):
            for second in shingles[:row]:
                common = len(first & second)
                pairs += common >= 0.6 * (len(first) + len(second) - common)
        found.append(pairs)

    force = seconds(brute_force)
    print(f"near-duplicates of 1,500: {found[0]} in {took:.1f} s; brute force {found[1]} in {force:.1f} s")


def shingles_of(text: str) -> set[tuple[str, ...]]:
    words = words_of(text)
    return {tuple(words[at : at + 3]) for at in range(max(1, len(words) - 2))}


def main() -> None:
    data = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data")
    items = list(ItemDataset.from_hub(data / "amazon").train) * 4
    with tempfile.TemporaryDirectory() as name:
        writing(items, Path(name))
        checking_and_counting(items, Path(name))
    auditing(data)


if __name__ == "__main__":
    main()
