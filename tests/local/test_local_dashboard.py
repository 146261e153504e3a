"""The dashboard's pages: states, a job, a text to try, code to copy; and that none of it opens a door."""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from browser import Browser
from finetune_pricer.local import Faults, LocalServer
from finetune_pricer.local.api import dashboard
from finetune_pricer.local.api.curve import Curve
from finetune_pricer.local.api.question import Wording, find_wording
from local_helpers import INSTRUCTION, endless, jsonl, line, products, train

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import openai
    from openai.types.fine_tuning import FineTuningJob

KEY = "sk-of-this-test-only"
PRODUCT = "A large desk of oak, model 12."


def root(server: LocalServer) -> str:
    return server.url.removesuffix("/v1")


def get(server: LocalServer, path: str, **options: Any) -> str:
    return unescape(httpx2.get(f"{root(server)}{path}", **options).text)


def post(server: LocalServer, model: str, text: str, **headers: str) -> httpx2.Response:
    form = {"model": model, "text": text}
    return httpx2.post(f"{root(server)}/ask", data=form, headers=headers)


@pytest.fixture(scope="module")
def keyed() -> Iterator[LocalServer]:
    with LocalServer(key=KEY, cores=1) as server:
        yield server


def test_states_are_told_by_word_sign_and_colour(server: LocalServer, client: openai.OpenAI) -> None:
    train(client, b"nonsense", suffix="broken")
    page = get(server, "/")
    assert re.search(r'<span class="pill bad"><span aria-hidden="true">✗ </span>failed</span>', page)
    assert set(dashboard._STATES) >= {"running", "succeeded", "cancelled", "paused", "queued"}
    assert dashboard._state_of("a word of tomorrow") == ("waits", "?")


def test_jobs_are_called_by_their_suffix_and_lead_to_their_page(
    server: LocalServer, tuned: FineTuningJob
) -> None:
    page = get(server, "/")
    assert f'<a href="/jobs/{tuned.id}">shop</a>' in page


def test_checkpoints_stand_under_their_model(server: LocalServer, tuned: FineTuningJob) -> None:
    page = get(server, "/")
    models = page[page.index("<h2>Models") :]
    row = next(row for row in re.findall(r"<tr>.*?</tr>", models, re.DOTALL) if ":shop:" in row)
    assert "checkpoints: " in row
    assert row.count("step ") == 2
    assert "step 342" in row
    assert models.count(f"/jobs/{tuned.id}") == 1


def test_a_job_has_a_page_with_all_that_is_known_of_it(
    server: LocalServer, client: openai.OpenAI, tuned: FineTuningJob
) -> None:
    page = get(server, f"/jobs/{tuned.id}")
    assert 'http-equiv="refresh"' not in page
    for said in (
        *("<polyline", "validation loss", "n_epochs", "(chosen by the server)", "team", "blue"),
        *(tuned.training_file, tuned.result_files[0], "step_metrics.csv", "kB"),
        *(f"{tuned.fine_tuned_model}:ckpt-step-342", "Files validated, moving job to queued state"),
        *(f'base_url="{server.url}"', f'model="{tuned.fine_tuned_model}"'),
    ):
        assert said in page, said
    events = client.fine_tuning.jobs.list_events(tuned.id, limit=1_000).data
    assert page[page.index("<h2>Events") :].count("<tr>") == 1 + sum(one.type == "message" for one in events)


def test_a_failed_job_says_what_to_do(server: LocalServer, client: openai.OpenAI) -> None:
    failed = train(client, b"nonsense")
    page = get(server, f"/jobs/{failed.id}")
    assert "line 1: not valid JSON" in page
    assert "check_jsonl(path) of finetune_pricer names each wrong line and its fix" in page
    server.faults = Faults(fail_validation=True)
    by_fault = train(client, jsonl(products(20)))
    server.faults = Faults()
    assert "End the faults, and create the job again" in get(server, f"/jobs/{by_fault.id}")


def test_a_page_that_changes_asks_for_itself_again(client: openai.OpenAI, server: LocalServer) -> None:
    job = endless(client)
    running = get(server, f"/jobs/{job.id}")
    client.fine_tuning.jobs.pause(job.id)
    paused = get(server, f"/jobs/{job.id}")
    client.fine_tuning.jobs.cancel(job.id)
    assert 'http-equiv="refresh"' in running
    assert "<progress max=" in running
    assert 'http-equiv="refresh"' not in paused
    assert "client.fine_tuning.jobs.resume(id)" in paused


def test_an_unknown_job_has_a_page_that_says_so(server: LocalServer) -> None:
    answer = httpx2.get(f"{root(server)}/jobs/ftjob-none")
    assert answer.status_code == 404
    assert "There is no such job" in answer.text


def test_a_text_is_priced_in_the_words_of_the_training_file(
    server: LocalServer, tuned: FineTuningJob
) -> None:
    answer = post(server, tuned.fine_tuned_model or "", PRODUCT)
    page = unescape(answer.text)
    assert answer.status_code == 200
    assert f'<pre tabindex="0">{INSTRUCTION}{PRODUCT}</pre>' in page
    price, low, high = (
        float(amount.replace(",", ""))
        for amount in re.search(
            r"<b>\$([\d,.]+)</b></p>\s*<p>Likely prices: \$([\d,.]+) to \$([\d,.]+)\.", page
        ).groups()  # type: ignore[union-attr]
    )
    assert low < price < high
    assert 250 < price < 1_000
    assert "Eight in ten of 40 replies" in page
    assert PRODUCT in re.search(r"<textarea.*?</textarea>", page, re.DOTALL)[0]  # type: ignore[index]
    again = unescape(post(server, tuned.fine_tuned_model or "", PRODUCT).text)
    assert f"<b>${price:,.2f}</b></p>" in again  # the same draws each time


def test_a_model_without_prices_is_shown_as_it_answers(server: LocalServer) -> None:
    page = unescape(post(server, "pricer-base", PRODUCT).text)
    assert "Likely prices" not in page
    assert "no number" in page


@pytest.mark.parametrize(
    ("model", "text", "status", "said"),
    [
        ("pricer-base", "  ", 400, "There is no text to price"),
        ("pricer-base", "x" * 20_001, 400, "20,001 characters; at most 20,000"),
        ("nobody", "desk", 404, "The model `nobody` does not exist"),
    ],
)
def test_what_cannot_be_asked_is_said_on_the_page(
    server: LocalServer, model: str, text: str, status: int, said: str
) -> None:
    answer = post(server, model, text)
    assert answer.status_code == status
    assert said in unescape(answer.text)
    assert 'role="alert"' in answer.text


def test_a_form_beyond_all_bounds_is_not_read_to_its_end(server: LocalServer) -> None:
    assert post(server, "pricer-base", "x" * 200_000).status_code == 413


def rows(prompts: list[list[dict[str, Any]]]) -> bytes:
    import orjson

    reply = {"role": "assistant", "content": "$5.00"}
    return b"\n".join(orjson.dumps({"messages": [*prompt, reply]}) for prompt in prompts)


def test_the_words_around_texts_are_found_by_whole_lines(server: LocalServer, client: openai.OpenAI) -> None:
    def asked(content: bytes) -> Wording:
        job = train(client, content, settings={"n_epochs": 1})
        assert server._runtime is not None
        return find_wording(server._runtime.state.database, job.fine_tuned_model or "")

    system = {"role": "system", "content": "You price things."}
    texts = [f"A thing, number {at}" for at in range(12)]
    found = asked(
        rows([[system, {"role": "user", "content": f"Price this.\n\n{text}\n\nReply:"}] for text in texts])
    )
    assert (found.first, found.before) == ((system,), "Price this.\n\n")
    assert found.messages("X")[1]["content"] == "Price this.\n\nX\n\nReply:"
    assert asked(b"\n".join(line(text, "$5.00").encode() for text in texts)) == Wording()
    mixed = [[{"role": "user", "content": text}] for text in texts]
    mixed[0].insert(0, system)
    assert asked(rows(mixed)) == Wording()


def test_the_words_of_a_deleted_file_are_not_known(server: LocalServer, client: openai.OpenAI) -> None:
    job = train(client, jsonl(products(20)), settings={"n_epochs": 1})
    client.files.delete(job.training_file)
    assert server._runtime is not None
    assert find_wording(server._runtime.state.database, job.fine_tuned_model or "") == Wording()
    assert post(server, job.fine_tuned_model or "", PRODUCT).status_code == 200


def test_pages_load_nothing_run_nothing_and_send_forms_to_this_server_alone(
    server: LocalServer, tuned: FineTuningJob
) -> None:
    for path in ("/", f"/jobs/{tuned.id}", "/ask", "/jobs/none"):
        answer = httpx2.get(f"{root(server)}{path}")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "form-action 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["cache-control"] == "no-store"
        assert "<script" not in answer.text
        named = re.findall(r'(?:src|href|action)="([^"]*)"', answer.text)
        assert all(one.startswith(("/", "data:")) for one in named)


def test_what_strangers_wrote_is_text_on_every_page(server: LocalServer, client: openai.OpenAI) -> None:
    nasty = "</pre><b>bold</b>"
    job = train(client, jsonl(products(20)), suffix=nasty, settings={"n_epochs": 1})
    answers = [
        httpx2.get(f"{root(server)}/jobs/{job.id}").text,
        post(server, job.fine_tuned_model or "", nasty).text,
        httpx2.get(f"{root(server)}/ask", params={"model": nasty}).text,
    ]
    client.models.delete(job.fine_tuned_model or "")
    for page in answers:
        assert "<b>bold" not in page
    for page in answers[:2]:
        assert "&lt;b&gt;bold" in page
        assert "\\u003cb\\u003ebold" in page  # in the code to copy, as Python reads it


def test_all_pages_stand_under_the_key_and_none_shows_it(keyed: LocalServer) -> None:
    right = ("me", KEY)
    for path in ("/", "/ask", "/jobs/ftjob-none"):
        refused = httpx2.get(f"{root(keyed)}{path}")
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Basic")
        answer = httpx2.get(f"{root(keyed)}{path}", auth=right)
        assert answer.status_code in (200, 404)
        assert KEY not in answer.text
    assert 'os.environ["FINETUNE_PRICER_SERVER_KEY"]' in get(keyed, "/", auth=right)
    assert 'os.environ["FINETUNE_PRICER_SERVER_KEY"]' in get(keyed, "/ask", auth=right)
    assert httpx2.get(f"{root(keyed)}/openapi.json", auth=right).status_code == 401


@pytest.mark.parametrize(
    "foreign",
    [{"origin": "http://evil.test"}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}],
)
def test_a_form_of_another_origin_is_refused_with_a_key_and_without(
    server: LocalServer, keyed: LocalServer, foreign: dict[str, str]
) -> None:
    form = {"model": "pricer-base", "text": PRODUCT}
    assert httpx2.post(f"{root(server)}/ask", data=form, headers=foreign).status_code == 403
    refused = httpx2.post(f"{root(keyed)}/ask", data=form, headers=foreign, auth=("me", KEY))
    assert refused.status_code == 403
    own = {"origin": root(keyed), "sec-fetch-site": "same-origin"}
    assert httpx2.post(f"{root(keyed)}/ask", data=form, headers=own, auth=("me", KEY)).status_code == 200


def test_faults_are_named_on_every_page_and_do_not_hit_them(server: LocalServer) -> None:
    server.faults = Faults(server_error_rate=1.0, latency=30)
    try:
        for path in ("/", "/ask", "/jobs/none"):
            assert "server_error_rate = 1.0" in get(server, path, timeout=5)
    finally:
        server.faults = Faults()
    assert "Faults in force" not in get(server, "/")


def test_an_empty_server_tells_the_first_step(keyed: LocalServer) -> None:
    page = get(keyed, "/", auth=("me", KEY))
    assert "The first step" in page
    code = re.search(r"<pre[^>]*><code>(.*?)</code>", page, re.DOTALL)
    assert code is not None
    compile(code[1], "first step", "exec")
    assert f'base_url="{keyed.url}"' in code[1]


def test_the_code_to_copy_runs_and_asks_the_model(
    server: LocalServer, tuned: FineTuningJob, capsys: pytest.CaptureFixture[str]
) -> None:
    page = unescape(post(server, tuned.fine_tuned_model or "", PRODUCT).text)
    code = re.findall(r"<pre[^>]*><code>(.*?)</code>", page, re.DOTALL)[-1]
    exec(code, {})
    said = re.search(r"The likeliest reply is (\$[\d,.]+\d)", page)
    assert said is not None
    assert capsys.readouterr().out.strip() == said[1]


def steps(*losses: tuple[float, float | None]) -> list[dict[str, Any]]:
    return [
        {"step": at, "total_steps": len(losses), "train_loss": training}
        | ({} if validation is None else {"valid_loss": validation})
        for at, (training, validation) in enumerate(losses, start=1)
    ]


def advice(*losses: tuple[float, float | None]) -> str | None:
    curve = Curve.from_steps(steps(*losses))
    assert curve is not None
    return curve.advice


def test_losses_that_part_deserve_a_word() -> None:
    learned_by_heart = advice(*[(4.0 - at / 10, 3.0 - at / 20 if at < 10 else 3.2) for at in range(20)])
    assert learned_by_heart is not None
    assert "lowest at step 10 (2.55)" in learned_by_heart
    flat = advice(*[(4.0 - at / 10, 3.85) for at in range(20)])
    assert flat is not None
    assert "more examples would help, more epochs would not" in flat
    assert advice(*[(4.0 - at / 10, 3.9 - at / 10) for at in range(20)]) is None
    assert advice(*[(4.0, None)] * 5) is None


def test_pages_fit_a_phone_and_are_dark_on_dark_screens(
    server: LocalServer, client: openai.OpenAI, tuned: FineTuningJob, tmp_path: Path
) -> None:
    job = train(client, jsonl(products(20)), suffix="b" * 64, settings={"n_epochs": 1})
    pages = {
        "over": get(server, "/"),
        "job": get(server, f"/jobs/{job.id}"),
        "ask": post(server, tuned.fine_tuned_model or "", PRODUCT * 20).text,
    }
    with Browser() as browser:
        for name, text in pages.items():
            path = tmp_path / f"{name}.html"
            path.write_text(re.sub(r'<meta http-equiv="refresh".*?>', "", text))
            for width in (1_280, 400):
                browser.open(path, width=width)
                assert browser.run("document.documentElement.scrollWidth <= innerWidth"), (name, width)
        for scheme, paper in {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 23, 27)"}.items():
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            browser.call("Emulation.setEmulatedMedia", media="screen", features=features)
            assert browser.run("getComputedStyle(document.body).backgroundColor") == paper
        assert browser.errors == []
