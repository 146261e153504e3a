"""Predictions become evidence."""
