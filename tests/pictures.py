"""Takes the pictures of the docs from real runs, light and dark: `make pictures`, after a page has changed.

What stands on them: a report, the dashboard of the local server, and a learning curve with its forecast.
"""

from __future__ import annotations

import base64
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from browser import Browser
from finetune_pricer import Evaluator, FineTuneJob, JsonlWriter, MadeUpCatalogue, forecast
from finetune_pricer.errors import JobError
from finetune_pricer.local import LocalServer

if TYPE_CHECKING:
    from openai import OpenAI

    from finetune_pricer import Evaluation, Forecast

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
SCHEMES = ("light", "dark")
SIZES = (100, 300, 1000, 2000)
_BACKGROUNDS = {"light": ("#ffffff", "plotly_white"), "dark": ("#111111", "plotly_dark")}
_QUALITY = 82  # of WebP, which keeps a page of text below 60 kB


class Photographer:
    """A browser window in which pages are opened, in one scheme of colours after the other."""

    def __init__(self, browser: Browser, folder: Path) -> None:
        self._browser, self._folder = browser, folder
        browser.call("Emulation.setScrollbarsHidden", hidden=True)

    def take(self, name: str, url: str, *, height: int, scheme: str, width: int = 1000) -> None:
        """Keep the top of a page as `NAME-SCHEME.webp`."""
        self._browser.wear(scheme)
        self._browser.visit(url, width=width, height=height)
        shot = self._browser.call("Page.captureScreenshot", format="webp", quality=_QUALITY)
        path = self._folder / f"{name}-{scheme}.webp"
        path.write_bytes(base64.b64decode(shot["data"]))
        print(f"{path.name}: {path.stat().st_size:,} bytes")


def run_jobs(client: OpenAI, folder: Path) -> dict[int, Evaluation]:
    """Train on more and more items, and one job in vain; return the evaluations by their sizes."""
    catalogue = MadeUpCatalogue(seed=42)
    train, validation, test = catalogue.splits(train=2000, validation=60, test=200)
    writer = JsonlWriter()
    watched = writer.write(validation, folder / "validation.jsonl")
    found = {}
    for count in SIZES:
        file = writer.write(train[:count], folder / f"train-{count}.jsonl")
        job = FineTuneJob.create(
            client, file, validation=watched, model="pricer-base", seed=42, suffix=f"on-{count}"
        )
        evaluator = Evaluator(baselines=train if count == SIZES[-1] else None)
        found[count] = evaluator.evaluate(job.wait().predictor(), test)
    spoilt = FineTuneJob.create(client, file, model="pricer-base", seed=7, suffix="cancelled")
    with suppress(JobError):
        spoilt.cancel()
    return found


def draw_curve(curve: Forecast, path: Path, scheme: str) -> None:
    """Write the figure of a forecast as a page of its own."""
    colour, template = _BACKGROUNDS[scheme]
    figure = curve.figure()
    figure.update_layout(template=template, paper_bgcolor=colour, plot_bgcolor=colour, width=980, height=520)
    figure.write_html(path, include_plotlyjs=True, config={"displayModeBar": False})
    page = path.read_text(encoding="utf-8")
    path.write_text(
        page.replace("<body>", f'<body style="background: {colour}; margin: 0">', 1), encoding="utf-8"
    )


def main() -> None:
    """Run, draw and take every picture."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, LocalServer() as server, Browser() as browser:
        found = run_jobs(server.client(), Path(folder))
        photographer = Photographer(browser, FOLDER)
        report = Path(folder, "report.html")
        found[SIZES[-1]].to_html(report)
        curve = forecast(found)
        for scheme in SCHEMES:
            photographer.take("report", report.as_uri(), height=760, scheme=scheme)
            photographer.take("dashboard", server.url.removesuffix("/v1") + "/", height=760, scheme=scheme)
            drawn = Path(folder, "curve.html")
            draw_curve(curve, drawn, scheme)
            photographer.take("curve", drawn.as_uri(), height=540, scheme=scheme)


if __name__ == "__main__":
    main()
