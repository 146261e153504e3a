from __future__ import annotations

import numpy as np

from finetune_pricer._methods.features import TextFeatures
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


def test_a_stored_state_gives_the_same_rows() -> None:
    features = TextFeatures.fit(TEXTS)

    again = TextFeatures.from_state(*features.state())

    assert (features.transform(TEXTS) != again.transform(TEXTS)).nnz == 0
