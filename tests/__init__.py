"""Marks this folder as ours: `python3 -m tests` must never run another package of that name."""
