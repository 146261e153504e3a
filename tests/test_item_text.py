"""What a model sees of an item: which fields, in which form, and the same text wherever it is used."""

import os
from pathlib import Path
from typing import Any

import openai
import orjson
import pytest
import respx

from finetune_pricer import (
    ChatFormatter,
    Evaluator,
    Item,
    ItemDataset,
    JsonlWriter,
    Predictor,
    audit,
    count_tokens,
)
from finetune_pricer.errors import DataError, InvalidItem
from finetune_pricer.evaluate import RidgeBaseline
from helpers import asked_for, reply

LAMP = Item(id="lamp", title="Brass lamp", category="Home", summary="Of brass.", full="All of it.", price=60)

# A title, a description, and whether the title is put above it.
TITLES = [
    ("Brass lamp", "A desk lamp of brass.", True),
    ("Brass lamp", "A lamp.\nBrass lamp, 40 cm", True),
    ("Pen", "A pencil case", True),
    ("Lamp 4", "Lamp 40", True),
    ("Brass desk lamp", "Brass lamp for desks", True),
    ("Brass lamp", "Sub-title: of brass", True),
    ("Brass lamp", "Subtitle: of brass", True),
    ("白橡木餐桌", "这款餐桌采用北美进口白橡木", True),
    ("ランプ", "ラップ 30 cm", True),
    ("★★★", "☆☆☆ of brass", True),
    ("Brass lamp", "Brass lamp\nOf brass.", False),
    ("Brass lamp", "The BRASS  LAMP is 40 cm high.", False),
    ("Brass-lamp!", "brass lamp (40 cm)", False),
    ("Brass lamp", "\n\n  Brass lamp\nOf brass.", False),
    ("Brass lamp", "**Brass lamp**\r\nOf brass.", False),
    ("Brass lamp", "<h1>Brass lamp</h1><p>Of brass.</p>", False),
    ("Brass lamp", "Title: Lamp, of brass  \nCategory: Home  \nBrand: Nordvik", False),
    ("Brass lamp", "**Title:** Lamp, of brass\nCategory: Home", False),
    ("Brass lamp", "TITLE : Lamp", False),
    ("Brass\u2011lamp", "Brass\u2010lamp, 40 cm", False),
    ("\uff22rass lamp", "Brass lamp", False),
    ("白橡木餐桌", "这款白橡木餐桌采用北美", False),
    ("★★★", "★★★ of brass", False),
    ("दीया", "पीतल का दीया", False),
]


@pytest.mark.parametrize(("title", "description", "above"), TITLES, ids=lambda value: str(value)[:24])
@pytest.mark.parametrize("field", ["summary", "full"])
def test_the_title_stands_above_a_description_that_does_not_say_it_first(
    title: str, description: str, above: bool, field: str
) -> None:
    item = (
        Item(title=title, summary=description) if field == "summary" else Item(title=title, full=description)
    )
    expected = f"{title}\n{description}" if above else description
    assert item.text == expected
    assert ChatFormatter("").prompt(item)[0]["content"] == expected


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (("title", "summary"), "Brass lamp\nOf brass."),
        (("summary",), "Of brass."),
        (("summary", "title"), "Of brass.\nBrass lamp"),
        (("title", "category", "summary"), "Brass lamp\nHome\nOf brass."),
        (("title",), "Brass lamp"),
        (["full"], "All of it."),
        (("summary", "full"), "Of brass.\nAll of it."),
    ],
    ids=str,
)
def test_the_fields_are_shown_below_one_another(fields: Any, text: str) -> None:
    assert ChatFormatter("", fields=fields).prompt(LAMP)[0]["content"] == text


@pytest.mark.parametrize(
    ("item", "fields", "text"),
    [
        (Item(full="All of it."), ("title", "summary"), "All of it."),
        (Item(full="All of it.", summary=" "), ("summary",), "All of it."),
        (Item(full="All of it.", summary=" "), ("summary", "full"), "All of it."),
        (Item(title=" Lamp\n", summary="Of brass. \n"), ("title", "summary"), "Lamp\nOf brass. \n"),
        (Item(title=" Lamp\n"), ("title", "summary"), " Lamp\n"),
        (Item(title=" ", category="", summary="Of brass."), ("title", "category", "summary"), "Of brass."),
        (
            Item(title="Lamp", category="Lamp", summary="A lamp"),
            ("title", "category", "summary"),
            "Lamp\nA lamp",
        ),
    ],
    ids=repr,
)
def test_what_is_blank_is_not_shown_and_the_listing_stands_in_for_the_summary(
    item: Item, fields: tuple[str, ...], text: str
) -> None:
    assert ChatFormatter("", fields=fields).prompt(item)[0]["content"] == text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ("title", r"fields are several: fields=\('title',\)"),
        ((), "at least one of 'title', 'category', 'summary', 'full'"),
        (("title", "title"), "each once"),
        (("title", "price"), "cannot show 'price'; it shows some of 'title', 'category', 'summary', 'full'"),
        (("id",), "cannot show 'id'"),
        (("text",), "cannot show 'text'"),
        ((1,), "cannot show 1"),
    ],
    ids=repr,
)
def test_fields_that_make_no_text_are_refused(fields: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        ChatFormatter(fields=fields)
    with pytest.raises(DataError, match=words):
        audit(ItemDataset.from_items([LAMP]), fields=fields, similarity=None)


def test_the_fields_are_part_of_the_fingerprint_only_where_they_are_not_the_default() -> None:
    # What earlier versions gave: the metadata of older jobs holds it.
    assert ChatFormatter(reply="$19.99").fingerprint == "65b14d75655bee92"
    assert ChatFormatter(fields=["title", "summary"]) == ChatFormatter()
    assert hash(ChatFormatter(fields=["title", "summary"])) == hash(ChatFormatter())
    others = [("summary",), ("title",), ("summary", "title"), ("title", "category", "summary")]
    assert len({ChatFormatter(fields=fields).fingerprint for fields in [*others, ("title", "summary")]}) == 5


def test_an_item_without_any_of_the_fields_is_refused_with_its_row(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    items, formatter = [LAMP, Item(id="mat", title="Mat", price=5)], ChatFormatter(fields=("summary",))
    words = "item 'mat' has no text: it has none of the fields 'summary'"
    with pytest.raises(InvalidItem, match=words):
        formatter.prompt(items[1])
    with pytest.raises(InvalidItem, match=f"row 2: {words}; 'train.jsonl' was not written"):
        JsonlWriter(formatter).write(items, "train.jsonl")
    with pytest.raises(InvalidItem, match=f"train row 2: {words}"):
        audit(ItemDataset.from_items(items), fields=("summary",), similarity=None)
    with pytest.raises(InvalidItem, match="row 2, " + words):
        RidgeBaseline.fit(ItemDataset.from_items(items), fields=("summary",))
    service.post("/chat/completions").mock(reply("$5.00"))
    found = Predictor(client, "m", formatter=formatter).predict_many(items)
    assert [prediction.price for prediction in found] == [5.0, None]
    assert words in (found[1].error or "")


@pytest.mark.parametrize("fields", [("title", "summary"), ("summary",), ("title", "category", "summary")])
def test_an_item_is_written_asked_about_counted_and_audited_by_the_same_text(
    fields: tuple[str, ...], client: openai.OpenAI, service: respx.MockRouter
) -> None:
    formatter = ChatFormatter(fields=fields)
    leaky = Item(id="a", title="Brass lamp", category="only $59.90", summary="Of brass, large", price=59.9)
    written = JsonlWriter(formatter).write([leaky], "train.jsonl")
    line = orjson.loads(Path("train.jsonl").read_bytes())["messages"]
    route = service.post("/chat/completions").mock(reply("$5.00"))
    Predictor(client, "m", formatter=formatter).predict(leaky)
    text = asked_for(route.calls.last.request)
    assert line[0]["content"].endswith(f"\n\n{text}")
    assert text.splitlines() == [getattr(leaky, name) for name in fields]
    assert count_tokens(written) == count_tokens([formatter.example(leaky)])
    found = audit(ItemDataset.from_items([leaky]), fields=fields, similarity=None)
    assert found.ok == ("category" not in fields)


def test_twins_are_twins_by_what_is_shown_of_them() -> None:
    items = ItemDataset.from_items(
        Item(id=colour, title=f"{colour} lamp", summary="A lamp of brass for the desk", price=20)
        for colour in ("red", "blue")
    )
    assert not audit(items, similarity=None).of("duplicate")
    assert len(audit(items, similarity=None, fields=("summary",)).of("duplicate")) == 1


def test_the_baselines_see_what_the_model_sees(client: openai.OpenAI, service: respx.MockRouter) -> None:
    # The price stands in the category alone.
    items = [
        Item(id=str(n), title="Lamp", category=f"class{n % 2}", price=(10, 1000)[n % 2]) for n in range(60)
    ]
    train, test = ItemDataset.from_items(items[:40]), items[40:]
    service.post("/chat/completions").mock(reply("$5.00"))
    evaluator, errors = Evaluator(baselines=train, rounds=10), {}
    for fields in (("title",), ("title", "category")):
        formatter = ChatFormatter(fields=fields)
        evaluation = evaluator.evaluate(Predictor(client, "m", formatter=formatter), test)
        ridge = next(one for one in evaluation.baselines if one.name == RidgeBaseline.name)
        errors[fields] = ridge.mae.value
    assert errors["title", "category"] < errors["title",] / 2


def test_a_preview_shows_the_text_the_question_and_what_is_learned() -> None:
    formatter = ChatFormatter("How much?", system="You price things.")
    assert formatter.preview(LAMP).splitlines() == [
        "the item's text (title, summary), 20 characters:",
        "    Brass lamp",
        "    Of brass.",
        "what is asked:",
        "  system:",
        "    You price things.",
        "  user:",
        "    How much?",
        "",
        "    Brass lamp",
        "    Of brass.",
        "what is learned:",
        "  assistant:",
        "    $60.00",
    ]
    unpriced = formatter.preview(Item(title="Lamp \x1b[31m"))
    assert "what is learned" not in unpriced
    assert "Lamp \\x1b[31m" in unpriced
    assert formatter.preview("A lamp").startswith("the text, 6 characters:\n    A lamp\nwhat is asked:")
    with pytest.raises(InvalidItem, match="an empty text"):
        formatter.preview(" ")


@pytest.mark.data
def test_the_courses_summaries_stay_byte_for_byte_as_they_are() -> None:
    folder = Path(os.environ.get("FINETUNE_PRICER_DATA", "../shared/data")) / "amazon"
    if not folder.exists():
        pytest.skip(f"no real items in {folder}; FINETUNE_PRICER_DATA names their folder")
    labelled = [
        item for split in ItemDataset.from_hub(folder) for item in split if item.text.startswith("Title: ")
    ]
    assert len(labelled) > 500
    assert all(item.text == item.summary for item in labelled)
