"""Dynamically quantised layers of PyTorch, as float layers with weights that their codes stand for.

PyTorch rounds what such a layer reads, all numbers of a call with one scale; a record has the layer without
that. `QUANTISED` has the operations by name: each makes the name and the arguments of the float one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tinyrnn.importing import CodedArray


class Float:
    """The tensors of packed parameters, each made once.

    Attributes
    ----------
    codes : dict of int to CodedArray
        The codes of a tensor, by its identity.
    """

    def __init__(self) -> None:
        self.codes: dict[int, CodedArray] = {}
        self._made: dict[int, tuple[Any, list[Any]]] = {}  # with their objects, which keep the ids alive

    def __call__(self, packed: Any) -> list[Any]:
        """The weight of a matrix and its bias; or the weights of a level and direction, then its biases."""
        if id(packed) not in self._made:
            state, _ = packed.__getstate__()
            if isinstance(state[0], str):
                biases, objects = state[1], state[4]
                pairs = [self(one) for one in objects]
                found = [
                    *(pair[0] for pair in pairs),
                    *(biases or (one for pair in pairs for one in pair[1:])),
                ]
            else:
                found = [self._weight(state[0]), *(one for one in state[1:] if one is not None)]
            self._made[id(packed)] = packed, found
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


def float_function(name: str) -> Any:
    """PyTorch's function of an operation that `QUANTISED` makes."""
    import torch

    return torch.nn.functional.linear if name == "linear" else getattr(torch, name)


Tensors = Callable[[Any], Sequence[Any]]  # of packed parameters, as `Float` has them
Call = tuple[str, list[Any]]


def _linear(tensors: Tensors, args: Sequence[Any]) -> Call:
    return "linear", [args[0], *tensors(args[1])]


def _layer(kind: str, tensors: Tensors, args: Sequence[Any]) -> Call:
    """A recurrent layer: what it reads, its packed levels, and the arguments of the float one."""
    place = 2 + isinstance(args[3], (list, tuple))  # behind the rows of packed steps
    levels = [tensor for one in args[place] for tensor in tensors(one)]
    return kind, [*args[:place], levels, *args[place + 1 :]]


def _cell(kind: str, tensors: Tensors, args: Sequence[Any]) -> Call:
    """A cell; its biases are those of the packed weights, not the arguments, which PyTorch ignores."""
    x, hx, *packed = args[:4]
    both = zip(*map(tensors, packed), strict=True)
    return kind, [x, hx, *(tensor for kinds in both for tensor in kinds)]


QUANTISED: dict[str, Callable[[Tensors, Sequence[Any]], Call]] = {
    **dict.fromkeys(("linear_dynamic", "linear_dynamic_fp16"), _linear),
    **{f"quantized_{kind}": partial(_layer, kind) for kind in ("lstm", "gru")},
    **{
        f"quantized_{kind}_cell_dynamic": partial(_cell, f"{kind}_cell")
        for kind in ("lstm", "gru", "rnn_tanh", "rnn_relu")
    },
}
