"""The nodes of ONNX that each layer becomes: `WRITERS`, the list.

A value per step has the axes (time, batch, frame), one per sequence (batch, frame). Axes of frames are
counted from the end, so that most layers write the same nodes for both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinyrnn.onnx.writer import GraphWriter
from tinyrnn.tensors import Frame


class Written(NamedTuple):
    """A value of the net in the graph: its name, its frame, and its axes before that."""

    name: str
    frame: Frame
    lead: int


class Refused(ValueError):
    """A layer that ONNX lacks, or this setting of it."""


Writer = Callable[[GraphWriter, Any, Sequence[Written], Frame], str]


def weights(layer: Any) -> dict[str, Any]:
    """A layer's tensors as float32, whatever their format."""
    return {tensor.name: tensor.read() for tensor in layer._tensors()}


def shape_of(graph: GraphWriter, x: Written) -> str:
    """The sizes of the axes before a frame."""
    whole = graph.add("Shape", x.name)
    return graph.add("Slice", whole, graph.tensor([0]), graph.tensor([x.lead]))


def sized(graph: GraphWriter, name: str, like: Written, frame: Frame) -> str:
    """Give a value the axes of another before its frame, and a frame of this shape."""
    sizes = graph.tensor(np.array(frame, np.int64))
    shape = graph.add("Concat", shape_of(graph, like), sizes, axis=0)
    return graph.add("Reshape", name, shape)


def framed(graph: GraphWriter, x: Written, frame: Frame) -> str:
    """A value whose frames have another shape."""
    if frame == x.frame:
        return x.name
    return graph.add("Reshape", x.name, graph.tensor(np.array([0] * x.lead + list(frame), np.int64)))


def per_step(graph: GraphWriter, x: Written, like: Written) -> str:
    """A value per sequence at each step of another."""
    if x.lead == like.lead:
        return x.name
    sizes = graph.tensor(np.array(x.frame, np.int64))
    return graph.add("Expand", x.name, graph.add("Concat", shape_of(graph, like), sizes, axis=0))


def _op(op: str, **attributes: Any) -> Writer:
    """A layer that is one node."""
    return lambda graph, layer, reads, out: graph.add(op, *(x.name for x in reads), **attributes)


def _of_arguments(op: str, **named: str) -> Writer:
    """A layer that is one node, whose attributes are the layer's arguments."""

    def write(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
        numbers: dict[str, Any] = {name: float(getattr(layer, own)) for name, own in named.items()}
        return graph.add(op, reads[0].name, **numbers)

    return write


def _ranked(graph: GraphWriter, reads: Sequence[Written]) -> list[str]:
    """Values whose frames have as many axes: those with fewer get some of size 1 in front."""
    most = max(len(x.frame) for x in reads)
    return [framed(graph, x, (1,) * (most - len(x.frame)) + x.frame) for x in reads]


def _cast(graph: GraphWriter, name: str, dtype: int) -> str:
    """Numbers as float32 (1), or what is not 0 as truth (9)."""
    return graph.add_many("Cast", [name], [graph.name("cast")], to=dtype)[0]


def _pair(op: str, truth: bool = False, inverse: bool = False) -> Writer:
    def write(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
        found = graph.add(op, *_ranked(graph, reads))
        if inverse:
            found = graph.add("Not", found)
        return _cast(graph, found, 1) if truth else found

    return write


def _reduce(op: str, as_input: bool = False) -> Writer:
    def write(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
        return _reduced(graph, op, reads[0].name, _dims(layer, reads[0]), layer.keepdim, as_input)

    return write


def _dims(layer: Any, x: Written) -> list[int]:
    dim = layer.dim
    if dim is None:
        return list(range(-len(x.frame), 0))
    return [dim] if isinstance(dim, int) else list(dim)


def _reduced(
    graph: GraphWriter, op: str, name: str, dims: list[int], keep: bool, as_input: bool = False
) -> str:
    if not dims:
        return name
    if as_input:
        return graph.add(op, name, graph.tensor(dims), keepdims=int(keep))
    return graph.add(op, name, axes=dims, keepdims=int(keep))


def _spread(root: bool) -> Writer:
    def write(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
        (x,), dims = reads, _dims(layer, reads[0])
        count = int(np.prod([x.frame[dim] for dim in dims], dtype=int))
        if count <= layer.correction:
            raise Refused(f"the variance of {count} numbers with correction={layer.correction}")
        away = graph.add("Sub", x.name, _reduced(graph, "ReduceMean", x.name, dims, True))
        mean = _reduced(graph, "ReduceMean", graph.add("Mul", away, away), dims, layer.keepdim)
        found = graph.add("Mul", mean, graph.tensor(np.float32(count / (count - layer.correction))))
        return graph.add("Sqrt", found) if root else found

    return write


def _linear(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
    own = weights(layer)
    found = graph.add("MatMul", reads[0].name, graph.tensor(own["weight"].T, "weight"))
    return graph.add("Add", found, graph.tensor(own["bias"], "bias")) if "bias" in own else found


def _embedding(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
    return graph.add("Gather", graph.tensor(weights(layer)["weight"], "weight"), reads[0].name, axis=0)


def _channels(array: Any, frame: Frame) -> Any:
    """A number for each channel, along the first axis of a frame."""
    return np.reshape(array, (-1,) + (1,) * (len(frame) - 1))


def _affine(graph: GraphWriter, name: str, own: dict[str, Any], frame: Frame) -> str:
    """``name * weight + bias`` of a norm, by channels, where it has them."""
    for op, which in (("Mul", "weight"), ("Add", "bias")):
        if which in own:
            name = graph.add(op, name, graph.tensor(_channels(own[which], frame), which))
    return name


def _layer_norm(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
    own = weights(layer)
    shape = tuple(layer.normalized_shape)
    scale = graph.tensor(own.get("weight", np.ones(shape)), "weight")
    more = [graph.tensor(own["bias"], "bias")] if "bias" in own else []
    return graph.add(
        "LayerNormalization", reads[0].name, scale, *more, axis=-len(shape), epsilon=float(layer.eps)
    )


def _batch_norm(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
    own = {name: array.astype(np.float64) for name, array in weights(layer).items()}
    if "running_var" not in own:
        raise Refused("the statistics of its batch: track_running_stats is False")
    scale = own.get("weight", 1.0) / np.sqrt(own["running_var"] + layer.eps)
    shift = own.get("bias", 0.0) - own["running_mean"] * scale
    return _affine(graph, reads[0].name, {"weight": scale, "bias": shift}, reads[0].frame)


def _group_norm(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
    (x,), own = reads, weights(layer)
    if "running_var" in own:
        return _batch_norm(graph, layer, reads, out)
    groups = getattr(layer, "num_groups", x.frame[0])
    rows = graph.add("Reshape", x.name, graph.tensor([-1, groups, int(np.prod(x.frame)) // groups]))
    ones, zeros = graph.tensor(np.ones(groups)), graph.tensor(np.zeros(groups))
    found = graph.add("InstanceNormalization", rows, ones, zeros, epsilon=float(layer.eps))
    return _affine(graph, sized(graph, found, x, x.frame), own, x.frame)


def _by_rows(graph: GraphWriter, x: Written, out: Frame, write: Callable[[str], str]) -> str:
    """Apply a node that reads (rows, frame): the axes before the frame become one and then two again."""
    if x.lead == 1:
        return write(x.name)
    rows = graph.add("Reshape", x.name, graph.tensor([-1, *x.frame]))
    return sized(graph, write(rows), x, out)


def _several(value: Any, count: int) -> list[int]:
    return list(value) if isinstance(value, (list, tuple)) else [value] * count


def _convolution(op: str) -> Writer:
    def write(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
        (x,), own = reads, weights(layer)
        count = len(x.frame) - 1
        sides = getattr(layer, "_pads", None) or [
            getattr(layer, "_pad", (layer.padding, layer.padding))  # those of one axis
        ]
        pads = [one[0] for one in sides] + [one[1] for one in sides]
        more: dict[str, Any] = {}
        if op == "ConvTranspose":
            more["output_padding"] = _several(layer.output_padding, count)
        given = [graph.tensor(own[name], name) for name in ("weight", "bias") if name in own]

        def node(rows: str) -> str:
            around = pads
            if layer.padding_mode != "zeros" and any(pads):
                both = [0, 0, *pads[:count], 0, 0, *pads[count:]]
                rows = graph.add("Pad", rows, graph.tensor(both), mode=layer.padding_mode)
                around = [0] * len(pads)
            return graph.add(
                op,
                rows,
                *given,
                kernel_shape=_several(layer.kernel_size, count),
                strides=_several(layer.stride, count),
                dilations=_several(layer.dilation, count),
                pads=around,
                group=layer.groups,
                **more,
            )

        return _by_rows(graph, x, out, node)

    return write


def _pool(op: str) -> Writer:
    def write(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
        (x,) = reads
        count = len(x.frame) - 1
        if layer.ceil_mode:
            raise Refused("ceil_mode=True, on which runtimes of ONNX disagree")
        if getattr(layer, "divisor_override", None) is not None:
            raise Refused("divisor_override")
        more: dict[str, Any] = {"dilations": _several(layer.dilation, count)} if op == "MaxPool" else {}
        if op == "AveragePool":
            more["count_include_pad"] = int(layer.count_include_pad)
        return _by_rows(
            graph,
            x,
            out,
            lambda rows: graph.add(
                op,
                rows,
                kernel_shape=_several(layer.kernel_size, count),
                strides=_several(layer.stride, count),
                pads=_several(layer.padding, count) * 2,
                **more,
            ),
        )

    return write


def _adaptive(op: str) -> Writer:
    def write(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
        (x,) = reads
        sizes, wanted = x.frame[1:], out[1:]
        if any(size % want for size, want in zip(sizes, wanted, strict=True)):
            raise Refused(f"an output of {wanted} of frames of {sizes}, which are no multiple of it")
        steps = [size // want for size, want in zip(sizes, wanted, strict=True)]
        return _by_rows(graph, x, out, lambda rows: graph.add(op, rows, kernel_shape=steps, strides=steps))

    return write


def _prelu(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
    own = weights(layer)["weight"]
    slope = own if own.size == 1 else _channels(own, reads[0].frame)
    return graph.add("PRelu", reads[0].name, graph.tensor(slope, "weight"))


def _softmax(op: str) -> Writer:
    def write(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
        dim = -1 if layer.dim is None else layer.dim
        if dim >= 0:
            raise Refused(f"dim={dim}, counted from the first axis: count it from the last one, as dim=-1")
        return graph.add(op, reads[0].name, axis=dim)

    return write


def _gelu(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
    x = reads[0].name

    def number(value: float) -> str:
        return graph.tensor(np.float32(value))

    if layer.approximate == "tanh":
        cube = graph.add("Mul", graph.add("Mul", x, graph.add("Mul", x, x)), number(0.044715))
        inner = graph.add("Tanh", graph.add("Mul", graph.add("Add", x, cube), number(np.sqrt(2 / np.pi))))
    else:
        inner = graph.add("Erf", graph.add("Mul", x, number(np.sqrt(0.5))))
    return graph.add("Mul", graph.add("Mul", x, number(0.5)), graph.add("Add", inner, number(1)))


def _softplus_of(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
    x, beta = reads[0].name, graph.tensor(np.float32(layer.beta))
    scaled = graph.add("Mul", x, beta)
    soft = graph.add("Div", graph.add("Softplus", scaled), beta)
    return graph.add(
        "Where", graph.add("Greater", scaled, graph.tensor(np.float32(layer.threshold))), x, soft
    )


def _clip(low: Any, high: Any) -> Writer:
    def write(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
        found = [getattr(layer, one) if isinstance(one, str) else one for one in (low, high)]
        bounds = ["" if one is None else graph.tensor(np.float32(one)) for one in found]
        return graph.add("Clip", reads[0].name, *bounds)

    return write


def _mish(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
    x = reads[0].name
    return graph.add("Mul", x, graph.add("Tanh", graph.add("Softplus", x)))


def _scale(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
    found = graph.add("Mul", reads[0].name, graph.tensor(np.float32(layer.scale)))
    return graph.add("Add", found, graph.tensor(np.float32(layer.shift))) if layer.shift else found


def _log_sigmoid(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
    return graph.add("Neg", graph.add("Softplus", graph.add("Neg", reads[0].name)))


def _constant(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
    one = Written(graph.tensor(np.full(out, layer.number, np.float32)), out, 0)
    return per_step(graph, one, reads[0])


def _permute(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
    (x,) = reads
    rank = x.lead + len(x.frame)
    order = [*range(rank - len(layer.dims)), *(rank + dim for dim in layer.dims)]
    return graph.add("Transpose", x.name, perm=order)


def _pad(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
    (x,) = reads
    modes = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
    if layer.mode not in modes:
        raise Refused(f"mode={layer.mode!r}, which ONNX has from opset 19 on")
    count = len(layer.pad) // 2
    rest = [0] * (x.lead + len(x.frame) - count)
    pads = [*rest, *layer.pad[::2][::-1], *rest, *layer.pad[1::2][::-1]]
    more = [graph.tensor(np.float32(layer.value))] if layer.mode == "constant" else []

    return graph.add("Pad", x.name, graph.tensor(pads), *more, mode=modes[layer.mode])


def _where(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
    chosen, *rest = _ranked(graph, reads)
    return graph.add("Where", _cast(graph, chosen, 9), *rest)


def _matmul(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
    one, other = reads
    row = len(one.frame) == 1
    if row:
        one = one._replace(name=framed(graph, one, (1, *one.frame)), frame=(1, *one.frame))
    found = graph.add("MatMul", *_ranked(graph, (one, other)))
    return graph.add("Squeeze", found, graph.tensor([-2])) if row else found


def _concat(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
    most = max(reads, key=lambda x: x.lead)
    return graph.add("Concat", *(per_step(graph, x, most) for x in reads), axis=layer.dim)


def _slice(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
    ends = (layer.start, layer.start + layer.size, layer.dim)
    return graph.add("Slice", reads[0].name, *(graph.tensor([one]) for one in ends))


def _delay(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
    if len(reads) > 1 or layer._start:
        raise Refused("a value that it begins with")
    rank = 2 + len(out)
    pads = [layer.steps] + [0] * (2 * rank - 1)
    later = graph.add("Pad", reads[0].name, graph.tensor(pads))
    return graph.add("Slice", later, graph.tensor([0]), graph.tensor([-layer.steps]), graph.tensor([0]))


def _over_time(op: str, as_input: bool = False) -> Writer:
    return lambda graph, layer, reads, out: _reduced(graph, op, reads[0].name, [0], False, as_input)


def _time_conv(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
    own = weights(layer)
    if layer.padding != "causal" or layer.stride != 1:
        raise Refused("another rate: its stride is not 1, or its padding is not 'causal'")
    before = (layer.kernel_size - 1) * layer.dilation
    rows = graph.add("Transpose", reads[0].name, perm=[1, 2, 0])
    found = graph.add(
        "Conv",
        rows,
        *(graph.tensor(own[name], name) for name in ("weight", "bias") if name in own),
        kernel_shape=[layer.kernel_size],
        dilations=[layer.dilation],
        pads=[before, 0],
        group=layer.groups,
    )
    return graph.add("Transpose", found, perm=[2, 0, 1])


def _same(graph: GraphWriter, layer: Any, reads: Sequence[Written], out: Frame) -> str:
    return framed(graph, reads[0], out)


# What each type of layer becomes. RNN, LSTM, GRU and FinalState are in export.py: they have states.
WRITERS: dict[str, Writer] = {
    "Linear": _linear,
    "Embedding": _embedding,
    "Conv1d": _convolution("Conv"),
    "Conv2d": _convolution("Conv"),
    "ConvTranspose1d": _convolution("ConvTranspose"),
    "LayerNorm": _layer_norm,
    "BatchNorm1d": _batch_norm,
    "BatchNorm2d": _batch_norm,
    "GroupNorm": _group_norm,
    "InstanceNorm1d": _group_norm,
    "InstanceNorm2d": _group_norm,
    "Dropout": lambda graph, layer, reads, out: reads[0].name,
    "Flatten": _same,
    "Reshape": _same,
    "Unflatten": _same,
    "Softmax": _softmax("Softmax"),
    "LogSoftmax": _softmax("LogSoftmax"),
    "ReLU": _op("Relu"),
    "LeakyReLU": _of_arguments("LeakyRelu", alpha="negative_slope"),
    "PReLU": _prelu,
    "Sigmoid": _op("Sigmoid"),
    "Tanh": _op("Tanh"),
    "ELU": _of_arguments("Elu", alpha="alpha"),
    "SELU": _op("Selu"),
    "CELU": _of_arguments("Celu", alpha="alpha"),
    "GELU": _gelu,
    "SiLU": lambda graph, layer, reads, out: graph.add(
        "Mul", reads[0].name, graph.add("Sigmoid", reads[0].name)
    ),
    "Mish": _mish,
    "Softplus": _softplus_of,
    "LogSigmoid": _log_sigmoid,
    "Softsign": _op("Softsign"),
    "Tanhshrink": lambda graph, layer, reads, out: graph.add(
        "Sub", reads[0].name, graph.add("Tanh", reads[0].name)
    ),
    "Hardsigmoid": _op("HardSigmoid", alpha=1 / 6, beta=0.5),
    "Hardswish": _op("HardSwish"),
    "Hardtanh": _clip("min_val", "max_val"),
    "ReLU6": _clip(0.0, 6.0),
    "Clip": _clip("min", "max"),
    "Exp": _op("Exp"),
    "Log": _op("Log"),
    "Sqrt": _op("Sqrt"),
    "Abs": _op("Abs"),
    "Sign": _op("Sign"),
    "Neg": _op("Neg"),
    "Reciprocal": _op("Reciprocal"),
    "Power": lambda graph, layer, reads, out: graph.add(
        "Pow", reads[0].name, graph.tensor(np.float32(layer.exponent))
    ),
    "Scale": _scale,
    "Constant": _constant,
    "Permute": _permute,
    "Pad": _pad,
    "Sum": _reduce("ReduceSum", True),
    "Mean": _reduce("ReduceMean"),
    "Amax": _reduce("ReduceMax"),
    "Amin": _reduce("ReduceMin"),
    "Prod": _reduce("ReduceProd"),
    "VectorNorm": _reduce("ReduceL2"),
    "LogSumExp": _reduce("ReduceLogSumExp"),
    "Var": _spread(False),
    "Std": _spread(True),
    "Add": _pair("Add"),
    "Subtract": _pair("Sub"),
    "Multiply": _pair("Mul"),
    "Divide": _pair("Div"),
    "Minimum": _pair("Min"),
    "Maximum": _pair("Max"),
    "Pow": _pair("Pow"),
    "Equal": _pair("Equal", True),
    "NotEqual": _pair("Equal", True, True),
    "Less": _pair("Less", True),
    "LessEqual": _pair("LessOrEqual", True),
    "Greater": _pair("Greater", True),
    "GreaterEqual": _pair("GreaterOrEqual", True),
    "Where": _where,
    "Matmul": _matmul,
    "Concat": _concat,
    "Slice": _slice,
    "Delay": _delay,
    "MaxPool1d": _pool("MaxPool"),
    "MaxPool2d": _pool("MaxPool"),
    "AvgPool1d": _pool("AveragePool"),
    "AvgPool2d": _pool("AveragePool"),
    "AdaptiveAvgPool1d": _adaptive("AveragePool"),
    "AdaptiveAvgPool2d": _adaptive("AveragePool"),
    "AdaptiveMaxPool1d": _adaptive("MaxPool"),
    "AdaptiveMaxPool2d": _adaptive("MaxPool"),
    "LastStep": lambda graph, layer, reads, out: graph.add(
        "Gather", reads[0].name, graph.tensor(np.int64(-1)), axis=0
    ),
    "SumOverTime": _over_time("ReduceSum", True),
    "MeanOverTime": _over_time("ReduceMean"),
    "MaxOverTime": _over_time("ReduceMax"),
    "Repeat": lambda graph, layer, reads, out: per_step(graph, reads[0], reads[-1]),
    "TimeConv1d": _time_conv,
}

PER_SEQUENCE = ("LastStep", "SumOverTime", "MeanOverTime", "MaxOverTime", "FinalState")
