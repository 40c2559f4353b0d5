"""Record what PyTorch computes of the cases of operation_cases.py, for test_operations.py to replay.

    python tests/data/record_operations.py

writes operations.npz beside this file: of each case ``y`` and the gradients ``d0`` .. at the first step of
two rows, computed in float64 and rounded to float32, one after the other in ``numbers``; ``index`` has their
shapes. Inputs and dy follow from the case's name. Needs torch 2.13; the same torch writes the same bytes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "helpers"))
from operation_cases import CASES, RECORDED, aligned, drawn, gradient, of_torch


def main() -> None:
    if not torch.__version__.startswith("2.13."):
        raise SystemExit(f"this is torch {torch.__version__}; the goldens are those of 2.13")
    torch.set_num_threads(1)
    numbers, index = [], []
    for case in CASES:
        x = [torch.from_numpy(array).double().requires_grad_() for array in drawn(case)]
        y = of_torch(case, aligned(case, x)).double()
        if y.requires_grad:
            y.backward(torch.from_numpy(gradient(case, tuple(y.shape))).double())
        results = [y, *(torch.zeros_like(one) if one.grad is None else one.grad for one in x)]
        found = [one.detach().numpy().astype(np.float32)[RECORDED] for one in results]
        numbers += [one.reshape(-1) for one in found]
        index.append({"name": case.name, "shapes": [one.shape for one in found]})
    text = json.dumps({"torch": torch.__version__, "cases": index})
    path = Path(__file__).with_name("operations.npz")
    np.savez_compressed(path, index=np.array(text), numbers=np.concatenate(numbers))
    print(f"{path.name}: {len(CASES)} cases, {path.stat().st_size} bytes, torch {torch.__version__}")


if __name__ == "__main__":
    main()
