"""Record recurrent layers of MLX and Flax: their files, what they read and what they make.

python3 tests/data/record_layouts.py, where mlx, or flax and safetensors, are installed; the others stay.
"""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path

import numpy as np

PATH = Path(__file__).parent / "layouts.npz"
RNG = np.random.default_rng(1)
X = RNG.standard_normal((5, 3)).astype(np.float32)


def numbers(like):
    return (0.4 * RNG.standard_normal(like.shape)).astype(np.float32)


def of_mlx(folder):
    import mlx.core as mx
    import mlx.nn as nn
    from mlx.utils import tree_flatten

    for kind in ("LSTM", "GRU", "RNN"):
        for bias in (True, False):
            module = getattr(nn, kind)(3, 4, bias=bias)
            weights = {name: mx.array(numbers(one)) for name, one in tree_flatten(module.parameters())}
            module.load_weights(list(weights.items()))
            mx.save_safetensors(str(folder / "net"), {f"net.{name}": one for name, one in weights.items()})
            y = module(mx.array(X))
            y = y[0] if isinstance(y, tuple) else y
            yield f"mlx {kind} {'with' if bias else 'without'} bias", folder / "net.safetensors", y


def of_flax(folder):
    import flax.linen as nn
    import jax
    from flax.traverse_util import flatten_dict
    from safetensors.numpy import save_file

    for kind, dot in (("LSTMCell", "."), ("OptimizedLSTMCell", "/"), ("GRUCell", "."), ("SimpleCell", ".")):
        module = nn.Sequential([nn.RNN(getattr(nn, kind)(4)), nn.Dense(2)])
        tree = jax.tree_util.tree_map(numbers, module.init(jax.random.PRNGKey(0), X[None]))
        flat = {name: np.asarray(one) for name, one in flatten_dict(tree, sep=dot).items()}
        save_file(flat, folder / "net.safetensors")
        y = module.apply(tree, X[None])[0]
        yield f"flax {kind}", folder / "net.safetensors", y


found = dict(np.load(PATH)) if PATH.exists() else {}
for name, made in (("mlx", of_mlx), ("flax", of_flax)):
    if importlib.util.find_spec(name) is None:
        continue
    with tempfile.TemporaryDirectory() as folder:
        for case, path, y in made(Path(folder)):
            found[f"{case}/file"] = np.frombuffer(path.read_bytes(), np.uint8)
            found[f"{case}/x"], found[f"{case}/y"] = X, np.asarray(y)
np.savez_compressed(PATH, **found)
