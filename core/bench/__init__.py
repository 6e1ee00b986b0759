"""Measuring: interleaved runs, what they say, and what earlier ones said."""
