"""The error tree: ours and the standard library's, picklable, drawn where it says."""

import inspect
import pickle

import pytest

from finetune_pricer import errors

ALL = [
    thing for _, thing in inspect.getmembers(errors, inspect.isclass) if issubclass(thing, errors.PricerError)
]
EXTRA = {
    "row": 3,
    "problems": (errors.RowProblem(row=3, field="price", value="'x'", reason="no price"),),
    "text": "no price",
    "status": 404,
    "code": "model_not_found",
    "param": "model",
    "request_id": "req-1",
    "job_id": "ftjob-1",
    "predictions": ("no idea", None),
}


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_an_error_survives_pickling_with_all_it_knows(kind: type[errors.PricerError]) -> None:
    parameters = inspect.signature(kind.__init__).parameters
    error = kind("what, where, and what next", **{name: EXTRA[name] for name in parameters if name in EXTRA})
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_an_error_stands_in_the_drawn_tree(kind: type[errors.PricerError]) -> None:
    assert errors.__doc__ is not None
    assert kind.__name__ in errors.__doc__


@pytest.mark.parametrize(
    "kind", [kind for kind in ALL if errors.PricerError in kind.__bases__], ids=lambda k: k.__name__
)
def test_an_error_is_also_the_standard_one_that_it_refines(kind: type[errors.PricerError]) -> None:
    standard = [base for base in kind.__mro__ if base.__module__ == "builtins"]
    # ServiceError is refined by its kinds: what failed decides which standard error it is.
    assert len(standard) > 3 or kind is errors.ServiceError


def test_only_the_first_bad_rows_are_spelled_out_and_all_are_kept() -> None:
    problems = [
        errors.RowProblem(row=row, field="price", value="''", reason="no price") for row in range(1, 9)
    ]
    error = errors.InvalidRows("8 rows cannot be items:", problems=problems)
    assert str(error).count("row ") == errors.InvalidRows.shown
    assert "3 more" in str(error)
    assert len(error.problems) == 8
