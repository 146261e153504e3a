"""An evaluation as text that people paste: numbers with their units, a Markdown report, a model card."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..evaluation import Evaluation
    from ..measurement import Metric, Slice
    from ..metrics import Unit

SLICE_HEAD = ("", "MAE", "95 % interval", "n", "unscored", "median % error", "bias")
# What would be markup, as text: a title may hold anything.
_AS_TEXT = {ord(sign): f"\\{sign}" for sign in "\\`*_[]#"} | {ord(sign): f"&#{ord(sign)};" for sign in "<>|"}


def dollars(value: float) -> str:
    """Write dollars: `$1,234.50`, `-$3.00`."""
    return f"-${-value:,.2f}" if value < 0 else f"${value:,.2f}"


def number(value: float, unit: Unit) -> str:
    """Write a metric's value in its unit; shares become percentages."""
    if math.isnan(value):
        return "unknown"
    if unit == "$":
        return dollars(value)
    if unit == "%":
        return f"{value:.1%}"
    return f"{value:,.3f}" if abs(value) < 1000 else f"{value:,.0f}"


def interval(metric: Metric, unit: Unit) -> str:
    """Write both ends of a metric's interval."""
    return (
        "unknown" if math.isnan(metric.low) else f"{number(metric.low, unit)} to {number(metric.high, unit)}"
    )


def metric_rows(evaluations: Sequence[Evaluation]) -> list[tuple[str, ...]]:
    """Give one row per metric, with value and interval of each evaluation."""
    rows = []
    for name, info in METRICS.items():
        found = [getattr(one, name) for one in evaluations]
        if any(found):
            rows.append(
                (
                    info.label,
                    *(f"{number(m.value, info.unit)} ({interval(m, info.unit)})" if m else "" for m in found),
                )
            )
    rows.append(("scored / unscored", *(f"{one.n:,} / {one.unscored:,}" for one in evaluations)))
    return rows


def slice_rows(slices: Iterable[Slice]) -> list[tuple[str, ...]]:
    """Give one row per part of the items, in the columns of `SLICE_HEAD`."""
    return [
        (
            one.label,
            number(one.mae.value, "$") if one.mae else "",
            interval(one.mae, "$") if one.mae else "",
            f"{one.n:,}",
            f"{one.unscored:,}",
            number(one.median_ape.value, "%") if one.median_ape else "",
            number(one.bias.value, "$") if one.bias else "",
        )
        for one in slices
    ]


def cost_rows(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Say tokens, dollars and seconds; what is unknown says so."""
    read, written, seconds = evaluation.prompt_tokens, evaluation.completion_tokens, evaluation.seconds
    tokens = "not counted" if read is None else f"{read:,} read, {written or 0:,} written"
    per = "unknown"
    if evaluation.dollars is not None:
        rate = 1000 * evaluation.dollars / len(evaluation.records)
        per = f"${evaluation.dollars:,.4f} (${rate:,.4f} per 1,000)"
    taken = "not measured" if seconds is None else f"{seconds:,.1f} s"
    return [("tokens", tokens), ("dollars", per), ("time", taken)]


def notes(evaluation: Evaluation) -> list[str]:
    """Say what a reader must know before believing the numbers."""
    said = []
    if evaluation.warning:
        said.append(f"{evaluation.warning}; the numbers may describe the easy ones.")
    if evaluation.sample:
        said.append(f"Evaluated on {evaluation.sample}.")
    if evaluation.is_weighted:
        said.append("Items are weighted.")
    if evaluation.negative:
        said.append(
            f"{evaluation.negative:,} predicted prices are below $0; they are scored as they are, and RMSLE "
            "takes them as 0."
        )
    return said


def report(evaluation: Evaluation) -> str:
    """Write the report of an evaluation without figures; see `Evaluation.to_markdown`."""
    from ..verdict import headline, verdicts

    parts = [f"# {_plain(evaluation.name)}", f"**{headline(evaluation)}**"]
    parts += [_plain(line) for line in [*notes(evaluation), *verdicts(evaluation)]]
    beside = (evaluation, *evaluation.baselines)
    parts += ["## Metrics", table(("", *(one.name for one in beside)), metric_rows(beside))]
    parts += ["## By price", table(SLICE_HEAD, slice_rows(evaluation.by_price_band()))]
    parts += ["## By category", table(SLICE_HEAD, slice_rows(evaluation.by_category()[:20]))]
    worst = [
        (r.label, dollars(r.truth), dollars(r.price or 0.0), dollars(r.error or 0.0))
        for r in evaluation.worst()
    ]
    parts += ["## Worst misses", table(("item", "actual", "predicted", "off by"), worst)]
    if evaluation.unscored_reasons:
        reasons = [(f"{count:,}", reason) for reason, count in list(evaluation.unscored_reasons.items())[:20]]
        parts += ["## Unscored", table(("times", "why"), reasons)]
    parts += ["## Cost", table(("", ""), cost_rows(evaluation))]
    parts += ["## To do it again", table(("", ""), list(evaluation.manifest.items()))]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def model_card(evaluation: Evaluation, *, base_model: str | None, license: str | None) -> str:  # noqa: A002 - the Hub's word
    """Write a model card; see `Evaluation.model_card`."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="text-generation",
            task_name="price estimation",
            dataset_type="products",
            dataset_name=f"{len(evaluation.records):,} products",
            metric_type=name,
            metric_name=f"{info.label} (95% CI {interval(metric, info.unit)}, n={metric.n:,})",
            metric_value=round(metric.value, 6),
        )
        for name, info in METRICS.items()
        if info.in_card and (metric := evaluation.metrics.get(name)) and not math.isnan(metric.value)
    ]
    data = ModelCardData(
        base_model=base_model,
        license=license,
        tags=["price-estimation", "finetune-pricer"],
        model_name=evaluation.name,
        eval_results=results,
    )
    return f"---\n{data.to_yaml()}\n---\n\n{report(evaluation)}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table; what would be markup in a cell is shown as text."""
    lines = [_line(map(_plain, head)), _line(["---"] * len(head)), *(_line(map(_plain, row)) for row in rows)]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    return " ".join(text.translate(_AS_TEXT).split())
