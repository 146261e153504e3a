from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import openai
import pytest

from finetune_pricer.local import Faults, LocalServer
from local_helpers import ask, eventually, products

if TYPE_CHECKING:
    from pathlib import Path

    from openai.types import Batch
    from openai.types.fine_tuning import FineTuningJob

ENDED = ("completed", "failed", "expired", "cancelled")
URL: Any = "/v1/chat/completions"


def line(name: str, model: str, prompt: str = "A lamp", **changes: Any) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "temperature": 0}
    return {"custom_id": name, "method": "POST", "url": URL, "body": body | changes}


def submit(client: openai.OpenAI, lines: list[Any], **options: Any) -> Batch:
    content = "\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines)
    file = client.files.create(file=("batch.jsonl", content.encode()), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=URL, completion_window="24h", **options)


def ended(client: openai.OpenAI, batch: Batch) -> Batch:
    eventually(lambda: client.batches.retrieve(batch.id).status in ENDED)
    return client.batches.retrieve(batch.id)


def rows(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(row) for row in client.files.content(file_id).text.splitlines()]


def test_a_batch_answers_its_requests_and_files_those_that_fail_apart(
    client: openai.OpenAI, tuned: FineTuningJob
) -> None:
    model, items = tuned.fine_tuned_model or "", products(5, seed=3)
    lines = [line(str(i), model, item.prompt) for i, item in enumerate(items)]
    batch = submit(client, [*lines, "", line("bad", model, n=0)], metadata={"a": "b"})

    assert (batch.status, batch.metadata) == ("validating", {"a": "b"})
    done = ended(client, batch)

    assert done.status == "completed"
    assert done.request_counts is not None
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (6, 5, 1)
    answers = rows(client, done.output_file_id)
    assert [row["custom_id"] for row in answers] == ["0", "1", "2", "3", "4"]
    for row, item in zip(answers, items, strict=True):
        assert row["response"]["status_code"] == 200
        said = row["response"]["body"]["choices"][0]["message"]["content"]
        assert said == ask(client, model, item.prompt)
    (refused,) = rows(client, done.error_file_id)
    assert refused["custom_id"] == "bad"
    assert refused["response"]["body"]["error"]["param"] == "n"
    assert client.files.retrieve(done.output_file_id or "").purpose == "batch_output"
    assert done.usage is not None
    assert done.usage.output_tokens == 20
    assert (done.completed_at or 0) >= (done.in_progress_at or 0) > 0


def test_a_bad_input_file_fails_the_batch_and_names_each_line(client: openai.OpenAI) -> None:
    good = line("a", "pricer-base")
    batch = submit(
        client,
        [
            good,
            "not json",
            good,
            line("c", "pricer-base") | {"method": "GET"},
            line("d", "pricer-base") | {"url": "/v1/embeddings"},
            {"custom_id": "e", "method": "POST", "url": URL},
            line("f", "pricer-base", stream=True),
            {"method": "POST"},
        ],
    )

    failed = ended(client, batch)

    assert failed.status == "failed"
    assert failed.errors is not None
    assert [(each.line, each.code) for each in failed.errors.data or []] == [
        (2, "invalid_json_line"),
        (3, "duplicate_custom_id"),
        (4, "invalid_method"),
        (5, "invalid_url"),
        (6, "missing_required_parameter"),
        (7, "invalid_request"),
        (8, "missing_required_parameter"),
    ]


@pytest.mark.parametrize(
    ("lines", "code"),
    [(["  "], "empty_file"), ([line("a", "pricer-base"), line("b", "pricer-base-mini")], "mismatched_model")],
)
def test_a_file_that_is_wrong_as_a_whole_fails_the_batch(
    client: openai.OpenAI, lines: list[Any], code: str
) -> None:
    failed = ended(client, submit(client, lines))

    assert failed.errors is not None
    assert [each.code for each in failed.errors.data or []] == [code]


def test_a_cancelled_batch_keeps_what_is_answered_and_says_so_of_the_rest() -> None:
    with LocalServer(faults=Faults(chat_pause=0.05)) as server, server.client() as client:
        batch = submit(client, [line(str(i), "pricer-base") for i in range(200)])
        eventually(lambda: (client.batches.retrieve(batch.id).request_counts or batch).completed > 2)  # type: ignore[union-attr]

        assert client.batches.cancel(batch.id).status == "cancelling"
        assert client.batches.cancel(batch.id).status == "cancelling"
        done = ended(client, batch)

        assert done.status == "cancelled"
        answered, left = rows(client, done.output_file_id), rows(client, done.error_file_id)
        assert len(answered) + len(left) == 200
        assert {row["error"]["code"] for row in left} == {"batch_cancelled"}
        with pytest.raises(openai.ConflictError):
            client.batches.cancel(batch.id)


def test_a_batch_expires_with_its_window() -> None:
    with LocalServer(faults=Faults(batch_window=0)) as server, server.client() as client:
        done = ended(client, submit(client, [line("a", "pricer-base")]))

        assert done.status == "expired"
        assert done.expired_at is not None
        assert done.expires_at == done.created_at
        assert rows(client, done.error_file_id)[0]["error"]["code"] == "batch_expired"


def test_the_output_of_a_batch_goes_after_the_time_that_was_asked_for(client: openai.OpenAI) -> None:
    expiry: Any = {"anchor": "created_at", "seconds": 7_200}
    lines = [line("a", "pricer-base"), line("b", "pricer-base", n=0)]
    done = ended(client, submit(client, lines, output_expires_after=expiry))
    usual = ended(client, submit(client, lines))

    for file_id in (done.output_file_id, done.error_file_id):
        file = client.files.retrieve(file_id or "")
        assert file.expires_at is not None
        assert 7_195 <= file.expires_at - file.created_at <= 7_200  # the clock is read twice
    assert client.files.retrieve(usual.output_file_id or "").expires_at is None
    given = client.files.retrieve(done.input_file_id)
    assert 30 * 86_400 - 5 <= (given.expires_at or 0) - given.created_at <= 30 * 86_400


def test_a_batch_whose_input_was_deleted_in_the_meantime_says_so() -> None:
    with LocalServer(faults=Faults(chat_pause=0.3)) as server, server.client() as client:
        submit(client, [line(str(i), "pricer-base") for i in range(3)])
        waiting = submit(client, [line("a", "pricer-base")])
        client.files.delete(waiting.input_file_id)
        failed = ended(client, waiting)

    assert failed.errors is not None
    (problem,) = failed.errors.data or []
    assert (problem.code, problem.param) == ("input_file_not_found", "input_file_id")
    assert waiting.input_file_id in (problem.message or "")


def test_a_batch_that_a_server_left_unfinished_is_done_by_the_next(tmp_path: Path) -> None:
    with LocalServer(tmp_path, faults=Faults(chat_pause=0.2)) as server, server.client() as client:
        batch = submit(client, [line(str(i), "pricer-base") for i in range(5)])
    with LocalServer(tmp_path) as server, server.client() as client:
        done = ended(client, batch)

        assert done.status == "completed"
        assert len(rows(client, done.output_file_id)) == 5


def test_batches_are_listed_newest_first_in_pages(client: openai.OpenAI) -> None:
    made = [submit(client, [line("a", "pricer-base")]).id for _ in range(3)]

    assert [batch.id for batch in client.batches.list(limit=2)][:3] == made[::-1]


@pytest.mark.parametrize(
    ("changes", "param"),
    [({"endpoint": "/v1/embeddings"}, "endpoint"), ({"completion_window": "1h"}, "completion_window")],
)
def test_a_batch_of_another_kind_is_refused(
    client: openai.OpenAI, changes: dict[str, Any], param: str
) -> None:
    file = client.files.create(file=("b.jsonl", b"{}"), purpose="batch")
    order: Any = {"input_file_id": file.id, "endpoint": URL, "completion_window": "24h"} | changes

    with pytest.raises(openai.BadRequestError) as refused:
        client.batches.create(**order)

    assert refused.value.param == param


def test_a_batch_needs_a_file_that_exists_and_is_for_batches(
    client: openai.OpenAI, tuned: FineTuningJob
) -> None:
    order: Any = {"endpoint": URL, "completion_window": "24h"}

    with pytest.raises(openai.NotFoundError):
        client.batches.create(input_file_id="file-none", **order)
    with pytest.raises(openai.BadRequestError, match="purpose 'fine-tune'"):
        client.batches.create(input_file_id=tuned.training_file, **order)
    for move in (client.batches.retrieve, client.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            move("batch_none")
