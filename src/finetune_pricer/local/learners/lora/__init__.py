"""Open language models with LoRA adapters: they train on this machine, and price exactly."""

from .lora_learner import LoraLearner

__all__ = ["LoraLearner"]
