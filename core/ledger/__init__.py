"""The ledger: every job, its attempts and its outputs, kept on the disk."""

from core.ledger.ledger import Ledger
from core.ledger.read import Attempt, NodeMark, PhaseMark

__all__ = ["Attempt", "Ledger", "NodeMark", "PhaseMark"]
