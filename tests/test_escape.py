"""What strangers wrote neither runs in a spreadsheet, nor takes a terminal over, nor becomes markup."""

import csv
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import openai
import pytest
import respx
import yaml

from finetune_pricer import (
    Evaluation,
    Evaluator,
    Item,
    ItemDataset,
    ItemSplits,
    Leaderboard,
    audit,
    check_jsonl,
    compare,
)
from finetune_pricer._escape import (
    escape_formula,
    escape_line,
    escape_markdown,
    escape_paragraph,
    escape_text,
)
from finetune_pricer._service import requests
from finetune_pricer.errors import DataError, InvalidItem, PricerError
from finetune_pricer.items.hub import write_folder
from finetune_pricer.predict import Prediction, Predictions
from finetune_pricer.tune import JobEvent
from helpers import refusal

TAKES_OVER = "\x1b]0;mine\x07\x1b[2J\r\x9b1m\x7f\u202egnp.exe\u2066"
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
FAMILY = "\u00a0 no break, \U0001f468\u200d\U0001f469"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a plain lamp, 5 €", "a plain lamp, 5 €"),
        (FAMILY, FAMILY),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("a\nINFO forged\r\tb", "a\\nINFO forged\\r\\tb"),
        ("\x9b31m\x7f", "\\x9b31m\\x7f"),
        ("\u202egnp.exe\u2028\u2066", "\\u202egnp.exe\\u2028\\u2066"),
        ("half \ud83d of it", "half \\ud83d of it"),
    ],
    ids=ascii,
)
def test_a_line_moves_no_cursor(text: str, line: str) -> None:
    assert escape_line(text) == line
    assert escape_line(line) == line
    assert not CONTROL.search(escape_text(text).replace("\t", ""))


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("Black & Decker, $5-7", "Black & Decker, $5-7"),
        ("a\n\n# b  c", "a \\# b c"),
        ("<script>|", "&#60;script&#62;&#124;"),
        ("&lt;b&#62; & &copy", "&amp;lt;b&amp;\\#62; & &copy"),
        ("```~~~", "\\`\\`\\`\\~\\~\\~"),
        ("[a](b) *c* _d_ \\", "\\[a\\](b) \\*c\\* \\_d\\_ \\\\"),
        ("\x1b[2J", "\\\\x1b\\[2J"),
    ],
    ids=ascii,
)
def test_markup_is_shown_as_text(text: str, markdown: str) -> None:
    assert escape_markdown(text) == markdown


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("- a", "\\- a"),
        ("+ a", "\\+ a"),
        ("===", "\\==="),
        ("12. a", "12\\. a"),
        ("1) a", "1\\) a"),
        ("> a", "&#62; a"),
        ("off by 3. It is", "off by 3. It is"),
    ],
)
def test_a_paragraph_begins_no_list(text: str, line: str) -> None:
    assert escape_paragraph(text) == line


FORMULA = re.compile(r"\s*[=+\-@\uff1d]")
FORMULAS = [
    '=HYPERLINK("http://stranger.test","here")',
    "+1+cmd|' /C calc'!A0",
    "-1+1",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "  =1+1",
    "\uff1d1+1",
    "a;=1+1",
    "a;b\t@SUM(A1)",
]


@pytest.mark.parametrize("text", FORMULAS, ids=ascii)
def test_no_cell_begins_as_a_formula_does(text: str) -> None:
    safe = escape_formula(text)
    assert not any(FORMULA.match(cell) for cell in re.split(r"[;\t]", safe))
    assert safe.replace("'", "") == text.replace("'", "")


@pytest.mark.parametrize("text", ["$5.00", "a lamp - new", "5 + 3; 2", "", "it's"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert escape_formula(text) == text


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_csv_for_people_holds_no_formula_and_one_for_programs_holds_what_was_said(tmp_path: Path) -> None:
    made = Predictions(
        Prediction(item_id=text, price=5.0, low=-1.5, text=text, error=text) for text in FORMULAS
    )
    made.to_csv(tmp_path / "programs.csv")
    made.to_csv(tmp_path / "people.csv", formulas="escape")
    assert [row["item_id"] for row in rows_of(tmp_path / "programs.csv")] == FORMULAS
    for row in rows_of(tmp_path / "people.csv"):
        assert [row["price"], row["low"]] == ["5.0", "-1.5"]
        assert not any(FORMULA.match(row[name]) for name in ("item_id", "reply", "error"))


def test_another_word_for_formulas_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'keep' or 'escape', not 'run'"):
        Predictions([]).to_csv(tmp_path / "a.csv", formulas="run")  # type: ignore[arg-type]
    assert not (tmp_path / "a.csv").exists()


def test_half_a_character_in_a_reply_does_not_cost_the_file(tmp_path: Path) -> None:
    Predictions([Prediction(item_id="a", price=5.0, text="$5 \ud83d")]).to_csv(tmp_path / "a.csv")
    assert rows_of(tmp_path / "a.csv")[0]["reply"] == "$5 \\ud83d"


# What is printed.


def evil(count: int) -> ItemDataset:
    return ItemDataset.from_items(
        Item(
            id=f"{TAKES_OVER}{n}",
            title=f"{TAKES_OVER} {n}",
            category=f"{TAKES_OVER}\n12:00:00 succeeded {n % 2}",
            price=n + 1.0,
        )
        for n in range(count)
    )


def evaluate(name: str) -> Evaluation:
    return Evaluator().evaluate(lambda item: (item.price or 0) + 1, evil(20), name=name)


def unpriced() -> InvalidItem:
    with pytest.raises(InvalidItem) as caught:
        Evaluator().evaluate(lambda _: 1.0, ItemDataset.from_items([Item(title=TAKES_OVER)]))
    return caught.value


def file_with_a_key() -> Path:
    Path("train.jsonl").write_text('{"messages": [{"role": "user", "content": "a"}], "\\u001b[2J\\n": 1}\n')
    return Path("train.jsonl")


SHOWN: dict[str, Callable[[], object]] = {
    "describe": lambda: evil(20).describe(),
    "audit": lambda: audit(evil(20), test=evil(3)),
    "event": lambda: JobEvent(id="e", created_at=0, message=f"{TAKES_OVER}\n12:00:00 succeeded"),
    "leaderboard": lambda: Leaderboard([evaluate(TAKES_OVER), evaluate("b")]),
    "comparison": lambda: compare(evaluate(TAKES_OVER), evaluate("b")),
    "markdown": lambda: evaluate(TAKES_OVER).to_markdown(),
    "card": lambda: evaluate(TAKES_OVER).model_card(license="mit\ntags: [x]"),
    "error": lambda: PricerError(TAKES_OVER),
    "unpriced item": unpriced,
    "training file": lambda: check_jsonl(file_with_a_key()),
}


@pytest.mark.parametrize("show", SHOWN.values(), ids=SHOWN)
def test_nothing_that_is_shown_takes_a_terminal_over(show: Callable[[], object]) -> None:
    text = str(show())
    assert not CONTROL.search(text), ascii(CONTROL.findall(text))
    assert not re.search(r"^12:00:00 succeeded", text, re.MULTILINE)


@pytest.mark.parametrize(
    "answer",
    [
        refusal(400, f"{TAKES_OVER}\nERROR forged"),
        httpx.Response(400, text=f"{TAKES_OVER}\nERROR forged"),
        httpx.Response(200, json={"error": {"message": f"{TAKES_OVER}\nERROR forged"}}),
    ],
    ids=["refusal", "page", "gateway"],
)
def test_what_a_service_says_comes_as_one_plain_line(
    client: openai.OpenAI, service: respx.MockRouter, answer: httpx.Response
) -> None:
    service.post("/chat/completions").mock(answer)
    with pytest.raises(PricerError) as caught:
        requests.send(client, requests.ask_model("m", [], {}))
    assert "mine" in caught.value.message
    assert not CONTROL.search(caught.value.message)
    assert "\n" not in caught.value.message


# The card of a data set.


@pytest.mark.parametrize(
    "poison",
    ["```\n# Mine\n<script>alert(1)</script>", "~~~", "````````", "---\ngated: false", TAKES_OVER],
    ids=ascii,
)
def test_the_card_of_a_data_set_keeps_what_strangers_wrote_in_its_place(tmp_path: Path, poison: str) -> None:
    items = ItemDataset.from_items(Item(title=f"{poison} {n}", category=poison, price=n) for n in range(9))
    items = ItemDataset(items.table, history=[f"9 rows read from {poison!r}", poison])
    splits = ItemSplits(items, items, items)
    licence = f"mit\ngated: {poison}".replace(TAKES_OVER, "false")
    write_folder(splits._for_hub(), tmp_path, title=f"me/{poison}", licence=licence)
    _, head, body = re.split("^---\n", (tmp_path / "README.md").read_text(), maxsplit=2, flags=re.MULTILINE)
    assert yaml.safe_load(head).keys() == {"license", "configs"}
    assert yaml.safe_load(head)["license"] == licence
    outside, fence = list[str](), ""
    for line in body.splitlines():
        marks = re.match(r"(`{3,}|~{3,})", line)
        if marks is not None and (not fence or line.strip() == fence):
            fence = "" if fence else marks.group()
        elif not fence:
            outside.append(line)
    assert not fence
    assert len([line for line in outside if line.startswith("#")]) == 4
    assert not any("<" in line or CONTROL.search(line) for line in outside)


def test_titles_stand_beside_the_prices_of_the_items_they_belong_to(tmp_path: Path) -> None:
    items = [Item(id="a", title="=a lamp", price=1), Item(id="b", summary="a mat")]
    found = Predictions(Prediction(item_id=item.id, price=5.0) for item in items)
    found.to_csv(tmp_path / "priced.csv", items=items, formulas="escape")
    with (tmp_path / "priced.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["item_id"], row["title"], row["price"]) for row in rows] == [
        ("a", "'=a lamp", "5.0"),
        ("b", "", "5.0"),
    ]
    for others, words in (
        (items[:1], "1 items for 2 predictions"),
        (items[::-1], "row 1: the prediction is of"),
    ):
        with pytest.raises(DataError, match=words):
            found.to_csv(tmp_path / "priced.csv", items=others)
    assert len((tmp_path / "priced.csv").read_text().splitlines()) == 3
