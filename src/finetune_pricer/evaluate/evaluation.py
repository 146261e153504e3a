"""What an evaluation found: records, metrics with their intervals, parts, cost; kept as a file."""

from __future__ import annotations

import html
import math
from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._files import replacing
from ..errors import EvaluationError, FileAccessError
from . import measurement
from .measurement import KINDS, Metric, Record, Slice

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    import pandas as pd

_MANY_UNSCORED = 0.05
_FORMAT = 1
_SLICE_ROUNDS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How wrong a pricing function was on some items. `str()` says it in one line.

    What could not be scored is counted in `unscored` and enters no metric.
    """

    name: str
    records: tuple[Record, ...]
    mae: Metric
    """Mean absolute error, dollars."""
    median_absolute_error: Metric
    """Dollars."""
    rmse: Metric
    """Root mean squared error, dollars."""
    mse: Metric
    """Mean squared error, dollars squared."""
    rmsle: Metric
    """Root mean squared error of log(1 + price); a negative price counts as 0."""
    mape: Metric
    """Mean of the error as a share of the true price; items of price 0 are left out."""
    smape: Metric
    """Mean of the error as a share of the mean of both prices, 0 to 2."""
    median_ape: Metric
    """Median of the error as a share of the true price; items of price 0 are left out."""
    r2: Metric
    """Share of the variance explained; 1 is perfect."""
    bias: Metric
    """Mean of predicted minus true price, dollars."""
    within_10: Metric
    """Share of guesses within 10 % of the true price."""
    within_20: Metric
    """Share of guesses within 20 %."""
    within_40: Metric
    """Share of guesses within 40 %."""
    green: Metric
    """Share of guesses within $40 or 20 %, by the course's rule."""
    orange: Metric
    """Share of the rest within $80 or 40 %."""
    red: Metric
    """Share of all others."""
    coverage: Metric | None = None
    """Share of true prices inside the price range; None without ranges."""
    width: Metric | None = None
    """Mean width of the price range, dollars; None without ranges, or where one is unbounded."""
    sample: str | None = None
    """How the items were drawn, where not all were taken."""
    prompt_tokens: int | None = None
    """Tokens that were read to answer; None where nothing counted them."""
    completion_tokens: int | None = None
    """Tokens that were written; None where nothing counted them."""
    dollars: float | None = None
    """What the answers cost; None when unknown."""
    seconds: float | None = None
    """How long the asking took; None when the predictions were made elsewhere."""
    seed: int = 42
    """Of the intervals."""
    manifest: Mapping[str, str] = field(default_factory=dict)
    """What it takes to do it again: versions, model, a hash of the items, a hash of the prompt, dates."""
    baselines: tuple[Evaluation, ...] = ()
    """What simpler methods do on the same items."""

    @property
    def n(self) -> int:
        """How many items were scored."""
        return self.mae.n

    @property
    def unscored(self) -> int:
        """How many items were not."""
        return len(self.records) - self.n

    @property
    def unscored_reasons(self) -> dict[str, int]:
        """Why, and how often, the most common first."""
        reasons = (r.unscored or "no price was given" for r in self.records if r.price is None)
        return dict(Counter(reasons).most_common())

    @property
    def negative(self) -> int:
        """How many predicted prices are below 0. They are scored as they are; RMSLE takes them as 0."""
        return sum(record.price is not None and record.price < 0 for record in self.records)

    @property
    def is_weighted(self) -> bool:
        """Whether some items count more than others."""
        return any(record.weight != 1 for record in self.records)

    @property
    def metrics(self) -> dict[str, Metric]:
        """Every metric that there is, by the name of its attribute."""
        return {name: metric for name in KINDS if (metric := getattr(self, name)) is not None}

    @property
    def warning(self) -> str | None:
        """A sentence when so many items are unscored that the metrics may describe the easy ones only."""
        share = self.unscored / len(self.records)
        return f"{share:.0%} of the items are unscored" if share > _MANY_UNSCORED else None

    def __str__(self) -> str:
        weighted = ", weighted" if self.is_weighted else ""
        negative = f", {self.negative} below $0" if self.negative else ""
        warning = f"; WARNING: {self.warning}" if self.warning else ""
        return f"MAE ${self.mae}, n={self.n}{weighted}, {self.unscored} unscored{negative}{warning}"

    def _repr_html_(self) -> str:
        from .report.page import metric_table

        lines = [
            f"<b>{html.escape(one.name)}</b>: {html.escape(str(one))}" for one in (self, *self.baselines)
        ]
        return f"<p>{'<br>'.join(lines)}</p>{metric_table((self, *self.baselines))}"

    def by_category(self) -> tuple[Slice, ...]:
        """Cut by category, the largest first."""
        return measurement.by_category(self.records, seed=self.seed, rounds=_SLICE_ROUNDS)

    def by_price_band(self, edges: Sequence[float] | None = None) -> tuple[Slice, ...]:
        """Cut by true price: at the given dollars, or into about fifths."""
        return measurement.by_price_band(self.records, edges, seed=self.seed, rounds=_SLICE_ROUNDS)

    def worst(self, count: int = 10) -> tuple[Record, ...]:
        """Give the records with the largest errors, the worst first."""
        missed = [record for record in self.records if record.error is not None]
        return tuple(sorted(missed, key=lambda record: -abs(record.error or 0.0))[:count])

    def to_frame(self) -> pd.DataFrame:
        """Give one row per item: the fields of `Record` and `error` (dollars)."""
        import pandas as pd

        names = list(Record.__dataclass_fields__)
        return pd.DataFrame(
            [
                {name: getattr(record, name) for name in names} | {"error": record.error}
                for record in self.records
            ],
            columns=[*names, "error"],
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to a JSON file that `load` reads.

        Raises:
            FileAccessError: The path cannot be written; what stood there stays.
        """
        import orjson

        content = {"format": _FORMAT, "evaluation": _plain(self)}
        with replacing(path) as file:
            file.write(orjson.dumps(content, option=orjson.OPT_INDENT_2))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Evaluation:
        """Read what `save` wrote.

        Raises:
            FileAccessError: The file cannot be read.
            EvaluationError: It is no evaluation, or a newer version of this library wrote it.
        """
        import orjson

        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise FileAccessError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
        try:
            found = orjson.loads(content)
            version, plain = found["format"], found["evaluation"]
        except (ValueError, TypeError, KeyError) as error:
            raise EvaluationError(f"{str(path)!r} is not a saved evaluation") from error
        if version != _FORMAT:
            raise EvaluationError(
                f"{str(path)!r} has format {version!r}, this version reads {_FORMAT}; update finetune-pricer"
            )
        try:
            return _from_plain(plain)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise EvaluationError(f"{str(path)!r} is a damaged evaluation: {error!r}") from error

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write a report that needs no network: one file for screens, phones and paper.

        Raises:
            MissingExtra: plotly is not installed.
            FileAccessError: The path cannot be written; what stood there stays.
        """
        from .report.html import write_html

        write_html(self, path)

    def to_markdown(self) -> str:
        """Give the report without figures, as Markdown."""
        from .report.markdown import report

        return report(self)

    def model_card(self, *, base_model: str | None = None, license: str | None = None) -> str:  # noqa: A002 - the Hub's word
        """Give a model card for the Hugging Face Hub, with the metrics in its metadata.

        Args:
            base_model: What was tuned, as the Hub names it.
            license: The Hub's word for the licence, such as `apache-2.0`.
        """
        from .report.markdown import model_card

        return model_card(self, base_model=base_model, license=license)

    def figure(self, kind: str = "scatter", *, log: bool = False) -> Any:
        """Draw one figure of the report as a plotly `Figure`; `.to_image("png")` of it needs kaleido.

        Args:
            kind: `scatter`, `running`, `bands`, `categories`, `calibration` or `ranges`.
            log: Logarithmic axes, for `scatter`.

        Raises:
            MissingExtra: plotly is not installed.
            EvaluationError: There is no such figure, or no price ranges to draw.
        """
        from .report.figures import draw

        return draw(self, kind, log=log)


def _plain(evaluation: Evaluation) -> dict[str, Any]:
    plain = {entry.name: getattr(evaluation, entry.name) for entry in fields(Evaluation)}
    plain["records"] = [
        asdict(record) | {"low": _written(record.low), "high": _written(record.high)}
        for record in evaluation.records
    ]
    plain["baselines"] = [_plain(one) for one in evaluation.baselines]
    plain["manifest"] = dict(evaluation.manifest)
    return plain | {name: asdict(metric) for name, metric in evaluation.metrics.items()}


def _from_plain(plain: dict[str, Any]) -> Evaluation:
    made = dict(plain)
    made["records"] = tuple(
        Record(**record | {"low": _number(record["low"]), "high": _number(record["high"])})
        for record in plain["records"]
    )
    made["baselines"] = tuple(_from_plain(one) for one in plain["baselines"])
    for name in KINDS:
        if plain[name] is not None:
            # JSON has no NaN; an unknown end of an interval is written as null.
            numbers: dict[str, Any] = {
                key: float("nan") if value is None else value for key, value in plain[name].items()
            }
            made[name] = Metric(**numbers)
    return Evaluation(**made)


def _written(end: float | None) -> float | str | None:
    # JSON has no infinity, which an end of a price range may be.
    return end if end is None or math.isfinite(end) else str(end)


def _number(end: float | str | None) -> float | None:
    return None if end is None else float(end)
