"""Nearest rows: the same whatever else is asked, never the own one, and in bounded memory."""

import tracemalloc

import numpy as np
import pytest
from scipy.sparse import csr_matrix, hstack

from finetune_pricer._methods import nearest
from finetune_pricer._methods.nearest import NearestRows, scale_to_unit

DRAW = np.random.default_rng(7)
DENSE = scale_to_unit(DRAW.normal(size=(300, 12)))
SPARSE = scale_to_unit(csr_matrix(np.where(DRAW.random((300, 80)) < 0.2, DRAW.random((300, 80)), 0.0)))


@pytest.mark.parametrize("rows", [DENSE, SPARSE], ids=["dense", "sparse"])
@pytest.mark.parametrize("k", [1, 4, 7, 299])
def test_the_nearest_are_those_with_the_greatest_cosine(rows: nearest.Rows, k: int) -> None:
    whole = rows if isinstance(rows, np.ndarray) else rows.toarray()
    cosines = whole @ whole.T
    np.fill_diagonal(cosines, -np.inf)
    found = NearestRows(rows).nearest(rows, k, exclude=np.arange(300))
    expected = np.sort(cosines, axis=1)[:, ::-1][:, :k]
    assert np.allclose(found.similarities, expected, atol=1e-6)
    assert np.allclose(np.take_along_axis(cosines, found.rows, axis=1), expected, atol=1e-6)


@pytest.mark.parametrize("rows", [DENSE, SPARSE], ids=["dense", "sparse"])
def test_a_query_finds_the_same_alone_as_among_others(
    rows: nearest.Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = np.arange(600) % 300  # each row stands there twice, so that half of the places are ties
    search = NearestRows(rows[twice])
    together = search.nearest(rows, 5)
    monkeypatch.setattr(nearest, "_BLOCK", 7 * 600)
    by_blocks = search.nearest(rows, 5)
    for row in range(300):
        alone = search.nearest(rows[row : row + 1], 5)
        for each in (together, by_blocks):
            assert alone.rows[0].tolist() == each.rows[row].tolist()
            assert alone.similarities[0].tolist() == each.similarities[row].tolist()
    assert together.rows[:, :2].tolist() == [[row, row + 300] for row in range(300)]


def test_the_row_that_is_left_out_is_not_found_and_others_are_not_left_out() -> None:
    search = NearestRows(DENSE)
    exclude = np.where(np.arange(300) % 2, np.arange(300), -1)
    first = search.nearest(DENSE, 3, exclude=exclude).rows[:, 0]
    assert first[::2].tolist() == list(range(0, 300, 2))
    assert not np.any(first[1::2] == np.arange(1, 300, 2))


def test_fewer_rows_than_asked_for_are_all_found_and_none_of_no_rows() -> None:
    search = NearestRows(DENSE[:3])
    assert search.nearest(DENSE[:2], 9).rows.shape == (2, 3)
    assert search.nearest(DENSE[:2], 9, exclude=[0, 1]).rows.tolist() == [
        sorted([1, 2], key=lambda row: -float(DENSE[0] @ DENSE[row])),
        sorted([0, 2], key=lambda row: -float(DENSE[1] @ DENSE[row])),
    ]
    assert search.nearest(DENSE[:0], 2).rows.shape == (0, 2)
    assert NearestRows(DENSE[:1]).nearest(DENSE[:1], 2, exclude=[0]).rows.shape == (1, 0)


def test_an_empty_row_is_like_nothing() -> None:
    empty = csr_matrix((1, 80))
    assert scale_to_unit(empty).sum() == 0
    assert np.all(NearestRows(SPARSE).nearest(empty, 4).similarities == 0)
    assert scale_to_unit(np.zeros((1, 3))).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("is_sparse", [True, False])
def test_memory_follows_the_block_and_not_the_queries(
    is_sparse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearest, "_BLOCK", 20_000)
    rows = scale_to_unit(DRAW.random((2_000, 4)))
    search = NearestRows(csr_matrix(rows) if is_sparse else rows)
    queries = csr_matrix(rows) if is_sparse else rows
    tracemalloc.start()
    search.nearest(queries, 3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4_000_000  # all similarities together are 16 MB


def make_large(count: int) -> csr_matrix:
    """Rows of two terms that nearly all share, and of ten that few do."""
    common = csr_matrix(DRAW.random((count, 2)) + 1)
    rare = csr_matrix(
        (DRAW.random(10 * count) + 1, DRAW.integers(0, 500, 10 * count), np.arange(0, 10 * count + 1, 10)),
        shape=(count, 500),
    )
    return scale_to_unit(hstack([common, rare]).tocsr())


def test_of_a_large_set_rare_terms_choose_and_all_terms_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make_large(2_000)
    exact = NearestRows(rows).nearest(rows, 5, exclude=np.arange(2_000))
    monkeypatch.setattr(nearest, "_MANY", 1_000)
    monkeypatch.setattr(nearest, "_PRODUCTS", 500)  # of 4,000 by common terms and 400 by the others
    search = NearestRows(rows)
    found = search.nearest(rows, 5, exclude=np.arange(2_000))
    shared = [len(set(one) & set(other)) for one, other in zip(found.rows, exact.rows, strict=True)]
    assert float(np.mean(shared)) / 5 > 0.97
    assert np.allclose(found.similarities[:, 0], exact.similarities[:, 0], atol=0.02)
    assert np.isclose(found.similarities, exact.similarities, atol=1e-6).mean() > 0.97
    assert isinstance(search._method, nearest._RareTerms)
    assert len(search._method._chosen) == 500
    assert not np.any(found.rows == np.arange(2_000)[:, None])
    alone = search.nearest(rows[7:8], 5, exclude=[7])
    assert alone.rows.tolist() == found.rows[7:8].tolist()
    # A query of common terms only finds what it finds in a small set.
    query = scale_to_unit(csr_matrix(([1.0, 2.0], ([0, 0], [0, 1])), shape=(1, 502)))
    monkeypatch.setattr(nearest, "_MANY", 2_000)
    assert search.nearest(query, 9).rows.tolist() == NearestRows(rows).nearest(query, 9).rows.tolist()
