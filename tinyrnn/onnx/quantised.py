"""Quantised operators: int8 layers where the file rounds what a matrix reads, and floats elsewhere.

A code is ``x / scale + zero`` here, a float between the least and the largest code, so that all operations
on codes are operations on floats. `Codes` remembers the number that it stands for, which is what
DequantizeLinear gives. The scale that DynamicQuantizeLinear finds is 1 then, and its zero 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyrnn import activations, frames
from tinyrnn.importing import CodedArray, Unfit
from tinyrnn.onnx.arithmetic import add, multiply
from tinyrnn.onnx.cells import recurrent
from tinyrnn.onnx.evaluation import folded
from tinyrnn.onnx.nodes import Call, Given
from tinyrnn.onnx.pairs import Pairs
from tinyrnn.onnx.products import gemm, matmul
from tinyrnn.onnx.shapes import concat
from tinyrnn.onnx.symbols import Axis, Known, Symbol
from tinyrnn.onnx.windows import convolution
from tinyrnn.values import Value, applied


class Codes(Symbol):
    """Codes that a net computes: ``real`` is the value that they stand for, with a scale and a zero."""

    def __init__(self, value: Value, axes: Sequence[Axis], reversed: bool, real: Value, key: Any) -> None:
        super().__init__(value, axes, reversed)
        self.real, self.key = real, key

    def with_axes(self, axes: Sequence[Axis]) -> Symbol:
        return Codes(self.value, axes, self.reversed, self.real, self.key)


def _scalar(call: Call, place: int, default: float | None = None) -> float:
    """A scale or a zero of all numbers of an activation."""
    if default is not None and not call.has(place):
        return default
    array = call.array(place)
    if array.size != 1:
        raise Unfit(f"input {place} has shape {array.shape}, expected one number for all of an activation")
    return float(array.reshape(-1)[0])


def _within(value: Value, low: float, high: float) -> Value:
    """The value, which codes express between two numbers."""
    source = value
    while isinstance(source.layer, (frames.Reshape, frames.Permute)):
        (source,) = source.reads
    layer = source.layer
    is_clip = isinstance(layer, activations.Clip) and layer.min is not None and layer.max is not None
    if is_clip and low <= layer.min and layer.max <= high:
        return value
    return applied(activations.Clip(low, high), (value,))


def _to_codes(call: Call, x: Symbol, place: int) -> Symbol:
    """The codes of a value, whose scale and zero are the inputs from ``place``."""
    scale, zero = _scalar(call, place), _scalar(call, place + 1, 0.0)
    kind = call.array(place + 1).dtype if call.has(place + 1) else np.dtype(np.uint8)
    if kind.kind not in "iu" or scale <= 0:
        raise Unfit(f"has codes of {kind} and a scale of {scale}, expected whole numbers and a scale above 0")
    least, most = np.iinfo(kind).min, np.iinfo(kind).max
    real = _within(x.value, (least - zero) * scale, (most - zero) * scale)
    codes = applied(activations.Scale(1 / scale, zero), (real,))
    return Codes(codes, x.axes, x.reversed, real, (scale, zero))


def _to_real(call: Call, place: int, axis: int = 1, block: int = 0) -> Given:
    """The numbers that codes stand for: input ``place``, with a scale and a zero behind it."""
    if isinstance(call.get(place), Known):
        attributes = {"axis": axis, "block_size": block}
        inputs = [call.get(place + i) for i in range(3)]
        node = call.node._replace(op="DequantizeLinear", attributes=attributes)
        return folded(call._replace(node=node, inputs=inputs))[0]
    x = call.symbol(place)
    scales = call.array(place + 1)
    if scales.size > 1:
        if call.has(place + 2) and np.any(call.array(place + 2)):
            raise Unfit("has a zero for each channel of an activation, expected 0")
        shape = [1] * x.rank
        shape[axis] = scales.size
        return multiply(_inner(call, "Mul", [x, Known(scales.reshape(shape))]))
    scale, zero = _scalar(call, place + 1), _scalar(call, place + 2, 0.0)
    if isinstance(x, Codes) and x.key == (scale, zero):
        return _rounded(call, Symbol(x.real, x.axes, x.reversed))
    if zero == 0.0:
        return multiply(_inner(call, "Mul", [x, Known(np.array(scale, np.float32))]))
    return x.mapped(activations.Scale(scale, -zero * scale))


def _rounded(call: Call, x: Symbol) -> Symbol:
    """The value, which the file rounds; int8 layers round it, too."""
    found = x.with_axes(x.axes)
    found.rounded = call.builder.int8
    return found


def _read(call: Call, place: int) -> Symbol:
    """The value of an input, which the file rounds; pairs of steps are rounded nowhere."""
    x = call.get(place)
    return x if isinstance(x, Pairs) else _rounded(call, call.symbol(place))


def _inner(call: Call, op: str, inputs: Sequence[Given]) -> Call:
    """An operation of floats that is a part of a node."""
    return call._replace(node=call.node._replace(op=op), inputs=list(inputs))


# ---- codes and floats --------------------------------------------------------------------------------------


def quantize(call: Call) -> Symbol:
    return _to_codes(call, call.symbol(0), 1)


def dequantize(call: Call) -> Given:
    get = call.attributes.get
    return _to_real(call, 0, get("axis", 1), get("block_size", 0))


def dynamic(call: Call) -> list[Any]:
    """DynamicQuantizeLinear: the value itself."""
    return [_read(call, 0), Known(np.array(1, np.float32)), Known(np.array(0, np.uint8))]


# ---- products of codes -------------------------------------------------------------------------------------


def _centred(call: Call, place: int, zero: int, axis: int) -> Given:
    """Codes less their zero, of which there may be one for each number along an axis of a constant."""
    given = call.get(place)
    if isinstance(given, Known):
        codes = given.array("codes")
        call.builder.room(codes.size // 8)
        zeros = call.array(zero) if call.has(zero) else np.zeros(1)
        shape = [1] * codes.ndim
        shape[axis] = zeros.size
        zeros = zeros.astype(np.float32).reshape(shape)
        return Known(CodedArray(codes, np.ones_like(zeros), zeros))
    number = _scalar(call, zero, 0.0)
    if isinstance(given, Pairs) and not number:
        return given
    x = call.symbol(place)
    return x.mapped(activations.Scale(1.0, -number)) if number else x


def _scaled_later(found: Symbol) -> Symbol:
    """A product of codes: the scale that is multiplied with it will be its weights'."""
    if found.product is not None:
        found.product = found.product._replace(scales=True)
    return found


def matmul_integer(call: Call) -> Symbol:
    operands = [_centred(call, 0, 2, -2 if call.has(0) else 0), _centred(call, 1, 3, -1)]
    return _scaled_later(matmul(_inner(call, "MatMul", operands)))


def conv_integer(call: Call) -> Symbol:
    operands = [_centred(call, 0, 2, 0), _centred(call, 1, 3, 0)]
    return _scaled_later(convolution(_inner(call, "Conv", operands)))


def _sum(call: Call, x: Symbol, place: int) -> Symbol:
    """A value and a bias, if the node has one."""
    return add(_inner(call, "Add", [x, call.get(place)])) if call.has(place) else x


def dynamic_matmul(call: Call) -> Symbol:
    """DynamicQuantizeMatMul: a value, and the codes, scale and zero of a matrix, and a bias."""
    weight = _to_real(call._replace(inputs=[call.get(i) for i in (1, 2, 3)]), 0, -1)
    return _sum(call, matmul(_inner(call, "MatMul", [_read(call, 0), weight])), 4)


def matmul_to_float(call: Call) -> Symbol:
    """MatMulIntegerToFloat: two matrices of codes, their scales, their zeros, and a bias."""
    ordered = [call.get(i) for i in (0, 2, 4, 1, 3, 5)]
    pair = call._replace(inputs=ordered)
    return _sum(call, matmul(_inner(call, "MatMul", [_to_real(pair, 0), _to_real(pair, 3, -1)])), 6)


def dynamic_lstm(call: Call) -> list[Any]:
    """DynamicQuantizeLSTM: an LSTM whose W and R are codes, with inputs and outputs of a gate transposed."""
    inputs = [call.get(i) for i in range(8)]
    inputs[0] = _rounded(call, call.symbol(0))
    for place, scale in ((1, 8), (2, 10)):
        codes = call.array(place)
        call.builder.room(codes.size // 8)
        if codes.ndim != 3:
            raise Unfit(f"input {place} has {codes.ndim} axes, expected 3")
        pair = [call.array(i).astype(np.float32).reshape(len(codes), 1, -1) for i in (scale, scale + 1)]
        inputs[place] = Known(CodedArray(codes, *pair).transpose(0, 2, 1))
    return recurrent(_inner(call, "LSTM", inputs))


# ---- operations between codes ------------------------------------------------------------------------------


def between(op: str, function: Callable[[Call], Any], *places: int, to: int) -> Callable[[Call], Symbol]:
    """An operation of the numbers that codes stand for, whose result is codes.

    ``places`` are those of its inputs, each with a scale and a zero behind it, ``to`` is that of the
    result's scale.
    """

    def done(call: Call) -> Symbol:
        found = function(_inner(call, op, [_to_real(call, place) for place in places]))
        return _to_codes(call, found, to)

    return done


def _bias(call: Call, place: int) -> Given:
    """The bias of a product of codes: its scale is the product of theirs."""
    if not call.has(place):
        return None
    scale = call.array(1).astype(np.float32) * call.array(4).astype(np.float32)
    return Known(call.array(place).astype(np.float32) * scale.reshape(-1))


def linear_conv(call: Call) -> Symbol:
    operands = [_to_real(call, 0), _to_real(call, 3, 0), _bias(call, 8)]
    return _to_codes(call, convolution(_inner(call, "Conv", operands)), 6)


def linear_gemm(call: Call) -> Symbol:
    """QGemm: its alpha is not of the bias; without a scale of the result that is floats."""
    weight = _to_real(call, 3, 0 if call.attributes.get("transB") else 1)
    found = gemm(_inner(call, "Gemm", [_to_real(call, 0), weight, _bias(call, 6)]))
    return _to_codes(call, found, 7) if call.has(7) else found


def linear_concat(call: Call) -> Symbol:
    count = (len(call.inputs) - 2) // 3
    found = concat(_inner(call, "Concat", [_to_real(call, 2 + 3 * i) for i in range(count)]))
    return _to_codes(call, found, 0)
