"""LiteRT: a .tflite written here, of the operations that its XNNPACK delegate takes over.

A step is a graph that is called with the state and gives the new one: that is faster than LiteRT's own LSTM
operation. Over a sequence of an LSTM either may be; the faster one runs.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from work import Array, Call, Work

NEEDS = ("ai_edge_litert",)


def fits(work: Work) -> bool:
    return work.dtype in ("float32", "int8")


def prepare(work: Work) -> Call:
    forms = [_stepped]
    if work.kind == "LSTM" and work.layers == 1 and work.dtype == "float32" and work.steps > 1:
        forms.append(_fused)
    best = min(forms, key=lambda form: _seconds(work, form)) if len(forms) > 1 else forms[0]
    return _made(work, best)


def _seconds(work: Work, form: Any) -> float:
    call = _made(work, form)
    times = []
    for _ in range(4):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return min(times)


def _made(work: Work, form: Any) -> Call:
    """A bidirectional net is two nets; the second reads the sequence from its end."""
    if not work.bidirectional:
        return form(work, "", work.x)
    ahead, back = (form(work, end, x) for end, x in zip(work.ends, (work.x, work.x[::-1]), strict=True))
    return lambda: np.concatenate([ahead(), back()[::-1]], axis=-1)


def _stepped(work: Work, end: str, x: Array) -> Call:
    graph = _Graph()
    frame = graph.input(work.batch, work.inputs)
    names = ["h", "c"] if work.kind == "LSTM" else ["h"]
    before, after, y = [], [], frame
    for level in range(work.layers):
        states = [graph.input(work.batch, work.hidden) for _ in names]
        states_after = _cell(graph, work, level, end, y, states)
        before, after, y = before + states, after + states_after, states_after[0]
    run = graph.interpreter([frame, *before], after)
    sources = [tensor["index"] for tensor in run.get_input_details()]
    targets = [tensor["index"] for tensor in run.get_output_details()]
    states = [np.zeros((work.batch, work.hidden), np.float32) for _ in before]
    top = (work.layers - 1) * len(names)
    out = np.empty((work.steps, work.batch, work.hidden), np.float32)
    put, get, invoke = run.set_tensor, run.get_tensor, run.invoke

    def call() -> Array:
        if work.bidirectional:
            for state in states:
                state[:] = 0
        for t in range(work.steps):
            put(sources[0], x[t])
            for i, state in enumerate(states, 1):
                put(sources[i], state)
            invoke()
            for i, target in enumerate(targets):
                states[i] = get(target)
            out[t] = states[top]
        return out

    return call


def _cell(graph: _Graph, work: Work, level: int, end: str, x: int, states: list[int]) -> list[int]:
    """One step of a level, as it is written in PyTorch's documentation; its new states."""
    w_ih, w_hh, b_ih, b_hh = (
        work.weights[f"{name}_l{level}{end}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    h, small = states[0], work.dtype == "int8"
    if work.kind == "LSTM":
        gates = graph.add(graph.linear(x, w_ih, b_ih + b_hh, small), graph.linear(h, w_hh, None, small))
        i, f, g, o = graph.split(gates, 4)
        kept, new = (
            graph.multiply(graph.sigmoid(f), states[1]),
            graph.multiply(graph.sigmoid(i), graph.tanh(g)),
        )
        c = graph.add(kept, new)
        return [graph.multiply(graph.sigmoid(o), graph.tanh(c)), c]
    ours = graph.split(graph.linear(x, w_ih, b_ih, small), 3)
    theirs = graph.split(graph.linear(h, w_hh, b_hh, small), 3)
    r, z = (graph.sigmoid(graph.add(a, b)) for a, b in zip(ours[:2], theirs[:2], strict=True))
    n = graph.tanh(graph.add(ours[2], graph.multiply(r, theirs[2])))
    return [graph.add(n, graph.multiply(z, graph.subtract(h, n)))]


def _fused(work: Work, end: str, x: Array) -> Call:
    """UNIDIRECTIONAL_SEQUENCE_LSTM, which keeps its state in two variables."""
    graph = _Graph()
    source = graph.input(work.steps, work.batch, work.inputs)
    w_ih, w_hh, b_ih, b_hh = (
        np.split(work.weights[f"{name}_l0{end}"], 4)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    biases = [ours + theirs for ours, theirs in zip(b_ih, b_hh, strict=True)]
    y = graph.lstm(source, w_ih, w_hh, biases, (work.steps, work.batch, work.hidden))
    run = graph.interpreter([source], [y])
    first, last = run.get_input_details()[0]["index"], run.get_output_details()[0]["index"]

    def call() -> Array:
        if work.bidirectional:
            run.reset_all_variables()
        run.set_tensor(first, x)
        run.invoke()
        return run.get_tensor(last)

    return call


class _Graph:
    """A .tflite as it grows; a tensor is its number."""

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._schema = schema
        self._model = schema.ModelT(version=3, operatorCodes=[], buffers=[schema.BufferT()])
        self._graph = schema.SubGraphT(tensors=[], operators=[])
        self._codes: list[int] = []

    def _tensor(self, shape: Sequence[int], **more: Any) -> int:
        tensor = self._schema.TensorT(shape=list(shape), name=f"t{len(self._graph.tensors)}", **more)
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _shape(self, tensor: int) -> list[int]:
        return self._graph.tensors[tensor].shape

    def input(self, *shape: int) -> int:
        return self._tensor(shape)

    def constant(self, array: NDArray[Any], scales: Array | None = None) -> int:
        """Numbers of the model; `scales`, one for each row, multiply int8."""
        kinds = {"float32": "FLOAT32", "int8": "INT8", "int32": "INT32"}
        data = np.frombuffer(array.tobytes(), np.uint8)
        self._model.buffers.append(self._schema.BufferT(data=data))
        more: dict[str, Any] = {"buffer": len(self._model.buffers) - 1}
        if scales is not None:
            zeros = np.zeros(len(scales), np.int64)
            more["quantization"] = self._schema.QuantizationParametersT(scale=scales, zeroPoint=zeros)
        kind = getattr(self._schema.TensorType, kinds[array.dtype.name])
        return self._tensor(array.shape, type=kind, **more)

    def _apply(
        self, name: str, options: str, inputs: list[int], *shapes: Sequence[int], **more: Any
    ) -> list[int]:
        """One operation, of tensors of these shapes; those of -1 among its inputs are left out."""
        code = getattr(self._schema.BuiltinOperator, name)
        if code not in self._codes:
            self._codes.append(code)
            version = 5 if name == "FULLY_CONNECTED" else 1  # weights of int8 with a scale for each row
            self._model.operatorCodes.append(
                self._schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code, version=version)
            )
        outputs = [self._tensor(shape) for shape in shapes]
        operator = self._schema.OperatorT(opcodeIndex=self._codes.index(code), inputs=inputs, outputs=outputs)
        if options:
            operator.builtinOptionsType = getattr(self._schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(self._schema, options + "T")(**more)
        self._graph.operators.append(operator)
        return outputs

    def linear(self, x: int, weight: Array, bias: Array | None, small: bool) -> int:
        if small:
            scales = (np.abs(weight).max(1) / 127).astype(np.float32)
            matrix = self.constant(np.rint(weight / scales[:, None]).astype(np.int8), scales)
        else:
            matrix = self.constant(weight)
        inputs = [x, matrix, -1 if bias is None else self.constant(bias)]
        shape = (self._shape(x)[0], len(weight))
        return self._apply("FULLY_CONNECTED", "FullyConnectedOptions", inputs, shape)[0]

    def split(self, x: int, parts: int) -> list[int]:
        rows, cols = self._shape(x)
        inputs = [self.constant(np.array(1, np.int32)), x]
        return self._apply("SPLIT", "SplitOptions", inputs, *[(rows, cols // parts)] * parts, numSplits=parts)

    def add(self, a: int, b: int) -> int:
        return self._apply("ADD", "AddOptions", [a, b], self._shape(a))[0]

    def subtract(self, a: int, b: int) -> int:
        return self._apply("SUB", "SubOptions", [a, b], self._shape(a))[0]

    def multiply(self, a: int, b: int) -> int:
        return self._apply("MUL", "MulOptions", [a, b], self._shape(a))[0]

    def sigmoid(self, x: int) -> int:
        return self._apply("LOGISTIC", "", [x], self._shape(x))[0]

    def tanh(self, x: int) -> int:
        return self._apply("TANH", "", [x], self._shape(x))[0]

    def lstm(
        self, x: int, w_ih: list[Array], w_hh: list[Array], biases: list[Array], shape: tuple[int, int, int]
    ) -> int:
        """LiteRT's own LSTM over (steps, batch, inputs); its gates are PyTorch's i f g o."""
        weights = [self.constant(array) for array in w_ih + w_hh]
        states = [self._tensor(shape[1:], isVariable=True) for _ in range(2)]
        absent = -1  # peepholes, projection, layer norms
        inputs = [x, *weights, *[absent] * 3, *[self.constant(array) for array in biases], *[absent] * 2]
        inputs += [*states, *[absent] * 4]
        tanh = self._schema.ActivationFunctionType.TANH
        name, options = "UNIDIRECTIONAL_SEQUENCE_LSTM", "UnidirectionalSequenceLSTMOptions"
        return self._apply(name, options, inputs, shape, timeMajor=True, fusedActivationFunction=tanh)[0]

    def interpreter(self, inputs: list[int], outputs: list[int]) -> Any:
        import flatbuffers
        from ai_edge_litert.interpreter import Interpreter

        self._graph.inputs, self._graph.outputs = inputs, outputs
        self._model.subgraphs = [self._graph]
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        with _quiet():
            found = Interpreter(model_content=bytes(builder.Output()), num_threads=1)
            found.allocate_tensors()
        return found


@contextlib.contextmanager
def _quiet() -> Any:
    """Silence the delegate, which announces itself once, on stderr and from C."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
