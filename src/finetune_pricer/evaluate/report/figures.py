"""Every figure of reports and notebooks, drawn with plotly.

Labels that others wrote are escaped here: plotly reads some HTML in them.
"""

from __future__ import annotations

import html
import math
import random
from typing import TYPE_CHECKING, Any, TypeVar

from ..._format import mark_of
from ...errors import EvaluationError, MissingExtra
from .. import metrics
from ..measurement import SLICE_ROUNDS, slice_by_large_category
from ..paired import align
from .axes import PriceScale, set_scale

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..compare import Comparison
    from ..evaluation import Evaluation
    from ..forecast import Forecast
    from ..measurement import Record, ScoredRecord, Slice

Row = TypeVar("Row")

_COLOURS = {"green": "#1a9850", "orange": "#f28e2b", "red": "#d73027"}
# Shapes too, so that colour is not needed to read the figure.
_SYMBOLS = {"green": "circle", "orange": "diamond", "red": "x"}
_NAMES = {"green": "within $40 or 20 %", "orange": "within $80 or 40 %", "red": "further off"}
_BLUE, _GREY = "#1f77b4", "#888"
_INTERVAL = "#7d7d88"  # of a bar; to be seen on white and on black
_MOST_POINTS = 2000  # more of them hide each other, and make the file heavy
_MOST_RANGES = 60
_LABEL, _LONG_LABEL, _HOVERED = 30, 34, 60
_SETTLES_FROM = 20  # items; the mean of fewer jumps, and would set the scale
_LEAST_ERROR = 1e-4  # of the largest one: smaller ones are drawn there where an axis is logarithmic


def draw(evaluation: Evaluation, kind: str, *, log: bool | None = None) -> Any:
    """Draw one figure by its name; see `Evaluation.figure`.

    Raises:
        EvaluationError: There is no such figure.
    """
    match kind:
        case "scatter":
            return draw_scatter(evaluation, log=log)
        case "running":
            return draw_running_error(evaluation)
        case "bands":
            return draw_price_bands(evaluation.by_price_band(), evaluation.currency)
        case "categories":
            parts = slice_by_large_category(evaluation.records, seed=evaluation.seed, rounds=SLICE_ROUNDS)
            return draw_categories(parts, evaluation.currency)
        case "calibration":
            return draw_calibration(evaluation)
        case "ranges":
            return draw_ranges(evaluation)
        case _:
            known = "scatter, running, bands, categories, calibration, ranges"
            raise EvaluationError(f"there is no figure {kind!r}; choose one of {known}")


def draw_scatter(evaluation: Evaluation, *, log: bool | None = None) -> Any:
    """Draw predicted against actual prices, coloured and shaped by the course's rule."""
    import numpy as np

    go = import_plotly()
    shown, left_out = _sample_points(evaluation.scored)
    truth = np.array([record.truth for record in shown])
    price = np.array([record.price for record in shown])
    colours = metrics.hit_colours(truth, price)
    scale = PriceScale.of([*truth, *price], evaluation.currency)
    figure = go.Figure()
    figure.add_scatter(**_diagonal(scale.lowest, scale.largest), name="exact")
    for colour, name in _NAMES.items():
        chosen = np.flatnonzero(colours == colour)
        figure.add_scatter(
            x=truth[chosen].round(2),
            y=price[chosen].round(2),
            mode="markers",
            name=f"{_mark(name, evaluation.currency)} ({len(chosen)})",
            marker={"color": _COLOURS[colour], "symbol": _SYMBOLS[colour], "size": 7, "opacity": 0.7},
            text=[html.escape(_shorten(shown[at].label, _HOVERED)) for at in chosen],
            hovertemplate=_mark(
                "%{text}<br>actual $%{x:,.2f}<br>predicted $%{y:,.2f}<extra></extra>", evaluation.currency
            ),
        )
    if scale.is_wide and (hidden := int(((truth <= 0) | (price <= 0)).sum())):
        left_out += _mark(f"; {hidden:,} at $0 or below on linear axes only", evaluation.currency)
    figure.update_xaxes(title=_mark("actual price ($)", evaluation.currency) + left_out)
    figure.update_yaxes(title=_mark("predicted price ($)", evaluation.currency))
    set_scale(figure, scale, log=log)
    return apply_style(figure, legend=True)


def _diagonal(low: float, high: float) -> dict[str, Any]:
    ends = [min(low, 0.01), high * 1.2]  # from above 0, so that the line exists on logarithmic axes too
    dashed = {"color": _GREY, "dash": "dash"}
    return {"x": ends, "y": ends, "mode": "lines", "line": dashed, "hoverinfo": "skip"}


def draw_running_error(evaluation: Evaluation) -> Any:
    """Draw the mean absolute error after each item, with mean ± 1.96 sd/√n around it."""
    import numpy as np

    go = import_plotly()
    errors = np.abs([record.error for record in evaluation.scored])
    count = np.arange(1, errors.size + 1)
    mean = np.cumsum(errors) / count
    variance = np.maximum(np.cumsum(errors**2) / count - mean**2, 0.0) * count / np.maximum(count - 1, 1)
    half = 1.96 * np.sqrt(variance / count)
    half[0] = 0.0  # one item says nothing about the spread; the band begins at the second
    first = _SETTLES_FROM - 1 if errors.size >= 2 * _SETTLES_FROM else 0
    kept = np.unique(np.linspace(first, errors.size - 1, min(errors.size, 1000)).round().astype(int))
    count, mean, half = count[kept], mean[kept].round(3), half[kept].round(3)
    figure = go.Figure()
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    figure.add_scatter(x=count, y=mean + half, showlegend=False, **edge)
    figure.add_scatter(
        x=count,
        y=np.maximum(mean - half, 0.0),
        fill="tonexty",
        fillcolor="rgba(31, 119, 180, 0.2)",
        name="95 % band",
        **edge,
    )
    figure.add_scatter(
        x=count,
        y=mean,
        mode="lines",
        line={"color": _BLUE},
        name="mean error so far",
        hovertemplate=_mark("after %{x} items: $%{y:,.2f}<extra></extra>", evaluation.currency),
    )
    figure.update_xaxes(title="items")
    figure.update_yaxes(title=_mark("mean absolute error ($)", evaluation.currency), rangemode="tozero")
    return apply_style(figure, legend=True)


def draw_price_bands(bands: Sequence[Slice], currency: str) -> Any:
    """Draw the mean absolute error of each price band, with its 95 % interval."""
    return _draw_slices(bands, "true price", currency)


def draw_categories(categories: Sequence[Slice], currency: str) -> Any:
    """Draw the mean absolute error of each category, with its 95 % interval."""
    return _draw_slices(categories, "", currency)


def _draw_slices(slices: Sequence[Slice], title: str, currency: str) -> Any:
    go = import_plotly()
    known = [(one, one.mae) for one in reversed(slices) if one.mae is not None]
    figure = go.Figure()
    figure.add_bar(
        y=[f"{html.escape(_shorten(one.label))} ({one.n:,})" for one, _ in known],
        x=[mae.value for _, mae in known],
        orientation="h",
        marker={"color": "#9ecae1"},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [_to_length(mae.high - mae.value) for _, mae in known],
            "arrayminus": [_to_length(mae.value - mae.low) for _, mae in known],
            "color": _INTERVAL,
        },
        hovertemplate=_mark("%{y} items: $%{x:,.2f}<extra></extra>", currency),
    )
    figure.update_xaxes(title=_mark("MAE ($)", currency), rangemode="tozero", tickangle=0)
    figure.update_yaxes(title=title, automargin=True)
    return apply_style(figure, height=130 + 30 * max(len(known), 3))


def draw_calibration(evaluation: Evaluation) -> Any:
    """Draw the mean actual price against the mean predicted one, for tenths of the items by prediction."""
    import numpy as np

    go = import_plotly()
    rows = np.array([(record.price, record.truth) for record in evaluation.scored])
    parts = np.array_split(rows[np.argsort(rows[:, 0], kind="stable")], min(10, len(rows)))
    predicted, actual = np.array([part.mean(axis=0) for part in parts]).T
    half = np.array(
        [1.96 * part[:, 1].std(ddof=1) / len(part) ** 0.5 if len(part) > 1 else 0 for part in parts]
    )
    scale = PriceScale.of([*predicted, *actual, (actual + half).max()], evaluation.currency)
    figure = go.Figure()
    figure.add_scatter(**_diagonal(scale.lowest, scale.largest), name="calibrated")
    figure.add_scatter(
        x=predicted.round(2),
        y=actual.round(2),
        mode="markers+lines",
        line={"color": _BLUE, "width": 1},
        error_y={"type": "data", "array": half.round(2), "color": _BLUE},
        name="tenths of the items",
        hovertemplate=_mark(
            "predicted $%{x:,.2f}, actual $%{y:,.2f} on average<extra></extra>", evaluation.currency
        ),
    )
    figure.update_xaxes(title=_mark("mean predicted price ($)", evaluation.currency))
    figure.update_yaxes(title=_mark("mean actual price ($)", evaluation.currency))
    set_scale(figure, scale)
    return apply_style(figure, legend=True)


def draw_ranges(evaluation: Evaluation) -> Any:
    """Draw price ranges and true prices of some items on a logarithmic axis.

    Raises:
        EvaluationError: No prediction has a range; calibrate the predictor first.
    """
    go = import_plotly()
    ranged = [(r, r.low, r.high) for r in evaluation.records if r.low is not None and r.high is not None]
    if not ranged:
        raise EvaluationError("no prediction has a price range; predictor.calibrate(items) gives them")
    chosen = sorted(_sample(ranged, _MOST_RANGES), key=lambda row: _price_or_last(row[0]))
    figure = go.Figure()
    figure.add_bar(
        x=list(range(1, len(chosen) + 1)),
        y=[high - low for _, low, high in chosen],
        base=[low for _, low, _ in chosen],
        name="price range",
        marker={"color": "#c6dbef"},
        hoverinfo="skip",
    )
    for name, inside, symbol, colour in (
        ("inside", True, "circle", "#1a9850"),
        ("outside", False, "x", "#d73027"),
    ):
        rows = [
            (x, record)
            for x, (record, low, high) in enumerate(chosen, start=1)
            if (low <= record.truth <= high) == inside
        ]
        figure.add_scatter(
            x=[x for x, _ in rows],
            y=[record.truth for _, record in rows],
            mode="markers",
            name=f"true price {name}",
            marker={"symbol": symbol, "color": colour},
            text=[html.escape(record.label) for _, record in rows],
            hovertemplate=_mark("%{text}<br>actual $%{y:,.2f}<extra></extra>", evaluation.currency),
        )
    figure.update_xaxes(title=f"{len(chosen)} items, by predicted price", showticklabels=False)
    ends = [end for _, low, high in chosen for end in (low, high)]
    scale = PriceScale.of([*ends, *(record.truth for record, _, _ in chosen)], evaluation.currency)
    figure.update_yaxes(title=_mark("price ($)", evaluation.currency), **scale.logarithmic)
    return apply_style(figure, legend=True)


def draw_errors(comparison: Comparison) -> Any:
    """Draw one model's absolute error against the other's, one point an item."""
    import numpy as np

    go = import_plotly()
    a, b = comparison.a, comparison.b
    errors = align([a, b], allow_different=True, unscored="skip").errors
    errors = errors[~np.isnan(errors).any(axis=1)][:_MOST_POINTS]
    errors = np.maximum(errors, max(float(errors.max()) * _LEAST_ERROR, 0.01))
    scale = PriceScale.of(errors.ravel(), a.currency)
    prices = PriceScale.of([record.truth for record in a.records], a.currency)
    figure = go.Figure()
    figure.add_scatter(**_diagonal(scale.lowest, scale.largest), name="equally far off")
    figure.add_scatter(
        x=errors[:, 0].round(2),
        y=errors[:, 1].round(2),
        mode="markers",
        name="items",
        marker={"color": _BLUE, "size": 6, "opacity": 0.5},
        hovertemplate=_mark("off by $%{x:,.2f} and $%{y:,.2f}<extra></extra>", a.currency),
    )
    unit = _mark("($)", a.currency)
    figure.update_xaxes(title=f"error of {html.escape(_shorten(a.name, _LONG_LABEL))} {unit}")
    figure.update_yaxes(title=f"error of {html.escape(_shorten(b.name, _LONG_LABEL))} {unit}")
    set_scale(figure, scale, log=prices.is_wide)
    return apply_style(figure, legend=True)


def draw_differences(pairs: Sequence[Comparison]) -> Any:
    """Draw each MAE difference with its 95 % interval; left of 0 the first model is better."""
    go = import_plotly()
    shown = pairs[::-1]
    figure = go.Figure()
    figure.add_scatter(
        x=[one.difference.value for one in shown],
        y=[html.escape(_shorten(one.b.name)) for one in shown],
        mode="markers",
        marker={"color": _BLUE, "size": 10},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [_to_length(one.difference.high - one.difference.value) for one in shown],
            "arrayminus": [_to_length(one.difference.value - one.difference.low) for one in shown],
        },
        hovertemplate=_mark("%{y}: $%{x:,.2f}<extra></extra>", pairs[0].a.currency),
    )
    figure.add_vline(x=0, line={"color": _GREY, "dash": "dash"})
    figure.update_xaxes(title=_mark("difference of MAE ($)", pairs[0].a.currency))
    figure.update_yaxes(automargin=True)
    return apply_style(figure, height=160 + 40 * len(shown))


def draw_learning_curve(forecast: Forecast, to: int) -> Any:
    """Draw points with their 95 % intervals, each form, and the 80 % band, up to a training size."""
    import numpy as np

    go = import_plotly()
    sizes = np.unique(
        np.geomspace(forecast.points[0].size, max(to, forecast.largest), 40).round().astype(int)
    )
    bands = [forecast.mae(int(size)) for size in sizes]
    figure = go.Figure()
    edge = {"x": sizes, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    figure.add_scatter(y=[band.high for band in bands], showlegend=False, **edge)
    figure.add_scatter(
        y=[band.low for band in bands],
        fill="tonexty",
        fillcolor="rgba(31, 119, 180, 0.2)",
        name="80 % band",
        **edge,
    )
    for one, dash in zip(forecast.fitted, ("dot", "solid", "dash", "dashdot", "longdash"), strict=False):
        line = {"width": 1.2, "dash": dash, "color": "#555"}
        curve = [float(one.errors(int(size))[0]) for size in sizes]
        figure.add_scatter(x=sizes, y=curve, mode="lines", line=line, name=one.form.name, hoverinfo="skip")
    metrics = [point.evaluation.mae for point in forecast.points]
    figure.add_scatter(
        x=[point.size for point in forecast.points],
        y=[mae.value for mae in metrics],
        mode="markers",
        marker={"size": 10, "color": "#1f77b4"},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [mae.high - mae.value for mae in metrics],
            "arrayminus": [mae.value - mae.low for mae in metrics],
        },
        name="evaluated, 95 % interval",
        hovertemplate=_mark("%{x:,} examples: $%{y:,.2f}<extra></extra>", forecast.currency),
    )
    figure.update_xaxes(title="training examples", type="log")
    figure.update_yaxes(title=_mark("MAE ($)", forecast.currency), type="log")
    return apply_style(figure, legend=True)


def to_div(figure: Any) -> str:
    """Return a figure as a part of a page that has plotly's script, and its own background and colours."""
    clear = "rgba(0, 0, 0, 0)"
    figure.layout.updatemenus = ()
    figure.update_layout(paper_bgcolor=clear, plot_bgcolor=clear)
    html_of_figure: str = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        default_height=f"{figure.layout.height or 450}px",
        config={"displaylogo": False, "responsive": True, "displayModeBar": False},
    )
    return html_of_figure


def import_plotly() -> Any:
    """Return plotly's module of figures.

    Raises:
        MissingExtra: plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise MissingExtra("figures need plotly; install it: pip install 'finetune-pricer[plots]'") from error
    return go


def apply_style(figure: Any, *, legend: bool = False, height: int = 450) -> Any:
    """Return a figure in the style of all figures of reports."""
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 60, "r": 15, "t": 40 if legend else 10, "b": 50},
        showlegend=legend,
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        font={"family": "system-ui, sans-serif"},
        dragmode=False,  # a finger on a phone scrolls the page
    )
    return figure


def _mark(label: str, currency: str) -> str:
    """Return a label with the currency's mark where it has a `$`."""
    return label.replace("$", mark_of(currency) if "$%" in label else mark_of(currency).strip())


def _sample_points(records: Sequence[ScoredRecord]) -> tuple[list[ScoredRecord], str]:
    """Return as many records as a figure can show, and what its axis says where that is not all."""
    if len(records) <= _MOST_POINTS:
        return list(records), ""
    left_out = f"; {_MOST_POINTS:,} of {len(records):,} items, drawn at random"
    return _sample(records, _MOST_POINTS), left_out


def _sample(rows: Sequence[Row], most: int) -> list[Row]:
    return random.Random(42).sample(rows, most) if len(rows) > most else list(rows)  # noqa: S311


def _price_or_last(record: Record) -> float:
    return math.inf if record.price is None else record.price


def _shorten(text: str, most: int = _LABEL) -> str:
    """Return a long text without its middle: names of models differ at their ends."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}…{text[len(text) - (most - most // 2 - 1) :]}"


def _to_length(length: float) -> float | None:
    # An unknown end has no bar; rounding may leave a negative length.
    return None if math.isnan(length) else max(length, 0.0)
