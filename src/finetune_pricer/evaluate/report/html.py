"""The report: one HTML file that people open, with no need of a network."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from ..._files import replacing
from ..metrics import METRICS
from ..verdict import headline, verdicts
from . import figures, markdown
from .page import metric_table, page, table

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from ..compare import Comparison
    from ..evaluation import Evaluation
    from ..measurement import Metric
    from ..metrics import Unit

Section = tuple[str, str, Any]
"""A heading, a note, and a figure."""


def write_html(evaluation: Evaluation, path: str | os.PathLike[str]) -> None:
    """Write the report of one evaluation; see `Evaluation.to_html`."""
    made = page(f"Prices by {evaluation.name}", _body(evaluation))
    with replacing(path) as file:
        file.write(made.encode())


def write_comparison(comparison: Comparison, path: str | os.PathLike[str]) -> None:
    """Write the report of a comparison; see `Comparison.to_html`."""
    compared = (comparison, *comparison.further)
    title = f"{comparison.a.name} against {', '.join(one.b.name for one in compared)}"
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        _verdict(one.sentence for one in compared),
        *(_warning(f"{one.name}: {one.warning}") for one in _models(comparison) if one.warning),
        "<h2>Side by side</h2>",
        metric_table(_models(comparison)),
        "<h2>Differences</h2>",
        table(_PAIR_HEAD, [_pair_row(one) for one in compared]),
        f'<p class="note">{_DETECTABLE}</p>',
        _sections(_of_comparison(comparison)),
        _again(*_models(comparison)),
    ]
    with replacing(path) as file:
        file.write(page(title, "\n".join(parts)).encode())


def _models(comparison: Comparison) -> tuple[Evaluation, ...]:
    return (comparison.a, comparison.b, *(one.b for one in comparison.further))


def _body(evaluation: Evaluation) -> str:
    parts = [
        f"<h1>{html.escape(evaluation.name)}</h1>",
        f'<p class="headline">{headline(evaluation).partition(" (")[0]}</p>',
        f'<p class="note">{_evidence(evaluation)}</p>',
        *(_warning(note) for note in markdown.notes(evaluation)),
        _verdict(verdicts(evaluation)),
        "<h2>Beside the baselines</h2>",
        metric_table((evaluation, *evaluation.baselines)),
        _sections(_of_evaluation(evaluation)),
        *_tables(evaluation),
        _again(evaluation),
    ]
    return "\n".join(parts)


def _evidence(evaluation: Evaluation) -> str:
    sample = f" ({html.escape(evaluation.sample)})" if evaluation.sample else ""
    return (
        f"Mean absolute error, 95 % interval {markdown.interval(evaluation.mae, '$')}, "
        f"{evaluation.n:,} items scored{sample}, {evaluation.unscored:,} unscored."
    )


def _of_evaluation(evaluation: Evaluation) -> Iterator[Section]:
    yield "Predicted against actual", "On the diagonal a guess is exact.", figures.scatter(evaluation)
    yield (
        "Running error",
        "The mean after each item, with its 95 % band: where it has not settled, more items are needed.",
        figures.running_error(evaluation),
    )
    yield (
        "Error by price",
        "Mean absolute error of each price band with its 95 % interval; how many items are in brackets.",
        figures.draw(evaluation, "bands"),
    )
    if len({record.category for record in evaluation.records}) > 1:
        yield (
            "Error by category",
            "The largest categories first; a wide interval is a small category.",
            figures.draw(evaluation, "categories"),
        )
    yield (
        "Calibration",
        "Items in tenths by predicted price, with 95 % intervals. Above the diagonal guesses are too low.",
        figures.calibration(evaluation),
    )
    if evaluation.coverage is not None:
        covered = markdown.number(evaluation.coverage.value, "%")
        yield (
            "Price ranges",
            f"{covered} ({markdown.interval(evaluation.coverage, '%')}) of true prices lie in their range.",
            figures.ranges(evaluation),
        )


def _of_comparison(comparison: Comparison) -> Iterator[Section]:
    yield (
        "How sure is the difference?",
        f"Left of 0 {html.escape(comparison.a.name)} is better; an interval that holds 0 leaves it open.",
        figures.gaps(comparison),
    )
    yield (
        "Item by item",
        f"Above the diagonal {html.escape(comparison.a.name)} is nearer to the true price.",
        figures.error_against_error(comparison),
    )


def _sections(sections: Iterable[Section]) -> str:
    # The script is put in once, with the first figure, and whole: the file must open on a train.
    return "\n".join(
        f'<h2>{heading}</h2><p class="note">{note}</p>{figures.div(figure, script=at == 0)}'
        for at, (heading, note, figure) in enumerate(sections)
    )


def _tables(evaluation: Evaluation) -> Iterator[str]:
    rows = [
        (METRICS[name].label, *(write(metric, METRICS[name].unit) for write in (_value, markdown.interval)))
        for name, metric in evaluation.metrics.items()
    ]
    yield f"<h2>All metrics</h2>{table(('metric', 'value', '95 % interval'), rows)}"
    for title, slices in (("price", evaluation.by_price_band()), ("category", evaluation.by_category()[:30])):
        yield f"<h2>Metrics by {title}</h2>{table(markdown.SLICE_HEAD, markdown.slice_rows(slices))}"
    worst = [
        (one.label, one.category or "", *map(markdown.dollars, (one.truth, one.price or 0, one.error or 0)))
        for one in evaluation.worst(15)
    ]
    of_misses = ("item", "category", "actual", "predicted", "off by")
    yield f"<h2>Worst misses</h2>{table(of_misses, worst, text_columns=2)}"
    if reasons := list(evaluation.unscored_reasons.items())[:20]:
        counted = [(reason, f"{count:,}") for reason, count in reasons]
        yield f"<h2>Unscored</h2>{table(('why', 'items'), counted)}"
    yield f"<h2>Cost</h2>{table(('', ''), markdown.cost_rows(evaluation), text_columns=2)}"


def _value(metric: Metric, unit: Unit) -> str:
    return markdown.number(metric.value, unit)


def _again(*evaluations: Evaluation) -> str:
    names = list(dict.fromkeys(name for one in evaluations for name in one.manifest))
    rows = [(name, *(one.manifest.get(name, "") for one in evaluations)) for name in names]
    head = ("", *(one.name for one in evaluations)) if len(evaluations) > 1 else ()
    return f"<h2>To do it again</h2>{table(head, rows, text_columns=1 + len(evaluations))}"


_DETECTABLE = (
    "The smallest detectable difference is what these items would show four times in five; a smaller one "
    "could easily be missed."
)
_PAIR_HEAD = (
    "against",
    "difference",
    "95 % interval",
    "p",
    "smallest detectable",
    "nearer on",
    "n",
    "left out",
)


def _pair_row(one: Comparison) -> tuple[str, ...]:
    return (
        one.b.name,
        markdown.dollars(one.difference.value),
        markdown.interval(one.difference, "$"),
        f"{one.p_value:.4f}",
        markdown.number(one.smallest_detectable, "$"),
        f"{one.win_rate:.0%}",
        f"{one.n:,}",
        f"{one.left_out:,}",
    )


def _verdict(sentences: Iterable[str]) -> str:
    return f'<div class="verdict">{"".join(f"<p>{html.escape(line)}</p>" for line in sentences)}</div>'


def _warning(text: str) -> str:
    return f'<p class="warning">{html.escape(text)}</p>'
