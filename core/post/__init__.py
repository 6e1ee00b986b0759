"""What is done to finished frames: more of them in between, and more pixels.

Nothing here is loaded before a job or a person asks for it.
"""

OFF = "off"
FACTORS = ("2", "4")
"""Words for so many times as many."""
