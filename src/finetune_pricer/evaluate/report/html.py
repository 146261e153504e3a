"""Reports as HTML: one file each that people open, with no need of a network.

The pages stand in `templates/`. Jinja2 escapes every text that it puts into them, whatever a title may hold;
figures alone are put in as they are, since plotly has escaped them.
"""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from ..._display import render_text
from ..._files import replacing
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
    say_hits,
    say_slices,
    slice_table,
    unscored_table,
    worst_table,
)
from .format import Table, format_interval, format_number
from .plotly_js import read_script

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from jinja2 import Environment

    from ...items import ItemDataset
    from ..compare import Comparison
    from ..evaluation import Evaluation
    from .content import ComparisonContent, EvaluationContent


class Choice(NamedTuple):
    """A button above a figure, which changes how it is laid out."""

    label: str
    changes: str
    """What plotly is to change, as JSON."""
    is_chosen: bool


class Section(NamedTuple):
    """A figure of a report, with what stands above and below it."""

    heading: str
    note: str
    figure: Any
    """A plotly figure, or its HTML."""
    said: str
    """What the figure shows, for those who cannot see it."""
    table: Table | None = None
    """The numbers of the figure."""
    choices: tuple[Choice, ...] = ()


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
        comparisons=difference_table(content.verdict.comparisons) if content.verdict.comparisons else None,
        sections=[_to_html(section) for section in _draw_evaluation(content)],
        script=read_script(),
        metrics=metric_table(evaluation),
        facts=list(_tabulate_facts(content)),
        worst=worst_table(content),
        again=manifest_table([evaluation]),
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
        sections=[_to_html(section) for section in _draw_comparison(content)],
        script=read_script(),
        again=manifest_table(content.models),
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


def _to_html(section: Section) -> Section:
    """Return a section whose figure is HTML, and whose choice of scales are buttons that keys reach."""
    menus = section.figure.layout.updatemenus
    choices = tuple(
        Choice(button.label, json.dumps(button.args[0]), is_chosen=at == menu.active)
        for menu in menus
        for at, button in enumerate(menu.buttons)
    )
    return section._replace(choices=choices, figure=figures.to_div(section.figure))


def _draw_evaluation(content: EvaluationContent) -> Iterable[Section]:
    evaluation, currency = content.evaluation, content.evaluation.currency
    yield Section(
        "Predicted against actual",
        "On the diagonal a guess is exact.",
        figures.draw_scatter(evaluation),
        say_hits(evaluation),
    )
    yield Section(
        "Error by price",
        "Mean absolute error of each price band with its 95 % interval; how many items are in brackets.",
        figures.draw_price_bands(content.price_bands, currency),
        say_slices(content.price_bands, currency),
        slice_table(content.price_bands, currency),
    )
    if len(content.categories) > 1:
        yield Section(
            "Error by category",
            "The largest categories first; a wide interval is a small category.",
            figures.draw_categories(content.categories, currency),
            say_slices(content.categories, currency),
            slice_table(content.categories, currency),
        )
    yield from _draw_further(content)


def _draw_further(content: EvaluationContent) -> Iterable[Section]:
    evaluation = content.evaluation
    yield Section(
        "Running error",
        "The mean after each item, with its 95 % band: where it has not settled, more items are needed.",
        figures.draw_running_error(evaluation),
        f"The mean error so far, after each of {evaluation.n:,} items; at the end it is {content.number}.",
    )
    yield Section(
        "Calibration",
        "Items in tenths by predicted price, with 95 % intervals. Above the diagonal guesses are too low.",
        figures.draw_calibration(evaluation),
        f"Mean actual against mean predicted price. {content.plainly}",
    )
    if (covered := evaluation.coverage) is not None:
        share, interval = format_number(covered.value, "%", ""), format_interval(covered, "%", "")
        held = f"{share} ({interval}) of true prices lie in their range."
        yield Section("Price ranges", held, figures.draw_ranges(evaluation), held)


def _draw_comparison(content: ComparisonContent) -> Iterable[Section]:
    first = content.comparison.a.name
    said = " ".join(content.verdicts)
    yield Section(
        "How sure is the difference?",
        f"Left of 0 {first} is better; an interval that holds 0 leaves it open.",
        figures.draw_differences(content.pairs),
        said,
    )
    yield Section(
        "Item by item",
        f"Above the diagonal {first} is nearer to the true price.",
        figures.draw_errors(content.comparison),
        f"{first} is nearer on {content.comparison.win_rate:.0%} of {content.comparison.n:,} items.",
    )


def _tabulate_facts(content: EvaluationContent) -> Iterable[tuple[str, Table]]:
    """Yield small tables, which stand beside that of the metrics where there is room."""
    if content.evaluation.range_groups:
        yield "What price ranges held", range_table(content.evaluation.range_groups)
    if content.unscored_reasons:
        yield "Unscored", unscored_table(content)
    yield "Cost", cost_table(content.evaluation)
