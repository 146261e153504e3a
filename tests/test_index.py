"""An index of many vectors: nearly all of the nearest, the same each time, nothing that is left out."""

import pickle

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from finetune_pricer._methods import nearest
from finetune_pricer._methods.nearest import NearestRows, scale_to_unit
from finetune_pricer.errors import MissingExtra

DRAW = np.random.default_rng(7)
ROWS = scale_to_unit(DRAW.normal(size=(1_000, 16)).astype(np.float32))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "MOST_COMPARED", 500)


def test_without_usearch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "usearch.index", None)
    with pytest.raises(
        MissingExtra, match=r"more than 500 vectors need an index: .*finetune-pricer\[index\]"
    ):
        NearestRows(ROWS)


def test_an_index_finds_nearly_all_of_the_nearest_alone_as_among_others() -> None:
    pytest.importorskip("usearch")
    search, exact = NearestRows(ROWS), NearestRows(ROWS[:500])
    mask = csr_matrix((np.ones(1_000, dtype=bool), (np.arange(1_000), np.arange(1_000))))
    mask = (
        mask + csr_matrix((np.ones(20, dtype=bool), (np.full(20, 3), np.arange(100, 120))), mask.shape)
    ) > 0
    found = search.nearest(ROWS, 5, exclude=csr_matrix(mask))
    cosines = ROWS @ ROWS.T
    cosines[mask.toarray()] = -np.inf
    true = np.argsort(-cosines, axis=1)[:, :5]
    shared = [len(set(one) & set(other)) for one, other in zip(found.rows, true, strict=True)]
    assert np.mean(shared) / 5 > 0.95
    assert not np.any(found.rows == np.arange(1_000)[:, None])
    assert not set(found.rows[3]) & set(range(100, 120))
    for row in (0, 3, 7):
        alone = search.nearest(ROWS[row : row + 1], 5, exclude=csr_matrix(mask)[row])
        assert alone.rows.tolist() == found.rows[row : row + 1].tolist()
    for other in (NearestRows(ROWS), pickle.loads(pickle.dumps(search))):
        assert other.nearest(ROWS, 5, exclude=csr_matrix(mask)).rows.tolist() == found.rows.tolist()
    assert len(exact) == 500
