"""Reparametrized weights are folded to those that PyTorch computes."""

import warnings

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn.errors import LoadError
from tinyrnn.weights import folding, inspect_file, load_weights
from tinyrnn.weights.safetensors import save_safetensors


@pytest.fixture
def load(tmp_path):
    def load(tensors):
        path = tmp_path / "w.safetensors"
        save_safetensors(path, {name: np.asarray(array, np.float32) for name, array in tensors.items()})
        return load_weights(path)

    return load


# ---- against PyTorch itself


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def layers(torch):
    nn = torch.nn
    return {
        "linear": nn.Linear(5, 3),
        "square": nn.Linear(4, 4),
        "wide": nn.Linear(3, 7),
        "conv": nn.Conv1d(3, 4, 5),
        "conv2d": nn.Conv2d(2, 3, (2, 3)),
        "transposed": nn.ConvTranspose1d(4, 4, 3),
        "lstm": nn.LSTM(3, 4, bidirectional=True),
        "gru": nn.GRU(4, 4),
    }


INPUTS = {
    "linear": (5,),
    "square": (4,),
    "wide": (3,),
    "conv": (3, 9),
    "conv2d": (2, 5, 5),
    "transposed": (4, 6),
    "lstm": (5, 3),
    "gru": (5, 4),
}
WEIGHTS = {"lstm": ("weight_ih_l0", "weight_hh_l0_reverse"), "gru": ("weight_hh_l0", "bias_ih_l0")}


def reparametrizations(torch):
    from torch.nn.utils import parametrizations, prune

    old = torch.nn.utils
    return {
        "weight_norm": old.weight_norm,
        "weight_norm of all": lambda layer, name: old.weight_norm(layer, name, dim=None),
        "weight_norm of columns": lambda layer, name: old.weight_norm(layer, name, dim=-1),
        "weight_norm today": parametrizations.weight_norm,
        "spectral_norm": lambda layer, name: old.spectral_norm(layer, name, n_power_iterations=3),
        "spectral_norm today": parametrizations.spectral_norm,
        "orthogonal": parametrizations.orthogonal,
        "pruning": lambda layer, name: prune.l1_unstructured(layer, name, amount=0.4),
        "pruned rows": lambda layer, name: prune.ln_structured(layer, name, amount=0.4, n=2, dim=0),
    }


@pytest.mark.parametrize("layer_name", INPUTS)
@pytest.mark.parametrize(
    "kind",
    ["weight_norm", "weight_norm of all", "weight_norm of columns", "weight_norm today", "spectral_norm",
     "spectral_norm today", "orthogonal", "pruning", "pruned rows"],
)  # fmt: skip
def test_weights_are_those_of_pytorch(torch, tmp_path, kind, layer_name):
    torch.manual_seed(3)
    layer = layers(torch)[layer_name]
    names = WEIGHTS.get(layer_name, ("weight",))
    done = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            shape = getattr(layer, name).shape
            if (len(shape) < 2 and kind != "pruning") or (kind == "orthogonal" and len(shape) > 2):
                continue
            reparametrizations(torch)[kind](layer, name)
            done.append(name)
        if not done:
            pytest.skip("PyTorch has no such weight")
        x = torch.randn(2, *INPUTS[layer_name])
        layer(x)  # in training: spectral_norm looks for its vectors
        with torch.no_grad():  # a step of training, so that nothing is as it was at first
            for parameter in layer.parameters():
                parameter += 0.01 * torch.randn(parameter.shape)
            if kind.startswith("orthogonal"):
                for name in done:
                    getattr(layer.parametrizations, name).original.diagonal().sign_()
        model = torch.nn.ModuleDict({"net": layer}).eval()
        layer(x)
        torch.save({"state_dict": model.state_dict()}, tmp_path / "m.pt")
        got = load_weights(tmp_path / "m.pt")
        want = {name: getattr(layer, name).detach().numpy() for name in done}
    assert not any("parametrizations" in name or name.endswith(("_g", "_v", "_orig")) for name in got)
    for name in done:
        assert got[f"net.{name}"].dtype == np.float32
        np.testing.assert_allclose(got[f"net.{name}"], want[name], rtol=2e-6, atol=2e-6)
    listed = inspect_file(tmp_path / "m.pt")
    assert {tensor.name: tensor.shape for tensor in listed.tensors} == {n: a.shape for n, a in got.items()}
    assert sum(kind.startswith("folded into net.weight") or kind.startswith("folded into net.bias")
               for _, kind in listed.unread) >= 2 * len(done)  # fmt: skip


# ---- without PyTorch


def test_a_recurrent_layer_with_weight_norm(load):
    random = np.random.default_rng(1)
    v, g = random.standard_normal((12, 3)), random.random((12, 1))
    plain = {name: random.standard_normal(shape) for name, shape in
             {"weight_ih_l0": (12, 2), "bias_ih_l0": (12,), "bias_hh_l0": (12,)}.items()}  # fmt: skip
    given = {f"rnn.{name}": array for name, array in plain.items()}
    got = load({**given, "rnn.weight_hh_l0_g": g, "rnn.weight_hh_l0_v": v})
    want = v * g / np.linalg.norm(v, axis=1, keepdims=True)
    np.testing.assert_allclose(got["rnn.weight_hh_l0"], want, rtol=1e-6)
    assert tr.LSTM.from_state_dict(got, prefix="rnn").hidden_size == 3


@pytest.mark.parametrize(
    "shapes",
    [
        {"weight_g": (3, 1), "weight_v": (4, 2)},
        {"weight_g": (4, 2), "weight_v": (4, 2)},
        {"weight_g": (4,), "weight_v": (4, 2)},
        {"weight_g": (4, 1), "weight_v": (4, 2), "weight": (4, 2)},
        {"weight_g": (4, 1)},
        {"gate_g": (4, 1), "gate_v": (4, 2)},
        {"weight_orig": (4, 3), "weight_u": (4,), "weight_v": (4,)},
        {"weight_orig": (4, 3), "weight_mask": (3, 4)},
        {"weight_orig": (4, 3), "weight_u": (4,)},
        {"parametrizations.weight.original": (4, 3)},
        {"parametrizations.weight.original": (4, 3), "parametrizations.weight.0.base": (3, 3)},
        {"parametrizations.weight.original": (0, 0), "parametrizations.weight.0.base": (0, 0)},
        {"parametrizations.weight.original": (1025, 1), "parametrizations.weight.0.base": (1025, 1025)},
        {"parametrizations.weight.original0": (4, 1), "parametrizations.weight.original2": (4, 3)},
    ],
)
def test_what_does_not_fit_stays_as_it_is(load, shapes):
    got = load({name: np.ones(shape) for name, shape in shapes.items()})
    assert {name: array.shape for name, array in got.items()} == shapes


def test_codes_are_no_parts(tmp_path):
    path = tmp_path / "w.safetensors"
    save_safetensors(path, {"weight_orig": np.ones((2, 2), np.int8), "weight_mask": np.ones((2, 2), np.int8)})
    assert sorted(load_weights(path)) == ["weight_mask", "weight_orig"]


def test_a_net_of_ours_keeps_its_names(tmp_path):
    net = tr.Sequential({"weight_g": tr.Linear(1, 1), "weight_v": tr.Linear(1, 1)})
    net.save(tmp_path / "net.safetensors")
    assert tr.load(tmp_path / "net.safetensors").state_dict().keys() == net.state_dict().keys()


def test_numbers_at_the_edge(load):
    with np.errstate(all="ignore"):
        got = load({"weight_g": [[1.0], [np.nan]], "weight_v": [[0.0, 0.0], [1.0, 2.0]]})
    assert np.isnan(got["weight"]).all()
    square = {
        "parametrizations.weight.original": np.tri(3) * 1e30,
        "parametrizations.weight.0.base": np.eye(3),
    }
    with pytest.raises(LoadError, match=r"weight cannot be computed: its norm"):
        load(square)
    square["parametrizations.weight.original"][:] = np.nan
    with pytest.raises(LoadError, match=r"weight cannot be computed: its norm is nan"):
        load(square)


@pytest.mark.parametrize("size", [1, 2, 30])
@pytest.mark.parametrize("scale", [0, 1e-6, 1, 30])
def test_the_exponential_of_a_skew_matrix(size, scale):
    """Against its eigenvalues, which are imaginary."""
    matrix = scale * np.random.default_rng(size).standard_normal((size, size))
    matrix -= matrix.T
    values, vectors = np.linalg.eigh(1j * matrix)
    want = (vectors * np.exp(-1j * values)) @ vectors.conj().T
    np.testing.assert_allclose(folding._exponential(matrix), want.real, atol=1e-11)
