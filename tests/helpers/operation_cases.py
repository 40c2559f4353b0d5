"""Operations within frames and of several values: cases, their numbers, and PyTorch's namesakes."""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

STEPS, BATCH = 4, 3
RECORDED = (0, slice(2))  # step and rows of what operations.npz has


class Case(NamedTuple):
    """A layer, its arguments, the frames that it reads, and what their numbers are like.

    Numbers: "normal"; "halves", multiples of 1/2, of which some are equal; "positive"; "zeros", some are 0.
    """

    layer: str
    arguments: dict[str, Any]
    frames: tuple[tuple[int, ...], ...]
    numbers: str = "normal"

    @property
    def name(self) -> str:
        words = [self.layer, *(f"{k}={v}" for k, v in self.arguments.items()), *map(str, self.frames)]
        return " ".join([*words, self.numbers]).replace("[", "(").replace("]", ")")


ONE, TWO, THREE = (5,), (4, 5), (2, 4, 5)
DIMS = [({"dim": -1}, ONE), ({}, THREE), ({"dim": -2}, TWO), ({"dim": (-3, -1)}, THREE)]
KEPT = [({"dim": -1, "keepdim": True}, TWO), ({"dim": (-1, -2), "keepdim": True}, THREE)]
BROADCAST = [(TWO, TWO), (ONE, THREE), ((4, 1), TWO), (THREE, (2, 1, 1)), ((1,), ONE)]

REDUCTIONS = ("Sum", "Mean", "Amax", "Amin", "Prod", "Var", "Std", "VectorNorm", "LogSumExp")
COMPARISONS = ("Equal", "NotEqual", "Less", "LessEqual", "Greater", "GreaterEqual")

CASES = [
    Case("Reshape", {"shape": (2, 2, 5)}, (TWO,)),
    Case("Reshape", {"shape": -1}, (THREE,)),
    Case("Reshape", {"shape": (10, -1)}, (THREE,)),
    Case("Unflatten", {"dim": -1, "unflattened_size": (2, -1)}, ((3, 6),)),
    Case("Unflatten", {"dim": -2, "unflattened_size": (2, 2)}, (TWO,)),
    Case("Permute", {}, (TWO,)),
    Case("Permute", {}, (THREE,)),
    *(
        Case("Permute", {"dims": dims}, (THREE,))
        for dims in ((-1, -3, -2), (-2, -1, -3), (-3, -1, -2), (-1, -2, -3))
    ),
    Case("Pad", {"pad": (2, 1)}, (TWO,)),
    Case("Pad", {"pad": (1, 0, 0, 2, 3, 1), "value": -1.5}, (THREE,)),
    Case("Pad", {"pad": (-2, 1, 1, -1)}, (TWO,)),
    *(Case("Pad", {"pad": (3, 2), "mode": mode}, (TWO,)) for mode in ("reflect", "replicate", "circular")),
    *(
        Case("Pad", {"pad": (4, 1, 2, 3), "mode": mode}, (THREE,))
        for mode in ("reflect", "replicate", "circular")
    ),
    *(Case(layer, *options) for layer in REDUCTIONS for options in ((d, (f,)) for d, f in DIMS + KEPT)),
    *(Case(layer, {"dim": -1}, (TWO,), "halves") for layer in ("Amax", "Amin")),
    *(Case("Prod", {"dim": -1}, (TWO,), numbers) for numbers in ("zeros", "halves")),
    Case("Var", {"dim": -1, "correction": 0}, (TWO,)),
    Case("Std", {"correction": 2}, (TWO,)),
    Case("Constant", {"number": 2.5}, (TWO,)),
    *(Case(layer, {}, frames, "halves") for layer in COMPARISONS for frames in BROADCAST[:3]),
    *(Case("Pow", {}, frames, "positive") for frames in BROADCAST),
    *(Case("Where", {}, (*frames, frames[0]), "halves") for frames in BROADCAST),
    Case("Where", {}, ((1,), ONE, (4, 1)), "halves"),
    Case("Matmul", {}, ((3, 4), (4, 5))),
    Case("Matmul", {}, ((4,), (4, 18))),
    Case("Matmul", {}, ((2, 3, 7), (2, 7, 5))),
    Case("Matmul", {}, ((1, 3, 7), (2, 7, 20))),
    Case("Matmul", {}, ((2, 3, 7), (7, 5))),
    Case("Matmul", {}, ((17, 1), (3, 1, 33))),
]


def drawn(case: Case, still: tuple[bool, ...] = ()) -> list[NDArray[np.float32]]:
    """The values, (STEPS, BATCH, frame) or of those that are still (BATCH, frame)."""
    arrays = []
    for i, frame in enumerate(case.frames):
        rng = np.random.RandomState(zlib.crc32(f"{case.name} {i}".encode()))
        lead = (BATCH,) if i < len(still) and still[i] else (STEPS, BATCH)
        x = rng.standard_normal((*lead, *frame))
        if case.numbers == "halves":
            x = np.round(2 * x) / 2
        if case.numbers == "positive" and i == 0:
            x = np.abs(x) + 0.1
        if case.numbers == "zeros":
            x *= rng.uniform(size=x.shape) < 0.7
        arrays.append(x.astype(np.float16).astype(np.float32))
    return arrays


def gradient(case: Case, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A gradient of the output."""
    rng = np.random.RandomState(zlib.crc32(f"{case.name} dy".encode()))
    return rng.standard_normal(shape).astype(np.float16).astype(np.float32)


def aligned(case: Case, arrays: Any) -> list[Any]:
    """The arrays with frames of equal rank, so that those of sequences and of steps meet."""
    rank = max(map(len, case.frames)) if case.layer != "Matmul" or len(case.frames[0]) > 1 else 0
    return [
        array.reshape(*array.shape[: array.ndim - len(frame)], *(1,) * (rank - len(frame)), *frame)
        for array, frame in zip(arrays, case.frames, strict=True)
    ]


def of_torch(case: Case, x: Any) -> Any:
    """PyTorch's function of tensors that are aligned."""
    import torch

    given = dict(case.arguments)
    lead = x[0].ndim - len(case.frames[0])
    whole = tuple(range(-len(case.frames[0]), 0))
    if case.layer in REDUCTIONS:
        dims = given.pop("dim", whole)
        if case.layer == "Prod":  # over one axis only
            y = x[0]
            for dim in sorted((dims,) if isinstance(dims, int) else dims):
                y = y.prod(dim, keepdim=True)
            return y if given.get("keepdim") else y.squeeze(dims)
        if case.layer == "VectorNorm":
            return torch.linalg.vector_norm(x[0], dim=dims, **given)
        return getattr(torch, case.layer.lower())(x[0], dim=dims, **given)
    if case.layer == "Pad":
        flat = x[0].reshape(-1, *case.frames[0])
        flat = flat.unsqueeze(1) if len(case.frames[0]) + 1 - len(given["pad"]) // 2 < 2 else flat
        y = torch.nn.functional.pad(flat, **given)
        return y.reshape(*x[0].shape[:lead], *y.shape[-len(case.frames[0]) :])
    if case.layer == "Matmul" and len(case.frames[0]) == 1:
        return (x[0].unsqueeze(-2) @ x[1]).squeeze(-2)
    functions = {
        "Reshape": lambda x: x.reshape(*x.shape[:lead], *np.atleast_1d(given["shape"]).tolist()),
        "Unflatten": lambda x: x.unflatten(given["dim"], given["unflattened_size"]),
        "Permute": lambda x: torch.permute(x, _whole(x.ndim, given.get("dims", (-1, -2)))),
        "Constant": lambda x: torch.full(x.shape[:lead], given["number"], dtype=x.dtype) + 0 * x.sum(whole),
        "Equal": torch.eq,
        "NotEqual": torch.ne,
        "Less": torch.lt,
        "LessEqual": torch.le,
        "Greater": torch.gt,
        "GreaterEqual": torch.ge,
        "Pow": torch.pow,
        "Where": lambda a, b, c: torch.where(a != 0, b, c),
        "Matmul": torch.matmul,
    }
    return functions[case.layer](*x)


def _whole(ndim: int, dims: tuple[int, ...]) -> tuple[int, ...]:
    return (*range(ndim - len(dims)), *(ndim + dim for dim in dims))
