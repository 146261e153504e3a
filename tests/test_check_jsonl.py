"""A training file is read once, and everything that is wrong with it is named with its line and its fix."""

import codecs
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_pricer import (
    ChatFormatter,
    Item,
    ItemDataset,
    JsonlWriter,
    MadeUpCatalogue,
    TrainingFile,
    check_jsonl,
    count_tokens,
)
from finetune_pricer._chat_protocol import SPECIAL_TOKEN, text_of
from finetune_pricer.errors import DataError, FileAccessError, InvalidItem, NotConfigured, TrainingFileError
from finetune_pricer.local.learners.sparse.dataset import read_examples
from finetune_pricer.prepare.rules import ISSUES, fix_line
from finetune_pricer.providers import PROVIDERS, Provider
from finetune_pricer.tune.preflight import check_count


def example(text: str, reply: Any = "$5.00", **more: Any) -> dict[str, Any]:
    answer = {"role": "assistant", "content": reply} | more
    return {"messages": [{"role": "user", "content": text}, answer]}


GOOD = [json.dumps(example(f"thing {n}")).encode() for n in range(10)]
# Each issue, on a line of its own, with the code and the JSON path that must be reported.
BAD_LINES: list[tuple[bytes, str, str]] = [
    (b'{"messages": [{"role": "user", "content": "caf\xe9"}]}', "unreadable", ""),
    (b'{"messages": [', "json", ""),
    (b'["messages"]', "object", ""),
    (b"   ", "blank", ""),
    (b'{"prompt": "a"}', "messages", "messages"),
    (b'{"messages": []}', "messages", "messages"),
    (json.dumps(example("a") | {"note": 1}).encode(), "key", "note"),
    (json.dumps(example("b", name="x", mood="y")).encode(), "key", "messages[1].mood"),
    (b'{"messages": ["hello"]}', "message", "messages[0]"),
    (b'{"messages": [{"role": "human", "content": "a"}]}', "role", "messages[0].role"),
    (b'{"messages": [{"content": "a"}]}', "role", "messages[0].role"),
    (json.dumps(example("c", 19.99)).encode(), "content", "messages[1].content"),
    (json.dumps(example("d", None)).encode(), "content", "messages[1].content"),
    (b'{"messages": [{"role": "user", "content": "no answer"}]}', "last", "messages[0].role"),
    (json.dumps(example("e", "  ")).encode(), "empty", "messages[1].content"),
    (json.dumps(example("f", "no idea")).encode(), "price", "messages[1].content"),
    (json.dumps(example("g", weight=2)).encode(), "weight", "messages[1].weight"),
    (json.dumps(example("h", weight=True)).encode(), "weight", "messages[1].weight"),
    (json.dumps(example("i <|endoftext|> j")).encode(), "special", "messages[0].content"),
    (json.dumps(example("l" + "ong " * 70_000)).encode(), "long", "messages"),
    (GOOD[3], "duplicate", ""),
    (
        json.dumps({"messages": [{"role": "system", "content": "s"}, *example("k")["messages"]]}).encode(),
        "systems",
        "messages[0]",
    ),
]


def write(lines: list[bytes], name: str = "train.jsonl") -> Path:
    Path(name).write_bytes(b"\n".join(lines) + b"\n")
    return Path(name)


def test_one_pass_names_every_issue_with_its_line_and_place(monkeypatch: pytest.MonkeyPatch) -> None:
    strict = Provider(name="strict", min_examples=100, max_file_bytes=1000)
    monkeypatch.setitem(PROVIDERS, "strict", strict)
    report = check_jsonl(write([*GOOD, *(line for line, *_ in BAD_LINES)]), "strict")
    problems = {problem.code: problem for problem in report.problems}
    for number, (_, code, _path) in enumerate(BAD_LINES, start=11):
        assert number in problems[code].lines, (code, number)
    firsts = {code: path for _, code, path in reversed(BAD_LINES)}
    assert {code: problems[code].path for code in firsts} == firsts
    assert set(problems) == {*firsts, "few", "large"}
    assert set(ISSUES) == {*problems, "mark"}
    assert problems["few"].lines == problems["large"].lines == ()
    assert not report.ok
    page = str(report)
    for number in range(11, 11 + len(BAD_LINES)):
        assert str(number) in page
    assert all(problem.fix and problem.fix in page for problem in report.problems)


def test_an_example_may_be_as_long_as_the_service_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROVIDERS, "short", Provider(name="short", max_example_tokens=50))
    lines = [*GOOD, json.dumps(example("word " * 60)).encode()]
    assert check_jsonl(write(lines)).ok
    [problem] = check_jsonl(write(lines), "short").problems
    assert (problem.code, problem.lines) == ("long", (11,))
    assert "of 50" in problem.what


@pytest.mark.parametrize(("line", "code", "path"), BAD_LINES, ids=lambda value: str(value)[:30])
def test_each_issue_alone_is_the_only_one_reported(line: bytes, code: str, path: str) -> None:
    [problem] = check_jsonl(write([*GOOD, line])).problems
    assert (problem.code, problem.lines, problem.path, problem.count) == (code, (11,), path, 1)


def test_a_good_file_has_nothing_to_fix_and_can_be_handed_on() -> None:
    training = JsonlWriter().write(MadeUpCatalogue().items(50), "train.jsonl")
    report = check_jsonl("train.jsonl")
    assert report.problems == ()
    assert report.ok
    assert str(report) == f"train.jsonl: 50 examples, {training.bytes:,} bytes: nothing to fix"
    handed = report.training_file()
    assert (handed.examples, handed.bytes, handed.sha256) == (50, training.bytes, training.sha256)
    assert (training.formatter, handed.formatter) == (ChatFormatter().fingerprint, None)


def test_an_issue_of_thousands_of_lines_is_one_entry() -> None:
    lines = [json.dumps(example(f"thing {n}", "soon")).encode() for n in range(3000)]
    [problem] = check_jsonl(write(lines)).problems
    assert (problem.count, problem.lines) == (3000, (1, 2, 3, 4, 5))
    assert "3,000 times; also lines 2, 3, 4, 5" in str(problem)


def test_a_file_with_warnings_only_is_fine_and_one_with_errors_is_not_handed_on() -> None:
    assert check_jsonl(write([*GOOD, GOOD[0]])).ok
    with pytest.raises(TrainingFileError, match="unknown role"):
        check_jsonl(write([*GOOD, BAD_LINES[9][0]])).training_file()


def test_messages_with_parts_names_and_tools_are_fine() -> None:
    parts = [{"type": "text", "text": "$5"}, {"type": "text", "text": ".00"}]
    called = {"messages": [*example("a")["messages"], {"role": "tool", "content": "x", "tool_call_id": "1"}]}
    called["messages"] += [
        {"role": "assistant", "content": None, "tool_calls": []},
        example("x")["messages"][1],
    ]
    lines = [example("parts", parts), example("weighted", weight=0, name="pricer"), called]
    assert check_jsonl(write([*GOOD, *(json.dumps(line).encode() for line in lines)])).problems == ()


def test_the_currency_of_the_replies_can_be_another() -> None:
    path = write([json.dumps(example(f"a{n}", "5,00 €")).encode() for n in range(10)])
    assert [problem.code for problem in check_jsonl(path).problems] == ["price"]
    assert check_jsonl(path, currency="EUR").problems == ()


def test_azure_wants_a_byte_order_mark_and_the_writer_can_write_it() -> None:
    items = MadeUpCatalogue().items(10)
    plain, marked = (
        JsonlWriter(encoding=encoding).write(items, f"{encoding}.jsonl")
        for encoding in ("utf-8", "utf-8-sig")
    )
    assert marked.path.read_bytes() == codecs.BOM_UTF8 + plain.path.read_bytes()
    marked.verify()
    assert check_jsonl(marked.path, "azure").problems == check_jsonl(marked.path).problems == ()
    [problem] = check_jsonl(plain.path, "azure").problems
    assert (problem.code, problem.level) == ("mark", "warning")


def test_a_corrected_file_has_lost_what_needs_no_judgement() -> None:
    report = check_jsonl(write([*GOOD, *(line for line, *_ in BAD_LINES)]), "azure")
    correction = report.write_corrected("corrected.jsonl")
    codes = [problem.code for problem in correction.report.problems]
    assert codes == ["price", "systems"]
    assert correction.report.ok
    assert correction.report.examples == 10 + 6
    assert (correction.fixed, correction.removed) == (4, 2)
    unfixable = [number for number, (_, code, _path) in enumerate(BAD_LINES, start=11) if code in UNFIXABLE]
    assert list(correction.left_out) == sorted([*unfixable, 27])  # a weight of 2 may mean either
    content = Path("corrected.jsonl").read_bytes()
    assert content.startswith(codecs.BOM_UTF8)
    assert b"i < |endoftext| > j" in content
    assert b'"weight":1' in content
    assert "2 blank or repeated ones removed" in str(correction)


UNFIXABLE = {
    "unreadable", "json", "object", "messages", "message", "role", "content", "last", "empty", "long"
}  # fmt: skip


def test_a_weight_that_is_no_switch_needs_a_person() -> None:
    report = check_jsonl(write([*GOOD, json.dumps(example("g", weight=2)).encode()]))
    assert report.write_corrected("corrected.jsonl").left_out == (11,)


def test_a_file_that_changed_since_it_was_checked_is_not_corrected() -> None:
    report = check_jsonl(write([*GOOD, b""]))
    write(GOOD)
    with pytest.raises(TrainingFileError, match="has changed"):
        report.write_corrected("corrected.jsonl")


def test_a_file_that_changes_while_it_is_corrected_gives_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    path = write([json.dumps(example(f"thing {n}")).encode() for n in range(1000)])
    report, content = check_jsonl(path), path.read_bytes()

    def fix_line_and_write_anew(line: bytes) -> bytes:
        path.write_bytes(content.replace(b"$5.00", b"$9.00"))
        return fix_line(line)

    monkeypatch.setattr("finetune_pricer.prepare.check.fix_line", fix_line_and_write_anew)
    with pytest.raises(TrainingFileError, match="has changed since it was checked"):
        report.write_corrected("corrected.jsonl")
    assert not Path("corrected.jsonl").exists()


def test_where_nothing_can_be_fixed_nothing_is_written() -> None:
    with pytest.raises(TrainingFileError, match="needs a person"):
        check_jsonl(write([b"{", b"["])).write_corrected("corrected.jsonl")
    assert not Path("corrected.jsonl").exists()


def test_unknown_services_and_missing_files_are_refused() -> None:
    with pytest.raises(NotConfigured, match="there is no provider 'acme'; known: openai"):
        check_jsonl(write(GOOD), "acme")
    with pytest.raises(FileAccessError, match=r"missing\.jsonl"):
        check_jsonl("missing.jsonl")


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
def test_a_file_is_too_small_for_the_checker_where_it_is_for_the_job(provider: Provider) -> None:
    for count in (5, 10):
        path = write((GOOD * 2)[:count])
        codes = [problem.code for problem in check_jsonl(path, provider).problems]
        refused = False
        try:
            check_count(TrainingFile(path=path, examples=count, bytes=1, sha256=""), provider)
        except TrainingFileError:
            refused = True
        assert ("few" in codes) is refused


def test_parts_of_a_text_are_joined_by_nothing_for_the_checker_the_counter_and_the_learner() -> None:
    parts = [{"type": "text", "text": '9" pan, ca'}, {"type": "text", "text": "st iron"}]
    whole = {"role": "user", "content": '9" pan, cast iron'}
    split = {"role": "user", "content": parts}
    reply = {"role": "assistant", "content": "$19.99"}
    assert text_of(split) == whole["content"]
    assert count_tokens([[split, reply]]) == count_tokens([[whole, reply]])
    lines = [json.dumps({"messages": [asked, reply]}).encode() for asked in (split, whole)]
    learned = [read_examples([line], fewest=1)[0].prompt for line in lines]
    assert learned[0] == learned[1] == whole["content"]


def test_the_writer_refuses_special_tokens_and_names_the_row() -> None:
    items = [Item(title="fine", price=1), Item(title="not <|im_end|> fine", price=2)]
    with pytest.raises(InvalidItem, match=r"row 2: the text holds '<\|im_end\|>'"):
        JsonlWriter().write(items, "train.jsonl")
    assert not Path("train.jsonl").exists()
    JsonlWriter().write([Item(title="a <| b |> c", price=1)], "train.jsonl")


def test_the_writer_refuses_text_that_is_no_unicode() -> None:
    with pytest.raises(InvalidItem, match="formatter's own text"):
        JsonlWriter(ChatFormatter(instruction="half \ud83d")).write([Item(title="a", price=1)], "train.jsonl")


def test_text_that_looks_like_the_end_of_a_row_stays_text() -> None:
    texts = ['a}]},{"messages":[{', '"},{"messages":[', '\\"},{\\']
    training = JsonlWriter().write([Item(title=text, price=1) for text in texts], "train.jsonl")
    lines = Path("train.jsonl").read_text().split("\n")
    assert training.examples == len(lines) - 1 == 3
    for line, text in zip(lines, texts, strict=False):
        assert json.loads(line)["messages"][0]["content"].endswith(text)


def test_rows_are_counted_past_the_first_block() -> None:
    items = [*MadeUpCatalogue().items(600), Item(title="<|endoftext|>", price=1)]
    with pytest.raises(InvalidItem, match="row 601: the text holds"):
        JsonlWriter().write(items, "train.jsonl")
    with pytest.raises(InvalidItem, match=r"row 601: .* has no price"):
        JsonlWriter().write([*items[:600], Item(title="none")], "train.jsonl")


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(DataError, match="utf-16"):
        JsonlWriter(encoding="utf-16")  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8"), min_size=1).filter(
                lambda text: not text.isspace() and not SPECIAL_TOKEN.search(text)  # is refused: see above
            ),
            st.floats(0, 1e6),
        ),
        min_size=1,
        max_size=8,
        unique_by=lambda row: row[0],
    )
)
def test_what_is_written_is_read_again_whatever_the_text(rows: list[tuple[str, float]]) -> None:
    formatter = ChatFormatter(system="s", shots=[Item(title="shot", price=3)])
    items = ItemDataset.from_items([Item(title=text, price=price) for text, price in rows], zero_is="price")
    JsonlWriter(formatter).write(items, "train.jsonl")
    lines = Path("train.jsonl").read_text("utf-8").split("\n")
    assert lines.pop() == ""
    for line, (text, price) in zip(lines, rows, strict=True):
        messages = json.loads(line)["messages"]
        assert messages[-2]["content"].endswith(text)
        assert formatter.read(messages[-1]["content"]) == pytest.approx(round(price, 2))
    assert {problem.code for problem in check_jsonl("train.jsonl").problems} <= {"few"}
