"""Readings of memory, load, heat and power, by device and by process."""
