"""Dreams: pictures of prompts, and a smooth way from each to the next without an end."""
