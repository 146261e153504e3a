"""The road inside other tools: a scikit-learn estimator, and experiment trackers. Each is an extra."""

from typing import TYPE_CHECKING

from .._lazy import resolve_late

if TYPE_CHECKING:
    from .sklearn import FineTunedRegressor
    from .tracking import Tracker

__all__ = ["FineTunedRegressor", "Tracker"]

__getattr__ = resolve_late(__name__, {"FineTunedRegressor": "sklearn", "Tracker": "tracking"})
