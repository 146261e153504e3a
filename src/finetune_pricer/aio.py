"""The road for async code: the same names with `Async` before them, and the same parameters."""

from .predict._async import AsyncPredictor

__all__ = ["AsyncPredictor"]
