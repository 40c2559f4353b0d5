"""LSTM, GRU and RNN nodes with attributes and inputs drawn at random, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_files import model, node, run

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FUNCTIONS = {"LSTM": 3, "GRU": 2, "RNN": 1}
# The functions of gates, and how many numbers each takes of alpha and beta.
TAKES = {"Sigmoid": (0, 0), "Tanh": (0, 0), "Relu": (0, 0), "Softsign": (0, 0), "Softplus": (0, 0)}
TAKES |= {"LeakyRelu": (1, 0), "ThresholdedRelu": (1, 0), "Elu": (1, 0)}
TAKES |= {"HardSigmoid": (1, 1), "ScaledTanh": (1, 1), "Affine": (1, 1)}
DRAWS = 360


def drawn(rng):
    """A node's operator, attributes and inputs, in ONNX's order; those that it lacks are None."""
    op = str(rng.choice(list(GATES)))
    steps, rows, inputs, hidden = (int(rng.integers(1, most)) for most in (7, 4, 6, 6))
    way = str(rng.choice(["forward", "reverse", "bidirectional"]))
    directions = 1 + (way == "bidirectional")
    attributes = {"hidden_size": hidden, "direction": way}

    def maybe(share=0.5):
        return rng.random() < share

    def numbers(*shape):
        return (rng.standard_normal(shape) * 0.6).astype(np.float32)

    if maybe(0.3):
        attributes["clip"] = float(rng.uniform(0.1, 1.5))
    if maybe():
        names = [str(one) for one in rng.choice(list(TAKES), FUNCTIONS[op] * directions)]
        small = op != "RNN" and maybe(0.2)  # of RNN the runtime knows no other writing
        attributes["activations"] = [one.lower() if small else one for one in names]
        for place, name in enumerate(("activation_alpha", "activation_beta")):
            count = sum(TAKES[one][place] for one in names)
            if count:
                attributes[name] = [float(one) for one in rng.uniform(0.1, 0.9, count)]
    if op == "GRU" and maybe():
        attributes["linear_before_reset"] = 1
    if op == "LSTM" and maybe(0.3):
        attributes["input_forget"] = 1
    gates = GATES[op] * hidden
    given = {
        "x": numbers(steps, rows, inputs),
        "W": numbers(directions, gates, inputs),
        "R": numbers(directions, gates, hidden),
        "B": numbers(directions, 2 * gates) if maybe(0.7) else None,
        "L": rng.integers(1, steps + 1, rows).astype(np.int32) if maybe(0.4) else None,
        "h": numbers(directions, rows, hidden) if maybe() else None,
    }
    if op == "LSTM":
        given["c"] = numbers(directions, rows, hidden) if maybe() else None
        given["P"] = numbers(directions, 3 * hidden) if maybe(0.4) else None
    return op, attributes, given


def built(op, attributes, given):
    names = " ".join(name if array is not None else "-" for name, array in given.items())
    outputs = ["y", "hn", *(["cn"] if op == "LSTM" else [])]
    ports = {name: (array.dtype.type, array.shape) for name, array in given.items() if array is not None}
    return model([node(op, names, " ".join(outputs), **attributes)], ports, outputs)


def turned(name, array):
    """An input or an output with the batch first."""
    return array.transpose(2, 0, 1, 3) if name == "y" else array.swapaxes(0, 1)


@pytest.mark.parametrize("part", range(6))
def test_nodes_agree_with_the_runtime(part):
    from tinyrnn import onnx_backend

    overflows = 0
    for draw in range(part, DRAWS, 6):
        rng = np.random.default_rng(draw)
        op, attributes, given = drawn(rng)
        arrays = [array for array in given.values() if array is not None]
        expected = run(built(op, attributes, given), *arrays)
        if rng.random() < 0.3:  # the runtime does not know layout=1, which has the batch first
            attributes["layout"] = 1
            for name in given.keys() & {"x", "h", "c"}:
                given[name] = None if given[name] is None else turned(name, given[name])
            expected = [turned(name, one) for name, one in zip(("y", "hn", "cn"), expected, strict=False)]
            arrays = [array for array in given.values() if array is not None]
        got = onnx_backend.run_model(built(op, attributes, given), arrays)
        finite = all(np.isfinite(one).all() for one in expected)
        for one, wanted in zip(got, expected, strict=True):
            assert one.shape == wanted.shape, (draw, attributes)
            if finite:
                scale = max(1.0, float(np.abs(wanted).max()))  # states may grow with Relu as a gate
                assert np.abs(one - wanted).max() <= 2e-5 * scale, (draw, op, attributes)
            else:  # the runtime's Softplus is inf above 88; ours is not
                assert np.isfinite(one).all() and "softplus" in str(attributes).lower(), draw
                overflows += 1
    assert overflows <= 3
