"""An evaluation as text that people paste: a Markdown report, a model card, and any table."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from ..._escape import escape_line, escape_markdown, escape_paragraph
from ..metrics import METRICS
from .content import (
    cost_table,
    manifest_table,
    metrics_side_by_side,
    range_table,
    slice_table,
    unscored_table,
    worst_table,
)
from .format import Table, format_interval

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..measurement import Metric
    from ..metrics import MetricInfo
    from .content import EvaluationContent

_WORST = 10


def render_report(content: EvaluationContent) -> str:
    """Return the report of an evaluation without figures; see `Evaluation.to_markdown`."""
    evidence = f"{content.interval}, {content.scored}, {content.unscored}"
    parts = [f"# {escape_markdown(content.evaluation.name)}", f"**{content.headline} ({evidence})**"]
    plainly = [content.plainly] if content.plainly else []
    parts += [escape_paragraph(line) for line in [*plainly, *content.notes, *content.verdict.sentences]]
    parts += [f"## {heading}\n\n{render_table(table)}" for heading, table in _tables(content)]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def render_card(content: EvaluationContent, *, base_model: str | None, license: str | None) -> str:  # noqa: A002 - the Hub's word
    """Return a model card; see `Evaluation.model_card`."""
    from huggingface_hub import EvalResult, ModelCardData

    evaluation = content.evaluation
    results = [
        EvalResult(
            task_type="text-generation",
            task_name="price estimation",
            dataset_type="products",
            dataset_name=f"{len(evaluation.records):,} products",
            metric_type=name,
            metric_name=_name_metric(info, metric, evaluation.currency),
            metric_value=round(metric.value, 6),
        )
        for name, info in METRICS.items()
        if info.in_card and (metric := evaluation.metrics.get(name)) and not math.isnan(metric.value)
    ]
    data = ModelCardData(
        base_model=base_model,
        license=license,
        tags=["price-estimation", "finetune-pricer"],
        model_name=escape_line(evaluation.name),
        eval_results=results,
    )
    return f"---\n{data.to_yaml()}\n---\n\n{render_report(content)}"


def _name_metric(info: MetricInfo, metric: Metric, currency: str) -> str:
    interval = format_interval(metric, info.unit, currency)
    return f"{info.label_in(currency)} (95% CI {interval}, n={metric.n:,})"


def render_table(table: Table) -> str:
    """Return a Markdown table; markup in a cell is shown as text."""
    head, *rows = (list(map(escape_markdown, row)) for row in (table.head, *table.rows))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ["---"] * len(head), *rows))


def _tables(content: EvaluationContent) -> Iterable[tuple[str, Table]]:
    evaluation = content.evaluation
    yield "Metrics", metrics_side_by_side(content.models)
    if evaluation.range_groups:
        yield "What price ranges held", range_table(evaluation.range_groups)
    yield "By price", slice_table(content.price_bands, evaluation.currency)
    yield "By category", slice_table(content.categories, evaluation.currency)
    yield "Worst misses", worst_table(replace(content, worst=content.worst[:_WORST]))
    if content.unscored_reasons:
        yield "Unscored", unscored_table(content)
    yield "Cost", cost_table(evaluation)
    yield "To do it again", manifest_table([evaluation])
