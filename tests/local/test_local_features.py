from __future__ import annotations

import numpy as np
import pytest

from finetune_pricer._methods.features import EVERY_BLOCK, TextFeatures
from finetune_pricer._methods.sized_numbers import terms_of_numbers
from local_helpers import products

TEXTS = [product.text for product in products(200)]


def test_each_block_of_a_row_has_length_one() -> None:
    rows = TextFeatures.fit(TEXTS).transform(TEXTS)

    lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)))

    np.testing.assert_allclose(lengths, np.sqrt(2), rtol=1e-5)
    assert rows.dtype == np.float32


def test_a_row_alone_equals_its_row_in_a_matrix() -> None:
    features = TextFeatures.fit(TEXTS)
    matrix = features.transform(TEXTS)

    columns, values = features.row(TEXTS[3])

    np.testing.assert_array_equal(columns, matrix[3].indices)
    np.testing.assert_allclose(values, matrix[3].data)


def test_words_and_pairs_count_once_they_stand_in_two_texts() -> None:
    features = TextFeatures.fit(["red oak desk", "blue oak desk", "green lamp"])

    arrays, terms = features.state()

    assert terms["words"] == ["oak", "desk"]
    assert len(arrays["pairs"]) == 1


def test_a_handful_of_texts_without_a_common_word_still_has_features() -> None:
    features = TextFeatures.fit(["lamp", "desk"])

    assert features.transform(["lamp", "desk"]).nnz >= 2


def test_unknown_words_and_empty_texts_give_empty_rows() -> None:
    features = TextFeatures.fit(["lamp lamp", "lamp"])

    assert features.transform(["", "xyz"]).nnz == 0
    assert len(features.row("")[0]) == 0


def test_texts_without_any_word_give_features_of_no_width() -> None:
    features = TextFeatures.fit(["", ""])

    assert features.width == 0
    assert features.transform(["lamp"]).shape == (1, 0)


def test_the_most_frequent_terms_stay_when_there_are_too_many() -> None:
    features = TextFeatures.fit(["oak desk", "oak desk", "oak lamp", "oak lamp", "oak"], max_terms=1)

    _, terms = features.state()

    assert terms["words"] == ["oak"]


LINES = [f"{text}\nOf {place} parts" for place, text in enumerate(TEXTS)]


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("1035 pieces", ["1:10|pieces", "|1:10", "2:20|pieces", "|2:20", "4:40|pieces", "|4:40"]),
        ("pieces: 1,035", ["1:10|", "pieces|1:10", "2:20|", "pieces|2:20", "4:40|", "pieces|4:40"]),
        ("16gb", ["1:4|gb", "|1:4", "2:8|gb", "|2:8", "4:16|gb", "|4:16"]),
        ("0,25 kg", ["1:-2|kg", "|1:-2", "2:-4|kg", "|2:-4", "4:-8|kg", "|4:-8"]),
        ("with 0 parts", ["0|parts", "with|0"]),
        ("version 1.2.3", []),
        ("9" * 400, []),
        ("", []),
    ],
)
def test_a_number_is_its_size_with_the_word_beside_it(text: str, terms: list[str]) -> None:
    assert terms_of_numbers(text) == terms


def test_numbers_about_as_large_share_terms_and_others_do_not() -> None:
    near, also, far = (set(terms_of_numbers(f"{number} pieces")) for number in (1035, 1041, 80))

    assert near == also
    assert not near & far


def test_numbers_and_the_first_line_are_blocks_of_their_own() -> None:
    rows = TextFeatures.fit(LINES, blocks=EVERY_BLOCK).transform(LINES)

    lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)))

    np.testing.assert_allclose(lengths, 2, rtol=1e-5)


def test_a_word_of_the_first_line_weighs_more_there_than_further_down() -> None:
    features = TextFeatures.fit(["oak desk\nnice", "nice\noak desk"] * 2, blocks=EVERY_BLOCK)

    first, later = features.transform(["oak\nnice", "nice\noak"])

    assert abs(first - later).sum() > 0


def test_texts_of_one_line_have_no_block_for_it() -> None:
    _, terms = TextFeatures.fit(TEXTS, blocks=EVERY_BLOCK).state()

    assert list(terms) == ["words", "characters", "numbers"]


@pytest.mark.parametrize("blocks", [("words", "characters"), EVERY_BLOCK])
def test_a_stored_state_gives_the_same_rows(blocks: tuple[str, ...]) -> None:
    features = TextFeatures.fit(LINES, blocks=blocks)

    again = TextFeatures.from_state(*features.state())

    assert (features.transform(LINES) != again.transform(LINES)).nnz == 0
