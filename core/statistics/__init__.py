"""Statistics that act: forecasts, leaks, what a job is doing, and what changed.

Plain functions over frozen values. Nothing here reads the ledger, a clock or a
GPU, and numpy is loaded only by what needs it.
"""
