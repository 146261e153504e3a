"""Learning curves: several forms of how an error falls with the number of examples, and how sure they are.

`draw_curves` gives curves that could be the true one, the likelier ones more often: a thousand shapes, each
weighed by how well it goes through the points (Bayesian model averaging: Hoeting, Madigan, Raftery and
Volinsky, Statistical Science 14 (1999), 382-417). `fit_all` gives the best curve of each form.

A form maps parameters, shape `(fits, k)`, and a size in units of the sizes' geometric mean to errors in
dollars, shape `(fits,)`. Fits minimise `soft_l1` of the log error's residuals from several starts.

Sources of the forms: Viering and Loog, IEEE TPAMI 45 (2023), 7799-7819, also for that no single one is safe;
Lin et al., "Selecting Large Language Model to Fine-tune via Rectified Scaling Law", ICML 2024, for the
rectified law, which stays flat before the power law sets in, as fine-tuning does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from .._display import ShortRepr
from ..errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

_SCALE = 0.03  # residuals of the log error beyond this count linearly: one odd pilot must not bend the curve
_FAR = 12.0
# A thousandth of a dollar is far below what any test set shows.
_STOP = {"max_nfev": 60, "ftol": 1e-5, "xtol": 1e-4, "gtol": 1e-6}


# What the noise of the points leaves out: no shape is exactly the true one. As a share of the error.
_MISFIT = 0.01
# Degrees of freedom of the points' noise: one odd pilot must not rule out the true shape.
_TAILS = 4
_DRAWS = 800


class Form(NamedTuple):
    """One form of a learning curve."""

    name: str
    fewest: int
    """How many points it takes."""
    curve: Callable[[Floats, float | Floats], Any]
    bounds: Callable[[Floats], tuple[list[float], list[float]]]
    """From the errors to the lowest and the highest parameters."""
    starts: Callable[[Floats], Iterator[list[float]]]
    """From the errors to parameters from which to start fitting."""


@dataclass(frozen=True, slots=True, repr=False)
class FittedForm(ShortRepr):
    """A form fitted to the points (first row) and to each resample of them."""

    form: Form
    unit: float
    """The sizes' geometric mean."""
    parameters: Floats
    """Shape `(fits, k)`."""

    def errors(self, size: float) -> Floats:
        """Return the error at a size in dollars, for the points and for each resample."""
        import numpy as np

        return np.asarray(self.form.curve(self.parameters.T, size / self.unit), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class PlausibleCurves:
    """Curves that could be the true one, the likelier ones more often."""

    first: float
    """The smallest size."""
    scales: Floats
    """The error at the smallest size, dollars, shape `(draws,)`."""
    shapes: Floats
    """Each curve's shape: a row of `_list_shapes`, shape `(draws, 4)`."""

    def errors(self, size: float) -> Floats:
        """Return the error at a size in dollars, one for each curve."""
        return self.scales * _evaluate_shapes(self.shapes, size / self.first)


def draw_curves(sizes: Floats, errors: Floats, noise: Floats, *, seed: int) -> PlausibleCurves:
    """Draw curves that could be the true one.

    Args:
        sizes: Examples, ascending, shape `(points,)`.
        errors: Dollars, shape `(points,)`.
        noise: Covariance of the log errors, shape `(points, points)`.
        seed: Of the drawing.
    """
    import numpy as np

    shapes, chances = _list_shapes()
    curves = np.stack([_evaluate_shapes(shapes, size / sizes[0]) for size in sizes], axis=1)
    precision = np.linalg.inv(noise + _MISFIT**2 * np.eye(len(sizes)))
    # A shape says all but the scale, of which the best has a closed form: a weighted mean on the log scale.
    gaps = np.log(errors) - np.log(curves)
    variance = 1 / precision.sum()
    logs = variance * gaps @ precision.sum(axis=1)
    misses = gaps - logs[:, None]
    misfit = ((misses @ precision) * misses).sum(axis=1)
    likely = np.log(chances) - (_TAILS + len(sizes) - 1) / 2 * np.log1p(misfit / _TAILS)
    weights = np.exp(likely - likely.max())
    reached = np.cumsum(weights / weights.sum())
    chosen = np.minimum(np.searchsorted(reached, (np.arange(_DRAWS) + 0.5) / _DRAWS), len(shapes) - 1)
    scales = np.exp(logs[chosen] + np.random.default_rng(seed).normal(0, variance**0.5, _DRAWS))
    return PlausibleCurves(float(sizes[0]), scales, shapes[chosen])


@cache
def _list_shapes() -> tuple[Floats, Floats]:
    """Return shapes of curves that are 1 at the smallest size, and the chance of each before a point is seen.

    A shape falls to a floor, by a power of the size that may set in late (the rectified law), or
    exponentially. Columns: the floor, the size known before the first example, the exponent, and the size by
    which an exponential falls to a third, 0 where there is none; sizes in units of the smallest one.
    """
    import numpy as np

    floors, late = np.arange(0, 0.95, 0.1), np.array([0.0, 1, 3, 10, 30, 100])
    exponents, slow = np.geomspace(0.03, 2, 14), np.geomspace(1, 500, 16)
    powers = [(floor, known, exponent, 0.0) for floor, known, exponent in product(floors, late, exponents)]
    saturating = [(floor, 0.0, 0.0, size) for floor, size in product(floors, slow)]
    # No floor, and no late start, are likelier than any one floor or start.
    chances = [(5 if floor == 0 else 1) * (2 if known == 0 else 1) for floor, known, *_ in powers]
    of_powers = 0.8 * np.array(chances, dtype=np.float64) / np.sum(chances)
    of_saturating = np.full(len(saturating), 0.2 / len(saturating))
    return np.array([*powers, *saturating]), np.concatenate([of_powers, of_saturating])


def _evaluate_shapes(shapes: Floats, size: float) -> Floats:
    import numpy as np

    floor, known, exponent, slow = shapes.T
    falling = (1 + known) / (known + size**exponent)
    saturating = np.exp(-(size - 1) / np.where(slow > 0, slow, 1.0))
    return np.asarray(floor + (1 - floor) * np.where(slow > 0, saturating, falling), dtype=np.float64)


def fit_all(sizes: Floats, errors: Floats, noise: Floats) -> list[FittedForm]:
    """Fit every form that the number of points allows.

    Args:
        sizes: Examples, ascending, shape `(points,)`.
        errors: Dollars, shape `(fits, points)`: the points themselves, then resamples of them.
        noise: Standard error of each point's log error: the less, the more it counts.

    Raises:
        MissingExtra: scipy is not installed.
    """
    import numpy as np

    unit = float(np.exp(np.log(sizes).mean()))
    trust = np.median(noise) / np.maximum(noise, 1e-6)
    return [
        FittedForm(_LAST_SLOPE, unit, _last_slope(sizes / unit, errors)),
        *(
            FittedForm(form, unit, _fit(form, sizes / unit, errors, trust))
            for form in FORMS
            if len(sizes) >= form.fewest
        ),
    ]


def _fit(form: Form, sizes: Floats, errors: Floats, trust: Floats) -> Floats:
    import numpy as np

    best = _fit_row(form, sizes, errors[0], trust, list(form.starts(errors[0])))
    # A resample lies near the points: their fit is its start.
    return np.array([best, *(_fit_row(form, sizes, row, trust, [best]) for row in errors[1:])])


def _fit_row(form: Form, sizes: Floats, errors: Floats, trust: Floats, starts: list[Any]) -> Floats:
    """Return the parameters of the best of the fits from several starts."""
    import numpy as np

    least_squares = _import_least_squares()
    low, high = form.bounds(errors)
    logs = np.log(errors)

    def residuals(parameters: Floats) -> Any:
        return trust * (np.log(np.maximum(form.curve(parameters, sizes), 1e-12)) - logs)

    best, cost = np.array(starts[0], dtype=np.float64), np.inf
    for start in starts:
        inside = np.clip(start, np.array(low) + 1e-9, np.array(high) - 1e-9)
        fit = least_squares(residuals, inside, bounds=(low, high), loss="soft_l1", f_scale=_SCALE, **_STOP)
        if fit.cost < cost:
            best, cost = fit.x, float(fit.cost)
    return best


def _import_least_squares() -> Any:
    try:
        from scipy.optimize import least_squares
    except ImportError as error:
        raise MissingExtra(
            "forecasts need scipy; install it: pip install 'finetune-pricer[evaluate]'"
        ) from error
    return least_squares


def _power(p: Floats, size: float | Floats) -> Any:
    import numpy as np

    return np.exp(p[0]) * size ** -p[1]


def _floor(p: Floats, size: float | Floats) -> Any:
    import numpy as np

    return p[2] + np.exp(p[0]) * size ** -p[1]


def _rectified_power(p: Floats, size: float | Floats) -> Any:
    import numpy as np

    return np.exp(p[0]) / (np.exp(p[1]) + size ** p[2])


def _rectified_power_with_floor(p: Floats, size: float | Floats) -> Any:
    return p[3] + _rectified_power(p, size)


def _last_slope(sizes: Floats, errors: Floats) -> Floats:
    import numpy as np

    steps = np.log(sizes[-1] / sizes[-2])
    slopes = np.clip(-np.log(errors[:, -1] / errors[:, -2]) / steps, 0.0, 1.5)
    return np.column_stack([np.log(errors[:, -1]) + slopes * np.log(sizes[-1]), slopes])


def _starts(errors: Floats, *choices: tuple[float, ...], floor: bool = False) -> Iterator[list[float]]:
    import numpy as np

    shares = (0.0, 0.5, 0.9) if floor else (0.0,)
    for share, *rest in product(shares, *choices):
        start = [float(np.log(np.median(errors))) + np.log1p(-share), *rest]
        yield [*start, share * float(errors.min())] if floor else start


FORMS = (
    Form("power law", 3, _power, lambda _: ([-_FAR, 0.0], [_FAR * 2, 1.5]), lambda e: _starts(e, (0.1, 0.4))),
    Form(
        "power law with a floor",
        3,
        _floor,
        lambda e: ([-_FAR, 0.05, 0.0], [_FAR * 2, 1.5, float(e.min())]),
        lambda e: _starts(e, (0.1, 0.3, 0.8), floor=True),
    ),
    Form(
        "rectified law",
        4,
        _rectified_power,
        lambda _: ([-_FAR, -6.0, 0.05], [_FAR * 2, 6.0, 1.5]),
        lambda e: _starts(e, (-2.0, 0.0, 2.0), (0.3, 0.9)),
    ),
    Form(
        "rectified law with a floor",
        5,
        _rectified_power_with_floor,
        lambda e: ([-_FAR, -6.0, 0.05, 0.0], [_FAR * 2, 6.0, 1.5, float(e.min())]),
        lambda e: _starts(e, (-2.0, 0.0, 2.0), (0.3, 0.9), floor=True),
    ),
)
_LAST_SLOPE = Form("slope of the last two points", 2, _power, lambda _: ([], []), lambda _: iter(()))
