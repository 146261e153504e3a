"""From an item to a price: `Predictor`, its predictions, their ranges, and the answers that are kept."""

from . import decoding
from .answer_store import AnswerStore
from .batch import BatchRun
from .conformal import Ranges
from .decoding import Decoding, Distribution
from .prediction import Prediction, Predictions, Usage
from .predictor import Predictor
from .range_groups import GroupCoverage, RangeGroup

__all__ = [
    "AnswerStore",
    "BatchRun",
    "Decoding",
    "Distribution",
    "GroupCoverage",
    "Prediction",
    "Predictions",
    "Predictor",
    "RangeGroup",
    "Ranges",
    "Usage",
    "decoding",
]
