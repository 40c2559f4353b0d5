"""The gradients that PyTorch computed, replayed without it. tests/data/record_gradients.py wrote them."""

import numpy as np
import oracle_gradients as oracle
import pytest
from golden_cases import build, compared_elsewhere, read
from gradient_nets import backward, forward

import tinyrnn as tr

INDEX, GOLDENS = read("gradients.npz")

TOLERANCE = 1e-5  # of a tensor's largest entry


def numbers(keys):
    return {name: GOLDENS[key] for name, key in keys.items()}


def flat(layer, arguments):
    """The layers as the oracle takes them."""
    if layer != "Sequential":
        return [("", layer, arguments)]
    return [(f"{name}.", *inner) for name, inner in arguments.items()]


@pytest.mark.parametrize("case", INDEX["cases"], ids=lambda case: case["name"])
def test_oracle_agrees(case):
    leaves = flat(case["layer"], case["arguments"])
    x, dy = GOLDENS[case["x"]], GOLDENS[case["dy"]]
    state, dstate, want = numbers(case["initial"]), numbers(case["dstate"]), numbers(case["results"])
    lone = dy.ndim == 2 and any(layer in oracle.RECURRENT for _, layer, _ in leaves)
    if lone:  # no batch axis: the oracle wants one
        x, dy = x[:, np.newaxis], dy[:, np.newaxis]
        leaves = [(prefix, layer, {**given, "batch_first": False}) for prefix, layer, given in leaves]
        state = {name: part[:, np.newaxis] for name, part in state.items()}
        dstate = {name: part[:, np.newaxis] for name, part in dstate.items()}
    ran = oracle.run(leaves, numbers(case["tensors"]), x, state, case["lengths"])
    dx, dstate0, grads = ran.backward(dy, dstate)
    got = {"y": ran.y, **grads, **ran.running}
    if case["initial"]:
        got |= {f"d{name}0": part for name, part in dstate0.items()}
    if dx is not None:
        got["dx"] = dx
    for name, array in want.items():
        if not name.endswith("num_batches_tracked"):
            ours = got[name][:, 0] if lone and name in ("y", "dx", "dh0", "dc0") else got[name]
            np.testing.assert_allclose(ours, array, rtol=2e-7, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("isa", tr.available_isas())
@pytest.mark.parametrize("case", INDEX["cases"], ids=lambda case: case["name"])
def test_golden(case, isa):
    tr.set_isa(isa)
    net = build(case["layer"], case["arguments"])
    net.load_state_dict(numbers(case["tensors"]))
    want = numbers(case["results"])
    net.train()
    y, _ = forward(net, GOLDENS[case["x"]], numbers(case["initial"]), case["lengths"])
    dx, dstate0 = backward(net, GOLDENS[case["dy"]], numbers(case["dstate"]))
    got = {"y": y, "dx": dx, **net.grad_dict()}
    got |= {f"d{name}0": part for name, part in dstate0.items()}
    got |= {name: array for name, array in net.state_dict().items() if name not in got}
    for name, array in want.items():
        assert np.shape(got[name]) == array.shape, name
        atol = TOLERANCE * max(np.abs(array).max(), 1e-3)
        np.testing.assert_allclose(got[name], array, rtol=0, atol=atol, err_msg=name)


def test_every_layer_has_goldens():
    recorded = set()
    for case in INDEX["cases"]:
        recorded |= {layer for _, layer, _ in flat(case["layer"], case["arguments"])} | {case["layer"]}
    cells = {"RNNCell", "LSTMCell", "GRUCell"}
    assert INDEX["torch"].startswith("2.13.")
    recorded |= compared_elsewhere()
    assert recorded == {name for name in tr.Net.types if hasattr(tr, name)} - cells
