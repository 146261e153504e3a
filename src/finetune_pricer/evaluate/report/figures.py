"""The figures of reports and notebooks, drawn with plotly."""

from __future__ import annotations

import html
import random
from typing import TYPE_CHECKING, Any

from ...errors import EvaluationError, MissingExtra
from .. import metrics
from ..paired import side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..compare import Comparison
    from ..evaluation import Evaluation
    from ..measurement import Record, Slice

_COLOURS = {"green": "#1a9850", "orange": "#f28e2b", "red": "#d73027"}
# Shapes too, so that colour is not needed to read the figure.
_SYMBOLS = {"green": "circle", "orange": "diamond", "red": "x"}
_NAMES = {"green": "within $40 or 20 %", "orange": "within $80 or 40 %", "red": "further off"}
_BLUE, _GREY = "#1f77b4", "#888"
_MOST_POINTS = 3000  # more of them hide each other, and make the file heavy
_MOST_RANGES = 60
_MOST_CATEGORIES = 15
_LABEL = 26


def draw(evaluation: Evaluation, kind: str, *, log: bool = False) -> Any:
    """Draw one figure by its name; see `Evaluation.figure`.

    Raises:
        EvaluationError: There is no such figure.
    """
    if kind == "scatter":
        return scatter(evaluation, log=log)
    kinds: dict[str, Callable[[Evaluation], Any]] = {
        "running": running_error,
        "bands": lambda found: slices(found.by_price_band(), "true price"),
        "categories": lambda found: slices(found.by_category()[:_MOST_CATEGORIES], ""),
        "calibration": calibration,
        "ranges": ranges,
    }
    if kind not in kinds:
        raise EvaluationError(f"there is no figure {kind!r}; choose one of {', '.join(['scatter', *kinds])}")
    return kinds[kind](evaluation)


def scatter(evaluation: Evaluation, *, log: bool = False) -> Any:
    """Draw predicted against actual prices, in dollars, coloured and shaped by the course's rule."""
    import numpy as np

    go = plotly()
    shown, left = _some(evaluation)
    truth = np.array([record.truth for record in shown])
    price = np.array([record.price for record in shown], dtype=np.float64)
    colours = metrics.hit_colours(truth, price)
    top = float(max(truth.max(), price.max(), 1.0)) * 1.05
    figure = go.Figure()
    # From a cent on, so that the line exists on logarithmic axes too.
    line = {"x": [0.01, top], "y": [0.01, top], "mode": "lines", "line": {"color": _GREY, "dash": "dash"}}
    figure.add_scatter(**line, name="exact", hoverinfo="skip")
    for colour, name in _NAMES.items():
        chosen = np.flatnonzero(colours == colour)
        figure.add_scatter(
            x=truth[chosen].round(2),
            y=price[chosen].round(2),
            mode="markers",
            name=f"{name} ({len(chosen)})",
            marker={"color": _COLOURS[colour], "symbol": _SYMBOLS[colour], "size": 7, "opacity": 0.7},
            text=[html.escape(shown[at].label) for at in chosen],
            hovertemplate="%{text}<br>actual $%{x:,.2f}<br>predicted $%{y:,.2f}<extra></extra>",
        )
    figure.update_xaxes(title=f"actual price ($){left}")
    figure.update_yaxes(title="predicted price ($)")
    _either_axes(figure, min(float(price.min()), 0.0), top, _bottom(truth, price), log=log)
    return styled(figure, legend=True)


def _either_axes(figure: Any, low: float, top: float, bottom: float, *, log: bool) -> None:
    import math

    linear = {"type": "linear", "range": [low, top], "dtick": None}
    logarithmic = {"type": "log", "range": [math.log10(bottom), math.log10(top)], "dtick": 1}
    figure.update_xaxes(logarithmic if log else {**linear, "range": [0, top]})
    figure.update_yaxes(logarithmic if log else linear)

    def button(label: str, x: dict[str, Any], y: dict[str, Any]) -> dict[str, Any]:
        parts = {f"{axis}.{name}": made[name] for axis, made in (("xaxis", x), ("yaxis", y)) for name in made}
        return {"label": label, "method": "relayout", "args": [parts]}

    buttons = [
        button("linear", {**linear, "range": [0, top]}, linear),
        button("log", logarithmic, logarithmic),
    ]
    place = {"x": 0.02, "xanchor": "left", "y": 0.98, "yanchor": "top", "direction": "right"}
    figure.update_layout(
        updatemenus=[{"type": "buttons", "buttons": buttons, "active": int(log), "showactive": True, **place}]
    )


def _bottom(*prices: Any) -> float:
    import numpy as np

    above = np.concatenate(prices)
    above = above[above > 0]
    return max(float(above.min()) * 0.8, 0.01) if above.size else 0.01


def running_error(evaluation: Evaluation) -> Any:
    """Draw the mean absolute error after each item, in dollars, with mean ± 1.96 sd/√n around it."""
    import numpy as np

    go = plotly()
    errors = np.abs(np.array([record.error for record in evaluation.records if record.error is not None]))
    count = np.arange(1, errors.size + 1)
    mean = np.cumsum(errors) / count
    variance = np.maximum(np.cumsum(errors**2) / count - mean**2, 0.0) * count / np.maximum(count - 1, 1)
    half = 1.96 * np.sqrt(variance / count)
    half[0] = 0.0  # one item says nothing about the spread; the band begins at the second
    kept = np.unique(np.linspace(0, errors.size - 1, min(errors.size, 1000)).round().astype(int))
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
        hovertemplate="after %{x} items: $%{y:,.2f}<extra></extra>",
    )
    figure.update_xaxes(title="items")
    figure.update_yaxes(title="mean absolute error ($)", rangemode="tozero")
    return styled(figure, legend=True)


def slices(parts: Sequence[Slice], title: str) -> Any:
    """Draw the mean absolute error of each part of the items, in dollars, with its 95 % interval."""
    go = plotly()
    known = [(part, part.mae) for part in reversed(parts) if part.mae is not None]
    figure = go.Figure()
    figure.add_bar(
        y=[f"{html.escape(_short(part.label))} ({part.n:,})" for part, _ in known],
        x=[mae.value for _, mae in known],
        orientation="h",
        marker={"color": "#9ecae1"},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [_length(mae.high - mae.value) for _, mae in known],
            "arrayminus": [_length(mae.value - mae.low) for _, mae in known],
            "color": "#333",
        },
        hovertemplate="%{y} items: $%{x:,.2f}<extra></extra>",
    )
    figure.update_xaxes(title="MAE ($)", rangemode="tozero")
    figure.update_yaxes(title=title, automargin=True)
    return styled(figure, height=130 + 30 * max(len(known), 3))


def calibration(evaluation: Evaluation) -> Any:
    """Draw the mean actual price against the mean predicted one, for tenths of the items by prediction."""
    import numpy as np

    go = plotly()
    rows = np.array([(r.price, r.truth) for r in evaluation.records if r.price is not None])
    parts = np.array_split(rows[np.argsort(rows[:, 0], kind="stable")], min(10, len(rows)))
    predicted, actual = np.array([part.mean(axis=0) for part in parts]).T
    half = np.array(
        [1.96 * part[:, 1].std(ddof=1) / len(part) ** 0.5 if len(part) > 1 else 0 for part in parts]
    )
    top = float(max(predicted.max(), (actual + half).max(), 1.0)) * 1.05
    figure = go.Figure()
    line = {"x": [0, top], "y": [0, top], "mode": "lines", "line": {"color": _GREY, "dash": "dash"}}
    figure.add_scatter(**line, name="calibrated", hoverinfo="skip")
    figure.add_scatter(
        x=predicted.round(2),
        y=actual.round(2),
        mode="markers+lines",
        line={"color": _BLUE, "width": 1},
        error_y={"type": "data", "array": half.round(2), "color": _BLUE},
        name="tenths of the items",
        hovertemplate="predicted $%{x:,.2f}, actual $%{y:,.2f} on average<extra></extra>",
    )
    figure.update_xaxes(title="mean predicted price ($)")
    figure.update_yaxes(title="mean actual price ($)")
    return styled(figure, legend=True)


def ranges(evaluation: Evaluation) -> Any:
    """Draw price ranges and true prices of some items, in dollars on a logarithmic axis.

    Raises:
        EvaluationError: No prediction has a range; calibrate the predictor first.
    """
    go = plotly()
    found = [r for r in evaluation.records if r.low is not None and r.high is not None]
    if not found:
        raise EvaluationError("no prediction has a price range; predictor.calibrate(items) gives them")
    chosen = _drawn(found, _MOST_RANGES)
    chosen.sort(key=lambda record: record.price or 0.0)
    figure = go.Figure()
    at = list(range(1, len(chosen) + 1))
    figure.add_bar(
        x=at,
        y=[(r.high or 0.0) - (r.low or 0.0) for r in chosen],
        base=[r.low for r in chosen],
        name="price range",
        marker={"color": "#c6dbef"},
        hoverinfo="skip",
    )
    for name, inside, symbol, colour in (
        ("inside", True, "circle", "#1a9850"),
        ("outside", False, "x", "#d73027"),
    ):
        rows = [
            (x, r)
            for x, r in zip(at, chosen, strict=True)
            if ((r.low or 0.0) <= r.truth <= (r.high or 0.0)) == inside
        ]
        figure.add_scatter(
            x=[x for x, _ in rows],
            y=[r.truth for _, r in rows],
            mode="markers",
            name=f"true price {name}",
            marker={"symbol": symbol, "color": colour},
            text=[html.escape(r.label) for _, r in rows],
            hovertemplate="%{text}<br>actual $%{y:,.2f}<extra></extra>",
        )
    figure.update_xaxes(title=f"{len(chosen)} items, by predicted price", showticklabels=False)
    figure.update_yaxes(title="price ($)", type="log")
    return styled(figure, legend=True)


def error_against_error(comparison: Comparison) -> Any:
    """Draw one model's absolute error against the other's, one point an item, in dollars."""
    go = plotly()
    a, b = comparison.a, comparison.b
    found = side_by_side([a, b], allow_different=True).errors
    found = found[~(found != found).any(axis=1)][:_MOST_POINTS]  # noqa: PLR0124 - NaN is not itself
    top = max(float(found.max()), 1.0) * 1.05
    figure = go.Figure()
    line = {"x": [0, top], "y": [0, top], "mode": "lines", "line": {"color": _GREY, "dash": "dash"}}
    figure.add_scatter(**line, name="equally far off", hoverinfo="skip")
    figure.add_scatter(
        x=found[:, 0].round(2),
        y=found[:, 1].round(2),
        mode="markers",
        name="items",
        marker={"color": _BLUE, "size": 6, "opacity": 0.5},
        hovertemplate="off by $%{x:,.2f} and $%{y:,.2f}<extra></extra>",
    )
    figure.update_xaxes(title=f"error of {html.escape(_short(a.name, 18))} ($)", range=[0, top])
    figure.update_yaxes(title=f"error of {html.escape(_short(b.name, 18))} ($)", range=[0, top])
    return styled(figure, legend=True)


def gaps(comparison: Comparison) -> Any:
    """Draw each MAE difference with its 95 % interval, in dollars; left of 0 the first model is better."""
    go = plotly()
    shown = (comparison, *comparison.further)[::-1]
    figure = go.Figure()
    figure.add_scatter(
        x=[one.difference.value for one in shown],
        y=[html.escape(_short(one.b.name)) for one in shown],
        mode="markers",
        marker={"color": _BLUE, "size": 10},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [_length(one.difference.high - one.difference.value) for one in shown],
            "arrayminus": [_length(one.difference.value - one.difference.low) for one in shown],
        },
        hovertemplate="%{y}: $%{x:,.2f}<extra></extra>",
    )
    figure.add_vline(x=0, line={"color": _GREY, "dash": "dash"})
    figure.update_xaxes(title="difference of MAE ($)")
    figure.update_yaxes(automargin=True)
    return styled(figure, height=160 + 40 * len(shown))


def div(figure: Any, *, script: bool) -> str:
    """Give a figure as a part of a page; the first on a page brings the script, whole."""
    made = figure.to_html(
        full_html=False,
        include_plotlyjs=script,
        default_height=f"{figure.layout.height or 450}px",
        config={"displaylogo": False, "responsive": True, "displayModeBar": False},
    )
    return f'<div class="figure">{made}</div>'


def plotly() -> Any:
    """Give plotly's figures.

    Raises:
        MissingExtra: plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise MissingExtra(
            "the report needs plotly; install it: pip install 'finetune-pricer[plots]'"
        ) from error
    return go


def styled(figure: Any, *, legend: bool = False, height: int = 450) -> Any:
    """Dress a figure as those of reports are."""
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


def _some(evaluation: Evaluation) -> tuple[list[Record], str]:
    scored = [record for record in evaluation.records if record.price is not None]
    if len(scored) <= _MOST_POINTS:
        return scored, ""
    return _drawn(scored, _MOST_POINTS), f"; {_MOST_POINTS:,} of {len(scored):,} items, drawn at random"


def _drawn(records: Sequence[Record], most: int) -> list[Record]:
    return random.Random(42).sample(records, most) if len(records) > most else list(records)  # noqa: S311


def _short(text: str, most: int = _LABEL) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _length(length: float) -> float:
    return 0.0 if length != length else max(length, 0.0)  # noqa: PLR0124 - NaN is not itself
