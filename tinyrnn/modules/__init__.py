"""Nets of PyTorch's modules: `from_torch`."""
