"""What an evaluation found: records, metrics with their intervals, slices and cost; saved and loaded."""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._arguments import require_file, require_kind, require_whole
from .._display import PrintsAsPage
from .._files import replacing
from .._format import format_money, format_share, mark_of
from ..errors import EvaluationError, FileAccessError
from ..predict.range_groups import GroupCoverage
from .measurement import (
    SLICE_ROUNDS,
    Metric,
    Record,
    ScoredRecord,
    Slice,
    measure_one,
    number_groups,
    select_scored,
    slice_by_category,
    slice_by_price_band,
)
from .metrics import METRICS
from .unscored import fill

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from ..items import ItemDataset

LEFT_OUT = "left out: "
"""With what lines of a manifest begin that name a model which could not be compared."""
_FORMAT = 1
_FILLED_ROUNDS = 2000


@dataclass(frozen=True, kw_only=True, repr=False)
class Evaluation(PrintsAsPage):
    """How wrong a pricing function was on some items. `str()` is one line.

    What could not be scored is counted in `unscored` and enters no metric.

    >>> from finetune_pricer import Evaluator, Item
    >>> items = [Item(title=f"Lamp {number}", price=10.0 * number) for number in (1, 2, 3, 4)]
    >>> evaluation = Evaluator().score(items, [12.0, "about $19", None, "$50"], name="guesses")
    >>> print(evaluation)
    MAE $4.33 (95% CI 1.00 to 10.00, too short), n=3, 1 unscored; WARNING: 25% of the items are unscored
    >>> print(evaluation.median_absolute_error, evaluation.unscored_reasons)
    2.00 (95% CI 1.00 to 10.00, too short) {'no price was given': 1}
    >>> [record.label for record in evaluation.worst(1)]
    ['Lamp 4']
    """

    name: str
    records: tuple[Record, ...]
    mae: Metric
    """Mean absolute error, in the currency's unit (dollars for USD), as all amounts here."""
    median_absolute_error: Metric
    """In the currency's unit."""
    rmse: Metric
    """Root mean squared error, in the currency's unit."""
    mse: Metric
    """Mean squared error, in the currency's unit squared."""
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
    """Mean of predicted minus true price, in the currency's unit."""
    within_10: Metric
    """Share of guesses within 10 % of the true price."""
    within_20: Metric
    """Share of guesses within 20 %."""
    within_40: Metric
    """Share of guesses within 40 %."""
    green: Metric
    """Share of guesses within 40 (dollars, euros, ...) or 20 %, by the course's rule."""
    orange: Metric
    """Share of the rest within 80 or 40 %."""
    red: Metric
    """Share of all others."""
    coverage: Metric | None = None
    """Share of true prices inside the price range; None without ranges."""
    width: Metric | None = None
    """Mean width of the price range; None without ranges, or where one is unbounded."""
    range_groups: tuple[GroupCoverage, ...] = ()
    """For each group of a calibrated predictor: what share its price ranges held, beside what was promised
    and what could be expected; weights do not count here."""
    sample: str | None = None
    """How the items were drawn, where not all were taken."""
    prompt_tokens: int | None = None
    """Tokens that were read to answer; None where nothing counted them."""
    completion_tokens: int | None = None
    """Tokens that were written; None where nothing counted them."""
    dollars: float | None = None
    """What the answers cost; None when unknown."""
    seconds: float | None = None
    """How long asking took; None when the predictions were made elsewhere."""
    seed: int = 42
    """Seed of the intervals."""
    currency: str = "USD"
    """ISO code of the currency of all prices."""
    manifest: Mapping[str, str] = field(default_factory=dict)
    """What it takes to repeat it: versions, model, a hash of the items, a hash of the prompt, dates."""
    baselines: tuple[Evaluation, ...] = ()
    """Simpler methods, evaluated on the same items."""
    training_median: float | None = None
    """What stands in for a missing price where models are compared, ranked or chosen: the median of
    the training items; None where the evaluator was not given any (`baselines=`)."""

    @property
    def n(self) -> int:
        """How many items were scored."""
        return self.mae.n

    @property
    def unscored(self) -> int:
        """How many items were not scored."""
        return len(self.records) - self.n

    @cached_property
    def scored(self) -> tuple[ScoredRecord, ...]:
        """The records that have a price."""
        return select_scored(self.records)

    @property
    def unscored_reasons(self) -> dict[str, int]:
        """Why items were not scored and how many, the most common reason first."""
        reasons = (r.unscored or "no price was given" for r in self.records if r.price is None)
        return dict(Counter(reasons).most_common())

    @property
    def negative(self) -> int:
        """How many predicted prices are below 0. They are scored as they are; RMSLE takes them as 0."""
        return sum(record.price < 0 for record in self.scored)

    @property
    def is_weighted(self) -> bool:
        """Whether some items count more than others."""
        return any(record.weight != 1 for record in self.records)

    @property
    def groups(self) -> int | None:
        """How many groups of items that err alike were scored; None where each item stands for itself."""
        numbers = number_groups(self.scored)
        return None if numbers is None else int(numbers.max()) + 1

    @property
    def not_compared(self) -> tuple[str, ...]:
        """Names of models that were to stand beside it and could not; the manifest says why."""
        return tuple(name.removeprefix(LEFT_OUT) for name in self.manifest if name.startswith(LEFT_OUT))

    @property
    def _weighed_how(self) -> str:
        how = self.manifest.get("weights", "")
        return f" {how}" if how.startswith("by ") else ""

    @property
    def metrics(self) -> dict[str, Metric]:
        """Every metric that the evaluation has, by the name of its field."""
        return {name: metric for name in METRICS if (metric := getattr(self, name)) is not None}

    @property
    def share_unscored(self) -> float:
        """Share of the items that were not scored, 0 to 1."""
        return self.unscored / len(self.records)

    @cached_property
    def mae_filled(self) -> Metric | None:
        """Mean absolute error of all items, with the training median in the place of missing prices.

        Where models are compared, ranked or chosen, this is the number. It is `mae` where nothing is
        unscored, and None where no training median is known.
        """
        if not self.unscored:
            return self.mae
        if self.training_median is None:
            return None
        records = fill(self.records, self.training_median)
        return measure_one(records, "mae", seed=self.seed, rounds=_FILLED_ROUNDS)

    @property
    def warning(self) -> str | None:
        """A sentence when items are unscored, as the metrics may describe the easy ones only."""
        if not self.unscored:
            return None
        warning = f"{format_share(self.share_unscored)} of the items are unscored"
        if self.training_median is None or self.mae_filled is None:
            return warning
        median, mark = format_money(self.training_median, self.currency, 2), mark_of(self.currency)
        return f"{warning}; with the training median {median} in their place MAE {mark}{self.mae_filled}"

    def __str__(self) -> str:
        mark = mark_of(self.currency)
        weighted = f", weighted{self._weighed_how}" if self.is_weighted else ""
        weighted += "" if self.groups is None else f", in {self.groups} groups"
        negative = f", {self.negative} below {mark}0" if self.negative else ""
        warning = f"; WARNING: {self.warning}" if self.warning else ""
        return f"MAE {mark}{self.mae}, n={self.n}{weighted}, {self.unscored} unscored{negative}{warning}"

    def _repr_html_(self) -> str:
        from .report.html import render_evaluations

        return render_evaluations((self, *self.baselines))

    def by_category(self) -> tuple[Slice, ...]:
        """Measure each category, the largest first."""
        return slice_by_category(self.records, seed=self.seed, rounds=SLICE_ROUNDS)

    def by_price_band(self, edges: Sequence[float] | None = None) -> tuple[Slice, ...]:
        """Measure each band of true prices: cut at the given amounts, or into about fifths of the items."""
        return slice_by_price_band(
            self.records, edges, currency=self.currency, seed=self.seed, rounds=SLICE_ROUNDS
        )

    def worst(self, count: int = 10) -> tuple[ScoredRecord, ...]:
        """Return the records with the largest errors, the worst first."""
        require_whole("count", count, low=0)
        return tuple(sorted(self.scored, key=lambda record: -abs(record.error))[:count])

    def to_dict(self) -> dict[str, float]:
        """Return all numbers as a flat dict of floats, for trackers and logs; what is unknown is left out.

        Each metric under its name, the ends of its interval as `mae_low` and `mae_high`, and `n`, `unscored`,
        `prompt_tokens`, `completion_tokens`, `dollars` and `seconds`.
        """
        found: dict[str, float | None] = {"n": self.n, "unscored": self.unscored}
        for name, metric in self.metrics.items():
            found |= {name: metric.value, f"{name}_low": metric.low, f"{name}_high": metric.high}
        for name in ("prompt_tokens", "completion_tokens", "dollars", "seconds"):
            found[name] = getattr(self, name)
        return {
            name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)
        }

    def to_frame(self) -> pd.DataFrame:
        """Return a frame with one row per item: the fields of `Record` and `error` (predicted minus true)."""
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

        content = {"format": _FORMAT, "evaluation": _to_plain(self)}
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

        require_file("path", path)
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            raise FileAccessError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
        try:
            content = orjson.loads(text)
            version, plain = content["format"], content["evaluation"]
        except (ValueError, TypeError, KeyError) as error:
            raise EvaluationError(
                f"{str(path)!r} is not a saved evaluation; name a file that save() wrote"
            ) from error
        if version != _FORMAT:
            raise EvaluationError(
                f"{str(path)!r} has format {version!r}, this version reads {_FORMAT}; update finetune-pricer"
            )
        try:
            return _from_plain(plain)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise EvaluationError(
                f"{str(path)!r} is a damaged evaluation: {error!r}; evaluate again and save it"
            ) from error

    def to_html(self, path: str | os.PathLike[str], *, items: ItemDataset | None = None) -> None:
        """Write a report that needs no network: one file for screens, phones and paper.

        Args:
            path: Where to write.
            items: The set as it was read from a file; the report then also says what was done with its rows,
                and shows each one that was left out, with the reason.

        Raises:
            MissingExtra: plotly or Jinja2 is not installed.
            FileAccessError: The path cannot be written; what stood there stays.
        """
        from .report.html import write_evaluation

        write_evaluation(self, path, items=items)

    def to_markdown(self) -> str:
        """Return the report without figures, as Markdown."""
        from .report.content import collect_evaluation
        from .report.markdown import render_report

        return render_report(collect_evaluation(self))

    def model_card(self, *, base_model: str | None = None, license: str | None = None) -> str:  # noqa: A002 - the Hub's word
        """Return a model card for the Hugging Face Hub, with the metrics in its metadata.

        Args:
            base_model: What was tuned, as the Hub names it.
            license: The Hub's word for the licence, such as `apache-2.0`.
        """
        from .report.content import collect_evaluation
        from .report.markdown import render_card

        return render_card(collect_evaluation(self), base_model=base_model, license=license)

    def figure(self, kind: str = "scatter", *, log: bool | None = None) -> Any:
        """Draw one figure of the report as a plotly `Figure`; `.to_image("png")` of it needs kaleido.

        Args:
            kind: `scatter`, `running`, `bands`, `categories`, `calibration` or `ranges`.
            log: Logarithmic axes, for `scatter`; None takes them where prices span more than a factor of 50.

        Raises:
            MissingExtra: plotly is not installed.
            EvaluationError: There is no such figure, or no price ranges to draw.
        """
        from .report.figures import draw

        return draw(self, kind, log=log)


def require_evaluation(value: object, name: str) -> None:
    """Make sure that a thing is an evaluation.

    Raises:
        WrongArgument: It is something else.
    """
    hint = "Evaluator().evaluate(predictor, items) makes one"
    if isinstance(value, str | os.PathLike):
        hint = "Evaluation.load(path) reads one that was saved"
    require_kind(name, value, Evaluation, "an Evaluation", hint)


def _to_plain(evaluation: Evaluation) -> dict[str, Any]:
    plain = {entry.name: getattr(evaluation, entry.name) for entry in fields(Evaluation)}
    plain["records"] = [
        asdict(record) | {"low": _end_to_plain(record.low), "high": _end_to_plain(record.high)}
        for record in evaluation.records
    ]
    plain["range_groups"] = [asdict(group) for group in evaluation.range_groups]
    plain["baselines"] = [_to_plain(one) for one in evaluation.baselines]
    plain["manifest"] = dict(evaluation.manifest)
    return plain | {name: asdict(metric) for name, metric in evaluation.metrics.items()}


def _from_plain(plain: dict[str, Any]) -> Evaluation:
    values = dict(plain)
    values["records"] = tuple(
        Record(**record | {"low": _end_from_plain(record["low"]), "high": _end_from_plain(record["high"])})
        for record in plain["records"]
    )
    # Absent where an earlier version saved it.
    values["range_groups"] = tuple(GroupCoverage(**group) for group in plain.get("range_groups", ()))
    values["baselines"] = tuple(_from_plain(one) for one in plain["baselines"])
    for name in METRICS:
        if plain[name] is not None:
            # JSON has no NaN; an unknown end of an interval is written as null.
            numbers: dict[str, Any] = {
                key: float("nan") if value is None else value for key, value in plain[name].items()
            }
            values[name] = Metric(**numbers)
    return Evaluation(**values)


def _end_to_plain(end: float | None) -> float | str | None:
    # JSON has no infinity, which an end of a price range may be.
    return end if end is None or math.isfinite(end) else str(end)


def _end_from_plain(end: float | str | None) -> float | None:
    return None if end is None else float(end)
