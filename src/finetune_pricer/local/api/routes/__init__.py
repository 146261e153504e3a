"""Handlers of the local server, one file for each group of paths."""
