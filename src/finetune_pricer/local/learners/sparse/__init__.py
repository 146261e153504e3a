"""A small statistical learner: a softmax network over the words of a text. It is not a language model."""

from .sparse_learner import SparseLearner

__all__ = ["SparseLearner"]
