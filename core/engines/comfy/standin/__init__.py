"""A server that behaves like ComfyUI 0.3.64 and computes nothing: for tests and the fire drill.

HTTP and WebSocket are real, graphs are run for show: nodes take the time that
a script says, output nodes write small files that can be played, memory is
counted instead of used. Faults come on command.
"""
