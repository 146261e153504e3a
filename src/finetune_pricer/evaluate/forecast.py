"""Is more data worth its price? A learning curve through evaluations, with a band around it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from .._arguments import refuse, require_many, require_number, require_whole
from .._display import PrintsAsPage
from .._format import format_dollars, format_money
from .._methods.resampling import resamples
from ..errors import EvaluationError
from .compare import compare
from .evaluation import require_evaluation
from .learning_curves import FittedForm, PlausibleCurves, draw_curves, fit_all
from .paired import align

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .evaluation import Evaluation
    from .paired import AlignedErrors

    Floats = npt.NDArray[np.float64]

_FEWEST = 3
_POINTS = "training sizes and their evaluations, as {100: evaluation, ...}"
_FURTHEST = 10  # times the largest size: the forms agree on nothing beyond it
_FAR = 3  # times the largest size: a forecast beyond it carries a caveat
_DRAWN = 4  # times the largest size: how far a figure goes by default
_SMALL = 1000  # below this many examples curves are often still flat, and forecasts too gloomy
# What a band leaves out on either side. No list of shapes has them all: with 7 %, bands hold 80 to 83 of 100
# simulated curves of six kinds, saturating ones among them; with 10 % only 75 to 78.
_TAIL = 0.07
_WIDE = 0.5  # as a share of the value: a wider band answers no question about money


class Band(NamedTuple):
    """A forecast and the 80 % band around it: the quantiles of curves that could be the true one."""

    value: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """How wide the band is, as a share of the value."""
        return (self.high - self.low) / abs(self.value) if self.value else math.inf


class Needed(NamedTuple):
    """How many examples a target takes; None where ten times the largest size is not enough."""

    value: int | None
    low: int | None
    """How many if the curve lies at the lower edge of its band."""
    high: int | None
    """How many if the curve lies at the upper edge."""


class Point(NamedTuple):
    """One training size and how wrong the model was."""

    size: int
    evaluation: Evaluation


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Rung(PrintsAsPage):
    """Whether to train on more examples. `str()` is the advice in words."""

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
    """Why the advice may be wrong."""
    currency: str = "USD"
    """ISO code of the items' prices; costs are dollars."""

    @property
    def verifiable(self) -> bool:
        """Whether the test items could show such a drop."""
        return self.drop.value >= self.smallest_detectable

    @property
    def advised(self) -> bool | None:
        """Whether training pays; None where the drop could be seen, but its worth or the cost is unknown."""
        if self.drop.value <= 0 or not self.verifiable:
            return False
        return None if self.worth is None or self.dollars is None else self.worth > self.dollars

    def __str__(self) -> str:
        cost = "at an unknown price" if self.dollars is None else f"for {format_dollars(self.dollars, 2)}"
        band = f"80% band {self._money(self.drop.low)} to {self._money(self.drop.high)}"
        drop = f"the MAE should fall by {self._money(self.drop.value)} ({band})"
        sentences = [f"{self.size:,} examples {cost}: {drop}."]
        if self.drop.value <= 0:
            sentences.append("Stop: more examples are not expected to help.")
        elif not self.verifiable:
            sentences.append(
                f"Stop: these items show differences from {self._money(self.smallest_detectable)} on; "
                "you could not tell whether it helped."
            )
        elif self.worth is not None and self.dollars is not None:
            verb = "Go on" if self.advised else "Stop"
            sentences.append(f"{verb}: that is worth {format_dollars(self.worth, 2)}.")
        return " ".join([*sentences, *self.caveats])

    def _money(self, amount: float) -> str:
        return format_money(amount, self.currency, 2)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Forecast(PrintsAsPage):
    """What evaluations at several training sizes say of other sizes. `str()` is a few lines.

    Examples:
        >>> from finetune_pricer import Evaluator, Item, forecast
        >>> items = [Item(title=f"Lamp {number}", price=100.0 + number) for number in range(200)]
        >>> def evaluate(size):
        ...     error = 300 * size**-0.3
        ...     return Evaluator(rounds=100).evaluate(lambda item: item.price + error, items)
        >>> curve = forecast({size: evaluate(size) for size in (100, 400, 1600)}, dollars_per_example=0.001)
        >>> curve.largest, curve.dollars(6400), round(curve.mae(6400).value)
        (1600, 6.4, 23)
    """

    points: tuple[Point, ...]
    """The sizes and their evaluations, the smallest size first."""
    fitted: tuple[FittedForm, ...]
    """Forms of learning curves, each fitted to the points."""
    plausible: PlausibleCurves
    """Curves that could be the true one, from which bands are taken."""
    dollars_per_example: float | None
    """What training on one example costs; None when unknown."""
    smallest_detectable: float
    """The smallest difference in dollars that the test items could show between the two largest sizes."""
    caveats: tuple[str, ...]
    """Why the points may not carry an answer; empty where nothing speaks against them."""

    @property
    def currency(self) -> str:
        """ISO code of the items' prices."""
        return self.points[0].evaluation.currency

    @property
    def largest(self) -> int:
        """The largest size that was tried."""
        return self.points[-1].size

    def mae(self, size: int) -> Band:
        """Return the MAE to expect at a training size, in dollars.

        Raises:
            EvaluationError: The size is below 1, or more than ten times the largest that was tried.
        """
        self._require_near(size)
        return to_band(self.plausible.errors(size))

    def dollars(self, size: int) -> float | None:
        """Return what training at a size costs; None when unknown."""
        return None if self.dollars_per_example is None else self.dollars_per_example * size

    def examples_needed(self, target: float) -> Needed:
        """Return the training size at which the MAE should reach a target in dollars."""
        needed: dict[str, int | None] = {"value": None, "low": None, "high": None}
        first, last = self.points[0].size, _FURTHEST * self.largest
        steps = max(2, math.ceil(math.log(last / first) / math.log(1.02)))
        for step in range(steps + 1):
            size = min(last, math.ceil(first * (last / first) ** (step / steps)))
            band = self.mae(size)._asdict()
            for edge, error in band.items():
                if needed[edge] is None and error <= target:
                    needed[edge] = size
        return Needed(**needed)

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
        rung = 2 * self.largest if size is None else size
        if rung <= self.largest:
            raise EvaluationError(f"the next rung must lie above {self.largest:,} examples, not at {rung:,}")
        self._require_near(rung)
        drop = to_band(self.plausible.errors(self.largest) - self.plausible.errors(rung))
        worth = None if items is None or dollar_of_error is None else drop.value * items * dollar_of_error
        return Rung(
            size=rung,
            drop=drop,
            dollars=self.dollars(rung),
            smallest_detectable=self.smallest_detectable,
            worth=worth,
            caveats=(*self.caveats, *self._caveats_at(rung)),
            currency=self.currency,
        )

    def figure(self, *, to: int | None = None) -> Any:
        """Draw points, forms and band as a plotly `Figure`.

        Args:
            to: The size up to which to draw; by default four times the largest so far.

        Raises:
            MissingExtra: plotly is not installed.
            EvaluationError: `to` is more than ten times the largest size so far.
        """
        from .report.figures import draw_learning_curve

        return draw_learning_curve(self, _DRAWN * self.largest if to is None else to)

    def __str__(self) -> str:
        lines = [f"{one.size:>9,} examples: {one.evaluation}" for one in self.points]
        for size in (2 * self.largest, 4 * self.largest):
            band, cost = self.mae(size), self.dollars(size)
            price = "" if cost is None else f", {format_dollars(cost, 2)}"
            lines.append(
                f"{size:>9,} examples: MAE {format_money(band.value, self.currency, 2)} expected "
                f"(80% band {band.low:,.2f} to {band.high:,.2f}, {band.width:.0%} wide){price}"
            )
        return "\n".join([*lines, *(f"BEWARE: {caveat}" for caveat in self.caveats)])

    def _require_near(self, size: int) -> None:
        require_number("size", size)
        if not 1 <= size <= _FURTHEST * self.largest:
            raise EvaluationError(
                f"points up to {self.largest:,} examples say nothing about {size:,}; ask for at most "
                f"{_FURTHEST * self.largest:,}"
            )

    def _caveats_at(self, size: int) -> tuple[str, ...]:
        if size <= _FAR * self.largest:
            return ()
        return (f"{size:,} is {size / self.largest:.0f} times the largest size that was tried.",)


def forecast(
    points: Mapping[int, Evaluation] | Iterable[tuple[int, Evaluation]],
    *,
    dollars_per_example: float | None = None,
    zero_shot: Evaluation | None = None,
    training_noise: float = 0.03,
    rounds: int = 200,
    seed: int = 42,
) -> Forecast:
    """Fit learning curves through evaluations of models trained on different numbers of examples.

    Args:
        points: Training sizes and evaluations on the same items; a size may come twice.
        dollars_per_example: What training on one example costs, all epochs together.
        zero_shot: The untuned model's evaluation on the same items; sizes no better than it are dropped.
        training_noise: By what share another seed of training changes the MAE; it widens the band.
        rounds: Resamples of the items.
        seed: Seed of the resamples.

    Raises:
        EvaluationError: Fewer than three sizes are left, they are not of the same items, or an error is 0.
        MissingExtra: scipy is not installed.
    """
    import numpy as np

    by_size = _sort_points(points)
    require_number("dollars_per_example", dollars_per_example, low=0, or_none=True)
    if zero_shot is not None:
        require_evaluation(zero_shot, "zero_shot")
    require_number("training_noise", training_noise, low=0)
    require_whole("rounds", rounds, low=1)
    require_whole("seed", seed, low=0)
    kept, dropped = _drop_no_better_than(zero_shot, by_size)
    if (left := len({one.size for one in kept})) < _FEWEST:
        raise EvaluationError(
            f"a forecast takes {_FEWEST} training sizes, not {left}{dropped}; train at more sizes, each "
            "about three times the one before"
        )
    if any(one.size < 1 or one.evaluation.mae.value <= 0 for one in kept):
        raise EvaluationError(
            "a forecast takes sizes of at least 1 and errors above 0; leave other points out"
        )
    aligned = align([one.evaluation for one in kept], allow_different=False)
    every = np.array([one.size for one in kept], dtype=np.float64)
    sizes, errors, noise = average(aligned, every, training_noise=training_noise, rounds=rounds, seed=seed)
    between = compare(kept[0].evaluation, kept[-1].evaluation, rounds=2000, seed=seed)
    last = compare(kept[-2].evaluation, kept[-1].evaluation, rounds=200, seed=seed)
    without_caveats = Forecast(
        points=tuple(kept),
        fitted=tuple(fit_all(sizes, errors[None], noise.diagonal() ** 0.5)),
        plausible=draw_curves(sizes, errors, noise, seed=seed),
        dollars_per_example=dollars_per_example,
        smallest_detectable=last.smallest_detectable,
        caveats=(),
    )
    caveats = [dropped.removeprefix(": ")] if dropped else []
    if between.better is not kept[-1].evaluation:
        caveats.append(
            f"{kept[-1].size:,} examples are not better than {kept[0].size:,} beyond chance: these points do "
            "not show that more data helps."
        )
    return replace(without_caveats, caveats=(*caveats, *_general_caveats(without_caveats)))


def _sort_points(points: Any) -> list[Point]:
    """Return the points, those of the smallest sizes first; refuse what is none."""
    pairs = points.items() if isinstance(points, Mapping) else points
    require_many("points", pairs, _POINTS)
    return sorted((Point(*_check_point(pair)) for pair in pairs), key=lambda point: point.size)


def _check_point(pair: Any) -> tuple[int, Evaluation]:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise refuse("a point", "a training size and an evaluation", pair)
    size, evaluation = pair
    require_whole("a training size", size)
    require_evaluation(evaluation, f"what stands at size {size}")
    return size, evaluation


def _general_caveats(curve: Forecast) -> Iterable[str]:
    if curve.largest <= _SMALL:
        yield (
            f"All sizes lie at or below {_SMALL:,} examples, where curves are often still flat: more data "
            "may help more than this says."
        )
    band = curve.mae(2 * curve.largest)
    if band.width > _WIDE:
        yield (
            f"The band at {2 * curve.largest:,} examples is {band.width:.0%} of its value: the points do not "
            "carry an answer; use more test items or more sizes."
        )


def _drop_no_better_than(zero_shot: Evaluation | None, points: list[Point]) -> tuple[list[Point], str]:
    """Return the points that are better than the untuned model, and a text on those that are not."""
    if zero_shot is None:
        return points, ""
    better = [
        one for one in points if compare(one.evaluation, zero_shot, rounds=2000).better is one.evaluation
    ]
    gone = [f"{one.size:,}" for one in points if one not in better]
    if not gone:
        return points, ""
    return better, f": sizes {', '.join(gone)} are no better than the untuned model and were dropped."


def average(
    aligned: AlignedErrors, sizes: Floats, *, training_noise: float, rounds: int, seed: int
) -> tuple[Floats, Floats, Floats]:
    """Return the distinct sizes, their mean errors, and the covariance of those errors' logarithms.

    Args:
        aligned: Errors of the items, one column for each of `sizes`.
        sizes: Examples that each model was trained on; a size may come twice.
        training_noise: By what share another seed of training changes the mean error.
        rounds: Resamples of the items.
        seed: Of the resamples.
    """
    import numpy as np

    known = ~np.isnan(aligned.errors)
    weights = aligned.weights[:, None] * known
    weighed = weights * np.nan_to_num(aligned.errors)
    counts = np.concatenate(list(resamples(len(weights), rounds=rounds, seed=seed)))
    drawn = np.vstack([weighed.sum(axis=0) / weights.sum(axis=0), (counts @ weighed) / (counts @ weights)])
    distinct = np.unique(sizes)
    # Several runs of one size are one point: their mean, which is surer the more runs there are.
    runs = np.array([(sizes == size).sum() for size in distinct])
    errors = np.stack([drawn[:, sizes == size].mean(axis=1) for size in distinct], axis=1)
    errors = np.maximum(errors, 1e-9)
    # The items are the same for all sizes, so what they add to one error they add to the others.
    of_items = np.cov(np.log(errors[1:]), rowvar=False)
    return distinct, errors[0], of_items + np.diag(training_noise**2 / runs)


def to_band(values: Floats) -> Band:
    """Return the median of the curves that could be the true one, and the band around it."""
    import numpy as np

    low, value, high = np.quantile(values, [_TAIL, 0.5, 1 - _TAIL])
    return Band(float(value), float(low), float(high))
