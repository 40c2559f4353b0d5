"""PyTorch's functions as layers of tinyrnn: `FUNCTIONS` has them by name.

A function takes a `Made` and returns a `Symbol`, or a list of what the operation returns. Most of them are
operators of ONNX, which know the axes of what they read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np

from tinyrnn import activations, frames, ops
from tinyrnn.importing import CodedArray, Unfit, Window, delayed, weighted
from tinyrnn.modules.positions import positioned
from tinyrnn.modules.recorder import Op
from tinyrnn.onnx import attention as attention_of, products
from tinyrnn.onnx.arithmetic import settled
from tinyrnn.onnx.attention import KEYS, Scores, Weighted, attend, of_scores, plain, told
from tinyrnn.onnx.cells import CELLS as CELLS_OF_ONNX
from tinyrnn.onnx.evaluation import folded
from tinyrnn.onnx.folding import FOLDS
from tinyrnn.onnx.model import Node
from tinyrnn.onnx.nodes import Call, Padded, Step, Unfinished
from tinyrnn.onnx.operators import OPERATORS
from tinyrnn.onnx.pairs import Pairs, joint, of_pairs
from tinyrnn.onnx.reductions import reduced
from tinyrnn.onnx.steps import is_time, number_of_steps, stepped
from tinyrnn.onnx.symbols import (
    BATCH,
    BATCH_SIZES,
    FRAME,
    TIME,
    Atom,
    Axis,
    Known,
    Sizes,
    Symbol,
    claim,
    constant,
    equal_rows,
    frame_size,
    framed,
    has,
    is_frame,
    part,
    reframed,
    regrouped,
    sizes_of,
)
from tinyrnn.pooling import AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveMaxPool1d, AdaptiveMaxPool2d
from tinyrnn.temporal import FinalState, LastStep, Repeat, TimeUnfold
from tinyrnn.values import Input, Value, applied

LOWEST = -3e38  # where PyTorch has -inf, which no weight may be
MOST_STEPS = 256  # that become layers one by one


class Named(Known):
    """A tensor that does not depend on the inputs; ``name`` is its parameter's, or empty."""

    name = ""


class Rows:
    """The lengths of rows, or what follows from them alone: their order, a mask of the steps.

    A net takes lengths with its call and heeds them everywhere, so a mask changes nothing.
    """

    def __init__(self, sizes: Sequence[Sizes]) -> None:
        self.sizes = list(sizes)


class Packed(Unfinished):
    """A sequence that is packed."""

    what = "a packed sequence, which only recurrent layers and pad_packed_sequence read"


class Held(Unfinished):
    """A state that a cell hands on, but writes at no step."""

    what = "a state of a step that the next one alone reads: a net has the last one"


@dataclass(frozen=True)
class Now:
    """The number of a step of a loop, or one beside it."""

    offset: int


NOW = Now(0)


class Site:
    """The net that grows.

    Attributes
    ----------
    states : sequence of str
        Inputs that are states of layers.
    int8 : bool
        Layers of quantised modules keep their codes.
    """

    has_time = True
    folds = False  # True where all that operations read is known: they make arrays
    rows: Sizes = BATCH_SIZES
    indices = 0  # that embeddings have

    def __init__(self, batch_first: bool, states: Sequence[str], int8: bool = False) -> None:
        self.batch_first, self.states, self.int8 = batch_first, states, int8
        self.inputs: dict[str, Input] = {}
        self.layers: dict[str, Any] = {}
        self.seen: dict[int, Value] = {}
        self.times: dict[str, Sizes] = {}  # the axes of time of the inputs
        self.still = False  # no axis of the inputs is time
        self.timed: dict[Sizes, tuple[Atom, Value]] = {}  # a value on each axis of time
        self.finals: dict[int, str] = {}  # last states by value: the input that was the state before
        self.lasts: dict[int, Value] = {}  # the last one of a value of a loop, by that
        self.tables: Sequence[Any] = ()  # tensors of the module, in rows
        self.begun: dict[str, str] = {}  # inputs that are states: the name of the net's
        self.learned, self.compared = None, ()  # inputs of a graph teach things, those of a module nothing

    def room(self, count: int) -> None:
        """Known arrays may be of any size: they are the module's own."""

    def notes(self, window: Any, size: int) -> None:
        """Windows need no notes here."""

    def names(self, found: Sequence[Any], label: str) -> None:
        """Name the new layers with tensors that wrote these; one that is there already is used again."""
        left = [one.value if isinstance(one, Symbol) else one for one in found]
        while left:
            value = left.pop()
            if not isinstance(value, Value):
                continue
            new = value.layer
            if id(value) in self.seen:
                continue
            self.seen[id(value)] = value
            left += value.reads
            if not label or new is None or value.label is not None or not new.state_dict():
                continue
            text, number, mine = label, 0, new.state_dict()
            while text in self.layers:
                old = self.layers[text]
                its = old.state_dict()
                if old._describe() == new._describe() and all(
                    np.array_equal(mine[one], its[one]) for one in its
                ):
                    value.layer = old
                number += 1
                text = f"{label}_{number}"
            self.layers[text] = value.layer
            value.named(text)


class Made(NamedTuple):
    """An operation with the values that it reads.

    Attributes
    ----------
    sizes : list of list of pair of int
        The shape of each result, in both runs.
    kinds : list of str
        The type of each result.
    """

    op: Op
    args: list[Any]
    kwargs: dict[str, Any]
    site: Site
    sizes: list[list[Sizes]]
    kinds: list[str]

    def arg(self, place: int, name: str, default: Any = None) -> Any:
        """An argument, by place or by name."""
        found = self.args[place] if place < len(self.args) else self.kwargs.get(name)
        return default if found is None else found

    @property
    def x(self) -> Any:
        """The first argument."""
        return self.symbol(0, "input")

    def symbol(self, place: int, name: str) -> Any:
        found = self.arg(place, name)
        if self.site.folds and isinstance(found, Known):
            return found
        if isinstance(found, Padded):
            return found.whole
        if not isinstance(found, Symbol) or isinstance(found, Unfinished):
            what = getattr(found, "what", "no value of the net")
            raise Unfit(f"{name} is {what}" if found is None else f"reads {what}")
        return found

    def array(self, place: int, name: str) -> Any:
        """A tensor that does not depend on the inputs, or None."""
        found = self.arg(place, name)
        if found is not None and not isinstance(found, Known):
            raise Unfit(f"{name} depends on the inputs, expected constant numbers")
        return None if found is None else found.array(name)

    def weight(self, place: int, name: str) -> Any:
        """A matrix of a layer, which may be codes that the layer keeps."""
        found = self.arg(place, name)
        codes = found.first if isinstance(found, Known) else None
        return codes if isinstance(codes, CodedArray) else self.array(place, name)

    def onnx(self, op: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        """Apply an operator of ONNX."""
        given = [
            one if one is None or isinstance(one, (Symbol, Known)) else Known(np.asarray(one))
            for one in inputs
        ]
        node = Node(op, "", "", (), ("y",) * outputs, attributes)
        made = Call(node, given, 20, self.site, {})
        if self.site.folds:
            if op not in FOLDS:
                raise Unfit(f"computes constants by {op}, expected sums, products and the like")
            known: Any = folded(made)
            return known if outputs > 1 else known[0]
        return OPERATORS[op](made)


Function = Callable[[Made], Any]
Entry = TypeVar("Entry")
BESIDE = "takes a step beside that of the loop, expected the loop's own: x[:, t]"
UNKNOWN = "this operation is not known; known are those of docs/pytorch-modules.md"


def several(given: Any) -> list[Any]:
    """One or several, as a list."""
    return list(given) if isinstance(given, (tuple, list)) else [given]


def by_axis(given: Any, count: int) -> list[int]:
    """A number for each of so many axes, or one for all."""
    found = several(given)
    return found * (count // len(found))


def named(names: str, entry: Entry) -> dict[str, Entry]:
    return dict.fromkeys(names.split(), entry)


# ---- arithmetic --------------------------------------------------------------------------------------------


def operand(call: Made, one: Any) -> Any:
    """An operand of arithmetic; indices become numbers by a table."""
    if isinstance(one, (bool, int, float)):
        return Known(np.array(max(one, LOWEST), np.float32))
    root = one.value if isinstance(one, Symbol) and not isinstance(one, Unfinished) else None
    while root is not None and len(root.reads) == 1 and not root.frame:
        (root,) = root.reads
    if isinstance(root, Input) and not root.frame:
        numbers = np.arange(call.site.indices, dtype=np.float32)
        return call.onnx("Gather", numbers[:, None], one).with_axes(one.axes)
    return one


def arithmetic(op: str, swapped: bool = False) -> Function:
    """An operator of two values or numbers; ``swapped``: the second stands first."""

    def made(call: Made) -> Any:
        if call.kwargs.get("rounding_mode"):
            raise Unfit("rounds its result, which no layer of tinyrnn does")
        a, b = operand(call, call.arg(0, "input")), operand(call, call.arg(1, "other"))
        if call.kwargs.get("alpha", 1) != 1:
            b = call.onnx("Mul", b, np.float32(call.kwargs["alpha"]))
        a, b = (positioned(call.site, call.op.where, one) for one in (a, b))
        a, b = one_row(a, b), one_row(b, a)
        if swapped:
            a, b = b, a
        for one, other in ((a, b), (b, a)):
            if isinstance(one, Rows):
                return of_rows(call, op, other, one)
            if isinstance(one, Scores):
                return of_scores(op, a, b)
            if isinstance(one, Pairs):
                return of_pairs(op, one, other)
        return call.onnx(op, a, b)

    return made


def of_rows(call: Made, op: str, x: Symbol, rows: Rows) -> Any:
    """A value times a mask, or with the number of steps."""
    if any(pair in call.site.timed for pair in rows.sizes):
        return x
    _, value = next(iter(call.site.timed.values()))
    axes = [() if pair == (1, 1) else (Atom(BATCH, pair),) for pair in rows.sizes]
    return call.onnx(op, x, Symbol(number_of_steps(value), axes))


def masked(scores: Scores, mask: Any, of: Any = attention_of.of_mask) -> Scores:
    """Scores with a mask; lengths change none, as a net heeds them everywhere."""
    return scores if isinstance(mask, Rows) else of(scores, mask)


def filled(call: Made) -> Any:
    x, mask = call.arg(0, "input"), call.arg(1, "mask")
    if isinstance(x, Scores):
        number = operand(call, call.arg(2, "value"))
        if not isinstance(number, Known) or np.any(number.array("value") > attention_of.LOWEST):
            raise Unfit("fills scores with a number that a softmax sees, expected -inf")
        return masked(x, mask, attention_of.masked)
    return x if isinstance(mask, Rows) else call.onnx("Where", mask, operand(call, call.arg(2, "value")), x)


def where(call: Made) -> Any:
    mask, a, b = call.args
    if isinstance(mask, Rows):
        return a if isinstance(a, Symbol) else b
    return call.onnx("Where", mask, operand(call, a), operand(call, b))


def combined(call: Made, op: str) -> Any:
    """A value, and a product or a quotient of two others times ``value``."""
    more = arithmetic(op)(call._replace(args=call.args[1:3], kwargs={}))
    more = call.onnx("Mul", more, np.float32(call.kwargs.get("value", 1)))
    return arithmetic("Add")(call._replace(args=[call.args[0], more], kwargs={}))


def mixed(call: Made) -> Any:
    """``lerp``: the first value, and a part of the way to the second."""
    a, b, weight = call.args[0], call.args[1], call.arg(2, "weight")
    way = arithmetic("Mul")(call._replace(args=[call.onnx("Sub", b, a), weight], kwargs={}))
    return call.onnx("Add", a, way)


def filling(given: Known, like: Symbol) -> Symbol:
    """A tensor of equal rows that is filled, as a value beside another."""
    sizes = list(zip(*(one.shape for one in given.worlds), strict=True))
    rows = next((axis for axis in like.axes if has(axis, BATCH)), ())
    if sizes_of(rows) not in sizes:
        raise Unfit("fills a tensor without the axis of the batch")
    place = sizes.index(sizes_of(rows))
    row = np.take(given.worlds[0], [0], place)
    equal_rows(given, place)
    axes = [rows if i == place else part(one) for i, (one, _) in enumerate(sizes)]
    return Symbol(constant(np.asarray(row, np.float32), like.value), axes)


def one_row(given: Any, like: Any, beside: int | None = None) -> Any:
    """A constant with one row where it has equal ones for the batch of another value; all else as it was.

    ``beside``: the axis along which both are joined.
    """
    if not isinstance(given, Known) or not isinstance(like, Symbol) or isinstance(like, Unfinished):
        return given
    for i, axis in enumerate(like.axes):
        place = given.worlds[0].ndim - like.rank + i
        if has(axis, BATCH) and i != beside and place >= 0 and given.worlds[0].shape[place] > 1:
            rows = [np.take(one, [0], place) for one in given.worlds]
            if all(np.all(one == row) for one, row in zip(given.worlds, rows, strict=True)):
                return Known(*rows)
    return given


def put(call: Made) -> Any:
    """``x[..., i:j] = y`` along one axis of frames: the new part between what stands beside it."""
    given, new = several(call.args[1]), call.symbol(2, "value")
    x = filling(call.args[0], new) if isinstance(call.args[0], Known) else call.x
    if Ellipsis in given:
        place = given.index(Ellipsis)
        given[place : place + 1] = [slice(None)] * (x.rank + 1 - len(given))
    parts = [(i, one) for i, one in enumerate(given) if one != slice(None)]
    if len(parts) != 1 or not isinstance(parts[0][1], (int, slice)) or not is_frame(x.axes[parts[0][0]]):
        raise Unfit("fills parts of several axes or some steps, expected a part along one axis of frames")
    axis, part_of = parts[0]
    size = x.frame_axis(axis)
    low = part_of % size if isinstance(part_of, int) else 0
    there = range(size)[part_of] if isinstance(part_of, slice) else range(low, low + 1)
    if there.step != 1:
        raise Unfit("fills every so many numbers, expected those one after the other")
    if isinstance(part_of, int):
        new = new.with_axes(new.axes[max(new.rank + 1 - x.rank, 0) :])  # leading axes of size 1
        new = call.onnx("Unsqueeze", new, [axis])
    ends = [slice(0, there.start), slice(there.stop, size)]
    sides = [cut(call, x, axis, end) if end.start < end.stop else None for end in ends]
    found = [one for one in (sides[0], new, sides[1]) if one is not None]
    return call.onnx("Concat", *found, axis=axis)


def cast(call: Made) -> Any:
    """The same numbers as another type; truth is 1 or 0."""
    kind = call.kinds[0]
    if kind.endswith("bool"):
        return call.onnx("Cast", operand(call, call.x), to=9)
    return call.args[0] if "float" in kind else call.onnx("Cast", call.x, to=7)


def clamp(call: Made) -> Any:
    limits = [call.arg(1, "min"), call.arg(2, "max")]
    if call.op.name == "clamp_max":
        limits.reverse()
    if all(one is None or isinstance(one, (int, float)) for one in limits):
        return call.onnx("Clip", call.x, *(None if one is None else np.float32(one) for one in limits))
    x = call.x
    for op, one in zip(("Max", "Min"), limits, strict=True):
        x = x if one is None else arithmetic(op)(call._replace(args=[x, one], kwargs={}))
    return x


def glu(call: Made) -> Any:
    dim = call.arg(1, "dim", -1)
    size = call.sizes[0][dim][0]
    a, b = call.onnx("Split", call.x, np.array([size, size]), outputs=2, axis=dim)
    return call.onnx("Mul", a, call.onnx("Sigmoid", b))


def prelu(call: Made) -> Any:
    weight = call.array(1, "weight")
    return call.onnx("PRelu", call.x, weight.reshape(-1, *[1] * (call.x.rank - 2 if weight.size > 1 else 0)))


# ---- reductions and norms ----------------------------------------------------------------------------------


def over(op: str, call: Made) -> Any:
    """A reduction over ``dim``, which may be several axes or all."""
    dim, x = call.arg(1, "dim", call.kwargs.get("axis")), call.arg(0, "input")
    if isinstance(x, (Pairs, Weighted)) and op == "ReduceSum" and dim is not None:
        return x.summed([one % x.rank for one in several(dim)], bool(call.arg(2, "keepdim", False)))
    if dim is None:
        return call.onnx(op, call.x, keepdims=0)
    return call.onnx(op, call.x, axes=several(dim), keepdims=int(call.arg(2, "keepdim", False)))


def extreme(op: str, call: Made) -> Any:
    """The largest or the smallest of numbers along an axis, of all, or of two values."""
    other = call.arg(1, "other")
    return arithmetic(op)(call) if isinstance(other, Symbol) else [over("Reduce" + op, call)]


def spread(kind: Any, call: Made) -> Any:
    """A deviation or a variance within frames, or over the steps."""
    x, given = call.x, call.arg(1, "dim")
    dims = range(x.rank) if given is None else [one % x.rank for one in several(given)]
    more = call.arg(2, "unbiased", True)
    correction, keep = int(call.kwargs.get("correction", more)), bool(call.arg(3, "keepdim", False))
    timed = [dim for dim in dims if is_time(x.axes[dim])]
    if not timed:
        return reduced(x, dims, keep, lambda dim: kind(dim, correction), None)
    less = call.onnx("Sub", x, call.onnx("ReduceMean", x, axes=list(dims)))
    found = call.onnx("ReduceSum", call.onnx("Mul", less, less), axes=list(dims), keepdims=int(keep))
    within = math.prod(frame_size(x.axes[dim]) for dim in dims if dim not in timed)
    (_, like) = call.site.timed[x.axes[timed[0]][0].sizes]
    count = call.onnx("Mul", Symbol(number_of_steps(like), [()]), np.float32(within))
    variance = call.onnx("Div", found, call.onnx("Sub", count, np.float32(correction)))
    return call.onnx("Sqrt", variance) if kind is frames.Std else variance


def cumulated(call: Made) -> Any:
    """A sum of the steps so far, or of what they are the logarithms of."""
    x, dim = call.x, call.arg(1, "dim") % call.x.rank
    if not is_time(x.axes[dim]) or x.reversed:
        raise Unfit("adds up along another axis than time")
    before = ops.Feedback(*x.value.frame, time=x.value.time or TIME)
    if call.op.name == "cumsum":
        found = x.value + before
    else:
        assert before.layer is not None
        before.layer.initial_state = {"past": np.full((1, math.prod(x.value.frame)), LOWEST, np.float32)}
        found = log_sum(call, x, Symbol(before, x.axes)).value
    before.connect(found)
    return Symbol(found, x.axes)


def log_sum(call: Made, a: Any, b: Any) -> Any:
    """The logarithm of the sum of what two values are the logarithms of."""
    less = call.onnx("Neg", call.onnx("Abs", call.onnx("Sub", a, b)))
    more = call.onnx("Log", call.onnx("Add", call.onnx("Exp", less), np.float32(1)))
    return call.onnx("Add", call.onnx("Max", a, b), more)


def length(call: Made) -> Any:
    """A norm, which is that of Euclid."""
    order = call.arg(1, "ord" if call.op.name == "vector_norm" else "p", 2)
    if order != 2 and not isinstance(order, str):
        raise Unfit("is another norm than the root of a sum of squares")
    return over("ReduceL2", call._replace(args=[call.x, call.arg(2, "dim"), call.arg(3, "keepdim", False)]))


def normalize(call: Made) -> Any:
    size = length(call._replace(args=[call.x, call.arg(1, "p", 2), call.arg(2, "dim", 1), True]))
    return call.onnx("Div", call.x, call.onnx("Clip", size, np.float32(call.arg(3, "eps", 1e-12)), None))


def cosine(call: Made) -> Any:
    """A product of two values of length 1."""
    dim, eps = call.arg(2, "dim", 1), call.arg(3, "eps", 1e-8)
    sides = [
        normalize(call._replace(args=[one, 2, dim, eps], kwargs={}))
        for one in (call.symbol(0, "x1"), call.symbol(1, "x2"))
    ]
    return call.onnx("ReduceSum", call.onnx("Mul", *sides), axes=[dim], keepdims=0)


def affine(call: Made, place: int, size: Any) -> tuple[Any, Any]:
    """The weight and the bias of a norm; ones and zeros if it has none."""
    weight, bias = call.array(place, "weight"), call.array(place + 1, "bias")
    weight = np.ones(size, np.float32) if weight is None else weight
    return weight, np.zeros_like(weight) if bias is None else bias


def layer_norm(call: Made) -> Any:
    shape, eps = several(call.arg(1, "normalized_shape")), call.arg(4, "eps", 1e-5)
    if any(isinstance(one, Known) for one in shape):
        raise Unfit("normalises over the steps of a sequence, expected the axes of frames alone")
    return call.onnx("LayerNormalization", call.x, *affine(call, 2, shape), axis=-len(shape), epsilon=eps)


def rms_norm(call: Made) -> Any:
    x, weight = call.x, call.arg(2, "weight")
    dims = list(range(-len(call.arg(1, "normalized_shape")), 0))
    power = call.onnx("ReduceMean", call.onnx("Mul", x, x), axes=dims)
    found = call.onnx(
        "Div", x, call.onnx("Sqrt", call.onnx("Add", power, np.float32(call.arg(3, "eps", 2.0**-23))))
    )
    return found if weight is None else call.onnx("Mul", found, weight)


def batch_norm(call: Made) -> Any:
    mean, var = call.array(1, "running_mean"), call.array(2, "running_var")
    if call.op.name == "instance_norm" and call.arg(5, "use_input_stats", True):
        both = affine(call, 3, call.sizes[0][1][0])
        return call.onnx("InstanceNormalization", call.x, *both, epsilon=call.arg(7, "eps", 1e-5))
    if mean is None:
        raise Unfit("normalises across the batch, expected running statistics")
    return call.onnx(
        "BatchNormalization", call.x, *affine(call, 3, len(mean)), mean, var, epsilon=call.arg(7, "eps", 1e-5)
    )


def group_norm(call: Made) -> Any:
    both, groups = affine(call, 2, call.sizes[0][1][0]), call.arg(1, "num_groups")
    return call.onnx("GroupNormalization", call.x, *both, num_groups=groups, epsilon=call.arg(4, "eps", 1e-5))


# ---- convolutions, pools, padding --------------------------------------------------------------------------


def convolution(call: Made) -> Any:
    weight, padding = call.array(1, "weight"), call.arg(4, "padding", 0)
    count = weight.ndim - 2
    dilation = by_axis(call.arg(5, "dilation", 1), count)
    pads = by_axis(0 if padding in ("same", "valid") else padding, count) * 2
    if padding == "same":
        whole = [(size - 1) * step for size, step in zip(weight.shape[2:], dilation, strict=True)]
        pads = [one // 2 for one in whole] + [one - one // 2 for one in whole]
    more = {"strides": by_axis(call.arg(3, "stride", 1), count), "group": call.arg(6, "groups", 1)}
    return call.onnx(
        "Conv", call.arg(0, "input"), weight, call.array(2, "bias"), pads=pads, dilations=dilation, **more
    )


def transposed(call: Made) -> Any:
    weight = call.array(1, "weight")
    count = weight.ndim - 2
    return call.onnx(
        "ConvTranspose",
        call.arg(0, "input"),
        weight,
        call.array(2, "bias"),
        strides=by_axis(call.arg(3, "stride", 1), count),
        pads=by_axis(call.arg(4, "padding", 0), count) * 2,
        output_padding=by_axis(call.arg(5, "output_padding", 0), count),
        group=call.arg(6, "groups", 1),
        dilations=by_axis(call.arg(7, "dilation", 1), count),
    )


def pool(op: str, count: int, call: Made) -> Any:
    size, time = several(call.arg(1, "kernel_size"))[0], call.arg(0, "input").axes[-1]
    if count == 1 and (isinstance(size, Known) or (is_time(time) and sizes_of(time) == (size, size))):
        # as many as there are steps
        return [over("ReduceMax" if op == "MaxPool" else "ReduceMean", call._replace(args=[call.x, 2, True]))]
    kernel = by_axis(call.arg(1, "kernel_size"), count)
    more: dict[str, Any] = {"strides": by_axis(call.arg(2, "stride") or kernel, count)}
    more["pads"] = by_axis(call.arg(3, "padding", 0), count) * 2
    more["ceil_mode"] = call.arg(5 if op == "MaxPool" else 4, "ceil_mode", False)
    if op == "MaxPool":
        more["dilations"] = by_axis(call.arg(4, "dilation", 1), count)
    else:
        more["count_include_pad"] = call.arg(5, "count_include_pad", True)
    return [call.onnx(op, call.arg(0, "input"), kernel_shape=kernel, **more)]


def adaptive(op: str, kinds: Sequence[Any], call: Made) -> Any:
    """A pool to given sizes: over a whole axis, or over parts of frames."""
    x, (_, *sizes) = call.x, call.sizes[0]
    whole = [i for i in range(2, x.rank) if sizes[i - 1] == (1, 1)]
    if all(i in whole or sizes[i - 1] == sizes_of(x.axes[i]) for i in range(2, x.rank)):
        return [call.onnx(op, x, axes=whole)]
    to = tuple(one for one, _ in sizes[1:])
    value = kinds[len(to) - 1](to if len(to) > 1 else to[0])(
        x.framed([x.frame_axis(i) for i in range(1, x.rank)])
    )
    return [Symbol(value, [x.axes[0], *(part(one) for one, _ in sizes)], x.reversed)]


def pad(call: Made) -> Any:
    given, rank = call.arg(1, "pad"), call.x.rank
    if any(isinstance(one, Known) for one in given):
        raise Unfit("pads by a number that follows from the number of steps, expected a constant one")
    modes = {"replicate": "edge", "circular": "wrap"}
    mode = call.arg(2, "mode", "constant")
    whole = [*given, *[0] * (2 * rank - len(given))]
    pads = np.array(whole[::2][::-1] + whole[1::2][::-1])
    return call.onnx("Pad", call.x, pads, np.float32(call.arg(3, "value", 0.0)), mode=modes.get(mode, mode))


# ---- axes, parts and wholes --------------------------------------------------------------------------------


def shaped(call: Made) -> Any:
    """The same numbers in the shape that both runs had."""
    x = call.arg(0, "input")
    if getattr(x, "movable", False):
        return x.with_axes(regrouped(x.axes, call.sizes[0]))
    if isinstance(call.x, Known):
        return Known(call.x.worlds[0].reshape([one for one, _ in call.sizes[0]]))
    x = call.x
    try:
        found = x.with_axes(regrouped(x.axes, call.sizes[0]))
    except Unfit:
        if (windows := beside(x, call.sizes[0])) is None:
            raise
        found = windows
    steps = {*call.site.timed} - {(1, 1)}  # all values of a program of one step are of that
    if steps and any(has(axis, TIME) for axis in x.axes) > any(has(axis, TIME) for axis in found.axes):
        raise Unfit("takes a sequence of one step for a value without steps")
    return found


def beside(x: Symbol, sizes: Sequence[Sizes]) -> Symbol | None:
    """So many steps side by side, as pyramids of layers have them; None of another shape."""
    place = next((i for i, axis in enumerate(x.axes) if is_time(axis)), -1)
    if x.reversed or not 0 <= place < len(sizes) or not all(map(is_frame, x.axes[place + 1 :])):
        return None
    (one, other), (a, b) = sizes_of(x.axes[place]), sizes[place]
    count = one // max(a, 1)
    if (a * count, b * count) != (one, other) or not 1 < count <= MOST_STEPS:
        return None
    behind = math.prod(map(frame_size, x.axes[place + 1 :]))
    value = x.framed((math.prod(x.value.frame) // behind, behind))
    value = applied(frames.Permute((-3, -1, -2)), (applied(TimeUnfold(count, count), (value,)),))
    time = stepped(x.axes[place], Window(count, count, 1, (0, 0)))
    frame = [size for size in value.frame if size > 1]
    axes = [*x.axes[:place], time, part(count), *x.axes[place + 1 :]]
    return Symbol(reframed(value, frame), regrouped(axes, sizes))


def permute(call: Made) -> Any:
    dims = call.kwargs.get("dims", call.args[1:])
    dims = (
        list(range(len(call.sizes[0])))[::-1]
        if not dims
        else dims[0]
        if isinstance(dims[0], (list, tuple))
        else dims
    )
    return moved_axes(call, list(dims))


def moved_axes(call: Made, order: list[int]) -> Any:
    """The axes in another order; those of scores, too."""
    x = call.arg(0, "input")
    return call.onnx("Transpose", x if getattr(x, "movable", False) else call.x, perm=order)


def swapped(call: Made) -> Any:
    """Two axes exchanged: transpose, mT."""
    order = list(range(len(call.sizes[0])))
    one, other = call.arg(1, "dim0", -2), call.arg(2, "dim1", -1)
    order[one], order[other] = order[other], order[one]
    return moved_axes(call, order)


def expand(call: Made) -> Any:
    """More numbers along axes of size 1: of frames, or of time for a value per sequence."""
    x, sizes = call.x, call.sizes[0]
    if isinstance(x, Known):
        return call.onnx("Expand", x, np.array([one for one, _ in sizes]))
    x = x.with_axes(x.widened(len(sizes)))
    for i, pair in enumerate(sizes):
        own = sizes_of(x.axes[i])
        if own not in ((1, 1), pair):
            x = call.onnx("Concat", *[x] * (pair[0] // own[0]), axis=i)
    axes = list(x.axes)
    value, target = x.value, [1] * len(sizes)
    for i, (axis, pair) in enumerate(zip(axes, sizes, strict=True)):
        if sizes_of(axis) == pair:
            continue
        if pair in call.site.timed and x.value.time is None:
            atom, steps = call.site.timed[pair]
            value, axes[i] = applied(Repeat(), (value, steps)), (atom,)
        elif (
            pair in call.site.timed
            and call.site.timed[pair][1].time != value.time
            and not any(has(one, TIME) for one in axes)
        ):  # a query in a loop
            axes[i] = told(call.site.timed[pair][:1], KEYS)
            return Pairs("spread", axes, plain(x), None)
        elif pair[0] == pair[1]:
            target[i] = pair[0]
        else:
            raise Unfit("repeats a value for each step or row, which it is already")
    x = Symbol(value, axes, x.reversed)
    return x if max(target) == 1 else call.onnx("Expand", x, np.array(target))


def taken(x: Symbol, axis: int, number: Now = NOW, keeps: bool = False) -> Symbol:
    """The step of a loop; ``keeps``: the axis of time stays, of size 1."""
    if number != NOW:
        raise Unfit(BESIDE)
    axis %= x.rank
    found = Step().taken(x, axis)
    return found.with_axes([*found.axes[:axis], (), *found.axes[axis:]]) if keeps else found


def cut(call: Made, x: Symbol, axis: int, given: slice) -> Any:
    """A slice along an axis."""
    if isinstance(given.start, Now) or isinstance(given.stop, Now):
        if (given.start, given.stop) != (NOW, Now(1)):
            raise Unfit(BESIDE)
        return taken(x, axis, keeps=True)
    for end in (given.start, given.stop) if isinstance(x, Symbol) and is_time(x.axes[axis]) else ():
        if isinstance(end, int) and max(sizes_of(x.axes[axis])) <= abs(end) < 1 << 31:
            x = bounded(call, x, axis, abs(end))
    ends = [
        Known(
            *(
                np.reshape(one, 1)
                for one in (end.worlds if isinstance(end, Known) else [default if end is None else end])
            )
        )
        for end, default in ((given.start, 0), (given.stop, 1 << 40))
    ]
    return call.onnx("Slice", x, *ends, np.array([axis]), np.array([given.step or 1]))


def bounded(call: Made, x: Symbol, axis: int, count: int) -> Any:
    """A sequence that is NaN behind so many steps, of which a module takes no more."""
    if not x.value.frame:
        raise Unfit(f"takes at most {count} steps of indices, expected all: cut them before the call")
    beyond = applied(activations.Log(), (constant(np.full(1, -1.0), x.value),))
    axes = [one if i == axis else () for i, one in enumerate(x.axes)]
    return call.onnx("Add", x, Symbol(delayed(beyond, count), axes))


def moved(first: Any, rest: Symbol, axis: int) -> Symbol | None:
    """Steps before a sequence without as many at its end: the sequence, later. None for other joints."""
    if rest.ahead is None or not is_time(rest.axes[axis]) or rest.reversed:
        return None
    x, count = rest.ahead
    if isinstance(first, Symbol) and count == 1 and sizes_of(first.axes[axis]) == (1, 1):
        frame = x.value.frame
        return Symbol(applied(ops.Delay(frame, 1), (x.value, first.framed(frame))), x.axes)
    if not isinstance(first, Known) or first.worlds[0].shape[axis] != count:
        return None
    rows = equal_rows(Known(*(np.moveaxis(one, axis, 0) for one in first.worlds)), 1)
    if rows is not None and count > 1:
        raise Unfit("begins with several steps that are not zeros, expected one or zeros")
    return Symbol(delayed(x.value, count, rows), x.axes)


def item(call: Made) -> Any:
    """``x[...]``."""
    x, given = call.arg(0, "input"), call.args[1]
    index = list(given) if isinstance(given, tuple) else [given]
    if isinstance(x, Known) and len(index) == 1 and isinstance(index[0], Symbol):  # rows of a table
        return call.onnx("Gather", x, index[0])
    if not getattr(x, "movable", False) or any(one not in (None, slice(None)) for one in index):
        x = call.x
    if any(isinstance(one, Rows) for one in index):
        return by_rows(x, index)
    if Ellipsis in [one for one in index if not isinstance(one, Known)]:
        place = next(i for i, one in enumerate(index) if one is Ellipsis)
        index[place : place + 1] = [slice(None)] * (
            x.rank + 1 + sum(one is None for one in index) - len(index)
        )
    axis = 0
    for one in index:
        axis += 1
        if one is None:
            x = x.with_axes([*x.axes[: axis - 1], (), *x.axes[axis - 1 :]])
        elif isinstance(one, slice):
            x = x if one == slice(None) else cut(call, x, axis - 1, one)
        elif isinstance(one, Now):
            x = taken(x, axis - 1, one)
            axis -= 1
        elif keeps_rows(x, axis - 1, one):
            continue
        elif isinstance(one, (int, list, Known)):
            rank = x.rank
            x = call.onnx("Gather", x, one, axis=axis - 1)
            axis -= x.rank < rank
        else:
            raise Unfit("takes parts by numbers that the net computes, expected constant ones, or lengths")
    return x


def sliced(call: Made) -> Any:
    """A slice along one axis, as ATen has it."""
    start, end, step = (call.arg(i, name) for i, name in ((2, "start"), (3, "end"), (4, "step")))
    return cut(call, call.x, call.arg(1, "dim", 0) % call.x.rank, slice(start, end, step))


def last_steps(x: Symbol, axis: int) -> Symbol:
    """The last step within the lengths, where an index made of lengths takes it; the axis has size 1 then."""
    return Symbol(applied(LastStep(), (x.value,)), [() if i == axis else one for i, one in enumerate(x.axes)])


def by_rows(x: Symbol, index: Sequence[Any]) -> Symbol:
    """``x[torch.arange(B), lengths - 1]``, or rows in the order of their lengths."""
    own = next(i for i, one in enumerate(index) if isinstance(one, Rows))
    if is_time(x.axes[own]) and len(index) == 2:
        found = last_steps(x, own)
        return found.with_axes([axis for i, axis in enumerate(found.axes) if i != own])
    if has(x.axes[own], BATCH):
        return x
    raise Unfit("takes parts by lengths, expected the last step of each row: x[torch.arange(B), lengths - 1]")


def gathered(call: Made) -> Any:
    dim = call.arg(1, "dim") % call.x.rank
    if isinstance(call.arg(2, "index"), Rows) and is_time(call.x.axes[dim]):
        return last_steps(call.x, dim)
    raise Unfit("takes parts by an index for each number, expected the last steps: lengths - 1 along time")


def keeps_rows(x: Any, axis: int, index: Any) -> bool:
    """True of the numbers of all rows in their order, as the order of sorted lengths is one."""
    return (
        isinstance(index, Known)
        and isinstance(x, Symbol)
        and has(x.axes[axis], BATCH)
        and all(map(np.array_equal, index.worlds, map(np.arange, sizes_of(x.axes[axis]))))
    )


def selected(call: Made) -> Any:
    dim, index = call.arg(1, "dim"), call.arg(2, "index")
    if isinstance(index, Rows) or keeps_rows(call.args[0], dim, index):
        return call.args[0]
    x = call.arg(0, "input")
    if isinstance(index, Now):
        return taken(call.x, dim, index)
    return call.onnx("Gather", x if isinstance(x, Known) else call.x, index, axis=dim)


def parts(call: Made) -> list[Any]:
    """chunk, split and unbind, of the sizes that they had."""
    x, unbinds, count = call.x, call.op.name == "unbind", len(call.sizes)
    dim = (call.arg(1, "dim", 0) if unbinds else call.arg(2, "dim", 0)) % x.rank
    if count == 1 and isinstance(x, Symbol) and is_time(x.axes[dim]):  # in a loop
        return [taken(x, dim, keeps=not unbinds)]
    sizes = [1] * count if unbinds else [one[dim][0] for one in call.sizes]
    found = call.onnx("Split", x, np.array(sizes), outputs=count, axis=dim)
    if isinstance(x, Known):
        return [shaped(call._replace(args=[one], sizes=call.sizes[i:])) for i, one in enumerate(found)]
    drop = dim if unbinds else -1
    return [one.with_axes([axis for i, axis in enumerate(one.axes) if i != drop]) for one in found]


def unfold(call: Made) -> Any:
    """Windows of steps, as a new axis of frames at the end."""
    x, size, step = call.x, call.arg(2, "size"), call.arg(3, "step")
    if not isinstance(call.arg(1, "dimension"), int):
        raise Unfit("makes windows over two axes, expected Tensor.unfold over the steps")
    dim = call.arg(1, "dimension") % x.rank
    if not is_time(x.axes[dim]) or x.reversed:
        raise Unfit("makes windows along another axis than time")
    value = applied(TimeUnfold(size, step), (x.framed((math.prod(x.value.frame),)),))
    time = stepped(x.axes[dim], Window(size, step, 1, (0, 0)))
    axes = [*x.axes[:dim], time, *x.axes[dim + 1 :], part(size)]
    return Symbol(reframed(value, framed(axes)), axes)


def difference(call: Made) -> Any:
    """Differences of each number along an axis and the one before."""
    x, dim = call.x, call.arg(2, "dim", -1)
    if call.arg(1, "n", 1) != 1 or call.arg(3, "prepend") is not None or call.arg(4, "append") is not None:
        raise Unfit("has n, prepend or append, expected none of them: torch.cat before it")
    return call.onnx("Sub", *(cut(call, x, dim % x.rank, one) for one in (slice(1, None), slice(-1))))


def narrowed(call: Made) -> Any:
    """``narrow``: so many numbers or steps along an axis, from a start."""
    dim, start, size = call.arg(1, "dim") % call.x.rank, call.arg(2, "start"), call.arg(3, "length")
    ends = [one.worlds if isinstance(one, Known) else (one, one) for one in (start, size)]
    stop = Known(*(np.asarray(a + b) for a, b in zip(*ends, strict=True)))
    return cut(call, call.x, dim, slice(start, stop, None))


def rolled(call: Made) -> Any:
    """``roll`` along axes of frames."""
    x, shifts, dims = call.x, several(call.arg(1, "shifts")), several(call.arg(2, "dims", []))
    if len(shifts) != len(dims) or not all(is_frame(x.axes[dim]) for dim in dims):
        raise Unfit("rolls steps, rows or all numbers, expected those along axes of frames")
    for shift, dim in zip(shifts, dims, strict=True):
        start = -shift % x.frame_axis(dim)
        if start:
            parts = (cut(call, x, dim % x.rank, one) for one in (slice(start, None), slice(start)))
            x = call.onnx("Concat", *parts, axis=dim)
    return x


def flip(call: Made) -> Any:
    x = call.x
    for dim in several(call.arg(1, "dims")) + call.args[2:]:
        x = cut(call, x, dim % x.rank, slice(-1, -(1 << 40), -1))
    return x


def of_steps(call: Made, x: Symbol, dim: int, new: bool) -> Symbol:
    """The value of all steps of a loop, with an axis of time, which is new or a part of another."""
    axes = list(x.axes)
    own = () if new else axes[dim]
    one, other = call.sizes[0][dim]
    steps = one // sizes_of(own)[0], other // sizes_of(own)[1]
    if steps not in (*call.site.timed, *call.site.times.values()):
        raise Unfit("joins the steps of a loop along an axis that is none of time, expected a new axis")
    time = call.site.timed[steps][0] if steps in call.site.timed else Atom(TIME, steps)
    axes[dim : dim + (not new)] = [(time, *own)]
    return Symbol(x.value, axes)


def joined(call: Made) -> Any:
    """cat and stack; tensors may be among the values."""
    given, dim = call.arg(0, "tensors"), call.arg(1, "dim", call.kwargs.get("axis", 0)) % len(call.sizes[0])
    if not isinstance(given, (list, tuple)):
        return of_steps(call, call.x, dim, call.op.name == "stack")
    if len(given) == 2 and isinstance(given[1], Symbol) and (later := moved(given[0], given[1], dim)):
        return later
    if found := joint(list(given), dim):
        return found
    given = [positioned(call.site, call.op.where, one) for one in given]
    like = next((one for one in given if isinstance(one, Symbol)), None)
    given = [one_row(one, like, None if call.op.name == "stack" else dim) for one in given]
    ready = [
        Known(settled(one, ())) if isinstance(one, Known) else call._replace(args=[one]).x for one in given
    ]
    if call.op.name == "stack":
        ready = [
            Known(np.expand_dims(one.worlds[0], dim))
            if isinstance(one, Known)
            else call.onnx("Unsqueeze", one, [dim])
            for one in ready
        ]
    return call.onnx("Concat", *ready, axis=dim)


def one_hot(call: Made) -> Any:
    """Rows of ones on a diagonal."""
    if (count := call.arg(1, "num_classes", -1)) < 0:
        raise Unfit("has as many classes as the inputs tell, expected num_classes")
    return call.onnx("Gather", np.eye(count, dtype=np.float32), call.x)


# ---- products and attention --------------------------------------------------------------------------------


def linear(call: Made) -> Any:
    x = call.arg(0, "input")
    if isinstance(x, Pairs):
        return x.linear(call.array(1, "weight"), call.array(2, "bias"))
    if isinstance(call.x, Known):
        found, bias = call.onnx("MatMul", call.x, call.array(1, "weight").T), call.array(2, "bias")
        return found if bias is None else call.onnx("Add", found, bias)
    return products.linear(call.x, call.x.rank - 1, call.weight(1, "weight"), call.array(2, "bias"))


def added_product(call: Made) -> Any:
    """``addmm`` and ``baddbmm``: a value, and a product."""
    if call.kwargs.get("beta", 1) != 1 or call.kwargs.get("alpha", 1) != 1:
        raise Unfit("has beta or alpha, expected none of them")
    product = matmul(call._replace(args=call.args[1:]))
    return arithmetic("Add")(call._replace(args=[call.args[0], product], kwargs={}))


def einsum(call: Made) -> Any:
    equation, *given = call.args
    given = list(given[0] if len(given) == 1 else given)
    letters, _, out = equation.replace(" ", "").partition("->")
    parts = letters.split(",")
    while len(given) > 2 and out:  # the first two, of which all letters that are read behind are left
        rest = {*"".join(parts[2:]), *out}
        own = "".join(one for one in dict.fromkeys(parts[0] + parts[1]) if one in rest)
        given[:2] = [call.onnx("Einsum", *given[:2], equation=f"{parts[0]},{parts[1]}->{own}")]
        parts[:2] = [own]
        equation = f"{','.join(parts)}->{out}"
    return call.onnx("Einsum", *given, equation=equation)


def matmul(call: Made) -> Any:
    given = list(call.args[:2])
    for i, one in enumerate(given):
        if isinstance(one, Known) and one.worlds[0].ndim == 3 and not call.site.folds:
            matrix = one.worlds[0][0]  # a decomposed program has the weight of a layer for each row
            if all(np.array_equal(each, matrix) for world in one.worlds for each in world):
                given[i] = Known(matrix)
    return call.onnx("MatMul", *given[:: -1 if call.op.name == "rmatmul" else 1])


def softmax(op: str, call: Made) -> Any:
    x, dim = call.arg(0, "input"), call.arg(1, "dim")
    if dim is None:  # as PyTorch guesses
        dim = int(len(call.sizes[0]) not in (1, 3))
    if isinstance(x, Scores) and op == "Softmax" and (found := x.weighted(dim)):
        return found
    return call.onnx(op, call.x, axis=dim)


def attention(call: Made) -> Any:
    """scaled_dot_product_attention."""
    query, keys, values = (call.symbol(i, name) for i, name in enumerate(("query", "key", "value")))
    scale, mask = call.arg(6, "scale", call.sizes[0][-1][0] ** -0.5), call.arg(3, "attn_mask")
    scores = Scores(query, keys, scale).changed(weighs=True, causal=call.arg(5, "is_causal", False))
    return attend(scores if mask is None else masked(scores, mask), values)


def many_heads(call: Made) -> Any:
    """nn.MultiheadAttention; its values are (time, batch, frame)."""
    if call.arg(7, "bias_k") is not None or call.arg(9, "add_zero_attn", False):
        raise Unfit("has bias_k, bias_v or add_zero_attn, expected none of them")
    if call.arg(17, "use_separate_proj_weight", False):
        weights = [call.array(18 + i, f"{one}_proj_weight") for i, one in enumerate("qkv")]
    else:
        weights = np.split(call.array(5, "in_proj_weight"), 3)
    bias, heads = call.array(6, "in_proj_bias"), call.arg(4, "num_heads")
    base = call.args[11].name.removesuffix("out_proj.weight")
    ready = []
    for i, one in enumerate("qkv"):
        made = products.linear(
            call.symbol(i, one), 2, weights[i], None if bias is None else np.split(bias, 3)[i]
        )
        call.site.names([made], f"{base}{one}_proj")
        ready.append(
            made.with_axes([made.axes[1], part(heads), made.axes[0], part(len(weights[i]) // heads)])
        )
    scores = Scores(ready[0], ready[1], (len(weights[0]) // heads) ** -0.5).changed(weighs=True)
    for mask in (call.arg(14, "key_padding_mask"), call.arg(16, "attn_mask")):
        scores = scores if mask is None else masked(scores, mask)
    found = attend(scores, ready[2])
    found = found.with_axes([found.axes[2], found.axes[0], part(len(weights[2]))])
    out = products.linear(found, 2, call.array(11, "weight"), call.array(12, "bias"))
    call.site.names([out], f"{base}out_proj")
    return [out]


# ---- recurrent layers, packed sequences --------------------------------------------------------------------


def recurrent(call: Made) -> Any:
    """The output of an LSTM, a GRU or an RNN, and its last states."""
    if packed := isinstance(call.args[3], (list, tuple)):
        x, _, hx, tensors, _, levels, _, _, both = call.args
        if not isinstance(x, Packed):
            raise Unfit("reads packed steps that were changed, expected those of pack_padded_sequence")
        rows_first = not is_time(x.axes[0])
    else:
        _, hx, tensors, _, levels, _, _, both, rows_first = call.args
        x = call.x
    steps = 1 if rows_first else 0
    if not packed and {BATCH, FRAME} == {atom.kind for atom in x.axes[1 - steps]}:
        return row_by_row(call, x, hx, 1 - steps)
    own = bool(call.site.timed) or call.site.still
    own = own or all(len(one.frame) < 2 for one in call.site.inputs.values())
    named = any(atom.origin for atom in x.axes[steps]) and not has(x.axes[1 - steps], TIME)
    streams = x.axes[steps] == () and not call.site.times and all(map(input_of, several(hx)))
    if own and not packed and is_frame(x.axes[steps]) and not named and not streams:
        return unrolled(call, x, hx, tensors, levels, both, steps)
    ends = time_and_batch(x, rows_first, streams)
    value, finals = layer(call, call.op.name, x, hx, tensors, levels, both)
    axes = [*(ends[::-1] if rows_first else ends), part(value.frame[0])]
    out = Packed(value, axes) if packed else Symbol(value, axes, x.reversed)
    each = levels * (1 + both)
    return [out, *(Symbol(one, [part(each), ends[1], part(one.frame[0] // each)]) for one in finals)]


def cell(loops: bool, call: Made) -> Any:
    """A cell in a loop over steps, or of a net that reads one, whose states are inputs; others by hand."""
    x, hx, tensors = call.x, call.args[1], [one for one in call.args[2:] if one is not None]
    if not loops and (x.value.time is None or not all(map(input_of, several(hx)))):
        return by_hand(call)
    value, finals = layer(call, call.op.name.partition("_cell")[0], x, hx, tensors, 1, False)
    hidden = part(value.frame[0])
    axes = [*x.axes[:-1], hidden]
    if loops:
        call.site.lasts[id(value)] = finals[0]
    else:
        call.site.finals[id(value)] = call.site.finals[id(finals[0])]
    return [Symbol(value, axes), *((Held if loops else Symbol)(one, axes) for one in finals[1:])]


def by_hand(call: Made) -> list[Symbol]:
    """A cell whose state something else writes, too: its formula."""
    x, hx, *tensors = call.args
    states = several(hx)
    if call.site.still or call.site.timed:
        states = [constant_state(one, call.x) if isinstance(one, Known) else one for one in states]
    return formula(call.op.name.removesuffix("_cell"), x, states, tensors)


def formula(op: str, x: Any, states: Sequence[Any], tensors: Sequence[Any]) -> list[Symbol]:
    """One step of a cell: its next states."""
    if any(not isinstance(one, Symbol) or isinstance(one, Unfinished) for one in (x, *states)):
        raise Unfit("reads a constant, or " + Held.what)
    h, *c = (one.value for one in states)
    arrays: list[Any] = [None if one is None else one.array("a weight") for one in tensors]
    sides = [products.linear(one, one.rank - 1, *arrays[i::2]).value for i, one in enumerate((x, states[0]))]
    cuts = [range(i, i + h.frame[-1]) for i in range(0, len(arrays[0]), h.frame[-1])]
    ours, theirs = ([one[..., cut.start : cut.stop] for cut in cuts] for one in sides)
    gates = [a + b for a, b in zip(ours, theirs, strict=True)]
    sigmoid: Any = activations.Sigmoid()
    tanh: Any = activations.Tanh()
    if op == "lstm":
        i, f, g, o = gates
        c = [sigmoid(f) * c[0] + sigmoid(i) * tanh(g)]
        found = [sigmoid(o) * tanh(c[0]), *c]
    elif op == "gru":
        new = tanh(ours[2] + sigmoid(gates[0]) * theirs[2])
        found = [new + sigmoid(gates[1]) * (h - new)]
    else:
        found = [tanh(gates[0]) if op == "rnn_tanh" else applied(activations.ReLU(), gates[:1])]
    return [Symbol(one, states[0].axes) for one in found]


def constant_state(given: Known, like: Symbol) -> Symbol:
    """A constant state, equal in all rows, as a value beside another."""
    rows = equal_rows(given, -2)
    row = np.zeros(given.worlds[0].shape[-1]) if rows is None else rows.reshape(-1)
    return Symbol(constant(np.asarray(row, np.float32), like.value), [*like.axes[:-1], part(row.size)])


def unrolled(
    call: Made, x: Symbol, hx: Any, tensors: Sequence[Any], levels: int, both: bool, steps: int
) -> Any:
    """A recurrent layer over so many steps that do not depend on the input, as a decoder makes them."""
    op, count = call.op.name, x.frame_axis(steps)
    each = len(tensors) // (levels * (1 + both))
    if count > MOST_STEPS or each not in (2, 4):
        raise Unfit(f"runs {count} steps, expected at most {MOST_STEPS}, without a projection, beside time")
    reads = [call.onnx("Gather", x, k, axis=steps) for k in range(count)]
    finals: list[list[Symbol]] = []
    for place in range(levels * (1 + both)):
        direction = place % (1 + both)
        states = []
        for one in several(hx):
            if isinstance(one, Known):
                states.append(constant_state(Known(*(world[place] for world in one.worlds)), reads[0]))
            else:
                states.append(call.onnx("Gather", one, place, axis=0))
        weights = list(tensors[place * each : (place + 1) * each])
        made: list[Any] = [None] * count
        for k in range(count)[:: -1 if direction else 1]:
            states = formula(op, reads[k], states, weights)
            made[k] = states[0]
        finals.append(states)
        if not direction:
            first = made
        if direction == both:
            reads = made
            if both:
                reads = [call.onnx("Concat", *pair, axis=1) for pair in zip(first, made, strict=True)]
    kinds = zip(*finals, strict=True)

    def stacked(parts: Sequence[Symbol], axis: int) -> Any:
        return call.onnx("Concat", *(call.onnx("Unsqueeze", one, [axis]) for one in parts), axis=axis)

    return [stacked(reads, steps), *(stacked(one, 0) for one in kinds)]


def row_by_row(call: Made, x: Symbol, hx: Any, rows: int) -> Any:
    """A layer whose rows are those of a batch and of an axis of frames: it runs for each of the latter."""
    atoms = x.axes[rows]
    first = next(i for i, atom in enumerate(atoms) if atom.kind != atoms[0].kind)
    place = rows + (atoms[0].kind == BATCH)
    whole = x.with_axes([*x.axes[:rows], atoms[:first], atoms[first:], *x.axes[rows + 1 :]])
    count = whole.frame_axis(place)
    if count > MOST_STEPS or not all(isinstance(one, Known) for one in several(hx)):
        raise Unfit(f"has {count} rows in each frame, expected at most {MOST_STEPS}, and constant states")
    given = []
    for one in several(hx):
        equal_rows(one, -2)
        given.append(Known(*(world[:, : world.shape[1] // count] for world in one.worlds)))
    rest = [given if isinstance(hx, (tuple, list)) else given[0], *call.args[2:]]
    found = [
        recurrent(call._replace(args=[call.onnx("Gather", whole, k, axis=place), *rest]))
        for k in range(count)
    ]
    made = []
    for i, kinds in enumerate(zip(*found, strict=True)):
        low = 1 if i else rows  # states have their levels before the rows
        at = low + place - rows
        y = call.onnx("Concat", *(call.onnx("Unsqueeze", one, [at]) for one in kinds), axis=at)
        made.append(y.with_axes([*y.axes[:low], (*y.axes[low], *y.axes[low + 1]), *y.axes[low + 2 :]]))
    return made


def layer(
    call: Made, op: str, x: Symbol, hx: Any, tensors: Sequence[Any], levels: int, both: bool
) -> tuple[Value, list[Value]]:
    """A recurrent layer over a value, and its last states."""
    site, (kind, order, states) = call.site, CELLS_OF_ONNX[KINDS[op]]
    more: dict[str, Any] = {}
    directions = 1 + both
    each = len(tensors) // (levels * directions)
    bias = each > 3
    names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if bias else []), "weight_hr"]
    weights: dict[str, Any] = {}
    for i, tensor in enumerate(tensors):
        level, direction = divmod(i // each, directions)
        weights[f"{names[i % each]}_l{level}" + "_reverse" * direction] = call._replace(args=[tensor]).weight(
            0, "a weight"
        )
    inputs, hidden = weights["weight_ih_l0"].shape[1], len(weights["weight_hh_l0"]) // len(order)
    if "weight_hr_l0" in weights:
        more["proj_size"] = len(weights["weight_hr_l0"])
    if op.startswith("rnn"):
        more["nonlinearity"] = op.removeprefix("rnn_")
    if x.reversed:
        return over_reversed(call, op, x, hx, weights, both or levels > 1, more)
    made = kind(inputs, hidden, levels, bias=bias, batch_first=site.batch_first, bidirectional=both, **more)
    weighted(made, **weights)
    given = dict(zip(states, several(hx), strict=True))
    starts = {state: start(site, one) for state, one in given.items()}
    begins = [one for one in starts.values() if isinstance(one, Value)]
    if begins and len(begins) < len(states):
        raise Unfit("begins with a value and with constants, expected states of one kind")
    made.initial_state = {state: one for state, one in starts.items() if isinstance(one, np.ndarray)} or None
    value = made(x.framed((inputs,)), *([tuple(begins) if begins[1:] else begins[0]] if begins else []))
    site.names([value], label_of(tensors) or call.op.module)
    finals = []
    for state, one in given.items():
        name = input_of(one)
        site.begun |= {name: f"{value.label}.{state}" if value.label else state}
        final = FinalState(state, levels)(value)
        site.finals[id(final)] = name
        site.seen[id(final)] = final
        finals.append(final)
    return value, finals


def over_reversed(
    call: Made, op: str, x: Symbol, hx: Any, weights: Any, many: bool, more: dict[str, Any]
) -> tuple[Value, list[Value]]:
    """A layer over a sequence that was reversed: the second direction of one whose first is silent."""
    kind, order, states = CELLS_OF_ONNX[KINDS[op]]
    if many or any(not isinstance(one, Known) or np.any(one.worlds[0]) for one in several(hx)):
        raise Unfit(
            "reads a sequence that was reversed, expected one level, one direction and states of zeros there"
        )
    inputs, hidden = weights["weight_ih_l0"].shape[1], len(weights["weight_hh_l0"]) // len(order)
    bias, first = "bias_ih_l0" in weights, call.site.batch_first
    made = kind(inputs, hidden, 1, bias=bias, batch_first=first, bidirectional=True, **more)
    silent = {name: np.zeros(one.shape, np.float32) for name, one in weights.items()}
    weighted(made, **silent, **{f"{name}_reverse": one for name, one in weights.items()})
    value = made(x.framed((inputs,)))
    call.site.names([value], call.op.module)
    finals = []
    for state in states:
        final = FinalState(state, 1)(value)
        finals.append(final[..., final.frame[-1] // 2 :])
    return value[..., value.frame[-1] // 2 :], finals


KINDS = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}
CELLS = [f"{one}_cell" for one in KINDS]


def label_of(given: Any) -> str:
    """The name of the layer whose parameter is among these."""
    for one in given:
        if isinstance(one, Named) and one.name:
            name: str = one.name
            # What modules call their first tensor.
            for own in ("weight", "weight_ih_l0", "weight_ih", "running_mean"):
                name = name.removesuffix(own)
            return name.removesuffix(".")
    return ""


def input_of(given: Any) -> str:
    """The name of the input that a value is."""
    return str(given.value.label) if isinstance(given, Symbol) and isinstance(given.value, Input) else ""


def time_and_batch(x: Symbol, rows_first: bool, one_step: bool = False) -> tuple[Axis, Axis]:
    """The axes of time and of the batch; an axis of an input is told what it is."""
    time, batch = (x.axes[1], x.axes[0]) if rows_first else (x.axes[0], x.axes[1])
    for axis, kind in ((time, TIME), (batch, BATCH)):
        claim(axis, kind)
    others = not is_frame(x.axes[2]) or any(atom.kind != BATCH for atom in batch)
    if others or not (one_step or is_time(time)):
        raise Unfit('reads other axes than time, batch and frame: tell those of the inputs, axes="BTF"')
    return time, batch


def start(site: Site, given: Any) -> Any:
    """An initial state: None for zeros, an array (levels, size), or a value."""
    if isinstance(given, Known):
        rows = equal_rows(given, -2)
        return None if rows is None else np.float32(rows).reshape(-1, rows.shape[-1])
    if not isinstance(given, Symbol):
        raise Unfit("an initial state is no tensor")
    return None if input_of(given) in site.states else given.framed((math.prod(given.value.frame),))


def pack(call: Made) -> Any:
    lengths = call.arg(1, "lengths")
    (time,), _batch = time_and_batch(call.x, call.arg(2, "batch_first", False))
    if isinstance(lengths, Known):
        if any(np.any(one != size) for one, size in zip(lengths.worlds, time.sizes, strict=True)):
            raise Unfit("has constant lengths, expected a tensor of the example: (x, lengths)")
    elif not isinstance(lengths, Rows):
        raise Unfit("reads lengths that the net computes, expected an input of the module")
    return [Packed(call.x.value, call.x.axes), Rows(call.sizes[1])]


def unpack(call: Made) -> Any:
    x, rows_first = call.args[0], call.arg(2, "batch_first", False)
    if not isinstance(x, Packed) or call.arg(3, "padding_value", 0.0):
        raise Unfit("reads packed steps that were changed, or pads with another number than 0")
    axes = [*x.axes[1::-1], x.axes[2]] if is_time(x.axes[0]) == rows_first else x.axes
    return [Symbol(x.value, axes), Rows(call.sizes[1])]


# ---- the list ----------------------------------------------------------------------------------------------


def each(kind: Any) -> Function:
    """A function of each number, whose arguments are the layer's."""

    def made(call: Made) -> Any:
        x = call.arg(0, "input")
        if isinstance(x, Pairs) and kind is activations.Tanh:
            return x.bent()
        if isinstance(call.x, Known):
            return call.onnx(kind.__name__.replace("ReLU", "Relu"), call.x)
        return operand(call, call.x).mapped(kind(*call.args[1:], **call.kwargs))

    return made


KINDS_OF_NUMBERS = (
    "Abs CELU ELU Exp GELU Hardsigmoid Hardswish Hardtanh Log LogSigmoid Mish Neg ReLU ReLU6 Reciprocal SELU "
    "SiLU Sigmoid Sign Softplus Softsign Sqrt Tanh Tanhshrink"
)

SAME = "alias clone contiguous cpu data detach dropout dropout1d dropout2d alpha_dropout lift_fresh_copy"


def same(call: Made) -> Any:
    """The value as it is; dropout draws no numbers in evaluation."""
    if "dropout" in call.op.name and call.arg(2, "training", True) and call.arg(1, "p", 0.5):
        raise Unfit("draws random numbers in evaluation, too, expected training=self.training")
    return call.args[0]


FUNCTIONS: dict[str, Function] = {
    **{one.lower(): each(getattr(activations, one)) for one in KINDS_OF_NUMBERS.split()},
    "leaky_relu": each(activations.LeakyReLU),
    "log_sigmoid": each(activations.LogSigmoid),
    "prelu": prelu,
    "glu": glu,
    "rsqrt": lambda call: call.onnx("Reciprocal", call.onnx("Sqrt", call.x)),
    "log10": lambda call: call.onnx("Mul", call.onnx("Log", call.x), np.float32(1 / math.log(10))),
    "log2": lambda call: call.onnx("Mul", call.onnx("Log", call.x), np.float32(1 / math.log(2))),
    "log1p": lambda call: call.onnx("Log", call.onnx("Add", call.x, np.float32(1))),
    "expm1": lambda call: call.onnx("Sub", call.onnx("Exp", call.x), np.float32(1)),
    "square": lambda call: call.onnx("Mul", call.x, call.x),
    **named("clamp clamp_max clamp_min clip", clamp),
    **named("add iadd", arithmetic("Add")),
    **named("sub subtract", arithmetic("Sub")),
    "rsub": arithmetic("Sub", True),
    **named("mul multiply", arithmetic("Mul")),
    **named("div divide true_divide truediv", arithmetic("Div")),
    **named("rdiv rtruediv", arithmetic("Div", True)),
    "addcmul": lambda call: combined(call, "Mul"),
    "addcdiv": lambda call: combined(call, "Div"),
    "lerp": mixed,
    "pow": arithmetic("Pow"),
    "rpow": arithmetic("Pow", True),
    "maximum": arithmetic("Max"),
    "minimum": arithmetic("Min"),
    **named("and bitwise_and logical_and", arithmetic("And")),
    **named("or bitwise_or logical_or", arithmetic("Or")),
    **named("invert bitwise_not logical_not", lambda call: call.onnx("Not", call.x)),
    "eq": arithmetic("Equal"),
    "ne": lambda call: call.onnx("Not", arithmetic("Equal")(call)),
    "gt": arithmetic("Greater"),
    "ge": arithmetic("GreaterOrEqual"),
    "lt": arithmetic("Less"),
    "le": arithmetic("LessOrEqual"),
    "masked_fill": filled,
    "where": where,
    "sum": partial(over, "ReduceSum"),
    "mean": partial(over, "ReduceMean"),
    "prod": partial(over, "ReduceProd"),
    "amax": partial(over, "ReduceMax"),
    "amin": partial(over, "ReduceMin"),
    "logsumexp": partial(over, "ReduceLogSumExp"),
    "max": partial(extreme, "Max"),
    "min": partial(extreme, "Min"),
    **named("cumsum logcumsumexp", cumulated),
    "logaddexp": lambda call: log_sum(call, call.args[0], call.args[1]),
    "std": partial(spread, frames.Std),
    "var": partial(spread, frames.Var),
    **named("norm vector_norm", length),
    "normalize": normalize,
    "cosine_similarity": cosine,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    **named("batch_norm instance_norm", batch_norm),
    "group_norm": group_norm,
    **named("conv1d conv2d", convolution),
    **named("conv_transpose1d conv_transpose2d", transposed),
    "avg_pool1d": partial(pool, "AveragePool", 1),
    "avg_pool2d": partial(pool, "AveragePool", 2),
    "max_pool1d": partial(pool, "MaxPool", 1),
    "max_pool2d": partial(pool, "MaxPool", 2),
    **named(
        "adaptive_avg_pool1d adaptive_avg_pool2d",
        partial(adaptive, "ReduceMean", (AdaptiveAvgPool1d, AdaptiveAvgPool2d)),
    ),
    **named(
        "adaptive_max_pool1d adaptive_max_pool2d",
        partial(adaptive, "ReduceMax", (AdaptiveMaxPool1d, AdaptiveMaxPool2d)),
    ),
    "pad": pad,
    **named("view unsafe_view view_as reshape reshape_as flatten unflatten squeeze unsqueeze", shaped),
    **named("permute T", permute),
    **named("transpose swapaxes t mT", swapped),
    **named("expand expand_as repeat broadcast_to", expand),
    "getitem": item,
    "slice": sliced,
    "setitem": put,
    **named("select index_select", selected),
    "gather": gathered,
    **named("chunk split tensor_split unbind", parts),
    "flip": flip,
    "narrow": narrowed,
    "roll": rolled,
    "unfold": unfold,
    "diff": difference,
    **named("cat concat concatenate stack", joined),
    "embedding": lambda call: call.onnx("Gather", call.arg(1, "weight"), call.x),
    "one_hot": one_hot,
    "linear": linear,
    **named("matmul bmm mm rmatmul", matmul),
    **named("addmm baddbmm", added_product),
    "einsum": einsum,
    "softmax": partial(softmax, "Softmax"),
    "log_softmax": partial(softmax, "LogSoftmax"),
    "scaled_dot_product_attention": attention,
    "multi_head_attention_forward": many_heads,
    **dict.fromkeys(KINDS, recurrent),
    **dict.fromkeys(CELLS, partial(cell, False)),
    "pack_padded_sequence": pack,
    "pad_packed_sequence": unpack,
    **named("as_tensor bool double float half int long tensor to to_copy type type_as", cast),
    **named(SAME, same),
}
