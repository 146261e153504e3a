"""HTML in texts: what is taken out, what stays, and how long it takes."""

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_pricer import ItemDataset
from finetune_pricer.items.markup import has_markup, strip_markup

MARKED_UP = {
    "blocks": ("<p>Lamp &amp; <b>shade</b></p><ul><li>5 &lt; 6</ul>", "Lamp & shade\n5 < 6"),
    "breaks": ("a<br>b<BR/>c<br />d", "a\nb\nc\nd"),
    "cells": ("<table><tr><td>a</td><td>b</td></tr></table>", "a b"),
    "inline": ("H<sub>2</sub>O <span class='x'>now</span>", "H2O now"),
    "escaped twice": ("Tom &amp;amp; Jerry &amp;lt;3", "Tom & Jerry <3"),
    "escaped as a whole": ("&lt;p&gt;Nice&lt;/p&gt;", "Nice"),
    "scripts": ("x<script>var a='<b>';</SCRIPT >y<style>p{}</style>z", "xyz"),
    "comments": ('<!-- c > -->k<!DOCTYPE html PUBLIC "-//W3C"><br/>m', "k\nm"),
    "literal": ("<![CDATA[<p>hi</p>]]>", "hi"),
    "Word": ("<o:p>&nbsp;</o:p>w", " w"),
    "a > in an attribute": ("<img src='data:a>b' alt=\"x\"/>t", "t"),
    "no quotes": ("<p class=foo width=100% hidden>q", "q"),
    "numbers": ("&#8364;5 &#x20AC;6", "€5 €6"),
}


@pytest.mark.parametrize(("text", "plain"), MARKED_UP.values(), ids=MARKED_UP)
def test_markup_is_taken_out(text: str, plain: str) -> None:
    assert has_markup(text)
    assert strip_markup(text) == plain


TEXTS = [
    "I <3 lamps",
    "a < b",
    "a<b",
    "5 < 6 > 2",
    "x <b and c> y",
    "<insert name>",
    "Tom & Jerry, AT&T; R&D",
    "&notanentity; &copy 2020",
    "<p class='unclosed>x",
    "<http://x.y> <mailto:a@b> <foo@bar.com>",
    "  two  spaces \r\n\n and lines\t",
    "",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_without_markup_stays_byte_for_byte(text: str) -> None:
    assert not has_markup(text)
    assert strip_markup(text) == text


@given(st.text(alphabet="<>/&;#ab p\"'=!-[]0x\n", max_size=60))
@settings(max_examples=300, deadline=None)
def test_a_text_is_changed_where_it_has_markup_and_only_there(text: str) -> None:
    assert (strip_markup(text) != text) == has_markup(text)


HOSTILE = [
    "<",
    "<a ",
    '<a x="',
    "<a x='<a y=\"' ",
    "<!--",
    "<script>",
    "<![CDATA[",
    "&amp;",
    "&#38;",
    "<<b>b>",
    "<b hidden ",
    '<b a=\'<b x="\' y=" hidden d="',
    "<b a=1 a=1 a=1 a=1 ",
    "<b a=\"<b a='",
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_hostile_texts_take_no_longer_than_their_length_says(unit: str) -> None:
    def seconds(size: int) -> float:
        text = (unit * (size // len(unit)))[:size]
        start = time.process_time()
        strip_markup(text)
        return time.process_time() - start

    short = min(seconds(4_000) for _ in range(3))
    # Eight times the length; a quadratic scan would take 64 times as long.
    assert min(seconds(32_000) for _ in range(3)) < 24 * max(short, 0.001)


def test_texts_are_read_without_html_and_the_set_says_how_many() -> None:
    rows: list[dict[str, Any]] = [
        {
            "title": "Lamp &amp; shade",
            "summary": "<p>Brass</p><p>New",
            "category": "Home &amp; Garden",
            "price": 1,
        },
        {"title": "Mug <3", "summary": None, "category": "Toys & Games", "price": 2},
    ]
    items = ItemDataset.from_records(rows)
    assert (items[0].title, items[0].summary, items[0].category) == (
        "Lamp & shade",
        "Brass\nNew",
        "Home & Garden",
    )
    assert (items[1].title, items[1].category) == ("Mug <3", "Toys & Games")
    assert items.history[-1] == "3 texts freed of HTML"
    kept = ItemDataset.from_records(rows, html="keep")
    assert (kept[0].summary, kept.history) == (
        "<p>Brass</p><p>New",
        ("2 rows read from the list of records",),
    )


def test_one_text_is_told_as_one() -> None:
    items = ItemDataset.from_records([{"title": "a &amp; b", "price": 1}])
    assert items.history[-1] == "1 text freed of HTML"


def test_a_row_whose_text_is_all_markup_has_no_text() -> None:
    items = ItemDataset.from_records(
        [{"title": "<p></p>", "price": 1}, {"title": "Mug", "price": 1}], on_error="skip"
    )
    assert [(problem.row, problem.field) for problem in items.skipped] == [(1, "text")]
