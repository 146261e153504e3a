"""Learning curves: several forms of how an error falls with the number of examples, fitted robustly.

A form maps parameters, shape `(fits, k)`, and a size in units of the sizes' geometric mean to errors in
dollars, shape `(fits,)`. Fits minimise `soft_l1` of the log error's residuals from several starts.

Sources: Viering and Loog, IEEE TPAMI 45 (2023), 7799-7819, for the forms and that no single one is safe;
Lin et al., "Selecting Large Language Model to Fine-tune via Rectified Scaling Law", ICML 2024, for the
rectified law, which stays flat before the power law sets in, as fine-tuning does.
"""

from __future__ import annotations

from dataclasses import dataclass
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
