"""Twins of a text in a set: those of an audit, for texts of the set and for others, with nothing missed."""

import random

import numpy as np
import pytest

from finetune_pricer._methods import twins
from finetune_pricer._methods.duplicates import Shingles, find_twin_groups, group_alike, words_of
from finetune_pricer._methods.twins import TwinSearch

WORDS = [f"word{number}" for number in range(40)]


def make_texts(count: int, seed: int) -> list[str]:
    """Texts of twelve words, of which half are an earlier one with a word or two exchanged."""
    draw = random.Random(seed)
    texts = [" ".join(draw.choices(WORDS, k=12))]
    while len(texts) < count:
        words = draw.choice(texts).split() if draw.random() < 0.5 else draw.choices(WORDS, k=12)
        for _ in range(draw.randrange(3)):
            words[draw.randrange(12)] = draw.choice(WORDS)
        texts.append(" ".join(words))
    return texts


def jaccard(one: str, other: str) -> float:
    return Shingles([words_of(one), words_of(other)]).jaccard(0, 1)


@pytest.mark.parametrize("block", [300, 4_000_000])
def test_the_twins_of_a_text_are_all_rows_that_share_three_fifths_of_its_shingles(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twins, "_BLOCK", block)
    texts = make_texts(60, 1)
    each_alone = list(range(len(texts)))
    asked = [*make_texts(20, 1), *make_texts(30, 2)]
    found = TwinSearch(texts, groups=each_alone).find_rows(asked).toarray()
    for row, text in enumerate(asked):
        shares = np.array([jaccard(text, other) for other in texts])
        assert found[row].tolist() == (shares >= 0.6).tolist()
    assert found[20:].sum() > 0 or found[:20].sum() > 20


def test_groups_are_those_of_an_audit() -> None:
    pytest.importorskip("rensa")
    texts = make_texts(120, 3)
    groups = find_twin_groups(texts)
    assert len(set(groups.tolist())) < 100
    found = TwinSearch(texts).find_rows(texts).toarray()
    assert not ((groups[:, None] == groups[None, :]) & ~found).any()


def test_what_groups_join_and_what_they_part_are_both_left_out() -> None:
    # Each is like the next one only: the second has the first and the third with it, and parts the fourth.
    texts = [" ".join(WORDS[start : start + 25]) for start in (0, 5, 10, 15)]
    assert TwinSearch(texts).find_rows(texts).toarray().astype(int).tolist() == [
        [1, 1, 1, 0],
        [1, 1, 1, 0],
        [1, 1, 1, 1],
        [0, 0, 1, 1],
    ]


def test_a_new_text_has_the_group_of_the_row_that_is_most_like_it() -> None:
    texts = [f"{name} {' '.join(WORDS[at : at + 11])}" for name, at in (("a", 0), ("b", 15), ("c", 28))]
    search = TwinSearch(texts, groups=["x", "x", "y"])
    new = texts[0].upper() + "!"
    assert search.find_rows([new, texts[2], "nothing like them at all"]).toarray().tolist() == [
        [True, True, False],
        [False, False, True],
        [False, False, False],
    ]


def test_texts_that_are_the_same_but_for_their_form_are_one_text() -> None:
    texts = ["A lamp, of brass!", "a lamp of brass", "?!", "??"] * 500
    found = TwinSearch(texts).find_rows(["a LAMP of brass", "?!", "??"])
    assert np.diff(found.indptr).tolist()[0] == 1000
    assert set(found[1].indices.tolist()) >= set(range(2, 2000, 4))


def test_grouping_is_the_same_for_pairs_in_any_order() -> None:
    pairs = [(0, 1), (1, 2), (2, 3), (3, 4), (1, 5)]
    expected = [0, 0, 0, 3, 3, 0]
    assert group_alike(6, pairs).tolist() == expected
    assert group_alike(6, [(second, first) for first, second in reversed(pairs)]).tolist() == expected
    assert group_alike(6, [*pairs, *pairs]).tolist() == expected
    assert group_alike(3, []).tolist() == [0, 1, 2]
    assert group_alike(0, []).tolist() == []


def test_an_empty_set_has_no_twins() -> None:
    assert TwinSearch([]).find_rows(["a lamp"]).shape == (1, 0)
