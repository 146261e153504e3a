"""A fine-tuned model is an estimator of scikit-learn: its tools fit it, choose among it and score it."""

import json
import pickle
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np
import openai
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.estimator_checks import estimator_checks_generator

from finetune_pricer import ChatFormatter, FineTuneJob, Item, ItemDataset, MadeUpCatalogue
from finetune_pricer.errors import (
    DataError,
    EvaluationError,
    InvalidItem,
    InvalidRows,
    MissingExtra,
    NotSupported,
    WrongArgument,
)
from finetune_pricer.integrations import FineTunedRegressor
from finetune_pricer.local import LocalServer
from finetune_pricer.providers import PROVIDERS, Provider
from finetune_pricer.testing import CannedService

CANNED = Provider(name="canned", min_examples=1)
ITEMS = MadeUpCatalogue(seed=2).items(24)
TEXTS = [item.text for item in ITEMS]
PRICES = [item.price for item in ITEMS]


def remember(service: CannedService) -> Callable[[str], str]:
    """A model that repeats the price of a text that it was trained on, and knows no other text."""
    seen: dict[str, str] = {}
    read: set[str] = set()

    def answer(question: str) -> str:
        for id_, content in service.files.items():
            if id_ not in read:
                read.add(id_)
                for line in content.decode().splitlines():
                    asked, said = json.loads(line)["messages"]
                    seen[asked["content"]] = said["content"]
        return seen.get(question, "$10.00")

    return answer


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[CannedService]:
    """A service that `connect("openai")` finds, for an estimator must be made of what can be copied."""
    with CannedService() as service:
        service.answer = remember(service)
        monkeypatch.setenv("OPENAI_BASE_URL", service.url)
        monkeypatch.setenv("OPENAI_API_KEY", "canned")
        yield service


def regressor(**settings: Any) -> FineTunedRegressor:
    return FineTunedRegressor(**{"client": "openai", "model": "m", "provider": CANNED, **settings})


def name_of(check: Any) -> str:
    return str(getattr(check, "func", check).__name__)


# All of them, with those of former versions; not one is expected to fail. One is skipped by scikit-learn
# itself, unless SCIPY_ARRAY_API is set: array API input.
CHECKS = [check for _, check in estimator_checks_generator(regressor(), legacy=True)]
# These ask for hundreds of prices each.
LONG = set(
    """check_estimators_dtypes check_fit_score_takes_y check_methods_sample_order_invariance
    check_methods_subset_invariance check_pipeline_consistency check_regressor_data_not_an_array
    check_regressors_int check_regressors_train""".split()
)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "check",
    [
        pytest.param(
            check,
            id=f"{place}-{name_of(check)}",
            marks=[pytest.mark.acceptance] if name_of(check) in LONG else [],
        )
        for place, check in enumerate(CHECKS)
    ],
)
def test_it_passes_the_checks_of_scikit_learn(check: Any, service: CannedService) -> None:
    check(regressor())


def test_there_are_checks() -> None:
    assert len(CHECKS) >= 50


FRAME = pd.DataFrame({"carat": [0.7, 1.0, None], "cut": ["good", None, "fine"], "new": [True, False, True]})
LINES = ["carat: 0.7\ncut: good\nnew: yes", "carat: 1\nnew: no", "cut: fine\nnew: yes"]
RECORDS: list[dict[str, Any]] = [
    {"title": "Lamp", "summary": "Of brass."},
    {"title": "Desk"},
    {"title": "Mug"},
]
SHOWN = ["Lamp\nOf brass.", "Desk", "Mug"]


@pytest.mark.parametrize(
    ("rows", "texts"),
    [
        (["Lamp", "Desk", "Mug"], ["Lamp", "Desk", "Mug"]),
        (("Lamp", "Desk", "Mug"), ["Lamp", "Desk", "Mug"]),
        (np.array(["Lamp", "Desk", "Mug"]), ["Lamp", "Desk", "Mug"]),
        (np.array(["Lamp", "Desk", "Mug"], dtype=object), ["Lamp", "Desk", "Mug"]),
        (pd.Series(["Lamp", "Desk", "Mug"]), ["Lamp", "Desk", "Mug"]),
        ([Item(title=title) for title in ("Lamp", "Desk", "Mug")], ["Lamp", "Desk", "Mug"]),
        (ItemDataset.from_items(Item(**record) for record in RECORDS), SHOWN),
        (RECORDS, SHOWN),
        (pd.DataFrame(RECORDS), SHOWN),
        (pl.DataFrame(RECORDS), SHOWN),
        (pa.Table.from_pylist(RECORDS), SHOWN),
        (FRAME, LINES),
        (pl.from_pandas(FRAME), LINES),
        (pa.Table.from_pandas(FRAME), LINES),
        (np.array([[1.0, 2.5], [3, 4], [5, 1e6]]), ["x0: 1\nx1: 2.5", "x0: 3\nx1: 4", "x0: 5\nx1: 1e+06"]),
        ([[1, "red"], [2, "blue"], [3, ""]], ["x0: 1\nx1: red", "x0: 2\nx1: blue", "x0: 3"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_rows_of_every_kind_are_asked_about_as_they_are_trained_on(
    rows: Any, texts: list[str], service: CannedService
) -> None:
    formatter = ChatFormatter("How much?")
    fitted = regressor(formatter=formatter).fit(rows, [20.0, 90.0, 7.0])
    assert fitted.predict(rows).tolist() == [20.0, 90.0, 7.0]
    assert {text.partition("\n\n")[2] for text in service.asked} == set(texts)  # several are asked at once
    (trained,) = service.files.values()
    questions = [json.loads(line)["messages"][0]["content"] for line in trained.splitlines()]
    assert questions == [f"How much?\n\n{text}" for text in texts]


def test_foreign_columns_are_named(service: CannedService) -> None:
    frame = pd.DataFrame({"Name": ["Lamp", "Desk"], "Desc": ["Of brass.", "Of oak."], "Price": [20, 90]})
    fitted = regressor(columns={"Name": "title", "Desc": "summary"}).fit(frame, frame["Price"])
    assert fitted.predict(frame).tolist() == [20.0, 90.0]
    assert {text.partition("\n\n")[2] for text in service.asked} == {"Lamp\nOf brass.", "Desk\nOf oak."}
    assert fitted.feature_names_in_.tolist() == ["Name", "Desc", "Price"]


def test_settings_reach_the_job(service: CannedService) -> None:
    fitted = regressor(epochs=3, batch_size=4, seed=5, suffix="shop").fit(TEXTS, PRICES)
    with service.client() as client:
        job = FineTuneJob.attach(client, fitted.job_id_)
    assert job.hyperparameters == {"n_epochs": 3, "batch_size": 4}
    assert (job.record.seed, fitted.model_) == (5, "ft:m:canned:shop:1")
    assert fitted.median_ == np.median(np.array(PRICES, dtype=float))


def test_the_same_rows_and_settings_are_bought_once(service: CannedService) -> None:
    first, second = regressor(seed=1).fit(TEXTS, PRICES), regressor(seed=1).fit(TEXTS, PRICES)
    assert first.job_id_ == second.job_id_
    assert regressor(seed=2).fit(TEXTS, PRICES).job_id_ != first.job_id_


def test_a_clone_shares_the_client_and_a_pickle_is_refused_with_one(service: CannedService) -> None:
    with service.client() as client:
        mine = FineTunedRegressor(client, "m")
        copied = clone(mine)
        assert copied.client is client
        assert copied.fit(TEXTS, PRICES).predict(TEXTS[:2]).tolist() == pytest.approx(PRICES[:2], abs=0.01)
        with pytest.raises(NotSupported, match="hand in the provider's name"):
            pickle.dumps(copied)
        assert not client.is_closed()
    fitted = regressor().fit(TEXTS, PRICES)
    assert (
        pickle.loads(pickle.dumps(fitted)).predict(TEXTS[:2]).tolist() == fitted.predict(TEXTS[:2]).tolist()
    )


def test_what_the_model_does_not_answer_is_the_training_median_and_said(service: CannedService) -> None:
    fitted = regressor().fit(TEXTS[:5], [1.0, 2.0, 3.0, 4.0, 100.0])
    service.answer = {TEXTS[0]: "$7.00", "": "no idea"}
    with pytest.warns(UserWarning, match="1 of 2 answers hold no price, and the training median stands"):
        assert fitted.predict(TEXTS[:2]).tolist() == [7.0, 3.0]
    fitted.set_params(unanswered="nan")
    with pytest.warns(UserWarning, match="nan stands"):
        assert np.isnan(fitted.predict(TEXTS[:2])[1])


def test_a_service_that_answers_nothing_is_no_median(service: CannedService) -> None:
    fitted = regressor().fit(TEXTS[:5], [1.0, 2.0, 3.0, 4.0, 100.0])
    service.answer = "no idea"
    with pytest.raises(EvaluationError, match="not one of 2 answers"):
        fitted.predict(TEXTS[:2])


@pytest.mark.parametrize(
    ("rows", "prices", "error", "words"),
    [
        (["Lamp", "Desk"], [20.0, -1.0], DataError, "a price must be at least 0: row 2 has -1.0"),
        (["Lamp", "Desk"], [20.0, None], DataError, "row 2 has nan; leave out rows without a price"),
        (["Lamp", "Desk"], None, DataError, "hand in the rows' prices"),
        (["Lamp", "Desk"], [20.0], ValueError, "inconsistent numbers of samples"),
        (["Lamp", 7], [20.0, 1.0], WrongArgument, "row 2 must be a text or an Item"),
        (["Lamp", "  "], [20.0, 1.0], InvalidItem, "row 2: item '' has no text"),
        ([{"title": "Lamp"}, {"title": ""}], [20.0, 1.0], InvalidRows, "row 2"),
        (pd.DataFrame({"a": [1.0, None]}), [20.0, 1.0], InvalidItem, "row 2: item '' has no text"),
        (pd.DataFrame({"a": [1.0, {}]}), [20.0, 1.0], WrongArgument, "row 2, a: argument must be a string"),
    ],
)
def test_what_cannot_be_learned_is_refused_before_anything_is_asked(
    rows: Any, prices: Any, error: type[Exception], words: str, service: CannedService
) -> None:
    with pytest.raises(error, match=words):
        regressor().fit(rows, prices)
    assert not service.requests


def test_settings_are_checked_when_it_is_fitted(service: CannedService) -> None:
    for wrong, words in (
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"unanswered": "zero"}, "unanswered must be"),
        ({"model": None}, "model is not named"),
        ({"client": 7}, "client must be an openai.OpenAI"),
    ):
        with pytest.raises(DataError, match=words):
            regressor(**wrong).fit(TEXTS, PRICES)
    assert not service.requests
    with pytest.raises(NotFittedError):
        regressor().predict(TEXTS)


def test_a_model_that_must_be_deployed_is_told_of(service: CannedService) -> None:
    by_hand = Provider(name="canned", serving=PROVIDERS["azure"].serving)
    with pytest.raises(NotSupported, match=r"only after job.deploy\(\)"):
        regressor(provider=by_hand).fit(TEXTS, PRICES)


def test_the_tools_of_scikit_learn_run_on_the_local_server() -> None:
    with LocalServer() as server, server.client() as client:
        estimator = FineTunedRegressor(client, "pricer-base-mini", epochs=1, seed=1)
        search = GridSearchCV(estimator, {"epochs": [1, 2]}, cv=2, scoring="neg_mean_absolute_error")
        search.fit(TEXTS, PRICES)
        assert search.best_params_["epochs"] in {1, 2}
        assert (search.predict(TEXTS[:3]) > 0).all()
        scores = cross_val_score(estimator, TEXTS, PRICES, cv=2, scoring="neg_mean_absolute_error")
        assert scores.shape == (2,)
        assert (scores < 0).all()
        # Four of the search and the best of it; the two of the second tool are the same jobs.
        assert len(FineTuneJob.list(client)) == 5


def test_by_default_it_rehearses_on_the_local_server() -> None:
    assert FineTunedRegressor().get_params()["client"] == "local"
    fitted = FineTunedRegressor(epochs=1, seed=1).fit(TEXTS, PRICES)
    assert fitted.model_.startswith("ft:pricer-base:")


def test_a_client_of_the_wrong_kind_is_refused() -> None:
    with pytest.raises(WrongArgument, match=r"openai\.OpenAI"):
        FineTunedRegressor(openai.AsyncOpenAI(api_key="x"), "m").fit(TEXTS, PRICES)  # type: ignore[arg-type]


def test_without_scikit_learn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "finetune_pricer.integrations.sklearn")
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    with pytest.raises(MissingExtra, match=r"finetune-pricer\[sklearn\]"):
        import_module("finetune_pricer.integrations.sklearn")
