"""Operations on arrays whose numbers are known: constants, shapes, and indices of states.

`FOLDS` has a line for each operation. Its function takes a `Fold` and returns an array, or a list of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyrnn.importing import CodedArray
from tinyrnn.weights.spec import MAX_DIMS, Array, Tensor, shown

# NumPy's types of ONNX's numbers of them, for Cast.
CASTS: dict[int, Any] = {
    1: np.float32,
    2: np.uint8,
    3: np.int8,
    4: np.uint16,
    5: np.int16,
    6: np.int32,
    7: np.int64,
    9: np.bool_,
    10: np.float32,  # halves are kept as floats
    11: np.float32,
    12: np.uint32,
    13: np.uint64,
    16: np.float32,
}


@dataclass(frozen=True)
class Fold:
    """One operation on arrays.

    Attributes
    ----------
    inputs : list of ndarray or None
    attributes : dict
    opset : int
        The version of ONNX's operators that the file uses.
    room : callable
        Called with the count of numbers of an array before it is made; raises an error if it is too large.
    outputs : int
        How many the node has.
    """

    inputs: Sequence[Array | None]
    attributes: dict[str, Any]
    opset: int
    room: Callable[[int], None]
    outputs: int = 1

    def __getitem__(self, place: int) -> Array:
        given = self.get(place)
        if given is None:
            raise ValueError(f"lacks input {place}")
        return given

    def get(self, place: int) -> Array | None:
        return self.inputs[place] if place < len(self.inputs) else None

    def ints(self, name: str, place: int) -> list[int] | None:
        """Integers that are an attribute in older versions of an operator, an input in newer ones."""
        array = self.get(place)
        if array is not None:
            return [int(one) for one in np.atleast_1d(array)]
        given = self.attributes.get(name)
        return None if given is None else [int(one) for one in np.atleast_1d(given)]


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the front."""
    if not -rank <= axis < max(rank, 1):
        raise ValueError(f"axis is {axis}, expected one of {rank} axes")
    return axis % max(rank, 1)


def axes_of(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Axes counted from the front, each once."""
    found = tuple(axis_of(axis, rank) for axis in axes)
    if len(set(found)) < len(found):
        raise ValueError(f"axes are {list(axes)}, expected each once")
    return found


def squeezed_axes(axes: Sequence[int] | None, shape: Sequence[int]) -> tuple[int, ...]:
    """The axes that Squeeze takes away: all of size 1 where none are told."""
    if axes is None:
        return tuple(axis for axis, size in enumerate(shape) if size == 1)
    return axes_of(axes, len(shape))


def bounds(fold: Fold) -> list[tuple[int, int, int, int]]:
    """The axis, start, end and step of each part of a Slice, as they are in the file."""
    starts, ends = fold.ints("starts", 1) or [], fold.ints("ends", 2) or []
    axes, steps = fold.ints("axes", 3), fold.ints("steps", 4)
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise ValueError(
            f"got {len(starts)} starts, {len(ends)} ends, {len(axes)} axes and {len(steps)} steps"
        )
    if 0 in steps:
        raise ValueError("a step is 0, expected another number")
    return list(zip(axes, starts, ends, steps, strict=True))


def span(size: int, start: int, end: int, step: int) -> range:
    """The places of an axis that a Slice takes."""
    if step < 0:
        start = min(max(start + size if start < 0 else start, 0), size - 1)
        end = max(end + size if end < 0 else end, -1)
        return range(start, min(end, size - 1), step) if size else range(0)
    return range(*slice(start, end, step).indices(size))


def _slice(fold: Fold) -> Array:
    array = fold[0]
    for axis, start, end, step in bounds(fold):
        axis = axis_of(axis, array.ndim)
        places = span(array.shape[axis], start, end, step)
        stop = places.stop if places.stop >= 0 else None
        index: list[slice] = [slice(None)] * array.ndim
        index[axis] = slice(places.start, stop, places.step) if len(places) else slice(0, 0)
        array = array[tuple(index)]
    return array


def _gather(fold: Fold) -> Array:
    data, indices = fold[0], fold[1]
    axis = axis_of(fold.attributes.get("axis", 0), data.ndim)
    if indices.dtype.kind not in "iu":
        raise ValueError(f"indices are {indices.dtype}, expected integers")
    size = data.shape[axis]
    if indices.size and not (-size <= indices.min() and indices.max() < size):
        raise ValueError(f"got an index beyond the {size} numbers of axis {axis}")
    fold.room(data.size // max(size, 1) * indices.size)
    return np.take(data, indices, axis)


def _constant(fold: Fold) -> Array:
    for name, value in fold.attributes.items():
        if isinstance(value, Tensor):
            return value.array()
        if name in ("value_float", "value_floats"):
            return np.array(value, np.float32)
        if name in ("value_int", "value_ints"):
            return np.array(value, np.int64)
    raise ValueError(f"has {shown(str(list(fold.attributes)))}, expected a value of numbers")


def _filled(fold: Fold) -> Array:
    shape = tuple(int(size) for size in fold[0].reshape(-1))
    if min(shape, default=0) < 0:
        raise ValueError(f"shape is {shape}, expected no size below 0")
    fold.room(math.prod(shape))
    value = fold.attributes.get("value")
    number = value.array().reshape(-1)[:1] if isinstance(value, Tensor) else np.zeros(1, np.float32)
    if number.size != 1:
        raise ValueError("value is empty, expected one number")
    return np.full(shape, number[0], number.dtype)


def target(shape: Sequence[int], given: Sequence[int], allowzero: bool = False) -> tuple[int, ...]:
    """The shape that a Reshape asks for: 0 is the size that was there, -1 what is left."""
    sizes = [
        shape[i] if size == 0 and not allowzero and i < len(shape) else int(size)
        for i, size in enumerate(given)
    ]
    if sizes.count(-1) > 1 or min(sizes, default=0) < -1:
        raise ValueError(f"shape is {sizes}, expected sizes of which one may be -1")
    if -1 in sizes:
        known = -math.prod(sizes)
        total = math.prod(shape)
        sizes[sizes.index(-1)] = total // known if known else 0
    if math.prod(sizes) != math.prod(shape):
        raise ValueError(f"shape is {sizes}, expected one for as many numbers as {tuple(shape)} has")
    return tuple(sizes)


def _reshape(fold: Fold) -> Array:
    given = fold.ints("shape", 1) or []
    return fold[0].reshape(target(fold[0].shape, given, bool(fold.attributes.get("allowzero"))))


def _expand(fold: Fold) -> Array:
    array, wanted = fold[0], [int(size) for size in fold[1].reshape(-1)]
    if len(wanted) > MAX_DIMS:
        raise ValueError(f"got {len(wanted)} sizes, expected at most {MAX_DIMS}")
    for axis, size in enumerate(([1] * array.ndim + wanted)[len(wanted) :]):
        if size not in (1, array.shape[axis]) and array.shape[axis] > 1:
            head = array.take([0], axis)
            array = head if np.all(array == head) else array  # an export wrote a row for each that it traced
    shape = np.broadcast_shapes(array.shape, tuple(wanted))
    fold.room(math.prod(shape))
    return np.broadcast_to(array, shape)


def _tile(fold: Fold) -> Array:
    repeats = [int(one) for one in fold[1].reshape(-1)]
    if min(repeats, default=0) < 0 or len(repeats) != fold[0].ndim:
        raise ValueError(f"repeats are {repeats}, expected one for each of {fold[0].ndim} axes")
    fold.room(fold[0].size * math.prod(repeats))
    return np.tile(fold[0], repeats)


def _range(fold: Fold) -> Array:
    start, limit, delta = (fold[i].reshape(()) for i in range(3))
    if delta == 0:
        raise ValueError("delta is 0, expected another number")
    count = max(math.ceil((limit - start) / delta), 0)
    fold.room(2 * count)
    places = np.arange(count, dtype=start.dtype if start.dtype.kind in "iu" else np.float64)
    places *= delta
    places += start
    return places.astype(start.dtype, copy=False)


def _concat(fold: Fold) -> Array:
    arrays = [fold[i] for i in range(len(fold.inputs))]
    fold.room(sum(array.size for array in arrays))
    return np.concatenate(arrays, axis_of(fold.attributes.get("axis", 1), arrays[0].ndim))


def sections(fold: Fold, size: int) -> list[int]:
    """The sizes of the parts of a Split."""
    given = fold.ints("split", 1)
    if given is None:
        count = fold.attributes.get("num_outputs", fold.outputs)
        each = -(-size // max(count, 1))
        given = [min(each, max(size - i * each, 0)) for i in range(fold.outputs)]
    if sum(given) != size or min(given, default=0) < 0 or len(given) != fold.outputs:
        raise ValueError(f"got sizes {given} for {fold.outputs} parts, expected a sum of {size}")
    return given


def _split(fold: Fold) -> list[Array]:
    axis = axis_of(fold.attributes.get("axis", 0), fold[0].ndim)
    places = np.cumsum(sections(fold, fold[0].shape[axis]))[:-1]
    return np.split(fold[0], places.tolist(), axis)


def _unsqueeze(fold: Fold) -> Array:
    axes = fold.ints("axes", 1) or []
    return np.expand_dims(fold[0], axes_of(axes, fold[0].ndim + len(axes)))


def _squeeze(fold: Fold) -> Array:
    return np.squeeze(fold[0], squeezed_axes(fold.ints("axes", 1), fold[0].shape))


def _transpose(fold: Fold) -> Array:
    order = fold.attributes.get("perm") or list(range(fold[0].ndim))[::-1]
    return fold[0].transpose(axes_of(order, fold[0].ndim))


def _shape(fold: Fold) -> Array:
    rank = fold[0].ndim
    places = slice(fold.attributes.get("start", 0), fold.attributes.get("end", rank))
    return np.array(fold[0].shape[places], np.int64)


def _cast(fold: Fold) -> Array:
    kind = CASTS.get(fold.attributes.get("to", 0))
    if kind is None:
        raise ValueError(f"to is {fold.attributes.get('to')}, expected a type of numbers")
    return _changed(fold, np.dtype(kind))


def _changed(fold: Fold, kind: np.dtype[Any]) -> Array:
    """The numbers in another type."""
    if fold[0].dtype != kind:
        fold.room(fold[0].size * kind.itemsize // 8)
    with np.errstate(all="ignore"):
        return fold[0].astype(kind, copy=False)


def _cast_like(fold: Fold) -> Array:
    kind = fold[1].dtype
    if kind.itemsize < 2 and kind.kind not in "iub":
        raise ValueError(f"its type is {kind}, expected whole numbers, or floats of at least 16 bits")
    return _changed(fold, kind)


def _elementwise(function: Callable[..., Any], keep: bool = False) -> Callable[[Fold], Array]:
    """The fold of a function of numbers; with ``keep`` the result has the type of the first."""

    def done(fold: Fold) -> Array:
        arrays = [fold[i] for i in range(len(fold.inputs))]
        fold.room(math.prod(np.broadcast_shapes(*(array.shape for array in arrays))))
        with np.errstate(all="ignore"):
            result = np.asarray(function(*arrays))
        return result.astype(arrays[0].dtype) if keep else result

    return done


def _divide(a: Array, b: Array) -> Any:
    if a.dtype.kind not in "iu":
        return a / b
    if not np.all(b):
        raise ValueError("got 0 below a whole number, expected another")
    quotient = a // b  # ONNX rounds whole numbers towards zero
    return quotient + ((quotient < 0) & (quotient * b != a))


def _modulo(fold: Fold) -> Array:
    fold.room(math.prod(np.broadcast_shapes(fold[0].shape, fold[1].shape)))
    if fold[0].dtype.kind in "iu" and not np.all(fold[1]):
        raise ValueError("got 0 below a whole number, expected another")
    return np.asarray((np.fmod if fold.attributes.get("fmod") else np.mod)(fold[0], fold[1]))


def _reduced(function: Callable[..., Any]) -> Callable[[Fold], Array]:
    def done(fold: Fold) -> Array:
        axes = fold.ints("axes", 1)
        if not axes and fold.attributes.get("noop_with_empty_axes"):
            return fold[0]
        where = tuple(range(fold[0].ndim)) if not axes else axes_of(axes, fold[0].ndim)
        keep = bool(fold.attributes.get("keepdims", 1))
        return np.asarray(function(fold[0], axis=where, keepdims=keep), fold[0].dtype)

    return done


def _matmul(fold: Fold) -> Array:
    a, b = fold[0], fold[1]
    fold.room(a.size // max(a.shape[-1], 1) * (b.size // max(b.shape[-2 if b.ndim > 1 else -1], 1)))
    return np.asarray(np.matmul(a, b))


def _gemm(fold: Fold) -> Array:
    get = fold.attributes.get
    a, b = (fold[i].T if get(name) else fold[i] for i, name in enumerate(("transA", "transB")))
    fold.room(len(a) * b.shape[-1])
    product = a @ b * a.dtype.type(get("alpha", 1.0))
    given = fold.get(2)
    return np.asarray(product if given is None else product + given * a.dtype.type(get("beta", 1.0)))


def _clip(fold: Fold) -> Array:
    low = fold.get(1) if fold.get(1) is not None else fold.attributes.get("min", -np.inf)
    high = fold.get(2) if fold.get(2) is not None else fold.attributes.get("max", np.inf)
    return np.clip(fold[0], low, high).astype(fold[0].dtype)


def spread(codes: Array, scale: Array, zero: Array | None, axis: int, block: int = 0) -> list[Array]:
    """The scale and the zero of each code: one for all, one for each place of an axis, or for blocks."""
    rank, zeros = codes.ndim, np.zeros_like(scale) if zero is None else zero.astype(np.float32)
    if zeros.size == 1:
        zeros = np.broadcast_to(zeros.reshape(()), scale.shape)
    if zeros.shape != scale.shape:
        raise ValueError(f"zeros have shape {zeros.shape}, scales {scale.shape}, expected one shape")
    pair = [scale.astype(np.float32), zeros]
    if scale.size == 1:
        pair = [one.reshape([1] * rank) for one in pair]
    else:
        axis = axis_of(axis, rank)
        if block:
            if block < 0 or scale.ndim != rank or scale.shape[axis] != -(-codes.shape[axis] // block):
                raise ValueError(f"scales have shape {scale.shape}, expected one for each {block} of an axis")
            block = min(block, codes.shape[axis])
            pair = [np.repeat(one, block, axis).take(range(codes.shape[axis]), axis) for one in pair]
        elif scale.shape != (codes.shape[axis],):
            raise ValueError(f"scales have shape {scale.shape}, expected one for each of {codes.shape[axis]}")
        else:
            shape = [1] * rank
            shape[axis] = -1
            pair = [one.reshape(shape) for one in pair]
    return pair


def _dequantised(fold: Fold) -> CodedArray:
    fold.room(fold[0].size // 8)  # a model of codes has four times its bytes as floats
    get = fold.attributes.get
    pair = spread(fold[0], fold[1], fold.get(2), get("axis", 1), get("block_size", 0))
    return CodedArray(fold[0], *pair)


def _quantised(fold: Fold) -> Array:
    fold.room(fold[0].size)
    get, zero = fold.attributes.get, fold.get(2)
    kind = np.dtype(CASTS.get(get("output_dtype", 2), np.uint8)) if zero is None else zero.dtype
    scales, zeros = spread(fold[0], fold[1], zero, get("axis", 1), get("block_size", 0))
    least, most = np.iinfo(kind).min, np.iinfo(kind).max
    with np.errstate(all="ignore"):
        return np.asarray(np.clip(np.rint(fold[0] / scales) + zeros, least, most), kind)


def _padded(fold: Fold) -> Array:
    rank, pads = fold[0].ndim, fold.ints("pads", 1) or []
    axes = axes_of(fold.ints("axes", 3) or list(range(rank)), rank)
    if len(pads) != 2 * len(axes) or min(pads) < 0:
        raise ValueError(f"got the pads {pads} for {len(axes)} axes, expected two for each, none below 0")
    sides = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        sides[axis] = (pads[i], pads[len(axes) + i])
    fold.room(math.prod(size + sum(side) for size, side in zip(fold[0].shape, sides, strict=True)))
    mode = str(fold.attributes.get("mode", "constant"))
    if mode != "constant":
        return np.pad(fold[0], sides, mode)  # type: ignore[call-overload, no-any-return]
    value = fold.get(2)
    fill = fold.attributes.get("value", 0) if value is None else value.reshape(())
    return np.pad(fold[0], sides, constant_values=fill)


def _triangle(fold: Fold) -> Array:
    k = 0 if fold.get(1) is None else int(fold[1].reshape(-1)[0])
    return (np.triu if fold.attributes.get("upper", 1) else np.tril)(fold[0], k)


def _kept(fold: Fold) -> list[Array]:
    """Dropout, which keeps all numbers."""
    check_dropout(fold.get(1), fold.get(2))
    return [fold[0], np.ones(fold[0].shape, np.bool_)][: fold.outputs]


def check_dropout(ratio: Array | None, training: Array | None) -> None:
    """Refuse a Dropout that drops numbers."""
    if training is not None and np.any(training) and (ratio is None or np.any(ratio)):
        raise ValueError("is in training mode, expected inference")


FOLDS: dict[str, Callable[[Fold], Array | CodedArray | list[Array]]] = {
    "Abs": _elementwise(np.abs),
    "Add": _elementwise(np.add, True),
    "And": _elementwise(np.logical_and),
    "Cast": _cast,
    "CastLike": _cast_like,
    "Ceil": _elementwise(np.ceil),
    "Clip": _clip,
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "DequantizeLinear": _dequantised,
    "Div": _elementwise(_divide, True),
    "Dropout": _kept,
    "Equal": _elementwise(np.equal),
    "Erf": _elementwise(np.vectorize(math.erf, otypes=[np.float64]), True),
    "Exp": _elementwise(np.exp),
    "Expand": _expand,
    "Flatten": lambda fold: fold[0].reshape(
        math.prod(fold[0].shape[: fold.attributes.get("axis", 1)]), -1 if fold[0].size else 0
    ),
    "Floor": _elementwise(np.floor),
    "Gather": _gather,
    "Gemm": _gemm,
    "Greater": _elementwise(np.greater),
    "GreaterOrEqual": _elementwise(np.greater_equal),
    "Identity": lambda fold: fold[0],
    "Less": _elementwise(np.less),
    "LessOrEqual": _elementwise(np.less_equal),
    "Log": _elementwise(np.log),
    "MatMul": _matmul,
    "Max": _elementwise(lambda *given: np.maximum.reduce(np.broadcast_arrays(*given))),
    "Min": _elementwise(lambda *given: np.minimum.reduce(np.broadcast_arrays(*given))),
    "Mod": _modulo,
    "Mul": _elementwise(np.multiply, True),
    "Neg": _elementwise(np.negative),
    "Not": _elementwise(np.logical_not),
    "Or": _elementwise(np.logical_or),
    "Pad": _padded,
    "Pow": _elementwise(np.power, True),
    "QuantizeLinear": _quantised,
    "Range": _range,
    "Reciprocal": _elementwise(lambda a: 1 / a, True),
    "ReduceL1": _reduced(lambda a, **told: np.sum(np.abs(a), **told)),
    "ReduceL2": _reduced(lambda a, **told: np.sqrt(np.sum(a * a, **told))),
    "ReduceMax": _reduced(np.max),
    "ReduceMean": _reduced(np.mean),
    "ReduceMin": _reduced(np.min),
    "ReduceProd": _reduced(np.prod),
    "ReduceSum": _reduced(np.sum),
    "ReduceSumSquare": _reduced(lambda a, **told: np.sum(a * a, **told)),
    "Relu": _elementwise(lambda a: np.maximum(a, 0), True),
    "Reshape": _reshape,
    "Round": _elementwise(np.rint),
    "Shape": _shape,
    "Sigmoid": _elementwise(lambda a: 1 / (1 + np.exp(-a)), True),
    "Sign": _elementwise(np.sign),
    "Size": lambda fold: np.array(fold[0].size, np.int64),
    "Slice": _slice,
    "Split": _split,
    "Sqrt": _elementwise(np.sqrt),
    "Squeeze": _squeeze,
    "Sub": _elementwise(np.subtract, True),
    "Sum": _elementwise(lambda *given: sum(given), True),
    "Tanh": _elementwise(np.tanh, True),
    "Tile": _tile,
    "Transpose": _transpose,
    "Trilu": _triangle,
    "Unsqueeze": _unsqueeze,
    "Where": _elementwise(np.where),
    "Xor": _elementwise(np.logical_xor),
}

# Operations that only move numbers: of states the places are followed through them.
MOVES = {"Concat", "Dropout", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split"}
MOVES |= {"Squeeze", "Transpose", "Unsqueeze"}
