"""ncnn: its text and its weights, written here. One stream only: its recurrent layers have no batch."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from work import Array, Call, Work

NEEDS = ("ncnn",)
FLOATS, INT8 = np.uint32(0).tobytes(), np.uint32(0x000D4B38).tobytes()


def fits(work: Work) -> bool:
    return work.batch == 1 and work.dtype in ("float32", "int8")


def prepare(work: Work) -> Call:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_vulkan_compute = net.opt.use_bf16_storage = False
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    with tempfile.TemporaryDirectory() as folder:
        text, weights = os.path.join(folder, "net.param"), os.path.join(folder, "net.bin")
        Path(text).write_text(_text(work))
        Path(weights).write_bytes(b"".join(_weights(work, level) for level in range(work.layers)))
        if net.load_param(text) or net.load_model(weights):
            raise RuntimeError(f"ncnn does not load {work}")
    blobs = dict(
        zip(net.input_names() + net.output_names(), net.input_indexes() + net.output_indexes(), strict=True)
    )
    source, target = blobs.pop("x"), blobs.pop("y")
    before = [index for name, index in blobs.items() if not name.endswith("n")]
    after = [index for name, index in blobs.items() if name.endswith("n")]
    frames = work.x[:, 0]
    x, y = ncnn.Mat(frames), ncnn.Mat()
    zeros = np.zeros((work.directions, work.hidden), np.float32)
    states = [ncnn.Mat(zeros).clone() for _ in before]

    def call() -> Any:
        run = net.create_extractor()
        run.input(source, x)
        for index, state in zip(before, states, strict=True):
            run.input(index, state)
        run.extract(target, y)
        if not work.bidirectional:
            for index, state in zip(after, states, strict=True):
                run.extract(index, state)
        return y

    return call


def _text(work: Work) -> str:
    """The layers by name: inputs x and the states, outputs y and the new states."""
    kinds = ["h", "c"] if work.kind == "LSTM" else ["h"]
    lines = ["Input x 0 1 x"]
    lines += [f"Input {k}{level} 0 1 {k}{level}" for level in range(work.layers) for k in kinds]
    for level in range(work.layers):
        below = f"y{level - 1}" if level else "x"
        above = f"y{level}" if level + 1 < work.layers else "y"
        width = work.inputs if level == 0 else work.directions * work.hidden
        bottoms = [below, *[f"{k}{level}" for k in kinds]]
        tops = [above, *[f"{k}{level}n" for k in kinds]]
        numbers = work.directions * work.gates * work.hidden * width
        options = f"0={work.hidden} 1={numbers} 2={2 if work.bidirectional else 0}"
        options += " 8=2" if work.dtype == "int8" else ""
        counts = f"{len(bottoms)} {len(tops)}"
        lines.append(f"{work.kind} rnn{level} {counts} {' '.join(bottoms + tops)} {options}")
    blobs = 1 + work.layers * (1 + 2 * len(kinds))
    return "\n".join(["7767517", f"{len(lines)} {blobs}", *lines, ""])


def _weights(work: Work, level: int) -> bytes:
    """One level's numbers as ncnn reads them; int8 with a factor for each row."""
    order = [0, 1, 3, 2] if work.kind == "LSTM" else [0, 1, 2]  # i f g o -> i f o g

    def gates(array: Array) -> Array:
        return array.reshape(work.gates, work.hidden, -1)[order]

    matrices = [
        np.stack([gates(array) for array in work.both(name, level)]) for name in ("weight_ih", "weight_hh")
    ]
    bias = np.stack(
        [
            _bias(work, gates(ours), gates(theirs))
            for ours, theirs in zip(work.both("bias_ih", level), work.both("bias_hh", level), strict=True)
        ]
    )
    if work.dtype == "float32":
        x, h = (FLOATS + matrix.tobytes() for matrix in matrices)
        return x + FLOATS + bias.tobytes() + h
    factors = [(127 / np.abs(matrix).max(-1, keepdims=True)).astype(np.float32) for matrix in matrices]
    small = [
        np.rint(matrix * factor).astype(np.int8) for matrix, factor in zip(matrices, factors, strict=True)
    ]
    x, h = (INT8 + array.tobytes() + bytes(-array.size % 4) for array in small)
    return x + FLOATS + bias.tobytes() + h + b"".join(factor.tobytes() for factor in factors)


def _bias(work: Work, ours: Array, theirs: Array) -> Array:
    if work.kind == "LSTM":
        return ours + theirs
    return np.concatenate([ours[:2] + theirs[:2], ours[2:], theirs[2:]])
