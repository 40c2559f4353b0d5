"""Recurrent layers of MLX, Flax and Burn: PyTorch's names, and the numbers of the framework itself."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import weight_files as wf
from folders import DATA

import tinyrnn as tr
from tinyrnn.weights import inspect_file

RECORDED = dict(np.load(DATA / "layouts.npz"))
CASES = [name.removesuffix("/y") for name in RECORDED if name.endswith("/y")]
GATES = {"lstm": ("input", "forget", "cell", "output"), "gru": ("reset", "update", "new")}


@pytest.mark.parametrize("case", CASES)
def test_a_layer_has_the_numbers_of_its_framework(case):
    """MLX 0.32 and Flax 0.12 wrote the files, and computed the outputs."""
    tensors = tr.load_weights(io.BytesIO(RECORDED[f"{case}/file"].tobytes()))
    (first,) = (name for name in tensors if name.endswith("weight_ih_l0"))
    kind = next(own for name, own in (("LSTM", tr.LSTM), ("GRU", tr.GRU), ("", tr.RNN)) if name in case)
    y = kind.from_state_dict(tensors, prefix=first.removesuffix("weight_ih_l0"))(
        RECORDED[f"{case}/x"][:, None]
    )[0]
    if "flax" in case:
        y = tr.Linear.from_state_dict(tensors, prefix="params.layers_1.")(y)
    np.testing.assert_allclose(y[:, 0], RECORDED[f"{case}/y"], atol=2e-6)


def file_of(tensors, **more):
    """A file of safetensors."""
    header, data = {}, b""
    for name, array in tensors.items():
        array = np.ascontiguousarray(array, np.float32)
        spans = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": spans}
        data += array.tobytes()
    return io.BytesIO(wf.safetensors(header | more, data))


def numbers(*shape):
    return np.random.default_rng(math.prod(shape)).standard_normal(shape)


def of_burn(kind, inputs, hidden, bias):
    """The tensors of a layer of Burn, and the same under PyTorch's names."""
    sizes = {"input": inputs, "hidden": hidden}
    theirs, ours = {}, {}
    for side, short in (("input", "ih"), ("hidden", "hh")):
        gates = [(f"net.{gate}_gate.{side}_transform", numbers(sizes[side], hidden)) for gate in GATES[kind]]
        theirs |= {f"{name}.weight": array for name, array in gates}
        ours[f"net.weight_{short}_l0"] = np.concatenate([array.T for _, array in gates])
        if bias:
            theirs |= {f"{name}.bias": array[0] for name, array in gates}
            ours[f"net.bias_{short}_l0"] = np.concatenate([array[0] for _, array in gates])
    return theirs, ours


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_layer_of_burn(kind, bias):
    """Its matrices are (inputs, outputs), and so is a Linear's beside it; an Embedding has no bias."""
    theirs, ours = of_burn(kind, 3, 4, bias)
    more = {"fc.weight": numbers(4, 2), "fc.bias": numbers(2), "words.weight": numbers(9, 3)}
    found = tr.load_weights(file_of(theirs | more))
    wanted = ours | more | {"fc.weight": more["fc.weight"].T}
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array.astype(np.float32), name)
    info = inspect_file(file_of(theirs | more))
    assert {one.name: one.shape for one in info.tensors} == {name: a.shape for name, a in wanted.items()}
    assert ("net.input_gate.input_transform.weight" in dict(info.unread)) == (kind == "lstm")


BURN = of_burn("lstm", 3, 4, True)[0]
MLX = {"Wx": numbers(16, 3), "Wh": numbers(16, 4), "bias": numbers(16)}
FIRST = "net.input_gate.input_transform"


@pytest.mark.parametrize(
    "tensors",
    [
        MLX,  # without the metadata of MLX
        of_burn("lstm", 4, 4, True)[0],  # either layout
        {name: array for name, array in BURN.items() if name != f"{FIRST}.weight"},
        {name: array for name, array in BURN.items() if name != f"{FIRST}.bias"},
        BURN | {f"{FIRST}.weight": numbers(4, 3)},
        BURN | {f"{FIRST}.weight": numbers(12)},
        BURN | {f"{FIRST}.bias": numbers(3)},
        BURN | {"net.weight_ih_l0": numbers(3)},
        BURN | {"net/input_gate.input_transform.bias": numbers(4)},  # the same name twice
    ],
)
def test_what_does_not_fit_stays_as_it_is(tensors):
    found = tr.load_weights(file_of(tensors))
    assert {name: one.shape for name, one in found.items()} == {name: a.shape for name, a in tensors.items()}


def test_the_metadata_tell_mlx():
    for metadata in (None, {"format": "mlx"}):
        found = tr.load_weights(file_of(MLX, __metadata__=metadata))
        assert [*found] == ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
        np.testing.assert_array_equal(found["weight_ih_l0"], MLX["Wx"].astype(np.float32))
        assert not found["bias_hh_l0"].any()
