"""What a failure means, and what can be done about it.

Pure: from an exception or from words, without clock, network or disk. `causes`
names what can have happened, `classify` finds it out of types first and words
second, `recovery` says what helps.
"""
