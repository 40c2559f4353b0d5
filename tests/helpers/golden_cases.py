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


def build(layer, arguments):
    if layer == "Sequential":
        return tr.Sequential({name: build(*inner) for name, inner in arguments.items()})
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()}
    return getattr(tr, layer)(**given)
