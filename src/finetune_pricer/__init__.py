"""Fine-tune a language model that prices products, and find out how wrong it is.

Names are resolved when first used, so that importing the package costs next to nothing.
What this module lists is the public interface.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # A function that has its file's name comes from the file: from the room, the docs would show the file.
    from .chat import ChatFormatter as ChatFormatter
    from .evaluate import Comparison as Comparison
    from .evaluate import Evaluation as Evaluation
    from .evaluate import Evaluator as Evaluator
    from .evaluate import Forecast as Forecast
    from .evaluate import Leaderboard as Leaderboard
    from .evaluate import Sweep as Sweep
    from .evaluate.best_checkpoint import best_checkpoint as best_checkpoint
    from .evaluate.compare import compare as compare
    from .evaluate.forecast import forecast as forecast
    from .items import Item as Item
    from .items import ItemDataset as ItemDataset
    from .items import ItemSplits as ItemSplits
    from .items import login as login
    from .machines.launch import launch as launch
    from .predict import AnswerStore as AnswerStore
    from .predict import Ensemble as Ensemble
    from .predict import Prediction as Prediction
    from .predict import Predictions as Predictions
    from .predict import Predictor as Predictor
    from .predict import load_pricer as load_pricer
    from .prepare import AuditReport as AuditReport
    from .prepare import JsonlReport as JsonlReport
    from .prepare import JsonlWriter as JsonlWriter
    from .prepare import MadeUpCatalogue as MadeUpCatalogue
    from .prepare import TokenCount as TokenCount
    from .prepare import TrainingFile as TrainingFile
    from .prepare import check_jsonl as check_jsonl
    from .prepare import count_tokens as count_tokens
    from .prepare.audit import audit as audit
    from .providers import TokenPricing as TokenPricing
    from .providers.connect import aconnect as aconnect
    from .providers.connect import connect as connect
    from .retrieval import Neighbors as Neighbors
    from .tune import CostEstimate as CostEstimate
    from .tune import FineTuneJob as FineTuneJob
    from .tune import estimate_cost as estimate_cost
    from .tune.purchase import upload as upload

    KeptAnswers = AnswerStore
    PriceRow = TokenPricing

_HOMES = {
    "AnswerStore": "predict",
    "AuditReport": "prepare",
    "ChatFormatter": "chat",
    "Comparison": "evaluate",
    "CostEstimate": "tune",
    "Ensemble": "predict",
    "Evaluation": "evaluate",
    "Evaluator": "evaluate",
    "FineTuneJob": "tune",
    "Forecast": "evaluate",
    "Item": "items",
    "ItemDataset": "items",
    "ItemSplits": "items",
    "JsonlReport": "prepare",
    "JsonlWriter": "prepare",
    "Leaderboard": "evaluate",
    "MadeUpCatalogue": "prepare",
    "Neighbors": "retrieval",
    "Prediction": "predict",
    "Predictions": "predict",
    "Predictor": "predict",
    "Sweep": "evaluate",
    "TokenCount": "prepare",
    "TokenPricing": "providers",
    "TrainingFile": "prepare",
    "aconnect": "providers",
    "audit": "prepare",
    "best_checkpoint": "evaluate",
    "check_jsonl": "prepare",
    "compare": "evaluate",
    "connect": "providers",
    "count_tokens": "prepare",
    "estimate_cost": "tune",
    "forecast": "evaluate",
    "launch": "machines",
    "load_pricer": "predict",
    "login": "items",
    "upload": "tune",
}

# Names of earlier versions, which still work: (room, today's name).
_FORMER = {"KeptAnswers": ("predict", "AnswerStore"), "PriceRow": ("providers", "TokenPricing")}

_OF_OTHERS = {"Any", "TYPE_CHECKING", "annotations", "import_module", "sys"}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - a test holds it against the imports above


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("finetune-pricer")
    if name not in _HOMES and name not in _FORMER:
        # With the module at hand, Python asks "Did you mean ...?" where a name is nearly one of ours.
        told = f"module 'finetune_pricer' has no attribute {name!r}"
        raise AttributeError(told, name=name, obj=sys.modules[__name__])
    room, known_as = _FORMER[name] if name in _FORMER else (_HOMES[name], name)
    value = getattr(import_module(f".{room}", __name__), known_as)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, "__version__"} - _OF_OTHERS)
