"""Nets of Keras files: a `.keras` archive, or HDF5 of Keras 2 and 3. Nothing in a file runs."""
