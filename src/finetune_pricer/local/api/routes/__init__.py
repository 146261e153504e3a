"""The routes, in groups: one class each, with one method per route."""
