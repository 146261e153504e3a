"""Questions go into a file for any runner, and its answers come back to their items, or are refused."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from finetune_pricer import ChatFormatter, Item, Predictor
from finetune_pricer.aio import AsyncPredictor
from finetune_pricer.errors import DataError, FileAccessError, MissingFile
from helpers import priced

Line = dict[str, Any]
ITEMS = priced(5)


def run(
    questions: str = "in.jsonl", answers: str = "out.jsonl", *, say: Callable[[Line], str] | None = None
) -> None:
    """Answer as `vllm run-batch` does, but in another order: each item has the price of its number."""
    lines = [json.loads(line) for line in Path(questions).read_text().splitlines()]
    write(answers, [answer(line, (say or number_of)(line)) for line in reversed(lines)])


def write(path: str, lines: list[Line]) -> None:
    Path(path).write_text("".join(json.dumps(line) + "\n" for line in lines))


def read(path: str = "out.jsonl") -> list[Line]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def number_of(line: Line) -> str:
    return f"${line['body']['messages'][-1]['content'].split()[-1]}.00"


def answer(line: Line, *said: str) -> Line:
    choices = [
        {"index": place, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        for place, text in enumerate(said)
    ]
    usage = {"prompt_tokens": 30, "completion_tokens": 4}
    body = {"id": "c-1", "object": "chat.completion", "choices": choices, "usage": usage}
    response = {"status_code": 200, "request_id": "r-1", "body": body}
    return {"id": "vllm-1", "custom_id": line["custom_id"], "response": response, "error": None}


def test_answers_in_any_order_come_back_to_their_items(client: openai.OpenAI) -> None:
    predictor = Predictor(client, "pricer")
    assert predictor.write_batch([*ITEMS, ITEMS[0]], "in.jsonl") == 5
    line = read("in.jsonl")[0]
    assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")
    assert line["body"]["model"] == "pricer"
    assert line["body"]["logprobs"]
    run()
    found = predictor.read_batch([*ITEMS, ITEMS[0]], "out.jsonl")
    assert [each.price for each in found] == [0, 1, 2, 3, 4, 0]
    assert [each.item_id for each in found] == [*(item.id for item in ITEMS), "item-0"]
    assert found[1].usage.prompt_tokens == 30


def test_async_writes_and_reads_the_same(client: openai.OpenAI) -> None:
    async def walk() -> list[float | None]:
        async with openai.AsyncOpenAI(base_url=str(client.base_url), api_key="x") as other:
            predictor = AsyncPredictor(other, "pricer")
            assert predictor.write_batch(ITEMS, "in.jsonl") == 5
            run()
            return [each.price for each in predictor.read_batch(ITEMS, "out.jsonl")]

    assert asyncio.run(walk()) == [0, 1, 2, 3, 4]


def test_draws_are_read_as_their_median(client: openai.OpenAI) -> None:
    predictor = Predictor(client, "pricer", decoding="median", samples=3)
    predictor.write_batch(ITEMS[:1], "in.jsonl")
    line = read("in.jsonl")[0]
    assert line["body"]["n"] == 3
    write("out.jsonl", [answer(line, "$10", "$30", "$20")])
    (found,) = predictor.read_batch(ITEMS[:1], "out.jsonl")
    assert (found.price, found.decoding) == (20, "median")


def test_what_is_missing_or_failed_has_no_price_and_says_why(client: openai.OpenAI) -> None:
    predictor = Predictor(client, "pricer")
    predictor.write_batch(ITEMS, "in.jsonl")
    run()
    lines = read()  # the last item's first
    lines[1] |= {"response": {"status_code": 400, "body": {"error": {"message": "too long"}}}}
    lines[2] |= {"response": None, "error": {"code": 500, "message": "away"}}
    lines[3]["response"]["body"]["choices"][0]["message"]["content"] = "no idea"
    write("out.jsonl", lines[1:])
    found = predictor.read_batch(ITEMS, "out.jsonl")
    assert [each.price for each in found] == [0, None, None, None, None]
    assert "no price" in str(found[1].error)
    assert "an error that may pass" in str(found[2].error)
    assert "too long" in str(found[3].error)
    assert "no line of the results is about it" in str(found[4].error)


def test_an_item_that_cannot_be_asked_about_has_no_line_and_a_reason(client: openai.OpenAI) -> None:
    predictor = Predictor(client, "pricer")
    assert predictor.write_batch(["", "a lamp 7"], "in.jsonl") == 1
    run()
    found = predictor.read_batch(["", "a lamp 7"], "out.jsonl")
    assert [each.price for each in found] == [None, 7]
    assert found[0].error


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"model": "another"}, id="another model"),
        pytest.param({"decoding": "greedy"}, id="another decoding"),
        pytest.param({"formatter": ChatFormatter("Guess!")}, id="other words"),
        pytest.param({"answer_parameters": {"top_p": 0.5}}, id="other parameters"),
    ],
)
def test_answers_to_other_questions_are_refused(client: openai.OpenAI, other: dict[str, Any]) -> None:
    Predictor(client, "pricer").write_batch(ITEMS, "in.jsonl")
    run()
    settings = {"model": "pricer", **other}
    with pytest.raises(DataError, match=r"line 1 of 'out.jsonl' \(as 4 more do\) answers no question"):
        Predictor(client, **settings).read_batch(ITEMS, "out.jsonl")


def test_an_answer_about_an_item_that_was_changed_since_is_refused_by_its_line(client: openai.OpenAI) -> None:
    predictor = Predictor(client, "pricer")
    predictor.write_batch(ITEMS, "in.jsonl")
    run()
    changed = [*ITEMS[:3], Item(id="item-3", title="thing 33", price=1.0), ITEMS[4]]
    with pytest.raises(DataError, match=r"line 2 of 'out.jsonl' answers no question"):
        predictor.read_batch(changed, "out.jsonl")


def test_a_second_answer_to_a_question_is_refused_with_both_lines(client: openai.OpenAI) -> None:
    predictor = Predictor(client, "pricer")
    predictor.write_batch(ITEMS, "in.jsonl")
    run()
    Path("more.jsonl").write_text("\n" + Path("out.jsonl").read_text().splitlines()[2])
    with pytest.raises(DataError, match=r"line 3 of 'out.jsonl' and line 2 of 'more.jsonl' answer the same"):
        predictor.read_batch(ITEMS, ["out.jsonl", "more.jsonl"])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"custom_id": "a", "respon', "line 6 of 'out.jsonl' is no whole JSON object"),
        (b"[1]", "line 6 of 'out.jsonl' is no whole JSON object"),
        (b'{"response": {}}', "line 6 of 'out.jsonl' has no custom_id"),
    ],
)
def test_a_line_that_is_cut_or_foreign_is_named(client: openai.OpenAI, line: bytes, said: str) -> None:
    predictor = Predictor(client, "pricer")
    predictor.write_batch(ITEMS, "in.jsonl")
    run()
    with Path("out.jsonl").open("ab") as file:
        file.write(line)
    with pytest.raises(DataError, match=said):
        predictor.read_batch(ITEMS, "out.jsonl")


def test_with_a_store_only_what_is_missing_is_written_again(client: openai.OpenAI) -> None:
    predictor = Predictor(client, "pricer", store="answers.sqlite")
    predictor.write_batch(ITEMS, "in.jsonl")
    run()
    write("out.jsonl", read()[:3])
    assert [each.price for each in predictor.read_batch(ITEMS, "out.jsonl")] == [None, None, 2, 3, 4]
    again = Predictor(client, "pricer", store="answers.sqlite")
    assert again.write_batch(ITEMS, "rest.jsonl") == 2
    run("rest.jsonl", "found.jsonl")
    assert [each.price for each in again.read_batch(ITEMS, "found.jsonl")] == [0, 1, 2, 3, 4]
    assert again.write_batch(ITEMS, "rest.jsonl") == 0


def test_items_whose_tokens_tell_nothing_are_drawn_in_a_second_file(client: openai.OpenAI) -> None:
    predictor = Predictor(client, "pricer", samples=2, store="answers.sqlite")
    predictor.write_batch(ITEMS[:2], "in.jsonl")
    run()
    found = predictor.read_batch(ITEMS[:2], "out.jsonl")
    assert [each.price for each in found] == [None, None]
    assert predictor.write_batch(ITEMS[:2], "draws.jsonl") == 2
    write("out.jsonl", [answer(line, "$10", "$12") for line in read("draws.jsonl")])
    assert [each.price for each in predictor.read_batch(ITEMS[:2], "out.jsonl")] == [11, 11]


def test_what_a_runner_refuses_is_left_out_of_the_next_file(client: openai.OpenAI) -> None:
    predictor = Predictor(client, "pricer")
    predictor.write_batch(ITEMS, "in.jsonl")
    said = {"error": {"message": "logprobs is not supported", "param": "logprobs"}}
    lines = [answer(line, "") | {"response": {"status_code": 400, "body": said}} for line in read("in.jsonl")]
    write("out.jsonl", lines)
    assert predictor.read_batch(ITEMS, "out.jsonl")[0].error
    predictor.write_batch(ITEMS, "in.jsonl")
    assert all("logprobs" not in line["body"] for line in read("in.jsonl"))


def test_a_file_that_cannot_be_read_or_written_is_named(client: openai.OpenAI) -> None:
    predictor = Predictor(client, "pricer")
    with pytest.raises(MissingFile, match=r"out\.jsonl"):
        predictor.read_batch(ITEMS, "out.jsonl")
    with pytest.raises(FileAccessError, match="folder"):
        predictor.read_batch(ITEMS, ".")
    with pytest.raises(DataError, match="names no file"):
        predictor.read_batch(ITEMS, [])
    Path("in.jsonl").mkdir()
    with pytest.raises(FileAccessError):
        predictor.write_batch(ITEMS, "in.jsonl")


def test_a_file_that_was_there_stays_when_writing_is_broken_off(client: openai.OpenAI) -> None:
    def some() -> Any:
        yield "a lamp"
        raise KeyboardInterrupt

    Path("in.jsonl").write_text("mine")
    with pytest.raises(KeyboardInterrupt):
        Predictor(client, "pricer").write_batch(some(), "in.jsonl")
    assert Path("in.jsonl").read_text() == "mine"
