"""Engines: whatever can run a job. They never import each other."""
