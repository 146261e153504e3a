"""Base models that the local server can train."""
