"""Streams without an end: frames held between whoever makes and whoever shows them."""
