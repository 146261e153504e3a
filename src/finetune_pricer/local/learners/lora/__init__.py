"""Open language models with LoRA adapters: they train on this machine, and price exactly."""

from .adapter_pricer import AdapterPricer
from .lora_learner import LoraLearner

__all__ = ["AdapterPricer", "LoraLearner"]
