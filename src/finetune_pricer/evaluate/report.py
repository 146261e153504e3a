"""The report: one HTML file that people open, with no need of a network."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING, Any

from .._files import replacing
from ..errors import MissingExtra
from . import metrics

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from .evaluator import Evaluation, Metric

_COLOURS = {"green": "#1a9850", "orange": "#f28e2b", "red": "#d73027"}
# Shapes too, so that colour is not needed to read the figure.
_SYMBOLS = {"green": "circle", "orange": "diamond", "red": "x"}
_NAMES = {"green": "within $40 or 20 %", "orange": "within $80 or 40 %", "red": "further off"}

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light; }}
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1b1b1f; background: #fff; margin: 0 auto;
        max-width: 60rem; padding: 1.5rem; }}
h1 {{ font-size: 1.3rem; overflow-wrap: anywhere; margin: 0 0 .25rem; }}
h2 {{ font-size: 1.1rem; margin: 2rem 0 .5rem; }}
.headline {{ font-size: 1.6rem; font-weight: 600; margin: .25rem 0; }}
.note {{ color: #55555e; margin: .25rem 0; }}
.warning {{ background: #fff3cd; border-left: 4px solid #b8860b; padding: .5rem .75rem; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: right; padding: .35rem .6rem; border-bottom: 1px solid #ddd; white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; white-space: normal; overflow-wrap: anywhere;
                                  min-width: 9rem; }}
.figure {{ width: 100%; height: 28rem; }}
@media print {{ .figure {{ break-inside: avoid; }} }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def write_html(evaluation: Evaluation, path: str | os.PathLike[str]) -> None:
    """Write the report of one evaluation; see `Evaluation.to_html`."""
    page = _PAGE.format(title=html.escape(f"Prices by {evaluation.name}"), body=_body(evaluation))
    with replacing(path) as file:
        file.write(page.encode())


def _body(evaluation: Evaluation) -> str:
    parts = [
        f"<h1>{html.escape(evaluation.name)}</h1>",
        f'<p class="headline">Off by ${evaluation.mae.value:,.2f} on average</p>',
        f'<p class="note">{_evidence(evaluation)}</p>',
    ]
    if evaluation.warning:
        warning = f"{html.escape(evaluation.warning)}; the numbers may describe the easy ones."
        parts.append(f'<p class="warning">{warning}</p>')
    parts.append(_table(evaluation))
    for heading, note, figure in _figures(evaluation):
        parts.append(f'<h2>{heading}</h2><p class="note">{note}</p>{figure}')
    if reasons := _unscored(evaluation):
        parts.append(f"<h2>Unscored</h2><ul>{reasons}</ul>")
    return "\n".join(parts)


def _figures(evaluation: Evaluation) -> Iterator[tuple[str, str, str]]:
    # The script is put in once, with the first figure, and whole: the file must open on a train.
    yield (
        "Predicted against actual",
        "On the diagonal a guess is exact.",
        _div(scatter(evaluation), script=True),
    )
    yield (
        "Running error",
        "The mean after each item, with its 95 % band: where it has not settled, more items are needed.",
        _div(running_error(evaluation), script=False),
    )


def _evidence(evaluation: Evaluation) -> str:
    sample = f" ({html.escape(evaluation.sample)})" if evaluation.sample else ""
    return (
        f"Mean absolute error, 95 % interval {_interval(evaluation.mae, '$')}, "
        f"{evaluation.n:,} items scored{sample}, {evaluation.unscored:,} unscored."
    )


def _interval(metric: Metric, unit: str) -> str:
    return "unknown" if math.isnan(metric.low) else f"{unit}{metric.low:,.2f} to {unit}{metric.high:,.2f}"


def _table(evaluation: Evaluation) -> str:
    columns = (
        "MAE",
        "95 % interval",
        "median error",
        "RMSE",
        "RMSLE",
        "r²",
        "green",
        "orange",
        "red",
        "n",
        "unscored",
    )
    rows = "".join(_row(one) for one in (evaluation, *evaluation.baselines))
    head = "".join(f"<th>{name}</th>" for name in columns)
    return (
        f'<h2>Beside the baseline</h2><div class="scroll"><table><tr><th></th>{head}</tr>{rows}</table></div>'
    )


def _row(one: Evaluation) -> str:
    cells = [
        f"${one.mae.value:,.2f}",
        _interval(one.mae, "$"),
        f"${one.median_absolute_error.value:,.2f}",
        f"${one.rmse.value:,.2f}",
        f"{one.rmsle.value:.3f}",
        f"{one.r2.value:.1%}",
        *(f"{share.value:.0%}" for share in (one.green, one.orange, one.red)),
        f"{one.n:,}",
        f"{one.unscored:,}",
    ]
    return f"<tr><td>{html.escape(one.name)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _unscored(evaluation: Evaluation) -> str:
    reasons: dict[str, int] = {}
    for record in evaluation.records:
        if record.price is None:
            reason = record.unscored or "no price was given"
            reasons[reason] = reasons.get(reason, 0) + 1
    common = sorted(reasons.items(), key=lambda pair: -pair[1])[:20]
    return "".join(f"<li>{count:,} x {html.escape(reason)}</li>" for reason, count in common)


def _plotly() -> Any:
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise MissingExtra(
            "the report needs plotly; install it: pip install 'finetune-pricer[plots]'"
        ) from error
    return go


def _div(figure: Any, *, script: bool) -> str:
    return str(
        figure.to_html(
            full_html=False,
            include_plotlyjs=script,
            default_height="28rem",
            config={"displaylogo": False, "responsive": True},
        )
    )


def scatter(evaluation: Evaluation) -> Any:
    """Draw predicted against actual prices, in dollars, coloured and shaped by the course's rule."""
    import numpy as np

    go = _plotly()
    scored = [record for record in evaluation.records if record.price is not None]
    truth = np.array([record.truth for record in scored])
    price = np.array([record.price for record in scored], dtype=np.float64)
    colours = metrics.hit_colours(truth, price)
    top = float(max(truth.max(), price.max(), 1.0)) * 1.05
    figure = go.Figure()
    figure.add_scatter(
        x=[0, top],
        y=[0, top],
        mode="lines",
        line={"color": "#888", "dash": "dash"},
        name="exact",
        hoverinfo="skip",
    )
    for colour, name in _NAMES.items():
        chosen = np.flatnonzero(colours == colour)
        labels = [html.escape(scored[at].label) for at in chosen]
        figure.add_scatter(
            x=truth[chosen],
            y=price[chosen],
            mode="markers",
            name=f"{name} ({len(chosen)})",
            marker={"color": _COLOURS[colour], "symbol": _SYMBOLS[colour], "size": 8, "opacity": 0.75},
            text=labels,
            hovertemplate="%{text}<br>actual $%{x:,.2f}<br>predicted $%{y:,.2f}<extra></extra>",
        )
    figure.update_xaxes(title="actual price ($)", range=[0, top])
    figure.update_yaxes(title="predicted price ($)", range=[0, top])
    return _styled(figure)


def running_error(evaluation: Evaluation) -> Any:
    """Draw the mean absolute error after each item, in dollars, with mean ± 1.96 sd/√n around it."""
    import numpy as np

    go = _plotly()
    errors = np.abs(np.array([record.error for record in evaluation.records if record.error is not None]))
    count = np.arange(1, errors.size + 1)
    mean = np.cumsum(errors) / count
    variance = np.maximum(np.cumsum(errors**2) / count - mean**2, 0.0) * count / np.maximum(count - 1, 1)
    half = 1.96 * np.sqrt(variance / count)
    half[0] = 0.0  # one item says nothing about the spread; the band begins at the second
    figure = go.Figure()
    figure.add_scatter(
        x=count, y=mean + half, mode="lines", line={"width": 0}, showlegend=False, hoverinfo="skip"
    )
    figure.add_scatter(
        x=count,
        y=np.maximum(mean - half, 0.0),
        mode="lines",
        line={"width": 0},
        fill="tonexty",
        fillcolor="rgba(31, 119, 180, 0.2)",
        name="95 % band",
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=count,
        y=mean,
        mode="lines",
        line={"color": "#1f77b4"},
        name="mean error so far",
        hovertemplate="after %{x} items: $%{y:,.2f}<extra></extra>",
    )
    figure.update_xaxes(title="items")
    figure.update_yaxes(title="mean absolute error ($)", rangemode="tozero")
    return _styled(figure)


def _styled(figure: Any) -> Any:
    figure.update_layout(
        template="plotly_white",
        margin={"l": 60, "r": 20, "t": 10, "b": 50},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )
    return figure
