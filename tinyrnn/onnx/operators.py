"""ONNX's operators as layers of tinyrnn: `OPERATORS` has a line for each.

A function takes a `Call` and returns a `Symbol`, or a list of what the node's outputs are. Operations whose
inputs are all known are in `folding`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinyrnn import activations, frames, ops
from tinyrnn.layers import LogSoftmax, Softmax
from tinyrnn.onnx.arithmetic import (
    add,
    cast,
    cast_like,
    clip,
    dropout,
    erf,
    gelu,
    hard_sigmoid,
    multiply,
    of_attribute,
    of_each,
    of_several,
    prelu,
    raised,
    same,
    selu,
    tanh,
    where,
)
from tinyrnn.onnx.cells import recurrent
from tinyrnn.onnx.inner import branch
from tinyrnn.onnx.loops import at, cut, empty, insert, joined, length, loop, scan
from tinyrnn.onnx.nodes import Call
from tinyrnn.onnx.products import einsum, gemm, matmul
from tinyrnn.onnx.quantised import (
    between,
    conv_integer,
    dequantize,
    dynamic,
    dynamic_lstm,
    dynamic_matmul,
    linear_concat,
    linear_conv,
    linear_gemm,
    matmul_integer,
    matmul_to_float,
    quantize,
)
from tinyrnn.onnx.reductions import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    over_all,
    reduction,
    softmax,
)
from tinyrnn.onnx.shapes import (
    compared,
    concat,
    expand,
    flatten,
    gather,
    pad,
    reshape,
    reverse_sequence,
    slices,
    split,
    squeeze,
    tile,
    transpose,
    unsqueeze,
)
from tinyrnn.onnx.windows import convolution, pool, resize, transposed
from tinyrnn.temporal import MaxOverTime, MeanOverTime, SumOverTime

OPERATORS: dict[str, Callable[[Call], Any]] = {
    "Abs": of_each(lambda call: activations.Abs()),
    "Add": add,
    "And": of_several(ops.Multiply),
    "AveragePool": pool,
    "BatchNormalization": batch_norm,
    "Cast": cast,
    "CastLike": cast_like,
    "Celu": of_attribute("alpha", 1.0, activations.CELU),
    "Clip": clip,
    "Concat": concat,
    "ConcatFromSequence": joined,
    "Conv": convolution,
    "ConvInteger": conv_integer,
    "ConvTranspose": transposed,
    "DequantizeLinear": dequantize,
    "Div": of_several(ops.Divide, lambda a, b: a / b),
    "Dropout": dropout,
    "DynamicQuantizeLinear": dynamic,
    "Einsum": einsum,
    "Elu": of_attribute("alpha", 1.0, activations.ELU),
    "Equal": compared(of_several(ops.Equal, ops.eq)),
    "Erf": erf,
    "Exp": of_each(lambda call: activations.Exp()),
    "Expand": expand,
    "Flatten": flatten,
    "GRU": recurrent,
    "Gather": gather,
    "Gelu": gelu,
    "Gemm": gemm,
    "GlobalAveragePool": over_all(frames.Mean, MeanOverTime),
    "GlobalMaxPool": over_all(frames.Amax, MaxOverTime),
    "Greater": compared(of_several(ops.Greater, ops.gt)),
    "GreaterOrEqual": compared(of_several(ops.GreaterEqual, ops.ge)),
    "GroupNormalization": group_norm,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": of_each(lambda call: activations.Hardswish()),
    "Identity": same,
    "If": branch,
    "InstanceNormalization": instance_norm,
    "LSTM": recurrent,
    "LayerNormalization": layer_norm,
    "LeakyRelu": of_attribute("alpha", 0.01, activations.LeakyReLU),
    "Less": compared(of_several(ops.Less, ops.lt)),
    "LessOrEqual": compared(of_several(ops.LessEqual, ops.le)),
    "Log": of_each(lambda call: activations.Log()),
    "LogSoftmax": softmax(LogSoftmax),
    "Loop": loop,
    "MatMul": matmul,
    "MatMulInteger": matmul_integer,
    "Max": of_several(ops.Maximum),
    "MaxPool": pool,
    "Min": of_several(ops.Minimum),
    "Mish": of_each(lambda call: activations.Mish()),
    "Mul": multiply,
    "Neg": of_each(lambda call: activations.Neg()),
    "Not": of_each(lambda call: activations.Scale(-1.0, 1.0)),
    "Or": of_several(ops.Maximum),
    "PRelu": prelu,
    "Pad": pad,
    "Pow": of_several(ops.Pow, raised),
    "QLinearConv": linear_conv,
    "QLinearMatMul": between("MatMul", matmul, 0, 3, to=6),
    "QuantizeLinear": quantize,
    "RNN": recurrent,
    "Reciprocal": of_each(lambda call: activations.Reciprocal()),
    "ReduceL1": reduction(frames.Sum, SumOverTime, activations.Abs()),
    "ReduceL2": reduction(frames.VectorNorm, lambda: lambda x: activations.Sqrt()(SumOverTime()(x * x))),
    "ReduceLogSumExp": reduction(frames.LogSumExp, None),
    "ReduceMax": reduction(frames.Amax, MaxOverTime),
    "ReduceMean": reduction(frames.Mean, MeanOverTime),
    "ReduceMin": reduction(frames.Amin, lambda: lambda x: -MaxOverTime()(-x)),
    "ReduceProd": reduction(frames.Prod, None),
    "ReduceSum": reduction(frames.Sum, SumOverTime),
    "ReduceSumSquare": reduction(frames.Sum, SumOverTime, lambda x: x * x),
    "Relu": of_each(lambda call: activations.ReLU()),
    "Reshape": reshape,
    "Resize": resize,
    "ReverseSequence": reverse_sequence,
    "Scan": scan,
    "Selu": selu,
    "SequenceAt": at,
    "SequenceEmpty": empty,
    "SequenceInsert": insert,
    "SequenceLength": length,
    "Sigmoid": of_each(lambda call: activations.Sigmoid()),
    "Sign": of_each(lambda call: activations.Sign()),
    "Slice": slices,
    "Softmax": softmax(Softmax),
    "Softplus": of_each(lambda call: activations.Softplus()),
    "Softsign": of_each(lambda call: activations.Softsign()),
    "Split": split,
    "SplitToSequence": cut,
    "Sqrt": of_each(lambda call: activations.Sqrt()),
    "Squeeze": squeeze,
    "Sub": of_several(ops.Subtract, lambda a, b: a - b),
    "Sum": of_several(ops.Add),
    "Tanh": tanh,
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
    "Upsample": resize,
    "Where": where,
}

# The operators of ONNX Runtime, of the domain com.microsoft.
MICROSOFT: dict[str, Callable[[Call], Any]] = {
    "DequantizeLinear": dequantize,
    "DynamicQuantizeLSTM": dynamic_lstm,
    "DynamicQuantizeMatMul": dynamic_matmul,
    "MatMulIntegerToFloat": matmul_to_float,
    "QGemm": linear_gemm,
    "QLinearAdd": between("Add", add, 0, 3, to=6),
    "QLinearAveragePool": between("AveragePool", pool, 0, to=3),
    "QLinearConcat": linear_concat,
    "QLinearGlobalAveragePool": between("GlobalAveragePool", over_all(frames.Mean, MeanOverTime), 0, to=3),
    "QLinearLeakyRelu": between("LeakyRelu", of_attribute("alpha", 0.01, activations.LeakyReLU), 0, to=3),
    "QLinearMul": between("Mul", multiply, 0, 3, to=6),
    "QLinearSigmoid": between("Sigmoid", of_each(lambda call: activations.Sigmoid()), 0, to=3),
    "QLinearSoftmax": between("Softmax", softmax(Softmax), 0, to=3),
    "QuantizeLinear": quantize,
}

# By domain; "" is ONNX's own.
DOMAINS = {"": OPERATORS, "com.microsoft": MICROSOFT}

# Operators whose results are indices, which no net gives.
INDICES = ("ArgMax", "ArgMin", "TopK")
