"""How reports look: scales, small categories, phones, dark screens, keys, and the size of a mail."""

import hashlib
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import Browser
from evaluate_helpers import evaluated, things
from finetune_pricer import Evaluation, Evaluator, Item, Leaderboard, Prediction, compare
from finetune_pricer.evaluate.report import plotly_js
from finetune_pricer.evaluate.report.axes import PriceScale
from finetune_pricer.evaluate.report.content import collect_evaluation, slice_table

KINDS = ("scatter", "running", "bands", "categories", "calibration", "ranges")
NASTY = "<img src=x onerror=alert(1)>"


def scored(prices: list[float], *, off: float = 1.1, **fields: Any) -> Evaluation:
    items = [Item(title=f"Thing {at}", price=price, **fields) for at, price in enumerate(prices)]
    return Evaluator(rounds=50).score(items, [off * price for price in prices], name="model")


def ranged() -> Evaluation:
    train, test = things(60), things(60, seed=2, start=100)
    pricer = Evaluator(baselines=train, rounds=50)

    def asked(item: Item) -> Any:
        price = item.price or 0.0
        return Prediction(item_id=item.id, price=price * 1.1, low=price, high=2 * price, text="")

    return pricer.evaluate(asked, test, name=NASTY)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    ranged().to_html(path)
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("dearest", "scale"), [(499.0, "linear"), (501.0, "log")])
def test_axes_are_logarithmic_where_prices_span_more_than_a_factor_of_50(dearest: float, scale: str) -> None:
    prices = [10.0] * 10 + [50.0] * 10 + [dearest] * 10
    for kind in ("scatter", "calibration"):
        figure = scored(prices, off=1.0).figure(kind)
        assert (figure.layout.xaxis.type, figure.layout.yaxis.type) == (scale, scale)
        [menu] = figure.layout.updatemenus
        assert [button.label for button in menu.buttons] == ["linear", "log"]
        assert menu.buttons[menu.active].label == scale


def test_a_wide_comparison_opens_on_logarithmic_axes_on_which_no_item_is_lost(tmp_path: Path) -> None:
    a, b = scored([1.0, 10.0, 500.0]), scored([1.0, 10.0, 500.0], off=1.0)
    compare(a, b, rounds=50).to_html(tmp_path / "pair.html")
    page = (tmp_path / "pair.html").read_text()
    assert re.findall(r'aria-pressed="true">(\w+)<', page) == ["log"]
    assert re.findall(r'aria-pressed="false">(\w+)<', page) == ["linear"]


def test_ticks_of_logarithmic_axes_are_amounts_that_people_say() -> None:
    few = PriceScale.of([3.0, 450.0], "EUR").logarithmic
    assert few["ticktext"] == ["€5", "€10", "€20", "€50", "€100", "€200"]
    many = PriceScale.of([0.05, 90_000.0], "USD").logarithmic
    assert many["ticktext"] == ["$0.10", "$1", "$10", "$100", "$1,000", "$10,000"]
    assert PriceScale.of([0.0], "USD").is_wide is False
    assert PriceScale.of([-5.0, 5.0, float("inf")], "USD").linear["range"][0] < -5


def test_prices_that_no_logarithmic_axis_can_show_are_counted() -> None:
    items = [Item(title=f"Thing {at}", price=float(at)) for at in range(1, 101)]
    found = Evaluator(rounds=50).score(items, [-5.0, -1.0, *[float(at) for at in range(3, 101)]])
    assert "; 2 at $0 or below on linear axes only" in found.figure("scatter").layout.xaxis.title.text


def test_the_running_error_begins_where_it_means_something() -> None:
    errors = [5_000.0, *[10.0] * 59]
    many, few = evaluated(errors).figure("running"), evaluated(errors[:30]).figure("running")
    assert min(many.data[-1].x) == 20
    assert min(few.data[-1].x) == 1


def of_categories(**counts: int) -> Evaluation:
    names = [name for name, count in counts.items() for _ in range(count)]
    items = [Item(title=f"Thing {at}", category=name, price=10.0) for at, name in enumerate(names)]
    return Evaluator(rounds=50).score(items, [11.0] * len(items))


def test_small_categories_are_one_line_at_the_end() -> None:
    found = of_categories(big=9, middling=5, small=4, lone=1, other=1)
    shown = collect_evaluation(found).categories
    assert [(one.label, one.n) for one in shown] == [("big", 9), ("middling", 5), ("3 other categories", 6)]
    assert len(found.figure("categories").data[0].y) == 3
    assert len(found.by_category()) == 5
    alone = collect_evaluation(of_categories(big=9, middling=5, lone=1)).categories
    assert [one.label for one in alone] == ["big", "middling", "lone"]
    assert len(slice_table(shown, "USD").rows) == 3


def test_a_long_list_of_categories_is_folded_too() -> None:
    found = of_categories(**{f"kind {at}": 6 for at in range(20)})
    shown = collect_evaluation(found).categories
    assert len(shown) == 16
    assert (shown[-1].label, shown[-1].n) == ("5 other categories", 30)


def test_a_lone_item_has_no_bar_for_its_unknown_interval() -> None:
    bars = of_categories(big=9, lone=1).figure("categories").data[0].error_x
    assert bars.array[0] is None or np.isnan(bars.array[0])
    assert bars.array[1] >= 0


def test_a_phone_keeps_the_columns_that_matter(page: str) -> None:
    heads = re.findall(r"<th(?: class=\"([\w ]+)\")? scope=\"col\">([^<]*)</th>", page)
    spare = {text for kinds, text in heads if "spare" in kinds.split()}
    assert {"category", "RMSE", "r²", "bias"} <= spare
    assert not {"MAE", "95 % interval", "median error", "actual", "predicted", "off by"} & spare
    cells = re.findall(r"<t[hd][^>]*spare", page)
    assert len(cells) > len(spare)  # cells, too, not heads alone
    assert "@media (max-width: 40rem)" in page


def test_each_figure_says_in_words_what_it_shows(page: str) -> None:
    said = re.findall(r'<div class="figure" role="img" aria-label="([^"]+)"', page)
    assert len(said) == page.count('class="plotly-graph-div"') == 6
    assert any("Predicted against actual prices of 60 items" in unescape(one) for one in said)
    assert any("Mean absolute error:" in one for one in said)


def test_scales_are_chosen_by_buttons_that_keys_reach(page: str) -> None:
    buttons = re.findall(r'<button type="button" data-changes="([^"]+)"', page)
    assert len(buttons) == 4
    assert all('"xaxis.type"' in unescape(one) for one in buttons)
    assert '"updatemenus":[{' not in page
    assert page.count('tabindex="0" role="region"') == page.count('<div class="scroll"')


def test_the_script_is_that_which_npm_has_and_draws_all_that_is_drawn() -> None:
    script = plotly_js.read_script()
    assert hashlib.sha256(script.encode()).hexdigest() == plotly_js.SHA256
    assert f"plotly.js (basic - minified) v{plotly_js.VERSION}" in script[:200]
    assert "</script" not in script
    folder = Path(plotly_js.__file__).parent
    assert "Permission is hereby granted, free of charge" in (folder / "LICENSE.txt").read_text()
    found = ranged()
    drawn = [found.figure(kind) for kind in KINDS]
    assert {trace.type for figure in drawn for trace in figure.data} <= plotly_js.CHART_TYPES


def test_a_report_of_many_items_can_be_mailed(tmp_path: Path) -> None:
    count = 2_200
    items = [
        Item(title=f"{'a long title ' * 6}{at}", category=f"kind {at % 40}", price=1.0 + at)
        for at in range(count)
    ]
    prices = np.random.default_rng(0).uniform(1, count, count).tolist()
    found = Evaluator(rounds=20).score(items, prices, groups=range(count))
    found.to_html(tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 1_500_000


def test_pages_are_dark_on_dark_screens_and_white_on_paper(page: str, tmp_path: Path) -> None:
    Leaderboard([evaluated([1.0, 2.0])], rounds=20).to_html(tmp_path / "board.html")
    for text in (page, (tmp_path / "board.html").read_text()):
        assert "@media screen and (prefers-color-scheme: dark)" in text
        assert "@media print" in text


@pytest.mark.acceptance
def test_a_browser_shows_the_report_in_the_dark_and_changes_scales(page: str, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(page)
    with Browser() as browser:
        dark = [{"name": "prefers-color-scheme", "value": "dark"}]
        browser.call("Emulation.setEmulatedMedia", media="screen", features=dark)
        browser.open(tmp_path / "report.html", width=400)
        colour = "getComputedStyle(document.querySelector('{}')).{}"
        ink = browser.run("getComputedStyle(document.body).color")
        assert browser.run(colour.format(".figure .xtick text", "fill")) == ink == "rgb(231, 231, 236)"
        assert browser.run(colour.format("body", "backgroundColor")) == "rgb(21, 23, 27)"
        shown = "getComputedStyle(document.querySelector('th.spare')).display"
        assert browser.run(shown) == "none"
        axis = "document.querySelector('.js-plotly-plot').layout.xaxis.type"
        before = browser.run(axis)
        browser.run("document.querySelector('button[aria-pressed=false]').click()")
        assert {before, browser.run(axis)} == {"log", "linear"}
        assert browser.errors == []
        browser.call("Emulation.setEmulatedMedia", media="print", features=dark)
        assert browser.run(colour.format("body", "backgroundColor")) == "rgb(255, 255, 255)"
