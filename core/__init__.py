"""Everything Framedeck knows and does without a window. No Qt in here."""
