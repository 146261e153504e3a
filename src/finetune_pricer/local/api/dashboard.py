"""The index page: jobs with their losses drawn, models, batches and faults; plain HTML without any script."""

from __future__ import annotations

import datetime
from html import escape
from typing import TYPE_CHECKING, Any

from ..records import FINAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..records import StoredBatch, StoredJob
    from .app import ServerState

_SHOWN = 20
_WIDTH, _HEIGHT, _MARGIN = 330, 100, 32
_MOST_POINTS = 180
_FIRST = """<p class=quiet>None yet. Upload a file of chat examples to <code>/v1/files</code>, and hand it to
<code>/v1/fine_tuning/jobs</code> with one of the models below.</p>"""
_ABOUT = """<p class=quiet>Trains a statistical learner of prices from chat examples; it is not a language
model. Clients speak to it at <code>/v1</code>.</p>"""
_STYLE = """
:root { color-scheme: light dark; --line: light-dark(#0d7a6f, #4fd1c0); --valid: light-dark(#b45309, #f6ad55);
  --quiet: light-dark(#5f6b73, #9aa7b0); --edge: light-dark(#d9dfe3, #3a444b); }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
article { border: 1px solid var(--edge); border-radius: 8px; padding: .8rem 1rem; margin: .8rem 0;
  display: grid; grid-template-columns: 1fr auto; gap: 1rem; }
code { font-size: .9em; overflow-wrap: anywhere; } p { margin: .15rem 0; } .quiet { color: var(--quiet); }
.status { font-weight: 600; } .failed { color: light-dark(#b91c1c, #f87171); }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .25rem .8rem .25rem 0;
  border-bottom: 1px solid var(--edge); vertical-align: top; }
td { overflow-wrap: anywhere; } svg { max-width: 100%; height: auto; display: block; }
polyline { fill: none; stroke-width: 1.5; } polyline.train { stroke: var(--line); }
polyline.valid { stroke: var(--valid); } circle { fill: var(--valid); }
rect { fill: none; stroke: var(--edge); }
text { font-size: 10px; fill: var(--quiet); } .curve p { font-size: .85rem; }
p .train { color: var(--line); } p .valid { color: var(--valid); }
@media (max-width: 40rem) { article { grid-template-columns: 1fr; } body { margin: 1rem auto; } }
"""


def render_dashboard(state: ServerState) -> str:
    """Return the page as it stands; it asks for itself again as long as a job is unfinished."""
    jobs, models, batches = (
        state.database.list_jobs(),
        state.database.list_models(),
        state.database.list_batches(),
    )
    active = any(job.status not in FINAL | {"paused"} for job in jobs)
    faults = state.injector.faults.model_dump(exclude_defaults=True)
    refresh = f'<meta http-equiv="refresh" content="{2 if active else 15}">'
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8>{refresh}",
        '<meta name=viewport content="width=device-width">',
        f"<title>finetune_pricer: local server</title><style>{_STYLE}</style>",
        "<h1>Local fine-tuning server</h1>",
        _ABOUT,
        _faults(faults),
        f"<h2>Jobs ({len(jobs)})</h2>",
        *(_job(state, job) for job in jobs[:_SHOWN]),
        "" if jobs else _FIRST,
        _not_shown(len(jobs)),
        f"<h2>Models ({len(state.bases) + len(models)})</h2>",
        _table(
            ("model", "from", "made"),
            [(model.id, model.job, _when(model.created_at)) for model in models[:_SHOWN]]
            + [(name, "can be tuned; untrained, it prices nothing", "") for name in state.bases],
        ),
        _not_shown(len(models)),
        f"<h2>Batches ({len(batches)})</h2>" if batches else "",
        _table(("batch", "status", "requests"), map(_batch, batches[:_SHOWN])) if batches else "",
        "</html>",
    ]
    return "\n".join(part for part in parts if part)


def _not_shown(count: int) -> str:
    return f"<p class=quiet>The latest {_SHOWN} of {count:,} are shown.</p>" if count > _SHOWN else ""


def _faults(faults: dict[str, Any]) -> str:
    if not faults:
        return ""
    said = ", ".join(f"{name} = {value}" for name, value in faults.items())
    return f"<p class=failed>Faults in force: {escape(said)}</p>"


def _job(state: ServerState, job: StoredJob) -> str:
    steps = state.database.sample_metrics(job.id, _MOST_POINTS)
    settings = {"n_epochs": "auto", "batch_size": "auto"} | (job.hyperparameters or job.requested)
    said = f"{settings['n_epochs']} epochs, batch {settings['batch_size']}, seed {job.seed}"
    facts = [
        f"<p><code>{escape(job.id)}</code> <span class='status {job.status}'>{job.status}</span></p>",
        f"<p class=quiet>{escape(job.model)}, {said}, created {_when(job.created_at)}</p>",
    ]
    if steps:
        facts.append(f"<p>step {steps[-1]['step']:,} of {steps[-1]['total_steps']:,}</p>")
    elif job.status not in FINAL:
        facts += [
            f"<p>{escape(last.message)}</p>"
            for last in state.database.list_events(job.id, limit=1, after=None) or []
        ]
    if job.estimated_finish:
        facts.append(f"<p class=quiet>done about {_when(job.estimated_finish)}</p>")
    if job.error:
        facts.append(f"<p class=failed>{escape(job.error['message'])}</p>")
    if job.fine_tuned_model:
        facts.append(f"<p>model <code>{escape(job.fine_tuned_model)}</code></p>")
    return f"<article><div>{''.join(facts)}</div>{_curve(steps)}</article>"


def _curve(steps: Sequence[dict[str, Any]]) -> str:
    if len(steps) < 2:
        return ""
    total = steps[-1]["total_steps"]
    losses = [step["train_loss"] for step in steps]
    # Each the mean of its neighbourhood: the loss of a single small batch jumps.
    near = [losses[max(0, place - 4) : place + 5] for place in range(len(losses))]
    train = [(step["step"], sum(each) / len(each)) for step, each in zip(steps, near, strict=True)]
    valid = [(step["step"], step["valid_loss"]) for step in steps if "valid_loss" in step]
    shown = [loss for _, loss in [*train, *valid]]
    low, high = min(shown), max(shown)
    room = (high - low) / 20 or 0.5  # so that no curve lies on the frame

    def points(pairs: Iterable[tuple[int, float]]) -> str:
        heights = ((step, (high + room - loss) / (high - low + 2 * room)) for step, loss in pairs)
        return " ".join(f"{_WIDTH * step / total:.1f},{_HEIGHT * height:.1f}" for step, height in heights)

    dots = "".join(
        f"<circle r=2.5 cx={x} cy={y} />" for x, y in (each.split(",") for each in points(valid).split())
    )
    named = f"<span class=train>training loss {train[-1][1]:.2f}</span>"
    if valid:
        named += f", <span class=valid>validation loss {valid[-1][1]:.2f}</span>"
    return (
        f'<div class=curve><svg role=img aria-label="losses" width={_WIDTH + _MARGIN} height={_HEIGHT} '
        f'viewBox="-1 -1 {_WIDTH + _MARGIN} {_HEIGHT + 2}"><rect width={_WIDTH} height={_HEIGHT} />'
        f'<polyline class=train points="{points(train)}" /><polyline class=valid points="{points(valid)}" />'
        f"{dots}<text x={_WIDTH + 6} y=12>{high:.2f}</text>"
        f"<text x={_WIDTH + 6} y={_HEIGHT - 4}>{low:.2f}</text></svg><p>{named}</p></div>"
    )


def _batch(batch: StoredBatch) -> tuple[str, ...]:
    counts = batch.counts
    return (
        batch.id,
        batch.status,
        f"{counts['completed']} done, {counts['failed']} failed of {counts['total']}",
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    titles = "".join(f"<th>{title}</th>" for title in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{titles}</tr>{body}</table>"


def _when(seconds: int) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M:%S}"
