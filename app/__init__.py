"""The composition root: it imports every room and is imported by none."""
