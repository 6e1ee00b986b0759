"""How long things will still take: the running job, the queue, the night.

Pure: the caller gives the clock, and nothing here knows of windows or threads.
"""
