"""The report: one file that opens on a train."""

import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from finetune_pricer import Evaluation, Evaluator, Item, ItemDataset, Leaderboard, compare
from finetune_pricer.errors import FileAccessError, MissingExtra
from finetune_pricer.evaluate import measurement
from finetune_pricer.evaluate.metrics import find_intervals
from finetune_pricer.evaluate.report.plotly_js import read_script
from helpers import priced

NASTY = '<script>alert("x")</script><img src=https://evil.test>'


@pytest.fixture
def evaluation() -> Evaluation:
    items = [Item(id="n", title=NASTY, price=50), *priced(20)]
    answers: list[float | str] = [55.0, "<b>no</b>", *[20.0] * 18, 500.0]
    return Evaluator(baselines=ItemDataset.from_items(items)).score(items, answers, name=NASTY)


@pytest.fixture
def page(evaluation: Evaluation, tmp_path: Path) -> str:
    evaluation.to_html(tmp_path / "new" / "report.html")
    return (tmp_path / "new" / "report.html").read_text(encoding="utf-8")


def without_plotly(page: str) -> str:
    """The page without the script of the charting library itself."""
    return page.replace(read_script(), "")


def test_the_headline_and_the_evidence_stand_at_the_top(evaluation: Evaluation, page: str) -> None:
    assert f"<b>${evaluation.mae.value:,.2f}</b> off on average" in page
    assert f"${evaluation.mae.low:,.2f} to ${evaluation.mae.high:,.2f}, 20 items scored, 1 unscored" in page


def test_the_baseline_stands_beside_the_model(evaluation: Evaluation, page: str) -> None:
    assert "always the training median" in page
    assert f"${evaluation.baselines[0].mae.value:,.2f}" in page


def test_unscored_items_are_listed_by_reason(page: str) -> None:
    assert "no price in &#39;&lt;b&gt;no&lt;/b&gt;&#39;</td><td>1</td>" in page


def test_what_others_wrote_is_shown_and_not_run(page: str) -> None:
    rest = without_plotly(page)
    assert "alert(" in rest
    assert "<script>alert" not in page
    assert "<img" not in rest
    assert "<b>no" not in page


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    loading = r"""<(?:script|link|img|iframe)[^>]*(?:src|href)\s*=\s*["']?(.{5})"""
    assert re.findall(loading, without_plotly(page)) == ["data:"]  # the page's icon
    assert not re.findall(r"<script[^>]*\ssrc\s*=", page)
    assert "@import" not in without_plotly(page)


def test_all_figures_are_there_and_the_script_once(page: str) -> None:
    assert page.count("Plotly.newPlot(") == 4
    assert page.count('class="plotly-graph-div"') == 4
    assert "within $40 or 20 %" in page
    assert "mean error so far" in page


def test_a_warning_is_shown_when_many_are_unscored(tmp_path: Path) -> None:
    Evaluator().score(priced(2), [1.0, None]).to_html(tmp_path / "r.html")
    assert "50% of the items are unscored" in (tmp_path / "r.html").read_text()


def test_one_item_is_enough_for_a_report(tmp_path: Path) -> None:
    Evaluator().score(priced(1), [1.0]).to_html(tmp_path / "r.html")
    assert "95 % interval unknown" in (tmp_path / "r.html").read_text()


def test_an_unwritable_path_is_named(evaluation: Evaluation, tmp_path: Path) -> None:
    with pytest.raises(FileAccessError, match="cannot write"):
        evaluation.to_html(tmp_path)


def test_without_plotly_the_extra_is_named_and_the_old_report_stays(
    evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(MissingExtra, match=r"pip install 'finetune-pricer\[plots\]'"):
        evaluation.to_html(path)
    assert path.read_text() == "old"


def test_without_jinja2_the_extra_is_named_and_a_notebook_shows_plain_text(
    evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Leaderboard([evaluation], rounds=10)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    for write in (evaluation.to_html, board.to_html, compare(evaluation, evaluation).to_html):
        with pytest.raises(MissingExtra, match=r"Jinja2.*pip install 'finetune-pricer\[plots\]'"):
            write(tmp_path / "report.html")
    assert not list(tmp_path.iterdir())
    for shown in (evaluation._repr_html_(), board._repr_html_()):
        assert "<script>" not in shown
        assert shown.startswith("<pre>")
        assert "always the training median" in shown


def test_each_slice_is_resampled_once_for_a_report(
    evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resampled: list[bytes] = []

    def note(functions: Any, columns: Any, weights: Any, **options: Any) -> Any:
        resampled.append(b"".join(column.tobytes() for column in columns))
        return find_intervals(functions, columns, weights, **options)

    assert evaluation.mae_filled  # it is measured once, when it is asked for
    monkeypatch.setattr(measurement, "find_intervals", note)
    evaluation.to_html(tmp_path / "report.html")
    slices = len(evaluation.by_price_band()) + len(evaluation.by_category())
    assert len(resampled) == 2 * slices  # once for the report, once for the line above
    assert max(Counter(resampled[:slices]).values()) == 1
