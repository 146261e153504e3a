"""What only this server has: its page, its document, its key for a browser, and its limits."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import pytest

from browser import Browser
from finetune_pricer.local import Faults, LocalServer
from finetune_pricer.local.api.dashboard import render_overview
from local_helpers import endless, eventually, jsonl, products, train, upload

if TYPE_CHECKING:
    from pathlib import Path

    from openai.types.fine_tuning import FineTuningJob


def root(server: LocalServer) -> str:
    return server.url.removesuffix("/v1")


def test_the_page_shows_jobs_with_their_losses_and_models() -> None:
    with LocalServer() as server, server.client() as client:
        job = train(client, jsonl(products(40)), settings={"n_epochs": 2})
        failed = train(client, b"nonsense")
        answer = httpx2.get(f"{root(server)}/")

    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    for shown in (job.id, job.fine_tuned_model or "", "pricer-base-mini", "<polyline", "http-equiv"):
        assert shown in answer.text
    assert failed.error is not None
    assert failed.id in answer.text
    assert "<script" not in answer.text


def test_the_page_asks_for_itself_sooner_while_a_job_trains() -> None:
    with LocalServer(cores=1) as server, server.client() as client:
        empty = httpx2.get(f"{root(server)}/").text
        assert 'content="15"' in empty
        assert "Upload a file of chat examples" in empty
        job = endless(client)
        waiting = client.fine_tuning.jobs.create(
            model="pricer-base", training_file=upload(client, jsonl(products(20))).id
        )
        eventually(lambda: "moving job to queued state" in httpx2.get(f"{root(server)}/").text)
        client.fine_tuning.jobs.cancel(waiting.id)
        eventually(lambda: "training loss" in httpx2.get(f"{root(server)}/").text)
        assert 'content="2"' in httpx2.get(f"{root(server)}/").text
        client.fine_tuning.jobs.cancel(job.id)


def test_the_page_shows_the_latest_of_many_jobs_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune_pricer.local.api.dashboard._MAX_ROWS", 2)
    with LocalServer() as server, server.client() as client:
        jobs = [train(client, b"nonsense") for _ in range(3)]
        page = httpx2.get(f"{root(server)}/").text

    assert [job.id in page for job in jobs] == [False, True, True]
    assert "The latest 2 of 3 are shown." in page


def test_what_clients_write_cannot_become_markup(server: LocalServer, client: openai.OpenAI) -> None:
    name = train(client, jsonl(products(20)), suffix="<b>bold</b>").fine_tuned_model or ""
    server.faults = Faults(job_status="<i>strange</i>")
    assert server._runtime is not None

    page = render_overview(server._runtime.state, url=root(server), has_key=False)
    server.faults = Faults()

    assert "<b>bold" not in page
    assert "<i>strange" not in page
    assert "&lt;b&gt;bold" in page
    assert client.models.delete(name).deleted


def test_the_page_fits_a_wide_window_and_a_phone_and_asks_for_nothing_else(
    tmp_path: Path,
) -> None:
    page = tmp_path / "page.html"
    with LocalServer() as server, server.client() as client:
        job = train(client, jsonl(products(40)), settings={"n_epochs": 2}, suffix="a" * 64)
        text = httpx2.get(f"{root(server)}/").text
    page.write_text(re.sub(r'<meta http-equiv="refresh".*?>', "", text))

    with Browser() as browser:
        for width in (1_200, 390):
            browser.open(page, width=width)
            assert browser.run("document.documentElement.scrollWidth <= innerWidth")
            assert browser.run("document.querySelectorAll('svg polyline').length") >= 2
        assert browser.run(f"document.body.innerText.includes({job.id!r})")
        assert browser.errors == []
        assert browser.requests == [page.as_uri()] * 2


def test_a_browser_gives_the_key_as_a_password_and_only_for_the_page() -> None:
    with LocalServer(key="sk-right") as server, httpx2.Client() as http:
        asked = http.get(f"{root(server)}/")
        assert asked.status_code == 401
        assert asked.headers["www-authenticate"].startswith("Basic")
        assert http.get(f"{root(server)}/", auth=("me", "sk-right")).status_code == 200
        assert http.get(f"{root(server)}/", auth=("me", "sk-wrong")).status_code == 401
        assert http.get(f"{root(server)}/", headers={"authorization": "Basic %%%"}).status_code == 401
        assert http.get(f"{server.url}/models", auth=("me", "sk-right")).status_code == 401
        assert http.get(f"{root(server)}/local/faults").status_code == 401


def test_the_document_names_every_route_and_no_other(server: LocalServer) -> None:
    document = httpx2.get(f"{root(server)}/openapi.json").json()

    assert document["openapi"].startswith("3.1")
    with httpx2.Client() as http:
        for path, methods in document["paths"].items():
            answer = http.request("OPTIONS", root(server) + path.replace("{", "").replace("}", ""))
            assert answer.status_code == 405
            allowed = set(answer.headers["allow"].replace(" ", "").split(",")) - {"HEAD"}
            assert allowed == {method.upper() for method in methods}, path


def test_a_strict_server_refuses_unknown_parameters_by_name_and_another_logs_them(
    server: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"model": "pricer-base", "messages": [{"role": "user", "content": "x"}], "magic": "a secret"}
    caplog.set_level(logging.INFO, logger="finetune_pricer.local")
    with LocalServer(strict=True) as strict, httpx2.Client() as http:
        refused = http.post(f"{strict.url}/chat/completions", json=body)
        nested = http.post(
            f"{strict.url}/fine_tuning/jobs",
            json={"model": "m", "training_file": "f", "hyperparameters": {"lora_r": 8}},
        )
        odd = {"model": "pricer-base", "messages": [{"role": "user", "content": "x", "mood": 1}]}
        said = http.post(f"{strict.url}/chat/completions", json=odd)
        form = http.post(
            f"{strict.url}/files", files={"file": ("a", b"x")}, data={"purpose": "batch", "odd": "1"}
        )
        assert http.post(f"{server.url}/chat/completions", json=body).status_code == 200

    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unknown_parameter")
    assert refused.json()["error"]["param"] == "magic"
    assert nested.json()["error"]["param"] == "hyperparameters.lora_r"
    assert said.json()["error"]["param"] == "messages.mood"
    assert form.json()["error"]["param"] == "odd"
    told = [record.getMessage() for record in caplog.records if "unknown parameters" in record.getMessage()]
    assert len(told) == 1
    assert "magic" in told[0]
    assert "secret" not in told[0]


def test_a_file_that_has_expired_is_gone(client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    file = client.files.create(
        file=("a", b"x"), purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3_600}
    )
    later = file.created_at + 3_600
    assert client.files.retrieve(file.id).expires_at == later

    monkeypatch.setattr("finetune_pricer.local.database.now", lambda: later)

    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)
    assert file.id not in [each.id for each in client.files.list()]


def test_what_has_expired_frees_its_place_once_another_file_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalServer(tmp_path) as server, server.client() as client:
        expiry: Any = {"anchor": "created_at", "seconds": 3_600}
        old = client.files.create(file=("a", b"old"), purpose="user_data", expires_after=expiry)
        monkeypatch.setattr("finetune_pricer.local.database.now", lambda: old.created_at + 3_600)
        client.files.create(file=("b", b"new"), purpose="user_data")

        assert len(list((tmp_path / "blobs").iterdir())) == 1


@pytest.mark.parametrize(
    "expiry", [{"anchor": "created_at", "seconds": 5}, {"anchor": "now", "seconds": 5_000}]
)
def test_an_expiry_out_of_range_is_refused(client: openai.OpenAI, expiry: dict[str, object]) -> None:
    fields = {"purpose": "user_data"} | {f"expires_after[{name}]": str(v) for name, v in expiry.items()}

    answer = httpx2.post(f"{client.base_url}files", files={"file": ("a", b"x")}, data=fields)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("expires_after.")


def test_there_is_an_end_to_files_and_to_unfinished_jobs(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = upload(client, jsonl(products(20)))
    monkeypatch.setattr("finetune_pricer.local.api.routes.files.MOST_FILES", 1)
    monkeypatch.setattr("finetune_pricer.local.api.routes.jobs.MOST_UNFINISHED", 0)

    with pytest.raises(openai.BadRequestError, match="delete some"):
        upload(client, b"x")
    with pytest.raises(openai.RateLimitError, match="unfinished jobs"):
        client.fine_tuning.jobs.create(model="pricer-base", training_file=file.id)


def test_a_curve_of_a_long_job_is_thinned_and_keeps_what_was_validated(
    server: LocalServer, tuned: FineTuningJob
) -> None:
    assert server._runtime is not None
    database = server._runtime.state.database

    some = database.sample_metrics(tuned.id, 20)

    steps = [step["step"] for step in some]
    assert 20 <= len(steps) <= 40
    assert steps == sorted(set(steps))
    assert steps[0] == 1
    assert steps[-1] == 380
    assert sum("valid_loss" in step for step in some) == 10
