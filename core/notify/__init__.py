"""News of the queue for people who are elsewhere: pure messages, limits, and how they are sent.

`news` says what happened, `outbox` when it is told and together with what, `channels` how.
"""
