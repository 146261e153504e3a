"""The road inside other tools: a scikit-learn estimator, and experiment trackers. Each is an extra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._lazy import resolve_late

if TYPE_CHECKING:
    from collections.abc import Callable

    from .sklearn import FineTunedRegressor
    from .tracking import Tracker

__all__ = ["FineTunedRegressor", "Tracker"]

__getattr__: Callable[[str], Any] = resolve_late(
    __name__, {"FineTunedRegressor": "sklearn", "Tracker": "tracking"}
)
