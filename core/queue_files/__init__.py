"""A queue in a file: jobs with their pictures in a zip, taken elsewhere or kept."""

from core.queue_files.read import Imported, read_queue
from core.queue_files.write import Exported, write_queue

__all__ = ["Exported", "Imported", "read_queue", "write_queue"]
