"""Predictions become evidence: metrics with intervals, comparisons, rankings, forecasts and reports.

```text
metrics           pure numbers, and METRICS: the one table of what a metric is
measurement       records -> metrics with intervals, of all items and of slices
evaluation        what an evaluation found; saved and loaded
baselines         simple methods that a model must beat
evaluator         asks, scores, and puts the baselines beside the model
paired, compare   two models on the same items
leaderboard       many models, ties as ties
unscored          what an unscored item counts: one rule for all that follows
choice            the best of several, with a number that the choice does not flatter
best_checkpoint   which of a job's checkpoints to use
learning_curves, forecast    what more training data would bring
sweep             many jobs under one budget
report/           content (computed once), and what lays it out: html, markdown, figures
```
"""

from ..predict.prediction import PricesMany
from . import metrics
from .baselines import (
    FITTED,
    Baseline,
    CategoryMedianBaseline,
    FittingData,
    MedianBaseline,
    NeighborsBaseline,
    NetworkBaseline,
    PromptedPredictor,
    RidgeBaseline,
    fit_baselines,
    prompting_baselines,
)
from .best_checkpoint import BestCheckpoint, CheckpointScore, best_checkpoint
from .choice import Choice, choose
from .compare import Comparison, compare
from .evaluation import Evaluation
from .evaluator import Answer, Evaluator, PricingFunction
from .forecast import Band, Forecast, Needed, Point, Rung, forecast
from .leaderboard import Leaderboard, Standing
from .learning_curves import FittedForm
from .measurement import Metric, Record, ScoredRecord, Slice
from .metrics import METRICS, MetricInfo
from .sweep import CostOf, Outcome, PlannedJob, Sweep, SweepPlan, SweepResult, Trial

__all__ = [
    "FITTED",
    "METRICS",
    "Answer",
    "Band",
    "Baseline",
    "BestCheckpoint",
    "CategoryMedianBaseline",
    "CheckpointScore",
    "Choice",
    "Comparison",
    "CostOf",
    "Evaluation",
    "Evaluator",
    "FittedForm",
    "FittingData",
    "Forecast",
    "Leaderboard",
    "MedianBaseline",
    "Metric",
    "MetricInfo",
    "Needed",
    "NeighborsBaseline",
    "NetworkBaseline",
    "Outcome",
    "PlannedJob",
    "Point",
    "PricesMany",
    "PricingFunction",
    "PromptedPredictor",
    "Record",
    "RidgeBaseline",
    "Rung",
    "ScoredRecord",
    "Slice",
    "Standing",
    "Sweep",
    "SweepPlan",
    "SweepResult",
    "Trial",
    "best_checkpoint",
    "choose",
    "compare",
    "fit_baselines",
    "forecast",
    "metrics",
    "prompting_baselines",
]
