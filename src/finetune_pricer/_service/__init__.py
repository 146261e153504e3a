"""Talking to a service; the only room that knows openai's types."""
