"""Record what PyTorch computes of the nets of late_graphs.py, for test_alignment.py to replay.

    python tests/data/record_graphs.py

writes graphs.npz beside this file: of each net its weights, ``net.name``, and under ``net:name`` the output
and all gradients, computed in float64 and rounded to float32. Needs torch 2.13; the same torch writes the
same bytes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "helpers"))
from late_graphs import NETS, of_torch

import tinyrnn as tr


def main() -> None:
    if not torch.__version__.startswith("2.13."):
        raise SystemExit(f"this is torch {torch.__version__}; the goldens are those of 2.13")
    torch.set_num_threads(1)
    arrays, index = {}, {}
    for net, (make, model) in NETS.items():
        tr.manual_seed(3)
        weights = {name: np.array(array) for name, array in make().state_dict().items()}
        results = of_torch(model, weights)
        arrays |= {f"{net}.{name}": array for name, array in weights.items()}
        arrays |= {f"{net}:{name}": array for name, array in results.items()}
        index[net] = list(results)
    text = json.dumps({"torch": torch.__version__, "results": index})
    path = Path(__file__).with_name("graphs.npz")
    np.savez_compressed(path, index=np.array(text), **arrays)
    print(f"{path.name}: {len(NETS)} nets, {path.stat().st_size} bytes, torch {torch.__version__}")


if __name__ == "__main__":
    main()
