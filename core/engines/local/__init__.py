"""The embedded diffusers engine: a client here, torch in a process of its own."""
