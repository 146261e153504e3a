"""Reports as HTML: one file each that people open, with no need of a network.

The pages stand in `templates/`. Jinja2 escapes every text that it puts into them, whatever a title may hold;
figures alone are put in as they are, since plotly has escaped them.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from ..._display import render_text
from ..._files import replacing
from ..._format import format_money
from ...errors import MissingExtra
from . import figures
from .content import (
    collect_comparison,
    collect_evaluation,
    cost_table,
    difference_table,
    left_out_table,
    manifest_table,
    metric_table,
    overview_table,
    range_table,
    slice_table,
)
from .format import Table, format_interval, format_number

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from jinja2 import Environment

    from ...items import ItemDataset
    from ..compare import Comparison
    from ..evaluation import Evaluation
    from .content import ComparisonContent, EvaluationContent

_CATEGORIES = 30


class Section(NamedTuple):
    """A figure of a report, with what stands above it."""

    heading: str
    note: str
    figure: Any
    """A plotly figure."""


def write_evaluation(
    evaluation: Evaluation, path: str | os.PathLike[str], *, items: ItemDataset | None = None
) -> None:
    """Write the report of one evaluation; see `Evaluation.to_html`."""
    content = collect_evaluation(evaluation)
    _write_page(
        path,
        "evaluation.html",
        title=f"Prices by {evaluation.name}",
        content=content,
        overview=overview_table(content.models),
        sections=_to_html(_draw_evaluation(content)),
        tables=list(_evaluation_tables(content)),
        reading=None if items is None else items.history,
        left_out=None if items is None else left_out_table(items),
    )


def write_comparison(comparison: Comparison, path: str | os.PathLike[str]) -> None:
    """Write the report of a comparison; see `Comparison.to_html`."""
    content = collect_comparison(comparison)
    _write_page(
        path,
        "comparison.html",
        title=content.title,
        content=content,
        overview=overview_table(content.models),
        differences=difference_table(content.pairs),
        sections=_to_html(_draw_comparison(content)),
        tables=[("To do it again", manifest_table(content.models))],
    )


def write_table(table: Table, path: str | os.PathLike[str], *, title: str, note: str) -> None:
    """Write a page of one table and a note below it; see `Leaderboard.to_html`."""
    _write_page(path, "table.html", title=title, table=table, note=note)


def render_evaluations(models: Sequence[Evaluation]) -> str:
    """Return a part of a page for notebooks: a line per model, and the table of their metrics."""
    return _render_part(
        "\n".join(f"{model.name}: {model}" for model in models),
        lines=[(model.name, str(model)) for model in models],
        table=overview_table(models),
    )


def render_table(table: Table, *, note: str, text: str) -> str:
    """Return a part of a page for notebooks: a table and a note; `text` says the same without Jinja2."""
    return _render_part(text, table=table, note=note)


def render_sentences(sentences: Iterable[str]) -> str:
    """Return a part of a page for notebooks: a paragraph for each sentence."""
    return "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)


def _write_page(path: str | os.PathLike[str], template: str, **content: Any) -> None:
    page = _environment().get_template(template).render(content)
    with replacing(path) as file:
        file.write(page.encode(errors="backslashreplace"))


def _render_part(text: str, **content: Any) -> str:
    try:
        return _environment().get_template("notebook.html").render(content)
    except MissingExtra:
        # A notebook shows an object that was only looked at: plain text is better than an error.
        return render_text(text)


def _environment() -> Environment:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtra(
            "reports as HTML need Jinja2; install it: pip install 'finetune-pricer[plots]'"
        ) from error
    return Environment(
        loader=PackageLoader(__package__ or __name__.rpartition(".")[0]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _to_html(sections: Iterable[Section]) -> list[Section]:
    """Return sections with figures as HTML; the first figure brings plotly's script for the whole page."""
    return [
        section._replace(figure=figures.to_div(section.figure, with_script=at == 0))
        for at, section in enumerate(sections)
    ]


def _draw_evaluation(content: EvaluationContent) -> Iterable[Section]:
    evaluation = content.evaluation
    yield Section(
        "Predicted against actual", "On the diagonal a guess is exact.", figures.draw_scatter(evaluation)
    )
    yield Section(
        "Running error",
        "The mean after each item, with its 95 % band: where it has not settled, more items are needed.",
        figures.draw_running_error(evaluation),
    )
    yield Section(
        "Error by price",
        "Mean absolute error of each price band with its 95 % interval; how many items are in brackets.",
        figures.draw_price_bands(content.price_bands, evaluation.currency),
    )
    if len({record.category for record in evaluation.records}) > 1:
        yield Section(
            "Error by category",
            "The largest categories first; a wide interval is a small category.",
            figures.draw_categories(content.categories, evaluation.currency),
        )
    yield Section(
        "Calibration",
        "Items in tenths by predicted price, with 95 % intervals. Above the diagonal guesses are too low.",
        figures.draw_calibration(evaluation),
    )
    if (covered := evaluation.coverage) is not None:
        share, interval = format_number(covered.value, "%", ""), format_interval(covered, "%", "")
        yield Section(
            "Price ranges",
            f"{share} ({interval}) of true prices lie in their range.",
            figures.draw_ranges(evaluation),
        )


def _draw_comparison(content: ComparisonContent) -> Iterable[Section]:
    first = content.comparison.a.name
    yield Section(
        "How sure is the difference?",
        f"Left of 0 {first} is better; an interval that holds 0 leaves it open.",
        figures.draw_differences(content.pairs),
    )
    yield Section(
        "Item by item",
        f"Above the diagonal {first} is nearer to the true price.",
        figures.draw_errors(content.comparison),
    )


def _evaluation_tables(content: EvaluationContent) -> Iterable[tuple[str, Table]]:
    evaluation = content.evaluation
    yield "All metrics", metric_table(evaluation)
    if evaluation.range_groups:
        yield "What price ranges held", range_table(evaluation.range_groups)
    yield "Metrics by price", slice_table(content.price_bands, evaluation.currency)
    yield "Metrics by category", slice_table(content.categories[:_CATEGORIES], evaluation.currency)
    worst = [
        (
            one.label,
            one.category or "",
            *(format_money(amount, evaluation.currency, 2) for amount in (one.truth, one.price, one.error)),
        )
        for one in content.worst
    ]
    yield "Worst misses", Table(("item", "category", "actual", "predicted", "off by"), worst, text_columns=2)
    if content.unscored_reasons:
        reasons = [(reason, f"{count:,}") for reason, count in content.unscored_reasons.items()]
        yield "Unscored", Table(("why", "items"), reasons)
    yield "Cost", cost_table(evaluation)
    yield "To do it again", manifest_table([evaluation])
