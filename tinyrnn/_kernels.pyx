"""The window for tests and benchmarks: every kernel of every built instruction set, by name.

Arrays are C-contiguous float32; nothing is checked beyond the shapes.
"""
