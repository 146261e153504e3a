"""Reports: what they say, that titles are text, and that a browser draws them without asking for anything."""

import re
import subprocess
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from browser import Browser
from evaluate_helpers import evaluated, things
from finetune_pricer import Evaluation, Evaluator, Item, ItemDataset, Prediction, compare
from finetune_pricer.errors import EvaluationError, RowProblem
from finetune_pricer.evaluate.report.content import left_out_table

NASTY = "<script>alert('x')</script><img src=https://example.com/x.png>"


def rich(name: str = "tuned") -> Evaluation:
    """An evaluation with everything that a report can show."""
    train, test = things(200), list(things(150, seed=1, start=500))
    test[3] = Item(id="nasty", title=NASTY, category=NASTY, price=5.0)

    def asked(item: Item) -> Prediction:
        if item.id.endswith("7"):
            raise ValueError(NASTY)
        price = 1.02 * (item.price or 0)
        return Prediction(item_id=item.id, price=price, low=price / 2, high=price * 1.2, text=NASTY)

    return Evaluator(baselines=train, rounds=200).evaluate(asked, test, name=name)


def test_the_report_says_all_that_was_found(tmp_path: Path) -> None:
    found = rich()
    found.to_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for heading in (
        "Beside the baselines",
        "Predicted against actual",
        "Running error",
        "Error by price",
        "Error by category",
        "Calibration",
        "Price ranges",
        "All metrics",
        "Worst misses",
        "Unscored",
        "Cost",
        "To do it again",
    ):
        assert f"<h2>{heading}</h2>" in page, heading
    assert f"<b>${found.mae.value:,.2f}</b> off on average" in page
    assert "10% of the items are unscored" in page
    assert "This model is better than" in page
    assert found.manifest["items hash"] in page


def test_the_report_says_what_became_of_each_row_of_a_file(tmp_path: Path) -> None:
    rows = [
        ["Lamp", "12"],
        ["Mat", "<b>call us</b>"],
        *([f"Mug {n}", f"{n}.50"] for n in range(10)),
        ["Rug", ""],
    ]
    lines = (f'"{title}","{price}"' for title, price in [("title", "price"), *rows])
    (tmp_path / "shop.csv").write_text("\n".join(lines))
    items = ItemDataset.from_file(tmp_path / "shop.csv", on_error="skip")

    Evaluator(rounds=100).evaluate(lambda _: 9.0, items).to_html(tmp_path / "report.html", items=items)
    page = (tmp_path / "report.html").read_text()

    assert "13 rows read from" in page
    assert [problem.row for problem in items.skipped] == [2, 13]
    for problem in items.skipped:
        assert f'<td class="text">{problem.row} (line {problem.line})</td>' in page
        assert problem.reason in unescape(page)
    assert "<b>call us" not in page


def test_a_report_shows_a_thousand_rows_that_were_left_out_and_counts_the_others() -> None:
    problem = RowProblem(row=1_234, field="price", value="'x'", reason="no price in 'x'")
    items = things(3)
    table = left_out_table(ItemDataset(items.table, skipped=[problem] * 1_001))
    assert len(table.rows) == 1_001
    assert table.rows[0][0] == "1,234"
    assert table.rows[-1][-1] == "and 1 more, in `skipped`"


def test_a_title_with_html_in_it_is_text(tmp_path: Path) -> None:
    rich(NASTY).to_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert NASTY not in page
    assert "<img" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def test_a_comparison_has_a_report(tmp_path: Path) -> None:
    a, b, c = (
        evaluated(np.linspace(0, 60, 40) + at, name=name) for at, name in ((0, "a"), (20, "b"), (0, NASTY))
    )
    compare(a, b, c, rounds=500).to_html(tmp_path / "pair.html")
    page = (tmp_path / "pair.html").read_text()
    assert "a is better than b: $20.00 nearer" in page
    assert "cannot be told apart" in page
    assert NASTY not in page


def test_the_markdown_report_keeps_its_tables_whole() -> None:
    text = rich(NASTY).to_markdown()
    assert "<script>" not in text
    assert "## Worst misses" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} <= {3, 6, 7, 8}
    assert "10% of the items are unscored" in text


def test_the_model_card_holds_the_metrics_where_the_hub_looks_for_them() -> None:
    from huggingface_hub import ModelCard, ModelCardData

    found = rich()
    card = ModelCard(found.model_card(base_model="open/base-1", license="mit"))
    assert isinstance(card.data, ModelCardData)
    results = {result.metric_type: result for result in card.data.eval_results or []}
    assert results["mae"].metric_value == pytest.approx(found.mae.value, abs=1e-6)
    assert "95% CI" in str(results["mae"].metric_name)
    assert card.data.base_model == "open/base-1"
    assert "## Metrics" in card.content


def test_every_figure_is_drawn_for_notebooks() -> None:
    found = rich()
    for kind in ("scatter", "running", "bands", "categories", "calibration", "ranges"):
        assert found.figure(kind).to_dict()["data"], kind
    assert found.figure("scatter", log=True).layout.xaxis.type == "log"
    assert found.figure("scatter", log=False).layout.xaxis.type == "linear"
    with pytest.raises(EvaluationError, match="no figure 'pie'; choose one of scatter, running"):
        found.figure("pie")
    with pytest.raises(EvaluationError, match="no prediction has a price range"):
        evaluated([1.0]).figure("ranges")


def test_the_scatter_tells_hits_apart_by_shape_and_draws_a_sample_of_many() -> None:
    figure = evaluated(np.linspace(0, 900, 5000)).figure("scatter")
    assert len({trace.marker.symbol for trace in figure.data if trace.mode == "markers"}) == 3
    assert sum(len(trace.x) for trace in figure.data if trace.mode == "markers") == 2000
    assert "2,000 of 5,000 items" in figure.layout.xaxis.title.text


@pytest.mark.parametrize("errors", [[5.0], [0.0, 0.0, 0.0], [-2000.0, 10.0, 3.0]])
def test_odd_evaluations_have_a_report_too(errors: list[float], tmp_path: Path) -> None:
    evaluated(errors).to_html(tmp_path / "report.html")
    evaluated(errors, truth=0.0).to_html(tmp_path / "zero.html")
    assert evaluated(errors)._repr_html_()


@pytest.mark.acceptance
@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_draws_the_report_and_asks_for_nothing(tmp_path: Path, width: int) -> None:
    many = evaluated(np.random.default_rng(1).normal(0, 300, 20_000), name="many")
    many.to_html(tmp_path / "many.html")
    rich(NASTY).to_html(tmp_path / "rich.html")
    a, b = evaluated(np.linspace(0, 60, 40), name="a"), evaluated(np.linspace(3, 70, 40), name=NASTY)
    compare(a, b).to_html(tmp_path / "pair.html")
    with Browser() as browser:
        for name, figures in (("many", 4), ("rich", 6), ("pair", 2)):
            path = tmp_path / f"{name}.html"
            assert path.stat().st_size < 1_500_000
            browser.open(path, width=width)
            assert browser.errors == []
            assert {url for url in browser.requests if not url.startswith(("data:", "blob:"))} == {
                path.resolve().as_uri()
            }
            browser.requests.clear()
            drawn = (
                "[...document.querySelectorAll('.js-plotly-plot')].filter(one => one.querySelector('.trace'))"
            )
            assert browser.run(f"{drawn}.length") == figures
            assert browser.run("document.documentElement.scrollWidth") <= width
            beyond = (
                "[...document.querySelectorAll('.main-svg')].some(one => one.getBoundingClientRect().right"
            )
            assert browser.run(f"{beyond} > {width})") is False
        browser.open(tmp_path / "rich.html", width=width)
        # The policy of the page holds: nothing can be fetched, even by a script of its own.
        assert browser.run("fetch('https://example.com').then(() => 'sent', () => 'refused')") == "refused"


@pytest.mark.acceptance
def test_the_browser_test_would_notice(tmp_path: Path) -> None:
    """What the test above looks for is seen where it is."""
    (tmp_path / "bad.html").write_text(
        "<img src='http://127.0.0.1:9/x.png'><script>throw Error('boo')</script>"
    )
    with Browser() as browser:
        browser.open(tmp_path / "bad.html", width=400)
        assert any("boo" in error for error in browser.errors)
        assert "http://127.0.0.1:9/x.png" in browser.requests


def test_a_missing_browser_is_a_skip_and_not_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(pytest.skip.Exception, match="no Chromium"):
        Browser()
