"""Numbers that PyTorch computed, replayed without PyTorch. tests/data/record_goldens.py wrote them."""

import numpy as np
import oracle
import pytest
from golden_cases import build, compared_elsewhere, read

import tinyrnn as tr

INDEX, GOLDENS = read("goldens.npz")


def replay(case, run):
    """The outputs of ``run(x, initial?, lengths?)`` beside the recorded ones."""
    initial = [GOLDENS[key] for key in case["initial"]]
    more = [] if not initial else [tuple(initial)] if case["layer"].startswith("LSTM") else initial
    lengths = {"lengths": case["lengths"]} if case["lengths"] else {}
    pending, outputs = [run(GOLDENS[case["x"]], *more, **lengths)], []
    while pending:
        item = pending.pop(0)
        if isinstance(item, tuple):
            pending = [*item, *pending]
        else:
            outputs.append(item)
    return zip(outputs, (GOLDENS[key] for key in case["outputs"]), strict=True)


@pytest.mark.parametrize("isa", tr.available_isas())
@pytest.mark.parametrize("case", INDEX["cases"], ids=lambda case: case["name"])
def test_golden(case, isa):
    tr.set_isa(isa)
    net = build(case["layer"], case["arguments"])
    assert list(net.state_dict()) == list(case["tensors"])
    net.load_state_dict({name: GOLDENS[key] for name, key in case["tensors"].items()})
    for got, want in replay(case, net):
        assert got.shape == want.shape and got.dtype == np.float32
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("case", INDEX["cases"], ids=lambda case: case["name"])
def test_oracle_agrees(case):
    tensors = {name: GOLDENS[key] for name, key in case["tensors"].items()}

    def run(x, *more, **lengths):
        return oracle.run(case["layer"], case["arguments"], tensors, x, *more, **lengths)

    for got, want in replay(case, run):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=2e-6)


def test_every_layer_has_goldens():
    built = {case["layer"] for case in INDEX["cases"]}
    nets = [case["arguments"] for case in INDEX["cases"] if case["layer"] == "Sequential"]
    built |= {layer for net in nets for layer, _ in net.values()}
    assert INDEX["torch"].startswith("2.13.")
    built |= compared_elsewhere()
    assert built == {name for name in tr.Net.types if hasattr(tr, name)}
