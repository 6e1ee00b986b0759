"""ComfyUI: servers of the user's, driven over HTTP and WebSocket."""
