"""An item becomes a price."""
