"""From an item to a price: `Predictor`, its predictions, their ranges, and the answers that are kept.

`Ensemble` is several predictors as one, and `load_pricer` reads whatever pricer was saved.
"""

from typing import TYPE_CHECKING

from .._lazy import resolve_late
from . import decoding
from .answer_store import AnswerStore
from .batch import BatchRun
from .conformal import Ranges
from .decoding import Decoding, Distribution
from .prediction import Prediction, Predictions, Usage
from .predictor import Predictor
from .range_groups import GroupCoverage, RangeGroup
from .saved_pricer import load_pricer

if TYPE_CHECKING:
    from .ensemble import Ensemble
    from .ensemble_member import EnsembleMember

__all__ = [
    "AnswerStore",
    "BatchRun",
    "Decoding",
    "Distribution",
    "Ensemble",
    "EnsembleMember",
    "GroupCoverage",
    "Prediction",
    "Predictions",
    "Predictor",
    "RangeGroup",
    "Ranges",
    "Usage",
    "decoding",
    "load_pricer",
]

__getattr__ = resolve_late(__name__, {"Ensemble": "ensemble", "EnsembleMember": "ensemble_member"})
