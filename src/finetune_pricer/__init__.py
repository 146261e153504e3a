"""Fine-tune a language model that prices products, and find out how wrong it is.

Names are resolved when first used, so that importing the package costs next to nothing.
What this module lists is the public interface.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .chat import ChatFormatter as ChatFormatter
    from .evaluate import Comparison as Comparison
    from .evaluate import Evaluation as Evaluation
    from .evaluate import Evaluator as Evaluator
    from .evaluate import Forecast as Forecast
    from .evaluate import Leaderboard as Leaderboard
    from .evaluate import Sweep as Sweep

    # Files that are named after their function: the reference would show the file for the room's name.
    from .evaluate.best_checkpoint import best_checkpoint as best_checkpoint
    from .evaluate.compare import compare as compare
    from .evaluate.forecast import forecast as forecast
    from .items import Item as Item
    from .items import ItemDataset as ItemDataset
    from .items import ItemSplits as ItemSplits
    from .items import login as login
    from .predict.answer_store import KeptAnswers as KeptAnswers
    from .predict.prediction import Prediction as Prediction
    from .predict.prediction import Predictions as Predictions
    from .predict.predictor import Predictor as Predictor
    from .prepare.audit import audit as audit
    from .prepare.check import check_jsonl as check_jsonl
    from .prepare.faults import JsonlReport as JsonlReport
    from .prepare.findings import AuditReport as AuditReport
    from .prepare.jsonl import JsonlWriter as JsonlWriter
    from .prepare.jsonl import TrainingFile as TrainingFile
    from .prepare.synthetic import MadeUpCatalogue as MadeUpCatalogue
    from .prepare.tokens import TokenCount as TokenCount
    from .prepare.tokens import count_tokens as count_tokens
    from .providers import TokenPricing as TokenPricing
    from .providers import connect as connect
    from .tune.cost import CostEstimate as CostEstimate
    from .tune.cost import estimate_cost as estimate_cost
    from .tune.job import FineTuneJob as FineTuneJob
    from .tune.upload import upload as upload

    PriceRow = TokenPricing

_HOMES = {
    "AuditReport": "prepare.findings",
    "ChatFormatter": "chat",
    "Comparison": "evaluate",
    "CostEstimate": "tune.cost",
    "Evaluation": "evaluate",
    "Evaluator": "evaluate",
    "FineTuneJob": "tune.job",
    "Forecast": "evaluate",
    "Item": "items",
    "ItemDataset": "items",
    "ItemSplits": "items",
    "JsonlReport": "prepare.faults",
    "JsonlWriter": "prepare.jsonl",
    "KeptAnswers": "predict.answer_store",
    "Leaderboard": "evaluate",
    "MadeUpCatalogue": "prepare.synthetic",
    "Prediction": "predict.prediction",
    "Predictions": "predict.prediction",
    "Predictor": "predict.predictor",
    "Sweep": "evaluate",
    "TokenCount": "prepare.tokens",
    "TokenPricing": "providers",
    "TrainingFile": "prepare.jsonl",
    "audit": "prepare.audit",
    "best_checkpoint": "evaluate",
    "check_jsonl": "prepare.check",
    "compare": "evaluate",
    "connect": "providers",
    "count_tokens": "prepare.tokens",
    "estimate_cost": "tune.cost",
    "forecast": "evaluate",
    "login": "items",
    "upload": "tune.upload",
}

# Names of earlier versions, which still work: (room, today's name).
_FORMER = {"PriceRow": ("providers", "TokenPricing")}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - a test holds it against the imports above


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("finetune-pricer")
    if name not in _HOMES and name not in _FORMER:
        raise AttributeError(f"module 'finetune_pricer' has no attribute {name!r}")
    room, known_as = _FORMER[name] if name in _FORMER else (_HOMES[name], name)
    value = getattr(import_module(f".{room}", __name__), known_as)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, "__version__"])
