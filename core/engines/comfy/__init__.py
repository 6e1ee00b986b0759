"""Driving ComfyUI servers: graphs in, verified files out."""
