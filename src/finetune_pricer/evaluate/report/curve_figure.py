"""The learning curve of a forecast, drawn with plotly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .figures import plotly, styled

if TYPE_CHECKING:
    from ..forecast import Forecast


def learning_curve(found: Forecast, to: int) -> Any:
    """Draw points with their 95 % intervals, each form, and the 80 % band, up to a training size."""
    import numpy as np

    go = plotly()
    sizes = np.unique(np.geomspace(found.points[0].size, max(to, found.largest), 40).round().astype(int))
    bands = [found.mae(int(size)) for size in sizes]
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
    for one, dash in zip(found.fitted, ("dot", "solid", "dash", "dashdot", "longdash"), strict=False):
        line = {"width": 1.2, "dash": dash, "color": "#555"}
        curve = [float(one.errors(int(size))[0]) for size in sizes]
        figure.add_scatter(x=sizes, y=curve, mode="lines", line=line, name=one.form.name, hoverinfo="skip")
    metrics = [point.evaluation.mae for point in found.points]
    figure.add_scatter(
        x=[point.size for point in found.points],
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
        hovertemplate="%{x:,} examples: $%{y:,.2f}<extra></extra>",
    )
    figure.update_xaxes(title="training examples", type="log")
    figure.update_yaxes(title="MAE ($)", type="log")
    return styled(figure, legend=True)
