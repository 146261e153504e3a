"""From an item to a price: `Predictor`, its predictions, their ranges, and the answers that are kept."""

from . import decoding
from .answer_store import AnswerStore
from .batch import BatchRun
from .conformal import Ranges
from .decoding import Decoding, Distribution
from .prediction import Prediction, Predictions, Usage
from .predictor import Predictor

__all__ = [
    "AnswerStore",
    "BatchRun",
    "Decoding",
    "Distribution",
    "Prediction",
    "Predictions",
    "Predictor",
    "Ranges",
    "Usage",
    "decoding",
]
