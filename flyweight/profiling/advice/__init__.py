"""Advice with a price: rules of light networks, the layers that break them, what a change saves."""
