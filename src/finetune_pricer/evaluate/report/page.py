"""The page that reports are written on: one file, no request leaves it, readable on phone and paper."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from .markdown import dollars, interval, number

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..evaluation import Evaluation

# The policy makes every browser refuse to load or send anything, whatever a title may contain.
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
      content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline';
               img-src data: blob:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light; }}
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1b1b1f; background: #fff; margin: 0 auto;
        max-width: 68rem; padding: 1.5rem; }}
h1 {{ font-size: 1.3rem; overflow-wrap: anywhere; margin: 0 0 .25rem; }}
h2 {{ font-size: 1.1rem; margin: 2.25rem 0 .5rem; }}
.headline {{ font-size: 1.6rem; line-height: 1.25; font-weight: 600; margin: .25rem 0; }}
.note {{ color: #55555e; margin: .25rem 0; }}
.verdict {{ border-left: 4px solid #00796b; background: #f1f8f6; padding: .5rem .75rem; margin: .75rem 0; }}
.verdict p {{ margin: .25rem 0; }}
.warning {{ background: #fff3cd; border-left: 4px solid #b8860b; padding: .5rem .75rem; margin: .75rem 0; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; min-width: 50%; }}
th, td {{ text-align: right; padding: .3rem .6rem; border-bottom: 1px solid #ddd; white-space: nowrap; }}
th {{ font-weight: 600; vertical-align: bottom; }}
.text {{ text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 9rem; }}
.wide {{ width: 100%; }}
.figure {{ width: 100%; }}
.figure .modebar {{ display: none; }}
@media (max-width: 40rem) {{ body {{ padding: .9rem; }} .headline {{ font-size: 1.3rem; }}
  th, td {{ padding: .3rem .5rem; }} .text {{ min-width: 7.5rem; }} }}
@media print {{ body {{ padding: 0; max-width: none; font-size: 11pt; }} .scroll {{ overflow: visible; }}
  table {{ font-size: 8pt; }} th, td {{ padding: .15rem .35rem; white-space: normal; }}
  h2 {{ break-after: avoid; }} .figure, tr {{ break-inside: avoid; }}
  .updatemenu-container {{ display: none; }} }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def page(title: str, body: str) -> str:
    """Put a body on the page; the title is shown as text."""
    return _PAGE.format(title=html.escape(title), body=body)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: int = 1) -> str:
    """Write a table whose first columns are text and the others numbers; all cells are shown as text."""

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=text' if at < text_columns else ''}>{html.escape(cell)}</{tag}>"
            for at, cell in enumerate(row)
        )

    shown = f"<tr>{cells('th', head)}</tr>" if any(head) else ""
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="scroll"><table>{shown}{body}</table></div>'


def metric_table(evaluations: Sequence[Evaluation]) -> str:
    """Write one line per model with the metrics that people ask for."""
    head = (
        "",
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
    return table(head, [_model_row(one) for one in evaluations])


def _model_row(one: Evaluation) -> tuple[str, ...]:
    return (
        one.name,
        dollars(one.mae.value),
        interval(one.mae, "$"),
        dollars(one.median_absolute_error.value),
        dollars(one.rmse.value),
        number(one.rmsle.value, ""),
        number(one.r2.value, "%"),
        *(f"{share.value:.0%}" for share in (one.green, one.orange, one.red)),
        f"{one.n:,}",
        f"{one.unscored:,}",
    )
