"""Many jobs at once: from a table, a list of prompts or a folder of pictures."""

from core.batch.plan import Plan, Planned, Wanted, plan
from core.batch.read import MOST_ROWS, TABLES, Row, read

__all__ = ["MOST_ROWS", "TABLES", "Plan", "Planned", "Row", "Wanted", "plan", "read"]
