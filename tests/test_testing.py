"""Those who use the package can test their code without a key, and an unused plugin costs them nothing."""

import json
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from finetune_pricer import FineTuneJob, JsonlWriter, MadeUpCatalogue, Predictor, connect
from finetune_pricer.errors import (
    JobCancelled,
    JobFailed,
    JobTimeout,
    NotConfigured,
    NotFound,
    ServiceUnavailable,
    WrongArgument,
)
from finetune_pricer.testing import Answer, CannedService
from helpers import priced

pytest_plugins = "pytester"
ROOT = Path(__file__).parents[1]


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A fresh project, in which pytest knows the plugin as it does where the package is installed."""
    # Whether this very environment has the entry point or not.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p finetune_pricer.testing -p no:cacheprovider")
    return pytester


def test_a_fresh_project_tests_its_code_against_canned_answers(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import os
        from finetune_pricer import Predictor

        def price_of(text, client):
            return Predictor(client, "ft:ours")(text)

        def test_a_lamp(canned_service):
            canned_service.answer = {"lamp": 20}
            with canned_service.client() as client:
                assert price_of("A lamp.", client) == 20.0
            assert canned_service.asked[0].endswith("A lamp.")

        def test_nothing_is_left_of_another_test(canned_service):
            assert not canned_service.asked and canned_service.answer == "$19.99"

        def test_purchases_are_noted_elsewhere(canned_service, pricer_home):
            assert os.environ["FINETUNE_PRICER_HOME"] == str(pricer_home)
        """
    )
    project.runpytest_inprocess().assert_outcomes(passed=3)


def test_a_fresh_project_trains_on_the_local_server_of_its_test_run(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        from finetune_pricer import FineTuneJob, JsonlWriter, MadeUpCatalogue

        def train(server, path):
            training = JsonlWriter().write(MadeUpCatalogue().items(20), path)
            with server.client() as client:
                return FineTuneJob.create(client, training, model="pricer-base-mini", epochs=1, seed=1).wait()

        def test_it_trains(local_server, tmp_path):
            assert train(local_server, tmp_path / "train.jsonl").status == "succeeded"

        def test_the_same_job_is_given_back(local_server, tmp_path):
            train(local_server, tmp_path / "train.jsonl")
            with local_server.client() as client:
                assert len(FineTuneJob.list(client)) == 1
        """
    )
    project.runpytest_inprocess().assert_outcomes(passed=2)


def test_a_test_without_the_fixtures_keeps_its_own_surroundings(project: pytest.Pytester) -> None:
    home = import_module("os").environ["FINETUNE_PRICER_HOME"]
    project.makepyfile(f"import os\ndef test(): assert os.environ['FINETUNE_PRICER_HOME'] == {home!r}")
    project.runpytest_inprocess().assert_outcomes(passed=1)


def test_pytest_finds_the_plugin_by_itself() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    entry = project["entry-points"]["pytest11"]["finetune_pricer"]
    module = import_module(entry)
    assert {"canned_service", "local_server", "pricer_home"} <= vars(module).keys()


def test_an_unused_plugin_loads_nothing_but_names() -> None:
    code = (
        "import pytest, sys; before = set(sys.modules); import finetune_pricer.testing\n"
        "import json; print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)) == {"finetune_pricer", "finetune_pricer.testing"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'FakeService'"):
        import_module("finetune_pricer.testing").FakeService  # noqa: B018


@pytest.mark.parametrize(
    ("answer", "price"),
    [
        ("$12.50", 12.5),
        (1199.0, 1199.0),
        (7, 7.0),
        ({"lamp": "$3.00", "A": 4}, 3.0),
        ({"desk": 9, "A lamp": 5}, 5.0),
        (lambda text: len(text.rpartition("\n")[2]), 7.0),
        ("no idea", None),
    ],
    ids=["a reply", "a price", "a whole number", "the first part", "another part", "a function", "no price"],
)
def test_a_question_is_answered_with_what_the_test_says(answer: Answer, price: float | None) -> None:
    with CannedService(answer) as service, service.client() as client:
        assert Predictor(client, "m")("A lamp.") == price


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"desk": 9}, "No canned answer fits"),
        (lambda text: 1 / 0, "ZeroDivisionError"),
        (lambda text: None, "answer must be a number"),
        (lambda text: -1.0, "answer must be a number of at least 0"),
    ],
)
def test_what_the_test_did_not_foresee_is_told_to_the_code_under_test(answer: Any, words: str) -> None:
    with CannedService(answer) as service, service.client() as client:
        predictions = Predictor(client, "m").predict_many(["A lamp."])
    assert words in (predictions[0].error or "")


def test_the_road_from_items_to_prices_needs_no_training() -> None:
    items = MadeUpCatalogue(seed=1).items(20)
    training = JsonlWriter().write(items, "train.jsonl")
    with CannedService(30) as service, service.client() as client:
        job = FineTuneJob.create(client, training, validation=None, model="base", suffix="shop").wait()
        assert FineTuneJob.create(client, training, model="base", suffix="shop").id == job.id
        assert job.fine_tuned_model == "ft:base:canned:shop:1"
        assert [event.message for event in job.stream_events()] == ["Created the job", "Step 1/1"]
        assert job.metrics()[0].train_loss == 1.0
        assert (job.checkpoints(), job.result_files()) == ([], [])
        assert {each.price for each in job.predictor().predict_many(items)} == {30.0}
        assert service.files["file-canned-1"] == Path("train.jsonl").read_bytes()
        assert service.requests.count("POST /v1/fine_tuning/jobs") == 1
        assert job.delete() == ["file-canned-1", "ft:base:canned:shop:1"]
        assert not service.files
        with pytest.raises(NotFound, match="no POST /v1/batches"):
            job.predictor().predict_batch(items)


def test_jobs_end_as_the_test_says() -> None:
    training = JsonlWriter().write(priced(20), "train.jsonl")
    with CannedService(job_status="running") as service, service.client() as client:
        job = FineTuneJob.create(client, training, model="base")
        with pytest.raises(JobTimeout):
            job.wait(timeout=0)
        service.job_status = "failed"
        with pytest.raises(JobFailed, match="wanted this job to fail"):
            job.wait()
        service.job_status = "succeeded"
        assert job.refresh().fine_tuned_model
        with pytest.raises(JobCancelled):
            job.cancel().wait()


def test_the_next_requests_fail_and_those_after_do_not() -> None:
    with CannedService() as service, service.client(max_retries=0) as client:
        service.fail(429, "Slow down.", times=2)
        for _ in range(2):
            with pytest.raises(ServiceUnavailable, match="Slow down"):
                Predictor(client, "m").predict("A lamp.")
        assert Predictor(client, "m")("A lamp.") == 19.99


def test_code_that_connects_by_itself_is_reached_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with CannedService(5) as service:
        monkeypatch.setenv("OPENAI_BASE_URL", service.url)
        monkeypatch.setenv("OPENAI_API_KEY", "canned")
        with connect("openai") as client:
            assert Predictor(client, "m")("A lamp.") == 5.0


def test_a_stopped_service_has_no_address_and_keeps_what_it_was_asked() -> None:
    with CannedService() as service, service.client() as client:
        client.models.list()
        assert service.start() is service
    assert service.requests == ["GET /v1/models"]
    assert repr(service) == "CannedService(not running, 0 asked)"
    with pytest.raises(NotConfigured, match="with statement"):
        service.url  # noqa: B018


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CannedService(None), "answer must be"),  # type: ignore[arg-type]
        (lambda: CannedService(True), "answer must be"),
        (lambda: CannedService(job_status="done"), "job_status must be"),  # type: ignore[arg-type]
        (lambda: CannedService().fail(200), "status must be"),
        (lambda: CannedService().fail(times=0), "times must be"),
    ],
)
def test_a_wrong_setting_is_refused(make: Any, words: str) -> None:
    with pytest.raises(WrongArgument, match=words):
        make()
