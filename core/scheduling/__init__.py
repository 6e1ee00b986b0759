"""What runs next, what holds it up and what happens after a failure: decisions without a clock.

Nothing here starts, waits or asks: whoever calls says what there is and what time it is.
"""
