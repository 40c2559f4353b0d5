"""OpenVINO: the ONNX net, for latency, in float32. Two requests take turns, one ends where another begins."""

from __future__ import annotations

from typing import Any

import numpy as np
from work import Call, Work

from peers.onnx_graph import onnx_model, state_names, state_shape

NEEDS = ("openvino", "onnx")


def fits(work: Work) -> bool:
    return work.dtype == "float32"


def prepare(work: Work) -> Call:
    import openvino

    core = openvino.Core()
    options = {
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
    }
    net = core.compile_model(core.read_model(onnx_model(work).SerializeToString()), "CPU", options)
    names, shape = state_names(work), state_shape(work)
    x, y = (
        openvino.Tensor(work.x, shared_memory=True),
        openvino.Tensor(np.zeros((work.steps, *shape), np.float32)),
    )
    states = [[openvino.Tensor(np.zeros(shape, np.float32)) for _ in names] for _ in range(2)]

    def request(before: list[Any], after: list[Any]) -> Any:
        made = net.create_infer_request()
        made.set_tensor("x", x)
        made.set_tensor("y", y)
        for name, old, new in zip(names, before, after, strict=True):
            made.set_tensor(name, old)
            made.set_tensor(f"{name}n", new)
        return made

    requests = [request(*states), request(*states[::-1])]
    result = y.data

    def call() -> Any:
        requests[0].infer()
        if not work.bidirectional:
            requests.reverse()
        return result

    return call
