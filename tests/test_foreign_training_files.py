"""Training files that others wrote: calls of functions, images, keys in another order, other rows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune_pricer import check_jsonl, count_tokens, estimate_cost
from finetune_pricer.errors import DataError, TrainingFileError
from finetune_pricer.local.learners.training_file import read_rows

ANSWER = {"role": "assistant", "content": "$12.00"}
CALL = {"role": "assistant", "function_call": {"name": "look_up", "arguments": "{}"}}
TOOL_CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}],
}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/lamp.png"}}


def user(content: object, **more: object) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def write(*rows: object, times: int = 1) -> str:
    lines = [json.dumps(row).replace("#", str(n)) for n in range(times) for row in rows]
    Path("foreign.jsonl").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return "foreign.jsonl"


# A conversation, and the code and place of what is wrong with it; none where nothing is.
LINES: list[tuple[list[Any], tuple[str, str] | None]] = [
    ([user("Item #?"), CALL, {"role": "function", "name": "look_up", "content": "12"}, ANSWER], None),
    ([user("Item #?"), CALL | {"content": None}, ANSWER], None),
    ([user("Item #?"), CALL | {"content": "Looking"}, ANSWER], None),
    ([user("Item #?"), TOOL_CALL, {"role": "tool", "tool_call_id": "1", "content": "12"}, ANSWER], None),
    ([user("Item #?"), CALL], ("price", "messages[1]")),
    ([user("Item #?"), TOOL_CALL], ("price", "messages[1]")),
    ([user("Item #?"), {"role": "assistant"}, ANSWER], ("content", "messages[1].content")),
    ([{"role": "user", "function_call": {"name": "x"}}, ANSWER], ("content", "messages[0].content")),
    ([user([text("Item #?"), IMAGE]), ANSWER], None),
    ([user([IMAGE]), user("Item #?"), ANSWER], None),
    ([user([text("Item "), text("#?")]), ANSWER], None),
    ([{"role": "system", "content": [IMAGE]}, user("#?"), ANSWER], ("content", "messages[0].content[0]")),
    ([user("Item #?"), {"role": "assistant", "content": [IMAGE]}], ("content", "messages[1].content[0]")),
    ([user([text("#"), {"type": "image_url"}]), ANSWER], ("content", "messages[0].content[1]")),
    ([user([IMAGE | {"image_url": "a.png"}]), ANSWER], ("content", "messages[0].content[0]")),
    ([user([text("#"), {"type": "input_audio"}]), ANSWER], ("content", "messages[0].content[1]")),
    ([user(["Item #?"]), ANSWER], ("content", "messages[0].content[0]")),
    ([user([{"type": "text", "text": 5}]), ANSWER], ("content", "messages[0].content[0]")),
    ([user([]), ANSWER], ("content", "messages[0].content")),
    ([user({"text": "#"}), ANSWER], ("content", "messages[0].content")),
    ([user(12.5), ANSWER], ("content", "messages[0].content")),
    ([user([text("a <|endoftext|> #"), IMAGE]), ANSWER], ("special", "messages[0].content")),
]


@pytest.mark.parametrize(("messages", "wrong"), LINES, ids=lambda value: str(value)[:60])
def test_a_line_of_another_form_is_fine_or_named_with_its_place(
    messages: list[Any], wrong: tuple[str, str] | None
) -> None:
    report = check_jsonl(write({"messages": messages, "functions": []}, times=10))
    assert {(problem.code, problem.path) for problem in report.problems if problem.code != "few"} == (
        {wrong} if wrong else set()
    )
    if wrong is None or wrong[0] == "price":
        assert report.training_file().examples == 10
        with Path("foreign.jsonl").open("rb") as file:  # the local server has a checker of its own
            assert len(list(read_rows(file))) == 10


def test_images_keep_their_place_where_a_file_is_corrected() -> None:
    row = {"messages": [user([text("a <|im_end|> lamp #"), IMAGE]), ANSWER]}
    check_jsonl(write(row, times=10)).write_corrected("corrected.jsonl")
    first = json.loads(Path("corrected.jsonl").read_text("utf-8").splitlines()[0])
    assert first["messages"][0]["content"] == [text("a < |im_end| > lamp 0"), IMAGE]


def test_a_long_address_of_an_image_makes_no_long_example() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 300_000}}
    assert check_jsonl(write({"messages": [user([text("#"), picture]), ANSWER]}, times=10)).ok


# Two lines, and whether the second says what the first says.
TWICE = [
    ({"messages": [user("a"), ANSWER]}, {"messages": [{"content": "a", "role": "user"}, ANSWER]}, True),
    (
        {"messages": [user("a"), CALL, ANSWER], "functions": [{"name": "x", "strict": 1}]},
        {"functions": [{"strict": 1, "name": "x"}], "messages": [user("a"), CALL, ANSWER]},
        True,
    ),
    ({"messages": [user("ab"), ANSWER]}, {"messages": [user([text("ab")]), ANSWER]}, True),
    ({"messages": [user("ab"), ANSWER]}, {"messages": [user([text("a"), text("b")]), ANSWER]}, True),
    ({"messages": [user("a"), ANSWER]}, {"messages": [user("a"), ANSWER | {"weight": 0}]}, False),
    ({"messages": [user("a"), ANSWER], "tools": []}, {"messages": [user("a"), ANSWER], "tools": [{}]}, False),
    ({"messages": [user([IMAGE]), ANSWER]}, {"messages": [user([]), ANSWER]}, False),
    (
        {"messages": [user([IMAGE]), ANSWER]},
        {"messages": [user([IMAGE | {"image_url": {"url": "b"}}]), ANSWER]},
        False,
    ),
]


@pytest.mark.parametrize(("first", "second", "same"), TWICE, ids=lambda value: str(value)[:50])
def test_an_example_is_a_duplicate_by_what_it_says(first: object, second: object, same: bool) -> None:
    assert check_jsonl(write(first, second)).duplicates == ((2,) if same else ())


# What is handed in as one example, and why it is none.
NO_EXAMPLES = [
    ({"messages": [user("a"), ANSWER | {"content": 12.5}]}, r"messages\[1\].content is not text but float"),
    ({"messages": [user("a"), {"role": "assistant"}]}, r"messages\[1\].content is not text but NoneType"),
    ({"messages": [user({"text": "a"}), ANSWER]}, r"messages\[0\].content is not text but dict"),
    ({"messages": [user(["a"]), ANSWER]}, r"messages\[0\].content has a part of the type 'str'"),
    ({"messages": [user([text("a"), IMAGE]), ANSWER]}, "type 'image_url', whose tokens nobody can count"),
    ({"messages": [{"role": 5, "content": "a"}, ANSWER]}, r"messages\[0\].role is not text"),
    ({"messages": [{"content": "a"}, ANSWER]}, r"messages\[0\].role is not text"),
    ({"messages": ["a", ANSWER]}, r"messages\[0\] is not an object but str"),
    ({"messages": {"role": ["user"]}}, "it has no list of messages"),
    ({"messages": "a"}, "it has no list of messages"),
    ({"messages": []}, "it has no list of messages"),
    ({"prompt": "a"}, "it has no list of messages"),
    (5, "it (has no list of|is not)"),
    (None, "it (has no list of|is not)"),
    ("a", "it (has no list of|is not)"),
]


@pytest.mark.parametrize("how", [count_tokens, lambda given: estimate_cost(given, model="m", epochs=1)])
@pytest.mark.parametrize(("row", "words"), NO_EXAMPLES, ids=lambda value: str(value)[:50])
def test_what_cannot_be_counted_is_named_with_its_line_or_place(
    how: Callable[[Any], Any], row: Any, words: str
) -> None:
    good = {"messages": [user("a"), ANSWER]}
    with pytest.raises(TrainingFileError, match=f"^example 2 is no chat example: .*{words}"):
        how([good, row])
    with pytest.raises(TrainingFileError, match=f"^line 2 of 'foreign.jsonl' is no chat example: .*{words}"):
        how(write(good, row))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (5, "lists of messages, not 5"),
        (None, "lists of messages, not None"),
        ({"messages": [user("a"), ANSWER]}, "lists of messages, not a dict"),
        (
            [user("a"), ANSWER],
            "example 1 is .*: it is one message; an example is a list of messages",
        ),
        (["a.jsonl"], "example 1 is no chat example"),
    ],
)
def test_what_is_no_training_data_is_refused(given: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        count_tokens(given)


def test_rows_with_messages_count_as_the_lists_that_they_hold() -> None:
    messages: list[dict[str, Any]] = [user("Item?"), ANSWER]
    counted = count_tokens([messages, messages])
    assert count_tokens([{"messages": messages}, {"messages": tuple(messages)}]) == counted
    rows: list[Any] = [{"messages": messages, "tools": None}, messages]
    assert count_tokens(iter(rows)) == counted
    assert count_tokens(write({"messages": messages}, {"messages": messages})) == counted
    empty = {"name": None, "weight": None, "tool_calls": None}
    assert count_tokens([[message | empty for message in messages]] * 2) == counted
    assert counted.exact


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [user("a"), CALL, ANSWER]},
        {"messages": [user("a"), TOOL_CALL, ANSWER]},
        {"messages": [user("a", name="shop"), ANSWER]},
        {"messages": [user("a"), ANSWER], "tools": [{"type": "function", "function": {"name": "x"}}]},
    ],
    ids=str,
)
def test_calls_names_and_tools_are_counted_and_make_the_count_no_exact_one(row: dict[str, Any]) -> None:
    plain = [{"role": each["role"], "content": each.get("content") or ""} for each in row["messages"]]
    bare, whole = count_tokens([plain]), count_tokens([row])
    assert whole.billed > bare.billed
    assert (whole.most or 0) > (bare.most or 0)
    assert [bare.exact, whole.exact] == [True, False]
    assert count_tokens(write(row)) == whole


def test_the_longest_example_is_named_by_its_line_past_blank_ones() -> None:
    Path("blank.jsonl").write_text("\n" + json.dumps({"messages": [user("a"), ANSWER]}) + "\n", "utf-8")
    count = count_tokens("blank.jsonl")
    assert (count.examples, count.longest_line) == (1, 2)


def test_a_name_with_braces_is_named_as_it_is() -> None:
    Path("{0}.jsonl").write_text("5\n", "utf-8")
    with pytest.raises(TrainingFileError, match=r"line 1 of '\{0\}.jsonl' is no chat example"):
        count_tokens("{0}.jsonl")
