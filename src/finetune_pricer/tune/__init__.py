"""A training file becomes a model."""
