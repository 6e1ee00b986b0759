"""Views. They import core's types, never an engine and never a thread."""
