"""The check of types looks at what users call, and fails for one name that a type checker does not know."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def names() -> ModuleType:
    # Its folder is called as a module of the standard library, so it cannot be imported by its name.
    path = Path(__file__).parent / "typing" / "public_names.py"
    spec = importlib.util.spec_from_file_location("public_names", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def symbol(name: str, *, known: bool = True, ambiguous: bool = False) -> dict[str, Any]:
    why = [] if known and not ambiguous else [{"message": "Type is missing"}]
    return {"name": name, "isTypeKnown": known, "isTypeAmbiguous": ambiguous, "diagnostics": why}


def test_public_names_are_those_of_the_package_and_its_rooms_with_their_bases(names: ModuleType) -> None:
    public = names.find_public_names()
    assert {"finetune_pricer.tune.job.FineTuneJob", "finetune_pricer.tune._base.BaseJob"} <= public
    assert {"finetune_pricer.evaluate.compare.compare", "finetune_pricer.errors.JobFailed"} <= public
    assert "finetune_pricer.predict.engine.Engine" not in public


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("p.tune.Job", True),
        ("p.tune.Job.wait", True),
        ("p.tune.Job.__init__", True),
        ("p.tune.Job._flow", False),
        ("p.tune.Jobs", False),
        ("p.tune", False),
    ],
)
def test_an_attribute_is_public_where_its_class_is_and_it_has_no_underscore(
    names: ModuleType, name: str, expected: bool
) -> None:
    assert names.is_public(name, {"p.tune.Job"}) is expected


def test_one_vague_public_name_fails_and_a_private_one_does_not(names: ModuleType) -> None:
    public = {"p.tune.Job"}
    fine, private = symbol("p.tune.Job.wait"), symbol("p.tune.engine", known=False)
    assert names.judge([fine, private], public) == (
        0,
        "1 public names and attributes looked at, 100.00% have a known type",
    )
    for vague in (symbol("p.tune.Job.id", known=False), symbol("p.tune.Job.id", ambiguous=True)):
        status, said = names.judge([fine, vague], public)
        assert status == 1
        assert said.startswith("p.tune.Job.id: Type is missing\n")


def test_an_answer_without_public_names_is_no_success(names: ModuleType) -> None:
    assert names.judge([], {"p.tune.Job"})[0] == 1
