"""What a run of the queue came to: which jobs it did, what they took, what failed and why.

A run is found in the ledger, from what ran when; nothing of its own is kept.
"""
