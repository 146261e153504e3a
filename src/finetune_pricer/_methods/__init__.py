"""Numerical methods that several rooms compute with."""
