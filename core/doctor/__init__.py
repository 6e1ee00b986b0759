"""The self-test: checks of this installation, each finding with its fix. No Qt, no threads.

Whatever may hang (a driver, a network drive, a keyring) is asked in a child process with a time
limit. `child` also runs in the engine's Python, which may be older: nothing is imported here.
"""
