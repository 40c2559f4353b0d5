"""The files of tests/data that PyTorch computed, and nets from the words in them."""

import json

import numpy as np
from folders import DATA

import tinyrnn as tr


def read(name):
    """The index and the arrays of a recorded file."""
    with np.load(DATA / name) as file:
        index = json.loads(str(file["index"]))
        return index, {
            key: array.astype(np.float32) if array.dtype == np.float16 else array
            for key, array in file.items()
        }


def compared_elsewhere():
    """The layers that other tests compare with PyTorch: cells that it lacks, and what combines values.

    They are test_cells.py, test_graphs.py, test_operations.py, test_temporal.py and test_attention.py.
    """
    rooms = ("ops", "frames", "graph", "temporal", "attention", "blocks", "cells")
    rooms = {f"tinyrnn.{name}" for name in rooms}
    return {name for name, kind in tr.Net.types.items() if kind.__module__ in rooms}


def build(layer, arguments):
    if layer == "Sequential":
        return tr.Sequential({name: build(*inner) for name, inner in arguments.items()})
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()}
    return getattr(tr, layer)(**given)
