"""Closing: the steps of a close as a machine without I/O, and the driver that carries them out."""
