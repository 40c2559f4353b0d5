"""Dynamically quantised layers of PyTorch, as calls of float layers with weights that their codes stand for.

PyTorch rounds what such a layer reads, all numbers of a call with one scale; a record has the layer without
that. `QUANTISED` has the functions by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tinyrnn.importing import CodedArray


class Float:
    """The weights of packed parameters as tensors, each made once.

    Attributes
    ----------
    codes : dict of int to CodedArray
        The codes of a tensor, by its identity.
    """

    def __init__(self) -> None:
        self.codes: dict[int, CodedArray] = {}
        self._made: dict[int, tuple[Any, list[Any]]] = {}  # with their objects, which keep the ids alive

    def pair(self, packed: Any) -> list[Any]:
        """The weight of a matrix, and its bias or None."""
        return self._of(packed, lambda state: [self._weight(state[0]), state[1]])

    def level(self, packed: Any) -> list[Any]:
        """The weights of a level and direction, then its biases, as PyTorch's layers list them."""

        def unpacked(state: Any) -> list[Any]:
            biases, objects = state[1], state[4]
            pairs = [self.pair(one) for one in objects]
            biases = biases or [bias for _, bias in pairs]
            return [*(weight for weight, _ in pairs), *(one for one in biases if one is not None)]

        return self._of(packed, unpacked)

    def _of(self, packed: Any, unpacked: Callable[[Any], list[Any]]) -> list[Any]:
        if id(packed) not in self._made:
            state, _ = packed.__getstate__()
            self._made[id(packed)] = packed, unpacked(state)
        return self._made[id(packed)][1]

    def _weight(self, tensor: Any) -> Any:
        """A weight as floats. Its code -128 is -127 here, as for `load_weights`."""
        import torch

        if not tensor.is_quantized:
            return tensor.detach().float()
        if tensor.qscheme() == torch.per_tensor_affine:
            scales, zeros = [tensor.q_scale()], [tensor.q_zero_point()]
        else:
            scales, zeros = tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()
        column = [np.array(one, np.float32).reshape(-1, 1) for one in (scales, zeros)]
        codes = tensor.int_repr().numpy()
        codes = codes if np.any(column[1]) else np.maximum(codes, np.int8(-127))
        coded = CodedArray(codes, *column)
        found = torch.from_numpy(np.asarray(coded))
        self.codes[id(found)] = coded
        return found


Call = tuple[Any, list[Any]]


def _linear(floats: Float, args: Sequence[Any]) -> Call:
    import torch

    return torch.nn.functional.linear, [args[0], *floats.pair(args[1])]


def _layer(kind: str, floats: Float, args: Sequence[Any]) -> Call:
    """A recurrent layer: what it reads, its packed levels, and the arguments of the float one."""
    import torch

    place = 2 + isinstance(args[3], (list, tuple))  # behind the rows of packed steps
    tensors = [tensor for one in args[place] for tensor in floats.level(one)]
    return getattr(torch, kind), [*args[:place], tensors, *args[place + 1 :]]


def _cell(kind: str, floats: Float, args: Sequence[Any]) -> Call:
    """A cell; its biases are those of the packed weights, not the arguments, which PyTorch ignores."""
    import torch

    x, hx, *packed = args[:4]
    both = zip(*map(floats.pair, packed), strict=True)
    return getattr(torch, kind), [x, hx, *(tensor for kinds in both for tensor in kinds)]


QUANTISED: dict[str, Callable[[Float, Sequence[Any]], Call]] = {
    **dict.fromkeys(("linear_dynamic", "linear_dynamic_fp16"), _linear),
    **{f"quantized_{kind}": partial(_layer, kind) for kind in ("lstm", "gru")},
    **{
        f"quantized_{kind}_cell_dynamic": partial(_cell, f"{kind}_cell")
        for kind in ("lstm", "gru", "rnn_tanh", "rnn_relu")
    },
}
