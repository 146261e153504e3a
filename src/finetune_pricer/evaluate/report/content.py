"""What a report says: numbers and sentences, computed once, and handed to a renderer that lays them out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..._format import format_dollars, format_money, mark_of
from ...predict.range_groups import format_coverage
from ..measurement import SLICE_ROUNDS, slice_by_large_category
from ..metrics import METRICS, absolute_error_quantile
from ..same_prices import name_once
from .format import Table, format_interval, format_metric, format_number, format_p, format_unscored
from .verdict import Verdict, reach_verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ...errors import RowProblem
    from ...items import ItemDataset
    from ...predict.range_groups import GroupCoverage
    from ..compare import Comparison
    from ..evaluation import Evaluation
    from ..measurement import ScoredRecord, Slice

_WORST = 15
_REASONS = 20
_LEFT_OUT = 1_000
_ROUND = 20  # from which amount on a sentence leaves the cents away
_ENOUGH_FOR_TENTHS = 20  # items
_FILLED = "MAE, gaps filled by the training median"
_SPARE_OF_MODELS = frozenset({_FILLED, "RMSE", "RMSLE", "r²", "green", "orange", "red", "n", "unscored"})
_SPARE_OF_PAIRS = ("nearer on", "smallest detectable (80 % range)", "n", "left out")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationContent:
    """Everything that a report of one evaluation says."""

    evaluation: Evaluation
    number: str
    """The mean error."""
    plainly: str
    """What that means, for somebody who knows no statistics; empty for a single item."""
    interval: str
    """The interval of the mean error, in words."""
    scored: str
    """How many items were scored, in words."""
    unscored: str
    """How many items were not scored, in words."""
    notes: tuple[str, ...]
    """What a reader must know before believing the numbers."""
    verdict: Verdict
    """How the model stands beside its baselines."""
    price_bands: tuple[Slice, ...]
    categories: tuple[Slice, ...]
    """The largest first, and at the end all small ones as one."""
    worst: tuple[ScoredRecord, ...]
    """The records with the largest errors, the worst first."""
    unscored_reasons: dict[str, int]
    """The most common reasons for which items were not scored, and how many items each."""

    @property
    def models(self) -> tuple[Evaluation, ...]:
        """The model and its baselines."""
        return (self.evaluation, *self.evaluation.baselines)

    @property
    def headline(self) -> str:
        """The mean error in one short sentence."""
        return f"Off by {self.number} on average"

    @property
    def day(self) -> str:
        """The day on which it was evaluated, where that is known."""
        return self.evaluation.manifest.get("evaluated", "")[:10]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonContent:
    """Everything that a report of a comparison says."""

    comparison: Comparison
    title: str
    verdicts: tuple[str, ...]
    warnings: tuple[str, ...]
    """Models of which too many items are unscored."""

    @property
    def pairs(self) -> tuple[Comparison, ...]:
        """The first model against each other one."""
        return (self.comparison, *self.comparison.further)

    @property
    def models(self) -> tuple[Evaluation, ...]:
        """All models, the first one first."""
        return (self.comparison.a, *(pair.b for pair in self.pairs))


def collect_evaluation(evaluation: Evaluation) -> EvaluationContent:
    """Compute what a report of an evaluation says: each slice and each comparison is resampled here, once."""
    return EvaluationContent(
        evaluation=evaluation,
        number=format_money(evaluation.mae.value, evaluation.currency, 2),
        plainly=_say_plainly(evaluation),
        interval=f"95 % interval {format_interval(evaluation.mae, '$', evaluation.currency)}",
        scored=f"{evaluation.n:,} item{'' if evaluation.n == 1 else 's'} scored",
        unscored=f"{evaluation.unscored:,} unscored",
        notes=tuple(_notes(evaluation)),
        verdict=reach_verdict(evaluation),
        price_bands=evaluation.by_price_band(),
        categories=slice_by_large_category(evaluation.records, seed=evaluation.seed, rounds=SLICE_ROUNDS),
        worst=evaluation.worst(_WORST),
        unscored_reasons=dict(list(evaluation.unscored_reasons.items())[:_REASONS]),
    )


def collect_comparison(comparison: Comparison) -> ComparisonContent:
    """Gather what a report of a comparison says."""
    pairs = (comparison, *comparison.further)
    models = (comparison.a, *(pair.b for pair in pairs))
    return ComparisonContent(
        comparison=comparison,
        title=f"{comparison.a.name} against {', '.join(pair.b.name for pair in pairs)}",
        verdicts=tuple(pair.sentence for pair in pairs),
        warnings=tuple(f"{one.name}: {one.warning}" for one in models if one.warning),
    )


def _say_plainly(evaluation: Evaluation) -> str:
    def say(amount: float) -> str:
        # Cents tell a reader nothing of amounts such as these.
        return format_money(amount, evaluation.currency, 0 if abs(amount) >= _ROUND else 2)

    parts = list[str]()
    if evaluation.n > 1:
        half = say(evaluation.median_absolute_error.value)
        parts.append(f"half of the prices are within {half} of the true price")
    if evaluation.n >= _ENOUGH_FOR_TENTHS:
        scored = evaluation.scored
        far = absolute_error_quantile(
            [one.truth for one in scored], [one.price for one in scored], 0.9, [one.weight for one in scored]
        )
        parts.append(f"one in ten is off by more than {say(far)}")
        bias = evaluation.bias
        if bias.low > 0 or bias.high < 0:
            way = "high" if bias.value > 0 else "low"
            parts.append(f"on average they are {say(abs(bias.value))} too {way}")
    said = "; ".join(parts)
    return f"{said[:1].upper()}{said[1:]}." if said else ""


def _notes(evaluation: Evaluation) -> Iterable[str]:
    if evaluation.warning:
        yield f"{evaluation.warning}; the numbers may describe the easy ones."
    if evaluation.sample:
        yield f"Evaluated on {evaluation.sample}."
    if evaluation.is_weighted:
        yield f"Items are weighted {evaluation.manifest.get('weights', '')}".rstrip() + "."
    if said := evaluation.manifest.get("groups"):
        told = (
            f"Intervals and tests count {evaluation.groups:,} groups of items, as told"
            if said == "as told"
            else said
        )
        yield f"{told}."
    if evaluation.negative:
        zero = f"{mark_of(evaluation.currency)}0"
        yield (
            f"{evaluation.negative:,} predicted prices are below {zero}; they are scored as they are, and "
            "RMSLE takes them as 0."
        )
    for group in evaluation.range_groups:
        if group.falls_short:
            yield f"Price ranges: {group}; were these items like those of the calibration?"


def range_table(groups: Iterable[GroupCoverage]) -> Table:
    """Return one line per group of price ranges: what share they held, and what could be expected."""
    rows = [
        (
            one.name,
            f"{one.share:.1%}",
            f"{one.n:,}",
            "nothing" if one.promised is None else format_coverage(one.promised),
            "" if one.low is None or one.high is None else f"{one.low:.1%} to {one.high:.1%}",
            f"{one.calibrated_on:,}",
        )
        for one in groups
    ]
    return Table(("", "held", "of items", "promised", "expected", "calibration items"), rows)


def overview_table(models: Iterable[Evaluation]) -> Table:
    """Return one line per model, with the metrics that people ask for; models of the same prices are one."""
    named = name_once(models)
    some_filled = any(one.evaluation.unscored and one.evaluation.mae_filled for one in named)
    all_items = f"{_FILLED}|" if some_filled else ""
    head = f"MAE|95 % interval|{all_items}median error|RMSE|RMSLE|r²|green|orange|red|n|unscored"
    rows = [
        (
            label,
            format_number(one.mae.value, "$", one.currency),
            format_interval(one.mae, "$", one.currency),
            *([_format_filled(one)] if some_filled else []),
            format_number(one.median_absolute_error.value, "$", one.currency),
            format_number(one.rmse.value, "$", one.currency),
            format_number(one.rmsle.value, "", one.currency),
            format_number(one.r2.value, "%", one.currency),
            *(f"{share.value:.0%}" for share in (one.green, one.orange, one.red)),
            f"{one.n:,}",
            format_unscored(one),
        )
        for label, one in ((each.label, each.evaluation) for each in named)
    ]
    return Table(("", *head.split("|")), rows, spare=_SPARE_OF_MODELS)


def _format_filled(evaluation: Evaluation) -> str:
    filled = evaluation.mae_filled
    return "unknown" if filled is None else format_number(filled.value, "$", evaluation.currency)


def metric_table(evaluation: Evaluation) -> Table:
    """Return one line per metric of one evaluation."""
    rows = [
        (
            METRICS[name].label_in(evaluation.currency),
            format_number(metric.value, METRICS[name].unit, evaluation.currency),
            format_interval(metric, METRICS[name].unit, evaluation.currency),
        )
        for name, metric in evaluation.metrics.items()
    ]
    return Table(("metric", "value", "95 % interval"), rows)


def metrics_side_by_side(models: Iterable[Evaluation]) -> Table:
    """Return one line per metric and one column per model, with values and intervals."""
    named = name_once(models)
    columns = [one.evaluation for one in named]

    def cell(model: Evaluation, name: str) -> str:
        metric, unit = model.metrics.get(name), METRICS[name].unit
        return format_metric(metric, unit, model.currency) if metric else ""

    rows = [
        (info.label_in(columns[0].currency), *(cell(model, name) for model in columns))
        for name, info in METRICS.items()
        if any(name in model.metrics for model in columns)
    ]
    counts = ("scored / unscored", *(f"{model.n:,} / {model.unscored:,}" for model in columns))
    return Table(("", *(one.label for one in named)), [*rows, counts])


def slice_table(slices: Iterable[Slice], currency: str) -> Table:
    """Return one line per slice."""
    rows = [
        (
            one.label,
            format_number(one.mae.value, "$", currency) if one.mae else "",
            format_interval(one.mae, "$", currency) if one.mae else "",
            f"{one.n:,}",
            f"{one.unscored:,}",
            format_number(one.median_ape.value, "%", currency) if one.median_ape else "",
            format_number(one.bias.value, "$", currency) if one.bias else "",
        )
        for one in slices
    ]
    head = ("", "MAE", "95 % interval", "n", "unscored", "median % error", "bias")
    return Table(head, rows, spare=frozenset({"unscored", "median % error", "bias"}))


def worst_table(content: EvaluationContent) -> Table:
    """Return one line per record with a large error, the worst first."""
    shown = any(one.category for one in content.worst)
    rows = [
        (
            one.label,
            *([one.category or ""] if shown else []),
            *(
                format_money(amount, content.evaluation.currency, 2)
                for amount in (one.truth, one.price, one.error)
            ),
        )
        for one in content.worst
    ]
    words = ("item", "category") if shown else ("item",)
    head = (*words, "actual", "predicted", "off by")
    return Table(head, rows, text_columns=len(words), spare=frozenset({"category"}))


def unscored_table(content: EvaluationContent) -> Table:
    """Return one line per reason for which items were not scored."""
    return Table(("why", "items"), [(why, f"{count:,}") for why, count in content.unscored_reasons.items()])


def say_hits(evaluation: Evaluation) -> str:
    """Return what the figure of predicted and actual prices shows."""
    names = {name: METRICS[name].label_in(evaluation.currency) for name in ("green", "orange", "red")}
    shares = [f"{evaluation.metrics[name].value:.0%} {label}" for name, label in names.items()]
    return f"Predicted against actual prices of {evaluation.n:,} items: {'; '.join(shares)}."


def say_slices(slices: Iterable[Slice], currency: str) -> str:
    """Return what the figure of errors by slice shows."""
    known = [f"{one.label} {format_money(one.mae.value, currency, 2)}" for one in slices if one.mae]
    return f"Mean absolute error: {'; '.join(known)}."


def cost_table(evaluation: Evaluation) -> Table:
    """Return tokens, dollars and seconds, each in words where it is not known."""
    read, written, seconds = evaluation.prompt_tokens, evaluation.completion_tokens, evaluation.seconds
    tokens = "not counted" if read is None or written is None else f"{read:,} read, {written:,} written"
    cost = format_dollars(evaluation.dollars, 4)
    if evaluation.dollars is not None:
        cost += f" ({format_dollars(1000 * evaluation.dollars / len(evaluation.records), 4)} per 1,000)"
    time = "not measured" if seconds is None else f"{seconds:,.1f} s"
    return Table(("", ""), [("tokens", tokens), ("dollars", cost), ("time", time)], text_columns=2)


def manifest_table(models: Sequence[Evaluation]) -> Table:
    """Return what it takes to repeat the evaluations, one column per model."""
    names = list(dict.fromkeys(name for model in models for name in model.manifest))
    rows = [(name, *(model.manifest.get(name, "") for model in models)) for name in names]
    shown = len(models) > 1
    return Table(("", *(model.name if shown else "" for model in models)), rows, text_columns=1 + len(models))


def difference_table(pairs: Sequence[Comparison]) -> Table:
    """Return one line per pair of models, each seen from the first one."""
    test = "p" if len(pairs) == 1 else f"p by Holm for {len(pairs)}"
    head = ("against", "difference", "95 % interval", test, *_SPARE_OF_PAIRS)
    rows = [
        (
            pair.b.name,
            format_number(pair.difference.value, "$", pair.a.currency),
            format_interval(pair.difference, "$", pair.a.currency),
            format_p(pair.p_value),
            f"{pair.win_rate:.0%}",
            _format_detectable(pair),
            f"{pair.n:,}",
            f"{pair.left_out:,}",
        )
        for pair in pairs
    ]
    return Table(head, rows, spare=frozenset(_SPARE_OF_PAIRS))


def _format_detectable(pair: Comparison) -> str:
    if math.isnan(pair.smallest_detectable):
        return "unknown"
    amounts = (pair.smallest_detectable, *pair.smallest_detectable_range)
    value, low, high = (format_number(amount, "$", pair.a.currency) for amount in amounts)
    return f"{value} ({low} to {high})"


def left_out_table(items: ItemDataset) -> Table:
    """Return one line per row of a file that could not be an item: where it stands, and what is wrong."""
    rows = [(_name_place(each), each.field, each.value, each.reason) for each in items.skipped[:_LEFT_OUT]]
    if (more := len(items.skipped) - _LEFT_OUT) > 0:
        rows.append(("...", "", "", f"and {more:,} more, in `skipped`"))
    return Table(("row", "column", "what stood there", "what is wrong"), rows, text_columns=4)


def _name_place(problem: RowProblem) -> str:
    return f"{problem.row:,}" + ("" if problem.line is None else f" (line {problem.line:,})")
