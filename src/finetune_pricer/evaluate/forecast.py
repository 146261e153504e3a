"""Is more data worth its price? A learning curve through evaluations, with a band and not a line."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import EvaluationError
from .compare import compare

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .evaluation import Evaluation
    from .learning_curves import Fitted

    Floats = npt.NDArray[np.float64]

_FEWEST = 3
_FURTHEST = 10  # times the largest size: beyond, the forms say what they like
_FAR = 3
_SMALL = 1000  # below this many examples curves are often still flat, and forecasts too gloomy
# Of each form. No form is the true one: simulated, tails of 10 % hold an 80 % band's promise on some curves
# only, tails of 5 % on all that were tried.
_TAIL = 0.05
_WIDE = 0.6  # of the value: such a band answers no question about money


class Band(NamedTuple):
    """A forecast and the 80 % band around it: an envelope over forms of curves and resamples of items."""

    value: float
    low: float
    high: float


class Needed(NamedTuple):
    """How many examples a target takes; None where more than ten times the largest size would not do."""

    value: int | None
    low: int | None
    """If the curve lies at the lower edge of its band."""
    high: int | None
    """If it lies at the upper edge."""


class Point(NamedTuple):
    """One training size and how wrong the model was."""

    size: int
    evaluation: Evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """Whether to train on more examples. `str()` says it."""

    size: int
    drop: Band
    """By how many dollars the MAE would fall from the largest size so far."""
    dollars: float | None
    """What training at that size costs; None when unknown."""
    smallest_detectable: float
    """The smallest difference in dollars that these test items could show."""
    worth: float | None
    """What the drop is worth in dollars; None where nobody said what a dollar of error costs."""
    caveats: tuple[str, ...]

    @property
    def verifiable(self) -> bool:
        """Whether the test items could show such a drop."""
        return self.drop.value >= self.smallest_detectable

    @property
    def advised(self) -> bool | None:
        """Whether it pays; None where price or worth are unknown and the drop could be seen."""
        if self.drop.value <= 0 or not self.verifiable:
            return False
        return None if self.worth is None or self.dollars is None else self.worth > self.dollars

    def __str__(self) -> str:
        cost = "at an unknown price" if self.dollars is None else f"for ${self.dollars:,.2f}"
        band = f"80% band {_dollars(self.drop.low)} to {_dollars(self.drop.high)}"
        drop = f"the MAE should fall by ${self.drop.value:,.2f} ({band})"
        said = [f"{self.size:,} examples {cost}: {drop}."]
        if not self.verifiable:
            said.append(
                f"Stop: these items show differences from ${self.smallest_detectable:,.2f} on; you could "
                "not tell whether it helped."
            )
        elif self.worth is not None and self.dollars is not None:
            verb = "Go on" if self.advised else "Stop"
            said.append(f"{verb}: that is worth ${self.worth:,.2f}.")
        return " ".join([*said, *self.caveats])


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What evaluations at several training sizes say of other sizes. `str()` says it in a few lines."""

    points: tuple[Point, ...]
    fitted: tuple[Fitted, ...]
    dollars_per_example: float | None
    smallest_detectable: float
    """The smallest difference in dollars that the test items could show between the two largest sizes."""
    caveats: tuple[str, ...]
    """Why the points may not carry an answer; empty where nothing speaks against it."""

    @property
    def largest(self) -> int:
        """The largest size that was tried."""
        return self.points[-1].size

    def mae(self, size: int) -> Band:
        """Give the MAE to expect at a training size, dollars.

        Raises:
            EvaluationError: The size is below 1, or more than ten times the largest that was tried.
        """
        self._require_near(size)
        return _envelope([one.errors(size) for one in self.fitted])

    def dollars(self, size: int) -> float | None:
        """Give what training at a size costs; None when unknown."""
        return None if self.dollars_per_example is None else self.dollars_per_example * size

    def examples_needed(self, target: float) -> Needed:
        """Give the training size at which the MAE should reach a target in dollars."""
        found: dict[str, int | None] = {"value": None, "low": None, "high": None}
        first, last = self.points[0].size, _FURTHEST * self.largest
        steps = max(2, math.ceil(math.log(last / first) / math.log(1.02)))
        for step in range(steps + 1):
            size = min(last, math.ceil(first * (last / first) ** (step / steps)))
            band = self.mae(size)._asdict()
            for edge, error in band.items():
                if found[edge] is None and error <= target:
                    found[edge] = size
        return Needed(**found)

    def next_rung(
        self, size: int | None = None, *, items: int | None = None, dollar_of_error: float | None = None
    ) -> Rung:
        """Weigh the next training size: what it costs, what it brings, and whether that could be seen.

        Args:
            size: Examples; by default twice the largest so far.
            items: How many items the model will price.
            dollar_of_error: What it costs you when one price is off by one dollar more.

        Raises:
            EvaluationError: The size is not above the largest so far, or more than ten times that.
        """
        asked = 2 * self.largest if size is None else size
        if asked <= self.largest:
            raise EvaluationError(f"the next rung must lie above {self.largest:,} examples, not at {asked:,}")
        self._require_near(asked)
        drop = _envelope([one.errors(self.largest) - one.errors(asked) for one in self.fitted])
        known = items is not None and dollar_of_error is not None
        return Rung(
            size=asked,
            drop=drop,
            dollars=self.dollars(asked),
            smallest_detectable=self.smallest_detectable,
            worth=drop.value * (items or 0) * (dollar_of_error or 0.0) if known else None,
            caveats=(*self.caveats, *self._far(asked)),
        )

    def figure(self, *, to: int | None = None) -> Any:
        """Draw points, forms and band up to a size as a plotly `Figure`.

        Raises:
            MissingExtra: plotly is not installed.
        """
        from .report.curve_figure import learning_curve

        return learning_curve(self, to or min(4, _FURTHEST) * self.largest)

    def __str__(self) -> str:
        lines = [f"{one.size:>9,} examples: {one.evaluation}" for one in self.points]
        for size in (2 * self.largest, 4 * self.largest):
            band, cost = self.mae(size), self.dollars(size)
            price = "" if cost is None else f", ${cost:,.2f}"
            lines.append(
                f"{size:>9,} examples: MAE ${band.value:,.2f} expected "
                f"(80% band {band.low:,.2f} to {band.high:,.2f}){price}"
            )
        return "\n".join([*lines, *(f"BEWARE: {caveat}" for caveat in self.caveats)])

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    def _require_near(self, size: int) -> None:
        if not 1 <= size <= _FURTHEST * self.largest:
            raise EvaluationError(
                f"points up to {self.largest:,} examples say nothing about {size:,}; ask for at most "
                f"{_FURTHEST * self.largest:,}"
            )

    def _far(self, size: int) -> tuple[str, ...]:
        if size <= _FAR * self.largest:
            return ()
        return (f"{size:,} is {size / self.largest:.0f} times the largest size that was tried.",)


def forecast(
    points: Mapping[int, Evaluation] | Iterable[tuple[int, Evaluation]],
    *,
    dollars_per_example: float | None = None,
    zero_shot: Evaluation | None = None,
    training_noise: float = 0.03,
    rounds: int = 60,
    seed: int = 42,
) -> Forecast:
    """Fit learning curves through evaluations of models trained on different numbers of examples.

    Args:
        points: Training sizes and evaluations on the same items; a size may come twice.
        dollars_per_example: What training on one example costs, all epochs together.
        zero_shot: The untuned model on the same items; sizes that are no better than it are dropped.
        training_noise: By what share another seed of training changes the MAE; it widens the band.
        rounds: Resamples of the items.
        seed: Of the resamples.

    Raises:
        EvaluationError: Fewer than three sizes are left, they are not of the same items, or an error is 0.
        MissingExtra: scipy is not installed.
    """
    given = points.items() if isinstance(points, Mapping) else points
    ordered = sorted((Point(*one) for one in given), key=lambda one: one.size)
    kept, dropped = _above_zero_shot(ordered, zero_shot)
    if (left := len({one.size for one in kept})) < _FEWEST:
        raise EvaluationError(
            f"a forecast takes {_FEWEST} training sizes, not {left}{dropped}; train at more sizes, each "
            "about three times the one before"
        )
    if any(one.size < 1 or one.evaluation.mae.value <= 0 for one in kept):
        raise EvaluationError("a forecast takes sizes of at least 1 and errors above 0")
    from .learning_curves import fit_all

    sizes, errors, noise = _resampled(kept, training_noise, rounds, seed)
    fitted = tuple(fit_all(sizes, errors, noise))
    between = compare(kept[0].evaluation, kept[-1].evaluation, rounds=2000, seed=seed)
    last = compare(kept[-2].evaluation, kept[-1].evaluation, rounds=200, seed=seed)
    made = Forecast(
        points=tuple(kept),
        fitted=fitted,
        dollars_per_example=dollars_per_example,
        smallest_detectable=last.smallest_detectable,
        caveats=(),
    )
    found = [dropped.removeprefix(": ")] if dropped else []
    if between.better is not kept[-1].evaluation:
        found.append(
            f"{kept[-1].size:,} examples are not better than {kept[0].size:,} beyond chance: these points do "
            "not show that more data helps."
        )
    return _with_caveats(made, found)


def _with_caveats(made: Forecast, found: list[str]) -> Forecast:
    from dataclasses import replace

    if made.largest <= _SMALL:
        found.append(
            f"All sizes lie at or below {_SMALL:,} examples, where curves are often still flat: more data "
            "may help more than this says."
        )
    band = made.mae(2 * made.largest)
    if band.high - band.low > _WIDE * band.value:
        found.append(
            f"The band at {2 * made.largest:,} examples is {(band.high - band.low) / band.value:.0%} of its "
            "value: the points do not carry an answer; use more test items or more sizes."
        )
    return replace(made, caveats=tuple(found))


def _above_zero_shot(points: list[Point], zero_shot: Evaluation | None) -> tuple[list[Point], str]:
    if zero_shot is None:
        return points, ""
    better = [
        one for one in points if compare(one.evaluation, zero_shot, rounds=2000).better is one.evaluation
    ]
    gone = [f"{one.size:,}" for one in points if one not in better]
    if not gone:
        return points, ""
    return better, f": sizes {', '.join(gone)} are no better than the untuned model and were dropped."


def _resampled(
    points: list[Point], training_noise: float, rounds: int, seed: int
) -> tuple[Floats, Floats, Floats]:
    import numpy as np

    from .._methods.resampling import resamples
    from .paired import side_by_side

    found = side_by_side([one.evaluation for one in points], allow_different=False)
    known = ~np.isnan(found.errors)
    weights = found.weights[:, None] * known
    weighed = weights * np.nan_to_num(found.errors)
    counts = np.concatenate(list(resamples(len(weights), rounds=rounds, seed=seed)))
    drawn = np.vstack([weighed.sum(axis=0) / weights.sum(axis=0), (counts @ weighed) / (counts @ weights)])
    draw = np.random.default_rng(seed)
    drawn[1:] *= np.exp(draw.normal(0, training_noise, drawn[1:].shape))
    sizes = np.array([one.size for one in points], dtype=np.float64)
    distinct = np.unique(sizes)
    # Several runs of one size are one point: their mean, which is surer the more there are.
    errors = np.stack([drawn[:, sizes == size].mean(axis=1) for size in distinct], axis=1)
    errors = np.maximum(errors, 1e-9)
    return distinct, errors, np.log(errors[1:]).std(axis=0)


def _envelope(values: list[Floats]) -> Band:
    import numpy as np

    ends = np.array([np.quantile(one[1:], [_TAIL, 1 - _TAIL]) for one in values])
    points = [float(one[0]) for one in values]
    value = float(np.median(points))
    return Band(value, min(float(ends[:, 0].min()), *points), max(float(ends[:, 1].max()), *points))


def _dollars(value: float) -> str:
    return f"-${-value:,.2f}" if value < 0 else f"${value:,.2f}"
