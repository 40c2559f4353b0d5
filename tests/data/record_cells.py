"""Record outputs and gradients of the cells that PyTorch lacks, written out in its autograd.

PYTHONPATH=.:tests/helpers python3 tests/data/record_cells.py [NAME ...]
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
from cell_cases import (
    CLIPPED,
    FAST,
    LOW,
    MATRIX,
    OUTPUT,
    SMALL,
    VARIANTS,
    Case,
    case,
    gates_case,
    normed_case,
)
from dice import Dice
from folders import DATA
from written_out import run

RECORDED = {
    "cells": [(range(1000, 1008), VARIANTS)],
    "small_cells": [(range(2000, 2010), SMALL)],
    "fastgrnn": [(range(3000, 3004), FAST)],
    "jordan": [(range(4000, 4006), OUTPUT)],
    "clipped": [(range(5000, 5002), CLIPPED)],
    "low_rank": [((7275, 7342, 7352), LOW[2:])],
    "more_cells": [  # of each kind a small one
        ((6070, 6078, 6119), MATRIX),
        ((7102, 7133), LOW[:2]),
        ((8065, 8169, 8206, 8243, 8294, 8515, 8545), gates_case),
        ((9031, 9099, 9157, 9205, 9288), normed_case),
    ],
}


def results(given: Case, dice: Dice | None = None) -> dict[str, np.ndarray]:
    """By name: the output, the final states, and all gradients, in double; ``dice`` as `run` takes them."""

    def wide(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(array, np.float64)).requires_grad_()

    w = {name: wide(array) for name, array in given.tensors.items()}
    x, initial = wide(given.x), [wide(part) for part in given.initial]
    y, final = run(given.layer, given.arguments, w, x, initial, given.lengths, dice)
    torch.autograd.backward(
        [y, *final], [torch.from_numpy(np.array(way, np.float64)) for way in (given.dy, *given.dfinal)]
    )
    leaves = {"dx": x, **{f"d{name}0": part for name, part in zip("hc", initial, strict=False)}}
    leaves |= {f"d {name}": tensor for name, tensor in w.items()}
    found = {"y": y, **dict(zip("hc", final, strict=False))}
    return {name: array.detach().numpy() for name, array in found.items()} | {
        name: np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy()
        for name, leaf in leaves.items()
    }


def record(file: str) -> None:
    """Write a file."""
    arrays: dict[str, np.ndarray] = {}
    index = []
    for seed, variants in [(seed, variants) for seeds, variants in RECORDED[file] for seed in seeds]:
        given = variants(seed) if callable(variants) else case(seed, variants)
        index.append(
            {"seed": seed, "layer": given.layer, "arguments": given.arguments, "lengths": given.lengths}
        )
        for name, array in {"x": given.x, "dy": given.dy, **given.tensors}.items():
            arrays[f"{seed} given {name}"] = array
        for name, array in zip(("h0", "c0", "dh", "dc"), _states(given), strict=True):
            if array is not None:
                arrays[f"{seed} given {name}"] = array
        for name, array in results(given).items():
            arrays[f"{seed} {name}"] = array.astype(np.float32)
    head = json.dumps({"torch": torch.__version__, "cases": index})
    np.savez_compressed(DATA / f"{file}.npz", index=np.array(head), **arrays)


def _states(given: Case) -> list[np.ndarray | None]:
    """h0, c0, dh, dc."""
    return [part[i] if i < len(part) else None for part in (given.initial, given.dfinal) for i in range(2)]


if __name__ == "__main__":
    for file in sys.argv[1:] or RECORDED:
        record(file)
