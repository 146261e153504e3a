"""Training files at the size of a real job."""

import time

import pytest

from finetune_pricer import ItemDataset, JsonlWriter, audit, check_jsonl

pytestmark = [pytest.mark.acceptance, pytest.mark.data]


def test_a_good_file_of_fifty_thousand_lines_has_nothing_to_fix(data_folder: object) -> None:
    train, validation, _ = ItemDataset.from_hub(f"{data_folder}/diamonds")
    # Duplicates among these diamonds would be reported as repeated examples: each text is written once.
    items = list({item.text: item for item in [*train, *validation]}.values())
    training = JsonlWriter().write(items, "train.jsonl")
    report = check_jsonl("train.jsonl")
    assert training.examples > 50_000
    assert report.problems == ()


def test_fifty_thousand_items_are_audited_within_a_minute(data_folder: object) -> None:
    train, validation, test = ItemDataset.from_hub(f"{data_folder}/diamonds")
    started = time.perf_counter()
    report = audit(train, validation=validation, test=test)
    seconds = time.perf_counter() - started
    print(f"{seconds:.1f} s\n{report}")
    assert seconds < 60
    assert report.of("duplicate across splits")
    cleaned = report.clean()
    assert audit(cleaned.train, validation=cleaned.validation, test=cleaned.test, similarity=None).ok
