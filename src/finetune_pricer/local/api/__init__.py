"""What the local server answers over HTTP."""
